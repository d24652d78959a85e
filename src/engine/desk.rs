//! What jobs and the disk thread work at: the entries, the board, the keystore, and the ways in
//! which something is told to the event loops.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::Notes;
use super::backoff::Jitter;
use super::board::{Board, Key, Lane};
use super::entry::Entry;
use super::host::{Count, Host, News, Plan, Update};
use super::job::{End, Job, Next};
use super::ports::Ports;
use super::renewal::issuing_ca;
use super::schedule::Why;
use super::subject::Trust;
use crate::clock::{SKEW, Time};
use crate::evidence::{Evidence, Status};
use crate::keystore::{Keystore, KeystoreError};
use crate::policy::{self, Asker, Badness, Decision};
use crate::report::{Event, What, printable};

pub struct Desk {
    pub plan: Plan,
    pub host: Arc<dyn Host>,
    pub ports: Ports,
    pub keystore: Keystore,
    /// In the order of `plan.cas`.
    pub trust: Vec<Trust>,
    entries: Vec<Mutex<Entry>>,
    board: Mutex<Board<Job>>,
    /// Wakes threads that wait for work at the board.
    pub work: Condvar,
    jitter: Mutex<Jitter>,
    notes: Notes,
}

impl Desk {
    pub fn new(
        plan: Plan,
        host: Arc<dyn Host>,
        ports: Ports,
        keystore: Keystore,
        notes: Notes,
    ) -> Desk {
        let entry =
            |(i, settings): (usize, &Arc<_>)| Mutex::new(Entry::new(i, Arc::clone(settings)));
        let entries = plan.entries.iter().enumerate().map(entry).collect();
        let jitter = Mutex::new(Jitter::new(ports.seed));
        let (board, work) = (Mutex::default(), Condvar::new());
        let trust = plan.cas.iter().map(Trust::of).collect();
        Desk { trust, plan, host, ports, keystore, entries, board, work, jitter, notes }
    }

    pub fn now(&self) -> Time {
        self.ports.clock.now()
    }

    /// When the CA is to be asked when it wants the certificate renewed; None: it is not.
    pub fn renewal_info_at(&self, entry: &Entry) -> Option<Time> {
        issuing_ca(self, entry)?;
        entry.renewal_info_at(self.now())
    }

