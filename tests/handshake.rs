//! The hold: one handshake waits, nothing else does, and whoever waits notices nothing but the
//! time. What holds here is an OCSP answer that comes late; with `check_interval 0` each
//! handshake asks.

mod lab;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use lab::*;

/// Long enough to be told from a handshake that nobody held.
const LATE: Duration = Duration::from_millis(500);
const SOON: Duration = Duration::from_secs(10);

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
        &roots(&stage),
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
    let server = format!("listen {} ssl; server_name a.test;", lab.tls_port.addr());
    let http = format!("ssl_cert_autofetch_check_interval 0;\nserver {{ {server} }}");
    let stage = Stage::start(lab, Config::new(), &http);
    stage.monitor.wait_valid("a.test");
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
    let mut bad_extension = hello.clone();
    *bad_extension.last_mut().expect("bytes") ^= 0xff;
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
        ("a bad extension", &bad_extension),
        ("an endless one", &endless),
    ];
    for (what, bytes) in table {
        let ours = exchange(stage.lab.tls_port.number(), bytes);
        assert_eq!(ours, exchange(stock_port.number(), bytes), "{what}");
    }
    let answer = exchange(stage.lab.tls_port.number(), table[0].1);
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    assert!(answer.contains("plain HTTP request was sent to HTTPS port"), "{answer}");
    stage.lab.client("a.test").connect().expect("the worker is well");
}

#[test]
#[ignore = "needs nginx, the module and pebble: scripts/test.sh"]
fn clients_that_leave_are_forgotten() {
    let lab = Stage::trusting_lab();
    let http = format!(
        "ssl_cert_autofetch_check_interval 0; ssl_cert_autofetch_max_held 1;\n\
         server {{ listen {} ssl; server_name a.test; }}",
        lab.tls_port.addr()
    );
    let stage = Stage::start(lab, Config::new(), &http);
    let serial = stage.monitor.wait_valid("a.test");
    let worker = stage.nginx.worker_pids();
    stage.lab.responder.behave(Behaviour::delayed(Duration::from_secs(600)));
    let hello = stage.lab.client("a.test").hello();
    for (what, leave) in [("FIN", fin as fn(TcpStream)), ("RST", rst), ("FIN", fin)] {
        let held = stage.monitor.counter("held");
        let waiting = send(stage.lab.tls_port.number(), &hello);
        stage.monitor.wait_counter("held", held + 1, SOON);
        // The only place is taken: the next one is served without proof.
        let next = stage.lab.client("a.test").connect().expect("handshake");
        assert_eq!(next.serial, serial);
        assert_eq!(stage.monitor.counter("held"), held + 1, "{what}");
        drop(next);
        wait_until("one connection", SOON, || stage.monitor.connections() == 1);
        leave(waiting);
        wait_until(&format!("end of what sent {what}"), Duration::from_secs(2), || {
            stage.monitor.connections() == 0
        });
    }
    assert_eq!(stage.nginx.worker_pids(), worker);
    check_log(&stage.nginx);
}

/// Readiness that nobody takes must not turn the event loop.
#[test]
#[ignore = "needs nginx, the module and pebble: scripts/test.sh"]
fn more_data_while_held_costs_nothing() {
    let lab = Stage::trusting_lab();
    let http = one_server(&lab, "");
    let stage = Stage::start(lab, Config::new(), &http);
    stage.monitor.wait_valid("a.test");
    stage.lab.responder.behave(Behaviour::delayed(Duration::from_secs(3)));
    let worker = stage.nginx.worker_pids()[0];
    let hello = stage.lab.client("a.test").hello();
    let held = stage.monitor.counter("held");
    let mut clients: Vec<_> = (0..20).map(|_| send(stage.lab.tls_port.number(), &hello)).collect();
    stage.monitor.wait_counter("held", held + 20, SOON);
    clients.iter_mut().for_each(|c| c.write_all(&[23; 5000]).expect("write"));
    let (before, start) = (cpu_ticks(worker), Instant::now());
    while start.elapsed() < Duration::from_secs(1) {
        clients[0].write_all(&[23; 100]).expect("write");
        std::thread::sleep(Duration::from_millis(50));
    }
    let used = cpu_ticks(worker) - before;
    assert!(used <= 10, "{used} ticks of 10 ms in a second");
    // The bytes are no TLS: once released, each gets what OpenSSL says of them.
    for client in &mut clients {
        let mut answer = Vec::new();
        let _ = client.read_to_end(&mut answer);
        assert_eq!(answer.first(), Some(&22), "a ServerHello");
    }
    stage.lab.responder.behave_well();
    stage.lab.client("a.test").connect().expect("the worker is well");
    check_log(&stage.nginx);
}

