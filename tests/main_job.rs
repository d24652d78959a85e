//! The main job with real nginx, Pebble and OCSP: a first certificate without a client, and a
//! revoked certificate that is replaced before anybody gets it again.

mod lab;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use lab::site::{ANSWER, serial};
use lab::*;
use serde_json::Value;

const EACH: &str = "ssl_cert_autofetch_check_interval 0;";

#[test]
#[ignore = "needs nginx, the module and pebble: scripts/test.sh"]
fn the_first_certificate_is_fetched_without_a_client() {
    let site = Plan::server("a.test www.a.test", "").start_with(|lab, _| lab.pebble.freeze());
    let before = site.status();
    assert_keys(&before);
    let entry = site.entry("a.test");
    assert_eq!(entry["state"], "pending");
    assert_eq!(entry["server_names"], serde_json::json!(["a.test", "www.a.test"]));
    for key in ["serial", "not_before", "not_after", "issuer", "ca", "version", "evidence"] {
        assert!(entry[key].is_null(), "{key}: {entry}");
    }
    assert!(entry["replaced"].is_null() && entry["last_error"].is_null(), "{entry}");

    site.lab.pebble.thaw();
    let serial = site.wait_valid("a.test");
    assert_keys(&site.status());
    let (entry, leaf) = (site.entry("a.test"), site.stored("a.test").leaf());
    assert_eq!(serial, site.stored("a.test").serial());
    assert_eq!(site.lab.pebble.status(&serial), Some(Status::Good));
    assert_eq!((&entry["ca"], &entry["version"]), (&"lab".into(), &1.into()));
    assert!(entry["issuer"].as_str().is_some_and(|i| i.contains("Pebble Intermediate")), "{entry}");
    for (key, time) in [("not_before", leaf.not_before()), ("not_after", leaf.not_after())] {
        assert_eq!(unix(&entry[key]), unix_of(time), "{key}");
    }
    let evidence = &entry["evidence"];
    assert_eq!((&evidence["source"], &evidence["status"]), (&"ocsp".into(), &"good".into()));
    assert_eq!(evidence["responder"], site.lab.responder.url());
    assert!((unix(&evidence["checked_at"]) - clock::now()).abs() < 60, "{evidence}");
    assert_eq!(unix(&evidence["next_update"]) - unix(&evidence["this_update"]), 3600);
    assert!(unix(&entry["next_action_at"]) > clock::now(), "{entry}");
    assert!(entry["replaced"].is_null() && entry["last_error"].is_null(), "{entry}");
    let counts = ["handshakes", "held", "refused", "issued", "issue_errors", "ocsp_queries"];
    assert_eq!(counts.map(|c| site.counter(c)), [0, 0, 0, 1, 0, 1]);
    assert_eq!((site.issued(), site.lab.responder.queries().len()), (1, 1));

    // With the answer that was gated by: no handshake asks again.
    for client in [site.lab.client("a.test").tls12(), site.lab.client("www.a.test").tls13()] {
        let connection = client.connect().expect("handshake");
        assert_eq!((connection.serial, connection.chain.len()), (serial.clone(), 2));
    }
    assert_eq!((site.counter("held"), site.lab.responder.queries().len()), (0, 1));
}

#[test]
#[ignore = "needs nginx, the module and pebble: scripts/test.sh"]
fn a_handshake_waits_for_the_first_certificate() {
    let site = Plan::server("a.test", "").start();
    let client = site.lab.client("a.test");
    let connection = client.connect().expect("handshake");
    assert_eq!(connection.serial, site.stored("a.test").serial());
    assert_eq!((site.issued(), site.counter("refused")), (1, 0));
}

