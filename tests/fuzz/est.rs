//! An EST server that says anything at all.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cert_autofetch::ca::csr::csr;
use cert_autofetch::ca::est::{EstCa, Ways};
use cert_autofetch::ca::{Ca, Issued, Order, Progress};
use cert_autofetch::clock::{Clock, Time};
use cert_autofetch::http::{Http, HttpError, Request, Response};
use cert_autofetch::settings::{EstSettings, Secret};
use openssl::pkey::PKey;
use openssl::x509::X509;

use super::pki::{NOW, Pki};
use super::{cut, must_be_a_line, no_error_is_left, responses};

/// A line that has a `k` in it where the CA is to make the key; then [`responses`].
pub fn run(data: &[u8]) {
    let (mode, data) = cut(data, b"\n");
    let server_keygen = mode.contains(&b'k');
    let server = Arc::new(Server(Mutex::new(responses(data))));
    let ca = EstCa::new(settings(server_keygen), server.clone(), server.clone(), server);
    let mut order = order();
    for step in 0.. {
        assert!(step < 1000, "an order without end");
        let progress = ca.step(&mut order, None);
        no_error_is_left();
        // It goes through a file between two steps.
        let json = serde_json::to_vec(&order).unwrap();
        order = serde_json::from_slice(&json).unwrap();
        match progress {
            Ok(Progress::LookAgain) => unreachable!(),
            Ok(Progress::Wait(time)) => {
                assert!(order.accepted);
                assert!(Duration::from_secs(1) <= time && time <= Duration::from_secs(86_400));
            }
            Ok(Progress::Issued(issued)) => return must_be_for_the_key(&issued, server_keygen),
            Err(error) => return must_be_a_line(&error.to_string(), 2048),
        }
    }
}

/// PEM of certificates and nothing else, the leaf first.
fn must_be_for_the_key(issued: &Issued, server_keygen: bool) {
    let chain = X509::stack_from_pem(&issued.chain).unwrap();
    let pem: Vec<u8> = chain.iter().flat_map(|c| c.to_pem().unwrap()).collect();
    assert_eq!(pem, issued.chain);
    assert!(chain.len() <= 10);
    let public = chain[0].public_key().unwrap();
    assert_eq!(issued.key.is_some(), server_keygen);
    match &issued.key {
        Some(key) => {
            assert!(PKey::private_key_from_pem(key.bytes()).unwrap().public_eq(&public));
        }
        None => assert!(PKI.with(|pki| pki.leaf_key.public_eq(&public))),
    }
}

thread_local!(static PKI: Pki = Pki::new());

fn order() -> Order {
    let names = vec!["shop.example".to_owned()];
    let csr = PKI.with(|pki| csr(&pki.leaf_key, &names, false, None).unwrap());
    Order {
        ca: "corp".into(),
        names,
        entry: "a.example".into(),
        reason: "missing".into(),
        csr,
        accepted: false,
        state: serde_json::Value::Null,
    }
}

fn settings(server_keygen: bool) -> EstSettings {
    EstSettings {
        ca: "corp".into(),
        url: "https://est.example/.well-known/est".into(),
        timeout: Duration::from_secs(10),
        username: Some("nginx".into()),
        password: Some(Secret::new(b"hush".to_vec())),
        server_keygen,
    }
}

struct Server(Mutex<VecDeque<Response>>);

impl Http for Server {
    fn send(&self, request: &Request) -> Result<Response, HttpError> {
        let response = self.0.lock().unwrap().pop_front().ok_or(HttpError::Timeout)?;
        match response.body.len() > request.limit {
            true => Err(HttpError::TooLarge(request.limit)),
            false => Ok(response),
        }
    }
}

impl Clock for Server {
    fn now(&self) -> Time {
        NOW
    }
}

impl Ways for Server {
    fn with_client_certificate(&self, _: &[u8], _: &Secret) -> Result<Arc<dyn Http>, String> {
        unreachable!("there is no old certificate")
    }
}
