//! Tests of the lab's OCSP responder and revocation lists: what the openssl command says of them,
//! and each way to go wrong that the other tests rely on.

mod lab;

use std::fs;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use lab::command::{Ended, openssl};
use lab::http::Http;
use lab::ocsp::{CertId, Request};
use lab::*;
use openssl::hash::MessageDigest;
use openssl::nid::Nid;

/// A CA of our own with its responder, one leaf, and the files that openssl wants.
struct Stage {
    ca: Identity,
    leaf: Identity,
    responder: Responder,
    dir: tempfile::TempDir,
}

impl Stage {
    fn new() -> Stage {
        let ca = Identity::root("Stage CA");
        let leaf = ca.issue(&Profile::server(&["a.test"]));
        let responder = Responder::start(Port::reserve(), ca.clone(), Source::Own);
        let dir = tempfile::tempdir().expect("directory");
        fs::write(dir.path().join("ca.pem"), ca.cert_pem()).expect("write");
        fs::write(dir.path().join("leaf.pem"), leaf.cert_pem()).expect("write");
        Stage { ca, leaf, responder, dir }
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().expect("path").into()
    }

    /// `openssl ocsp` about the leaf.
    fn ask(&self, before_cert: &[&str]) -> Ended {
        let (ca, leaf, url) = (self.path("ca.pem"), self.path("leaf.pem"), self.responder.url());
        let mut args = vec!["ocsp", "-CAfile", &ca, "-issuer", &ca, "-url", &url];
        args.extend(before_cert);
        args.extend(["-cert", &leaf]);
        openssl(&args)
    }

    /// The DER of a request without nonce.
    fn request(&self) -> Vec<u8> {
        let file = self.path("request.der");
        let (ca, leaf) = (self.path("ca.pem"), self.path("leaf.pem"));
        let args = ["ocsp", "-no_nonce", "-issuer", &ca, "-cert", &leaf, "-reqout", &file];
        assert!(openssl(&args).ok);
        fs::read(file).expect("request")
    }

    fn post(&self) -> Result<http::Answer, ureq::Error> {
        let http = Http::plain();
        http.post(&self.responder.url(), "application/ocsp-request", &self.request())
    }

    fn serial(&self) -> String {
        self.leaf.serial()
    }
}

/// Behaviour, and what openssl says in whichever stream.
#[test]
#[ignore = "needs openssl: scripts/test.sh"]
fn openssl_understands_every_answer() {
    let delegate = |change: fn(&mut Delegate)| {
        let mut delegate = Delegate::default();
        change(&mut delegate);
        Behaviour::signer(Signer::Delegate(delegate))
    };
    let result = Behaviour::result;
    let with = |change: fn(&mut Behaviour)| {
        let mut behaviour = Behaviour::default();
        change(&mut behaviour);
        behaviour
    };
    let table = [
        (Behaviour::default(), "leaf.pem: good"),
        (Behaviour::default(), "Response verify OK"),
        (Behaviour::revoked(Some(1)), "Reason: keyCompromise"),
        (Behaviour::revoked(None), "leaf.pem: revoked"),
        (Behaviour::unknown(), "leaf.pem: unknown"),
        (result(ResultCode::MalformedRequest), "Responder Error: malformedrequest (1)"),
        (result(ResultCode::InternalError), "Responder Error: internalerror (2)"),
        (result(ResultCode::TryLater), "Responder Error: trylater (3)"),
        (result(ResultCode::SigRequired), "Responder Error: sigrequired (5)"),
        (result(ResultCode::Unauthorized), "Responder Error: unauthorized (6)"),
        (Behaviour::signer(Signer::BrokenSignature), "signature failure"),
        (Behaviour::signer(Signer::OtherCa), "Response Verify Failure"),
        (delegate(|_| {}), "Response verify OK"),
        (delegate(|d| d.nocheck = true), "Response verify OK"),
        (delegate(|d| d.eku = false), "missing ocspsigning usage"),
        (delegate(|d| d.expired = true), "certificate has expired"),
        (delegate(|d| d.of_other_ca = true), "Response Verify Failure"),
        (delegate(|d| d.sent = false), "signer certificate not found"),
        (with(|b| b.subject = Subject::OtherSerial), "No Status found"),
        (with(|b| b.subject = Subject::OtherIssuer), "No Status found"),
        (with(|b| b.this_update = 3600), "status not yet valid"),
        (Behaviour::stale(3600), "status expired"),
        (with(|b| b.nonce = Nonce::Wrong), "Nonce Verify error"),
        (with(|b| b.nonce = Nonce::Missing), "WARNING: no nonce in response"),
        (Behaviour::delivery(Delivery::Garbage), "Error querying OCSP responder"),
        (Behaviour::delivery(Delivery::Truncated), "Error querying OCSP responder"),
        (Behaviour::delivery(Delivery::Cut), "Error querying OCSP responder"),
        (Behaviour::delivery(Delivery::Close), "Error querying OCSP responder"),
        (Behaviour::delivery(Delivery::Http(503)), "code=503"),
        (with(|b| b.others = vec![("7f01".into(), Status::Unknown)]), "leaf.pem: good"),
    ];
    let stage = Stage::new();
    for (behaviour, wanted) in table {
        stage.responder.behave(behaviour.clone());
        let word = stage.ask(&[]);
        let said = word.stdout + &word.stderr;
        assert!(said.contains(wanted), "{behaviour:?}\nwanted {wanted:?}, openssl said {said}");
    }
}

