//! Private keys under a password: PKCS#8 EncryptedPrivateKeyInfo (RFC 5958, 3; RFC 7468, 11) with
//! PBES2 (RFC 8018, 6.2) of PBKDF2 and AES in CBC mode, and nothing else.
//!
//! OpenSSL would derive a key for as long as the iteration count in the file says: hours. So the
//! parameters are read here, and bounded, before anything is computed.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::pkcs5::pbkdf2_hmac;
use openssl::pkey::{PKey, Private};
use openssl::rand::rand_bytes;
use openssl::symm::{Cipher, Crypter, Mode, encrypt};
use zeroize::Zeroizing;

use crate::evidence::crl::der::{Elements, INTEGER, OCTET_STRING, OID, SEQUENCE, only};
use crate::settings::Secret;

/// What a password is stretched by in what is written here: 20 ms, once for all keys that have
/// the same salt.
const ITERATIONS: u32 = 100_000;
/// More is not computed: a file may come from anybody.
const MOST_ITERATIONS: u32 = 1_000_000;
const LONGEST_SALT: usize = 1024;
const BLOCK: usize = 16;

const BEGIN: &str = "-----BEGIN ENCRYPTED PRIVATE KEY-----";
const END: &str = "-----END ENCRYPTED PRIVATE KEY-----";

/// How a password becomes the key of a cipher: PBKDF2 with these parameters.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Stretching {
    salt: Vec<u8>,
    iterations: u32,
    prf: &'static [u8],
    key_length: usize,
}

impl Stretching {
    pub fn new() -> Result<Stretching, ErrorStack> {
        let mut salt = vec![0; BLOCK];
        rand_bytes(&mut salt)?;
        let key_length = Cipher::aes_256_cbc().key_len();
        Ok(Stretching { salt, iterations: ITERATIONS, prf: HMAC_SHA256, key_length })
    }

    /// Whether [`Stretching::new`] makes such.
    pub fn is_usual(&self) -> bool {
        let usual = (ITERATIONS, HMAC_SHA256, Cipher::aes_256_cbc().key_len(), BLOCK);
        (self.iterations, self.prf, self.key_length, self.salt.len()) == usual
    }

    pub fn derive(&self, password: &Secret) -> Result<Secret, ErrorStack> {
        let prf = PRFS.iter().find(|(oid, _)| *oid == self.prf);
        let prf = prf.map_or_else(MessageDigest::sha256, |(_, make)| make());
        let mut key = Zeroizing::new(vec![0; self.key_length]);
        pbkdf2_hmac(password.bytes(), &self.salt, self.iterations as usize, prf, &mut key)?;
        Ok(Secret::new(std::mem::take(&mut *key)))
    }
}

/// An encrypted key whose parameters were read and are bearable.
pub struct Sealed {
    pub stretching: Stretching,
    cipher: Cipher,
    iv: Vec<u8>,
    data: Vec<u8>,
}

/// What came of one password.
pub enum Tried {
    Opened(PKey<Private>),
    WrongPassword,
    /// It is the right one, and what it opened is no key.
    Damaged,
}

/// Encrypts a private key with what a password was stretched to in the usual way; PEM.
pub fn seal(key: &PKey<Private>, by: &Stretching, derived: &Secret) -> Result<Secret, ErrorStack> {
    let plain = Zeroizing::new(key.private_key_to_pkcs8()?);
    let mut iv = [0; BLOCK];
    rand_bytes(&mut iv)?;
    let data = encrypt(Cipher::aes_256_cbc(), derived.bytes(), Some(&iv), &plain)?;
    let prf = sequence(&[&element(OID, by.prf), NULL]);
    let kdf = sequence(&[&element(OCTET_STRING, &by.salt), &integer(by.iterations), &prf]);
    let scheme = sequence(&[&element(OID, AES_256_CBC), &element(OCTET_STRING, &iv)]);
    let parameters = sequence(&[&sequence(&[&element(OID, PBKDF2), &kdf]), &scheme]);
    let algorithm = sequence(&[&element(OID, PBES2), &parameters]);
    let der = sequence(&[&algorithm, &element(OCTET_STRING, &data)]);
    Ok(Secret::new(pem(&der)))
}

/// Reads an encrypted key in PEM, with no password yet; None: it is none. The error is the cause.
pub fn read(pem: &[u8]) -> Option<Result<Sealed, &'static str>> {
    let text = std::str::from_utf8(pem).ok()?;
    let (_, text) = text.split_once(BEGIN)?;
    let sealed = || {
        let (base64, _) = text.split_once(END).ok_or("its last line is missing")?;
        let base64: String = base64.split_ascii_whitespace().collect();
        let der = STANDARD.decode(base64).map_err(|_| "it is not base64")?;
        parse(&der)
    };
    Some(sealed())
}

