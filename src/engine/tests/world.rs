//! A world for the engine: several workers of one or more nginx with one keystore, CAs and a
//! responder that say what the test wants, and a clock that the test moves. No thread runs.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use openssl::pkey::PKey;
use openssl::x509::X509Req;
use serde_json::json;

use super::crls::FakeCrls;
use crate::bundle::Meta;
use crate::ca::{Ca, ChallengeAnswer, IssueError, Order, Progress};
use crate::clock::{Clock, FakeClock, Time};
use crate::engine::desk::Desk;
use crate::engine::watch::Watch;
use crate::engine::{
    Answer, Count, Host, Inquiry, News, NoAnswer, Plan, Ports, Responders, Update,
};
use crate::evidence::{Evidence, Reason, Source, Status};
use crate::facts::{Fingerprint, Serial};
use crate::fixture::ocsp::{CertStatus, Reply, Single};
use crate::fixture::{self, DAY, Identity, NOW, Spec, der};
use crate::keystore::Keystore;
use crate::report::What;
use crate::settings::{
    Budget, CaSettings, Challenge, Check, EntryName, EntrySettings, EvidenceSettings, KeyType,
    RenewBefore, Secret,
};

pub struct World {
    dir: tempfile::TempDir,
    pub clock: Arc<FakeClock>,
    pub zone: Arc<Zone>,
    pub responder: Arc<FakeResponder>,
    pub crls: Arc<FakeCrls>,
    pub cas: Vec<Arc<FakeCa>>,
    pub ca_settings: Vec<CaSettings>,
    pub settings: EntrySettings,
    /// Further entries, after the first.
    pub more: Vec<EntrySettings>,
}

