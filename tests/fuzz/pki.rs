//! Certificates made once, with their keys: Root issued Sub, and Sub a leaf for shop.example.

use cert_autofetch::clock::Time;
use cert_autofetch::facts::CertFacts;
use openssl::pkey::{PKey, Private};
use openssl::x509::X509;

/// 2033-05-18T03:33:20Z. All are valid then.
pub const NOW: Time = Time::from_secs(2_000_000_000);

pub const ROOT: &[u8] = include_bytes!("pki/root.pem");
pub const SUB: &[u8] = include_bytes!("pki/sub.pem");
pub const LEAF: &[u8] = include_bytes!("pki/leaf.pem");

pub struct Pki {
    pub sub: X509,
    pub sub_key: PKey<Private>,
    pub leaf: X509,
    pub leaf_key: PKey<Private>,
    pub facts: CertFacts,
}

impl Pki {
    pub fn new() -> Pki {
        let leaf = X509::from_pem(LEAF).unwrap();
        Pki {
            sub: X509::from_pem(SUB).unwrap(),
            sub_key: key(SUB),
            leaf_key: key(LEAF),
            facts: CertFacts::from_der(&leaf.to_der().unwrap()).unwrap(),
            leaf,
        }
    }
}

/// The certificate in a file that also has its key.
pub fn certificate(pem: &[u8]) -> Vec<u8> {
    X509::from_pem(pem).unwrap().to_pem().unwrap()
}

pub fn key_pem(pem: &[u8]) -> Vec<u8> {
    key(pem).private_key_to_pem_pkcs8().unwrap()
}

fn key(pem: &[u8]) -> PKey<Private> {
    PKey::private_key_from_pem(pem).unwrap()
}
