//! cfssl (of 2016 in Debian 12), whose OCSP answers are signed in advance (RFC 5019): a certificate
//! is unknown and a revocation unheard of until somebody signs all answers anew and restarts the
//! responder. It sends no nonce, answers no GET, and rounds thisUpdate down to the hour.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;

use openssl::bn::BigNum;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::acme;
use super::answering::Source;
use super::command::run;
use super::http::Http;
use super::pki::{Identity, KeyType};
use super::ports::Port;
use super::process::{Process, wait_until};
use super::responder::Responder;

/// A CA in a directory, and its responder, if [`Cfssl::publish`] has started it.
pub struct Cfssl {
    dir: TempDir,
    port: Port,
    ca: Identity,
    responder: Mutex<Option<Process>>,
}

/// `cfssl serve`.
pub struct CfsslServer {
    pub url: String,
    _process: Process,
    _port: Port,
}

/// Hexadecimal, as its configuration has it.
pub const AUTH_KEY: &str = "0123456789abcdef0123456789abcdef";

impl Cfssl {
    pub fn start() -> Cfssl {
        let dir = tempfile::Builder::new().prefix("lab-cfssl").tempdir().expect("directory");
        let port = Port::reserve();
        let root = Identity::root("replaced below");
        let mut cfssl = Cfssl { dir, port, ca: root, responder: Mutex::new(None) };
        cfssl.put("db.json", &json!({"driver": "sqlite3", "data_source": "certs.db"}).to_string());
        cfssl.put("config.json", &cfssl.config().to_string());
        cfssl.sqlite(TABLES);

        cfssl.put("ca.json", &subject("Cfssl CA"));
        cfssl.ca = cfssl.make("ca", &["gencert", "-initca", "ca.json"]);
        cfssl.put("ocsp.json", &subject("ocsp signer"));
        let signer = ["gencert", "-ca", "ca.pem", "-ca-key", "ca.key", "-config", "config.json"];
        cfssl.make("ocsp", &[&signer[..], &["-profile", "ocsp", "ocsp.json"]].concat());
        cfssl
    }

    /// What clients trust: there is no intermediate.
    pub fn root_pem(&self) -> Vec<u8> {
        self.ca.cert_pem()
    }

    pub fn ocsp_url(&self) -> String {
        format!("http://{}", self.port.addr())
    }

    /// A certificate with a key of its own.
    pub fn issue(&self, names: &[&str]) -> Identity {
        let key = KeyType::Ecdsa256.generate();
        let csr = acme::csr(names, &key).to_pem().expect("PEM");
        self.put("leaf.csr", &String::from_utf8(csr).expect("PEM"));
        let names = names.join(",");
        let args = ["sign", "-db-config", "db.json", "-ca", "ca.pem", "-ca-key", "ca.key"];
        let more = ["-config", "config.json", "-hostname", &names, "leaf.csr"];
        let pem = text(&self.cfssl(&[&args[..], &more].concat())["cert"]);
        // This build stores no authority key id, and revokes nothing without one.
        self.sqlite("UPDATE certificates SET authority_key_identifier = 'ca'");
        let key = key.private_key_to_pem_pkcs8().expect("PEM");
        let leaf = Identity::from_pem(pem.as_bytes(), &key);
        Identity { chain: vec![self.ca.cert.clone()], ..leaf }
    }

    /// In the database; the responder goes on saying what it said.
    pub fn revoke(&self, of: &Identity, reason: &str) {
        let serial = BigNum::from_hex_str(&of.serial()).and_then(|n| n.to_dec_str());
        let serial = serial.expect("serial").to_string();
        let args = ["-serial", &serial, "-aki", "ca", "-reason", reason];
        self.run(command(&[&["revoke", "-db-config", "db.json"][..], &args].concat()));
    }

    /// Signs an answer for each certificate, and starts the responder with them.
    pub fn publish(&self) {
        let keys = ["-ca", "ca.pem", "-responder", "ocsp.pem", "-responder-key", "ocsp.key"];
        self.run(command(&[&["ocsprefresh", "-db-config", "db.json"][..], &keys].concat()));
        let answers = self.run(command(&["ocspdump", "-db-config", "db.json"]));
        self.put("answers.txt", &answers);
        let mut responder = self.responder.lock().expect("lock");
        // The old one's port first.
        *responder = None;
        let port = self.port.to_string();
        let serve = command(&["ocspserve", "-port", &port, "-responses", "answers.txt"]);
        *responder = Some(Process::start(self.here(serve), &self.path("ocspserve.log")));
        let http = Http::plain();
        wait_until("cfssl ocspserve", Duration::from_secs(20), || {
            http.get(&self.ocsp_url()).is_ok()
        });
    }

