use std::sync::Mutex;
use std::time::Duration;

use serde_json::json;

use super::*;
use crate::ca::csr::{csr, new_key};
use crate::clock::FakeClock;
use crate::fixture::NOW;
use crate::http::HttpError;
use crate::settings::KeyType;

/// Answers always the same; remembers what it was sent.
struct Server(Response, Mutex<Vec<Request>>);

impl Http for Server {
    fn send(&self, request: &Request) -> Result<Response, HttpError> {
        self.1.lock().unwrap().push(request.clone());
        Ok(self.0.clone())
    }
}

struct Scene {
    dir: tempfile::TempDir,
    server: Arc<Server>,
    namespace: Option<String>,
}

fn scene(status: u16, body: serde_json::Value) -> Scene {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("token"), "s.abc\n").unwrap();
    let response = Response { status, body: body.to_string().into_bytes(), ..Response::default() };
    Scene { dir, server: Arc::new(Server(response, Mutex::default())), namespace: None }
}

impl Scene {
    fn step(&self, must_staple: bool) -> Result<Progress, IssueError> {
        self.step_for(&["a.example", "b.example"], must_staple)
    }

    fn step_for(&self, names: &[&str], must_staple: bool) -> Result<Progress, IssueError> {
        let settings = VaultSettings {
            ca: "bao".into(),
            url: "https://bao.example/v1/pki/".into(),
            timeout: Duration::from_secs(30),
            role: "server".into(),
            token_file: self.dir.path().join("token"),
            namespace: self.namespace.clone(),
        };
        let clock = Arc::new(FakeClock::at(NOW));
        let names: Vec<String> = names.iter().map(|n| n.to_string()).collect();
        let key = new_key(KeyType::Ecdsa256).unwrap();
        let csr = csr(&key, &names, must_staple, None).unwrap();
        let mut order = Order {
            ca: "bao".into(),
            names,
            entry: "a.example".into(),
            reason: "missing".into(),
            csr,
            accepted: false,
            state: Default::default(),
        };
        VaultCa::new(settings, self.server.clone(), clock).step(&mut order, None)
    }

    fn sent(&self) -> Request {
        self.server.1.lock().unwrap().pop().unwrap()
    }
}

fn certificate() -> serde_json::Value {
    json!({"data": {"certificate": "LEAF\n", "issuing_ca": "INT", "ca_chain": ["INT", "ROOT"]}})
}

#[test]
fn one_exchange() {
    let scene = scene(200, certificate());
    let progress = scene.step(false).unwrap();
    assert_eq!(progress, Progress::Issued(b"LEAF\nINT\nROOT\n".to_vec().into()));
    let sent = scene.sent();
    assert_eq!(sent.url, "https://bao.example/v1/pki/sign/server");
    assert!(sent.headers.contains(&("x-vault-token", "s.abc".into())), "{:?}", sent.headers);
    assert!(!sent.headers.iter().any(|(name, _)| *name == "x-vault-namespace"));
    let body: Value = serde_json::from_slice(&sent.body).unwrap();
    assert!(body["csr"].as_str().unwrap().starts_with("-----BEGIN CERTIFICATE REQUEST-----"));
    assert_eq!(body["common_name"], "a.example");
    assert_eq!(body["alt_names"], "a.example,b.example");
    assert_eq!(body["ext_key_usage"], Value::Null, "that is the role's");
    assert_eq!(sent.redirects, 0, "the token is for nobody else");
}

#[test]
fn what_a_request_may_want() {
    let with_namespace = Scene { namespace: Some("team/web".into()), ..scene(200, certificate()) };
    with_namespace.step(false).unwrap();
    let namespace = ("x-vault-namespace", "team/web".into());
    assert!(with_namespace.sent().headers.contains(&namespace));

    let must_staple = scene(200, certificate());
    must_staple.step(true).unwrap();
    let sent = must_staple.sent();
    assert_eq!(sent.url, "https://bao.example/v1/pki/sign-verbatim/server");
    let body: Value = serde_json::from_slice(&sent.body).unwrap();
    assert_eq!(body["ext_key_usage"], json!(["ServerAuth"]));
    assert_eq!(body["key_usage"][0], "DigitalSignature");

    let no_chain = json!({"data": {"certificate": "LEAF", "issuing_ca": "INT"}});
    let progress = scene(200, no_chain).step(false).unwrap();
    assert_eq!(progress, Progress::Issued(b"LEAF\nINT\n".to_vec().into()));
}

