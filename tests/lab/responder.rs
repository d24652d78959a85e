//! An OCSP responder that a test can make lie, dawdle or break at any moment, and that remembers
//! what it was asked.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::behaviour::{
    Behaviour, Delegate, Delivery, Methods, Nonce, ResultCode, Signer, Subject,
};
use super::clock::now;
use super::http::Http;
use super::ocsp::{self, Answer, CertId, Request, Single, Status};
use super::pki::{Identity, Profile, Usage, hex, unhex};
use super::ports::Port;
use super::process::wait_until;
use super::wire::{self, Exchange, Server};

/// Answers over HTTP for the certificates of one CA.
pub struct Responder {
    server: Server,
    state: Arc<State>,
}

/// Who knows what the status of a certificate is.
pub enum Source {
    /// Pebble's management port, asked for each query; serials it does not know are answered with
    /// `unauthorized`.
    Pebble { http: Http, management: String },
    /// Good, unless [`Responder::set_status`] says otherwise.
    Own,
}

/// One request, as it came in.
#[derive(Clone, Debug)]
pub struct Query {
    pub at: Instant,
    pub time: SystemTime,
    pub method: String,
    pub serials: Vec<String>,
    pub nonce: bool,
    pub signed: bool,
    /// What it was answered with, in words; empty as long as no answer was sent.
    pub answer: String,
}

struct State {
    issuer: Identity,
    impostor: Identity,
    source: Source,
    script: Mutex<Script>,
    queries: Mutex<Vec<Query>>,
    answers: Mutex<HashMap<String, Vec<u8>>>,
}

#[derive(Default)]
struct Script {
    all: Behaviour,
    by_serial: HashMap<String, Behaviour>,
    statuses: HashMap<String, Status>,
}

impl Responder {
    /// A responder for what `issuer` signed.
    pub fn start(port: Port, issuer: Identity, source: Source) -> Responder {
        let impostor = impostor(&issuer);
        let state = Arc::new(State {
            issuer,
            impostor,
            source,
            script: Mutex::default(),
            queries: Mutex::default(),
            answers: Mutex::default(),
        });
        let shared = state.clone();
        let handler = Arc::new(move |request: &wire::Request, exchange: &mut Exchange| {
            shared.handle(request, exchange)
        });
        Responder { server: Server::start(port, handler), state }
    }

    /// The URL of a responder on this port; without a slash at the end, since some clients add one
    /// before the request.
    pub fn url_at(port: &Port) -> String {
        format!("http://{}{PATH}", port.addr())
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}{PATH}", self.server.port())
    }

    /// From now on, for each serial that has no behaviour of its own.
    pub fn behave(&self, behaviour: Behaviour) {
        self.state.script().all = behaviour;
    }

    /// From now on, for this serial.
    pub fn behave_for(&self, serial: &str, behaviour: Behaviour) {
        self.state.script().by_serial.insert(serial.into(), behaviour);
    }

    /// Instead of what the source says.
    pub fn set_status(&self, serial: &str, status: Status) {
        self.state.script().statuses.insert(serial.into(), status);
    }

    /// Correct again, for all; what [`Responder::set_status`] said stays.
    pub fn behave_well(&self) {
        let mut script = self.state.script();
        script.all = Behaviour::default();
        script.by_serial.clear();
    }

    /// Refuses connections, till [`Responder::up`].
    pub fn down(&self) {
        self.server.down();
    }

    pub fn up(&self) {
        self.server.up();
    }

    pub fn queries(&self) -> Vec<Query> {
        self.state.queries.lock().expect("lock").clone()
    }

    pub fn queries_for(&self, serial: &str) -> Vec<Query> {
        self.queries().into_iter().filter(|q| q.serials.iter().any(|s| s == serial)).collect()
    }

    /// Waits until this serial has been asked for so many times in all.
    pub fn wait_queries(&self, serial: &str, count: usize, within: Duration) {
        let what = format!("{count} OCSP queries for {serial}");
        wait_until(&what, within, || self.queries_for(serial).len() >= count);
    }

    pub fn forget_queries(&self) {
        self.state.queries.lock().expect("lock").clear();
    }

    /// The last signed answer about this serial, for [`Delivery::Replay`].
    pub fn last_answer(&self, serial: &str) -> Option<Vec<u8>> {
        self.state.answers.lock().expect("lock").get(serial).cloned()
    }

    /// A signed answer to a request that nobody sent, as if it had come in now.
    pub fn answer_about(&self, serial: &str, behaviour: &Behaviour) -> Vec<u8> {
        let sha1 = openssl::hash::MessageDigest::sha1();
        let id = CertId::new(&self.state.issuer.cert, &unhex(serial), sha1);
        let request = Request { ids: vec![id], nonce: None, signed: false };
        self.state.answer(&request, behaviour).0
    }
}

