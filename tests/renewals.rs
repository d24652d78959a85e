//! Certificates that are bad for other reasons than revocation, renewal in time, and replacements
//! that are no better than what they replace.

mod lab;

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use lab::site::{serial, server};
use lab::*;
use openssl::asn1::Asn1Time;

const EACH: &str = "ssl_cert_autofetch_check_interval 0;";
const BRIEF: &str = "ssl_cert_autofetch_timeout 2s;";
const DAY: i64 = 86_400;

/// A CA that Pebble knows nothing of, for what lies in the keystore before nginx starts.
fn earlier(change: impl FnOnce(&mut Profile)) -> Identity {
    let mut profile = Profile::server(&["a.test"]);
    change(&mut profile);
    Identity::root("Earlier CA").issue(&profile)
}

/// Starts with this in the keystore; the CA can't be reached until it is thawed. The client trusts
/// the CA, and these roots.
fn start_with_stored(http: &str, roots: &[u8], put: impl FnOnce(&Stored)) -> (Site, Client) {
    let mut roots = roots.to_vec();
    let site = Plan::server("a.test", http).ca("timeout 2s;").start_with(|lab, keystore| {
        roots.extend(lab.pebble.root_pem());
        put(&Stored::of(keystore, "a.test"));
        lab.pebble.freeze();
    });
    let client = Client::new(site.lab.tls_port.number()).sni("a.test").trust(roots);
    (site, client)
}

/// Never served, not once; replaced as soon as the CA is there.
fn assert_replaced(site: &Site, client: &Client, bad: &str) -> String {
    for client in [client.clone().tls12(), client.clone().tls13()] {
        let refusal = client.connect().expect_err("a bad certificate");
        assert_eq!((refusal.alert, refusal.chain.len()), (Some(INTERNAL_ERROR), 0), "{refusal:?}");
    }
    site.lab.pebble.thaw();
    let new = site.wait_other("a.test", bad);
    assert_eq!(client.connect().expect("handshake").serial, new);
    assert_eq!((site.issued(), site.counter("replaced_revoked")), (1, 0));
    new
}

#[test]
#[ignore = "needs nginx, the module and pebble: scripts/test.sh"]
fn an_expired_certificate_is_replaced() {
    let old = earlier(|p| (p.not_before, p.not_after) = (-90 * DAY, -60));
    let (site, client) = start_with_stored(BRIEF, b"", |stored| {
        stored.put_identity(&old);
    });
    let new = assert_replaced(&site, &client, &old.serial());
    let entry = site.entry("a.test");
    let replaced = &entry["replaced"];
    assert_eq!(
        (&replaced["serial"], &replaced["reason"]),
        (&old.serial().into(), &"expired".into())
    );
    assert_eq!((site.counter("replaced_expired"), &entry["version"]), (1, &2.into()));
    let line = format!(
        "[notice] ssl_cert_autofetch: \"a.test\": replaced serial={} by serial={new} \
                        from \"lab\" in ",
        old.serial()
    );
    let lines = site.lines("a.test");
    assert!(lines.iter().any(|l| l.starts_with(&line)), "{line}\n{lines:#?}");
}

#[test]
#[ignore = "needs nginx, the module and pebble: scripts/test.sh"]
fn a_certificate_with_another_key_is_replaced() {
    let (old, other) = (earlier(|_| {}), earlier(|_| {}));
    let (site, client) = start_with_stored(BRIEF, b"", |stored| {
        stored.put(&old.fullchain_pem(), &other.key_pem());
    });
    assert_replaced(&site, &client, &old.serial());
    site.stored("a.test").check_whole();
}

