//! One worker process: its view of every entry, who waits for what, and the way back from the
//! engine's threads into the event loop. All of it is touched by the event-loop thread only.

use std::collections::VecDeque;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use nginx_sys::{
    SSL_CTX, ngx_add_timer, ngx_cached_time, ngx_cycle, ngx_del_timer, ngx_event_t, ngx_msec_t,
    ngx_post_event, ngx_posted_next_events,
};

use super::conf::MainConf;
use super::gate::Verdict;
use super::hold::{Hold, Place};
use super::http::Context;
use super::zone::{Counter, Zone};
use super::{guard, log, sessions, swap};
use openssl::pkey::Id;

use crate::bundle::Bundle;
use crate::clock::Time;
use crate::engine::{Count, Engine, Update, View};
use crate::facts::Serial;
use crate::policy::{self, Asker, Decision};
use crate::settings::EntrySettings;

pub struct Worker {
    main: *mut MainConf,
    pub zone: &'static Zone,
    pub engine: Engine,
    pub entries: Vec<Entry>,
    /// Until then no handshake needs to be looked at.
    gate: Time,
    held: usize,
    max_held: usize,
    slot: usize,
    released: VecDeque<*mut Hold>,
    /// Fires at the earliest deadline of a held handshake.
    timer: Box<ngx_event_t>,
    /// Wakes the released ones, a few a turn of the event loop.
    waker: Box<ngx_event_t>,
}

/// What this worker knows of one entry.
pub struct Entry {
    settings: Arc<EntrySettings>,
    /// None until the engine has looked into the keystore.
    pub view: Option<Arc<View>>,
    /// From then on a handshake for this entry must be looked at.
    pub due: Time,
    /// What is in the SSL contexts.
    pub installed: Option<Arc<Bundle>>,
    contexts: Vec<*mut SSL_CTX>,
    last_revoked: Option<Serial>,
    waiting: VecDeque<*mut Hold>,
}

/// Handshakes woken in one turn of the event loop: a herd of a thousand would hold up others.
const WOKEN_AT_ONCE: usize = 8;

/// A time that no answer was asked at: what is decided now is decided without waiting.
const NEVER_ASKED: Time = Time::MAX;

/// nginx's cached time.
pub fn now() -> Time {
    // SAFETY: nginx keeps it pointing at a valid time.
    let t = unsafe { &*ngx_cached_time };
    Time::from_millis(t.sec * 1000 + t.msec as i64)
}

/// nginx's milliseconds, which no clock change moves.
fn milliseconds() -> ngx_msec_t {
    // SAFETY: a word that nginx's event loop, which we are in, keeps.
    unsafe { nginx_sys::ngx_current_msec }
}

/// The worker of the current cycle, in a worker process.
pub fn current<'a>() -> Option<&'a mut Worker> {
    // SAFETY: ngx_cycle is valid; event-loop thread.
    unsafe { Worker::of(Context::of_cycle(&*ngx_cycle)?.ours()) }
}

impl Worker {
    /// Never freed: a worker process ends with it.
    pub fn new(
        main: *mut MainConf,
        zone: &'static Zone,
        engine: Engine,
        slot: usize,
        max_held: usize,
    ) -> *mut Worker {
        // SAFETY: our configuration, which lives as long as the cycle.
        let conf = unsafe { &*main };
        let entries =
            conf.entries.iter().enumerate().map(|(i, s)| Entry::new(conf, i, s)).collect();
        let worker = Box::into_raw(Box::new(Worker {
            main,
            zone,
            engine,
            entries,
            gate: Time::from_secs(0),
            held: 0,
            max_held,
            slot,
            released: VecDeque::new(),
            timer: event(timer_handler),
            waker: event(waker_handler),
        }));
        // SAFETY: just made, never freed; the events live in it.
        unsafe {
            (*worker).timer.data = worker.cast();
            (*worker).waker.data = worker.cast();
        }
        worker
    }

    /// The worker of a configuration.
    ///
    /// # Safety
    /// Event-loop thread, and no other reference to the worker in use.
    pub unsafe fn of<'a>(main: *const MainConf) -> Option<&'a mut Worker> {
        // SAFETY: main lives as long as its cycle; the worker is never freed.
        unsafe { (*main).worker.map(|w| &mut *w) }
    }

    /// Whether handshakes have to be looked at: one comparison and one load when nothing is due.
    pub fn gate_is_open(&self) -> bool {
        now() >= self.gate || self.zone.challenges_out.load(Ordering::Relaxed) > 0
    }

    pub fn count(&self, counter: Counter) {
        self.zone.count(self.slot, counter);
    }

