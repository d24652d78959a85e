//! A certificate with its key and chain, as stored in one version directory: read, checked, ready.

use openssl::error::ErrorStack;
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

/// Reads a private key in PEM that is not encrypted.
pub fn private_key(pem: &[u8]) -> Result<PKey<Private>, KeyError> {
    if is_encrypted(pem) {
        return Err(KeyError::Encrypted);
    }
    // Should it ask for a password all the same: none, and not the terminal.
    Ok(PKey::private_key_from_pem_callback(pem, |_| Ok(0))?)
}

/// Whether there is something encrypted in a PEM file (RFC 1421, 4.6.1.1; RFC 7468, 11). OpenSSL
/// would ask the terminal for the password, or try an empty one for as long as the iteration count
/// in the file says: hours.
pub fn is_encrypted(pem: &[u8]) -> bool {
    const ENCRYPTED: &[u8] = b"ENCRYPTED";
    pem.windows(ENCRYPTED.len()).any(|w| w == ENCRYPTED)
}

/// Why a private key can't be read.
#[derive(Clone, Debug, thiserror::Error)]
pub enum KeyError {
    #[error("it is encrypted")]
    Encrypted,
    #[error("{0}")]
    OpenSsl(#[from] ErrorStack),
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

#[cfg(test)]
mod tests {
    use openssl::ec::{EcGroup, EcKey};
    use openssl::nid::Nid;
    use openssl::symm::Cipher;

    use super::*;

    #[test]
    fn encrypted_keys_are_refused_unread() {
        let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
        let ec = EcKey::generate(&group).unwrap();
        let key = PKey::from_ec_key(ec.clone()).unwrap();
        let (aes, word) = (Cipher::aes_128_cbc(), b"word");
        for (name, pem, expected) in [
            ("PKCS#8", key.private_key_to_pem_pkcs8(), Ok(())),
            ("SEC 1", ec.private_key_to_pem(), Ok(())),
            ("PKCS#8, encrypted", key.private_key_to_pem_pkcs8_passphrase(aes, word), Err(())),
            ("SEC 1, encrypted", ec.private_key_to_pem_passphrase(aes, word), Err(())),
            // With an empty password, which OpenSSL would try.
            ("PKCS#8, no word", key.private_key_to_pem_pkcs8_passphrase(aes, b""), Err(())),
        ] {
            let result = private_key(&pem.unwrap()).map(drop).map_err(|e| e.to_string());
            assert_eq!(result, expected.map_err(|()| "it is encrypted".into()), "{name}");
        }
    }
}
