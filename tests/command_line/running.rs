//! The command beside a running nginx: what it does is seen in the next handshakes.

use super::lab::{Guests, Identity, Port, Profile, Responder, Source, Status, wait_until};
use super::{Cli, WITHIN};

const EACH: &str = "ssl_cert_autofetch_check_interval 0;";

/// A CA below a root, with a responder.
struct Corp {
    root: Identity,
    sub: Identity,
    responder: Responder,
}

impl Corp {
    fn new() -> Corp {
        let root = Identity::root("Corp Root");
        let sub = root.issue(&Profile::authority("Corp CA"));
        let responder = Responder::start(Port::reserve(), sub.clone(), Source::Own);
        Corp { root, sub, responder }
    }

    fn issue(&self, name: &str) -> Identity {
        let ocsp_url = Some(self.responder.url());
        self.sub.issue(&Profile { ocsp_url, ..Profile::server(&[name]) })
    }

    fn revoke(&self, id: &Identity) {
        let revoked = Status::Revoked { reason: Some(1), at: super::lab::clock::now() - 60 };
        self.responder.set_status(&id.serial(), revoked);
    }
}

fn all(id: &Identity) -> Vec<u8> {
    [id.fullchain_pem(), id.key_pem()].concat()
}

/// Imported by hand it is served, checked, and replaced by its server's CA once it is revoked.
#[test]
#[ignore = "needs nginx and the module: scripts/test.sh"]
fn an_imported_certificate_is_an_entry_like_any_other() {
    let corp = Corp::new();
    let site = Guests::of(&corp.root.cert_pem()).http(EACH).empty("a.test").start();
    let first = site.monitor.wait_valid("a.test");
    let cli = Cli::of(&site.nginx.keystore());
    let id = corp.issue("a.test");
    let file = cli.write("a.pem", &all(&id));
    let imported = cli.json(0, &["import", "a.test", &file]);
    assert_eq!(imported["replaced_serial"], *first);
    let is_served = || site.client("a.test").connect().is_ok_and(|c| c.serial == id.serial());
    wait_until("the imported certificate", WITHIN, is_served);
    let entry = site.monitor.entry("a.test");
    assert_eq!((&entry["ca"], &entry["serial"]), (&serde_json::Value::Null, &id.serial().into()));
    assert_eq!(entry["evidence"]["status"], "good");
    assert!(!corp.responder.queries_for(&id.serial()).is_empty());
    assert_eq!(site.liar.orders_for("a.test"), 1);

    corp.revoke(&id);
    let new = site.check_replaced("a.test", &id.serial());
    assert_eq!(site.monitor.entry("a.test")["replaced"]["reason"], "keyCompromise");
    assert_eq!((site.liar.orders_for("a.test"), site.monitor.counter("refused")), (2, 0));
    let shown = cli.json(0, &["show", "a.test"]);
    assert_eq!((&shown["serial"], &shown["ca"]), (&new.into(), &"liar".into()));
    // It does not come back by hand.
    let ended = cli.run(&["import", "a.test", &file]);
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains("is revoked (keyCompromise)"), "{}", ended.stderr);
}

/// The module relies on a good answer for an hour; what the command finds out counts before.
#[test]
#[ignore = "needs nginx and the module: scripts/test.sh"]
fn a_revocation_that_check_finds_is_acted_upon_at_once() {
    let corp = Corp::new();
    let id = corp.issue("a.test");
    let site = Guests::of(&corp.root.cert_pem()).add("a.test", &id, "").start();
    site.check_served("a.test", &id.serial());
    let cli = Cli::of(&site.nginx.keystore());
    assert_eq!(cli.json(0, &["check", "a.test"])["result"], "good");
    corp.revoke(&id);
    site.check_served("a.test", &id.serial());
    let said = cli.json(1, &["check", "a.test"]);
    assert_eq!((&said["result"], &said["stored"]), (&"revoked".into(), &true.into()));
    let is_replaced = || site.client("a.test").connect().is_ok_and(|c| c.serial != id.serial());
    wait_until("a replacement", WITHIN, is_replaced);
    assert_eq!(site.monitor.entry("a.test")["replaced"]["serial"], id.serial());
}

#[test]
#[ignore = "needs nginx and the module: scripts/test.sh"]
fn a_renewal_is_done_by_the_running_nginx() {
    let corp = Corp::new();
    let id = corp.issue("a.test");
    let site = Guests::of(&corp.root.cert_pem()).add("a.test", &id, "").start();
    site.check_served("a.test", &id.serial());
    let cli = Cli::of(&site.nginx.keystore());
    let is_watched = || cli.run(&["renew", "a.test"]).code == Some(0);
    wait_until("nginx to be seen", WITHIN, is_watched);
    let is_new = || site.monitor.serial("a.test").is_some_and(|serial| serial != id.serial());
    wait_until("another serial", WITHIN, is_new);
    let serial = site.monitor.serial("a.test").expect("serial");
    site.check_served("a.test", &serial);
    assert_eq!(cli.json(0, &["list"])["entries"][0]["serial"], serial);
}
