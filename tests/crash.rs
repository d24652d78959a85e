//! kill -9 at bad moments: nothing is lost, nothing half-written is served, and what is stored is
//! there again at once.

mod lab;

use std::thread;
use std::time::{Duration, Instant};

use lab::site::ISSUANCE;
use lab::*;

const EACH: &str = "ssl_cert_autofetch_check_interval 0;";

fn revoked() -> Behaviour {
    Behaviour::revoked(Some(1))
}

/// The CA hangs, and the worker dies: the next one goes on with the same key.
#[test]
#[ignore = "needs nginx, the module and pebble: scripts/test.sh"]
fn the_next_worker_completes_an_order() {
    for first in [true, false] {
        let site = Plan::server("a.test", EACH).start_with(|lab, _| {
            if first {
                lab.pebble.freeze();
            }
        });
        let stored = site.stored("a.test");
        let (old, client) = if first {
            (String::new(), None)
        } else {
            let (old, client) = (site.wait_valid("a.test"), site.lab.client("a.test"));
            site.lab.pebble.freeze();
            site.lab.responder.behave_for(&old, revoked());
            (old, Some(client))
        };
        let issued = site.issued();
        let key = thread::scope(|scope| {
            let held = client.as_ref().map(|client| scope.spawn(|| client.connect()));
            let key = wait_for("the new key", ISSUANCE, || stored.pending_key());
            site.nginx.kill_worker(site.nginx.worker_pids()[0]);
            if let Some(held) = held {
                let cut = held.join().expect("client").expect_err("its worker is gone");
                assert!(cut.chain.is_empty(), "{cut:?}");
            }
            key
        });
        if !first {
            assert_eq!(stored.serial(), old);
        }
        let still = stored.pending_key().expect("the key is still there");
        assert!(still.public_eq(&key));
        site.lab.pebble.thaw();
        let client = client.unwrap_or_else(|| site.lab.client("a.test"));
        let new = client.connect().expect("handshake").serial;
        assert!(new != old && new == stored.serial());
        assert!(stored.key().public_eq(&key), "the key of the first order was lost");
        assert_eq!(site.issued(), issued + 1);
        stored.check_whole();
    }
}

/// It is issued and being asked about: no second one is issued for it.
#[test]
#[ignore = "needs nginx, the module and pebble: scripts/test.sh"]
fn the_next_worker_proves_what_was_issued() {
    let site = Plan::server("a.test", EACH).start();
    let (old, client) = (site.wait_valid("a.test"), site.lab.client("a.test"));
    let stored = site.stored("a.test");
    site.lab.responder.behave_for(&old, revoked());
    site.lab.responder.behave(Behaviour::delayed(Duration::from_secs(5)));
    let key = thread::scope(|scope| {
        let held = scope.spawn(|| client.connect());
        wait_until("the question about the new one", ISSUANCE, || {
            site.lab.responder.queries().iter().any(|q| q.serials.iter().any(|s| *s != old))
                && site.issued() == 2
        });
        let key = stored.pending_key().expect("the new key");
        site.nginx.kill_worker(site.nginx.worker_pids()[0]);
        assert!(held.join().expect("client").is_err());
        key
    });
    assert_eq!(stored.serial(), old);
    site.lab.responder.behave(Behaviour::default());
    let new = client.connect().expect("handshake").serial;
    assert!(new != old && new == stored.serial() && stored.key().public_eq(&key));
    assert_eq!((site.issued(), site.counter("replaced_revoked")), (2, 1));
}

/// All of nginx dies and comes back while neither CA nor responder are there.
#[test]
#[ignore = "needs nginx, the module and pebble: scripts/test.sh"]
fn the_stored_certificate_is_served_at_once() {
    for http in ["ssl_cert_autofetch_check hard;", EACH] {
        let site = Plan::server("a.test", http).workers(2).start();
        let (stored, client) = (site.wait_valid("a.test"), site.lab.client("a.test"));
        site.lab.pebble.freeze();
        site.lab.responder.down();
        let site = site.restart(Nginx::kill, |_| {});
        let begun = Instant::now();
        for client in [client.clone().tls12(), client.tls13()] {
            assert_eq!(client.connect().expect("handshake").serial, stored);
        }
        assert!(begun.elapsed() < Duration::from_secs(2), "{http}: {:?}", begun.elapsed());
        // Not thawed, the CA would answer no question of the lab's own.
        site.lab.pebble.thaw();
        assert_eq!((site.issued(), &site.entry("a.test")["version"]), (1, &1.into()));
    }
}

/// A revocation that was learnt before the crash is known after it, with nobody to ask.
#[test]
#[ignore = "needs nginx, the module and pebble: scripts/test.sh"]
fn a_revocation_outlives_the_crash() {
    let http = "ssl_cert_autofetch_check_interval 0; ssl_cert_autofetch_timeout 2s;";
    let site = Plan::server("a.test", http).start();
    let (old, client) = (site.wait_valid("a.test"), site.lab.client("a.test"));
    site.lab.pebble.freeze();
    site.lab.responder.behave_for(&old, revoked());
    let refusal = client.connect().expect_err("revoked");
    assert_eq!((refusal.alert, refusal.chain.len()), (Some(INTERNAL_ERROR), 0));
    site.lab.responder.down();
    let site = site.restart(Nginx::kill, |_| {});
    for client in [client.clone().tls12(), client.clone().tls13()] {
        let refusal = client.connect().expect_err("revoked");
        assert_eq!((refusal.alert, refusal.chain.len()), (Some(INTERNAL_ERROR), 0), "{refusal:?}");
    }
    site.lab.responder.up();
    site.lab.pebble.thaw();
    let new = site.wait_other("a.test", &old);
    assert_eq!(client.connect().expect("handshake").serial, new);
}

/// Wherever a replacement is cut off, the start after it finds a whole certificate, never serves
/// the revoked one, and gets to a good one.
#[test]
#[ignore = "needs nginx, the module and pebble: scripts/test.sh"]
fn a_crash_at_any_moment_leaves_something_whole() {
    let mut site = Plan::server("a.test", EACH).ca("budget 1000/7d;").start();
    let client = site.lab.client("a.test");
    site.wait_valid("a.test");
    site.revoke("a.test", None);
    let connection = client.connect().expect("handshake");
    let (mut old, typical) = (connection.serial, connection.took);
    const ROUNDS: u32 = 10;
    for round in 0..ROUNDS {
        site.revoke("a.test", Some(1));
        let delay = typical * round / ROUNDS;
        thread::scope(|scope| {
            let held = scope.spawn(|| client.connect());
            let begun = Instant::now();
            wait_until("the moment", Duration::from_secs(10), || begun.elapsed() >= delay);
            let pids = [site.nginx.child_pids(), vec![site.nginx.pid()]].concat();
            pids.iter().for_each(|pid| process::send_signal(*pid, libc::SIGKILL));
            if let Ok(connection) = held.join().expect("client") {
                assert_ne!(connection.serial, old, "round {round}");
            }
            site.stored("a.test").check_whole();
        });
        site = site.restart(Nginx::kill, |_| {});
        let new = client.connect().expect("handshake").serial;
        assert_ne!(new, old, "round {round}");
        site.stored("a.test").check_whole();
        assert_eq!(site.wait_valid("a.test"), new);
        old = new;
    }
}
