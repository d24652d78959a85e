//! Which certificate a name gets: entries shared by server blocks, servers with certificates of
//! their own, clients without SNI or with one that no server knows, names that a certificate lacks.

mod lab;

use std::fs;
use std::thread;
use std::time::Duration;

use lab::site::{ANSWER, serial, server};
use lab::*;

const EACH: &str = "ssl_cert_autofetch_check_interval 0;";

#[test]
#[ignore = "needs nginx, the module and pebble: scripts/test.sh"]
fn servers_with_one_first_name_share_a_certificate() {
    let other = Port::reserve();
    let mut plan = Plan::server("a.test www.a.test", EACH);
    plan.servers += &server("a.test shop.test").replace("TLS", &other.addr().to_string());
    plan.servers += &server("b.test");
    let site = plan.start();
    let (a, b) = (site.wait_valid("a.test"), site.wait_valid("b.test"));
    assert_ne!(a, b);
    assert_eq!(site.stored("a.test").names(), ["a.test", "shop.test", "www.a.test"]);
    assert_eq!(site.stored("b.test").names(), ["b.test"]);
    assert_eq!(site.status()["entries"].as_array().map(Vec::len), Some(2));
    assert_eq!(site.issued(), 2);

    let trust = |port: &Port, name: &str| {
        Client::new(port.number()).sni(name).trust(site.lab.pebble.root_pem())
    };
    let get = |port: &Port, name: &str| trust(port, name).connect().expect("handshake").serial;
    let tls = &site.lab.tls_port;
    for (port, name) in [(tls, "a.test"), (tls, "www.a.test"), (&other, "shop.test")] {
        assert_eq!(get(port, name), a, "{name}");
    }
    assert_eq!(get(tls, "b.test"), b);

    // Replaced by a client of one port, served on both; the other entry keeps its own.
    site.revoke("a.test", Some(4));
    let new = get(&other, "shop.test");
    assert_ne!(new, a);
    for (port, name) in [(tls, "a.test"), (&other, "a.test"), (tls, "www.a.test")] {
        assert_eq!(get(port, name), new, "{name}");
    }
    assert_eq!((get(tls, "b.test"), site.issued()), (b, 3));
}

/// `ssl_cert_autofetch` for all servers, and one that has a certificate of its own.
#[test]
#[ignore = "needs nginx, the module and pebble: scripts/test.sh"]
fn own_certificates_are_left_alone() {
    let (ca, port) = (Identity::root("Own"), Port::reserve());
    let own = ca.issue(&Profile::server(&["own.test"]));
    let (chain, key) = (own.fullchain_pem(), own.key_pem());
    let own_server = "server_name own.test; ssl_certificate own.pem; ssl_certificate_key own.key;";
    let bare =
        |listen: &str, lines: &str| format!("server {{ listen {listen} ssl; {lines} {ANSWER} }}\n");
    let servers = [
        bare("TLS", "server_name a.test;"),
        bare("TLS", own_server),
        // Here it is the default server.
        bare(&port.addr().to_string(), own_server),
        bare(&port.addr().to_string(), "server_name b.test;"),
    ];
    let http = format!("{EACH} ssl_cert_autofetch lab;");
    let plan = Plan { http, servers: servers.concat(), ..Plan::default() };
    let site = plan.start_with(move |_, keystore| {
        let dir = keystore.parent().expect("prefix");
        fs::write(dir.join("own.pem"), chain).expect("write");
        fs::write(dir.join("own.key"), key).expect("write");
    });
    let (a, b) = (site.wait_valid("a.test"), site.wait_valid("b.test"));
    let entries = site.status()["entries"].as_array().map(Vec::len);
    assert_eq!((entries, site.issued()), (Some(2), 2));
    let client = |port: &Port, name: &str| {
        let roots = [site.lab.pebble.root_pem(), ca.cert_pem()].concat();
        Client::new(port.number()).sni(name).trust(roots)
    };
    let get = |port: &Port, name: &str| client(port, name).connect().expect("handshake").serial;
    let tls = &site.lab.tls_port;
    assert_eq!((get(tls, "a.test"), get(&port, "b.test")), (a, b.clone()));
    for port in [tls, &port] {
        assert_eq!(get(port, "own.test"), own.serial());
    }
    let nobody = client(&port, "nobody.test").expect_name("own.test").connect();
    assert_eq!(nobody.expect("handshake").serial, own.serial());
    assert!(!site.nginx.keystore().join("certs/own.test").exists());

    site.revoke("b.test", None);
    assert_ne!(get(&port, "b.test"), b);
    for port in [tls, &port] {
        assert_eq!(get(port, "own.test"), own.serial());
    }
}

