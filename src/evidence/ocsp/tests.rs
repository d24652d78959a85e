use std::sync::Mutex;

use openssl::error::ErrorStack;
use openssl::ocsp::OcspRequest;
use openssl::pkey::PKey;
use openssl::rsa::Rsa;
use openssl::x509::X509;

use super::*;
use crate::clock::FakeClock;
use crate::evidence::{Reason, Source, Status};
use crate::fixture::der::tlv;
use crate::fixture::ocsp::{
    Algorithm, CertId, CertStatus, Reply, Single, response, response_of_type, status_only,
};
use crate::fixture::{DAY, Identity, NOW, Spec, at, root, self_signed, self_signed_with};
use crate::http::HttpError;

const URL: &str = "http://ocsp.example";
const TIMEOUT: Duration = Duration::from_secs(10);
const SENT: openssl_ffi::Nonce = [7; 32];

/// A CA, a leaf of it, and what is asked about that.
struct World {
    ca: Identity,
    leaf: Identity,
    facts: CertFacts,
}

impl World {
    fn new() -> World {
        World::of(root("CA"))
    }

    fn of(ca: Identity) -> World {
        let leaf = ca.issue(Spec::default());
        let facts = CertFacts::from_der(&leaf.der()).unwrap();
        World { ca, leaf, facts }
    }

    fn query(&self) -> Query<'_> {
        Query {
            certificate: &self.leaf.cert,
            facts: &self.facts,
            issuer: &self.ca.cert,
            url: URL,
            nonce: Nonce::On,
            extra_signer: None,
            timeout: TIMEOUT,
        }
    }

    fn single(&self) -> Single {
        Single::good(&self.leaf.cert, &self.ca.cert)
    }

    fn good(&self) -> Reply {
        Reply::new(&self.ca, self.single())
    }

    fn with(&self, single: Single) -> Vec<u8> {
        Reply::new(&self.ca, single).der()
    }

    fn with_id(&self, change: impl Fn(&mut CertId)) -> Vec<u8> {
        let mut single = self.single();
        change(&mut single.id);
        self.with(single)
    }

    /// Signed by a delegate, whose certificate is in the response.
    fn delegated(&self, delegate: &Identity) -> Vec<u8> {
        let certificates = vec![delegate.cert.clone()];
        Reply { certificates, ..Reply::new(delegate, self.single()) }.der()
    }

    fn verify(&self, der: &[u8]) -> Result<Evidence, Fault> {
        verify::try_verify(der, &self.query(), None, NOW)
    }
}

fn delegate() -> Spec<'static> {
    Spec { cn: "Responder", serial: 2, names: &[], usage: &["OCSPSigning"], ..Spec::default() }
}

fn text(result: Result<Evidence, Fault>) -> String {
    match result {
        Ok(evidence) => format!("{:?}", evidence.status),
        Err(fault) => fault.to_string(),
    }
}

#[test]
fn good_is_evidence() {
    let world = World::new();
    let evidence = verify(&world.good().der(), &world.query(), None, NOW).unwrap();
    let expected = Evidence {
        certificate: world.facts.fingerprint.clone(),
        serial: world.facts.serial.clone(),
        source: Source::Ocsp,
        status: Status::Good,
        this_update: at(-60),
        next_update: Some(at(3600)),
        checked_at: NOW,
        responder: URL.to_string(),
    };
    assert_eq!(evidence, expected);
    let by_key = Reply { by_key: true, ..world.good() };
    assert_eq!(world.verify(&by_key.der()).unwrap(), expected);
}

#[test]
fn revoked_and_unknown_are_evidence() {
    let world = World::new();
    let codes = (0..=12).map(Some).chain([None]);
    for code in codes {
        let single = world.single().status(CertStatus::Revoked(at(-500), code));
        let reason = Reason::from_code(code.map(i32::from));
        let expected = Status::Revoked { reason, at: at(-500) };
        assert_eq!(world.verify(&world.with(single)).unwrap().status, expected, "{code:?}");
    }
    let unknown = world.single().status(CertStatus::Unknown);
    assert_eq!(world.verify(&world.with(unknown)).unwrap().status, Status::Unknown);
}