impl Sealed {
    /// `derived`: what a password was stretched to, as `stretching` says.
    pub fn open(&self, derived: &Secret) -> Result<Tried, ErrorStack> {
        // Without OpenSSL's look at the padding: the beginning tells more surely whether the
        // password is right.
        let mut crypter =
            Crypter::new(self.cipher, Mode::Decrypt, derived.bytes(), Some(&self.iv))?;
        crypter.pad(false);
        let mut plain = Zeroizing::new(vec![0; self.data.len() + BLOCK]);
        let mut length = crypter.update(&self.data, &mut plain)?;
        length += crypter.finalize(&mut plain[length..])?;
        let plain = &plain[..length];
        let Some(end) = key_info(plain) else { return Ok(Tried::WrongPassword) };
        // RFC 8018, 6.1.1: each byte of the padding is its length.
        let padding = length.saturating_sub(end);
        let is_padding = |b: &u8| usize::from(*b) == padding;
        let is_whole = (1..=BLOCK).contains(&padding) && plain[end..].iter().all(is_padding);
        let key = is_whole.then(|| private_key(&plain[..end])).flatten();
        Ok(key.map_or(Tried::Damaged, Tried::Opened))
    }
}

/// Where a PrivateKeyInfo (RFC 5958, 2: of version 0 or 1) ends, if one begins here: a wrong
/// password makes no such beginning, and damage behind it makes no password wrong.
fn key_info(plain: &[u8]) -> Option<usize> {
    let (header, length) = match plain {
        [SEQUENCE, length @ 0..=0x7f, ..] => (2, usize::from(*length)),
        [SEQUENCE, 0x81, length, ..] => (3, usize::from(*length)),
        [SEQUENCE, 0x82, high, low, ..] => (4, usize::from(u16::from_be_bytes([*high, *low]))),
        _ => return None,
    };
    let starts = matches!(plain.get(header..)?, [INTEGER, 1, 0 | 1, SEQUENCE, ..]);
    // Nothing but the padding follows.
    let end = header + length;
    (starts && end < plain.len() && plain.len() <= end + BLOCK).then_some(end)
}

fn private_key(info: &[u8]) -> Option<PKey<Private>> {
    // OpenSSL stumbles over a public key that follows (RFC 5958, 2).
    let contents = only(info, SEQUENCE).ok()?;
    let mut rest = Elements(contents);
    [INTEGER, SEQUENCE, OCTET_STRING]
        .into_iter()
        .try_for_each(|tag| rest.expect(tag).map(drop))
        .ok()?;
    let contents = &contents[..contents.len() - rest.0.len()];
    let header = header(SEQUENCE, contents.len());
    let mut der = Zeroizing::new(Vec::with_capacity(header.len() + contents.len()));
    der.extend(header);
    der.extend(contents);
    PKey::private_key_from_pkcs8(&der).ok()
}

fn parse(der: &[u8]) -> Result<Sealed, &'static str> {
    const MALFORMED: &str = "it is malformed";
    let parts = || {
        let mut info = Elements(only(der, SEQUENCE).ok()?);
        let scheme = algorithm(info.expect(SEQUENCE).ok()?)?;
        let data = info.expect(OCTET_STRING).ok()?;
        info.end().ok().map(|()| (scheme, data))
    };
    let ((scheme, mut parameters), data) = parts().ok_or(MALFORMED)?;
    if scheme != PBES2 {
        return Err("its encryption is not PBES2");
    }
    let mut parts = || {
        let mut both = Elements(parameters.expect(SEQUENCE).ok()?);
        let kdf = algorithm(both.expect(SEQUENCE).ok()?)?;
        let cipher = algorithm(both.expect(SEQUENCE).ok()?)?;
        both.end().ok().map(|()| (kdf, cipher))
    };
    let ((kdf, kdf_parameters), (cipher, mut iv)) = parts().ok_or(MALFORMED)?;
    if kdf != PBKDF2 {
        return Err("its key derivation is not PBKDF2");
    }
    let cipher = CIPHERS.iter().find(|(oid, _)| *oid == cipher);
    let cipher = cipher.ok_or("its cipher is not AES in CBC mode")?.1();
    let stretching = pbkdf2(kdf_parameters, cipher.key_len())?;
    let iv = iv.expect(OCTET_STRING).map_err(|_| MALFORMED)?.to_vec();
    if iv.len() != BLOCK || data.is_empty() || data.len() % BLOCK != 0 {
        return Err(MALFORMED);
    }
    Ok(Sealed { stretching, cipher, iv, data: data.to_vec() })
}

