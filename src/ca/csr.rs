//! Private keys and certificate requests (PKCS#10, RFC 2986).

use openssl::asn1::{Asn1Object, Asn1OctetString};
use openssl::ec::{EcGroup, EcKey};
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{Id, PKey, PKeyRef, Private};
use openssl::rsa::Rsa;
use openssl::stack::Stack;
use openssl::x509::extension::SubjectAlternativeName;
use openssl::x509::{X509Extension, X509Name, X509NameBuilder, X509Req, X509ReqBuilder};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::FromDer;

use crate::names;
use crate::settings::{Dn, KeyType};

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

/// Whether a request in DER is for such a key as [`new_key`] would make.
pub fn asks_for_kind(der: &[u8], kind: KeyType) -> bool {
    let key = X509Req::from_der(der).and_then(|request| request.public_key());
    let of_kind = match kind {
        KeyType::Ecdsa256 => (Id::EC, 256),
        KeyType::Ecdsa384 => (Id::EC, 384),
        KeyType::Rsa2048 => (Id::RSA, 2048),
        KeyType::Rsa3072 => (Id::RSA, 3072),
        KeyType::Rsa4096 => (Id::RSA, 4096),
    };
    key.is_ok_and(|key| (key.id(), key.bits()) == of_kind)
}

/// A request, in DER, for a certificate with `names` ([`names`]) as its dNSNames and iPAddresses;
/// with `must_staple` for the TLS feature too, by which clients insist on a staple (RFC 7633); with
/// `wanted` in its subject. CAs may leave both out.
pub fn csr(
    key: &PKeyRef<Private>,
    names: &[String],
    must_staple: bool,
    wanted: Option<&Dn>,
) -> Result<Vec<u8>, ErrorStack> {
    let mut request = X509ReqBuilder::new()?;
    request.set_version(0)?;
    request.set_subject_name(&*subject(names, wanted)?)?;
    request.set_pubkey(key)?;
    request.add_extensions(&*extensions(&request, names, must_staple)?)?;
    request.sign(key, digest(key))?;
    request.build().to_der()
}

/// PEM of a request in DER, as most CAs want it.
pub fn to_pem(der: &[u8]) -> Result<String, ErrorStack> {
    let pem = X509Req::from_der(der)?.to_pem()?;
    Ok(String::from_utf8_lossy(&pem).into_owned())
}

/// Whether a request asks for the TLS feature status_request, as [`csr`] does with `must_staple`.
pub fn wants_staple(der: &[u8]) -> bool {
    let request = X509CertificationRequest::from_der(der).ok();
    let asked = request.as_ref().and_then(|(_, request)| request.requested_extensions());
    asked.into_iter().flatten().any(|extension| match extension {
        ParsedExtension::UnsupportedExtension { oid } => oid.to_id_string() == TLS_FEATURE,
        _ => false,
    })
}

/// RFC 7633.
const TLS_FEATURE: &str = "1.3.6.1.5.5.7.1.24";

fn on_curve(curve: Nid) -> Result<PKey<Private>, ErrorStack> {
    PKey::from_ec_key(EcKey::generate(&*EcGroup::from_curve_name(curve)?)?)
}

/// The commonName that goes with these names: the first host name, rather no wildcard. An address
/// is none: CAs make a dNSName of a commonName. It is for people and old software only: a longer
/// one than the 64 characters that RFC 5280 allows stands in the SANs alone.
pub fn common_name(names: &[String]) -> Option<&str> {
    let hosts = || names.iter().filter(|name| names::ip(name).is_none());
    let exact = hosts().find(|name| names::wildcard(name).is_none());
    let name = exact.or_else(|| hosts().next())?;
    (name.len() <= LONGEST_COMMON_NAME).then_some(name)
}

const LONGEST_COMMON_NAME: usize = 64;

/// The common name, where it is not among what is `wanted`, comes last, as it does by custom.
fn subject(names: &[String], wanted: Option<&Dn>) -> Result<X509Name, ErrorStack> {
    let mut subject = X509NameBuilder::new()?;
    if let Some(wanted) = wanted {
        wanted.append_to(&mut subject)?;
    }
    let has_name = wanted.is_some_and(|dn| dn.has(Nid::COMMONNAME));
    if let Some(name) = common_name(names).filter(|_| !has_name) {
        subject.append_entry_by_nid(Nid::COMMONNAME, name)?;
    }
    Ok(subject.build())
}

