//! An nginx module that never lets a server go on serving a bad certificate.
//!
//! This crate is the core: it decides, asks, fetches and stores, and knows nothing of nginx.
//! The adapter, [`nginx`](../src/nginx.rs), exists only with the feature `module`.
//! Read `src/manual/` for how the parts fit and why.
#![deny(unsafe_code)]
#![warn(clippy::unwrap_used, clippy::disallowed_methods)] // clippy.toml has the reasons

pub mod bundle;
pub mod ca;
pub mod client_hello;
pub mod clock;
pub mod directives;
pub mod evidence;
pub mod facts;
pub mod http;
pub mod policy;
pub mod report;
pub mod settings;

pub mod engine;
#[cfg(feature = "module")]
#[allow(unsafe_code)] // the adapter: nginx and OpenSSL are C
mod nginx;
