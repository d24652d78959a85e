//! The replacement of an entry's certificate: the attempt under the entry's lock, CA by CA, from a
//! new key to a delivered chain. What may be served is decided in `prove`.

use std::time::Duration;

use super::attempt::{Attempt, Failure, IN_HASTE, may_ask, note_issuance, write_off};
use super::desk::{Desk, brief};
use super::entry::Entry;
use super::host::{Count, Working};
use super::job::{End, Next};
use super::prove::Proof;
use super::schedule::Why;
use super::{backoff, rest};
use crate::ca::csr::{csr, new_key};
use crate::ca::{IssueError, Issued, Order, Progress};
use crate::clock::Time;
use crate::http::haste;
use crate::keystore::{KeystoreError, Pending, Replacing};
use crate::names::to_ask_for;
use crate::report::What;
use crate::settings::Secret;

pub struct ReplaceJob {
    pub(super) entry: usize,
    born: Time,
    state: State,
}

enum State {
    Begin,
    Order(Box<Attempt>),
    Prove(Box<Attempt>, Box<Proof>),
}

impl ReplaceJob {
    pub fn new(entry: usize, now: Time) -> ReplaceJob {
        ReplaceJob { entry, born: now, state: State::Begin }
    }

    pub fn host(&self, desk: &Desk) -> Option<String> {
        match &self.state {
            State::Begin => None,
            State::Order(attempt) => Some(desk.ports.cas[attempt.ca].host().to_owned()),
            State::Prove(_, proof) => proof.host(),
        }
    }

    pub fn step(&mut self, desk: &Desk) -> Next {
        match std::mem::replace(&mut self.state, State::Begin) {
            State::Begin => self.begin(desk),
            State::Order(attempt) => self.order(desk, attempt),
            State::Prove(attempt, proof) => self.prove(desk, attempt, proof),
        }
    }

    /// Takes the lock. Whoever had it before may have done everything.
    fn begin(&mut self, desk: &Desk) -> Next {
        let now = desk.now();
        let since = desk.board().demanded(self.entry);
        let nothing = Next::Done(End::Idle { since });
        let mut entry = desk.entry(self.entry);
        match look(desk, &mut entry, now, since) {
            Ok(Some(_)) => {}
            Ok(None) => return nothing,
            Err(error) => return give_up(desk, &mut entry, &error.to_string()),
        }
        let lock = match desk.keystore.try_lock(&entry.settings.name) {
            Ok(Some(lock)) => lock,
            Ok(None) if self.born + LOCK_PATIENCE <= now => return nothing,
            Ok(None) => return Next::Wait(desk.pause(100, 300)),
            Err(error) => return give_up(desk, &mut entry, &error.to_string()),
        };
        let attempt = match look(desk, &mut entry, now, since) {
            Ok(Some(why)) => Attempt::new(desk, &entry, lock, why, now),
            Ok(None) => return nothing,
            Err(error) => return give_up(desk, &mut entry, &error.to_string()),
        };
        match attempt {
            Ok(attempt) => {
                if attempt.why.is_bad() {
                    desk.publish(&mut entry, |news| news.working = Some(Working::Replacing));
                }
                drop(entry);
                self.next_ca(desk, Box::new(attempt))
            }
            Err(error) => give_up(desk, &mut entry, &error.to_string()),
        }
    }

    /// Goes on to the next CA that may be asked, or ends the attempt.
    fn next_ca(&mut self, desk: &Desk, mut attempt: Box<Attempt>) -> Next {
        let now = desk.now();
        while let Some(ca) = attempt.cas.pop_front() {
            attempt.ca = ca;
            let entry = desk.entry(self.entry);
            if attempt.under_way(desk).is_some_and(|p| p.chain.is_some()) {
                drop(entry);
                return self.check_chain(desk, attempt);
            }
            match may_ask(desk, &entry, &attempt, now) {
                Ok(()) => {
                    self.state = State::Order(attempt);
                    return Next::Run;
                }
                Err((cause, not_before)) => {
                    attempt.failures.push(Failure { ca, cause, not_before });
                }
            }
        }
        attempt.abandon(desk);
        let mut entry = desk.entry(self.entry);
        self.fail(desk, &mut entry, *attempt)
    }

