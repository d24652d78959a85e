//! The replacement is asked about before it is served: it may be revoked too, or not known yet.

mod lab;

use std::time::Duration;

use lab::site::serial;
use lab::*;

const HARD: &str = "ssl_cert_autofetch_check_interval 0; ssl_cert_autofetch_check hard; \
                    ssl_cert_autofetch_timeout 4s;";
const SOFT: &str = "ssl_cert_autofetch_check_interval 0; ssl_cert_autofetch_timeout 4s;";

fn revoked() -> Status {
    Status::Revoked { reason: Some(1), at: clock::now() }
}

/// The replacement is revoked as well: nobody gets it, and a later one is good.
#[test]
#[ignore = "needs nginx, the module and pebble: scripts/test.sh"]
fn a_revoked_replacement_is_never_served() {
    let site = Plan::server("a.test", SOFT).ca("budget 100/7d;").start();
    let (old, client) = (site.wait_valid("a.test"), site.lab.client("a.test"));
    site.lab.responder.behave(Behaviour::revoked(Some(1)));
    let refusal = client.connect().expect_err("nothing good");
    assert_eq!((refusal.alert, refusal.chain.len()), (Some(INTERNAL_ERROR), 0), "{refusal:?}");
    assert_eq!((site.issued(), site.stored("a.test").serial()), (2, old.clone()));
    site.nginx.wait_log("ISSUE failed", Duration::from_secs(5));
    let lines = site.lines("a.test");
    let start = "[warn] ssl_cert_autofetch: \"a.test\": ISSUE failed: ";
    let failed: Vec<_> = lines.iter().filter_map(|l| l.strip_prefix(start)).collect();
    let [failed] = failed[..] else { panic!("{lines:#?}") };
    let (cause, next) = failed.rsplit_once(", next attempt in ").expect(failed);
    assert!(cause.contains("is revoked (keyCompromise)"), "{cause}");
    let next = next.strip_suffix(" s").and_then(|s| s.parse::<u32>().ok());
    assert!(next.is_some_and(|s| (1..60).contains(&s)), "{failed}");
    let entry = site.entry("a.test");
    assert_eq!((&entry["state"], serial(&entry)), (&"refused".into(), old.clone()), "{entry:#}");

    // Until the next attempt nobody waits.
    let refusal = client.connect().expect_err("not yet");
    assert!(refusal.took < Duration::from_secs(1), "{refusal:?}");
    assert_eq!((refusal.alert, site.issued()), (Some(INTERNAL_ERROR), 2));

    site.lab.responder.set_status(&old, revoked());
    site.lab.responder.behave_well();
    let new = site.wait_other("a.test", &old);
    assert_eq!(client.connect().expect("handshake").serial, new);
    assert_eq!((site.issued(), &site.entry("a.test")["version"]), (3, &2.into()));
    let replaced = format!("replaced serial={old} by serial={new} ");
    assert_eq!(site.nginx.log_lines(&replaced).len(), 1);
}

/// The next CA is asked in the same handshake.
#[test]
#[ignore = "needs nginx, the module and pebble: scripts/test.sh"]
fn a_revoked_replacement_leads_to_the_next_ca() {
    let spare = Lab::with(Settings { always_valid: true, ..Settings::default() });
    let mut plan = Plan::server("a.test", HARD);
    plan.http += &spare.ca_block("spare", "");
    plan.servers = plan.servers.replace("ssl_cert_autofetch lab;", "ssl_cert_autofetch lab spare;");
    let site = plan.start();
    let (old, client) = (site.wait_valid("a.test"), site.lab.client("a.test"));
    site.lab.responder.behave(Behaviour::revoked(None));
    let client = client.trust(spare.pebble.root_pem());
    let new = client.connect().expect("handshake").serial;
    assert_eq!((site.issued(), spare.issued()), (2, 1));
    assert!(spare.pebble.status(&new).is_some() && new != old);
    let entry = site.entry("a.test");
    assert_eq!((&entry["ca"], &entry["state"]), (&"spare".into(), &"valid".into()));
    let lines = site.lines("a.test");
    assert!(lines.iter().any(|l| l.contains(" from \"spare\" in ")), "{lines:#?}");
}

