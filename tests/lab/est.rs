//! An EST server (RFC 7030), since no package has one: it proves what the module does, not that
//! others understand it. It has one user, and renews by the old certificate.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use openssl::pkey::{PKey, Private};
use openssl::x509::{X509, X509PurposeId, X509Req};
use tempfile::TempDir;
use x509_parser::certificate::X509Certificate;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::FromDer;

use super::answering::Source;
use super::der;
use super::pki::{Identity, KeyType, Profile, serial_hex};
use super::ports::Port;
use super::responder::Responder;
use super::wire::{Exchange, Request, Server};

/// A CA behind EST, with an OCSP responder that finds every certificate good until it is told
/// otherwise.
pub struct Est {
    pub responder: Responder,
    root: Identity,
    dir: TempDir,
    url: String,
    _server: Server,
    state: Arc<State>,
}

/// How it answers those who may ask.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Manner {
    #[default]
    Honest,
    /// Somebody has to approve: 202, ask again after so many seconds.
    Waits(u32),
    /// No certificate speaks for another.
    NoRenewal,
}

/// One enrolment that was asked for.
#[derive(Clone, Debug)]
pub struct Enrolment {
    pub operation: String,
    /// DER.
    pub csr: Vec<u8>,
    /// The serial of the certificate that was shown in TLS.
    pub client: Option<String>,
    pub status: u16,
}

struct State {
    root: X509,
    issuer: Identity,
    profile: Profile,
    manner: Mutex<Manner>,
    enrolments: Mutex<Vec<Enrolment>>,
    keys: Mutex<Vec<PKey<Private>>>,
}

impl Est {
    /// The user, and the password: test values.
    pub const USER: (&str, &str) = ("nginx", "correct horse");

    pub fn start() -> Est {
        Est::issuing(90 * 86_400, X509PurposeId::ANY)
    }

    /// Its certificates live so many seconds from now; those that clients show in TLS must be for
    /// this purpose.
    pub fn issuing(life: i64, purpose: X509PurposeId) -> Est {
        let dir = tempfile::Builder::new().prefix("lab-est").tempdir().expect("directory");
        let api_ca = Identity::root("Lab API CA");
        let api = api_ca.issue(&Profile::server(&["localhost", "127.0.0.1"]));
        fs::write(dir.path().join("api-ca.pem"), api_ca.cert_pem()).expect("write");
        fs::write(dir.path().join("password"), format!("{}\n", Est::USER.1)).expect("write");
        let root = Identity::root("Est Root");
        let issuer = root.issue(&Profile::authority("Est CA"));
        let responder = Responder::start(Port::reserve(), issuer.clone(), Source::Own);
        let ocsp_url = Some(responder.url());
        let profile =
            Profile { ocsp_url, not_before: 0, not_after: life, ..Profile::server(&["x"]) };
        let state = Arc::new(State {
            root: root.cert.clone(),
            issuer,
            profile,
            manner: Mutex::default(),
            enrolments: Mutex::default(),
            keys: Mutex::default(),
        });
        let (port, shared) = (Port::reserve(), state.clone());
        let url = format!("https://localhost:{port}{}", Est::PATH);
        let handler = Arc::new(move |r: &Request, e: &mut Exchange| shared.handle(r, e));
        let _server = Server::start_tls_asking(port, &api, &root.cert, purpose, handler);
        Est { responder, root, dir, url, _server, state }
    }

    /// The `ssl_cert_autofetch_ca` block for it, with further lines in it.
    pub fn ca_block(&self, name: &str, more: &str) -> String {
        format!(
            "ssl_cert_autofetch_ca {name} {{\n protocol est;\n url {};\n trusted_certificate {};\n \
             username {};\n password_file {};\n {more}\n}}\n",
            self.url,
            self.dir.path().join("api-ca.pem").display(),
            Est::USER.0,
            self.password_file().display()
        )
    }

    /// What `password_file` is for.
    pub fn password_file(&self) -> PathBuf {
        self.dir.path().join("password")
    }

