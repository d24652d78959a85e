//! Pebble, a real ACME CA that keeps everything in memory: each start is a new CA.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use openssl::x509::X509;
use serde_json::{Value, json};
use tempfile::TempDir;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::acme::Acme;
use super::http::Http;
use super::ocsp::Status;
use super::pki::{Identity, Profile};
use super::ports::Port;
use super::process::{Process, wait_until};

/// How Pebble is to run.
#[derive(Clone, Debug)]
pub struct Settings {
    /// None: `pebble` in PATH.
    pub program: Option<PathBuf>,
    /// Where it looks for http-01 and tls-alpn-01: nginx's ports.
    pub http_port: u16,
    pub tls_port: u16,
    /// Goes into the certificates.
    pub ocsp_url: Option<String>,
    /// Seconds.
    pub validity: u32,
    /// Names it refuses with rejectedIdentifier.
    pub blocked: Vec<String>,
    /// Percent of requests whose nonce it refuses.
    pub nonce_reject: u8,
    /// Asks for no challenge at all.
    pub always_valid: bool,
    /// Key id and base64url MAC key: accounts need external binding then.
    pub external_account: Option<(String, String)>,
    /// Profiles and the validity of what is issued by them, in seconds; only a newer one has any.
    pub profiles: Vec<(String, u32)>,
    /// The DNS server on loopback that it asks; None: one to which every name is 127.0.0.1.
    pub dns_port: Option<u16>,
    /// Further environment, such as PEBBLE_CHAIN_LENGTH.
    pub env: Vec<(String, String)>,
}

/// A running Pebble with its DNS server; every name resolves to 127.0.0.1.
pub struct Pebble {
    _dns: Process,
    process: Process,
    dir: TempDir,
    port: Port,
    management: Port,
    _dns_management: Port,
    http: Http,
}

/// A Pebble with renewal information, profiles and must-staple. Tests that need it are in modules
/// named `newer_pebble`, which scripts/test.sh leaves out where it can't be had, and says so.
pub fn newer() -> PathBuf {
    let program = std::env::var_os("CERT_AUTOFETCH_PEBBLE_NEW");
    program
        .expect("CERT_AUTOFETCH_PEBBLE_NEW is the path of a newer Pebble: scripts/test.sh")
        .into()
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            program: None,
            http_port: 5002,
            tls_port: 5001,
            ocsp_url: None,
            validity: 7 * 86_400,
            blocked: Vec::new(),
            nonce_reject: 5,
            always_valid: false,
            external_account: None,
            profiles: Vec::new(),
            dns_port: None,
            env: Vec::new(),
        }
    }
}

impl Pebble {
    pub fn start(settings: &Settings) -> Pebble {
        let dir = tempfile::Builder::new().prefix("lab-pebble").tempdir().expect("directory");
        let api_ca = Identity::root("Lab API CA");
        let api = api_ca.issue(&Profile::server(&["localhost", "127.0.0.1"]));
        let (port, management, dns) = (Port::reserve(), Port::reserve(), Port::reserve());
        let dns_management = Port::reserve();
        let path = |name: &str| dir.path().join(name);
        fs::write(path("api-ca.pem"), api_ca.cert_pem()).expect("write");
        fs::write(path("api.pem"), api.fullchain_pem()).expect("write");
        fs::write(path("api.key"), api.key_pem()).expect("write");
        let mut config = json!({
            "listenAddress": port.addr().to_string(),
            "managementListenAddress": management.addr().to_string(),
            "certificate": path("api.pem"), "privateKey": path("api.key"),
            "httpPort": settings.http_port, "tlsPort": settings.tls_port,
            "ocspResponderURL": settings.ocsp_url.clone().unwrap_or_default(),
            "domainBlocklist": settings.blocked,
            "certificateValidityPeriod": settings.validity,
        });
        if let Some((id, key)) = &settings.external_account {
            config["externalAccountBindingRequired"] = json!(true);
            config["externalAccountMACKeys"] = json!({id: key});
        }
        for (name, validity) in &settings.profiles {
            let profile = json!({"description": "of the lab", "validityPeriod": validity});
            config["profiles"][name] = profile;
        }
        fs::write(path("pebble.json"), json!({"pebble": config}).to_string()).expect("write");

        let mut command = Command::new("pebble-challtestsrv");
        command.args(["-http01", "", "-https01", "", "-tlsalpn01", "", "-defaultIPv6", ""]);
        command.args(["-defaultIPv4", "127.0.0.1", "-dns01", &dns.addr().to_string()]);
        command.args(["-management", &dns_management.addr().to_string()]);
        let dns_process = Process::start(command, &path("dns.log"));

        let mut command = Command::new(settings.program.as_deref().unwrap_or(Path::new("pebble")));
        command.arg("-config").arg(path("pebble.json")).arg("-strict");
        let dns = settings.dns_port.unwrap_or(dns.number());
        command.arg("-dnsserver").arg(format!("127.0.0.1:{dns}"));
        command.env("PEBBLE_VA_NOSLEEP", "1").env("PEBBLE_AUTHZREUSE", "0");
        command.env("PEBBLE_WFE_NONCEREJECT", settings.nonce_reject.to_string());
        if settings.always_valid {
            command.env("PEBBLE_VA_ALWAYS_VALID", "1");
        }
        command.envs(settings.env.iter().map(|(k, v)| (k, v)));
        let process = Process::start(command, &path("pebble.log"));

        let http = Http::trusting(&api_ca.cert_pem());
        let mut pebble = Pebble {
            _dns: dns_process,
            process,
            dir,
            port,
            management,
            _dns_management: dns_management,
            http,
        };
        pebble.wait_ready();
        pebble
    }

