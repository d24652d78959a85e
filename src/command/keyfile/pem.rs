//! PEM: blocks in any order, with whatever text around them (RFC 7468).

use openssl::pkey::{PKey, Private};
use openssl::x509::X509;

use super::{Contents, FoundKey, KeyFileError, Passwords};
use crate::bundle::{KeyError, private_key};

const BEGIN: &[u8] = b"-----BEGIN ";
const END: &[u8] = b"-----END ";

pub fn is_in(bytes: &[u8]) -> bool {
    find(bytes, BEGIN).is_some()
}

pub fn read(bytes: &[u8], passwords: &Passwords) -> Result<Contents, KeyFileError> {
    let mut contents = Contents::default();
    let mut rest = bytes;
    while let Some(begin) = find(rest, BEGIN) {
        let block = &rest[begin..];
        let Some(end) = find(block, END).and_then(|end| Some(end + line_end(&block[end..])?))
        else {
            return Err(KeyFileError::Malformed("a PEM block has no end".into()));
        };
        let (block, after) = block.split_at(end);
        take_in(block, passwords, &mut contents)?;
        rest = after;
    }
    Ok(contents)
}

/// What is neither certificate nor private key (parameters, requests, CRLs) is passed over.
fn take_in(
    block: &[u8],
    passwords: &Passwords,
    contents: &mut Contents,
) -> Result<(), KeyFileError> {
    let first = block.split(|b| *b == b'\n').next().unwrap_or_default();
    let label = String::from_utf8_lossy(&first[BEGIN.len()..]);
    let label = label.trim_end().trim_end_matches('-');
    if label.ends_with("PRIVATE KEY") {
        contents.keys.push(FoundKey { alias: None, key: key(block, passwords) });
    } else if matches!(label, "CERTIFICATE" | "X509 CERTIFICATE" | "TRUSTED CERTIFICATE") {
        let certificate = X509::from_pem(block);
        contents.certificates.push(certificate.map_err(|e| malformed("certificate", &e))?);
    }
    Ok(())
}

fn key(block: &[u8], passwords: &Passwords) -> Result<PKey<Private>, KeyFileError> {
    match private_key(block) {
        Ok(key) => Ok(key),
        Err(KeyError::OpenSsl(errors)) => Err(malformed("private key", &errors)),
        Err(KeyError::Encrypted) if !passwords.are_given() => Err(KeyFileError::Encrypted),
        Err(KeyError::Encrypted) => {
            let key = PKey::private_key_from_pem_passphrase(block, passwords.key().as_bytes());
            key.map_err(|_| KeyFileError::Password)
        }
    }
}

fn malformed(what: &str, error: &openssl::error::ErrorStack) -> KeyFileError {
    let reasons: Vec<_> = error.errors().iter().filter_map(|e| e.reason()).collect();
    KeyFileError::Malformed(format!("a PEM {what} can't be read: {}", reasons.join(", ")))
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|w| w == what)
}

/// Behind the five hyphens that end a line.
fn line_end(line: &[u8]) -> Option<usize> {
    Some(END.len() + find(&line[END.len()..], b"-----")? + 5)
}
