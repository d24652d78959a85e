//! The client against a scripted CA: every request is foreseen, and checked as a CA would.

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
use crate::settings::{Budget, CaSettings, Challenge, EvidenceSettings, Secret};

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
        "renewalInfo": url("/ari"), "randomKey": "x", "meta": meta,
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
    stored: Mutex<Option<StoredAccount>>,
    /// How long others need to see what is published.
    settle: Mutex<Duration>,
}

impl Bench {
    fn new() -> Arc<Bench> {
        let (script, nonces, given) = (Mutex::default(), Mutex::default(), Mutex::default());
        let (log, signers, stored) = (Mutex::default(), Mutex::default(), Mutex::default());
        let settle = Mutex::default();
        Arc::new(Bench { script, nonces, given, log, signers, stored, settle })
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
        });
        bench
    }

    fn ca(self: &Arc<Bench>) -> AcmeCa {
        self.ca_at(settings(), now())
    }

    fn ca_at(self: &Arc<Bench>, settings: CaSettings, now: Time) -> AcmeCa {
        let clock = Arc::new(FakeClock::at(now));
        AcmeCa::new(settings, self.clone(), clock, self.clone(), self.clone())
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
        let result = ca.step(order);
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
        if let Some(expected) = expected {
            let payload = part("payload");
            let payload = serde_json::from_slice(&payload).unwrap_or_else(|_| {
                assert!(payload.is_empty());
                Value::Null
            });
            assert_eq!(&payload, expected);
        }
    }
}

impl Http for Bench {
    fn send(&self, request: &Request) -> Result<Response, HttpError> {
        let line = format!("{:?} {}", request.method, request.url.trim_start_matches(BASE));
        self.log.lock().unwrap().push(line.clone());
        let next = self.script.lock().unwrap().pop_front();
        let next = next.unwrap_or_else(|| panic!("unforeseen: {line}"));
        assert_eq!(line, format!("{:?} {}", next.method, next.path));
        assert_eq!(request.timeout, Duration::from_secs(30));
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
        let by = if answer.kind == Challenge::Http01 { "" } else { " by TLS" };
        self.log.lock().unwrap().push(format!("publish {}{by}", answer.name));
        Ok(())
    }

    fn settle_in(&self) -> Duration {
        *self.settle.lock().unwrap()
    }

