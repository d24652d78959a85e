//! What an OCSP responder says about the certificate that is served, or about another.

use std::fs;
use std::time::Duration;

use crate::lab::ocsp::Status;
use crate::lab::*;
use crate::stage::{BLOCK, Hostile, USUAL, check_refused, is_like};

/// One wrong answer, and what has to come of it.
pub struct Case {
    pub what: &'static str,
    trick: Trick,
    /// The CAUSE of the log line, without the responder; `*` is any text.
    cause: &'static str,
    /// How many requests the responder gets.
    requests: usize,
    /// The longest time to the next attempt, in seconds.
    longest: u64,
    /// The CA's block: `liar`, or `strict` with signed requests and a nonce in each answer.
    ca: &'static str,
}

/// What the responder does about one serial.
enum Trick {
    Behaves(Behaviour),
    /// Sends what it would say about a certificate that is not in use.
    AboutAnother(Behaviour),
    /// Sends what it said when it was asked before.
    OwnOfBefore,
    /// Says that another certificate in use is revoked, besides.
    SiblingRevoked(Behaviour),
    /// Wants requests signed by somebody else.
    OtherRequestor,
}

/// Two entries a case: `soft` goes on with the certificate, `hard` refuses.
#[test]
#[ignore = "needs nginx and the module: scripts/test.sh"]
fn a_hostile_responder_changes_nothing() {
    let liar = Liar::start();
    let (other, stranger) = (liar.issue(&["bystander.test"]), Identity::root("Stranger"));
    let (cases, tls, config) = (cases(), Port::reserve(), Config::new());
    let pair = |i: usize| [format!("soft-{i}.test"), format!("hard-{i}.test")];
    let server = |name: &String, ca: &str| {
        let (address, check) = (tls.addr(), &name[..4]);
        format!(
            "server {{ listen {address} ssl; server_name {name}; ssl_cert_autofetch_check {check};\n\
             ssl_cert_autofetch {ca}; }}\n"
        )
    };
    let all = cases.iter().enumerate().map(|(i, case)| pair(i).map(|name| server(&name, case.ca)));
    let servers: String = all.flatten().chain([server(&SIBLING.to_owned(), "liar")]).collect();
    let strict = strict(&liar, &config);
    let lines = "ssl_cert_autofetch_check_interval 0; ssl_cert_autofetch_timeout 2s;";
    let stage = Hostile::start(liar, tls.clone(), config, &strict, &format!("{lines}\n{servers}"));
    for name in (0..cases.len()).flat_map(pair) {
        stage.monitor.wait_valid(&name);
    }
    let sibling = stage.monitor.wait_valid(SIBLING);
    let issued = stage.monitor.counter("issued");
    let responder = &stage.liar.responder;

    for (i, case) in cases.iter().enumerate() {
        let (what, names) = (case.what, pair(i));
        let serials = names.each_ref().map(|n| stage.monitor.serial(n).expect("a certificate"));
        let good = serials.each_ref().map(|s| responder.last_answer(s).expect("an answer"));
        for (serial, before) in serials.iter().zip(&good) {
            responder.behave_for(
                serial,
                match &case.trick {
                    Trick::Behaves(behaviour) => behaviour.clone(),
                    Trick::AboutAnother(b) => replay(responder.answer_about(&other.serial(), b)),
                    Trick::OwnOfBefore => replay(before.clone()),
                    Trick::SiblingRevoked(b) => {
                        let revoked = Status::Revoked { reason: Some(1), at: clock::now() };
                        Behaviour { others: vec![(sibling.clone(), revoked)], ..b.clone() }
                    }
                    Trick::OtherRequestor => {
                        let requestor = Some(stranger.cert.clone());
                        Behaviour { requestor, ..Behaviour::default() }
                    }
                },
            );
        }
        let asked = serials.each_ref().map(|s| responder.queries_for(s).len());
        let waiting = names.each_ref().map(|name| stage.client(name).connect_aside());
        let [served, refused] = waiting.map(|handle| handle.join().expect("thread"));
        let served = served.unwrap_or_else(|e| panic!("{what}: {e:?}"));
        // What was good before is stapled as long as it says, and nothing of the new answer.
        assert_eq!(
            (&served.serial, &served.staple),
            (&serials[0], &Some(good[0].clone())),
            "{what}"
        );
        check_refused(what, refused);
        for (n, (name, serial)) in names.iter().zip(&serials).enumerate() {
            let told = stage.check_failure(what, name, serial, "CHECK", case.longest);
            assert!(is_like(&told, &case.cause(&responder.url(), serial)), "{what}: {told}");
            // Until the next attempt nobody is asked, and nobody waits.
            let queries = responder.queries_for(serial).len();
            assert_eq!(queries, asked[n] + case.requests, "{what}");
            let again = stage.client(name).connect();
            match n {
                0 => {
                    let again = again.expect("handshake");
                    assert_eq!((&again.serial, &again.staple), (serial, &served.staple), "{what}");
                }
                _ => check_refused(what, again),
            }
            assert_eq!(responder.queries_for(serial).len(), queries, "{what}");
            assert_eq!(stage.liar.orders_for(name), 1, "{what}: only the first of all");
        }
    }
    assert_eq!(stage.monitor.counter("issued"), issued);
    assert_eq!(stage.nginx.log_lines("is revoked ("), Vec::<String>::new());
    assert_eq!(stage.client(SIBLING).connect().expect("handshake").serial, sibling);

    responder.behave_well();
    for (i, case) in cases.iter().enumerate().filter(|(_, c)| c.longest < MINUTE) {
        for name in pair(i) {
            let what = format!("{}: service again", case.what);
            let serial = stage.monitor.serial(&name).expect("a certificate");
            let served = wait_for(&what, Duration::from_secs(15), || {
                stage.client(&name).connect().ok().filter(|_| stage.error(&name).is_none())
            });
            assert_eq!(served.serial, serial, "{what}");
        }
    }
    assert_eq!(stage.monitor.counter("issued"), issued);
    stage.nginx.check_log();
}

