//! The client against a scripted CA: every request is foreseen, and checked as a CA would.

mod account;
mod authorization;
mod chain;
mod client;
mod order;
mod renewal;
mod rollover;

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::prelude::{BASE64_URL_SAFE_NO_PAD as BASE64URL, Engine};
use serde_json::{Value, json};

use super::jws::AccountKey;
use super::{AccountStore, AcmeCa, Change, StoredAccount};
use crate::ca::{Ca, ChallengeAnswer, Challenges, IssueError, Order, Progress};
use crate::clock::{FakeClock, Time};
use crate::http::{Http, HttpError, Method, Request, Response};
use crate::settings::{AcmeSettings, Challenge, ExternalAccount, Secret};

const BASE: &str = "https://ca.example";
const TOKEN: &str = "evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA";
const CHAIN: &str = "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n";

/// One foreseen request and its answer.
struct Exchange {
    method: Method,
    path: String,
    /// What a POST carries; None: whatever.
    payload: Option<Value>,
    answer: Result<Response, HttpError>,
}

impl Exchange {
    fn new(method: Method, path: &str, status: u16, body: &str) -> Exchange {
        let (path, body) = (path.to_owned(), body.as_bytes().to_vec());
        let answer = Ok(Response { status, headers: Vec::new(), body });
        Exchange { method, path, payload: None, answer }
    }

    fn header(mut self, name: &str, value: &str) -> Exchange {
        self.answer.as_mut().unwrap().headers.push((name.into(), value.into()));
        self
    }

    fn carries(self, payload: Value) -> Exchange {
        Exchange { payload: Some(payload), ..self }
    }

    fn fails(self, error: HttpError) -> Exchange {
        Exchange { answer: Err(error), ..self }
    }
}

fn post(path: &str, status: u16, body: Value) -> Exchange {
    Exchange::new(Method::Post, path, status, &body.to_string())
}

/// POST-as-GET.
fn look(path: &str, body: Value) -> Exchange {
    post(path, 200, body).carries(Value::Null)
}

fn refusal(path: &str, status: u16, kind: &str) -> Exchange {
    let kind = format!("urn:ietf:params:acme:error:{kind}");
    post(path, status, json!({"type": kind, "detail": "because"}))
}

fn directory(meta: Value) -> Exchange {
    let url = |path| format!("{BASE}{path}");
    let body = json!({
        "newNonce": url("/nonce"), "newAccount": url("/new-acct"), "newOrder": url("/new-order"),
        "keyChange": url("/key-change"),
        "renewalInfo": url("/ari"), "randomKey": "x", "meta": meta,
    });
    Exchange::new(Method::Get, "/dir", 200, &body.to_string())
}

/// Of a CA that has nothing more than it must.
fn bare_directory() -> Exchange {
    let body = json!({
        "newNonce": url("/nonce"), "newAccount": url("/new-acct"), "newOrder": url("/new-order"),
    });
    Exchange::new(Method::Get, "/dir", 200, &body.to_string())
}

fn nonce() -> Exchange {
    Exchange::new(Method::Head, "/nonce", 200, "").header("replay-nonce", "first")
}

fn new_account() -> Exchange {
    post("/new-acct", 201, json!({"status": "valid"})).header("location", &url("/acct/1"))
}

fn url(path: &str) -> String {
    format!("{BASE}{path}")
}

fn new_order() -> Exchange {
    post("/new-order", 201, order_object("pending")).header("location", &url("/order/1"))
}

fn order_object(status: &str) -> Value {
    json!({
        "status": status,
        "expires": "2026-11-30T00:00:00Z",
        "identifiers": [{"type": "dns", "value": "a.example"}],
        "authorizations": [url("/authz/1")],
        "finalize": url("/finalize/1"),
        "certificate": url("/cert/1"),
    })
}

/// In the shape of RFC 8555 section 7.1.4.
fn authz(name: &str, status: &str, challenge: Value) -> Value {
    let own =
        json!({"type": "http-01", "url": url("/chall/1"), "status": "pending", "token": TOKEN});
    let mut own = own.as_object().unwrap().clone();
    own.extend(challenge.as_object().unwrap().clone());
    json!({
        "status": status,
        "expires": "2026-11-30T00:00:00Z",
        "identifier": {"type": "dns", "value": name},
        "challenges": [
            {"type": "strange-99", "hint": 1},
            {"type": "dns-01", "url": url("/chall/0"), "status": "pending", "token": TOKEN},
            own,
        ],
        "wildcard": false,
    })
}

fn pending() -> Exchange {
    look("/authz/1", authz("a.example", "pending", json!({})))
}

