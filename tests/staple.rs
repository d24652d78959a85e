//! Stapling: a good answer about the very certificate that is served, from the first handshake
//! on, and never anything else. Seen with clients that insist on it.

mod lab;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use lab::command::{Ended, curl, run, s_client};
use lab::site::server;
use lab::*;
use openssl::hash::MessageDigest;
use openssl::ocsp::{OcspCertId, OcspCertStatus, OcspResponse};

const WITHIN: Duration = Duration::from_secs(30);

/// Both key types, both versions of TLS, each client; of each entry the first handshake ever waits
/// for the certificate itself.
#[test]
#[ignore = "needs nginx, the module, pebble and gnutls-cli: scripts/test.sh"]
fn clients_that_insist_see_a_staple_from_the_first_handshake_on() {
    let rsa = "ssl_cert_autofetch lab; ssl_cert_autofetch_key rsa:2048;";
    let servers = ["curl", "s-client", "gnutls"].map(|c| {
        let ec = server(&format!("{c}-ec.test"));
        ec + &server(&format!("{c}-rsa.test")).replace("ssl_cert_autofetch lab;", rsa)
    });
    let servers = servers.concat();
    let site = Plan { servers, ..Plan::default() }.ca("challenge tls-alpn-01;").start();
    let seen = Seen::of(&site);
    for (key, versions) in [("ec", ["1.2", "1.3"]), ("rsa", ["1.3", "1.2"])] {
        for version in versions {
            seen.by_curl(&format!("curl-{key}.test"), version);
            seen.by_s_client(&format!("s-client-{key}.test"), version);
            let ended = seen.gnutls(&format!("gnutls-{key}.test"), version);
            assert!(ended.ok && ended.stdout.contains("OCSP status request"), "{ended:#?}");
        }
    }
    for version in [Client::tls12, Client::tls13] {
        let client = version(site.lab.client("curl-ec.test"));
        let mut first = client.connect().expect("handshake");
        check(&first);
        let session = first.session();
        let second = client.resume(&session).connect().expect("handshake");
        assert!(second.resumed && second.serial == first.serial);
    }
    site.nginx.check_log();
}

/// A restart finds the answer in the keystore.
#[test]
#[ignore = "needs nginx, the module and pebble: scripts/test.sh"]
fn a_restart_without_network_staples_at_once() {
    const THREADS: usize = 4;
    const EACH: usize = 250;
    let site = Plan::server("a.test", "ssl_cert_autofetch_check hard;").workers(2).start();
    let stored = site.wait_valid("a.test");
    site.lab.client("a.test").connect().expect("handshake");
    site.lab.responder.down();
    site.lab.responder.forget_queries();
    let site = site.restart(Nginx::stop, |_| {});
    thread::scope(|scope| {
        for i in 0..THREADS {
            let client = site.lab.client("a.test");
            let client = if i % 2 == 0 { client.tls12() } else { client.tls13() };
            let stored = &stored;
            scope.spawn(move || {
                for _ in 0..EACH {
                    let connection = client.connect().expect("handshake");
                    assert_eq!(connection.serial, *stored);
                    check(&connection);
                }
            });
        }
    });
    assert_eq!(site.counter("handshakes"), (THREADS * EACH) as u64);
    assert_eq!((site.counter("refused"), site.counter("ocsp_queries")), (0, 0));
}

/// Clients that insist notice nothing of it.
#[test]
#[ignore = "needs nginx, the module and pebble: scripts/test.sh"]
fn a_revocation_and_its_replacement_are_stapled_throughout() {
    let site = Plan::server("a.test", "ssl_cert_autofetch_check_interval 0;").workers(2).start();
    let old = site.wait_valid("a.test");
    let seen = Seen::of(&site);
    let over = AtomicBool::new(false);
    let new = thread::scope(|scope| {
        for version in ["1.2", "1.3"] {
            let (seen, over) = (&seen, &over);
            scope.spawn(move || {
                let mut after = 0;
                while after < 10 {
                    let counts = over.load(Ordering::SeqCst);
                    seen.by_curl("a.test", version);
                    after += usize::from(counts);
                }
            });
        }
        let _ends = Raise(&over);
        let client = site.lab.client("a.test");
        for _ in 0..5 {
            let connection = client.connect().expect("handshake");
            assert_eq!(connection.serial, old);
            check(&connection);
        }
        site.revoke("a.test", Some(1));
        // The first ones may share a query that was under way before.
        wait_for("the replacement", WITHIN, || {
            let connection = client.connect().expect("handshake");
            check(&connection);
            Some(connection.serial).filter(|serial| *serial != old)
        })
    });
    for version in [Client::tls12, Client::tls13] {
        let connection = version(site.lab.client("a.test")).connect().expect("handshake");
        assert_eq!(connection.serial, new);
        check(&connection);
    }
    assert_eq!(site.issued(), 2);
}

