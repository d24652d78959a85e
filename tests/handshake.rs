//! The hold: one handshake waits, and whoever waits notices nothing but the time. What holds here
//! is an OCSP answer that comes late; with `check_interval 0` each handshake asks.

mod lab;

use std::time::Duration;

use lab::*;

/// Long enough to be told from a handshake that nobody held.
const LATE: Duration = Duration::from_millis(500);

/// Servers of every kind of listen, and the same name `a.test` behind the first.
fn kinds(lab: &Lab, proxy: &Port, curve: &Port, early: &Port) -> String {
    let page = "return 200 \"$ssl_server_name $proxy_protocol_addr\";";
    format!(
        "ssl_cert_autofetch_check_interval 0;\n\
         server {{ listen {} ssl http2; server_name a.test; {page} }}\n\
         server {{ listen {} ssl proxy_protocol; server_name proxy.test; {page} }}\n\
         server {{ listen {} ssl; server_name curve.test; ssl_ecdh_curve X25519; {page} }}\n\
         server {{ listen {} ssl; server_name early.test; ssl_early_data on; {page} }}\n",
        lab.tls_port.addr(),
        proxy.addr(),
        curve.addr(),
        early.addr(),
    )
}

#[test]
#[ignore = "needs nginx, the module and pebble: scripts/test.sh"]
fn a_held_handshake_is_only_late() {
    let (proxy, curve, early) = (Port::reserve(), Port::reserve(), Port::reserve());
    let lab = Stage::trusting_lab();
    let http = kinds(&lab, &proxy, &curve, &early);
    let stage = Stage::start(lab, Config::new(), &http);
    let names = ["a.test", "proxy.test", "curve.test", "early.test"];
    let serials = names.map(|name| stage.monitor.wait_valid(name));
    let serial_of = |name| &serials[names.iter().position(|n| *n == name).expect("a name")];
    stage.lab.responder.behave(Behaviour::delayed(LATE));

    let a = || stage.lab.client("a.test");
    let root = stage.lab.pebble.root_pem();
    let at = |port: &Port, name| Client::new(port.number()).sni(name).trust(&root);
    let line = b"PROXY TCP4 192.0.2.7 192.0.2.8 1 443\r\n";
    let no_sni = Client::new(stage.lab.tls_port.number()).trust(&root).expect_name("a.test");
    let table = [
        ("TLS 1.2", "a.test", a().tls12()),
        ("TLS 1.3", "a.test", a().tls13()),
        ("no SNI", "a.test", no_sni),
        ("byte by byte", "a.test", a().byte_by_byte(Duration::from_micros(200))),
        ("small records", "a.test", a().records(37)),
        ("records of a byte", "a.test", a().records(1)),
        ("small records, TLS 1.2", "a.test", a().tls12().records(37)),
        ("proxy protocol", "proxy.test", at(&proxy, "proxy.test").preamble(line)),
        ("HelloRetryRequest", "curve.test", at(&curve, "curve.test").groups("P-384:X25519")),
        ("HelloRetryRequest, records", "curve.test", {
            at(&curve, "curve.test").groups("P-384:X25519").records(50)
        }),
    ];
    for (what, name, client) in table {
        let held = stage.monitor.counter("held");
        let (connection, text) = client
            .get("/")
            .unwrap_or_else(|e| panic!("{what}: {e:?}\n{}", stage.nginx.error_log()));
        assert!(connection.took >= LATE, "{what} was not held: {:?}", connection.took);
        assert_eq!(connection.serial, *serial_of(name), "{what}");
        assert!(text.starts_with("HTTP/1.1 200"), "{what}: {text}");
        let seen_address = text.ends_with("192.0.2.7");
        assert_eq!(seen_address, name == "proxy.test", "{what}: {text}");
        assert_eq!(stage.monitor.counter("held"), held + 1, "{what}");
    }
    for client in [a().tls12(), a().tls13()] {
        let connection = client.alpn(&["h2"]).connect().expect("handshake");
        assert!(connection.took >= LATE, "{:?}", connection.took);
        assert_eq!(connection.alpn.as_deref(), Some("h2"));
    }
    let curl = lab::command::curl(
        "a.test",
        stage.lab.tls_port.number(),
        &stage.roots(),
        &["--http2", "-w", " %{http_version} %{time_appconnect}"],
    );
    assert!(curl.ok && curl.stdout.contains(" 2 "), "{curl:?}");
}