#[test]
#[ignore = "needs nginx, the module and pebble: scripts/test.sh"]
fn broken_files_are_replaced() {
    type Breaker = fn(&Stored, &Identity);
    let breakers: [(&str, Breaker); 6] = [
        ("garbage", |s, id| _ = s.put(b"no certificate", &id.key_pem())),
        ("half a key", |s, id| {
            let key = id.key_pem();
            s.put(&id.fullchain_pem(), &key[..key.len() / 2]);
        }),
        ("no key", |s, id| {
            s.put_identity(id);
            fs::remove_file(s.dir.join("current/privkey.pem")).expect("remove");
        }),
        ("an empty file", |s, id| _ = s.put(b"", &id.key_pem())),
        ("a link to nothing", |s, id| {
            s.put_identity(id);
            fs::remove_dir_all(s.dir.join("versions/1")).expect("remove");
        }),
        // At the system's security level, which wants 2048.
        ("1024 bits", |s, _| {
            s.put_identity(&earlier(|p| {
                (p.names, p.key) = (vec!["broken-5.test".into()], KeyType::Rsa1024)
            }));
        }),
    ];
    let name = |i: usize| format!("broken-{i}.test");
    let mut plan = Plan { http: BRIEF.into(), ..Plan::default() }.ca("timeout 2s;");
    plan.servers = (0..breakers.len()).map(|i| server(&name(i))).collect();
    let (mut root, mut bad) = (Vec::new(), Vec::new());
    let site = plan.start_with(|lab, keystore| {
        root = lab.pebble.root_pem();
        lab.pebble.freeze();
        for (i, (_, break_it)) in breakers.iter().enumerate() {
            let id = Identity::root("Earlier CA").issue(&Profile::server(&[&name(i)]));
            break_it(&Stored::of(keystore, &name(i)), &id);
            bad.push(id.serial());
        }
    });
    let client = |i| Client::new(site.lab.tls_port.number()).sni(&name(i)).trust(&root);
    thread::scope(|scope| {
        for (i, (what, _)) in breakers.iter().enumerate() {
            let client = client(i);
            scope.spawn(move || {
                let refusal = client.connect().expect_err(what);
                let seen = (refusal.alert, refusal.chain.len());
                assert_eq!(seen, (Some(INTERNAL_ERROR), 0), "{what}: {refusal:?}");
            });
        }
    });
    site.lab.pebble.thaw();
    for (i, (what, _)) in breakers.iter().enumerate() {
        let new = site.wait_other(&name(i), &bad[i]);
        assert_eq!(client(i).connect().expect("handshake").serial, new, "{what}");
        site.stored(&name(i)).check_whole();
    }
    assert_eq!(site.issued(), breakers.len());
}

/// More than the tolerated five minutes: without proof, but never a reason to issue.
#[test]
#[ignore = "needs nginx, the module and pebble: scripts/test.sh"]
fn a_certificate_of_the_future_is_waited_for() {
    for (begins, check, serves) in
        [(1200, "hard", false), (1200, "soft", true), (200, "hard", true)]
    {
        let ocsp_port = Port::reserve();
        let ca = Identity::root("Future CA");
        let id = ca.issue(&Profile {
            not_before: begins,
            ocsp_url: Some(Responder::url_at(&ocsp_port)),
            ..Profile::server(&["a.test"])
        });
        let responder = Responder::start(ocsp_port, ca.clone(), Source::Own);
        let http = format!("{EACH} ssl_cert_autofetch_check {check};");
        let chain = [id.fullchain_pem(), ca.cert_pem()].concat();
        let (site, client) = start_with_stored(&http, &ca.cert_pem(), |stored| {
            stored.put(&chain, &id.key_pem());
        });
        for client in [client.clone().tls12(), client.tls13()] {
            let begun = Instant::now();
            // The client's clock is right: it never likes what it is shown.
            let refusal = client.connect().expect_err("not valid yet");
            let shown = refusal.chain.first().map(|c| pki::serial_hex(c));
            let expected = serves.then(|| id.serial());
            assert_eq!(shown, expected, "{begins} {check} {refusal:?}");
            let alert = (!serves).then_some(INTERNAL_ERROR);
            assert_eq!(refusal.alert, alert, "{begins} {check} {refusal:?}");
            assert!(begun.elapsed() < Duration::from_secs(2), "nothing to wait for");
        }
        assert_eq!(responder.queries_for(&id.serial()).is_empty(), begins > 300);
        let entry = site.entry("a.test");
        assert_eq!(entry["state"], if serves { "valid" } else { "refused" }, "{entry:#}");
        assert!(entry["replaced"].is_null() && site.counter("issue_errors") == 0, "{entry:#}");
        site.lab.pebble.thaw();
        assert_eq!((serial(&site.entry("a.test")), site.issued()), (id.serial(), 0));
    }
}

