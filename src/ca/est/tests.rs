mod enrolment;
mod refusal;

use std::collections::VecDeque;
use std::sync::Mutex;

use openssl::asn1::{Asn1Integer, Asn1Time};
use openssl::bn::BigNum;
use openssl::hash::MessageDigest;
use openssl::pkey::{PKey, Private};
use openssl::x509::X509Name;
use openssl::x509::extension::SubjectAlternativeName;

use super::*;
use crate::bundle::Meta;
use crate::ca::csr::{csr, new_key};
use crate::clock::FakeClock;
use crate::facts::CertFacts;
use crate::fixture::der::{explicit, integer, oid, seq, tlv};
use crate::fixture::{Identity, NOW, Spec, at, root};
use crate::http::HttpError;
use crate::settings::KeyType;

const NAMES: &[&str] = &["a.example", "b.example"];
const URL: &str = "https://est.example/.well-known/est/web";

/// A message as `openssl crl2pkcs7 -nocrl` makes it.
pub(super) fn certs_only(those: &[&X509]) -> Vec<u8> {
    let all: Vec<_> = those.iter().flat_map(|c| c.to_der().unwrap()).collect();
    let data = seq(&[&oid("1.2.840.113549.1.7.1")]);
    let signed = seq(&[&integer(&[1]), &tlv(0x31, &[]), &data, &tlv(0xa0, &all), &tlv(0x31, &[])]);
    seq(&[&oid("1.2.840.113549.1.7.2"), &explicit(0, &signed)])
}

/// As in RFC 7030, A.4.
pub(super) fn multipart(key: &[u8], message: &[u8]) -> Vec<u8> {
    let part = |content_type: &str, der: &[u8]| {
        let text = BASE64_STANDARD.encode(der);
        format!(
            "--estServerExampleBoundary\r\nContent-Type: {content_type}\r\n\
             Content-Transfer-Encoding: base64\r\n\r\n{text}\r\n"
        )
    };
    let key = part("application/pkcs8", key);
    let message = part("application/pkcs7-mime; smime-type=certs-only", message);
    format!("{key}{message}--estServerExampleBoundary--\r\n").into_bytes()
}

thread_local!(static KEY: PKey<Private> = new_key(KeyType::Ecdsa256).unwrap());

pub(super) fn order(reason: &str) -> Order {
    let names: Vec<String> = NAMES.iter().map(|n| n.to_string()).collect();
    let csr = KEY.with(|key| csr(key, &names, false, None).unwrap());
    let (ca, reason) = ("corp".into(), reason.into());
    let entry = names[0].clone();
    Order { ca, entry, names, reason, csr, accepted: false, state: Default::default() }
}

/// What an entry has now: a certificate whose subject is only a common name, as in our requests.
pub(super) fn bundle(cn: &str, names: &[&str], life: (i64, i64), ca: Option<&str>) -> Bundle {
    let key = new_key(KeyType::Ecdsa256).unwrap();
    let mut subject = X509Name::builder().unwrap();
    subject.append_entry_by_text("CN", cn).unwrap();
    let subject = subject.build();
    let mut builder = X509::builder().unwrap();
    builder.set_version(2).unwrap();
    builder.set_subject_name(&subject).unwrap();
    builder.set_issuer_name(root("Old").cert.subject_name()).unwrap();
    builder.set_pubkey(&key).unwrap();
    let time = |s| Asn1Time::from_unix(at(s).secs()).unwrap();
    builder.set_not_before(&time(life.0)).unwrap();
    builder.set_not_after(&time(life.1)).unwrap();
    let serial = BigNum::from_u32(77).unwrap();
    builder.set_serial_number(&Asn1Integer::from_bn(&serial).unwrap()).unwrap();
    if !names.is_empty() {
        let mut san = SubjectAlternativeName::new();
        names.iter().for_each(|name| _ = san.dns(name));
        let san = san.build(&builder.x509v3_context(None, None)).unwrap();
        builder.append_extension(san).unwrap();
    }
    builder.sign(&root("Old").key, MessageDigest::sha256()).unwrap();
    let leaf = X509::from_der(&builder.build().to_der().unwrap()).unwrap();
    let facts = CertFacts::from_der(&leaf.to_der().unwrap()).unwrap();
    let meta = Meta { ca: ca.map(String::from), ..Meta::default() };
    Bundle { version: 1, chain: vec![leaf], key, facts, meta }
}