/// A resumed session waits as others do, and its early data is taken then.
#[test]
#[ignore = "needs nginx, the module and pebble: scripts/test.sh"]
fn early_data_survives_the_hold() {
    let (proxy, curve, early) = (Port::reserve(), Port::reserve(), Port::reserve());
    let lab = Stage::trusting_lab();
    let http = kinds(&lab, &proxy, &curve, &early);
    let stage = Stage::start(lab, Config::new(), &http);
    let serial = stage.monitor.wait_valid("early.test");
    let root = stage.lab.pebble.root_pem();
    let client = || Client::new(early.number()).sni("early.test").trust(&root).tls13();
    stage.lab.responder.behave(Behaviour::delayed(LATE));
    let request = b"GET / HTTP/1.1\r\nHost: early.test\r\nConnection: close\r\n\r\n";

    for what in ["at once", "in small records"] {
        let session = client().connect().expect("handshake").session();
        let mut client = client().resume(&session).early_data(request);
        if what == "in small records" {
            client = client.records(60);
        }
        let held = stage.monitor.counter("held");
        let mut again = client.connect().unwrap_or_else(|e| panic!("{what}: {e:?}"));
        assert!(again.resumed, "{what}");
        assert!(again.took >= LATE, "{what} was not held: {:?}", again.took);
        assert_eq!(again.serial, serial);
        // The request went out as early data only, so that any answer says that it was taken.
        let answer = again.read_to_end().expect("answer");
        assert!(answer.starts_with("HTTP/1.1 200"), "{what}: {answer}");
        assert_eq!(stage.monitor.counter("held"), held + 1, "{what}");
    }
}

/// What is no ClientHello is answered as by an nginx without the module, to the byte.
#[test]
#[ignore = "needs nginx, the module and pebble: scripts/test.sh"]
fn other_protocols_get_what_nginx_says() {
    let lab = Stage::trusting_lab();
    let tls = lab.tls_port.addr();
    // The second one keeps the gate open: all that comes is looked at, and nothing of it is held.
    let http = format!(
        "server {{ listen {tls} ssl; server_name a.test; }}\n\
         server {{ listen {tls} ssl; server_name b.test; ssl_cert_autofetch_check_interval 0; }}"
    );
    let stage = Stage::start(lab, Config::new(), &http);
    stage.monitor.wait_valid("a.test");
    stage.monitor.wait_valid("b.test");
    let stock_port = Port::reserve();
    let config = Config::new().without_module();
    let id = Identity::self_signed(&Profile::server(&["a.test"]));
    std::fs::write(config.dir().join("cert.pem"), id.cert_pem()).expect("write");
    std::fs::write(config.dir().join("cert.key"), id.key_pem()).expect("write");
    let _stock = config
        .http(format!(
            "server {{ listen {} ssl; ssl_certificate cert.pem; ssl_certificate_key cert.key; }}",
            stock_port.addr()
        ))
        .start();

    let hello = stage.lab.client("a.test").hello();
    let mut version_0 = hello.clone();
    version_0[9..11].fill(0);
    let mut endless = [0x16, 3, 1, 0x40, 0, 1, 0, 0xff, 0xff].to_vec();
    endless.resize(5 + 0x4000, 7);
    endless.extend_from_within(..);
    endless.extend_from_within(..);
    let mut long_id = hello.clone();
    long_id[43] = 200;
    let table: &[(&str, &[u8])] = &[
        ("plain HTTP", b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n"),
        ("a bit of HTTP", b"GE"),
        ("nothing", b""),
        ("zeroes", &[0; 100]),
        ("SSH", b"SSH-2.0-OpenSSH_9.2\r\n"),
        ("SSL 2", b"\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10\x01\x00\x80"),
        ("an empty record", b"\x16\x03\x01\x00\x00\x16\x03\x01\x00\x00"),
        ("an alert", b"\x15\x03\x01\x00\x02\x02\x28"),
        ("application data", b"\x17\x03\x03\x00\x02hi"),
        ("no ClientHello", b"\x16\x03\x01\x00\x04\x0e\x00\x00\x00"),
        ("a record of 65535", b"\x16\x03\x01\xff\xff\x01\x00\x00"),
        ("half a ClientHello", &hello[..hello.len() / 2]),
        ("the head of one", &hello[..7]),
        ("no version", &version_0),
        ("a session id of 200 bytes", &long_id),
        ("an endless one", &endless),
    ];
    for (what, bytes) in table {
        let ours = socket::exchange(&stage.lab.tls_port, bytes);
        assert_eq!(ours, socket::exchange(&stock_port, bytes), "{what}");
    }
    let answer = socket::exchange(&stage.lab.tls_port, table[0].1);
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    assert!(answer.contains("plain HTTP request was sent to HTTPS port"), "{answer}");
    stage.lab.client("a.test").connect().expect("the worker is well");
}
