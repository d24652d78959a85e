//! nginx with an ACME CA that gives accounts only to its customers, and with the settings of one
//! that are changed under way.

mod lab;

use std::path::Path;

use lab::*;

const KID: &str = "customer-7";
const MAC_KEY: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY";

#[test]
#[ignore = "needs nginx, the module and pebble: scripts/test.sh"]
fn an_account_through_its_life() {
    let dir = tempfile::tempdir().expect("directory");
    let place = |name: &str| dir.path().join(name);
    // As it comes in a mail.
    std::fs::write(place("eab.txt"), format!(" {MAC_KEY}=\r\n")).expect("write");
    for (name, kind) in [("one.pem", KeyType::Ecdsa384), ("two.pem", KeyType::Rsa2048)] {
        let pem = kind.generate().private_key_to_pem_pkcs8().expect("PEM");
        std::fs::write(place(name), pem).expect("write");
    }
    let mut plan = Plan::server("a.test", "ssl_cert_autofetch_check_interval 0;");
    plan.pebble.external_account = Some((KID.into(), MAC_KEY.into()));
    plan.pebble.nonce_reject = 50;
    plan.pebble.validity = 900;
    let site = plan.start();
    // Without a binding: told, and tried again later.
    let entry = site.wait_entry("a.test", "has failed", site::ISSUANCE, |e| {
        e["last_error"].as_str().is_some_and(|e| e.contains("set external_account_key"))
    });
    assert_eq!(entry["state"], "pending", "{entry}");

    // With one, and a key of ours.
    let binding = format!("external_account_key {KID} {};", place("eab.txt").display());
    let with = |key: &str, more: &str| {
        format!("{binding} account_key {}; contact a@corp.test; {more}", place(key).display())
    };
    let site = site.restart(Nginx::stop, |plan| plan.ca = with("one.pem", ""));
    let first = site.wait_valid("a.test");
    let made = account(&site.nginx.keystore());

    // Another key of ours, another address, and a chain that there is not.
    let lines = with("two.pem", "contact b@corp.test; preferred_chain \"No Root\";");
    let site = site.restart(Nginx::stop, |plan| plan.ca = lines);
    assert_eq!(site.wait_valid("a.test"), first, "no reason to issue");
    site.revoke("a.test", Some(4));
    let second = site.lab.client("a.test").connect().expect("handshake").serial;
    assert_ne!(second, first);
    let after = account(&site.nginx.keystore());
    assert_eq!(after["url"], made["url"], "rolled over");
    assert_ne!(after["thumbprint"], made["thumbprint"]);
    assert_eq!(after["retired"][0], made["thumbprint"]);
    assert_eq!(after["contact"], serde_json::json!(["mailto:a@corp.test", "mailto:b@corp.test"]));
    let lines = site.lines("a.test");
    let warning = "[warn] ssl_cert_autofetch: \"a.test\": \"lab\": preferred_chain \"No Root\" is not \
                   offered, only \"Pebble Root CA ";
    assert_eq!(lines.iter().filter(|l| l.starts_with(warning)).count(), 1, "{lines:#?}");
    let log = site.nginx.error_log();
    for secret in [MAC_KEY, "PRIVATE KEY"] {
        assert!(!log.contains(secret));
    }
}

fn account(keystore: &Path) -> serde_json::Value {
    let file = std::fs::read(keystore.join("accounts/lab/account.json")).expect("account.json");
    serde_json::from_slice(&file).expect("JSON")
}
