//! Tests of the test lab: that its processes, CA, nginx and clients are what the other tests take
//! them for.

mod lab;

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use lab::command::{curl, s_client};
use lab::der;
use lab::process::Process;
use lab::*;

#[test]
fn ports_are_taken_once() {
    let ports: Vec<_> = (0..50).map(|_| Port::reserve()).collect();
    let numbers: BTreeSet<_> = ports.iter().map(Port::number).collect();
    assert_eq!(numbers.len(), 50);
}

#[test]
fn der_is_written_as_x690_says() {
    assert_eq!(der::oid("1.3.6.1.5.5.7.48.1.1"), b"\x06\x09\x2b\x06\x01\x05\x05\x07\x30\x01\x01");
    assert_eq!(der::oid("1.2.840.113549"), b"\x06\x06\x2a\x86\x48\x86\xf7\x0d");
    assert_eq!(der::integer(&[0, 0x80]), b"\x02\x02\x00\x80");
    assert_eq!(der::integer(&[]), b"\x02\x01\x00");
    assert_eq!(der::octets(&[7; 200])[..3], [0x04, 0x81, 200]);
    assert_eq!(der::octets(&[7; 300])[..4], [0x04, 0x82, 1, 44]);
    assert_eq!(der::time(0), b"\x18\x0f19700101000000Z");
    assert_eq!(der::utc_time(0), b"\x17\x0d700101000000Z");
    let long = der::sequence(&[der::octets(&[7; 300])]);
    let inner = |bytes| der::Reader(bytes).next().and_then(|e| e.children().next());
    assert_eq!(inner(&long).map(|e| e.content.len()), Some(300));
    assert!(inner(&long[..100]).is_none());
}

#[test]
fn processes_end_with_their_guard() {
    let dir = tempfile::tempdir().expect("directory");
    let mut command = Command::new("sh");
    // A child that ignores SIGTERM, and a grandchild.
    command.args(["-c", "trap '' TERM; sleep 600 & echo $!; wait; sleep 600"]);
    let process = Process::start(command, &dir.path().join("log"));
    let grandchild =
        wait_for("a grandchild", Duration::from_secs(5), || process.log().trim().parse().ok());
    let pids = [process.pid(), grandchild];
    assert!(pids.iter().all(|p| process::lives(*p)));
    drop(process);
    wait_until("their end", Duration::from_secs(5), || !pids.iter().any(|p| process::lives(*p)));
}

/// The other half of the next test, in a process of its own.
#[test]
fn start_a_process_and_abort() {
    let Ok(file) = std::env::var("LAB_ABORT") else { return };
    let mut command = Command::new("sleep");
    command.arg("600");
    let process = Process::start(command, file.as_ref());
    fs::write(&file, process.pid().to_string()).expect("write");
    std::process::abort();
}

#[test]
fn processes_end_with_an_aborted_test() {
    let dir = tempfile::tempdir().expect("directory");
    let file = dir.path().join("pid");
    let mut command = Command::new(std::env::current_exe().expect("path"));
    command.args(["--exact", "start_a_process_and_abort"]).env("LAB_ABORT", &file);
    assert!(!lab::command::run(command).ok);
    let pid = fs::read_to_string(file).expect("pid").parse().expect("pid");
    wait_until("its end", Duration::from_secs(5), || !process::lives(pid));
}

