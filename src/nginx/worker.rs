//! One worker process: its view of every entry, who waits for what, and the way back from the
//! engine's threads into the event loop. All of it is touched by the event-loop thread only.

use std::collections::VecDeque;
use std::ffi::{c_int, c_void};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use nginx_sys::{
    NGX_PROCESS_SINGLE, NGX_PROCESS_WORKER, SSL_CTX, ngx_add_timer, ngx_cached_time,
    ngx_connection_t, ngx_core_conf_t, ngx_core_module, ngx_cycle, ngx_cycle_t, ngx_del_timer,
    ngx_event_actions, ngx_event_t, ngx_get_connection, ngx_hash_find_combined, ngx_hash_key,
    ngx_http_connection_t, ngx_http_core_srv_conf_t, ngx_int_t, ngx_msec_t, ngx_post_event,
    ngx_posted_next_events, ngx_process, ngx_test_config, ngx_uint_t, ngx_worker,
};

use super::conf::MainConf;
use super::gate::Verdict;
use super::hold::{Hold, Place};
use super::host::{WorkerHost, own_id};
use super::http::Context;
use super::zone::{Counter, Zone};
use super::{NGX_ERROR, NGX_OK, guard, log, sessions, swap};
use openssl::pkey::Id;

use crate::bundle::Bundle;
use crate::clock::Time;
use crate::engine::{Count, Engine, Plan, Update, View};
use crate::facts::Serial;
use crate::keystore::Keystore;
use crate::policy::{self, Asker, Decision};
use crate::settings::EntrySettings;

mod events {
    include!(concat!(env!("OUT_DIR"), "/event_flags.rs"));
}

pub struct Worker {
    main: *mut MainConf,
    pub zone: &'static Zone,
    engine: Engine,
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

    /// The entry that serves a server name on the listen of a connection, found as nginx finds
    /// the server.
    pub fn entry_for(&self, c: *mut ngx_connection_t, name: Option<&[u8]>) -> Option<usize> {
        // SAFETY: during its handshake the data of an http connection is its
        // ngx_http_connection_t; the structures behind it live as long as the cycle.
        unsafe {
            let connection = &*(*c).data.cast::<ngx_http_connection_t>();
            let address = &*connection.addr_conf;
            let server =
                name.and_then(|n| find_server(address, n)).unwrap_or(address.default_server);
            (*Context::of_server(&*server).our_server()).entry
        }
    }

