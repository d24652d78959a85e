//! Why a CRL gave no proof, and when to ask again.

use std::fmt;
use std::time::Duration;

use crate::clock::Time;
use crate::evidence::{bounded, cause};
use crate::http::HttpError;
use crate::keystore::KeystoreError;

/// A look-up that gave no proof. Its text is the CAUSE of the log line.
#[derive(Clone, Debug)]
pub struct CrlError {
    pub url: String,
    pub fault: Fault,
}

/// What went wrong; by who is at fault: the network, the server, what it sent, us.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Fault {
    #[error("{0}")]
    Http(HttpError),
    #[error("HTTP status {status}")]
    HttpStatus { status: u16, retry_after: Option<Duration> },
    #[error("CRL is larger than {0} bytes")]
    Oversized(usize),

    #[error("not a CRL: {0}")]
    Garbage(&'static str),
    #[error("version {0} of CRL is not known")]
    Version(i32),
    #[error("bad signature")]
    Signature,
    #[error("signed with {0}, which is too weak")]
    WeakDigest(&'static str),
    #[error("signed with an algorithm that is not supported: {0}")]
    Algorithm(String),
    #[error("CRL is of another issuer: {0}")]
    OtherIssuer(String),
    #[error("keyUsage of the issuer allows no CRLs")]
    KeyUsage,
    #[error("CRL has a critical extension that is not known: {0}")]
    Critical(String),
    #[error("entry of the CRL has a critical extension that is not known: {0}")]
    CriticalInEntry(String),
    #[error("CRL has the extension {0} twice")]
    Repeated(String),
    /// RFC 5280, 5.2.4 to 5.2.6: what this CRL tells of is not all there is to tell.
    #[error("CRL proves nothing here: {0}")]
    Scope(&'static str),
    #[error("CRL is for another distribution point: {0}")]
    OtherPoint(String),
    #[error("CRL is not valid before {0}")]
    NotYetValid(Time),
    #[error("CRL is stale since {0}")]
    Stale(Time),
    #[error("CRL ends at {next_update} before it begins at {this_update}")]
    Times { this_update: Time, next_update: Time },
    #[error("CRL has a malformed time")]
    MalformedTime,

    /// Ours: it could not be kept.
    #[error("{0}")]
    Keystore(#[from] KeystoreError),
    /// Ours: what was kept could not be read.
    #[error("read() failed: {0}")]
    Read(String),
    /// Ours: OpenSSL could not build or check something.
    #[error("{0}")]
    OpenSsl(#[from] openssl::error::ErrorStack),
    /// Ours: the issuer's certificate can't be read.
    #[error("{0}")]
    Facts(#[from] crate::facts::FactsError),
}

impl CrlError {
    /// When to ask again at the earliest, where the server tells; None: the caller's usual
    /// back-off. Nobody signed it: it is bounded, as in
    /// [`OcspError`](crate::evidence::ocsp::OcspError).
    pub fn retry_after(&self) -> Option<Duration> {
        match self.fault {
            Fault::HttpStatus { retry_after, .. } => retry_after.map(bounded),
            _ => None,
        }
    }
}

impl From<HttpError> for Fault {
    fn from(error: HttpError) -> Fault {
        match error {
            HttpError::TooLarge(limit) => Fault::Oversized(limit),
            other => Fault::Http(other),
        }
    }
}

impl std::error::Error for CrlError {}

impl fmt::Display for CrlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&cause("crl", &self.fault, &self.url))
    }
}