/// Revoke, and the very next handshake has another certificate; and all that is told of it.
#[test]
#[ignore = "needs nginx, the module and pebble: scripts/test.sh"]
fn the_next_handshake_gets_another_certificate() {
    let site = Plan::server("a.test", EACH).start();
    let client = site.lab.client("a.test");
    let mut old = site.wait_valid("a.test");
    let mut keys = vec![site.stored("a.test").key()];
    let rounds = [
        (client.clone().tls13(), Some(1), "keyCompromise"),
        (client.clone().tls12(), Some(4), "superseded"),
        (client.clone().tls13().alpn(&["h2", "http/1.1"]), None, "unspecified"),
    ];
    for (round, (client, reason, word)) in rounds.into_iter().enumerate() {
        assert_eq!(client.connect().expect("handshake").serial, old);
        site.lab.responder.forget_queries();
        assert_eq!(site.revoke("a.test", reason), old);

        let (connection, answer) = client.get("/").expect("handshake");
        let new = connection.serial.clone();
        assert_ne!(new, old);
        assert!(answer.contains("worker "), "{answer}");
        assert_eq!((site.stored("a.test").serial(), site.issued()), (new.clone(), round + 2));
        site.stored("a.test").check_whole();
        let key = site.stored("a.test").key();
        assert!(!keys.iter().any(|k| k.public_eq(&key)), "an old key in a new certificate");
        keys.push(key);
        let asked = [&old, &new].map(|s| site.lab.responder.queries_for(s).len());
        assert_eq!(asked, [1, 1]);

        assert_told(&site, &old, &new, word);
        let entry = site.entry("a.test");
        assert_eq!((&entry["state"], serial(&entry)), (&"valid".into(), new.clone()));
        assert_eq!(entry["version"], (round + 2) as u64);
        assert_eq!(entry["evidence"]["status"], "good");
        let replaced = &entry["replaced"];
        assert_eq!((&replaced["serial"], &replaced["reason"]), (&(&*old).into(), &word.into()));
        assert!((unix(&replaced["at"]) - clock::now()).abs() < 60, "{replaced}");
        let seconds = replaced["seconds"].as_f64().expect("a number");
        assert!(0.0 < seconds && seconds <= connection.took.as_secs_f64(), "{seconds}");
        old = new;
    }
    let counts = ["replaced_revoked", "replaced_expired", "issued", "issue_errors", "refused"];
    assert_eq!(counts.map(|c| site.counter(c)), [3, 0, 4, 0, 0]);
    assert_keys(&site.status());
}

/// The log lines of interface.md, each once.
fn assert_told(site: &Site, old: &str, new: &str, reason: &str) {
    let lines = site.lines("a.test");
    let source = site.lab.responder.url();
    let revoked = format!(
        "[error] ssl_cert_autofetch: \"a.test\": certificate serial={old} is revoked ({reason}), \
         source={source}"
    );
    assert_eq!(lines.iter().filter(|l| **l == revoked).count(), 1, "{revoked}\n{lines:#?}");
    let replaced = format!(
        "[notice] ssl_cert_autofetch: \"a.test\": replaced serial={old} by serial={new} \
         from \"lab\" in "
    );
    let times: Vec<_> = lines.iter().filter_map(|l| l.strip_prefix(&replaced)).collect();
    let [time] = times[..] else { panic!("{replaced}\n{lines:#?}") };
    let millis = time.strip_suffix(" ms").and_then(|ms| ms.parse::<u32>().ok());
    assert!(millis.is_some_and(|ms| ms < 30_000), "{time}");
}

/// With answers that are relied on for a while: from the moment on when the next one is due nobody
/// gets the revoked certificate, whoever else comes at the same time.
#[test]
#[ignore = "needs nginx, the module and pebble: scripts/test.sh"]
fn nobody_gets_a_revoked_certificate_once_an_answer_is_due() {
    never_again("ssl_cert_autofetch_check_interval 2s;", Behaviour::default());
}

/// The responder's nextUpdate ends the reliance too.
#[test]
#[ignore = "needs nginx, the module and pebble: scripts/test.sh"]
fn nobody_gets_a_revoked_certificate_past_the_next_update() {
    never_again("", Behaviour { next_update: Some(2), ..Behaviour::default() });
}

fn never_again(http: &str, behaviour: Behaviour) {
    let plan = Plan::server("a.test", http).workers(2);
    let site = plan.start_with(|lab, _| lab.responder.behave(behaviour));
    let old = site.wait_valid("a.test");
    let client = site.lab.client("a.test");
    let done = AtomicBool::new(false);
    let (revoked_at, seen) = thread::scope(|scope| {
        let clients: Vec<_> = (0..4)
            .map(|i| {
                scope.spawn({
                    let client = if i % 2 == 0 { client.clone().tls12() } else { client.clone() };
                    let done = &done;
                    move || {
                        let mut seen = Vec::new();
                        while !done.load(Ordering::SeqCst) {
                            let begun = Instant::now();
                            seen.push((begun, client.connect().expect("handshake").serial));
                        }
                        seen
                    }
                })
            })
            .collect();
        // Through at least one refreshment of the good answer.
        site.lab.responder.wait_queries(&old, 3, Duration::from_secs(10));
        assert_eq!(site.revoke("a.test", Some(1)), old);
        let revoked_at = Instant::now();
        site.wait_other("a.test", &old);
        wait_until("two seconds more", Duration::from_secs(5), || {
            revoked_at.elapsed() > Duration::from_secs(4)
        });
        done.store(true, Ordering::SeqCst);
        let seen = clients.into_iter().flat_map(|c| c.join().expect("client"));
        (revoked_at, seen.collect::<Vec<_>>())
    });
    let due = revoked_at + Duration::from_secs(2);
    let serials: BTreeSet<_> = seen.iter().map(|(_, s)| s.clone()).collect();
    assert_eq!(serials.len(), 2, "{serials:?}");
    assert_eq!(site.issued(), 2);
    let late: Vec<_> = seen.iter().filter(|(t, s)| *t > due && *s == old).collect();
    assert!(late.is_empty(), "{} handshakes got it when an answer was due", late.len());
    // The good answer was used before, or the test would show nothing.
    assert!(seen.iter().any(|(t, s)| *t < revoked_at && *s == old));
    assert!(seen.iter().any(|(t, s)| *t > due && *s != old));
}

