//! The HTTP port over the network: ureq, with OpenSSL as its TLS.
//!
//! Everything that ureq would take from its surroundings is set here: provider and roots (either
//! default panics at the first https request when only `native-tls-no-default` is built in), and
//! no proxy from the environment. There are no cookies, no decompression, no retries.

use std::io::{Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use openssl::x509::X509;
use ureq::config::Config;
use ureq::http::{self, HeaderMap};
use ureq::tls::{Certificate, RootCerts, TlsConfig, TlsProvider};
use ureq::{Agent, AsSendBody, Body};

use super::{Http, HttpError, Method, Request, Response, url};
use crate::clock::Stopwatch;
use crate::report::printable;

/// Sends requests over TCP and TLS. Connections are kept for a while and used again.
pub struct NetworkHttp {
    config: Config,
    /// How long a server of a download may say nothing: before its answer, and between its parts.
    stall: Duration,
    agent: Mutex<Agent>,
}

const USER_AGENT: &str = concat!("cert-autofetch/", env!("CARGO_PKG_VERSION"));

/// Status line and headers together.
const HEADER_LIMIT: usize = 32 * 1024;

const STALL: Duration = Duration::from_secs(10);

/// Further headers are left out.
const HEADER_COUNT: usize = 64;

impl NetworkHttp {
    /// With `trusted_certificate`, PEM of one or more roots, nobody else is trusted; without it
    /// the system's roots are: OpenSSL's default paths and what openssl-probe finds.
    pub fn new(trusted_certificate: Option<&[u8]>) -> Result<NetworkHttp, String> {
        let roots = match trusted_certificate {
            Some(pem) => RootCerts::from(certificates(pem)?),
            None => RootCerts::PlatformVerifier,
        };
        let tls = TlsConfig::builder().provider(TlsProvider::NativeTls).root_certs(roots).build();
        let config = Agent::config_builder()
            .tls_config(tls)
            .proxy(None)
            .user_agent(USER_AGENT)
            .http_status_as_error(false)
            .max_response_header_size(HEADER_LIMIT)
            .build();
        Ok(NetworkHttp { agent: Mutex::new(config.new_agent()), config, stall: STALL })
    }
}

impl Http for NetworkHttp {
    fn send(&self, request: &Request) -> Result<Response, HttpError> {
        self.run(request, None, None)
    }

    fn download(&self, request: &Request, body: &mut dyn Write) -> Result<Response, HttpError> {
        self.run(request, Some(self.stall), Some(body))
    }
}

/// Where the body of an answer with status 200 goes, if not into memory.
type Sink<'a> = Option<&'a mut dyn Write>;

/// What of an exchange is not in its request.
struct Way<'a> {
    https: bool,
    stall: Option<Duration>,
    sink: Sink<'a>,
}

impl NetworkHttp {
    fn run(
        &self,
        request: &Request,
        stall: Option<Duration>,
        sink: Sink<'_>,
    ) -> Result<Response, HttpError> {
        let Some(target) = url::target(&request.url) else {
            return Err(HttpError::Url(printable(&request.url)));
        };
        let agent = self.agent.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let way = Way { https: target.https, stall, sink };
        // ureq panics when no thread can be started for a name lookup, for one. What a panic may
        // have left half-done is inside the agent, which is thrown away.
        catch_unwind(AssertUnwindSafe(|| match request.method {
            Method::Get => exchange(&agent, request, http::Method::GET, (), way),
            Method::Head => exchange(&agent, request, http::Method::HEAD, (), way),
            Method::Post => exchange(&agent, request, http::Method::POST, &request.body, way),
        }))
        .unwrap_or_else(|_| {
            *self.agent.lock().unwrap_or_else(PoisonError::into_inner) = self.config.new_agent();
            Err(HttpError::Io("the HTTP client failed".into()))
        })
    }
}