    /// Where it listens, and by which root its own certificate is trusted.
    pub fn address(&self) -> (SocketAddr, Vec<u8>) {
        let root = fs::read(self.dir.path().join("api-ca.pem")).expect("PEM");
        (SocketAddr::from(([127, 0, 0, 1], self._server.port())), root)
    }

    /// Behind host and port of its URL.
    pub const PATH: &str = "/.well-known/est/lab";

    /// What clients of nginx trust.
    pub fn root_pem(&self) -> Vec<u8> {
        self.root.cert_pem()
    }

    pub fn behave(&self, manner: Manner) {
        *self.state.manner.lock().expect("lock") = manner;
    }

    /// Those that were asked for so far.
    pub fn enrolments(&self) -> Vec<Enrolment> {
        self.state.enrolments.lock().expect("lock").clone()
    }

    /// Those that it has made itself.
    pub fn keys(&self) -> Vec<PKey<Private>> {
        self.state.keys.lock().expect("lock").clone()
    }
}

impl State {
    fn handle(&self, request: &Request, exchange: &mut Exchange) -> bool {
        let path = request.target.strip_prefix(Est::PATH).unwrap_or_default();
        let operation = path.strip_prefix('/').unwrap_or_default();
        match (request.method.as_str(), operation) {
            ("GET", "cacerts") => {
                let message = certs_only(&[&self.root, &self.issuer.cert]);
                respond(exchange, CERTS, &lines(&message))
            }
            ("POST", "simpleenroll" | "simplereenroll" | "serverkeygen") => {
                self.enroll(operation, request, exchange)
            }
            _ => exchange.respond(404, "text/plain", "", b""),
        }
    }

    fn enroll(&self, operation: &str, request: &Request, exchange: &mut Exchange) -> bool {
        let csr = csr(request).expect("a CSR in base64");
        let manner = *self.manner.lock().expect("lock");
        let status = self.status(operation, manner, request, exchange.client.as_ref(), &csr);
        self.enrolments.lock().expect("lock").push(Enrolment {
            operation: operation.into(),
            csr: csr.clone(),
            client: exchange.client.as_ref().map(|c| serial_hex(c)),
            status,
        });
        match (status, manner) {
            (200, _) if operation == "serverkeygen" => self.make_key(&csr, exchange),
            (200, _) => {
                let leaf = self.certify(&csr, None);
                respond(exchange, CERTS, &lines(&certs_only(&[&leaf])))
            }
            (202, Manner::Waits(seconds)) => {
                let more = format!("Retry-After: {seconds}\r\n");
                exchange.respond(202, "text/plain", &more, b"ask the boss")
            }
            (401, _) => {
                let more = "WWW-Authenticate: Basic realm=\"est\"\r\n";
                exchange.respond(401, "text/plain", more, b"who are you?\n")
            }
            _ => exchange.respond(status, "text/plain", "", b"not like this\n"),
        }
    }

    fn status(
        &self,
        operation: &str,
        manner: Manner,
        request: &Request,
        client: Option<&X509>,
        csr: &[u8],
    ) -> u16 {
        let is_renewal = operation == "simplereenroll";
        let may = match client {
            // RFC 7030, 4.2.2: the same names.
            Some(client) if is_renewal => names_of(client) == names(csr),
            None if is_renewal => false,
            _ => is_user(request),
        };
        match manner {
            Manner::NoRenewal if is_renewal => 403,
            _ if !may => 401,
            Manner::Waits(_) => 202,
            _ => 200,
        }
    }

    /// RFC 7030, 4.4.2.
    fn make_key(&self, csr: &[u8], exchange: &mut Exchange) -> bool {
        let key = KeyType::Ecdsa256.generate();
        let leaf = self.certify(csr, Some(&key));
        let part = |content_type: &str, der: &[u8]| {
            let head = "Content-Transfer-Encoding: base64\r\nContent-Type:";
            format!("--part\r\n{head} {content_type}\r\n\r\n{}\r\n", lines(der))
        };
        let pkcs8 = key.private_key_to_pkcs8().expect("DER");
        let body = part("application/pkcs8", &pkcs8) + &part(CERTS, &certs_only(&[&leaf]));
        self.keys.lock().expect("lock").push(key);
        respond(exchange, "multipart/mixed; boundary=part", &(body + "--part--\r\n"))
    }