#[test]
fn what_is_no_response() {
    let world = World::new();
    let good = world.good().der();
    let basic = world.good().basic();
    let trailing = [&good[..], &[0]].concat();
    let trailing_inside = response(&[&basic[..], &[0]].concat());
    let oversized = vec![0x30; LIMIT + 1];
    let no_singles = Reply { singles: vec![], ..world.good() }.der();
    let other_type = response_of_type("1.3.6.1.5.5.7.48.1.9", &basic);
    let mut bad_time = world.single();
    bad_time.this_update = tlv(0x18, b"20330231000000Z");
    let table: &[(&[u8], &str)] = &[
        (&[], "not an OCSP response: malformed"),
        (b"<html>captive portal</html>", "not an OCSP response: malformed"),
        (&[0x30, 0x80, 0, 0], "not an OCSP response: malformed"),
        (&good[..good.len() - 1], "not an OCSP response: malformed"),
        (&good[..5], "not an OCSP response: malformed"),
        (&trailing, "not an OCSP response: trailing bytes"),
        (&trailing_inside, "not an OCSP response: trailing bytes"),
        (&oversized, "response is larger than 65536 bytes"),
        (&response(b"\x30\x00"), "not an OCSP response: malformed basic response"),
        (&status_only(0), "not an OCSP response: malformed basic response"),
        (&other_type, "not an OCSP response: not a basic response"),
        (&no_singles, "not an OCSP response: no certificate in it"),
        (&world.with(bad_time), "response has a malformed time"),
        (&status_only(1), "responder says malformedRequest"),
        (&status_only(2), "responder says internalError"),
        (&status_only(3), "responder says tryLater"),
        (&status_only(4), "not an OCSP response: unknown status"),
        (&status_only(5), "responder says sigRequired: it answers signed requests only"),
        (&status_only(6), "responder says unauthorized: it does not know the certificate"),
        (&status_only(7), "not an OCSP response: unknown status"),
        (&status_only(0x80), "not an OCSP response: unknown status"),
    ];
    for (der, expected) in table {
        assert_eq!(text(world.verify(der)), *expected, "{:02x?}", &der[..der.len().min(20)]);
    }
}

/// Every byte counts: no single changed byte leaves a response that says something else.
#[test]
fn no_changed_byte_is_believed() {
    let world = World::new();
    let revoked = world.single().status(CertStatus::Revoked(at(-500), Some(1)));
    let der = Reply::new(&world.ca, revoked).with_nonce(&SENT).der();
    let expected = world.verify(&der).unwrap();
    for i in 0..der.len() {
        let mut changed = der.clone();
        changed[i] ^= 0x01;
        if let Ok(evidence) = world.verify(&changed) {
            // Encodings that OpenSSL reads as the same.
            assert_eq!(evidence, expected, "byte {i}");
        }
        assert!(world.verify(&der[..i]).is_err(), "first {i} bytes");
    }
}