    /// Its JSON API, for as long as the guard lives; the profile `web` asks for [`AUTH_KEY`].
    pub fn serve(&self) -> CfsslServer {
        let port = Port::reserve();
        let number = port.to_string();
        let keys = ["-ca", "ca.pem", "-ca-key", "ca.key", "-config", "config.json"];
        let place = ["serve", "-address", "127.0.0.1", "-port", &number];
        let serve = self.here(command(&[&place[..], &keys].concat()));
        let process = Process::start(serve, &self.path("serve.log"));
        let url = format!("http://{}", port.addr());
        let http = Http::plain();
        wait_until("cfssl serve", Duration::from_secs(20), || http.get(&url).is_ok());
        CfsslServer { url, _process: process, _port: port }
    }

    /// A responder where its certificates say, that knows of each as soon as it is issued.
    pub fn respond(&self) -> Responder {
        Responder::start(self.port.clone(), self.ca.clone(), Source::Own)
    }

    /// The CA and its key, for a responder that speaks in its name.
    pub fn issuer(&self) -> &Identity {
        &self.ca
    }

    /// What its responder said of itself.
    pub fn log(&self) -> String {
        fs::read_to_string(self.path("ocspserve.log")).unwrap_or_default()
    }

    fn config(&self) -> Value {
        let server = ["digital signature", "server auth"];
        json!({"signing": {
            "default": {"expiry": "500h", "usages": server, "ocsp_url": self.ocsp_url()},
            "profiles": {
                "ocsp": {"expiry": "500h", "usages": ["digital signature", "ocsp signing"]},
                "web": {"expiry": "400h", "usages": server, "auth_key": "k1"},
            },
        }, "auth_keys": {"k1": {"type": "standard", "key": AUTH_KEY}}})
    }

    /// A new certificate and its key, also as files.
    fn make(&self, name: &str, args: &[&str]) -> Identity {
        let made = self.cfssl(args);
        let [cert, key] = [&made["cert"], &made["key"]].map(text);
        self.put(&format!("{name}.pem"), &cert);
        self.put(&format!("{name}.key"), &key);
        Identity::from_pem(cert.as_bytes(), key.as_bytes())
    }

    fn sqlite(&self, statement: &str) {
        let mut sqlite = Command::new("sqlite3");
        sqlite.arg("certs.db").arg(statement);
        self.run(sqlite);
    }

    fn cfssl(&self, args: &[&str]) -> Value {
        serde_json::from_str(&self.run(command(args))).expect("JSON")
    }

    /// In its directory; what it printed.
    fn run(&self, command: Command) -> String {
        let command = self.here(command);
        let name = format!("{command:?}");
        let ended = run(command);
        assert!(ended.ok, "{name}: {}", ended.stderr);
        ended.stdout
    }

    fn here(&self, mut command: Command) -> Command {
        command.current_dir(self.dir.path());
        command
    }

    fn put(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).expect("write");
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

fn command(args: &[&str]) -> Command {
    let mut command = Command::new("cfssl");
    command.args(args);
    command
}

fn subject(name: &str) -> String {
    json!({"CN": name, "key": {"algo": "ecdsa", "size": 256}}).to_string()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}")).into()
}

/// The columns after `pem` are those of cfssl 1.6.
const TABLES: &str = "\
CREATE TABLE certificates (serial_number blob NOT NULL, authority_key_identifier blob NOT NULL,
    ca_label blob, status blob NOT NULL, reason int, expiry timestamp, revoked_at timestamp,
    pem blob NOT NULL, issued_at timestamp, not_before timestamp, metadata json, sans json,
    common_name text, PRIMARY KEY (serial_number, authority_key_identifier));
CREATE TABLE ocsp_responses (serial_number blob NOT NULL, authority_key_identifier blob NOT NULL,
    body blob NOT NULL, expiry timestamp, PRIMARY KEY (serial_number, authority_key_identifier));";
