//! Certificate authorities made on the spot: for Pebble's API, for nginx's own tests, and for
//! everything hostile.

use openssl::asn1::{Asn1Integer, Asn1Object, Asn1OctetString, Asn1Time};
use openssl::bn::BigNum;
use openssl::ec::{EcGroup, EcKey};
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, PKeyRef, Private};
use openssl::rsa::Rsa;
use openssl::x509::extension::{AuthorityKeyIdentifier, BasicConstraints, ExtendedKeyUsage};
use openssl::x509::extension::{KeyUsage, SubjectAlternativeName, SubjectKeyIdentifier};
use openssl::x509::{X509, X509Extension, X509Name, X509Ref};

use super::clock::now;
use super::der;

/// A certificate with its key, and the intermediates a server sends after it.
#[derive(Clone, Debug)]
pub struct Identity {
    pub cert: X509,
    pub key: PKey<Private>,
    pub chain: Vec<X509>,
}

/// What a certificate is to say.
#[derive(Clone, Debug)]
pub struct Profile {
    /// The first is the common name too; an IP address becomes an IP name.
    pub names: Vec<String>,
    pub usage: Usage,
    pub key: KeyType,
    /// Seconds from now.
    pub not_before: i64,
    /// Seconds from now.
    pub not_after: i64,
    /// Random if none.
    pub serial: Option<Vec<u8>>,
    pub ocsp_url: Option<String>,
    pub crl_url: Option<String>,
    pub must_staple: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Usage {
    Authority,
    Server,
    /// A delegated OCSP signer (id-kp-OCSPSigning).
    OcspSigner,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyType {
    Ecdsa256,
    Ecdsa384,
    Rsa2048,
    Ed25519,
}

impl Profile {
    pub fn authority(name: &str) -> Profile {
        Profile { not_after: 3650 * DAY, ..Profile::new(&[name], Usage::Authority) }
    }

    pub fn server(names: &[&str]) -> Profile {
        Profile::new(names, Usage::Server)
    }

    pub fn ocsp_signer() -> Profile {
        Profile::new(&["ocsp signer"], Usage::OcspSigner)
    }

    fn new(names: &[&str], usage: Usage) -> Profile {
        Profile {
            names: names.iter().map(|n| n.to_string()).collect(),
            usage,
            key: KeyType::Ecdsa256,
            not_before: -DAY,
            not_after: 90 * DAY,
            serial: None,
            ocsp_url: None,
            crl_url: None,
            must_staple: false,
        }
    }
}

impl Identity {
    /// A self-signed CA.
    pub fn root(name: &str) -> Identity {
        build(&Profile::authority(name), None)
    }

    /// A certificate signed by this one; what a CA issues while its own certificate forbids it is
    /// issued all the same.
    pub fn issue(&self, profile: &Profile) -> Identity {
        build(profile, Some(self))
    }

    pub fn from_pem(cert: &[u8], key: &[u8]) -> Identity {
        let mut chain = X509::stack_from_pem(cert).expect("PEM of a certificate");
        let key = PKey::private_key_from_pem(key).expect("PEM of a key");
        Identity { cert: chain.remove(0), key, chain }
    }

    pub fn serial(&self) -> String {
        serial_hex(&self.cert)
    }

    pub fn cert_pem(&self) -> Vec<u8> {
        self.cert.to_pem().expect("PEM")
    }

    pub fn key_pem(&self) -> Vec<u8> {
        self.key.private_key_to_pem_pkcs8().expect("PEM")
    }

    /// Leaf first, as nginx wants it.
    pub fn fullchain_pem(&self) -> Vec<u8> {
        let certs = std::iter::once(&self.cert).chain(&self.chain);
        certs.flat_map(|c| c.to_pem().expect("PEM")).collect()
    }
}

impl KeyType {
    pub fn generate(self) -> PKey<Private> {
        let curve = |nid| EcGroup::from_curve_name(nid).and_then(|g| EcKey::generate(&g));
        match self {
            KeyType::Ecdsa256 => curve(Nid::X9_62_PRIME256V1).and_then(PKey::from_ec_key),
            KeyType::Ecdsa384 => curve(Nid::SECP384R1).and_then(PKey::from_ec_key),
            KeyType::Rsa2048 => Rsa::generate(2048).and_then(PKey::from_rsa),
            KeyType::Ed25519 => PKey::generate_ed25519(),
        }
        .expect("key generation")
    }
}

/// Lower case, two digits a byte, no leading 00: as the module's interface writes serials.
pub fn serial_hex(cert: &X509Ref) -> String {
    hex(&cert.serial_number().to_bn().expect("serial").to_vec())
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// The bytes that [`hex`] wrote; panics on anything else.
pub fn unhex(text: &str) -> Vec<u8> {
    let digits = |i| u8::from_str_radix(&text[i..i + 2], 16).expect("hex digits");
    (0..text.len()).step_by(2).map(digits).collect()
}

/// The digest that goes with a key in a signature.
pub fn digest_for(key: &PKeyRef<Private>) -> MessageDigest {
    match key.id() {
        openssl::pkey::Id::ED25519 => MessageDigest::null(),
        _ => MessageDigest::sha256(),
    }
}

fn build(profile: &Profile, issuer: Option<&Identity>) -> Identity {
    let key = profile.key.generate();
    let subject = name(&profile.names[0]);
    let issuer_name = issuer.map_or(&*subject, |i| i.cert.subject_name());
    let issuer_key = issuer.map_or(&key, |i| &i.key);
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
    b.set_pubkey(&key).expect("public key");

    let context = b.x509v3_context(issuer.map(|i| &*i.cert), None);
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
    b.sign(issuer_key, digest_for(issuer_key)).expect("signature");

    let chain = match issuer {
        Some(i) if i.cert.issuer_name().try_cmp(i.cert.subject_name()).is_ok_and(|o| o.is_ne()) => {
            std::iter::once(i.cert.clone()).chain(i.chain.iter().cloned()).collect()
        }
        _ => Vec::new(),
    };
    Identity { cert: b.build(), key, chain }
}

fn usage_extensions(usage: Usage) -> Vec<X509Extension> {
    let mut basic = BasicConstraints::new();
    let mut key_usage = KeyUsage::new();
    basic.critical();
    key_usage.critical();
    match usage {
        Usage::Authority => (basic.ca(), key_usage.key_cert_sign().crl_sign().digital_signature()),
        _ => (&mut basic, key_usage.digital_signature()),
    };
    let extended = match usage {
        Usage::Authority => None,
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

const DAY: i64 = 86_400;
