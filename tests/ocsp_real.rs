//! OCSP against `openssl ocsp`, a responder that others wrote, and against the lab's where that
//! can't do it. Run by scripts/test.sh.

mod lab;

use std::fs;
use std::process::Command;
use std::time::Duration;

use cert_autofetch::clock::SystemClock;
use cert_autofetch::evidence::ocsp::{Answer, Query, RequestSigner, ask};
use cert_autofetch::evidence::{Reason, Status};
use cert_autofetch::facts::{CertFacts, Fingerprint, Serial};
use cert_autofetch::http::network::NetworkHttp;
use cert_autofetch::settings::{Nonce, WaySettings};
use lab::command::openssl;
use lab::pki::Usage;
use lab::process::Process;
use lab::{
    Behaviour, Delivery, Identity, KeyType, Plan, Port, Profile, Responder, Source, wait_until,
};
use openssl::x509::X509;

/// A CA, two leaves of which the second is revoked, and the files that openssl wants.
struct World {
    ca: Identity,
    leaf: Identity,
    revoked: Identity,
    dir: tempfile::TempDir,
}

/// What a question says beside the usual.
#[derive(Default)]
struct Asked<'a> {
    nonce: Nonce,
    extra_signer: Option<&'a X509>,
    request_signer: Option<&'a RequestSigner>,
    siblings: &'a [(Serial, Fingerprint)],
}

impl World {
    fn new() -> World {
        let ca = Identity::root("Real CA");
        let leaf = ca.issue(&Profile::server(&["a.test"]));
        let revoked = ca.issue(&Profile::server(&["b.test"]));
        let world = World { ca, leaf, revoked, dir: tempfile::tempdir().expect("directory") };
        for (name, identity) in
            [("ca", &world.ca), ("leaf", &world.leaf), ("revoked", &world.revoked)]
        {
            world.write(name, identity);
        }
        let (good, gone) = (world.leaf.serial(), world.revoked.serial());
        let index = format!(
            "V\t491231235959Z\t\t{}\tunknown\t/CN=a.test\n\
             R\t491231235959Z\t250101000000Z,keyCompromise\t{}\tunknown\t/CN=b.test\n",
            good.to_uppercase(),
            gone.to_uppercase()
        );
        fs::write(world.path("index.txt"), index).expect("write");
        world
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().expect("path").into()
    }

    /// As NAME.pem and NAME.key.
    fn write(&self, name: &str, identity: &Identity) {
        fs::write(self.path(&format!("{name}.pem")), identity.cert_pem()).expect("write");
        fs::write(self.path(&format!("{name}.key")), identity.key_pem()).expect("write");
    }

    /// `openssl ocsp` as responder, signing with NAME.key. Nobody connects to it before it is
    /// asked: it never recovers from a connection without a request.
    fn responder(&self, signer: &str, args: &[&str]) -> (Process, String) {
        let port = Port::reserve();
        let log = self.dir.path().join(format!("responder-{port}.log"));
        let mut command = Command::new("openssl");
        command.args(["ocsp", "-ignore_err", "-port", &port.to_string()]);
        command.args(["-index", &self.path("index.txt"), "-CA", &self.path("ca.pem")]);
        command.args(["-rsigner", &self.path(&format!("{signer}.pem"))]);
        command.args(["-rkey", &self.path(&format!("{signer}.key"))]).args(args);
        let process = Process::start(command, &log);
        wait_until("the responder to listen", PATIENCE, || process.log().contains("aiting for"));
        (process, format!("http://127.0.0.1:{port}"))
    }

    fn ask(&self, about: &Identity, url: &str, asked: &Asked) -> Result<Answer, String> {
        let facts = facts(about);
        let way =
            WaySettings { trusted_certificate: Some(self.ca.cert_pem()), ..WaySettings::default() };
        let http = NetworkHttp::new(&way).expect("HTTP");
        let query = Query {
            certificate: &about.cert,
            facts: &facts,
            issuer: &self.ca.cert,
            url,
            nonce: asked.nonce,
            extra_signer: asked.extra_signer.map(|c| &**c),
            request_signer: asked.request_signer,
            siblings: asked.siblings,
            timeout: PATIENCE,
        };
        ask(&http, &SystemClock, &query).map_err(|e| e.to_string())
    }
}

/// Far more than anybody needs.
const PATIENCE: Duration = Duration::from_secs(60);

fn facts(identity: &Identity) -> CertFacts {
    CertFacts::from_der(&identity.cert.to_der().expect("DER")).expect("facts")
}

fn signer(identity: &Identity) -> RequestSigner {
    RequestSigner::from_pem(&identity.fullchain_pem(), &identity.key_pem()).expect("a signer")
}

