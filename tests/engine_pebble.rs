//! The engine with its real ports: Pebble issues, the lab's responder is asked, two workers of one
//! nginx share a keystore.

mod lab;

use std::path::Path;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use cert_autofetch::ca::ChallengeAnswer;
use cert_autofetch::clock::Time;
use cert_autofetch::engine::{Engine, Host, News, Plan, Update};
use cert_autofetch::keystore::Keystore;
use cert_autofetch::settings::{
    AcmeSettings, Budget, CaSettings, Challenge, Check, EntryName, EntrySettings, EvidenceSettings,
    KeyType, Passwords, Protocol, RenewBefore, WaySettings,
};
use lab::{Lab, Settings, Status};

#[test]
#[ignore = "needs pebble: scripts/test.sh"]
fn issues_checks_and_replaces() {
    let lab = Lab::with(Settings { always_valid: true, ..Settings::default() });
    let dir = tempfile::tempdir().unwrap();
    let keystore = dir.path().join("keystore");
    Keystore::create(&keystore, None).unwrap();
    let zone = Arc::new(Zone::default());
    let workers = [0, 1].map(|id| Worker::start(&lab, &keystore, &zone, id));

    // The first certificate, with its proof, in both.
    let mut views: Vec<Update> =
        workers.iter().map(|w| w.wait_for(|u| u.view.bundle.is_ok())).collect();
    let old = views.remove(0).view.bundle.as_ref().unwrap().facts.serial.clone();
    assert_eq!(views[0].view.bundle.as_ref().unwrap().facts.serial, old);
    lab::wait_until("all answers to be withdrawn", Duration::from_secs(10), || {
        workers[0].poke();
        zone.challenges.lock().unwrap().is_empty()
    });

    // Revoked: two handshakes at once in two workers.
    lab.responder.set_status(&old.0, Status::Revoked { reason: Some(1), at: 1_700_000_000 });
    lab.responder.forget_queries();
    let begun = Instant::now();
    workers.iter().for_each(|w| w.engine.demand(0));
    for worker in &workers {
        let last = worker.wait_for(|u| u.finished.is_some());
        let bundle = last.view.bundle.as_ref().unwrap();
        assert_ne!(bundle.facts.serial, old);
        assert!(bundle.issuer().is_some());
        assert_eq!(last.view.last_revoked.as_ref(), Some(&old));
        assert!(last.view.links[0].evidence.iter().any(|e| e.checked_at >= last.finished.unwrap()));
    }
    println!("replaced after {:?}", begun.elapsed());
    assert_eq!(lab.responder.queries_for(&old.0).len(), 1, "one query");
    let stored = Keystore::open(&keystore).unwrap().load(&name()).unwrap().unwrap();
    assert_eq!(stored.version, 2, "one issuance");
    for worker in &workers {
        assert!(worker.engine.stop(Duration::from_secs(5)));
    }
}

fn name() -> EntryName {
    EntryName::new("shop.example").unwrap()
}

struct Worker {
    engine: Engine,
    host: Arc<TestHost>,
    updates: Mutex<Vec<Update>>,
    /// How often it had been rung when the engine was poked last.
    seen: AtomicUsize,
}

