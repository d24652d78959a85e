//! A CA that speaks ACME over TLS and can lie in each answer: for each name of its own, so that
//! one nginx meets every lie at once. It asks for no challenge and verifies no signature.

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use openssl::x509::X509Req;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::answering::Source;
use super::der;
use super::pki::{Identity, Profile, Usage};
use super::ports::Port;
use super::responder::Responder;
use super::wire::{Exchange, Request, Server};

/// The CA, with an OCSP responder that finds every certificate good until it is told otherwise.
pub struct Liar {
    pub responder: Responder,
    root: Identity,
    dir: TempDir,
    server: Server,
    state: Arc<State>,
}

/// What it does instead of its duty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Lie {
    #[default]
    Honest,
    /// The certificate is for another name.
    OtherName,
    /// The certificate is for another key than that of the CSR.
    OtherKey,
    Expired,
    /// Valid from tomorrow on.
    Tomorrow,
    SelfSigned,
    /// The second certificate is that of a CA with the issuer's name and another key.
    Unlinked,
    /// The leaf alone.
    LeafOnly,
    /// A certificate for clients only.
    ForClients,
    /// The certificate that it issued for this name before.
    TheOldOne,
    /// The order is worked at, and asked for again too soon before 31 s.
    Processing,
    /// newOrder is answered with a problem document.
    Problem,
    /// The order becomes invalid, with a problem document in it.
    Invalid,
    /// newOrder is answered with a page.
    Page,
    /// The certificate is a page.
    PageForCertificate,
    /// HTTP 500 without a word.
    Status500,
    /// The certificate is never sent.
    Never,
    /// The connection is closed instead of the certificate.
    Close,
    /// The certificate never ends.
    Endless,
}

struct State {
    url: String,
    issuer: Identity,
    impostor: Identity,
    profile: Profile,
    lies: Mutex<HashMap<String, Lie>>,
    orders: Mutex<Vec<Order>>,
}

#[derive(Clone)]
struct Order {
    names: Vec<String>,
    lie: Lie,
    /// PEM, as it is to be delivered.
    chain: Option<Vec<u8>>,
}

impl Liar {
    pub fn start() -> Liar {
        let dir = tempfile::Builder::new().prefix("lab-liar").tempdir().expect("directory");
        let api_ca = Identity::root("Lab API CA");
        let api = api_ca.issue(&Profile::server(&["localhost", "127.0.0.1"]));
        fs::write(dir.path().join("api-ca.pem"), api_ca.cert_pem()).expect("write");
        let root = Identity::root("Liar's Root");
        let issuer = root.issue(&Profile::authority("Liar's CA"));
        let responder = Responder::start(Port::reserve(), issuer.clone(), Source::Own);
        let port = Port::reserve();
        let mut profile = Profile::server(&["nobody.test"]);
        profile.ocsp_url = Some(responder.url());
        let state = Arc::new(State {
            url: format!("https://localhost:{port}"),
            impostor: issuer.impostor(),
            issuer,
            profile,
            lies: Mutex::default(),
            orders: Mutex::default(),
        });
        let shared = state.clone();
        let handler = Arc::new(move |r: &Request, e: &mut Exchange| shared.handle(r, e));
        let server = Server::start_tls(port, &api, handler);
        Liar { responder, root, dir, server, state }
    }

    /// The `ssl_cert_autofetch_ca` block for it, with further lines in it.
    pub fn ca_block(&self, name: &str, more: &str) -> String {
        format!(
            "ssl_cert_autofetch_ca {name} {{\n url {}/dir;\n trusted_certificate {};\n {more}\n}}\n",
            self.state.url,
            self.api_ca().display()
        )
    }

    /// What `trusted_certificate` is for.
    pub fn api_ca(&self) -> PathBuf {
        self.dir.path().join("api-ca.pem")
    }

    /// What clients of nginx trust.
    pub fn root_pem(&self) -> Vec<u8> {
        self.root.cert_pem()
    }

    /// A certificate that nobody ordered.
    pub fn issue(&self, names: &[&str]) -> Identity {
        let names = names.iter().map(|n| n.to_string()).collect();
        self.state.issuer.issue(&Profile { names, ..self.state.profile.clone() })
    }

    /// From now on, in orders for this name.
    pub fn lie_about(&self, name: &str, lie: Lie) {
        self.state.lies.lock().expect("lock").insert(name.into(), lie);
    }

    /// CA and responder refuse connections, till [`Liar::up`].
    pub fn down(&self) {
        self.server.down();
        self.responder.down();
    }