fn extensions(
    request: &X509ReqBuilder,
    names: &[String],
    must_staple: bool,
) -> Result<Stack<X509Extension>, ErrorStack> {
    let mut san = SubjectAlternativeName::new();
    for name in names {
        match names::ip(name) {
            Some(_) => san.ip(name),
            None => san.dns(name),
        };
    }
    let mut extensions = Stack::new()?;
    extensions.push(san.build(&request.x509v3_context(None))?)?;
    if must_staple {
        extensions.push(status_request()?)?;
    }
    Ok(extensions)
}

/// The extension TLSFeature with the one feature status_request (RFC 7633, 4.1).
fn status_request() -> Result<X509Extension, ErrorStack> {
    let features = Asn1OctetString::new_from_bytes(&[0x30, 3, 2, 1, 5])?;
    let tls_feature = Asn1Object::from_str(TLS_FEATURE)?;
    X509Extension::new_from_der(&tls_feature, false, &features)
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
            let der = csr(&key, &names(&["a.example"]), false, None).unwrap();
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
    fn the_feature_is_asked_for_where_it_is_wanted() {
        let key = new_key(KeyType::Ecdsa256).unwrap();
        for must_staple in [true, false] {
            let der = csr(&key, &names(&["a.example"]), must_staple, None).unwrap();
            let (_, request) = X509CertificationRequest::from_der(&der).unwrap();
            let all: Vec<_> = request.requested_extensions().unwrap().collect();
            let features = all.iter().filter_map(|extension| match extension {
                ParsedExtension::UnsupportedExtension { oid } => Some(oid.to_id_string()),
                _ => None,
            });
            let expected: &[&str] = if must_staple { &["1.3.6.1.5.5.7.1.24"] } else { &[] };
            assert_eq!(features.collect::<Vec<_>>(), expected, "{all:?}");
            // OID and contents: not critical, SEQUENCE { 5 }.
            let extension = b"\x06\x08\x2b\x06\x01\x05\x05\x07\x01\x18\x04\x05\x30\x03\x02\x01\x05";
            assert_eq!(wants_staple(&der), must_staple);
            assert_eq!(der.windows(extension.len()).any(|w| w == extension), must_staple);
        }
    }

    #[test]
    fn names_and_subject() {
        let long = format!("{}.{}.example", "a".repeat(40), "b".repeat(40));
        for (asked, wanted, subject) in [
            (names(&["a.example"]), "", "CN=a.example"),
            (names(&["a.example", "b.example", "*.c.example"]), "", "CN=a.example"),
            (names(&[&long, "a.example"]), "", ""),
            (names(&["*.c.example", "a.example"]), "", "CN=a.example"),
            (names(&["192.0.2.1", "*.c.example"]), "", "CN=*.c.example"),
            (names(&["192.0.2.1", "2001:db8::1"]), "", ""),
            // Commas and colons are data, not syntax.
            (names(&["a.example,DNS:b.example"]), "", "CN=a.example,DNS:b.example"),
            (names(&["a.example"]), "O=Corp, C=DE", "O=Corp, C=DE, CN=a.example"),
            (names(&["a.example"]), "O=Corp, CN=shop, C=DE", "O=Corp, CN=shop, C=DE"),
            (names(&[&long]), "O=M\u{fc}ller", "O=M\u{fc}ller"),
        ] {
            let wanted = Dn::parse(wanted).ok();
            let key = new_key(KeyType::Ecdsa256).unwrap();
            let der = csr(&key, &asked, true, wanted.as_ref()).unwrap();
            let (rest, request) = X509CertificationRequest::from_der(&der).unwrap();
            assert!(rest.is_empty());
            assert_eq!(request.certification_request_info.subject.to_string(), subject);
            let mut found = Vec::new();
            for extension in request.requested_extensions().unwrap() {
                let ParsedExtension::SubjectAlternativeName(san) = extension else { continue };
                for name in &san.general_names {
                    found.push(match name {
                        GeneralName::DNSName(name) if names::ip(name).is_none() => name.to_string(),
                        GeneralName::IPAddress([192, 0, 2, 1]) => "192.0.2.1".to_owned(),
                        GeneralName::IPAddress(v6) if v6.len() == 16 => "2001:db8::1".to_owned(),
                        name => panic!("{name:?}"),
                    });
                }
            }
            assert_eq!(found, asked);
        }
    }
}
