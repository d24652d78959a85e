//! The shared zone: what all workers of one nginx know together. Fixed-size records, atomics
//! only: readable by the event loop without a lock, writable by any thread, and a process killed
//! in the middle of a write leaves nothing that others wait for.

use std::ffi::c_void;
use std::sync::atomic::{AtomicU64, Ordering};

use nginx_sys::{
    ngx_conf_t, ngx_cycle, ngx_int_t, ngx_shared_memory_add, ngx_shm_zone_t, ngx_slab_calloc,
    ngx_slab_pool_t, ngx_str_t, ngx_uint_t,
};

use super::conf::MainConf;
use super::http::Context;
use super::shared_cell::Cell;
use super::{NGX_ERROR, NGX_OK, guard, log, ngx_http_ssl_cert_autofetch_module as OURS, process};
use crate::ca::ChallengeAnswer;
use crate::clock::{Clock, SystemClock, Time};
use crate::engine::News;

/// Worker slots with counters of their own; workers beyond share the last one's.
const SLOTS: usize = 64;
/// Places for answers beside those of all own names at once: other hosts' come here too.
const SPARE_CHALLENGES: usize = 128;

pub struct Zone {
    /// Length of the keystore's `changes` that somebody here knows of.
    pub changes_known: AtomicU64,
    /// Who watches and schedules: a [`Claim`].
    pub leader: Claim,
    /// Challenge answers that may be asked for.
    pub challenges_out: AtomicU64,
    counters: [Slot; SLOTS],
    entries: usize,
    challenges: usize,
    /// Behind it the entries, and behind them the challenges.
    first: [Entry; 0],
}

/// One entry's place in the zone.
pub struct Entry {
    pub claim: Claim,
    pub news: Cell<{ News::LIMIT / 8 }>,
}

/// Counters of one worker slot, on cache lines of their own.
#[repr(align(64))]
struct Slot([AtomicU64; Counter::ALL.len()]);

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Counter {
    Handshakes,
    Held,
    Refused,
    OcspQueries,
    OcspErrors,
    CrlFetches,
    Issued,
    IssueErrors,
    ReplacedRevoked,
    ReplacedExpired,
}

impl Counter {
    pub const ALL: [Counter; 10] = [
        Counter::Handshakes,
        Counter::Held,
        Counter::Refused,
        Counter::OcspQueries,
        Counter::OcspErrors,
        Counter::CrlFetches,
        Counter::Issued,
        Counter::IssueErrors,
        Counter::ReplacedRevoked,
        Counter::ReplacedExpired,
    ];
}

/// Adds the zone of this cycle. It is never taken over by the next one (`noreuse`): an old worker
/// can't write into another entry's record. The new one starts with the old one's news, by name.
pub fn add(cf: *mut ngx_conf_t, main: &mut MainConf) -> Result<(), String> {
    let size = size(main);
    // nginx's slab allocator keeps a record for each page of 4096 bytes, and headers.
    let mut name = ngx_str_t::from_static("ssl_cert_autofetch");
    // SAFETY: valid cf; name is constant; the tag is our module's address.
    let zone = unsafe {
        let tag = (&raw mut OURS).cast::<c_void>();
        ngx_shared_memory_add(cf, &raw mut name, size + size / 16 + 64 * 1024, tag)
    };
    if zone.is_null() {
        return Err("ngx_shared_memory_add() failed".into());
    }
    // SAFETY: just made by nginx, which keeps it for the cycle, as it does main.
    unsafe {
        (*zone).noreuse = 1;
        (*zone).init = Some(init);
        (*zone).data = std::ptr::from_mut(main).cast();
    }
    main.zone = Some(zone);
    Ok(())
}

fn size(main: &MainConf) -> usize {
    size_of::<Zone>()
        + main.entries.len() * size_of::<Entry>()
        + challenge_places(main) * size_of::<Cell<128>>()
}

fn challenge_places(main: &MainConf) -> usize {
    main.entries.iter().map(|e| e.names.len()).sum::<usize>() + SPARE_CHALLENGES
}

