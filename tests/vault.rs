//! `protocol vault` against OpenBao: the main job, and what a sealed server or a bad token mean.

mod lab;

use std::fs;
use std::time::Duration;

use lab::*;

const WITHIN: Duration = Duration::from_secs(30);

struct Scene {
    bao: OpenBao,
    nginx: Nginx,
    monitor: Monitor,
    tls: Port,
}

impl Scene {
    fn start() -> Scene {
        Scene::of(OpenBao::start(), "", "")
    }

    /// With further lines of the CA's block and of `http`.
    fn of(bao: OpenBao, lines: &str, http: &str) -> Scene {
        let config = Config::new();
        let (tls, status) = (Port::reserve(), Port::reserve());
        let body = format!(
            "ssl_cert_autofetch_keystore {};
             ssl_cert_autofetch_check_interval 0;
             ssl_cert_autofetch_ca bao {{
                 protocol vault; url {}; role server; token_file {}; {lines}
             }}
             ssl_cert_autofetch bao;
             {http}
             server {{ listen {} ssl; server_name a.test b.test; return 200; }}
             server {{ listen {}; {LOCATIONS} }}",
            config.keystore().display(),
            bao.mount(),
            bao.token_file().display(),
            tls.addr(),
            status.addr()
        );
        let monitor = Monitor::at(&status);
        let nginx = config.http(body).start();
        Scene { bao, nginx, monitor, tls }
    }

    fn client(&self, name: &str) -> Client {
        Client::new(self.tls.number()).sni(name).trust(self.bao.root_pem())
    }
}

#[test]
#[ignore = "needs nginx, the module and OpenBao: scripts/test.sh"]
fn a_revoked_certificate_is_replaced_in_the_handshake() {
    let scene = Scene::start();
    let old = scene.monitor.wait_valid("a.test");
    let served = scene.client("b.test").connect().expect("handshake");
    assert_eq!((&served.serial, served.chain.len()), (&old, 2));
    scene.bao.revoke_serial(&old);
    let served = scene.client("a.test").connect().expect("handshake");
    assert_ne!(served.serial, old);
    assert_eq!(scene.monitor.entry("a.test")["replaced"]["serial"], old.as_str());
    let line = format!("replaced serial={old} by serial={} from \"bao\"", served.serial);
    scene.nginx.wait_log(&line, WITHIN);
    assert!(!scene.nginx.error_log().contains(OpenBao::TOKEN));
}

/// `sign-verbatim`, which leaves out what it is not told.
#[test]
#[ignore = "needs nginx, the module and OpenBao: scripts/test.sh"]
fn must_staple_is_granted_for_a_server() {
    let must = "ssl_cert_autofetch_must_staple on;";
    let scene = Scene::of(OpenBao::start(), "", must);
    let serial = scene.monitor.wait_valid("a.test");
    let served = scene.client("a.test").connect().expect("handshake");
    assert_eq!(served.serial, serial);
    let text = served.chain[0].to_text().expect("text");
    let text = String::from_utf8_lossy(&text);
    let value = |name: &str| {
        let line = text.lines().skip_while(|line| !line.contains(name)).nth(1);
        line.unwrap_or_else(|| panic!("{name}: {text}")).trim().to_owned()
    };
    assert_eq!(value("X509v3 Extended Key Usage"), "TLS Web Server Authentication");
    assert!(value("X509v3 Key Usage").contains("Digital Signature"), "{text}");
    assert_eq!(value("TLS Feature"), "status_request");
    assert!(scene.nginx.log_lines("must_staple").is_empty());
}

#[test]
#[ignore = "needs nginx, the module and OpenBao: scripts/test.sh"]
fn a_namespace_is_the_servers_own() {
    let bao = OpenBao::start_in("team/");
    let scene = Scene::of(bao, "namespace team;", "");
    let old = scene.monitor.wait_valid("a.test");
    scene.bao.revoke_serial(&old);
    let served = scene.client("a.test").connect().expect("handshake");
    assert_ne!(served.serial, old);

    let scene = Scene::of(OpenBao::start_in("team/"), "", "");
    let line = scene.nginx.wait_log("ISSUE failed: \"bao\": sign: HTTP status 404", WITHIN);
    assert!(line.contains("see \"url\""), "{line}");
}

#[test]
#[ignore = "needs nginx, the module and OpenBao: scripts/test.sh"]
fn a_bad_token_is_told_and_a_good_one_taken_up() {
    let bao = OpenBao::start();
    fs::write(bao.token_file(), "s.wrong").expect("token");
    let scene = Scene::of(bao, "", "");
    let line = scene.nginx.wait_log("ISSUE failed: \"bao\": sign: HTTP status 403", WITHIN);
    assert!(line.contains("see \"token_file\""), "{line}");
    assert!(!scene.nginx.error_log().contains("s.wrong"));
    fs::write(scene.bao.token_file(), OpenBao::TOKEN).expect("token");
    let serial = scene.monitor.wait_valid("a.test");
    assert_eq!(scene.client("a.test").connect().expect("handshake").serial, serial);
}

#[test]
#[ignore = "needs nginx, the module and OpenBao: scripts/test.sh"]
fn a_sealed_server_is_asked_until_it_is_unsealed() {
    let scene = Scene::start();
    let old = scene.monitor.wait_valid("a.test");
    scene.bao.seal();
    // Nobody can say anything about it, and nobody can issue: soft serves what it has.
    assert_eq!(scene.client("a.test").connect().expect("handshake").serial, old);
    fs::remove_dir_all(scene.nginx.keystore().join("certs/a.test")).expect("remove");
    scene.nginx.reload();
    scene.nginx.wait_log("ISSUE failed: \"bao\": sign: HTTP status 503", WITHIN);
    // Nobody reloads.
    scene.bao.unseal();
    let new = scene.monitor.wait_valid("a.test");
    assert_ne!(new, old);
    assert_eq!(scene.client("a.test").connect().expect("handshake").serial, new);
}
