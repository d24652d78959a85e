//! The way to a CA: by a real proxy, and with a certificate of ours.

mod lab;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lab::*;

const EACH: &str = "ssl_cert_autofetch_check_interval 0;";
const WITHIN: Duration = Duration::from_secs(60);
const USER: &str = "me:hush";

/// https by a tunnel, to Pebble; OCSP, which is http, by the absolute form.
#[test]
#[ignore = "needs nginx, the module, pebble and tinyproxy: scripts/test.sh"]
fn the_main_job_goes_by_the_proxy() {
    let proxy = Proxy::demanding(USER);
    let site = Plan::server("a.test", EACH).ca(&proxy.line(USER)).start();
    let old = site.wait_valid("a.test");
    let client = site.lab.client("a.test");
    assert_eq!(client.connect().expect("handshake").serial, old);
    site.revoke("a.test", Some(1));
    assert_ne!(client.connect().expect("handshake").serial, old);

    let ca = site.lab.pebble.directory_url();
    let ca = ca.trim_start_matches("https://").trim_end_matches("/dir");
    assert!(proxy.took(&format!("CONNECT {ca} ")), "{:#?}", proxy.requests());
    let ocsp = site.lab.responder.url();
    let took = ["GET", "POST"].map(|method| proxy.took(&format!("{method} {ocsp}")));
    assert!(took.contains(&true), "{:#?}", proxy.requests());
    assert!(!site.nginx.error_log().contains("hush"));
    site.nginx.check_log();
}

/// All of it is http here: the CA, its responder and its list.
#[test]
#[ignore = "needs nginx, the module, OpenBao and tinyproxy: scripts/test.sh"]
fn whatever_fails_at_the_proxy_names_it() {
    let mut proxy = Proxy::demanding(USER);
    let bao = OpenBao::start();
    let mut scene = Scene::start(&bao, &bao.mount(), &proxy.line(""));
    let line = scene.nginx.wait_log("\"a.test\": ISSUE failed: \"bao\": sign: ", WITHIN);
    let address = proxy.address();
    let cause = format!("the proxy asks for another user name and password (407), proxy={address}");
    assert!(line.contains(&cause), "{line}");
    let body = scene.body(&bao.mount(), &proxy.line("me:wrong"));
    scene.nginx.reload_with(body);
    // To a wrong password this proxy says 401, as if the server did.
    scene.nginx.wait_log("\"a.test\": ISSUE failed: \"bao\": sign: HTTP status 401", WITHIN);
    assert!(!scene.nginx.error_log().contains("wrong"));

    let body = scene.body(&bao.mount(), &proxy.line(USER));
    scene.nginx.reload_with(body);
    let old = scene.monitor.wait_valid("a.test");
    let client = Client::new(scene.tls.number()).sni("a.test").trust(bao.root_pem());
    assert_eq!(client.connect().expect("handshake").serial, old);
    let origin = bao.mount();
    for start in [format!("POST {origin}/sign/server"), format!("GET {origin}/issuer/")] {
        wait_until(&start, WITHIN, || proxy.took(&start));
    }
    assert!(proxy.took(&format!("POST {}", bao.ocsp_url())), "{:#?}", proxy.requests());
    assert!(!proxy.requests().iter().any(|r| r.starts_with("CONNECT")));

    proxy.down();
    // No proof and no way to any: soft serves.
    assert_eq!(client.connect().expect("handshake").serial, old);
    let line = scene.nginx.wait_log("\"a.test\": CHECK failed: ", WITHIN);
    assert!(line.contains(&format!("proxy={address}")), "{line}");
    proxy.up();
    bao.revoke_serial(&old);
    let other = wait_for("another certificate", WITHIN, || {
        client.connect().ok().map(|c| c.serial).filter(|serial| *serial != old)
    });
    assert_eq!(scene.monitor.wait_valid("a.test"), other);
    assert!(!scene.nginx.error_log().contains("hush"));
}

