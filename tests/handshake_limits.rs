//! What a hold costs the others, and where it ends.

mod lab;

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use lab::*;

const SOON: Duration = Duration::from_secs(10);

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
    for (what, leave) in [("FIN", socket::fin as fn(_)), ("RST", socket::rst), ("FIN", socket::fin)]
    {
        let held = stage.monitor.counter("held");
        let waiting = socket::send(&stage.lab.tls_port, &hello);
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
    stage.nginx.check_log();
}

/// Readiness that nobody takes must not turn the event loop.
#[test]
#[ignore = "needs nginx, the module and pebble: scripts/test.sh"]
fn more_data_while_held_costs_nothing() {
    let lab = Stage::trusting_lab();
    let http = Stage::asking(&lab, "");
    let stage = Stage::start(lab, Config::new(), &http);
    stage.monitor.wait_valid("a.test");
    stage.lab.responder.behave(Behaviour::delayed(Duration::from_secs(3)));
    let worker = stage.nginx.worker_pids()[0];
    let hello = stage.lab.client("a.test").hello();
    let held = stage.monitor.counter("held");
    let mut clients: Vec<_> = (0..20).map(|_| socket::send(&stage.lab.tls_port, &hello)).collect();
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
    stage.nginx.check_log();
}

/// Without an answer the check gives up a little before the time is over; without a replacement
/// the time itself ends the wait.
#[test]
#[ignore = "needs nginx, the module and pebble: scripts/test.sh"]
fn a_hold_ends_in_time() {
    let lab = Stage::trusting_lab();
    let names = ["soft-12.test", "soft-13.test", "hard-12.test", "hard-13.test", "bad.test"];
    let server = |name: &str| {
        let check = if name.starts_with("hard") { "hard" } else { "soft" };
        let tls = lab.tls_port.addr();
        format!(
            "server {{ listen {tls} ssl; server_name {name}; ssl_cert_autofetch_check {check}; }}\n"
        )
    };
    let servers: String = names.iter().map(|n| server(n)).collect();
    let http =
        format!("ssl_cert_autofetch_check_interval 0; ssl_cert_autofetch_timeout 1s;\n{servers}");
    let stage = Stage::start(lab, Config::new(), &http);
    let serials = names.map(|name| stage.monitor.wait_valid(name));
    let [soft_12, soft_13, hard_12, hard_13, bad] = names.map(|name| stage.lab.client(name));
    stage.lab.responder.behave(Behaviour::delivery(Delivery::Never));
    stage.lab.responder.behave_for(&serials[4], Behaviour::revoked(None));
    stage.lab.pebble.freeze();

    let check = Duration::from_millis(850)..Duration::from_millis(2500);
    for (client, serial) in [(soft_12.tls12(), &serials[0]), (soft_13.tls13(), &serials[1])] {
        let served = client.connect().expect("served without proof");
        assert_eq!(served.serial, *serial);
        assert!(check.contains(&served.took), "{:?}", served.took);
    }
    let whole = Duration::from_millis(990)..Duration::from_millis(2500);
    let table = [(hard_12.tls12(), check.clone()), (hard_13.tls13(), check), (bad, whole)];
    for (client, time) in table {
        let refused = client.connect().expect_err("no service");
        assert_eq!((refused.alert, refused.chain.len()), (Some(INTERNAL_ERROR), 0), "{refused:?}");
        assert!(time.contains(&refused.took), "{:?}", refused.took);
    }
    assert_eq!(stage.monitor.counter("refused"), 3);
    stage.lab.pebble.thaw();
    stage.nginx.check_log();
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
    let waiting: Vec<_> = ["soft.test", "hard.test", "soft.test"]
        .map(|name| stage.lab.client(name).connect_aside())
        .into();
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
    let waiting = stage.lab.client("a.test").connect_aside();
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
    let http = Stage::asking(&lab, "ssl_cert_autofetch_max_held 200;");
    let stage = Stage::start(lab, Config::new(), &http);
    let old = stage.monitor.wait_valid("a.test");
    let issued = stage.monitor.counter("issued");
    stage.revoke("a.test", Some(1));
    stage.lab.responder.forget_queries();
    stage.lab.responder.behave_for(&old, Behaviour::delayed(Duration::from_secs(3)));

    let held = stage.monitor.counter("held");
    let clients: Vec<_> = (0..100).map(|_| stage.lab.client("a.test").connect_aside()).collect();
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
    stage.nginx.check_log();
}

/// User and system time of a process, in ticks of 10 ms.
fn cpu_ticks(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("stat");
    let (_, rest) = stat.rsplit_once(')').expect("a name in parentheses");
    let fields: Vec<_> = rest.split_whitespace().collect();
    fields[11..13].iter().map(|f| f.parse::<u64>().expect("a number")).sum()
}
