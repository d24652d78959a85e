//! An nginx module that never lets a server go on serving a bad certificate.
//!
//! This crate is the core: it decides, asks, fetches and stores, and knows nothing of nginx.
//! The adapter, `src/nginx.rs`, exists only with the feature `module`.
//! Read [`manual`] for how the parts fit and why.
#![deny(unsafe_code)]
#![warn(clippy::unwrap_used, clippy::disallowed_methods)] // clippy.toml has the reasons

pub mod bundle;
pub mod ca;
pub mod client_hello;
pub mod clock;
#[cfg(feature = "command")]
pub mod command;
pub mod directives;
pub mod engine;
pub mod evidence;
pub mod facts;
#[cfg(test)]
mod fixture;
pub mod http;
pub mod keystore;
pub mod manual;
pub mod names;
pub mod openssl_ffi;
pub mod policy;
pub mod program;
pub mod report;
pub mod settings;
pub mod staple;
pub mod status;

#[cfg(all(feature = "module", not(test)))] // a test program has no nginx to link
#[allow(unsafe_code)] // the adapter: nginx and OpenSSL are C
mod nginx;
