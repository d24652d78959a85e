//! CRLs over HTTP (RFC 5280, 5 and 6.3): whether one lists a certificate.

mod der;
mod error;
mod extensions;
mod filter;
mod pem;
mod signature;
mod verify;
pub mod walk;

use std::io::BufRead;
use std::time::Duration;

use openssl::x509::X509Ref;

pub use self::error::{CrlError, Fault};
use crate::clock::{Clock, Time};
use crate::evidence::Evidence;
use crate::facts::CertFacts;
use crate::http::Http;
use crate::keystore::Keystore;

/// One question to one CRL.
#[derive(Clone, Copy)]
pub struct Query<'a> {
    /// The certificate in question.
    pub facts: &'a CertFacts,
    /// It is a CA's: a CRL may be for users' or for CAs' certificates only.
    pub is_ca: bool,
    /// The certificate that issued it, known to have done so, and that must have signed the CRL.
    pub issuer: &'a X509Ref,
    pub url: &'a str,
    /// A stored CRL that was asked for at this time or later is not asked for again.
    pub asked_since: Time,
    /// For the whole exchange. A large CRL needs minutes; see [`Http::download`].
    pub timeout: Duration,
}

/// What a look-up found.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Found {
    Answer {
        evidence: Evidence,
        /// A request went out.
        fetched: bool,
    },
    /// Another thread, worker or host is fetching it: look again soon.
    Busy,
}

/// The CRLs in a keystore, and what this process has read in them. Shared by threads.
pub struct Crls {
    #[allow(dead_code)]
    keystore: Keystore,
}

impl Crls {
    pub fn new(keystore: Keystore) -> Crls {
        Crls { keystore }
    }

    /// Looks into the stored CRL, asked for anew where it is older than the query wants. Blocks
    /// for `timeout` and the time it takes to read the CRL once.
    pub fn look_up(
        &self,
        _http: &dyn Http,
        _clock: &dyn Clock,
        query: &Query,
    ) -> Result<Found, CrlError> {
        Err(CrlError { url: query.url.to_string(), fault: Fault::Garbage("not yet") })
    }
}

/// Verifies a CRL, DER or PEM, for `query` at `now`, with neither network nor keystore. The
/// evidence counts as asked for at `now`.
pub fn read(crl: impl BufRead, query: &Query, now: Time) -> Result<Evidence, CrlError> {
    try_read(crl, query, now).map_err(|fault| CrlError { url: query.url.to_string(), fault })
}

fn try_read(crl: impl BufRead, query: &Query, now: Time) -> Result<Evidence, Fault> {
    let serial = query.facts.serial.to_bytes();
    let verified = verify::verify(crl, query.issuer, [serial.clone()])?;
    let listed = verified.answers.get(&serial).copied().flatten();
    verified.facts.evidence(listed, query, now, now)
}