#[test]
fn who_may_sign() {
    let world = World::new();
    let other = root("Other CA");
    let same_name = root("CA");
    let below = world.ca.issue(Spec::ca("Sub CA"));
    let issue = |spec| world.ca.issue(spec);
    let life = |life| Spec { life, ..delegate() };
    let encipher_only: &[(&str, bool, &[u8])] = &[("2.5.29.15", true, &[3, 2, 5, 0x20])];
    let self_made = self_signed(Spec { cn: "CA", usage: &["OCSPSigning"], ..delegate() });
    // Says that the CA issued it, and is in the CA's name, but carries another signature.
    let forged = same_name.issue(delegate());
    let named_only = Reply::new(&issue(delegate()), world.single());
    const NOT_ISSUED: &str =
        "signer is not the issuer and was not appointed by it: not issued by the issuer";
    const NO_EKU: &str =
        "signer is not the issuer and was not appointed by it: no id-kp-OCSPSigning";
    const UNKNOWN: &str = "signed by somebody whose certificate is not known";
    let table: &[(&str, Vec<u8>, &str)] = &[
        ("issuer", world.good().der(), "Good"),
        ("turned bit", world.good().der_badly_signed(), "bad signature"),
        ("other CA", Reply::new(&other, world.single()).der(), UNKNOWN),
        ("other CA, certificate in it", world.delegated(&other), NOT_ISSUED),
        (
            "other CA of the same name",
            Reply::new(&same_name, world.single()).der(),
            "bad signature",
        ),
        ("the same, certificate in it", world.delegated(&same_name), NOT_ISSUED),
        ("delegate", world.delegated(&issue(delegate())), "Good"),
        ("delegate, no certificate", named_only.der(), UNKNOWN),
        ("no EKU", world.delegated(&issue(Spec { usage: &[], ..delegate() })), NO_EKU),
        ("server", world.delegated(&issue(Spec { usage: &["serverAuth"], ..delegate() })), NO_EKU),
        (
            "any EKU",
            world.delegated(&issue(Spec { usage: &["anyExtendedKeyUsage"], ..delegate() })),
            NO_EKU,
        ),
        ("the certificate in question", world.delegated(&world.leaf), NO_EKU),
        (
            "key for encryption",
            world.delegated(&issue(Spec { extensions: encipher_only, ..delegate() })),
            "signer is not the issuer and was not appointed by it: \
             its keyUsage allows no signatures",
        ),
        (
            "expired",
            world.delegated(&issue(life((-DAY, -301)))),
            "signer's certificate expired at 2033-05-18T03:28:19Z",
        ),
        ("expired within the skew", world.delegated(&issue(life((-DAY, -300)))), "Good"),
        (
            "not yet valid",
            world.delegated(&issue(life((301, DAY)))),
            "signer's certificate is not valid before 2033-05-18T03:38:21Z",
        ),
        ("not yet valid within the skew", world.delegated(&issue(life((300, DAY)))), "Good"),
        ("delegate of another CA", world.delegated(&other.issue(delegate())), NOT_ISSUED),
        ("delegate of a forged CA", world.delegated(&forged), NOT_ISSUED),
        ("delegate of a sub CA", world.delegated(&below.issue(delegate())), NOT_ISSUED),
        ("self-signed", world.delegated(&self_made), NOT_ISSUED),
    ];
    for (name, der, expected) in table {
        assert_eq!(text(world.verify(der)), *expected, "{name}");
        // What is left behind would be taken for the error of another call.
        assert!(ErrorStack::get().errors().is_empty(), "{name}");
    }
}

#[test]
fn a_delegate_is_found_among_others() {
    let world = World::new();
    let (good, other) = (world.ca.issue(delegate()), root("CA").issue(delegate()));
    let reply =
        |certificates: Vec<X509>| Reply { certificates, ..Reply::new(&good, world.single()) }.der();
    let first = reply(vec![other.cert.clone(), world.ca.cert.clone(), good.cert.clone()]);
    assert_eq!(text(world.verify(&first)), "Good");
    let only_namesake = reply(vec![other.cert.clone()]);
    assert_eq!(text(world.verify(&only_namesake)), "bad signature");
}

#[test]
fn the_administrators_signer() {
    let world = World::new();
    let pinned = root("Pinned").issue(Spec { usage: &[], life: (-DAY, -DAY / 2), ..delegate() });
    let der = Reply::new(&pinned, world.single()).der();
    assert!(world.verify(&der).is_err());
    let query = Query { extra_signer: Some(&pinned.cert), ..world.query() };
    let verify = |der: &[u8]| text(verify::try_verify(der, &query, None, NOW));
    assert_eq!(verify(&der), "Good");
    assert_eq!(verify(&world.good().der()), "Good", "the issuer still may");
    let badly = Reply::new(&pinned, world.single()).der_badly_signed();
    assert_eq!(verify(&badly), "bad signature");
    assert_eq!(verify(&world.delegated(&pinned)), "Good", "in the response too");
}

#[test]
fn weak_digests_are_refused() {
    let key = PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap();
    let world = World::of(self_signed_with(Spec::ca("RSA"), key));
    let reply = Reply { signed_with: Algorithm::RsaMd5, ..world.good() };
    assert_eq!(text(world.verify(&reply.der())), "signed with MD5, which is too weak");
}

