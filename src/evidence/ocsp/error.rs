//! Why an OCSP query gave no proof, and when to ask again.

use std::fmt;
use std::time::Duration;

use crate::clock::Time;
use crate::evidence::{bounded, cause};
use crate::http::{HttpError, Method};

/// A query that gave no proof. Its text is the CAUSE of the log line.
#[derive(Clone, Debug)]
pub struct OcspError {
    /// The responder.
    pub url: String,
    pub fault: Fault,
}

/// What went wrong; by who is at fault: the network, the responder, what it said, us.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Fault {
    #[error("{0}")]
    Http(HttpError),
    #[error("HTTP status {status} to {}", method_name(*method))]
    HttpStatus { status: u16, method: Method, retry_after: Option<Duration> },
    #[error("response is larger than {0} bytes")]
    Oversized(usize),

    // RFC 6960, 4.2.1. There is no sixth: the other status is "successful".
    #[error("responder says malformedRequest")]
    MalformedRequest,
    #[error("responder says internalError")]
    InternalError { retry_after: Option<Duration> },
    #[error("responder says tryLater")]
    TryLater { retry_after: Option<Duration> },
    #[error("responder says sigRequired: it answers signed requests only")]
    SigRequired,
    #[error("responder says unauthorized: it does not know the certificate")]
    Unauthorized,

    #[error("not an OCSP response: {0}")]
    Garbage(&'static str),
    #[error("bad signature")]
    Signature,
    #[error("signed with {0}, which is too weak")]
    WeakDigest(&'static str),
    #[error("signed by somebody whose certificate is not known")]
    UnknownSigner,
    #[error("signer is not the issuer and was not appointed by it: {0}")]
    Delegate(&'static str),
    #[error("signer's certificate expired at {0}")]
    DelegateExpired(Time),
    #[error("signer's certificate is not valid before {0}")]
    DelegateNotYetValid(Time),
    #[error("response is about another certificate: serial={0}")]
    OtherSerial(String),
    #[error("response is about a certificate of another issuer")]
    OtherIssuer,
    #[error("response has a critical extension that is not known: {0}")]
    Critical(String),
    #[error("response is not valid before {0}")]
    NotYetValid(Time),
    #[error("response is stale since {0}")]
    Stale(Time),
    #[error("response ends at {next_update} before it begins at {this_update}")]
    Times { this_update: Time, next_update: Time },
    #[error("response has a malformed time")]
    MalformedTime,
    #[error("nonce of the response is not that of the request")]
    NonceDiffers,
    #[error("response does not carry the nonce of the request")]
    NonceMissing,

    /// Ours: OpenSSL could not build or check something.
    #[error("{0}")]
    OpenSsl(#[from] openssl::error::ErrorStack),
    /// Ours: the certificate in question can't be asked about.
    #[error("{0}")]
    Facts(#[from] crate::facts::FactsError),
}

impl OcspError {
    /// When to ask again at the earliest, where the responder or its answer tells; None: the
    /// caller's usual back-off, which grows by itself. These answers are not signed: a broken
    /// proxy or somebody on the way may have made them, and under `check hard` nobody is served
    /// until the next attempt. So none of them is good for more than a minute by itself, and what
    /// is wished for by a header for no more than an hour.
    pub fn retry_after(&self) -> Option<Duration> {
        let (wished, usual) = match self.fault {
            Fault::TryLater { retry_after } => (retry_after, Some(SOON)),
            Fault::InternalError { retry_after } => (retry_after, None),
            Fault::HttpStatus { retry_after, .. } => (retry_after, None),
            // The same request would meet the same answer until somebody changes something.
            Fault::MalformedRequest | Fault::SigRequired => (None, Some(LATER)),
            _ => (None, None),
        };
        wished.map(bounded).or(usual)
    }
}

const SOON: Duration = Duration::from_secs(10);
const LATER: Duration = Duration::from_secs(60);

impl Fault {
    /// Adds what the HTTP header Retry-After asked for, where that has a meaning.
    pub(super) fn with_retry_after(self, wished: Option<Duration>) -> Fault {
        match self {
            Fault::TryLater { .. } => Fault::TryLater { retry_after: wished },
            Fault::InternalError { .. } => Fault::InternalError { retry_after: wished },
            other => other,
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

impl std::error::Error for OcspError {}

impl fmt::Display for OcspError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&cause("ocsp", &self.fault, &self.url))
    }
}

fn method_name(method: Method) -> &'static str {
    match method {
        Method::Get => "GET",
        Method::Head => "HEAD",
        Method::Post => "POST",
    }
}