    /// One step with the CA; before the first the key is made, and stored.
    fn order(&mut self, desk: &Desk, mut attempt: Box<Attempt>) -> Next {
        let fits = attempt.under_way(desk).is_some();
        let pending = match attempt.pending.take() {
            Some(mut pending) if fits => {
                // It may have been ordered as a renewal, and the old one be revoked since.
                pending.order.reason = attempt.why.word().into();
                Ok(pending)
            }
            other => {
                other.iter().for_each(|p| write_off(desk, &attempt.lock, p));
                attempt.left.extend(other.map(|p| p.order));
                attempt.abandon(desk);
                attempt.taken_up = false;
                self.new_pending(desk, &attempt)
            }
        };
        let mut pending = match pending {
            Ok(pending) => pending,
            Err(cause) => return self.stuck(desk, attempt, cause),
        };
        let (current, limit) = {
            let entry = desk.entry(self.entry);
            (entry.bundle.clone().ok(), attempt.haste(desk, &entry, desk.now()))
        };
        let ca = &desk.ports.cas[attempt.ca];
        let progress = haste::with(limit, || ca.step(&mut pending.order, current.as_deref()));
        if let Ok(Progress::Issued(Issued { chain, fallback, key, remark })) = &progress {
            pending.chain = Some(chain.clone());
            attempt.fallback = fallback.clone();
            key.iter().for_each(|key| pending.key_pem = key.clone());
            pending.order.accepted = true;
            note_issuance(desk, &attempt, &mut pending);
            if let Some(text) = remark.clone() {
                let ca = desk.plan.cas[attempt.ca].name.clone();
                desk.tell(&desk.entry(self.entry), vec![What::Remark { ca, text }], vec![]);
            }
        }
        let is_dead = progress.as_ref().is_err_and(IssueError::order_is_dead);
        let saved = match is_dead {
            true => {
                write_off(desk, &attempt.lock, &pending);
                desk.keystore.clear_pending(&attempt.lock)
            }
            false => desk.keystore.save_pending(&attempt.lock, &pending),
        };
        if let (Err(error), false) = (&saved, is_dead) {
            // With a chain in hand: it is served first, if it may be. The next start has lost it.
            if pending.chain.is_none() {
                return self.stuck(desk, attempt, error.to_string());
            }
        }
        attempt.pending = (!is_dead).then_some(pending);
        match progress {
            Ok(Progress::Wait(time)) => self.wait(desk, attempt, time),
            Ok(Progress::LookAgain) => self.look_again(desk, attempt),
            Ok(Progress::Issued(_)) => self.check_chain(desk, attempt),
            Err(error) => self.refused(desk, attempt, &error, limit),
        }
    }

    /// Another host may have been faster: what it has stored counts.
    fn look_again(&mut self, desk: &Desk, attempt: Box<Attempt>) -> Next {
        let mut entry = desk.entry(self.entry);
        let read = desk.reload(&mut entry);
        if read.is_ok() && entry.why_replace(desk.now()).is_none() {
            let _ = desk.keystore.clear_pending(&attempt.lock); // the next attempt sees it useless
            return Next::Done(End::Idle { since: None });
        }
        drop(entry);
        self.state = State::Order(attempt);
        Next::Run
    }

    /// The order is at the CA. For a short while the lock is kept.
    fn wait(&mut self, desk: &Desk, attempt: Box<Attempt>, time: Duration) -> Next {
        let now = desk.now();
        let end = attempt.begun + LOCK_HELD;
        if time <= SHORT_WAIT && now + time <= end {
            self.state = State::Order(attempt);
            return Next::Wait(time);
        }
        let mut entry = desk.entry(self.entry);
        let ca = &desk.plan.cas[attempt.ca].name;
        let cause = format!("\"{ca}\": the order is still pending");
        let is_told = attempt.taken_up && entry.news.pending;
        drop(attempt);
        leave_pending(desk, &mut entry, &cause, now + time, is_told)
    }