/// nginx before OpenBao lets in only who shows a certificate.
#[test]
#[ignore = "needs nginx, the module and OpenBao: scripts/test.sh"]
fn a_client_certificate_opens_the_door() {
    let bao = OpenBao::start();
    let (front, door) = front(&bao);
    let url = bao.mount().replace(&bao.address(), &door.addr().to_string());
    let url = url.replace("http://127.0.0.1", "https://localhost");
    let trust = format!("trusted_certificate {};", front.dir().join("front-ca.pem").display());
    let scene = Scene::start(&bao, &url, &trust);
    // nginx asks for it in TLS, and tells of its lack in HTTP.
    let line = scene.nginx.wait_log("\"a.test\": ISSUE failed: \"bao\": sign: ", WITHIN);
    assert!(line.contains("HTTP status 400"), "{line}");

    let mut scene = scene;
    for (name, key) in [("ec", KeyType::Ecdsa256), ("rsa", KeyType::Rsa2048)] {
        let ours = Identity::self_signed(&Profile { key, ..Profile::authority("cert-autofetch") });
        // Another file: since 1.27 nginx keeps what it has read of one with the same inode and time.
        let (new, place) = ("clients.new", front.dir().join("clients.pem"));
        fs::write(front.dir().join(new), ours.cert_pem()).expect("write");
        fs::rename(front.dir().join(new), place).expect("rename");
        front.reload();
        let dir = scene.nginx.dir().to_owned();
        fs::write(dir.join(format!("{name}.pem")), ours.cert_pem()).expect("write");
        fs::write(dir.join(format!("{name}.key")), ours.key_pem()).expect("write");
        let ours =
            format!("client_certificate {name}.pem; client_certificate_key {name}.key; {trust}");
        let body = scene.body(&url, &ours);
        scene.nginx.reload_with(body);
        let serial = scene.monitor.wait_valid("a.test");
        bao.revoke_serial(&serial);
        let client = Client::new(scene.tls.number()).sni("a.test").trust(bao.root_pem());
        wait_for(&format!("another certificate: {name}"), WITHIN, || {
            client.connect().ok().filter(|served| served.serial != serial)
        });
    }
    assert!(requests(&front).contains(" /v1/int/sign/server "), "{}", requests(&front));
}

/// Who is not the one that is trusted, or is under another name, gets no token.
#[test]
#[ignore = "needs nginx, the module and OpenBao: scripts/test.sh"]
fn the_front_must_be_the_right_one() {
    let bao = OpenBao::start();
    let (front, door) = front(&bao);
    let other = Identity::root("Another CA");
    fs::write(front.dir().join("other-ca.pem"), other.cert_pem()).expect("write");
    let url = |host: &str| format!("https://{host}:{door}/v1/int");
    let trust = |file: &str| format!("trusted_certificate {};", front.dir().join(file).display());
    for (host, trusted) in [("localhost", "other-ca.pem"), ("127.0.0.1", "front-ca.pem")] {
        let scene = Scene::start(&bao, &url(host), &trust(trusted));
        let line = scene.nginx.wait_log("\"a.test\": ISSUE failed: \"bao\": sign: ", WITHIN);
        assert!(line.contains("TLS failed: "), "{host} {trusted}: {line}");
        assert_eq!(scene.monitor.entry("a.test")["serial"], serde_json::Value::Null);
    }
    assert_eq!(requests(&front), "", "no request came through");
}

struct Scene {
    nginx: Nginx,
    monitor: Monitor,
    tls: Port,
    status: Port,
    token: PathBuf,
}

impl Scene {
    /// With OpenBao at this URL and further lines of its block.
    fn start(bao: &OpenBao, url: &str, lines: &str) -> Scene {
        let (config, token) = (Config::new(), bao.token_file());
        let (tls, status) = (Port::reserve(), Port::reserve());
        let body = body(&config.keystore(), [&tls, &status], &token, url, lines);
        let monitor = Monitor::at(&status);
        Scene { nginx: config.http(body).start(), monitor, tls, status, token }
    }

    fn body(&self, url: &str, lines: &str) -> String {
        body(&self.nginx.keystore(), [&self.tls, &self.status], &self.token, url, lines)
    }
}

fn body(keystore: &Path, ports: [&Port; 2], token: &Path, url: &str, lines: &str) -> String {
    let [tls, status] = ports.map(Port::addr);
    format!(
        "ssl_cert_autofetch_keystore {};
         {EACH}
         ssl_cert_autofetch_ca bao {{
             protocol vault; url {url}; role server; token_file {}; budget 1000/1d; {lines}
         }}
         ssl_cert_autofetch bao;
         server {{ listen {tls} ssl; server_name a.test; return 200; }}
         server {{ listen {status}; {LOCATIONS} }}",
        keystore.display(),
        token.display()
    )
}

/// What has come through a [`front`].
fn requests(front: &Nginx) -> String {
    fs::read_to_string(front.dir().join("access.log")).expect("the log of requests")
}

/// Its name is localhost, and nothing else.
fn front(bao: &OpenBao) -> (Nginx, Port) {
    let config = Config::new().without_module();
    let (ca, door) = (Identity::root("Front CA"), Port::reserve());
    let own = ca.issue(&Profile::server(&["localhost"]));
    let nobody = Identity::root("Nobody");
    for (name, pem) in [
        ("front-ca.pem", ca.cert_pem()),
        ("front.pem", own.fullchain_pem()),
        ("front.key", own.key_pem()),
        ("clients.pem", nobody.cert_pem()),
    ] {
        fs::write(config.dir().join(name), pem).expect("write");
    }
    let body = format!(
        "server {{
             listen {} ssl; access_log access.log;
             ssl_certificate front.pem; ssl_certificate_key front.key;
             ssl_client_certificate clients.pem; ssl_verify_client on;
             location / {{ proxy_pass http://{}; }}
         }}",
        door.addr(),
        bao.address()
    );
    (config.http(body).start(), door)
}