/// Not a moment longer than it says, by the server's own clock.
#[test]
#[ignore = "needs nginx, the module and pebble: scripts/test.sh"]
fn an_expired_staple_is_not_sent() {
    let servers = server("a.test");
    let http = "ssl_cert_autofetch_timeout 1s;".to_owned();
    let site = Plan { servers, http, ..Plan::default() }.start();
    let stored = site.wait_valid("a.test");
    let client = site.lab.client("a.test");
    check(&client.connect().expect("handshake"));
    // Only a newer one takes the place of the answer of before, which had an hour.
    let mut short = Behaviour { next_update: Some(12), ..Behaviour::default() };
    short.this_update = 1;
    site.lab.responder.behave(short);
    let site = site.restart(Nginx::stop, |p| p.http += " ssl_cert_autofetch_check_interval 2s;");
    site.lab.responder.wait_queries(&stored, 2, WITHIN);
    site.lab.responder.down();
    let mut some = 0;
    wait_until("a handshake without a staple", WITHIN, || {
        let before = Instant::now();
        let connection = client.connect().expect("soft serves");
        assert_eq!(connection.serial, stored);
        let is_stapled = connection.staple.is_some();
        if is_stapled {
            check_from(&connection, before);
            some += 1;
        }
        !is_stapled
    });
    assert!(some > 0);
    site.lab.responder.behave_well();
    site.lab.responder.up();
    wait_until("a staple again", WITHIN, || {
        let connection = client.connect().expect("soft serves");
        connection.staple.is_some().then(|| check(&connection)).is_some()
    });
}

/// Another program puts a certificate there; the answer about the one before is worth nothing.
#[test]
#[ignore = "needs nginx, the module and pebble: scripts/test.sh"]
fn another_certificates_staple_is_never_sent() {
    let http = "ssl_cert_autofetch_check_interval 1s;";
    let site = Plan::server("a.test", http).workers(2).start();
    let old = site.wait_valid("a.test");
    let client = site.lab.client("a.test");
    let connection = client.connect().expect("handshake");
    assert_eq!(connection.serial, old);
    check(&connection);

    // Pebble does not know it, so that the responder won't say anything about it.
    let mut profile = Profile::server(&["a.test"]);
    profile.ocsp_url = Some(site.lab.responder.url());
    let mut other = site.lab.pebble.issuer().issue(&profile);
    other.chain = vec![site.lab.pebble.issuer().cert];
    let stored = site.stored("a.test");
    stored.announce(stored.put_identity(&other));
    wait_until("the other certificate", WITHIN, || {
        let connection = client.connect().expect("soft serves");
        if connection.serial == old {
            check(&connection);
            return false;
        }
        assert_eq!(connection.staple, None);
        true
    });
    for _ in 0..20 {
        let connection = client.connect().expect("soft serves");
        assert_eq!((connection.serial, connection.staple), (other.serial(), None));
    }
    let site = site.restart(Nginx::stop, |_| {});
    let connection = client.connect().expect("soft serves");
    assert_eq!((connection.serial, connection.staple), (other.serial(), None));

    site.lab.responder.set_status(&other.serial(), Status::Good);
    wait_until("a staple of its own", WITHIN, || {
        let connection = client.connect().expect("handshake");
        connection.staple.is_some().then(|| check(&connection)).is_some()
    });
}

