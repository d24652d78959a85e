//! The certificate that stands in while nginx reads its configuration: nginx then makes SSL_CTX,
//! ALPN and tickets as always. It is never served: the gate refuses until a real one is in place.

use openssl::asn1::Asn1Time;
use openssl::bn::{BigNum, MsbOption};
use openssl::ec::{EcGroup, EcKey};
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{HasPublic, PKey, PKeyRef, Private};
use openssl::rsa::Rsa;
use openssl::x509::{X509, X509NameBuilder};

pub struct Placeholder {
    pub certificate: X509,
    pub key: PKey<Private>,
    /// Certificates without a known key, one a key type: setting one in an SSL_CTX empties the
    /// slot of that type of its key.
    pub keyless_ec: X509,
    pub keyless_rsa: X509,
}

impl Placeholder {
    pub fn new() -> Result<Placeholder, ErrorStack> {
        let key = ec_key()?;
        let public = Rsa::from_public_components(random_modulus()?, BigNum::from_u32(65537)?)?;
        let (rsa, other) = (PKey::from_rsa(public)?, ec_key()?);
        Ok(Placeholder {
            certificate: certificate(&key, &key)?,
            keyless_ec: certificate(&other, &key)?,
            keyless_rsa: certificate(&rsa, &key)?,
            key,
        })
    }
}

pub fn ec_key() -> Result<PKey<Private>, ErrorStack> {
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1)?;
    PKey::from_ec_key(EcKey::generate(&group)?)
}

/// Nobody needs the factors: no key generation, which would take a tenth of a second.
fn random_modulus() -> Result<BigNum, ErrorStack> {
    let mut n = BigNum::new()?;
    n.rand(2048, MsbOption::TWO_ONES, true)?;
    Ok(n)
}

fn certificate<T: HasPublic>(key: &PKeyRef<T>, signer: &PKey<Private>) -> Result<X509, ErrorStack> {
    let mut name = X509NameBuilder::new()?;
    name.append_entry_by_nid(Nid::COMMONNAME, "placeholder, never served")?;
    let name = name.build();
    let mut builder = X509::builder()?;
    builder.set_version(2)?;
    builder.set_subject_name(&name)?;
    builder.set_issuer_name(&name)?;
    builder.set_not_before(Asn1Time::from_unix(0)?.as_ref())?;
    builder.set_not_after(Asn1Time::from_unix(1)?.as_ref())?;
    builder.set_pubkey(key)?;
    builder.sign(signer, MessageDigest::sha256())?;
    X509::from_der(&builder.build().to_der()?)
}
