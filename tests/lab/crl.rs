//! Certificate revocation lists: made on the spot, and served over HTTP.

use std::sync::{Arc, Mutex};

use openssl::hash::{MessageDigest, hash};
use openssl::sign::Signer;
use time::OffsetDateTime;

use super::clock::now;
use super::der;
use super::ocsp::{self, Status};
use super::pki::{Identity, hex, unhex};
use super::ports::Port;
use super::wire::{self, Exchange, Server};

/// What a list is to say; the default is a correct, empty one.
#[derive(Clone, Debug)]
pub struct Crl {
    /// By serial; what is not [`Status::Revoked`] is left out.
    pub entries: Vec<(String, Status)>,
    /// Seconds from now.
    pub this_update: i64,
    /// Seconds from now.
    pub next_update: Option<i64>,
    pub number: u32,
    /// The URL in its IssuingDistributionPoint (critical), if it has one.
    pub shard: Option<String>,
    /// DER of what else is in its IssuingDistributionPoint.
    pub flags: Vec<u8>,
    /// DER of further extensions.
    pub more: Vec<Vec<u8>>,
    /// DER of further extensions of each entry.
    pub more_of_entries: Vec<Vec<u8>>,
    /// DER of the issuer's name, where that is not the signer's.
    pub issuer: Option<Vec<u8>>,
    /// DER of the algorithm beside what is signed, where that is another than in it.
    pub beside: Option<Vec<u8>>,
    /// Signed with MD5; for signers with an RSA key.
    pub md5: bool,
    pub break_signature: bool,
}

/// How a list is served.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Serving {
    /// With an ETag: who has the list already gets 304.
    #[default]
    ByTag,
    /// The same by Last-Modified.
    ByTime,
    /// Whole each time.
    Whole,
    /// An HTTP status instead.
    Status(u16),
    /// Reads the request and never answers.
    Never,
}

/// Serves one list, which can be replaced at any time.
pub struct CrlServer {
    server: Server,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Default)]
struct Shared {
    der: Vec<u8>,
    serving: Serving,
    /// How many lists there were before.
    published: i64,
    requests: Vec<wire::Request>,
    /// How many of them were answered with 304.
    unchanged: usize,
}

impl Default for Crl {
    fn default() -> Crl {
        Crl {
            entries: Vec::new(),
            this_update: -60,
            next_update: Some(3600),
            number: 1,
            shard: None,
            flags: Vec::new(),
            more: Vec::new(),
            more_of_entries: Vec::new(),
            issuer: None,
            beside: None,
            md5: false,
            break_signature: false,
        }
    }
}

impl Crl {
    pub fn revoking(serial: &str, reason: Option<u8>) -> Crl {
        let entries = vec![(serial.into(), Status::Revoked { reason, at: now() - 60 })];
        Crl { entries, ..Crl::default() }
    }

    pub fn sign(&self, issuer: &Identity) -> Vec<u8> {
        let algorithm = match self.md5 {
            true => der::sequence(&[der::oid(RSA_MD5), der::element(der::NULL, &[])]),
            false => ocsp::algorithm(issuer),
        };
        let name = || issuer.cert.subject_name().to_der().expect("DER");
        let name = self.issuer.clone().unwrap_or_else(name);
        let mut tbs = vec![der::integer(&[1]), algorithm.clone(), name];
        tbs.push(der::utc_time(now() + self.this_update));
        tbs.extend(self.next_update.map(|t| der::utc_time(now() + t)));
        let entries: Vec<_> = self.entries.iter().filter_map(|e| self.entry(e)).collect();
        if !entries.is_empty() {
            tbs.push(der::sequence(&entries));
        }
        tbs.push(der::explicit(0, &der::sequence(&self.extensions(issuer))));
        let tbs = der::sequence(&tbs);
        let mut signature = match self.md5 {
            true => sign_with_md5(issuer, &tbs),
            false => ocsp::sign(issuer, &tbs),
        };
        if self.break_signature {
            *signature.last_mut().expect("a signature is not empty") ^= 1;
        }
        let beside = self.beside.clone().unwrap_or(algorithm);
        der::sequence(&[tbs, beside, der::bits(&signature)])
    }

