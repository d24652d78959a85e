//! How a responder is to behave: by default correctly, and each field is one way to go wrong.

use std::time::Duration;

use openssl::x509::X509;

use super::ocsp::Status;
use super::wire::Exchange;

/// Everything a test can ask of the responder's answers, for all serials or for one.
#[derive(Clone, Debug)]
pub struct Behaviour {
    /// Instead of the true status.
    pub status: Option<Status>,
    pub result: ResultCode,
    /// Before the answer.
    pub delay: Duration,
    pub delivery: Delivery,
    pub signer: Signer,
    pub subject: Subject,
    /// Seconds from now.
    pub this_update: i64,
    /// Seconds from now.
    pub next_update: Option<i64>,
    pub nonce: Nonce,
    pub methods: Methods,
    /// Requests without a good signature of this certificate, in its name, get sigRequired.
    pub requestor: Option<X509>,
    /// Further SingleResponses of the same issuer, by serial, put before what was asked for.
    pub others: Vec<(String, Status)>,
    /// DER of further extensions of the response.
    pub extensions: Vec<Vec<u8>>,
    /// DER of extensions of each SingleResponse.
    pub single_extensions: Vec<Vec<u8>>,
    /// Knows certificates by SHA-256 only; other names of them get unauthorized.
    pub sha256_only: bool,
}

/// OCSPResponseStatus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResultCode {
    Successful = 0,
    MalformedRequest = 1,
    InternalError = 2,
    TryLater = 3,
    SigRequired = 5,
    Unauthorized = 6,
}

/// How the answer travels.
#[derive(Clone, Debug)]
pub enum Delivery {
    Whole,
    /// Reads the request and never answers.
    Never,
    /// Closes the connection instead of answering.
    Close,
    /// A byte at a time, with this pause after each.
    Drip(Duration),
    /// 200 and the right content type, but not DER.
    Garbage,
    /// The DER ends after half of it (the HTTP answer is whole).
    Truncated,
    /// Content-Length promises the whole; half is sent, then the connection ends.
    Cut,
    /// So many zero bytes after the DER.
    Oversized(usize),
    /// An HTTP status, without an OCSP body.
    Http(u16),
    /// 302 to there.
    Redirect(String),
    /// These bytes, whatever was asked: see `Responder::last_answer`.
    Replay(Vec<u8>),
    /// These bytes instead of an HTTP answer, head and all; then the connection ends.
    Raw(Vec<u8>),
    /// An answer of no told length, and no end.
    Endless,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Signer {
    /// The CA itself; its certificate is not in the answer.
    Issuer,
    /// The CA itself, with one bit of the signature wrong.
    BrokenSignature,
    /// A CA that has the issuer's name and nothing else; its certificate is in the answer.
    OtherCa,
    /// A certificate of the issuer's.
    Delegate(Delegate),
}

/// A delegated signer; the default is a correct one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delegate {
    /// Has id-kp-OCSPSigning.
    pub eku: bool,
    pub expired: bool,
    /// Issued by a CA that has the issuer's name and nothing else.
    pub of_other_ca: bool,
    /// Its certificate is in the answer.
    pub sent: bool,
    /// Has id-pkix-ocsp-nocheck.
    pub nocheck: bool,
    /// The answer says so itself.
    pub revoked: bool,
}

/// What certificate the answer is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    Asked,
    /// The serial plus one.
    OtherSerial,
    /// Name and key hash of another issuer.
    OtherIssuer,
    /// Nothing is said about what was asked for: see `Behaviour::others`.
    Nobody,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nonce {
    Echo,
    Missing,
    Wrong,
}

/// What is answered with 405.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Methods {
    Both,
    GetOnly,
    PostOnly,
}

impl Default for Behaviour {
    fn default() -> Behaviour {
        Behaviour {
            status: None,
            result: ResultCode::Successful,
            delay: Duration::ZERO,
            delivery: Delivery::Whole,
            signer: Signer::Issuer,
            subject: Subject::Asked,
            this_update: 0,
            next_update: Some(3600),
            nonce: Nonce::Echo,
            methods: Methods::Both,
            requestor: None,
            others: Vec::new(),
            extensions: Vec::new(),
            single_extensions: Vec::new(),
            sha256_only: false,
        }
    }
}

