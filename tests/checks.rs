//! `ssl_cert_autofetch_check`: what a handshake gets when there is no proof of validity.

mod lab;

use std::thread;
use std::time::{Duration, Instant};

use lab::site::{serial, server};
use lab::*;

const EACH: &str = "ssl_cert_autofetch_check_interval 0;";

/// Each way to have no proof, and whether the answer takes as long as a handshake may wait.
fn no_proof() -> Vec<(&'static str, Behaviour)> {
    let delegate = Delegate { eku: false, ..Delegate::default() };
    let with = |change: fn(&mut Behaviour)| {
        let mut behaviour = Behaviour::default();
        change(&mut behaviour);
        behaviour
    };
    let forged = Behaviour { signer: Signer::OtherCa, ..Behaviour::revoked(Some(1)) };
    let broken = Behaviour { signer: Signer::BrokenSignature, ..Behaviour::revoked(Some(1)) };
    let about_another = Behaviour { subject: Subject::OtherSerial, ..Behaviour::revoked(Some(1)) };
    vec![
        ("unknown", Behaviour::unknown()),
        ("malformedRequest", Behaviour::result(ResultCode::MalformedRequest)),
        ("internalError", Behaviour::result(ResultCode::InternalError)),
        ("tryLater", Behaviour::result(ResultCode::TryLater)),
        ("sigRequired", Behaviour::result(ResultCode::SigRequired)),
        ("unauthorized", Behaviour::result(ResultCode::Unauthorized)),
        ("no answer", Behaviour::delivery(Delivery::Never)),
        ("closed", Behaviour::delivery(Delivery::Close)),
        ("garbage", Behaviour::delivery(Delivery::Garbage)),
        ("cut", Behaviour::delivery(Delivery::Cut)),
        ("oversized", Behaviour::delivery(Delivery::Oversized(3 << 20))),
        ("503", Behaviour::delivery(Delivery::Http(503))),
        ("stale", Behaviour::stale(3600)),
        ("of the future", with(|b| b.this_update = 3600)),
        ("wrong nonce", with(|b| b.nonce = Nonce::Wrong)),
        ("wrong serial", with(|b| b.subject = Subject::OtherSerial)),
        ("unfit delegate", Behaviour::signer(Signer::Delegate(delegate))),
        ("revoked, says another CA", forged),
        ("revoked, wrongly signed", broken),
        ("revoked, another serial", about_another),
    ]
}

/// Hard refuses with an alert and shows nothing, soft serves; until the next attempt nobody waits;
/// the next attempt comes.
#[test]
#[ignore = "needs nginx, the module and pebble: scripts/test.sh"]
fn without_proof_hard_refuses_and_soft_serves() {
    let rows = no_proof();
    let mut servers = String::new();
    for i in 0..rows.len() {
        servers += &server(&format!("soft-{i}.test"));
        let hard = server(&format!("hard-{i}.test"));
        servers += &hard.replace("lab;", "lab; ssl_cert_autofetch_check hard;");
    }
    let http = format!("{EACH} ssl_cert_autofetch_timeout 2s;");
    let site = Plan { http, servers, ..Plan::default() }.start();
    wait_until("all certificates", Duration::from_secs(120), || {
        let status = site.status();
        status["entries"].as_array().expect("entries").iter().all(|e| e["state"] == "valid")
    });
    let mut refused = Vec::new();
    for (i, (what, behaviour)) in rows.iter().enumerate() {
        let version = if i % 2 == 0 { Client::tls12 } else { Client::tls13 };
        for (name, serves) in [(format!("soft-{i}.test"), true), (format!("hard-{i}.test"), false)]
        {
            let row = Row { site: &site, what, name: &name, serves };
            let client = version(site.lab.client(&name));
            row.check(behaviour, &client);
            let next = row.told();
            // A responder that says what will not change soon is left alone for longer.
            if !serves && next <= Duration::from_secs(30) {
                refused.push((name, client));
            }
        }
    }
    assert!(refused.len() > 10);
    for (name, client) in refused {
        let stored = site.stored(&name).serial();
        wait_until(&format!("proof for {name}"), Duration::from_secs(45), || {
            client.connect().is_ok_and(|c| c.serial == stored)
        });
        let entry = site.entry(&name);
        assert!(entry["last_error"].is_null() && entry["state"] == "valid", "{entry:#}");
    }
    assert_eq!((site.issued(), site.counter("replaced_revoked")), (2 * rows.len(), 0));
}

/// One way to have no proof, at one entry.
struct Row<'a> {
    site: &'a Site,
    what: &'a str,
    name: &'a str,
    serves: bool,
}