pub fn s(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

impl World {
    /// One entry, shop.example, with the CAs "one" and "two", of which it uses the first.
    pub fn new() -> World {
        let dir = tempfile::tempdir().unwrap();
        let keystore = Keystore::create(&dir.path().join("keystore"), None).unwrap();
        let clock = Arc::new(FakeClock::at(NOW));
        let ca = |name: &str| FakeCa::new(name, keystore.clone(), Arc::clone(&clock));
        let cas = vec![ca("one"), ca("two")];
        World {
            responder: Arc::new(FakeResponder::new(Arc::clone(&clock), &cas)),
            crls: Arc::new(FakeCrls::new(Arc::clone(&clock))),
            zone: Arc::default(),
            ca_settings: cas.iter().map(|ca| ca_settings(ca)).collect(),
            settings: EntrySettings {
                name: EntryName::new("shop.example").unwrap(),
                names: vec!["shop.example".into()],
                cas: vec!["one".into()],
                check: Check::Soft,
                check_interval: s(3600),
                timeout: s(10),
                renew_before: RenewBefore::default(),
                key: KeyType::Ecdsa256,
                stapling: true,
                must_staple: false,
            },
            more: Vec::new(),
            dir,
            clock,
            cas,
        }
    }

    /// CA "one" issues under an intermediate that names these URLs for itself, below a root that
    /// is the anchor.
    pub fn with_intermediate(ocsp: Option<&str>, crl: Option<&str>) -> World {
        let root = fixture::root("Root");
        let access = |url| der::seq(&[&der::oid("1.3.6.1.5.5.7.48.1"), &der::uri(url)]);
        let point = |url| der::seq(&[&der::explicit(0, &der::explicit(0, &der::uri(url)))]);
        let aia = ocsp.map(|url| der::seq(&[&access(url)]));
        let cdp = crl.map(|url| der::seq(&[&point(url)]));
        let extensions: Vec<_> = [(AIA, &aia), (CDP, &cdp)]
            .into_iter()
            .filter_map(|(oid, value)| Some((oid, false, value.as_deref()?)))
            .collect();
        let spec = Spec { serial: 0xca, extensions: &extensions, ..Spec::ca("one") };
        World::with(|w| {
            let keystore = w.keystore();
            let ca = FakeCa::of("one", root.issue(spec), keystore, Arc::clone(&w.clock));
            w.cas[0] = ca;
            w.responder = Arc::new(FakeResponder::new(Arc::clone(&w.clock), &w.cas));
            w.ca_settings[0].issuer_certificate = Some(root.pem());
        })
    }

    pub fn with(edit: impl FnOnce(&mut World)) -> World {
        let mut world = World::new();
        edit(&mut world);
        world
    }

    pub fn keystore(&self) -> Keystore {
        Keystore::open(&self.dir.path().join("keystore")).unwrap()
    }

    pub fn dir(&self) -> std::path::PathBuf {
        self.dir.path().join("keystore")
    }

    pub fn now(&self) -> Time {
        self.clock.now()
    }

    pub fn worker(&self) -> Worker {
        self.worker_of(&self.zone)
    }

    /// A worker of the nginx with this zone.
    pub fn worker_of(&self, zone: &Arc<Zone>) -> Worker {
        self.worker_for(zone, [&self.settings].into_iter().chain(&self.more).cloned().collect())
    }

    /// One with these entries.
    pub fn worker_for(&self, zone: &Arc<Zone>, entries: Vec<EntrySettings>) -> Worker {
        let host = Arc::new(FakeHost {
            zone: Arc::clone(zone),
            id: zone.workers.fetch_add(1, SeqCst),
            exiting: AtomicBool::new(false),
            woken: Mutex::default(),
            bell: Condvar::new(),
            before_claim: Hook::default(),
            before_news: Hook::default(),
        });
        let plan = Plan {
            keystore: self.dir(),
            cas: self.ca_settings.clone(),
            entries: entries.into_iter().map(Arc::new).collect(),
        };
        let ports = self.ports();
        let desk = Desk::new(plan, host.clone(), ports, self.keystore());
        Worker { watch: Watch::new(&desk), desk, host }
    }

    pub fn ports(&self) -> Ports {
        Ports {
            clock: self.clock.clone(),
            cas: self.cas.iter().map(|ca| ca.clone() as Arc<dyn Ca>).collect(),
            responders: self.responder.clone(),
            crls: self.crls.clone(),
            seed: 7,
        }
    }

    /// Stores a certificate of CA "one" that is valid and in the middle of its life.
    pub fn store(&self, serial: u64) -> Serial {
        self.store_as(Spec { serial, ..Spec::default() })
    }

    pub fn store_as(&self, spec: Spec) -> Serial {
        self.prepare_as(spec)(&self.dir());
        hex(spec.serial)
    }

    /// The same for a further entry.
    pub fn store_for(&self, settings: &EntrySettings, serial: u64) -> Serial {
        self.prepare_for(settings, Spec { serial, ..Spec::default() })(&self.dir());
        hex(serial)
    }

    pub fn prepare(&self, serial: u64) -> impl FnOnce(&std::path::Path) + Send + use<> {
        self.prepare_as(Spec { serial, ..Spec::default() })
    }

    /// Stores it when it is called.
    fn prepare_as(&self, spec: Spec) -> impl FnOnce(&std::path::Path) + Send + use<> {
        self.prepare_for(&self.settings, spec)
    }

    fn prepare_for(
        &self,
        settings: &EntrySettings,
        spec: Spec,
    ) -> impl FnOnce(&std::path::Path) + Send + use<> {
        let ca = &self.cas[0].identity;
        let leaf = ca.issue(spec);
        let chain = [leaf.pem(), ca.pem()].concat();
        let key = Secret::new(leaf.key.private_key_to_pem_pkcs8().unwrap());
        let name = settings.name.clone();
        move |dir| {
            let keystore = Keystore::open(dir).unwrap();
            let lock = keystore.try_lock(&name).unwrap().unwrap();
            let meta = Meta { ca: Some("one".into()), ..Meta::default() };
            keystore.commit(&lock, &chain, &key, &meta).unwrap();
        }
    }

    /// Serial of what is stored, and that it is whole.
    pub fn stored(&self) -> Option<Serial> {
        self.keystore().load(&self.settings.name).unwrap().ok().map(|b| b.facts.serial)
    }

    /// Runs jobs until none is ready or waits, moving the clock to the next alarm.
    pub fn drive(&self, workers: &mut [&mut Worker]) {
        self.drive_until(workers, Time::MAX);
    }

    /// As [`World::drive`], with a look around in every second of `time`.
    pub fn pass(&self, workers: &mut [&mut Worker], time: Duration) {
        let end = self.now() + time;
        loop {
            for worker in workers.iter_mut() {
                worker.look();
            }
            if end <= self.now() {
                return;
            }
            let next = (self.now() + s(1)).min(end);
            self.drive_until(workers, next);
            if self.now() < next {
                self.clock.advance(next.since(self.now()));
            }
        }
    }

    /// Moves the clock to when a job wants to go on; false: none waits.
    pub fn advance_to_alarm(&self, worker: &Worker) -> bool {
        let alarm = worker.desk.board().next_alarm();
        alarm.into_iter().for_each(|t| self.clock.advance(t.since(self.now())));
        alarm.is_some()
    }

    fn drive_until(&self, workers: &mut [&mut Worker], end: Time) {
        for steps in 0.. {
            assert!(steps < 100_000, "the jobs never come to rest");
            let ran = workers.iter_mut().filter(|w| w.desk.work_once().is_some()).count();
            if ran > 0 {
                continue;
            }
            let alarm = workers.iter().filter_map(|w| w.desk.board().next_alarm()).min();
            match alarm.filter(|t| *t <= end) {
                Some(alarm) => self.clock.advance(alarm.since(self.now())),
                None => return,
            }
        }
    }
}

const AIA: &str = "1.3.6.1.5.5.7.1.1";
const CDP: &str = "2.5.29.31";
const TLS_FEATURE: &str = "1.3.6.1.5.5.7.1.24";

fn ca_settings(ca: &FakeCa) -> CaSettings {
    CaSettings {
        name: ca.name.clone(),
        url: format!("https://{}/", ca.name),
        trusted_certificate: None,
        account_key: None,
        contact: vec![],
        accept_terms_of_service: true,
        challenge: Challenge::Http01,
        timeout: s(30),
        issuer_certificate: None,
        evidence: EvidenceSettings {
            ocsp_responder: Some("http://ocsp/".into()),
            ..EvidenceSettings::default()
        },
        budget: Budget::default(),
    }
}

pub fn hex(serial: u64) -> Serial {
    Serial::from_bytes(&serial.to_be_bytes())
}

/// One worker, stepped by the test.
pub struct Worker {
    pub desk: Desk,
    pub watch: Watch,
    pub host: Arc<FakeHost>,
}

impl Worker {
    /// Returns when it wants to look again.
    pub fn look(&mut self) -> Option<Time> {
        self.watch.look(&self.desk)
    }

    pub fn demand(&mut self) {
        self.desk.demand(0);
    }

    /// Everything that was told since the last call.
    pub fn updates(&mut self) -> Vec<Update> {
        self.desk.board().take_updates()
    }

    /// The times of finished demands, the events and the counts since the last call.
    pub fn told(&mut self) -> Told {
        let mut told = Told::default();
        for update in self.updates() {
            told.finished.extend(update.finished);
            told.events.extend(update.events.into_iter().map(|e| e.what));
            told.counts.extend(update.counts);
        }
        told
    }

    /// What a handshake gets that has waited for the answer `finished`.
    pub fn decide(&self, finished: Option<Time>) -> crate::policy::Decision {
        let entry = self.desk.entry(0);
        let view = entry.view();
        let asker = crate::policy::Asker { name: Some("shop.example"), waited_for: finished };
        crate::policy::decide(self.desk.now(), &view.standing(), &entry.settings, asker)
    }

    pub fn news(&self) -> News {
        self.host.news(0)
    }
}

#[derive(Default)]
pub struct Told {
    pub finished: Vec<Time>,
    pub events: Vec<What>,
    pub counts: Vec<Count>,
}

impl Told {
    pub fn count(&self, what: Count) -> usize {
        self.counts.iter().filter(|c| **c == what).count()
    }

    /// The events as log lines without the entry's name; those of [`Told::verdicts`] left out.
    pub fn lines(&self) -> Vec<String> {
        self.events_as_lines(|what| !matches!(what, What::Refused { .. } | What::Served { .. }))
    }

    /// The changes to refused and back.
    pub fn verdicts(&self) -> Vec<String> {
        self.events_as_lines(|what| matches!(what, What::Refused { .. } | What::Served { .. }))
    }

    fn events_as_lines(&self, which: impl Fn(&What) -> bool) -> Vec<String> {
        let line = |what: &What| {
            let event = crate::report::Event { entry: String::new(), what: what.clone() };
            event.to_string().trim_start_matches("\"\": ").to_owned()
        };
        self.events.iter().filter(|what| which(what)).map(line).collect()
    }
}

/// What the workers of one nginx share.
#[derive(Default)]
pub struct Zone {
    /// By entry.
    news: Mutex<BTreeMap<usize, News>>,
    changes: Mutex<u64>,
    claim: Mutex<Option<(usize, Time)>>,
    leader: Mutex<Option<usize>>,
    workers: AtomicUsize,
}

/// What another thread or process does at a moment that the test chooses.
pub type Hook = Mutex<Option<Box<dyn FnOnce() + Send>>>;

fn happen(hook: &Hook) {
    let what = hook.lock().unwrap().take();
    if let Some(what) = what {
        what();
    }
}

pub struct FakeHost {
    pub zone: Arc<Zone>,
    pub id: usize,
    pub exiting: AtomicBool,
    woken: Mutex<usize>,
    bell: Condvar,
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

/// What the responder says about a certificate.
#[derive(Clone, Debug)]
pub enum Say {
    Good,
    Revoked(Reason),
    Unknown,
    /// Nothing that counts, and when to come back.
    Nothing(Option<Duration>),
    /// Good, after this time, if it is waited for.
    Slow(Duration),
    /// Nothing, after this time.
    Hang(Duration),
    Panic,
}

pub struct FakeResponder {
    clock: Arc<FakeClock>,
    signers: Vec<Identity>,
    script: Mutex<BTreeMap<String, VecDeque<Say>>>,
    /// Serial and URL of each query.
    pub asked: Mutex<Vec<(Serial, String)>>,
    /// Whether its answers tell of siblings too.
    pub tells_all: AtomicBool,
    /// Happens once, while a query is under way.
    pub meanwhile: Hook,
}

impl FakeResponder {
    fn new(clock: Arc<FakeClock>, cas: &[Arc<FakeCa>]) -> FakeResponder {
        FakeResponder {
            clock,
            signers: cas.iter().map(|ca| ca.identity.clone()).collect(),
            script: Mutex::default(),
            asked: Mutex::default(),
            tells_all: AtomicBool::new(false),
            meanwhile: Hook::default(),
        }
    }

    /// The last is repeated. Of what nothing is said the answer is good.
    pub fn say(&self, serial: &Serial, says: &[Say]) {
        let says = says.iter().cloned().collect();
        self.script.lock().unwrap().insert(serial.0.clone(), says);
    }

    /// Serials asked about since the last call.
    pub fn queries(&self) -> Vec<Serial> {
        std::mem::take(&mut *self.asked.lock().unwrap()).into_iter().map(|(s, _)| s).collect()
    }
}

impl Responders for FakeResponder {
    fn ask(&self, inquiry: &Inquiry) -> Result<Answer, NoAnswer> {
        let serial = inquiry.facts.serial.clone();
        self.asked.lock().unwrap().push((serial.clone(), inquiry.url.to_owned()));
        assert!(crate::evidence::chain::issued_by(inquiry.certificate, inquiry.issuer));
        let say = {
            let mut script = self.script.lock().unwrap();
            let says = script.entry(serial.0.clone()).or_default();
            if says.len() > 1 { says.pop_front() } else { says.front().cloned() }
        };
        let asked = self.clock.now();
        happen(&self.meanwhile);
        let nothing = |cause: &str, retry_after| {
            Err(NoAnswer { cause: format!("ocsp: {cause}, source={}", inquiry.url), retry_after })
        };
        let status = match say.unwrap_or(Say::Good) {
            Say::Good => Status::Good,
            Say::Revoked(reason) => Status::Revoked { reason, at: asked },
            Say::Unknown => Status::Unknown,
            Say::Nothing(retry_after) => return nothing("no answer", retry_after),
            Say::Slow(time) if time <= inquiry.timeout => {
                self.clock.advance(time);
                Status::Good
            }
            Say::Hang(time) | Say::Slow(time) => {
                self.clock.advance(time.min(inquiry.timeout));
                return nothing("timed out", None);
            }
            Say::Panic => panic!("the responder's test"),
        };
        let evidence = Evidence {
            certificate: inquiry.facts.fingerprint.clone(),
            serial,
            source: Source::Ocsp,
            status,
            this_update: asked,
            next_update: None,
            checked_at: asked,
            responder: inquiry.url.to_owned(),
        };
        let der = self.der(inquiry, &evidence);
        let others = match self.tells_all.load(SeqCst) {
            true => inquiry.siblings.iter().map(|about| self.told(about, &evidence)).collect(),
            false => vec![],
        };
        Ok(Answer { evidence, others, der })
    }
}

impl FakeResponder {
    /// What the same answer tells of a sibling: revoked, if it is said to be, else good.
    fn told(&self, (serial, certificate): &(Serial, Fingerprint), answer: &Evidence) -> Evidence {
        let script = self.script.lock().unwrap();
        let status = match script.get(&serial.0).and_then(VecDeque::front) {
            Some(Say::Revoked(reason)) => {
                Status::Revoked { reason: *reason, at: answer.this_update }
            }
            _ => Status::Good,
        };
        let (serial, certificate) = (serial.clone(), certificate.clone());
        Evidence { serial, certificate, status, ..answer.clone() }
    }

    /// The answer that says this.
    fn der(&self, inquiry: &Inquiry, evidence: &Evidence) -> Vec<u8> {
        let issuer = inquiry.issuer.to_der().unwrap();
        let signer = self.signers.iter().find(|s| s.der() == issuer);
        let Some(signer) = signer else { return b"nobody staples it".to_vec() };
        let status = match evidence.status {
            Status::Good => CertStatus::Good,
            Status::Revoked { at, .. } => CertStatus::Revoked(at, None),
            Status::Unknown => CertStatus::Unknown,
        };
        let asked = evidence.this_update.secs() - NOW.secs();
        let single = Single::good(inquiry.certificate, inquiry.issuer).status(status);
        Reply::new(signer, single.times(asked, None)).der()
    }
}

/// What a CA does next; when nothing is left to do it takes orders and issues in the next step.
pub enum Do {
    Fail(IssueError),
    Wait(Duration),
    /// Issues with a life of these seconds from [`NOW`].
    IssueFor(i64, i64),
    /// The same, from now.
    IssueFrom(i64, i64),
    /// Issues for other names.
    IssueWrong,
    /// Issues, and nothing arrives: the order is dead.
    Lose,
}

pub struct FakeCa {
    pub name: String,
    pub identity: Identity,
    keystore: Keystore,
    clock: Arc<FakeClock>,
    script: Mutex<VecDeque<Do>>,
    /// New orders.
    pub orders: AtomicUsize,
    pub issued: AtomicUsize,
    /// Each key that a CSR asked for, in DER.
    pub keys: Mutex<Vec<Vec<u8>>>,
    /// What it issues has the TLS feature.
    pub must_staple: AtomicBool,
}

impl FakeCa {
    fn new(name: &str, keystore: Keystore, clock: Arc<FakeClock>) -> Arc<FakeCa> {
        FakeCa::of(name, fixture::root(name), keystore, clock)
    }

    fn of(
        name: &str,
        identity: Identity,
        keystore: Keystore,
        clock: Arc<FakeClock>,
    ) -> Arc<FakeCa> {
        Arc::new(FakeCa {
            name: name.into(),
            identity,
            keystore,
            clock,
            script: Mutex::default(),
            orders: AtomicUsize::new(0),
            issued: AtomicUsize::new(0),
            keys: Mutex::default(),
            must_staple: AtomicBool::new(false),
        })
    }

    pub fn script(&self, script: Vec<Do>) {
        *self.script.lock().unwrap() = script.into();
    }

    pub fn orders(&self) -> usize {
        self.orders.load(SeqCst)
    }

    pub fn issued(&self) -> usize {
        self.issued.load(SeqCst)
    }

    /// The serial of the `n`th certificate, from 1.
    pub fn serial(&self, n: usize) -> Serial {
        hex(self.number(n))
    }

    fn number(&self, n: usize) -> u64 {
        let base = if self.name == "one" { 0xa000 } else { 0xb000 };
        base + n as u64
    }

    fn issue(&self, request: &X509Req, names: &[&str], life: (i64, i64)) -> Vec<u8> {
        let n = self.issued.fetch_add(1, SeqCst) + 1;
        let feature: &[u8] = &[0x30, 3, 2, 1, 5];
        let extensions = [(TLS_FEATURE, false, feature)];
        let extensions = if self.must_staple.load(SeqCst) { &extensions[..] } else { &[] };
        let spec = Spec { serial: self.number(n), names, life, extensions, ..Spec::default() };
        let leaf = self.identity.certify(&spec, &request.public_key().unwrap());
        [leaf.to_pem().unwrap(), self.identity.pem()].concat()
    }
}

impl Ca for FakeCa {
    fn name(&self) -> &str {
        &self.name
    }

    fn host(&self) -> &str {
        &self.name
    }

    fn step(&self, order: &mut Order) -> Result<Progress, IssueError> {
        let request = X509Req::from_der(&order.csr).unwrap();
        let public = request.public_key().unwrap();
        assert_eq!(order.ca, self.name);
        // The key is on the disk before the CSR leaves.
        let name = EntryName::new(&order.names[0]).unwrap();
        let pending = self.keystore.pending(&name).unwrap().expect("nothing pending");
        let key = PKey::private_key_from_pem(pending.key_pem.bytes()).unwrap();
        assert!(key.public_eq(&public), "the pending key is another one");

        if order.state.is_null() {
            self.orders.fetch_add(1, SeqCst);
            self.keys.lock().unwrap().push(public.public_key_to_der().unwrap());
            order.state = json!({ "order": self.orders() });
        }
        let now = self.clock.now().since(NOW).as_secs() as i64;
        let life = (now - DAY, now + 30 * DAY);
        let names: Vec<&str> = order.names.iter().map(String::as_str).collect();
        let next = self.script.lock().unwrap().pop_front();
        Ok(match next {
            Some(Do::Fail(error)) => return Err(error),
            Some(Do::Wait(time)) => {
                order.state["polled"] = json!(true);
                Progress::Wait(time)
            }
            Some(Do::IssueFor(begin, end)) => {
                Progress::Issued(self.issue(&request, &names, (begin, end)))
            }
            Some(Do::IssueFrom(begin, end)) => {
                Progress::Issued(self.issue(&request, &names, (now + begin, now + end)))
            }
            Some(Do::IssueWrong) => {
                Progress::Issued(self.issue(&request, &["wrong.example"], life))
            }
            Some(Do::Lose) => {
                self.issued.fetch_add(1, SeqCst);
                order.accepted = true;
                return Err(IssueError::Protocol { what: "certificate", cause: "lost".into() });
            }
            None if order.state["polled"].is_null() => {
                order.state["polled"] = json!(true);
                Progress::Wait(s(1))
            }
            None => Progress::Issued(self.issue(&request, &names, life)),
        })
    }
}
