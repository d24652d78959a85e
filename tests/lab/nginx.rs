//! nginx in the foreground with a directory, a configuration and ports of its own.
//!
//! The program is `NGINX_BIN` (default: nginx in PATH), the module is the file
//! `CERT_AUTOFETCH_MODULE`.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use super::process::{Process, lives, send_signal, wait_for, wait_until};

/// The parts of a configuration; everything a test does not care about is filled in.
#[derive(Debug)]
pub struct Config {
    dir: TempDir,
    /// Loads the module under test.
    pub module: bool,
    pub user: String,
    pub workers: usize,
    /// One process does everything.
    pub single: bool,
    /// Of the error log.
    pub level: String,
    /// Main context, before `events`.
    pub main: String,
    pub events: String,
    /// The body of `http`; no `http` block if it is empty.
    pub http: String,
    /// Main context, after `http`: `stream { ... }`.
    pub extra: String,
    /// The environment of the master, besides PATH.
    pub env: Vec<(String, String)>,
}

/// A running nginx; a test that fails shows what the module told in it.
#[derive(Debug)]
pub struct Nginx {
    // First: it reads a file that ends with the configuration.
    _witness: Witness,
    process: Process,
    config: Config,
}

/// Shows what is of use in this error log when a test fails.
#[derive(Debug)]
struct Witness(PathBuf);

impl Config {
    pub fn new() -> Config {
        let dir = tempfile::Builder::new().prefix("lab-nginx").tempdir().expect("directory");
        // Workers of any user must reach what is in it.
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("chmod");
        Config {
            dir,
            module: true,
            user: "root".into(),
            workers: 1,
            single: false,
            level: "info".into(),
            main: String::new(),
            events: "worker_connections 512;".into(),
            http: String::new(),
            extra: String::new(),
            env: Vec::new(),
        }
    }

    pub fn http(mut self, body: impl Into<String>) -> Config {
        self.http = body.into();
        self
    }

    pub fn workers(mut self, count: usize) -> Config {
        self.workers = count;
        self
    }

    /// `master_process off`
    pub fn single(mut self) -> Config {
        self.single = true;
        self
    }

    pub fn level(mut self, level: &str) -> Config {
        self.level = level.into();
        self
    }

    pub fn without_module(mut self) -> Config {
        self.module = false;
        self
    }

    /// The prefix, where a test puts keystore, pages and key files; relative paths of the
    /// configuration start here.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// A place for the keystore; nothing is made there.
    pub fn keystore(&self) -> PathBuf {
        self.dir().join("keystore")
    }

    /// `nginx -t`: whether it accepts the configuration, and what it says.
    pub fn test(&self) -> (bool, String) {
        self.write();
        let output = self.command().arg("-t").output().expect("nginx -t");
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into())
    }

    /// Starts nginx and waits till its workers run.
    pub fn start(self) -> Nginx {
        self.write();
        let process = Process::start(self.command(), &self.dir().join("output.log"));
        let witness = Witness(self.dir().join("error.log"));
        let mut nginx = Nginx { _witness: witness, process, config: self };
        wait_until("workers of nginx", Duration::from_secs(20), || {
            if let Some(status) = nginx.process.exited() {
                panic!("nginx ended, {status}:\n{}{}", nginx.process.log(), nginx.error_log());
            }
            match nginx.config.single {
                true => nginx.dir().join("nginx.pid").exists(),
                false => nginx.worker_pids().len() >= nginx.config.workers,
            }
        });
        nginx
    }

    /// Starts nginx, which is to end by itself and in failure; what it said.
    pub fn start_in_vain(self, within: Duration) -> String {
        self.write();
        let log = self.dir().join("output.log");
        let mut process = Process::start(self.command(), &log);
        let status = wait_for("nginx to give up", within, || process.exited());
        assert!(!status.success(), "nginx ended in success");
        process.log()
    }

    fn write(&self) {
        fs::write(self.dir().join("nginx.conf"), self.text()).expect("write nginx.conf");
    }

    fn command(&self) -> Command {
        let mut command =
            Command::new(std::env::var("NGINX_BIN").unwrap_or_else(|_| "nginx".into()));
        command.arg("-p").arg(self.dir()).arg("-e").arg(self.dir().join("error.log"));
        command.arg("-c").arg(self.dir().join("nginx.conf"));
        command.env_clear().env("PATH", std::env::var("PATH").unwrap_or_default());
        command.envs(self.env.iter().map(|(k, v)| (k, v)));
        command
    }

    fn text(&self) -> String {
        let Config { user, workers, level, main, events, extra, .. } = self;
        let mut text = String::new();
        if self.single {
            text += "master_process off;\n";
        }
        if self.module {
            text += &format!("load_module {};\n", module());
        }
        text += &format!("daemon off;\nuser {user};\nworker_processes {workers};\n");
        text += &format!("pid nginx.pid;\nerror_log error.log {level};\n");
        text += &format!("{main}\nevents {{\n{events}\n}}\n");
        if !self.http.is_empty() {
            // Debian's nginx 1.22 leaves TLS 1.3 off.
            let tls = if self.http.contains("ssl_protocols") { "" } else { PROTOCOLS };
            text += &format!("http {{\naccess_log off;\n{TEMP_PATHS}{tls}{}\n}}\n", self.http);
        }
        text + extra + "\n"
    }
}

impl Nginx {
    pub fn dir(&self) -> &Path {
        self.config.dir()
    }

    pub fn keystore(&self) -> PathBuf {
        self.config.keystore()
    }

    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    pub fn signal(&self, signal: libc::c_int) {
        self.process.signal(signal);
    }

