//! The test lab: real programs (Pebble, nginx, curl, openssl) on loopback, an OCSP responder that
//! can be made to lie, and TLS clients. It uses nothing of the library, so that a mistake there
//! can't hide in here.
//!
//! Everything panics when the lab itself fails, and ends with its guard.

// Each integration test binary compiles the whole lab and uses a part of it.
#![allow(dead_code, unused_imports)]

pub mod acme;
pub mod answering;
pub mod behaviour;
pub mod certificate;
pub mod cfssl;
pub mod client;
pub mod clients;
pub mod clock;
pub mod command;
pub mod connection;
pub mod crl;
pub mod der;
pub mod est;
pub mod forger;
pub mod front;
pub mod guest;
pub mod http;
pub mod jws;
pub mod liar;
pub mod mirror;
pub mod monitor;
pub mod named;
pub mod nginx;
pub mod ocsp;
pub mod openbao;
pub mod openssl_ca;
pub mod pace;
pub mod pebble;
pub mod pki;
pub mod ports;
pub mod process;
pub mod proxy;
pub mod quic;
pub mod responder;
pub mod site;
pub mod socket;
pub mod stage;
pub mod staple;
pub mod text;
pub mod wire;

pub use answering::Source;
pub use behaviour::{Behaviour, Delegate, Delivery, Methods, Nonce, ResultCode, Signer, Subject};
pub use cfssl::{AUTH_KEY, Cfssl};
pub use client::Client;
pub use connection::{Connection, INTERNAL_ERROR, Refusal};
pub use crl::{Crl, CrlServer, Serving};
pub use est::{Est, Manner};
pub use forger::Forger;
pub use front::{Behind, Break, Forge, Front};
pub use guest::{GuestSite, Guests};
pub use liar::{Liar, Lie};
pub use mirror::Mirror;
pub use monitor::{LOCATIONS, Monitor};
pub use named::Named;
pub use nginx::{Config, Nginx};
pub use ocsp::Status;
pub use openbao::OpenBao;
pub use openssl_ca::{Gencrl, OpensslCa, Pointers};
pub use pebble::{Pebble, Settings};
pub use pki::{Identity, KeyType, Profile};
pub use ports::Port;
pub use process::{wait_for, wait_idly, wait_until};
pub use proxy::Proxy;
pub use quic::{QuicAnswer, QuicClient, QuicRefusal};
pub use responder::{Query, Responder};
pub use site::{Plan, Site, Stored};
pub use stage::Stage;

/// Pebble, a responder for what it issues, and the two ports where it expects nginx.
pub struct Lab {
    pub pebble: Pebble,
    pub responder: Responder,
    /// Where Pebble looks for http-01.
    pub http_port: Port,
    /// Where Pebble looks for tls-alpn-01, and clients for TLS.
    pub tls_port: Port,
}

impl Lab {
    pub fn start() -> Lab {
        Lab::with(Settings::default())
    }

    /// Ports and the OCSP URL in `settings` are filled in.
    pub fn with(mut settings: Settings) -> Lab {
        let (http_port, tls_port, ocsp_port) = (Port::reserve(), Port::reserve(), Port::reserve());
        settings.http_port = http_port.number();
        settings.tls_port = tls_port.number();
        settings.ocsp_url = Some(Responder::url_at(&ocsp_port));
        let pebble = Pebble::start(&settings);
        let source =
            Source::Pebble { http: pebble.http().clone(), management: pebble.management_url() };
        let responder = Responder::start(ocsp_port, pebble.issuer(), source);
        Lab { pebble, responder, http_port, tls_port }
    }

    /// The `ssl_cert_autofetch_ca` block for this Pebble, with further lines in it.
    pub fn ca_block(&self, name: &str, more: &str) -> String {
        format!(
            "ssl_cert_autofetch_ca {name} {{\n protocol acme;\n url {};\n trusted_certificate {};\n \
             accept_terms_of_service;\n {more}\n}}\n",
            self.pebble.directory_url(),
            self.pebble.api_ca().display()
        )
    }

    /// A client of the TLS port that asks for this name and trusts Pebble's root.
    pub fn client(&self, name: &str) -> Client {
        Client::new(self.tls_port.number()).sni(name).trust(self.pebble.root_pem())
    }
}