/// Some clients read the first of several answers only, and end the handshake if that is about
/// another certificate: they get none.
#[test]
#[ignore = "needs nginx, the module, pebble and gnutls-cli: scripts/test.sh"]
fn an_answer_that_begins_with_another_is_not_stapled() {
    let others = vec![("1234".to_owned(), Status::Good)];
    let site = Plan::server("a.test", "ssl_cert_autofetch_check hard;").start_with(|lab, _| {
        lab.responder.behave(Behaviour { others, ..Behaviour::default() });
    });
    let serial = site.wait_valid("a.test");
    let seen = Seen::of(&site);
    for (version, client) in
        [("1.2", Client::tls12 as fn(Client) -> Client), ("1.3", Client::tls13)]
    {
        let ended = seen.gnutls("a.test", version);
        assert!(ended.ok, "{ended:#?}");
        let connection = client(site.lab.client("a.test")).connect().expect("handshake");
        assert_eq!((connection.serial, connection.staple), (serial.clone(), None));
    }
}

/// Each server for itself, also where the listen's default server is another.
#[test]
#[ignore = "needs nginx, the module and pebble: scripts/test.sh"]
fn off_is_off() {
    let off = "ssl_cert_autofetch lab; ssl_cert_autofetch_stapling off;";
    let servers = server("off.test").replace("ssl_cert_autofetch lab;", off) + &server("on.test");
    let site = Plan { servers, ..Plan::default() }.start();
    for version in [Client::tls12, Client::tls13] {
        let connection = version(site.lab.client("off.test")).connect().expect("handshake");
        assert_eq!(connection.staple, None);
        check(&version(site.lab.client("on.test")).connect().expect("handshake"));
    }
}

/// nginx's own stapling, where it is asked for all the same.
#[test]
#[ignore = "needs nginx, the module and pebble: scripts/test.sh"]
fn nginxs_own_stapling_gives_way() {
    let site = Plan::server("a.test", "ssl_stapling on; ssl_stapling_verify on;").start();
    site.wait_valid("a.test");
    check(&site.lab.client("a.test").connect().expect("handshake"));
    let lines = site.nginx.log_lines("ssl_stapling");
    assert!(lines.len() <= 1, "{lines:#?}");
}

/// A CA that keeps the extension, and clients that act on it.
#[test]
#[ignore = "needs nginx, the module and gnutls-cli: scripts/test.sh"]
fn must_staple_is_asked_for_and_kept() {
    let (liar, tls, status) = (Liar::start(), Port::reserve(), Port::reserve());
    let config = Config::new();
    let server = |name: &str, lines: &str| {
        format!("server {{ listen {} ssl; server_name {name}; {lines} }}\n", tls.addr())
    };
    let must = "ssl_cert_autofetch_must_staple on;";
    let off = "ssl_cert_autofetch_stapling off;";
    let body = format!(
        "ssl_cert_autofetch_keystore {};\n{}ssl_cert_autofetch liar;\n\
         ssl_cert_autofetch_check_interval 0;\n{}{}{}server {{ listen {}; {LOCATIONS} }}",
        config.keystore().display(),
        liar.ca_block("liar", "timeout 2s;"),
        server("must.test", must),
        server("may.test", ""),
        server("never.test", &format!("{must} {off}")),
        status.addr()
    );
    let nginx = config.http(body).start();
    let roots = nginx.dir().join("root.pem");
    fs::write(&roots, liar.root_pem()).expect("write");
    let seen = Seen { port: tls.number(), roots };

    for (name, is_must, accepted) in
        [("must.test", true, true), ("may.test", false, true), ("never.test", true, false)]
    {
        for version in ["1.2", "1.3"] {
            let ended = seen.gnutls(name, version);
            assert_eq!(ended.ok, accepted, "{name} {version}: {ended:#?}");
        }
        let leaf = Stored::of(&nginx.keystore(), name).leaf().to_der().expect("DER");
        assert_eq!(has_feature(&leaf), is_must, "{name}");
    }

    // Each handshake from the first one of the new certificate on.
    let monitor = Monitor::at(&status);
    let old = monitor.serial("must.test").expect("a certificate");
    let revoked = Status::Revoked { reason: Some(1), at: clock::now() };
    liar.responder.set_status(&old, revoked);
    for version in ["1.2", "1.3", "1.2", "1.3"] {
        let ended = seen.gnutls("must.test", version);
        assert!(ended.ok, "{ended:#?}");
    }
    assert_ne!(monitor.serial("must.test"), Some(old));
    nginx.check_log();
}