trait Static {
    fn from_static(text: &'static str) -> Self;
}

impl Static for ngx_str_t {
    fn from_static(text: &'static str) -> ngx_str_t {
        ngx_str_t { len: text.len(), data: text.as_ptr().cast_mut() }
    }
}

/// The zone's memory exists: lay it out, and make what workers need: an error here ends a reload,
/// and nginx goes on with the configuration before. `data` is our MainConf until then.
unsafe extern "C" fn init(zone: *mut ngx_shm_zone_t, _old: *mut c_void) -> ngx_int_t {
    guard(NGX_ERROR, || {
        // SAFETY: nginx calls with the zone of add(), in one thread, before workers exist; ngx_cycle
        // is still the old cycle. The slab gives zeroed memory, and all zeros is a valid Zone.
        unsafe {
            let main = &mut *(*zone).data.cast::<MainConf>();
            if let Err(text) = process::prepare(main, old_conf()) {
                log::line(nginx_sys::NGX_LOG_EMERG as ngx_uint_t, &text);
                return NGX_ERROR;
            }
            let slab = (*zone).shm.addr.cast::<ngx_slab_pool_t>();
            let memory = ngx_slab_calloc(slab, size(main) + 64).cast::<u8>();
            if memory.is_null() {
                log::line(nginx_sys::NGX_LOG_EMERG as ngx_uint_t, "no shared memory");
                return NGX_ERROR;
            }
            let aligned = memory.add(memory.align_offset(64)).cast::<Zone>();
            (*aligned).entries = main.entries.len();
            (*aligned).challenges = challenge_places(main);
            (*slab).data = aligned.cast();
            if let Some(old) = old_conf() {
                (*aligned).inherit(main, old);
            }
            NGX_OK
        }
    })
}

/// Our configuration in the cycle before this one, where that had our module.
fn old_conf<'a>() -> Option<&'a MainConf> {
    // SAFETY: ngx_cycle is the cycle before; a module that it knew has the same indexes again.
    unsafe {
        let cycle = ngx_cycle.as_ref()?;
        if cycle.modules.is_null() {
            return None; // nginx is starting
        }
        let modules = std::slice::from_raw_parts(cycle.modules, cycle.modules_n);
        if !modules.contains(&(&raw mut OURS)) {
            return None;
        }
        Context::of_cycle(cycle)?.ours().as_ref()
    }
}

impl Zone {
    /// The zone of a configuration; None before its memory exists.
    pub fn of(main: &MainConf) -> Option<&'static Zone> {
        // SAFETY: the mapping lives as long as the cycle; a worker's last cycle never ends.
        unsafe {
            let slab = (*main.zone?).shm.addr.cast::<ngx_slab_pool_t>();
            if slab.is_null() { None } else { (*slab).data.cast::<Zone>().as_ref() }
        }
    }

    pub fn entry(&self, index: usize) -> &Entry {
        assert!(index < self.entries, "entry of another configuration");
        // SAFETY: init() allocated this many entries behind the header.
        unsafe { &*self.first.as_ptr().add(index) }
    }

    fn challenges(&self) -> &[Cell<128>] {
        // SAFETY: init() allocated this many cells behind the entries; both are aligned to 8.
        unsafe {
            let behind = self.first.as_ptr().add(self.entries).cast();
            std::slice::from_raw_parts(behind, self.challenges)
        }
    }

    fn inherit(&self, main: &MainConf, old_main: &MainConf) {
        let Some(old) = Zone::of(old_main) else { return };
        for (i, entry) in main.entries.iter().enumerate() {
            let Some(j) = old_main.entries.iter().position(|e| e.name == entry.name) else {
                continue;
            };
            let mut news = old.news(j);
            news.working = None;
            // What was mended in the configuration is tried at once; a mere reload is no reason
            // to be hasty with a CA that asked for time.
            if old_main.entries[j] != *entry || old_main.raw.cas() != main.raw.cas() {
                (news.next_check, news.next_issue) = (None, None);
                (news.check_failures, news.issue_failures) = (0, 0);
                news.pending = false;
            }
            self.change_news(i, &mut |new| *new = news.clone());
        }
        for counter in Counter::ALL {
            self.counters[0].0[counter as usize].store(old.total(counter), Ordering::Relaxed);
        }
        for (new, old) in self.challenges().iter().zip(old.challenges()) {
            new.update(|bytes| *bytes = old.read());
        }
        let out = self.challenges().iter().filter(|cell| !cell.is_empty()).count();
        self.challenges_out.store(out as u64, Ordering::Relaxed);
    }

