//! Files with keys and certificates in them that others wrote, in whatever format: PEM, DER,
//! PKCS#12, JKS. What kind it is, its first bytes say, not its name.
//!
//! They are the administrator's own, and read by a process of his own: their size is bounded, and
//! a key that takes minutes to derive is ended by Ctrl-C.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use openssl::pkey::{PKey, Private};
use openssl::x509::X509;
use zeroize::Zeroizing;

use super::answer::Failure;
use super::password::Passwords;
use crate::settings::Secret;

mod jks;
mod pem;
mod pkcs12;
#[cfg(test)]
mod tests;

/// What was found in a file.
#[derive(Default)]
pub struct Contents {
    pub keys: Vec<FoundKey>,
    /// In no order; some may belong to no key.
    pub certificates: Vec<X509>,
}

pub struct FoundKey {
    /// `friendlyName` or alias.
    pub alias: Option<String>,
    /// Or why it can't be had: other keys of the file may be fine.
    pub key: Result<PKey<Private>, KeyFileError>,
}

/// Why a file, or a key in it, can't be used.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum KeyFileError {
    #[error("neither PEM nor DER nor PKCS#12 nor JKS")]
    Kind,
    #[error(
        "a JCEKS keystore is not read: keytool -importkeystore -deststoretype PKCS12 converts it"
    )]
    Jceks,
    #[error("a BKS or other keystore of Bouncy Castle is not read: convert it to PKCS#12")]
    BouncyCastle,
    #[error("it is encrypted: --password-file names a file with the password")]
    Encrypted,
    #[error("the password in --password-file is wrong")]
    Password,
    #[error("the key has another password: it is the second line of --password-file")]
    KeyPassword,
    #[error("{0}")]
    Malformed(String),
}

/// All that is in `bytes`.
pub fn read(bytes: &[u8], passwords: &Passwords) -> Result<Contents, KeyFileError> {
    match bytes {
        [0xfe, 0xed, 0xfe, 0xed, ..] => jks::read(bytes, passwords),
        [0xce, 0xce, 0xce, 0xce, ..] => Err(KeyFileError::Jceks),
        [0, 0, 0, 1 | 2, 0, 0, 0, 20, ..] => Err(KeyFileError::BouncyCastle),
        _ if pem::is_in(bytes) => pem::read(bytes, passwords),
        [0x30, ..] => der(bytes, passwords),
        _ => Err(KeyFileError::Kind),
    }
}

/// A whole file of the administrator's; a pipe too.
pub fn read_file(path: &Path) -> Result<Secret, Failure> {
    let failed =
        |e: std::io::Error| Failure::unknown(format!("\"{}\" can't be read: {e}", path.display()));
    let file = File::open(path).map_err(failed)?;
    // As large as it may become, so that no copy is left behind unwiped.
    let mut bytes = Zeroizing::new(Vec::with_capacity(LIMIT + 1));
    file.take(LIMIT as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() > LIMIT {
        let line = format!("\"{}\" is larger than {LIMIT} bytes", path.display());
        return Err(Failure::bad(line));
    }
    Ok(Secret::new(std::mem::take(&mut *bytes)))
}

fn der(bytes: &[u8], passwords: &Passwords) -> Result<Contents, KeyFileError> {
    if let Ok(certificate) = X509::from_der(bytes) {
        return Ok(Contents { certificates: vec![certificate], ..Contents::default() });
    }
    if let Ok(key) = PKey::private_key_from_der(bytes) {
        let key = FoundKey { alias: None, key: Ok(key) };
        return Ok(Contents { keys: vec![key], ..Contents::default() });
    }
    let _ = openssl::error::ErrorStack::get(); // why it is neither
    pkcs12::read(bytes, passwords)
}

/// Keystores of real servers have some kilobytes; a truststore with all public roots 200.
const LIMIT: usize = 1 << 20;
