//! What a program that a worker starts must not inherit: nginx leaves its listening sockets and its
//! clients' connections open across exec(), and our threads block all signals, which std hands on.

use std::ffi::{c_int, c_uint};
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Readies the process in which `command` is going to run, between fork() and exec().
pub fn prepare(command: &mut Command) {
    let parent = std::process::id();
    // SAFETY: allocates nothing, takes no lock, and calls what is async-signal-safe only.
    unsafe {
        command.pre_exec(move || {
            close_on_exec();
            allow_signals()?;
            die_with(parent)
        })
    };
}

/// All but 0, 1 and 2. Not closed at once: std has a socket of its own here until exec().
fn close_on_exec() {
    const FIRST: c_int = 3;
    const CLOSE_RANGE_CLOEXEC: c_uint = 4; // linux/close_range.h, since 5.11
    // SAFETY: numbers only; flags of the descriptors of this process, in which nothing else runs.
    unsafe {
        let (from, to) = (FIRST as c_uint, c_uint::MAX);
        if libc::syscall(libc::SYS_close_range, from, to, CLOSE_RANGE_CLOEXEC) == 0 {
            return;
        }
        let end = libc::sysconf(libc::_SC_OPEN_MAX).clamp(256, 1 << 20) as c_int;
        for fd in FIRST..end {
            libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC);
        }
    }
}

fn allow_signals() -> io::Result<()> {
    // SAFETY: plain calls on a set of our own; one thread.
    let done = unsafe {
        let mut none = std::mem::zeroed::<libc::sigset_t>();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut())
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// SIGTERM when the thread ends that started it: it does nothing else until the program is over, so
/// that only the end of the worker ends it before.
fn die_with(parent: u32) -> io::Result<()> {
    // SAFETY: numbers only.
    unsafe {
        if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM) != 0 {
            return Err(io::Error::last_os_error());
        }
        // It may have died before that.
        if libc::getppid() as u32 != parent {
            return Err(io::Error::from_raw_os_error(libc::ESRCH));
        }
    }
    Ok(())
}
