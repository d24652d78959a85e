//! tinyproxy, an http proxy: tunnels for https, requests in the absolute form for http.

use std::fs;
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use super::ports::Port;
use super::process::{Process, wait_until};

/// A running proxy on loopback.
pub struct Proxy {
    dir: TempDir,
    port: Port,
    user: String,
    process: Option<Process>,
}

impl Proxy {
    /// For who knows this, `USER:PASSWORD`.
    pub fn demanding(user: &str) -> Proxy {
        let dir = tempfile::Builder::new().prefix("lab-proxy").tempdir().expect("directory");
        let mut proxy = Proxy { dir, port: Port::reserve(), user: user.into(), process: None };
        proxy.up();
        proxy
    }

    pub fn address(&self) -> String {
        self.port.addr().to_string()
    }

    /// The `proxy` line for this user, if any.
    pub fn line(&self, user: &str) -> String {
        let at = if user.is_empty() { "" } else { "@" };
        format!("proxy http://{user}{at}{};", self.address())
    }

    /// The lines of requests that it took, such as `CONNECT ca.example:443 HTTP/1.1`.
    pub fn requests(&self) -> Vec<String> {
        let log = fs::read_to_string(self.dir.path().join("access.log")).unwrap_or_default();
        let request = |line: &str| {
            let (before, request) = line.split_once("): ")?;
            before.contains("Request (file descriptor").then(|| request.trim().to_owned())
        };
        log.lines().filter_map(request).collect()
    }

    /// Whether there was such a request; `start` is its method and the start of its target.
    pub fn took(&self, start: &str) -> bool {
        self.requests().iter().any(|request| request.starts_with(start))
    }

    /// Connections are refused till [`Proxy::up`].
    pub fn down(&mut self) {
        self.process = None;
    }

    pub fn up(&mut self) {
        let path = |name: &str| self.dir.path().join(name);
        let (user, password) = self.user.split_once(':').expect("USER:PASSWORD");
        let (port, log) = (&self.port, path("access.log"));
        let text = format!(
            "Port {port}\nListen 127.0.0.1\nAllow 127.0.0.1\nTimeout 60\nMaxClients 100\n\
             LogLevel Connect\nLogFile \"{}\"\nBasicAuth {user} {password}\n",
            log.display()
        );
        fs::write(path("proxy.conf"), text).expect("write");
        let mut command = Command::new("tinyproxy");
        command.arg("-d").arg("-c").arg(path("proxy.conf"));
        self.process = Some(Process::start(command, &path("proxy.log")));
        let addr = self.port.addr();
        wait_until("tinyproxy", Duration::from_secs(30), || {
            std::net::TcpStream::connect(addr).is_ok()
        });
    }
}
