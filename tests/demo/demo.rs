//! The main job, live: nginx with the module, a CA and an OCSP responder on loopback. A certificate
//! is served, revoked at the CA, and replaced during the very next handshake.
//!
//! It ends in success only if all that it tells has happened; `scripts/demo.sh` builds and runs it.

#[path = "../lab/mod.rs"]
mod lab;

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use lab::*;
use openssl::x509::X509;

const NAME: &str = "shop.example";
/// After the replacement: nobody may get the old one any more.
const FURTHER: usize = 50;

fn main() {
    let lab = Lab::start();
    let config = Config::new();
    let keystore = config.keystore();
    let mut told = Timeline::new();
    told.title("cert-autofetch: a revoked certificate is replaced during the handshake");
    told.fact("the CA", &format!("Pebble (ACME) at {}", lab.pebble.directory_url()));
    told.fact("OCSP", &format!("a responder at {}", lab.responder.url()));
    told.fact("nginx", &format!("{}, {NAME} at 127.0.0.1:{}", version(), lab.tls_port));
    told.fact("keystore", &format!("{}, empty", keystore.display()));
    told.lines("its configuration", SERVER);

    told.begin();
    let body = format!(
        "ssl_cert_autofetch_keystore {};\n{}\
         server {{ listen {} ssl; {SERVER} return 200 \"hello\\n\"; }}\n\
         server {{ listen {}; {LOCATIONS} }}",
        keystore.display(),
        lab.ca_block("lab", ""),
        lab.tls_port.addr(),
        lab.http_port.addr(),
    );
    let nginx = config.http(body).start();
    told.happened("nginx runs; nobody has asked for a certificate", "");
    let monitor = Monitor::at(&lab.http_port);
    let old = monitor.wait_valid(NAME);
    told.happened("first certificate issued, http-01 answered by nginx", &old);
    assert!(nginx.log_lines("issued serial=").iter().any(|l| l.contains(&old)));

    let client = lab.client(NAME);
    let (before, page) = client.get("/").expect("a handshake before the revocation");
    assert!(before.serial == old && page.ends_with("hello\n"), "{before:?}: {page}");
    told.happened(&format!("served to a client, {}", ms(before.took)), &old);
    let session = client.tls13().connect().expect("handshake").session();

    let stored = Stored::of(&keystore, NAME);
    let revocation = lab.pebble.revoke(&stored.chain_pem(), &stored.key_pem(), Some(1));
    revocation.expect("the CA revokes");
    let revoked_at = Instant::now();
    told.bad("revoked at the CA (keyCompromise)", &old);
    lab.responder.forget_queries();

    told.happened("the next client says hello, and is held", "");
    let (after, page) = lab.client(NAME).get("/").expect("the handshake after the revocation");
    let took = revoked_at.elapsed();
    answers(&mut told, &lab.responder, &old, &after.serial);
    assert!(page.ends_with("hello\n"), "{page}");
    assert_ne!(after.serial, old, "the revoked certificate was served");
    assert!(public_key(&before) != public_key(&after), "the key was used again");
    told.good(
        &format!("served with the new certificate, held for {}", ms(after.took)),
        &after.serial,
    );
    let new = after.serial;

    let again = lab.client(NAME).tls13().resume(&session).connect().expect("handshake");
    assert!(!again.resumed && again.serial == new, "{again:?}");
    told.happened("a session of before is not resumed", "");
    for _ in 0..FURTHER {
        assert_eq!(lab.client(NAME).connect().expect("handshake").serial, new);
    }
    told.happened(&format!("{FURTHER} more clients, the old one was never sent again"), "");
    check_with_curl(&lab, &nginx);
    told.happened("curl, which trusts only the CA, agrees", "");
    let replaced = monitor.entry(NAME)["replaced"].clone();
    assert_eq!(
        (&replaced["serial"], &replaced["reason"]),
        (&old.as_str().into(), &"keyCompromise".into())
    );
    nginx.check_log();

    told.log(&nginx.log_lines("ssl_cert_autofetch: "));
    told.line("");
    told.fact("old serial", &format!("{old}, revoked"));
    told.fact("new serial", &new);
    told.fact("time", &format!("{} from the revocation to the first good handshake", ms(took)));
}