/// Both ways to prove control, from the first issuance to the replacement of a revoked
/// certificate while handshakes are held or refused.
#[test]
#[ignore = "needs nginx, the module and pebble: scripts/test.sh"]
fn tls_alpn_01_replaces_in_the_handshake() {
    let hard = format!("{EACH} ssl_cert_autofetch_check hard;");
    let site = Plan::server("a.test www.a.test", &hard).ca("challenge tls-alpn-01;").start();
    let old = site.wait_valid("a.test");
    for (i, name) in ["a.test", "www.a.test"].into_iter().enumerate() {
        let client = site.lab.client(name);
        let revoked = site.revoke("a.test", None);
        let new = client.connect().expect("handshake").serial;
        assert!(new != old && new != revoked);
        assert_eq!(site.issued(), i + 2);
    }
    let log = site.lab.pebble.log();
    assert!(!log.contains("well-known/acme-challenge"), "{log}");
}

/// A listen whose default server the module does not manage, HTTP/2, and a name in capitals.
#[test]
#[ignore = "needs nginx, the module and pebble: scripts/test.sh"]
fn the_default_server_need_not_be_managed() {
    let own_ca = Identity::root("Own");
    let own = own_ca.issue(&Profile::server(&["own.test"]));
    let mut plan = Plan::server("A.Test", EACH);
    plan.servers = format!(
        "server {{ listen TLS ssl http2; server_name own.test; ssl_certificate own.pem; \
         ssl_certificate_key own.key; {ANSWER} }}\n{}",
        plan.servers
    );
    let own_files = own.clone();
    let site = plan.start_with(move |_, keystore| {
        let dir = keystore.parent().expect("prefix");
        std::fs::write(dir.join("own.pem"), own_files.fullchain_pem()).expect("write");
        std::fs::write(dir.join("own.key"), own_files.key_pem()).expect("write");
    });
    let old = site.wait_valid("a.test");
    let client = site.lab.client("A.TEST").alpn(&["h2"]);
    let first = client.connect().expect("handshake");
    assert_eq!((first.serial, first.alpn.as_deref()), (old.clone(), Some("h2")));
    site.revoke("a.test", Some(5));
    let second = client.connect().expect("handshake");
    assert_ne!(second.serial, old);
    assert_eq!(second.alpn.as_deref(), Some("h2"));
    let others = site.lab.client("own.test").trust(own_ca.cert_pem());
    assert_eq!(others.connect().expect("handshake").serial, own.serial());
}

/// Every key of interface.md, whatever is known.
fn assert_keys(status: &Value) {
    let keys = |v: &Value| v.as_object().map(|o| o.keys().cloned().collect::<BTreeSet<_>>());
    let has = |v: &Value, all: &str| {
        let have = keys(v).unwrap_or_else(|| panic!("no object: {v}"));
        let lack: Vec<_> = all.split(' ').filter(|k| !have.contains(*k)).collect();
        assert!(lack.is_empty(), "{lack:?} missing: {v:#}");
    };
    has(status, "version entries counters");
    assert!(status["version"].is_string());
    has(
        &status["counters"],
        "handshakes held refused ocsp_queries ocsp_errors crl_fetches issued issue_errors \
         replaced_revoked replaced_expired",
    );
    for entry in status["entries"].as_array().expect("entries") {
        has(
            entry,
            "name server_names state serial not_before not_after issuer ca version evidence \
             last_error next_action_at replaced",
        );
        if !entry["evidence"].is_null() {
            let all = "source status this_update next_update checked_at responder";
            has(&entry["evidence"], all);
        }
        if !entry["replaced"].is_null() {
            has(&entry["replaced"], "serial reason at seconds");
        }
    }
}

/// Seconds since 1970 of an RFC 3339 time, which must be in UTC.
fn unix(value: &Value) -> i64 {
    use time::format_description::well_known::Rfc3339;
    let text = value.as_str().unwrap_or_else(|| panic!("no time: {value}"));
    assert!(text.ends_with('Z'), "{text}");
    time::OffsetDateTime::parse(text, &Rfc3339).expect(text).unix_timestamp()
}

fn unix_of(time: &openssl::asn1::Asn1TimeRef) -> i64 {
    let epoch = openssl::asn1::Asn1Time::from_unix(0).expect("epoch");
    let diff = epoch.diff(time).expect("difference");
    i64::from(diff.days) * 86_400 + i64::from(diff.secs)
}
