//! What the tests of the keystore share.

use openssl::asn1::Asn1Time;
use openssl::bn::BigNum;
use openssl::ec::{EcGroup, EcKey};
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::PKey;
use openssl::x509::extension::SubjectAlternativeName;
use openssl::x509::{X509Builder, X509NameBuilder};

use super::{Keystore, Lock, Pending};
use crate::bundle::Meta;
use crate::ca::Order;
use crate::clock::Time;
use crate::settings::{EntryName, Passwords, Secret};

pub fn keystore() -> (tempfile::TempDir, Keystore) {
    let dir = tempfile::tempdir().unwrap();
    let keystore = Keystore::create(&dir.path().join("keystore"), None).unwrap();
    (dir, keystore)
}

pub fn name(name: &str) -> EntryName {
    EntryName::new(name).unwrap()
}

pub fn passwords(words: &[&str]) -> Passwords {
    Passwords::new(words.iter().map(|word| Secret::new((*word).into())).collect())
}

/// A self-signed certificate with its key.
pub struct Pair {
    pub chain: Vec<u8>,
    pub key: Secret,
}

pub fn pair(name: &str) -> Pair {
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
    let key = PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap();
    let mut subject = X509NameBuilder::new().unwrap();
    subject.append_entry_by_text("CN", name).unwrap();
    let subject = subject.build();
    let mut cert = X509Builder::new().unwrap();
    cert.set_version(2).unwrap();
    cert.set_serial_number(&BigNum::from_u32(7).unwrap().to_asn1_integer().unwrap()).unwrap();
    cert.set_subject_name(&subject).unwrap();
    cert.set_issuer_name(&subject).unwrap();
    cert.set_pubkey(&key).unwrap();
    cert.set_not_before(&Asn1Time::from_unix(1_700_000_000).unwrap()).unwrap();
    cert.set_not_after(&Asn1Time::from_unix(1_900_000_000).unwrap()).unwrap();
    let context = cert.x509v3_context(None, None);
    let names = SubjectAlternativeName::new().dns(name).build(&context).unwrap();
    cert.append_extension(names).unwrap();
    cert.sign(&key, MessageDigest::sha256()).unwrap();
    Pair {
        chain: cert.build().to_pem().unwrap(),
        key: Secret::new(key.private_key_to_pem_pkcs8().unwrap()),
    }
}

pub fn commit(keystore: &Keystore, lock: &Lock, pair: &Pair) -> u64 {
    let done = keystore.commit(lock, &pair.chain, &pair.key, &Meta::default()).unwrap();
    assert!(done.untold.is_none());
    done.version
}

/// An order with this key.
pub fn pending(key: &Secret) -> Pending {
    Pending {
        key_pem: key.clone(),
        order: Order {
            ca: "corp".into(),
            names: vec!["a.example".into()],
            csr: Vec::new(),
            entry: "a.example".into(),
            reason: "missing".into(),
            accepted: false,
            state: serde_json::Value::Null,
        },
        chain: None,
        created_at: Time::from_secs(1),
        replaces: None,
        counted: false,
    }
}
