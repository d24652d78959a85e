//! The certificate that stands in while nginx reads its configuration: nginx then makes SSL_CTX,
//! ALPN and tickets as always. It is never served: the gate refuses until a real one is in place.

use openssl::asn1::Asn1Time;
use openssl::bn::{BigNum, MsbOption};
use openssl::ec::{EcGroup, EcKey};
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{HasPublic, Id, PKey, PKeyRef, Private, Public};
use openssl::rsa::Rsa;
use openssl::x509::{X509, X509NameBuilder};

pub struct Placeholder {
    pub certificate: X509,
    pub key: PKey<Private>,
    keyless: Vec<(Id, X509)>,
}

impl Placeholder {
    pub fn new() -> Result<Placeholder, ErrorStack> {
        let key = ec_key()?;
        let public = Rsa::from_public_components(random_modulus()?, BigNum::from_u32(65537)?)?;
        let mut others = vec![(Id::EC, public_of(&ec_key()?)?), (Id::RSA, PKey::from_rsa(public)?)];
        // An OpenSSL that is restricted by its administrator may lack these: nor can it serve them.
        for other in [PKey::generate_ed25519(), PKey::generate_ed448()].into_iter().flatten() {
            others.push((other.id(), public_of(&other)?));
        }
        let keyless = others.iter().map(|(id, k)| Ok((*id, certificate(k, &key)?)));
        let keyless = keyless.collect::<Result<_, ErrorStack>>()?;
        Ok(Placeholder { certificate: certificate(&key, &key)?, keyless, key })
    }

    /// A certificate of a key type whose key nobody has: setting it in an SSL_CTX drops the key
    /// from the slot of that type.
    pub fn keyless(&self, kind: Id) -> Option<&X509> {
        self.keyless.iter().find(|(id, _)| *id == kind).map(|(_, certificate)| certificate)
    }
}

pub fn ec_key() -> Result<PKey<Private>, ErrorStack> {
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1)?;
    PKey::from_ec_key(EcKey::generate(&group)?)
}

fn public_of(key: &PKey<Private>) -> Result<PKey<Public>, ErrorStack> {
    PKey::public_key_from_der(&key.public_key_to_der()?)
}

/// Nobody needs the factors: no key generation, which would take a tenth of a second.
fn random_modulus() -> Result<BigNum, ErrorStack> {
    let mut n = BigNum::new()?;
    n.rand(4096, MsbOption::TWO_ONES, true)?;
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
