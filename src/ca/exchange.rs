//! What the protocols over HTTP have in common: a request signed and sent, and its answer in words.

use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::pkey::PKey;
use openssl::sign::Signer;
use serde::de::DeserializeOwned;

use super::IssueError;
use crate::http::{Http, HttpError, Request, Response};
use crate::report::printable;
use crate::settings::Secret;

/// HMAC with SHA-256 (RFC 2104), by a key that the CA has handed out.
pub fn hmac(key: &Secret, text: &[u8]) -> Result<Vec<u8>, ErrorStack> {
    let key = PKey::hmac(key.bytes())?;
    Signer::new(MessageDigest::sha256(), &key)?.sign_oneshot_to_vec(text)
}

/// Sends a request; `what` is its name in errors.
pub fn send(
    http: &dyn Http,
    what: &'static str,
    request: &Request,
) -> Result<Response, IssueError> {
    http.send(request).map_err(|e| match e {
        // URLs of a CA are checked before they are used: this one is the administrator's.
        HttpError::Url(_) => IssueError::Configuration(format!("{what}: {e}")),
        e => IssueError::Unreachable { what, cause: e.to_string() },
    })
}

/// Reads an answer's JSON. The body is not quoted in the error: it may be anything.
pub fn parse<T: DeserializeOwned>(
    what: &'static str,
    response: &Response,
) -> Result<T, IssueError> {
    serde_json::from_slice(&response.body)
        .map_err(|e| IssueError::Protocol { what, cause: printable(&e.to_string()) })
}

/// An answer that is no success, and what the CA says about it, which may be nothing.
pub fn problem(status: u16, text: &str) -> String {
    match text.trim() {
        "" => format!("HTTP status {status}"),
        text => format!("HTTP status {status}: {}", printable(text)),
    }
}
