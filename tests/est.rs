//! `protocol est`: the main job, approval by hand, renewal by the old certificate, keys that the CA
//! makes, and a wrong password.

mod lab;

use std::fs;
use std::time::Duration;

use lab::est::Enrolment;
use lab::*;
use openssl::x509::{X509PurposeId, X509Req};

const WITHIN: Duration = Duration::from_secs(60);

struct Scene {
    est: Est,
    nginx: Nginx,
    monitor: Monitor,
    tls: Port,
}

impl Scene {
    /// With further lines of `http` and of the CA's block.
    fn start(est: Est, http: &str, ca: &str) -> Scene {
        let config = Config::new();
        let (tls, status) = (Port::reserve(), Port::reserve());
        let body = format!(
            "ssl_cert_autofetch_keystore {};
             ssl_cert_autofetch_check_interval 0;
             {http}
             {}
             ssl_cert_autofetch est;
             server {{ listen {} ssl; server_name a.test b.test; return 200; }}
             server {{ listen {}; {LOCATIONS} }}",
            config.keystore().display(),
            est.ca_block("est", ca),
            tls.addr(),
            status.addr()
        );
        let monitor = Monitor::at(&status);
        let nginx = config.http(body).start();
        Scene { est, nginx, monitor, tls }
    }

    fn restart(mut self) -> Scene {
        self.nginx = self.nginx.kill().start();
        self
    }

    fn client(&self, name: &str) -> Client {
        Client::new(self.tls.number()).sni(name).trust(self.est.root_pem())
    }

    fn served(&self) -> String {
        self.client("a.test").connect().expect("handshake").serial
    }

    /// What was asked for, as soon as there is so much of it.
    fn enrolments(&self, count: usize) -> Vec<Enrolment> {
        wait_for(&format!("{count} enrolments"), WITHIN, || {
            Some(self.est.enrolments()).filter(|all| all.len() >= count)
        })
    }

    /// No line has the password, nor what it is sent as.
    fn check_log(&self) {
        let log = self.nginx.error_log();
        assert!(!log.contains(Est::USER.1) && !log.contains("Basic "), "{log}");
        self.nginx.check_log();
    }
}

fn operations(all: &[Enrolment]) -> Vec<(&str, u16)> {
    all.iter().map(|e| (e.operation.as_str(), e.status)).collect()
}

#[test]
#[ignore = "needs nginx and the module: scripts/test.sh"]
fn a_revoked_certificate_is_replaced_in_the_handshake() {
    let scene = Scene::start(Est::start(), "", "");
    let old = scene.monitor.wait_valid("a.test");
    let served = scene.client("b.test").connect().expect("handshake");
    assert_eq!((&served.serial, served.chain.len()), (&old, 2));
    let revoked = Status::Revoked { reason: Some(1), at: clock::now() };
    scene.est.responder.set_status(&old, revoked);
    let new = scene.served();
    assert_ne!(new, old);
    assert_eq!(scene.monitor.entry("a.test")["replaced"]["reason"], "keyCompromise");
    let line = format!("replaced serial={old} by serial={new} from \"est\"");
    scene.nginx.wait_log(&line, WITHIN);
    // The key that is compromised speaks for nothing.
    let asked = scene.est.enrolments();
    assert_eq!(operations(&asked), [("simpleenroll", 200); 2]);
    assert!(asked.iter().all(|e| e.client.is_none()), "{asked:?}");
    scene.check_log();
}

/// Somebody has to approve, and meanwhile nginx ends: the same request is picked up again.
#[test]
#[ignore = "needs nginx and the module: scripts/test.sh"]
fn an_order_that_waits_outlasts_a_restart() {
    let est = Est::start();
    est.behave(Manner::Waits(3600));
    let scene = Scene::start(est, "", "");
    scene.nginx.wait_log("\"est\": the order is still pending, next attempt in 3600 s", WITHIN);
    let scene = scene.restart();
    scene.enrolments(2);
    scene.est.behave(Manner::Honest);
    let scene = scene.restart();
    let serial = scene.monitor.wait_valid("a.test");
    let served = scene.client("a.test").connect().expect("handshake");
    assert_eq!(served.serial, serial);
    let asked = scene.est.enrolments();
    let enroll = "simpleenroll";
    assert_eq!(operations(&asked), [(enroll, 202), (enroll, 202), (enroll, 200)]);
    assert!(asked.iter().all(|e| e.csr == asked[0].csr), "another request");
    let request = X509Req::from_der(&asked[0].csr).expect("a CSR");
    let key = served.chain[0].public_key().expect("public key");
    assert!(request.public_key().expect("public key").public_eq(&key));
    scene.check_log();
}