impl Default for Delegate {
    fn default() -> Delegate {
        Delegate {
            eku: true,
            expired: false,
            of_other_ca: false,
            sent: true,
            nocheck: false,
            revoked: false,
        }
    }
}

impl Delivery {
    pub fn words(&self) -> &'static str {
        match self {
            Delivery::Whole => "whole",
            Delivery::Never => "never sent",
            Delivery::Close => "closed instead",
            Delivery::Drip(_) => "dripping",
            Delivery::Garbage => "garbage instead",
            Delivery::Truncated => "truncated",
            Delivery::Cut => "cut",
            Delivery::Oversized(_) => "oversized",
            Delivery::Http(_) => "HTTP status instead",
            Delivery::Redirect(_) => "redirect instead",
            Delivery::Replay(_) => "replay instead",
            Delivery::Raw(_) => "raw bytes instead",
            Delivery::Endless => "endless",
        }
    }

    /// Whether the connection is of further use.
    pub fn send(&self, content_type: &str, body: &[u8], exchange: &mut Exchange) -> bool {
        match self {
            Delivery::Whole => exchange.respond(200, content_type, "", body),
            Delivery::Never => {
                exchange.outlast();
                false
            }
            Delivery::Close => false,
            Delivery::Drip(pause) => exchange.drip(content_type, body, *pause),
            Delivery::Garbage => exchange.respond(200, content_type, "", PAGE),
            Delivery::Truncated => exchange.respond(200, content_type, "", &body[..body.len() / 2]),
            Delivery::Cut => {
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
                exchange.write(&[head.as_bytes(), &body[..body.len() / 2]].concat());
                false
            }
            Delivery::Oversized(more) => {
                exchange.respond(200, content_type, "", &[body, &vec![0; *more]].concat())
            }
            Delivery::Http(status) => exchange.respond(*status, "text/plain", "", b"no"),
            Delivery::Redirect(to) => {
                exchange.respond(302, "text/plain", &format!("Location: {to}\r\n"), b"")
            }
            Delivery::Replay(bytes) => exchange.respond(200, content_type, "", bytes),
            Delivery::Raw(bytes) => {
                exchange.write(bytes);
                false
            }
            Delivery::Endless => {
                let mut more = exchange.write(b"HTTP/1.1 200 OK\r\n\r\n") && exchange.write(body);
                while more {
                    more = exchange.write(&[0; 100]) && exchange.pause(PAUSE);
                }
                false
            }
        }
    }
}

const PAGE: &[u8] = b"<html>Welcome to the portal</html>";
const PAUSE: Duration = Duration::from_millis(20);

impl Behaviour {
    pub fn good() -> Behaviour {
        Behaviour { status: Some(Status::Good), ..Behaviour::default() }
    }

    /// Revoked just now; the reason is CRLReason's number.
    pub fn revoked(reason: Option<u8>) -> Behaviour {
        let at = super::clock::now();
        Behaviour { status: Some(Status::Revoked { reason, at }), ..Behaviour::default() }
    }

    pub fn unknown() -> Behaviour {
        Behaviour { status: Some(Status::Unknown), ..Behaviour::default() }
    }

    pub fn result(result: ResultCode) -> Behaviour {
        Behaviour { result, ..Behaviour::default() }
    }

    pub fn delivery(delivery: Delivery) -> Behaviour {
        Behaviour { delivery, ..Behaviour::default() }
    }

    pub fn signer(signer: Signer) -> Behaviour {
        Behaviour { signer, ..Behaviour::default() }
    }

    pub fn delayed(delay: Duration) -> Behaviour {
        Behaviour { delay, ..Behaviour::default() }
    }

    /// Past its nextUpdate by this many seconds.
    pub fn stale(by: i64) -> Behaviour {
        Behaviour { this_update: -by - 3600, next_update: Some(-by), ..Behaviour::default() }
    }
}
