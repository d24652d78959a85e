//! Files named in the configuration: parsed at once, so that `nginx -t` finds the broken ones.

use base64::prelude::{BASE64_URL_SAFE_NO_PAD as BASE64URL, Engine};
use openssl::error::ErrorStack;
use openssl::nid::Nid;
use openssl::pkey::{Id, PKey, Private};
use openssl::x509::X509;
use std::os::unix::fs::PermissionsExt;
use zeroize::Zeroizing;

use super::values::shown;
use crate::bundle::{KeyError, private_key};
use crate::evidence::ocsp::RequestSigner;
use crate::settings::{Passwords, Secret, Signer};

/// Reads a file; the error is its cause in words.
pub(super) type Read<'a> = &'a dyn Fn(&str) -> Result<Vec<u8>, String>;

/// PEM with at least one certificate.
pub(super) fn certificates(path: &str, directive: &str, read: Read) -> Result<Vec<u8>, String> {
    let checked = read(path).and_then(|pem| match X509::stack_from_pem(&pem) {
        Ok(certificates) if !certificates.is_empty() => Ok(pem),
        Ok(_) => Err("no PEM certificate found".into()),
        Err(errors) => Err(reason(&errors)),
    });
    checked.map_err(|cause| unusable(path, directive, &cause, "a file of PEM certificates"))
}

/// PEM with at least one root: OpenSSL ends no chain at an intermediate, and so a file without one
/// would trust nobody.
pub(super) fn roots(path: &str, directive: &str, read: Read) -> Result<Vec<u8>, String> {
    let pem = certificates(path, directive, read)?;
    // A server's own certificate is trusted too, if it is its own issuer; whether it may sign
    // others is not asked, then.
    let is_root = |c: &X509| {
        let same = c.issuer_name().try_cmp(c.subject_name()).is_ok_and(|order| order.is_eq());
        same && c.public_key().and_then(|key| c.verify(&key)).is_ok_and(|signed| signed)
    };
    match X509::stack_from_pem(&pem) {
        Ok(found) if found.iter().any(is_root) => Ok(pem),
        _ => Err(unusable(
            path,
            directive,
            "no root found",
            "a file of PEM certificates, at least one of them self-signed",
        )),
    }
}

/// PEM with one certificate and no other.
pub(super) fn one_certificate(path: &str, directive: &str, read: Read) -> Result<Vec<u8>, String> {
    const ACCEPTED: &str = "a file with exactly one PEM certificate";
    let checked = read(path).and_then(|pem| match X509::stack_from_pem(&pem).as_deref() {
        Ok([_]) => Ok(pem),
        Ok([]) => Err("no PEM certificate found".into()),
        Ok(several) => Err(format!("{} certificates found", several.len())),
        Err(errors) => Err(reason(errors)),
    });
    checked.map_err(|cause| unusable(path, directive, &cause, ACCEPTED))
}

/// A certificate, its chain perhaps behind it, and its key.
pub(super) fn signer(
    certificate: &str,
    key: &str,
    directive: &str,
    read: Read,
) -> Result<Signer, String> {
    const ACCEPTED: &str = "the unencrypted PEM private key of the first certificate";
    let pem = certificates(certificate, directive, read)?;
    // The certificates are good by themselves: what is wrong now is the key.
    let checked = read(key).map(Secret::new).and_then(|secret| {
        RequestSigner::from_pem(&pem, secret.bytes()).map(|_| secret).map_err(|e| e.to_string())
    });
    match checked {
        Ok(key) => Ok(Signer { certificate: pem, key }),
        Err(cause) => Err(unusable(key, directive, &cause, ACCEPTED)),
    }
}

/// PEM of a private key for TLS.
pub(super) fn client_key(path: &str, directive: &str, read: Read) -> Result<Secret, String> {
    let checked = read(path).map(Secret::new).and_then(|pem| match private_key(pem.bytes()) {
        Ok(_) => Ok(pem),
        Err(KeyError::OpenSsl(_)) => Err("no PEM private key found".into()),
        Err(encrypted) => Err(encrypted.to_string()),
    });
    let accepted = "the unencrypted PEM private key of \"client_certificate\"";
    checked.map_err(|cause| unusable(path, directive, &cause, accepted))
}

