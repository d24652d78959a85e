//! PKCS#12 (RFC 7292), with the protections of twenty years.
//!
//! Two libraries, as neither reads all: OpenSSL knows old encryption only where its legacy
//! provider is installed, refuses files without a MAC, and gives one key of several; p12-keystore
//! knows neither PBKDF2 with SHA-1 nor files whose password is none, which is not the empty one.

use openssl::error::ErrorStack;
use openssl::pkcs12::Pkcs12;
use openssl::pkey::{PKey, Private};
use openssl::x509::X509;
use p12_keystore::error::Error;
use p12_keystore::{CertificateBag, Pkcs12Archive, PrivateKeyBag};

use super::{Contents, FoundKey, KeyFileError, Passwords};
use crate::report::printable;

pub fn read(bytes: &[u8], passwords: &Passwords) -> Result<Contents, KeyFileError> {
    match Pkcs12Archive::from_pkcs12(bytes, passwords.store()) {
        Ok(archive) => contents(&archive),
        // OpenSSL would do them all.
        Err(Error::InvalidParameters) => Err(KeyFileError::Malformed(
            "PKCS#12: more than a million iterations, or none that can be read".into(),
        )),
        Err(error) => by_openssl(bytes, passwords).map_err(|_| explain(&error, passwords)),
    }
}

fn contents(archive: &Pkcs12Archive) -> Result<Contents, KeyFileError> {
    let certificate = |bag: &CertificateBag| X509::from_der(bag.cert.as_der());
    let certificates = archive.certs.iter().map(certificate).collect::<Result<_, _>>();
    let certificates = certificates
        .map_err(|_| KeyFileError::Malformed("a certificate in it can't be read".into()))?;
    Ok(Contents { keys: archive.keys.iter().map(found).collect(), certificates })
}

fn found(bag: &PrivateKeyBag) -> FoundKey {
    let key: Result<PKey<Private>, _> = PKey::private_key_from_der(bag.key.as_der());
    let key = key.map_err(|_| KeyFileError::Malformed("a key in it can't be read".into()));
    FoundKey { alias: bag.friendly_name.as_deref().map(printable), key }
}

fn by_openssl(bytes: &[u8], passwords: &Passwords) -> Result<Contents, ErrorStack> {
    let parsed = Pkcs12::from_der(bytes)?.parse2(passwords.store())?;
    let name = |c: &X509| c.alias().map(|name| printable(&String::from_utf8_lossy(name)));
    let alias = parsed.cert.as_ref().and_then(name);
    let keys = parsed.pkey.map(|key| FoundKey { alias, key: Ok(key) }).into_iter().collect();
    let certificates = parsed.cert.into_iter().chain(parsed.ca.into_iter().flatten()).collect();
    Ok(Contents { keys, certificates })
}

/// Without a MAC a wrong password shows as garbage behind the decryption.
fn explain(error: &Error, passwords: &Passwords) -> KeyFileError {
    match error {
        Error::MacError(_)
        | Error::UnpadError
        | Error::Pkcs5Error(_)
        | Error::InvalidPrivateKey => match passwords.are_given() {
            true => KeyFileError::Password,
            false => KeyFileError::Encrypted,
        },
        Error::UnsupportedEncryptionScheme | Error::UnsupportedMacAlgorithm => {
            KeyFileError::Malformed("PKCS#12: its encryption or MAC is not supported".into())
        }
        other => KeyFileError::Malformed(format!("PKCS#12: {}", printable(&other.to_string()))),
    }
}
