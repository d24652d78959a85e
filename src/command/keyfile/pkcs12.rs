//! PKCS#12 (RFC 7292), with the protections of twenty years: OpenSSL reads old ones only where
//! its legacy provider is installed, and none without a MAC.

use openssl::pkey::{PKey, Private};
use openssl::x509::X509;
use p12_keystore::error::Error;
use p12_keystore::{Pkcs12Archive, PrivateKeyBag};

use super::{Contents, FoundKey, KeyFileError, Passwords};
use crate::report::printable;

pub fn read(bytes: &[u8], passwords: &Passwords) -> Result<Contents, KeyFileError> {
    let archive = Pkcs12Archive::from_pkcs12(bytes, passwords.store())
        .map_err(|error| explain(&error, passwords))?;
    let keys = archive.keys.iter().map(found).collect();
    let certificate = |bag: &p12_keystore::CertificateBag| X509::from_der(bag.cert.as_der());
    let certificates = archive.certs.iter().map(certificate).collect::<Result<_, _>>();
    let certificates = certificates
        .map_err(|_| KeyFileError::Malformed("a certificate in it can't be read".into()))?;
    Ok(Contents { keys, certificates })
}

fn found(bag: &PrivateKeyBag) -> FoundKey {
    let key: Result<PKey<Private>, _> = PKey::private_key_from_der(bag.key.as_der());
    let key = key.map_err(|_| KeyFileError::Malformed("a key in it can't be read".into()));
    FoundKey { alias: bag.friendly_name.as_deref().map(printable), key }
}

/// Without a MAC a wrong password shows as garbage behind the decryption.
fn explain(error: &Error, passwords: &Passwords) -> KeyFileError {
    let wrong =
        if passwords.are_given() { KeyFileError::Password } else { KeyFileError::Encrypted };
    match error {
        Error::MacError(_) | Error::UnpadError | Error::Pkcs5Error(_) => wrong,
        Error::InvalidPrivateKey => wrong,
        Error::InvalidParameters => {
            KeyFileError::Malformed("PKCS#12: more than a million iterations, or none".into())
        }
        Error::UnsupportedEncryptionScheme | Error::UnsupportedMacAlgorithm => {
            KeyFileError::Malformed("PKCS#12: its encryption or MAC is not supported".into())
        }
        other => KeyFileError::Malformed(format!("PKCS#12: {}", printable(&other.to_string()))),
    }
}