impl Row<'_> {
    /// Two handshakes, of which the first one asks. Leaves the responder with the truth.
    fn check(&self, behaviour: &Behaviour, client: &Client) {
        let Row { what, name, .. } = self;
        let (responder, stored) = (&self.site.lab.responder, self.site.stored(name).serial());
        let before = responder.queries_for(&stored).len();
        responder.behave_for(&stored, behaviour.clone());
        let took = self.expect(client.connect(), &stored);
        let asked = responder.queries_for(&stored).len();
        assert!(asked > before, "{what}: {name} was not asked for");
        if matches!(behaviour.delivery, Delivery::Never) {
            let limits = Duration::from_millis(1500)..Duration::from_millis(2500);
            assert!(limits.contains(&took), "{what}: {name} after {took:?}");
        }
        // At once now, and without a question.
        let took = self.expect(client.connect(), &stored);
        assert!(took < Duration::from_secs(1), "{what}: {name} waited again, {took:?}");
        assert_eq!(responder.queries_for(&stored).len(), asked, "{what}: {name}");
        responder.behave_for(&stored, Behaviour::default());
    }

    fn expect(&self, result: Result<Connection, Refusal>, stored: &str) -> Duration {
        let Row { what, name, serves, .. } = self;
        match result {
            Ok(connection) => {
                assert!(serves, "{what}: {name} was served");
                assert_eq!(connection.serial, stored, "{what}: {name}");
                connection.took
            }
            Err(refusal) => {
                let seen = (refusal.alert, refusal.chain.len());
                assert!(!serves, "{what}: {name} was refused: {refusal:?}");
                assert_eq!(seen, (Some(INTERNAL_ERROR), 0), "{what}: {name} {refusal:?}");
                refusal.took
            }
        }
    }

    /// Status and log; when the next attempt is due.
    fn told(&self) -> Duration {
        let Row { what, name, serves, site } = self;
        let entry = site.entry(name);
        let state = if *serves { "valid" } else { "refused" };
        assert_eq!(entry["state"], state, "{what}: {entry:#}");
        assert!(entry["last_error"].is_string(), "{what}: {entry:#}");
        let with = |start: &str| {
            let start = format!("{start} ssl_cert_autofetch: \"{name}\": ");
            let lines = site.lines(name).into_iter();
            lines.filter_map(|l| l.strip_prefix(&start).map(str::to_owned)).collect::<Vec<_>>()
        };
        if !serves {
            let refused = || with("[error]").iter().filter(|l| l.starts_with("refused")).count();
            wait_until("a line about the refusal", Duration::from_secs(5), || refused() == 1);
        }
        assert_eq!(with("[error]").len(), usize::from(!serves), "{what}: {:#?}", site.lines(name));
        let [failed] = &with("[warn]")[..] else { panic!("{what}: {:#?}", site.lines(name)) };
        let parts = failed.strip_prefix("CHECK failed: ").and_then(|l| l.strip_suffix(" s"));
        let next = parts.and_then(|l| l.rsplit_once(", next attempt in "));
        let next = next.and_then(|(_, seconds)| seconds.parse().ok());
        Duration::from_secs(next.unwrap_or_else(|| panic!("{what}: {failed}")))
    }
}

/// Proof runs out, and comes back, while nobody is there.
#[test]
#[ignore = "needs nginx, the module and pebble: scripts/test.sh"]
fn proof_is_asked_for_again_without_a_client() {
    let http = "ssl_cert_autofetch_check_interval 4s; ssl_cert_autofetch_timeout 2s;";
    let mut plan = Plan::server("soft.test", http);
    plan.servers += &server("hard.test").replace("lab;", "lab; ssl_cert_autofetch_check hard;");
    let site = plan.start();
    let (soft, hard) = (site.wait_valid("soft.test"), site.wait_valid("hard.test"));
    let clients = ["soft.test", "hard.test"].map(|n| site.lab.client(n));
    site.lab.responder.down();
    site.wait_state("hard.test", "refused", Duration::from_secs(15));
    let refusal = clients[1].connect().expect_err("no proof");
    assert_eq!((refusal.alert, refusal.chain.len()), (Some(INTERNAL_ERROR), 0));
    assert_eq!(clients[0].connect().expect("handshake").serial, soft);
    assert_eq!(site.entry("soft.test")["state"], "valid");

    site.lab.responder.up();
    site.wait_entry("hard.test", "proof", Duration::from_secs(10), |e| {
        e["state"] == "valid" && e["last_error"].is_null()
    });
    let held = site.counter("held");
    assert_eq!(clients[1].connect().expect("handshake").serial, hard);
    assert_eq!((site.counter("held"), site.issued()), (held, 2));
    let lines = site.lines("hard.test");
    let refused = lines.iter().filter(|l| l.contains(": refused")).count();
    assert_eq!(refused, 1, "one line a change: {lines:#?}");
}

