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

use std::collections::VecDeque;

use cert_autofetch::http::Response;

/// What is left in OpenSSL's queue would be taken for the error of another call.
fn no_error_is_left() {
    let left = openssl::error::ErrorStack::get();
    assert!(left.errors().is_empty(), "left in OpenSSL's queue: {left}");
}

/// For a log: no longer than this.
fn must_be_a_line(text: &str, most: usize) {
    assert!(!text.contains(char::is_control), "{text:?}");
    assert!(text.len() < most, "{}", text.len());
}

/// In the order in which they are sent, each as HTTP/1.0 would have it, a line `%` after each:
/// status, headers, an empty line, the body.
fn responses(mut data: &[u8]) -> VecDeque<Response> {
    let mut all = VecDeque::new();
    while !data.is_empty() {
        let (one, rest) = cut(data, b"%\n");
        all.push_back(response(one));
        data = rest;
    }
    all
}

fn response(data: &[u8]) -> Response {
    let (head, body) = cut(data, b"\n\n");
    let head = String::from_utf8_lossy(head);
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.trim().parse().ok()).unwrap_or(200);
    let headers = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    Response { status, headers, body: body.to_vec() }
}

/// What is before and behind `mark`; all before it if it is not there.
fn cut<'a>(data: &'a [u8], mark: &[u8]) -> (&'a [u8], &'a [u8]) {
    match data.windows(mark.len()).position(|w| w == mark) {
        Some(at) => (&data[..at], &data[at + mark.len()..]),
        None => (data, &[]),
    }
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
