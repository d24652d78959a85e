//! Certificates made at test time. Their times lie around [`NOW`], far from the real time, so
//! that a check that asks the system's clock fails.

pub mod crl;
pub mod ocsp;

use openssl::asn1::{Asn1Integer, Asn1Object, Asn1OctetString, Asn1Time};
use openssl::bn::BigNum;
use openssl::ec::{EcGroup, EcKey};
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{HasPublic, PKey, PKeyRef, Private};
use openssl::x509::extension::{
    BasicConstraints, ExtendedKeyUsage, KeyUsage, SubjectAlternativeName,
};
use openssl::x509::{X509, X509Builder, X509Extension, X509Name};

use crate::clock::Time;

/// 2033-05-18T03:33:20Z.
pub const NOW: Time = Time::from_secs(2_000_000_000);

pub const DAY: i64 = 86_400;

/// Seconds from [`NOW`].
pub fn at(seconds: i64) -> Time {
    Time::from_secs(NOW.secs() + seconds)
}

/// A certificate and its key.
#[derive(Clone)]
pub struct Identity {
    pub cert: X509,
    pub key: PKey<Private>,
}

/// What a certificate is to say.
#[derive(Clone, Copy)]
pub struct Spec<'a> {
    pub cn: &'a str,
    pub serial: u64,
    pub names: &'a [&'a str],
    /// Seconds from [`NOW`].
    pub life: (i64, i64),
    pub ca: bool,
    /// ExtendedKeyUsage; empty: no such extension.
    pub usage: &'a [&'a str],
    /// OID, critical, contents.
    pub extensions: &'a [(&'a str, bool, &'a [u8])],
    /// What it is signed with.
    pub digest: MessageDigest,
}

impl Default for Spec<'_> {
    fn default() -> Self {
        Spec {
            cn: "leaf",
            serial: 0x1234,
            names: &["shop.example"],
            life: (-DAY, 30 * DAY),
            ca: false,
            usage: &["serverAuth"],
            extensions: &[],
            digest: MessageDigest::sha256(),
        }
    }
}

impl<'a> Spec<'a> {
    pub fn ca(cn: &'a str) -> Self {
        Spec { cn, names: &[], ca: true, usage: &[], life: (-DAY, 3650 * DAY), ..Spec::default() }
    }
}

/// A self-signed certificate.
pub fn self_signed(spec: Spec) -> Identity {
    self_signed_with(spec, ec_key())
}

pub fn self_signed_with(spec: Spec, key: PKey<Private>) -> Identity {
    Identity { cert: build(&spec, &key, &name(spec.cn), &key), key }
}

pub fn root(cn: &str) -> Identity {
    self_signed(Spec::ca(cn))
}

impl Identity {
    /// A certificate with a new key, signed by this one.
    pub fn issue(&self, spec: Spec) -> Identity {
        let key = ec_key();
        Identity { cert: self.certify(&spec, &key), key }
    }

    pub fn certify<K: HasPublic>(&self, spec: &Spec, key: &PKeyRef<K>) -> X509 {
        let issuer = X509Name::from_der(&self.cert.subject_name().to_der().unwrap()).unwrap();
        build(spec, key, &issuer, &self.key)
    }

    pub fn pem(&self) -> Vec<u8> {
        self.cert.to_pem().unwrap()
    }

    pub fn der(&self) -> Vec<u8> {
        self.cert.to_der().unwrap()
    }
}

pub fn ec_key() -> PKey<Private> {
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
    PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap()
}

fn name(cn: &str) -> X509Name {
    let mut name = X509Name::builder().unwrap();
    name.append_entry_by_text("O", "Test, Inc.").unwrap();
    name.append_entry_by_text("CN", cn).unwrap();
    name.build()
}