/// Whether `key` is the one of the first certificate. Both were read before.
pub(super) fn is_key_of(key: &Secret, certificate: &[u8]) -> bool {
    RequestSigner::from_pem(certificate, key.bytes()).is_ok()
}

/// PEM of a private key that an ACME account can have (RFC 8555 section 6.2, RFC 7518).
pub(super) fn account_key(path: &str, directive: &str, read: Read) -> Result<Secret, String> {
    let checked = read(path).map(Secret::new).and_then(|pem| {
        let key = private_key(pem.bytes()).map_err(|error| match error {
            KeyError::OpenSsl(errors) => reason(&errors),
            encrypted => encrypted.to_string(),
        })?;
        is_account_key(&key).then_some(pem).ok_or("wrong type or size of key".into())
    });
    let accepted = "a file with an unencrypted PEM private key, ECDSA P-256 or P-384, or RSA of 2048 bits or more";
    checked.map_err(|cause| unusable(path, directive, &cause, accepted))
}

/// Passwords, one a line.
pub(super) fn passwords(path: &str, directive: &str, read: Read) -> Result<Passwords, String> {
    let checked = read(path).map(Secret::new).and_then(|file| Passwords::of_lines(&file));
    let accepted = "a file with 1 to 16 passwords, one a line, of 1024 bytes at most";
    let value = format!("password_file={path}");
    checked.map_err(|cause| unusable(&value, directive, &cause, accepted))
}

/// Hexadecimal digits, as in cfssl's own configuration.
pub(super) fn auth_key(path: &str, directive: &str, read: Read) -> Result<Secret, String> {
    let bytes = |text: &[u8]| {
        let digits = text.trim_ascii();
        let pair = |pair: &[u8]| {
            let text = std::str::from_utf8(pair).ok().filter(|t| !t.starts_with('+'))?;
            u8::from_str_radix(text, 16).ok()
        };
        let even = digits.len() % 2 == 0 && (32..=1024).contains(&digits.len());
        even.then(|| digits.chunks(2).map(pair).collect::<Option<Vec<u8>>>()).flatten()
    };
    let checked = read(path).map(Secret::new).and_then(|text| {
        bytes(text.bytes()).map(Secret::new).ok_or_else(|| "no such key found".into())
    });
    let accepted = "a file with the profile's key, 32 or more hexadecimal digits and nothing else";
    checked.map_err(|cause| unusable(path, directive, &cause, accepted))
}

/// The HMAC key of an external account binding. CAs hand it out in base64url; what mail and
/// copying make of that is accepted too.
pub(super) fn mac_key(path: &str, directive: &str, read: Read) -> Result<Secret, String> {
    let checked = read(path).map(Secret::new).and_then(|text| {
        let key = base64_bytes(text.bytes()).ok_or("not base64url")?;
        // RFC 7518 section 3.2 wants 32; what a CA has given out can't be made longer here.
        match key.bytes().len() {
            16..=1024 => Ok(key),
            length => Err(format!("a key of {length} bytes")),
        }
    });
    let accepted = "a file with the HMAC key, 16 to 1024 bytes in base64url, and nothing else";
    checked.map_err(|cause| unusable(path, directive, &cause, accepted))
}

/// Base64url or base64, padded or not, with white space anywhere.
fn base64_bytes(text: &[u8]) -> Option<Secret> {
    let plain = |b: &u8| match b {
        b'+' => b'-',
        b'/' => b'_',
        b => *b,
    };
    // Of the right size at once: a buffer that grows leaves copies behind.
    let mut digits = Zeroizing::new(Vec::with_capacity(text.len()));
    digits.extend(text.iter().filter(|b| !b.is_ascii_whitespace()).map(plain));
    while digits.last() == Some(&b'=') {
        digits.pop();
    }
    let mut bytes = Zeroizing::new(vec![0; digits.len()]);
    let length = BASE64URL.decode_slice(&*digits, &mut bytes).ok()?;
    Some(Secret::new(bytes[..length].to_vec()))
}