    fn main(&self) -> &'static MainConf {
        // SAFETY: lives as long as the cycle, and a worker's last cycle never ends.
        unsafe { &*self.main }
    }

    /// Decides for a handshake that may still wait; None: it has to.
    pub fn judge(&mut self, index: usize, name: Option<&str>) -> Option<Verdict> {
        self.judge_again(index, name).or_else(|| {
            self.engine.demand(index);
            // Until the keystore was read nothing is known: that is a matter of moments.
            let full = self.held >= self.max_held && self.entries[index].view.is_some();
            full.then(|| self.judge_waited(index, name, NEVER_ASKED))
        })
    }

    /// Decides for a handshake that can't wait; the job for the next one is started.
    pub fn judge_now(&mut self, index: usize, name: Option<&str>) -> Verdict {
        self.judge(index, name).unwrap_or_else(|| self.judge_waited(index, name, NEVER_ASKED))
    }

    /// Whether the certificate of an entry may not be served to anybody who asks for `name`.
    pub fn is_bad(&self, index: usize, name: Option<&str>) -> bool {
        let entry = &self.entries[index];
        entry
            .view
            .as_ref()
            .is_none_or(|v| policy::badness(now(), &v.standing(), &entry.settings, name).is_some())
    }

    /// Decides for a handshake whose wait is over.
    fn judge_waited(&self, index: usize, name: Option<&str>, asked: Time) -> Verdict {
        match self.decide(index, Asker { name, waited_for: Some(asked) }) {
            Some(Decision::Serve) => Verdict::Serve,
            _ => Verdict::Refuse,
        }
    }

    /// What the policy says; None: nothing is known yet.
    fn decide(&self, index: usize, asker: Asker) -> Option<Decision> {
        let entry = &self.entries[index];
        let view = entry.view.as_ref()?;
        Some(policy::decide(now(), &view.standing(), &entry.settings, asker))
    }

    /// Holds a handshake.
    pub fn wait(&mut self, index: usize, hold: &mut Hold) {
        let entry = &mut self.entries[index];
        hold.place = Place::Waiting(index);
        hold.deadline = milliseconds() + entry.settings.timeout.as_millis() as ngx_msec_t;
        entry.waiting.push_back(ptr::from_mut(hold));
        self.held += 1;
        self.count(Counter::Held);
        self.arm_timer();
    }

    /// The client of a held or released handshake is gone.
    pub fn forget(&mut self, hold: &mut Hold) {
        let hold = ptr::from_mut(hold);
        // SAFETY: just made from a reference.
        match unsafe { (*hold).place } {
            Place::Waiting(index) => {
                self.entries[index].waiting.retain(|h| !ptr::eq(*h, hold));
                self.held -= 1;
            }
            Place::Released => self.released.retain(|h| !ptr::eq(*h, hold)),
            Place::Nowhere => {}
        }
    }

    /// News from the engine's threads.
    pub fn take_updates(&mut self) {
        self.engine.poke();
        self.engine.take_notes().iter().for_each(log::event);
        let updates = self.engine.take_updates();
        let finished: Vec<_> = updates.iter().map(|u| (u.entry, u.finished)).collect();
        let revoked: Vec<_> = self.entries.iter().map(|e| e.last_revoked.clone()).collect();
        updates.into_iter().for_each(|update| self.apply(update));
        // Once for all of them: a mass revocation is a thousand updates. Before anybody is let go.
        if self.entries.iter().map(|e| &e.last_revoked).ne(&revoked) {
            let entries = &self.entries;
            sessions::renew(self.main(), |i| entries[i].last_revoked.as_ref());
        }
        for (entry, finished) in finished {
            self.decide_waiting(entry, finished);
        }
        self.zone.sweep_challenges(now());
        self.arm_timer();
        self.gate = self.entries.iter().map(|e| e.due).min().unwrap_or(Time::MAX);
    }

    fn apply(&mut self, update: Update) {
        update.events.iter().for_each(log::event);
        for count in &update.counts {
            self.count(counter(*count));
        }
        let index = update.entry;
        let entry = &mut self.entries[index];
        entry.due = policy::due_at(now(), &update.view.standing(), &entry.settings);
        entry.view = Some(Arc::clone(&update.view));
        entry.last_revoked.clone_from(&update.view.last_revoked);
        self.install(index, &update.view);
    }

    /// Swaps the certificate of an entry in all its contexts.
    fn install(&mut self, index: usize, view: &View) {
        let main = self.main();
        let entry = &mut self.entries[index];
        let (Ok(bundle), Some(placeholder)) = (&view.bundle, &main.placeholder) else { return };
        if entry.installed.as_ref().is_some_and(|b| Arc::ptr_eq(b, bundle)) {
            return;
        }
        let before = entry.installed.as_ref().map_or(Id::EC, |b| b.key.id()); // the placeholder's
        for ctx in &entry.contexts {
            if !swap::install(*ctx, bundle, before, placeholder) {
                let text = format!(
                    "\"{}\": SSL_CTX_use_cert_and_key() failed for serial={} ({})",
                    entry.settings.name,
                    bundle.facts.serial,
                    openssl::error::ErrorStack::get()
                );
                log::line(log::ALERT, &text);
            }
        }
        entry.installed = Some(Arc::clone(bundle));
    }

    /// Releases those whose wait is over.
    fn decide_waiting(&mut self, index: usize, finished: Option<Time>) {
        let waiting = std::mem::take(&mut self.entries[index].waiting);
        let mut still = VecDeque::new();
        for hold in waiting {
            // SAFETY: a hold is on this list as long as it lives, no longer.
            let name = unsafe { (*hold).name.as_deref() };
            let verdict = match finished {
                Some(asked) => Some(self.judge_waited(index, name, asked)),
                None => self.judge_again(index, name),
            };
            match verdict {
                Some(verdict) => self.release(hold, index, verdict),
                None => still.push_back(hold),
            }
        }
        self.entries[index].waiting = still;
    }

    /// As judge(), for one that waits already: its job is under way.
    fn judge_again(&self, index: usize, name: Option<&str>) -> Option<Verdict> {
        match self.decide(index, Asker { name, waited_for: None })? {
            Decision::Serve => Some(Verdict::Serve),
            Decision::Refuse(_) => Some(Verdict::Refuse),
            Decision::Check | Decision::Replace(_) => None,
        }
    }

    fn release(&mut self, hold: *mut Hold, index: usize, verdict: Verdict) {
        // SAFETY: a live hold, taken from its list by the caller.
        unsafe { (*hold).decide(index, verdict) };
        self.held -= 1;
        self.released.push_back(hold);
        // SAFETY: our event, never freed; event-loop thread.
        unsafe { ngx_post_event(&raw mut *self.waker, &raw mut ngx_posted_next_events) };
    }

    fn wake_some(&mut self) {
        for _ in 0..WOKEN_AT_ONCE {
            let Some(hold) = self.released.pop_front() else { return };
            // SAFETY: a hold is on this list as long as it lives, no longer.
            unsafe { (*hold).wake() };
        }
        if !self.released.is_empty() {
            // SAFETY: as in release().
            unsafe { ngx_post_event(&raw mut *self.waker, &raw mut ngx_posted_next_events) };
        }
    }

    /// Ends the wait of those whose time is up.
    fn end_late(&mut self) {
        let now = milliseconds();
        for index in 0..self.entries.len() {
            while let Some(hold) = self.entries[index].waiting.front().copied() {
                // SAFETY: as in decide_waiting(); in one list deadlines only grow.
                let (deadline, name) = unsafe { ((*hold).deadline, (*hold).name.as_deref()) };
                if now < deadline {
                    break;
                }
                self.entries[index].waiting.pop_front();
                let verdict = self.judge_waited(index, name, NEVER_ASKED);
                self.release(hold, index, verdict);
            }
        }
        self.arm_timer();
    }

    fn arm_timer(&mut self) {
        let first = |e: &Entry| {
            // SAFETY: as in decide_waiting().
            e.waiting.front().map(|h| unsafe { (**h).deadline })
        };
        let timer = &raw mut *self.timer;
        // SAFETY: our event, never freed; event-loop thread.
        unsafe {
            match self.entries.iter().filter_map(first).min() {
                Some(deadline) => {
                    ngx_add_timer(timer, deadline.saturating_sub(milliseconds()) + 1);
                }
                None if (*timer).timer_set() != 0 => ngx_del_timer(timer),
                None => {}
            }
        }
    }

    /// For the status: the settings and the view of each entry.
    pub fn views(&self) -> impl Iterator<Item = (&EntrySettings, Option<&View>)> {
        self.entries.iter().map(|e| (&*e.settings, e.view.as_deref()))
    }
}

