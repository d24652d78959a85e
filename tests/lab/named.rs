//! BIND's named, a DNS server that takes dynamic updates (RFC 2136) signed with a key of its own,
//! and nobody else's.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use super::command;
use super::ports::Port;
use super::process::{Process, wait_until};

/// A running named with one zone.
pub struct Named {
    process: Process,
    dir: TempDir,
    port: Port,
    zone: String,
}

impl Named {
    pub fn start(zone: &str) -> Named {
        let dir = tempfile::Builder::new().prefix("lab-named").tempdir().expect("directory");
        let port = Port::reserve();
        let path = |name: &str| dir.path().join(name);
        fs::write(path("key"), key(SECRET)).expect("write");
        fs::write(path("zone"), zone_file()).expect("write");
        let config = format!(
            "include \"{}\";
             options {{
                 directory \"{}\"; pid-file none; session-keyfile none; recursion no;
                 listen-on port {port} {{ 127.0.0.1; }}; listen-on-v6 {{ none; }};
                 dnssec-validation no; notify no; allow-transfer {{ none; }};
             }};
             controls {{ }};
             zone \"{zone}\" {{ type primary; file \"zone\"; allow-update {{ key lab; }}; }};",
            path("key").display(),
            dir.path().display(),
        );
        fs::write(path("named.conf"), config).expect("write");
        let mut command = Command::new("named");
        command.args(["-g", "-n", "1", "-c"]).arg(path("named.conf"));
        if is_root() {
            command.args(["-u", "nobody"]);
            for file in ["", "key", "zone", "named.conf"] {
                chown(path(file), Some(NOBODY), None).expect("chown");
            }
        }
        let process = Process::start(command, &std::env::temp_dir().join(log_name(&dir)));
        let mut named = Named { process, dir, port, zone: zone.into() };
        named.wait_ready();
        named
    }

    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// The example hook with its settings beside it; `key` is what it signs updates with.
    pub fn hook(&self, dir: &Path, key: &Path) -> PathBuf {
        let hook = dir.join("hook.sh");
        let example = concat!(env!("CARGO_MANIFEST_DIR"), "/nginx-conf/dns-01-nsupdate.sh");
        fs::copy(example, &hook).expect("copy");
        fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).expect("chmod");
        let settings = format!("PORT={}\nKEY_FILE={}\nWAIT=5\n", self.port, key.display());
        fs::write(dir.join("hook.sh.conf"), settings).expect("write");
        hook
    }

    /// The values at a name, in any order.
    pub fn txt(&self, name: &str) -> Vec<String> {
        let mut dig = Command::new("dig");
        dig.args(["+short", "+norecurse", "-p", &self.port.to_string(), "@127.0.0.1", name, "TXT"]);
        let said = command::run(dig);
        assert!(said.ok, "dig: {} {}", said.stdout, said.stderr);
        said.stdout.lines().map(|line| line.trim_matches('"').to_owned()).collect()
    }

    pub fn log(&self) -> String {
        self.process.log()
    }

    fn wait_ready(&mut self) {
        wait_until("named", Duration::from_secs(30), || {
            if let Some(status) = self.process.exited() {
                panic!("named ended, {status}:\n{}", self.process.log());
            }
            let mut dig = Command::new("dig");
            dig.args(["+short", "+time=1", "+tries=1", "-p", &self.port.to_string()]);
            dig.args(["@127.0.0.1", &self.zone, "SOA"]);
            command::run(dig).stdout.starts_with("ns.")
        });
    }
}

impl Drop for Named {
    fn drop(&mut self) {
        let _ = fs::remove_file(std::env::temp_dir().join(log_name(&self.dir)));
    }
}

/// A file as tsig-keygen writes it.
pub fn key(secret: &str) -> String {
    format!("key \"lab\" {{ algorithm hmac-sha256; secret \"{secret}\"; }};\n")
}

fn zone_file() -> String {
    "$TTL 60\n@ IN SOA ns admin 1 60 60 60 60\n@ IN NS ns\nns IN A 127.0.0.1\n".into()
}

/// Outside its directory, which is another user's.
fn log_name(dir: &TempDir) -> String {
    let name = dir.path().file_name().unwrap_or_default().to_string_lossy();
    format!("{name}.log")
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// The server's key.
pub const SECRET: &str = "bGFiLWxhYi1sYWItbGFiLWxhYi1sYWItbGFiLWxhYiE=";
const NOBODY: u32 = 65_534;