#[test]
#[ignore = "needs pebble and openssl: scripts/test.sh"]
fn revocation_in_pebble_shows_at_once() {
    let lab = Lab::with(Settings { always_valid: true, nonce_reject: 30, ..Settings::default() });
    let (acme, dir) = (lab.pebble.acme(), tempfile::tempdir().expect("directory"));
    let path = |name: &str| dir.path().join(name).to_str().expect("path").to_owned();
    fs::write(path("issuer"), lab.pebble.intermediate_pem()).expect("write");
    fs::write(path("root"), lab.pebble.root_pem()).expect("write");
    for key in [KeyType::Ecdsa256, KeyType::Ecdsa384, KeyType::Rsa2048] {
        let id = acme.issue(&["a.test", "b.test"], key, |_, _| {}).expect("issued");
        let serial = id.serial();
        fs::write(path("cert"), id.cert_pem()).expect("write");
        let url = lab.responder.url();
        let ask = || {
            let files =
                ["-CAfile", &path("root"), "-issuer", &path("issuer"), "-cert", &path("cert")];
            lab::command::openssl(&[&["ocsp", "-url", &url], &files[..]].concat())
        };
        assert_eq!(id.chain.len(), 1);
        assert_eq!(id.cert.ocsp_responders().expect("AIA").get(0).map(|u| &**u), Some(&*url));
        assert_eq!(lab.pebble.status(&serial), Some(Status::Good));
        let word = ask();
        assert!(word.stdout.contains(": good") && word.stderr.contains("verify OK"), "{word:?}");

        lab.pebble.revoke(&id.cert_pem(), &id.key_pem(), Some(4)).expect("revoked");
        let status = lab.pebble.status(&serial);
        let Some(Status::Revoked { reason: Some(4), at }) = status else { panic!("{status:?}") };
        assert!((at - clock::now()).abs() < 60, "{at}");
        let word = ask();
        assert!(word.stdout.contains("revoked") && word.stdout.contains("superseded"), "{word:?}");
        assert_eq!(lab.responder.queries_for(&serial).len(), 2);
        let twice = lab.pebble.revoke(&id.cert_pem(), &id.key_pem(), None).unwrap_err();
        assert!(twice.contains("alreadyRevoked"), "{twice}");
    }
    assert_eq!(lab.pebble.status("1234"), None);
    let nobodys = lab.responder.answer_about("1234", &Behaviour::default());
    assert_eq!(nobodys, lab::ocsp::bare(ResultCode::Unauthorized as u8));
}

#[test]
#[ignore = "needs pebble: scripts/test.sh"]
fn pebble_can_refuse_and_freeze() {
    let blocked = vec!["blocked.test".into()];
    let settings = Settings { always_valid: true, validity: 900, blocked, ..Settings::default() };
    let pebble = Pebble::start(&settings);
    let refused = pebble.acme().issue(&["blocked.test"], KeyType::Ecdsa256, |_, _| {});
    assert!(refused.expect_err("blocked").contains("rejectedIdentifier"));
    let id = pebble.acme().issue(&["a.test"], KeyType::Ecdsa256, |_, _| {}).expect("issued");
    let life = id.cert.not_before().diff(id.cert.not_after()).expect("difference");
    assert!((life.days, (890..=910).contains(&life.secs)) == (0, true), "{life:?}");
    pebble.freeze();
    let answer = std::thread::scope(|scope| {
        let call = scope.spawn(|| pebble.http().get(&pebble.directory_url()));
        let other = pebble.http().get_within(&pebble.directory_url(), Duration::from_millis(200));
        assert!(matches!(other, Err(ureq::Error::Timeout(_))), "{other:?}");
        assert!(!call.is_finished());
        pebble.thaw();
        call.join().expect("thread")
    });
    assert_eq!(answer.expect("answer").status, 200);

    let binding = Some((
        "kid-1".into(),
        "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W".into(),
    ));
    let pebble = Pebble::start(&Settings { external_account: binding, ..settings });
    let refused = pebble.acme().issue(&["a.test"], KeyType::Ecdsa256, |_, _| {});
    assert!(refused.expect_err("no binding").contains("externalAccountRequired"));
}

/// Pebble's validation reaches nginx by name.
#[test]
#[ignore = "needs pebble and nginx: scripts/test.sh"]
fn http01_by_hand() {
    let lab = Lab::start();
    let config = Config::new().without_module().http(format!(
        "server {{ listen {}; location /.well-known/acme-challenge/ {{ alias {}/; }} }}",
        lab.http_port.addr(),
        "challenges"
    ));
    let tokens = config.dir().join("challenges");
    fs::create_dir(&tokens).expect("directory");
    let _nginx = config.start();
    let prepare =
        |token: &str, content: &str| fs::write(tokens.join(token), content).expect("write");
    let id = lab.pebble.acme().issue(&["a.test", "b.test"], KeyType::Ecdsa256, prepare);
    assert_eq!(id.expect("issued").cert.subject_alt_names().map(|n| n.len()), Some(2));
    let failed = lab.pebble.acme().issue(&["c.test"], KeyType::Ecdsa256, |_, _| {});
    assert!(failed.expect_err("no token").contains("unauthorized"));
}