impl Case {
    /// The whole CAUSE.
    fn cause(&self, url: &str, serial: &str) -> String {
        match self.cause {
            UNKNOWN => format!("\"{url}\" does not know certificate serial={serial}"),
            fault => format!("ocsp: {fault}, source={url}"),
        }
    }

    fn requests(mut self, requests: usize) -> Case {
        self.requests = requests;
        self
    }

    fn longest(mut self, longest: u64) -> Case {
        self.longest = longest;
        self
    }

    fn strict(mut self) -> Case {
        self.ca = "strict";
        self
    }
}

/// A CA block that signs its requests and wants a nonce in each answer.
fn strict(liar: &Liar, config: &Config) -> String {
    let requestor = Identity::root("Requestor");
    let (certificate, key) = (config.dir().join("requestor.pem"), config.dir().join("key.pem"));
    fs::write(&certificate, requestor.cert_pem()).expect("write");
    fs::write(&key, requestor.key_pem()).expect("write");
    let signer = format!("ocsp_signer {} {};", certificate.display(), key.display());
    liar.ca_block("strict", &format!("{BLOCK} ocsp_nonce required; {signer}"))
}

pub fn cases() -> Vec<Case> {
    [network(), refusals(), contents(), revocations(), slow()].into_iter().flatten().collect()
}