/// A file that somebody may execute. The workers, who will, may be another user than nginx -t is.
pub(super) fn program(path: &str, directive: &str) -> Result<(), String> {
    let checked = std::fs::metadata(path).map_err(|e| e.to_string()).and_then(|file| {
        let may_run = file.is_file() && file.permissions().mode() & 0o111 != 0;
        may_run.then_some(()).ok_or_else(|| "it can't be executed".into())
    });
    checked.map_err(|cause| unusable(path, directive, &cause, "an executable file"))
}

/// One line of text (RFC 7617); the end of the line does not belong to it.
pub(super) fn password(path: &str, directive: &str, read: Read) -> Result<Secret, String> {
    let checked = read(path).map(Secret::new).and_then(|text| {
        let line = text.bytes();
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let control = |b: &u8| b.is_ascii_control();
        match line {
            [] => Err("it is empty".into()),
            line if line.len() > LONGEST_PASSWORD => Err("it is too long".into()),
            line if line.iter().any(control) => Err("it is not one line of text".into()),
            line => Ok(Secret::new(line.to_vec())),
        }
    });
    checked.map_err(|cause| unusable(path, directive, &cause, "a file with a password in one line"))
}

/// Bytes.
const LONGEST_PASSWORD: usize = 1024;

fn is_account_key(key: &PKey<Private>) -> bool {
    match key.id() {
        Id::RSA => key.bits() >= 2048,
        Id::EC => key.ec_key().is_ok_and(|key| {
            matches!(key.group().curve_name(), Some(Nid::X9_62_PRIME256V1 | Nid::SECP384R1))
        }),
        _ => false,
    }
}

fn unusable(path: &str, directive: &str, cause: &str, accepted: &str) -> String {
    let (path, cause) = (shown(path), shown(cause));
    format!("cannot use \"{path}\" in \"{directive}\": {cause}, it must be {accepted}")
}

