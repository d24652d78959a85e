//! Private keys and certificate requests (PKCS#10, RFC 2986).

use openssl::ec::{EcGroup, EcKey};
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{Id, PKey, PKeyRef, Private};
use openssl::rsa::Rsa;
use openssl::stack::Stack;
use openssl::x509::extension::SubjectAlternativeName;
use openssl::x509::{X509Extension, X509Name, X509NameBuilder, X509ReqBuilder};

use crate::settings::KeyType;

/// A new private key. RSA takes up to seconds: not for the event loop.
pub fn new_key(kind: KeyType) -> Result<PKey<Private>, ErrorStack> {
    match kind {
        KeyType::Ecdsa256 => on_curve(Nid::X9_62_PRIME256V1),
        KeyType::Ecdsa384 => on_curve(Nid::SECP384R1),
        KeyType::Rsa2048 => PKey::from_rsa(Rsa::generate(2048)?),
        KeyType::Rsa3072 => PKey::from_rsa(Rsa::generate(3072)?),
        KeyType::Rsa4096 => PKey::from_rsa(Rsa::generate(4096)?),
    }
}

/// Whether [`new_key`] would make such a key.
pub fn is_of_kind(key: &PKeyRef<Private>, kind: KeyType) -> bool {
    let of_kind = match kind {
        KeyType::Ecdsa256 => (Id::EC, 256),
        KeyType::Ecdsa384 => (Id::EC, 384),
        KeyType::Rsa2048 => (Id::RSA, 2048),
        KeyType::Rsa3072 => (Id::RSA, 3072),
        KeyType::Rsa4096 => (Id::RSA, 4096),
    };
    (key.id(), key.bits()) == of_kind
}

/// A request, in DER, for a certificate with `names` as its dNSNames.
pub fn csr(key: &PKeyRef<Private>, names: &[String]) -> Result<Vec<u8>, ErrorStack> {
    let mut request = X509ReqBuilder::new()?;
    request.set_version(0)?;
    request.set_subject_name(&*subject(names)?)?;
    request.set_pubkey(key)?;
    request.add_extensions(&*extensions(&request, names)?)?;
    request.sign(key, digest(key))?;
    request.build().to_der()
}

fn on_curve(curve: Nid) -> Result<PKey<Private>, ErrorStack> {
    PKey::from_ec_key(EcKey::generate(&*EcGroup::from_curve_name(curve)?)?)
}

/// RFC 5280 allows 64 characters in a commonName. It is for people and old software only: a
/// longer name stands in the SANs alone.
const LONGEST_COMMON_NAME: usize = 64;

fn subject(names: &[String]) -> Result<X509Name, ErrorStack> {
    let mut subject = X509NameBuilder::new()?;
    if let Some(name) = names.first().filter(|n| n.len() <= LONGEST_COMMON_NAME) {
        subject.append_entry_by_nid(Nid::COMMONNAME, name)?;
    }
    Ok(subject.build())
}

fn extensions(
    request: &X509ReqBuilder,
    names: &[String],
) -> Result<Stack<X509Extension>, ErrorStack> {
    let mut san = SubjectAlternativeName::new();
    for name in names {
        san.dns(name);
    }
    let mut extensions = Stack::new()?;
    extensions.push(san.build(&request.x509v3_context(None))?)?;
    Ok(extensions)
}

/// As strong as the key: CAs refuse P-384 with SHA-256.
fn digest(key: &PKeyRef<Private>) -> MessageDigest {
    match key.id() {
        Id::EC if key.bits() > 256 => MessageDigest::sha384(),
        _ => MessageDigest::sha256(),
    }
}

#[cfg(test)]
mod tests {
    use openssl::x509::X509Req;
    use x509_parser::certification_request::X509CertificationRequest;
    use x509_parser::extensions::{GeneralName, ParsedExtension};
    use x509_parser::prelude::FromDer;

    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|n| n.to_string()).collect()
    }

    #[test]
    fn keys_of_each_type_sign_their_request() {
        // RSA 4096 is left to the eye: a debug build takes seconds for it.
        for (kind, bits, signature) in [
            (KeyType::Ecdsa256, 256, Nid::ECDSA_WITH_SHA256),
            (KeyType::Ecdsa384, 384, Nid::ECDSA_WITH_SHA384),
            (KeyType::Rsa2048, 2048, Nid::SHA256WITHRSAENCRYPTION),
            (KeyType::Rsa3072, 3072, Nid::SHA256WITHRSAENCRYPTION),
        ] {
            let key = new_key(kind).unwrap();
            assert_eq!(key.bits(), bits);
            let der = csr(&key, &names(&["a.example"])).unwrap();
            let request = X509Req::from_der(&der).unwrap();
            assert!(request.verify(&key).unwrap());
            assert!(request.public_key().unwrap().public_eq(&key));
            let dump = String::from_utf8(request.to_text().unwrap()).unwrap();
            assert!(dump.contains(signature.long_name().unwrap()), "{dump}");
        }
    }

    #[test]
    fn the_curve_is_named() {
        for (kind, curve) in
            [(KeyType::Ecdsa256, Nid::X9_62_PRIME256V1), (KeyType::Ecdsa384, Nid::SECP384R1)]
        {
            let pem = new_key(kind).unwrap().private_key_to_pem_pkcs8().unwrap();
            let key = PKey::private_key_from_pem(&pem).unwrap().ec_key().unwrap();
            assert_eq!(key.group().curve_name(), Some(curve));
        }
    }

    #[test]
    fn names_and_subject() {
        let long = format!("{}.{}.example", "a".repeat(40), "b".repeat(40));
        for (asked, subject) in [
            (names(&["a.example"]), "CN=a.example"),
            (names(&["a.example", "b.example", "*.c.example"]), "CN=a.example"),
            (names(&[&long, "a.example"]), ""),
            // Commas and colons are data, not syntax.
            (names(&["a.example,DNS:b.example"]), "CN=a.example,DNS:b.example"),
        ] {
            let der = csr(&new_key(KeyType::Ecdsa256).unwrap(), &asked).unwrap();
            let (rest, request) = X509CertificationRequest::from_der(&der).unwrap();
            assert!(rest.is_empty());
            assert_eq!(request.certification_request_info.subject.to_string(), subject);
            let mut found = Vec::new();
            for extension in request.requested_extensions().unwrap() {
                let ParsedExtension::SubjectAlternativeName(san) = extension else { continue };
                for name in &san.general_names {
                    let GeneralName::DNSName(name) = name else { panic!("{name:?}") };
                    found.push(name.to_string());
                }
            }
            assert_eq!(found, asked);
        }
    }
}
