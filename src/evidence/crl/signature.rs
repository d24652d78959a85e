//! The signature of a CRL, checked while the CRL goes by.

use openssl::asn1::Asn1Object;
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{Id, PKeyRef, Public};
use openssl::rsa::Padding;
use openssl::sign::{RsaPssSaltlen, Verifier};
use x509_parser::asn1_rs::{FromDer, Oid};
use x509_parser::signature_algorithm::RsaSsaPssParams;

use super::Fault;
use super::der::{self, Elements, MALFORMED};
use crate::evidence::weak_digest;

/// A signature that is being checked.
pub struct Check<'k> {
    verifier: Verifier<'k>,
    /// EdDSA takes what is signed in one piece.
    whole: Option<Vec<u8>>,
}

/// The longest CRL that is held in memory for EdDSA.
const LONGEST_WHOLE: usize = 8 << 20;

impl<'k> Check<'k> {
    /// For the contents of an AlgorithmIdentifier (RFC 5280, 4.1.1.2) and the key of the issuer,
    /// which must be of the kind that the algorithm means.
    pub fn new(algorithm: &[u8], key: &'k PKeyRef<Public>) -> Result<Check<'k>, Fault> {
        let mut parts = Elements(algorithm);
        let oid = Oid::new(parts.expect(der::OID)?.into()).to_id_string();
        let kind = nid(&oid);
        let Some(pair) = kind.signature_algorithms() else { return Err(Fault::Algorithm(oid)) };
        if kind == Nid::RSASSAPSS {
            return Ok(Check { verifier: pss(parts.0, key)?, whole: None });
        }
        if key.id() != Id::from_raw(pair.pkey.as_raw()) {
            return Err(Fault::Signature);
        }
        if pair.digest == Nid::UNDEF {
            let verifier = Verifier::new_without_digest(key)?;
            return Ok(Check { verifier, whole: Some(Vec::new()) });
        }
        Ok(Check { verifier: Verifier::new(digest(pair.digest)?, key)?, whole: None })
    }

    pub fn update(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        match &mut self.whole {
            None => Ok(self.verifier.update(bytes)?),
            Some(whole) if whole.len() + bytes.len() > LONGEST_WHOLE => {
                Err(Fault::Oversized(LONGEST_WHOLE))
            }
            Some(whole) => {
                whole.extend_from_slice(bytes);
                Ok(())
            }
        }
    }

    pub fn finish(mut self, signature: &[u8]) -> Result<(), Fault> {
        let verified = match self.whole {
            None => self.verifier.verify(signature),
            Some(whole) => self.verifier.verify_oneshot(signature, &whole),
        };
        let _ = ErrorStack::get(); // a "no" leaves its reason in the thread's queue
        // What is no signature at all is an error to OpenSSL.
        if verified.unwrap_or(false) { Ok(()) } else { Err(Fault::Signature) }
    }
}

/// RFC 4055, 3.1.
fn pss<'k>(parameters: &[u8], key: &'k PKeyRef<Public>) -> Result<Verifier<'k>, Fault> {
    if !matches!(key.id(), Id::RSA | Id::RSA_PSS) {
        return Err(Fault::Signature);
    }
    let (rest, any) = x509_parser::asn1_rs::Any::from_der(parameters).map_err(|_| MALFORMED)?;
    let parameters = RsaSsaPssParams::try_from(any).map_err(|_| MALFORMED)?;
    let mask = parameters.mask_gen_algorithm().map_err(|_| MALFORMED)?;
    let salt = i32::try_from(parameters.salt_length()).map_err(|_| MALFORMED)?;
    if !rest.is_empty() || nid(&mask.mgf.to_id_string()) != Nid::MGF1 {
        return Err(MALFORMED);
    }
    let mask = digest(nid(&mask.hash.to_id_string()))?;
    let hash = digest(nid(&parameters.hash_algorithm_oid().to_id_string()))?;
    let mut verifier = Verifier::new(hash, key)?;
    verifier.set_rsa_padding(Padding::PKCS1_PSS)?;
    verifier.set_rsa_mgf1_md(mask)?;
    verifier.set_rsa_pss_saltlen(RsaPssSaltlen::custom(salt))?;
    Ok(verifier)
}

fn digest(nid: Nid) -> Result<MessageDigest, Fault> {
    match weak_digest(nid) {
        Some(weak) => Err(Fault::WeakDigest(weak)),
        None => MessageDigest::from_nid(nid)
            .ok_or_else(|| Fault::Algorithm(nid.short_name().unwrap_or("?").into())),
    }
}

fn nid(oid: &str) -> Nid {
    let object = Asn1Object::from_str(oid);
    let _ = ErrorStack::get();
    object.map_or(Nid::UNDEF, |object| object.nid())
}
