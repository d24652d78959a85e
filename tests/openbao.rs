//! Certificates of OpenBao, whose OCSP responder and CRL really disagree.

mod lab;

use std::time::Duration;

use lab::*;
use serde_json::json;

const EACH: &str = "ssl_cert_autofetch_check_interval 0;";
const HARD: &str = "ssl_cert_autofetch_check hard;";

/// It never returns the nonce.
#[test]
#[ignore = "needs nginx, the module and OpenBao: scripts/test.sh"]
fn a_good_certificate_is_served() {
    let bao = OpenBao::start();
    let id = bao.issue(&["a.test"]);
    let site = Guests::of(bao.root_pem()).http(EACH).add("a.test", &id, HARD).start();
    for client in [site.client("a.test").tls12(), site.client("a.test").tls13()] {
        let served = client.connect().expect("handshake");
        assert_eq!((served.serial, served.chain.len()), (id.serial(), 2));
    }
    let evidence = &site.monitor.entry("a.test")["evidence"];
    // The CRL is looked at too, and what is newest is told.
    assert_eq!(evidence["status"], "good");
    let counts = ["ocsp_queries", "ocsp_errors"].map(|c| site.monitor.counter(c));
    assert!(counts[0] >= 2 && counts[1] == 0, "{counts:?}");
    assert_eq!(site.lines_at("warn", "a.test"), Vec::<String>::new());
    assert_eq!((site.liar.orders_for("a.test"), site.monitor.counter("refused")), (0, 0));
}

#[test]
#[ignore = "needs nginx, the module and OpenBao: scripts/test.sh"]
fn a_nonce_that_is_required_is_missed() {
    let bao = OpenBao::start();
    let [soft, hard] = ["soft.test", "hard.test"].map(|name| bao.issue(&[name]));
    let site = Guests::of(bao.root_pem())
        .http(EACH)
        .ca("ocsp_nonce required; crl http://127.0.0.1:9/none.crl;")
        .add("soft.test", &soft, "")
        .add("hard.test", &hard, HARD)
        .start();
    site.check_served("soft.test", &soft.serial());
    site.check_refused("hard.test");
    for name in ["soft.test", "hard.test"] {
        let line = format!("\"{name}\": CHECK failed: ocsp: response does not carry the nonce");
        site.nginx.wait_log(&line, Duration::from_secs(5));
    }
    assert_eq!(["soft.test", "hard.test"].map(|n| site.liar.orders_for(n)), [0, 0]);
}

/// The CRL is rebuilt by time: OCSP knows at once what the CRL does not say yet.
#[test]
#[ignore = "needs nginx, the module and OpenBao: scripts/test.sh"]
fn ocsp_knows_first() {
    let bao = OpenBao::start();
    bao.configure_crl(json!({"auto_rebuild": true, "expiry": "24h"}));
    let id = bao.issue(&["a.test"]);
    let site = Guests::of(bao.root_pem()).http(EACH).add("a.test", &id, "").start();
    site.check_served("a.test", &id.serial());
    bao.revoke(&id);
    assert!(!bao.crl_lists(&id), "the two sources agree");

    let new = site.check_replaced("a.test", &id.serial());
    let line = format!("\"a.test\": certificate serial={} is revoked", id.serial());
    let lines = site.nginx.log_lines(&line);
    assert_eq!(lines.len(), 1, "{lines:#?}");
    assert!(lines[0].ends_with(&format!(", source={}", bao.ocsp_url())), "{lines:#?}");
    site.check_served("a.test", &new);
    assert_eq!((site.liar.orders_for("a.test"), site.monitor.counter("refused")), (1, 0));
}

