//! `ssl_cert_autofetch first second;` with two real CAs: Pebble first, OpenBao second.

mod lab;

use std::time::Duration;

use lab::site::serial;
use lab::*;
use serde_json::Value;

/// One request to the first takes a third of the time of the handshake.
const LINES: &str = "ssl_cert_autofetch_check_interval 0; ssl_cert_autofetch_timeout 20s;";
const WITHIN: Duration = Duration::from_secs(60);

struct Scene {
    site: Site,
    bao: OpenBao,
}

impl Scene {
    /// One server of this name; `prepare` gets Pebble before nginx starts.
    fn start(name: &str, first: &str, prepare: impl FnOnce(&Lab)) -> Scene {
        let bao = OpenBao::start();
        let gone = Port::reserve();
        let http = format!(
            "{LINES}
             ssl_cert_autofetch_ca bao {{
                 protocol vault; url {}; role server; token_file {}; budget 1000/1d;
             }}
             ssl_cert_autofetch_ca gone {{ url http://{}/dir; }}",
            bao.mount(),
            bao.token_file().display(),
            gone.addr()
        );
        let servers = site::server(name)
            .replace("ssl_cert_autofetch lab;", &format!("ssl_cert_autofetch {first} bao;"));
        let mut plan = Plan { http, servers, ..Plan::default() }.ca("budget 1000/1d;");
        plan.pebble.blocked = vec!["blocked.test".into()];
        let site = plan.start_with(|lab, _| prepare(lab));
        Scene { site, bao }
    }

    fn client(&self, name: &str) -> Client {
        let roots = [self.site.lab.pebble.root_pem(), self.bao.root_pem().to_vec()].concat();
        Client::new(self.site.lab.tls_port.number()).sni(name).trust(roots)
    }

    /// What a handshake gets, and whose it is.
    fn served(&self, name: &str, ca: &str) -> String {
        let served = self.client(name).connect().expect("handshake").serial;
        let entry = self.site.entry(name);
        assert_eq!((serial(&entry), &entry["ca"]), (served.clone(), &Value::from(ca)), "{entry:#}");
        served
    }
}

/// The first takes connections and says nothing; then it is back.
#[test]
#[ignore = "needs nginx, the module, pebble and OpenBao: scripts/test.sh"]
fn a_first_ca_that_hangs_leaves_the_handshake_to_the_second() {
    // Its root is told by what freezes.
    let mut roots = Vec::new();
    let scene = Scene::start("a.test", "lab", |lab| {
        roots = lab.pebble.root_pem();
        lab.pebble.freeze();
    });
    let roots = [roots, scene.bao.root_pem().to_vec()].concat();
    let client = Client::new(scene.site.lab.tls_port.number()).sni("a.test").trust(roots);
    let first = client.connect().expect("the handshake that waits").serial;
    assert_eq!(scene.site.entry("a.test")["ca"], "bao");
    assert_eq!(scene.site.counter("refused"), 0);

    scene.site.lab.pebble.thaw();
    scene.bao.revoke_serial(&first);
    let second = scene.served("a.test", "lab");
    let line = format!("replaced serial={first} by serial={second} from \"lab\"");
    scene.site.nginx.wait_log(&line, WITHIN);
}

/// Nobody listens where the first should be. That is told once, not with each certificate.
#[test]
#[ignore = "needs nginx, the module, pebble and OpenBao: scripts/test.sh"]
fn a_first_ca_that_is_down_costs_no_handshake() {
    let scene = Scene::start("a.test", "gone", |_| {});
    let first = scene.served("a.test", "bao");
    scene.bao.revoke_serial(&first);
    let second = scene.served("a.test", "bao");
    assert_ne!(first, second);
    let told = scene.site.lines("a.test");
    let told: Vec<_> = told.iter().filter(|line| line.contains("ISSUE failed")).collect();
    let start = "[warn] ssl_cert_autofetch: \"a.test\": ISSUE failed: \"gone\": ";
    assert!(told.len() == 1 && told[0].starts_with(start), "{told:#?}");
    assert!(told[0].ends_with(", \"bao\" issued"), "{told:#?}");
    assert_eq!(scene.site.counter("refused"), 0);
}

/// What is wrong with the name is not tried elsewhere at once.
#[test]
#[ignore = "needs nginx, the module, pebble and OpenBao: scripts/test.sh"]
fn a_refused_name_goes_to_the_second_ca_in_the_next_attempt() {
    let scene = Scene::start("blocked.test", "lab", |_| {});
    let line = scene.site.nginx.wait_log("\"blocked.test\": ISSUE failed: ", WITHIN);
    assert!(line.contains("\"lab\": newOrder: ") && !line.contains("\"bao\""), "{line}");
    assert!(line.contains("rejectedIdentifier"), "{line}");
    assert!(line.contains(", next attempt in "), "{line}");
    scene.site.wait_valid("blocked.test");
    scene.served("blocked.test", "bao");
    let told = scene.site.lines("blocked.test");
    let told: Vec<_> = told.iter().filter(|l| l.contains("ISSUE failed")).collect();
    assert!(told.len() == 2 && told[1].ends_with(", \"bao\" issued"), "{told:#?}");
}
