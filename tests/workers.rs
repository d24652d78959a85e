//! Several workers, several nginx on one keystore, and other programs that write into it.

mod lab;

use std::collections::{BTreeMap, BTreeSet};
use std::thread;
use std::time::{Duration, Instant};

use lab::site::{ISSUANCE, server};
use lab::*;

const EACH: &str = "ssl_cert_autofetch_check_interval 0;";

/// So that connections really go to all workers.
fn spread(names: &str, http: &str) -> Plan {
    let mut plan = Plan::server(names, http).workers(2);
    plan.servers = plan.servers.replacen("listen TLS ssl", "listen TLS ssl reuseport", 1);
    plan
}

/// Who answered, and with which certificate.
fn visit(client: &Client) -> (String, String) {
    let (connection, answer) = client.get("/").expect("handshake");
    let pid = answer.rsplit_once("worker ").map(|(_, pid)| pid.to_owned());
    (pid.unwrap_or_else(|| panic!("no pid: {answer}")), connection.serial)
}

#[test]
#[ignore = "needs nginx, the module and pebble: scripts/test.sh"]
fn forty_clients_at_two_workers_cause_one_issuance() {
    let site = spread("a.test", EACH).start();
    let (old, client) = (site.wait_valid("a.test"), site.lab.client("a.test"));
    site.revoke("a.test", Some(1));
    site.lab.responder.forget_queries();
    // All of them are there before the first one knows.
    site.lab.responder.behave(Behaviour::delayed(Duration::from_secs(1)));
    let seen: Vec<_> = thread::scope(|scope| {
        let clients: Vec<_> = (0..40).map(|_| scope.spawn(|| visit(&client))).collect();
        clients.into_iter().map(|c| c.join().expect("client")).collect()
    });
    let pids: BTreeSet<_> = seen.iter().map(|(pid, _)| pid).collect();
    let serials: BTreeSet<_> = seen.iter().map(|(_, serial)| serial.clone()).collect();
    assert_eq!((pids.len(), serials.len()), (2, 1), "{seen:?}");
    let new = serials.into_iter().next().unwrap_or_default();
    assert!(new != old && new == site.stored("a.test").serial());
    assert_eq!((site.issued(), site.counter("replaced_revoked")), (2, 1));
    let queries = [&old, &new].map(|s| site.lab.responder.queries_for(s).len());
    assert_eq!(queries, [1, 1]);
    assert_eq!((site.counter("held"), site.counter("refused")), (40, 0));
    for part in ["is revoked (keyCompromise)", ": replaced serial="] {
        assert_eq!(site.lines("a.test").iter().filter(|l| l.contains(part)).count(), 1, "{part}");
    }
}

/// What such a connection carries was copied from the old certificate.
#[test]
#[ignore = "needs nginx, the module and pebble: scripts/test.sh"]
fn connections_from_before_the_swap_get_the_new_certificate() {
    let mut plan = Plan::server("a.test", EACH);
    plan.servers += &server("b.test");
    let site = plan.start();
    for name in ["a.test", "b.test"] {
        let (old, client) = (site.wait_valid(name), site.lab.client(name));
        let early: Vec<_> = [client.clone().tls12(), client.clone().tls13()]
            .iter()
            .map(|c| c.open().expect("connection"))
            .collect();
        let slow = client.clone().byte_by_byte(Duration::from_millis(5));
        let (begun, swapped, ended) = thread::scope(|scope| {
            let slow = [slow.clone().tls12(), slow.tls13()];
            let slow =
                slow.map(|c| scope.spawn(move || (Instant::now(), c.connect(), Instant::now())));
            site.revoke(name, None);
            let new = client.connect().expect("handshake").serial;
            let swapped = Instant::now();
            assert_ne!(new, old);
            for opened in early {
                assert_eq!(opened.handshake().expect("handshake").serial, new);
            }
            let [(a, first, b), (_, second, _)] = slow.map(|s| s.join().expect("client"));
            for connection in [first, second] {
                assert_eq!(connection.expect("handshake").serial, new);
            }
            (a, swapped, b)
        });
        assert!(begun < swapped && swapped < ended, "the slow client was not in the middle");
    }
}

