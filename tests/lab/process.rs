//! Child processes that cannot outlive the test.
//!
//! A [`Process`] leads a process group of its own; dropping the guard ends the whole group. If the
//! test process itself is killed, the kernel sends the leader SIGTERM (PR_SET_PDEATHSIG).

use std::fs::File;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

/// A running program; its output goes to a file.
#[derive(Debug)]
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command` with standard output and error in `log`.
    pub fn start(mut command: Command, log: &Path) -> Process {
        let file = File::options().create(true).append(true).open(log).expect("log file");
        let copy = file.try_clone().expect("log file");
        command.stdin(Stdio::null()).stdout(file).stderr(copy).process_group(0);
        let name = format!("{command:?}");
        let child = spawn(command).unwrap_or_else(|e| panic!("{name} failed: {e}"));
        Process { child, log: log.to_owned() }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn log(&self) -> String {
        std::fs::read(&self.log).map(|b| String::from_utf8_lossy(&b).into()).unwrap_or_default()
    }

    pub fn signal(&self, signal: libc::c_int) {
        send_signal(self.pid(), signal);
    }

    /// Stops it until SIGCONT. When this returns no thread of it runs any more: kill() is over
    /// before a thread on another processor has taken the signal.
    pub fn stop(&self) {
        self.signal(libc::SIGSTOP);
        wait_until("every thread to stop", Duration::from_secs(10), || is_stopped(self.pid()));
    }

    /// How it ended, if it has.
    pub fn exited(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("waitpid()")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let group = -(self.pid() as libc::pid_t);
        self.signal(libc::SIGTERM);
        self.signal(libc::SIGCONT);
        let deadline = Instant::now() + Duration::from_secs(2);
        while !has_ended(self.pid()) && Instant::now() < deadline {
            std::thread::sleep(POLL);
        }
        // SAFETY: no memory is involved. The leader is not reaped yet, so that the group's number
        // is still ours.
        unsafe { libc::kill(group, libc::SIGKILL) };
        let _ = self.child.wait();
    }
}

/// Polls `condition` until it gives a value; panics with `what` at the deadline.
pub fn wait_for<T>(what: &str, within: Duration, condition: impl FnMut() -> Option<T>) -> T {
    poll(what, within, POLL, condition)
}

/// [`wait_for`] of something that costs the machine more to look at, and comes late.
pub fn wait_idly<T>(what: &str, within: Duration, condition: impl FnMut() -> Option<T>) -> T {
    poll(what, within, Duration::from_millis(200), condition)
}

fn poll<T>(
    what: &str,
    within: Duration,
    pause: Duration,
    mut condition: impl FnMut() -> Option<T>,
) -> T {
    let deadline = Instant::now() + within;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < deadline, "waited {within:?} in vain: {what}");
        std::thread::sleep(pause);
    }
}

/// [`wait_for`] of something that is true or false.
pub fn wait_until(what: &str, within: Duration, mut condition: impl FnMut() -> bool) {
    wait_for(what, within, || condition().then_some(()));
}

pub fn send_signal(pid: u32, signal: libc::c_int) {
    // SAFETY: no memory is involved.
    unsafe { libc::kill(pid as libc::pid_t, signal) };
}

/// Whether any thread of it does anything yet, such as to hold a port: not a zombie.
pub fn lives(pid: u32) -> bool {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return false };
    threads.flatten().any(|thread| {
        let stat = std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.starts_with(" Z"))
    })
}

/// [`lives`] of one of these, as a script has written their numbers.
pub fn any_lives(pids: &str) -> bool {
    pids.split_whitespace().any(|pid| lives(pid.parse().expect("the number of a process")))
}

/// Spawns on a thread that lives as long as the process: PR_SET_PDEATHSIG means the death of the
/// parent *thread*, and a fixture shared by several tests must not die with the thread of the
/// first.
fn spawn(command: Command) -> io::Result<Child> {
    type Job = (Command, Sender<io::Result<Child>>);
    static SPAWNER: OnceLock<Sender<Job>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (jobs, queue) = channel::<Job>();
        std::thread::spawn(move || {
            for (mut command, reply) in queue {
                // SAFETY: prctl() is async-signal-safe and takes numbers only.
                unsafe { command.pre_exec(die_with_parent) };
                let _ = reply.send(command.spawn());
            }
        });
        jobs
    });
    let (reply, answer) = channel();
    spawner.send((command, reply)).expect("the spawner never ends");
    answer.recv().expect("the spawner never ends")
}

fn die_with_parent() -> io::Result<()> {
    // SAFETY: see spawn().
    match unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Whether all its threads are in the state T of proc(5), the letter behind the name in brackets.
fn is_stopped(pid: u32) -> bool {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).expect("a process that lives");
    threads.filter_map(Result::ok).all(|thread| {
        let stat = std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        stat.rsplit(')').next().is_some_and(|rest| rest.starts_with(" T"))
    })
}

/// Whether it is dead, without reaping it.
fn has_ended(pid: u32) -> bool {
    // SAFETY: siginfo_t is plain data for which zeroes are valid, and lives through the call.
    unsafe {
        let mut info: libc::siginfo_t = std::mem::zeroed();
        let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
        libc::waitid(libc::P_PID, pid, &mut info, flags) != 0 || info.si_pid() != 0
    }
}

const POLL: Duration = Duration::from_millis(10);
