//! The engine carries decisions out: asks, fetches, checks, stores and publishes, on its own
//! threads. The event loop talks to it by [`Engine::demand`] and [`Engine::take_updates`] only.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::keystore::Keystore;
use crate::report::Event;

mod attempt;
mod backoff;
mod board;
mod budget;
mod check;
mod commit;
mod crl;
mod desk;
mod entry;
mod host;
mod job;
mod learn;
mod network;
mod outcome;
mod pool;
mod ports;
mod prove;
mod rekey;
mod renewal;
mod replace;
mod rest;
mod round;
mod schedule;
mod subject;
#[cfg(test)]
mod tests;
mod watch;

pub use host::{Count, Host, News, Plan, Update, View, Working};
pub use ports::{Answer, Crls, Inquiry, Listing, NoAnswer, Ports, Responders};
pub use schedule::next_action;
pub use subject::{Subject, Trust, subjects_of_chain};

use desk::Desk;
use pool::Pool;

/// The engine of one worker.
pub struct Engine {
    desk: Arc<Desk>,
    pool: Arc<Pool>,
}

/// What is for the log and changes the state of no entry: the words of programs, for one.
type Notes = Arc<Mutex<Vec<Event>>>;

impl Engine {
    /// Starts nothing yet. A keystore that is not there yet is looked for again.
    pub fn new(plan: Plan, host: Arc<dyn Host>, ports: Ports) -> Engine {
        let keystore = Keystore::at(&plan.keystore).with_passwords(plan.passwords.clone());
        Engine::of(Desk::new(plan, host, ports, keystore, Notes::default()))
    }

    fn of(desk: Desk) -> Engine {
        let desk = Arc::new(desk);
        let pool = Arc::new(Pool::new(Arc::clone(&desk)));
        Engine { desk, pool }
    }

    /// Starts the threads that are always there. They, and those that they start, inherit the
    /// caller's signal mask: block all signals around this call.
    pub fn start(&self) {
        self.pool.start();
    }

    /// Waits until the keystore was looked at once, `patience` at most: handshakes that come then
    /// need not wait for it. For the start of a worker, before its event loop.
    pub fn await_look(&self, patience: Duration) {
        self.pool.await_look(patience);
    }

    /// A handshake waits for this entry: a job begins, unless one runs already. Its end comes as
    /// [`Update::finished`]. For the event loop: never blocks.
    pub fn demand(&self, entry: usize) {
        self.desk.demand(entry);
    }

    /// Another worker has something to tell. For the event loop: never blocks.
    pub fn poke(&self) {
        self.pool.poke();
    }

    /// What happened, in order. For the event loop: never blocks.
    pub fn take_updates(&self) -> Vec<Update> {
        self.desk.board().take_updates()
    }

    /// Further lines for the log, from before what [`Engine::take_updates`] would give now. For the
    /// event loop: never blocks.
    pub fn take_notes(&self) -> Vec<Event> {
        self.desk.take_notes()
    }

    /// At the worker's exit: begins nothing any more, and waits a little for what is under way.
    /// True when no thread is left.
    pub fn stop(&self, patience: Duration) -> bool {
        self.pool.stop(patience)
    }
}
