//! Certificates in PKCS#7 "certs-only" messages (RFC 5272, 4.1), which sign nothing, and the
//! base64 that all of EST is wrapped in.

use base64::alphabet::STANDARD;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use base64::engine::{DecodePaddingMode, Engine};
use openssl::pkcs7::Pkcs7;
use openssl::x509::X509;
use zeroize::Zeroizing;

/// All certificates of a message, in its order; at least one. The error is its cause in words.
pub fn certificates(body: &[u8]) -> Result<Vec<X509>, String> {
    let message = Pkcs7::from_der(&decode(body)?).map_err(|_| "the answer is not PKCS#7")?;
    let found = message.signed().and_then(|signed| signed.certificates());
    match found.map_or(0, |found| found.len()) {
        0 => Err("the answer holds no certificate".into()),
        n if n > MOST => Err(format!("the answer holds {n} certificates, at most {MOST} are read")),
        _ => Ok(found.into_iter().flatten().map(ToOwned::to_owned).collect()),
    }
}

/// The DER of a body, or of a part of one: in base64, in lines or not, or as it is. The header
/// Content-Transfer-Encoding says nothing (RFC 8951, 3.1).
pub fn decode(body: &[u8]) -> Result<Zeroizing<Vec<u8>>, String> {
    // The base64 of a SEQUENCE begins with an M.
    if body.first() == Some(&SEQUENCE) {
        return Ok(Zeroizing::new(body.to_vec()));
    }
    let digits = body.iter().copied().filter(|b| !b.is_ascii_whitespace());
    let digits = Zeroizing::new(digits.collect::<Vec<_>>());
    match BASE64.decode(&*digits) {
        Ok(der) if !der.is_empty() => Ok(Zeroizing::new(der)),
        Ok(_) => Err("the answer is empty".into()),
        Err(_) => Err("the answer is not base64".into()),
    }
}

const SEQUENCE: u8 = 0x30;
const MOST: usize = 64;
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ca::est::tests::certs_only;
    use crate::fixture::{Identity, root};

    fn text(result: Result<Vec<X509>, String>) -> Result<Vec<X509>, String> {
        assert!(openssl::error::ErrorStack::get().errors().is_empty());
        result
    }

    #[test]
    fn messages_are_read_however_they_are_wrapped() {
        let (a, b) = (root("A"), root("B"));
        let both = [a.cert.clone(), b.cert.clone()];
        let der = certs_only(&both.each_ref());
        let plain = openssl::base64::encode_block(&der);
        let lines = |end: &str| {
            let lines = plain.as_bytes().chunks(64).map(String::from_utf8_lossy);
            lines.flat_map(|l| [l.into_owned(), end.to_owned()]).collect::<String>()
        };
        for body in [
            der.clone(),
            plain.clone().into_bytes(),
            plain.trim_end_matches('=').into(),
            lines("\n").into_bytes(),
            lines("\r\n").into_bytes(),
            format!("\r\n{}\r\n\r\n", lines(" \n")).into_bytes(),
        ] {
            assert_eq!(text(certificates(&body)).unwrap(), both);
        }
    }

    #[test]
    fn nonsense_is_refused() {
        let Identity { cert, .. } = root("A");
        let many = vec![&cert; 65];
        let der = certs_only(&[&cert]);
        for (body, cause) in [
            (&b""[..], "the answer is empty"),
            (b" \r\n", "the answer is empty"),
            (b"<html>", "the answer is not base64"),
            (b"TUlJ", "the answer is not PKCS#7"),
            (&cert.to_der().unwrap(), "the answer is not PKCS#7"),
            (&der[..der.len() - 9], "the answer is not PKCS#7"),
            (&certs_only(&[]), "the answer holds no certificate"),
            (&certs_only(&many), "the answer holds 65 certificates, at most 64 are read"),
        ] {
            assert_eq!(text(certificates(body)).unwrap_err(), cause);
        }
    }
}