    fn certify(&self, csr: &[u8], key: Option<&PKey<Private>>) -> X509 {
        let request = X509Req::from_der(csr).expect("a CSR");
        let public = request.public_key().expect("public key");
        assert!(request.verify(&public).expect("signature"), "the CSR is not signed by its key");
        let profile = Profile { names: names(csr), ..self.profile.clone() };
        match key {
            None => self.issuer.certify(&request, &profile),
            Some(key) => {
                super::certificate::make(&profile, key, Some(&self.issuer.cert), &self.issuer.key)
            }
        }
    }
}

fn respond(exchange: &mut Exchange, content_type: &str, body: &str) -> bool {
    let more = "Content-Transfer-Encoding: base64\r\n";
    exchange.respond(200, content_type, more, body.as_bytes())
}

fn csr(request: &Request) -> Option<Vec<u8>> {
    let is_pkcs10 = request.header("content-type") == Some("application/pkcs10");
    decoded(&request.body).filter(|_| is_pkcs10)
}

/// What a body of EST says, whose base64 may have lines.
pub fn decoded(body: &[u8]) -> Option<Vec<u8>> {
    let text: Vec<u8> = body.iter().copied().filter(|b| !b.is_ascii_whitespace()).collect();
    STANDARD.decode(text).ok()
}

/// The body of an answer with these certificates.
pub fn answer(those: &[&X509]) -> Vec<u8> {
    lines(&certs_only(those)).into_bytes()
}

fn is_user(request: &Request) -> bool {
    let (user, password) = Est::USER;
    let wanted = format!("Basic {}", STANDARD.encode(format!("{user}:{password}")));
    request.header("authorization") == Some(&wanted)
}

fn names(csr: &[u8]) -> Vec<String> {
    let (_, csr) = X509CertificationRequest::from_der(csr).expect("a CSR");
    let found = csr.requested_extensions().into_iter().flatten().find_map(dns_names);
    found.expect("names in the CSR")
}

fn names_of(certificate: &X509) -> Vec<String> {
    let der = certificate.to_der().expect("DER");
    let (_, certificate) = X509Certificate::from_der(&der).expect("a certificate");
    let mut extensions = certificate.extensions().iter().map(|e| e.parsed_extension());
    extensions.find_map(dns_names).unwrap_or_default()
}

fn dns_names(extension: &ParsedExtension) -> Option<Vec<String>> {
    let ParsedExtension::SubjectAlternativeName(san) = extension else { return None };
    let name = |name: &GeneralName| match name {
        GeneralName::DNSName(name) => name.to_string(),
        other => other.to_string(),
    };
    Some(san.general_names.iter().map(name).collect())
}

/// RFC 5272, 4.1.
fn certs_only(those: &[&X509]) -> Vec<u8> {
    let all: Vec<_> = those.iter().flat_map(|c| c.to_der().expect("DER")).collect();
    let signed = der::sequence(&[
        der::integer(&[1]),
        der::element(SET, &[]),
        der::sequence(&[der::oid("1.2.840.113549.1.7.1")]),
        der::explicit(0, &all),
        der::element(SET, &[]),
    ]);
    der::sequence(&[der::oid("1.2.840.113549.1.7.2"), der::explicit(0, &signed)])
}

fn lines(der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines = text.as_bytes().chunks(64).map(String::from_utf8_lossy);
    lines.flat_map(|line| [line.into_owned(), "\r\n".into()]).collect()
}

const CERTS: &str = "application/pkcs7-mime; smime-type=certs-only";
const SET: u8 = 0x31;
