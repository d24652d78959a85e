//! OpenBao, a CA with an OCSP responder and a CRL that are one program and still disagree at times.
//!
//! The program is `CERT_AUTOFETCH_BAO`. Each start is a new root and intermediate, in memory.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use openssl::x509::{CrlStatus, X509Crl};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::acme;
use super::http::Http;
use super::pki::{Identity, KeyType};
use super::ports::Port;
use super::process::{Process, wait_until};

/// A running OpenBao whose mount `int` issues for every name.
pub struct OpenBao {
    process: Process,
    dir: TempDir,
    port: Port,
    http: Http,
    root_pem: Vec<u8>,
    issuer: Identity,
    /// With a slash behind it; empty: the root.
    namespace: &'static str,
}

impl OpenBao {
    /// It may do everything: a test value, of a server that listens on loopback for the life of one
    /// test.
    pub const TOKEN: &str = "root";

    /// Its certificates name its own responder and its own CRL; the CRL is rebuilt at each
    /// revocation.
    pub fn start() -> OpenBao {
        OpenBao::start_in("")
    }

    /// The same with the mounts in this namespace, such as `team/`.
    pub fn start_in(namespace: &'static str) -> OpenBao {
        let dir = tempfile::Builder::new().prefix("lab-openbao").tempdir().expect("directory");
        let port = Port::reserve();
        let config = dir.path().join("bao.hcl");
        // Else it takes the next port too.
        fs::write(&config, "disable_clustering = true\n").expect("write");
        fs::write(dir.path().join("token"), OpenBao::TOKEN).expect("write");
        let mut command = Command::new(program());
        command.arg("server").arg("-dev").arg("-config").arg(&config);
        command.args(["-dev-no-store-token", &format!("-dev-root-token-id={}", OpenBao::TOKEN)]);
        command.arg(format!("-dev-listen-address={}", port.addr()));
        command.env_clear().env("HOME", dir.path());
        let process = Process::start(command, &dir.path().join("bao.log"));
        let http = Http::plain();
        let (root_pem, issuer) = (Vec::new(), Identity::root("replaced by set_up()"));
        let mut bao = OpenBao { process, dir, port, http, root_pem, issuer, namespace };
        bao.wait_ready();
        bao.set_up();
        bao
    }

    /// What `token_file` is for.
    pub fn token_file(&self) -> PathBuf {
        self.dir.path().join("token")
    }

    /// What clients trust.
    pub fn root_pem(&self) -> &[u8] {
        &self.root_pem
    }

    /// The intermediate with its key, for a responder that speaks in its name.
    pub fn issuer(&self) -> &Identity {
        &self.issuer
    }

    /// A certificate with a key of its own.
    pub fn issue(&self, names: &[&str]) -> Identity {
        let key = KeyType::Ecdsa256.generate();
        let csr = acme::csr(names, &key).to_pem().expect("PEM");
        let csr = String::from_utf8(csr).expect("PEM");
        let wanted = json!({"csr": csr, "common_name": names[0], "ttl": "500h"});
        let pem = text(&self.write("int/sign/server", wanted)["certificate"]);
        let key = key.private_key_to_pem_pkcs8().expect("PEM");
        let leaf = Identity::from_pem(pem.as_bytes(), &key);
        Identity { chain: vec![self.issuer.cert.clone()], ..leaf }
    }

    pub fn revoke(&self, of: &Identity) {
        self.revoke_serial(&of.serial());
    }

    pub fn revoke_serial(&self, hex: &str) {
        let pairs: Vec<_> = hex.as_bytes().chunks(2).map(String::from_utf8_lossy).collect();
        self.write("int/revoke", json!({"serial_number": pairs.join(":")}));
    }

    /// As `int/config/crl` takes it, such as `{"auto_rebuild": true}`: only what is given changes.
    pub fn configure_crl(&self, settings: Value) {
        self.write("int/config/crl", settings);
    }

    /// Builds the CRL now.
    pub fn rotate_crl(&self) {
        let url = self.url("int/crl/rotate");
        let answer = self.http.get_as(&url, HEADER).expect("OpenBao");
        assert_eq!(answer.status, 200, "{}", answer.text());
    }

    /// From now on it signs nothing and answers nothing but errors.
    pub fn seal(&self) {
        self.post(&self.root_url("sys/seal"), json!({}));
    }

    /// After [`OpenBao::seal`], with the key that it told at its start.
    pub fn unseal(&self) {
        let log = self.process.log();
        let key = log.lines().find_map(|line| line.strip_prefix("Unseal Key: "));
        let key = json!({"key": key.expect("the key in its log").trim()});
        let answer = self.http.post_json(&self.root_url("sys/unseal"), HEADER, &key);
        let answer = answer.expect("OpenBao");
        assert_eq!(answer.json()["sealed"], false, "{}", answer.text());
    }