#[test]
fn whom_it_is_about() {
    let world = World::new();
    let sha256 = CertId::sha256(&world.leaf.cert, &world.ca.cert);
    let mixed = CertId { digest_oid: "2.16.840.1.101.3.4.2.1", ..world.single().id };
    let sha512 = CertId::new(
        "2.16.840.1.101.3.4.2.3",
        MessageDigest::sha512(),
        &world.leaf.cert,
        &world.ca.cert,
    );
    const ISSUER: &str = "response is about a certificate of another issuer";
    let table: &[(&str, Vec<u8>, &str)] = &[
        ("SHA-1", world.with_id(|_| {}), "Good"),
        ("SHA-256", world.with_id(|id| *id = sha256.clone()), "Good"),
        ("SHA-512", world.with_id(|id| *id = sha512.clone()), ISSUER),
        ("SHA-1 said to be SHA-256", world.with_id(|id| *id = mixed.clone()), ISSUER),
        ("key hash", world.with_id(|id| id.key_hash[0] ^= 1), ISSUER),
        ("name hash", world.with_id(|id| id.name_hash[19] ^= 1), ISSUER),
        ("short hash", world.with_id(|id| id.key_hash.truncate(4)), ISSUER),
        ("no hash", world.with_id(|id| id.key_hash.clear()), ISSUER),
        (
            "serial",
            world.with_id(|id| id.serial = vec![0x12, 0x35]),
            "response is about another certificate: serial=1235",
        ),
        (
            "serial 0, as openssl ocsp says to an unknown digest",
            world.with_id(|id| id.serial = vec![0]),
            "response is about another certificate: serial=00",
        ),
    ];
    for (name, der, expected) in table {
        assert_eq!(text(world.verify(der)), *expected, "{name}");
    }
}

/// The same digits as a negative number are another certificate.
#[test]
fn a_negative_serial_is_another() {
    let world = World::new();
    let leaf = world.ca.issue(Spec { serial: 0xff12, ..Spec::default() });
    let facts = CertFacts::from_der(&leaf.der()).unwrap();
    assert_eq!(facts.serial.0, "ff12");
    let query = Query { certificate: &leaf.cert, facts: &facts, ..world.query() };
    let mut single = Single::good(&leaf.cert, &world.ca.cert);
    assert_eq!(single.id.serial, [0, 0xff, 0x12]);
    let verify = |single: &Single| verify(&world.with(single.clone()), &query, None, NOW);
    assert!(verify(&single).is_ok());
    single.id.serial = vec![0xff, 0x12];
    assert!(verify(&single).is_err());
    single.id.serial = vec![0xff, 0x00, 0xee]; // -0xff12
    assert!(verify(&single).is_err());
}

#[test]
fn several_singles() {
    let world = World::new();
    let other = world.ca.issue(Spec { serial: 9, ..Spec::default() });
    let other = |status| Single::good(&other.cert, &world.ca.cert).status(status);
    let ours = |status| world.single().status(status);
    let gone = CertStatus::Revoked(at(-5), Some(4));
    let stale = ours(CertStatus::Good).times(-7200, Some(-3600));
    let mut by_sha256 = ours(gone);
    by_sha256.id = CertId::sha256(&world.leaf.cert, &world.ca.cert);
    let gone_text = format!("Revoked {{ reason: Superseded, at: {:?} }}", at(-5));
    let stale_text = "response is stale since 2033-05-18T02:33:20Z";
    let table: &[(&str, Vec<Single>, &str)] = &[
        ("ours last", vec![other(gone), ours(CertStatus::Good)], "Good"),
        ("ours first", vec![ours(CertStatus::Good), other(gone)], "Good"),
        ("ours revoked", vec![other(CertStatus::Good), ours(gone)], &gone_text),
        ("both, the bad one stands", vec![ours(CertStatus::Good), ours(gone)], &gone_text),
        ("both ways of naming it", vec![ours(CertStatus::Good), by_sha256.clone()], &gone_text),
        ("the same the other way", vec![by_sha256, ours(CertStatus::Good)], &gone_text),
        ("one is stale", vec![stale.clone(), ours(CertStatus::Good)], "Good"),
        ("ours is stale", vec![stale.clone(), other(CertStatus::Good)], stale_text),
        ("ours is stale, last", vec![other(CertStatus::Good), stale], stale_text),
        (
            "none is ours",
            vec![other(CertStatus::Good), other(gone)],
            "response is about another certificate: serial=09",
        ),
    ];
    for (name, singles, expected) in table {
        let der = Reply { singles: singles.clone(), ..world.good() }.der();
        assert_eq!(text(world.verify(&der)), *expected, "{name}");
    }
}