#[test]
#[ignore = "needs openssl: scripts/test.sh"]
fn statuses_and_times() {
    let world = World::new();
    let never_heard_of = world.ca.issue(&Profile::server(&["c.test"]));
    // Arguments, and how long an answer is good for.
    for (args, life) in [
        (&[][..], None),
        (&["-nmin", "5"], Some(300)),
        (&["-ndays", "2"], Some(2 * 86_400)),
        (&["-nmin", "5", "-resp_key_id"], Some(300)),
        (&["-nmin", "5", "-rmd", "sha384"], Some(300)),
    ] {
        let (_process, url) = world.responder("ca", args);
        let ask = |about| world.ask(about, &url, &Asked::default()).expect("an answer");
        let good = ask(&world.leaf).evidence;
        assert_eq!(good.status, Status::Good, "{args:?}");
        let found = good.next_update.map(|next| next.since(good.this_update).as_secs());
        assert_eq!(found, life, "{args:?}");
        assert_eq!(ask(&never_heard_of).evidence.status, Status::Unknown);
        match ask(&world.revoked).evidence.status {
            Status::Revoked { reason, at } => {
                assert_eq!(reason, Reason::KeyCompromise);
                assert_eq!(at.rfc3339(), "2025-01-01T00:00:00Z");
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
#[ignore = "needs openssl: scripts/test.sh"]
fn nonces_are_echoed() {
    let world = World::new();
    let (_process, url) = world.responder("ca", &[]);
    for nonce in [Nonce::On, Nonce::Off, Nonce::Required] {
        let asked = Asked { nonce, ..Asked::default() };
        let answer = world.ask(&world.leaf, &url, &asked).expect("an answer");
        let oid = [0x2b, 6, 1, 5, 5, 7, 0x30, 1, 2];
        let carries = answer.der.windows(oid.len()).any(|w| w == oid);
        assert_eq!(carries, nonce != Nonce::Off, "{nonce:?}");
    }
}

#[test]
#[ignore = "needs openssl: scripts/test.sh"]
fn signers() {
    let world = World::new();
    let issue = |change: &dyn Fn(&mut Profile)| {
        let mut profile = Profile::ocsp_signer();
        change(&mut profile);
        world.ca.issue(&profile)
    };
    world.write("delegate", &issue(&|_| {}));
    world.write("nocheck", &issue(&|p| p.ocsp_nocheck = true));
    world.write("server", &issue(&|p| p.usage = Usage::Server));
    world.write("expired", &issue(&|p| p.not_after = -3600));
    world.write("future", &issue(&|p| p.not_before = 3600));
    world.write("rsa", &issue(&|p| p.key = KeyType::Rsa2048));
    let stranger = world.ca.impostor().issue(&Profile::ocsp_signer());
    world.write("stranger", &stranger);
    const UNKNOWN: &str = "signed by somebody whose certificate is not known";
    // Signer and arguments of the responder, what comes of it.
    let table: &[(&str, &[&str], &str)] = &[
        ("delegate", &[], "Good"),
        ("delegate", &["-resp_key_id"], "Good"),
        ("delegate", &["-resp_no_certs"], UNKNOWN),
        ("nocheck", &[], "Good"),
        ("rsa", &[], "Good"),
        ("server", &[], "no id-kp-OCSPSigning"),
        ("expired", &[], "signer's certificate expired at"),
        ("future", &[], "signer's certificate is not valid before"),
        ("stranger", &[], "not issued by the issuer"),
        ("stranger", &["-resp_no_certs"], UNKNOWN),
        ("ca", &["-badsig"], "bad signature"),
        ("delegate", &["-badsig"], "bad signature"),
    ];
    for (signer, args, expected) in table {
        let (_process, url) = world.responder(signer, args);
        let found = match world.ask(&world.leaf, &url, &Asked::default()) {
            Ok(answer) => format!("{:?}", answer.evidence.status),
            Err(cause) => cause,
        };
        assert!(found.contains(expected), "{signer} {args:?}: {found}");
        if *signer == "stranger" {
            let asked = Asked { extra_signer: Some(&stranger.cert), ..Asked::default() };
            let answer = world.ask(&world.leaf, &url, &asked).expect("the administrator's signer");
            assert_eq!(answer.evidence.status, Status::Good);
        }
    }
}

/// Asked by SHA-1 it answers by SHA-256, OpenSSL 3.0 with serial 00 instead of ours.
#[test]
#[ignore = "needs openssl: scripts/test.sh"]
fn answers_by_another_digest_than_asked() {
    let world = World::new();
    let (_process, url) = world.responder("ca", &["-rcid", "sha256"]);
    match world.ask(&world.leaf, &url, &Asked::default()) {
        Ok(answer) => assert_eq!(answer.evidence.status, Status::Good),
        Err(cause) => assert!(cause.contains("another certificate: serial=00"), "{cause}"),
    }
}

#[test]
#[ignore = "needs openssl: scripts/test.sh"]
fn requests_are_signed_as_openssl_reads_them() {
    let world = World::new();
    let requestors = Identity::root("Root").issue(&Profile::authority("Requestors"));
    let responder = Responder::start(Port::reserve(), world.ca.clone(), Source::Own);
    let (_process, plain) = world.responder("ca", &[]);
    let profile = |key| Profile { key, ..Profile::server(&["requestor.test"]) };
    let stranger = signer(&requestors.issue(&profile(KeyType::Ecdsa256)));
    for (key, algorithm) in [
        (KeyType::Ecdsa256, "ecdsa-with-SHA256"),
        (KeyType::Ecdsa384, "ecdsa-with-SHA256"),
        (KeyType::Rsa2048, "sha256WithRSAEncryption"),
        (KeyType::Ed25519, "ED25519"),
    ] {
        let requestor = requestors.issue(&profile(key));
        let requestor_cert = Some(requestor.cert.clone());
        responder.behave(Behaviour { requestor: requestor_cert, ..Behaviour::default() });
        let own = signer(&requestor);
        for request_signer in [None, Some(&stranger)] {
            let asked = Asked { request_signer, ..Asked::default() };
            let cause = world.ask(&world.leaf, &responder.url(), &asked).expect_err("sigRequired");
            assert!(cause.contains("responder says sigRequired"), "{cause}");
        }
        let asked =
            Asked { request_signer: Some(&own), nonce: Nonce::Required, ..Asked::default() };
        // Who does not care for signatures answers too.
        for url in [&responder.url(), &plain] {
            let answer = world.ask(&world.leaf, url, &asked).expect("an answer");
            assert_eq!(answer.evidence.status, Status::Good, "{key:?}");
        }
        let file = world.path("request.der");
        let query = responder.queries().pop().expect("a query");
        assert_eq!(query.http.method, "POST");
        fs::write(&file, query.der).expect("write");
        let said = openssl(&["ocsp", "-reqin", &file, "-req_text"]).stdout;
        let said = said.replace(' ', ""); // of which each version of openssl has its own idea
        let (request, certificates) = said.split_once("Certificate:").expect("certificates");
        for wanted in ["RequestorName:DirName:CN=requestor.test", algorithm, "OCSPNonce"] {
            assert!(request.contains(wanted), "wanted {wanted:?}: {said}");
        }
        let sent = certificates.matches("Subject:").count();
        assert_eq!(sent, 2, "its chain goes along: {said}");
    }
}

/// As openssl makes one for a request about two certificates.
#[test]
#[ignore = "needs openssl: scripts/test.sh"]
fn answers_about_several_certificates() {
    let world = World::new();
    let (ca, index, key) = (world.path("ca.pem"), world.path("index.txt"), world.path("ca.key"));
    let (leaf, revoked) = (world.path("leaf.pem"), world.path("revoked.pem"));
    let file = world.path("answer.der");
    for digest in ["-sha1", "-sha256"] {
        let made = openssl(&[
            "ocsp",
            "-index",
            &index,
            "-CA",
            &ca,
            "-rsigner",
            &ca,
            "-rkey",
            &key,
            "-issuer",
            &ca,
            digest,
            "-cert",
            &leaf,
            digest,
            "-cert",
            &revoked,
            "-no_nonce",
            "-ndays",
            "1",
            "-respout",
            &file,
        ]);
        assert!(made.ok, "{made:?}");
        let responder = Responder::start(Port::reserve(), world.ca.clone(), Source::Own);
        responder.behave(Behaviour::delivery(Delivery::Replay(fs::read(&file).expect("answer"))));
        let both = [&world.leaf, &world.revoked].map(|i| (facts(i).serial, facts(i).fingerprint));
        let asked = Asked { siblings: &both, ..Asked::default() };
        for (about, other, is_revoked) in
            [(&world.leaf, &world.revoked, false), (&world.revoked, &world.leaf, true)]
        {
            let answer = world.ask(about, &responder.url(), &asked).expect("an answer");
            assert_eq!(answer.evidence.is_revoked(), is_revoked, "{digest}");
            let [evidence] = &answer.others[..] else { panic!("{digest}: {:?}", answer.others) };
            assert_eq!(evidence.serial.0, other.serial());
            assert_eq!(evidence.certificate, facts(other).fingerprint);
            assert_eq!(evidence.is_revoked(), !is_revoked);
        }
    }
}

/// In nginx, from the first certificate on.
#[test]
#[ignore = "needs nginx, the module and pebble: scripts/test.sh"]
fn the_module_signs_its_requests() {
    let world = World::new();
    let requestor = Identity::root("Requestor");
    world.write("requestor", &requestor);
    let (cert, key) = (world.path("requestor.pem"), world.path("requestor.key"));
    let http = "ssl_cert_autofetch_check hard; ssl_cert_autofetch_check_interval 0;";
    let wants = |who: &Identity| {
        let requestor = Some(who.cert.clone());
        Behaviour { requestor, ..Behaviour::default() }
    };
    let plan =
        Plan::server("a.test", http).ca(&format!("ocsp_signer {cert} {key}; ocsp_nonce required;"));
    let site = plan.start_with(|lab, _| lab.responder.behave(wants(&requestor)));
    let (stored, client) = (site.wait_valid("a.test"), site.lab.client("a.test"));
    assert_eq!(client.connect().expect("handshake").serial, stored);
    let queries = site.lab.responder.queries();
    assert!(!queries.is_empty() && queries.iter().all(|q| q.signed && q.nonce), "{queries:#?}");

    site.lab.responder.behave(wants(&Identity::root("Requestor")));
    assert!(client.connect().is_err());
    wait_until("the cause in the log", PATIENCE, || {
        site.lines("a.test").iter().any(|line| line.contains("sigRequired"))
    });
}
