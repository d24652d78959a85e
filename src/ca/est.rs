//! Enrollment over Secure Transport (RFC 7030): `protocol est`.
//!
//! Two exchanges: the certificates of the CA are fetched from /cacerts, then the CSR goes to
//! /simpleenroll, /simplereenroll or /serverkeygen, and the leaf comes back. An answer 202 means
//! that somebody has to approve: the same CSR is posted again later. /csrattrs and /fullcmc are
//! not asked, and the CSR is not linked to its TLS connection (RFC 7030, 3.5), which is optional.

mod answer;
mod multipart;
mod pkcs7;
mod renewal;

use std::sync::Arc;
use std::time::Duration;

use base64::prelude::{BASE64_STANDARD, Engine};
use openssl::x509::X509;
use serde::{Deserialize, Serialize};
use serde_json::json;
use zeroize::Zeroizing;

use super::exchange::send;
use super::{Ca, IssueError, Order, Progress};
use crate::bundle::Bundle;
use crate::clock::Clock;
use crate::http::url::host_of;
use crate::http::{Http, Method, Request, Response};
use crate::report::printable;
use crate::settings::{EstSettings, Secret};

/// One EST server, or one of the CAs behind it.
pub struct EstCa {
    settings: EstSettings,
    host: String,
    http: Arc<dyn Http>,
    ways: Arc<dyn Ways>,
    clock: Arc<dyn Clock>,
}

/// Makes further ways to the CA's server.
pub trait Ways: Send + Sync {
    /// As the usual one, but TLS shows this certificate of `chain` (PEM, leaf first) with `key`
    /// (PEM, PKCS#8). The error is its cause in words.
    fn with_client_certificate(&self, chain: &[u8], key: &Secret) -> Result<Arc<dyn Http>, String>;
}

/// What an enrolment is asked for by (RFC 7030, 3.2.2).
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Operation {
    SimpleEnroll,
    SimpleReenroll,
    ServerKeygen,
}

impl Operation {
    fn word(self) -> &'static str {
        match self {
            Operation::SimpleEnroll => "simpleenroll",
            Operation::SimpleReenroll => "simplereenroll",
            Operation::ServerKeygen => "serverkeygen",
        }
    }
}

impl EstCa {
    /// `ways` are for renewals, in which the old certificate speaks for the new one.
    pub fn new(
        settings: EstSettings,
        http: Arc<dyn Http>,
        ways: Arc<dyn Ways>,
        clock: Arc<dyn Clock>,
    ) -> EstCa {
        let host = host_of(&settings.url);
        EstCa { settings, host, http, ways, clock }
    }

    /// The certificates above those that it issues (RFC 7030, 4.1).
    fn authorities(&self) -> Result<Vec<X509>, IssueError> {
        let request = self.request(Method::Get, CACERTS);
        let response = send(self.http.as_ref(), CACERTS, &request)?;
        match response.status {
            200 => pkcs7::certificates(&response.body).map_err(|e| nonsense(CACERTS, e)),
            _ => Err(self.refusal(CACERTS, &response)),
        }
    }

    /// Posts the CSR. The answer says 200 or 202.
    fn enroll(
        &self,
        order: &Order,
        current: Option<&Bundle>,
    ) -> Result<(Operation, Response), IssueError> {
        let waiting = operation(order);
        let usual = match self.settings.server_keygen {
            true => Operation::ServerKeygen,
            false => Operation::SimpleEnroll,
        };
        let enroll = || {
            let response = self.post(usual, order, self.http.as_ref())?;
            Ok((usual, self.taken(usual, response)?))
        };
        let now = self.clock.now();
        let old = current.filter(|old| {
            usual == Operation::SimpleEnroll
                && waiting != Some(usual)
                && renewal::may_renew(order, old, &self.settings.ca, now)
        });
        let Some(old) = old else { return enroll() };
        let renewed = self.renew(order, old);
        let may_wait = waiting.is_some() && renewal::has_time(old, now);
        let is_final = is_final(&renewed, may_wait);
        let renewing = Operation::SimpleReenroll;
        match renewed.and_then(|response| self.taken(renewing, response)) {
            Ok(response) => Ok((renewing, response)),
            Err(refusal) if is_final => Err(refusal),
            Err(refusal) => enroll().map_err(|error| answer::after(error, &refusal)),
        }
    }

    /// The old certificate speaks for the new one (RFC 7030, 3.3.2 and 4.2.2).
    fn renew(&self, order: &Order, old: &Bundle) -> Result<Response, IssueError> {
        let operation = Operation::SimpleReenroll;
        let way = renewal::pem(old)
            .and_then(|(chain, key)| self.ways.with_client_certificate(&chain, &key))
            .map_err(|e| IssueError::Configuration(format!("{}: {e}", operation.word())))?;
        self.post(operation, order, way.as_ref())
    }

