//! The worker as the engine sees it. Called from the engine's threads: atomics, the shared zone
//! and eventfds only, nothing of nginx's.

use std::os::fd::RawFd;
use std::process::Command;
use std::sync::atomic::Ordering;
use std::time::Duration;

use nginx_sys::{NGX_PROCESS_SINGLE, ngx_process, ngx_uint_t};

use super::offspring;
use super::zone::Zone;
use crate::ca::ChallengeAnswer;
use crate::clock::Time;
use crate::engine::{Host, News};

pub struct WorkerHost {
    pub zone: &'static Zone,
    /// This worker's eventfd.
    pub own: RawFd,
    /// Every worker's.
    pub all: Vec<RawFd>,
    /// Of this nginx: see [`own_id`].
    pub id: String,
}

/// How long the leader leads without a sign of life; it renews every second.
const LEASE: Duration = Duration::from_secs(4);

impl Host for WorkerHost {
    fn wake(&self) {
        ring(self.own);
    }

    fn news(&self, entry: usize) -> News {
        self.zone.news(entry)
    }

    fn publish(&self, entry: usize, change: &mut dyn FnMut(&mut News)) {
        self.zone.change_news(entry, change);
        self.ring_all();
    }

    fn claim(&self, entry: usize, now: Time, deadline: Time) -> bool {
        self.zone.entry(entry).claim.take(now, deadline)
    }

    fn release(&self, entry: usize) {
        self.zone.entry(entry).claim.release();
    }

    fn leads(&self, now: Time) -> bool {
        if self.exiting() {
            self.zone.leader.release();
            return false;
        }
        self.zone.leader.take(now, now + LEASE)
    }

    fn changes_known(&self) -> u64 {
        self.zone.changes_known.load(Ordering::Acquire)
    }

    fn set_changes_known(&self, length: u64) {
        if self.zone.changes_known.swap(length, Ordering::AcqRel) != length {
            self.ring_all();
        }
    }

    fn exiting(&self) -> bool {
        // SAFETY: a word that nginx's event loop sets once; a late look does no harm.
        unsafe { (&raw const nginx_sys::ngx_exiting).read_volatile() != 0 }
    }

    fn id(&self) -> String {
        self.id.clone()
    }

    fn publish_challenge(&self, answer: &ChallengeAnswer, expires: Time) -> Result<(), String> {
        self.zone.publish_challenge(answer, expires)
    }

    fn withdraw_challenge(&self, answer: &ChallengeAnswer) {
        self.zone.withdraw_challenge(answer);
    }

    fn prepare(&self, command: &mut Command) {
        offspring::prepare(command);
    }
}

/// The host and the master: both outlive workers and reloads. Containers on one network may share
/// a host name, and in each the master is process 1: what tells them apart is the namespace of
/// process numbers, whose own number is one of this boot.
pub fn own_id() -> String {
    let host = rustix::system::uname();
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let space = std::fs::read_link("/proc/self/ns/pid").unwrap_or_default();
    // SAFETY: set by nginx before this process began its work.
    let single = unsafe { ngx_process } == NGX_PROCESS_SINGLE as ngx_uint_t;
    let master = if single { std::process::id() } else { std::os::unix::process::parent_id() };
    let host = host.nodename().to_string_lossy();
    format!("{host} {} {} {master}", boot.trim(), space.display())
}

impl WorkerHost {
    fn ring_all(&self) {
        self.all.iter().copied().for_each(ring);
    }
}

/// Wakes the event loop that listens on `fd`. A full counter means that it rings already.
fn ring(fd: RawFd) {
    let one = 1u64.to_ne_bytes();
    // SAFETY: an eventfd of this cycle, open as long as the worker lives.
    unsafe { libc::write(fd, one.as_ptr().cast(), one.len()) };
}
