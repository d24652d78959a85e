//! A job: something that takes several steps, of which each may block its thread for the time of
//! one exchange with the network, and none ever sleeps.

use std::sync::Arc;
use std::time::Duration;

use super::board::{Key, Lane};
use super::check::CheckJob;
use super::crl::{self, CrlJob};
use super::desk::Desk;
use super::host::Host;
use super::outcome;
use super::ports::NoAnswer;
use super::renewal::{self, RenewalJob};
use super::replace::{self, ReplaceJob};
use crate::clock::Time;

pub enum Job {
    Check(Box<CheckJob>),
    Crl(Box<CrlJob>),
    Renewal(Box<RenewalJob>),
    Replace(Box<ReplaceJob>),
}

/// What comes after a step.
#[derive(Debug)]
pub enum Next {
    /// The next step, as soon as a thread is free.
    Run,
    /// The next step, after this time; the thread is given back.
    Wait(Duration),
    Done(End),
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum End {
    /// Its query was asked at this time.
    Asked(Time),
    /// It had nothing to ask; `since` is what it knew of those who wait.
    Idle { since: Option<Time> },
    /// The certificate is to be replaced.
    HandOver,
}

impl Job {
    pub fn new((index, lane): Key, now: Time) -> Job {
        match lane {
            Lane::Check => Job::check(index, now),
            Lane::Crl => Job::crl(index, None),
            Lane::Renewal => Job::Renewal(Box::new(RenewalJob::new(index))),
            Lane::Replace => Job::replace(index, now),
        }
    }

    pub fn check(index: usize, now: Time) -> Job {
        Job::Check(Box::new(CheckJob::new(index, now)))
    }

    /// `since`: handshakes wait since then.
    pub fn crl(index: usize, since: Option<Time>) -> Job {
        Job::Crl(Box::new(CrlJob::new(index, since)))
    }

    pub fn replace(index: usize, now: Time) -> Job {
        Job::Replace(Box::new(ReplaceJob::new(index, now)))
    }

    pub fn step(self, desk: &Desk) -> (Job, Next) {
        match self {
            Job::Check(mut job) => {
                let next = job.step(desk);
                (Job::Check(job), next)
            }
            Job::Crl(mut job) => {
                let next = job.step(desk);
                (Job::Crl(job), next)
            }
            Job::Renewal(mut job) => {
                let next = job.step(desk);
                (Job::Renewal(job), next)
            }
            Job::Replace(mut job) => {
                let next = job.step(desk);
                (Job::Replace(job), next)
            }
        }
    }

    /// What is left to do for a job that ended by a panic.
    pub fn panicked(desk: &Desk, (index, lane): Key) {
        let mut entry = desk.entry(index);
        let cause = "internal error: the job ended by a panic";
        match lane {
            Lane::Check => {
                let failure = NoAnswer { cause: cause.into(), retry_after: None };
                outcome::fail(desk, &mut entry, &failure);
            }
            Lane::Crl => {
                crl::fail(desk, &mut entry, &NoAnswer { cause: cause.into(), retry_after: None });
            }
            Lane::Renewal => renewal::panicked(desk, &mut entry),
            Lane::Replace => {
                replace::give_up(desk, &mut entry, cause);
            }
        }
    }

    /// The remote host that the next step talks to, if it talks to one.
    pub fn host(&self, desk: &Desk) -> Option<String> {
        match self {
            Job::Check(job) => job.host(),
            Job::Crl(job) => job.host(),
            Job::Renewal(job) => job.host(desk),
            Job::Replace(job) => job.host(desk),
        }
    }
}

/// The right to ask about an entry, among the workers of this nginx; gone when it is dropped.
pub struct Claim {
    host: Arc<dyn Host>,
    entry: usize,
}

impl Claim {
    pub fn take(desk: &Desk, entry: usize, now: Time, deadline: Time) -> Option<Claim> {
        let host = Arc::clone(&desk.host);
        host.claim(entry, now, deadline).then_some(Claim { host, entry })
    }

    /// False: it had run out, and another worker asks.
    pub fn prolong(&self, now: Time, deadline: Time) -> bool {
        self.host.claim(self.entry, now, deadline)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.host.release(self.entry);
    }
}

/// Until when a job asks on behalf of handshakes that wait since `since`: a little less than they
/// wait, so that the answer, even that there is none, is there in time.
pub fn patience(now: Time, since: Option<Time>, timeout: Duration) -> Time {
    let margin = (timeout / 10).min(Duration::from_secs(1));
    let end = since.unwrap_or(now) + (timeout - margin);
    end.max(now + MINIMUM)
}

/// Nothing is asked for less: who came late to a long job gets an honest attempt.
pub const MINIMUM: Duration = Duration::from_millis(500);
