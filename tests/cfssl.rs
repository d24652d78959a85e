//! Certificates of cfssl, whose OCSP answers are signed in advance: an answer is as old as the
//! last time somebody made one.

mod lab;

use std::time::Duration;

use lab::process::wait_for;
use lab::*;

const EACH: &str = "ssl_cert_autofetch_check_interval 0;";
const WITHIN: Duration = Duration::from_secs(30);
const HARD: &str = "ssl_cert_autofetch_check hard;";

/// No nonce, thisUpdate rounded down to the hour, and GET answered with 400.
#[test]
#[ignore = "needs nginx, the module and cfssl: scripts/test.sh"]
fn an_answer_signed_in_advance_is_proof() {
    let cfssl = Cfssl::start();
    let id = cfssl.issue(&["a.test"]);
    cfssl.publish();
    let site = Guests::of(&cfssl.root_pem()).http(EACH).add("a.test", &id, HARD).start();
    site.check_served("a.test", &id.serial());
    site.check_served("a.test", &id.serial());
    let evidence = &site.monitor.entry("a.test")["evidence"];
    assert_eq!((&evidence["source"], &evidence["status"]), (&"ocsp".into(), &"good".into()));
    assert_eq!(evidence["responder"], cfssl.ocsp_url());
    let this_update = evidence["this_update"].as_str().unwrap_or_default();
    assert!(this_update.ends_with(":00:00Z"), "{evidence}");
    assert_eq!(site.lines_at("warn", "a.test"), Vec::<String>::new());
    assert_eq!(site.monitor.counter("ocsp_errors"), 0);
}

/// The revocation is in the database, then in the answers: the next handshake after that is served
/// with another certificate.
#[test]
#[ignore = "needs nginx, the module and cfssl: scripts/test.sh"]
fn a_revocation_counts_when_it_is_signed() {
    let cfssl = Cfssl::start();
    let id = cfssl.issue(&["a.test"]);
    cfssl.publish();
    let site = Guests::of(&cfssl.root_pem()).http(EACH).add("a.test", &id, HARD).start();
    site.check_served("a.test", &id.serial());
    cfssl.revoke(&id, "superseded");
    site.check_served("a.test", &id.serial());
    cfssl.publish();

    let new = site.check_replaced("a.test", &id.serial());
    assert_eq!(site.monitor.entry("a.test")["replaced"]["reason"], "superseded");
    let line = format!(
        "[error] ssl_cert_autofetch: \"a.test\": certificate serial={} is revoked (superseded), \
         source={}",
        id.serial(),
        cfssl.ocsp_url()
    );
    assert_eq!(site.lines_at("error", "a.test"), [line]);
    site.check_served("a.test", &new);
    assert_eq!(site.liar.orders_for("a.test"), 1);
}

/// As every certificate is at first with such a CA.
#[test]
#[ignore = "needs nginx, the module and cfssl: scripts/test.sh"]
fn a_new_certificate_is_unknown_until_it_is_signed() {
    let cfssl = Cfssl::start();
    cfssl.issue(&["other.test"]);
    cfssl.publish();
    let [soft, hard] = ["soft.test", "hard.test"].map(|name| cfssl.issue(&[name]));
    let site = Guests::of(&cfssl.root_pem())
        .http(EACH)
        .add("soft.test", &soft, "")
        .add("hard.test", &hard, HARD)
        .start();
    site.check_served("soft.test", &soft.serial());
    site.check_refused("hard.test");
    for name in ["soft.test", "hard.test"] {
        let warned = site.lines_at("warn", name);
        assert_eq!(warned.len(), 1, "{warned:#?}");
        assert!(warned[0].contains("CHECK failed: "), "{warned:#?}");
        assert!(warned[0].contains("unauthorized"), "{warned:#?}");
    }

    cfssl.publish();
    let served = wait_for("service in hard mode", Duration::from_secs(30), || {
        site.client("hard.test").connect().ok()
    });
    assert_eq!(served.serial, hard.serial());
    site.check_served("soft.test", &soft.serial());
    assert_eq!(site.monitor.entry("hard.test")["evidence"]["status"], "good");
    assert_eq!(["soft.test", "hard.test"].map(|n| site.liar.orders_for(n)), [0, 0]);
}

/// `protocol cfssl`: the main job, with the profile's key and with a wrong one.
#[test]
#[ignore = "needs nginx, the module and cfssl: scripts/test.sh"]
fn certificates_come_from_its_json_api() {
    let cfssl = Cfssl::start();
    let (server, config) = (cfssl.serve(), Config::new());
    let responder = Responder::start(Port::reserve(), cfssl.issuer().clone(), Source::Own);
    let (tls, status) = (Port::reserve(), Port::reserve());
    let key = config.dir().join("auth.key");
    std::fs::write(&key, AUTH_KEY).expect("write");
    std::fs::write(config.dir().join("wrong.key"), AUTH_KEY.replace('0', "1")).expect("write");
    let ca = |name: &str, key: &str| {
        format!(
            "ssl_cert_autofetch_ca {name} {{
                 protocol cfssl; url {}; profile web; auth_key_file {key}; ocsp_responder {};
                 subject \"O=Corp\\\\, Inc., C=DE\";
             }}",
            server.url,
            responder.url()
        )
    };
    let body = format!(
        "ssl_cert_autofetch_keystore {};
         {EACH}
         {} {}
         server {{ listen {tls} ssl; server_name a.test; ssl_cert_autofetch good; return 200; }}
         server {{ listen {tls} ssl; server_name b.test; ssl_cert_autofetch bad; return 200; }}
         server {{ listen {}; {LOCATIONS} }}",
        config.keystore().display(),
        ca("good", "auth.key"),
        ca("bad", "wrong.key"),
        status.addr(),
        tls = tls.addr(),
    );
    let monitor = Monitor::at(&status);
    let nginx = config.http(body).start();
    let old = monitor.wait_valid("a.test");
    let leaf = Stored::of(&nginx.keystore(), "a.test").leaf();
    let text = |e: &openssl::x509::X509NameEntryRef| {
        String::from_utf8_lossy(e.data().as_slice()).into_owned()
    };
    let subject: Vec<_> = leaf.subject_name().entries().map(text).collect();
    assert!(["Corp, Inc.", "DE", "a.test"].iter().all(|s| subject.contains(&s.to_string())));
    let client = Client::new(tls.number()).sni("a.test").trust(cfssl.root_pem());
    assert_eq!(client.connect().expect("handshake").serial, old);
    responder.set_status(&old, Status::Revoked { reason: Some(4), at: clock::now() });
    let new = client.connect().expect("handshake").serial;
    assert_ne!(new, old);
    nginx.wait_log(&format!("replaced serial={old} by serial={new} from \"good\""), WITHIN);
    let line =
        nginx.wait_log("\"b.test\": ISSUE failed: \"bad\": authsign: HTTP status 400", WITHIN);
    assert!(line.contains("invalid token") && line.contains("auth_key_file"), "{line}");
    assert!(!nginx.error_log().contains(AUTH_KEY));
}