    fn withdraw(&self, answer: &ChallengeAnswer) {
        assert!(answer.key_authorization.starts_with(&answer.token));
        self.log.lock().unwrap().push(format!("withdraw {}", answer.name));
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

fn settings() -> CaSettings {
    CaSettings {
        name: "corp".into(),
        url: url("/dir"),
        trusted_certificate: None,
        account_key: None,
        contact: vec!["mailto:a@b.example".into()],
        accept_terms_of_service: true,
        challenge: Challenge::Http01,
        timeout: Duration::from_secs(30),
        issuer_certificate: None,
        budget: Budget::default(),
        evidence: EvidenceSettings::default(),
    }
}

fn now() -> Time {
    Time::from_secs(1_795_312_739)
}

fn order() -> Order {
    Order {
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

#[test]
fn the_whole_way() {
    let bench = Bench::new();
    let (ca, mut order) = (bench.ca(), order());
    let account = json!({"termsOfServiceAgreed": true, "contact": ["mailto:a@b.example"]});
    let wanted = json!({"identifiers": [{"type": "dns", "value": "a.example"}]});
    let requests = [
        directory(json!({"termsOfService": "https://ca.example/terms"})),
        nonce(),
        new_account().carries(account),
        new_order().carries(wanted),
    ];
    assert_eq!(bench.step(&ca, &mut order, requests).unwrap(), wait(0));
    assert_eq!(bench.step(&ca, &mut order, [pending(), tell()]).unwrap(), wait(250));
    for ms in [500, 1000, 2000, 4000, 8000, 8000] {
        assert_eq!(bench.step(&ca, &mut order, [pending()]).unwrap(), wait(ms));
    }
    let finalize = post("/finalize/1", 200, order_object("processing"))
        .carries(json!({"csr": BASE64URL.encode(b"csr")}));
    let requests = [valid(), look("/order/1", order_object("ready")), finalize];
    assert_eq!(bench.step(&ca, &mut order, requests).unwrap(), wait(250));
    let processing = [look("/order/1", order_object("processing"))];
    assert_eq!(bench.step(&ca, &mut order, processing).unwrap(), wait(500));
    let requests = [look("/order/1", order_object("valid")), certificate()];
    let issued = bench.step(&ca, &mut order, requests).unwrap();
    assert_eq!(issued, Progress::Issued(CHAIN.into()));
    let log = bench.log();
    let place = |what: &str| log.iter().position(|l| l == what).unwrap();
    assert!(place("publish a.example") < place("Post /chall/1"), "{log:?}");
    assert!(place("withdraw a.example") < place("Post /finalize/1"), "{log:?}");
    for once in ["publish a.example", "withdraw a.example", "Post /chall/1", "Head /nonce"] {
        assert_eq!(log.iter().filter(|l| *l == once).count(), 1, "{once}");
    }
}

#[test]
fn answers_are_all_public_before_the_ca_is_told_of_one() {
    let bench = Bench::with_account();
    let (ca, mut order) = (bench.ca(), order());
    order.names.push("b.example".into());
    let mut object = order_object("pending");
    object["authorizations"] = json!([url("/authz/1"), url("/authz/2")]);
    let new = post("/new-order", 201, object).header("location", &url("/order/1"));
    bench.step(&ca, &mut order, [directory(json!({})), nonce(), new]).unwrap();
    bench.log();
    let second = json!({"token": "second", "url": url("/chall/2")});
    let second = look("/authz/2", authz("b.example", "pending", second));
    let tell_second = post("/chall/2", 200, json!({})).carries(json!({}));
    bench.step(&ca, &mut order, [pending(), second, tell(), tell_second]).unwrap();
    assert_eq!(
        bench.log(),
        [
            "Post /authz/1",
            "publish a.example",
            "Post /authz/2",
            "publish b.example",
            "Post /chall/1",
            "Post /chall/2"
        ]
    );
    // One is decided: only the other is asked for again.
    let slow = look("/authz/2", authz("b.example", "pending", json!({"token": "second"})));
    bench.step(&ca, &mut order, [valid(), slow]).unwrap();
    assert_eq!(bench.log(), ["Post /authz/1", "withdraw a.example", "Post /authz/2"]);
    let failed = json!({"token": "second", "status": "invalid", "error": {"detail": "x"}});
    let failed = look("/authz/2", authz("b.example", "invalid", failed));
    let error = bench.step(&ca, &mut order, [failed]).unwrap_err();
    assert_eq!(error.to_string(), "challenge: b.example: x");
    assert_eq!(bench.log(), ["Post /authz/2", "withdraw b.example"]);
}

#[test]
fn the_ca_is_told_when_all_others_can_answer() {
    let bench = Bench::with_account();
    *bench.settle.lock().unwrap() = Duration::from_millis(1500);
    let clock = Arc::new(FakeClock::at(now()));
    let ca = AcmeCa::new(settings(), bench.clone(), clock.clone(), bench.clone(), bench.clone());
    let mut order = order();
    bench.step(&ca, &mut order, [directory(json!({})), nonce(), new_order()]).unwrap();
    assert_eq!(bench.step(&ca, &mut order, [pending()]).unwrap(), wait(1500));
    clock.advance(Duration::from_millis(1000));
    assert_eq!(bench.step(&ca, &mut order, [pending()]).unwrap(), wait(500));
    clock.advance(Duration::from_millis(500));
    assert_eq!(bench.step(&ca, &mut order, [pending(), tell()]).unwrap(), wait(250));
    let published = bench.log().iter().filter(|l| l.starts_with("publish")).count();
    assert_eq!(published, 1);
}

#[test]
fn the_challenge_of_the_configuration_is_chosen() {
    let bench = Bench::with_account();
    let by_tls = CaSettings { challenge: Challenge::TlsAlpn01, ..settings() };
    let (ca, mut order) = (bench.ca_at(by_tls, now()), order());
    bench.step(&ca, &mut order, [directory(json!({})), nonce(), new_order()]).unwrap();
    let mut object = authz("a.example", "pending", json!({}));
    let tls = json!({"type": "tls-alpn-01", "url": url("/chall/9"), "token": "of-tls"});
    object["challenges"].as_array_mut().unwrap().push(tls);
    let tell = post("/chall/9", 200, json!({})).carries(json!({}));
    bench.step(&ca, &mut order, [look("/authz/1", object), tell]).unwrap();
    assert!(bench.log().contains(&"publish a.example by TLS".to_owned()));
}

#[test]
fn a_key_is_stored_before_the_ca_hears_of_it() {
    let bench = Bench::new();
    let (ca, mut order) = (bench.ca(), order());
    let lost = new_account().fails(HttpError::Timeout);
    let error = bench.step(&ca, &mut order, [directory(json!({})), nonce(), lost]).unwrap_err();
    assert_eq!(error.to_string(), "newAccount: timed out");
    assert!(!error.order_is_dead());
    let stored = bench.stored.lock().unwrap().clone().unwrap();
    assert!(stored.key.is_some() && stored.url.is_none());
    // The CA had made it: 200 instead of 201.
    let again = post("/new-acct", 200, json!({"status": "valid"}));
    let again = again.header("location", &url("/acct/1"));
    bench.step(&ca, &mut order, [directory(json!({})), nonce(), again, new_order()]).unwrap();
    let signers = bench.signers.lock().unwrap();
    assert_eq!(signers[0], signers[1]);
    assert_eq!(signers[2], url("/acct/1"));
    assert_eq!(bench.stored.lock().unwrap().as_ref().unwrap().key, stored.key);
}

#[test]
fn accounts_that_the_administrator_must_mend() {
    let terms = json!({"termsOfService": "https://ca.example/terms"});
    let disagree = CaSettings { accept_terms_of_service: false, ..settings() };
    let closed = post("/new-acct", 200, json!({"status": "deactivated"}));
    let closed = closed.header("location", &url("/acct/1"));
    let not_pem = Some(Secret::new(b"no key".to_vec()));
    for (settings, requests, expected) in [
        (disagree, vec![directory(terms)], "https://ca.example/terms"),
        (
            settings(),
            vec![directory(json!({"externalAccountRequired": true}))],
            "external account binding",
        ),
        (settings(), vec![directory(json!({})), nonce(), closed], "is deactivated"),
        (
            settings(),
            vec![directory(json!({})), nonce(), refusal("/new-acct", 401, "unauthorized")],
            "newAccount: unauthorized: because",
        ),
        (
            settings(),
            vec![directory(json!({})), nonce(), refusal("/new-acct", 400, "unsupportedContact")],
            "unsupportedContact",
        ),
        (
            CaSettings { account_key: not_pem, ..settings() },
            vec![directory(json!({}))],
            "account_key of \"corp\"",
        ),
    ] {
        let bench = Bench::new();
        bench.expect(requests);
        let result = bench.ca_at(settings, now()).step(&mut order());
        let Err(IssueError::Configuration(line)) = result else { panic!("{result:?}") };
        assert!(line.contains(expected), "{line}");
        assert!(!line.contains('\n'), "{line}");
    }
}

#[test]
fn an_existing_account_needs_no_new_agreement() {
    let bench = Bench::with_account();
    let settings = CaSettings { accept_terms_of_service: false, ..settings() };
    let terms = directory(json!({"termsOfService": "https://ca.example/terms"}));
    let ca = bench.ca_at(settings, now());
    assert_eq!(bench.step(&ca, &mut order(), [terms, nonce(), new_order()]).unwrap(), wait(0));
}

#[test]
fn an_account_belongs_to_one_directory_and_one_key() {
    for change in [
        |s: &mut StoredAccount| s.directory = "https://other.example/dir".into(),
        |s: &mut StoredAccount| s.thumbprint = "of another key".into(),
        |s: &mut StoredAccount| s.url = None,
    ] {
        let bench = Bench::with_account();
        change(bench.stored.lock().unwrap().as_mut().unwrap());
        let requests = [directory(json!({})), nonce(), new_account(), new_order()];
        bench.step(&bench.ca(), &mut order(), requests).unwrap();
        let stored = bench.stored.lock().unwrap().clone().unwrap();
        assert_eq!((stored.directory, stored.url), (url("/dir"), Some(url("/acct/1"))));
    }
}

#[test]
fn an_account_that_the_ca_lost_is_made_again() {
    let bench = Bench::with_account();
    let made = post("/new-acct", 201, json!({"status": "valid"}));
    let requests = [
        directory(json!({})),
        nonce(),
        refusal("/new-order", 400, "accountDoesNotExist"),
        made.header("location", &url("/acct/2")),
        new_order(),
    ];
    assert_eq!(bench.step(&bench.ca(), &mut order(), requests).unwrap(), wait(0));
    let stored = bench.stored.lock().unwrap().clone().unwrap();
    assert_eq!(stored.url, Some(url("/acct/2")));
    assert_eq!(*bench.signers.lock().unwrap().last().unwrap(), url("/acct/2"));
}

#[test]
fn unauthorized_is_about_the_account_or_the_order() {
    let unauthorized = || refusal("/new-order", 403, "unauthorized");
    for (account, expected) in [
        (
            look("/acct/1", json!({"status": "revoked"})),
            "account \"https://ca.example/acct/1\" is revoked",
        ),
        (
            refusal("/acct/1", 401, "unauthorized"),
            "account \"https://ca.example/acct/1\": unauthorized",
        ),
        (look("/acct/1", json!({"status": "valid"})), "newOrder: unauthorized: because"),
        (refusal("/acct/1", 500, "serverInternal"), "newOrder: unauthorized: because"),
    ] {
        let bench = Bench::with_account();
        let requests = [directory(json!({})), nonce(), unauthorized(), account];
        let error = bench.step(&bench.ca(), &mut order(), requests).unwrap_err();
        assert!(error.to_string().starts_with(expected), "{error}");
        let configuration = matches!(error, IssueError::Configuration(_));
        assert_eq!(configuration, expected.starts_with("account"));
    }
}

#[test]
fn bad_nonces() {
    let bad = || refusal("/new-order", 400, "badNonce");
    let bench = Bench::with_account();
    bench.expect([directory(json!({})), nonce()]);
    bench.expect((0..15).map(|_| bad()));
    assert_eq!(bench.step(&bench.ca(), &mut order(), [new_order()]).unwrap(), wait(0));

    let bench = Bench::with_account();
    bench.expect([directory(json!({})), nonce()]);
    bench.expect((0..15).map(|_| bad()));
    let error = bench.step(&bench.ca(), &mut order(), [bad()]).unwrap_err();
    assert!(matches!(error, IssueError::Busy { .. }), "{error}");

    // A nonce that is no base64url does not count (section 6.5.1).
    let bench = Bench::with_account();
    let useless = bad().header("replay-nonce", "a+b");
    let second = Exchange::new(Method::Head, "/nonce", 204, "").header("replay-nonce", "second");
    let requests = [directory(json!({})), nonce(), useless, second, new_order()];
    assert_eq!(bench.step(&bench.ca(), &mut order(), requests).unwrap(), wait(0));

    let bench = Bench::with_account();
    let none = Exchange::new(Method::Head, "/nonce", 200, "");
    let error = bench.step(&bench.ca(), &mut order(), [directory(json!({})), none]).unwrap_err();
    assert_eq!(error.to_string(), "newNonce: no nonce in the answer");
}

#[test]
fn retry_after_is_honoured_within_reason() {
    for (value, ms) in [
        ("0", 1000),
        ("3", 3000),
        ("3600", 60_000),
        ("Sun, 22 Nov 2026 01:59:09 GMT", 10_000),
        ("Sun, 22 Nov 2020 01:59:09 GMT", 1000),
        ("later", 500),
    ] {
        let bench = Bench::with_account();
        let (ca, mut order) = proving(&bench);
        let poll = [pending().header("retry-after", value)];
        assert_eq!(bench.step(&ca, &mut order, poll).unwrap(), wait(ms), "{value}");
        let (ca, mut order) = finishing(&bench);
        let poll = [look("/order/1", order_object("processing")).header("retry-after", value)];
        assert_eq!(bench.step(&ca, &mut order, poll).unwrap(), wait(ms), "{value}");
    }
}

#[test]
fn authorizations_that_break_the_protocol() {
    let wildcard = json!({
        "status": "pending", "identifier": {"type": "dns", "value": "a.example"},
        "challenges": [{"type": "dns-01", "url": url("/chall/0"), "token": TOKEN}],
    });
    for (object, expected) in [
        (wildcard, "http-01 is not offered for \"a.example\", only dns-01"),
        (authz("b.example", "pending", json!({})), "for \"b.example\", which was not asked for"),
        (authz("", "pending", json!({})), "for \"\", which was not asked for"),
        (authz("a.example", "pending", json!({"token": "../../etc"})), "unusable token"),
        (authz("a.example", "pending", json!({"token": ""})), "unusable token"),
        (authz("a.example", "pending", json!({"token": null})), "unusable token"),
        (authz("a.example", "pending", json!({"token": "x".repeat(129)})), "unusable token"),
        (authz("a.example", "pending", json!({"url": "http://a.example/"})), "unusable URL"),
        (authz("a.example", "pending", json!({"url": null})), "unusable URL"),
        (json!({"status": "pending"}), "missing field"),
        (json!([]), "invalid"),
    ] {
        let bench = Bench::with_account();
        let (ca, mut order) = (bench.ca(), order());
        bench.step(&ca, &mut order, [directory(json!({})), nonce(), new_order()]).unwrap();
        let error = bench.step(&ca, &mut order, [look("/authz/1", object)]).unwrap_err();
        let IssueError::Protocol { cause, .. } = &error else { panic!("{error}") };
        assert!(cause.contains(expected), "{cause}");
        assert!(!bench.log().iter().any(|l| l.starts_with("publish")));
    }
}

#[test]
fn the_domain_above_a_name_may_be_proven_instead() {
    let bench = Bench::with_account();
    let (ca, mut order) = (bench.ca(), order());
    order.names = vec!["www.a.example".into()];
    bench.step(&ca, &mut order, [directory(json!({})), nonce(), new_order()]).unwrap();
    bench.step(&ca, &mut order, [pending(), tell()]).unwrap();
}

#[test]
fn failed_validations() {
    let error = json!({
        "type": "urn:ietf:params:acme:error:connection",
        "detail": "192.0.2.1: Fetching http://a.example/.well-known/acme-challenge/x: Timeout",
        "status": 400,
    });
    let failed = json!({"status": "invalid", "error": error});
    let theirs = json!({"type": "urn:ietf:params:acme:error:serverInternal"});
    let theirs = json!({"status": "invalid", "error": theirs});
    for (object, expected, about) in [
        (
            authz("a.example", "invalid", failed.clone()),
            "challenge: a.example: connection: 192.0.2.1: Fetching \
             http://a.example/.well-known/acme-challenge/x: Timeout",
            true,
        ),
        // Some CAs are slow to mark the authorization.
        (
            authz("a.example", "pending", failed),
            "challenge: a.example: connection: 192.0.2.1: Fetching \
             http://a.example/.well-known/acme-challenge/x: Timeout",
            true,
        ),
        (authz("a.example", "invalid", theirs), "challenge: a.example: serverInternal", false),
        (authz("a.example", "invalid", json!({})), "challenge: a.example: no reason given", true),
        (authz("a.example", "expired", json!({})), "authorization: a.example: expired", true),
        (
            authz("a.example", "deactivated", json!({})),
            "authorization: a.example: deactivated",
            true,
        ),
    ] {
        let bench = Bench::with_account();
        let (ca, mut order) = proving(&bench);
        let error = bench.step(&ca, &mut order, [look("/authz/1", object)]).unwrap_err();
        assert_eq!(error.to_string(), expected);
        let refused =
            matches!(error, IssueError::Refused { about_name, .. } if about_name == about);
        assert!(refused && error.order_is_dead(), "{error:?}");
        assert_eq!(bench.log(), ["Post /authz/1", "withdraw a.example"]);
    }
}

#[test]
fn what_passes_leaves_the_order_alive() {
    let seconds = |s| Some(Duration::from_secs(s));
    let busy = Exchange::new(Method::Post, "/authz/1", 503, "<html>").header("retry-after", "7");
    let limited = refusal("/authz/1", 429, "rateLimited").header("retry-after", "90000");
    for (exchange, expected, retry) in [
        (busy, "authorization: HTTP status 503 (service unavailable)", seconds(7)),
        (limited, "authorization: rateLimited: because", seconds(90_000)),
        (
            refusal("/authz/1", 500, "serverInternal"),
            "authorization: serverInternal: because",
            None,
        ),
        (pending().fails(HttpError::Timeout), "authorization: timed out", None),
        (pending().fails(HttpError::Tls("no".into())), "authorization: TLS failed: no", None),
    ] {
        let bench = Bench::with_account();
        let (ca, mut order) = proving(&bench);
        let error = bench.step(&ca, &mut order, [exchange]).unwrap_err();
        assert_eq!((error.to_string().as_str(), error.retry_after()), (expected, retry));
        assert!(!error.order_is_dead());
        // The CA may be about to look: the answer stays.
        assert_eq!(bench.log(), ["Post /authz/1"]);
        // The next step starts afresh, and neither publishes nor tells a second time.
        let requests = [directory(json!({})), nonce(), pending()];
        assert_eq!(bench.step(&ca, &mut order, requests).unwrap(), wait(500));
        assert_eq!(bench.log(), ["Get /dir", "Head /nonce", "Post /authz/1"]);
    }
}

#[test]
fn resumed_by_another_process_from_what_the_ca_says() {
    let fresh = || vec![directory(json!({})), nonce()];
    let ready = || look("/order/1", order_object("ready"));
    let finalize = |status| post("/finalize/1", 200, order_object(status));
    let fetch = || [look("/order/1", order_object("valid")), certificate()];
    let issued = || Ok(Progress::Issued(CHAIN.into()));
    let mut invalid = order_object("invalid");
    invalid["error"] = json!({"type": "urn:ietf:params:acme:error:badCSR", "detail": "weak"});
    let failed = json!({"status": "invalid", "error": {"detail": "not found"}});
    let failed = look("/authz/1", authz("a.example", "invalid", failed));
    type Start = fn(&Arc<Bench>) -> (AcmeCa, Order);
    let table: Vec<(Start, Vec<Exchange>, Result<Progress, &str>)> = vec![
        (proving, vec![pending()], Ok(wait(500))),
        (proving, [valid()].into_iter().chain(fetch()).collect(), issued()),
        (
            proving,
            vec![refusal("/authz/1", 404, "malformed")],
            Err("authorization: malformed: because"),
        ),
        (finishing, fetch().into(), issued()),
        (finishing, vec![ready(), finalize("valid"), certificate()], issued()),
        (finishing, vec![ready(), finalize("processing")], Ok(wait(250))),
        (finishing, vec![ready(), refusal("/finalize/1", 403, "orderNotReady")], Ok(wait(500))),
        (
            finishing,
            vec![ready(), refusal("/finalize/1", 400, "badCSR")],
            Err("finalize: badCSR: because"),
        ),
        (finishing, vec![look("/order/1", order_object("processing"))], Ok(wait(500))),
        (finishing, vec![look("/order/1", order_object("pending"))], Ok(wait(500))),
        (finishing, vec![look("/order/1", invalid)], Err("order: badCSR: weak")),
        (
            finishing,
            vec![look("/order/1", order_object("invalid")), failed],
            Err("challenge: a.example: not found"),
        ),
        (
            finishing,
            vec![look("/order/1", order_object("invalid")), valid()],
            Err("order is invalid: no reason given"),
        ),
        (
            finishing,
            vec![look("/order/1", order_object("odd\n"))],
            Err("order: unexpected status \"odd \""),
        ),
        (finishing, vec![refusal("/order/1", 404, "malformed")], Err("order: malformed: because")),
    ];
    for (start, requests, expected) in table {
        let bench = Bench::with_account();
        let (_, order) = start(&bench);
        let saved = serde_json::to_string(&order).unwrap();
        let mut order: Order = serde_json::from_str(&saved).unwrap();
        let told: Vec<_> = requests.iter().map(|r| r.path.clone()).collect();
        bench.expect(fresh());
        bench.expect(requests);
        match (bench.step(&bench.ca(), &mut order, []), expected) {
            (Ok(progress), Ok(expected)) => assert_eq!(progress, expected, "{told:?}"),
            (Err(error), Err(expected)) => {
                assert_eq!(error.to_string(), expected);
                assert!(error.order_is_dead(), "{error:?}");
            }
            (result, expected) => panic!("{told:?}: {result:?}, expected {expected:?}"),
        }
    }
}

#[test]
fn a_new_process_publishes_again_and_does_not_tell_again() {
    let bench = Bench::with_account();
    let (_, mut order) = proving(&bench);
    let ca = bench.ca();
    bench.step(&ca, &mut order, [directory(json!({})), nonce(), pending()]).unwrap();
    assert_eq!(bench.log(), ["Get /dir", "Head /nonce", "Post /authz/1", "publish a.example"]);
    // And a third, that has published nothing, takes it back.
    bench.expect([directory(json!({})), nonce(), valid()]);
    let processing = look("/order/1", order_object("processing"));
    bench.step(&bench.ca(), &mut order, [processing]).unwrap();
    assert!(bench.log().contains(&"withdraw a.example".to_owned()));
}

#[test]
fn nothing_is_waited_for_without_end() {
    type Start = fn(&Arc<Bench>) -> (AcmeCa, Order);
    let table: [(Start, Exchange, u64, &str); 2] = [
        (proving, pending(), 15 * 60, "authorization: not decided after 901 s"),
        (
            finishing,
            look("/order/1", order_object("processing")),
            86400,
            "order: not decided after 86401 s",
        ),
    ];
    for (start, exchange, seconds, expected) in table {
        let bench = Bench::with_account();
        let (_, mut order) = start(&bench);
        let ca = bench.ca_at(settings(), now() + Duration::from_secs(seconds + 1));
        bench.expect([directory(json!({})), nonce()]);
        let error = bench.step(&ca, &mut order, [exchange]).unwrap_err();
        assert_eq!(error.to_string(), expected);
        assert!(error.order_is_dead());
    }
}

#[test]
fn new_orders_that_break_the_protocol() {
    let with = |key: &str, value: Value| {
        let mut object = order_object("pending");
        object[key] = value;
        object
    };
    let many: Vec<_> = (0..10).map(|i| url(&format!("/authz/{i}"))).collect();
    let here = url("/order/1");
    for (object, location, expected) in [
        (order_object("pending"), "", "no Location"),
        (order_object("pending"), "/order/1", "unusable URL"),
        (order_object("pending"), "http://ca.example/order/1", "unusable URL"),
        (order_object("pending"), "https://ca.example/\u{7f}", "unusable URL"),
        (with("authorizations", json!([])), &here, "0 authorizations"),
        (with("authorizations", json!(null)), &here, "0 authorizations"),
        (with("authorizations", json!(many)), &here, "10 authorizations, 1 to 9"),
        (with("authorizations", json!(["file:///etc/passwd"])), &here, "unusable URL"),
        (order_object("valid"), &here, "unexpected status \"valid\""),
        (order_object("invalid"), &here, "unexpected status"),
        (json!({}), &here, "missing field"),
    ] {
        let bench = Bench::with_account();
        let mut new = post("/new-order", 201, object);
        if !location.is_empty() {
            new = new.header("location", location);
        }
        let requests = [directory(json!({})), nonce(), new];
        let error = bench.step(&bench.ca(), &mut order(), requests).unwrap_err();
        let IssueError::Protocol { cause, .. } = &error else { panic!("{error}") };
        assert!(cause.contains(expected), "{cause}");
    }
}

#[test]
fn a_new_order_may_be_ready_at_once() {
    let bench = Bench::with_account();
    let (ca, mut order) = (bench.ca(), order());
    let new = post("/new-order", 201, order_object("ready")).header("location", &url("/order/1"));
    bench.step(&ca, &mut order, [directory(json!({})), nonce(), new]).unwrap();
    let finalize = post("/finalize/1", 200, order_object("valid"));
    let requests = [look("/order/1", order_object("ready")), finalize, certificate()];
    assert_eq!(bench.step(&ca, &mut order, requests).unwrap(), Progress::Issued(CHAIN.into()));
}

#[test]
fn only_certificates_are_taken() {
    let two = format!("{CHAIN}\n{CHAIN}");
    let with_key = format!("{CHAIN}-----BEGIN PRIVATE KEY-----\nAA==\n-----END PRIVATE KEY-----\n");
    let long = format!("{CHAIN}{}", "x".repeat(256 * 1024));
    for (body, good) in [
        (CHAIN, true),
        (&two, true),
        (&with_key, false),
        ("", false),
        ("<html>", false),
        (&long, false),
    ] {
        let bench = Bench::with_account();
        let (ca, mut order) = finishing(&bench);
        let valid = look("/order/1", order_object("valid"));
        let chain = Exchange::new(Method::Post, "/cert/1", 200, body);
        let result = bench.step(&ca, &mut order, [valid, chain]);
        assert_eq!(result.is_ok(), good, "{body:.60}");
        assert!(order.accepted, "it was made, and counts");
    }
}

#[test]
fn directories() {
    let broken = |body: &str| Exchange::new(Method::Get, "/dir", 200, body);
    let downgrade = r#"{"newNonce":"http://ca.example/n","newAccount":"https://ca.example/a","newOrder":"https://ca.example/o"}"#;
    let long = " ".repeat(65 * 1024);
    for (exchange, expected) in [
        (broken("<html>"), "directory: expected value at line 1 column 1"),
        (broken("{}"), "directory: missing field `newNonce` at line 1 column 2"),
        (broken(downgrade), "directory: the CA names an unusable URL \"http://ca.example/n\""),
        (broken(&long), "directory: body is larger than 65536 bytes"),
        (
            Exchange::new(Method::Get, "/dir", 502, "<html>"),
            "directory: HTTP status 502 (bad gateway)",
        ),
        (
            broken("").fails(HttpError::Url("ftp://x".into())),
            "directory: \"ftp://x\" is not a usable URL",
        ),
    ] {
        let bench = Bench::with_account();
        let error = bench.step(&bench.ca(), &mut order(), [exchange]).unwrap_err();
        assert_eq!(error.to_string(), expected);
    }
}

#[test]
fn a_directory_is_read_again_when_it_is_old() {
    let bench = Bench::with_account();
    let clock = Arc::new(FakeClock::at(now()));
    let ca = AcmeCa::new(settings(), bench.clone(), clock.clone(), bench.clone(), bench.clone());
    bench.step(&ca, &mut order(), [directory(json!({})), nonce(), new_order()]).unwrap();
    bench.step(&ca, &mut order(), [new_order()]).unwrap();
    clock.advance(Duration::from_secs(3600));
    bench.step(&ca, &mut order(), [directory(json!({})), new_order()]).unwrap();
}

#[test]
fn a_saved_order_of_another_make_or_ca() {
    let bench = Bench::with_account();
    let (_, proving) = proving(&bench);
    let elsewhere = CaSettings { url: "https://other.example/dir".into(), ..settings() };
    for (settings, state, expected) in [
        (settings(), json!({"directory": url("/dir"), "step": "leap"}), "unknown variant"),
        (settings(), json!({"step": "new"}), "missing field"),
        (settings(), json!(7), "invalid type"),
        (elsewhere, proving.state, "it is at \"https://ca.example/dir\""),
    ] {
        let mut order = Order { state, ..order() };
        let error = bench.step(&bench.ca_at(settings, now()), &mut order, []).unwrap_err();
        let IssueError::Protocol { cause, .. } = &error else { panic!("{error}") };
        assert!(cause.contains(expected) && error.order_is_dead(), "{cause}");
    }
}

#[test]
fn host_and_port() {
    for (url, expected) in [
        ("https://ca.example/dir", "ca.example:443"),
        ("https://ca.example:14000/dir", "ca.example:14000"),
        ("http://[::1]/dir", "[::1]:80"),
        ("nonsense", "nonsense"),
    ] {
        let ca = Bench::new().ca_at(CaSettings { url: url.into(), ..settings() }, now());
        assert_eq!((ca.host(), ca.name()), (expected, "corp"));
    }
}

#[test]
fn secrets_stay_out_of_sight() {
    let bench = Bench::with_account();
    let (ca, order) = proving(&bench);
    let thumbprint = bench.stored.lock().unwrap().clone().unwrap().thumbprint;
    let seen = format!("{order:?} {:?} {:?}", ca.published, ca.account());
    assert!(!seen.contains(&thumbprint) && seen.contains("a.example"), "{seen}");
    let stored = format!("{:?}", bench.stored.lock().unwrap());
    assert!(stored.contains("Secret(..)") && !stored.contains("PRIVATE"), "{stored}");
}
