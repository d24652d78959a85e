//! Certificate authorities: a CSR in, a chain out, in steps that never wait.

pub mod acme;
pub mod cfssl;
pub mod command;
pub mod csr;
pub mod est;
mod exchange;
pub mod renewal;
pub mod vault;

use std::fmt;
use std::time::Duration;

use openssl::x509::X509Ref;
use renewal::RenewalInfo;
use serde::{Deserialize, Serialize};

use crate::bundle::Bundle;
use crate::settings::{Challenge, Secret};

/// A certificate authority that issues for the names of an entry.
pub trait Ca: Send + Sync {
    /// The name from the configuration.
    fn name(&self) -> &str;

    /// The host that requests go to: at most two jobs of a worker at a time talk to one host.
    fn host(&self) -> &str;

    /// Goes on with `order` until it must wait or is done. The caller saves `order` after each
    /// step and calls again: a crash costs no more than the step. `current` is what the entry has
    /// now, good or bad.
    fn step(&self, order: &mut Order, current: Option<&Bundle>) -> Result<Progress, IssueError>;

    /// Whether [`Ca::renewal_info`] may have something to tell.
    fn offers_renewal_info(&self) -> bool {
        false
    }

    /// When the CA wants a certificate that it issued renewed (RFC 9773); None: it does not say.
    fn renewal_info(&self, _certificate: &X509Ref) -> Result<Option<RenewalInfo>, IssueError> {
        Ok(None)
    }
    /// Nobody goes on with `order`: what was put somewhere for the CA to see is taken back.
    fn abandon(&self, _order: &Order) {}
}

/// One issuance in progress, as it lies in `pending/`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Order {
    /// The CA's name from the configuration.
    pub ca: String,
    /// The entry's name, which a wildcard may stand for among the names.
    #[serde(default)]
    pub entry: String,
    /// The SANs asked for.
    pub names: Vec<String>,
    /// Why: `missing`, `renewal`, `requested`, else as [`Replaced::reason`].
    ///
    /// [`Replaced::reason`]: crate::bundle::Replaced::reason
    #[serde(default)]
    pub reason: String,
    /// PKCS#10, DER.
    #[serde(with = "base64_der")]
    pub csr: Vec<u8>,
    /// The CA has taken the request: what it makes of it counts, whether it arrives or not.
    #[serde(default)]
    pub accepted: bool,
    /// What the CA's protocol has to remember: its own business. Null: it has sent no request that
    /// arrived, as far as it knows.
    #[serde(default)]
    pub state: serde_json::Value,
}

impl Order {
    /// The request as most CAs want it.
    pub fn csr_pem(&self) -> Result<String, IssueError> {
        let unusable = |e| IssueError::Configuration(format!("the request can't be used: {e}"));
        csr::to_pem(&self.csr).map_err(unusable)
    }
}

#[derive(Clone, Debug, PartialEq)]
pub enum Progress {
    /// Ask again after this long; the order is at the CA.
    Wait(Duration),
    /// Somebody may have replaced the certificate already: look before the next step.
    LookAgain,
    Issued(Issued),
}

/// What a CA delivered. Nothing of it is checked yet.
#[derive(Clone, Debug, PartialEq)]
pub struct Issued {
    /// PEM, leaf first.
    pub chain: Vec<u8>,
    /// Another chain of the same certificate, should the first be of no use: the CA's own choice,
    /// where the first is that of the configuration.
    pub fallback: Option<Vec<u8>>,
    /// PEM of a key that the CA made; None: it is the key of the CSR.
    pub key: Option<Secret>,
    /// What the administrator should know though nothing failed: one line.
    pub remark: Option<String>,
}

impl From<Vec<u8>> for Issued {
    fn from(chain: Vec<u8>) -> Issued {
        Issued { chain, fallback: None, key: None, remark: None }
    }
}

/// Whether this is PEM of certificates and of nothing else: a file with anything else in it must not
/// reach a place where keys are read from (RFC 8555 section 11.4).
pub fn is_chain(pem: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(pem) else { return false };
    let mut labels = text.lines().filter_map(|l| l.trim().strip_prefix("-----BEGIN ")).peekable();
    labels.peek().is_some() && labels.all(|l| l == "CERTIFICATE-----")
}

/// Why a CA gave no certificate.
#[derive(Clone, Debug, thiserror::Error)]
pub enum IssueError {
    /// No usable answer: network, TLS, timeout, oversized.
    #[error("{what}: {cause}")]
    Unreachable { what: &'static str, cause: String },
    /// The CA answered with an error; the problem document is kept whole (RFC 7807).
    #[error("{what}: {problem}")]
    Refused { what: &'static str, problem: String, about_name: bool, retry_after: Option<Duration> },
    /// The CA can't answer now (5xx, rate limit): the order stays as it is.
    #[error("{what}: {problem}")]
    Busy { what: &'static str, problem: String, retry_after: Option<Duration> },
    /// The CA broke its protocol.
    #[error("{what}: {cause}")]
    Protocol { what: &'static str, cause: String },
    /// The administrator has to do something.
    #[error("{0}")]
    Configuration(String),
    /// The keystore failed us.
    #[error("{0}")]
    Storage(String),
}

impl IssueError {
    /// The CA's own wish when to come back.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            IssueError::Refused { retry_after, .. } | IssueError::Busy { retry_after, .. } => {
                *retry_after
            }
            _ => None,
        }
    }

    /// Whether the order is of no more use: the next attempt begins a new one.
    pub fn order_is_dead(&self) -> bool {
        matches!(self, IssueError::Refused { .. } | IssueError::Protocol { .. })
    }
}

/// An answer to a challenge, ready for the CA to see (RFC 8555 section 8.1).
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct ChallengeAnswer {
    pub kind: Challenge,
    /// The host name or address being validated; of a wildcard what it stands on.
    pub name: String,
    pub token: String,
    pub key_authorization: String,
}

impl fmt::Debug for ChallengeAnswer {
    /// Without the secret part.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ChallengeAnswer({:?} for {})", self.kind, self.name)
    }
}

/// Where answers are put for the handlers of every worker (and, by the keystore, every host).
pub trait Challenges: Send + Sync {
    /// On return the answer is visible to all workers of this nginx.
    fn publish(&self, answer: &ChallengeAnswer) -> Result<(), String>;

    /// How long after [`Challenges::publish`] the CA may be told: it may ask a process that learns
    /// of the answer a little later.
    fn settle_in(&self) -> Duration {
        Duration::ZERO
    }

    /// How long after [`Challenges::publish`] the answer is there; None: till it is withdrawn.
    fn life(&self) -> Option<Duration> {
        None
    }

    fn withdraw(&self, answer: &ChallengeAnswer);
}

mod base64_der {
    use base64::prelude::{BASE64_STANDARD, Engine};
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn serialize<S: Serializer>(der: &[u8], s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&BASE64_STANDARD.encode(der))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<u8>, D::Error> {
        BASE64_STANDARD.decode(String::deserialize(d)?).map_err(D::Error::custom)
    }
}
