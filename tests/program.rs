//! The runner of programs, with real ones and the real clock. What nginx adds is in tests/command.rs.

mod lab;

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cert_autofetch::clock::SystemClock;
use cert_autofetch::program::{Program, ProgramError, Programs, Supervised};
use cert_autofetch::report::Event;
use lab::wait_until;
use tempfile::TempDir;

/// Longer than any of these programs takes on a busy machine.
const LONG: Duration = Duration::from_secs(60);

struct Stage {
    dir: TempDir,
    runner: Supervised,
    said: Arc<Mutex<Vec<String>>>,
}

/// Every child is reaped before anybody can wait for it: what happens to half of them in nginx.
fn reap_all() {
    extern "C" fn handler(_: libc::c_int) {}
    // SAFETY: zeros are a valid sigaction, and the handler does nothing. exec() forgets both.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler as extern "C" fn(libc::c_int) as usize;
        action.sa_flags = libc::SA_NOCLDWAIT | libc::SA_RESTART;
        libc::sigaction(libc::SIGCHLD, &raw const action, std::ptr::null_mut());
    }
}

impl Stage {
    fn new() -> Stage {
        Stage::with(|_| {})
    }

    /// `prepare` is for the supervisor's process.
    fn with(prepare: impl Fn(&mut Command) + Send + Sync + 'static) -> Stage {
        reap_all();
        let said = Arc::<Mutex<Vec<String>>>::default();
        let log = Arc::clone(&said);
        let tell = move |event: Event| log.lock().unwrap().push(event.to_string());
        let runner = Supervised::new(Arc::new(SystemClock), prepare, tell);
        Stage { dir: tempfile::tempdir().unwrap(), runner, said }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Runs a script with `a b` and `$x` as its arguments.
    fn run(&self, script: &str, stdin: &[u8], timeout: Duration) -> Result<Vec<u8>, ProgramError> {
        let path = self.path("program");
        let _ = fs::remove_file(&path);
        lab::command::script(&path, script);
        self.run_file(&path, stdin, timeout)
    }

    fn run_file(
        &self,
        path: &Path,
        stdin: &[u8],
        timeout: Duration,
    ) -> Result<Vec<u8>, ProgramError> {
        let command = [path.to_str().unwrap(), "a b", "$x"].map(String::from);
        let environment = [("NAME", "a.example".to_owned()), ("X", "y z".to_owned())];
        self.runner.run(&Program {
            command: &command,
            environment: &environment,
            stdin,
            limit: 1 << 20,
            timeout,
        })
    }

    fn said(&self) -> Vec<String> {
        let prefix = format!("\"a.example\": {}: ", self.path("program").display());
        let lines = std::mem::take(&mut *self.said.lock().unwrap());
        lines.iter().map(|l| l.strip_prefix(&prefix).unwrap_or(l).to_owned()).collect()
    }
}

fn told(result: Result<Vec<u8>, ProgramError>) -> String {
    match result {
        Ok(output) => String::from_utf8_lossy(&output).into(),
        Err(error) => format!("! {error}"),
    }
}

#[test]
fn how_programs_end() {
    let stage = Stage::new();
    let table: &[(&str, &str)] = &[
        ("exit 0", ""),
        ("echo out; echo err >&2", "out\n"),
        ("printf %s \"$1|$2|$#\"", "a b|$x|2"),
        (
            "printf %s \"$NAME|$X|$HOME|$PATH\"",
            "a.example|y z||/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        ),
        ("pwd", "/\n"),
        ("cat; cat /dev/stdin", "input"),
        ("echo out >/dev/stdout; echo err >/dev/stderr", "out\n"),
        ("exit 3", "! exited with status 3"),
        (
            "echo one >&2; echo >&2; printf 'the last' >&2; exit 75",
            "! exited with status 75: the last",
        ),
        ("kill -9 $$", "! killed by signal 9"),
        ("kill -TERM $$", "! killed by signal 15"),
        ("exec /nowhere/x", "! exited with status 127: /nowhere/x: not found"),
        ("head -c 2000000 /dev/zero", "! output is larger than 1048576 bytes"),
        ("echo early; (sleep 300; echo late) & exit 0", "early\n"),
        ("exec >&- 2>&- <&-; exit 4", "! exited with status 4"),
    ];
    for (script, expected) in table {
        let got = told(stage.run(script, b"input", LONG));
        let got = match got.split_once(": ") {
            // Each shell has words of its own before these.
            Some((status, text)) if text.ends_with("not found") => {
                format!("{status}: /nowhere/x: not found")
            }
            _ => got,
        };
        assert_eq!(got, *expected, "{script}");
    }
}

#[test]
fn what_a_failed_one_wrote_is_kept() {
    let result = Stage::new().run("echo Retry-After: 5; exit 75", b"", LONG);
    match result {
        Err(ProgramError::Failed { status: 75, stdout, .. }) => {
            assert_eq!(stdout, b"Retry-After: 5\n");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_can_not_be_started() {
    let stage = Stage::new();
    let file = stage.path("data");
    fs::write(&file, "x").unwrap();
    for path in [stage.path("none"), file] {
        let error = stage.run_file(&path, b"", LONG).unwrap_err();
        assert!(matches!(error, ProgramError::NotStarted(_)), "{error}");
    }
    let nothing = Program { command: &[], environment: &[], stdin: b"", limit: 1, timeout: LONG };
    assert!(matches!(stage.runner.run(&nothing), Err(ProgramError::NotStarted(_))));
    assert_eq!(stage.said(), [""; 0]);
}

/// std asserts then that it can wait for the child.
#[test]
fn a_supervisor_that_can_not_be_started_is_no_panic() {
    let refuse = || Err(std::io::Error::from_raw_os_error(libc::EPERM));
    // SAFETY: it makes a number an error, no more.
    let stage = Stage::with(move |command| unsafe {
        command.pre_exec(refuse);
    });
    let error = stage.run("exit 0", b"", LONG).unwrap_err();
    assert_eq!(error.to_string(), "can't be started: /bin/sh can't be executed");
}

/// Both directions are larger than any pipe; and nobody has to read what he is told.
#[test]
fn no_pipe_waits_for_another() {
    let stage = Stage::new();
    let input: Vec<u8> = (0..1_000_000_u32).map(|n| (n % 251) as u8).collect();
    let noisy = "head -c 300000 /dev/zero >&2; exec cat";
    assert_eq!(stage.run(noisy, &input, LONG).unwrap(), input);
    assert_eq!(told(stage.run("echo deaf", &input, LONG)), "deaf\n");
}

#[test]
fn standard_error_is_told_by_line() {
    let stage = Stage::new();
    stage.run("printf 'one\\n\\n  two \\r\\n\\033[1mthree' >&2", b"", LONG).unwrap();
    assert_eq!(stage.said(), ["one", "two", "[1mthree"]);
    stage.run("seq 20 >&2", b"", LONG).unwrap();
    assert_eq!(stage.said(), (1..=20).map(|n| n.to_string()).collect::<Vec<_>>());
    stage.run("seq 500 >&2", b"", LONG).unwrap();
    let said = stage.said();
    assert_eq!((said.len(), said[18].as_str()), (20, "19"));
    assert_eq!(said[19], "(480 lines left out) 500");
    stage
        .run("head -c 100000 /dev/zero | tr '\\0' x >&2; echo >&2; echo y >&2", b"", LONG)
        .unwrap();
    assert_eq!(stage.said(), ["x".repeat(256), "y".into()]);
}

/// `$1` of the script is where it writes its pid and that of its child.
fn is_over(pids: &Path) -> bool {
    let text = fs::read_to_string(pids).unwrap();
    assert_eq!(text.split_whitespace().count(), 2, "{text}");
    !lab::process::any_lives(&text)
}

#[test]
fn the_time_limit_ends_all_of_it() {
    for stubborn in ["", "trap '' TERM;"] {
        let stage = Stage::new();
        let pids = stage.path("pids");
        let script = format!(
            "{stubborn} sleep 300 & echo $$ $! >{}; echo begun >&2; wait; sleep 300",
            pids.display()
        );
        let result = stage.run(&script, b"", Duration::from_secs(5));
        assert_eq!(told(result), "! timed out", "{stubborn}");
        assert_eq!(stage.said()[0], "begun");
        wait_until("the end of all of it", LONG, || is_over(&pids));
    }
}

/// It may have something to tidy up, which a second one would cut short.
#[test]
fn the_program_gets_one_signal() {
    let stage = Stage::new();
    let path = stage.path("signals").display().to_string();
    let script = format!(
        "trap 'echo TERM >>{path}' TERM; (trap '' TERM; exec sleep 1000) & while :; do wait; done"
    );
    let result = stage.run(&script, b"", Duration::from_secs(5));
    assert_eq!(told(result), "! timed out");
    assert_eq!(fs::read_to_string(path).unwrap(), "TERM\n");
}

/// Its supervisor is killed by somebody: no status will ever come.
#[test]
fn a_supervisor_that_dies_is_not_waited_for_beyond_the_limit() {
    let stage = Stage::new();
    let result = stage.run("kill -KILL $PPID; exit 0", b"", LONG);
    assert!(matches!(result, Err(ProgramError::Killed(9))), "{result:?}");
    let result = stage.run("kill -KILL $PPID; exec sleep 300", b"", Duration::from_secs(5));
    assert!(matches!(result, Err(ProgramError::Timeout)), "{result:?}");
}
