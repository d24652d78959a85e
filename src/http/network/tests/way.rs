//! By a proxy, and with a client certificate.

use openssl::rsa::Rsa;
use openssl::ssl::SslVerifyMode;

use super::*;
use crate::settings::{ProxySettings, Secret, Signer};

fn by(port: u16, user: &str) -> WaySettings {
    let url = Secret::new(format!("http://{user}127.0.0.1:{port}").into_bytes());
    WaySettings { proxy: Some(ProxySettings { url }), ..WaySettings::default() }
}

/// Base64 of `me:h:ush@`.
const BASIC: &str = "proxy-authorization: Basic bWU6aDp1c2hA";
const USER: &str = "me:h%3Aush%40@";

#[test]
fn http_goes_by_the_absolute_form() {
    for (user, sent) in [("", false), (USER, true)] {
        let (port, server) = server(vec![answer("200 OK", b"here"), answer("200 OK", b"there")]);
        let http = NetworkHttp::new(&by(port, user)).unwrap();
        let request = Request {
            method: Method::Post,
            body: vec![b'x'; 90],
            ..get("http://ocsp.example:81/a?b".into())
        };
        assert_eq!(http.send(&request).unwrap().body, b"here");
        // Its name need not be one that we can resolve; a second request comes by a new connection.
        assert_eq!(http.send(&get("http://127.0.0.1:9".into())).unwrap().body, b"there");
        let heads = server.join().unwrap();
        assert!(heads[0].starts_with("POST http://ocsp.example:81/a?b HTTP/1.1\n"), "{heads:?}");
        assert!(heads[1].starts_with("GET http://127.0.0.1:9/ HTTP/1.1\n"), "{heads:?}");
        let lower = heads[0].to_ascii_lowercase();
        assert!(lower.contains("\nhost: ocsp.example:81"), "{heads:?}");
        for head in &heads {
            let found = head.to_ascii_lowercase().contains(&BASIC.to_ascii_lowercase());
            assert_eq!(found, sent, "{head}");
        }
    }
}

#[test]
fn redirects_keep_to_the_proxy() {
    let (port, server) = server(vec![
        answer("302 Found\r\nLocation: /there", b""),
        answer("302 Found\r\nLocation: http://other.example/x", b""),
        answer("200 OK", b"here"),
    ]);
    let http = NetworkHttp::new(&by(port, "")).unwrap();
    let got = http.send(&Request { redirects: 2, ..get("http://ocsp.example/".into()) });
    assert_eq!(got.unwrap().body, b"here");
    let heads = server.join().unwrap();
    let lines: Vec<_> = heads.iter().map(|h| h.lines().next().unwrap()).collect();
    let at = |url: &str| format!("GET http://{url} HTTP/1.1");
    assert_eq!(lines, [at("ocsp.example/"), at("ocsp.example/there"), at("other.example/x")]);
}

#[test]
fn https_goes_through_a_tunnel() {
    let (root, acceptor) = identity("127.0.0.1");
    let (target, tls) = tls_server(acceptor, 1);
    let (port, tunnel) = tunnel();
    let way = WaySettings { trusted_certificate: Some(root), ..by(port, USER) };
    let got = NetworkHttp::new(&way).unwrap().send(&get(format!("https://127.0.0.1:{target}/")));
    assert_eq!(got.unwrap().status, 200);
    tls.join().unwrap();
    let head = tunnel.join().unwrap();
    assert!(head.starts_with(&format!("CONNECT 127.0.0.1:{target} HTTP/1.1\n")), "{head}");
    assert!(head.contains("Proxy-Authorization: Basic bWU6aDp1c2hA"), "{head}");
}

#[test]
fn what_fails_at_the_proxy_names_it_and_no_secret() {
    const WANTED: &str = "the proxy asks for another user name and password (407)";
    let closes = || b"".to_vec();
    let table = [
        (answer("407 No", b""), "http://ca.example/", WANTED),
        (answer("407 No", b""), "https://ca.example/", WANTED),
        (answer("403 No", b""), "https://ca.example/", "no tunnel: proxy server responded 403/403"),
        (closes(), "http://ca.example/", ""),
        (closes(), "https://ca.example/", ""),
    ];
    for (answer, url, expected) in table {
        let (port, server) = server(vec![answer]);
        let http = NetworkHttp::new(&by(port, USER)).unwrap();
        let error = http.send(&get(url.into())).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{error}");
        assert!(error.ends_with(&format!(", proxy=127.0.0.1:{port}")), "{error}");
        assert!(!error.contains("ush"), "{error}");
        server.join().unwrap();
    }
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let http = NetworkHttp::new(&by(port, USER)).unwrap();
    for url in ["http://ca.example/", "https://ca.example/"] {
        let error = http.send(&get(url.into())).unwrap_err().to_string();
        assert!(error.ends_with(&format!(", proxy=127.0.0.1:{port}")), "{error}");
    }
    assert!(!format!("{:?}", by(port, USER)).contains("ush"));
}

#[test]
fn a_client_certificate_is_shown_to_who_asks() {
    let rsa = PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap();
    let ec = new_key(KeyType::Ecdsa256).unwrap();
    let keys = [
        (&ec, ec.private_key_to_pem_pkcs8().unwrap()),
        (&ec, ec.ec_key().unwrap().private_key_to_pem().unwrap()),
        (&rsa, rsa.private_key_to_pem_pkcs8().unwrap()),
        (&rsa, rsa.rsa().unwrap().private_key_to_pem().unwrap()),
    ];
    for (key, pem) in keys {
        let client = self_signed(key, "127.0.0.9");
        let (root, acceptor) = demanding(&client);
        let (port, server) = tls_server(acceptor, 2);
        let url = format!("https://127.0.0.1:{port}/");
        let known = WaySettings {
            client_certificate: Some(Signer {
                certificate: client.to_pem().unwrap(),
                key: Secret::new(pem),
            }),
            ..trusting(&root)
        };
        let got = NetworkHttp::new(&known).unwrap().send(&get(url.clone()));
        assert_eq!(got.unwrap().status, 200);
        let got = NetworkHttp::new(&trusting(&root)).unwrap().send(&get(url));
        assert!(got.is_err(), "{got:?}");
        server.join().unwrap();
    }
}

/// As [`identity`], but only `client` may come in.
fn demanding(client: &X509) -> (Vec<u8>, SslAcceptor) {
    let key = new_key(KeyType::Ecdsa256).unwrap();
    let cert = self_signed(&key, "127.0.0.1");
    let mut acceptor = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls()).unwrap();
    acceptor.set_private_key(&key).unwrap();
    acceptor.set_certificate(&cert).unwrap();
    acceptor.set_verify(SslVerifyMode::PEER | SslVerifyMode::FAIL_IF_NO_PEER_CERT);
    acceptor.cert_store_mut().add_cert(client.clone()).unwrap();
    (cert.to_pem().unwrap(), acceptor.build())
}

/// A proxy for one tunnel; tells its head.
fn tunnel() -> (u16, JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let serve = move || {
        let (near, _) = listener.accept().unwrap();
        let head = head(&near);
        let target = head.split(' ').nth(1).unwrap();
        let far = TcpStream::connect(target).unwrap();
        (&near).write_all(b"HTTP/1.1 200 Connected\r\n\r\n").unwrap();
        let (mut from, mut to) = (near.try_clone().unwrap(), far.try_clone().unwrap());
        std::thread::spawn(move || std::io::copy(&mut from, &mut to));
        let _ = std::io::copy(&mut &far, &mut &near);
        head
    };
    (port, std::thread::spawn(serve))
}