    pub fn entry(&self, index: usize) -> MutexGuard<'_, Entry> {
        lock(&self.entries[index])
    }

    pub fn board(&self) -> MutexGuard<'_, Board<Job>> {
        lock(&self.board)
    }

    pub fn share(&self) -> f64 {
        lock(&self.jitter).share()
    }

    pub fn pause(&self, from: u64, to: u64) -> Duration {
        lock(&self.jitter).millis(from, to)
    }

    /// A handshake waits for an entry. For the event loop: takes the board's mutex only.
    pub fn demand(&self, index: usize) {
        let now = self.now();
        let mut board = self.board();
        if index < self.entries.len() && board.demand(index, now) {
            board.begin((index, Lane::Check), Job::check(index, now), None);
            self.work.notify_one();
        }
    }

    /// Looks at the entry's CRLs, unless that is under way, and returns whether it was not;
    /// `since`: handshakes wait since then.
    pub fn begin_crl(&self, index: usize, since: Option<Time>) -> bool {
        let job = Job::crl(index, since);
        let begun = self.board().begin((index, Lane::Crl), job, None);
        if begun {
            self.work.notify_one();
        }
        begun
    }

    /// Begins a job that nobody waits for, unless one is under way.
    pub fn begin(&self, key: Key, now: Time) {
        if self.board().begin(key, Job::new(key, now), None) {
            self.work.notify_one();
        }
    }

    /// Takes one step of the next job that is ready; None: there is none.
    #[cfg(test)]
    pub fn work_once(&self) -> Option<Key> {
        let (key, job) = self.board().pick(self.now())?;
        self.run(key, job);
        Some(key)
    }

    /// Takes one step of a job and puts it where it belongs then.
    pub fn run(&self, key: Key, job: Job) {
        // A defect of ours must not leave an entry without a next attempt.
        match catch_unwind(AssertUnwindSafe(|| job.step(self))) {
            Ok((job, Next::Run)) => {
                let host = job.host(self);
                self.board().put_ready(key, job, host);
            }
            Ok((job, Next::Wait(time))) => {
                let host = job.host(self);
                self.board().put_waiting(key, job, host, self.now() + time);
                self.work.notify_one(); // who waits, waits for this alarm too
            }
            Ok((job, Next::Done(end))) => {
                drop(job); // its locks and claims go before anybody is told
                self.conclude(key, end);
            }
            Err(_) => {
                Job::panicked(self, key);
                self.conclude(key, End::Asked(self.now()));
            }
        }
    }

    /// Reads the entry from the keystore. What could not be read now leaves what was there.
    pub fn reload(&self, entry: &mut Entry) -> Result<(), KeystoreError> {
        let name = entry.settings.name.clone();
        let mut loaded = self.keystore.load(&name)?;
        let mut evidence = match self.keystore.evidence(&name) {
            // The next answer mends it; until then what is in memory is what there is.
            Err(KeystoreError::Damaged { .. }) => entry.evidence.clone(),
            evidence => evidence?,
        };
        let read = loaded.as_ref().map_or(0, |bundle| bundle.version);
        if let Some(named) = entry.named(self.now()).filter(|named| read < *named) {
            if let Ok(newer) = self.keystore.load_version(&name, named)? {
                loaded = Ok(newer);
            }
        }
        let was_bad = entry.is_bad(self.now());
        let first = !std::mem::replace(&mut entry.loaded, true);
        entry.is_stale = false;
        std::mem::swap(&mut entry.evidence, &mut evidence);
        for (unsaved, der) in std::mem::take(&mut entry.unsaved) {
            self.save_evidence(entry, unsaved, der);
        }
        let replaced = match (&entry.bundle, &loaded) {
            (Ok(old), Ok(new)) => (old.version, &old.facts) != (new.version, &new.facts),
            (Err(old), Err(new)) => old != new,
            _ => true,
        };
        if replaced {
            entry.bundle = loaded.map(Arc::new);
            entry.subjects = self.subjects(entry);
            if entry.bundle.is_ok() && !entry.is_unwanted() {
                entry.unwanted = None; // the wish is granted, also for what may be broken later
            }
        }
        let (stapled, renewal) = (entry.staple.clone(), entry.renewal.clone());
        if let Ok(Some(der)) = self.keystore.ocsp_answer(&name) {
            self.note_staple(entry, &der);
        }
        if let Ok(renewal) = self.keystore.renewal(&name) {
            entry.take_renewal(renewal);
        }
        for (_, der) in entry.unsaved.clone() {
            der.iter().for_each(|der| self.note_staple(entry, der));
        }
        let news = self.host.news(entry.index);
        let changed = first
            || replaced
            || entry.evidence != evidence
            || entry.staple != stapled
            || entry.renewal != renewal
            || entry.news != news;
        entry.news = news;
        let now = self.now();
        if replaced {
            self.forget_failures(entry, now);
        }
        // Before anybody is told: a back-off that was for less than this holds no longer.
        self.note_bad(entry, now);
        if was_bad && !entry.is_bad(now) {
            self.publish(entry, |news| news.bad_since = None); // another host knew a hold lifted
        }
        if changed {
            self.tell(entry, vec![], vec![]);
        }
        Ok(())
    }

    /// What went wrong with another certificate says nothing about this one.
    fn forget_failures(&self, entry: &mut Entry, now: Time) {
        let stored_at = entry.bundle.as_ref().ok().and_then(|b| b.meta.stored_at);
        self.publish(entry, |news| {
            // What was noted since then is about this one: another worker knew it before.
            if news.check_failures > 0 && (stored_at.is_none() || news.noted_at < stored_at) {
                if !news.issue_is_open() {
                    news.last_error = None;
                }
                (news.next_check, news.check_failures) = (None, 0);
            }
            if news.ocsp_failures > 0 && (stored_at.is_none() || news.noted_at < stored_at) {
                (news.next_ocsp, news.ocsp_failures) = (None, 0);
            }
            if news.crl_failures > 0 && (stored_at.is_none() || news.noted_at < stored_at) {
                (news.next_crl, news.crl_failures) = (None, 0);
            }
        });
        let why = entry.why_replace(now);
        if why.as_ref().is_some_and(Why::is_bad) {
            return;
        }
        self.publish(entry, |news| {
            news.bad_since = None;
            if why.is_none() && news.issue_is_open() {
                (news.next_issue, news.issue_failures, news.pending) = (None, 0, false);
                if news.check_failures == 0 {
                    news.last_error = None;
                }
            }
        });
    }

    /// Changes the news of an entry for all workers; nothing is sent when nothing changes.
    pub fn publish(&self, entry: &mut Entry, mut change: impl FnMut(&mut News)) {
        let now = self.now();
        let mut change = |news: &mut News| {
            let nexts = |n: &News| (n.next_check, n.next_ocsp, n.next_crl, n.next_issue);
            let before = nexts(news);
            change(news);
            if nexts(news) != before {
                news.noted_at = Some(now);
            }
        };
        let mut after = entry.news.clone();
        change(&mut after);
        if after == entry.news && self.host.news(entry.index) == entry.news {
            return;
        }
        self.host.publish(entry.index, &mut change);
        entry.news = self.host.news(entry.index);
        self.tell(entry, vec![], vec![]);
        self.note_refused(entry);
    }

    /// Tells, once in this nginx, that handshakes are refused from now on, or no longer. While
    /// they are held nothing has changed yet.
    pub fn note_refused(&self, entry: &mut Entry) {
        let decision = entry.with_standing(|standing| {
            policy::decide(self.now(), standing, &entry.settings, Asker::default())
        });
        let what = match (decision, entry.serial()) {
            (Decision::Refuse(refusal), serial) => {
                What::Refused { serial, cause: refusal.to_string() }
            }
            (Decision::Serve, Some(serial)) => What::Served { serial },
            _ => return,
        };
        let refused = matches!(what, What::Refused { .. });
        if entry.news.refused == refused {
            return;
        }
        let mut first = false;
        self.host.publish(entry.index, &mut |news| {
            first = news.refused != refused;
            news.refused = refused;
        });
        entry.news = self.host.news(entry.index);
        let events = if first { vec![what] } else { vec![] };
        self.tell(entry, events, vec![]);
    }

    /// The clock was set back: attempts that are due by the old time would be far away.
    pub fn forget_the_future(&self, entry: &mut Entry) {
        let now = self.now();
        if entry.news.noted_at.is_some_and(|noted| noted > now + SKEW) {
            self.publish(entry, |news| {
                (news.next_check, news.next_ocsp) = (None, None);
                (news.next_crl, news.next_issue) = (None, None);
            });
        }
    }

    /// A line for the log that changes the state of no entry.
    pub fn note(&self, event: Event) {
        lock(&self.notes).push(event);
        self.host.wake();
    }

    pub fn take_notes(&self) -> Vec<Event> {
        std::mem::take(&mut lock(&self.notes))
    }

    /// Tells the own event loop of an entry.
    pub fn tell(&self, entry: &Entry, events: Vec<What>, counts: Vec<Count>) {
        let event = |what| Event { entry: entry.name(), what };
        let update = Update {
            entry: entry.index,
            view: Arc::new(entry.view()),
            finished: None,
            events: events.into_iter().map(event).collect(),
            counts,
        };
        self.board().post(update);
        self.host.wake();
    }

    /// Sees to it that the beginning of a bad time is known and told once, by whoever in this
    /// nginx learns it first.
    pub fn note_bad(&self, entry: &mut Entry, now: Time) {
        let why = entry.why_replace(now);
        let Some(badness) = why.as_ref().and_then(|why| why.badness()) else { return };
        let mut first = false;
        let rest = entry.rests_until(now);
        if entry.news.bad_since.is_none() {
            self.publish(entry, |news| {
                first = news.bad_since.is_none();
                if first {
                    news.bad_since = Some(now);
                    // The back-off was that of a renewal: this one can't wait for it.
                    news.next_issue = rest;
                    news.issue_failures = 0;
                }
            });
        }
        if let (true, Some(rest)) = (first, rest) {
            let cause = "the last one had hardly any life left when it came".into();
            self.tell(entry, vec![What::IssueFailed { cause, retry: rest.since(now) }], vec![]);
        }
        if let (true, Badness::Revoked(reason) | Badness::IssuerRevoked(reason)) = (first, badness)
        {
            let mut chain = entry.subjects.iter().map(|s| &s.facts.fingerprint);
            let answer = chain.find_map(|c| entry.known(c).find(|e| e.is_revoked()));
            if let Some(answer) = answer {
                let (serial, source) = (answer.serial.clone(), answer.responder.clone());
                self.tell(entry, vec![What::Revoked { serial, reason: *reason, source }], vec![]);
            }
        }
    }

    /// Tells the workers that the keystore has more than they know.
    pub fn announce_changes(&self) {
        let ticket = u64::try_from(self.now().millis()).unwrap_or(0);
        self.host.set_changes_known(ticket.max(self.host.changes_known() + 1));
    }

    /// A job is over: tells who waited, or hands them over to the replacement.
    fn conclude(&self, key: Key, end: End) {
        let (index, lane) = key;
        let now = self.now();
        let entry = self.entry(index);
        let mut board = self.board();
        board.end(key);
        let since = board.demanded(index);
        let settled = match (lane, &end) {
            (Lane::Crl, End::HandOver) => {
                board.begin((index, Lane::Replace), Job::replace(index, now), None);
                false
            }
            // Who waits for it is a check, which looks by itself.
            (Lane::Crl, _) => false,
            // Nobody waits for it.
            (Lane::Renewal, _) => false,
            (Lane::Check, End::HandOver) => {
                let begun = board.begin((index, Lane::Replace), Job::replace(index, now), None);
                // Closed: nothing goes on, and nobody is left who waits.
                !begun && !board.is_active((index, Lane::Replace))
            }
            // Somebody came to wait after it had looked and found nothing to do.
            (Lane::Check, End::Idle { since: seen }) if since != *seen => {
                board.begin((index, Lane::Check), Job::check(index, now), None);
                false
            }
            // Others have replaced it by one that nobody has asked about.
            (Lane::Replace, End::Idle { .. })
                if since.is_some_and(|t| entry.needs_check(now, t)) =>
            {
                board.begin((index, Lane::Check), Job::check(index, now), None);
                false
            }
            (Lane::Check, _) => true,
            (Lane::Replace, _) => !board.is_active((index, Lane::Check)),
        };
        let told = settled && board.settle(index);
        if told {
            let asked = match end {
                End::Asked(asked) => asked,
                _ => entry.answered_at(now, since),
            };
            board.post(Update {
                entry: index,
                view: Arc::new(entry.view()),
                finished: Some(asked),
                events: vec![],
                counts: vec![],
            });
        }
        drop(board);
        if told {
            self.host.wake();
        }
    }
}

/// A cause for the status: short enough for the zone whatever the network sent.
pub fn brief(cause: &str) -> String {
    const LIMIT: usize = 400;
    let mut text = printable(cause);
    if text.len() > LIMIT {
        let end = (0..=LIMIT).rev().find(|i| text.is_char_boundary(*i)).unwrap_or(0);
        text.truncate(end);
    }
    text
}

/// Whether the answer proves the certificate.
pub fn is_good(evidence: &Evidence) -> bool {
    evidence.status == Status::Good
}

/// What a panic of another thread left behind is whole: nothing here is half-written over a call
/// that may panic.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