impl Worker {
    fn start(lab: &Lab, keystore: &Path, zone: &Arc<Zone>, id: usize) -> Worker {
        let host = Arc::new(TestHost { zone: Arc::clone(zone), id });
        let entry = EntrySettings {
            name: name(),
            names: vec!["shop.example".into(), "www.shop.example".into()],
            cas: vec!["pebble".into()],
            check: Check::Hard,
            check_interval: Duration::ZERO,
            timeout: Duration::from_secs(10),
            renew_before: RenewBefore::default(),
            key: KeyType::Ecdsa256,
            stapling: true,
            must_staple: false,
        };
        let ca = CaSettings {
            name: "pebble".into(),
            protocol: Protocol::Acme(AcmeSettings {
                ca: "pebble".into(),
                url: lab.pebble.directory_url(),
                account_key: None,
                contact: vec![],
                accept_terms_of_service: true,
                external_account: None,
                challenge: Challenge::Http01,
                profile: None,
                preferred_chain: None,
                hook: None,
                timeout: Duration::from_secs(10),
            }),
            subject: None,
            way: WaySettings {
                trusted_certificate: Some(std::fs::read(lab.pebble.api_ca()).unwrap()),
                ..WaySettings::default()
            },
            issuer_certificate: None,
            wildcards: false,
            budget: Budget::default(),
            evidence: EvidenceSettings::default(),
        };
        let plan = Plan {
            keystore: keystore.into(),
            passwords: Passwords::default(),
            cas: vec![ca],
            entries: vec![Arc::new(entry)],
        };
        let engine = Engine::with_network(plan, host.clone()).unwrap();
        engine.start();
        Worker { engine, host, updates: Mutex::default(), seen: AtomicUsize::default() }
    }

    /// The event loop's part: it pokes the engine when it is rung.
    fn poke(&self) {
        let rings = self.host.zone.rings.load(Ordering::SeqCst);
        if self.seen.swap(rings, Ordering::SeqCst) != rings {
            self.engine.poke();
        }
    }

    /// The first update of this kind.
    fn wait_for(&self, is_it: impl Fn(&Update) -> bool) -> Update {
        let mut rest = self.updates.lock().unwrap();
        lab::wait_for("an update", Duration::from_secs(30), || {
            self.poke();
            rest.extend(self.engine.take_updates());
            let found = rest.iter().position(&is_it)?;
            let mut told: Vec<Update> = rest.drain(..=found).collect();
            told.iter().flat_map(|u| &u.events).for_each(|e| println!("{}: {e}", self.host.id));
            told.pop()
        })
    }
}

#[derive(Default)]
struct Zone {
    news: Mutex<News>,
    claim: Mutex<Option<(usize, Time)>>,
    changes: AtomicU64,
    rings: AtomicUsize,
    challenges: Mutex<Vec<ChallengeAnswer>>,
}

struct TestHost {
    zone: Arc<Zone>,
    id: usize,
}

impl TestHost {
    fn ring(&self) {
        self.zone.rings.fetch_add(1, Ordering::SeqCst);
    }
}

impl Host for TestHost {
    fn wake(&self) {}

    fn news(&self, _: usize) -> News {
        self.zone.news.lock().unwrap().clone()
    }

    fn publish(&self, _: usize, change: &mut dyn FnMut(&mut News)) {
        let mut news = self.zone.news.lock().unwrap();
        change(&mut news);
        news.seq += 1;
        self.ring();
    }

    fn claim(&self, _: usize, now: Time, deadline: Time) -> bool {
        let mut claim = self.zone.claim.lock().unwrap();
        let free = claim.is_none_or(|(id, until)| id == self.id || until < now);
        if free {
            *claim = Some((self.id, deadline));
        }
        free
    }

    fn release(&self, _: usize) {
        self.zone.claim.lock().unwrap().take_if(|(id, _)| *id == self.id);
    }

    fn leads(&self, _: Time) -> bool {
        self.id == 0
    }

    fn changes_known(&self) -> u64 {
        self.zone.changes.load(Ordering::SeqCst)
    }

    fn set_changes_known(&self, number: u64) {
        if self.zone.changes.swap(number, Ordering::SeqCst) != number {
            self.ring();
        }
    }

    fn exiting(&self) -> bool {
        false
    }

    fn publish_challenge(&self, answer: &ChallengeAnswer, _: Time) -> Result<(), String> {
        let mut answers = self.zone.challenges.lock().unwrap();
        if !answers.contains(answer) {
            answers.push(answer.clone());
        }
        Ok(())
    }

    fn withdraw_challenge(&self, answer: &ChallengeAnswer) {
        self.zone.challenges.lock().unwrap().retain(|a| a != answer);
    }
}