/// What the administrator writes into the server.
const SERVER: &str = "\
server_name shop.example www.shop.example;
ssl_cert_autofetch lab;
ssl_cert_autofetch_check_interval 0;    # ask at each handshake: a demo can't wait an hour
";

/// What the responder was asked while the client waited.
fn answers(told: &mut Timeline, responder: &Responder, old: &str, new: &str) {
    let queries = responder.queries();
    for query in &queries {
        let serial = query.serials.first().cloned().unwrap_or_default();
        let says = if query.answer.starts_with("Revoked") { "revoked" } else { "good" };
        told.happened_at(
            query.at,
            &format!("  nginx asks the OCSP responder, which says {says}"),
            &serial,
        );
    }
    let asked: Vec<_> = queries.iter().flat_map(|q| q.serials.clone()).collect();
    assert_eq!(asked, [old, new], "each certificate is asked about once");
}

fn check_with_curl(lab: &Lab, nginx: &Nginx) {
    let roots = nginx.dir().join("root.pem");
    std::fs::write(&roots, lab.pebble.root_pem()).expect("write");
    let word = lab::command::curl(NAME, lab.tls_port.number(), &roots, &[]);
    assert!(word.ok && word.stdout == "hello\n", "{word:?}");
}

fn public_key(connection: &Connection) -> Vec<u8> {
    let leaf: &X509 = connection.chain.first().expect("a certificate");
    leaf.public_key().and_then(|k| k.public_key_to_der()).expect("a public key")
}

fn version() -> String {
    let mut nginx =
        std::process::Command::new(std::env::var("NGINX_BIN").unwrap_or_else(|_| "nginx".into()));
    nginx.arg("-v");
    let said = lab::command::run(nginx).stderr;
    said.trim().trim_start_matches("nginx version: ").into()
}

fn ms(time: Duration) -> String {
    format!("{} ms", time.as_millis())
}

/// What happened and when, on standard output: plain text, and colours on a terminal.
struct Timeline {
    start: Instant,
    colours: bool,
}

impl Timeline {
    fn new() -> Timeline {
        let colours = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        Timeline { start: Instant::now(), colours }
    }

    fn title(&self, text: &str) {
        self.line(&format!("\n{}\n", self.paint("1", text)));
    }

    fn fact(&self, what: &str, text: &str) {
        self.line(&format!("  {what:<12} {text}"));
    }

    fn lines(&self, what: &str, text: &str) {
        self.line(&format!("\n  {what}:"));
        text.lines().for_each(|line| self.line(&format!("      {line}")));
    }

    fn begin(&mut self) {
        self.start = Instant::now();
        let head = format!("\n  {:>9}  {:<56}  serial", "seconds", "what happened");
        self.line(&self.paint("2", &head));
    }

    fn happened(&self, what: &str, serial: &str) {
        self.happened_at(Instant::now(), what, serial);
    }

    fn happened_at(&self, at: Instant, what: &str, serial: &str) {
        self.row(at, what, serial, "0");
    }

    fn good(&self, what: &str, serial: &str) {
        self.row(Instant::now(), what, serial, "32;1");
    }

    fn bad(&self, what: &str, serial: &str) {
        self.row(Instant::now(), what, serial, "31");
    }

    fn row(&self, at: Instant, what: &str, serial: &str, colour: &str) {
        let time = format!("{:9.3}", at.duration_since(self.start).as_secs_f64());
        let what = self.paint(colour, &format!("{what:<56}"));
        let row = format!("{}  {what}  {serial}", self.paint("2", &time));
        self.line(&format!("  {}", row.trim_end()));
    }

    /// Our lines of the error log, without date and pid.
    fn log(&self, lines: &[String]) {
        self.line("\n  what nginx logged of it:");
        for line in lines {
            let level = line.split(['[', ']']).nth(1).unwrap_or_default();
            let text = line.split_once("ssl_cert_autofetch: ").map_or("", |(_, text)| text);
            self.line(&self.paint("2", &format!("      [{level}] {text}")));
        }
    }

    fn line(&self, text: &str) {
        // Who pipes us into head has seen enough.
        let _ = writeln!(std::io::stdout(), "{text}");
    }

    fn paint(&self, colour: &str, text: &str) -> String {
        if self.colours { format!("\x1b[{colour}m{text}\x1b[0m") } else { text.into() }
    }
}