#[test]
fn an_old_answer_without_end_is_for_us_or_proves_nothing_good() {
    let world = World::new();
    let gone = CertStatus::Revoked(at(-365 * DAY), None);
    let gone_text = format!("Revoked {{ reason: Unspecified, at: {:?} }}", at(-365 * DAY));
    const STALE: &str = "response is stale since 2033-05-18T03:28:19Z";
    for (this_update, next_update, status, has_nonce, expected) in [
        (-7 * DAY - 301, None, CertStatus::Good, false, STALE),
        (-7 * DAY - 301, None, CertStatus::Good, true, "Good"),
        (-7 * DAY - 301, Some(0), CertStatus::Good, false, "Good"),
        (-365 * DAY, None, CertStatus::Unknown, false, "Unknown"),
        (-365 * DAY, None, gone, false, &gone_text),
    ] {
        let single = world.single().status(status).times(this_update, next_update);
        let reply = Reply::new(&world.ca, single);
        let reply = if has_nonce { reply.with_nonce(&SENT) } else { reply };
        let verified = verify::try_verify(&reply.der(), &world.query(), Some(&SENT), NOW);
        assert_eq!(text(verified), expected, "{this_update} {next_update:?} {has_nonce}");
    }
}

#[test]
fn when_it_counts() {
    let world = World::new();
    let table: &[(i64, Option<i64>, &str)] = &[
        (0, Some(3600), "Good"),
        (0, None, "Good"),
        (-7 * DAY - 300, None, "Good"),
        (300, None, "Good"),
        (301, None, "response is not valid before 2033-05-18T03:38:21Z"),
        (301, Some(3600), "response is not valid before 2033-05-18T03:38:21Z"),
        (-7200, Some(-300), "Good"),
        (-7200, Some(-301), "response is stale since 2033-05-18T03:28:19Z"),
        (-10, Some(-10), "Good"),
        (
            -10,
            Some(-11),
            "response ends at 2033-05-18T03:33:09Z before it begins at 2033-05-18T03:33:10Z",
        ),
    ];
    for (this_update, next_update, expected) in table {
        for status in [CertStatus::Good, CertStatus::Revoked(at(-9), None), CertStatus::Unknown] {
            let single = world.single().status(status).times(*this_update, *next_update);
            let verified = world.verify(&world.with(single));
            match (verified, *expected) {
                (Ok(evidence), "Good") => {
                    assert_eq!(evidence.this_update, at(*this_update));
                    assert_eq!(evidence.next_update, next_update.map(at));
                }
                (verified, expected) => assert_eq!(text(verified), expected),
            }
        }
    }
}

#[test]
fn nonces() {
    const OTHER: openssl_ffi::Nonce = [8; 32];
    const DIFFERS: &str = "nonce of the response is not that of the request";
    const MISSING: &str = "response does not carry the nonce of the request";
    let world = World::new();
    type Row = (Nonce, Option<openssl_ffi::Nonce>, Option<openssl_ffi::Nonce>, &'static str);
    let table: &[Row] = &[
        (Nonce::On, Some(SENT), Some(SENT), "Good"),
        (Nonce::On, Some(SENT), None, "Good"),
        (Nonce::On, Some(SENT), Some(OTHER), DIFFERS),
        (Nonce::On, None, Some(OTHER), "Good"),
        (Nonce::On, None, None, "Good"),
        (Nonce::Off, None, None, "Good"),
        (Nonce::Off, None, Some(OTHER), "Good"),
        (Nonce::Required, Some(SENT), Some(SENT), "Good"),
        (Nonce::Required, Some(SENT), None, MISSING),
        (Nonce::Required, Some(SENT), Some(OTHER), DIFFERS),
        (Nonce::Required, None, None, MISSING),
        (Nonce::Required, None, Some(OTHER), MISSING),
    ];
    for (nonce, sent, answered, expected) in table {
        let mut reply = world.good();
        if let Some(answered) = answered {
            reply = reply.with_nonce(answered);
        }
        let query = Query { nonce: *nonce, ..world.query() };
        let verified = verify::try_verify(&reply.der(), &query, sent.as_ref(), NOW);
        assert_eq!(text(verified), *expected, "{nonce:?} {sent:?} {answered:?}");
    }
    // A part of it is not it, and neither is it without its own OCTET STRING.
    for bytes in [SENT.to_vec(), tlv(4, &SENT[..31]), tlv(4, &[&SENT[..], &[7]].concat())] {
        let reply = Reply { nonce: Some(bytes), ..world.good() };
        let verified = verify::try_verify(&reply.der(), &world.query(), Some(&SENT), NOW);
        assert_eq!(text(verified), DIFFERS);
    }
}

type Responder<'a> = dyn Fn(usize, &Request) -> Result<Response, HttpError> + Send + Sync + 'a;

/// Answers by a function of the number of the request and the request; remembers them.
struct FakeHttp<'a> {
    answer: Box<Responder<'a>>,
    seen: Mutex<Vec<Request>>,
}

