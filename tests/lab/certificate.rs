//! How a certificate is put together.

use openssl::asn1::{Asn1Integer, Asn1Object, Asn1OctetString, Asn1Time};
use openssl::bn::BigNum;
use openssl::nid::Nid;
use openssl::pkey::{HasPublic, PKeyRef, Private};
use openssl::x509::extension::{AuthorityKeyIdentifier, BasicConstraints, ExtendedKeyUsage};
use openssl::x509::extension::{KeyUsage, SubjectAlternativeName, SubjectKeyIdentifier};
use openssl::x509::{X509, X509Extension, X509Name, X509Ref};

use super::clock::now;
use super::der;
use super::pki::{Profile, Usage, digest_for};

/// The certificate that the profile describes; without an issuer `signing_key` is its own.
pub fn make<T: HasPublic>(
    profile: &Profile,
    key: &PKeyRef<T>,
    issuer: Option<&X509Ref>,
    signing_key: &PKeyRef<Private>,
) -> X509 {
    let subject = name(&profile.names[0]);
    let issuer_name = issuer.map_or(&*subject, |i| i.subject_name());
    let serial = profile.serial.clone().unwrap_or_else(random_serial);
    let at = |offset| Asn1Time::from_unix(now() + offset).expect("time");

    let mut b = X509::builder().expect("builder");
    b.set_version(2).expect("version");
    let serial = BigNum::from_slice(&serial).expect("serial");
    b.set_serial_number(&Asn1Integer::from_bn(&serial).expect("serial")).expect("serial");
    b.set_subject_name(&subject).expect("subject");
    b.set_issuer_name(issuer_name).expect("issuer");
    b.set_not_before(&at(profile.not_before)).expect("notBefore");
    b.set_not_after(&at(profile.not_after)).expect("notAfter");
    b.set_pubkey(key).expect("public key");

    let context = b.x509v3_context(issuer, None);
    let mut extensions = vec![SubjectKeyIdentifier::new().build(&context).expect("SKI")];
    if issuer.is_some() {
        let aki = AuthorityKeyIdentifier::new().keyid(true).build(&context);
        extensions.push(aki.expect("AKI"));
    }
    if profile.usage == Usage::Server {
        let mut names = SubjectAlternativeName::new();
        for name in &profile.names {
            match name.parse::<std::net::IpAddr>() {
                Ok(_) => names.ip(name),
                Err(_) => names.dns(name),
            };
        }
        extensions.push(names.build(&context).expect("SAN"));
    }
    extensions.extend(usage_extensions(profile.usage));
    extensions.extend(further_extensions(profile));
    for extension in extensions {
        b.append_extension(extension).expect("extension");
    }
    b.sign(signing_key, digest_for(signing_key)).expect("signature");
    b.build()
}

fn usage_extensions(usage: Usage) -> Vec<X509Extension> {
    let mut basic = BasicConstraints::new();
    let mut key_usage = KeyUsage::new();
    basic.critical();
    key_usage.critical();
    match usage {
        Usage::Authority => (basic.ca(), key_usage.key_cert_sign().crl_sign().digital_signature()),
        Usage::AuthorityWithoutCrls => (basic.ca(), key_usage.key_cert_sign()),
        _ => (&mut basic, key_usage.digital_signature()),
    };
    let extended = match usage {
        Usage::Authority | Usage::AuthorityWithoutCrls => None,
        Usage::Server => Some(ExtendedKeyUsage::new().server_auth().build()),
        Usage::OcspSigner => Some(ExtendedKeyUsage::new().other("OCSPSigning").build()),
    };
    [Some(basic.build()), Some(key_usage.build()), extended]
        .into_iter()
        .flatten()
        .map(|e| e.expect("extension"))
        .collect()
}

fn further_extensions(profile: &Profile) -> Vec<X509Extension> {
    let mut extensions = Vec::new();
    let mut add = |oid: &str, value: &[u8]| {
        let oid = Asn1Object::from_str(oid).expect("OID");
        let value = Asn1OctetString::new_from_bytes(value).expect("value");
        extensions.push(X509Extension::new_from_der(&oid, false, &value).expect("extension"));
    };
    if let Some(url) = &profile.ocsp_url {
        let access = [der::oid("1.3.6.1.5.5.7.48.1"), der::implicit(6, url.as_bytes())];
        add("1.3.6.1.5.5.7.1.1", &der::sequence(&[der::sequence(&access)]));
    }
    if let Some(url) = &profile.crl_url {
        let names = der::explicit(0, &der::explicit(0, &der::implicit(6, url.as_bytes())));
        add("2.5.29.31", &der::sequence(&[der::sequence(&[names])]));
    }
    if profile.ocsp_nocheck {
        add("1.3.6.1.5.5.7.48.1.5", &der::element(der::NULL, &[]));
    }
    if profile.must_staple {
        add("1.3.6.1.5.5.7.1.24", &der::sequence(&[der::integer(&[5])]));
    }
    extensions
}

fn name(common: &str) -> X509Name {
    let mut b = X509Name::builder().expect("name");
    b.append_entry_by_nid(Nid::COMMONNAME, common).expect("name");
    b.build()
}

fn random_serial() -> Vec<u8> {
    let mut bytes = vec![0; 16];
    openssl::rand::rand_bytes(&mut bytes).expect("random bytes");
    bytes
}