fn certificates(pem: &[u8]) -> Result<Vec<Certificate<'static>>, String> {
    // native-tls drops what it can't read without a word: look here.
    let roots = X509::stack_from_pem(pem).map_err(|e| e.to_string())?;
    if roots.is_empty() {
        return Err("no certificate in PEM found".into());
    }
    let der = |x: &X509| x.to_der().map(|der| Certificate::from_der(&der).to_owned());
    roots.iter().map(|x| der(x).map_err(|e| e.to_string())).collect()
}

fn exchange(
    agent: &Agent,
    request: &Request,
    method: http::Method,
    body: impl AsSendBody,
    way: Way<'_>,
) -> Result<Response, HttpError> {
    let mut builder = http::Request::builder().method(method).uri(&request.url);
    for (name, value) in &request.headers {
        builder = builder.header(*name, value);
    }
    let ready = builder.body(body).map_err(|e| HttpError::Url(printable(&e.to_string())))?;
    let ready = agent
        .configure_request(ready)
        .timeout_global(Some(request.timeout))
        .timeout_resolve(way.stall)
        .timeout_connect(way.stall)
        .timeout_recv_response(way.stall)
        .timeout_per_read(way.stall)
        .max_redirects(request.redirects)
        // A redirect must not take a request off TLS.
        .https_only(way.https)
        .build();
    let mut answer = agent.run(ready).map_err(error)?;
    let headers = headers(answer.headers());
    let status = answer.status().as_u16();
    let body = match way.sink {
        None => read(answer.body_mut(), request.limit)?,
        Some(sink) if status == 200 => {
            copy(answer.body_mut(), request.limit, sink)?;
            Vec::new()
        }
        Some(_) => Vec::new(),
    };
    Ok(Response { status, headers, body })
}

/// Writes the body to `sink`, and of one that is too long as much as is allowed.
fn copy(body: &mut Body, limit: usize, sink: &mut dyn Write) -> Result<(), HttpError> {
    let most = u64::try_from(limit).unwrap_or(u64::MAX);
    if body.content_length().is_some_and(|length| length > most) {
        return Err(HttpError::TooLarge(limit));
    }
    let (mut reader, mut left, mut part) = (body.as_reader(), limit, vec![0; PART]);
    let watch = Stopwatch::start();
    loop {
        let count = reader.read(&mut part).map_err(|e| error(e.into()))?;
        if count == 0 {
            return Ok(());
        }
        left = left.checked_sub(count).ok_or(HttpError::TooLarge(limit))?;
        sink.write_all(&part[..count]).map_err(|e| HttpError::Write(printable(&e.to_string())))?;
        if is_too_slow(limit - left, watch.elapsed()) {
            return Err(HttpError::TooSlow(SLOWEST));
        }
    }
}

const PART: usize = 64 * 1024;

/// Who drips a byte now and then would have a thread for as long as the request may take.
fn is_too_slow(bytes: usize, time: Duration) -> bool {
    time > GRACE && (bytes as f64) < time.as_secs_f64() * SLOWEST as f64
}

const GRACE: Duration = Duration::from_secs(10);
/// Bytes a second.
const SLOWEST: u64 = 4096;

/// Reads no more than one byte over the limit.
fn read(body: &mut Body, limit: usize) -> Result<Vec<u8>, HttpError> {
    let mut bytes = Vec::new();
    let most = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    body.as_reader().take(most).read_to_end(&mut bytes).map_err(|e| error(e.into()))?;
    if bytes.len() > limit { Err(HttpError::TooLarge(limit)) } else { Ok(bytes) }
}

/// Values that are not visible ASCII mean nothing to us and are left out.
fn headers(map: &HeaderMap) -> Vec<(String, String)> {
    map.iter()
        .filter_map(|(name, value)| {
            Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned()))
        })
        .take(HEADER_COUNT)
        .collect()
}

