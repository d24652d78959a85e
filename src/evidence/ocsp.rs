//! OCSP over HTTP (RFC 6960, RFC 5019): asks one responder about one certificate.
//!
//! What the answer is worth is decided by [`verify`], which does no I/O and knows no clock.
//!
//! Nobody is asked about a delegated signer. With id-pkix-ocsp-nocheck its CA wishes so; without,
//! RFC 6960, 4.2.2.2.1, leaves it to local policy: it is believed for the life of its certificate
//! (CAs make those short), unless the answer itself says that it is revoked. OpenSSL, and nginx
//! with it, does no more by itself: it looks for the extension only where its caller wants CRLs
//! for everything. That is a limit: the stolen key of a delegate is good until its certificate
//! ends or the CA changes its own key.

mod error;
mod signer;
mod singles;
mod verify;

#[cfg(test)]
mod tests;

use std::time::Duration;

use base64::prelude::{BASE64_STANDARD, Engine};
use openssl::hash::MessageDigest;
use openssl::ocsp::{OcspCertId, OcspRequest};
use openssl::x509::X509Ref;

pub use self::error::{Fault, OcspError};
pub use self::signer::{RequestSigner, SignerError};
pub use self::verify::verify;
use crate::clock::{Clock, Time};
use crate::evidence::Evidence;
use crate::facts::{CertFacts, Fingerprint, Serial};
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
    /// A further signer that the administrator trusts, whoever issued it and for what: only its
    /// own life is looked at.
    pub extra_signer: Option<&'a X509Ref>,
    /// Signs the requests, all of them.
    pub request_signer: Option<&'a RequestSigner>,
    /// Further certificates of `issuer`: an answer about several may tell of them too. They are
    /// not asked about.
    pub siblings: &'a [(Serial, Fingerprint)],
    /// For all tries together.
    pub timeout: Duration,
}

/// A verified answer.
#[derive(Clone, Debug)]
pub struct Answer {
    pub evidence: Evidence,
    /// About those siblings of which it says something that counts, each once. They come with
    /// evidence about the certificate in question only: an answer that leaves that out is refused
    /// as a whole, and the siblings get a query of their own anyway.
    pub others: Vec<Evidence>,
    /// The OCSPResponse as it came: what is stapled and stored.
    pub der: Vec<u8>,
    /// It carries the nonce of the question.
    pub has_nonce: bool,
}

/// Asks, by POST, and by GET where POST is refused. Blocks for `timeout` at most.
pub fn ask(http: &dyn Http, clock: &dyn Clock, query: &Query) -> Result<Answer, OcspError> {
    let question = Question { http, clock, query, asked: clock.now() };
    question.ask().map_err(|fault| OcspError { url: query.url.to_string(), fault })
}

/// The largest answer that is read, in bytes: real ones have 300 to 3000.
const LIMIT: usize = 64 * 1024;

const REDIRECTS: u32 = 3;

struct Question<'a> {
    http: &'a dyn Http,
    clock: &'a dyn Clock,
    query: &'a Query<'a>,
    asked: Time,
}

