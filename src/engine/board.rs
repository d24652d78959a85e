//! Who runs, who waits, who is waited for: single-flight for jobs and the letters to the event
//! loop. Plain data behind one mutex that is held for microseconds: the event loop takes it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::host::Update;
use crate::clock::Time;

/// What a job is about. One of each kind runs for an entry at most: evidence of a certificate that
/// is served is renewed while its successor is on order.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Lane {
    Check,
    Crl,
    Renewal,
    Replace,
}

pub type Key = (usize, Lane);

/// Jobs at a time that talk to one remote host: a slow one can't take all threads.
const PER_HOST: usize = 2;
/// CRLs that come in at a time: large ones over slow lines can't take all threads.
const CRLS: usize = 4;

pub struct Board<J> {
    seats: BTreeMap<Key, Seat<J>>,
    ready: VecDeque<Key>,
    alarms: BTreeSet<(Time, Key)>,
    /// Jobs under way, by the host they talk to.
    hosts: BTreeMap<String, usize>,
    /// CRLs that come in.
    crls: usize,
    /// Entries that handshakes wait for, with the time since when the first of them does.
    demands: BTreeMap<usize, Time>,
    outbox: Vec<Update>,
    /// The latest time that was seen here.
    seen: Time,
    closed: bool,
}

enum Seat<J> {
    /// Wants to run, talking to this host.
    Ready(J, Option<String>),
    Waiting(J, Option<String>),
    /// A thread has it.
    Running(Option<String>),
}

impl<J> Default for Board<J> {
    fn default() -> Self {
        Board {
            seats: BTreeMap::new(),
            ready: VecDeque::new(),
            alarms: BTreeSet::new(),
            hosts: BTreeMap::new(),
            crls: 0,
            demands: BTreeMap::new(),
            outbox: Vec::new(),
            seen: Time::default(),
            closed: false,
        }
    }
}

impl<J> Board<J> {
    /// A handshake waits for the entry. Returns whether somebody has to begin a job: false when
    /// one is under way, or its answer is on the way already.
    pub fn demand(&mut self, entry: usize, now: Time) -> bool {
        let answered = |u: &Update| u.entry == entry && u.finished.is_some();
        if self.outbox.iter().any(answered) {
            return false;
        }
        self.demands.entry(entry).or_insert(now);
        !self.is_active((entry, Lane::Check))
    }

    /// Since when handshakes wait for the entry.
    pub fn demanded(&self, entry: usize) -> Option<Time> {
        self.demands.get(&entry).copied()
    }

    /// Nobody waits any longer: what is put next into the outbox is their answer.
    pub fn settle(&mut self, entry: usize) -> bool {
        self.demands.remove(&entry).is_some()
    }

    pub fn is_active(&self, key: Key) -> bool {
        self.seats.contains_key(&key)
    }

    /// Queues a new job; the one that runs already stays, if there is one.
    pub fn begin(&mut self, key: Key, job: J, host: Option<String>) -> bool {
        if self.closed || self.is_active(key) {
            return false;
        }
        self.put_ready(key, job, host);
        true
    }

    /// The next job that may run now. It is the caller's until [`Board::put_ready`],
    /// [`Board::put_waiting`] or [`Board::end`].
    pub fn pick(&mut self, now: Time) -> Option<(Key, J)> {
        if self.closed {
            return None;
        }
        self.ring(now);
        // What handshakes wait for comes first: a thousand renewals may stand before it.
        let is_waited_for = |key: &Key| self.demands.contains_key(&key.0) && self.may_run(key);
        let waited_for = self.ready.iter().position(is_waited_for);
        let position =
            waited_for.or_else(|| self.ready.iter().position(|key| self.may_run(key)))?;
        let key = self.ready.remove(position)?;
        match self.seats.remove(&key) {
            Some(Seat::Ready(job, host)) => {
                if let Some(host) = &host {
                    *self.hosts.entry(host.clone()).or_default() += 1;
                    self.crls += usize::from(key.1 == Lane::Crl);
                }
                self.seats.insert(key, Seat::Running(host));
                Some((key, job))
            }
            _ => None, // it is there: may_run() says so
        }
    }

    pub fn put_ready(&mut self, key: Key, job: J, host: Option<String>) {
        self.leave_host(key);
        if self.closed {
            self.seats.remove(&key);
            return; // the job is dropped, and with it what it holds
        }
        self.seats.insert(key, Seat::Ready(job, host));
        self.ready.push_back(key);
    }

    pub fn put_waiting(&mut self, key: Key, job: J, host: Option<String>, until: Time) {
        self.leave_host(key);
        if self.closed {
            self.seats.remove(&key);
            return;
        }
        self.seats.insert(key, Seat::Waiting(job, host));
        self.alarms.insert((until, key));
    }

    pub fn end(&mut self, key: Key) {
        self.leave_host(key);
        self.seats.remove(&key);
    }

    /// When a waiting job wants to go on.
    pub fn next_alarm(&self) -> Option<Time> {
        self.alarms.first().map(|(t, _)| *t)
    }

    /// Whether [`Board::pick`] would find something.
    pub fn has_work(&mut self, now: Time) -> bool {
        self.ring(now);
        self.ready.iter().any(|key| self.may_run(key))
    }

    pub fn post(&mut self, update: Update) {
        self.outbox.push(update);
    }

    pub fn take_updates(&mut self) -> Vec<Update> {
        std::mem::take(&mut self.outbox)
    }

