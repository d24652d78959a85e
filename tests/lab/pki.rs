//! Certificate authorities made on the spot: for Pebble's API, for nginx's own tests, and for
//! everything hostile.

use openssl::ec::{EcGroup, EcKey};
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, PKeyRef, Private};
use openssl::rsa::Rsa;
use openssl::x509::{X509, X509Ref, X509ReqRef, X509VerifyResult};

use super::certificate;

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
    pub ocsp_nocheck: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Usage {
    Authority,
    /// An authority whose key may not sign CRLs.
    AuthorityWithoutCrls,
    Server,
    /// A delegated OCSP signer (id-kp-OCSPSigning).
    OcspSigner,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyType {
    Ecdsa256,
    Ecdsa384,
    Rsa1024,
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
            ocsp_nocheck: false,
        }
    }
}

impl Identity {
    /// A self-signed CA.
    pub fn root(name: &str) -> Identity {
        Identity::self_signed(&Profile::authority(name))
    }

    pub fn self_signed(profile: &Profile) -> Identity {
        let key = profile.key.generate();
        let cert = certificate::make(profile, &key, None, &key);
        Identity { cert, key, chain: Vec::new() }
    }

    /// A certificate signed by this one; what a CA issues while its own certificate forbids it is
    /// issued all the same.
    pub fn issue(&self, profile: &Profile) -> Identity {
        let key = profile.key.generate();
        let cert = certificate::make(profile, &key, Some(&self.cert), &self.key);
        let mut chain = self.chain.clone();
        if self.cert.issued(&self.cert) != X509VerifyResult::OK {
            chain.insert(0, self.cert.clone());
        }
        Identity { cert, key, chain }
    }

    /// The certificate for somebody else's key, as a CA makes it from a CSR.
    pub fn certify(&self, csr: &X509ReqRef, profile: &Profile) -> X509 {
        let key = csr.public_key().expect("public key");
        certificate::make(profile, &key, Some(&self.cert), &self.key)
    }

    /// Another CA with the same common name and nothing else of it.
    pub fn impostor(&self) -> Identity {
        let name = self.cert.subject_name().entries().next();
        let name = name.and_then(|e| e.data().to_string().ok());
        Identity::root(&name.unwrap_or_default())
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
            KeyType::Rsa1024 => Rsa::generate(1024).and_then(PKey::from_rsa),
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

const DAY: i64 = 86_400;
