//! nginx with the module, and in its keystore certificates of somebody else's CA, put there as an
//! administrator would. Replacements come from the [`Liar`], who is honest here: it asks for no
//! challenge, and its responder finds them good.

use super::client::Client;
use super::liar::Liar;
use super::monitor::{LOCATIONS, Monitor};
use super::nginx::{Config, Nginx};
use super::pki::Identity;
use super::ports::Port;
use super::site::{ANSWER, Stored, without_origin};

/// What is to be served, and how.
#[derive(Clone, Debug, Default)]
pub struct Guests {
    roots: Vec<u8>,
    /// Name, certificate, lines of the `server`.
    servers: Vec<(String, Option<Identity>, String)>,
    http: String,
    ca: String,
    workers: usize,
}

/// A running nginx with its guests.
pub struct GuestSite {
    pub liar: Liar,
    pub nginx: Nginx,
    pub monitor: Monitor,
    tls: Port,
    roots: Vec<u8>,
}

impl Guests {
    /// Clients trust these roots, and the liar's.
    pub fn of(roots: &[u8]) -> Guests {
        Guests { roots: roots.into(), workers: 1, ..Guests::default() }
    }

    /// A server with this name and certificate, and further lines.
    pub fn add(mut self, name: &str, identity: &Identity, lines: &str) -> Guests {
        self.servers.push((name.into(), Some(identity.clone()), lines.into()));
        self
    }

    /// A server with this name that has no certificate yet.
    pub fn empty(mut self, name: &str) -> Guests {
        self.servers.push((name.into(), None, String::new()));
        self
    }

    /// Lines of `http`.
    pub fn http(mut self, lines: &str) -> Guests {
        self.http = lines.into();
        self
    }

    /// Lines of the CA's block. They hold for guests too: nothing tells what CA issued them.
    pub fn ca(mut self, lines: &str) -> Guests {
        self.ca = lines.into();
        self
    }

    pub fn workers(mut self, count: usize) -> Guests {
        self.workers = count;
        self
    }

    pub fn start(self) -> GuestSite {
        self.start_with(Liar::start())
    }

    pub fn start_with(self, liar: Liar) -> GuestSite {
        let config = Config::new().workers(self.workers);
        let (tls, status) = (Port::reserve(), Port::reserve());
        for (name, identity, _) in &self.servers {
            let stored = Stored::of(&config.keystore(), name);
            if let Some(identity) = identity {
                stored.put_identity(identity);
            }
        }
        let server = |(name, _, lines): &(String, Option<Identity>, String)| {
            format!(
                "server {{ listen {} ssl; server_name {name}; {lines}\n{ANSWER} }}\n",
                tls.addr()
            )
        };
        let body = format!(
            "ssl_cert_autofetch_keystore {};\n{}ssl_cert_autofetch liar;\n{}\n{}\
             server {{ listen {}; {LOCATIONS} }}",
            config.keystore().display(),
            liar.ca_block("liar", &format!("budget 1000/1d; {}", self.ca)),
            self.http,
            self.servers.iter().map(server).collect::<String>(),
            status.addr()
        );
        let roots = [self.roots, liar.root_pem()].concat();
        let monitor = Monitor::at(&status);
        let nginx = config.http(body).start();
        GuestSite { liar, nginx, monitor, tls, roots }
    }
}

impl GuestSite {
    pub fn client(&self, name: &str) -> Client {
        Client::new(self.tls.number()).sni(name).trust(&self.roots)
    }

    /// Where TLS is spoken.
    pub fn port(&self) -> u16 {
        self.tls.number()
    }

    /// A file of what clients trust.
    pub fn roots(&self) -> std::path::PathBuf {
        let path = self.nginx.dir().join("roots.pem");
        std::fs::write(&path, &self.roots).expect("write");
        path
    }

    /// Ends nginx by `end`, and starts it with the same configuration and keystore.
    pub fn restart(mut self, end: fn(Nginx) -> Config) -> GuestSite {
        self.nginx = end(self.nginx).start();
        self
    }

    /// The log lines of an entry: level in brackets and text.
    pub fn lines(&self, name: &str) -> Vec<String> {
        let mark = format!("ssl_cert_autofetch: \"{name}\": ");
        self.nginx.log_lines(&mark).iter().map(|l| without_origin(l)).collect()
    }

    /// The lines of this level.
    pub fn lines_at(&self, level: &str, name: &str) -> Vec<String> {
        let mut lines = self.lines(name);
        lines.retain(|l| l.starts_with(&format!("[{level}]")));
        lines
    }

    /// A full handshake that is served with this certificate.
    pub fn check_served(&self, name: &str, serial: &str) {
        let served = self.client(name).connect();
        let served = served.unwrap_or_else(|e| panic!("{name}: {e:?}"));
        assert_eq!(served.serial, serial, "{name}");
    }

    /// A handshake that is refused before any certificate is sent.
    pub fn check_refused(&self, name: &str) {
        let refused = self.client(name).connect().expect_err(name);
        let got = (refused.alert, refused.chain.len());
        assert_eq!(got, (Some(super::INTERNAL_ERROR), 0), "{name}: {refused:?}");
    }

    /// A handshake that gets another certificate, the liar's first or next; its serial.
    pub fn check_replaced(&self, name: &str, old: &str) -> String {
        let served = self.client(name).connect();
        let served = served.unwrap_or_else(|e| panic!("{name}: {e:?}"));
        assert_ne!(served.serial, old, "{name}");
        let entry = self.monitor.entry(name);
        assert_eq!(entry["replaced"]["serial"], old, "{entry:#}");
        served.serial
    }
}