#[test]
#[ignore = "needs nginx, the module and pebble: scripts/test.sh"]
fn a_hold_ends_in_time() {
    let lab = Stage::trusting_lab();
    let tls = lab.tls_port.addr();
    let http = format!(
        "ssl_cert_autofetch_check_interval 0; ssl_cert_autofetch_timeout 1s;\n\
         server {{ listen {tls} ssl; server_name soft.test; }}\n\
         server {{ listen {tls} ssl; server_name hard.test; ssl_cert_autofetch_check hard; }}"
    );
    let stage = Stage::start(lab, Config::new(), &http);
    let soft = stage.monitor.wait_valid("soft.test");
    stage.monitor.wait_valid("hard.test");
    stage.lab.responder.behave(Behaviour::delivery(Delivery::Never));
    let in_time = Duration::from_secs(1)..Duration::from_millis(2500);
    for client in [stage.lab.client("soft.test").tls12(), stage.lab.client("soft.test").tls13()] {
        let served = client.connect().expect("served without proof");
        assert_eq!(served.serial, soft);
        assert!(in_time.contains(&served.took), "{:?}", served.took);
    }
    for client in [stage.lab.client("hard.test").tls12(), stage.lab.client("hard.test").tls13()] {
        let refused = client.connect().expect_err("no proof, no service");
        assert_eq!((refused.alert, refused.chain.len()), (Some(INTERNAL_ERROR), 0), "{refused:?}");
        assert!(in_time.contains(&refused.took), "{:?}", refused.took);
    }
    assert_eq!(stage.monitor.counter("refused"), 2);
    check_log(&stage.nginx);
}

/// nginx would close the connection at `client_header_timeout`: a hold has to end before.
#[test]
#[ignore = "needs nginx, the module and pebble: scripts/test.sh"]
fn a_hold_ends_before_nginx_loses_patience() {
    let lab = Stage::trusting_lab();
    let tls = lab.tls_port.addr();
    let http = format!(
        "client_header_timeout 2s; ssl_cert_autofetch_check_interval 0;\n\
         server {{ listen {tls} ssl; server_name a.test; }}\n\
         server {{ listen {tls} ssl; server_name b.test; ssl_cert_autofetch_timeout 1s; }}"
    );
    let stage = Stage::start(lab, Config::new(), &http);
    let serial = stage.monitor.wait_valid("a.test");
    stage.lab.responder.behave(Behaviour::delivery(Delivery::Never));
    let served = stage.lab.client("a.test").connect().expect("served without proof");
    assert_eq!(served.serial, serial);
    let (least, most) = (Duration::from_millis(1500), Duration::from_millis(1990));
    assert!((least..most).contains(&served.took), "{:?}", served.took);
    let warnings = stage.nginx.log_lines("client_header_timeout");
    assert_eq!(warnings.len(), 1, "{warnings:#?}");
    assert!(warnings[0].contains("[warn]") && warnings[0].contains("a.test"), "{warnings:?}");
}

/// Beyond `max_held`: soft serves what is not known to be bad, hard refuses.
#[test]
#[ignore = "needs nginx, the module and pebble: scripts/test.sh"]
fn only_so_many_are_held() {
    let blocked = vec!["none.test".into()];
    let lab = Lab::with(Settings { always_valid: true, blocked, ..Settings::default() });
    let tls = lab.tls_port.addr();
    let http = format!(
        "ssl_cert_autofetch_check_interval 0; ssl_cert_autofetch_max_held 3;\n\
         server {{ listen {tls} ssl; server_name soft.test; }}\n\
         server {{ listen {tls} ssl; server_name hard.test; ssl_cert_autofetch_check hard; }}\n\
         server {{ listen {tls} ssl; server_name none.test; }}"
    );
    let stage = Stage::start(lab, Config::new(), &http);
    let soft = stage.monitor.wait_valid("soft.test");
    let hard = stage.monitor.wait_valid("hard.test");
    stage.lab.responder.behave(Behaviour::delayed(Duration::from_secs(4)));
    let held = stage.monitor.counter("held");
    let waiting: Vec<_> =
        ["soft.test", "hard.test", "soft.test"].map(|name| connect(&stage.lab.client(name))).into();
    stage.monitor.wait_counter("held", held + 3, SOON);

    let start = Instant::now();
    let served = stage.lab.client("soft.test").connect().expect("served without proof");
    assert_eq!(served.serial, soft);
    for name in ["hard.test", "none.test"] {
        let refused = stage.lab.client(name).connect().expect_err("refused");
        assert_eq!((refused.alert, refused.chain.len()), (Some(INTERNAL_ERROR), 0), "{refused:?}");
    }
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    assert_eq!(stage.monitor.counter("held"), held + 3);
    for (handle, serial) in waiting.into_iter().zip([&soft, &hard, &soft]) {
        let connection = handle.join().expect("thread").expect("held and served");
        assert_eq!(connection.serial, *serial);
        assert!(connection.took > Duration::from_secs(2), "{:?}", connection.took);
    }
}

