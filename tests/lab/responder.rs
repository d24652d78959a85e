//! An OCSP responder that a test can make lie, dawdle or break at any moment, and that remembers
//! what it was asked.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::answering::{Oracle, Source};
use super::behaviour::{Behaviour, Delivery, Methods, ResultCode};
use super::ocsp::{self, Request, Status};
use super::pki::{Identity, hex};
use super::ports::Port;
use super::process::wait_until;
use super::wire::{self, Exchange, Server};

/// Answers over HTTP for the certificates of one CA.
pub struct Responder {
    server: Server,
    state: Arc<State>,
}

/// One request, as it came in.
#[derive(Clone, Debug)]
pub struct Query {
    pub at: Instant,
    pub time: SystemTime,
    pub http: wire::Request,
    /// The OCSPRequest; empty if it could not be got out of the HTTP.
    pub der: Vec<u8>,
    /// Of all certificates asked for; empty if the request is malformed.
    pub serials: Vec<String>,
    pub nonce: bool,
    pub signed: bool,
    /// What it was answered with, in words; empty as long as no answer was sent.
    pub answer: String,
}

#[derive(Default)]
struct Script {
    all: Behaviour,
    by_serial: HashMap<String, Behaviour>,
}

struct State {
    oracle: Oracle,
    script: Mutex<Script>,
    /// By a number that outlasts [`Responder::forget_queries`].
    queries: Mutex<Vec<(usize, Query)>>,
    answers: Mutex<HashMap<String, Vec<u8>>>,
    count: AtomicUsize,
    at_once: AtomicUsize,
    most_at_once: AtomicUsize,
}

impl Responder {
    /// A responder for what `issuer` signed.
    pub fn start(port: Port, issuer: Identity, source: Source) -> Responder {
        let state = Arc::new(State {
            oracle: Oracle::new(issuer, source),
            script: Mutex::default(),
            queries: Mutex::default(),
            answers: Mutex::default(),
            count: AtomicUsize::new(0),
            at_once: AtomicUsize::new(0),
            most_at_once: AtomicUsize::new(0),
        });
        let shared = state.clone();
        let handler = Arc::new(move |request: &wire::Request, exchange: &mut Exchange| {
            let now = shared.at_once.fetch_add(1, Ordering::SeqCst) + 1;
            shared.most_at_once.fetch_max(now, Ordering::SeqCst);
            let more = shared.handle(request, exchange);
            shared.at_once.fetch_sub(1, Ordering::SeqCst);
            more
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
        self.state.script.lock().expect("lock").all = behaviour;
    }

    /// From now on, for this serial.
    pub fn behave_for(&self, serial: &str, behaviour: Behaviour) {
        self.state.script.lock().expect("lock").by_serial.insert(serial.into(), behaviour);
    }

    /// Correct again, for all; what [`Responder::set_status`] said stays.
    pub fn behave_well(&self) {
        *self.state.script.lock().expect("lock") = Script::default();
    }

    /// The truth about a serial from now on, instead of what the source says.
    pub fn set_status(&self, serial: &str, status: Status) {
        self.state.oracle.statuses.lock().expect("lock").insert(serial.into(), status);
    }

    /// Refuses connections, till [`Responder::up`].
    pub fn down(&self) {
        self.server.down();
    }

    pub fn up(&self) {
        self.server.up();
    }

    pub fn queries(&self) -> Vec<Query> {
        self.state.queries.lock().expect("lock").iter().map(|(_, q)| q.clone()).collect()
    }

    pub fn queries_for(&self, serial: &str) -> Vec<Query> {
        self.queries().into_iter().filter(|q| q.serials.iter().any(|s| s == serial)).collect()
    }

    /// Waits until this serial has been asked for so many times in all.
    pub fn wait_queries(&self, serial: &str, count: usize, within: Duration) {
        let what = format!("{count} OCSP queries for {serial}");
        wait_until(&what, within, || self.queries_for(serial).len() >= count);
    }

    /// How many requests were under way at the same time, at most.
    pub fn most_at_once(&self) -> usize {
        self.state.most_at_once.load(Ordering::SeqCst)
    }

    pub fn forget_queries(&self) {
        self.state.queries.lock().expect("lock").clear();
        self.state.most_at_once.store(0, Ordering::SeqCst);
    }

    /// The last signed answer about this serial, for [`Delivery::Replay`].
    pub fn last_answer(&self, serial: &str) -> Option<Vec<u8>> {
        self.state.answers.lock().expect("lock").get(serial).cloned()
    }

    /// The answer to a request without nonce that nobody sent.
    pub fn answer_about(&self, serial: &str, behaviour: &Behaviour) -> Vec<u8> {
        self.state.oracle.answer(&self.state.oracle.request(serial), behaviour).0
    }
}

impl State {
    fn handle(&self, http: &wire::Request, exchange: &mut Exchange) -> bool {
        let der = request_bytes(http).unwrap_or_default();
        let request = Request::parse(&der);
        let ids = request.iter().flat_map(|r| &r.ids);
        let serials: Vec<_> = ids.map(|id| hex(&id.serial)).collect();
        let serial = serials.first().cloned().unwrap_or_default();
        let behaviour = self.behaviour(&serial);
        let number = self.record(Query {
            at: Instant::now(),
            time: SystemTime::now(),
            http: http.clone(),
            der,
            serials,
            nonce: request.as_ref().is_some_and(|r| r.nonce.is_some()),
            signed: request.as_ref().is_some_and(|r| r.signature.is_some()),
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
        // After the delay: the answer tells the status of the moment when it is sent.
        let (bytes, words) = match &request {
            Some(request) => self.oracle.answer(request, &behaviour),
            None => (ocsp::bare(ResultCode::MalformedRequest as u8), "MalformedRequest".into()),
        };
        if behaviour.result == ResultCode::Successful && request.is_some() {
            self.answers.lock().expect("lock").insert(serial, bytes.clone());
        }
        match &behaviour.delivery {
            Delivery::Whole => self.note(number, words),
            other => self.note(number, format!("{words}, {}", other.words())),
        }
        behaviour.delivery.send(TYPE, &bytes, exchange)
    }

    fn behaviour(&self, serial: &str) -> Behaviour {
        let script = self.script.lock().expect("lock");
        script.by_serial.get(serial).unwrap_or(&script.all).clone()
    }

    fn record(&self, query: Query) -> usize {
        let number = self.count.fetch_add(1, Ordering::SeqCst);
        self.queries.lock().expect("lock").push((number, query));
        number
    }

    fn note(&self, number: usize, answer: String) {
        let mut queries = self.queries.lock().expect("lock");
        if let Some((_, query)) = queries.iter_mut().find(|(n, _)| *n == number) {
            query.answer = answer;
        }
    }
}

/// The DER of a request by POST, or by GET (RFC 6960, A.1).
fn request_bytes(http: &wire::Request) -> Option<Vec<u8>> {
    match http.method.as_str() {
        "POST" => Some(http.body.clone()),
        "GET" => {
            let mut text = http.target.strip_prefix(PATH)?.trim_start_matches('/').to_owned();
            for (code, letter) in [("%2F", "/"), ("%2B", "+"), ("%3D", "=")] {
                text = text.replace(code, letter).replace(&code.to_lowercase(), letter);
            }
            STANDARD.decode(text).ok()
        }
        _ => None,
    }
}

const PATH: &str = "/ocsp";
const TYPE: &str = "application/ocsp-response";