    pub fn up(&self) {
        self.server.up();
        self.responder.up();
    }

    /// How many orders for this name there were, in all.
    pub fn orders_for(&self, name: &str) -> usize {
        let orders = self.state.orders.lock().expect("lock");
        orders.iter().filter(|o| o.names.iter().any(|n| n == name)).count()
    }
}

impl State {
    fn handle(&self, request: &Request, exchange: &mut Exchange) -> bool {
        let path = request.target.trim_start_matches('/');
        let (what, number) = path.split_once('/').unwrap_or((path, ""));
        let number: usize = number.parse().unwrap_or_default();
        let mut answer = Reply { exchange, status: 200, location: None, later: None };
        match what {
            "dir" => answer.json(json!({
                "newNonce": self.at("nonce"), "newAccount": self.at("account"),
                "newOrder": self.at("order"), "revokeCert": self.at("revoke"),
                "keyChange": self.at("key"),
            })),
            "nonce" => answer.body("text/plain", b""),
            "account" => {
                answer.status = 201;
                answer.location = Some(self.at("account/1"));
                answer.json(json!({"status": "valid"}))
            }
            "order" if path == "order" => self.new_order(request, answer),
            "order" => self.tell_order(number, answer),
            "finalize" => {
                self.finalize(request, number);
                self.tell_order(number, answer)
            }
            "certificate" => self.deliver(number, answer),
            _ => {
                answer.status = 404;
                answer.body("text/plain", b"")
            }
        }
    }

    fn new_order(&self, request: &Request, mut answer: Reply) -> bool {
        let identifiers = payload(request)["identifiers"].as_array().cloned().unwrap_or_default();
        let name = |i: &Value| i["value"].as_str().unwrap_or_default().to_owned();
        let names: Vec<String> = identifiers.iter().map(name).collect();
        let lie = self.lie_about(&names);
        let number = {
            let mut orders = self.orders.lock().expect("lock");
            orders.push(Order { names, lie, chain: None });
            orders.len() - 1
        };
        match lie {
            Lie::Problem => {
                answer.status = 403;
                answer.body("application/problem+json", problem().to_string().as_bytes())
            }
            Lie::Page => answer.body("text/html", PAGE),
            Lie::Status500 => {
                answer.status = 500;
                answer.body("text/plain", b"")
            }
            _ => {
                answer.status = 201;
                answer.location = Some(self.at(&format!("order/{number}")));
                answer.json(self.order_object(number))
            }
        }
    }

    fn tell_order(&self, number: usize, mut answer: Reply) -> bool {
        let names = self.order(number).map(|o| o.names).unwrap_or_default();
        let mut object = self.order_object(number);
        // As it is now: it is done when the lie is over.
        if self.lie_about(&names) == Lie::Processing && object["status"] == "valid" {
            object["status"] = json!("processing");
            answer.later = Some(31);
        }
        answer.json(object)
    }

    fn order_object(&self, number: usize) -> Value {
        let Some(order) = self.order(number) else { return problem() };
        let identifiers: Vec<_> =
            order.names.iter().map(|n| json!({"type": "dns", "value": n})).collect();
        let mut object = json!({
            "status": "ready", "identifiers": identifiers, "authorizations": [],
            "finalize": self.at(&format!("finalize/{number}")),
        });
        match (order.chain, order.lie) {
            (None, _) => {}
            (Some(_), Lie::Invalid) => {
                object["status"] = json!("invalid");
                object["error"] = problem();
            }
            (Some(_), _) => {
                object["status"] = json!("valid");
                object["certificate"] = json!(self.at(&format!("certificate/{number}")));
            }
        }
        object
    }

