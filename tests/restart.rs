//! Right after a restart, and with nobody to ask: what the keystore has is served and stapled.

mod lab;

use std::thread;
use std::time::Duration;

use lab::*;

const THREADS: usize = 8;
const EACH: usize = 125;

#[test]
#[ignore = "needs nginx and the module: scripts/test.sh"]
fn a_thousand_handshakes_right_after_a_restart() {
    thousand(1, Silence::Refuses, Nginx::stop);
    thousand(2, Silence::Refuses, Nginx::kill);
}

/// A handshake that asked would be held for the whole timeout.
#[test]
#[ignore = "needs nginx and the module: scripts/test.sh"]
fn a_thousand_handshakes_while_everybody_is_silent() {
    thousand(1, Silence::SaysNothing, Nginx::kill);
    thousand(2, Silence::SaysNothing, Nginx::stop);
}

/// How nobody answers.
#[derive(Clone, Copy, Debug)]
enum Silence {
    Refuses,
    SaysNothing,
}

fn thousand(workers: usize, silence: Silence, end: fn(Nginx) -> Config) {
    let lines = format!(
        "ssl_cert_autofetch_check hard; ssl_cert_autofetch_timeout {}s; ssl_session_tickets off;",
        TIMEOUT.as_secs()
    );
    let site = Guests::of(b"").http(&lines).empty("a.test").workers(workers).start();
    let serial = site.monitor.wait_valid("a.test");
    match silence {
        Silence::Refuses => site.liar.down(),
        Silence::SaysNothing => {
            site.liar.responder.behave(Behaviour::delivery(Delivery::Never));
        }
    }
    let site = site.restart(end);
    let client = site.client("a.test");
    let roots = site.liar.root_pem();
    let visit = || {
        let connection = client.connect().unwrap_or_else(|e| panic!("{silence:?}: {e:?}"));
        assert_eq!(connection.serial, serial);
        assert!(!connection.resumed);
        staple::check(&connection, &roots).unwrap_or_else(|e| panic!("{silence:?}: {e}"));
        connection.took
    };
    let longest = thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|_| scope.spawn(|| (0..EACH).map(|_| visit()).max().expect("one")))
            .collect();
        threads.into_iter().map(|t| t.join().expect("served and stapled")).max().expect("one")
    });
    // A handshake that waited would have waited this long.
    assert!(longest < TIMEOUT, "{silence:?}: {longest:?}");
    // With TLS 1.3 the client is through before the server is.
    site.monitor.wait_counter("handshakes", (THREADS * EACH) as u64, Duration::from_secs(10));
    let counters = ["held", "refused"].map(|c| site.monitor.counter(c));
    assert_eq!(counters, [0, 0], "{silence:?}");
    assert_eq!(site.monitor.entry("a.test")["evidence"]["status"], "good");
    site.nginx.check_log();
    assert_eq!(site.liar.orders_for("a.test"), 1);
}

const TIMEOUT: Duration = Duration::from_secs(30);
