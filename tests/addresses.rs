//! IP addresses as names (RFC 8738): certificates for clients that have no name to ask for.

mod lab;

use std::net::{Ipv6Addr, TcpListener};
use std::time::Duration;

use lab::*;

const EACH: &str = "ssl_cert_autofetch_check_interval 0;";
const WITHIN: Duration = Duration::from_secs(30);

/// The CA comes to the address itself, by each challenge that there is for it; the client sends no
/// SNI and wants the address in the certificate.
#[test]
#[ignore = "needs nginx, the module and pebble: scripts/test.sh"]
fn an_address_is_proven_and_served() {
    for challenge in ["http-01", "tls-alpn-01"] {
        let plan = Plan::server("127.0.0.1 a.test", EACH);
        let site = plan.ca(&format!("challenge {challenge};")).start();
        let old = site.wait_valid("127.0.0.1");
        assert_eq!(site.stored("127.0.0.1").names(), ["127.0.0.1", "a.test"], "{challenge}");
        let by_address = Client::new(site.lab.tls_port.number()).expect_name("127.0.0.1");
        let by_address = by_address.trust(site.lab.pebble.root_pem());
        assert_eq!(by_address.connect().expect("handshake").serial, old);
        assert_eq!(site.lab.client("a.test").connect().expect("handshake").serial, old);
        site.revoke("127.0.0.1", Some(1));
        let new = by_address.connect().expect("handshake").serial;
        assert_ne!(new, old, "{challenge}");
        assert_eq!(new, site.stored("127.0.0.1").serial());
        site.nginx.check_log();
    }
}

/// As nginx wants an IPv6 address written: in brackets. Its entry has none.
#[test]
#[ignore = "needs nginx, the module and pebble: scripts/test.sh"]
fn an_address_of_the_other_family_is_proven_too() {
    if TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_err() {
        eprintln!("skipped: this machine has no IPv6");
        return;
    }
    for challenge in ["http-01", "tls-alpn-01"] {
        let (lab, config, status) = (Lab::start(), Config::new(), Port::reserve());
        let (http, tls) = (lab.http_port.number(), lab.tls_port.number());
        let body = format!(
            "ssl_cert_autofetch_keystore {}; {}
             ssl_cert_autofetch lab;
             server {{
                 listen [::1]:{http}; listen 127.0.0.1:{http};
                 listen [::1]:{tls} ssl; listen 127.0.0.1:{tls} ssl;
                 server_name \"[::1]\" a.test; return 200;
             }}
             server {{ listen {}; {LOCATIONS} }}",
            config.keystore().display(),
            lab.ca_block("lab", &format!("challenge {challenge};")),
            status.addr(),
        );
        let nginx = config.http(body).start();
        let monitor = Monitor::at(&status);
        let serial = monitor.wait_valid("::1");
        assert_eq!(Stored::of(&nginx.keystore(), "::1").names(), ["::1", "a.test"]);
        assert_eq!(monitor.entry("::1")["server_names"], serde_json::json!(["::1", "a.test"]));
        let client = Client::new(tls).expect_name("::1").trust(lab.pebble.root_pem());
        assert_eq!(client.connect().expect("handshake").serial, serial, "{challenge}");
    }
}

#[test]
#[ignore = "needs nginx, the module and OpenBao: scripts/test.sh"]
fn openbao_issues_for_every_kind_of_name() {
    let bao = OpenBao::start();
    let ca = format!(
        "protocol vault; url {}; role server; token_file {};",
        bao.mount(),
        bao.token_file().display()
    );
    issues_for_every_kind_of_name(&ca, bao.root_pem());
}

#[test]
#[ignore = "needs nginx, the module and cfssl: scripts/test.sh"]
fn cfssl_issues_for_every_kind_of_name() {
    let cfssl = Cfssl::start();
    let (server, _responder) = (cfssl.serve(), cfssl.respond());
    let ca = format!("protocol cfssl; url {};", server.url);
    issues_for_every_kind_of_name(&ca, &cfssl.root_pem());
}

/// They are in the CSR that it gets, and the first in its environment.
#[test]
#[ignore = "needs nginx, the module and openssl: scripts/test.sh"]
fn a_program_issues_for_every_kind_of_name() {
    let (root, ca) = OpensslCa::with_root();
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/nginx-conf/openssl-ca.sh");
    let ca = format!("protocol command; command {example} {};", ca.arguments());
    issues_for_every_kind_of_name(&ca, &root.cert_pem());
}

/// By a CA that believes us; what it issues is what was asked for, also where addresses have a place
/// of their own.
fn issues_for_every_kind_of_name(ca: &str, root: &[u8]) {
    let config = Config::new();
    let (tls, status) = (Port::reserve(), Port::reserve());
    let server =
        |names: &str| format!("server {{ listen {} ssl; server_name {names}; }}", tls.addr());
    let body = format!(
        "ssl_cert_autofetch_keystore {};
         ssl_cert_autofetch_ca corp {{ {ca} }}
         ssl_cert_autofetch corp;
         {} {}
         server {{ listen {}; {LOCATIONS} }}",
        config.keystore().display(),
        server("192.0.2.1 [2001:db8::1]"),
        server("www.a.test .a.test 192.0.2.2"),
        status.addr(),
    );
    let monitor = Monitor::at(&status);
    let nginx = config.http(body).start();
    for (entry, names) in [
        ("192.0.2.1", &["192.0.2.1", "2001:db8::1"][..]),
        ("www.a.test", &["*.a.test", "192.0.2.2", "a.test"]),
    ] {
        monitor.wait_valid(entry);
        assert_eq!(Stored::of(&nginx.keystore(), entry).names(), names);
    }
    let client = |name: &str| Client::new(tls.number()).sni(name).trust(root);
    for name in ["a.test", "www.a.test", "any.a.test"] {
        client(name).connect().expect("handshake");
    }
}

#[test]
#[ignore = "needs nginx, the module and pebble: scripts/test.sh"]
fn an_address_of_nobody_fails_with_a_line() {
    // Only 127.0.0.1 listens.
    let site = Plan::server("127.0.0.2", EACH).start();
    let line = site.nginx.wait_log("ISSUE failed: \"lab\": ", WITHIN);
    assert!(line.contains("\"127.0.0.2\"") && line.contains("next attempt in"), "{line}");
}
