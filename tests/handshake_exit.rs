//! Workers that leave while handshakes are held and jobs run.

mod lab;

use std::time::{Duration, Instant};

use lab::*;

const SOON: Duration = Duration::from_secs(10);

#[test]
#[ignore = "needs nginx, the module and pebble: scripts/test.sh"]
fn a_reload_waits_for_the_held() {
    let lab = Stage::trusting_lab();
    let http = Stage::asking(&lab, "");
    let stage = Stage::start(lab, Config::new().level("notice"), &http);
    let old = stage.monitor.wait_valid("a.test");
    stage.revoke("a.test", None);
    stage.lab.responder.behave_for(&old, Behaviour::delayed(Duration::from_secs(3)));
    let worker = stage.nginx.worker_pids()[0];
    let held = stage.monitor.counter("held");
    let waiting = stage.lab.client("a.test").get_aside();
    stage.monitor.wait_counter("held", held + 1, SOON);
    stage.nginx.reload();
    assert!(!waiting.is_finished());
    let (served, text) = waiting.join().expect("thread").expect("handshake");
    assert!(text.starts_with("HTTP/1.1 404"), "{text}");
    assert_ne!(served.serial, old);
    stage.nginx.wait_exit(worker);
    let after = stage.lab.client("a.test").connect().expect("handshake");
    assert_eq!(after.serial, served.serial);
    stage.nginx.check_log();
}

#[test]
#[ignore = "needs nginx, the module and pebble: scripts/test.sh"]
fn quitting_waits_for_the_held() {
    let lab = Stage::trusting_lab();
    let http = Stage::asking(&lab, "");
    let mut stage = Stage::start(lab, Config::new().level("notice").workers(2), &http);
    let old = stage.monitor.wait_valid("a.test");
    stage.revoke("a.test", None);
    stage.lab.responder.behave_for(&old, Behaviour::delayed(Duration::from_secs(2)));
    let workers = stage.nginx.worker_pids();
    let held = stage.monitor.counter("held");
    let waiting: Vec<_> = (0..8).map(|_| stage.lab.client("a.test").get_aside()).collect();
    stage.monitor.wait_counter("held", held + 8, SOON);
    assert!(stage.nginx.quit(Duration::from_secs(20)).success());
    let results: Vec<_> = waiting.into_iter().map(|w| w.join().expect("thread")).collect();
    let new = results[0].as_ref().expect("handshake").0.serial.clone();
    assert_ne!(new, old);
    for result in results {
        assert_eq!(result.expect("handshake").0.serial, new);
    }
    for worker in workers {
        stage.nginx.wait_exit(worker);
    }
    stage.nginx.check_log();
}

/// A thread inside OpenSSL while the process takes OpenSSL apart: it crashed 9 times of 20.
#[test]
#[ignore = "needs nginx, the module and pebble: scripts/test.sh"]
fn ending_workers_do_not_crash() {
    let lab = Stage::trusting_lab();
    let names: Vec<String> = (0..9).map(|i| format!("n{i}.test")).collect();
    let tls = lab.tls_port.addr();
    // No call into OpenSSL is longer than the making of an RSA key.
    let server = |name| {
        format!(
            "server {{ listen {tls} ssl; server_name {name}; ssl_cert_autofetch_key rsa:3072; }}\n"
        )
    };
    let servers: String = names.iter().map(server).collect();
    let http = format!("ssl_cert_autofetch_check_interval 0;\n{servers}");
    let mut stage = Stage::start(lab, Config::new().level("notice").workers(2), &http);
    names.iter().for_each(|name| drop(stage.monitor.wait_valid(name)));
    for round in 0..10 {
        // Some are asked about, the others are replaced.
        let mut revoked = Vec::new();
        for name in names.iter().step_by(3) {
            revoked.push(stage.monitor.serial(name).expect("serial"));
            stage.revoke(name, None);
        }
        let clients: Vec<_> =
            names.iter().map(|name| stage.lab.client(name).connect_aside()).collect();
        // The jobs are at another step each round.
        let start = Instant::now();
        while start.elapsed() < Duration::from_millis(20 * round) {
            std::thread::sleep(Duration::from_millis(1));
        }
        let Stage { lab, nginx, monitor } = stage;
        let config = nginx.stop();
        clients.into_iter().for_each(|c| drop(c.join()));
        stage = Stage { lab, nginx: config.start(), monitor };
        for name in &names {
            let served = stage.lab.client(name).connect().expect("handshake");
            assert!(!revoked.contains(&served.serial), "{name}");
        }
    }
    let log = stage.nginx.error_log();
    assert!(log.matches("exited with code 0").count() >= 20, "{log}");
    stage.nginx.check_log();
}

#[test]
#[ignore = "needs nginx, the module and pebble: scripts/test.sh"]
fn one_process_for_everything() {
    let lab = Stage::trusting_lab();
    let http = Stage::asking(&lab, "");
    let config = Config::new().single();
    let mut stage = Stage::start(lab, config, &http);
    let old = stage.monitor.wait_valid("a.test");
    let served = stage.lab.client("a.test").connect().expect("handshake");
    assert_eq!(served.serial, old);
    stage.revoke("a.test", None);
    let (served, text) = stage.lab.client("a.test").get("/").expect("handshake");
    assert_ne!(served.serial, old);
    assert!(text.starts_with("HTTP/1.1 404"), "{text}");
    let warnings = stage.nginx.log_lines("master_process off");
    assert_eq!(warnings.len(), 1, "{warnings:#?}");
    assert!(warnings[0].contains("[warn]") && warnings[0].contains("restart"), "{warnings:?}");
    assert!(stage.nginx.quit(SOON).success());
    stage.nginx.check_log();
}
