//! What `nginx-conf/docker/compose.yaml` starts beside nginx and Pebble, all on one loopback:
//!
//! - `containers responder`: answers OCSP for what Pebble issues, till it is killed
//! - `containers show`: the main job, told live; success only if all that it tells has happened
//! - `containers revoke`: revokes the certificate in the keystore, and says its serial

#[path = "../lab/mod.rs"]
mod lab;
mod timeline;

use std::path::Path;
use std::time::{Duration, Instant};

use lab::acme::Acme;
use lab::http::Http;
use lab::*;
use timeline::{Timeline, ms};

const NAME: &str = "shop.example";
const DIRECTORY: &str = "https://localhost:14000/dir";
const MANAGEMENT: &str = "https://localhost:15000/";
const OCSP: u16 = 4002;
const TLS: u16 = 443;
const STATUS: u16 = 8079;
/// After the replacement: nobody may get the old one any more.
const FURTHER: usize = 50;

fn main() {
    let command = std::env::args().nth(1).unwrap_or_default();
    match command.as_str() {
        "responder" => responder(),
        "show" => show(),
        "revoke" => println!("{}", revoke()),
        _ => panic!("usage: containers responder | show | revoke"),
    }
}

// A restarted Pebble is another CA: then this one ends, and is started again for it.
fn responder() {
    let http = pebble();
    let (cert, key) = (managed(&http, "intermediates/0"), managed(&http, "intermediate-keys/0"));
    let issuer = Identity::from_pem(&cert, &key);
    // For clients that want to verify what they are served.
    std::fs::write("/pki/roots.pem", managed(&http, "roots/0")).expect("write /pki/roots.pem");
    let source = Source::Pebble { http: http.clone(), management: MANAGEMENT.into() };
    let responder = Responder::start(Port::fixed(OCSP), issuer, source);
    println!("OCSP responder at {}", responder.url());
    while http.get(&format!("{MANAGEMENT}intermediates/0")).is_ok_and(|a| a.body == cert) {
        std::thread::sleep(Duration::from_secs(1));
    }
    panic!("Pebble has gone");
}

fn show() {
    let mut told = Timeline::new();
    told.title("cert-autofetch: a revoked certificate is replaced during the handshake");
    told.fact("the CA", &format!("Pebble (ACME), {DIRECTORY}"));
    told.fact("nginx", &format!("of the image, {NAME} on port {TLS}, www-data's workers"));
    told.begin();
    let root = managed(&pebble(), "roots/0");
    let client = || Client::new(TLS).sni(NAME).trust(&root);
    let monitor = Monitor::at(&Port::fixed(STATUS));

    let old = monitor.wait_valid(NAME);
    told.happened("the keystore has a certificate of the CA", &old);
    let (before, page) = client().get("/").expect("a handshake before the revocation");
    assert!(before.serial == old && page.ends_with("hello\n"), "{before:?}: {page}");
    told.happened(&format!("served to a client, {}", ms(before.took)), &old);

    assert_eq!(revoke(), old, "the keystore has another one");
    let revoked_at = Instant::now();
    told.bad("revoked at the CA (keyCompromise)", &old);
    told.happened("the next client says hello, and is held", "");
    let (after, page) = client().get("/").expect("the handshake after the revocation");
    let took = revoked_at.elapsed();
    assert!(page.ends_with("hello\n"), "{page}");
    assert_ne!(after.serial, old, "the revoked certificate was served");
    told.good(
        &format!("served with the new certificate, held for {}", ms(after.took)),
        &after.serial,
    );
    for _ in 0..FURTHER {
        assert_eq!(client().connect().expect("handshake").serial, after.serial);
    }
    told.happened(&format!("{FURTHER} more clients, the old one was never sent again"), "");
    assert_eq!(monitor.entry(NAME)["replaced"]["serial"], old.as_str());

    told.line("");
    told.fact("old serial", &format!("{old}, revoked"));
    told.fact("new serial", &after.serial);
    told.fact("time", &format!("{} from the revocation to the first good handshake", ms(took)));
}

/// As the holder of the key would.
fn revoke() -> String {
    let stored = Stored::of(Path::new("/keystore"), NAME);
    let identity = Identity::from_pem(&stored.chain_pem(), &stored.key_pem());
    let http = pebble();
    Acme::new(&http, DIRECTORY).revoke(&identity, Some(1)).expect("the CA revokes");
    identity.serial()
}

/// A client of Pebble, which may be starting yet.
fn pebble() -> Http {
    let ca = std::fs::read("/pki/api-ca.pem").expect("/pki/api-ca.pem");
    let http = Http::trusting(&ca);
    wait_until("Pebble", Duration::from_secs(60), || {
        http.get(DIRECTORY).is_ok() && http.get(&format!("{MANAGEMENT}roots/0")).is_ok()
    });
    http
}

fn managed(http: &Http, path: &str) -> Vec<u8> {
    http.get(&format!("{MANAGEMENT}{path}")).expect("Pebble's management port").body
}