/// The same while nothing is due, so that nobody looks at a ClientHello: the swap comes from
/// another program.
#[test]
#[ignore = "needs nginx, the module and pebble: scripts/test.sh"]
fn an_import_reaches_all_workers_and_handshakes_under_way() {
    let ca = Identity::root("Mute CA");
    let profile = Profile::server(&["a.test"]);
    let (first, second) = (ca.issue(&profile), ca.issue(&profile));
    let site = spread("a.test", "").start_with(|_, keystore| {
        Stored::of(keystore, "a.test").put_identity(&first);
    });
    let client = Client::new(site.lab.tls_port.number()).sni("a.test").trust(ca.cert_pem());
    assert_eq!(client.connect().expect("handshake").serial, first.serial());
    let slow = client.clone().byte_by_byte(Duration::from_millis(10));
    let arrived = thread::scope(|scope| {
        let slow = [slow.clone().tls12(), slow.tls13()].map(|c| scope.spawn(move || c.connect()));
        let stored = site.stored("a.test");
        let version = stored.put_identity(&second);
        let arrived = Instant::now();
        stored.announce(version);
        wait_until("the import", Duration::from_secs(5), || {
            client.connect().expect("handshake").serial == second.serial()
        });
        for slow in slow {
            let connection = slow.join().expect("client").expect("handshake");
            assert_eq!(connection.serial, second.serial());
        }
        arrived
    });
    let late = serials_of_workers(&client, arrived + Duration::from_secs(1));
    assert_eq!(late.len(), 2, "{late:?}");
    let all: BTreeSet<_> = late.into_values().flatten().collect();
    assert_eq!(all, BTreeSet::from([second.serial()]));
    assert_eq!((site.issued(), site.counter("held")), (0, 0));
    assert_eq!(site.entry("a.test")["version"], 2);
}

/// A renewal of one worker's, which no handshake waits for: the other one has it within a second.
#[test]
#[ignore = "needs nginx, the module and pebble: scripts/test.sh"]
fn all_workers_serve_a_replacement_within_a_second() {
    let site = spread("a.test", "ssl_cert_autofetch_renew_before 50%;").validity(16).start();
    let (old, client) = (site.wait_valid("a.test"), site.lab.client("a.test"));
    let mut last_old = None;
    let current = site.nginx.keystore().join("certs/a.test/current");
    let arrived = wait_for("the renewal", ISSUANCE, || {
        let (began, at) = (std::time::SystemTime::now(), Instant::now());
        if visit(&client).1 == old {
            last_old = Some(began);
        }
        let link = std::fs::symlink_metadata(&current).expect("current");
        let is_new = std::fs::read_link(&current).is_ok_and(|l| l.ends_with("2"));
        is_new.then(|| (link.modified().expect("time"), at))
    });
    assert!(last_old.is_some());
    let new = site.stored("a.test").serial();
    let since = arrived.0.elapsed().unwrap_or_default();
    let deadline = Instant::now() + Duration::from_secs(1).saturating_sub(since);
    let late = serials_of_workers(&client, deadline);
    assert_eq!(late.len(), 2, "{late:?}");
    let all: BTreeSet<_> = late.into_values().flatten().collect();
    assert_eq!(all, BTreeSet::from([new]));
    assert_eq!((site.issued(), site.counter("held")), (2, 0));
}

/// What each worker serves in handshakes that begin after this moment.
fn serials_of_workers(client: &Client, after: Instant) -> BTreeMap<String, BTreeSet<String>> {
    wait_until("the moment", Duration::from_secs(10), || Instant::now() > after);
    let mut seen: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for _ in 0..40 {
        let (pid, serial) = visit(client);
        seen.entry(pid).or_default().insert(serial);
    }
    seen
}

/// What is news and numbers outlives the workers: also a failure and its next attempt.
#[test]
#[ignore = "needs nginx, the module and pebble: scripts/test.sh"]
fn a_reload_keeps_counters_and_state() {
    let mut plan = spread("a.test", "").validity(86_400);
    plan.servers += &server("blocked.test");
    plan.pebble.blocked = vec!["blocked.test".into()];
    let site = plan.start();
    let (old, client) = (site.wait_valid("a.test"), site.lab.client("a.test"));
    for _ in 0..10 {
        client.connect().expect("handshake");
    }
    site.wait_entry("blocked.test", "a failure", ISSUANCE, |e| e["last_error"].is_string());
    // The third failure's next attempt is a minute away: nothing happens in between.
    wait_until("a third attempt", Duration::from_secs(90), || {
        site.lines("blocked.test").iter().filter(|l| l.contains("ISSUE failed")).count() == 3
    });
    let before = site.status();
    assert_eq!(before["counters"]["issued"], 1);
    assert!(before["counters"]["issue_errors"].as_u64() >= Some(3), "{before:#}");
    assert!(before["counters"]["handshakes"].as_u64() >= Some(10), "{before:#}");
    let blocked = site.entry("blocked.test");
    assert_eq!(blocked["state"], "pending");
    assert!(blocked["last_error"].as_str().is_some_and(|e| e.contains("rejectedIdentifier")));

    for _ in 0..2 {
        site.nginx.reload();
        site.wait_valid("a.test");
        let after = site.status();
        assert_eq!(after["counters"], before["counters"]);
        assert_eq!(after["entries"], before["entries"]);
    }
    assert_eq!(client.connect().expect("handshake").serial, old);
    assert_eq!((site.issued(), site.counter("held")), (1, 0));
}

