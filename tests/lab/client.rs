//! A TLS client on the `openssl` crate that can be as slow, old or particular as a test wants, and
//! tells what it saw.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use openssl::error::ErrorStack;
use openssl::ssl::{Ssl, SslContext, SslContextBuilder, SslMethod, SslOptions, SslSession};
use openssl::ssl::{SslSessionCacheMode, SslStream, SslVerifyMode, SslVersion, StatusType};
use openssl::x509::X509;
use openssl::x509::store::X509StoreBuilder;

use super::pki::serial_hex;

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
    session: Option<Session>,
    early_data: Vec<u8>,
    pace: Option<Duration>,
    timeout: Duration,
}

/// A connection whose TLS handshake has not begun.
pub struct Opened {
    client: Client,
    tcp: TcpStream,
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
    sessions: Arc<Mutex<Vec<SslSession>>>,
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

/// Something to resume with.
#[derive(Clone, Debug)]
pub struct Session {
    der: Vec<u8>,
}

pub const INTERNAL_ERROR: u8 = 80;

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
            session: None,
            early_data: Vec::new(),
            pace: None,
            timeout: Duration::from_secs(30),
        }
    }

    pub fn sni(mut self, name: &str) -> Client {
        self.sni = Some(name.into());
        self
    }

    /// The name that the certificate must have, if that is not the SNI.
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

    pub fn resume(mut self, session: &Session) -> Client {
        self.session = Some(session.clone());
        self
    }

    /// Sent before the handshake is finished, if the session allows it; nginx's `$ssl_early_data`
    /// tells whether it was taken as such, and [`Connection::read_to_end`] reads the answer.
    pub fn early_data(mut self, data: &[u8]) -> Client {
        self.early_data = data.into();
        self
    }

    /// Sends the ClientHello a byte at a time, with this pause after each.
    pub fn byte_by_byte(mut self, pause: Duration) -> Client {
        self.pace = Some(pause);
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

    /// Connects and sends nothing yet.
    pub fn open(&self) -> io::Result<Opened> {
        let tcp = TcpStream::connect_timeout(&self.addr, self.timeout)?;
        tcp.set_nodelay(true)?;
        tcp.set_read_timeout(Some(self.timeout))?;
        tcp.set_write_timeout(Some(self.timeout))?;
        Ok(Opened { client: self.clone(), tcp })
    }

    /// A GET on a new connection: the connection and the whole answer.
    pub fn get(&self, path: &str) -> Result<(Connection, String), Refusal> {
        let mut connection = self.connect()?;
        let text = connection.get(path).map_err(Refusal::of_network)?;
        Ok((connection, text))
    }

    fn context(&self, sessions: Arc<Mutex<Vec<SslSession>>>) -> Result<SslContext, ErrorStack> {
        let mut b = SslContextBuilder::new(SslMethod::tls_client())?;
        b.set_min_proto_version(Some(self.versions.0))?;
        b.set_max_proto_version(Some(self.versions.1))?;
        // Without the sink of new sessions TLS 1.3 tickets would be lost: they come after the
        // handshake.
        b.set_session_cache_mode(SslSessionCacheMode::CLIENT | SslSessionCacheMode::NO_INTERNAL);
        b.set_new_session_callback(move |_, session| {
            sessions.lock().expect("lock").push(session);
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
        let mut roots = X509StoreBuilder::new()?;
        for root in X509::stack_from_pem(&self.roots)? {
            roots.add_cert(root)?;
        }
        b.set_cert_store(roots.build());
        Ok(b.build())
    }
}

impl Opened {
    /// The handshake, now.
    pub fn handshake(self) -> Result<Connection, Refusal> {
        let Opened { client, tcp } = self;
        let start = Instant::now();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let sessions = Arc::new(Mutex::new(Vec::new()));
        let stream = Paced { tcp, pause: client.pace };
        let mut tls = client
            .context(sessions.clone())
            .and_then(|context| prepare(&client, &context, seen.clone()))
            .and_then(|ssl| SslStream::new(ssl, stream))
            .expect("settings that OpenSSL accepts");
        let mut result = Ok(());
        if !client.early_data.is_empty() {
            result = tls.write_early_data(&client.early_data).map(drop);
        }
        let result = result.and_then(|()| tls.connect());
        let took = start.elapsed();
        let chain: Vec<X509> = seen.lock().expect("lock").clone();
        if let Err(e) = result {
            return Err(Refusal { chain, took, ..Refusal::of_tls(&e) });
        }
        tls.get_mut().pause = None;
        let ssl = tls.ssl();
        let mut sent: Vec<X509> =
            ssl.peer_cert_chain().into_iter().flatten().map(|c| c.to_owned()).collect();
        if sent.is_empty() {
            sent.extend(ssl.peer_certificate());
        }
        Ok(Connection {
            serial: sent.first().map(|c| serial_hex(c)).unwrap_or_default(),
            chain: sent,
            resumed: ssl.session_reused(),
            staple: ssl.ocsp_status().map(<[u8]>::to_vec),
            alpn: ssl.selected_alpn_protocol().map(|p| String::from_utf8_lossy(p).into()),
            version: ssl.version_str().into(),
            took,
            stream: tls,
            sessions,
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
        if self.sessions.lock().expect("lock").is_empty() {
            let _ = self.get("/");
        }
        let sessions = self.sessions.lock().expect("lock");
        let newest = sessions.last().expect("the server gave no session");
        Session { der: newest.to_der().expect("DER") }
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
    fn of_tls(e: &openssl::ssl::Error) -> Refusal {
        let errors = e.ssl_error().map(ErrorStack::errors).unwrap_or_default();
        // SSL_AD_REASON_OFFSET: OpenSSL's reason of a received alert is 1000 and its number.
        let alert = errors.iter().find_map(|e| u8::try_from(e.reason_code() - 1000).ok());
        Refusal { alert, message: e.to_string(), took: Duration::ZERO, chain: Vec::new() }
    }

    fn of_network(e: io::Error) -> Refusal {
        Refusal { alert: None, message: e.to_string(), took: Duration::ZERO, chain: Vec::new() }
    }
}

fn prepare(
    client: &Client,
    context: &SslContext,
    seen: Arc<Mutex<Vec<X509>>>,
) -> Result<Ssl, ErrorStack> {
    let mut ssl = Ssl::new(context)?;
    if let Some(sni) = &client.sni {
        ssl.set_hostname(sni)?;
    }
    if let Some(name) = client.name.as_ref().or(client.sni.as_ref()) {
        ssl.param_mut().set_host(name)?;
    }
    ssl.set_verify_callback(SslVerifyMode::PEER, move |trusted, store| {
        let chain = store.chain().into_iter().flatten().map(|c| c.to_owned());
        *seen.lock().expect("lock") = chain.collect();
        trusted
    });
    ssl.set_status_type(StatusType::OCSP)?;
    if let Some(session) = &client.session {
        let session = SslSession::from_der(&session.der)?;
        // SAFETY: a session read from DER belongs to no other SSL_CTX, which is what the caller
        // must see to.
        unsafe { ssl.set_session(&session)? };
    }
    ssl.set_connect_state();
    Ok(ssl)
}

/// The socket, with a pause after each byte as long as it has one.
struct Paced {
    tcp: TcpStream,
    pause: Option<Duration>,
}

impl Read for Paced {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.tcp.read(buffer)
    }
}

impl Write for Paced {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.pause {
            None => self.tcp.write(bytes),
            Some(pause) => {
                std::thread::sleep(pause);
                self.tcp.write(&bytes[..bytes.len().min(1)])
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.tcp.flush()
    }
}