    /// An error of a CA: the next one is asked, but not with what is wrong with the name.
    fn refused(
        &mut self,
        desk: &Desk,
        mut attempt: Box<Attempt>,
        error: &IssueError,
        limit: Option<Duration>,
    ) -> Next {
        let about_name = matches!(error, IssueError::Refused { about_name: true, .. });
        if attempt.pending.is_none()
            && !about_name
            && error.retry_after().is_none()
            && std::mem::take(&mut attempt.taken_up)
        {
            // An order of an earlier attempt, which the CA knows no longer: a new one.
            attempt.cas.push_front(attempt.ca);
            return self.next_ca(desk, attempt);
        }
        let mut entry = desk.entry(self.entry);
        if about_name && entry.news.issue_failures == 0 {
            attempt.cas.clear();
        }
        let wish = error.retry_after();
        let not_before = wish.map(|wish| rest::note(desk, &mut entry, &attempt, wish));
        drop(entry);
        let cause = match (error, limit) {
            (IssueError::Unreachable { .. }, Some(limit)) => {
                format!("{error}{IN_HASTE}{:.1} s a request)", limit.as_secs_f32())
            }
            _ => error.to_string(),
        };
        self.failed(desk, attempt, cause, not_before)
    }

    /// This CA gave nothing that may be served: the next one.
    pub(super) fn failed(
        &mut self,
        desk: &Desk,
        mut attempt: Box<Attempt>,
        cause: String,
        not_before: Option<Time>,
    ) -> Next {
        attempt.counts.push(Count::IssueError);
        attempt.failures.push(Failure { ca: attempt.ca, cause, not_before });
        self.next_ca(desk, attempt)
    }

    /// The keystore or OpenSSL failed us: no other CA is asked, it would be in vain.
    pub(super) fn stuck(&mut self, desk: &Desk, mut attempt: Box<Attempt>, cause: String) -> Next {
        attempt.cas.clear();
        self.failed(desk, attempt, cause, None)
    }

    /// What the CA delivered is of no use.
    pub(super) fn reject(&mut self, desk: &Desk, mut attempt: Box<Attempt>, cause: String) -> Next {
        attempt.pending.take().iter().for_each(|p| write_off(desk, &attempt.lock, p));
        let cleared = desk.keystore.clear_pending(&attempt.lock);
        if cleared.is_ok() && std::mem::take(&mut attempt.taken_up) {
            // It has grown old in the keystore, which is not the CA's fault.
            attempt.cas.push_front(attempt.ca);
            return self.next_ca(desk, attempt);
        }
        self.failed(desk, attempt, cause, None)
    }

    /// The chain is of no use: another one of the same certificate, if there is one.
    pub(super) fn reject_chain(
        &mut self,
        desk: &Desk,
        mut attempt: Box<Attempt>,
        cause: String,
    ) -> Next {
        let Some((chain, pending)) = attempt.fallback.take().zip(attempt.pending.as_mut()) else {
            return self.reject(desk, attempt, cause);
        };
        pending.chain = Some(chain);
        // As for the first one: served first, if it may be.
        let _ = desk.keystore.save_pending(&attempt.lock, pending);
        let ca = desk.plan.cas[attempt.ca].name.clone();
        let text = format!("the preferred chain can't be used, the first is: {cause}");
        desk.tell(&desk.entry(self.entry), vec![What::Remark { ca, text }], vec![]);
        self.check_chain(desk, attempt)
    }

    pub(super) fn go_on_proving(
        &mut self,
        attempt: Box<Attempt>,
        proof: Box<Proof>,
        next: Next,
    ) -> Next {
        self.state = State::Prove(attempt, proof);
        next
    }

