//! HTTP/3: a handshake over QUIC can't be held. It gets what is known good and is refused what is
//! known bad, at once, so that clients go to TCP, where they are held.
//!
//! Every name begins with `http3_`: scripts/test.sh leaves them out where nginx has no HTTP/3.

mod lab;

use std::time::Duration;

use lab::site::ISSUANCE;
use lab::*;

const EACH: &str = "ssl_cert_autofetch_check_interval 0; ssl_cert_autofetch_timeout 20s;";

/// No wait for anything, on a busy machine; the limit of a hold is far from it.
const AT_ONCE: Duration = Duration::from_secs(5);

/// A site on TCP and QUIC.
fn plan(http: &str) -> Plan {
    let mut plan = Plan::server("a.test", http).ca("budget 100/7d;");
    plan.servers = plan.servers.replace("listen TLS ssl;", "listen TLS ssl; listen TLS quic;");
    plan
}

fn quic(lab: &Lab) -> QuicClient {
    QuicClient::new("a.test", lab.tls_port.number(), &lab.pebble.root_pem())
}

/// The serial that a handshake shows.
fn served(client: &QuicClient) -> String {
    let answer = client.get().expect("served");
    assert_eq!(answer.status, 200);
    assert!(answer.body.starts_with("worker "), "{answer:?}");
    assert!(answer.took < AT_ONCE, "{answer:?}");
    answer.serial.expect("a full handshake")
}

fn is_refused(client: &QuicClient) {
    let refusal = client.get().expect_err("known bad");
    assert_eq!(refusal.alert(), Some(INTERNAL_ERROR), "{refusal:?}");
    assert!(refusal.took < AT_ONCE, "{refusal:?}");
}

/// The responder is asked about what is served whenever it may be, and frozen Pebble can't tell it.
fn answers_by_itself(site: &Site, serial: &str) {
    site.lab.responder.set_status(serial, Status::Good);
}

/// No replacement can be had till Pebble thaws.
fn revoke_and_freeze(site: &Site, serial: &str) {
    site.lab.pebble.freeze();
    let revoked = Status::Revoked { reason: Some(1), at: clock::now() };
    site.lab.responder.set_status(serial, revoked);
}

/// By handshakes over QUIC alone: the news is there after one whose question was not yet on its way.
fn learn(site: &Site, client: &QuicClient, serial: &str) {
    let news = format!("serial={serial} is revoked");
    wait_until("the news", ISSUANCE, || {
        let _ = client.get();
        !site.nginx.log_lines(&news).is_empty()
    });
}

/// Nobody comes by TCP: the handshake that may not wait starts what the next one profits from.
#[test]
#[ignore = "needs nginx with HTTP/3, the module, pebble and aioquic: scripts/test.sh"]
fn http3_gets_the_replacement() {
    let site = plan(EACH).start();
    let client = quic(&site.lab);
    let mut old = site.wait_valid("a.test");
    for version in 2..4 {
        assert_eq!(served(&client), old);
        assert_eq!(site.revoke("a.test", Some(4)), old);
        learn(&site, &client, &old);
        let new = site.wait_other("a.test", &old);
        assert_eq!(served(&client), new);
        assert_eq!(site.entry("a.test")["version"], version);
        old = new;
    }
    assert_eq!((site.counter("held"), site.counter("replaced_revoked"), site.issued()), (0, 2, 3));
}

/// While a handshake over TCP waits for the responder.
#[test]
#[ignore = "needs nginx with HTTP/3, the module, pebble and aioquic: scripts/test.sh"]
fn http3_is_never_held() {
    let site = plan(EACH).start();
    let (old, client) = (site.wait_valid("a.test"), quic(&site.lab));
    let by_tcp = site.lab.client("a.test");
    // Whom the responder asks.
    site.lab.pebble.freeze();
    let tcp = by_tcp.connect_aside();
    wait_until("a held handshake", ISSUANCE, || site.counter("held") == 1);
    for _ in 0..3 {
        assert_eq!(served(&client), old);
    }
    assert!(!tcp.is_finished());
    site.lab.pebble.thaw();
    assert_eq!(tcp.join().expect("client").expect("handshake").serial, old);
    assert_eq!((site.counter("held"), site.counter("refused")), (1, 0));
}

/// Before the first certificate, and from the news of a revocation till the replacement is there;
/// who comes by TCP waits meanwhile and gets it.
#[test]
#[ignore = "needs nginx with HTTP/3, the module, pebble and aioquic: scripts/test.sh"]
fn http3_is_refused_what_is_known_bad() {
    let mut clients = None;
    let site = plan(EACH).start_with(|lab, _| {
        clients = Some((quic(lab), lab.client("a.test")));
        lab.pebble.freeze();
    });
    let (client, by_tcp) = clients.expect("clients");
    let mut old = String::new();
    for _ in 0..2 {
        is_refused(&client);
        let held = site.counter("held");
        let tcp = by_tcp.connect_aside();
        wait_until("a held handshake", ISSUANCE, || site.counter("held") == held + 1);
        is_refused(&client);
        assert!(!tcp.is_finished());
        site.lab.pebble.thaw();
        let new = tcp.join().expect("client").expect("handshake").serial;
        assert_ne!(new, old);
        answers_by_itself(&site, &new);
        assert_eq!(served(&client), new);

        old = new;
        revoke_and_freeze(&site, &old);
        learn(&site, &client, &old);
    }
    site.lab.pebble.thaw();
}

