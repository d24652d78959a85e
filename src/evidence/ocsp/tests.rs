mod answers;
mod asking;
mod several;
mod signed;
mod signers;

use std::sync::Mutex;

use super::*;
use crate::fixture::ocsp::{CertId, Reply, Single, nonce_of};
use crate::fixture::{Identity, NOW, Spec, root};
use crate::http::HttpError;

const URL: &str = "http://ocsp.example";
const TIMEOUT: Duration = Duration::from_secs(10);
const SENT: openssl_ffi::Nonce = [7; 32];

/// A CA, a leaf of it, and what is asked about that.
struct World {
    ca: Identity,
    leaf: Identity,
    facts: CertFacts,
}

impl World {
    fn new() -> World {
        World::of(root("CA"))
    }

    fn of(ca: Identity) -> World {
        let leaf = ca.issue(Spec::default());
        let facts = CertFacts::from_der(&leaf.der()).unwrap();
        World { ca, leaf, facts }
    }

    fn query(&self) -> Query<'_> {
        Query {
            certificate: &self.leaf.cert,
            facts: &self.facts,
            issuer: &self.ca.cert,
            url: URL,
            nonce: Nonce::On,
            extra_signer: None,
            request_signer: None,
            siblings: &[],
            timeout: TIMEOUT,
        }
    }

    fn single(&self) -> Single {
        Single::good(&self.leaf.cert, &self.ca.cert)
    }

    fn good(&self) -> Reply {
        Reply::new(&self.ca, self.single())
    }

    fn with(&self, single: Single) -> Vec<u8> {
        Reply::new(&self.ca, single).der()
    }

    fn with_id(&self, change: impl Fn(&mut CertId)) -> Vec<u8> {
        let mut single = self.single();
        change(&mut single.id);
        self.with(single)
    }

    /// Signed by a delegate, whose certificate is in the response.
    fn delegated(&self, delegate: &Identity) -> Vec<u8> {
        let certificates = vec![delegate.cert.clone()];
        Reply { certificates, ..Reply::new(delegate, self.single()) }.der()
    }

    fn verify(&self, der: &[u8]) -> Result<Evidence, Fault> {
        try_verify(der, &self.query(), None)
    }
}

fn try_verify(
    der: &[u8],
    query: &Query,
    sent: Option<&openssl_ffi::Nonce>,
) -> Result<Evidence, Fault> {
    verify::try_verify(der, query, sent, NOW).map(|verified| verified.evidence)
}

fn delegate() -> Spec<'static> {
    Spec { cn: "Responder", serial: 2, names: &[], usage: &["OCSPSigning"], ..Spec::default() }
}

fn text(result: Result<Evidence, Fault>) -> String {
    match result {
        Ok(evidence) => format!("{:?}", evidence.status),
        Err(fault) => fault.to_string(),
    }
}

type Responder<'a> = dyn Fn(usize, &Request) -> Result<Response, HttpError> + Send + Sync + 'a;

/// Answers by a function of the number of the request and the request; remembers them.
struct FakeHttp<'a> {
    answer: Box<Responder<'a>>,
    seen: Mutex<Vec<Request>>,
}

impl<'a> FakeHttp<'a> {
    fn new(
        answer: impl Fn(usize, &Request) -> Result<Response, HttpError> + Send + Sync + 'a,
    ) -> FakeHttp<'a> {
        FakeHttp { answer: Box::new(answer), seen: Mutex::default() }
    }

    fn seen(self) -> Vec<Request> {
        self.seen.into_inner().unwrap()
    }
}

impl Http for FakeHttp<'_> {
    fn send(&self, request: &Request) -> Result<Response, HttpError> {
        let mut seen = self.seen.lock().unwrap();
        seen.push(request.clone());
        (self.answer)(seen.len(), request)
    }
}

fn status(status: u16) -> Response {
    Response { status, ..Response::default() }
}

fn ok(body: Vec<u8>) -> Response {
    Response { status: 200, body, ..Response::default() }
}

fn request_of_url(url: &str) -> Vec<u8> {
    let path = url.strip_prefix("http://ocsp.example/").unwrap();
    let base64 = path.replace("%2B", "+").replace("%2F", "/").replace("%3D", "=");
    assert!(!path.contains(['+', '/', '=']), "{path}");
    BASE64_STANDARD.decode(base64).unwrap()
}
