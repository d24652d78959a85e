//! nginx with the module between a lab's CA and its clients: most tests need no more of a
//! configuration than their server blocks.

use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use openssl::pkey::{PKey, Private};
use openssl::x509::{GeneralNameRef, X509};
use serde_json::Value;

use super::monitor::Monitor;
use super::pki::{Identity, serial_hex};
use super::process::wait_for;
use super::{Config, Lab, Nginx, Port, Settings};

/// What a test wants of the configuration.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    pub pebble: Settings,
    /// Lines of `http`, such as `ssl_cert_autofetch_check hard;`.
    pub http: String,
    /// Lines of the CA's block.
    pub ca: String,
    /// Server blocks; `listen TLS` in them is where clients and tls-alpn-01 come.
    pub servers: String,
    /// 0 is 1.
    pub workers: usize,
}

/// A lab, and nginx with the module in it.
pub struct Site {
    pub lab: Lab,
    pub nginx: Nginx,
    plan: Plan,
    status_port: Port,
}

/// A second nginx on a site's keystore.
pub struct Twin {
    pub nginx: Nginx,
    pub tls_port: Port,
    _plain: Port,
    _status: Port,
}

/// The place of one entry in a keystore, as other programs see it.
#[derive(Clone, Debug)]
pub struct Stored {
    pub dir: PathBuf,
}

impl Plan {
    /// One server on the TLS address with these names, and these lines of `http`.
    pub fn server(names: &str, http: &str) -> Plan {
        Plan { http: http.into(), servers: server(names), ..Plan::default() }
    }

    pub fn ca(mut self, lines: &str) -> Plan {
        self.ca = lines.into();
        self
    }

    pub fn workers(mut self, count: usize) -> Plan {
        self.workers = count;
        self
    }

    pub fn validity(mut self, seconds: u32) -> Plan {
        self.pebble.validity = seconds;
        self
    }

    pub fn start(self) -> Site {
        self.start_with(|_, _| {})
    }

    /// `prepare` gets the lab and the keystore before nginx starts.
    pub fn start_with(self, prepare: impl FnOnce(&Lab, &Path)) -> Site {
        let lab = Lab::with(self.pebble.clone());
        let config = Config::new().workers(self.workers.max(1));
        let status_port = Port::reserve();
        prepare(&lab, &config.keystore());
        let http = http(&lab, &self, &config.keystore(), &status_port);
        Site::of(lab, config.http(http), self, status_port)
    }
}

impl Site {
    fn of(lab: Lab, config: Config, plan: Plan, status_port: Port) -> Site {
        Site { lab, nginx: config.start(), plan, status_port }
    }

    /// The body of `http` with other lines in it.
    pub fn http(&self, change: impl FnOnce(&mut Plan)) -> String {
        let mut plan = self.plan.clone();
        change(&mut plan);
        http(&self.lab, &plan, &self.nginx.keystore(), &self.status_port)
    }

    pub fn reload_with(&mut self, change: impl FnOnce(&mut Plan)) {
        let http = self.http(change);
        self.nginx.reload_with(http);
    }

    /// Ends nginx by `end`, and starts it with the same keystore and these changes.
    pub fn restart(
        self,
        end: impl FnOnce(Nginx) -> Config,
        change: impl FnOnce(&mut Plan),
    ) -> Site {
        let mut plan = self.plan.clone();
        change(&mut plan);
        let http = http(&self.lab, &plan, &self.nginx.keystore(), &self.status_port);
        let config = end(self.nginx);
        Site::of(self.lab, config.http(http), plan, self.status_port)
    }

    /// Another nginx, as on another host: the same configuration and keystore on ports of its own.
    /// The CA's validation never reaches it.
    pub fn twin(&self, change: impl FnOnce(&mut Plan)) -> Twin {
        let (plain, tls_port, status) = (Port::reserve(), Port::reserve(), Port::reserve());
        let mut http = self.http(change);
        let lab = &self.lab;
        for (ours, its) in
            [(&lab.http_port, &plain), (&lab.tls_port, &tls_port), (&self.status_port, &status)]
        {
            http = http.replace(&ours.addr().to_string(), &its.addr().to_string());
        }
        let nginx = Config::new().http(http).start();
        Twin { nginx, tls_port, _plain: plain, _status: status }
    }

