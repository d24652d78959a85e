//! What the answer to an enrolment comes to: a chain, or why there is none (RFC 7030, 4.2.3).

use openssl::error::ErrorStack;
use openssl::pkey::{HasPublic, PKey, PKeyRef, Private};
use openssl::x509::{X509, X509Req};

use crate::bundle::chain_pem;
use crate::ca::{IssueError, Issued, exchange};
use crate::clock::Time;
use crate::evidence::chain::{link, take_leaf};
use crate::http::Response;
use crate::settings::Secret;

/// The chain of the certificate for the key of `csr`, among what was delivered. Its issuers may be
/// among that too, and `authorities` has them.
pub fn for_request(
    csr: &[u8],
    delivered: Vec<X509>,
    authorities: Vec<X509>,
) -> Result<Issued, String> {
    let key = X509Req::from_der(csr).and_then(|request| request.public_key()).map_err(words)?;
    Ok(chain(&key, delivered, authorities)?.into())
}

/// The same for a key that the CA made.
pub fn with_key(
    key: PKey<Private>,
    delivered: Vec<X509>,
    authorities: Vec<X509>,
) -> Result<Issued, String> {
    let chain = chain(&key, delivered, authorities)?;
    let pem = Secret::new(key.private_key_to_pem_pkcs8().map_err(words)?);
    Ok(Issued { key: Some(pem), ..Issued::from(chain) })
}

/// Why an answer other than 200 and 202 gives no certificate. `what` is the operation.
pub fn refusal(what: &'static str, response: &Response, now: Time) -> IssueError {
    let problem = problem(response);
    let retry_after = response.retry_after(now);
    let see =
        |directives: &str| IssueError::Configuration(format!("{what}: {problem}, {directives}"));
    match response.status {
        401 => see("see \"username\" and \"password_file\""),
        403 => see("see \"username\", and what the CA allows it"),
        // Not there at all, or, as it is optional, not there for this CA.
        404 | 405 | 501 if what == "serverkeygen" => see("see \"server_keygen\" and \"url\""),
        204 | 404 | 405 | 501 => see("see \"url\""),
        429 | 500.. => IssueError::Busy { what, problem, retry_after },
        _ => IssueError::Refused { what, problem, about_name: false, retry_after },
    }
}

/// `error`, when the renewal before it was refused too.
pub fn after(error: IssueError, renewal: &IssueError) -> IssueError {
    let and = |text: String| format!("{text}; before that {renewal}");
    match error {
        IssueError::Configuration(text) => IssueError::Configuration(and(text)),
        IssueError::Refused { what, problem, about_name, retry_after } => {
            IssueError::Refused { what, problem: and(problem), about_name, retry_after }
        }
        error => error,
    }
}

/// PEM, leaf first; without the root, unless it issued the leaf.
fn chain<K: HasPublic>(
    key: &PKeyRef<K>,
    mut delivered: Vec<X509>,
    authorities: Vec<X509>,
) -> Result<Vec<u8>, String> {
    let leaf = take_leaf(&mut delivered, key)
        .map_err(|_| "the answer holds no certificate for the key of the request")?;
    delivered.extend(authorities);
    let chain = link(leaf, delivered, &[]);
    chain_pem(&chain).map_err(words)
}

/// The status, and what a person may read of the body.
fn problem(response: &Response) -> String {
    let content_type = response.header("content-type").unwrap_or_default().to_ascii_lowercase();
    let is_text = ["text/plain", "application/json", "application/problem+json"]
        .iter()
        .any(|kind| content_type.starts_with(kind));
    let text = String::from_utf8_lossy(if is_text { &response.body } else { b"" });
    let text: String = text.trim().chars().take(LONGEST).collect();
    exchange::problem(response.status, &text)
}

fn words(error: ErrorStack) -> String {
    error.to_string()
}

/// Characters of an error's text.
const LONGEST: usize = 300;
