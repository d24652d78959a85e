//! A small HTTP/1.1 server, with TLS or without, for responders and hostile fixtures: each
//! connection has a thread, and the handler owns it, so that it can also answer late, in part, or
//! with nonsense.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use openssl::ssl::{SslAcceptor, SslAcceptorBuilder, SslMethod, SslVerifyMode};
use openssl::x509::store::X509StoreBuilder;
use openssl::x509::{X509, X509PurposeId};

use super::pki::Identity;
use super::ports::Port;

/// Answers requests until it is dropped.
pub struct Server {
    port: Port,
    tls: Option<Arc<SslAcceptor>>,
    handler: Handler,
    running: Mutex<Option<Running>>,
}

/// Whether the connection may be used for another request is the handler's answer.
pub type Handler = Arc<dyn Fn(&Request, &mut Exchange) -> bool + Send + Sync>;

#[derive(Clone, Debug)]
pub struct Request {
    pub method: String,
    pub target: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

/// The handler's side of a connection.
pub struct Exchange {
    /// What the client has shown of itself in TLS, verified.
    pub client: Option<X509>,
    stream: Box<dyn Stream>,
    stop: Arc<AtomicBool>,
}

trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

struct Running {
    stop: Arc<AtomicBool>,
    acceptor: JoinHandle<()>,
}

impl Server {
    pub fn start(port: Port, handler: Handler) -> Server {
        Server::with(port, None, handler)
    }

    /// Over TLS, with this certificate.
    pub fn start_tls(port: Port, identity: &Identity, handler: Handler) -> Server {
        Server::with(port, Some(Arc::new(acceptor(identity).build())), handler)
    }

    /// The same; clients may show a certificate that leads to `root`, and is for this purpose.
    pub fn start_tls_asking(
        port: Port,
        identity: &Identity,
        root: &X509,
        purpose: X509PurposeId,
        handler: Handler,
    ) -> Server {
        let mut b = acceptor(identity);
        let mut store = X509StoreBuilder::new().expect("store");
        store.add_cert(root.clone()).expect("root");
        b.set_verify_cert_store(store.build()).expect("store");
        b.verify_param_mut().set_purpose(purpose).expect("purpose");
        b.set_verify(SslVerifyMode::PEER);
        b.set_session_id_context(b"lab").expect("session id context");
        Server::with(port, Some(Arc::new(b.build())), handler)
    }

    fn with(port: Port, tls: Option<Arc<SslAcceptor>>, handler: Handler) -> Server {
        let server = Server { port, tls, handler, running: Mutex::new(None) };
        server.up();
        server
    }

    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// Closes the listening socket: connections are refused till [`Server::up`].
    pub fn down(&self) {
        let Some(running) = self.running.lock().expect("lock").take() else { return };
        running.stop.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.port.addr());
        let _ = running.acceptor.join();
    }

    pub fn up(&self) {
        let mut running = self.running.lock().expect("lock");
        if running.is_some() {
            return;
        }
        let listener = TcpListener::bind(self.port.addr()).expect("bind() to the reserved port");
        let stop = Arc::new(AtomicBool::new(false));
        let (handler, stopped, tls) = (self.handler.clone(), stop.clone(), self.tls.clone());
        let acceptor = std::thread::spawn(move || accept(listener, tls, handler, stopped));
        *running = Some(Running { stop, acceptor });
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.down();
    }
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
    }
}

impl Exchange {
    /// A whole answer; further header lines end with CRLF each.
    pub fn respond(&mut self, status: u16, content_type: &str, more: &str, body: &[u8]) -> bool {
        let head = head(status, content_type, more, body.len());
        self.write(&[head.as_bytes(), body].concat())
    }

    /// The same, a byte at a time.
    pub fn drip(&mut self, content_type: &str, body: &[u8], pause: Duration) -> bool {
        let head = head(200, content_type, "", body.len());
        self.write(head.as_bytes()) && body.iter().all(|b| self.write(&[*b]) && self.pause(pause))
    }