/// No proof so soon after issuance: soft serves it, and asks again.
#[test]
#[ignore = "needs nginx, the module and pebble: scripts/test.sh"]
fn soft_serves_a_replacement_that_nobody_knows_yet() {
    for silence in [Behaviour::unknown(), Behaviour::delivery(Delivery::Http(503))] {
        let site = Plan::server("a.test", SOFT).start();
        let (old, client) = (site.wait_valid("a.test"), site.lab.client("a.test"));
        site.lab.responder.behave_for(&old, Behaviour::revoked(Some(4)));
        site.lab.responder.behave(silence);
        let new = client.connect().expect("handshake").serial;
        assert_ne!(new, old);
        let asked = site.lab.responder.queries_for(&new).len();
        assert!(asked > 1, "it was asked for {asked} times");
        site.lab.responder.behave(Behaviour::default());
        site.wait_entry("a.test", "the proof", Duration::from_secs(10), |entry| {
            assert_eq!(client.connect().expect("handshake").serial, new);
            entry["evidence"]["status"] == "good"
        });
        assert_eq!(site.issued(), 2);
    }
}

/// Hard refuses it, keeps it, issues no other, and serves it once it is known.
#[test]
#[ignore = "needs nginx, the module and pebble: scripts/test.sh"]
fn hard_waits_for_the_proof_of_the_replacement() {
    let site = Plan::server("a.test", HARD).start();
    let (old, client) = (site.wait_valid("a.test"), site.lab.client("a.test"));
    site.lab.responder.behave_for(&old, Behaviour::revoked(Some(4)));
    site.lab.responder.behave(Behaviour::unknown());
    for _ in 0..2 {
        let refusal = client.connect().expect_err("no proof");
        assert_eq!((refusal.alert, refusal.chain.len()), (Some(INTERNAL_ERROR), 0), "{refusal:?}");
    }
    let pending = site.stored("a.test").pending_key().expect("the new key is kept");
    assert_eq!((site.issued(), site.stored("a.test").serial()), (2, old.clone()));
    // Known again: the one that waits is served, without another order.
    site.lab.responder.behave(Behaviour::default());
    let new = site.wait_other("a.test", &old);
    assert_eq!(client.connect().expect("handshake").serial, new);
    assert!(site.stored("a.test").key().public_eq(&pending));
    assert_eq!((site.issued(), site.counter("replaced_revoked")), (2, 1));
}

/// A new certificate that can't be proven does not push out one that may still be served.
#[test]
#[ignore = "needs nginx, the module and pebble: scripts/test.sh"]
fn a_renewal_without_proof_waits() {
    let http = "ssl_cert_autofetch_renew_before 30s; ssl_cert_autofetch_timeout 2s; \
                ssl_cert_autofetch_check_interval 4s;";
    let site = Plan::server("a.test", http).validity(40).start();
    let (old, client) = (site.wait_valid("a.test"), site.lab.client("a.test"));
    site.lab.responder.behave_for(&old, Behaviour::good());
    site.lab.responder.behave(Behaviour::unknown());
    wait_until("the order of the new one", Duration::from_secs(40), || site.issued() == 2);
    site.nginx.wait_log("no proof for serial=", Duration::from_secs(20));
    assert_eq!(client.connect().expect("handshake").serial, old);
    assert_eq!((site.stored("a.test").serial(), site.issued()), (old.clone(), 2));
    site.lab.responder.behave(Behaviour::default());
    let new = site.wait_other("a.test", &old);
    assert_eq!(client.connect().expect("handshake").serial, new);
    assert_eq!((site.issued(), site.counter("refused")), (2, 0));
    assert!(site.entry("a.test")["replaced"].is_null());
}
