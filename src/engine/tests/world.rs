//! A world for the engine: several workers of one or more nginx with one keystore, CAs and a
//! responder that say what the test wants, and a clock that the test moves. No thread runs.

mod ca;
mod host;
mod responder;

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
    AcmeSettings, Budget, CaSettings, Challenge, Check, EntryName, EntrySettings, EvidenceSettings,
    KeyType, Passwords, Protocol, RenewBefore, Secret,
};

pub use ca::{Do, FakeCa};
pub use host::{FakeHost, Hook, Zone};
pub use responder::{FakeResponder, Say};

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
    /// Of the workers.
    pub passwords: Passwords,
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
            passwords: Passwords::default(),
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
            let identity = root.issue(spec);
            let other = Spec { serial: 0xcb, extensions: &extensions, ..Spec::ca("one") };
            let other = root.certify(&other, &identity.key).to_pem().unwrap();
            let ca = FakeCa::of("one", identity, keystore, Arc::clone(&w.clock));
            *ca.above.lock().unwrap() = other;
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

    fn keystore_of_workers(&self) -> Keystore {
        self.keystore().with_passwords(self.passwords.clone())
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
            passwords: self.passwords.clone(),
            cas: self.ca_settings.clone(),
            entries: entries.into_iter().map(Arc::new).collect(),
        };
        let ports = self.ports();
        let desk =
            Desk::new(plan, host.clone(), ports, self.keystore_of_workers(), Default::default());
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
    pub fn prepare_as(&self, spec: Spec) -> impl FnOnce(&std::path::Path) + Send + use<> {
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
        protocol: Protocol::Acme(AcmeSettings {
            ca: ca.name.clone(),
            url: format!("https://{}/", ca.name),
            account_key: None,
            contact: vec![],
            accept_terms_of_service: true,
            external_account: None,
            challenge: Challenge::Http01,
            profile: None,
            preferred_chain: None,
            hook: None,
            timeout: s(30),
        }),
        way: Default::default(),
        subject: None,
        issuer_certificate: None,
        wildcards: false,
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
        told.events.extend(self.desk.take_notes().into_iter().map(|e| e.what));
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