#[test]
#[ignore = "needs openssl: scripts/test.sh"]
fn signed_requests_of_one_are_answered() {
    let stage = Stage::new();
    let (own, other) = (Identity::root("Requestor"), Identity::root("Requestor"));
    for (name, identity) in [("own", &own), ("other", &other)] {
        fs::write(stage.path(&format!("{name}.pem")), identity.cert_pem()).expect("write");
        fs::write(stage.path(&format!("{name}.key")), identity.key_pem()).expect("write");
    }
    stage.responder.behave(Behaviour { requestor: Some(own.cert.clone()), ..Behaviour::default() });
    let ask = |name: &str, more: &[&str]| {
        let (cert, key) = (stage.path(&format!("{name}.pem")), stage.path(&format!("{name}.key")));
        stage.ask(&[&["-signer", &cert, "-signkey", &key], more].concat()).stdout
    };
    assert!(ask("own", &[]).contains("leaf.pem: good"));
    assert!(ask("other", &[]).contains("sigrequired (5)"));
    assert!(ask("own", &["-no_certs"]).contains("sigrequired (5)"));
    assert!(stage.ask(&[]).stdout.contains("sigrequired (5)"));
    let signed: Vec<_> = stage.responder.queries().iter().map(|q| q.signed).collect();
    assert_eq!(signed, [true, true, true, false]);
    let mut request = Request::parse(&stage.responder.queries()[0].der).expect("a request");
    assert!(request.is_signed_by(&own.cert));
    request.signature.as_mut().expect("a signature").tbs[10] ^= 1;
    assert!(!request.is_signed_by(&own.cert));
}

#[test]
#[ignore = "needs openssl: scripts/test.sh"]
fn nonce_and_next_update_are_as_told() {
    let stage = Stage::new();
    let word = stage.ask(&[]);
    assert!(word.stdout.contains("leaf.pem: good") && !word.stderr.contains("onc"), "{word:?}");
    assert!(stage.responder.queries()[0].nonce);
    stage.responder.behave(Behaviour { next_update: None, ..Behaviour::default() });
    assert!(!stage.ask(&[]).stdout.contains("Next Update"));
    stage.responder.behave(Behaviour { next_update: Some(5), ..Behaviour::default() });
    assert!(stage.ask(&[]).stdout.contains("Next Update"));
}

#[test]
#[ignore = "needs openssl: scripts/test.sh"]
fn sha256_names_and_get_are_answered() {
    let stage = Stage::new();
    let word = stage.ask(&["-sha256"]);
    assert!(word.stdout.contains("leaf.pem: good"), "{word:?}");
    let query = Request::parse(&stage.responder.queries()[0].der).expect("a request");
    assert_eq!(query.ids[0].digest().map(|d| d.type_()), Some(Nid::SHA256));

    let der = stage.request();
    let path = STANDARD.encode(&der);
    let url = stage.responder.url();
    let escaped = path.replace('+', "%2B").replace('/', "%2F").replace('=', "%3D");
    for path in [path, escaped] {
        let answer = Http::plain().get(&format!("{url}/{path}")).expect("answer");
        assert_eq!((answer.status, answer.body[0]), (200, 0x30));
    }
    let last = stage.responder.queries().pop().expect("a query");
    assert_eq!((last.http.method.as_str(), last.der), ("GET", der));
    assert_eq!((last.serials, last.answer.as_str()), (vec![stage.serial()], "Good"));

    stage.responder.behave(Behaviour { methods: Methods::PostOnly, ..Behaviour::default() });
    assert_eq!(Http::plain().get(&format!("{url}/AAAA")).expect("answer").status, 405);
    assert_eq!(stage.post().expect("answer").status, 200);
    stage.responder.behave(Behaviour { methods: Methods::GetOnly, ..Behaviour::default() });
    assert_eq!(stage.post().expect("answer").status, 405);
}

/// A client that got the hashes wrong, or means another CA, is told so.
#[test]
fn certificates_of_other_issuers_are_not_answered_for() {
    let (ca, other) = (Identity::root("One"), Identity::root("Two"));
    for digest in [MessageDigest::sha1(), MessageDigest::sha256()] {
        let id = CertId::new(&ca.cert, &[1], digest);
        assert!(id.names(&ca.cert) && !id.names(&other.cert) && !id.names(&ca.impostor().cert));
    }
    let responder = Responder::start(Port::reserve(), ca, Source::Own);
    let answer = Http::plain().post(&responder.url(), "application/ocsp-request", b"nonsense");
    assert_eq!(answer.expect("answer").body, [0x30, 3, 0x0a, 1, 1]);
    assert!(Request::parse(b"nonsense").is_none());
}