    /// Issues, truly or not.
    fn finalize(&self, request: &Request, number: usize) {
        let Some(order) = self.order(number) else { return };
        let csr = payload(request)["csr"].as_str().and_then(|t| URL_SAFE_NO_PAD.decode(t).ok());
        let csr = csr.expect("CSR in base64url");
        let must_staple = asks_for_must_staple(&csr);
        let csr = X509Req::from_der(&csr).expect("CSR");
        let mut profile =
            Profile { names: order.names.clone(), must_staple, ..self.profile.clone() };
        match order.lie {
            Lie::OtherName => profile.names = vec!["other.test".into()],
            Lie::Expired => (profile.not_before, profile.not_after) = (-2 * DAY, -DAY),
            Lie::Tomorrow => profile.not_before = DAY,
            Lie::ForClients => profile.usage = Usage::OcspSigner,
            _ => {}
        }
        let leaf = match order.lie {
            Lie::OtherKey => self.issuer.issue(&profile).cert,
            Lie::SelfSigned => Identity::self_signed(&profile).cert,
            _ => self.issuer.certify(&csr, &profile),
        };
        let pem = |c: &openssl::x509::X509| c.to_pem().expect("PEM");
        let chain = match order.lie {
            Lie::TheOldOne => self.old_chain(&order.names[0]).expect("an old certificate"),
            Lie::LeafOnly => pem(&leaf),
            Lie::Unlinked => [pem(&leaf), pem(&self.impostor.cert)].concat(),
            _ => [pem(&leaf), pem(&self.issuer.cert)].concat(),
        };
        self.orders.lock().expect("lock")[number].chain = Some(chain);
    }

    fn deliver(&self, number: usize, mut answer: Reply) -> bool {
        let Some(Order { chain: Some(chain), names, .. }) = self.order(number) else {
            answer.status = 404;
            return answer.body("text/plain", b"");
        };
        // As it is now: an order that was not delivered may be when the lie is over.
        match self.lie_about(&names) {
            Lie::PageForCertificate => answer.body("text/html", PAGE),
            Lie::Never => {
                answer.exchange.outlast();
                false
            }
            Lie::Close => false,
            Lie::Endless => {
                let head = format!("HTTP/1.1 200 OK\r\nContent-Type: {CHAIN}\r\n\r\n");
                let mut more = answer.exchange.write(head.as_bytes());
                while more {
                    more = answer.exchange.write(&chain);
                }
                false
            }
            _ => answer.body(CHAIN, &chain),
        }
    }

    fn lie_about(&self, names: &[String]) -> Lie {
        let lies = self.lies.lock().expect("lock");
        names.iter().find_map(|n| lies.get(n)).copied().unwrap_or_default()
    }

    fn old_chain(&self, name: &str) -> Option<Vec<u8>> {
        let orders = self.orders.lock().expect("lock");
        let honest = orders.iter().find(|o| o.lie == Lie::Honest && o.names[0] == name);
        honest.and_then(|o| o.chain.clone())
    }

    fn order(&self, number: usize) -> Option<Order> {
        self.orders.lock().expect("lock").get(number).cloned()
    }

    fn at(&self, path: &str) -> String {
        format!("{}/{path}", self.url)
    }
}

/// An answer with the headers that ACME wants.
struct Reply<'a> {
    exchange: &'a mut Exchange,
    status: u16,
    location: Option<String>,
    later: Option<u32>,
}

impl Reply<'_> {
    fn json(self, value: Value) -> bool {
        self.body("application/json", value.to_string().as_bytes())
    }

    fn body(self, content_type: &str, body: &[u8]) -> bool {
        let mut more = format!("Replay-Nonce: {}\r\n", super::pki::hex(&random()));
        if let Some(location) = self.location {
            more += &format!("Location: {location}\r\n");
        }
        if let Some(seconds) = self.later {
            more += &format!("Retry-After: {seconds}\r\n");
        }
        self.exchange.respond(self.status, content_type, &more, body)
    }
}

/// What a JWS carries; whoever signed it.
fn payload(request: &Request) -> Value {
    let jws: Value = serde_json::from_slice(&request.body).unwrap_or_default();
    let bytes = jws["payload"].as_str().and_then(|t| URL_SAFE_NO_PAD.decode(t).ok());
    serde_json::from_slice(&bytes.unwrap_or_default()).unwrap_or_default()
}

/// Whether the TLS feature status_request is among the extensions (RFC 7633).
fn asks_for_must_staple(csr: &[u8]) -> bool {
    let feature =
        [der::oid("1.3.6.1.5.5.7.1.24"), der::octets(&der::sequence(&[der::integer(&[5])]))]
            .concat();
    csr.windows(feature.len()).any(|w| w == feature)
}

fn problem() -> Value {
    json!({
        "type": "urn:ietf:params:acme:error:rejectedIdentifier",
        "detail": "not on a day like this", "status": 403,
    })
}

fn random() -> [u8; 16] {
    let mut bytes = [0; 16];
    openssl::rand::rand_bytes(&mut bytes).expect("random bytes");
    bytes
}

const PAGE: &[u8] = b"<html><body>Welcome to the portal</body></html>";
const CHAIN: &str = "application/pem-certificate-chain";
const DAY: i64 = 86_400;
