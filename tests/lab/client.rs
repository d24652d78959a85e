//! A TLS client on the `openssl` crate that can be as slow, old or particular as a test wants, and
//! tells what it saw.

use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::thread::JoinHandle;
use std::time::Duration;

use openssl::error::ErrorStack;
use openssl::ssl::{Ssl, SslContext, SslContextBuilder, SslMethod, SslOptions, SslSession};
use openssl::ssl::{SslSessionCacheMode, SslStream, SslVerifyMode, SslVersion, StatusType};
use openssl::x509::X509;
use openssl::x509::store::X509StoreBuilder;

use super::connection::{Connection, Opened, Refusal, Sink};
use super::pace::{Catch, Pace, Paced};

/// What the client does; each method changes one thing.
#[derive(Clone, Debug)]
pub struct Client {
    addr: SocketAddr,
    sni: Option<String>,
    /// The name that the certificate must have; the SNI's by default.
    name: Option<String>,
    roots: Vec<u8>,
    versions: (SslVersion, SslVersion),
    alpn: Vec<u8>,
    sigalgs: Option<String>,
    ciphers: Option<String>,
    groups: Option<String>,
    session: Option<Session>,
    early_data: Vec<u8>,
    preamble: Vec<u8>,
    pace: Pace,
    timeout: Duration,
}

/// Something to resume with.
#[derive(Clone, Debug)]
pub struct Session {
    pub der: Vec<u8>,
}

impl Client {
    /// Of a server on this loopback port, with TLS 1.2 and 1.3, and trust in nobody.
    pub fn new(port: u16) -> Client {
        Client {
            addr: (Ipv4Addr::LOCALHOST, port).into(),
            sni: None,
            name: None,
            roots: Vec::new(),
            versions: (SslVersion::TLS1_2, SslVersion::TLS1_3),
            alpn: Vec::new(),
            sigalgs: None,
            ciphers: None,
            groups: None,
            session: None,
            early_data: Vec::new(),
            preamble: Vec::new(),
            pace: Pace::AtOnce,
            timeout: Duration::from_secs(30),
        }
    }

    pub fn sni(mut self, name: &str) -> Client {
        self.sni = Some(name.into());
        self
    }

    /// The name or address that the certificate must have, if that is not the SNI.
    pub fn expect_name(mut self, name: &str) -> Client {
        self.name = Some(name.into());
        self
    }

    /// PEM of one or more roots.
    pub fn trust(mut self, roots: impl AsRef<[u8]>) -> Client {
        self.roots.extend(roots.as_ref());
        self
    }

    pub fn tls12(mut self) -> Client {
        self.versions = (SslVersion::TLS1_2, SslVersion::TLS1_2);
        self
    }

    pub fn tls13(mut self) -> Client {
        self.versions = (SslVersion::TLS1_3, SslVersion::TLS1_3);
        self
    }

    pub fn alpn(mut self, protocols: &[&str]) -> Client {
        let wire = |p: &&str| [&[p.len() as u8], p.as_bytes()].concat();
        self.alpn = protocols.iter().flat_map(wire).collect();
        self
    }

    /// OpenSSL's list, such as `RSA+SHA256:rsa_pss_rsae_sha256`.
    pub fn sigalgs(mut self, list: &str) -> Client {
        self.sigalgs = Some(list.into());
        self
    }

    /// Only certificates with an RSA key.
    pub fn rsa_only(self) -> Client {
        let client = self.sigalgs("rsa_pss_rsae_sha256:RSA+SHA256");
        client.ciphers("aRSA")
    }

    /// Only certificates with an ECDSA key.
    pub fn ecdsa_only(self) -> Client {
        let client = self.sigalgs("ECDSA+SHA256:ECDSA+SHA384");
        client.ciphers("aECDSA")
    }

    /// TLS 1.2 cipher suites, OpenSSL's list.
    pub fn ciphers(mut self, list: &str) -> Client {
        self.ciphers = Some(list.into());
        self
    }

    /// OpenSSL's list, such as `P-384:X25519`; the key share sent is of the first.
    pub fn groups(mut self, list: &str) -> Client {
        self.groups = Some(list.into());
        self
    }

    pub fn resume(mut self, session: &Session) -> Client {
        self.session = Some(session.clone());
        self
    }

    /// Sent before the handshake is finished, and never again: [`Connection::read_to_end`] gets an
    /// answer only if the server took it. Whether nginx's `$ssl_early_data` is 1 then is a race
    /// with the client's Finished.
    pub fn early_data(mut self, data: &[u8]) -> Client {
        self.early_data = data.into();
        self
    }

    /// Sends the ClientHello a byte at a time, with this pause after each.
    pub fn byte_by_byte(mut self, pause: Duration) -> Client {
        self.pace = Pace::Bytes(pause);
        self
    }

    /// Sends the ClientHello in TLS records of so many bytes of it.
    pub fn records(mut self, size: usize) -> Client {
        self.pace = Pace::Records(size);
        self
    }