/// The server, met by two ways: the usual one, and with a client certificate.
struct Server {
    answers: Mutex<VecDeque<Result<Response, HttpError>>>,
    /// Whether a client certificate was shown.
    sent: Mutex<Vec<(bool, Request)>>,
}

struct Way(bool, Arc<Server>);

impl Http for Way {
    fn send(&self, request: &Request) -> Result<Response, HttpError> {
        self.1.sent.lock().unwrap().push((self.0, request.clone()));
        self.1.answers.lock().unwrap().pop_front().expect("an answer")
    }
}

struct Disguise(Arc<Server>);

impl Ways for Disguise {
    fn with_client_certificate(&self, chain: &[u8], key: &Secret) -> Result<Arc<dyn Http>, String> {
        let leaf = X509::from_pem(chain).unwrap();
        let key = PKey::private_key_from_pem(key.bytes()).unwrap();
        assert!(leaf.public_key().unwrap().public_eq(&key));
        Ok(Arc::new(Way(true, self.0.clone())))
    }
}

/// A CA below a root, and its server.
struct Scene {
    root: Identity,
    sub: Identity,
    server: Arc<Server>,
    settings: EstSettings,
}

fn scene() -> Scene {
    let root = root("Root");
    let sub = root.issue(Spec::ca("Sub"));
    let server = Arc::new(Server { answers: Mutex::default(), sent: Mutex::default() });
    let settings = EstSettings {
        ca: "corp".into(),
        url: URL.into(),
        timeout: Duration::from_secs(30),
        username: Some("nginx".into()),
        password: Some(Secret::new(b"hush".to_vec())),
        server_keygen: false,
    };
    Scene { root, sub, server, settings }
}

fn response(status: u16, headers: &[(&str, &str)], body: &[u8]) -> Response {
    let headers = headers.iter().map(|(n, v)| (n.to_string(), v.to_string())).collect();
    Response { status, headers, body: body.into() }
}

fn base64(der: &[u8]) -> Vec<u8> {
    BASE64_STANDARD.encode(der).into_bytes()
}

impl Scene {
    fn with_keygen(mut self) -> Scene {
        self.settings.server_keygen = true;
        self
    }

    fn answer(&self, response: Response) -> &Scene {
        self.server.answers.lock().unwrap().push_back(Ok(response));
        self
    }

    fn fail(&self, error: HttpError) -> &Scene {
        self.server.answers.lock().unwrap().push_back(Err(error));
        self
    }

    fn authorities(&self) -> &Scene {
        let message = certs_only(&[&self.root.cert, &self.sub.cert]);
        self.answer(response(200, &[], &base64(&message)))
    }

    /// For the key of the request.
    fn leaf(&self) -> X509 {
        let spec = Spec { names: NAMES, ..Spec::default() };
        KEY.with(|key| self.sub.certify(&spec, key))
    }

    fn issue(&self) -> &Scene {
        self.answer(response(200, &[], &base64(&certs_only(&[&self.leaf()]))))
    }

    fn step(&self, order: &mut Order, old: Option<&Bundle>) -> Result<Progress, IssueError> {
        let usual = Arc::new(Way(false, self.server.clone()));
        let ways = Arc::new(Disguise(self.server.clone()));
        let clock = Arc::new(FakeClock::at(NOW));
        let result = EstCa::new(self.settings.clone(), usual, ways, clock).step(order, old);
        assert!(self.server.answers.lock().unwrap().is_empty(), "an answer is left");
        // As it goes through the keystore.
        let json = serde_json::to_vec(order).unwrap();
        assert_eq!(serde_json::from_slice::<Order>(&json).unwrap(), *order);
        result
    }

    /// What was sent since: the operation, with a star if a client certificate was shown.
    fn sent(&self) -> Vec<String> {
        let sent = std::mem::take(&mut *self.server.sent.lock().unwrap());
        let word = |(certificate, request): &(bool, Request)| {
            assert!(request.url.starts_with(URL), "{}", request.url);
            let star = if *certificate { "*" } else { "" };
            format!("{}{star}", &request.url[URL.len() + 1..])
        };
        sent.iter().map(word).collect()
    }

    fn chain(&self, those: &[&X509]) -> Vec<u8> {
        those.iter().flat_map(|c| c.to_pem().unwrap()).collect()
    }
}
