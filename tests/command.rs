//! `protocol command` in nginx, whose workers reap every child: programs of all kinds as a CA.

mod lab;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use lab::process::{any_lives, send_signal};
use lab::*;

const WITHIN: Duration = Duration::from_secs(60);

/// nginx with one CA, which is a program.
struct Scene {
    nginx: Nginx,
    monitor: Monitor,
    tls: Port,
    responder: Responder,
    ca: OpensslCa,
    root: Identity,
}

/// What is not started yet.
struct Draft {
    config: Config,
    ca: OpensslCa,
    root: Identity,
}

impl Draft {
    fn new() -> Draft {
        let (root, ca) = OpensslCa::with_root();
        Draft { config: Config::new(), ca, root }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.config.dir().join(name)
    }

    /// A script of these lines; `$DIR` in it is nginx's folder.
    fn script(&self, lines: &str) -> String {
        let path = self.path("issue");
        command::script(&path, &format!("DIR={}\n{lines}", self.config.dir().display()));
        path.display().to_string()
    }

    /// What issues at last, in a script.
    fn issue(&self) -> String {
        let example = concat!(env!("CARGO_MANIFEST_DIR"), "/nginx-conf/openssl-ca.sh");
        format!("{example} {}", self.ca.arguments())
    }

    /// Each of `names` is an entry.
    fn start(self, command: &str, lines: &str, names: &[String]) -> Scene {
        let (tls, status) = (Port::reserve(), Port::reserve());
        let issuer = self.ca.issuer().clone();
        let responder = Responder::start(Port::reserve(), issuer, Source::Own);
        let server = |name: &String| {
            format!("server {{ listen {} ssl; server_name {name}; return 200; }}\n", tls.addr())
        };
        let body = format!(
            "ssl_cert_autofetch_keystore {};
             ssl_cert_autofetch_check_interval 0;
             ssl_cert_autofetch_timeout 30s;
             ssl_cert_autofetch_ca corp {{
                 protocol command; command {command}; ocsp_responder {}; {lines}
             }}
             ssl_cert_autofetch corp;
             {}
             server {{ listen {}; {LOCATIONS} }}",
            self.config.keystore().display(),
            responder.url(),
            names.iter().map(server).collect::<String>(),
            status.addr()
        );
        let monitor = Monitor::at(&status);
        let nginx = self.config.http(body).start();
        Scene { nginx, monitor, tls, responder, ca: self.ca, root: self.root }
    }
}

