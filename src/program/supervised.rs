//! Runs programs in a process whose children somebody else reaps.
//!
//! nginx's workers call `waitpid(-1)` at each SIGCHLD, so that the status of a child is lost as
//! often as not. Therefore a shell starts the program, waits for it, and writes its status as the
//! last line of the standard error that both share: no fourth descriptor has to be handed down, and
//! all three of the program are plain pipes, which `/dev/stdin` and its like need.

use std::hash::{BuildHasher, RandomState};
use std::os::unix::process::CommandExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::Access;
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use super::lines::Lines;
use super::pipes::Pipes;
use super::{Program, ProgramError, Programs};
use crate::clock::Clock;
use crate::report::Event;

/// Runs each program below a supervisor, in a process group of its own.
///
/// At the time limit the group gets SIGTERM and, two seconds later, SIGKILL. What a program that
/// ends in time leaves running behind it is let live, and not waited for.
pub struct Supervised {
    clock: Arc<dyn Clock>,
    prepare: Prepare,
    tell: Tell,
}

/// Readies the supervisor's process where ours is not like others: nothing may be blocked or open
/// that is not meant for programs, and SIGTERM has to come when this process dies.
type Prepare = Box<dyn Fn(&mut Command) + Send + Sync>;

/// Where lines of standard error go.
type Tell = Box<dyn Fn(Event) + Send + Sync>;

impl Supervised {
    pub fn new(
        clock: Arc<dyn Clock>,
        prepare: impl Fn(&mut Command) + Send + Sync + 'static,
        tell: impl Fn(Event) + Send + Sync + 'static,
    ) -> Supervised {
        Supervised { clock, prepare: Box::new(prepare), tell: Box::new(tell) }
    }
}

impl Programs for Supervised {
    fn run(&self, program: &Program) -> Result<Vec<u8>, ProgramError> {
        // The shell would say it too, but not so that it can be told from the program's own words.
        let path = program.command.first().map_or("", String::as_str);
        rustix::fs::access(Path::new(path), Access::EXEC_OK).map_err(not_started)?;
        // Anything that a program does not write by accident.
        let marker = format!("ended-{:016x}", RandomState::new().hash_one(0));
        let mut child = self.start(program, &marker)?;
        let mut lines = Lines::new(program, marker);
        let outcome = match Pipes::of(&mut child, program.stdin, program.limit) {
            Ok(pipes) => self.attend(program, &child, pipes, &mut lines),
            Err(error) => {
                kill(&child);
                Err(not_started(error))
            }
        };
        lines.finish(&self.tell);
        // It ends just now. Whether we reap it or nginx does not matter.
        let _ = child.wait();
        conclude(outcome?, &lines)
    }
}

/// How a run went on until there was nothing more to wait for.
struct Run {
    output: Vec<u8>,
    /// Why it was ended before its time.
    stopped: Option<ProgramError>,
}

fn conclude(run: Run, lines: &Lines) -> Result<Vec<u8>, ProgramError> {
    if let Some(error) = run.stopped {
        return Err(error);
    }
    match lines.status() {
        Some(0) => Ok(run.output),
        // As every shell tells of a signal.
        Some(status @ 129..=192) => Err(ProgramError::Killed(status - 128)),
        Some(status) => {
            let stderr = lines.last().to_owned();
            Err(ProgramError::Failed { status, stderr, stdout: run.output })
        }
        // The supervisor is gone without a word: nothing else ends it.
        None => Err(ProgramError::Killed(Signal::KILL.as_raw())),
    }
}

impl Supervised {
    fn start(&self, program: &Program, marker: &str) -> Result<Child, ProgramError> {
        let mut command = Command::new(SHELL);
        command.args(["-c", SUPERVISOR, "sh", marker]).args(program.command);
        command.env_clear().env("PATH", PATH);
        command.envs(program.environment.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.current_dir("/").process_group(0);
        (self.prepare)(&mut command);
        // std asserts that it can wait for a child that could not execute anything, which nginx
        // may have reaped.
        match catch_unwind(AssertUnwindSafe(|| command.spawn())) {
            Ok(Ok(child)) => Ok(child),
            Ok(Err(error)) => Err(ProgramError::NotStarted(format!("{SHELL}: {error}"))),
            Err(_) => Err(ProgramError::NotStarted(format!("{SHELL} can't be executed"))),
        }
    }

    /// Talks to the program until it has ended, or has to be.
    fn attend(
        &self,
        program: &Program,
        child: &Child,
        mut pipes: Pipes,
        lines: &mut Lines,
    ) -> Result<Run, ProgramError> {
        let mut stopped = None;
        let mut left = program.timeout;
        let mut now = self.clock.now();
        loop {
            // Whatever happens to the clock, a slice of silence is a slice.
            let slice = left.min(SLICE);
            let heard = pipes.exchange(slice, |text| lines.take(text, &self.tell));
            let (before, quiet) = (now, !heard.map_err(not_started)?);
            now = self.clock.now();
            left = left.saturating_sub(if quiet { slice } else { now.since(before).min(slice) });
            if lines.status().is_some() {
                // What it wrote is in the pipe; others may hold the other end for ever.
                pipes.drain();
                break;
            }
            if pipes.are_closed() || (stopped.is_some() && left.is_zero()) {
                kill(child);
                break;
            }
            if stopped.is_none() && (pipes.is_too_large() || left.is_zero()) {
                stopped = Some(match pipes.is_too_large() {
                    true => ProgramError::TooLarge(program.limit),
                    false => ProgramError::Timeout,
                });
                // It hands it on to its group.
                let _ = kill_process(Pid::from_child(child), Signal::TERM);
                left = GRACE;
            }
        }
        if stopped.is_none() && pipes.is_too_large() {
            stopped = Some(ProgramError::TooLarge(program.limit));
        }
        Ok(Run { output: pipes.into_output(), stopped })
    }
}

/// The supervisor, the program, and what that has started.
fn kill(child: &Child) {
    let _ = kill_process_group(Pid::from_child(child), Signal::KILL); // gone already
}

fn not_started(error: Errno) -> ProgramError {
    ProgramError::NotStarted(std::io::Error::from(error).to_string())
}

const SHELL: &str = "/bin/sh";
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// From SIGTERM to SIGKILL.
const GRACE: Duration = Duration::from_secs(2);
const SLICE: Duration = Duration::from_millis(500);

/// nginx as a daemon has umask 0: what a program writes would be everybody's to write to.
/// Program and arguments are `"$@"`: no text of theirs is ever read as a script. The program runs
/// in the background only because a shell handles signals while it waits, not while something runs
/// before it, and its own words about how it ended go nowhere. SIGTERM comes at the time limit, or
/// when the worker dies (see nginx's `prepare`) and nobody is left who would send SIGKILL.
const SUPERVISOR: &str = r#"
umask 077
marker=$1
shift
ending=
trap 'trap "" TERM; ending=yes; kill -TERM 0; ({ sleep 2; kill -KILL 0; } &)' TERM
exec 3<&0 4>&2
"$@" <&3 3<&- 4>&- &
program=$!
exec 3<&- </dev/null >/dev/null 2>&1
wait "$program"
status=$?
while [ "$ending" ] && kill -0 "$program"; do
    wait "$program"
    status=$?
done
printf '\n%s %s\n' "$marker" "$status" >&4
"#;
