//! Puts a certificate into live SSL contexts, in the event-loop thread only: SSL_new() copies
//! from them without a lock.

use std::sync::Arc;

use foreign_types::ForeignType;
use nginx_sys::{
    SSL, SSL_CTX, SSL_CTX_use_cert_and_key, SSL_CTX_use_certificate, SSL_certs_clear,
    SSL_use_cert_and_key,
};
use openssl::pkey::Id;
use openssl::stack::Stack;
use openssl::x509::X509;

use super::placeholder::Placeholder;
use crate::bundle::Bundle;

/// Makes `bundle` the one certificate of `ctx`, whose key was of type `before` until now.
///
/// A context has a slot for each key type, and setting one leaves the others: after a change of
/// type the stale one could win the handshake. Setting another certificate of a type drops the
/// key of that slot, and a slot without a key is never chosen.
pub fn install(ctx: *mut SSL_CTX, bundle: &Bundle, before: Id, placeholder: &Placeholder) -> bool {
    let stale = if before == bundle.key.id() { None } else { placeholder.keyless(before) };
    let Some(chain) = rest_of_chain(bundle) else { return false };
    // SAFETY: ctx lives as long as the cycle; OpenSSL takes references of its own to all.
    unsafe {
        let emptied = stale.is_none_or(|s| SSL_CTX_use_certificate(ctx, s.as_ptr().cast()) == 1);
        let installed = SSL_CTX_use_cert_and_key(
            ctx,
            bundle.chain[0].as_ptr().cast(),
            bundle.key.as_ptr().cast(),
            chain.as_ptr().cast(),
            1,
        );
        emptied && installed == 1
    }
}

/// Makes `bundle` the one certificate of a connection in its handshake.
pub fn put(ssl: *mut SSL, bundle: &Arc<Bundle>) -> bool {
    let Some(chain) = rest_of_chain(bundle) else { return false };
    // SAFETY: a live SSL that has not sent its certificate; references as in install().
    unsafe {
        SSL_certs_clear(ssl);
        SSL_use_cert_and_key(
            ssl,
            bundle.chain[0].as_ptr().cast(),
            bundle.key.as_ptr().cast(),
            chain.as_ptr().cast(),
            1,
        ) == 1
    }
}

/// The address of the leaf, to compare with.
pub fn leaf(bundle: &Arc<Bundle>) -> *const openssl_sys::X509 {
    bundle.chain[0].as_ptr()
}

fn rest_of_chain(bundle: &Bundle) -> Option<Stack<X509>> {
    let mut chain = Stack::new().ok()?;
    for certificate in bundle.chain.iter().skip(1) {
        chain.push(certificate.to_owned()).ok()?;
    }
    Some(chain)
}