impl Question<'_> {
    /// The CertID is made with SHA-1: every responder knows it, many know no other (RFC 5019,
    /// 2.1.1), and nothing rests on its strength: the name, key and serial it hashes are those of
    /// a certificate that we hold.
    ///
    /// RFC 9919 recommends SHA-256. A responder that knows that one only can't find the
    /// certificate: "unauthorized". So says also one that has not heard of a new certificate yet,
    /// at the price of a second request. Other refusals say nothing about the CertID.
    fn ask(&self) -> Result<Answer, Fault> {
        match self.ask_with(MessageDigest::sha1()) {
            Err(Fault::Unauthorized) if !self.left().is_zero() => {
                self.ask_with(MessageDigest::sha256()).or(Err(Fault::Unauthorized))
            }
            answer => answer,
        }
    }

    fn ask_with(&self, digest: MessageDigest) -> Result<Answer, Fault> {
        let query = self.query;
        let sent = match query.nonce {
            Nonce::On | Nonce::Required => Some(random_nonce()?),
            Nonce::Off => None,
        };
        let body = request(query, digest, sent.as_ref())?;
        let answer = self.send(post(query.url, body), sent.as_ref());
        // A signed request is no URL: with its certificates it is far longer than the 255 bytes
        // up to which GET is meant (RFC 6960, A.1), and it is never the one that a pre-produced
        // answer is found by. An unsigned one would not be what was configured.
        let may_get = query.request_signer.is_none() && !self.left().is_zero();
        match answer {
            Err(Fault::HttpStatus { status, .. }) if may_get && refuses_post(status) => {}
            answer => return answer,
        }
        // Who takes GET only serves pre-produced answers, found by the request without extensions
        // (RFC 5019, 2.1.1 and 5).
        let sent = sent.filter(|_| query.nonce == Nonce::Required);
        let body = request(query, digest, sent.as_ref())?;
        self.send(get(query.url, &body), sent.as_ref())
    }

    fn send(&self, request: Request, sent: Option<&openssl_ffi::Nonce>) -> Result<Answer, Fault> {
        let request = Request { timeout: self.left(), ..request };
        let response = self.http.send(&request)?;
        read(self.query, &response, sent, request.method, self.asked, self.clock.now())
    }

    /// For what is still to be tried.
    fn left(&self) -> Duration {
        self.query.timeout.saturating_sub(self.clock.now().since(self.asked))
    }
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
    let retry_after = response.retry_after(now);
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
    let verified = verified.map_err(|fault| fault.with_retry_after(retry_after))?;
    let asked_then = |evidence| Evidence { checked_at: asked, ..evidence };
    Ok(Answer {
        evidence: asked_then(verified.evidence),
        others: verified.others.into_iter().map(asked_then).collect(),
        der: response.body.clone(),
        has_nonce: verified.has_nonce,
    })
}

/// An OCSPRequest; its CertID is made with `digest`.
fn request(
    query: &Query,
    digest: MessageDigest,
    nonce: Option<&openssl_ffi::Nonce>,
) -> Result<Vec<u8>, Fault> {
    let id = OcspCertId::from_cert(digest, query.certificate, query.issuer)?;
    let mut request = OcspRequest::new()?;
    request.add_id(id)?;
    if let Some(nonce) = nonce {
        openssl_ffi::request_add_nonce(&mut request, nonce)?;
    }
    if let Some(signer) = query.request_signer {
        signer.sign(&mut request)?;
    }
    Ok(request.to_der()?)
}

fn random_nonce() -> Result<openssl_ffi::Nonce, Fault> {
    let mut nonce = [0; size_of::<openssl_ffi::Nonce>()];
    openssl::rand::rand_bytes(&mut nonce)?;
    Ok(nonce)
}

fn post(url: &str, request: Vec<u8>) -> Request {
    Request {
        method: Method::Post,
        url: url.to_string(),
        headers: vec![
            ("content-type", "application/ocsp-request".to_string()),
            ("accept", "application/ocsp-response".to_string()),
        ],
        body: request,
        redirects: REDIRECTS,
        limit: LIMIT,
        timeout: Duration::ZERO, // set when it is sent
    }
}

fn get(url: &str, request: &[u8]) -> Request {
    let accept = ("accept", "application/ocsp-response".to_string());
    Request {
        method: Method::Get,
        url: get_url(url, request),
        headers: vec![accept],
        ..post(url, Vec::new())
    }
}

/// RFC 6960, A.1: `{url}/{url-encoding of base-64 encoding of the DER}`. One slash between:
/// responders take two for an empty segment (seen: HTTP 400).
fn get_url(url: &str, request: &[u8]) -> String {
    let encoded = BASE64_STANDARD.encode(request);
    let escaped = encoded.replace('+', "%2B").replace('/', "%2F").replace('=', "%3D");
    format!("{}/{escaped}", url.strip_suffix('/').unwrap_or(url))
}
