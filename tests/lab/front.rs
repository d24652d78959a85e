//! A server before a real CA: it passes requests on, or breaks in one way until it is mended. So
//! each failure of the way is the same for every protocol, and the CA behind is never in doubt.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use openssl::ssl::{SslConnector, SslMethod};
use openssl::x509::X509;

use super::pki::{Identity, Profile};
use super::ports::Port;
use super::wire::{Exchange, Request, Server};

/// Who answers behind a front.
#[derive(Clone)]
pub struct Behind {
    pub address: SocketAddr,
    /// PEM of its root, if it speaks TLS; its name is localhost then.
    pub tls: Option<Vec<u8>>,
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Break {
    /// Connections are refused.
    Down,
    /// Its certificate is another CA's.
    Untrusted,
    /// Its certificate is for another name.
    WrongName,
    /// Each answer has this status and nothing to read.
    Status(u16),
    /// The same, with Retry-After in seconds.
    Later(u16, u32),
    /// Status 200, and a page of HTML.
    Page,
    /// Status 200, and JSON of another kind.
    OtherJson,
    /// The true answer, whose second half never comes.
    Cut,
    /// It never ends.
    Endless,
    /// A redirect to itself.
    Redirect,
    /// A byte now and then.
    Drip,
    /// The connection is closed instead of an answer.
    Close,
    /// Nothing is ever said.
    Mute,
    /// What [`Forge`] makes of it.
    Forged,
}

/// An answer in the place of the CA's; None: the true one.
pub type Forge = Arc<dyn Fn(&Request) -> Option<Vec<u8>> + Send + Sync>;

pub struct Front {
    port: Port,
    good: Identity,
    behind: Behind,
    server: Mutex<Option<Server>>,
}

impl Front {
    /// Breaks like this where the target of a request contains `at`.
    pub fn start(
        ca: &Identity,
        behind: Behind,
        how: Break,
        at: &'static str,
        forge: Forge,
    ) -> Front {
        let good = ca.issue(&Profile::server(&["127.0.0.1"]));
        let port = Port::reserve();
        let front = Front { port, good, behind, server: Mutex::new(None) };
        let own = match how {
            Break::Down => return front,
            Break::Untrusted => {
                Identity::root("Another CA").issue(&Profile::server(&["127.0.0.1"]))
            }
            Break::WrongName => ca.issue(&Profile::server(&["other.test"])),
            _ => front.good.clone(),
        };
        let behind = front.behind.clone();
        front.serve(&own, move |request, exchange| match request.target.contains(at) {
            true => act(how, &behind, &forge, request, exchange),
            false => pass_on(&behind, request, exchange),
        });
        front
    }

    /// From now on it does what it should.
    pub fn mend(&self) {
        *self.server.lock().expect("lock") = None;
        let behind = self.behind.clone();
        self.serve(&self.good, move |request, exchange| pass_on(&behind, request, exchange));
    }

    /// Without a slash at its end.
    pub fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }

    fn serve(
        &self,
        own: &Identity,
        handler: impl Fn(&Request, &mut Exchange) -> bool + Send + Sync + 'static,
    ) {
        let server = Server::start_tls(self.port.clone(), own, Arc::new(handler));
        *self.server.lock().expect("lock") = Some(server);
    }
}

fn act(
    how: Break,
    behind: &Behind,
    forge: &Forge,
    request: &Request,
    exchange: &mut Exchange,
) -> bool {
    match how {
        Break::Down | Break::Untrusted | Break::WrongName => return false,
        Break::Status(status) => return exchange.respond(status, "text/plain", "", b""),
        Break::Later(status, seconds) => {
            let later = format!("Retry-After: {seconds}\r\n");
            return exchange.respond(status, "text/plain", &later, b"");
        }
        Break::Page => return exchange.respond(200, "text/html", "", PAGE),
        Break::OtherJson => return exchange.respond(200, "application/json", "", b"[\"hello\"]"),
        Break::Cut => {
            let answer = ask(behind, request);
            let head = answer.windows(4).position(|w| w == b"\r\n\r\n").unwrap_or_default() + 4;
            exchange.write(&answer[..head + (answer.len() - head) / 2]);
        }
        Break::Endless => {
            let mut more = exchange.write(b"HTTP/1.1 200 OK\r\n\r\n[\"");
            while more {
                more = exchange.write(&[b'x'; 4096]);
            }
        }
        Break::Redirect => {
            let host = request.header("host").unwrap_or_default();
            let location = format!("Location: https://{host}{}\r\n", request.target);
            return exchange.respond(302, "text/plain", &location, b"");
        }
        Break::Drip => {
            exchange.drip("application/json", &[b' '; 10_000], Duration::from_millis(100));
        }
        Break::Close => {}
        Break::Mute => exchange.outlast(),
        Break::Forged => match forge(request) {
            Some(body) => return exchange.respond(200, "application/json", "", &body),
            None => return pass_on(behind, request, exchange),
        },
    }
    false
}

/// The connection ends then, and the client is told: it would send its next request into it.
fn pass_on(behind: &Behind, request: &Request, exchange: &mut Exchange) -> bool {
    let answer = ask(behind, request);
    let end = answer.windows(2).position(|w| w == b"\r\n").map_or(0, |at| at + 2);
    let (status, rest) = answer.split_at(end);
    let close = if status.is_empty() { "" } else { "Connection: close\r\n" };
    exchange.write(&[status, close.as_bytes(), rest].concat());
    false
}

/// The answer as it comes; empty if none does. The Host stays: ACME signs it.
fn ask(behind: &Behind, request: &Request) -> Vec<u8> {
    let mut text =
        format!("{} {} HTTP/1.1\r\nConnection: close\r\n", request.method, request.target);
    for (name, value) in &request.headers {
        if !name.eq_ignore_ascii_case("connection") {
            text += &format!("{name}: {value}\r\n");
        }
    }
    let message = [text.as_bytes(), b"\r\n", &request.body].concat();
    let mut answer = Vec::new();
    let Ok(stream) = TcpStream::connect(behind.address) else { return answer };
    stream.set_read_timeout(Some(Duration::from_secs(30))).expect("timeout");
    match &behind.tls {
        None => exchange_with(stream, &message, &mut answer),
        Some(root) => {
            let mut connector = SslConnector::builder(SslMethod::tls_client()).expect("TLS");
            let root = X509::from_pem(root).expect("PEM");
            connector.cert_store_mut().add_cert(root).expect("root");
            if let Ok(stream) = connector.build().connect("localhost", stream) {
                exchange_with(stream, &message, &mut answer);
            }
        }
    }
    answer
}

fn exchange_with(mut stream: impl Read + Write, message: &[u8], answer: &mut Vec<u8>) {
    if stream.write_all(message).is_ok() {
        let _ = stream.read_to_end(answer);
    }
}

const PAGE: &[u8] = b"<html><body>Welcome to the portal</body></html>";