    /// Workers that take connections, oldest first; not those that are shutting down.
    pub fn worker_pids(&self) -> Vec<u32> {
        let mut pids = children(self.pid());
        if title(self.pid()).starts_with("nginx: ") {
            pids.retain(|pid| title(*pid) == "nginx: worker process");
        } else {
            // Under valgrind nobody can change his title; only the log tells (level notice).
            let log = self.error_log();
            pids.retain(|pid| log.contains(&format!("start worker process {pid}\n")));
            pids.retain(|pid| !log.contains(&format!(" {pid}#{pid}: gracefully shutting down")));
        }
        pids.sort_unstable();
        pids
    }

    /// All its processes but the master: also workers that are shutting down, cache manager and
    /// loader.
    pub fn child_pids(&self) -> Vec<u32> {
        children(self.pid())
    }

    /// Reads the same configuration again.
    pub fn reload(&self) {
        let old: BTreeSet<_> = self.child_pids().into_iter().collect();
        self.config.write();
        self.signal(libc::SIGHUP);
        wait_until("new workers", Duration::from_secs(20), || {
            let new = self.worker_pids();
            new.len() >= self.config.workers && new.iter().all(|p| !old.contains(p))
        });
    }

    /// Reads another configuration, which replaces only the body of `http`.
    pub fn reload_with(&mut self, http: impl Into<String>) {
        self.config.http = http.into();
        self.reload();
    }

    /// Writes another body of `http` and sends SIGHUP, and does not wait: for configurations that
    /// are refused.
    pub fn try_reload_with(&mut self, http: impl Into<String>) {
        self.config.http = http.into();
        self.config.write();
        self.signal(libc::SIGHUP);
    }

    /// SIGKILL to a worker; returns when nginx has started another.
    pub fn kill_worker(&self, pid: u32) {
        send_signal(pid, libc::SIGKILL);
        wait_until("another worker", Duration::from_secs(10), || {
            let pids = self.worker_pids();
            pids.len() >= self.config.workers && !pids.contains(&pid)
        });
    }

    /// SIGQUIT, and till all is over; how the master ended.
    pub fn quit(&mut self, within: Duration) -> std::process::ExitStatus {
        self.signal(libc::SIGQUIT);
        wait_for("nginx to quit", within, || self.process.exited())
    }

    /// SIGKILL to all of nginx at once; gives the configuration, directory and keystore for another
    /// start.
    pub fn kill(self) -> Config {
        let pids = self.child_pids();
        send_signal(self.pid(), libc::SIGKILL);
        pids.iter().for_each(|p| send_signal(*p, libc::SIGKILL));
        wait_until("the end of nginx", Duration::from_secs(10), || !pids.iter().any(|p| lives(*p)));
        self.config
    }

    /// SIGTERM; gives the configuration, directory and keystore for another start.
    pub fn stop(self) -> Config {
        self.config
    }

    pub fn error_log(&self) -> String {
        let bytes = fs::read(self.dir().join("error.log")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into()
    }

    /// The lines of the error log that have this in them.
    pub fn log_lines(&self, part: &str) -> Vec<String> {
        self.error_log().lines().filter(|l| l.contains(part)).map(str::to_owned).collect()
    }

    /// Waits till a worker has ended in good order (level notice).
    pub fn wait_exit(&self, worker: u32) {
        let line = format!("worker process {worker} exited with code 0");
        self.wait_log(&line, Duration::from_secs(15));
    }

    /// Panics if the log has what should never happen.
    pub fn check_log(&self) {
        for bad in ["exited on signal", "[alert]", "[emerg]", "[crit]", "panic", "open socket"] {
            let lines = self.log_lines(bad);
            assert!(lines.is_empty(), "{lines:#?}");
        }
    }

    /// The first such line, as soon as there is one.
    pub fn wait_log(&self, part: &str, within: Duration) -> String {
        wait_for(&format!("log line with {part:?}"), within, || {
            self.log_lines(part).into_iter().next()
        })
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = fs::read(&self.0).unwrap_or_default();
            let log = String::from_utf8_lossy(&log).into_owned();
            let serious = ["ssl_cert_autofetch", "[emerg]", "[alert]", "[crit]", "start worker"];
            let is_of_use = |line: &&str| serious.iter().any(|mark| line.contains(mark));
            log.lines().filter(is_of_use).for_each(|line| eprintln!("{line}"));
        }
    }
}

fn module() -> String {
    std::env::var("CERT_AUTOFETCH_MODULE")
        .expect("CERT_AUTOFETCH_MODULE is the absolute path of the module's .so")
}

/// The processes whose parent this is, whichever of its threads has made them.
pub fn children(parent: u32) -> Vec<u32> {
    let Ok(processes) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = processes.flatten().filter_map(|e| e.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // pid (comm) state ppid: the name may have spaces and parentheses in it.
        let rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        rest.split_whitespace().nth(1) == Some(&parent.to_string())
    })
    .collect()
}

/// What nginx calls the process.
fn title(pid: u32) -> String {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).trim_end_matches(['\0', ' ']).into()
}

const PROTOCOLS: &str = "ssl_protocols TLSv1.2 TLSv1.3;\n";
const TEMP_PATHS: &str = "client_body_temp_path temp_body;\nproxy_temp_path temp_proxy;\n\
fastcgi_temp_path temp_fastcgi;\nuwsgi_temp_path temp_uwsgi;\nscgi_temp_path temp_scgi;\n";