    fn new_pending(&self, desk: &Desk, attempt: &Attempt) -> Result<Pending, String> {
        let settings = desk.entry(self.entry).settings.clone();
        let ca = &desk.plan.cas[attempt.ca];
        let names = to_ask_for(&settings.names);
        let make = || {
            let key = new_key(settings.key)?;
            let key_pem = Secret::new(key.private_key_to_pem_pkcs8()?);
            Ok::<_, openssl::error::ErrorStack>((
                csr(&key, &names, settings.must_staple, ca.subject.as_ref())?,
                key_pem,
            ))
        };
        let (csr, key_pem) = make().map_err(|e| format!("key: {e}"))?;
        let ca = ca.name.clone();
        let reason = attempt.why.word().into();
        let (entry, state) = (settings.name.to_string(), Default::default());
        let order = Order { ca, entry, names, reason, csr, accepted: false, state };
        let replaces = attempt.why.reason().map(|reason| Replacing {
            serial: attempt.old.clone(),
            reason: reason.into(),
            since: attempt.since,
        });
        let created_at = desk.now();
        let pending = Pending { key_pem, order, chain: None, created_at, replaces, counted: false };
        // Before the CSR leaves: no certificate is ever issued for a key that nobody has.
        desk.keystore.save_pending(&attempt.lock, &pending).map_err(|e| e.to_string())?;
        Ok(pending)
    }

    /// All CAs have failed.
    fn fail(&self, desk: &Desk, entry: &mut Entry, attempt: Attempt) -> Next {
        let now = desk.now();
        let causes = attempt
            .failures
            .iter()
            .map(|f| format!("\"{}\": {}", desk.plan.cas[f.ca].name, f.cause));
        let cause = causes.collect::<Vec<_>>().join("; ");
        let failures = entry.news.issue_failures.saturating_add(1);
        let usual = now + backoff::issue(failures, None, desk.share());
        let next = |f: &Failure| f.not_before.map_or(usual, |t| t.max(usual));
        let next = attempt.failures.iter().map(next).min().unwrap_or(usual);
        let counts = attempt.counts.clone();
        drop(attempt); // the lock
        postpone(desk, entry, &cause, next, counts)
    }
}

/// Why the certificate is to be replaced now, by what the keystore has.
fn look(
    desk: &Desk,
    entry: &mut Entry,
    now: Time,
    since: Option<Time>,
) -> Result<Option<Why>, KeystoreError> {
    desk.reload(entry)?;
    desk.note_bad(entry, now);
    let is_due = entry.news.next_issue.is_none_or(|next| next <= now);
    // A worker that is to go begins only what a handshake waits for, and what rests does too.
    let at_rest = entry.rests_until(now).is_some() && !entry.is_unwanted();
    let may_begin = since.is_some() || !(desk.host.exiting() || at_rest);
    Ok(entry.why_replace(now).filter(|_| is_due && may_begin))
}

/// Nothing could be done at all.
pub fn give_up(desk: &Desk, entry: &mut Entry, cause: &str) -> Next {
    let failures = entry.news.issue_failures.saturating_add(1);
    let next = desk.now() + backoff::issue(failures, None, desk.share());
    postpone(desk, entry, cause, next, vec![])
}

/// Nothing has failed: the order is asked about again then. Told once, however long it takes.
fn leave_pending(desk: &Desk, entry: &mut Entry, cause: &str, next: Time, is_told: bool) -> Next {
    let event = What::IssueFailed { cause: cause.into(), retry: next.since(desk.now()) };
    desk.tell(entry, if is_told { vec![] } else { vec![event] }, vec![]);
    desk.publish(entry, |news| {
        (news.next_issue, news.pending) = (Some(next), true);
        news.last_error = Some(brief(cause));
        news.working = None;
    });
    Next::Done(End::Idle { since: None })
}

/// Says why there is no new certificate, and when it is tried again.
pub fn postpone(
    desk: &Desk,
    entry: &mut Entry,
    cause: &str,
    next: Time,
    counts: Vec<Count>,
) -> Next {
    let now = desk.now();
    let event = What::IssueFailed { cause: cause.into(), retry: next.since(now) };
    desk.tell(entry, vec![event], counts);
    desk.publish(entry, |news| {
        news.next_issue = Some(next);
        news.issue_failures = news.issue_failures.saturating_add(1);
        news.pending = false;
        news.last_error = Some(brief(cause));
        news.working = None;
    });
    Next::Done(End::Idle { since: None })
}

/// How long a job asks for a lock that another one holds.
const LOCK_PATIENCE: Duration = Duration::from_secs(150);
/// How long a job holds it.
const LOCK_HELD: Duration = Duration::from_secs(120);
/// An order that the CA works at longer is left there.
const SHORT_WAIT: Duration = Duration::from_secs(30);
