//! Renewal information (RFC 9773) of a real CA: a Pebble that has it.

mod lab;

use std::fs;
use std::time::Duration;

use lab::site::server;
use lab::*;
use serde_json::{Value, json};
use time::format_description::well_known::Rfc3339;
use time::{Duration as Time, OffsetDateTime};

const WITHIN: Duration = Duration::from_secs(60);

/// A site whose CA knows of renewal information.
fn start() -> Site {
    let mut plan = Plan { servers: server("a.test"), ..Plan::default() };
    plan.pebble.program = Some(lab::pebble::newer());
    plan.pebble.nonce_reject = 0; // orders are counted
    plan.start()
}

/// The CA says of the current certificate that it is to be replaced between these hours from now.
fn suggest(site: &Site, hours: (i64, i64)) {
    let at = |h| (OffsetDateTime::now_utc() + Time::hours(h)).format(&Rfc3339).expect("time");
    let answer = json!({
        "suggestedWindow": { "start": at(hours.0), "end": at(hours.1) },
        "explanationURL": "https://ca.test/why",
    });
    let chain = String::from_utf8(site.stored("a.test").chain_pem()).expect("PEM");
    let leaf = chain.split_inclusive("-----END CERTIFICATE-----\n").next().expect("leaf");
    let body = json!({ "Certificate": leaf, "AriResponse": answer.to_string() });
    site.lab.pebble.manage("set-renewal-info/", &body);
}

/// As if the certificate had been stored two hours ago, and its CA never been asked.
fn age(site: &Stored) {
    let file = site.dir.join("current/meta.json");
    let mut meta: Value = serde_json::from_slice(&fs::read(&file).expect("meta")).expect("JSON");
    let before = OffsetDateTime::now_utc() - Time::hours(2);
    meta["stored_at"] = json!(before.format(&Rfc3339).expect("time"));
    fs::write(&file, meta.to_string()).expect("meta");
    fs::remove_file(site.dir.join("renewal.json")).expect("it was asked");
}

fn orders(site: &Site) -> usize {
    site.lab.pebble.log().matches("POST /order-plz").count()
}

mod newer_pebble {
    use super::*;

    #[test]
    #[ignore = "needs nginx, the module and a newer pebble: scripts/test.sh"]
    fn a_certificate_is_replaced_when_its_ca_wants_it() {
        let site = start();
        let old = site.wait_valid("a.test");
        let stored = site.stored("a.test");
        wait_until("the first answer", WITHIN, || stored.dir.join("renewal.json").exists());
        assert!(!site.nginx.error_log().contains(" wants serial="), "the usual window is no news");

        suggest(&site, (-2, -1));
        let site = site.restart(
            |nginx| {
                let keystore = nginx.keystore();
                let config = nginx.stop();
                age(&Stored::of(&keystore, "a.test"));
                config
            },
            |_| {},
        );
        let new = site.wait_other("a.test", &old);
        let line = format!("\"a.test\": \"lab\" wants serial={old} replaced between ");
        let line = site.nginx.wait_log(&line, WITHIN);
        assert!(line.contains("[notice]") && line.ends_with(", see https://ca.test/why"), "{line}");
        assert_eq!(site.entry("a.test")["replaced"], Value::Null, "it was not bad");
        assert_eq!((orders(&site), site.counter("held")), (2, 0), "nobody has waited");

        // A backup of the keystore comes back: its certificate is replaced in the CA's eyes already.
        let site = site.restart(
            |nginx| {
                let stored = Stored::of(&nginx.keystore(), "a.test");
                let config = nginx.stop();
                fs::remove_file(stored.dir.join("current")).expect("current");
                std::os::unix::fs::symlink("versions/1", stored.dir.join("current"))
                    .expect("current");
                age(&stored);
                config
            },
            |_| {},
        );
        let restored = site.wait_other("a.test", &old);
        assert_ne!(restored, new);
        assert_eq!(orders(&site), 4, "one as the successor, one without");
        assert!(!site.nginx.error_log().contains("ISSUE failed"));
    }
}
