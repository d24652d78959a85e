use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::Duration;

use super::*;
use crate::ca::csr::{csr, new_key};
use crate::clock::FakeClock;
use crate::fixture::NOW;
use crate::http::HttpError;
use crate::settings::KeyType;
use crate::settings::Secret;

struct Server {
    answers: Mutex<VecDeque<(u16, Value)>>,
    sent: Mutex<Vec<Request>>,
}

impl Http for Server {
    fn send(&self, request: &Request) -> Result<Response, HttpError> {
        self.sent.lock().unwrap().push(request.clone());
        let (status, body) = self.answers.lock().unwrap().pop_front().ok_or(HttpError::Timeout)?;
        Ok(Response { status, body: body.to_string().into_bytes(), ..Response::default() })
    }
}

/// A CA with this key whose server gives these answers, and an order for it.
fn scene(key: Option<&[u8]>, answers: &[(u16, Value)]) -> (CfsslCa, Arc<Server>, Order) {
    let server = Arc::new(Server {
        answers: Mutex::new(answers.iter().cloned().collect()),
        sent: Mutex::default(),
    });
    let settings = CfsslSettings {
        ca: "corp".into(),
        url: "https://cfssl.example:8888/".into(),
        timeout: Duration::from_secs(30),
        profile: Some("web".into()),
        auth_key: key.map(|key| Secret::new(key.to_vec())),
    };
    let names: Vec<String> = ["a.example", "b.example"].map(String::from).into();
    let csr = csr(&new_key(KeyType::Ecdsa256).unwrap(), &names, false, None).unwrap();
    let order = Order {
        ca: "corp".into(),
        names,
        entry: "a.example".into(),
        reason: "missing".into(),
        csr,
        accepted: false,
        state: Value::Null,
    };
    (CfsslCa::new(settings, server.clone(), Arc::new(FakeClock::at(NOW))), server, order)
}

fn good(pem: &str) -> (u16, Value) {
    let result = json!({ "certificate": pem });
    (200, json!({ "success": true, "result": result, "errors": [], "messages": [] }))
}

fn bad(status: u16, message: &str) -> (u16, Value) {
    (
        status,
        json!({ "success": false, "result": null, "errors": [{"code": 1, "message": message}] }),
    )
}

#[test]
fn the_leaf_and_then_its_issuer() {
    let (ca, server, mut order) = scene(None, &[good("LEAF\n"), good("CA")]);
    assert_eq!(ca.step(&mut order, None).unwrap(), Progress::Wait(Duration::ZERO));
    assert!(order.accepted, "it counts from here on");
    assert_eq!(ca.step(&mut order, None).unwrap(), Progress::Issued(b"LEAF\nCA\n".to_vec().into()));
    let sent = server.sent.lock().unwrap();
    let urls: Vec<&str> = sent.iter().map(|r| r.url.as_str()).collect();
    let base = "https://cfssl.example:8888/api/v1/cfssl";
    assert_eq!(urls, [format!("{base}/sign"), format!("{base}/info")]);
    let body: Value = serde_json::from_slice(&sent[0].body).unwrap();
    assert_eq!(body["hosts"], json!(["a.example", "b.example"]));
    assert_eq!(body["profile"], "web");
    assert!(body["certificate_request"].as_str().unwrap().contains("CERTIFICATE REQUEST"));
}

#[test]
fn what_was_issued_is_not_asked_for_twice() {
    let (ca, server, mut order) = scene(None, &[good("LEAF"), bad(503, "busy"), good("CA")]);
    ca.step(&mut order, None).unwrap();
    let error = ca.step(&mut order, None).unwrap_err();
    assert!(matches!(error, IssueError::Busy { .. }) && !error.order_is_dead(), "{error:?}");
    assert_eq!(ca.step(&mut order, None).unwrap(), Progress::Issued(b"LEAF\nCA\n".to_vec().into()));
    assert!(server.sent.lock().unwrap().iter().skip(1).all(|r| r.url.ends_with("/info")));
}

/// HMAC-SHA-256 of RFC 4231, test case 2, and of the request that is sent.
#[test]
fn signed_by_the_profiles_key() {
    let mac = hmac(&Secret::new(b"Jefe".to_vec()), b"what do ya want for nothing?").unwrap();
    assert_eq!(mac[..4], [0x5b, 0xdc, 0xc1, 0x46]);

    let (ca, server, mut order) = scene(Some(b"Jefe"), &[good("LEAF")]);
    ca.step(&mut order, None).unwrap();
    let sent = server.sent.lock().unwrap().pop().unwrap();
    assert!(sent.url.ends_with("/authsign"));
    let body: Value = serde_json::from_slice(&sent.body).unwrap();
    let part = |name: &str| BASE64_STANDARD.decode(body[name].as_str().unwrap()).unwrap();
    let mac = hmac(&Secret::new(b"Jefe".to_vec()), &part("request")).unwrap();
    assert_eq!(mac, part("token"));
    let request: Value = serde_json::from_slice(&part("request")).unwrap();
    assert_eq!(request["hosts"][0], "a.example");
}

#[test]
fn refusals() {
    for (answer, kind, line) in [
        (bad(400, "invalid token"), "Configuration", "see \"auth_key_file\""),
        (bad(400, "authentication required"), "Configuration", "see \"auth_key_file\""),
        (bad(404, ""), "Configuration", "see \"url\""),
        (bad(403, "no"), "Configuration", "HTTP status 403: no"),
        (bad(500, "database"), "Busy", "sign: HTTP status 500: database"),
        (bad(429, ""), "Busy", "HTTP status 429"),
        (bad(400, "Policy violation request"), "Refused", "Policy violation"),
        (bad(400, "Request does not match policy whitelist"), "Refused", "policy whitelist"),
        (bad(400, "CSR parsing failed"), "Refused", "CSR parsing failed"),
        (bad(200, "not a success"), "Refused", "not a success"),
        ((200, json!("nonsense")), "Protocol", "the answer is none of cfssl's"),
        ((200, json!({ "success": true, "result": {} })), "Protocol", "no certificate"),
    ] {
        let (ca, _, mut order) = scene(None, std::slice::from_ref(&answer));
        let error = ca.step(&mut order, None).unwrap_err();
        assert!(format!("{error:?}").starts_with(kind), "{answer:?} {error:?}");
        assert!(error.to_string().contains(line), "{error}");
        let about_name = matches!(&error, IssueError::Refused { about_name: true, .. });
        assert_eq!(about_name, line.to_lowercase().contains("policy"), "{error:?}");
        assert!(!order.accepted);
    }
    let (ca, _, mut order) = scene(None, &[]);
    assert!(matches!(ca.step(&mut order, None).unwrap_err(), IssueError::Unreachable { .. }));
}