    pub fn write(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    /// Lets time pass; false if the server is stopped meanwhile.
    pub fn pause(&self, time: Duration) -> bool {
        let end = Instant::now() + time;
        while !self.stop.load(Ordering::SeqCst) {
            match end.checked_duration_since(Instant::now()) {
                Some(left) if !left.is_zero() => std::thread::sleep(left.min(TICK)),
                _ => return true,
            }
        }
        false
    }

    /// Says nothing until the client gives up.
    pub fn outlast(&mut self) {
        let mut ignored = [0; 256];
        while !matches!(self.read(&mut ignored), Some(0) | None) {}
    }

    /// As read(2); None on errors and if the server is stopped.
    fn read(&mut self, buffer: &mut [u8]) -> Option<usize> {
        while !self.stop.load(Ordering::SeqCst) {
            match self.stream.read(buffer) {
                Ok(n) => return Some(n),
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(_) => return None,
            }
        }
        None
    }

    fn request(&mut self) -> Option<Request> {
        let mut data = Vec::new();
        let mut buffer = [0; 4096];
        let head_end = loop {
            if let Some(at) = data.windows(4).position(|w| w == b"\r\n\r\n") {
                break at;
            }
            match self.read(&mut buffer)? {
                0 => return None,
                n => data.extend(&buffer[..n]),
            }
        };
        let head = String::from_utf8_lossy(&data[..head_end]).into_owned();
        let mut lines = head.split("\r\n");
        let mut first = lines.next()?.split(' ');
        let mut request = Request {
            method: first.next()?.into(),
            target: first.next()?.into(),
            headers: lines
                .filter_map(|l| l.split_once(':'))
                .map(|(n, v)| (n.trim().into(), v.trim().into()))
                .collect(),
            body: data.split_off(head_end + 4),
        };
        let len = request.header("content-length").map_or(Some(0), |v| v.parse().ok())?;
        while request.body.len() < len {
            match self.read(&mut buffer)? {
                0 => return None,
                n => request.body.extend(&buffer[..n]),
            }
        }
        Some(request)
    }
}

fn acceptor(identity: &Identity) -> SslAcceptorBuilder {
    let mut b = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server()).expect("TLS");
    b.set_certificate(&identity.cert).expect("certificate");
    b.set_private_key(&identity.key).expect("key");
    for certificate in &identity.chain {
        b.add_extra_chain_cert(certificate.clone()).expect("chain");
    }
    b
}

fn accept(
    listener: TcpListener,
    tls: Option<Arc<SslAcceptor>>,
    handler: Handler,
    stop: Arc<AtomicBool>,
) {
    for stream in listener.incoming() {
        if stop.load(Ordering::SeqCst) {
            return;
        }
        let Ok(stream) = stream else { continue };
        let (handler, stop, tls) = (handler.clone(), stop.clone(), tls.clone());
        std::thread::spawn(move || {
            let Some((stream, client)) = prepare(stream, tls.as_deref()) else { return };
            let mut exchange = Exchange { client, stream, stop };
            while let Some(request) = exchange.request() {
                let wants_more = request.header("connection") != Some("close");
                if !handler(&request, &mut exchange) || !wants_more {
                    break;
                }
            }
        });
    }
}

/// With the client's certificate. None: no TLS came about.
fn prepare(
    stream: TcpStream,
    tls: Option<&SslAcceptor>,
) -> Option<(Box<dyn Stream>, Option<X509>)> {
    stream.set_nodelay(true).ok()?;
    let Some(tls) = tls else {
        stream.set_read_timeout(Some(TICK)).ok()?;
        return Some((Box::new(stream), None));
    };
    stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
    let stream = tls.accept(stream).ok()?;
    stream.get_ref().set_read_timeout(Some(TICK)).ok()?;
    let client = stream.ssl().peer_certificate();
    Some((Box::new(stream), client))
}

fn head(status: u16, content_type: &str, more: &str, len: usize) -> String {
    format!(
        "HTTP/1.1 {status} Lab\r\nContent-Type: {content_type}\r\n\
         {more}Content-Length: {len}\r\n\r\n"
    )
}

const TICK: Duration = Duration::from_millis(20);
