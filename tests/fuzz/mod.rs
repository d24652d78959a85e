//! What the fuzz targets do with their input, and what must be true of it. One file a target.
//!
//! `fuzz/` runs them with libFuzzer, `tests/corpus.rs` with what is stored in `fuzz/corpus`.
#![allow(dead_code)] // each target is a program of its own

pub mod acme;
pub mod certificate;
pub mod chain;
pub mod client_hello;
pub mod crl;
pub mod crl_signed;
pub mod crl_stored;
#[path = "../lab/der.rs"]
mod der;
pub mod est;
pub mod keystore;
pub mod ocsp_response;
pub mod ocsp_signed;
mod pki;
pub mod url;

/// What is left in OpenSSL's queue would be taken for the error of another call.
fn no_error_is_left() {
    let left = openssl::error::ErrorStack::get();
    assert!(left.errors().is_empty(), "left in OpenSSL's queue: {left}");
}

fn pem(label: &str, der: &[u8]) -> Vec<u8> {
    let mut pem = format!("-----BEGIN {label}-----\n").into_bytes();
    for line in openssl::base64::encode_block(der).as_bytes().chunks(64) {
        pem.extend(line);
        pem.push(b'\n');
    }
    pem.extend(format!("-----END {label}-----\n").into_bytes());
    pem
}