/// Pebble leaves the extension out, as Let's Encrypt does: that is no reason to ask again.
#[test]
#[ignore = "needs nginx, the module and pebble: scripts/test.sh"]
fn a_ca_may_refuse_must_staple() {
    let site = Plan::server("a.test", "ssl_cert_autofetch_must_staple on;").start();
    let serial = site.wait_valid("a.test");
    let leaf = site.stored("a.test").leaf();
    assert!(!has_feature(&leaf.to_der().expect("DER")), "this Pebble keeps it");
    let connection = site.lab.client("a.test").connect().expect("handshake");
    assert_eq!((&connection.serial, site.issued()), (&serial, 1));
    check(&connection);
    let lines = site.lines("a.test");
    let told = lines.iter().filter(|l| l.starts_with("[notice]") && l.contains("must_staple"));
    assert_eq!(told.count(), 1, "{lines:#?}");
}

/// Sets it in the end, also when the test fails: threads wait for that.
struct Raise<'a>(&'a AtomicBool);

impl Drop for Raise<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// What clients of one port see.
struct Seen {
    port: u16,
    roots: PathBuf,
}

impl Seen {
    fn of(site: &Site) -> Seen {
        let roots = site.nginx.dir().join("root.pem");
        fs::write(&roots, site.lab.pebble.root_pem()).expect("write");
        Seen { port: site.lab.tls_port.number(), roots }
    }

    fn by_curl(&self, name: &str, version: &str) {
        let only = format!("--tlsv{version}");
        let ended =
            curl(name, self.port, &self.roots, &["--cert-status", &only, "--tls-max", version]);
        assert!(ended.ok, "{name} {version}: {ended:#?}");
    }

    fn by_s_client(&self, name: &str, version: &str) {
        let only = format!("-tls{}", version.replace('.', "_"));
        let ended = s_client(name, self.port, &self.roots, &[&only]);
        for said in ["OCSP Response Status: successful", "Cert Status: good"] {
            assert!(ended.ok && ended.stdout.contains(said), "{name} {version}: {ended:#?}");
        }
    }

    /// Refuses a must-staple certificate without a staple.
    fn gnutls(&self, name: &str, version: &str) -> Ended {
        gnutls(name, self.port, &self.roots, version)
    }
}

fn gnutls(name: &str, port: u16, roots: &Path, version: &str) -> Ended {
    let mut command = Command::new("gnutls-cli");
    command.args(["--sni-hostname", name, "--verify-hostname", name, "--x509cafile"]).arg(roots);
    command.args(["--priority", &format!("NORMAL:-VERS-ALL:+VERS-TLS{version}")]);
    command.args(["--port", &port.to_string(), "127.0.0.1"]);
    run(command)
}

/// That there is a staple, good by the client's clock, and about the leaf.
fn check(connection: &Connection) {
    check_from(connection, Instant::now());
}

/// The same, when the handshake began then: on a busy machine it may have taken a while.
fn check_from(connection: &Connection, begun: Instant) {
    let staple = connection.staple.as_deref().expect("a staple");
    let basic = OcspResponse::from_der(staple).and_then(|r| r.basic()).expect("an OCSP response");
    let [leaf, issuer, ..] = &connection.chain[..] else { panic!("no issuer in the chain") };
    let id = OcspCertId::from_cert(MessageDigest::sha1(), leaf, issuer).expect("CertID");
    let found = basic.find_status(&id).expect("an answer about the leaf");
    assert_eq!(found.status, OcspCertStatus::GOOD);
    // Two seconds for the way from there to here.
    let late = u32::try_from(begun.elapsed().as_secs()).expect("seconds");
    found.check_validity(2 + late, None).expect("current");
}

/// TLS feature status_request: RFC 7633.
fn has_feature(der: &[u8]) -> bool {
    const EXTENSION: &[u8] = b"\x2b\x06\x01\x05\x05\x07\x01\x18\x04\x05\x30\x03\x02\x01\x05";
    der.windows(EXTENSION.len()).any(|w| w == EXTENSION)
}
