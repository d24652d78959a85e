//! Programs that tests run once: clients that others wrote, curl and openssl, and scripts.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

/// How a program ended and what it said.
#[derive(Debug)]
pub struct Ended {
    pub ok: bool,
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// `curl https://NAME:PORT/` by way of 127.0.0.1, trusting only `roots`; the body is in `stdout`.
pub fn curl(name: &str, port: u16, roots: &Path, args: &[&str]) -> Ended {
    curl_of("curl", name, port, roots, args)
}

/// [`curl`] by another program of this name.
pub fn curl_of(program: &str, name: &str, port: u16, roots: &Path, args: &[&str]) -> Ended {
    let mut command = Command::new(program);
    // -q: no .curlrc; the variables would add to what is trusted.
    command.args(["-q", "-sS", "--noproxy", "*", "--max-time", "60", "--cacert"]).arg(roots);
    command.arg("--resolve").arg(format!("{name}:{port}:127.0.0.1")).args(args);
    command.arg(format!("https://{name}:{port}/"));
    run(command)
}

/// `openssl s_client -status` without input; the certificate and the staple are in `stdout`.
pub fn s_client(name: &str, port: u16, roots: &Path, args: &[&str]) -> Ended {
    let mut command = Command::new("openssl");
    command.args(["s_client", "-connect", &format!("127.0.0.1:{port}"), "-servername", name]);
    command.args(["-verify_hostname", name, "-verify_return_error", "-status", "-CAfile"]);
    command.arg(roots).args(args);
    run(command)
}

/// `openssl ARGS`
pub fn openssl(args: &[&str]) -> Ended {
    let mut command = Command::new("openssl");
    command.args(args);
    run(command)
}

/// Writes a program of these lines.
pub fn script(path: &Path, lines: &str) {
    fs::write(path, format!("#!/bin/sh\n{lines}\n")).expect("write");
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("chmod");
}

pub fn run(mut command: Command) -> Ended {
    for variable in ["CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR"] {
        command.env_remove(variable);
    }
    let name = format!("{command:?}");
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|e| panic!("{name}: {e}"));
    Ended {
        ok: output.status.success(),
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into(),
        stderr: String::from_utf8_lossy(&output.stderr).into(),
    }
}
