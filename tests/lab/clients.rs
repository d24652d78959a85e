//! Clients that others wrote and that refuse a server for what it staples, or does not: curl,
//! gnutls-cli and Java.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use super::command::{self, Ended};
use super::process::{Process, wait_for};

/// Nothing: accepted. Otherwise why not, in the client's words.
pub type Verdict = Result<(), String>;

/// `curl --cert-status`: it insists on a staple that says good.
pub fn curl(name: &str, port: u16, roots: &Path) -> Verdict {
    verdict(command::curl(name, port, roots, &["--cert-status"]))
}

/// It insists on a staple where the certificate does (RFC 7633), and refuses a revoked one.
pub fn gnutls(name: &str, port: u16, roots: &Path) -> Verdict {
    let mut command = Command::new("gnutls-cli");
    command.arg("--x509cafile").arg(roots).args(["--port", &port.to_string()]);
    command.args(["--sni-hostname", name, "--verify-hostname", name, "127.0.0.1"]);
    verdict(command::run(command))
}

/// It insists on a staple that says good, or an answer from the network.
pub fn java(name: &str, port: u16, roots: &Path) -> Verdict {
    let ended = command::run(java_command(name, port, roots));
    assert!(ended.ok, "java: {}{}", ended.stdout, ended.stderr);
    let mut verdicts = verdicts(&ended.stdout);
    assert_eq!(verdicts.len(), 1, "{}", ended.stdout);
    verdicts.remove(0)
}

/// [`java`] again and again in one process, until it is told to end.
pub struct JavaLoop {
    process: Process,
    dir: TempDir,
}

impl JavaLoop {
    pub fn start(name: &str, port: u16, roots: &Path) -> JavaLoop {
        let dir = tempfile::Builder::new().prefix("lab-java").tempdir().expect("directory");
        let mut command = java_command(name, port, roots);
        command.arg(dir.path().join("end"));
        JavaLoop { process: Process::start(command, &dir.path().join("java.log")), dir }
    }

    /// Those of now.
    pub fn verdicts(&mut self) -> Vec<Verdict> {
        if self.process.exited().is_some_and(|status| !status.success()) {
            panic!("java ended: {}", self.process.log());
        }
        verdicts(&self.process.log())
    }

    /// All of them, after the one under way.
    pub fn end(mut self) -> Vec<Verdict> {
        std::fs::write(self.dir.path().join("end"), "").expect("write");
        wait_for("java to end", Duration::from_secs(70), || self.process.exited());
        self.verdicts()
    }
}

fn java_command(name: &str, port: u16, roots: &Path) -> Command {
    let mut command = Command::new("java");
    // Started often and for a short while.
    command.args(["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xmx128m"]);
    command.arg("-Djdk.tls.client.enableStatusRequestExtension=true");
    command.arg(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/lab/Client.java"));
    command.arg(name).arg(port.to_string()).arg(roots);
    command
}

fn verdicts(output: &str) -> Vec<Verdict> {
    let verdict = |line: &str| match line.split_once(' ') {
        Some(("accepted", _)) => Some(Ok(())),
        Some(("refused", why)) => Some(Err(why.into())),
        _ => None,
    };
    output.lines().filter_map(verdict).collect()
}

fn verdict(ended: Ended) -> Verdict {
    if ended.ok {
        Ok(())
    } else {
        Err(format!("{:?} {}{}", ended.code, ended.stderr, ended.stdout))
    }
}