    /// Decides for a handshake that may still wait; None: it has to.
    pub fn judge(&mut self, index: usize, name: Option<&str>) -> Option<Verdict> {
        let entry = &self.entries[index];
        let asker = Asker { name, waited_for: None };
        let decision = entry
            .view
            .as_ref()
            .map(|v| policy::decide(now(), &v.standing(), &entry.settings, asker));
        match decision {
            Some(Decision::Serve) => Some(Verdict::Serve),
            Some(Decision::Refuse(_)) => Some(Verdict::Refuse),
            Some(Decision::Check | Decision::Replace(_)) | None => {
                self.engine.demand(index);
                // Until the keystore was read nothing is known: that is a matter of moments.
                let full = self.held >= self.max_held && decision.is_some();
                full.then(|| self.judge_waited(index, name, NEVER_ASKED))
            }
        }
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
        let entry = &self.entries[index];
        let asker = Asker { name, waited_for: Some(asked) };
        let serves = entry.view.as_ref().is_some_and(|v| {
            policy::decide(now(), &v.standing(), &entry.settings, asker) == Decision::Serve
        });
        if serves { Verdict::Serve } else { Verdict::Refuse }
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
    fn take_updates(&mut self) {
        self.engine.poke();
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
        let entry = &self.entries[index];
        let asker = Asker { name, waited_for: None };
        let view = entry.view.as_ref()?;
        match policy::decide(now(), &view.standing(), &entry.settings, asker) {
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

/// As nginx's own ngx_http_find_virtual_server(), which is not exported.
///
/// # Safety
/// `address` is of the running configuration.
unsafe fn find_server(
    address: &nginx_sys::ngx_http_addr_conf_t,
    name: &[u8],
) -> Option<*mut ngx_http_core_srv_conf_t> {
    // SAFETY: the hash and the array of regular expressions are nginx's, unchanged at run time.
    unsafe {
        let names = address.virtual_names.as_ref()?;
        let data = name.as_ptr().cast_mut();
        let found = ngx_hash_find_combined(
            (&raw const names.names).cast_mut(),
            ngx_hash_key(data, name.len()),
            data,
            name.len(),
        );
        if !found.is_null() {
            return Some(found.cast());
        }
        by_regex(names, name)
    }
}

#[cfg(nginx_regex)]
unsafe fn by_regex(
    names: &nginx_sys::ngx_http_virtual_names_t,
    name: &[u8],
) -> Option<*mut ngx_http_core_srv_conf_t> {
    let mut text = nginx_sys::ngx_str_t { len: name.len(), data: name.as_ptr().cast_mut() };
    // SAFETY: nregex expressions at regex, compiled by nginx; no captures are asked for.
    unsafe {
        let all = (0..names.nregex).map(|i| &*names.regex.add(i));
        let matches = |n: &&nginx_sys::ngx_http_server_name_t| {
            nginx_sys::ngx_regex_exec((*n.regex).regex, &raw mut text, ptr::null_mut(), 0) >= 0
        };
        all.into_iter().find(matches).map(|n| n.server)
    }
}

#[cfg(not(nginx_regex))]
unsafe fn by_regex(
    _names: &nginx_sys::ngx_http_virtual_names_t,
    _name: &[u8],
) -> Option<*mut ngx_http_core_srv_conf_t> {
    None
}

/// The configuration is complete: the master makes what workers need and may not make.
pub fn prepare(main: &mut MainConf, old: Option<&MainConf>) -> Result<(), String> {
    // SAFETY: globals of nginx, and the new cycle, whose core configuration is complete.
    let (test, process, core) = unsafe {
        let cycle = main.cycle.ok_or("no cycle")?;
        let core = (*cycle).conf_ctx.add(ngx_core_module.index).read().cast::<ngx_core_conf_t>();
        (ngx_test_config != 0, ngx_process, &*core)
    };
    if test {
        return Ok(());
    }
    if process == NGX_PROCESS_SINGLE as ngx_uint_t && old.is_some_and(|o| o.worker.is_some()) {
        // This very process uses the old zone, which nginx is about to unmap.
        return Err("with \"master_process off\" nginx has to be restarted, not reloaded".into());
    }
    // SAFETY: asks only.
    let root = unsafe { libc::geteuid() } == 0;
    let owner = root.then_some((core.user, core.group));
    Keystore::create(main.raw.keystore(), owner).map_err(|e| format!("keystore: {e}"))?;
    let workers = if core.master == 1 { core.worker_processes.max(1) } else { 1 };
    main.wakeups = (0..workers).map(|_| eventfd()).collect::<Result<_, _>>()?;
    Ok(())
}

fn eventfd() -> Result<OwnedFd, String> {
    // SAFETY: a new descriptor, owned from here on.
    unsafe {
        let fd = libc::eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC);
        if fd < 0 {
            return Err(format!("eventfd() failed ({})", std::io::Error::last_os_error()));
        }
        Ok(OwnedFd::from_raw_fd(fd))
    }
}

pub unsafe extern "C" fn init_process(cycle: *mut ngx_cycle_t) -> ngx_int_t {
    guard(NGX_ERROR, || {
        // SAFETY: nginx passes the cycle; these globals are set before.
        let (process, context) = unsafe { (ngx_process, Context::of_cycle(&*cycle)) };
        // The cache manager and loader come here too, with the slot of worker 0.
        if process != NGX_PROCESS_WORKER as ngx_uint_t
            && process != NGX_PROCESS_SINGLE as ngx_uint_t
        {
            return NGX_OK;
        }
        let Some(context) = context else { return NGX_OK };
        // SAFETY: our configuration of this cycle; one thread.
        let main = unsafe { &mut *context.ours() };
        if main.entries.is_empty() {
            return NGX_OK;
        }
        if process == NGX_PROCESS_SINGLE as ngx_uint_t {
            let text = "with \"master_process off\" a reload is refused, restart instead";
            log::line(log::WARN, text);
        }
        // An error would end the worker, and nginx would start no other: servers that are not ours
        // go on, ours refuse.
        if let Err(text) = start(cycle, main) {
            log::line(log::ALERT, &format!("not started, managed servers refuse: {text}"));
        }
        NGX_OK
    })
}

fn start(cycle: *mut ngx_cycle_t, main: &mut MainConf) -> Result<(), String> {
    let zone = Zone::of(main).ok_or("no shared zone")?;
    // SAFETY: set by nginx before this process began its work.
    let slot = unsafe { ngx_worker }.min(main.wakeups.len().saturating_sub(1));
    let all: Vec<RawFd> = main.wakeups.iter().map(AsRawFd::as_raw_fd).collect();
    let own = *all.get(slot).ok_or("no eventfd")?;
    let plan = Plan {
        keystore: main.raw.keystore().to_owned(),
        cas: main.raw.cas().to_vec(),
        entries: main.entries.clone(),
    };
    let host = Arc::new(WorkerHost { zone, own, all, id: own_id() });
    let engine = Engine::with_network(plan, host)?;
    // SAFETY: a valid cycle.
    let connections = unsafe { (*cycle).connection_n };
    let max_held = main.raw.max_held().unwrap_or(connections / 4).max(1);
    let entries = main.entries.iter().enumerate().map(|(i, s)| Entry::new(main, i, s)).collect();
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
    main.worker = Some(worker);
    listen(cycle, own, worker)?;
    // SAFETY: as above.
    unmasked_start(unsafe { &(*worker).engine });
    Ok(())
}

/// Starts the engine's threads with all signals blocked: nginx's handlers are for its own thread.
fn unmasked_start(engine: &Engine) {
    // SAFETY: plain calls on own sets.
    unsafe {
        let mut all = std::mem::zeroed::<libc::sigset_t>();
        let mut saved = std::mem::zeroed::<libc::sigset_t>();
        libc::sigfillset(&raw mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut saved);
        engine.start();
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const saved, ptr::null_mut());
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

/// Listens on the eventfd: edge-triggered, and never read. During a reload the old worker and the
/// new one of a slot share it, and whoever read it would take the other's wake-up.
fn listen(cycle: *mut ngx_cycle_t, fd: RawFd, worker: *mut Worker) -> Result<(), String> {
    // SAFETY: event-loop thread; nginx's connection for a descriptor of ours, as nginx's own
    // notify has one. `channel` says at exit that this is no forgotten socket.
    unsafe {
        let c = ngx_get_connection(fd as c_int, (*cycle).log);
        if c.is_null() {
            return Err("not enough worker_connections for ssl_cert_autofetch".into());
        }
        (*c).pool = (*cycle).pool;
        (*c).data = worker.cast::<c_void>();
        let (read, write) = ((*c).read, (*c).write);
        (*read).set_channel(1);
        (*write).set_channel(1);
        (*read).log = (*cycle).log;
        (*write).log = (*cycle).log;
        (*read).handler = Some(wakeup_handler);
        let add = ngx_event_actions.add.ok_or("no event method")?;
        let (kind, flags) = (events::READ_EVENT as ngx_int_t, events::CLEAR_EVENT as ngx_uint_t);
        if add(read, kind, flags) != NGX_OK {
            return Err("adding the event of ssl_cert_autofetch failed".into());
        }
    }
    Ok(())
}

unsafe extern "C" fn wakeup_handler(event: *mut ngx_event_t) {
    guard((), || {
        // SAFETY: the connection of listen(); event-loop thread.
        let worker = unsafe {
            let c = (*event).data.cast::<ngx_connection_t>();
            &mut *(*c).data.cast::<Worker>()
        };
        worker.take_updates();
        worker.arm_timer();
    });
}

unsafe extern "C" fn timer_handler(event: *mut ngx_event_t) {
    // SAFETY: the event of start(); event-loop thread.
    guard((), || unsafe { (*(*event).data.cast::<Worker>()).end_late() });
}

unsafe extern "C" fn waker_handler(event: *mut ngx_event_t) {
    // SAFETY: the event of start(); event-loop thread.
    guard((), || unsafe { (*(*event).data.cast::<Worker>()).wake_some() });
}

/// A thread inside OpenSSL while exit() takes OpenSSL apart crashes the worker (measured: 9 of
/// 20). What still runs after a moment is left alone: the process ends without exit handlers.
pub unsafe extern "C" fn exit_process(cycle: *mut ngx_cycle_t) {
    const PATIENCE: Duration = Duration::from_millis(100);
    extern "C" fn leave() {
        // SAFETY: ends the process.
        unsafe { libc::_exit(0) }
    }
    guard((), || {
        // SAFETY: the cycle of this worker; one thread.
        let main = unsafe { Context::of_cycle(&*cycle).map(|c| c.ours()) };
        // SAFETY: event-loop thread.
        let worker = main.and_then(|m| unsafe { Worker::of(m) });
        if worker.is_some_and(|w| !w.engine.stop(PATIENCE)) {
            // SAFETY: runs before the handlers registered earlier, OpenSSL's among them.
            unsafe { libc::atexit(leave) };
        }
    });
}

/// For the status: the settings and the view of each entry.
impl Worker {
    pub fn views(&self) -> impl Iterator<Item = (&EntrySettings, Option<&View>)> {
        self.entries.iter().map(|e| (&*e.settings, e.view.as_deref()))
    }
}