#[test]
#[ignore = "needs nginx, the module and pebble: scripts/test.sh"]
fn other_names_go_on() {
    let lab = Stage::trusting_lab();
    let tls = lab.tls_port.addr();
    let http = format!(
        "server {{ listen {tls} ssl; server_name a.test; ssl_cert_autofetch_check_interval 0; }}\n\
         server {{ listen {tls} ssl; server_name b.test; }}\n\
         server {{ listen {tls} ssl; server_name own.test;\n\
           ssl_certificate own.pem; ssl_certificate_key own.key; }}"
    );
    let config = Config::new();
    let own = Identity::self_signed(&Profile::server(&["own.test"]));
    std::fs::write(config.dir().join("own.pem"), own.cert_pem()).expect("write");
    std::fs::write(config.dir().join("own.key"), own.key_pem()).expect("write");
    let stage = Stage::start(lab, config, &http);
    let a = stage.monitor.wait_valid("a.test");
    let b = stage.monitor.wait_valid("b.test");
    stage.lab.responder.behave_for(&a, Behaviour::delayed(Duration::from_secs(3)));
    let held = stage.monitor.counter("held");
    let waiting = connect(&stage.lab.client("a.test"));
    stage.monitor.wait_counter("held", held + 1, SOON);
    let start = Instant::now();
    let own_client = stage.lab.client("own.test").trust(own.cert_pem());
    for _ in 0..20 {
        assert_eq!(stage.lab.client("b.test").connect().expect("handshake").serial, b);
        assert_eq!(own_client.connect().expect("handshake").serial, own.serial());
    }
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    assert!(!waiting.is_finished());
    let late = waiting.join().expect("thread").expect("handshake");
    assert_eq!(late.serial, a);
    assert!(late.took > Duration::from_secs(2), "{:?}", late.took);
}

/// The main job under a crowd: revoked, and the answer about it is late.
#[test]
#[ignore = "needs nginx, the module and pebble: scripts/test.sh"]
fn a_hundred_wait_for_one_answer() {
    let lab = Stage::trusting_lab();
    let http = one_server(&lab, "ssl_cert_autofetch_max_held 200;");
    let stage = Stage::start(lab, Config::new(), &http);
    let old = stage.monitor.wait_valid("a.test");
    let issued = stage.monitor.counter("issued");
    revoke(&stage, "a.test", Some(1));
    stage.lab.responder.forget_queries();
    stage.lab.responder.behave_for(&old, Behaviour::delayed(Duration::from_secs(3)));

    let held = stage.monitor.counter("held");
    let clients: Vec<_> = (0..100).map(|_| connect(&stage.lab.client("a.test"))).collect();
    stage.monitor.wait_counter("held", held + 100, SOON);
    let results: Vec<_> = clients.into_iter().map(|c| c.join().expect("thread")).collect();
    let new = results[0].as_ref().expect("handshake").serial.clone();
    assert_ne!(new, old);
    for result in results {
        assert_eq!(result.expect("handshake").serial, new);
    }
    let queries = stage.lab.responder.queries();
    assert_eq!(queries.iter().filter(|q| q.serials == [old.clone()]).count(), 1, "{queries:#?}");
    assert_eq!(queries.iter().filter(|q| q.serials == [new.clone()]).count(), 1, "{queries:#?}");
    assert_eq!(stage.monitor.counter("issued"), issued + 1);
    assert_eq!(stage.monitor.counter("replaced_revoked"), 1);
    assert_eq!(stage.monitor.entry("a.test")["version"], 2);
    check_log(&stage.nginx);
}