fn network() -> Vec<Case> {
    let http = |status| Delivery::Http(status);
    vec![
        delivery("garbage", Delivery::Garbage, MALFORMED),
        delivery("truncated", Delivery::Truncated, MALFORMED),
        delivery("empty", Delivery::Replay(Vec::new()), MALFORMED),
        delivery("more than DER", Delivery::Oversized(10), "not an OCSP response: trailing bytes"),
        delivery("oversized", Delivery::Oversized(1 << 20), "response is larger than 65536 bytes"),
        delivery("cut", Delivery::Cut, GONE),
        delivery("closed", Delivery::Close, GONE),
        delivery("HTTP 403", http(403), "HTTP status 403 to GET").requests(2),
        delivery("HTTP 404", http(404), "HTTP status 404 to GET").requests(2),
        delivery("HTTP 500", http(500), "HTTP status 500 to GET").requests(2),
        delivery("HTTP 503", http(503), "HTTP status 503 to POST"),
        delivery(
            "HTTP 503 for half a minute",
            Delivery::Raw(
                b"HTTP/1.1 503 No\r\nRetry-After: 30\r\nConnection: close\r\nContent-Length: 0\r\n\r\n".to_vec(),
            ),
            "HTTP status 503 to POST",
        )
        .longest(MINUTE),
        delivery("redirected to nobody", Delivery::Redirect("http://127.0.0.1:1/".into()), REFUSED),
    ]
}

fn refusals() -> Vec<Case> {
    const SIG_REQUIRED: &str = "responder says sigRequired: it answers signed requests only";
    const UNAUTHORIZED: &str = "responder says unauthorized: it does not know the certificate";
    let result = |what, result, cause| case(what, Behaviour::result(result), cause);
    vec![
        result("malformedRequest", ResultCode::MalformedRequest, "responder says malformedRequest")
            .longest(MINUTE),
        result("internalError", ResultCode::InternalError, "responder says internalError"),
        result("tryLater", ResultCode::TryLater, "responder says tryLater").longest(10),
        result("sigRequired", ResultCode::SigRequired, SIG_REQUIRED).longest(MINUTE),
        result("unauthorized", ResultCode::Unauthorized, UNAUTHORIZED).requests(2),
        row("wants signed requests", Trick::OtherRequestor, SIG_REQUIRED).longest(MINUTE),
        row("wants them of another", Trick::OtherRequestor, SIG_REQUIRED).longest(MINUTE).strict(),
        case("unknown", Behaviour::unknown(), UNKNOWN),
    ]
}

fn contents() -> Vec<Case> {
    let future = Behaviour { this_update: 3600, ..Behaviour::default() };
    let backwards = Behaviour { next_update: Some(-60), ..Behaviour::default() };
    let nonce = |nonce| Behaviour { nonce, ..Behaviour::default() };
    let signer = |what, signer, cause| case(what, Behaviour::signer(signer), cause);
    let delegate = |what, d: Delegate, cause| signer(what, Signer::Delegate(d), cause);
    let good = Delegate::default;
    let extension = || vec![der::extension("1.2.3.4", true, b"x")];
    let critical = Behaviour { extensions: extension(), ..Behaviour::default() };
    let critical_single = Behaviour { single_extensions: extension(), ..Behaviour::default() };
    vec![
        case("stale", Behaviour::stale(3600), "response is stale since *"),
        case("of the future", future, "response is not valid before *"),
        case("ends before it begins", backwards, "response ends at * before it begins at *"),
        signer("bad signature", Signer::BrokenSignature, "bad signature"),
        signer("other CA", Signer::OtherCa, NOT_ISSUED),
        delegate("no EKU", Delegate { eku: false, ..good() }, NO_EKU),
        delegate("expired signer", Delegate { expired: true, ..good() }, EXPIRED),
        delegate("stranger", Delegate { of_other_ca: true, ..good() }, NOT_ISSUED),
        delegate("unseen signer", Delegate { sent: false, ..good() }, UNSEEN),
        delegate("revoked signer", Delegate { revoked: true, ..good() }, REVOKED_SIGNER),
        case("other serial", about(Subject::OtherSerial), OTHER_SERIAL),
        case("other issuer", about(Subject::OtherIssuer), OTHER_ISSUER),
        case("nothing", about(Subject::Nobody), "not an OCSP response: no certificate in it"),
        case("wrong nonce", nonce(Nonce::Wrong), NONCE),
        case("no nonce", nonce(Nonce::Missing), "response does not carry the nonce of the request")
            .strict(),
        row("another's good", Trick::AboutAnother(Behaviour::good()), OTHER_SERIAL),
        row("its own of before", Trick::OwnOfBefore, NONCE),
        case("critical extension", critical, CRITICAL),
        case("critical extension of ours", critical_single, CRITICAL),
    ]
}