#[test]
fn the_token_is_read_anew() {
    let scene = scene(200, certificate());
    let file = scene.dir.path().join("token");
    std::fs::write(&file, "  s.next  \n").unwrap();
    scene.step(false).unwrap();
    assert!(scene.sent().headers.contains(&("x-vault-token", "s.next".into())));
    for (contents, cause) in [
        ("", "it is empty"),
        ("\n", "it is empty"),
        ("a b", "not one word"),
        ("a\u{e4}", "not one word"),
    ] {
        std::fs::write(&file, contents).unwrap();
        let error = scene.step(false).unwrap_err();
        assert!(matches!(error, IssueError::Configuration(_)), "{error:?}");
        assert!(error.to_string().contains(cause), "{error}");
    }
    std::fs::remove_file(&file).unwrap();
    assert!(scene.step(false).unwrap_err().to_string().contains("No such file"));
    assert!(scene.server.1.lock().unwrap().is_empty(), "nothing was sent");
}

#[test]
fn refusals() {
    // Status, error, and what becomes of it: kind, and a part of the line.
    let table = [
        (503, "Vault is sealed", "Busy", "sign: HTTP status 503: Vault is sealed"),
        (500, "", "Busy", "sign: HTTP status 500"),
        (429, "rate limit quota exceeded", "Busy", "429"),
        (403, "permission denied", "Configuration", "permission denied, see \"token_file\""),
        (404, "no handler for route", "Configuration", "see \"url\""),
        (400, "unknown role: server", "Configuration", "see \"role\""),
        (400, "common name a.example not allowed by this role", "Refused", "not allowed"),
        (
            400,
            "IP Subject Alternative Names are not allowed in this role",
            "Refused",
            "not allowed",
        ),
        (400, "a.example is not allowed in this role", "Refused", "not allowed"),
        (400, "error parsing CSR", "Refused", "error parsing CSR"),
        (302, "", "Refused", "HTTP status 302"),
    ];
    let wildcard = json!({"errors": ["subject alternate name *.example not allowed by this role"]});
    let error = scene(400, wildcard).step_for(&["example", "*.example"], false).unwrap_err();
    assert!(error.to_string().ends_with("not allowed by this role, see \"wildcards\""), "{error}");
    for (status, error, kind, line) in table {
        let errors = if error.is_empty() { json!({}) } else { json!({ "errors": [error] }) };
        let error = scene(status, errors).step(false).unwrap_err();
        assert!(format!("{error:?}").starts_with(kind), "{status} {error:?}");
        assert!(error.to_string().contains(line), "{error}");
        assert!(!error.to_string().contains("s.abc"), "no token in a log");
        let about_name = matches!(&error, IssueError::Refused { about_name: true, .. });
        assert_eq!(about_name, line == "not allowed", "{error:?}");
    }
    for nonsense in [json!({}), json!([]), json!({"data": {}}), json!({"data": {"certificate": 1}})]
    {
        let error = scene(200, nonsense).step(false).unwrap_err();
        assert!(matches!(error, IssueError::Protocol { .. }), "{error:?}");
    }
}

#[test]
fn names_and_addresses() {
    type Row<'a> = (&'a [&'a str], &'a str, bool, &'a str, &'a str);
    // Names, then of the request: common name, whether it is that alone, hosts, addresses.
    let table: &[Row] = &[
        (&["a.example"], "a.example", false, "a.example", ""),
        (&["192.0.2.1", "a.example"], "a.example", false, "a.example", "192.0.2.1"),
        (&["*.example", "example"], "example", false, "*.example,example", ""),
        (&["192.0.2.1", "2001:db8::1"], "192.0.2.1", true, "", "192.0.2.1,2001:db8::1"),
    ];
    for (names, common_name, alone, hosts, addresses) in table {
        let scene = scene(200, certificate());
        scene.step_for(names, false).unwrap();
        let body: Value = serde_json::from_slice(&scene.sent().body).unwrap();
        assert_eq!(body["common_name"], *common_name);
        assert_eq!(body["exclude_cn_from_sans"], *alone);
        assert_eq!((&body["alt_names"], &body["ip_sans"]), (&json!(hosts), &json!(addresses)));
    }
}