impl<'a> FakeHttp<'a> {
    fn new(
        answer: impl Fn(usize, &Request) -> Result<Response, HttpError> + Send + Sync + 'a,
    ) -> FakeHttp<'a> {
        FakeHttp { answer: Box::new(answer), seen: Mutex::default() }
    }

    fn seen(self) -> Vec<Request> {
        self.seen.into_inner().unwrap()
    }
}

impl Http for FakeHttp<'_> {
    fn send(&self, request: &Request) -> Result<Response, HttpError> {
        let mut seen = self.seen.lock().unwrap();
        seen.push(request.clone());
        (self.answer)(seen.len(), request)
    }
}

fn status(status: u16) -> Response {
    Response { status, ..Response::default() }
}

fn ok(body: Vec<u8>) -> Response {
    Response { status: 200, body, ..Response::default() }
}

/// The nonce in a request: what follows its OID and the two OCTET STRING headers.
fn nonce_of(request: &[u8]) -> Option<&[u8]> {
    const OID: &[u8] = &[6, 9, 0x2b, 6, 1, 5, 5, 7, 0x30, 1, 2, 4, 34, 4, 32];
    let start = request.windows(OID.len()).position(|w| w == OID)? + OID.len();
    request.get(start..start + 32)
}

fn request_of_url(url: &str) -> Vec<u8> {
    let path = url.strip_prefix("http://ocsp.example/").unwrap();
    let base64 = path.replace("%2B", "+").replace("%2F", "/").replace("%3D", "=");
    assert!(!path.contains(['+', '/', '=']), "{path}");
    BASE64_STANDARD.decode(base64).unwrap()
}

#[test]
fn asks_by_post() {
    let world = World::new();
    let clock = FakeClock::at(NOW);
    let http = FakeHttp::new(|_, request: &Request| {
        clock.advance(Duration::from_secs(2));
        Ok(ok(world.good().with_nonce(nonce_of(&request.body).unwrap()).der()))
    });
    let query = Query { nonce: Nonce::Required, ..world.query() };
    let answer = ask(&http, &clock, &query).unwrap();
    assert_eq!(answer.evidence.status, Status::Good);
    assert_eq!(answer.evidence.checked_at, NOW, "when it was asked, not when it was answered");
    assert_eq!(verify(&answer.der, &world.query(), None, NOW).unwrap().status, Status::Good);
    let [request] = &http.seen()[..] else { panic!("one request") };
    assert_eq!((request.method, request.url.as_str()), (Method::Post, URL));
    assert_eq!(request.headers[0], ("content-type", "application/ocsp-request".into()));
    assert_eq!(request.headers[1], ("accept", "application/ocsp-response".into()));
    assert_eq!((request.limit, request.timeout, request.redirects), (65536, TIMEOUT, 3));
    assert!(OcspRequest::from_der(&request.body).is_ok());
    let id = CertId::sha1(&world.leaf.cert, &world.ca.cert);
    let contains = |part: &[u8]| request.body.windows(part.len()).any(|w| w == part);
    assert!(contains(&id.name_hash) && contains(&id.key_hash) && contains(&tlv(2, &id.serial)));
}

