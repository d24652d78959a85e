//! The three pipes to a program, served at once: it may write before it has read everything.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::process::Child;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;

/// Our ends. A pipe is closed as soon as nothing more is to come through it.
pub struct Pipes<'a> {
    stdin: Option<File>,
    stdout: Option<File>,
    stderr: Option<File>,
    /// What is still to be written.
    input: &'a [u8],
    output: Vec<u8>,
    limit: usize,
    too_large: bool,
}

impl<'a> Pipes<'a> {
    /// Takes the pipes of `child`; more than `limit` bytes of output are not kept.
    pub fn of(child: &mut Child, input: &'a [u8], limit: usize) -> Result<Pipes<'a>, Errno> {
        Ok(Pipes {
            stdin: child.stdin.take().map(|pipe| without_waiting(pipe.into())).transpose()?,
            stdout: child.stdout.take().map(|pipe| without_waiting(pipe.into())).transpose()?,
            stderr: child.stderr.take().map(|pipe| without_waiting(pipe.into())).transpose()?,
            input,
            output: Vec::new(),
            limit,
            too_large: false,
        })
    }

    /// Waits for one of them, `time` at most, and writes and reads what can be; false: nothing
    /// could be.
    pub fn exchange(&mut self, time: Duration, stderr: impl FnMut(&[u8])) -> Result<bool, Errno> {
        self.close_stdin();
        let ready = self.wait(time)?;
        if ready[0] {
            self.write();
        }
        if ready[1] {
            self.read_output();
        }
        if ready[2] {
            read(&mut self.stderr, stderr);
        }
        Ok(ready.contains(&true))
    }

    /// Reads the output that is there.
    pub fn drain(&mut self) {
        while !self.too_large && self.read_output() {}
    }

    pub fn is_too_large(&self) -> bool {
        self.too_large
    }

    /// Nobody is left who could write to its standard error: the supervisor is gone.
    pub fn are_closed(&self) -> bool {
        self.stderr.is_none()
    }

    pub fn into_output(self) -> Vec<u8> {
        self.output
    }

    /// Which of the three can be gone on with.
    fn wait(&self, time: Duration) -> Result<[bool; 3], Errno> {
        let pipes = [
            (&self.stdin, PollFlags::OUT),
            (&self.stdout, PollFlags::IN),
            (&self.stderr, PollFlags::IN),
        ];
        let open = pipes.iter().filter_map(|(pipe, what)| Some((pipe.as_ref()?, *what)));
        let mut asked: Vec<PollFd> =
            open.map(|(pipe, what)| PollFd::from_borrowed_fd(pipe.as_fd(), what)).collect();
        let time = Timespec { tv_sec: time.as_secs() as _, tv_nsec: time.subsec_nanos().into() };
        match poll(&mut asked, Some(&time)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
        // An error or the end is something to go on with too.
        let mut answers = asked.iter().map(|fd| !fd.revents().is_empty());
        Ok(pipes.map(|(pipe, _)| pipe.is_some() && answers.next() == Some(true)))
    }

    fn write(&mut self) {
        let Some(pipe) = &mut self.stdin else { return };
        match pipe.write(self.input) {
            Ok(n) => self.input = &self.input[n..],
            Err(error) if may_go_on(&error) => {}
            // It does not read on: its own business.
            Err(_) => self.input = &[],
        }
        self.close_stdin();
    }

    fn close_stdin(&mut self) {
        if self.input.is_empty() {
            self.stdin = None;
        }
    }

    /// False: nothing is there now.
    fn read_output(&mut self) -> bool {
        let (output, limit) = (&mut self.output, self.limit);
        let mut too_large = self.too_large;
        let more = read(&mut self.stdout, |text| {
            too_large |= output.len() + text.len() > limit;
            if !too_large {
                output.extend_from_slice(text);
            }
        });
        self.too_large = too_large;
        more
    }
}

/// Reads once; at its end or in failure the pipe is closed. False: nothing is there now.
fn read(pipe: &mut Option<File>, mut take: impl FnMut(&[u8])) -> bool {
    let mut buffer = [0; 16 * 1024];
    let Some(file) = pipe else { return false };
    match file.read(&mut buffer) {
        Ok(n) if n > 0 => take(&buffer[..n]),
        Err(error) if error.kind() == ErrorKind::Interrupted => {}
        Err(error) if error.kind() == ErrorKind::WouldBlock => return false,
        _ => *pipe = None,
    }
    pipe.is_some()
}

fn may_go_on(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

fn without_waiting(pipe: OwnedFd) -> Result<File, Errno> {
    fcntl_setfl(&pipe, fcntl_getfl(&pipe)? | OFlags::NONBLOCK)?;
    Ok(File::from(pipe))
}