/// Whoever believes these asks for a certificate.
fn revocations() -> Vec<Case> {
    let revoked = || Behaviour::revoked(Some(1));
    let signer = |what, signer, cause| case(what, Behaviour { signer, ..revoked() }, cause);
    let delegate = |what, d: Delegate, cause| signer(what, Signer::Delegate(d), cause);
    let good = Delegate::default;
    let subject = |what, subject, cause| case(what, Behaviour { subject, ..revoked() }, cause);
    let extension = || vec![der::extension("1.2.3.4", true, b"x")];
    let critical = Behaviour { extensions: extension(), ..revoked() };
    let critical_single = Behaviour { single_extensions: extension(), ..revoked() };
    let stale = Behaviour { status: revoked().status, ..Behaviour::stale(3600) };
    let future = Behaviour { this_update: 3600, ..revoked() };
    let wrong_nonce = Behaviour { nonce: Nonce::Wrong, ..revoked() };
    let no_nonce = Behaviour { nonce: Nonce::Missing, ..revoked() };
    let nonce_is_missing = "response does not carry the nonce of the request";
    let badly = Behaviour::signer(Signer::BrokenSignature);
    vec![
        row("revoked, another", Trick::AboutAnother(revoked()), OTHER_SERIAL),
        signer("revoked, bad signature", Signer::BrokenSignature, "bad signature"),
        signer("revoked, other CA", Signer::OtherCa, NOT_ISSUED),
        delegate("revoked, no EKU", Delegate { eku: false, ..good() }, NO_EKU),
        delegate("revoked, expired signer", Delegate { expired: true, ..good() }, EXPIRED),
        delegate("revoked, stranger", Delegate { of_other_ca: true, ..good() }, NOT_ISSUED),
        delegate("revoked, unseen signer", Delegate { sent: false, ..good() }, UNSEEN),
        delegate("revoked, so is its signer", Delegate { revoked: true, ..good() }, REVOKED_SIGNER),
        subject("revoked, other serial", Subject::OtherSerial, OTHER_SERIAL),
        subject("revoked, other issuer", Subject::OtherIssuer, OTHER_ISSUER),
        case("revoked, wrong nonce", wrong_nonce, NONCE),
        case("revoked, no nonce", no_nonce, nonce_is_missing).strict(),
        case("revoked, stale", stale, "response is stale since *"),
        case("revoked, of the future", future, "response is not valid before *"),
        case("revoked, critical extension", critical, CRITICAL),
        case("revoked, critical extension of ours", critical_single, CRITICAL),
        row("a sibling revoked alone", Trick::SiblingRevoked(about(Subject::Nobody)), OTHER_SERIAL),
        row("a sibling revoked, bad signature", Trick::SiblingRevoked(badly), "bad signature"),
    ]
}

fn slow() -> Vec<Case> {
    let drip = Delivery::Drip(Duration::from_millis(100));
    vec![
        delivery("never", Delivery::Never, "timed out"),
        delivery("dripping", drip, "timed out"),
        delivery("endless", Delivery::Endless, "timed out"),
    ]
}

