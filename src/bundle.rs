//! A certificate with its key and chain, as stored in one version directory: read, checked, ready.

use std::sync::LazyLock;

use openssl::error::ErrorStack;
use openssl::pkey::{PKey, PKeyRef, Private};
use openssl::ssl::{Ssl, SslContext, SslMethod};
use openssl::stack::Stack;
use openssl::x509::X509;
use serde::{Deserialize, Serialize};

use crate::clock::Time;
use crate::facts::{CertFacts, Serial};
use crate::openssl_ffi::use_cert_and_key;

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

/// A chain in PEM, in its order.
pub fn chain_pem(chain: &[X509]) -> Result<Vec<u8>, ErrorStack> {
    let mut pem = Vec::new();
    for certificate in chain {
        pem.extend(certificate.to_pem()?);
    }
    Ok(pem)
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

/// Whether OpenSSL takes a chain (leaf first) and its key for a server. At the security level of
/// the system it may refuse short keys and weak digests, and it has no use for every kind of key.
pub fn can_be_served(chain: &[X509], key: &PKeyRef<Private>) -> Result<(), Unservable> {
    let Some((leaf, rest)) = chain.split_first() else { return Ok(()) };
    // What could not be tried says nothing about the certificate.
    let Some((mut connection, rest)) = stage(rest) else { return Ok(()) };
    use_cert_and_key(&mut connection, leaf, key, &rest).map_err(|errors| {
        let reason = errors.errors().last().and_then(|error| error.reason());
        Unservable(reason.unwrap_or("it does not say why").into())
    })
}

/// OpenSSL's words.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("OpenSSL does not take it: {0}")]
pub struct Unservable(String);

/// A connection to nobody: a context would cost forty times as much.
fn stage(rest: &[X509]) -> Option<(Ssl, Stack<X509>)> {
    static CONTEXT: LazyLock<Option<SslContext>> = LazyLock::new(|| {
        let builder = SslContext::builder(SslMethod::tls_server());
        builder.map(|builder| builder.build()).ok()
    });
    let mut stack = Stack::new().ok()?;
    rest.iter().try_for_each(|certificate| stack.push(certificate.clone())).ok()?;
    Some((Ssl::new(CONTEXT.as_ref()?).ok()?, stack))
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
    use openssl::hash::MessageDigest;
    use openssl::nid::Nid;
    use openssl::rsa::Rsa;
    use openssl::symm::Cipher;

    use super::*;
    use crate::fixture::{Identity, Spec, ec_key, root, self_signed_with};

    #[test]
    fn what_openssl_does_not_take() {
        let rsa = |bits| PKey::from_rsa(Rsa::generate(bits).unwrap()).unwrap();
        let (ec, short, long) = (ec_key(), rsa(512), rsa(2048));
        let x448 = PKey::generate_x448().unwrap();
        let root = root("Root");
        let weak = self_signed_with(Spec::ca("Weak"), short.clone());
        let of = |issuer: &Identity, key| issuer.certify(&Spec::default(), key);
        let below = |issuer: &Identity, key| vec![of(issuer, key), issuer.cert.clone()];
        let refused = |reason: &str| Err(format!("OpenSSL does not take it: {reason}"));
        let sha_1 = Spec { digest: MessageDigest::sha1(), ..Spec::default() };
        let sha_1 = root.certify(&sha_1, &ec);
        for (name, chain, key, expected) in [
            ("EC", below(&root, &ec), &ec, Ok(())),
            ("RSA", below(&root, &long), &long, Ok(())),
            ("another key", below(&root, &long), &ec, refused("private key mismatch")),
            ("short", below(&root, &short), &short, refused("ee key too small")),
            ("issuer short", below(&weak, &ec), &ec, refused("ca key too small")),
            ("SHA-1", vec![sha_1.clone()], &ec, refused("ca md too weak")),
            ("above SHA-1", vec![of(&root, &ec), sha_1], &ec, refused("ca md too weak")),
            ("X448", vec![of(&root, &x448)], &x448, refused("unknown certificate type")),
            ("none", vec![], &ec, Ok(())),
        ] {
            let result = can_be_served(&chain, key).map_err(|e| e.to_string());
            assert_eq!(result, expected, "{name}");
            assert!(ErrorStack::get().errors().is_empty(), "{name}");
        }
    }

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