/// It is asked again as often as the CA says, without a restart.
#[test]
#[ignore = "needs nginx and the module: scripts/test.sh"]
fn an_approval_is_noticed() {
    let est = Est::start();
    est.behave(Manner::Waits(1));
    let scene = Scene::start(est, "", "");
    let asked = scene.enrolments(3);
    assert!(asked.iter().all(|e| e.csr == asked[0].csr), "another request");
    scene.est.behave(Manner::Honest);
    assert_eq!(scene.monitor.wait_valid("a.test"), scene.served());
    scene.check_log();
}

#[test]
#[ignore = "needs nginx and the module: scripts/test.sh"]
fn the_old_certificate_speaks_for_the_new_one() {
    let scene = renewed(X509PurposeId::ANY, Manner::Honest);
    let asked = scene.enrolments(2);
    let old = serial_of_first(&scene);
    assert_eq!(operations(&asked[..2]), [("simpleenroll", 200), ("simplereenroll", 200)]);
    assert_eq!(asked[1].client.as_deref(), Some(old.as_str()));
    assert_ne!(asked[0].csr, asked[1].csr, "the same key again");
    scene.check_log();
}

/// A server that refuses it by its words, and one that refuses it in TLS, since the certificate is
/// for servers only.
#[test]
#[ignore = "needs nginx and the module: scripts/test.sh"]
fn where_it_may_not_speak_the_user_does() {
    let scene = renewed(X509PurposeId::ANY, Manner::NoRenewal);
    let expected = [("simpleenroll", 200), ("simplereenroll", 403), ("simpleenroll", 200)];
    assert_eq!(operations(&scene.enrolments(3)[..3]), expected);
    scene.check_log();

    let scene = renewed(X509PurposeId::SSL_CLIENT, Manner::Honest);
    let asked = scene.enrolments(2);
    assert_eq!(operations(&asked[..2]), [("simpleenroll", 200); 2]);
    assert!(asked.iter().all(|e| e.client.is_none()), "{asked:?}");
    scene.check_log();
}

/// Runs until the first certificate has been renewed.
fn renewed(purpose: X509PurposeId, manner: Manner) -> Scene {
    let est = Est::issuing(40, purpose);
    est.behave(manner);
    let scene = Scene::start(est, "ssl_cert_autofetch_renew_before 90%;", "");
    let old = scene.monitor.wait_valid("a.test");
    wait_until("the renewal", WITHIN, || scene.served() != old);
    scene
}

fn serial_of_first(scene: &Scene) -> String {
    let file = scene.nginx.keystore().join("certs/a.test/versions/1/fullchain.pem");
    let pem = fs::read(file).expect("the first version");
    pki::serial_hex(&openssl::x509::X509::from_pem(&pem).expect("PEM"))
}

#[test]
#[ignore = "needs nginx and the module: scripts/test.sh"]
fn the_ca_makes_the_key() {
    let scene = Scene::start(Est::start(), "", "server_keygen on;");
    let serial = scene.monitor.wait_valid("a.test");
    let served = scene.client("a.test").connect().expect("handshake");
    assert_eq!(served.serial, serial);
    let stored = Stored::of(&scene.nginx.keystore(), "a.test");
    let keys = scene.est.keys();
    assert_eq!(keys.len(), 1);
    assert!(stored.key().public_eq(&keys[0]));
    stored.check_whole();
    assert_eq!(operations(&scene.est.enrolments()), [("serverkeygen", 200)]);
    scene.check_log();
}

#[test]
#[ignore = "needs nginx and the module: scripts/test.sh"]
fn a_wrong_password_is_told() {
    let est = Est::start();
    fs::write(est.password_file(), "wrong\n").expect("write");
    let scene = Scene::start(est, "", "");
    let line = scene.nginx.wait_log("ISSUE failed: \"est\": simpleenroll: HTTP status 401", WITHIN);
    let cause = "who are you?, see \"username\" and \"password_file\", next attempt in ";
    assert!(line.contains(cause), "{line}");
    // One request an attempt, and the next attempt is not at once; the machine may be slow.
    let asked = scene.est.enrolments();
    assert!(asked.len() <= 2 && operations(&asked)[0] == ("simpleenroll", 401), "{asked:?}");
    // The right one is read with the configuration.
    fs::write(scene.est.password_file(), format!("{}\n", Est::USER.1)).expect("write");
    scene.nginx.reload();
    let serial = scene.monitor.wait_valid("a.test");
    assert_eq!(scene.served(), serial);
    scene.check_log();
}
