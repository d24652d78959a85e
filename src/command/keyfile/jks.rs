//! JKS, Java's keystore before PKCS#12: its layout is that of `sun.security.provider.JavaKeyStore`
//! and has no specification but what keytool writes. No word of it is believed before the digest
//! at the end was compared.
//!
//! The protection is weak by today's measure: SHA-1 in counter-like chains, and XOR.

use openssl::pkey::{PKey, Private};
use openssl::sha::Sha1;
use openssl::x509::X509;
use x509_parser::asn1_rs::{Any, FromDer, Oid, Tag, oid};
use zeroize::Zeroizing;

use super::{Contents, FoundKey, KeyFileError, Passwords};
use crate::report::printable;

pub fn read(bytes: &[u8], passwords: &Passwords) -> Result<Contents, KeyFileError> {
    let end = bytes.len().checked_sub(DIGEST).ok_or_else(truncated)?;
    let (body, digest) = bytes.split_at(end);
    let password = utf16(passwords.store());
    // keytool lists without a password, but nothing that was not checked is served from here on.
    if sha1(&[&password, WHITENER, body]) != digest {
        let given = passwords.are_given();
        return Err(if given { KeyFileError::Password } else { KeyFileError::Encrypted });
    }
    let mut reader = Reader(body);
    let (_magic, version, count) = (reader.u32()?, reader.u32()?, reader.u32()?);
    if !matches!(version, 1 | 2) {
        return Err(KeyFileError::Malformed(format!("JKS: version {version} is not known")));
    }
    let mut contents = Contents::default();
    for _ in 0..count {
        reader.entry(version, passwords, &mut contents)?;
    }
    Ok(contents)
}

/// What is left to be read.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn entry(
        &mut self,
        version: u32,
        passwords: &Passwords,
        contents: &mut Contents,
    ) -> Result<(), KeyFileError> {
        let (tag, alias) = (self.u32()?, self.text()?);
        let _created = self.take(8)?;
        let certificates = match tag {
            PRIVATE_KEY => {
                let protected = self.long()?;
                let alias = Some(printable(&alias));
                contents.keys.push(FoundKey { alias, key: unprotect(protected, passwords) });
                self.u32()?
            }
            TRUSTED_CERTIFICATE => 1,
            _ => return Err(KeyFileError::Malformed(format!("JKS: entry of unknown kind {tag}"))),
        };
        for _ in 0..certificates {
            if version == 2 {
                self.text()?; // X.509
            }
            let certificate = X509::from_der(self.long()?);
            contents.certificates.push(
                certificate.map_err(|_| {
                    KeyFileError::Malformed("JKS: a certificate can't be read".into())
                })?,
            );
        }
        Ok(())
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], KeyFileError> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or_else(truncated)?;
        self.0 = rest;
        Ok(taken)
    }

    fn u32(&mut self) -> Result<u32, KeyFileError> {
        Ok(self.take(4)?.iter().fold(0, |n, b| n << 8 | u32::from(*b)))
    }

    fn long(&mut self) -> Result<&'a [u8], KeyFileError> {
        let length = self.u32()?;
        self.take(length as usize)
    }

    fn text(&mut self) -> Result<String, KeyFileError> {
        let length = self.take(2)?.iter().fold(0, |n, b| n << 8 | usize::from(*b));
        Ok(String::from_utf8_lossy(self.take(length)?).into_owned())
    }
}

/// An EncryptedPrivateKeyInfo: salt, the key XORed with a stream, a digest of the key.
fn unprotect(der: &[u8], passwords: &Passwords) -> Result<PKey<Private>, KeyFileError> {
    let protected = key_protector(der)
        .ok_or_else(|| KeyFileError::Malformed("JKS: a key with an unknown protection".into()))?;
    let plain = [passwords.key(), passwords.store()]
        .into_iter()
        .find_map(|password| decrypt(protected, &utf16(password)))
        .ok_or(KeyFileError::KeyPassword)?;
    PKey::private_key_from_der(&plain)
        .map_err(|_| KeyFileError::Malformed("JKS: a key can't be read".into()))
}

/// What is in the OCTET STRING, if the algorithm is Sun's KeyProtector.
fn key_protector(der: &[u8]) -> Option<&[u8]> {
    const KEY_PROTECTOR: Oid<'static> = oid!(1.3.6.1.4.1.42.2.17.1.1);
    let (_, info) = Any::from_der(der).ok().filter(|(_, any)| any.tag() == Tag::Sequence)?;
    let (rest, algorithm) = Any::from_der(info.data).ok()?;
    let (_, identifier) = Oid::from_der(algorithm.data).ok()?;
    let (_, octets) = Any::from_der(rest).ok().filter(|(_, any)| any.tag() == Tag::OctetString)?;
    (identifier == KEY_PROTECTOR).then_some(octets.data)
}

fn decrypt(protected: &[u8], password: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let (salt, rest) = protected.split_at_checked(DIGEST)?;
    let (key, digest) = rest.split_at_checked(rest.len().checked_sub(DIGEST)?)?;
    let mut plain = Zeroizing::new(Vec::with_capacity(key.len()));
    let mut pad = sha1(&[password, salt]);
    for piece in key.chunks(DIGEST) {
        plain.extend(piece.iter().zip(pad).map(|(byte, pad)| byte ^ pad));
        pad = sha1(&[password, &pad]);
    }
    (sha1(&[password, &plain]) == digest).then_some(plain)
}

fn sha1(parts: &[&[u8]]) -> [u8; DIGEST] {
    let mut hash = Sha1::new();
    parts.iter().for_each(|part| hash.update(part));
    hash.finish()
}

/// As Java has its characters in memory.
fn utf16(password: &str) -> Zeroizing<Vec<u8>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(2 * password.len()));
    bytes.extend(password.encode_utf16().flat_map(u16::to_be_bytes));
    bytes
}

fn truncated() -> KeyFileError {
    KeyFileError::Malformed("JKS: it ends too soon".into())
}

const DIGEST: usize = 20;
const PRIVATE_KEY: u32 = 1;
const TRUSTED_CERTIFICATE: u32 = 2;
/// Mixed into the digest over the file.
const WHITENER: &[u8] = b"Mighty Aphrodite";