    /// No job runs any more; those that no thread has are given back to be dropped.
    pub fn close(&mut self) -> Vec<J> {
        self.closed = true;
        self.ready.clear();
        self.alarms.clear();
        let seats = std::mem::take(&mut self.seats);
        let job = |seat| match seat {
            Seat::Ready(job, _) | Seat::Waiting(job, _) => Some(job),
            Seat::Running(_) => None,
        };
        seats.into_values().filter_map(job).collect()
    }

    pub fn is_closed(&self) -> bool {
        self.closed
    }

    fn may_run(&self, key: &Key) -> bool {
        let Some(Seat::Ready(_, host)) = self.seats.get(key) else { return false };
        let Some(host) = host else { return true };
        let has_room = key.1 != Lane::Crl || self.crls < CRLS;
        has_room && self.hosts.get(host).is_none_or(|n| *n < PER_HOST)
    }

    /// Moves jobs whose time has come to those that are ready.
    fn ring(&mut self, now: Time) {
        // The clock was set back: nobody knows how long is still to be waited. Waiting jobs look
        // for themselves.
        let all = now < self.seen;
        self.seen = now;
        while let Some((until, key)) = self.alarms.first().copied() {
            if now < until && !all {
                break;
            }
            self.alarms.remove(&(until, key));
            if let Some(Seat::Waiting(job, host)) = self.seats.remove(&key) {
                self.put_ready(key, job, host);
            }
        }
    }

    fn leave_host(&mut self, key: Key) {
        let Some(Seat::Running(Some(host))) = self.seats.get(&key) else { return };
        self.crls -= usize::from(key.1 == Lane::Crl);
        if let Some(n) = self.hosts.get_mut(host) {
            *n -= 1;
            if *n == 0 {
                self.hosts.remove(&host.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn t(secs: i64) -> Time {
        Time::from_secs(secs)
    }

    fn host(name: &str) -> Option<String> {
        Some(name.into())
    }

    #[test]
    fn one_job_an_entry_and_lane() {
        let mut board = Board::default();
        assert!(board.demand(1, t(1)));
        assert!(board.begin((1, Lane::Check), "a", None));
        assert!(!board.demand(1, t(2)), "joins");
        assert_eq!(board.demanded(1), Some(t(1)), "the first counts");
        assert!(!board.begin((1, Lane::Check), "b", None));
        assert!(board.begin((1, Lane::Replace), "c", None));
        assert_eq!(board.pick(t(3)), Some(((1, Lane::Check), "a")));
        assert!(!board.begin((1, Lane::Check), "b", None), "it runs");
        board.end((1, Lane::Check));
        assert!(board.begin((1, Lane::Check), "b", None));
        assert!(board.settle(1));
        assert!(!board.settle(1));
    }

    #[test]
    fn two_at_a_time_for_a_host() {
        let mut board = Board::default();
        for entry in 0..3 {
            board.begin((entry, Lane::Check), entry, host("slow"));
        }
        board.begin((3, Lane::Check), 3, host("other"));
        let picked: Vec<usize> = std::iter::from_fn(|| board.pick(t(0)).map(|(_, j)| j)).collect();
        assert_eq!(picked, [0, 1, 3]);
        board.put_waiting((0, Lane::Check), 0, host("slow"), t(9));
        assert_eq!(board.pick(t(0)).map(|(_, j)| j), Some(2));
        board.end((1, Lane::Check));
        board.end((2, Lane::Check));
        assert_eq!(board.pick(t(9)).map(|(_, j)| j), Some(0));
    }

    #[test]
    fn large_crls_leave_threads_to_others() {
        let mut board = Board::default();
        for entry in 0..6 {
            board.begin((entry, Lane::Crl), entry, host(&format!("crl{entry}")));
        }
        board.begin((9, Lane::Check), 9, host("ocsp"));
        let picked: Vec<usize> = std::iter::from_fn(|| board.pick(t(0)).map(|(_, j)| j)).collect();
        assert_eq!(picked, [0, 1, 2, 3, 9]);
        board.end((2, Lane::Crl));
        assert_eq!(board.pick(t(0)).map(|(_, j)| j), Some(4));
    }

    #[test]
    fn what_is_waited_for_comes_first() {
        let mut board = Board::default();
        for entry in 0..4 {
            board.begin((entry, Lane::Check), entry, host("slow"));
        }
        board.demand(2, t(0));
        let picked: Vec<usize> = std::iter::from_fn(|| board.pick(t(0)).map(|(_, j)| j)).collect();
        assert_eq!(picked, [2, 0], "two at a time all the same");
    }

    #[test]
    fn waits_until_its_time() {
        let mut board = Board::default();
        board.put_waiting((0, Lane::Check), "later", None, t(5));
        board.put_waiting((1, Lane::Check), "sooner", None, t(3));
        assert_eq!(board.next_alarm(), Some(t(3)));
        assert_eq!(board.pick(t(2)), None);
        assert_eq!(board.pick(t(3)).map(|(_, j)| j), Some("sooner"));
        assert_eq!(board.pick(t(4)), None);
        assert_eq!(board.pick(t(1)).map(|(_, j)| j), Some("later"), "the clock was set back");
    }

    #[test]
    fn closed_gives_back_what_no_thread_has() {
        let mut board = Board::default();
        board.begin((0, Lane::Check), 0, None);
        board.begin((1, Lane::Check), 1, None);
        board.put_waiting((2, Lane::Check), 2, None, t(5));
        board.pick(t(0));
        assert_eq!(board.close(), [1, 2]);
        assert_eq!(board.pick(t(9)), None);
        assert!(!board.begin((3, Lane::Check), 3, None));
    }
}