/// The responder is switched off, as CAs do it: the certificate still names it.
#[test]
#[ignore = "needs nginx, the module and OpenBao: scripts/test.sh"]
fn the_crl_takes_over_from_ocsp() {
    let bao = OpenBao::start();
    bao.configure_crl(json!({"auto_rebuild": true, "expiry": "24h", "ocsp_disable": true}));
    let id = bao.issue(&["a.test"]);
    let site = Guests::of(bao.root_pem()).http(EACH).add("a.test", &id, HARD).start();
    site.check_served("a.test", &id.serial());
    let evidence = &site.monitor.entry("a.test")["evidence"];
    assert_eq!((&evidence["source"], &evidence["status"]), (&"crl".into(), &"good".into()));

    bao.revoke(&id);
    assert!(!bao.crl_lists(&id));
    site.check_served("a.test", &id.serial());
    bao.rotate_crl();
    assert!(bao.crl_lists(&id));
    let new = site.check_replaced("a.test", &id.serial());
    let line = format!("\"a.test\": certificate serial={} is revoked", id.serial());
    let line = site.nginx.wait_log(&line, Duration::from_secs(5));
    assert!(line.ends_with("/crl/der"), "{line}");
    site.check_served("a.test", &new);
}

/// The same where answers are relied on for a while: the responder's failures and the time to its
/// next attempt are no handshake's business.
#[test]
#[ignore = "needs nginx, the module and OpenBao: scripts/test.sh"]
fn a_dead_responder_beside_a_good_crl_holds_nobody_up() {
    let bao = OpenBao::start();
    bao.name_responder("http://127.0.0.1:9/ocsp");
    let id = bao.issue(&["a.test"]);
    let site = Guests::of(bao.root_pem()).add("a.test", &id, HARD).start();
    for _ in 0..50 {
        site.check_served("a.test", &id.serial());
    }
    assert!(site.monitor.counter("held") <= 1);
    assert_eq!(site.monitor.entry("a.test")["evidence"]["source"], "crl");
}

/// A responder that goes on saying good in the CA's name, against the CA's own CRL.
#[test]
#[ignore = "needs nginx, the module and OpenBao: scripts/test.sh"]
fn revoked_in_either_is_revoked() {
    let bao = OpenBao::start();
    let responder = Responder::start(Port::reserve(), bao.issuer().clone(), Source::Own);
    bao.name_responder(&responder.url());
    let id = bao.issue(&["a.test"]);
    bao.revoke(&id);
    assert!(bao.crl_lists(&id), "it is rebuilt at each revocation");
    let site = Guests::of(bao.root_pem()).http(EACH).add("a.test", &id, "").start();

    // The CRL is looked at beside OCSP: the first handshake may not wait for it.
    wait_until("a replacement", Duration::from_secs(30), || {
        site.client("a.test").connect().expect("handshake").serial != id.serial()
    });
    let answers = responder.queries_for(&id.serial());
    assert!(answers.iter().all(|q| q.answer == "Good"), "{answers:?}");
    let line = format!("\"a.test\": certificate serial={} is revoked", id.serial());
    let line = site.nginx.wait_log(&line, Duration::from_secs(5));
    assert!(line.ends_with("/crl/der"), "{line}");
}

/// HTTP 503 from responder and CRL, together.
#[test]
#[ignore = "needs nginx, the module and OpenBao: scripts/test.sh"]
fn a_sealed_ca_is_no_proof() {
    let bao = OpenBao::start();
    let [soft, hard] = ["soft.test", "hard.test"].map(|name| bao.issue(&[name]));
    let site = Guests::of(bao.root_pem())
        .http(EACH)
        .add("soft.test", &soft, "")
        .add("hard.test", &hard, HARD)
        .start();
    bao.seal();
    site.check_served("soft.test", &soft.serial());
    site.check_refused("hard.test");
    for name in ["soft.test", "hard.test"] {
        let warned = site.lines_at("warn", name);
        let of = |source| warned.iter().filter(|l| l.contains(source)).count();
        let counts = ["CHECK failed: ocsp: HTTP status 503", "CHECK failed: crl: "].map(of);
        assert!(counts[0] == 1 && counts[1] <= 1 && warned.len() <= 2, "{warned:#?}");
        assert_eq!(site.liar.orders_for(name), 0);
    }
}