/// PBKDF2-params (RFC 8018, A.2).
fn pbkdf2(mut parameters: Elements, key_length: usize) -> Result<Stretching, &'static str> {
    const MALFORMED: &str = "its PBKDF2 parameters are malformed";
    let malformed = |_| MALFORMED;
    let mut rest = Elements(parameters.expect(SEQUENCE).map_err(malformed)?);
    let salt = rest.expect(OCTET_STRING).map_err(malformed)?;
    let iterations = unsigned(rest.expect(INTEGER).map_err(malformed)?);
    let iterations = iterations.filter(|n| (1..=MOST_ITERATIONS).contains(n));
    let iterations = iterations.ok_or("its iteration count is not between 1 and 1000000")?;
    if let Some(length) = rest.optional(INTEGER).map_err(malformed)? {
        let fits = unsigned(length).is_some_and(|length| length as usize == key_length);
        fits.then_some(()).ok_or(MALFORMED)?;
    }
    let prf = match rest.optional(SEQUENCE).map_err(malformed)? {
        Some(prf) => algorithm(prf).ok_or(MALFORMED)?.0,
        None => HMAC_SHA1,
    };
    rest.end().map_err(malformed)?;
    let prf = PRFS.iter().find(|(oid, _)| *oid == prf);
    let prf = prf.ok_or("its PBKDF2 does not use HMAC with SHA-1 or SHA-2")?.0;
    if salt.len() > LONGEST_SALT {
        return Err("its salt is too long");
    }
    Ok(Stretching { salt: salt.to_vec(), iterations, prf, key_length })
}

/// An AlgorithmIdentifier: its OID, and the parameters that follow.
fn algorithm(contents: &[u8]) -> Option<(&[u8], Elements<'_>)> {
    let mut elements = Elements(contents);
    let oid = elements.expect(OID).ok()?;
    Some((oid, elements))
}

fn unsigned(contents: &[u8]) -> Option<u32> {
    match contents {
        [] | [0x80..=0xff, ..] => None,
        _ if contents.len() > 5 => None,
        _ => contents.iter().try_fold(0u32, |n, b| n.checked_mul(256)?.checked_add((*b).into())),
    }
}

fn sequence(parts: &[&[u8]]) -> Vec<u8> {
    element(SEQUENCE, &parts.concat())
}

fn element(tag: u8, contents: &[u8]) -> Vec<u8> {
    let mut der = header(tag, contents.len());
    der.extend(contents);
    der
}

fn header(tag: u8, size: usize) -> Vec<u8> {
    let length = (size as u32).to_be_bytes();
    let skipped = length.iter().take_while(|b| **b == 0).count().min(3);
    let mut der = vec![tag];
    if size > 0x7f {
        der.push(0x80 | (length.len() - skipped) as u8);
    }
    der.extend(&length[skipped..]);
    der
}

fn integer(n: u32) -> Vec<u8> {
    // A leading zero where it would be negative otherwise (X.690, 8.3).
    let bytes = u64::from(n).to_be_bytes();
    let skipped = bytes.windows(2).take_while(|w| w[0] == 0 && w[1] < 0x80).count();
    element(INTEGER, &bytes[skipped..])
}

fn pem(der: &[u8]) -> Vec<u8> {
    let base64 = STANDARD.encode(der);
    let mut pem = format!("{BEGIN}\n");
    for (i, c) in base64.chars().enumerate() {
        if i > 0 && i % 64 == 0 {
            pem.push('\n');
        }
        pem.push(c);
    }
    pem += &format!("\n{END}\n");
    pem.into_bytes()
}

const NULL: &[u8] = &[5, 0];
const PBES2: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 5, 13];
const PBKDF2: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 5, 12];
const HMAC_SHA1: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 2, 7];
const HMAC_SHA256: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 2, 9];
const HMAC_SHA384: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 2, 10];
const HMAC_SHA512: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 2, 11];
const AES_128_CBC: &[u8] = &[0x60, 0x86, 0x48, 1, 0x65, 3, 4, 1, 2];
const AES_192_CBC: &[u8] = &[0x60, 0x86, 0x48, 1, 0x65, 3, 4, 1, 22];
const AES_256_CBC: &[u8] = &[0x60, 0x86, 0x48, 1, 0x65, 3, 4, 1, 42];

type Make<T> = fn() -> T;

static PRFS: [(&[u8], Make<MessageDigest>); 4] = [
    (HMAC_SHA1, MessageDigest::sha1),
    (HMAC_SHA256, MessageDigest::sha256),
    (HMAC_SHA384, MessageDigest::sha384),
    (HMAC_SHA512, MessageDigest::sha512),
];

static CIPHERS: [(&[u8], Make<Cipher>); 3] = [
    (AES_128_CBC, Cipher::aes_128_cbc),
    (AES_192_CBC, Cipher::aes_192_cbc),
    (AES_256_CBC, Cipher::aes_256_cbc),
];

#[cfg(test)]
mod tests;
