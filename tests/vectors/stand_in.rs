//! Certificates for who has none in the package.

use std::sync::LazyLock;

use openssl::asn1::Asn1Time;
use openssl::hash::MessageDigest;
use openssl::pkey::{HasPublic, PKey, PKeyRef, Private};
use openssl::rsa::Rsa;
use openssl::x509::{X509, X509Builder, X509NameRef};

/// Ours: it signs what nobody else can sign.
pub static KEY: LazyLock<PKey<Private>> =
    LazyLock::new(|| Rsa::generate(2048).and_then(PKey::from_rsa).expect("key"));

/// A certificate for `key` under `name`, to be trusted as it is.
pub fn certificate(name: &X509NameRef, key: &PKeyRef<impl HasPublic>) -> X509 {
    let mut builder = X509Builder::new().expect("builder");
    builder.set_version(2).expect("version");
    builder.set_subject_name(name).expect("subject");
    builder.set_issuer_name(name).expect("issuer");
    builder.set_not_before(&Asn1Time::from_unix(0).expect("time")).expect("notBefore");
    builder.set_not_after(&Asn1Time::from_unix(1 << 32).expect("time")).expect("notAfter");
    builder.set_pubkey(key).expect("key");
    builder.sign(&KEY, MessageDigest::sha256()).expect("signature");
    builder.build()
}
