//! The answer of /serverkeygen: a private key and a certificate in one multipart/mixed (RFC 7030,
//! 4.4.2; RFC 2046, 5.1).

use openssl::pkey::{PKey, Private};
use openssl::x509::X509;

use super::pkcs7::{certificates, decode};

/// The two parts, in either order. `content_type` is that of the whole. The error is its cause in
/// words, and says nothing of the key.
pub fn key_and_certificates(
    content_type: &str,
    body: &[u8],
) -> Result<(PKey<Private>, Vec<X509>), String> {
    let parts = parts(content_type, body)?;
    if parts.iter().any(|p| is_encrypted(p.content_type)) {
        return Err("the private key is encrypted, which was not asked for".into());
    }
    let find = |kind: &str, missing: &str| {
        let found = parts.iter().find(|p| is(p.content_type, kind));
        found.ok_or_else(|| format!("the answer holds no {missing}"))
    };
    let key = decode(find("application/pkcs8", "private key")?.body)?;
    let key = PKey::private_key_from_pkcs8(&key)
        .map_err(|_| "the private key is not PKCS#8, or it is encrypted")?;
    let delivered = certificates(find("application/pkcs7-mime", "certificate")?.body)?;
    Ok((key, delivered))
}

struct Part<'a> {
    content_type: &'a str,
    body: &'a [u8],
}

fn parts<'a>(content_type: &str, body: &'a [u8]) -> Result<Vec<Part<'a>>, String> {
    let boundary = boundary(content_type).ok_or("the answer is not multipart/mixed")?;
    let (mut parts, mut begin, mut at) = (Vec::new(), None, 0);
    for line in body.split_inclusive(|b| *b == b'\n') {
        let end = at + line.len();
        if let Some(delimiter) = delimiter(line, &boundary) {
            parts.extend(begin.map(|begin| part(&body[begin..at])));
            begin = Some(end);
            if delimiter == Delimiter::Last {
                return Ok(parts);
            }
            if parts.len() == MOST {
                return Err("the answer has too many parts".into());
            }
        }
        at = end;
    }
    Err("the answer has no end".into())
}

/// Without quotes.
fn boundary(content_type: &str) -> Option<String> {
    if !is(content_type, "multipart/mixed") {
        return None;
    }
    let value = parameter(content_type, "boundary")?;
    let good = (1..=70).contains(&value.len()) && value.bytes().all(|b| (0x20..0x7f).contains(&b));
    good.then_some(value)
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum Delimiter {
    Next,
    Last,
}

fn delimiter(line: &[u8], boundary: &str) -> Option<Delimiter> {
    let rest = line.strip_prefix(b"--")?.strip_prefix(boundary.as_bytes())?;
    match rest.trim_ascii() {
        b"" => Some(Delimiter::Next),
        b"--" => Some(Delimiter::Last),
        _ => None,
    }
}

/// The line end before a delimiter belongs to the delimiter, but one more or less is the same to
/// base64 and DER.
fn part(bytes: &[u8]) -> Part<'_> {
    let mut content_type = "";
    let mut at = 0;
    for line in bytes.split_inclusive(|b| *b == b'\n') {
        at += line.len();
        let line = std::str::from_utf8(line).unwrap_or_default().trim();
        match line.split_once(':') {
            Some((name, value)) if name.trim().eq_ignore_ascii_case("content-type") => {
                content_type = value.trim();
            }
            Some(_) => {}
            None => break,
        }
    }
    Part { content_type, body: &bytes[at..] }
}

/// RFC 7030, 4.4.2.
fn is_encrypted(content_type: &str) -> bool {
    is(content_type, "application/pkcs7-mime")
        && parameter(content_type, "smime-type")
            .is_some_and(|kind| kind.eq_ignore_ascii_case("server-generated-key"))
}

fn is(content_type: &str, kind: &str) -> bool {
    content_type.split(';').next().is_some_and(|c| c.trim().eq_ignore_ascii_case(kind))
}