#[test]
#[ignore = "needs openssl: scripts/test.sh"]
fn one_serial_can_be_treated_apart_and_the_truth_can_change() {
    let stage = Stage::new();
    let other = stage.ca.issue(&Profile::server(&["b.test"])).serial();
    stage.responder.behave_for(&other, Behaviour::result(ResultCode::TryLater));
    assert!(stage.ask(&[]).stdout.contains("leaf.pem: good"));
    stage.responder.behave_for(&stage.serial(), Behaviour::result(ResultCode::TryLater));
    assert!(stage.ask(&[]).stdout.contains("trylater"));
    let revoked = Status::Revoked { reason: Some(5), at: clock::now() };
    stage.responder.set_status(&stage.serial(), revoked);
    stage.responder.behave_well();
    assert!(stage.ask(&[]).stdout.contains("cessationOfOperation"));
    assert_eq!(stage.responder.queries_for(&stage.serial()).len(), 3);
    assert_eq!(stage.responder.queries_for(&other).len(), 0);
}

#[test]
#[ignore = "needs openssl: scripts/test.sh"]
fn an_earlier_answer_can_be_replayed() {
    let stage = Stage::new();
    let first = stage.post().expect("answer").body;
    assert_eq!(stage.responder.last_answer(&stage.serial()), Some(first.clone()));
    stage.responder.behave(Behaviour::revoked(None));
    assert_ne!(stage.post().expect("answer").body, first);
    stage.responder.behave(Behaviour::delivery(Delivery::Replay(first.clone())));
    assert_eq!(stage.post().expect("answer").body, first);
}

#[test]
#[ignore = "needs openssl: scripts/test.sh"]
fn answers_can_be_late_slow_large_or_missing() {
    let stage = Stage::new();
    let timed = |behaviour| {
        stage.responder.behave(behaviour);
        let start = Instant::now();
        (stage.post(), start.elapsed())
    };
    let third = Duration::from_millis(300);
    let (answer, took) = timed(Behaviour::delayed(third));
    assert!(answer.is_ok() && took >= third && took < 3 * third, "{took:?}");
    let (answer, took) = timed(Behaviour::delivery(Delivery::Drip(Duration::from_millis(1))));
    assert!(answer.is_ok() && took >= Duration::from_millis(150), "{took:?}");
    let (answer, _) = timed(Behaviour::delivery(Delivery::Oversized(3 << 20)));
    assert!(answer.expect("answer").body.len() > 3 << 20);
    let (answer, _) = timed(Behaviour::delivery(Delivery::Redirect("http://127.0.0.1:1/".into())));
    assert_eq!(answer.expect("answer").location.as_deref(), Some("http://127.0.0.1:1/"));

    stage.responder.forget_queries();
    stage.responder.behave(Behaviour::delivery(Delivery::Never));
    let word = stage.ask(&["-timeout", "1"]);
    assert!(!word.ok, "{word:?}");
    let query = stage.responder.queries().pop().expect("a query");
    assert_eq!(query.answer, "Good, never sent");

    stage.responder.down();
    assert!(stage.post().is_err());
    stage.responder.up();
    stage.responder.behave_well();
    assert!(stage.post().is_ok());
}

#[test]
fn queries_at_once_are_counted() {
    let responder = Responder::start(Port::reserve(), Identity::root("CA"), Source::Own);
    responder.behave(Behaviour::delayed(Duration::from_millis(200)));
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| Http::plain().post(&responder.url(), "application/ocsp-request", b"?"));
        }
    });
    assert_eq!((responder.queries().len(), responder.most_at_once()), (3, 3));
}

#[test]
#[ignore = "needs openssl: scripts/test.sh"]
fn revocation_lists_are_what_openssl_takes_for_such() {
    let stage = Stage::new();
    let list = Crl::revoking(&stage.serial(), Some(3)).sign(&stage.ca);
    fs::write(stage.path("list.crl"), &list).expect("write");
    let (crl, ca) = (stage.path("list.crl"), stage.path("ca.pem"));
    let args = ["crl", "-inform", "DER", "-in", &crl, "-CAfile", &ca, "-text", "-noout"];
    let word = openssl(&args);
    let said = word.stdout + &word.stderr;
    let serial = stage.serial().to_uppercase();
    for wanted in ["verify OK", "Affiliation Changed", &format!("Serial Number: {serial}")] {
        assert!(said.contains(wanted), "wanted {wanted:?}: {said}");
    }
    let broken = Crl { break_signature: true, ..Crl::default() }.sign(&stage.ca);
    fs::write(&crl, broken).expect("write");
    assert!(openssl(&args).stderr.contains("verify failure"));

    let port = Port::reserve();
    let url = CrlServer::url_at(&port);
    let server = CrlServer::start(port, list.clone());
    assert_eq!(Http::plain().get(&url).expect("answer").body, list);
    assert_eq!((server.requests().len(), server.unchanged()), (1, 0));
}