    /// Sends early data so long after the ClientHello.
    pub fn rest_after(mut self, pause: Duration) -> Client {
        self.pace = Pace::Rest(pause);
        self
    }

    /// Sent before TLS begins, such as a PROXY line.
    pub fn preamble(mut self, bytes: &[u8]) -> Client {
        self.preamble = bytes.into();
        self
    }

    /// Of each wait for the server.
    pub fn timeout(mut self, timeout: Duration) -> Client {
        self.timeout = timeout;
        self
    }

    pub fn connect(&self) -> Result<Connection, Refusal> {
        self.open().map_err(Refusal::of_network)?.handshake()
    }

    /// [`Client::connect`] on a thread of its own.
    pub fn connect_aside(&self) -> JoinHandle<Result<Connection, Refusal>> {
        let client = self.clone();
        std::thread::spawn(move || client.connect())
    }

    /// [`Client::get`] of `/` on a thread of its own.
    pub fn get_aside(&self) -> JoinHandle<Result<(Connection, String), Refusal>> {
        let client = self.clone();
        std::thread::spawn(move || client.get("/"))
    }

    /// Connects and sends nothing yet.
    pub fn open(&self) -> io::Result<Opened> {
        let mut tcp = TcpStream::connect_timeout(&self.addr, self.timeout)?;
        tcp.set_nodelay(true)?;
        tcp.set_read_timeout(Some(self.timeout))?;
        tcp.set_write_timeout(Some(self.timeout))?;
        tcp.write_all(&self.preamble)?;
        let sink = Sink::default();
        let tls = self.tls(&sink).and_then(|ssl| SslStream::new(ssl, Paced::new(tcp, self.pace)));
        let tls = tls.expect("settings that OpenSSL accepts");
        Ok(Opened { tls, early_data: self.early_data.clone(), sink })
    }

    /// The ClientHello that [`Client::connect`] would send first, for tests that send it by hand.
    pub fn hello(&self) -> Vec<u8> {
        let tls = self.tls(&Sink::default()).and_then(|ssl| SslStream::new(ssl, Catch::default()));
        let mut tls = tls.expect("settings that OpenSSL accepts");
        let _ = tls.connect();
        std::mem::take(&mut tls.get_mut().0)
    }

    /// A GET on a new connection: the connection and the whole answer.
    pub fn get(&self, path: &str) -> Result<(Connection, String), Refusal> {
        let mut connection = self.connect()?;
        let text = connection.get(path).map_err(Refusal::of_network)?;
        Ok((connection, text))
    }

    fn tls(&self, sink: &Sink) -> Result<Ssl, ErrorStack> {
        let context = self.context(sink.clone())?;
        let mut ssl = Ssl::new(&context)?;
        if let Some(sni) = &self.sni {
            ssl.set_hostname(sni)?;
        }
        if let Some(name) = self.name.as_ref().or(self.sni.as_ref()) {
            match name.parse() {
                Ok(ip) => ssl.param_mut().set_ip(ip)?,
                Err(_) => ssl.param_mut().set_host(name)?,
            }
        }
        let sink = sink.clone();
        ssl.set_verify_callback(SslVerifyMode::PEER, move |trusted, store| {
            let chain = store.chain().into_iter().flatten().map(|c| c.to_owned());
            sink.0.lock().expect("lock").chain = chain.collect();
            trusted
        });
        ssl.set_status_type(StatusType::OCSP)?;
        if let Some(session) = &self.session {
            let session = SslSession::from_der(&session.der)?;
            // SAFETY: a session read from DER belongs to no other SSL_CTX, which is what the
            // caller must see to.
            unsafe { ssl.set_session(&session)? };
        }
        ssl.set_connect_state();
        Ok(ssl)
    }

    fn context(&self, sink: Sink) -> Result<SslContext, ErrorStack> {
        let mut b = SslContextBuilder::new(SslMethod::tls_client())?;
        b.set_min_proto_version(Some(self.versions.0))?;
        b.set_max_proto_version(Some(self.versions.1))?;
        // Without the sink of new sessions TLS 1.3 tickets would be lost: they come after the
        // handshake.
        b.set_session_cache_mode(SslSessionCacheMode::CLIENT | SslSessionCacheMode::NO_INTERNAL);
        b.set_new_session_callback(move |_, session| {
            sink.0.lock().expect("lock").sessions.push(session);
        });
        // nginx ends connections without close_notify at times; HTTP/1.1 tells the length anyway.
        b.set_options(SslOptions::IGNORE_UNEXPECTED_EOF);
        if !self.alpn.is_empty() {
            b.set_alpn_protos(&self.alpn)?;
        }
        if let Some(list) = &self.sigalgs {
            b.set_sigalgs_list(list)?;
        }
        if let Some(list) = &self.ciphers {
            b.set_cipher_list(list)?;
        }
        if let Some(list) = &self.groups {
            b.set_groups_list(list)?;
        }
        let mut roots = X509StoreBuilder::new()?;
        for root in X509::stack_from_pem(&self.roots)? {
            roots.add_cert(root)?;
        }
        b.set_cert_store(roots.build());
        Ok(b.build())
    }
}
