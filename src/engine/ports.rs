//! What the engine reaches the world through, beside the keystore and the process.

use std::sync::Arc;
use std::time::Duration;

use openssl::x509::X509Ref;

use crate::ca::Ca;
use crate::clock::{Clock, Time};
use crate::evidence::Evidence;
use crate::facts::{CertFacts, Fingerprint, Serial};

pub struct Ports {
    pub clock: Arc<dyn Clock>,
    /// In the order of `Plan::cas`.
    pub cas: Vec<Arc<dyn Ca>>,
    pub responders: Arc<dyn Responders>,
    pub crls: Arc<dyn Crls>,
    /// For jitter: any number; another one in each process.
    pub seed: u64,
}

/// Asks OCSP responders.
pub trait Responders: Send + Sync {
    /// One question to one responder. Only verified answers come back. Blocks for
    /// `inquiry.timeout` at most.
    fn ask(&self, inquiry: &Inquiry) -> Result<Answer, NoAnswer>;
}

/// Looks certificates up in CRLs.
pub trait Crls: Send + Sync {
    /// What the CRL at `inquiry.url` says. A copy of it that was asked for at `asked_since` or
    /// later is good enough. Only what is verified comes back; None: another thread, worker or
    /// host is fetching it. Blocks for `inquiry.timeout` at most.
    fn look_up(&self, inquiry: &Inquiry, asked_since: Time) -> Result<Option<Listing>, NoAnswer>;
}

/// What a CRL says about a certificate.
#[derive(Clone, Debug)]
pub struct Listing {
    pub evidence: Evidence,
    /// Whether a request went out for it.
    pub fetched: bool,
}

pub struct Inquiry<'a> {
    pub certificate: &'a X509Ref,
    pub facts: &'a CertFacts,
    pub issuer: &'a X509Ref,
    pub url: &'a str,
    /// The CA whose way to the network is taken, by its place in `Plan::cas`.
    pub ca: usize,
    /// Whether the CA's evidence settings are meant for it: they are about leaves.
    pub is_leaf: bool,
    /// Further certificates of ours that `issuer` issued; not asked about.
    pub siblings: &'a [(Serial, Fingerprint)],
    pub timeout: Duration,
}

#[derive(Clone, Debug)]
pub struct Answer {
    pub evidence: Evidence,
    /// About siblings of which the answer tells too.
    pub others: Vec<Evidence>,
    /// As it came: what is stapled.
    pub der: Vec<u8>,
}

/// Why there is no answer that counts.
#[derive(Clone, Debug)]
pub struct NoAnswer {
    pub cause: String,
    /// The responder's own wish when to come back.
    pub retry_after: Option<Duration>,
}

impl NoAnswer {
    /// There may be answers, and nobody could verify them.
    pub fn no_issuer() -> NoAnswer {
        let cause = "the issuer's certificate is neither in the chain nor configured";
        NoAnswer { cause: cause.into(), retry_after: None }
    }
}