/// The first error is the cause, the others say who else gave up.
fn reason(errors: &ErrorStack) -> String {
    let reason = errors.errors().first().and_then(|e| e.reason());
    reason.unwrap_or("unknown error").to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use openssl::asn1::Asn1Time;
    use openssl::ec::{EcGroup, EcKey};
    use openssl::hash::MessageDigest;
    use openssl::rsa::Rsa;
    use openssl::symm::Cipher;

    use super::*;
    use crate::fixture::root;

    fn ec(curve: Nid) -> PKey<Private> {
        let group = EcGroup::from_curve_name(curve).unwrap();
        PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap()
    }

    fn certificate() -> Vec<u8> {
        let key = ec(Nid::X9_62_PRIME256V1);
        let mut builder = X509::builder().unwrap();
        builder.set_pubkey(&key).unwrap();
        builder.set_not_before(&Asn1Time::days_from_now(0).unwrap()).unwrap();
        builder.set_not_after(&Asn1Time::days_from_now(1).unwrap()).unwrap();
        builder.sign(&key, MessageDigest::sha256()).unwrap();
        builder.build().to_pem().unwrap()
    }

    /// The refusal up to what is accepted; None: accepted as it is.
    fn cause(result: Result<Vec<u8>, String>, pem: &[u8]) -> Option<String> {
        match result {
            Ok(kept) => {
                assert_eq!(kept, pem);
                None
            }
            Err(error) => Some(error.split(", it must be").next().unwrap().to_owned()),
        }
    }

    #[test]
    fn certificate_files() {
        let one = certificate();
        let two = [one.clone(), one.clone()].concat();
        let commented = [b"# our root\n".to_vec(), one.clone()].concat();
        let broken = String::from_utf8(one.clone()).unwrap().replacen("-----\n", "-----\n!", 1);
        let second_broken = [one.clone(), broken.clone().into_bytes()].concat();
        let key = ec(Nid::X9_62_PRIME256V1).private_key_to_pem_pkcs8().unwrap();
        for pem in [&one, &two, &commented] {
            assert_eq!(cause(certificates("f", "d", &|_| Ok(pem.clone())), pem), None);
        }
        for pem in [Vec::new(), b"hello".to_vec(), key] {
            assert_eq!(
                certificates("f.pem", "trusted_certificate", &|_| Ok(pem.clone())).unwrap_err(),
                "cannot use \"f.pem\" in \"trusted_certificate\": no PEM certificate found, it \
                 must be a file of PEM certificates"
            );
        }
        for pem in [broken.into_bytes(), second_broken] {
            let error = certificates("f.pem", "d", &|_| Ok(pem.clone())).unwrap_err();
            assert!(error.starts_with("cannot use \"f.pem\" in \"d\": "), "{error}");
        }
        let gone = certificates("f.pem", "d", &|path| Err(format!("{path} is\ngone")));
        assert_eq!(cause(gone, b"").unwrap(), "cannot use \"f.pem\" in \"d\": f.pem is\\ngone");
    }

    #[test]
    fn certificates_that_stand_alone() {
        let one = certificate();
        let two = [one.clone(), one.clone()].concat();
        let kept = one_certificate("f", "d", &|_| Ok(one.clone()));
        assert_eq!(cause(kept, &one), None);
        for (pem, expected) in [
            (two, "2 certificates found"),
            (b"hello".to_vec(), "no PEM certificate found"),
            (b"-----BEGIN CERTIFICATE-----\n!\n".to_vec(), "bad end line"),
        ] {
            let error = one_certificate("f", "d", &|_| Ok(pem.clone())).unwrap_err();
            let refusal = "it must be a file with exactly one PEM certificate";
            assert_eq!(error, format!("cannot use \"f\" in \"d\": {expected}, {refusal}"));
        }
    }

    #[test]
    fn signers() {
        let (own, other) = (root("signer"), root("other"));
        let key = own.key.clone();
        let pkcs8 = key.private_key_to_pem_pkcs8().unwrap();
        let cipher = Cipher::aes_256_cbc();
        let encrypted = key.private_key_to_pem_pkcs8_passphrase(cipher, b"hush").unwrap();
        let legacy = key.ec_key().unwrap();
        let legacy = legacy.private_key_to_pem_passphrase(cipher, b"hush").unwrap();
        let sec1 = key.ec_key().unwrap().private_key_to_pem().unwrap();
        let chain = [own.pem(), other.pem()].concat();
        let reversed = [other.pem(), own.pem()].concat();
        const NOT_ITS: &str = "it is not the key of the certificate";
        const ENCRYPTED: &str = "it is encrypted";
        let table: &[(&[u8], &[u8], Option<&str>)] = &[
            (&own.pem(), &pkcs8, None),
            (&own.pem(), &sec1, None),
            (&chain, &pkcs8, None),
            (&reversed, &pkcs8, Some(NOT_ITS)),
            (&own.pem(), &other.key.private_key_to_pem_pkcs8().unwrap(), Some(NOT_ITS)),
            (&own.pem(), &encrypted, Some(ENCRYPTED)),
            (&own.pem(), &legacy, Some(ENCRYPTED)),
            (&own.pem(), b"hello", Some("no PEM private key found")),
            (&own.pem(), &own.pem(), Some("no PEM private key found")),
            (&own.pem(), &key.public_key_to_pem().unwrap(), Some("no PEM private key found")),
        ];
        for (certificate, key, refused) in table {
            let read = |path: &str| Ok(if path == "c" { *certificate } else { *key }.to_vec());
            let expected = refused.map(|cause| {
                format!(
                    "cannot use \"k\" in \"d\": {cause}, it must be the unencrypted PEM private \
                     key of the first certificate"
                )
            });
            assert_eq!(signer("c", "k", "d", &read).err(), expected);
        }
        let gone = |path: &str| if path == "c" { Ok(own.pem()) } else { Err("gone".into()) };
        assert!(signer("c", "k", "d", &gone).unwrap_err().starts_with("cannot use \"k\""));
        assert!(signer("k", "c", "d", &gone).unwrap_err().starts_with("cannot use \"k\""));
    }

    #[test]
    fn mac_keys() {
        let bytes: Vec<u8> = (0..16).map(|i| 0xff - i).collect();
        for text in
            ["__79_Pv6-fj39vX08_Lx8A", "//79/Pv6+fj39vX08/Lx8A==", " __79_Pv6-fj3\r\n9vX08_Lx8A=\n"]
        {
            let key = mac_key("k", "external_account_key", &|_| Ok(text.into())).unwrap();
            assert_eq!(key.bytes(), bytes, "{text}");
        }
        let long = "A".repeat(1368);
        for (text, cause) in [
            ("", "a key of 0 bytes"),
            ("__79_Pv6-fj39vX08_Lx", "a key of 15 bytes"),
            (&long, "a key of 1026 bytes"),
            ("kid: x", "not base64url"),
            ("{\"key\":\"__79\"}", "not base64url"),
            ("A", "not base64url"),
        ] {
            let error = mac_key("k", "external_account_key", &|_| Ok(text.into())).unwrap_err();
            let expected = format!("cannot use \"k\" in \"external_account_key\": {cause}, ");
            assert!(error.starts_with(&expected), "{error}");
        }
    }

    #[test]
    fn programs() {
        assert_eq!(program("/bin/sh", "command"), Ok(()));
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path().to_str().unwrap();
        for (path, cause) in [
            ("/none/x", "No such file or directory (os error 2)"),
            ("/bin", "it can't be executed"),
            (path, "it can't be executed"),
        ] {
            let line = format!(
                "cannot use \"{path}\" in \"command\": {cause}, it must be an executable file"
            );
            assert_eq!(program(path, "command"), Err(line));
        }
    }

    #[test]
    fn passwords() {
        let long = "x".repeat(1024);
        for (text, expected) in [
            ("hush", Ok("hush")),
            ("hush\n", Ok("hush")),
            ("hush\r\n", Ok("hush")),
            (" h\u{e4} : h ", Ok(" h\u{e4} : h ")),
            (&long, Ok(long.as_str())),
            ("", Err("it is empty")),
            ("\n", Err("it is empty")),
            ("hush\n\n", Err("it is not one line of text")),
            ("a\nb\n", Err("it is not one line of text")),
            (&format!("{long}x"), Err("it is too long")),
        ] {
            let found = password("p", "d", &|_| Ok(text.into()));
            let expected = expected.map(|p| Secret::new(p.into())).map_err(|cause| {
                format!("cannot use \"p\" in \"d\": {cause}, it must be a file with a password in one line")
            });
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn account_keys() {
        let rsa = |bits| PKey::from_rsa(Rsa::generate(bits).unwrap()).unwrap();
        let good = [ec(Nid::X9_62_PRIME256V1), ec(Nid::SECP384R1), rsa(2048)];
        let bad = [ec(Nid::SECP521R1), rsa(1024), PKey::generate_ed25519().unwrap()];
        let check = |pem: Vec<u8>| {
            let kept = account_key("k.pem", "account_key", &|_| Ok(pem.clone()));
            cause(kept.map(|s| s.bytes().to_vec()), &pem)
        };
        for key in good {
            assert_eq!(check(key.private_key_to_pem_pkcs8().unwrap()), None);
        }
        let sec1 = ec(Nid::SECP384R1).ec_key().unwrap().private_key_to_pem().unwrap();
        assert_eq!(check(sec1), None);
        for key in bad {
            assert_eq!(
                check(key.private_key_to_pem_pkcs8().unwrap()).unwrap(),
                "cannot use \"k.pem\" in \"account_key\": wrong type or size of key"
            );
        }
        let key = ec(Nid::X9_62_PRIME256V1);
        let encrypted =
            key.private_key_to_pem_pkcs8_passphrase(Cipher::aes_256_cbc(), b"hush").unwrap();
        for pem in [encrypted, key.public_key_to_pem().unwrap(), certificate(), b"x".to_vec()] {
            assert!(check(pem).is_some());
        }
    }
}
