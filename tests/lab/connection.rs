//! What a TLS client has in hand: a connection before its handshake and after it, or the refusal.

use std::io::{self, Read, Write};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use openssl::error::ErrorStack;
use openssl::ssl::{self, SslSession, SslStream};
use openssl::x509::X509;

use super::client::Session;
use super::pace::Paced;
use super::pki::serial_hex;

/// A connection whose TLS handshake has not begun.
pub struct Opened {
    pub(super) tls: SslStream<Paced>,
    pub(super) early_data: Vec<u8>,
    pub(super) sink: Sink,
}

/// A finished handshake, and the connection.
pub struct Connection {
    /// Leaf first, as the server sent it; in a resumed session the leaf alone, as it was sent at
    /// first.
    pub chain: Vec<X509>,
    /// Of the leaf.
    pub serial: String,
    pub resumed: bool,
    /// The stapled OCSP answer.
    pub staple: Option<Vec<u8>>,
    pub alpn: Option<String>,
    pub version: String,
    /// Of the handshake, from its first byte.
    pub took: Duration,
    stream: SslStream<Paced>,
    sink: Sink,
}

/// A handshake that failed.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// That the server sent, such as [`INTERNAL_ERROR`].
    pub alert: Option<u8>,
    pub message: String,
    pub took: Duration,
    /// What the server showed; empty if it was refused before that.
    pub chain: Vec<X509>,
}

/// What OpenSSL's callbacks bring.
#[derive(Clone, Default)]
pub(super) struct Sink(pub(super) Arc<Mutex<Seen>>);

#[derive(Default)]
pub(super) struct Seen {
    pub(super) chain: Vec<X509>,
    pub(super) sessions: Vec<SslSession>,
}

pub const INTERNAL_ERROR: u8 = 80;

impl Opened {
    /// The handshake, now.
    pub fn handshake(mut self) -> Result<Connection, Refusal> {
        let start = Instant::now();
        let mut result = Ok(());
        if !self.early_data.is_empty() {
            result = self.tls.write_early_data(&self.early_data).map(drop);
        }
        let result = result.and_then(|()| self.tls.connect());
        let took = start.elapsed();
        if let Err(e) = result {
            let chain = std::mem::take(&mut self.sink.0.lock().expect("lock").chain);
            return Err(Refusal { chain, took, ..Refusal::of_tls(&e) });
        }
        self.tls.get_mut().hurry();
        let ssl = self.tls.ssl();
        let sent = ssl.peer_cert_chain().into_iter().flatten();
        let mut chain: Vec<_> = sent.map(|c| c.to_owned()).collect();
        if chain.is_empty() {
            chain.extend(ssl.peer_certificate());
        }
        Ok(Connection {
            serial: chain.first().map(|c| serial_hex(c)).unwrap_or_default(),
            chain,
            resumed: ssl.session_reused(),
            staple: ssl.ocsp_status().map(<[u8]>::to_vec),
            alpn: ssl.selected_alpn_protocol().map(|p| String::from_utf8_lossy(p).into()),
            version: ssl.version_str().into(),
            took,
            stream: self.tls,
            sink: self.sink,
        })
    }
}

impl Connection {
    /// One GET; the whole answer, head and body. The connection is over then.
    pub fn get(&mut self, path: &str) -> io::Result<String> {
        let request = format!("GET {path} HTTP/1.1\r\nHost: lab\r\nConnection: close\r\n\r\n");
        self.stream.write_all(request.as_bytes())?;
        self.read_to_end()
    }

    /// What comes until the server closes, such as the answer to early data.
    pub fn read_to_end(&mut self) -> io::Result<String> {
        let mut answer = Vec::new();
        self.stream.read_to_end(&mut answer)?;
        Ok(String::from_utf8_lossy(&answer).into())
    }

    /// The newest session; with TLS 1.3 the server sends it after the handshake, so that one GET is
    /// made if need be.
    pub fn session(&mut self) -> Session {
        if self.newest_session().is_none() {
            let _ = self.get("/");
        }
        self.newest_session().expect("the server gave no session")
    }

    fn newest_session(&self) -> Option<Session> {
        let seen = self.sink.0.lock().expect("lock");
        seen.sessions.last().map(|s| Session { der: s.to_der().expect("DER") })
    }

    pub fn stream(&mut self) -> &mut (impl Read + Write) {
        &mut self.stream
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} with serial {} in {:?}", self.version, self.serial, self.took)
    }
}

impl Refusal {
    fn of_tls(e: &ssl::Error) -> Refusal {
        let errors = e.ssl_error().map(ErrorStack::errors).unwrap_or_default();
        // SSL_AD_REASON_OFFSET: OpenSSL's reason of a received alert is 1000 and its number.
        let alert = errors.iter().find_map(|e| u8::try_from(e.reason_code() - 1000).ok());
        Refusal { alert, message: e.to_string(), took: Duration::ZERO, chain: Vec::new() }
    }

    pub(super) fn of_network(e: io::Error) -> Refusal {
        Refusal { alert: None, message: e.to_string(), took: Duration::ZERO, chain: Vec::new() }
    }
}