/// As nginx chooses the server, so the certificate: the default server's without SNI or with one
/// that nobody has, and those of wildcard and regular expression. None of them lacks a name.
#[test]
#[ignore = "needs nginx, the module and pebble: scripts/test.sh"]
fn other_names_get_the_certificate_of_their_server() {
    let mut plan = Plan::server("first.test", EACH).ca("budget 100/7d;");
    plan.servers += &server("wild.test *.wild.test");
    plan.servers += &server("regex.test ~^r[0-9]+\\.test$");
    let site = plan.start();
    let root = site.lab.pebble.root_pem();
    let rows = [
        ("first.test", None),
        ("first.test", Some("nobody.test")),
        ("wild.test", Some("x.wild.test")),
        ("regex.test", Some("r7.test")),
    ];
    for (entry, sni) in rows {
        site.wait_valid(entry);
        let client = Client::new(site.lab.tls_port.number()).trust(&root);
        let client = match sni {
            Some(sni) => client.sni(sni),
            None => client,
        };
        for client in [client.clone().tls12(), client.tls13()] {
            let client = client.expect_name(entry);
            let old = site.stored(entry).serial();
            assert_eq!(client.connect().expect("handshake").serial, old, "{sni:?}");
            let issued = site.issued();
            site.revoke(entry, Some(1));
            let new = client.connect().expect("handshake").serial;
            assert_ne!(new, old, "{sni:?}");
            assert_eq!((new, site.issued()), (site.stored(entry).serial(), issued + 1));
        }
    }
}

/// A certificate that lacks a name is as good as none for that name, and good for the others.
#[test]
#[ignore = "needs nginx, the module and pebble: scripts/test.sh"]
fn a_new_name_waits_and_the_old_ones_do_not() {
    let mut site = Plan::server("a.test", "").start();
    let old = site.wait_valid("a.test");
    let (a, b) = (site.lab.client("a.test"), site.lab.client("b.test"));
    let misnamed = b.connect().expect_err("another name");
    assert_eq!(misnamed.chain.first().map(|c| pki::serial_hex(c)), Some(old.clone()));
    site.lab.responder.behave(Behaviour::good());
    site.lab.pebble.freeze();
    site.reload_with(|plan| plan.servers = server("a.test b.test"));
    let (new, held) = thread::scope(|scope| {
        let waiting = scope.spawn(|| b.connect().expect("handshake"));
        wait_until("a held handshake", Duration::from_secs(5), || site.counter("held") > 0);
        for _ in 0..3 {
            assert_eq!(a.connect().expect("handshake").serial, old);
        }
        let held = site.counter("held");
        assert!(!waiting.is_finished());
        site.lab.pebble.thaw();
        (waiting.join().expect("client").serial, held)
    });
    assert_ne!(new, old);
    assert_eq!((held, site.issued()), (1, 2));
    assert_eq!(a.connect().expect("handshake").serial, new);
    assert_eq!(site.stored("a.test").names(), ["a.test", "b.test"]);
    assert_eq!(site.entry("a.test")["replaced"]["reason"], "names");
}

/// Nobody asks for the new name: it is there all the same, a little later.
#[test]
#[ignore = "needs nginx, the module and pebble: scripts/test.sh"]
fn a_new_name_is_fetched_behind() {
    let mut site = Plan::server("a.test", "").start();
    let old = site.wait_valid("a.test");
    site.reload_with(|plan| plan.servers = server("b.test a.test"));
    // Another first name is another entry.
    let new = site.wait_valid("b.test");
    assert_ne!(new, old);
    assert_eq!(site.lab.client("a.test").connect().expect("handshake").serial, new);
    site.reload_with(|plan| plan.servers = server("b.test a.test c.test"));
    let third = site.wait_other("b.test", &new);
    assert_eq!(site.lab.client("c.test").connect().expect("handshake").serial, third);
    assert_eq!((site.counter("held"), site.issued()), (0, 3));
    assert_eq!(serial(&site.entry("b.test")), third);
}
