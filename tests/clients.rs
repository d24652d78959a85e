//! Clients that refuse: they accept every handshake from the first on, also while the certificate
//! is revoked and replaced.

mod lab;

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use lab::clients::{self, JavaLoop, Verdict};
use lab::*;

type Visit = fn(&str, u16, &Path) -> Verdict;

/// And what they say of a missing staple, and of a revoked one.
const CLIENTS: [(&str, Visit, [&str; 2]); 3] = [
    ("curl", clients::curl, ["No OCSP response", "revocation reason: keyCompromise"]),
    ("gnutls-cli", clients::gnutls, ["OCSP status is missing", "revoked via OCSP"]),
    ("java", clients::java, ["Unable to determine revocation status", "KEY_COMPROMISE"]),
];

/// Else the other test would show nothing.
#[test]
#[ignore = "needs nginx, gnutls-cli, curl and java: scripts/test.sh"]
fn they_do_refuse() {
    let root = Identity::root("Clients' Root");
    let ca = root.issue(&Profile::authority("Clients' CA"));
    let responder = Responder::start(Port::reserve(), ca.clone(), Source::Own);
    responder.down();
    let (config, tls) = (Config::new().without_module(), Port::reserve());
    let mut servers = String::new();
    let cases = ["good.test", "none.test", "revoked.test"];
    for name in cases {
        let ocsp_url = Some(responder.url());
        let id = ca.issue(&Profile { ocsp_url, must_staple: true, ..Profile::server(&[name]) });
        let file = |end: &str| config.dir().join(format!("{name}.{end}"));
        std::fs::write(file("pem"), id.fullchain_pem()).expect("write");
        std::fs::write(file("key"), id.key_pem()).expect("write");
        let behaviour = match name {
            "revoked.test" => Behaviour::revoked(Some(1)),
            _ => Behaviour::good(),
        };
        std::fs::write(file("ocsp"), responder.answer_about(&id.serial(), &behaviour))
            .expect("write");
        let staple = match name {
            "none.test" => String::new(),
            _ => format!("ssl_stapling on; ssl_stapling_file {name}.ocsp;"),
        };
        servers += &format!(
            "server {{ listen {} ssl; server_name {name}; ssl_certificate {name}.pem; \
             ssl_certificate_key {name}.key; {staple} return 200 ok; }}\n",
            tls.addr()
        );
    }
    let nginx = config.http(servers).start();
    let roots = nginx.dir().join("root.pem");
    std::fs::write(&roots, root.cert_pem()).expect("write");
    for (client, visit, words) in CLIENTS {
        let [good, none, revoked] = cases.map(|name| visit(name, tls.number(), &roots));
        good.unwrap_or_else(|why| panic!("{client}: {why}"));
        for (verdict, words) in [none, revoked].into_iter().zip(words) {
            let why = verdict.expect_err(client);
            assert!(why.contains(words), "{client}: {why}");
        }
    }
}

/// From before the first certificate is there till after its replacement.
#[test]
#[ignore = "needs nginx, the module, gnutls-cli, curl and java: scripts/test.sh"]
fn they_accept_every_handshake() {
    let lines = "ssl_cert_autofetch_must_staple on; ssl_cert_autofetch_check hard;
                 ssl_cert_autofetch_check_interval 0; ssl_cert_autofetch_timeout 30s;";
    let site = Guests::of(b"").http(lines).empty("a.test").workers(2).start();
    let roots = site.roots();
    let (port, done) = (site.port(), AtomicBool::new(false));
    let counts = [AtomicUsize::new(0), AtomicUsize::new(0)];
    let visit = |i: usize| {
        while !done.load(Ordering::SeqCst) {
            let (client, visit, _) = CLIENTS[i];
            let verdict = visit("a.test", port, &roots);
            let number = counts[i].fetch_add(1, Ordering::SeqCst);
            verdict.unwrap_or_else(|why| panic!("{client}, handshake {number}: {why}"));
        }
    };
    thread::scope(|scope| {
        let loops = [0, 1].map(|i| scope.spawn(move || visit(i)));
        let mut java = JavaLoop::start("a.test", port, &roots);
        let mut more = |count: usize| {
            let javas = java.verdicts().len() + count;
            let wanted = [0, 1].map(|i| counts[i].load(Ordering::SeqCst) + count);
            wait_until("handshakes of all", Duration::from_secs(60), || {
                let ended = loops.iter().any(|l| l.is_finished());
                let so_many = (0..2).all(|i| counts[i].load(Ordering::SeqCst) >= wanted[i]);
                ended || (so_many && java.verdicts().len() >= javas)
            });
        };
        more(5);
        for round in 0..3 {
            let old = site.monitor.serial("a.test").expect("a certificate");
            let revoked = Status::Revoked { reason: Some(1), at: clock::now() };
            site.liar.responder.set_status(&old, revoked);
            more(5);
            assert_ne!(site.monitor.serial("a.test").expect("a certificate"), old, "{round}");
        }
        done.store(true, Ordering::SeqCst);
        let refused: Vec<_> = java.end().into_iter().filter_map(Verdict::err).collect();
        assert_eq!(refused, Vec::<String>::new());
    });
    assert_eq!(site.liar.orders_for("a.test"), 4);
    assert_eq!(site.monitor.counter("refused"), 0);
    // Java would have asked for itself what is not stapled.
    let agents = site.liar.responder.queries();
    let agents = agents.iter().filter_map(|q| q.http.header("user-agent"));
    let javas: Vec<_> = agents.filter(|a| a.contains("Java")).collect();
    assert_eq!(javas, Vec::<&str>::new());
    site.nginx.check_log();
}