/// A plain nginx with an RSA and an ECDSA certificate, a stapled answer, and a server that refuses.
struct Site {
    ca: Identity,
    leaf: Identity,
    rsa: Identity,
    nginx: Nginx,
    port: Port,
}

impl Site {
    fn start() -> Site {
        let ca = Identity::root("Site CA");
        let ica = ca.issue(&Profile::authority("Site ICA"));
        let profile = Profile::server(&["a.test"]);
        let leaf = ica.issue(&profile);
        let rsa = ica.issue(&Profile { key: KeyType::Rsa2048, ..profile });
        let responder = Responder::start(Port::reserve(), ica, Source::Own);
        let staple = responder.answer_about(&leaf.serial(), &Behaviour::good());
        let config = Config::new().without_module().workers(2);
        for (name, content) in [
            ("root.pem", ca.cert_pem()),
            ("ecdsa.pem", leaf.fullchain_pem()),
            ("ecdsa.key", leaf.key_pem()),
            ("rsa.pem", rsa.fullchain_pem()),
            ("rsa.key", rsa.key_pem()),
            ("staple.der", staple),
        ] {
            fs::write(config.dir().join(name), content).expect("write");
        }
        let port = Port::reserve();
        let nginx = config.http(SITE.replace("ADDRESS", &port.addr().to_string())).start();
        Site { ca, leaf, rsa, nginx, port }
    }

    fn client(&self) -> Client {
        Client::new(self.port.number()).sni("a.test").trust(self.ca.cert_pem())
    }
}

const SITE: &str = "
ssl_certificate ecdsa.pem; ssl_certificate_key ecdsa.key;
ssl_certificate rsa.pem; ssl_certificate_key rsa.key;
ssl_early_data on; ssl_session_cache shared:TLS:1m;
server { listen ADDRESS ssl http2; server_name a.test;
  ssl_stapling on; ssl_stapling_file staple.der;
  return 200 hello; }
server { listen ADDRESS ssl; server_name refused.test; ssl_reject_handshake on; }";

#[test]
#[ignore = "needs nginx: scripts/test.sh"]
fn the_client_tells_what_it_saw() {
    let site = Site::start();
    for (client, version) in
        [(site.client().tls12(), "TLSv1.2"), (site.client().tls13(), "TLSv1.3")]
    {
        let (mut first, text) = client.get("/").expect("handshake");
        assert!(text.ends_with("hello"), "{text}");
        assert_eq!((&*first.serial, &*first.version), (&*site.leaf.serial(), version));
        assert_eq!((first.resumed, first.chain.len()), (false, 2));
        assert!(first.staple.is_some());
        let again = client.clone().resume(&first.session()).connect().expect("handshake");
        assert!(again.resumed);
        assert_eq!(again.serial, site.leaf.serial());

        let rsa = client.clone().rsa_only().connect().expect("handshake");
        assert_eq!(rsa.serial, site.rsa.serial());
        let ecdsa = client.clone().ecdsa_only().alpn(&["h2", "http/1.1"]).connect();
        let ecdsa = ecdsa.expect("handshake");
        assert_eq!((ecdsa.serial, ecdsa.alpn.as_deref()), (site.leaf.serial(), Some("h2")));
    }
    let (no_sni, _) = Client::new(site.port.number())
        .trust(site.ca.cert_pem())
        .expect_name("a.test")
        .get("/")
        .expect("handshake");
    assert_eq!(no_sni.serial, site.leaf.serial());
}

