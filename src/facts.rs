//! What a certificate says, read once (RFC 5280).

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::clock::Time;

/// The facts of one certificate that decisions need.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CertFacts {
    pub fingerprint: Fingerprint,
    pub serial: Serial,
    pub not_before: Time,
    pub not_after: Time,
    /// dNSName SANs, lower case, wildcards as written.
    pub names: Vec<String>,
    /// Issuer DN in RFC 4514 order, for people.
    pub issuer: String,
    /// AIA id-ad-ocsp, http(s) URLs only, in the certificate's order.
    pub ocsp_urls: Vec<String>,
    /// CDP, http(s) URLs only.
    pub crl_urls: Vec<String>,
    /// TLS feature status_request (RFC 7633).
    pub must_staple: bool,
}

/// SHA-256 of the certificate's DER, lower-case hex.
#[derive(Clone, Debug, Eq, Hash, PartialEq, Serialize, Deserialize)]
pub struct Fingerprint(pub String);

/// A serial number: lower-case hex, two digits a byte, no leading 00.
#[derive(Clone, Debug, Eq, Hash, PartialEq, Serialize, Deserialize)]
pub struct Serial(pub String);

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serial {
    /// From big-endian bytes; leading zero bytes are dropped.
    pub fn from_bytes(bytes: &[u8]) -> Serial {
        let start = bytes.iter().position(|b| *b != 0).unwrap_or(bytes.len().saturating_sub(1));
        Serial(bytes[start..].iter().map(|b| format!("{b:02x}")).collect())
    }
}

impl CertFacts {
    /// Whether a client that asked for `name` (lower case) accepts this certificate (RFC 9525:
    /// a wildcard stands for the whole left-most label).
    pub fn covers(&self, name: &str) -> bool {
        let parent = name.split_once('.').map(|(_, p)| p);
        self.names
            .iter()
            .any(|san| san == name || san.strip_prefix("*.").is_some_and(|s| parent == Some(s)))
    }
}
