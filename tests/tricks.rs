//! Clients that would get a certificate that may not be served, if the module and nginx read their
//! first bytes in two ways.

mod lab;

use std::ffi::CString;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use foreign_types::ForeignTypeRef;
use lab::*;
use openssl::ssl::{ErrorCode, Ssl, SslContext, SslMethod, SslStream};

const HTTP: &str = "ssl_cert_autofetch_check_interval 0; ssl_session_tickets on; \
                    ssl_ecdh_curve X25519;";

/// a.test in front and fine; b.test revoked, and no CA to replace it.
fn start() -> (Site, Client, String) {
    let mut plan = Plan::server("a.test", HTTP);
    plan.servers += &site::server("b.test");
    let site = plan.start();
    site.wait_valid("a.test");
    let bad = site.wait_valid("b.test");
    // Pebble, which is to issue nothing, is not asked for the truth either.
    site.lab.responder.behave(Behaviour::good());
    site.lab.responder.behave_for(&bad, Behaviour::revoked(Some(1)));
    let client = site.lab.client("b.test").timeout(Duration::from_secs(15));
    site.lab.pebble.freeze();
    let refusal = client.connect();
    assert_eq!(refusal.expect_err("revoked").alert, Some(INTERNAL_ERROR));
    (site, client, bad)
}

/// nginx cuts a port off, takes a trailing dot away and knows no case.
#[test]
#[ignore = "needs nginx, the module and pebble: scripts/test.sh"]
fn other_spellings_of_a_name_are_the_name() {
    let (site, client, bad) = start();
    for name in ["b.test:443", "b.test.", "B.Test", "b.test.:1"] {
        for version in [Client::tls12, Client::tls13] {
            let refusal = version(client.clone().sni(name)).connect().expect_err(name);
            assert_eq!((refusal.alert, refusal.chain.len()), (Some(INTERNAL_ERROR), 0), "{name}");
        }
    }
    // What nginx takes for no name of a server gets the default server's certificate.
    for name in ["b..test", "c.test"] {
        let connection = client.clone().sni(name).expect_name("a.test").connect().expect(name);
        assert_ne!(connection.serial, bad, "{name}");
    }
    site.lab.pebble.thaw();
}

/// The second ClientHello, after a HelloRetryRequest, asks for another name than the first.
#[test]
#[ignore = "needs nginx, the module and pebble: scripts/test.sh"]
fn the_second_hello_is_judged_too() {
    let (site, _, bad) = start();
    let address = site.lab.tls_port.addr();
    for (first, second, served) in [("a.test", "a.test", true), ("a.test", "b.test", false)] {
        let tcp = TcpStream::connect(address).expect("connect");
        tcp.set_read_timeout(Some(Duration::from_secs(30))).expect("timeout");
        let mut context = SslContext::builder(SslMethod::tls_client()).expect("context");
        context.set_groups_list("P-384:X25519").expect("groups");
        let mut ssl = Ssl::new(&context.build()).expect("ssl");
        ssl.set_hostname(first).expect("name");
        let mut stream = SslStream::new(ssl, Pausing { tcp, paused: false }).expect("stream");
        // Its first ClientHello is out, and nothing was read yet.
        let error = stream.connect().expect_err(first);
        assert_eq!(error.code(), ErrorCode::WANT_READ, "{first}, then {second}");
        let name = CString::new(second).expect("name");
        // SAFETY: a live SSL and a string that outlives the call, which copies it.
        unsafe {
            const SET_HOST_NAME: i32 = 55;
            let name = name.as_ptr().cast_mut().cast();
            assert_eq!(openssl_sys::SSL_ctrl(stream.ssl().as_ptr(), SET_HOST_NAME, 0, name), 1);
        }
        let shaken = stream.connect();
        let serial = stream.ssl().peer_certificate().map(|c| pki::serial_hex(&c));
        match served {
            true => assert_eq!(serial, Some(site.stored("a.test").serial()), "{shaken:?}"),
            false => assert_eq!((serial.as_ref(), shaken.is_err()), (None, true), "not {bad}"),
        }
    }
    site.lab.pebble.thaw();
}

/// Would block at the first read.
struct Pausing {
    tcp: TcpStream,
    paused: bool,
}

impl Read for Pausing {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if !std::mem::replace(&mut self.paused, true) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.tcp.read(buffer)
    }
}

impl Write for Pausing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.tcp.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.tcp.flush()
    }
}

/// What is not read as a ClientHello, though OpenSSL reads it as one, does not resume: an empty
/// record in front of it is enough.
#[test]
#[ignore = "needs nginx, the module and pebble: scripts/test.sh"]
fn what_cannot_be_read_does_not_resume() {
    let http = format!("{HTTP} ssl_cert_autofetch_check hard;");
    let site = Plan::server("a.test", &http).start();
    site.wait_valid("a.test");
    for version in [Client::tls12, Client::tls13] {
        let client = version(site.lab.client("a.test"));
        let (mut connection, _) = client.get("/").expect("handshake");
        let session = connection.session();
        let resumed = client.clone().resume(&session);
        assert!(resumed.connect().expect("handshake").resumed);
        site.lab.responder.behave(Behaviour::delivery(Delivery::Http(503)));
        let tricked = resumed.clone().preamble(b"\x16\x03\x01\x00\x00");
        for client in [resumed.clone(), tricked.clone(), tricked] {
            match client.connect() {
                Ok(connection) => assert!(!connection.resumed, "resumed without proof"),
                Err(refusal) => assert_eq!(refusal.chain.len(), 0, "{refusal:?}"),
            }
        }
        let refusal = resumed.connect().expect_err("no proof");
        assert_eq!(refusal.alert, Some(INTERNAL_ERROR));
        site.lab.responder.behave(Behaviour::default());
        wait_until("proof", Duration::from_secs(10), || client.connect().is_ok());
    }
}