fn error(e: ureq::Error) -> HttpError {
    use ureq::Error;
    match e {
        Error::Timeout(_) => HttpError::Timeout,
        Error::Io(e) if e.kind() == std::io::ErrorKind::TimedOut => HttpError::Timeout,
        Error::Io(e) => HttpError::Io(e.to_string()),
        Error::BadUri(text) | Error::RequireHttpsOnly(text) => HttpError::Url(printable(&text)),
        Error::LargeResponseHeader(_, limit) => HttpError::TooLarge(limit),
        Error::NativeTls(e) => HttpError::Tls(printable(&e.to_string())),
        Error::Tls(_) | Error::Pem(_) | Error::Der(_) | Error::TlsRequired => {
            HttpError::Tls(e.to_string())
        }
        other => HttpError::Io(printable(&other.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Write};
    use std::net::{TcpListener, TcpStream};
    use std::thread::JoinHandle;
    use std::time::Duration;

    use openssl::asn1::Asn1Time;
    use openssl::bn::BigNum;
    use openssl::hash::MessageDigest;
    use openssl::pkey::{PKey, Private};
    use openssl::ssl::{SslAcceptor, SslMethod};
    use openssl::x509::X509NameBuilder;
    use openssl::x509::extension::{BasicConstraints, SubjectAlternativeName};

    use super::*;
    use crate::ca::csr::new_key;
    use crate::settings::KeyType;

    #[test]
    fn who_drips_is_left() {
        for (bytes, millis, expected) in [
            (0, 10_000, false),
            (0, 10_001, true),
            (10, 9_000, false),
            (4096 * 11, 11_000, false),
            (4096 * 11 - 1, 11_000, true),
            (70_000_000, 299_000, false),
            (1_000_000, 299_000, true),
        ] {
            assert_eq!(is_too_slow(bytes, Duration::from_millis(millis)), expected, "{millis}");
        }
    }

    fn get(url: String) -> Request {
        Request {
            method: Method::Get,
            url,
            headers: vec![("Accept", "text/plain".into())],
            body: Vec::new(),
            redirects: 0,
            limit: 100,
            timeout: Duration::from_secs(5),
        }
    }

    /// Answers one connection after another with `answers` and tells the requests' heads.
    fn server(answers: Vec<Vec<u8>>) -> (u16, JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let serve = move || {
            let mut heads = Vec::new();
            for answer in answers {
                let (stream, _) = listener.accept().unwrap();
                heads.push(head(&stream));
                (&stream).write_all(&answer).unwrap();
            }
            heads
        };
        (port, std::thread::spawn(serve))
    }

    fn head(stream: &TcpStream) -> String {
        let lines = BufReader::new(stream).lines().map_while(Result::ok);
        lines.take_while(|l| !l.is_empty()).collect::<Vec<_>>().join("\n")
    }

    fn answer(head: &str, body: &[u8]) -> Vec<u8> {
        let length = body.len();
        let mut text =
            format!("HTTP/1.1 {head}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n")
                .into_bytes();
        text.extend_from_slice(body);
        text
    }

    fn http() -> NetworkHttp {
        NetworkHttp::new(None).unwrap()
    }

    #[test]
    fn status_headers_and_body_pass() {
        let (port, server) = server(vec![answer("503 No\r\nRETRY-After: 7\r\nX: a", b"busy")]);
        let got = http().send(&get(format!("http://127.0.0.1:{port}/x?y"))).unwrap();
        assert_eq!((got.status, got.body.as_slice()), (503, b"busy".as_slice()));
        assert_eq!(got.header("retry-after"), Some("7"));
        let head = server.join().unwrap().remove(0).to_ascii_lowercase();
        assert!(head.starts_with("get /x?y http/1.1\n"), "{head}");
        assert!(head.contains("\naccept: text/plain"), "{head}");
        assert!(head.contains(&format!("\nuser-agent: {USER_AGENT}")), "{head}");
        assert!(!head.contains("accept-encoding"), "{head}");
    }

    #[test]
    fn a_body_may_be_as_long_as_the_limit_and_no_longer() {
        let endless = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n".to_vec();
        let endless = [endless, vec![b'x'; 101]].concat();
        let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n65\r\n".to_vec();
        let chunked = [chunked, vec![b'x'; 0x65], b"\r\n0\r\n\r\n".to_vec()].concat();
        let (port, server) = server(vec![
            answer("200 OK", &[b'x'; 100]),
            answer("200 OK", &[b'x'; 101]),
            endless,
            chunked,
        ]);
        let http = http();
        let url = || format!("http://127.0.0.1:{port}/");
        assert_eq!(http.send(&get(url())).unwrap().body.len(), 100);
        for _ in 0..3 {
            let got = http.send(&get(url()));
            assert!(matches!(got, Err(HttpError::TooLarge(100))), "{got:?}");
        }
        server.join().unwrap();
    }

    #[test]
    fn a_download_goes_to_its_writer() {
        let (part, over) = (vec![b'x'; 1000], vec![b'x'; 300_001]);
        let open =
            [b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n".to_vec(), over.clone()].concat();
        let (port, server) = server(vec![
            answer("200 OK\r\nETag: x", &over[1..]),
            answer("304 Not Modified", b""),
            answer("404 No", &part),
            answer("200 OK", &over), // told by its length
            open,
            answer("200 OK", &part)[..500].to_vec(),
        ]);
        let http = http();
        let url = || format!("http://127.0.0.1:{port}/");
        let download = || {
            let mut body = Vec::new();
            let got = http.download(&Request { limit: 300_000, ..get(url()) }, &mut body);
            (got, body.len())
        };
        let (got, length) = download();
        let got = got.unwrap();
        assert_eq!((got.status, got.header("etag"), length), (200, Some("x"), 300_000));
        assert!(got.body.is_empty());
        for status in [304, 404] {
            let (got, length) = download();
            assert_eq!((got.unwrap().status, length), (status, 0));
        }
        for least in [0, 1] {
            let (got, length) = download();
            assert!(matches!(got, Err(HttpError::TooLarge(300_000))), "{got:?}");
            assert!((least..=300_000).contains(&length), "{length}");
        }
        let (got, _) = download();
        assert!(matches!(got, Err(HttpError::Io(_))), "cut off: {got:?}");
        server.join().unwrap();
    }

    #[test]
    fn a_download_that_cannot_be_written_says_so() {
        struct Full;
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
                Err(std::io::ErrorKind::StorageFull.into())
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let (port, server) = server(vec![answer("200 OK", b"x")]);
        let got = http().download(&get(format!("http://127.0.0.1:{port}/")), &mut Full);
        assert!(matches!(got, Err(HttpError::Write(_))), "{got:?}");
        server.join().unwrap();
    }

    #[test]
    fn a_download_that_stalls_is_given_up() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let serve = std::thread::spawn(move || {
            for said in ["", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx"]
            {
                let (stream, _) = listener.accept().unwrap();
                head(&stream);
                (&stream).write_all(said.as_bytes()).unwrap();
                let _ = (&stream).read(&mut [0]); // till the client has gone
            }
        });
        let http = NetworkHttp { stall: Duration::from_millis(100), ..http() };
        let url = format!("http://127.0.0.1:{port}/");
        let request = Request { timeout: Duration::from_secs(600), ..get(url) };
        for _ in 0..3 {
            let got = http.download(&request, &mut Vec::new());
            assert!(matches!(got, Err(HttpError::Timeout)), "{got:?}");
        }
        serve.join().unwrap();
    }

    #[test]
    fn redirects_only_as_many_as_asked_for() {
        let moved = || answer("302 Found\r\nLocation: /there", b"");
        let (port, server) = server(vec![moved(), moved(), answer("200 OK", b"here")]);
        let url = format!("http://127.0.0.1:{port}/");
        assert_eq!(http().send(&get(url.clone())).unwrap().status, 302);
        let got = http().send(&Request { redirects: 2, ..get(url) }).unwrap();
        assert_eq!((got.status, got.body.as_slice()), (200, b"here".as_slice()));
        assert!(server.join().unwrap()[2].starts_with("GET /there "));
    }

    #[test]
    fn too_many_redirects_are_an_error() {
        let moved = || answer("302 Found\r\nLocation: /", b"");
        let (port, server) = server(vec![moved(), moved()]);
        let request = Request { redirects: 1, ..get(format!("http://127.0.0.1:{port}/")) };
        assert!(matches!(http().send(&request), Err(HttpError::Io(_))));
        server.join().unwrap();
    }

    #[test]
    fn a_post_carries_its_body() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let serve = std::thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            let mut text = String::new();
            // Byte by byte: the body may come with the head or after it.
            for byte in BufReader::new(&stream).bytes() {
                text.push(byte.unwrap().into());
                if text.ends_with("hello") {
                    break;
                }
            }
            (&stream).write_all(&answer("201 Created", b"")).unwrap();
            text
        });
        let request = Request {
            method: Method::Post,
            body: b"hello".to_vec(),
            ..get(format!("http://127.0.0.1:{port}/"))
        };
        assert_eq!(http().send(&request).unwrap().status, 201);
        let text = serve.join().unwrap().to_ascii_lowercase();
        assert!(text.starts_with("post / ") && text.contains("content-length: 5"), "{text}");
    }

    #[test]
    fn silence_is_a_timeout() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        for url in [format!("http://127.0.0.1:{port}/"), format!("https://127.0.0.1:{port}/")] {
            let request = Request { timeout: Duration::from_millis(50), ..get(url) };
            let got = http().send(&request);
            assert!(matches!(got, Err(HttpError::Timeout)), "{got:?}");
        }
    }

    #[test]
    fn headers_are_bounded() {
        let many = (0..100).map(|i| format!("\r\nX-{i}: y")).collect::<String>();
        let long = format!("\r\nX: {}", "y".repeat(HEADER_LIMIT));
        let (port, server) = server(vec![
            answer(&format!("200 OK{many}"), b""),
            answer(&format!("200 OK{long}"), b""),
        ]);
        let url = || format!("http://127.0.0.1:{port}/");
        assert_eq!(http().send(&get(url())).unwrap().headers.len(), HEADER_COUNT);
        let got = http().send(&get(url()));
        assert!(matches!(got, Err(HttpError::TooLarge(HEADER_LIMIT))), "{got:?}");
        // The server may fail to write all of it.
        let _ = server.join();
    }

    #[test]
    fn unusable_urls_and_headers() {
        for url in ["ftp://127.0.0.1/", "127.0.0.1", "", "http://u:p@127.0.0.1/", "http:///"] {
            let got = http().send(&get(url.into()));
            assert!(matches!(got, Err(HttpError::Url(_))), "{url}: {got:?}");
        }
        let mut request = get("http://127.0.0.1:9/".into());
        request.headers.push(("X", "a\r\nb".into()));
        assert!(matches!(http().send(&request), Err(HttpError::Url(_))));
    }

    #[test]
    fn nobody_there() {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let got = http().send(&get(format!("http://127.0.0.1:{port}/")));
        assert!(matches!(got, Err(HttpError::Io(_))), "{got:?}");
    }

    #[test]
    fn only_the_given_roots_are_trusted() {
        let (root, acceptor) = identity("127.0.0.1");
        let (other, _) = identity("127.0.0.1");
        let (port, server) = tls_server(acceptor, 3);
        let url = format!("https://127.0.0.1:{port}/");
        let good = NetworkHttp::new(Some(&root)).unwrap().send(&get(url.clone()));
        assert_eq!(good.unwrap().status, 200);
        // The system's roots: works without a panic, and does not know this one.
        for http in [NetworkHttp::new(Some(&other)), NetworkHttp::new(None)] {
            let got = http.unwrap().send(&get(url.clone()));
            assert!(matches!(got, Err(HttpError::Tls(_))), "{got:?}");
        }
        server.join().unwrap();
    }

    #[test]
    fn the_name_must_match() {
        let (root, acceptor) = identity("127.0.0.2");
        let (port, server) = tls_server(acceptor, 1);
        let got =
            NetworkHttp::new(Some(&root)).unwrap().send(&get(format!("https://127.0.0.1:{port}/")));
        assert!(matches!(got, Err(HttpError::Tls(_))), "{got:?}");
        server.join().unwrap();
    }

    #[test]
    fn a_redirect_off_tls_is_refused() {
        let (root, acceptor) = identity("127.0.0.1");
        let (port, server) = tls_server(acceptor, 1);
        let url = format!("https://127.0.0.1:{port}/redirect");
        let got =
            NetworkHttp::new(Some(&root)).unwrap().send(&Request { redirects: 3, ..get(url) });
        assert!(matches!(got, Err(HttpError::Url(_))), "{got:?}");
        server.join().unwrap();
    }

    #[test]
    fn roots_must_be_certificates() {
        for bad in ["", "no PEM", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
        {
            assert!(NetworkHttp::new(Some(bad.as_bytes())).is_err(), "{bad}");
        }
    }

    /// A self-signed certificate for `ip` in PEM, and a server that has it.
    fn identity(ip: &str) -> (Vec<u8>, SslAcceptor) {
        let key = new_key(KeyType::Ecdsa256).unwrap();
        let cert = self_signed(&key, ip);
        let mut acceptor = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls()).unwrap();
        acceptor.set_private_key(&key).unwrap();
        acceptor.set_certificate(&cert).unwrap();
        (cert.to_pem().unwrap(), acceptor.build())
    }

    fn self_signed(key: &PKey<Private>, ip: &str) -> X509 {
        let mut name = X509NameBuilder::new().unwrap();
        name.append_entry_by_text("CN", ip).unwrap();
        let name = name.build();
        let mut cert = X509::builder().unwrap();
        cert.set_version(2).unwrap();
        let serial = BigNum::from_u32(1).unwrap().to_asn1_integer().unwrap();
        cert.set_serial_number(&serial).unwrap();
        cert.set_subject_name(&name).unwrap();
        cert.set_issuer_name(&name).unwrap();
        cert.set_pubkey(key).unwrap();
        cert.set_not_before(&Asn1Time::days_from_now(0).unwrap()).unwrap();
        cert.set_not_after(&Asn1Time::days_from_now(1).unwrap()).unwrap();
        cert.append_extension(BasicConstraints::new().ca().build().unwrap()).unwrap();
        let names = SubjectAlternativeName::new().ip(ip).build(&cert.x509v3_context(None, None));
        cert.append_extension(names.unwrap()).unwrap();
        cert.sign(key, MessageDigest::sha256()).unwrap();
        cert.build()
    }

    /// Answers 200, or on a path /redirect a redirect to http, `connections` times.
    fn tls_server(acceptor: SslAcceptor, connections: usize) -> (u16, JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let serve = move || {
            for _ in 0..connections {
                let (stream, _) = listener.accept().unwrap();
                let Ok(mut stream) = acceptor.accept(stream) else { continue };
                let mut request = [0; 1000];
                let length = stream.read(&mut request).unwrap_or(0);
                let location = format!("302 Found\r\nLocation: http://127.0.0.1:{port}/");
                let redirect = request[..length].starts_with(b"GET /redirect");
                let _ = stream
                    .write_all(&answer(if redirect { &location } else { "200 OK" }, b"hello"));
            }
        };
        (port, std::thread::spawn(serve))
    }
}
