//! Tests of the test lab: that its responder, CA, nginx and clients are what the other tests take
//! them for.

mod lab;

use std::fs;
use std::time::Duration;

use lab::command::{self, openssl};
use lab::*;

#[test]
#[ignore = "needs pebble and openssl: scripts/test.sh"]
fn pebble_issues_and_revocation_shows_at_once() {
    let lab = Lab::with(Settings { always_valid: true, ..Settings::default() });
    for key in [KeyType::Ecdsa256, KeyType::Ecdsa384, KeyType::Rsa2048] {
        let id = lab.pebble.acme().issue(&["a.test", "b.test"], key, |_, _| {}).expect("issued");
        assert_eq!(lab.pebble.status(&id.serial()), Some(Status::Good));
        assert_eq!(id.chain.len(), 1);
        let urls = id.cert.ocsp_responders().expect("AIA");
        assert_eq!(urls.iter().map(|u| u.to_string()).collect::<Vec<_>>(), [lab.responder.url()]);
        let word = ask(&lab, &id, &[]);
        assert!(word.ok && word.stdout.contains(": good"), "{word:?}");

        lab.pebble.revoke(&id.cert_pem(), &id.key_pem(), Some(4)).expect("revoked");
        let status = lab.pebble.status(&id.serial());
        let Some(Status::Revoked { reason: Some(4), at }) = status else { panic!("{status:?}") };
        assert!((at - clock::now()).abs() < 60, "{at}");
        let word = ask(&lab, &id, &[]);
        assert!(word.ok && word.stdout.contains("revoked") && word.stdout.contains("superseded"));
        assert_eq!(lab.responder.queries_for(&id.serial()).len(), 2);
        let twice = lab.pebble.revoke(&id.cert_pem(), &id.key_pem(), None).unwrap_err();
        assert!(twice.contains("alreadyRevoked"), "{twice}");
    }
}

/// `openssl ocsp` about a certificate, with Pebble's root as the only trust.
fn ask(lab: &Lab, id: &Identity, more: &[&str]) -> command::Ended {
    let dir = tempfile::tempdir().expect("directory");
    let path = |name: &str| dir.path().join(name).to_str().expect("path").to_owned();
    fs::write(path("cert"), id.cert_pem()).expect("write");
    fs::write(path("issuer"), lab.pebble.intermediate_pem()).expect("write");
    fs::write(path("root"), lab.pebble.root_pem()).expect("write");
    let (cert, issuer, root, url) =
        (path("cert"), path("issuer"), path("root"), lab.responder.url());
    let mut args = vec!["ocsp", "-CAfile", &root, "-issuer", &issuer, "-url", &url];
    args.extend(more);
    args.extend(["-cert", &cert]);
    openssl(&args)
}

#[test]
#[ignore = "needs nginx: scripts/test.sh"]
fn nginx_and_clients() {
    let ca = Identity::root("Test CA");
    let ica = ca.issue(&Profile::authority("Test ICA"));
    let leaf = ica.issue(&Profile::server(&["a.test"]));
    let config = Config::new().without_module().workers(2);
    fs::write(config.dir().join("a.pem"), leaf.fullchain_pem()).expect("write");
    fs::write(config.dir().join("a.key"), leaf.key_pem()).expect("write");
    fs::write(config.dir().join("root.pem"), ca.cert_pem()).expect("write");
    let port = Port::reserve();
    let server = format!(
        "server {{ listen {} ssl; server_name a.test; ssl_early_data on;
         ssl_certificate a.pem; ssl_certificate_key a.key; return 200 hello; }}",
        port.addr()
    );
    let config = config.http(server);
    let (ok, said) = config.test();
    assert!(ok, "{said}");
    let nginx = config.start();
    let client = Client::new(port.number()).sni("a.test").trust(ca.cert_pem());
    for client in [client.clone().tls12(), client.clone().tls13()] {
        let (mut connection, text) = client.get("/").expect("handshake");
        assert!(text.ends_with("hello"), "{text}");
        assert_eq!((connection.serial.clone(), connection.resumed), (leaf.serial(), false));
        assert_eq!(connection.chain.len(), 2);
        let again = client.resume(&connection.session()).connect().expect("handshake");
        assert!(again.resumed);
    }
    nginx.reload();
    let worker = nginx.worker_pids()[0];
    nginx.kill_worker(worker);
    let root = nginx.dir().join("root.pem");
    let word = command::curl("a.test", port.number(), &root, &[]);
    assert_eq!(word.stdout, "hello", "{word:?}");
    let word = command::s_client("a.test", port.number(), &root, &[]);
    assert!(word.ok && word.stdout.contains("Verify return code: 0"), "{word:?}");
    let slow = client.clone().byte_by_byte(Duration::from_micros(100)).connect();
    slow.expect("handshake");
    let refusal = Client::new(port.number()).sni("a.test").connect().expect_err("no trust");
    assert_eq!((refusal.alert, refusal.chain.len()), (None, 2));
    let refusal = client.sigalgs("RSA+SHA256").connect().expect_err("no common algorithm");
    assert_eq!(refusal.alert, Some(40));
}