fn parameter(content_type: &str, name: &str) -> Option<String> {
    let found = content_type.split(';').skip(1).find_map(|parameter| {
        let (found, value) = parameter.split_once('=')?;
        found.trim().eq_ignore_ascii_case(name).then_some(value.trim())
    })?;
    Some(found.strip_prefix('"').and_then(|v| v.strip_suffix('"')).unwrap_or(found).to_owned())
}

/// There are two.
const MOST: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ca::est::tests::{certs_only, multipart};
    use crate::fixture::{Identity, Spec, root};
    use openssl::symm::Cipher;

    const MIXED: &str = "multipart/mixed; boundary=estServerExampleBoundary";

    fn read(content_type: &str, body: &[u8]) -> Result<(PKey<Private>, Vec<X509>), String> {
        let result = key_and_certificates(content_type, body);
        assert!(openssl::error::ErrorStack::get().errors().is_empty());
        result
    }

    fn leaf() -> Identity {
        root("Root").issue(Spec::default())
    }

    #[test]
    fn key_and_certificate() {
        let leaf = leaf();
        let key = leaf.key.private_key_to_pkcs8().unwrap();
        let message = certs_only(&[&leaf.cert]);
        let body = multipart(&key, &message);
        let text = String::from_utf8(body.clone()).unwrap();
        let raw = [
            b"--b\r\nContent-Type: application/pkcs7-mime\r\n\r\n",
            &message[..],
            b"\r\n--b\r\nContent-Type: application/pkcs8\r\n\r\n",
            &key[..],
            b"\r\n--b--",
        ]
        .concat();
        for (content_type, body) in [
            (MIXED, body.clone()),
            ("Multipart/Mixed;charset=x; Boundary=\"estServerExampleBoundary\"", body),
            (MIXED, text.replace("\r\n", "\n").into_bytes()),
            (MIXED, format!("preamble\r\n\r\n{text}\r\nepilogue").into_bytes()),
            (MIXED, text.replace("Content-Type", "content-type").into_bytes()),
            // The other order, and DER as it is.
            ("multipart/mixed; boundary=b", raw),
        ] {
            let (key, certificates) = read(content_type, &body).unwrap();
            assert!(key.public_eq(&leaf.key), "{content_type}");
            assert_eq!(certificates, std::slice::from_ref(&leaf.cert));
        }
    }

    #[test]
    fn nonsense_is_refused() {
        let leaf = leaf();
        let key = leaf.key.private_key_to_pkcs8().unwrap();
        let message = certs_only(&[&leaf.cert]);
        let good = String::from_utf8(multipart(&key, &message)).unwrap();
        let without = |part: &str, with: &str| good.replacen(part, with, 1);
        let cipher = Cipher::aes_256_cbc();
        let locked = leaf.key.private_key_to_pkcs8_passphrase(cipher, b"hush").unwrap();
        let locked = String::from_utf8(multipart(&locked, &message)).unwrap();
        const PKCS8: &str = "application/pkcs8";
        const ENCRYPTED: &str = "application/pkcs7-mime; smime-type=server-generated-key";
        for (content_type, body, cause) in [
            ("application/pkcs7-mime", good.clone(), "the answer is not multipart/mixed"),
            ("multipart/mixed", good.clone(), "the answer is not multipart/mixed"),
            ("multipart/mixed; boundary=", good.clone(), "the answer is not multipart/mixed"),
            ("multipart/mixed; boundary=x", good.clone(), "the answer has no end"),
            (MIXED, String::new(), "the answer has no end"),
            (MIXED, without("Boundary--", "Boundary"), "the answer has no end"),
            (MIXED, "--estServerExampleBoundary\n".repeat(9), "the answer has too many parts"),
            (MIXED, without(PKCS8, "text/plain"), "the answer holds no private key"),
            (MIXED, without("application/pkcs7-mime", "a/b"), "the answer holds no certificate"),
            (
                MIXED,
                without(PKCS8, ENCRYPTED),
                "the private key is encrypted, which was not asked for",
            ),
            (MIXED, locked, "the private key is not PKCS#8, or it is encrypted"),
        ] {
            assert_eq!(read(content_type, body.as_bytes()).err().unwrap(), cause);
        }
    }
}