/// A second nginx comes while the first one waits for its first certificate. The CA reaches the
/// first one only.
#[test]
#[ignore = "needs nginx, the module and pebble: scripts/test.sh"]
fn two_nginx_share_one_keystore() {
    let site = Plan::server("a.test", "").start_with(|lab, _| lab.pebble.freeze());
    let pending = || site.stored("a.test").pending_key().is_some();
    wait_until("an order of the first", ISSUANCE, pending);
    let twin = site.twin(|plan| plan.http = EACH.into());
    site.lab.pebble.thaw();
    let old = site.wait_valid("a.test");
    let (here, there) = (site.lab.client("a.test"), its_client(&site, &twin.tls_port));
    assert_eq!(here.connect().expect("handshake").serial, old);
    assert_eq!(there.connect().expect("handshake").serial, old);
    assert_eq!(site.issued(), 1);

    // The twin finds out and replaces, and within five seconds the other one serves it, which
    // would not ask for an hour.
    site.revoke("a.test", Some(1));
    let new = there.connect().expect("handshake").serial;
    let arrived = Instant::now();
    assert_ne!(new, old);
    wait_until("the other nginx", Duration::from_secs(5), || {
        here.connect().expect("handshake").serial == new
    });
    assert!(arrived.elapsed() < Duration::from_secs(5));
    assert_eq!((site.issued(), site.counter("issued") <= 1), (2, true));
    let log = [site.nginx.error_log(), twin.nginx.error_log()].concat();
    assert_eq!(log.matches(" by serial=").count(), 1, "{log}");
    assert_eq!(log.matches("ISSUE failed").count(), 0, "{log}");
}

fn its_client(site: &Site, port: &Port) -> Client {
    Client::new(port.number()).sni("a.test").trust(site.lab.pebble.root_pem())
}

/// Both are asked at once for a name whose certificate is revoked.
#[test]
#[ignore = "needs nginx, the module and pebble: scripts/test.sh"]
fn two_nginx_issue_once_for_clients_of_both() {
    let site = Plan::server("a.test", EACH).workers(2).start();
    let twin = site.twin(|_| {});
    let old = site.wait_valid("a.test");
    let clients = [site.lab.client("a.test"), its_client(&site, &twin.tls_port)];
    for client in &clients {
        assert_eq!(client.connect().expect("handshake").serial, old);
    }
    site.revoke("a.test", None);
    let serials: BTreeSet<_> = thread::scope(|scope| {
        let all: Vec<_> = (0..20)
            .map(|i| {
                let client = &clients[i % 2];
                scope.spawn(move || client.connect().expect("handshake").serial)
            })
            .collect();
        all.into_iter().map(|c| c.join().expect("client")).collect()
    });
    assert_eq!((serials.len(), site.issued()), (1, 2), "{serials:?}");
    assert!(!serials.contains(&old));
}

/// Not even a worker that is about to go serves what is revoked.
#[test]
#[ignore = "needs nginx, the module and pebble: scripts/test.sh"]
fn a_reload_in_the_middle_holds_nobody_twice() {
    let site = spread("a.test", EACH).start();
    let (old, client) = (site.wait_valid("a.test"), site.lab.client("a.test"));
    site.revoke("a.test", Some(1));
    site.lab.responder.behave_for(&old, Behaviour::delayed(Duration::from_secs(2)));
    let serials: BTreeSet<_> = thread::scope(|scope| {
        let before: Vec<_> =
            (0..6).map(|_| scope.spawn(|| client.connect().expect("handshake").serial)).collect();
        wait_until("held handshakes", Duration::from_secs(5), || site.counter("held") == 6);
        site.nginx.reload();
        let after: Vec<_> =
            (0..6).map(|_| scope.spawn(|| client.connect().expect("handshake").serial)).collect();
        before.into_iter().chain(after).map(|c| c.join().expect("client")).collect()
    });
    assert_eq!((serials.len(), site.issued()), (1, 2), "{serials:?}");
    assert!(!serials.contains(&old));
}