fn valid() -> Exchange {
    look("/authz/1", authz("a.example", "valid", json!({"status": "valid"})))
}

fn tell() -> Exchange {
    post("/chall/1", 200, json!({"type": "http-01", "status": "processing"})).carries(json!({}))
}

fn certificate() -> Exchange {
    Exchange::new(Method::Post, "/cert/1", 200, CHAIN).carries(Value::Null)
}

/// What all parts of a test share.
struct Bench {
    script: Mutex<VecDeque<Exchange>>,
    /// Nonces given out and not used yet.
    nonces: Mutex<BTreeSet<String>>,
    given: Mutex<u32>,
    /// Requests and publications, in their order.
    log: Mutex<Vec<String>>,
    signers: Mutex<Vec<Value>>,
    /// What POSTs carried; null: nothing.
    payloads: Mutex<Vec<Value>>,
    stored: Mutex<Option<StoredAccount>>,
    /// How long others need to see what is published.
    settle: Mutex<Duration>,
    /// How long it is there.
    life: Mutex<Option<Duration>>,
}

impl Bench {
    fn new() -> Arc<Bench> {
        let (script, nonces, given) = (Mutex::default(), Mutex::default(), Mutex::default());
        let (log, signers, stored) = (Mutex::default(), Mutex::default(), Mutex::default());
        let (settle, life, payloads) = (Mutex::default(), Mutex::default(), Mutex::default());
        Arc::new(Bench { script, nonces, given, log, signers, payloads, stored, settle, life })
    }

    /// With an account that is stored already.
    fn with_account() -> Arc<Bench> {
        let bench = Bench::new();
        let key = AccountKey::generate().unwrap();
        *bench.stored.lock().unwrap() = Some(StoredAccount {
            directory: url("/dir"),
            url: Some(url("/acct/1")),
            thumbprint: key.thumbprint().into(),
            key: Some(key.to_pem().unwrap()),
            contact: Some(settings().contact),
            ..StoredAccount::default()
        });
        bench
    }

    fn ca(self: &Arc<Bench>) -> AcmeCa {
        self.ca_at(settings(), now())
    }

    fn ca_at(self: &Arc<Bench>, settings: AcmeSettings, now: Time) -> AcmeCa {
        let clock = Arc::new(FakeClock::at(now));
        AcmeCa::new(settings, self.clone(), clock, self.clone(), self.clone())
    }

    fn stored(&self) -> StoredAccount {
        self.stored.lock().unwrap().clone().unwrap()
    }

    fn expect(&self, exchanges: impl IntoIterator<Item = Exchange>) {
        self.script.lock().unwrap().extend(exchanges);
    }

    fn log(&self) -> Vec<String> {
        std::mem::take(&mut self.log.lock().unwrap())
    }

    /// A step for which exactly these requests are foreseen.
    fn step<const N: usize>(
        &self,
        ca: &AcmeCa,
        order: &mut Order,
        exchanges: [Exchange; N],
    ) -> Result<Progress, IssueError> {
        self.expect(exchanges);
        let result = ca.step(order, None);
        let left = self.script.lock().unwrap().len();
        assert_eq!(left, 0, "requests left, {result:?}");
        result
    }

    fn check_post(&self, request: &Request, expected: Option<&Value>) {
        assert_eq!(request.redirects, 0);
        let content = request.headers.iter().find(|(n, _)| *n == "Content-Type").unwrap();
        assert_eq!(content.1, "application/jose+json");
        let jws: Value = serde_json::from_slice(&request.body).unwrap();
        let part = |name: &str| BASE64URL.decode(jws[name].as_str().unwrap()).unwrap();
        let header: Value = serde_json::from_slice(&part("protected")).unwrap();
        assert_eq!(header["url"], request.url);
        assert_eq!(header["alg"], "ES256");
        let nonce = header["nonce"].as_str().unwrap();
        assert!(self.nonces.lock().unwrap().remove(nonce), "nonce {nonce} is not ours or used");
        let by_key = request.url == url("/new-acct");
        assert_eq!((header.get("jwk").is_some(), header.get("kid").is_some()), (by_key, !by_key));
        self.signers.lock().unwrap().push(header[if by_key { "jwk" } else { "kid" }].clone());
        let payload = part("payload");
        let payload = serde_json::from_slice(&payload).unwrap_or_else(|_| {
            assert!(payload.is_empty());
            Value::Null
        });
        if let Some(expected) = expected {
            assert_eq!(&payload, expected);
        }
        self.payloads.lock().unwrap().push(payload);
    }
}

