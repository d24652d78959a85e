//! nginx between somebody who lies and its clients.

use std::time::Duration;

use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

pub use crate::lab::text::is_like;
use crate::lab::*;

pub struct Hostile {
    pub liar: Liar,
    pub nginx: Nginx,
    pub monitor: Monitor,
    tls: Port,
    roots: Vec<u8>,
}

/// What an attempt in vain costs before the next one, in seconds: by the usual back-off.
pub const USUAL: u64 = 6;

impl Hostile {
    /// With the CA `liar` for all servers of `http`; `cas` are further CA blocks.
    pub fn start(liar: Liar, tls: Port, config: Config, cas: &str, http: &str) -> Hostile {
        let status = Port::reserve();
        let body = format!(
            "ssl_cert_autofetch_keystore {};\n{}{cas}ssl_cert_autofetch liar;\n{http}\n\
             server {{ listen {}; {LOCATIONS} }}",
            config.keystore().display(),
            liar.ca_block("liar", BLOCK),
            status.addr()
        );
        let (nginx, monitor) = (config.http(body).start(), Monitor::at(&status));
        let roots = liar.root_pem();
        Hostile { liar, nginx, monitor, tls, roots }
    }

    /// Clients trust this root too.
    pub fn trust(mut self, root: &Identity) -> Hostile {
        self.roots.extend(root.cert_pem());
        self
    }

    pub fn client(&self, name: &str) -> Client {
        Client::new(self.tls.number()).sni(name).trust(&self.roots)
    }

    pub fn error(&self, name: &str) -> Option<String> {
        self.monitor.entry(name)["last_error"].as_str().map(str::to_owned)
    }

    /// One line in the log, the cause and a next attempt in the status, and nothing else new. The
    /// cause, as the line tells it.
    pub fn check_failure(
        &self,
        what: &str,
        name: &str,
        serial: &str,
        kind: &str,
        longest: u64,
    ) -> String {
        let mark = format!("\"{name}\": {kind} failed: ");
        self.nginx.wait_log(&mark, Duration::from_secs(5));
        let lines = self.nginx.log_lines(&mark);
        assert_eq!(lines.len(), 1, "{what}: {lines:#?}");
        let line = &lines[0];
        assert!(line.contains("[warn]"), "{what}: {line}");
        let told = line.split_once(&mark).map(|(_, told)| told).expect("the mark");
        let parts = told.rsplit_once(", next attempt in ");
        let (cause, seconds) = parts.unwrap_or_else(|| panic!("{what}: {line}"));
        let seconds = seconds.strip_suffix(" s").and_then(|s| s.parse::<u64>().ok());
        let seconds = seconds.unwrap_or_else(|| panic!("{what}: {line}"));
        assert!((1..=longest).contains(&seconds), "{what}: {line}");

        let entry = self.monitor.entry(name);
        assert_eq!((&entry["serial"], &entry["version"]), (&serial.into(), &1.into()), "{what}");
        assert_ne!(entry["last_error"], Value::Null, "{what}");
        let is_revoked = entry["evidence"]["status"] == "revoked";
        assert_eq!(is_revoked, kind == "ISSUE", "{what}");
        let next = entry["next_action_at"].as_str().expect("a time");
        let next = OffsetDateTime::parse(next, &Rfc3339).expect("a time").unix_timestamp();
        let wait = next - clock::now();
        assert!((0..=seconds as i64 + 1).contains(&wait), "{what}: {wait} s");
        cause.to_owned()
    }
}

pub fn check_refused(what: &str, result: Result<Connection, Refusal>) {
    let refused = result.expect_err(what);
    let got = (refused.alert, refused.chain.len());
    assert_eq!(got, (Some(INTERNAL_ERROR), 0), "{what}: {refused:?}");
}

/// Lines of each CA's block.
pub const BLOCK: &str = "timeout 2s; budget 1000/1d;";