    pub fn directory_url(&self) -> String {
        format!("https://localhost:{}/dir", self.port)
    }

    /// What `trusted_certificate` is for.
    pub fn api_ca(&self) -> PathBuf {
        self.dir.path().join("api-ca.pem")
    }

    /// A client that trusts Pebble's API.
    pub fn http(&self) -> &Http {
        &self.http
    }

    /// What clients of nginx trust.
    pub fn root_pem(&self) -> Vec<u8> {
        self.managed("roots/0").body
    }

    /// The roots of all chains, the default one's first.
    pub fn roots(&self) -> Vec<X509> {
        let root = |i| {
            let answer = self.http.get(&format!("{}roots/{i}", self.management_url())).ok()?;
            X509::from_pem(&answer.body).ok().filter(|_| answer.status == 200)
        };
        (0..9).map_while(root).collect()
    }

    pub fn intermediate_pem(&self) -> Vec<u8> {
        self.managed("intermediates/0").body
    }

    /// The intermediate with its key: Pebble hands it out.
    pub fn issuer(&self) -> Identity {
        let key = self.managed("intermediate-keys/0").body;
        Identity::from_pem(&self.intermediate_pem(), &key)
    }

    /// None if Pebble does not know the serial.
    pub fn status(&self, serial: &str) -> Option<Status> {
        status_at(&self.http, &self.management_url(), serial).expect("Pebble's management port")
    }

    /// Revokes as the holder of the key would; the error is the CA's problem document.
    pub fn revoke(
        &self,
        cert_pem: &[u8],
        key_pem: &[u8],
        reason: Option<u8>,
    ) -> Result<(), String> {
        self.acme().revoke(&Identity::from_pem(cert_pem, key_pem), reason)
    }

    pub fn acme(&self) -> Acme<'_> {
        Acme::new(&self.http, &self.directory_url())
    }

    pub fn management_url(&self) -> String {
        format!("https://localhost:{}/", self.management)
    }

    /// Has the management port do something.
    pub fn manage(&self, path: &str, body: &Value) {
        let url = format!("{}{path}", self.management_url());
        let body = body.to_string();
        let answer = self.http.post(&url, "application/json", body.as_bytes()).expect("Pebble");
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    }

    pub fn log(&self) -> String {
        self.process.log()
    }

    /// Stops and goes on: a CA that accepts connections and answers nothing.
    pub fn freeze(&self) {
        self.process.stop();
    }

    pub fn thaw(&self) {
        self.process.signal(libc::SIGCONT);
    }

    fn managed(&self, path: &str) -> super::http::Answer {
        self.http.get(&format!("{}{path}", self.management_url())).expect("Pebble's management")
    }

    fn wait_ready(&mut self) {
        let (api, management) = (self.directory_url(), self.management_url() + "roots/0");
        wait_until("Pebble", Duration::from_secs(20), || {
            if let Some(status) = self.process.exited() {
                panic!("pebble ended, {status}:\n{}", self.process.log());
            }
            self.http.get(&api).is_ok() && self.http.get(&management).is_ok()
        });
    }
}

/// Pebble's word about a serial, by its management URL.
pub fn status_at(
    http: &Http,
    management: &str,
    serial: &str,
) -> Result<Option<Status>, ureq::Error> {
    let answer = http.get(&format!("{management}cert-status-by-serial/{serial}"))?;
    let status = answer.json();
    Ok(match status["Status"].as_str() {
        Some("Valid") => Some(Status::Good),
        Some("Revoked") => Some(Status::Revoked {
            reason: status["Reason"].as_u64().map(|r| r as u8),
            at: status["RevokedAt"].as_str().and_then(revocation_time).unwrap_or_default(),
        }),
        _ => None,
    })
}

/// As Go prints it: 2026-01-02 03:04:05.678 +0000 UTC
fn revocation_time(text: &str) -> Option<i64> {
    let rfc3339 = format!("{}T{}Z", text.get(..10)?, text.get(11..19)?);
    Some(OffsetDateTime::parse(&rfc3339, &Rfc3339).ok()?.unix_timestamp())
}