    /// The responder that certificates name which are issued from now on.
    pub fn name_responder(&self, url: &str) {
        let urls = json!({
            "ocsp_servers": url, "enable_templating": true,
            "crl_distribution_points": "{{cluster_aia_path}}/issuer/{{issuer_id}}/crl/der",
        });
        self.write("int/config/urls", urls);
    }

    pub fn address(&self) -> String {
        self.port.addr().to_string()
    }

    /// Has the mount speak ACME too, with external accounts only; its directory.
    pub fn enable_acme(&self) -> String {
        let headers = json!({
            "passthrough_request_headers": ["If-Modified-Since"],
            "allowed_response_headers": ["Last-Modified", "Location", "Replay-Nonce", "Link"],
        });
        self.write("sys/mounts/int/tune", headers);
        let acme = json!({
            "enabled": true, "eab_policy": "always-required", "allowed_roles": ["*"],
            "default_directory_policy": "role:server",
        });
        self.write("int/config/acme", acme);
        self.url("int/acme/directory")
    }

    /// Credentials for one account: key id and base64url MAC key.
    pub fn external_account(&self) -> (String, String) {
        let made = self.write("int/acme/new-eab", json!({}));
        (text(&made["id"]), text(&made["key"]))
    }

    /// Where the module issues; the namespace is not in it.
    pub fn mount(&self) -> String {
        self.root_url("int")
    }

    pub fn ocsp_url(&self) -> String {
        self.url("int/ocsp")
    }

    /// Whether the CRL that is published now lists the certificate.
    pub fn crl_lists(&self, of: &Identity) -> bool {
        let der = self.http.get(&self.url("int/crl")).expect("OpenBao").body;
        let crl = X509Crl::from_der(&der).expect("a CRL");
        matches!(crl.get_by_cert(&of.cert), CrlStatus::Revoked(_))
    }

    fn set_up(&mut self) {
        if !self.namespace.is_empty() {
            let name = self.namespace.trim_end_matches('/');
            self.post(&self.root_url(&format!("sys/namespaces/{name}")), json!({}));
        }
        for mount in ["root", "int"] {
            let settings = json!({"type": "pki", "config": {"max_lease_ttl": "87600h"}});
            self.write(&format!("sys/mounts/{mount}"), settings);
        }
        let key = json!({"key_type": "ec", "key_bits": 256});
        let with = |name: &str, more: Value| {
            let mut all = key.clone();
            all["common_name"] = json!(name);
            let more = more.as_object().cloned().unwrap_or_default();
            all.as_object_mut().expect("object").extend(more);
            all
        };
        let root = with("Bao Root", json!({"ttl": "80000h"}));
        let root = self.write("root/root/generate/internal", root);
        // Its PEM ends without a newline.
        self.root_pem = (text(&root["certificate"]) + "\n").into_bytes();

        let int = self.write("int/intermediate/generate/exported", with("Bao CA", json!({})));
        let csr = with("Bao CA", json!({"csr": int["csr"], "ttl": "40000h"}));
        let signed = self.write("root/root/sign-intermediate", csr);
        self.write("int/intermediate/set-signed", json!({"certificate": signed["certificate"]}));
        let pem = [&signed["certificate"], &int["private_key"]].map(text);
        self.issuer = Identity::from_pem(pem[0].as_bytes(), pem[1].as_bytes());

        let base = self.url("int");
        self.write("int/config/cluster", json!({"path": base, "aia_path": base}));
        self.name_responder("{{cluster_path}}/ocsp");
        let role = json!({"allow_any_name": true, "max_ttl": "1000h", "key_type": "any"});
        self.write("int/roles/server", role);
    }

    /// The data of the answer.
    fn write(&self, path: &str, body: Value) -> Value {
        self.post(&self.url(path), body)
    }

    fn post(&self, url: &str, body: Value) -> Value {
        let answer = self.http.post_json(url, HEADER, &body).expect("OpenBao");
        assert!(matches!(answer.status, 200 | 204), "{url}: {}", answer.text());
        answer.json()["data"].clone()
    }

    fn url(&self, path: &str) -> String {
        self.root_url(&format!("{}{path}", self.namespace))
    }

    fn root_url(&self, path: &str) -> String {
        format!("http://{}/v1/{path}", self.port.addr())
    }

    fn wait_ready(&mut self) {
        let health = self.root_url("sys/health");
        wait_until("OpenBao", Duration::from_secs(30), || {
            if let Some(status) = self.process.exited() {
                panic!("bao ended, {status}:\n{}", self.process.log());
            }
            self.http.get(&health).is_ok_and(|a| a.status == 200)
        });
    }
}

fn program() -> PathBuf {
    let path = std::env::var_os("CERT_AUTOFETCH_BAO");
    path.expect("CERT_AUTOFETCH_BAO is the path of OpenBao's program: scripts/test.sh").into()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}")).into()
}

const HEADER: (&str, &str) = ("X-Vault-Token", OpenBao::TOKEN);