#[test]
#[ignore = "needs nginx, the module and pebble: scripts/test.sh"]
fn a_reload_waits_for_the_held() {
    let lab = Stage::trusting_lab();
    let http = one_server(&lab, "");
    let stage = Stage::start(lab, Config::new().level("notice"), &http);
    let old = stage.monitor.wait_valid("a.test");
    revoke(&stage, "a.test", None);
    stage.lab.responder.behave_for(&old, Behaviour::delayed(Duration::from_secs(3)));
    let worker = stage.nginx.worker_pids()[0];
    let held = stage.monitor.counter("held");
    let waiting = connect(&stage.lab.client("a.test"));
    stage.monitor.wait_counter("held", held + 1, SOON);
    stage.nginx.reload();
    assert!(!waiting.is_finished());
    let served = waiting.join().expect("thread").expect("handshake");
    assert_ne!(served.serial, old);
    wait_exit(&stage.nginx, worker);
    let after = stage.lab.client("a.test").connect().expect("handshake");
    assert_eq!(after.serial, served.serial);
    check_log(&stage.nginx);
}

#[test]
#[ignore = "needs nginx, the module and pebble: scripts/test.sh"]
fn quitting_waits_for_the_held() {
    let lab = Stage::trusting_lab();
    let http = one_server(&lab, "");
    let mut stage = Stage::start(lab, Config::new().level("notice").workers(2), &http);
    let old = stage.monitor.wait_valid("a.test");
    revoke(&stage, "a.test", None);
    stage.lab.responder.behave_for(&old, Behaviour::delayed(Duration::from_secs(2)));
    let workers = stage.nginx.worker_pids();
    let held = stage.monitor.counter("held");
    let waiting: Vec<_> = (0..8).map(|_| connect(&stage.lab.client("a.test"))).collect();
    stage.monitor.wait_counter("held", held + 8, SOON);
    assert!(stage.nginx.quit(Duration::from_secs(20)).success());
    let results: Vec<_> = waiting.into_iter().map(|w| w.join().expect("thread")).collect();
    let new = results[0].as_ref().expect("handshake").serial.clone();
    assert_ne!(new, old);
    for result in results {
        assert_eq!(result.expect("handshake").serial, new);
    }
    for worker in workers {
        wait_exit(&stage.nginx, worker);
    }
    check_log(&stage.nginx);
}

/// A thread inside OpenSSL while the process takes OpenSSL apart: it crashed 9 times of 20.
#[test]
#[ignore = "needs nginx, the module and pebble: scripts/test.sh"]
fn ending_workers_do_not_crash() {
    let lab = Stage::trusting_lab();
    let servers: String = (0..12)
        .map(|i| {
            format!("server {{ listen {} ssl; server_name n{i}.test; }}\n", lab.tls_port.addr())
        })
        .collect();
    let http = format!("ssl_cert_autofetch_check_interval 0;\n{servers}");
    let config = Config::new().level("notice").workers(2);
    let mut stage = Stage::start(lab, config, &http);
    (0..12).for_each(|i| drop(stage.monitor.wait_valid(&format!("n{i}.test"))));
    for round in 0..10 {
        // Half of the names ask, the other half are being replaced.
        let clients: Vec<_> = (0..12)
            .map(|i| {
                if i % 2 == 0 {
                    revoke(&stage, &format!("n{i}.test"), None);
                }
                connect(&stage.lab.client(&format!("n{i}.test")))
            })
            .collect();
        let start = Instant::now();
        // The jobs are at another step each round.
        while start.elapsed() < Duration::from_millis(20 * round) {
            std::thread::sleep(Duration::from_millis(1));
        }
        let Stage { lab, nginx, monitor } = stage;
        let config = nginx.stop();
        clients.into_iter().for_each(|c| drop(c.join()));
        stage = Stage { lab, nginx: config.start(), monitor };
        (0..12).for_each(|i| drop(stage.monitor.wait_valid(&format!("n{i}.test"))));
    }
    let log = stage.nginx.error_log();
    assert!(log.matches("exited with code 0").count() >= 20, "{log}");
    check_log(&stage.nginx);
}