#[test]
fn nonces_are_sent_and_differ() {
    let world = World::new();
    let clock = FakeClock::at(NOW);
    let nonce = |nonce| {
        let http = FakeHttp::new(|_, _| Ok(ok(world.good().der())));
        let _ = ask(&http, &clock, &Query { nonce, ..world.query() });
        nonce_of(&http.seen()[0].body).map(<[u8]>::to_vec)
    };
    assert_eq!(nonce(Nonce::Off), None);
    let (first, second) = (nonce(Nonce::On).unwrap(), nonce(Nonce::Required).unwrap());
    assert_ne!(first, second);
}

#[test]
fn get_only_where_post_is_refused() {
    let world = World::new();
    for code in 200..=599 {
        let retried =
            matches!(code, 300..=599) && ![401, 407, 408, 429, 502, 503, 504].contains(&code);
        let clock = FakeClock::at(NOW);
        let http = FakeHttp::new(|n, _| {
            clock.advance(Duration::from_secs(4));
            Ok(if n == 1 { status(code) } else { ok(world.good().der()) })
        });
        let answer = ask(&http, &clock, &world.query());
        let seen = http.seen();
        assert_eq!(answer.is_ok(), retried, "{code}");
        assert_eq!(seen.len(), 1 + usize::from(retried), "{code}");
        if let Some(get) = seen.get(1) {
            assert_eq!((get.method, get.body.len()), (Method::Get, 0));
            assert_eq!(get.headers, [("accept", "application/ocsp-response".to_string())]);
            assert_eq!(get.timeout, Duration::from_secs(6), "what is left");
            let request = request_of_url(&get.url);
            assert!(OcspRequest::from_der(&request).is_ok());
            assert_eq!(nonce_of(&request), None, "a pre-produced answer has none");
            assert_eq!(answer.unwrap().evidence.checked_at, NOW);
        }
    }
}

#[test]
fn get_carries_a_nonce_that_is_required() {
    let world = World::new();
    let http = FakeHttp::new(|n, request: &Request| {
        Ok(match n {
            1 => status(405),
            _ => {
                let nonce = nonce_of(&request_of_url(&request.url)).unwrap().to_vec();
                ok(world.good().with_nonce(&nonce).der())
            }
        })
    });
    let query = Query { nonce: Nonce::Required, ..world.query() };
    assert!(ask(&http, &FakeClock::at(NOW), &query).is_ok());
}

#[test]
fn no_get_without_time_left_or_after_no_answer() {
    let world = World::new();
    let clock = FakeClock::at(NOW);
    let slow = FakeHttp::new(|_, _| {
        clock.advance(TIMEOUT);
        Ok(status(405))
    });
    let error = ask(&slow, &clock, &world.query()).unwrap_err();
    let expected = "ocsp: HTTP status 405 to POST, source=http://ocsp.example";
    assert_eq!(error.to_string(), expected);
    assert_eq!(slow.seen().len(), 1);
    let table = [
        (HttpError::Timeout, "ocsp: timed out, source=http://ocsp.example"),
        (
            HttpError::Io("connection refused".into()),
            "ocsp: connection refused, source=http://ocsp.example",
        ),
        (
            HttpError::TooLarge(65536),
            "ocsp: response is larger than 65536 bytes, source=http://ocsp.example",
        ),
    ];
    for (error, expected) in table {
        let http = FakeHttp::new(|_, _| Err(error.clone()));
        let failed = ask(&http, &FakeClock::at(NOW), &world.query()).unwrap_err();
        assert_eq!(failed.to_string(), expected);
        assert_eq!(failed.retry_after(), None);
        assert_eq!(http.seen().len(), 1);
    }
}

#[test]
fn a_status_200_is_the_answer() {
    let world = World::new();
    for body in [b"junk".to_vec(), status_only(1), world.good().der_badly_signed()] {
        let http = FakeHttp::new(|_, _| Ok(ok(body.clone())));
        assert!(ask(&http, &FakeClock::at(NOW), &world.query()).is_err());
        assert_eq!(http.seen().len(), 1);
    }
}