    /// Counts one; only by the event loop of the worker with this slot, so without a bus lock.
    pub fn count(&self, slot: usize, counter: Counter) {
        let place = &self.counters[slot.min(SLOTS - 1)].0[counter as usize];
        place.store(place.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    pub fn total(&self, counter: Counter) -> u64 {
        self.counters.iter().map(|s| s.0[counter as usize].load(Ordering::Relaxed)).sum()
    }

    pub fn news(&self, entry: usize) -> News {
        serde_json::from_slice(&self.entry(entry).news.read()).unwrap_or_default()
    }

    pub fn change_news(&self, entry: usize, change: &mut dyn FnMut(&mut News)) {
        self.entry(entry).news.update(|bytes| {
            let mut news: News = serde_json::from_slice(bytes).unwrap_or_default();
            change(&mut news);
            news.seq += 1;
            if let Some(error) = &mut news.last_error {
                *error = crate::report::printable(error).chars().take(400).collect();
            }
            if let Ok(json) = serde_json::to_vec(&news) {
                *bytes = json;
            }
        });
    }

    pub fn publish_challenge(&self, answer: &ChallengeAnswer, expires: Time) -> Result<(), String> {
        let json = serde_json::to_vec(&(expires, answer)).map_err(|e| e.to_string())?;
        if json.len() > Cell::<128>::CAPACITY {
            return Err("challenge is too long".into());
        }
        let now = SystemClock.now(); // not nginx's: this is not the event loop
        for cell in self.challenges() {
            let mut taken = false;
            cell.update(|bytes| {
                let free = match parse_challenge(bytes) {
                    None => true,
                    Some((expires, other)) => expires < now || other == *answer,
                };
                if free {
                    self.note_challenge(bytes.is_empty(), false);
                    bytes.clone_from(&json);
                    taken = true;
                }
            });
            if taken {
                return Ok(());
            }
        }
        Err(format!("more than {} challenges at a time", self.challenges))
    }

    pub fn withdraw_challenge(&self, answer: &ChallengeAnswer) {
        for cell in self.challenges() {
            cell.update(|bytes| {
                if parse_challenge(bytes).is_some_and(|(_, other)| other == *answer) {
                    self.note_challenge(false, true);
                    bytes.clear();
                }
            });
        }
    }

    /// Takes away answers that nobody withdrew: their worker was killed.
    pub fn sweep_challenges(&self, now: Time) {
        if self.challenges_out.load(Ordering::Relaxed) == 0 {
            return;
        }
        for cell in self.challenges().iter().filter(|cell| !cell.is_empty()) {
            if parse_challenge(&cell.read()).is_none_or(|(expires, _)| expires < now) {
                cell.update(|bytes| {
                    if parse_challenge(bytes).is_none_or(|(expires, _)| expires < now) {
                        self.note_challenge(false, !bytes.is_empty());
                        bytes.clear();
                    }
                });
            }
        }
    }

    /// Counts while the cell is ours: what is out is never counted as none.
    fn note_challenge(&self, filled: bool, emptied: bool) {
        if filled {
            self.challenges_out.fetch_add(1, Ordering::Relaxed);
        }
        if emptied {
            self.challenges_out.fetch_sub(1, Ordering::Relaxed);
        }
    }

    pub fn find_challenge(
        &self,
        now: Time,
        is_it: impl Fn(&ChallengeAnswer) -> bool,
    ) -> Option<ChallengeAnswer> {
        if self.challenges_out.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let live = self.challenges().iter().filter_map(|cell| parse_challenge(&cell.read()));
        live.filter(|(expires, _)| now <= *expires).map(|(_, a)| a).find(is_it)
    }
}

fn parse_challenge(bytes: &[u8]) -> Option<(Time, ChallengeAnswer)> {
    if bytes.is_empty() { None } else { serde_json::from_slice(bytes).ok() }
}

/// Something that one process of this nginx does for all: process id and deadline in one word.
pub struct Claim(AtomicU64);

impl Claim {
    /// Claims it until `deadline`; true too when it is ours already. What a dead process holds,
    /// or a late one, is nobody's.
    pub fn take(&self, now: Time, deadline: Time) -> bool {
        let ours = Claim::word(deadline);
        let held = self.0.load(Ordering::Acquire);
        let (pid, until) = ((held >> 32) as i32, (held & 0xffff_ffff) as i64);
        let free = pid == 0 || pid == own_pid() || until < now.secs() || !is_alive(pid);
        free && self.0.compare_exchange(held, ours, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// Gives it up, if it is ours.
    pub fn release(&self) {
        let held = self.0.load(Ordering::Acquire);
        if (held >> 32) as i32 == own_pid() {
            let _ = self.0.compare_exchange(held, 0, Ordering::AcqRel, Ordering::Relaxed);
        }
    }

    fn word(deadline: Time) -> u64 {
        (own_pid() as u64) << 32 | (deadline.secs() as u64 & 0xffff_ffff)
    }
}

fn own_pid() -> i32 {
    std::process::id() as i32
}

fn is_alive(pid: i32) -> bool {
    // SAFETY: signal 0 only asks.
    unsafe { libc::kill(pid, 0) == 0 || *libc::__errno_location() != libc::ESRCH }
}
