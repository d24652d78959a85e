//! OCSP over HTTP (RFC 6960, RFC 5019): asks one responder about one certificate.
//!
//! What the answer is worth is decided by [`verify`], which does no I/O and knows no clock.
//! Requests are not signed, and a delegated signer's own revocation is not looked up: its
//! certificate's life is the limit, as RFC 6960, 4.2.2.2.1, leaves to local policy.

mod error;
mod verify;

#[cfg(test)]
mod tests;

use std::time::Duration;

use base64::prelude::{BASE64_STANDARD, Engine};
use openssl::hash::MessageDigest;
use openssl::ocsp::{OcspCertId, OcspRequest};
use openssl::x509::X509Ref;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;

pub use self::error::{Fault, OcspError};
pub use self::verify::verify;
use crate::clock::{Clock, Time};
use crate::evidence::Evidence;
use crate::facts::CertFacts;
use crate::http::{Http, Method, Request, Response};
use crate::openssl_ffi;
use crate::settings::Nonce;

/// One question to one responder.
#[derive(Clone, Copy)]
pub struct Query<'a> {
    pub certificate: &'a X509Ref,
    pub facts: &'a CertFacts,
    /// The certificate that issued `certificate`, known to have done so: what it or its delegate
    /// signs is believed.
    pub issuer: &'a X509Ref,
    pub url: &'a str,
    pub nonce: Nonce,
    /// A further signer that the administrator trusts, as it is.
    pub extra_signer: Option<&'a X509Ref>,
    /// For all tries together.
    pub timeout: Duration,
}

/// A verified answer.
#[derive(Clone, Debug)]
pub struct Answer {
    pub evidence: Evidence,
    /// The OCSPResponse as it came: what is stapled and stored.
    pub der: Vec<u8>,
}

/// Asks, by POST, and by GET where POST is refused. Blocks for `timeout` at most.
pub fn ask(http: &dyn Http, clock: &dyn Clock, query: &Query) -> Result<Answer, OcspError> {
    try_ask(http, clock, query).map_err(|fault| OcspError { url: query.url.to_string(), fault })
}

/// The largest answer that is read, in bytes: real ones have 300 to 3000.
const LIMIT: usize = 64 * 1024;

const REDIRECTS: u32 = 3;

fn try_ask(http: &dyn Http, clock: &dyn Clock, query: &Query) -> Result<Answer, Fault> {
    let asked = clock.now();
    let sent = match query.nonce {
        Nonce::On | Nonce::Required => Some(random_nonce()?),
        Nonce::Off => None,
    };
    let response = http.send(&post(query, request(query, sent.as_ref())?))?;
    let answer = read(query, &response, sent.as_ref(), Method::Post, asked, clock.now());
    let left = query.timeout.saturating_sub(clock.now().since(asked));
    match answer {
        Err(Fault::HttpStatus { status, .. }) if refuses_post(status) && !left.is_zero() => {}
        answer => return answer,
    }
    // Who takes GET only serves pre-produced answers, found by the request without extensions
    // (RFC 5019, 2.1.1 and 5).
    let sent = sent.filter(|_| query.nonce == Nonce::Required);
    let response = http.send(&get(query, &request(query, sent.as_ref())?, left))?;
    read(query, &response, sent.as_ref(), Method::Get, asked, clock.now())
}

/// Whether the same question by GET may get what POST did not. Not when asking again at once
/// makes it worse (408, 429, 503), when GET would meet the same obstacle (401 and 407 want a
/// password; 502 and 504 have no responder behind). 3xx are in: who follows redirects need not
/// pass on a POST (RFC 9110, 15.4.2).
fn refuses_post(status: u16) -> bool {
    match status {
        401 | 407 | 408 | 429 | 502 | 503 | 504 => false,
        300..=599 => true,
        _ => false,
    }
}

/// What an HTTP response says.
fn read(
    query: &Query,
    response: &Response,
    sent: Option<&openssl_ffi::Nonce>,
    method: Method,
    asked: Time,
    now: Time,
) -> Result<Answer, Fault> {
    let retry_after = retry_after(response, now);
    let status = response.status;
    let verified = verify::try_verify(&response.body, query, sent, now);
    if status != 200 {
        // Some responders (Vault) tell their OCSP error under an HTTP error: it says more. But
        // nothing good comes under one.
        return Err(match verified {
            Err(
                fault @ (Fault::MalformedRequest
                | Fault::InternalError { .. }
                | Fault::TryLater { .. }
                | Fault::SigRequired
                | Fault::Unauthorized),
            ) => fault.with_retry_after(retry_after),
            _ => Fault::HttpStatus { status, method, retry_after },
        });
    }
    let mut evidence = verified.map_err(|fault| fault.with_retry_after(retry_after))?;
    evidence.checked_at = asked;
    Ok(Answer { evidence, der: response.body.clone() })
}

/// An OCSPRequest. Its CertID is made with SHA-1: every responder knows it, many know no other
/// (RFC 5019, 2.1.1), and nothing rests on its strength: the name, key and serial it hashes are
/// those of a certificate that we hold.
fn request(query: &Query, nonce: Option<&openssl_ffi::Nonce>) -> Result<Vec<u8>, Fault> {
    let id = OcspCertId::from_cert(MessageDigest::sha1(), query.certificate, query.issuer)?;
    let mut request = OcspRequest::new()?;
    request.add_id(id)?;
    if let Some(nonce) = nonce {
        openssl_ffi::request_add_nonce(&mut request, nonce)?;
    }
    Ok(request.to_der()?)
}

fn random_nonce() -> Result<openssl_ffi::Nonce, Fault> {
    let mut nonce = [0; size_of::<openssl_ffi::Nonce>()];
    openssl::rand::rand_bytes(&mut nonce)?;
    Ok(nonce)
}

fn post(query: &Query, request: Vec<u8>) -> Request {
    Request {
        method: Method::Post,
        url: query.url.to_string(),
        headers: vec![
            ("content-type", "application/ocsp-request".to_string()),
            ("accept", "application/ocsp-response".to_string()),
        ],
        body: request,
        redirects: REDIRECTS,
        limit: LIMIT,
        timeout: query.timeout,
    }
}

fn get(query: &Query, request: &[u8], timeout: Duration) -> Request {
    Request {
        method: Method::Get,
        url: get_url(query.url, request),
        headers: vec![("accept", "application/ocsp-response".to_string())],
        body: Vec::new(),
        redirects: REDIRECTS,
        limit: LIMIT,
        timeout,
    }
}

/// RFC 6960, A.1: `{url}/{url-encoding of base-64 encoding of the DER}`. One slash between:
/// responders take two for an empty segment (seen: HTTP 400).
fn get_url(url: &str, request: &[u8]) -> String {
    let encoded = BASE64_STANDARD.encode(request);
    let escaped = encoded.replace('+', "%2B").replace('/', "%2F").replace('=', "%3D");
    format!("{}/{escaped}", url.strip_suffix('/').unwrap_or(url))
}

/// Retry-After (RFC 9110, 10.2.3): seconds or a date.
fn retry_after(response: &Response, now: Time) -> Option<Duration> {
    let value = response.header("retry-after")?.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = OffsetDateTime::parse(value, &Rfc2822).ok()?;
    Some(Time::from_secs(date.unix_timestamp()).since(now))
}
