//! The main job, live: nginx with the module, a CA and an OCSP responder on loopback. A certificate
//! is served, revoked at the CA, and replaced during the very next handshake.
//!
//! It ends in success only if all that it tells has happened; `scripts/demo.sh` builds and runs it.

#[path = "../lab/mod.rs"]
mod lab;
mod timeline;

use std::time::Instant;

use lab::*;
use openssl::x509::X509;
use timeline::{Timeline, ms};

const NAME: &str = "shop.example";
/// After the replacement: nobody may get the old one any more.
const FURTHER: usize = 50;

fn main() {
    let lab = Lab::start();
    let config = Config::new();
    let keystore = config.keystore();
    let mut told = Timeline::new();
    told.title("cert-autofetch: a revoked certificate is replaced during the handshake");
    told.fact("the CA", &format!("Pebble (ACME) at {}", lab.pebble.directory_url()));
    told.fact("OCSP", &format!("a responder at {}", lab.responder.url()));
    told.fact("nginx", &format!("{}, {NAME} at 127.0.0.1:{}", version(), lab.tls_port));
    told.fact("keystore", &format!("{}, empty", keystore.display()));
    told.lines("its configuration", SERVER);

    told.begin();
    let body = format!(
        "ssl_cert_autofetch_keystore {};\n{}\
         server {{ listen {} ssl; {SERVER} return 200 \"hello\\n\"; }}\n\
         server {{ listen {}; {LOCATIONS} }}",
        keystore.display(),
        lab.ca_block("lab", ""),
        lab.tls_port.addr(),
        lab.http_port.addr(),
    );
    let nginx = config.http(body).start();
    told.happened("nginx runs; nobody has asked for a certificate", "");
    let monitor = Monitor::at(&lab.http_port);
    let old = monitor.wait_valid(NAME);
    told.happened("first certificate issued, http-01 answered by nginx", &old);
    assert!(nginx.log_lines("issued serial=").iter().any(|l| l.contains(&old)));

    let client = lab.client(NAME);
    let (before, page) = client.get("/").expect("a handshake before the revocation");
    assert!(before.serial == old && page.ends_with("hello\n"), "{before:?}: {page}");
    told.happened(&format!("served to a client, {}", ms(before.took)), &old);
    let session = client.tls13().connect().expect("handshake").session();

    let stored = Stored::of(&keystore, NAME);
    let revocation = lab.pebble.revoke(&stored.chain_pem(), &stored.key_pem(), Some(1));
    revocation.expect("the CA revokes");
    let revoked_at = Instant::now();
    told.bad("revoked at the CA (keyCompromise)", &old);
    lab.responder.forget_queries();

    told.happened("the next client says hello, and is held", "");
    let (after, page) = lab.client(NAME).get("/").expect("the handshake after the revocation");
    let took = revoked_at.elapsed();
    answers(&mut told, &lab.responder, &old, &after.serial);
    assert!(page.ends_with("hello\n"), "{page}");
    assert_ne!(after.serial, old, "the revoked certificate was served");
    assert!(public_key(&before) != public_key(&after), "the key was used again");
    told.good(
        &format!("served with the new certificate, held for {}", ms(after.took)),
        &after.serial,
    );
    let new = after.serial;

    let again = lab.client(NAME).tls13().resume(&session).connect().expect("handshake");
    assert!(!again.resumed && again.serial == new, "{again:?}");
    told.happened("a session of before is not resumed", "");
    for _ in 0..FURTHER {
        assert_eq!(lab.client(NAME).connect().expect("handshake").serial, new);
    }
    told.happened(&format!("{FURTHER} more clients, the old one was never sent again"), "");
    check_with_curl(&lab, &nginx);
    told.happened("curl, which trusts only the CA, agrees", "");
    let replaced = monitor.entry(NAME)["replaced"].clone();
    assert_eq!(
        (&replaced["serial"], &replaced["reason"]),
        (&old.as_str().into(), &"keyCompromise".into())
    );
    nginx.check_log();

    told.log(&nginx.log_lines("ssl_cert_autofetch: "));
    told.line("");
    told.fact("old serial", &format!("{old}, revoked"));
    told.fact("new serial", &new);
    told.fact("time", &format!("{} from the revocation to the first good handshake", ms(took)));
}

/// What the administrator writes into the server.
const SERVER: &str = "\
server_name shop.example www.shop.example;
ssl_cert_autofetch lab;
ssl_cert_autofetch_check_interval 0;    # ask at each handshake: a demo can't wait an hour
";

/// What the responder was asked while the client waited.
fn answers(told: &mut Timeline, responder: &Responder, old: &str, new: &str) {
    let queries = responder.queries();
    for query in &queries {
        let serial = query.serials.first().cloned().unwrap_or_default();
        let says = if query.answer.starts_with("Revoked") { "revoked" } else { "good" };
        told.happened_at(
            query.at,
            &format!("  nginx asks the OCSP responder, which says {says}"),
            &serial,
        );
    }
    let asked: Vec<_> = queries.iter().flat_map(|q| q.serials.clone()).collect();
    assert_eq!(asked, [old, new], "each certificate is asked about once");
}

fn check_with_curl(lab: &Lab, nginx: &Nginx) {
    let roots = nginx.dir().join("root.pem");
    std::fs::write(&roots, lab.pebble.root_pem()).expect("write");
    let word = lab::command::curl(NAME, lab.tls_port.number(), &roots, &[]);
    assert!(word.ok && word.stdout == "hello\n", "{word:?}");
}

fn public_key(connection: &Connection) -> Vec<u8> {
    let leaf: &X509 = connection.chain.first().expect("a certificate");
    leaf.public_key().and_then(|k| k.public_key_to_der()).expect("a public key")
}

fn version() -> String {
    let mut nginx =
        std::process::Command::new(std::env::var("NGINX_BIN").unwrap_or_else(|_| "nginx".into()));
    nginx.arg("-v");
    let said = lab::command::run(nginx).stderr;
    said.trim().trim_start_matches("nginx version: ").into()
}