/// A certificate lives for twenty seconds: it is renewed behind, nobody waits, and sessions last.
#[test]
#[ignore = "needs nginx, the module and pebble: scripts/test.sh"]
fn renewal_holds_nobody_and_keeps_sessions() {
    // Tickets: a cache would be flooded by the crowd.
    let http = "ssl_cert_autofetch_renew_before 50%; ssl_session_tickets on;";
    let site = Plan::server("a.test", http).validity(20).start();
    let (old, client) = (site.wait_valid("a.test"), site.lab.client("a.test"));
    let clients = [client.clone().tls12(), client.clone().tls13()];
    let sessions = clients.clone().map(|c| c.connect().expect("handshake").session());
    let stop = AtomicBool::new(false);
    let new = thread::scope(|scope| {
        let crowd = scope.spawn(|| {
            while !stop.load(Ordering::SeqCst) {
                client.connect().expect("handshake");
            }
        });
        let new = site.wait_other("a.test", &old);
        stop.store(true, Ordering::SeqCst);
        crowd.join().expect("clients");
        new
    });
    assert_eq!(client.connect().expect("handshake").serial, new);
    for (client, session) in clients.into_iter().zip(sessions) {
        let resumed = client.resume(&session).connect().expect("handshake");
        assert!(resumed.resumed && resumed.serial == old, "{resumed:?}");
    }
    assert_eq!((site.counter("held"), site.counter("refused"), site.issued()), (0, 0, 2));
    assert_eq!((site.counter("replaced_revoked"), site.counter("replaced_expired")), (0, 0));
    assert!(site.entry("a.test")["replaced"].is_null());
    assert!(site.nginx.log_lines("[error]").is_empty(), "{}", site.nginx.error_log());
}

/// It expires while the CA is away: refused from then on, and served again when the CA is back.
#[test]
#[ignore = "needs nginx, the module and pebble: scripts/test.sh"]
fn it_expires_while_the_ca_is_away() {
    let site = Plan::server("a.test", BRIEF).validity(12).ca("timeout 1s;").start();
    let (old, client) = (site.wait_valid("a.test"), site.lab.client("a.test"));
    site.lab.responder.behave(Behaviour::good());
    site.lab.pebble.freeze();
    let mut served = 0;
    let refusal = wait_for("the end of the certificate", Duration::from_secs(30), || match client
        .connect()
    {
        Ok(connection) => {
            assert_eq!(connection.serial, old);
            served += 1;
            None
        }
        Err(refusal) => Some(refusal),
    });
    let end = Asn1Time::from_unix(clock::now()).expect("time");
    assert!(served > 0 && *site.stored("a.test").leaf().not_after() <= end, "{refusal:?}");
    assert_eq!((refusal.alert, refusal.chain.len()), (Some(INTERNAL_ERROR), 0), "{refusal:?}");
    site.lab.pebble.thaw();
    let new = site.wait_other("a.test", &old);
    assert_eq!(client.connect().expect("handshake").serial, new);
    assert_eq!(site.entry("a.test")["replaced"]["reason"], "expired");
    assert_eq!((site.counter("replaced_expired"), site.counter("replaced_revoked")), (1, 0));
}
