//! The threads: one for the disk, and some for jobs that come when they are needed and go when
//! they are not. One idle thread always waits for work, so that the event loop never has to start
//! one: it would inherit the event loop's signal mask.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

use super::desk::{Desk, lock};
use super::watch::Watch;

pub struct Pool {
    desk: Arc<Desk>,
    crew: Mutex<Crew>,
    /// Wakes the disk thread.
    bell: Condvar,
    /// Wakes who waits for the first look around, or for all threads to be gone.
    done: Condvar,
}

#[derive(Default)]
struct Crew {
    /// Threads for jobs.
    hands: usize,
    /// Those of them that wait for work.
    idle: usize,
    has_watch: bool,
    has_looked: bool,
    poked: bool,
    stopping: bool,
}

impl Pool {
    pub fn new(desk: Arc<Desk>) -> Pool {
        Pool { desk, crew: Mutex::default(), bell: Condvar::new(), done: Condvar::new() }
    }

    /// Starts the disk thread, and the one that waits for work.
    pub fn start(self: &Arc<Self>) {
        let mut crew = lock(&self.crew);
        if crew.has_watch || crew.stopping {
            return;
        }
        let pool = Arc::clone(self);
        let started = thread::Builder::new()
            .name("cert-disk".into())
            .spawn(move || pool.guard(Pool::watch, |crew| crew.has_watch = false));
        crew.has_watch = started.is_ok();
        drop(crew);
        self.call_one();
    }

    /// Waits until the disk thread has looked at all entries once, but not for long.
    pub fn await_look(&self, patience: Duration) {
        let is_looking = |crew: &mut Crew| crew.has_watch && !crew.has_looked;
        // Late, or a panic elsewhere: what is not known yet comes by itself.
        let _ = self.done.wait_timeout_while(lock(&self.crew), patience, is_looking);
    }

    /// The disk thread looks around now. For the event loop.
    pub fn poke(&self) {
        lock(&self.crew).poked = true;
        self.bell.notify_all();
    }

    /// Begins nothing any more and waits a little for the threads to end; true: none is left.
    pub fn stop(&self, patience: Duration) -> bool {
        lock(&self.crew).stopping = true;
        let jobs = self.desk.board().close();
        drop(jobs); // their locks and claims
        self.desk.work.notify_all();
        self.bell.notify_all();
        let is_left = |crew: &mut Crew| crew.hands > 0 || crew.has_watch;
        let waited = self.done.wait_timeout_while(lock(&self.crew), patience, is_left);
        let mut crew = match waited {
            Ok((crew, _)) => crew,
            Err(poisoned) => poisoned.into_inner().0,
        };
        !is_left(&mut crew)
    }

    /// Sees to it that a thread waits for work, if there may be one more.
    fn call_one(self: &Arc<Self>) {
        let mut crew = lock(&self.crew);
        if crew.idle > 0 || crew.hands >= HANDS || crew.stopping {
            return;
        }
        let pool = Arc::clone(self);
        let started = thread::Builder::new()
            .name("cert-job".into())
            .spawn(move || pool.guard(Pool::work, |crew| crew.hands -= 1));
        // If the system gives none, those that are there go on, and it is tried with each job.
        crew.hands += usize::from(started.is_ok());
    }

    /// Runs a thread to its end, which is told whatever comes.
    fn guard(self: Arc<Self>, run: fn(&Arc<Self>), end: fn(&mut Crew)) {
        struct Guard(Arc<Pool>, fn(&mut Crew));
        impl Drop for Guard {
            fn drop(&mut self) {
                (self.1)(&mut lock(&self.0.crew));
                self.0.done.notify_all();
            }
        }
        let guard = Guard(Arc::clone(&self), end);
        run(&self);
        drop(guard);
    }

    fn watch(self: &Arc<Self>) {
        let mut watch = Watch::new(&self.desk);
        loop {
            // A defect of ours must not end it: nothing would be renewed or seen any more.
            let look = AssertUnwindSafe(|| watch.look(&self.desk));
            let next = catch_unwind(look).unwrap_or_default();
            lock(&self.crew).has_looked = true;
            self.done.notify_all();
            self.call_one();
            let rest = next.map_or(SECOND, |t| t.since(self.desk.now()).clamp(SHORTEST, SECOND));
            let quiet = |crew: &mut Crew| !crew.poked && !crew.stopping;
            let waited = self.bell.wait_timeout_while(lock(&self.crew), rest, quiet);
            let mut crew = match waited {
                Ok((crew, _)) => crew,
                Err(poisoned) => poisoned.into_inner().0,
            };
            crew.poked = false;
            if crew.stopping {
                return;
            }
        }
    }

    fn work(self: &Arc<Self>) {
        loop {
            let now = self.desk.now();
            let (picked, more) = {
                let mut board = self.desk.board();
                (board.pick(now), board.has_work(now))
            };
            match picked {
                Some((key, job)) => {
                    self.call_one();
                    if more {
                        self.desk.work.notify_one();
                    }
                    self.desk.run(key, job);
                }
                None if !self.wait_for_work() => return,
                None => {}
            }
        }
    }

    /// Waits until there may be work; false: the thread is needed no longer.
    fn wait_for_work(&self) -> bool {
        {
            let mut crew = lock(&self.crew);
            if crew.stopping {
                return false;
            }
            crew.idle += 1;
        }
        let mut board = self.desk.board();
        // Looked at under the board's mutex: what is put there from now on wakes us.
        let now = self.desk.now();
        let mut timed_out = false;
        if !board.is_closed() && !board.has_work(now) {
            let time = board.next_alarm().map_or(IDLE, |t| t.since(now).min(IDLE));
            let waited = self.desk.work.wait_timeout(board, time);
            let (again, result) = waited.unwrap_or_else(|poisoned| poisoned.into_inner());
            (board, timed_out) = (again, result.timed_out() && time == IDLE);
        }
        let closed = board.is_closed();
        drop(board);
        let mut crew = lock(&self.crew);
        crew.idle -= 1;
        let is_spare = timed_out && crew.idle > 0; // the last one stays
        !closed && !is_spare
    }
}

/// Threads for jobs at most.
const HANDS: usize = 16;
/// How long a thread waits for work before it ends.
const IDLE: Duration = Duration::from_secs(30);
const SECOND: Duration = Duration::from_secs(1);
/// So that a clock that is set back and forth keeps no thread busy.
const SHORTEST: Duration = Duration::from_millis(10);