    /// The whole status; None while nginx does not answer.
    pub fn try_status(&self) -> Option<Value> {
        self.monitor().try_status()
    }

    pub fn status(&self) -> Value {
        self.monitor().status()
    }

    /// The status of one entry.
    pub fn entry(&self, name: &str) -> Value {
        self.monitor().entry(name)
    }

    pub fn counter(&self, name: &str) -> u64 {
        self.monitor().counter(name)
    }

    fn monitor(&self) -> Monitor {
        Monitor::at(&self.status_port)
    }

    /// The entry, as soon as it is what is wanted.
    pub fn wait_entry(
        &self,
        name: &str,
        what: &str,
        within: Duration,
        is_it: impl Fn(&Value) -> bool,
    ) -> Value {
        let mut last = Value::Null;
        let deadline = std::time::Instant::now() + within;
        while std::time::Instant::now() < deadline {
            last = self.entry(name);
            if is_it(&last) {
                return last;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("waited {within:?} in vain: {name} {what}\n{last:#}");
    }

    pub fn wait_state(&self, name: &str, state: &str, within: Duration) -> Value {
        self.wait_entry(name, state, within, |e| e["state"] == state)
    }

    /// Waits till the entry is served; its serial.
    pub fn wait_valid(&self, name: &str) -> String {
        serial(&self.wait_state(name, "valid", ISSUANCE))
    }

    /// Waits for another certificate than this one; its serial.
    pub fn wait_other(&self, name: &str, old: &str) -> String {
        let is_other = |e: &Value| e["state"] == "valid" && serial(e) != old;
        serial(&self.wait_entry(name, &format!("other than {old}"), ISSUANCE, is_other))
    }

    pub fn stored(&self, name: &str) -> Stored {
        Stored::of(&self.nginx.keystore(), name)
    }

    /// Revokes at the CA what is stored now; its serial.
    pub fn revoke(&self, name: &str, reason: Option<u8>) -> String {
        let (stored, pebble) = (self.stored(name), &self.lab.pebble);
        pebble.revoke(&stored.chain_pem(), &stored.key_pem(), reason).expect("revoked");
        stored.serial()
    }

    /// How many certificates the CA has issued, by its own log.
    pub fn issued(&self) -> usize {
        self.lab.issued()
    }

    /// The log lines of an entry, without nginx's date and pid: level in brackets and text.
    pub fn lines(&self, name: &str) -> Vec<String> {
        let mark = format!("ssl_cert_autofetch: \"{name}\": ");
        self.nginx.log_lines(&mark).iter().map(|l| without_origin(l)).collect()
    }
}

impl Lab {
    /// How many certificates Pebble has issued.
    pub fn issued(&self) -> usize {
        self.pebble.log().matches("Issued certificate serial").count()
    }
}

impl Stored {
    pub fn of(keystore: &Path, name: &str) -> Stored {
        Stored { dir: keystore.join("certs").join(name) }
    }

    pub fn chain_pem(&self) -> Vec<u8> {
        fs::read(self.dir.join("current/fullchain.pem")).expect("fullchain.pem")
    }

    pub fn key_pem(&self) -> Vec<u8> {
        fs::read(self.dir.join("current/privkey.pem")).expect("privkey.pem")
    }

    pub fn leaf(&self) -> X509 {
        X509::from_pem(&self.chain_pem()).expect("a certificate")
    }

    pub fn serial(&self) -> String {
        serial_hex(&self.leaf())
    }

    /// Names and addresses in the certificate, sorted.
    pub fn names(&self) -> Vec<String> {
        let address = |bytes: &[u8]| match *bytes {
            [a, b, c, d] => IpAddr::from([a, b, c, d]).to_string(),
            _ => IpAddr::from(<[u8; 16]>::try_from(bytes).expect("an address")).to_string(),
        };
        let text = |n: &GeneralNameRef| {
            n.dnsname().map(String::from).or_else(|| n.ipaddress().map(address)).expect("a name")
        };
        let names = self.leaf().subject_alt_names().expect("SAN");
        let mut names: Vec<String> = names.iter().map(text).collect();
        names.sort();
        names
    }

    pub fn key(&self) -> PKey<Private> {
        PKey::private_key_from_pem(&self.key_pem()).expect("a key")
    }

    /// The key of the issuance in progress, if one is.
    pub fn pending_key(&self) -> Option<PKey<Private>> {
        fs::metadata(self.dir.join("pending/order.json")).ok()?;
        PKey::private_key_from_pem(&fs::read(self.dir.join("pending/privkey.pem")).ok()?).ok()
    }

    /// `current` as it should be at any time: a whole version, whose key matches.
    pub fn check_whole(&self) {
        let public = self.leaf().public_key().expect("public key");
        assert!(public.public_eq(&self.key()), "{}: another key", self.dir.display());
    }

    /// Puts a certificate there as another program would: a version of its own, one rename.
    pub fn put(&self, chain_pem: &[u8], key_pem: &[u8]) -> u64 {
        let versions = self.dir.join("versions");
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&versions).expect("mkdir");
        let numbers = fs::read_dir(&versions).expect("versions").flatten();
        let numbers = numbers.filter_map(|e| e.file_name().to_str()?.parse::<u64>().ok());
        let version = numbers.max().unwrap_or(0) + 1;
        let dir = versions.join(version.to_string());
        fs::DirBuilder::new().mode(0o700).create(&dir).expect("mkdir");
        write(&dir.join("privkey.pem"), key_pem);
        write(&dir.join("fullchain.pem"), chain_pem);
        write(&dir.join("meta.json"), b"{}");
        let link = self.dir.join(".current.test");
        symlink(format!("versions/{version}"), &link).expect("symlink");
        fs::rename(&link, self.dir.join("current")).expect("rename");
        version
    }

    pub fn put_identity(&self, id: &Identity) -> u64 {
        self.put(&id.fullchain_pem(), &id.key_pem())
    }

    /// Tells those who watch the keystore of a version.
    pub fn announce(&self, version: u64) {
        use std::io::Write;
        let name = self.dir.file_name().and_then(|n| n.to_str()).expect("name");
        let keystore = self.dir.ancestors().nth(2).expect("keystore");
        let mut changes = fs::File::options();
        let changes = changes.create(true).append(true).mode(0o600).open(keystore.join("changes"));
        writeln!(changes.expect("changes"), "cert {name} {version}").expect("write");
    }
}

/// A server on the TLS address: it tells the pid of its worker.
pub fn server(names: &str) -> String {
    format!("server {{ listen TLS ssl; server_name {names}; ssl_cert_autofetch lab;\n{ANSWER} }}\n")
}

/// The serial of an entry's status.
pub fn serial(entry: &Value) -> String {
    entry["serial"].as_str().unwrap_or_default().into()
}

fn http(lab: &Lab, plan: &Plan, keystore: &Path, status: &Port) -> String {
    let (ca, tls) = (lab.ca_block("lab", &plan.ca), lab.tls_port.addr().to_string());
    // The plain listener of many sites: it sends everything elsewhere but the CA's challenges.
    format!(
        "ssl_cert_autofetch_keystore {};\n{ca}\n{}\n{}\n\
         server {{ listen {}; return 301 https://$host$request_uri; }}\n\
         server {{ listen {}; location = /status {{ ssl_cert_autofetch_status; }} }}\n",
        keystore.display(),
        plan.http,
        plan.servers.replace("listen TLS", &format!("listen {tls}")),
        lab.http_port.addr(),
        status.addr(),
    )
}

/// `2026/01/02 03:04:05 [error] 1#1: TEXT` without date and pid.
pub fn without_origin(line: &str) -> String {
    let level = line.split_once('[').and_then(|(_, rest)| rest.split_once(']'));
    let (level, rest) = level.unwrap_or(("", line));
    let text = rest.split_once(": ").map_or(rest, |(_, text)| text);
    format!("[{level}] {text}")
}

fn write(path: &Path, bytes: &[u8]) {
    use std::io::Write;
    let file = fs::File::options().write(true).create_new(true).mode(0o600).open(path);
    file.expect("open").write_all(bytes).expect("write");
}

/// A whole issuance, on a busy machine.
pub const ISSUANCE: Duration = Duration::from_secs(30);
pub const ANSWER: &str = "location / { return 200 \"worker $pid\"; }";
