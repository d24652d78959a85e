use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use openssl::asn1::Asn1Time;
use openssl::bn::BigNum;
use openssl::hash::MessageDigest;
use openssl::pkey::{PKey, Private};
use openssl::ssl::{SslAcceptor, SslMethod};
use openssl::x509::extension::{BasicConstraints, SubjectAlternativeName};
use openssl::x509::{X509, X509NameBuilder};

use ureq::unversioned::transport::{ConnectionDetails, Connector, Transport};

use super::*;
use crate::ca::csr::new_key;
use crate::settings::KeyType;

mod way;

fn trusting(roots: &[u8]) -> WaySettings {
    WaySettings { trusted_certificate: Some(roots.to_vec()), ..WaySettings::default() }
}

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
    NetworkHttp::new(&WaySettings::default()).unwrap()
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
    let open = [b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n".to_vec(), over.clone()].concat();
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
        for said in ["", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx"] {
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
    let (port, server) =
        server(vec![answer(&format!("200 OK{many}"), b""), answer(&format!("200 OK{long}"), b"")]);
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
    let good = NetworkHttp::new(&trusting(&root)).unwrap().send(&get(url.clone()));
    assert_eq!(good.unwrap().status, 200);
    // The system's roots: works without a panic, and does not know this one.
    for http in [NetworkHttp::new(&trusting(&other)), NetworkHttp::new(&WaySettings::default())] {
        let got = http.unwrap().send(&get(url.clone()));
        assert!(matches!(got, Err(HttpError::Tls(_))), "{got:?}");
    }
    server.join().unwrap();
}

#[test]
fn the_name_must_match() {
    let (root, acceptor) = identity("127.0.0.2");
    let (port, server) = tls_server(acceptor, 1);
    let got = NetworkHttp::new(&trusting(&root))
        .unwrap()
        .send(&get(format!("https://127.0.0.1:{port}/")));
    assert!(matches!(got, Err(HttpError::Tls(_))), "{got:?}");
    server.join().unwrap();
}

#[test]
fn a_redirect_off_tls_is_refused() {
    let (root, acceptor) = identity("127.0.0.1");
    let (port, server) = tls_server(acceptor, 1);
    let url = format!("https://127.0.0.1:{port}/redirect");
    let got =
        NetworkHttp::new(&trusting(&root)).unwrap().send(&Request { redirects: 3, ..get(url) });
    assert!(matches!(got, Err(HttpError::Url(_))), "{got:?}");
    server.join().unwrap();
}

/// ureq keeps its TLS only for what it takes for a request without settings of its own.
#[test]
fn tls_is_made_once() {
    #[derive(Debug)]
    struct Probe(Arc<Mutex<Vec<bool>>>);

    impl Connector<()> for Probe {
        type Out = Box<dyn Transport>;

        fn connect(
            &self,
            details: &ConnectionDetails<'_>,
            _: Option<()>,
        ) -> Result<Option<Self::Out>, ureq::Error> {
            self.0.lock().unwrap().push(details.request_level);
            Ok(None)
        }
    }

    let config = Agent::config_builder().build();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let probe = tls::OneContext(Probe(Arc::clone(&seen)));
    let agent = Agent::with_parts(config, probe, Reachable::default());
    let request = http::Request::get("https://127.0.0.1:1/").body(()).unwrap();
    let own = agent.configure_request(request).timeout_global(Some(Duration::from_secs(1)));
    assert!(agent.run(own.build()).is_err());
    assert_eq!(*seen.lock().unwrap(), [false]);
}

#[test]
fn roots_must_be_certificates() {
    for bad in ["", "no PEM", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
        assert!(NetworkHttp::new(&trusting(bad.as_bytes())).is_err(), "{bad}");
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
            let _ =
                stream.write_all(&answer(if redirect { &location } else { "200 OK" }, b"hello"));
        }
    };
    (port, std::thread::spawn(serve))
}