impl Scene {
    fn client(&self, name: &str) -> Client {
        Client::new(self.tls.number()).sni(name).trust(self.root.cert_pem())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.nginx.dir().join(name)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    fn wait_file(&self, name: &str) -> String {
        wait_for(name, WITHIN, || Some(self.read(name)).filter(|text| text.ends_with('\n')))
    }

    fn worker(&self) -> u32 {
        self.nginx.worker_pids()[0]
    }

    fn restart(self) -> Scene {
        Scene { nginx: self.nginx.stop().start(), ..self }
    }
}

fn one() -> Vec<String> {
    vec!["a.test".into()]
}

/// The example that is shipped, with a real `openssl ca`.
#[test]
#[ignore = "needs nginx and the module: scripts/test.sh"]
fn a_revoked_certificate_is_replaced_in_the_handshake() {
    let draft = Draft::new();
    let issue = draft.issue();
    let scene = draft.start(&issue, "", &["a.test b.test".into()]);
    let old = scene.monitor.wait_valid("a.test");
    let served = scene.client("b.test").connect().expect("handshake");
    assert_eq!((&served.serial, served.chain.len()), (&old, 2));
    scene.responder.set_status(&old, Status::Revoked { reason: Some(4), at: clock::now() });
    let new = scene.client("a.test").connect().expect("handshake").serial;
    assert_ne!(new, old);
    assert_eq!(scene.ca.issued(), 2);
    let line = format!("replaced serial={old} by serial={new} from \"corp\"");
    scene.nginx.wait_log(&line, WITHIN);
    // What openssl says is in the log.
    let said = scene.nginx.log_lines("Write out database with 1 new entries");
    assert_eq!(said.len(), 2, "{said:#?}");
    assert!(said[0].contains("[notice]") && said[0].contains("openssl-ca.sh: "), "{said:#?}");
    scene.nginx.check_log();
}

#[test]
#[ignore = "needs nginx and the module: scripts/test.sh"]
fn a_program_is_told_what_is_wanted() {
    let draft = Draft::new();
    let issue = draft.issue();
    let script = draft.script(&format!(
        "echo \"$NAME|$NAMES|$REASON|${{SERIAL-none}}|$CA|$*\" >>$DIR/asked; exec {issue}"
    ));
    let scene = draft.start(&format!("{script} --x 'a b' '$(y)'"), "", &["a.test b.test".into()]);
    let old = scene.monitor.wait_valid("a.test");
    let first = "a.test|a.test,b.test|missing|none|corp|--x a b $(y)\n";
    assert_eq!(scene.read("asked"), first);
    scene.responder.set_status(&old, Status::Revoked { reason: Some(1), at: clock::now() });
    scene.client("a.test").connect().expect("handshake");
    let second = format!("a.test|a.test,b.test|keyCompromise|{old}|corp|--x a b $(y)\n");
    assert_eq!(scene.read("asked"), format!("{first}{second}"));
}

/// An order that somebody has to approve: it lives through a restart, and the key with it.
#[test]
#[ignore = "needs nginx and the module: scripts/test.sh"]
fn a_pending_order_is_taken_up_after_a_restart() {
    let draft = Draft::new();
    let issue = draft.issue();
    let script = draft.script(&format!(
        "umask 077; cat >$DIR/csr.$$; echo $$ >>$DIR/asked
         if [ -e $DIR/approved ]; then exec {issue} <$DIR/csr.$$; fi
         echo 'Retry-After: 3000'; exit 75"
    ));
    let scene = draft.start(&script, "", &one());
    let line = scene.nginx.wait_log("\"corp\": the order is still pending", WITHIN);
    assert!(line.ends_with("next attempt in 3000 s"), "{line}");
    fs::write(scene.path("approved"), "").expect("write");
    let scene = scene.restart();
    let serial = scene.monitor.wait_valid("a.test");
    assert_eq!(scene.client("a.test").connect().expect("handshake").serial, serial);
    let asked = scene.read("asked");
    let csrs: Vec<String> = asked.lines().map(|pid| scene.read(&format!("csr.{pid}"))).collect();
    assert!(csrs.len() == 2 && csrs[0] == csrs[1] && csrs[0].contains("REQUEST"), "{csrs:#?}");
    assert_eq!(scene.ca.issued(), 1);
}

/// A short wait is one within the handshake.
#[test]
#[ignore = "needs nginx and the module: scripts/test.sh"]
fn a_handshake_waits_for_what_is_soon_ready() {
    let draft = Draft::new();
    let issue = draft.issue();
    let script = draft.script(&format!(
        "echo . >>$DIR/asked; [ $(wc -l <$DIR/asked) -gt 2 ] && exec {issue}
         echo 'Retry-After: 1'; exit 75"
    ));
    let scene = draft.start(&script, "", &one());
    let served = scene.client("a.test").connect().expect("handshake");
    assert_eq!(scene.read("asked"), ".\n".repeat(3));
    assert_eq!(scene.monitor.wait_valid("a.test"), served.serial);
    assert_eq!(scene.nginx.log_lines("ISSUE failed"), Vec::<String>::new());
}

#[test]
#[ignore = "needs nginx and the module: scripts/test.sh"]
fn a_failure_is_told_with_its_last_words() {
    let draft = Draft::new();
    let script = draft.script("echo one >&2; printf 'no more\\033[0m today' >&2; exit 9");
    let scene = draft.start(&script, "", &one());
    let start = format!("\"a.test\": ISSUE failed: \"corp\": command: \"{script}\" exited");
    let line = scene.nginx.wait_log(&start, WITHIN);
    assert!(line.contains("[warn]"), "{line}");
    assert!(line.contains("exited with status 9: no more [0m today, next attempt in "), "{line}");
    let said = format!("[notice] ssl_cert_autofetch: \"a.test\": {script}: ");
    let lines = scene.nginx.log_lines(&format!("\"a.test\": {script}: "));
    let lines: Vec<_> = lines.iter().map(|l| site::without_origin(l)).collect();
    assert_eq!(lines[..2], [format!("{said}one"), format!("{said}no more [0m today")]);
    assert_eq!(scene.monitor.state("a.test"), "pending");
}

#[test]
#[ignore = "needs nginx and the module: scripts/test.sh"]
fn the_time_limit_ends_the_program() {
    let draft = Draft::new();
    let script = draft.script("sleep 1000 & echo $$ $! >$DIR/pids; sleep 1000");
    let scene = draft.start(&script, "timeout 2s;", &one());
    let line = scene.nginx.wait_log("ISSUE failed", WITHIN);
    assert!(line.contains("timed out after 2 s, see \"timeout\""), "{line}");
    let pids = scene.wait_file("pids");
    wait_until("the end of the program", WITHIN, || !any_lives(&pids));
    scene.nginx.check_log();
}

/// nginx -t, which root runs, can't know.
#[test]
#[ignore = "needs nginx and the module: scripts/test.sh"]
fn a_program_that_workers_may_not_run() {
    let mut draft = Draft::new();
    draft.config.user = "www-data".into();
    let script = draft.script("exit 0");
    fs::set_permissions(&script, fs::Permissions::from_mode(0o700)).expect("chmod");
    let scene = draft.start(&script, "", &one());
    let line = scene.nginx.wait_log("ISSUE failed", WITHIN);
    let cause = format!("command: \"{script}\" can't be started: Permission denied");
    assert!(line.contains(&cause) && line.contains("see \"command\""), "{line}");
}

/// Nobody is left who would look after it.
#[test]
#[ignore = "needs nginx and the module: scripts/test.sh"]
fn a_program_ends_with_its_worker() {
    for (stubborn, signal) in [("", libc::SIGTERM), ("trap '' TERM;", libc::SIGKILL)] {
        let draft = Draft::new();
        let script = format!("{stubborn} sleep 1000 & echo $$ $! >$DIR/pids; wait; sleep 1000");
        let script = draft.script(&script);
        let scene = draft.start(&script, "timeout 1h;", &one());
        let pids = scene.wait_file("pids");
        assert!(any_lives(&pids));
        command::script(&scene.path("issue"), "exit 1");
        send_signal(scene.worker(), signal);
        wait_until("the end of the program", WITHIN, || !any_lives(&pids));
    }
}

/// The descriptors of clients, of listening sockets, and of the module.
#[test]
#[ignore = "needs nginx and the module: scripts/test.sh"]
fn a_program_inherits_nothing() {
    let draft = Draft::new();
    let issue = draft.issue();
    let script = draft.script(&format!(
        "grep -E '^(Sig|Umask)' /proc/self/status >$DIR/signals; ls /proc/self/fd >$DIR/fds; exec {issue}"
    ));
    let scene = draft.start(&script, "", &one());
    let old = scene.monitor.wait_valid("a.test");
    scene.responder.set_status(&old, Status::Revoked { reason: None, at: clock::now() });
    // While this one is held the program runs.
    scene.client("a.test").connect().expect("handshake");
    assert_eq!(scene.read("fds"), "0\n1\n2\n3\n", "3 is the folder that is listed");
    let signals = scene.read("signals");
    assert!(signals.contains("Umask:\t0077\n"), "{signals}");
    let set = |name: &str| {
        let line = signals.lines().find_map(|l| l.strip_prefix(name)).expect("a set");
        u64::from_str_radix(line.trim(), 16).expect("digits")
    };
    assert_eq!(set("SigBlk:"), 0, "{signals}");
    let term = 1 << (libc::SIGTERM - 1) | 1 << (libc::SIGPIPE - 1) | 1 << (libc::SIGCHLD - 1);
    assert_eq!(set("SigIgn:") & term, 0, "{signals}");
}

/// What std::process can't do here: each worker reaps whatever ends.
#[test]
#[ignore = "needs nginx and the module: scripts/test.sh"]
fn no_status_is_lost_in_200_runs() {
    let names: Vec<String> = (0..200).map(|n| format!("n{n}.test")).collect();
    let status = |n: usize| 1 + n % 70;
    let draft = Draft::new();
    let script = draft.script("n=${NAME#n}; n=${n%.test}; cat >/dev/null; exit $((1 + n % 70))");
    let scene = draft.start(&script, "", &names);
    let worker = scene.worker();
    wait_until("200 failures", Duration::from_secs(240), || {
        names.iter().enumerate().all(|(n, name)| {
            let part = format!("\"{name}\": ISSUE failed");
            let Some(line) = scene.nginx.log_lines(&part).into_iter().next() else { return false };
            let ending = format!("exited with status {}, next attempt in ", status(n));
            assert!(line.contains(&ending), "{line}");
            true
        })
    });
    assert_eq!(scene.worker(), worker, "it is the same worker");
    // Further attempts come and go: in between nothing is left of them.
    let open = || fs::read_dir(format!("/proc/{worker}/fd")).expect("fds").flatten();
    let is_pipe = |path: PathBuf| fs::read_link(path).is_ok_and(|l| l.starts_with("pipe:"));
    wait_until("all pipes to be closed", WITHIN, || !open().any(|fd| is_pipe(fd.path())));
    wait_until("all children to be gone", WITHIN, || nginx::children(worker).is_empty());
    scene.nginx.check_log();
}

#[test]
#[ignore = "needs nginx and the module: scripts/test.sh"]
fn nginx_t_looks_at_the_program() {
    let config = Config::new();
    let data = config.dir().join("data");
    fs::write(&data, "").expect("write");
    let data = data.display().to_string();
    let absolute = "it must be the absolute path of a program, and its arguments";
    let table = [
        ("/bin/sh -c 'exit 1'", ""),
        ("issue", &format!("invalid value \"issue\" in \"command\", {absolute}")),
        (
            "/none/issue",
            "cannot use \"/none/issue\" in \"command\": No such file or directory (os error 2), \
             it must be an executable file",
        ),
        (
            &data,
            &format!(
                "cannot use \"{data}\" in \"command\": it can't be executed, it must be an \
                 executable file"
            ),
        ),
        (
            "/bin/sh; url https://ca.test/",
            "\"url\" in ssl_cert_autofetch_ca \"corp\" is of protocol",
        ),
    ];
    let mut config = config;
    for (command, expected) in table {
        config.http =
            format!("ssl_cert_autofetch_ca corp {{ protocol command; command {command}; }}");
        let (good, said) = config.test();
        assert_eq!(good, expected.is_empty(), "{command}: {said}");
        assert!(said.contains(expected), "{command}: {said}");
    }
}
