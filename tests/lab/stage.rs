//! nginx with the module and a CA of its own; the test makes the configuration.

use std::fs;
use std::path::{Path, PathBuf};

use super::Lab;
use super::monitor::{LOCATIONS, Monitor};
use super::nginx::{Config, Nginx};
use super::pebble::Settings;
use super::site::Stored;

/// A lab whose nginx runs.
pub struct Stage {
    pub lab: Lab,
    pub nginx: Nginx,
    pub monitor: Monitor,
}

impl Stage {
    /// Starts nginx with the lab's CA, named `lab`, for every server of `http` that speaks TLS.
    pub fn start(lab: Lab, config: Config, http: &str) -> Stage {
        let body = Stage::body(&lab, &config.keystore(), http);
        let monitor = Monitor::at(&lab.http_port);
        let nginx = config.http(body).start();
        Stage { lab, nginx, monitor }
    }

    /// A lab whose CA believes that every name is ours: for tests that are not about issuance.
    pub fn trusting_lab() -> Lab {
        Lab::with(Settings { always_valid: true, ..Settings::default() })
    }

    /// The `http` block: also for a reload with other servers.
    pub fn body(lab: &Lab, keystore: &Path, http: &str) -> String {
        format!(
            "ssl_cert_autofetch_keystore {};\n{}ssl_cert_autofetch lab;\n{http}\n\
             server {{ listen {}; {LOCATIONS} }}",
            keystore.display(),
            lab.ca_block("lab", "budget 1000/1d;"),
            lab.http_port.addr(),
        )
    }

    /// One name, each of whose handshakes asks the responder; further lines of `http`.
    pub fn asking(lab: &Lab, more: &str) -> String {
        format!(
            "ssl_cert_autofetch_check_interval 0; {more}\n\
             server {{ listen {} ssl; server_name a.test; }}",
            lab.tls_port.addr()
        )
    }

    /// Revokes at the CA, by the key in the keystore.
    pub fn revoke(&self, name: &str, reason: Option<u8>) {
        let stored = Stored::of(&self.nginx.keystore(), name);
        let (cert, key) = (stored.chain_pem(), stored.key_pem());
        self.lab.pebble.revoke(&cert, &key, reason).expect("revoked");
    }

    /// A file of what clients trust.
    pub fn roots(&self) -> PathBuf {
        let path = self.nginx.dir().join("root.pem");
        fs::write(&path, self.lab.pebble.root_pem()).expect("write");
        path
    }
}
