//! Clients of HTTP/3 that others wrote: aioquic, and a curl that has it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use super::command::{self, Ended};

/// Asks for `/` of a server on this loopback port.
pub struct QuicClient {
    name: String,
    port: u16,
    roots: PathBuf,
    dir: TempDir,
}

/// What an answer came with.
#[derive(Debug)]
pub struct QuicAnswer {
    pub status: u64,
    pub body: String,
    /// Of the certificate; None in a resumed session, where none is sent.
    pub serial: Option<String>,
    pub resumed: bool,
    /// The request went with the first flight, and was taken.
    pub early_data: bool,
    /// Of the handshake.
    pub took: Duration,
}

/// A connection that ended before the answer.
#[derive(Debug)]
pub struct QuicRefusal {
    /// Of QUIC (RFC 9000, section 20.1).
    pub error: u64,
    pub reason: String,
    /// From the first byte on.
    pub took: Duration,
}

impl QuicRefusal {
    /// The TLS alert that is in the error (RFC 9001, section 4.8).
    pub fn alert(&self) -> Option<u8> {
        u8::try_from(self.error.checked_sub(0x100)?).ok()
    }
}

impl QuicClient {
    /// `roots` is PEM.
    pub fn new(name: &str, port: u16, roots: &[u8]) -> QuicClient {
        let dir = tempfile::Builder::new().prefix("lab-quic").tempdir().expect("directory");
        let file = dir.path().join("roots.pem");
        std::fs::write(&file, roots).expect("write");
        QuicClient { name: name.into(), port, roots: file, dir }
    }

    /// A connection that knows nothing of earlier ones.
    pub fn get(&self) -> Result<QuicAnswer, QuicRefusal> {
        self.run(None)
    }

    /// With the session of the last call, if there is one; the newest is kept.
    pub fn resume(&self) -> Result<QuicAnswer, QuicRefusal> {
        self.run(Some(&self.dir.path().join("session")))
    }

    fn run(&self, session: Option<&Path>) -> Result<QuicAnswer, QuicRefusal> {
        let python = std::env::var("CERT_AUTOFETCH_PYTHON").expect("CERT_AUTOFETCH_PYTHON");
        let mut command = Command::new(python);
        command.arg(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/lab/quic.py"));
        command.arg(&self.name).arg(self.port.to_string()).arg(&self.roots).args(session);
        let ended = command::run(command);
        assert!(ended.ok, "quic.py: {}{}", ended.stdout, ended.stderr);
        let seen: Value = serde_json::from_str(&ended.stdout).expect("JSON");
        let took = Duration::from_secs_f64(seen["seconds"].as_f64().expect("seconds"));
        // An end without error, after the answer, is none.
        match (seen["status"].as_u64(), seen["error"].as_u64()) {
            (Some(status), _) => Ok(QuicAnswer {
                status,
                body: seen["body"].as_str().unwrap_or_default().into(),
                serial: seen["serial"].as_str().map(str::to_owned),
                resumed: seen["resumed"] == true,
                early_data: seen["early_data"] == true,
                took,
            }),
            (None, Some(error)) => Err(QuicRefusal {
                error,
                reason: seen["reason"].as_str().unwrap_or_default().into(),
                took,
            }),
            (None, None) => panic!("neither answer nor end: {seen}"),
        }
    }
}

/// `curl --http3 --cert-status` of `/`: QUIC and, where that fails, TCP; it insists on a staple that
/// says good. The version it got is the last word of `stdout`. The program is
/// `CERT_AUTOFETCH_CURL_HTTP3`, which sees what is in `roots`.
pub fn curl(name: &str, port: u16, roots: &Path) -> Ended {
    let program = std::env::var("CERT_AUTOFETCH_CURL_HTTP3").expect("CERT_AUTOFETCH_CURL_HTTP3");
    let args = ["--http3", "--cert-status", "-w", " %{http_version}"];
    command::curl_of(&program, name, port, roots, &args)
}