fn build<K: HasPublic>(
    spec: &Spec,
    key: &PKeyRef<K>,
    issuer: &X509Name,
    signer: &PKey<Private>,
) -> X509 {
    let mut cert = X509Builder::new().unwrap();
    cert.set_version(2).unwrap();
    let serial = BigNum::from_slice(&spec.serial.to_be_bytes()).unwrap();
    cert.set_serial_number(&Asn1Integer::from_bn(&serial).unwrap()).unwrap();
    cert.set_subject_name(&name(spec.cn)).unwrap();
    cert.set_issuer_name(issuer).unwrap();
    cert.set_pubkey(key).unwrap();
    let time = |offset| Asn1Time::from_unix(at(offset).secs()).unwrap();
    cert.set_not_before(&time(spec.life.0)).unwrap();
    cert.set_not_after(&time(spec.life.1)).unwrap();
    if spec.ca {
        let ca = BasicConstraints::new().critical().ca().build().unwrap();
        cert.append_extension(ca).unwrap();
        let usage = KeyUsage::new().critical().key_cert_sign().crl_sign().build().unwrap();
        cert.append_extension(usage).unwrap();
    }
    if !spec.names.is_empty() {
        let mut san = SubjectAlternativeName::new();
        for name in spec.names {
            match crate::names::ip(name) {
                Some(_) => san.ip(name),
                None => san.dns(name),
            };
        }
        let san = san.build(&cert.x509v3_context(None, None)).unwrap();
        cert.append_extension(san).unwrap();
    }
    if !spec.usage.is_empty() {
        let mut usage = ExtendedKeyUsage::new();
        for name in spec.usage {
            usage.other(name);
        }
        cert.append_extension(usage.build().unwrap()).unwrap();
    }
    for (oid, critical, contents) in spec.extensions {
        let oid = Asn1Object::from_str(oid).unwrap();
        let contents = Asn1OctetString::new_from_bytes(contents).unwrap();
        let extension = X509Extension::new_from_der(&oid, *critical, &contents).unwrap();
        cert.append_extension(extension).unwrap();
    }
    cert.sign(signer, spec.digest).unwrap();
    // Through DER, as a real one would come: OpenSSL treats built objects otherwise.
    X509::from_der(&cert.build().to_der().unwrap()).unwrap()
}

/// Writing DER by hand, for what the `openssl` crate can't make, or would only make right.
pub mod der {
    pub fn tlv(tag: u8, contents: &[u8]) -> Vec<u8> {
        let mut out = vec![tag];
        match contents.len() {
            n @ 0..=0x7f => out.push(n as u8),
            n @ 0x80..=0xff => out.extend([0x81, n as u8]),
            n @ 0x100..=0xffff => out.extend([0x82, (n >> 8) as u8, n as u8]),
            n => out.extend([0x83, (n >> 16) as u8, (n >> 8) as u8, n as u8]),
        }
        out.extend(contents);
        out
    }

    pub fn seq(parts: &[&[u8]]) -> Vec<u8> {
        tlv(0x30, &parts.concat())
    }

    /// An explicit tag.
    pub fn explicit(n: u8, contents: &[u8]) -> Vec<u8> {
        tlv(0xa0 | n, contents)
    }

    pub fn octets(contents: &[u8]) -> Vec<u8> {
        tlv(0x04, contents)
    }

    pub fn oid(text: &str) -> Vec<u8> {
        let object = openssl::asn1::Asn1Object::from_str(text).unwrap();
        tlv(0x06, object.as_slice())
    }

    /// AlgorithmIdentifier without parameters.
    pub fn algorithm(oid_text: &str) -> Vec<u8> {
        seq(&[&oid(oid_text)])
    }

    pub fn time(t: crate::clock::Time) -> Vec<u8> {
        let text: String = t.rfc3339().chars().filter(|c| !"-:T".contains(*c)).collect();
        tlv(0x18, text.as_bytes())
    }

    pub fn utc_time(t: crate::clock::Time) -> Vec<u8> {
        tlv(0x17, &time(t)[4..])
    }

    /// Extension (RFC 5280, 4.2).
    pub fn extension(id: &str, critical: bool, contents: &[u8]) -> Vec<u8> {
        let flag: &[u8] = if critical { &[1, 1, 0xff] } else { &[] };
        seq(&[&oid(id), flag, &octets(contents)])
    }

    /// A non-negative INTEGER from big-endian bytes.
    pub fn integer(bytes: &[u8]) -> Vec<u8> {
        let padded = [&[0][..], bytes].concat();
        tlv(0x02, if bytes.first().is_some_and(|b| *b >= 0x80) { &padded } else { bytes })
    }

    /// GeneralName uniformResourceIdentifier.
    pub fn uri(url: &str) -> Vec<u8> {
        tlv(0x86, url.as_bytes())
    }
}