    fn extensions(&self, issuer: &Identity) -> Vec<Vec<u8>> {
        let mut extensions = Vec::new();
        if let Some(id) = issuer.cert.subject_key_id() {
            let value = der::sequence(&[der::implicit(0, id.as_slice())]);
            extensions.push(der::extension("2.5.29.35", false, &value));
        }
        let number = der::integer(&self.number.to_be_bytes());
        extensions.push(der::extension("2.5.29.20", false, &number));
        let names = self
            .shard
            .as_ref()
            .map(|url| der::explicit(0, &der::explicit(0, &der::implicit(6, url.as_bytes()))));
        let point = [names.unwrap_or_default(), self.flags.clone()];
        if point.iter().any(|part| !part.is_empty()) {
            extensions.push(der::extension("2.5.29.28", true, &der::sequence(&point)));
        }
        extensions.extend(self.more.iter().cloned());
        extensions
    }

    fn entry(&self, (serial, status): &(String, Status)) -> Option<Vec<u8>> {
        let Status::Revoked { reason, at } = *status else { return None };
        let code = reason.map(|r| der::element(der::ENUMERATED, &[r]));
        let reason = code.map(|code| der::extension("2.5.29.21", false, &code));
        let extensions: Vec<_> =
            reason.into_iter().chain(self.more_of_entries.iter().cloned()).collect();
        let mut parts = vec![der::integer(&unhex(serial)), der::utc_time(at)];
        if !extensions.is_empty() {
            parts.push(der::sequence(&extensions));
        }
        Some(der::sequence(&parts))
    }
}

impl CrlServer {
    pub fn start(port: Port, der: Vec<u8>) -> CrlServer {
        let shared = Arc::new(Mutex::new(Shared { der, ..Shared::default() }));
        let state = shared.clone();
        let handler = Arc::new(move |request: &wire::Request, exchange: &mut Exchange| {
            let (der, serving, validator, same) = state.lock().expect("lock").take(request);
            match serving {
                Serving::Status(status) => exchange.respond(status, "text/plain", "", b"no"),
                Serving::Never => {
                    exchange.outlast();
                    false
                }
                _ if same => exchange.respond(304, TYPE, &validator, b""),
                _ => exchange.respond(200, TYPE, &validator, &der),
            }
        });
        CrlServer { server: Server::start(port, handler), shared }
    }

    pub fn url_at(port: &Port) -> String {
        format!("http://{}/list.crl", port.addr())
    }

    pub fn publish(&self, der: Vec<u8>) {
        let mut shared = self.shared.lock().expect("lock");
        shared.der = der;
        shared.published += 1;
    }

    /// From now on.
    pub fn serve(&self, how: Serving) {
        self.shared.lock().expect("lock").serving = how;
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/list.crl", self.server.port())
    }

    pub fn requests(&self) -> Vec<wire::Request> {
        self.shared.lock().expect("lock").requests.clone()
    }

    /// How many were answered with 304 Not Modified.
    pub fn unchanged(&self) -> usize {
        self.shared.lock().expect("lock").unchanged
    }

    pub fn down(&self) {
        self.server.down();
    }

    pub fn up(&self) {
        self.server.up();
    }
}

impl Shared {
    /// The list, how it is served, the header that names its version, and whether the client has
    /// it already.
    fn take(&mut self, request: &wire::Request) -> (Vec<u8>, Serving, String, bool) {
        self.requests.push(request.clone());
        let tag = hex(&hash(MessageDigest::sha256(), &self.der).expect("digest"));
        // A second later than the one before, whenever it was published.
        let time = http_date(now() / DAY * DAY - DAY + self.published);
        let (name, value, condition) = match self.serving {
            Serving::ByTag => ("ETag", format!("\"{tag}\""), "if-none-match"),
            Serving::ByTime => ("Last-Modified", time, "if-modified-since"),
            _ => return (self.der.clone(), self.serving, String::new(), false),
        };
        let same = request.header(condition).is_some_and(|v| v.contains(&value));
        self.unchanged += usize::from(same);
        (self.der.clone(), self.serving, format!("{name}: {value}\r\n"), same)
    }
}

fn sign_with_md5(issuer: &Identity, tbs: &[u8]) -> Vec<u8> {
    let signer = Signer::new(MessageDigest::md5(), &issuer.key);
    signer.and_then(|mut s| s.sign_oneshot_to_vec(tbs)).expect("signature")
}

/// Sun, 06 Nov 1994 08:49:37 GMT
fn http_date(at: i64) -> String {
    let t = OffsetDateTime::from_unix_timestamp(at).expect("a time");
    let (weekday, month) = (t.weekday().to_string(), t.month().to_string());
    let clock = format!("{:02}:{:02}:{:02}", t.hour(), t.minute(), t.second());
    format!("{}, {:02} {} {} {clock} GMT", &weekday[..3], t.day(), &month[..3], t.year())
}

const TYPE: &str = "application/pkix-crl";
const DAY: i64 = 86_400;
const RSA_MD5: &str = "1.2.840.113549.1.1.4";