/// Also those that would send a request with the first flight. With an answer that is relied on for
/// a while and renewed behind: a handshake that comes when one is due is never resumed.
#[test]
#[ignore = "needs nginx with HTTP/3, the module, pebble and aioquic: scripts/test.sh"]
fn http3_sessions_end_with_a_revocation() {
    let site = plan("ssl_cert_autofetch_check_interval 6s; ssl_early_data on;").start();
    let (old, client) = (site.wait_valid("a.test"), quic(&site.lab));
    assert_eq!(client.resume().expect("served").serial.as_ref(), Some(&old));
    let resumed = client.resume().expect("served");
    assert!(resumed.resumed && resumed.serial.is_none(), "{resumed:?}");

    site.revoke("a.test", Some(1));
    let new = site.wait_other("a.test", &old);
    let next = client.resume().expect("served");
    assert!(!next.resumed && !next.early_data, "{next:?}");
    assert_eq!(next.serial, Some(new));
    let resumed = client.resume().expect("served");
    assert!(resumed.resumed, "{resumed:?}");
}

/// Sessions that were made when an answer was due, as it always is here, are worth nothing later,
/// when the next handshake comes at such a moment too.
#[test]
#[ignore = "needs nginx with HTTP/3, the module, pebble and aioquic: scripts/test.sh"]
fn http3_makes_no_session_when_an_answer_is_due() {
    let site = plan(&format!("{EACH} ssl_early_data on;")).start();
    let (old, client) = (site.wait_valid("a.test"), quic(&site.lab));
    for _ in 0..3 {
        let answer = client.resume().expect("served");
        assert!(!answer.resumed && !answer.early_data, "{answer:?}");
        assert_eq!(answer.serial.as_ref(), Some(&old));
    }
    site.revoke("a.test", Some(1));
    learn(&site, &quic(&site.lab), &old);
    let new = site.wait_other("a.test", &old);
    let next = client.resume().expect("served");
    assert!(!next.resumed && !next.early_data, "{next:?}");
    assert_eq!(next.serial, Some(new));
}

/// `hard`, and the proof has run out: a session does not go round the gate.
#[test]
#[ignore = "needs nginx with HTTP/3, the module, pebble and aioquic: scripts/test.sh"]
fn http3_sessions_are_refused_without_proof() {
    let http = "ssl_cert_autofetch_check hard; ssl_cert_autofetch_check_interval 2s;";
    let site = plan(http).start();
    let client = quic(&site.lab);
    site.wait_valid("a.test");
    wait_until("a session", ISSUANCE, || client.resume().is_ok_and(|a| a.resumed));
    site.lab.responder.behave(Behaviour::delivery(Delivery::Http(503)));
    wait_until("the end of the proof", ISSUANCE, || client.get().is_err());
    let refusal = client.resume().expect_err("no proof");
    assert_eq!(refusal.alert(), Some(INTERNAL_ERROR), "{refusal:?}");
    site.lab.responder.behave_well();
    wait_until("a session again", ISSUANCE, || client.resume().is_ok_and(|a| a.resumed));
}

/// A client with both: refused over QUIC it comes by TCP, where it is held and served.
mod curl_http3 {
    use super::*;

    #[test]
    #[ignore = "needs nginx with HTTP/3, the module, pebble and a curl with HTTP/3: scripts/matrix.sh"]
    fn http3_clients_fall_back() {
        let site = plan(EACH).start();
        let old = site.wait_valid("a.test");
        let roots = site.nginx.dir().join("roots.pem");
        std::fs::write(&roots, site.lab.pebble.root_pem()).expect("write");
        let port = site.lab.tls_port.number();
        let visit = || {
            let ended = quic::curl("a.test", port, &roots);
            assert!(ended.ok && ended.stdout.starts_with("worker "), "{ended:?}");
            ended.stdout.rsplit(' ').next().expect("a version").to_owned()
        };
        answers_by_itself(&site, &old);
        assert_eq!(visit(), "3");
        let client = quic(&site.lab);
        revoke_and_freeze(&site, &old);
        learn(&site, &client, &old);
        let tcp = std::thread::scope(|scope| {
            let visit = scope.spawn(visit);
            wait_until("a held handshake", ISSUANCE, || site.counter("held") == 1);
            site.lab.pebble.thaw();
            visit.join().expect("curl")
        });
        assert_ne!(tcp, "3");
        site.wait_other("a.test", &old);
        assert_eq!(visit(), "3");
    }
}
