//! An ACME server that says anything at all.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cert_autofetch::ca::acme::{AccountStore, AcmeCa, Change, StoredAccount};
use cert_autofetch::ca::{Ca, ChallengeAnswer, Challenges, IssueError, Order, Progress};
use cert_autofetch::clock::{Clock, Time};
use cert_autofetch::http::url::target;
use cert_autofetch::http::{Http, HttpError, Request, Response};
use cert_autofetch::settings::{AcmeSettings, Challenge, Secret};

use super::pki::{LEAF, NOW, key_pem};
use super::{must_be_a_line, no_error_is_left, responses};

/// All of it is [`responses`].
pub fn run(data: &[u8]) {
    let server = Arc::new(Server {
        responses: Mutex::new(responses(data)),
        now: AtomicI64::new(NOW.millis()),
        account: Mutex::default(),
        published: Mutex::default(),
    });
    let ca =
        AcmeCa::new(settings(), server.clone(), server.clone(), server.clone(), server.clone());
    let mut order = Order {
        ca: "corp".into(),
        names: vec!["shop.example".into(), "www.shop.example".into()],
        csr: vec![0x30, 0x00],
        entry: "a.example".into(),
        reason: "missing".into(),
        accepted: false,
        state: serde_json::Value::Null,
    };
    for step in 0.. {
        assert!(step < 1000, "an order without end");
        let progress = ca.step(&mut order, None);
        no_error_is_left();
        // It goes through a file between two steps.
        let json = serde_json::to_vec(&order).unwrap();
        order = serde_json::from_slice(&json).unwrap();
        match progress {
            Ok(Progress::Wait(time)) => server.advance(time),
            Ok(Progress::LookAgain) => {}
            Ok(Progress::Issued(issued)) => {
                issued.remark.iter().for_each(|remark| must_be_a_line(remark, 8192));
                return must_be_certificates(&issued.chain);
            }
            Err(error) => return must_be_a_line(&error.to_string(), 8192),
        }
    }
}

/// Nothing else reaches the keystore (RFC 8555, 11.4).
fn must_be_certificates(chain: &[u8]) {
    let text = std::str::from_utf8(chain).unwrap();
    let begins: Vec<_> = text.lines().filter(|l| l.contains("-----BEGIN ")).collect();
    assert!(!begins.is_empty(), "{text}");
    assert!(begins.iter().all(|l| l.trim().ends_with("CERTIFICATE-----")), "{text}");
}

fn settings() -> AcmeSettings {
    thread_local!(static KEY: Vec<u8> = key_pem(LEAF));
    AcmeSettings {
        ca: "corp".into(),
        url: "https://ca.example/dir".into(),
        account_key: Some(Secret::new(KEY.with(Vec::clone))),
        contact: Vec::new(),
        accept_terms_of_service: true,
        external_account: None,
        challenge: Challenge::Http01,
        profile: None,
        preferred_chain: Some("X".into()),
        hook: None,
        timeout: Duration::from_secs(10),
    }
}

/// The world of the client: what it asks for and tells is checked.
struct Server {
    responses: Mutex<VecDeque<Response>>,
    now: AtomicI64,
    account: Mutex<Option<StoredAccount>>,
    published: Mutex<Vec<ChallengeAnswer>>,
}

impl Server {
    fn advance(&self, time: Duration) {
        assert!(time <= Duration::from_secs(86_400), "{time:?}");
        self.now.fetch_add(time.as_millis() as i64, Ordering::Relaxed);
    }
}

impl Http for Server {
    fn send(&self, request: &Request) -> Result<Response, HttpError> {
        assert!(target(&request.url).is_some_and(|t| t.https), "{}", request.url);
        for (_, value) in &request.headers {
            assert!(!value.contains(char::is_control));
        }
        let response = self.responses.lock().unwrap().pop_front().ok_or(HttpError::Timeout)?;
        if response.body.len() > request.limit {
            return Err(HttpError::TooLarge(request.limit));
        }
        Ok(response)
    }
}

impl Clock for Server {
    fn now(&self) -> Time {
        Time::from_millis(self.now.load(Ordering::Relaxed))
    }
}

impl AccountStore for Server {
    fn load(&self, _: &str) -> Result<Option<StoredAccount>, IssueError> {
        Ok(self.account.lock().unwrap().clone())
    }

    fn with_lock(&self, _: &str, change: &mut Change<'_>) -> Result<(), IssueError> {
        let mut account = self.account.lock().unwrap();
        if let Some(changed) = change(account.clone())? {
            *account = Some(changed);
        }
        Ok(())
    }
}

impl Challenges for Server {
    fn publish(&self, answer: &ChallengeAnswer) -> Result<(), String> {
        let token = answer.token.as_bytes();
        let plain = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
        assert!(!token.is_empty() && token.iter().all(plain), "{}", answer.token);
        assert!(["shop.example", "www.shop.example"].contains(&answer.name.as_str()), "{answer:?}");
        self.published.lock().unwrap().push(answer.clone());
        Ok(())
    }

    fn withdraw(&self, answer: &ChallengeAnswer) {
        self.published.lock().unwrap().retain(|published| published != answer);
    }
}