#[test]
fn an_error_told_under_an_http_error() {
    let world = World::new();
    let table = [
        (400, status_only(1), "responder says malformedRequest", 1),
        (500, status_only(2), "responder says internalError", 1),
        (401, status_only(6), "responder says unauthorized: it does not know the certificate", 1),
        (500, world.good().der(), "HTTP status 500 to GET", 2),
        (503, world.good().der(), "HTTP status 503 to POST", 1),
        (404, b"<html>".to_vec(), "HTTP status 404 to GET", 2),
    ];
    for (code, body, expected, requests) in table {
        let http = FakeHttp::new(|_, _| Ok(Response { status: code, ..ok(body.clone()) }));
        let error = ask(&http, &FakeClock::at(NOW), &world.query()).unwrap_err();
        assert_eq!(error.fault.to_string(), expected);
        assert_eq!(http.seen().len(), requests, "{expected}");
    }
}

#[test]
fn when_to_ask_again() {
    let world = World::new();
    let secs = |s| Some(Duration::from_secs(s));
    let date = "Wed, 18 May 2033 03:35:20 GMT"; // NOW + 2 min
    let table = [
        (200, status_only(1), None, secs(60)),
        (200, status_only(1), Some("5"), secs(60)),
        (200, status_only(2), None, None),
        (200, status_only(2), Some("5"), secs(5)),
        (200, status_only(3), None, secs(10)),
        (200, status_only(3), Some("77"), secs(77)),
        (200, status_only(3), Some(date), secs(120)),
        (200, status_only(3), Some("Mon, 01 Jan 2001 00:00:00 GMT"), secs(1)),
        (200, status_only(3), Some("0"), secs(1)),
        (200, status_only(3), Some("99999999"), secs(3600)),
        (200, status_only(3), Some("99999999999999999999999"), secs(10)),
        (200, status_only(3), Some("soon"), secs(10)),
        (200, status_only(5), None, secs(60)),
        (200, status_only(6), None, None),
        (500, status_only(3), Some("8"), secs(8)),
        (503, vec![], Some("9"), secs(9)),
        (429, vec![], Some("10"), secs(10)),
        (503, vec![], None, None),
        (200, b"junk".to_vec(), Some("11"), None),
    ];
    for (code, body, header, expected) in table {
        let headers = header.map(|h| ("retry-after".to_string(), h.to_string()));
        let headers = headers.into_iter().collect();
        let response = Response { status: code, headers, body };
        let http = FakeHttp::new(|_, _| Ok(response.clone()));
        let error = ask(&http, &FakeClock::at(NOW), &world.query()).unwrap_err();
        assert_eq!(error.retry_after(), expected, "{error} {header:?}");
    }
}

#[test]
fn urls_for_get() {
    let request = [0xfb, 0xef, 0xff, 0x00]; // base64 "++//AA=="
    let table = [
        ("http://a", "http://a/%2B%2B%2F%2FAA%3D%3D"),
        ("http://a/", "http://a/%2B%2B%2F%2FAA%3D%3D"),
        ("http://a/ocsp", "http://a/ocsp/%2B%2B%2F%2FAA%3D%3D"),
        ("http://a/ocsp/", "http://a/ocsp/%2B%2B%2F%2FAA%3D%3D"),
    ];
    for (url, expected) in table {
        assert_eq!(get_url(url, &request), expected);
    }
}

#[test]
fn causes_are_one_bounded_line() {
    let long = format!("http://{}\r\n", "x".repeat(5000));
    let error = OcspError { url: long, fault: Fault::Http(HttpError::Io("a\nb".repeat(5000))) };
    let text = error.to_string();
    assert!(text.len() < 600 && !text.contains(['\r', '\n']), "{text}");
    assert!(text.starts_with("ocsp: a b") && text.contains("source=http://xxx"));
}

#[test]
fn many_certificates_are_not_all_tried() {
    let world = World::new();
    let good = world.ca.issue(delegate());
    let mut certificates = vec![root("Stranger").cert; 8];
    certificates.push(good.cert.clone());
    let der = Reply { certificates, ..Reply::new(&good, world.single()) }.der();
    assert_eq!(text(world.verify(&der)), "signed by somebody whose certificate is not known");
}
