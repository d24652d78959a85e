//! The process around an engine, and what the workers of one nginx share.

use super::*;

/// What the workers of one nginx share.
#[derive(Default)]
pub struct Zone {
    /// By entry.
    news: Mutex<BTreeMap<usize, News>>,
    changes: Mutex<u64>,
    claim: Mutex<Option<(usize, Time)>>,
    leader: Mutex<Option<usize>>,
    pub(super) workers: AtomicUsize,
}

/// What another thread or process does at a moment that the test chooses.
pub type Hook = Mutex<Option<Box<dyn FnOnce() + Send>>>;

pub(super) fn happen(hook: &Hook) {
    let what = hook.lock().unwrap().take();
    if let Some(what) = what {
        what();
    }
}

pub struct FakeHost {
    pub zone: Arc<Zone>,
    pub id: usize,
    pub exiting: AtomicBool,
    pub(super) woken: Mutex<usize>,
    pub(super) bell: Condvar,
    /// Happens once, just before this worker claims something.
    pub before_claim: Hook,
    /// Happens once, when this worker reads the news.
    pub before_news: Hook,
}

impl FakeHost {
    /// How often it was woken.
    pub fn woken(&self) -> usize {
        *self.woken.lock().unwrap()
    }

    /// Waits until it is woken, or for a short while: the test's clock has to go on.
    pub fn wait(&self) {
        let woken = self.woken.lock().unwrap();
        drop(self.bell.wait_timeout(woken, Duration::from_millis(10)).unwrap());
    }

    /// The worker dies: what it claimed is free.
    pub fn die(&self) {
        self.zone.claim.lock().unwrap().take_if(|(id, _)| *id == self.id);
        self.zone.leader.lock().unwrap().take_if(|id| *id == self.id);
    }
}

impl Host for FakeHost {
    fn wake(&self) {
        *self.woken.lock().unwrap() += 1;
        self.bell.notify_all();
    }

    fn news(&self, entry: usize) -> News {
        happen(&self.before_news);
        self.zone.news.lock().unwrap().get(&entry).cloned().unwrap_or_default()
    }

    fn publish(&self, entry: usize, change: &mut dyn FnMut(&mut News)) {
        let mut all = self.zone.news.lock().unwrap();
        let news = all.entry(entry).or_default();
        change(news);
        news.seq += 1;
        // As the zone does it.
        let json = serde_json::to_vec(news).unwrap();
        assert!(json.len() <= News::LIMIT, "{} bytes", json.len());
        *news = serde_json::from_slice(&json).unwrap();
    }

    fn claim(&self, _entry: usize, now: Time, deadline: Time) -> bool {
        happen(&self.before_claim);
        let mut claim = self.zone.claim.lock().unwrap();
        if claim.is_some_and(|(id, until)| id != self.id && now < until) {
            return false;
        }
        *claim = Some((self.id, deadline));
        true
    }

    fn release(&self, _entry: usize) {
        self.zone.claim.lock().unwrap().take_if(|(id, _)| *id == self.id);
    }

    fn leads(&self, _now: Time) -> bool {
        *self.zone.leader.lock().unwrap().get_or_insert(self.id) == self.id
    }

    fn changes_known(&self) -> u64 {
        *self.zone.changes.lock().unwrap()
    }

    fn set_changes_known(&self, number: u64) {
        *self.zone.changes.lock().unwrap() = number;
    }

    fn exiting(&self) -> bool {
        self.exiting.load(SeqCst)
    }

    fn publish_challenge(&self, _: &ChallengeAnswer, _: Time) -> Result<(), String> {
        Ok(())
    }

    fn withdraw_challenge(&self, _: &ChallengeAnswer) {}
}
