//! Who signs our requests (RFC 6960, 4.1.2), for responders that answer no others.

use openssl::hash::MessageDigest;
use openssl::ocsp::OcspRequest;
use openssl::pkey::{Id, PKey, Private};
use openssl::stack::Stack;
use openssl::x509::X509;

use super::Fault;
use crate::bundle::{KeyError, private_key};
use crate::openssl_ffi;

/// A certificate and its key, ready to sign.
pub struct RequestSigner {
    certificate: X509,
    key: PKey<Private>,
    chain: Stack<X509>,
}

/// Why somebody can't sign.
#[derive(Clone, Debug, thiserror::Error)]
pub enum SignerError {
    #[error("no PEM certificate found")]
    NoCertificate,
    #[error("no PEM private key found")]
    NoKey,
    #[error("it is encrypted")]
    EncryptedKey,
    #[error("it is not the key of the certificate")]
    AnotherKey,
    #[error("{0}")]
    OpenSsl(#[from] openssl::error::ErrorStack),
}

impl RequestSigner {
    /// `certificate` is the signer's, those behind it are sent along; `key` is its own.
    pub fn from_pem(certificate: &[u8], key: &[u8]) -> Result<RequestSigner, SignerError> {
        let mut certificates = X509::stack_from_pem(certificate)?.into_iter();
        let certificate = certificates.next().ok_or(SignerError::NoCertificate)?;
        let mut chain = Stack::new()?;
        for further in certificates {
            chain.push(further)?;
        }
        let key = private_key(key).map_err(|error| match error {
            KeyError::Encrypted => SignerError::EncryptedKey,
            KeyError::OpenSsl(_) => SignerError::NoKey,
        })?;
        if !certificate.public_key()?.public_eq(&key) {
            return Err(SignerError::AnotherKey);
        }
        Ok(RequestSigner { certificate, key, chain })
    }

    /// Signs, in its own name and with its certificates, after which nothing may be changed.
    pub(super) fn sign(&self, request: &mut OcspRequest) -> Result<(), Fault> {
        let digest = match self.key.id() {
            // They have one of their own.
            Id::ED25519 | Id::ED448 => None,
            _ => Some(MessageDigest::sha256()),
        };
        let (certificate, key) = (&self.certificate, &self.key);
        Ok(openssl_ffi::request_sign(request, certificate, key, digest, &self.chain)?)
    }
}