#[test]
#[ignore = "needs nginx: scripts/test.sh"]
fn the_client_tells_why_it_failed() {
    let site = Site::start();
    let untrusted = Client::new(site.port.number()).sni("a.test").connect().expect_err("no trust");
    assert_eq!(untrusted.alert, None);
    assert_eq!(untrusted.chain.first().map(|c| pki::serial_hex(c)), Some(site.leaf.serial()));
    let misnamed = site.client().expect_name("b.test").connect().expect_err("another name");
    assert!(misnamed.message.contains("certificate verify failed"), "{}", misnamed.message);
    let refused = site.client().sni("refused.test").connect().expect_err("refused");
    const UNRECOGNIZED_NAME: u8 = 112;
    assert_eq!((refused.alert, refused.chain.len()), (Some(UNRECOGNIZED_NAME), 0));
    let nobody = Client::new(Port::reserve().number()).connect().expect_err("nobody listens");
    assert!(nobody.message.contains("refused"), "{}", nobody.message);
}

#[test]
#[ignore = "needs nginx: scripts/test.sh"]
fn the_client_can_be_slow_late_or_early() {
    let site = Site::start();
    let slow = site.client().byte_by_byte(Duration::from_millis(1)).connect().expect("handshake");
    assert!(slow.took > Duration::from_millis(200), "{:?}", slow.took);
    let opened = site.client().open().expect("connection");
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(100) {
        site.client().connect().expect("handshake");
    }
    opened.handshake().expect("handshake");

    let client = site.client().tls13();
    let session = client.connect().expect("handshake").session();
    let request = b"GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n";
    let mut early = client.resume(&session).early_data(request).connect().expect("handshake");
    // The request went out as early data only, so that any answer says that it was accepted.
    let answer = early.read_to_end().expect("answer");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[test]
#[ignore = "needs nginx, curl and openssl: scripts/test.sh"]
fn nginx_obeys_and_real_clients_agree() {
    let site = Site::start();
    let (root, port) = (site.nginx.dir().join("root.pem"), site.port.number());
    let word = curl("a.test", port, &root, &["--cert-status"]);
    assert_eq!(word.stdout, "hello", "{word:?}");
    assert!(!curl("b.test", port, &root, &[]).ok);
    let word = s_client("a.test", port, &root, &[]);
    assert!(word.ok && word.stdout.contains("Cert Status: good"), "{word:?}");

    let mut nginx = site.nginx;
    let old = nginx.worker_pids();
    assert_eq!(old.len(), 2);
    nginx.reload();
    let new = nginx.worker_pids();
    assert!(new.iter().all(|p| !old.contains(p)));
    nginx.kill_worker(new[0]);
    nginx.wait_log("exited on signal 9", Duration::from_secs(5));
    nginx.try_reload_with("nonsense;");
    nginx.wait_log("unknown directive \"nonsense\"", Duration::from_secs(5));
    nginx.reload_with(format!("server {{ listen {}; return 200 plain; }}", site.port.addr()));
    let answer = http::Http::plain().get(&format!("http://{}/", site.port.addr()));
    assert_eq!(answer.expect("answer").text(), "plain");

    let pids = [nginx.child_pids(), vec![nginx.pid()]].concat();
    let config = nginx.kill();
    assert!(!pids.iter().any(|p| process::lives(*p)));
    let (ok, said) = config.test();
    assert!(ok, "{said}");
    let mut nginx = config.start();
    assert!(nginx.quit(Duration::from_secs(10)).success());
    let (ok, said) = nginx.stop().http("nonsense;").test();
    assert!(!ok && said.contains("unknown directive \"nonsense\""), "{said}");
}

#[test]
fn patterns() {
    for (text, pattern, expected) in [
        ("a stale b", "a stale b", true),
        ("a stale bc", "a stale b", false),
        ("a 2026 b", "a * b", true),
        ("a 2026 b c", "a * b", false),
        ("a 1, b 2", "a *, b *", true),
        ("x a 1", "a *", false),
    ] {
        assert_eq!(text::is_like(text, pattern), expected, "{text} {pattern}");
    }
}