    /// Whatever the answer says.
    fn post(
        &self,
        operation: Operation,
        order: &Order,
        way: &dyn Http,
    ) -> Result<Response, IssueError> {
        let what = operation.word();
        let mut request = self.request(Method::Post, what);
        request.headers.push(("content-type", "application/pkcs10".into()));
        request.headers.push(("content-transfer-encoding", "base64".into()));
        request.body = base64_lines(order)?;
        send(way, what, &request)
    }

    /// The answer, if it says 200 or 202.
    fn taken(&self, operation: Operation, response: Response) -> Result<Response, IssueError> {
        match response.status {
            200 | 202 => Ok(response),
            _ => Err(self.refusal(operation.word(), &response)),
        }
    }

    fn request(&self, method: Method, what: &str) -> Request {
        let EstSettings { username, password, .. } = &self.settings;
        let credentials = username.as_deref().zip(password.as_ref());
        Request {
            method,
            url: format!("{}/{what}", self.settings.url.trim_end_matches('/')),
            headers: credentials.map(|(name, word)| basic(name, word)).into_iter().collect(),
            body: Vec::new(),
            redirects: 0,
            limit: LIMIT,
            timeout: self.settings.timeout,
        }
    }

    fn refusal(&self, what: &'static str, response: &Response) -> IssueError {
        answer::refusal(what, response, self.clock.now())
    }
}

impl Ca for EstCa {
    fn name(&self) -> &str {
        &self.settings.ca
    }

    fn host(&self) -> &str {
        &self.host
    }

    fn step(&self, order: &mut Order, current: Option<&Bundle>) -> Result<Progress, IssueError> {
        // First: without them a certificate may be issued in vain.
        let authorities = self.authorities()?;
        let (operation, mut response) = self.enroll(order, current)?;
        order.accepted = true;
        if response.status == 202 {
            order.state = json!({ "operation": operation });
            let wish = response.retry_after(self.clock.now()).unwrap_or(USUAL_PAUSE);
            return Ok(Progress::Wait(wish.clamp(SHORTEST_PAUSE, LONGEST_PAUSE)));
        }
        let body = Zeroizing::new(std::mem::take(&mut response.body));
        let issued = match operation {
            Operation::ServerKeygen => {
                let content_type = response.header("content-type").unwrap_or_default();
                multipart::key_and_certificates(content_type, &body)
                    .and_then(|(key, delivered)| answer::with_key(key, delivered, authorities))
            }
            _ => pkcs7::certificates(&body)
                .and_then(|delivered| answer::for_request(&order.csr, delivered, authorities)),
        };
        issued.map(Progress::Issued).map_err(|cause| nonsense(operation.word(), cause))
    }
}

/// Where the order waits for somebody's approval.
fn operation(order: &Order) -> Option<Operation> {
    Operation::deserialize(&order.state["operation"]).ok()
}

/// Whether a failed renewal is not to be tried as a new enrolment: it was asked for later, or what
/// the server is working at may wait. As /cacerts has just been fetched, a server that can't be
/// reached is one that does not like the certificate in TLS; and one that fails at what it should
/// refuse would do so until the old certificate has ended.
fn is_final(answer: &Result<Response, IssueError>, may_wait: bool) -> bool {
    match answer {
        Ok(response) => match response.status {
            429 | 503 => true,
            500.. => may_wait || response.header("retry-after").is_some(),
            _ => false,
        },
        Err(IssueError::Unreachable { .. }) => may_wait,
        Err(_) => false,
    }
}

/// RFC 7617. The server need not ask first: it has one realm, and the way to it is TLS.
fn basic(username: &str, password: &Secret) -> (&'static str, String) {
    let both = Zeroizing::new([username.as_bytes(), b":", password.bytes()].concat());
    ("authorization", format!("Basic {}", BASE64_STANDARD.encode(&*both)))
}

/// With line breaks, as in RFC 7030: there are servers that read no long line.
fn base64_lines(order: &Order) -> Result<Vec<u8>, IssueError> {
    let pem = order.csr_pem()?;
    let lines = pem.lines().filter(|line| !line.starts_with("-----"));
    Ok(lines.flat_map(|line| [line, "\n"]).collect::<String>().into_bytes())
}

fn nonsense(what: &'static str, cause: String) -> IssueError {
    IssueError::Protocol { what, cause: printable(&cause) }
}

const CACERTS: &str = "cacerts";
const LIMIT: usize = 256 * 1024;
/// RFC 7030, 4.2.3, demands a Retry-After.
const USUAL_PAUSE: Duration = Duration::from_secs(60);
const SHORTEST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(86_400);

#[cfg(test)]
mod tests;