impl State {
    fn handle(&self, http: &wire::Request, exchange: &mut Exchange) -> bool {
        let request = request_bytes(http).and_then(|b| Request::parse(&b));
        let serials: Vec<_> =
            request.iter().flat_map(|r| &r.ids).map(|id| hex(&id.serial)).collect();
        let behaviour = self.behaviour(serials.first());
        let number = self.record(Query {
            at: Instant::now(),
            time: SystemTime::now(),
            method: http.method.clone(),
            serials,
            nonce: request.as_ref().is_some_and(|r| r.nonce.is_some()),
            signed: request.as_ref().is_some_and(|r| r.signed),
            answer: String::new(),
        });
        if !exchange.pause(behaviour.delay) {
            return false;
        }
        let refused = match behaviour.methods {
            Methods::Both => false,
            Methods::GetOnly => http.method != "GET",
            Methods::PostOnly => http.method != "POST",
        };
        if refused {
            self.note(number, "HTTP 405".into());
            return exchange.respond(405, "text/plain", "", b"");
        }
        // Signing comes after the delay: the answer tells the status of the moment when it is sent.
        let (bytes, words) = match &request {
            Some(request) => self.answer(request, &behaviour),
            None => (ocsp::bare(ResultCode::MalformedRequest as u8), "MalformedRequest".into()),
        };
        match &behaviour.delivery {
            Delivery::Whole => self.note(number, words),
            other => self.note(number, format!("{words}, {}", short(other))),
        }
        deliver(&behaviour.delivery, &bytes, exchange)
    }

    fn answer(&self, request: &Request, behaviour: &Behaviour) -> (Vec<u8>, String) {
        let bare = |code: ResultCode| (ocsp::bare(code as u8), format!("{code:?}"));
        if behaviour.result != ResultCode::Successful {
            return bare(behaviour.result);
        }
        let mut singles = Vec::new();
        for (serial, status) in &behaviour.others {
            let id = CertId { serial: unhex(serial), ..request.ids[0].clone() };
            singles.push(single(id, *status, behaviour));
        }
        let mut words = Vec::new();
        for id in &request.ids {
            if !id.names(&self.issuer.cert) {
                return bare(ResultCode::Unauthorized);
            }
            let status = match behaviour.status {
                Some(status) => Ok(Some(status)),
                None => self.status(&hex(&id.serial)),
            };
            match status {
                Ok(Some(status)) => {
                    words.push(format!("{status:?}"));
                    singles.push(single(self.subject(id, behaviour.subject), status, behaviour));
                }
                Ok(None) => return bare(ResultCode::Unauthorized),
                Err(_) => return bare(ResultCode::InternalError),
            }
        }
        let (signer, with_cert) = self.signer(&behaviour.signer);
        let bytes = Answer {
            singles,
            nonce: match behaviour.nonce {
                Nonce::Echo => request.nonce.clone(),
                Nonce::Missing => None,
                Nonce::Wrong => Some(super::der::octets(&[0x5a; 16])),
            },
            signer: &signer,
            with_cert,
            break_signature: behaviour.signer == Signer::BrokenSignature,
            produced_at: now(),
        }
        .encode();
        self.answers.lock().expect("lock").insert(hex(&request.ids[0].serial), bytes.clone());
        (bytes, words.join(", "))
    }

    fn status(&self, serial: &str) -> Result<Option<Status>, ureq::Error> {
        if let Some(status) = self.script().statuses.get(serial) {
            return Ok(Some(*status));
        }
        match &self.source {
            Source::Own => Ok(Some(Status::Good)),
            Source::Pebble { http, management } => {
                super::pebble::status_at(http, management, serial)
            }
        }
    }

