//! Programs of the administrator: a CA behind a script, a hook.

mod lines;
mod pipes;
mod supervised;

pub use supervised::Supervised;

use std::time::Duration;

/// A program and what it gets.
pub struct Program<'a> {
    /// The program and its arguments; no shell reads them.
    pub command: &'a [String],
    /// Beside PATH, all that it finds in its environment. Log lines are about its `NAME`, else its
    /// `CA`.
    pub environment: &'a [(&'static str, String)],
    pub stdin: &'a [u8],
    /// The longest output that is accepted, in bytes.
    pub limit: usize,
    /// Then it is ended, and what it started.
    pub timeout: Duration,
}

/// Why a program brought nothing.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ProgramError {
    #[error("can't be started: {0}")]
    NotStarted(String),
    /// `stderr` is the last line that it wrote there, `stdout` all that it wrote there.
    #[error("exited with status {status}{}", of(.stderr))]
    Failed { status: i32, stderr: String, stdout: Vec<u8> },
    #[error("killed by signal {0}")]
    Killed(i32),
    #[error("timed out")]
    Timeout,
    #[error("output is larger than {0} bytes")]
    TooLarge(usize),
}

fn of(stderr: &str) -> String {
    if stderr.is_empty() { String::new() } else { format!(": {stderr}") }
}

/// Runs programs. Shared by threads; blocks until the program is over.
pub trait Programs: Send + Sync {
    /// What it wrote to its standard output; what it wrote to stderr is in the log by then.
    fn run(&self, program: &Program) -> Result<Vec<u8>, ProgramError>;
}