fn counter(count: Count) -> Counter {
    match count {
        Count::OcspQuery => Counter::OcspQueries,
        Count::OcspError => Counter::OcspErrors,
        Count::CrlFetch => Counter::CrlFetches,
        Count::Issued => Counter::Issued,
        Count::IssueError => Counter::IssueErrors,
        Count::ReplacedRevoked => Counter::ReplacedRevoked,
        Count::ReplacedExpired => Counter::ReplacedExpired,
    }
}

impl Entry {
    fn new(main: &MainConf, index: usize, settings: &Arc<EntrySettings>) -> Entry {
        let own = main.listens.iter().filter(|h| h.entry == Some(index));
        Entry {
            settings: Arc::clone(settings),
            view: None,
            due: Time::from_secs(0),
            installed: None,
            contexts: own.map(|h| h.ctx).collect(),
            last_revoked: None,
            waiting: VecDeque::new(),
        }
    }
}

type EventHandler = unsafe extern "C" fn(*mut ngx_event_t);

fn event(handler: EventHandler) -> Box<ngx_event_t> {
    // SAFETY: all zeros is an idle event.
    let mut event: Box<ngx_event_t> = Box::new(unsafe { std::mem::zeroed() });
    event.handler = Some(handler);
    // SAFETY: the log of the cycle; a worker's last cycle never ends.
    event.log = unsafe { (*ngx_cycle).log };
    // Our timer alone must not keep an old worker alive.
    event.set_cancelable(1);
    event
}

unsafe extern "C" fn timer_handler(event: *mut ngx_event_t) {
    // SAFETY: the event of start(); event-loop thread.
    guard((), || unsafe { (*(*event).data.cast::<Worker>()).end_late() });
}

unsafe extern "C" fn waker_handler(event: *mut ngx_event_t) {
    // SAFETY: the event of start(); event-loop thread.
    guard((), || unsafe { (*(*event).data.cast::<Worker>()).wake_some() });
}