    fn subject(&self, asked: &CertId, subject: Subject) -> CertId {
        let mut id = asked.clone();
        match subject {
            Subject::Asked => {}
            Subject::OtherSerial => *id.serial.last_mut().expect("a serial") ^= 1,
            Subject::OtherIssuer => {
                id.name_hash.reverse();
                id.key_hash.reverse();
            }
        }
        id
    }

    fn signer(&self, signer: &Signer) -> (Identity, bool) {
        match signer {
            Signer::Issuer | Signer::BrokenSignature => (self.issuer.clone(), false),
            Signer::OtherCa => (self.impostor.clone(), true),
            Signer::Delegate(delegate) => (self.delegate(delegate), delegate.sent),
        }
    }

    fn delegate(&self, delegate: &Delegate) -> Identity {
        let mut profile = Profile::ocsp_signer();
        if !delegate.eku {
            profile.usage = Usage::Server;
        }
        if delegate.expired {
            profile.not_after = -3600;
        }
        let issuer = if delegate.of_other_ca { &self.impostor } else { &self.issuer };
        issuer.issue(&profile)
    }

    fn behaviour(&self, serial: Option<&String>) -> Behaviour {
        let script = self.script();
        serial.and_then(|s| script.by_serial.get(s)).unwrap_or(&script.all).clone()
    }

    fn script(&self) -> MutexGuard<'_, Script> {
        self.script.lock().expect("lock")
    }

    fn record(&self, query: Query) -> Instant {
        let at = query.at;
        self.queries.lock().expect("lock").push(query);
        at
    }

    /// By time, not by position: the list may have been emptied meanwhile.
    fn note(&self, at: Instant, answer: String) {
        let mut queries = self.queries.lock().expect("lock");
        if let Some(query) = queries.iter_mut().find(|q| q.at == at) {
            query.answer = answer;
        }
    }
}

fn deliver(delivery: &Delivery, der: &[u8], exchange: &mut Exchange) -> bool {
    match delivery {
        Delivery::Whole => exchange.respond(200, TYPE, "", der),
        Delivery::Never => {
            exchange.outlast();
            false
        }
        Delivery::Close => false,
        Delivery::Drip(pause) => exchange.drip(TYPE, der, *pause),
        Delivery::Garbage => exchange.respond(200, TYPE, "", b"<html>not an OCSP response</html>"),
        Delivery::Truncated => exchange.respond(200, TYPE, "", &der[..der.len() / 2]),
        Delivery::Cut => {
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", der.len());
            exchange.write(&[head.as_bytes(), &der[..der.len() / 2]].concat());
            false
        }
        Delivery::Oversized(more) => {
            exchange.respond(200, TYPE, "", &[der, &vec![0; *more]].concat())
        }
        Delivery::Http(status) => exchange.respond(*status, "text/plain", "", b"no"),
        Delivery::Redirect(to) => {
            exchange.respond(302, "text/plain", &format!("Location: {to}\r\n"), b"")
        }
        Delivery::Replay(bytes) => exchange.respond(200, TYPE, "", bytes),
    }
}

fn single(id: CertId, status: Status, behaviour: &Behaviour) -> Single {
    let (this_update, next) = (now() + behaviour.this_update, behaviour.next_update);
    Single { id, status, this_update, next_update: next.map(|n| now() + n) }
}

/// The DER of a request by POST, or by GET (RFC 6960, A.1).
fn request_bytes(http: &wire::Request) -> Option<Vec<u8>> {
    match http.method.as_str() {
        "POST" => Some(http.body.clone()),
        "GET" => {
            let text = http.target.strip_prefix(PATH)?.trim_start_matches('/');
            let text = text.replace("%2F", "/").replace("%2f", "/").replace("%2B", "+");
            let text = text.replace("%2b", "+").replace("%3D", "=").replace("%3d", "=");
            STANDARD.decode(text).ok()
        }
        _ => None,
    }
}

/// A CA with the same name and another key.
fn impostor(issuer: &Identity) -> Identity {
    let name = issuer.cert.subject_name();
    let common = name.entries().next().and_then(|e| e.data().to_string().ok());
    Identity::root(&common.unwrap_or_default())
}

fn short(delivery: &Delivery) -> &'static str {
    match delivery {
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
    }
}

const PATH: &str = "/ocsp";
const TYPE: &str = "application/ocsp-response";