/// In steady state the good answer is renewed behind, and no handshake ever waits.
#[test]
#[ignore = "needs nginx, the module and pebble: scripts/test.sh"]
fn nobody_waits_while_answers_are_good() {
    let http = "ssl_cert_autofetch_check_interval 2s; ssl_cert_autofetch_check hard;";
    let site = Plan::server("a.test", http).workers(2).start();
    let (stored, client) = (site.wait_valid("a.test"), site.lab.client("a.test"));
    let held = site.counter("held");
    wait_until("six more answers", Duration::from_secs(30), || {
        assert_eq!(client.connect().expect("handshake").serial, stored);
        site.lab.responder.queries_for(&stored).len() > 6
    });
    assert_eq!((site.counter("held"), site.counter("refused")), (held, 0));
    // At 50 to 80 % of two seconds.
    let queries = site.lab.responder.queries_for(&stored);
    for pair in queries.windows(2) {
        let gap = pair[1].at - pair[0].at;
        assert!(gap > Duration::from_millis(950) && gap < Duration::from_millis(1800), "{gap:?}");
    }
}

/// Concurrent handshakes share one query, also when no answer is reused.
#[test]
#[ignore = "needs nginx, the module and pebble: scripts/test.sh"]
fn handshakes_at_once_share_one_query() {
    let site = Plan::server("a.test", EACH).start();
    let (stored, client) = (site.wait_valid("a.test"), site.lab.client("a.test"));
    site.lab.responder.forget_queries();
    site.lab.responder.behave(Behaviour::delayed(Duration::from_secs(1)));
    thread::scope(|scope| {
        for _ in 0..20 {
            scope.spawn(|| assert_eq!(client.connect().expect("handshake").serial, stored));
        }
    });
    assert_eq!(site.lab.responder.queries_for(&stored).len(), 1);
    assert_eq!(site.counter("held"), 20);
}

/// Off asks nothing. What was learnt before counts as ever.
#[test]
#[ignore = "needs nginx, the module and pebble: scripts/test.sh"]
fn off_asks_nothing_but_knows_what_is_stored() {
    let site = Plan::server("a.test", "ssl_cert_autofetch_check off;").start();
    let (old, client) = (site.wait_valid("a.test"), site.lab.client("a.test"));
    site.revoke("a.test", Some(1));
    for _ in 0..3 {
        assert_eq!(client.connect().expect("handshake").serial, old);
    }
    assert_eq!((site.lab.responder.queries().len(), site.counter("held")), (0, 0));

    // Somebody who asks learns it, and the CA is away.
    site.lab.responder.set_status(&old, Status::Revoked { reason: Some(1), at: clock::now() });
    site.lab.pebble.freeze();
    let mut site = site;
    site.reload_with(|plan| plan.http = format!("{EACH} ssl_cert_autofetch_timeout 2s;"));
    let refusal = client.connect().expect_err("revoked");
    assert_eq!((refusal.alert, refusal.chain.len()), (Some(INTERNAL_ERROR), 0));
    let site = site.restart(Nginx::stop, |plan| {
        plan.http = "ssl_cert_autofetch_check off; ssl_cert_autofetch_timeout 2s;".into();
    });
    let refusal = client.connect().expect_err("revoked, by what is stored");
    assert_eq!((refusal.alert, refusal.chain.len()), (Some(INTERNAL_ERROR), 0));
    site.lab.pebble.thaw();
    let new = site.wait_other("a.test", &old);
    assert_eq!(client.connect().expect("handshake").serial, new);
    assert_eq!(site.entry("a.test")["replaced"]["reason"], "keyCompromise");
}

/// A certificate that names nobody who could be asked is served, in hard too.
#[test]
#[ignore = "needs nginx, the module and pebble: scripts/test.sh"]
fn no_source_is_normal() {
    let ca = Identity::root("Mute CA");
    let id = ca.issue(&Profile::server(&["a.test"]));
    let hard = format!("{EACH} ssl_cert_autofetch_check hard;");
    let site = Plan::server("a.test", &hard).start_with(|_, keystore| {
        Stored::of(keystore, "a.test").put_identity(&id);
    });
    let client = Client::new(site.lab.tls_port.number()).sni("a.test").trust(ca.cert_pem());
    let begun = Instant::now();
    for _ in 0..5 {
        assert_eq!(client.connect().expect("handshake").serial, id.serial());
    }
    assert!(begun.elapsed() < Duration::from_secs(5));
    let entry = site.entry("a.test");
    assert_eq!((serial(&entry), &entry["state"]), (id.serial(), &"valid".into()));
    assert!(entry["evidence"].is_null() && entry["ca"].is_null(), "{entry:#}");
    assert_eq!((site.issued(), site.lab.responder.queries().len()), (0, 0));
    let line = site.nginx.wait_log("names no OCSP responder", Duration::from_secs(5));
    assert!(line.contains(&id.serial()), "{line}");
    assert_eq!(site.nginx.log_lines("names no OCSP responder").len(), 1);
}