/// What is right in an unusual way is right.
#[test]
#[ignore = "needs nginx and the module: scripts/test.sh"]
fn an_unusual_responder_is_believed() {
    let liar = Liar::start();
    let tls = Port::reserve();
    let server = format!("server {{ listen {} ssl; server_name a.test; }}", tls.addr());
    let lines = "ssl_cert_autofetch_check hard; ssl_cert_autofetch_check_interval 0;";
    let stage = Hostile::start(liar, tls, Config::new(), "", &format!("{lines}\n{server}"));
    let serial = stage.monitor.wait_valid("a.test");
    let methods = |methods| Behaviour { methods, ..Behaviour::default() };
    let delegate = |delegate| Behaviour::signer(Signer::Delegate(delegate));
    let single = |id, critical, value: &[u8]| Behaviour {
        single_extensions: vec![der::extension(id, critical, value)],
        ..Behaviour::default()
    };
    let cutoff = der::time(clock::now() - 86_400);
    let table = [
        ("delegate", delegate(Delegate::default())),
        (
            "delegate without revocation check",
            delegate(Delegate { nocheck: true, ..Delegate::default() }),
        ),
        ("no nonce", Behaviour { nonce: Nonce::Missing, ..Behaviour::default() }),
        ("GET only", methods(Methods::GetOnly)),
        ("POST only", methods(Methods::PostOnly)),
        ("SHA-256 only", Behaviour { sha256_only: true, ..Behaviour::default() }),
        ("no nextUpdate", Behaviour { next_update: None, ..Behaviour::default() }),
        ("a clock 4 min ahead", Behaviour { this_update: 240, ..Behaviour::default() }),
        ("a clock 4 min behind", Behaviour::stale(240)),
        ("two answers", {
            let others = vec![("77".into(), Status::Revoked { reason: None, at: 0 })];
            Behaviour { others, ..Behaviour::default() }
        }),
        ("archive cutoff", single("1.3.6.1.5.5.7.48.1.6", false, &cutoff)),
        ("critical archive cutoff", single("1.3.6.1.5.5.7.48.1.6", true, &cutoff)),
        ("unknown extension of ours", single("1.2.3.4", false, b"x")),
        ("unknown extension", {
            let extensions = vec![der::extension("1.2.3.4", false, b"x")];
            Behaviour { extensions, ..Behaviour::default() }
        }),
    ];
    for (what, behaviour) in table {
        stage.liar.responder.behave(behaviour);
        let served = stage.client("a.test").connect();
        let served =
            served.unwrap_or_else(|e| panic!("{what}: {e:?}\n{}", stage.nginx.error_log()));
        assert_eq!(served.serial, serial, "{what}");
    }
    assert_eq!(stage.nginx.log_lines("failed:"), Vec::<String>::new());
}

fn row(what: &'static str, trick: Trick, cause: &'static str) -> Case {
    Case { what, trick, cause, requests: 1, longest: USUAL, ca: "liar" }
}

fn case(what: &'static str, behaviour: Behaviour, cause: &'static str) -> Case {
    row(what, Trick::Behaves(behaviour), cause)
}

fn delivery(what: &'static str, delivery: Delivery, cause: &'static str) -> Case {
    case(what, Behaviour::delivery(delivery), cause)
}

fn about(subject: Subject) -> Behaviour {
    Behaviour { subject, ..Behaviour::default() }
}

fn replay(bytes: Vec<u8>) -> Behaviour {
    Behaviour::delivery(Delivery::Replay(bytes))
}

const SIBLING: &str = "soft-sibling.test";
const MINUTE: u64 = 60;

// Causes that several have.
const GONE: &str = "Peer disconnected";
const REFUSED: &str = "Connection refused (os error *)";
const UNKNOWN: &str = "does not know";
const MALFORMED: &str = "not an OCSP response: malformed";
const NOT_ISSUED: &str =
    "signer is not the issuer and was not appointed by it: not issued by the issuer";
const NO_EKU: &str = "signer is not the issuer and was not appointed by it: no id-kp-OCSPSigning";
const REVOKED_SIGNER: &str = "signer is not the issuer and was not appointed by it: \
    the response says that its certificate is revoked";
const EXPIRED: &str = "signer's certificate expired at *";
const UNSEEN: &str = "signed by somebody whose certificate is not known";
const OTHER_SERIAL: &str = "response is about another certificate: serial=*";
const OTHER_ISSUER: &str = "response is about a certificate of another issuer";
const NONCE: &str = "nonce of the response is not that of the request";
const CRITICAL: &str = "response has a critical extension that is not known: 1.2.3.4";
