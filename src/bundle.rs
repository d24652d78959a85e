//! A certificate with its key and chain, as stored in one version directory: read, checked, ready.

use openssl::pkey::{PKey, Private};
use openssl::x509::X509;
use serde::{Deserialize, Serialize};

use crate::clock::Time;
use crate::facts::{CertFacts, Serial};

/// One version of an entry's certificate. Key and certificate are known to match.
#[derive(Clone)]
pub struct Bundle {
    pub version: u64,
    /// Leaf first. Parsed from PEM, never as built: OpenSSL 3 makes built objects slow.
    pub chain: Vec<X509>,
    pub key: PKey<Private>,
    pub facts: CertFacts,
    pub meta: Meta,
}

impl Bundle {
    /// The certificate that issued the leaf, where the chain carries it.
    pub fn issuer(&self) -> Option<&X509> {
        self.chain.get(1)
    }
}

/// `meta.json` of a version: where it came from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Meta {
    /// The CA's name from the configuration; None: imported.
    pub ca: Option<String>,
    pub stored_at: Option<Time>,
    /// What it replaced before its time.
    pub replaced: Option<Replaced>,
    /// It and so many before it had hardly any life left when they came; 0: it had.
    #[serde(default)]
    pub short_lived: u32,
}

/// One replacement, as the status shows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Replaced {
    pub serial: Serial,
    /// RFC 5280's name, or `expired`, `broken`, `names`.
    pub reason: String,
    pub at: Time,
    /// From the verified answer to the swap.
    pub seconds: f64,
}

/// Why what lies in the keystore can't be served at all.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Defect {
    /// Nothing stored yet.
    Missing,
    /// Unreadable or not what it should be; the cause in words.
    Broken(String),
    KeyMismatch,
}