#[test]
#[ignore = "needs nginx, the module and pebble: scripts/test.sh"]
fn one_process_for_everything() {
    let lab = Stage::trusting_lab();
    let http = one_server(&lab, "");
    let config = Config { single: true, ..Config::new() };
    let mut stage = Stage::start(lab, config, &http);
    let old = stage.monitor.wait_valid("a.test");
    let served = stage.lab.client("a.test").connect().expect("handshake");
    assert_eq!(served.serial, old);
    revoke(&stage, "a.test", None);
    let (served, text) = stage.lab.client("a.test").get("/").expect("handshake");
    assert_ne!(served.serial, old);
    assert!(text.starts_with("HTTP/1.1 404"), "{text}");
    let warnings = stage.nginx.log_lines("master_process off");
    assert_eq!(warnings.len(), 1, "{warnings:#?}");
    assert!(warnings[0].contains("[warn]") && warnings[0].contains("restart"), "{warnings:?}");
    assert!(stage.nginx.quit(SOON).success());
    check_log(&stage.nginx);
}

/// One name, each of whose handshakes asks.
fn one_server(lab: &Lab, more: &str) -> String {
    format!(
        "ssl_cert_autofetch_check_interval 0; {more}\n\
         server {{ listen {} ssl; server_name a.test; }}",
        lab.tls_port.addr()
    )
}

/// At the CA, by the key in the keystore.
fn revoke(stage: &Stage, name: &str, reason: Option<u8>) {
    let dir = stage.nginx.keystore().join("certs").join(name).join("current");
    let read = |file| std::fs::read(dir.join(file)).expect("a stored certificate");
    let (cert, key) = (read("fullchain.pem"), read("privkey.pem"));
    stage.lab.pebble.revoke(&cert, &key, reason).expect("revoked");
}

fn roots(stage: &Stage) -> std::path::PathBuf {
    let path = stage.nginx.dir().join("root.pem");
    std::fs::write(&path, stage.lab.pebble.root_pem()).expect("write");
    path
}

/// A handshake on a thread of its own.
fn connect(client: &Client) -> JoinHandle<Result<Connection, Refusal>> {
    let client = client.clone();
    std::thread::spawn(move || client.connect())
}

/// A connection that has sent this much.
fn send(port: u16, bytes: &[u8]) -> TcpStream {
    let mut tcp = TcpStream::connect(("127.0.0.1", port)).expect("connect");
    tcp.set_read_timeout(Some(Duration::from_secs(20))).expect("timeout");
    tcp.write_all(bytes).expect("write");
    tcp
}

fn fin(tcp: TcpStream) {
    drop(tcp);
}

fn rst(tcp: TcpStream) {
    // Nothing to linger for: close() sends RST.
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    // SAFETY: an open socket and a structure of the size that is told.
    let done = unsafe {
        libc::setsockopt(
            std::os::fd::AsRawFd::as_raw_fd(&tcp),
            libc::SOL_SOCKET,
            libc::SO_LINGER,
            (&raw const linger).cast(),
            size_of::<libc::linger>() as libc::socklen_t,
        )
    };
    assert_eq!(done, 0);
}

/// What a server says to these bytes and the end of the connection; without the time of day.
fn exchange(port: u16, bytes: &[u8]) -> String {
    let mut tcp = TcpStream::connect(("127.0.0.1", port)).expect("connect");
    tcp.set_read_timeout(Some(SOON)).expect("timeout");
    // The server may close before it has read all.
    let _ = tcp.write_all(bytes);
    let _ = tcp.shutdown(Shutdown::Write);
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    let end = loop {
        match tcp.read(&mut buffer) {
            Ok(0) => break "closed",
            Ok(n) => answer.extend(&buffer[..n]),
            Err(e) if e.kind() == std::io::ErrorKind::ConnectionReset => break "closed",
            Err(_) => break "open",
        }
    };
    let text: String =
        answer.iter().flat_map(|b| std::ascii::escape_default(*b)).map(char::from).collect();
    let lines = text.split("\\r\\n").filter(|l| !l.starts_with("Date:"));
    lines.collect::<Vec<_>>().join("\n") + end
}

/// User and system time of a process, in ticks of 10 ms.
fn cpu_ticks(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("stat");
    let (_, rest) = stat.rsplit_once(')').expect("a name in parentheses");
    let fields: Vec<_> = rest.split_whitespace().collect();
    fields[11..13].iter().map(|f| f.parse::<u64>().expect("a number")).sum()
}

fn wait_exit(nginx: &Nginx, worker: u32) {
    nginx.wait_log(&format!("worker process {worker} exited with code 0"), Duration::from_secs(15));
}

/// Nothing in the log that should not happen.
fn check_log(nginx: &Nginx) {
    for bad in ["exited on signal", "[alert]", "[emerg]", "[crit]", "panic", "open socket"] {
        let lines = nginx.log_lines(bad);
        assert!(lines.is_empty(), "{lines:#?}");
    }
}