impl Http for Bench {
    fn send(&self, request: &Request) -> Result<Response, HttpError> {
        let line = format!("{:?} {}", request.method, request.url.trim_start_matches(BASE));
        self.log.lock().unwrap().push(line.clone());
        let next = self.script.lock().unwrap().pop_front();
        let next = next.unwrap_or_else(|| panic!("unforeseen: {line}"));
        assert_eq!(line, format!("{:?} {}", next.method, next.path));
        let timeout = if request.url.starts_with(&url("/ari")) { 10 } else { 30 };
        assert_eq!(request.timeout, Duration::from_secs(timeout));
        if request.method == Method::Post {
            self.check_post(request, next.payload.as_ref());
        }
        let mut response = next.answer?;
        if response.body.len() > request.limit {
            return Err(HttpError::TooLarge(request.limit));
        }
        if request.method == Method::Post && response.header("replay-nonce").is_none() {
            let mut given = self.given.lock().unwrap();
            *given += 1;
            response.headers.push(("replay-nonce".into(), format!("nonce-{given}")));
        }
        if let Some(nonce) = response.header("replay-nonce") {
            self.nonces.lock().unwrap().insert(nonce.into());
        }
        Ok(response)
    }
}

impl Challenges for Bench {
    fn publish(&self, answer: &ChallengeAnswer) -> Result<(), String> {
        let (token, thumbprint) = answer.key_authorization.split_once('.').unwrap();
        assert_eq!(token, answer.token);
        assert_eq!(thumbprint, self.stored.lock().unwrap().as_ref().unwrap().thumbprint);
        self.log.lock().unwrap().push(format!("publish {}{}", answer.name, by(answer.kind)));
        Ok(())
    }

    fn settle_in(&self) -> Duration {
        *self.settle.lock().unwrap()
    }

    fn life(&self) -> Option<Duration> {
        *self.life.lock().unwrap()
    }

    fn withdraw(&self, answer: &ChallengeAnswer) {
        assert!(answer.key_authorization.starts_with(&answer.token));
        self.log.lock().unwrap().push(format!("withdraw {}{}", answer.name, by(answer.kind)));
    }
}

fn by(kind: Challenge) -> &'static str {
    match kind {
        Challenge::Http01 => "",
        Challenge::TlsAlpn01 => " by TLS",
        Challenge::Dns01 => " by DNS",
    }
}

impl AccountStore for Bench {
    fn load(&self, ca: &str) -> Result<Option<StoredAccount>, IssueError> {
        assert_eq!(ca, "corp");
        Ok(self.stored.lock().unwrap().clone())
    }

    fn with_lock(&self, ca: &str, change: &mut Change<'_>) -> Result<(), IssueError> {
        if let Some(changed) = change(self.load(ca)?)? {
            // As a file would.
            let json = serde_json::to_string(&changed).unwrap();
            *self.stored.lock().unwrap() = Some(serde_json::from_str(&json).unwrap());
        }
        Ok(())
    }
}

fn settings() -> AcmeSettings {
    AcmeSettings {
        ca: "corp".into(),
        url: url("/dir"),
        account_key: None,
        contact: vec!["mailto:a@b.example".into()],
        accept_terms_of_service: true,
        external_account: None,
        challenge: Challenge::Http01,
        profile: None,
        preferred_chain: None,
        hook: None,
        timeout: Duration::from_secs(30),
    }
}

fn now() -> Time {
    Time::from_secs(1_795_312_739)
}

fn order() -> Order {
    Order {
        entry: "a.example".into(),
        reason: "missing".into(),
        accepted: false,
        ca: "corp".into(),
        names: vec!["a.example".into()],
        csr: b"csr".to_vec(),
        state: Value::Null,
    }
}

fn wait(ms: u64) -> Progress {
    Progress::Wait(Duration::from_millis(ms))
}

/// An order that waits for the validation of a.example.
fn proving(bench: &Arc<Bench>) -> (AcmeCa, Order) {
    let (ca, mut order) = (bench.ca(), order());
    let new = [directory(json!(null)), nonce(), new_order()];
    assert_eq!(bench.step(&ca, &mut order, new).unwrap(), wait(0));
    assert_eq!(bench.step(&ca, &mut order, [pending(), tell()]).unwrap(), wait(250));
    bench.log();
    (ca, order)
}

/// An order with nothing left to prove.
fn finishing(bench: &Arc<Bench>) -> (AcmeCa, Order) {
    let (ca, mut order) = proving(bench);
    let requests = [valid(), look("/order/1", order_object("pending"))];
    assert_eq!(bench.step(&ca, &mut order, requests).unwrap(), wait(250));
    bench.log();
    (ca, order)
}
