//! CRLs and chains: the second source, and the certificates above the leaf.

use std::sync::Arc;

use super::crls::Lists;
use super::world::*;
use crate::engine::Count;
use crate::evidence::{Evidence, Reason, Source, Status};
use crate::facts::Serial;
use crate::fixture::Spec;
use crate::policy::{Decision, Refusal};
use crate::settings::{Check, EntryName};

const CRL: &str = "http://crl/";

/// There is a CRL beside the responder.
pub fn with_both() -> World {
    World::with(|w| w.ca_settings[0].evidence.crl = Some(CRL.into()))
}

/// There is a CRL, and nobody answers OCSP.
pub fn with_crl_only(check: Check) -> World {
    World::with(|w| {
        w.ca_settings[0].evidence.crl = Some(CRL.into());
        w.ca_settings[0].evidence.ocsp_responder = None;
        w.settings.check = check;
    })
}

fn unproven(check: Check) -> Decision {
    match check {
        Check::Hard => Decision::Refuse(Refusal::NoProof),
        _ => Decision::Serve,
    }
}

#[test]
fn a_crl_alone_proves() {
    let world = with_crl_only(Check::Hard);
    let serial = world.store(0x11);
    let mut worker = world.worker();
    assert_eq!(worker.decide(None), Decision::Replace(crate::policy::Badness::Missing));
    worker.demand();
    worker.demand();
    world.drive(&mut [&mut worker]);
    assert_eq!(world.crls.serials(), [serial]);
    assert_eq!(world.responder.queries(), []);
    let told = worker.told();
    assert_eq!((told.finished.len(), told.count(Count::CrlFetch)), (1, 1));
    assert_eq!(told.lines(), Vec::<String>::new());
    assert_eq!(worker.decide(Some(told.finished[0])), Decision::Serve);
    assert_eq!(worker.decide(None), Decision::Serve);
    let view = worker.desk.entry(0).view();
    assert_eq!(view.links[0].evidence[0].source, Source::Crl);
    // It is kept fresh without a client.
    world.pass(&mut [&mut worker], s(3600));
    let looked = world.crls.serials().len();
    assert!((1..=2).contains(&looked), "{looked}");
    assert_eq!(worker.decide(None), Decision::Serve);
}

#[test]
fn what_the_crl_lists_is_replaced() {
    for hard in [Check::Hard, Check::Soft] {
        let world = with_crl_only(hard);
        let serial = world.store(0x11);
        world.crls.say(&serial, &[Lists::As(Reason::KeyCompromise)]);
        let mut worker = world.worker();
        worker.demand();
        world.drive(&mut [&mut worker]);
        let told = worker.told();
        let line = format!("certificate serial={serial} is revoked (keyCompromise), source={CRL}");
        assert_eq!(told.lines()[0], line);
        assert_eq!(world.cas[0].issued(), 1);
        assert_eq!(world.stored(), Some(world.cas[0].serial(1)));
        // The new one was looked up, too.
        assert_eq!(world.crls.serials(), [serial, world.cas[0].serial(1)]);
        assert_eq!(told.finished.len(), 1);
        assert_eq!(worker.decide(Some(told.finished[0])), Decision::Serve);
    }
}

#[test]
fn a_crl_stands_in_for_a_responder() {
    let mut world = with_both();
    world.settings.check = Check::Hard;
    let serial = world.store(0x11);
    world.responder.say(&serial, &[Say::Nothing(None)]);
    let mut worker = world.worker();
    worker.demand();
    world.drive(&mut [&mut worker]);
    let told = worker.told();
    assert_eq!(worker.decide(Some(told.finished[0])), Decision::Serve);
    assert_eq!(worker.decide(None), Decision::Serve, "the next one does not wait");
    assert_eq!(told.lines().len(), 1, "the responder's failure is told: {:?}", told.lines());
    assert!(told.lines()[0].starts_with("CHECK failed: ocsp: no answer"), "{:?}", told.lines());
    let news = worker.news();
    assert!(news.next_ocsp.is_some() && news.next_check.is_none(), "and asked again");
}

/// No time to rest for the one, no proof lost for the other.
#[test]
fn a_responder_that_fails_is_left_alone_while_the_crl_proves() {
    let mut world = with_both();
    world.settings.check = Check::Hard;
    world.settings.check_interval = s(0);
    let serial = world.store(0x11);
    world.responder.say(&serial, &[Say::Nothing(None)]);
    let mut worker = world.worker();
    for n in 0..3 {
        worker.demand();
        world.drive(&mut [&mut worker]);
        let told = worker.told();
        assert_eq!(worker.decide(Some(told.finished[0])), Decision::Serve, "{n}");
        assert_eq!(worker.decide(None), Decision::Check, "{n}");
        assert_eq!(world.responder.queries().len(), usize::from(n == 0), "{n}");
        assert_eq!(world.crls.serials().len(), 1, "{n}");
        world.clock.advance(s(1));
    }
    let wait = worker.news().next_ocsp.unwrap().since(world.now());
    world.clock.advance(wait);
    world.responder.say(&serial, &[Say::Good]);
    worker.demand();
    world.drive(&mut [&mut worker]);
    assert_eq!(world.responder.queries().len(), 1);
    let news = worker.news();
    assert_eq!((news.next_ocsp, news.ocsp_failures, news.last_error), (None, 0, None));
}

/// The check that nobody waits for fails first; who comes then waits for the CRL all the same.
#[test]
fn a_crl_is_waited_for_behind_a_responder_that_fails() {
    let mut world = with_both();
    world.settings.check = Check::Hard;
    let serial = world.store(0x11);
    world.responder.say(&serial, &[Say::Nothing(None)]);
    world.crls.say(&serial, &[vec![Lists::Busy; 5], vec![Lists::Not]].concat());
    let mut worker = world.worker();
    worker.look();
    while worker.desk.work_once().is_some() || world.advance_to_alarm(&worker) {
        let refused = Decision::Refuse(Refusal::NoProof);
        assert_ne!(worker.decide(None), refused, "there is proof to be had");
    }
    assert_eq!(worker.decide(None), Decision::Serve);
}

#[test]
fn a_hold_is_lifted_without_a_replacement() {
    for by_crl in [true, false] {
        let mut world = if by_crl { with_crl_only(Check::Hard) } else { World::new() };
        world.settings.cas = vec!["one".into()];
        let serial = world.store(0x11);
        if by_crl {
            world.crls.say(&serial, &[Lists::As(Reason::CertificateHold)]);
        } else {
            world.responder.say(&serial, &[Say::Revoked(Reason::CertificateHold)]);
        }
        let fail = || Do::Fail(crate::ca::IssueError::Storage("no CA today".into()));
        world.cas[0].script((0..500).map(|_| fail()).collect());
        let mut worker = world.worker();
        world.pass(&mut [&mut worker], s(30));
        assert!(matches!(worker.decide(None), Decision::Refuse(Refusal::Bad(_))), "{by_crl}");
        assert!(worker.news().bad_since.is_some());
        if by_crl {
            world.crls.say(&serial, &[Lists::Not]);
        } else {
            world.responder.say(&serial, &[Say::Good]);
        }
        world.pass(&mut [&mut worker], s(3600));
        assert_eq!(worker.decide(None), Decision::Serve, "{by_crl}");
        assert_eq!(worker.news().bad_since, None);
        assert_eq!(world.stored(), Some(serial));
        assert_eq!(worker.told().verdicts().len(), 2, "refused, and served again");
    }
}

#[test]
fn revoked_in_either_is_revoked() {
    let world = with_both();
    let serial = world.store(0x11);
    world.crls.say(&serial, &[Lists::As(Reason::Superseded)]);
    let mut worker = world.worker();
    // Nobody has asked: it is looked at beside OCSP.
    world.pass(&mut [&mut worker], s(5));
    assert_eq!(world.stored(), Some(world.cas[0].serial(1)));
    let told = worker.told();
    assert!(told.lines()[0].contains("is revoked (superseded)"), "{:?}", told.lines());
    assert_eq!(told.count(Count::ReplacedRevoked), 1);

    let world = with_both();
    let serial = world.store(0x12);
    world.responder.say(&serial, &[Say::Revoked(Reason::KeyCompromise)]);
    let mut worker = world.worker();
    world.pass(&mut [&mut worker], s(5));
    assert_eq!(world.stored(), Some(world.cas[0].serial(1)));
}

#[test]
fn without_a_crl() {
    for check in [Check::Soft, Check::Hard] {
        let world = with_crl_only(check);
        let serial = world.store(0x11);
        world.crls.say(&serial, &[Lists::Nothing]);
        let mut worker = world.worker();
        worker.demand();
        world.drive(&mut [&mut worker]);
        let told = worker.told();
        assert_eq!(worker.decide(Some(told.finished[0])), unproven(check));
        assert_eq!(worker.decide(None), unproven(check), "nobody is held till the next attempt");
        let cause = "crl: HTTP status 404 to GET, source=http://crl/";
        assert!(told.lines()[0].starts_with(&format!("CHECK failed: {cause}, next attempt in ")));
        assert_eq!(told.lines().len(), 1, "told once: {:?}", told.lines());
        assert_eq!(worker.news().last_error.as_deref(), Some(cause));
        assert_eq!(world.crls.serials().len(), 1);

        world.crls.say(&serial, &[Lists::Not]);
        world.pass(&mut [&mut worker], s(20));
        assert_eq!(worker.decide(None), Decision::Serve, "{check:?}");
        let news = worker.news();
        assert_eq!((news.next_check, news.next_crl, news.last_error), (None, None, None));
        assert_eq!(world.cas[0].orders(), 0);
    }
}

#[test]
fn one_that_takes_too_long_is_waited_for_behind() {
    for check in [Check::Soft, Check::Hard] {
        let world = with_crl_only(check);
        let serial = world.store(0x11);
        let long = vec![Lists::Busy; 300];
        world.crls.say(&serial, &[long, vec![Lists::Not]].concat());
        let mut worker = world.worker();
        let before = world.now();
        worker.demand();
        let mut told = Told::default();
        while told.finished.is_empty() {
            assert!(worker.desk.work_once().is_some() || world.advance_to_alarm(&worker));
            told = worker.told();
        }
        assert!(world.now().since(before) < world.settings.timeout);
        assert_eq!(worker.decide(Some(told.finished[0])), unproven(check));
        assert_eq!(worker.decide(None), unproven(check), "nobody is held till it is tried again");
        world.pass(&mut [&mut worker], s(60));
        assert_eq!(worker.decide(None), Decision::Serve, "{check:?}");
        assert_eq!(world.cas[0].orders(), 0);
    }
}

#[test]
fn copies_of_others_are_used() {
    let world = with_crl_only(Check::Soft);
    world.store(0x11);
    let mut worker = world.worker();
    worker.demand();
    world.drive(&mut [&mut worker]);
    let first = world.now();
    let fresh = first - s(3600);
    let looked = world.crls.looked_up()[0].1;
    assert!(fresh - s(1) < looked && looked <= fresh, "any that is fresh");
    world.pass(&mut [&mut worker], s(3000));
    let again = world.crls.looked_up()[0].1;
    assert!(first - s(1) < again && again <= first + s(1), "any that is newer than ours");
}

/// The intermediate of CA "one".
pub fn intermediate() -> Serial {
    Serial("ca".into())
}

#[test]
pub fn intermediates_are_checked_where_they_say() {
    let world = World::with_intermediate(Some("http://root-ocsp/"), Some("http://root-crl/"));
    let serial = world.store(0x11);
    let mut worker = world.worker();
    worker.demand();
    world.drive(&mut [&mut worker]);
    let asked = world.responder.asked.lock().unwrap().clone();
    let want = [(serial, "http://ocsp/".to_owned()), (intermediate(), "http://root-ocsp/".into())];
    assert_eq!(asked, want, "the block's responder is for leaves");
    let told = worker.told();
    assert_eq!(worker.decide(Some(told.finished[0])), Decision::Serve);
    assert_eq!(worker.decide(None), Decision::Serve);
    worker.look();
    world.drive(&mut [&mut worker]);
    assert_eq!(world.crls.serials(), [intermediate()], "beside OCSP");
    // The stored answer is what is stapled: it is the leaf's.
    let stored = world.keystore().ocsp_answer(&world.settings.name).unwrap();
    let staple = worker.desk.entry(0).view().staple.expect("a staple");
    assert_eq!(stored.as_deref(), Some(staple.der()));
}

#[test]
fn an_unproven_intermediate_is_no_proof() {
    for check in [Check::Soft, Check::Hard] {
        let mut world = World::with_intermediate(Some("http://root-ocsp/"), None);
        world.settings.check = check;
        world.store(0x11);
        world.responder.say(&intermediate(), &[Say::Unknown]);
        let mut worker = world.worker();
        worker.demand();
        world.drive(&mut [&mut worker]);
        let told = worker.told();
        assert_eq!(worker.decide(Some(told.finished[0])), unproven(check));
        let cause = "\"http://root-ocsp/\" does not know certificate serial=ca";
        assert!(told.lines()[0].contains(cause), "{:?}", told.lines());
        assert_eq!(worker.news().check_failures, 1);
    }
}

#[test]
fn below_a_revoked_intermediate_nothing_is_valid() {
    let mut world = World::with_intermediate(None, Some("http://root-crl/"));
    world.settings.cas = vec!["one".into(), "two".into()];
    let serial = world.store(0x11);
    world.crls.say(&intermediate(), &[Lists::As(Reason::CaCompromise)]);
    let mut worker = world.worker();
    worker.demand();
    world.drive(&mut [&mut worker]);
    let told = worker.told();
    let lines = told.lines();
    let revoked = "certificate serial=ca is revoked (cACompromise), source=http://root-crl/";
    assert_eq!(lines[0], revoked);
    assert!(lines.last().unwrap().starts_with(&format!("replaced serial={serial} by ")));
    // What the same CA delivers is no better, and known to be so without asking.
    assert_eq!((world.cas[0].issued(), world.cas[1].issued()), (1, 1));
    assert_eq!(world.stored(), Some(world.cas[1].serial(1)));
    assert_eq!(world.crls.serials(), [intermediate()]);
    assert_eq!(worker.decide(Some(told.finished[0])), Decision::Serve);
    let replaced = worker.desk.entry(0).bundle.as_ref().unwrap().meta.replaced.clone().unwrap();
    assert_eq!(replaced.reason, "cACompromise");
}

#[test]
fn a_chain_with_a_revoked_intermediate_is_not_taken() {
    let world = World::with_intermediate(Some("http://root-ocsp/"), None);
    world.responder.say(&intermediate(), &[Say::Revoked(Reason::CaCompromise)]);
    let mut worker = world.worker();
    worker.demand();
    world.drive(&mut [&mut worker]);
    let told = worker.told();
    assert_eq!(world.stored(), None);
    let cause = "its issuer certificate serial=ca is revoked (cACompromise)";
    assert!(told.lines()[0].contains(cause), "{:?}", told.lines());
    assert!(worker.news().next_issue.is_some());
}

#[test]
fn below_an_unknown_root_intermediates_are_not_asked_about() {
    let mut world = World::with_intermediate(Some("http://root-ocsp/"), None);
    world.ca_settings[0].issuer_certificate = None;
    world.settings.check = Check::Hard;
    let serial = world.store(0x11);
    let mut worker = world.worker();
    worker.demand();
    world.drive(&mut [&mut worker]);
    assert_eq!(world.responder.queries(), [serial]);
    assert_eq!(worker.decide(None), Decision::Serve);
    world.pass(&mut [&mut worker], s(3));
    let lines = worker.told().lines();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].starts_with("intermediate certificate serial=ca is not checked"));
}

/// What one entry learns about the intermediate that both have, the other need not ask.
#[test]
fn entries_share_what_they_have_in_common() {
    let mut world = World::with_intermediate(Some("http://root-ocsp/"), None);
    let first = world.settings.clone();
    world.store(0x11);
    world.settings.name = EntryName::new("other.example").unwrap();
    world.settings.names = vec!["other.example".into()];
    let other = world.store_as(Spec { serial: 0x12, names: &["other.example"], ..Spec::default() });
    let worker = world.worker_for(&world.zone, vec![first, world.settings.clone()]);
    for index in 0..2 {
        worker.desk.reload(&mut worker.desk.entry(index)).unwrap();
    }
    let leaf = Arc::clone(&worker.desk.entry(0).subjects[0]);
    let siblings = worker.desk.siblings(&leaf);
    assert_eq!(siblings.iter().map(|(serial, _)| serial).collect::<Vec<_>>(), [&other]);

    let above = worker.desk.entry(0).subjects[1].facts.clone();
    let answer = |status, secs| Evidence {
        certificate: above.fingerprint.clone(),
        serial: above.serial.clone(),
        source: Source::Ocsp,
        status,
        this_update: world.now() + s(secs),
        next_update: None,
        checked_at: world.now() + s(secs),
        responder: "http://root-ocsp/".into(),
    };
    let known = |index: usize| -> Vec<Evidence> {
        worker.desk.entry(index).known(&above.fingerprint).cloned().collect()
    };
    worker.desk.spread(0, &answer(Status::Good, 2));
    assert_eq!((known(0), known(1)), (vec![], vec![answer(Status::Good, 2)]));
    worker.desk.spread(0, &answer(Status::Good, 1));
    assert_eq!(known(1), [answer(Status::Good, 2)], "no older one");
    let revoked = Status::Revoked { reason: Reason::CaCompromise, at: world.now() };
    worker.desk.spread(0, &answer(revoked, 1));
    assert!(known(1)[0].is_revoked(), "but a revocation of any age");
    let stored = world.keystore().evidence(&world.settings.name).unwrap();
    assert!(stored[0].is_revoked(), "on the disk, too");
    // One that is nobody else's goes nowhere.
    let own = Evidence { certificate: leaf.facts.fingerprint.clone(), ..answer(Status::Good, 3) };
    worker.desk.spread(0, &own);
    assert_eq!(worker.desk.entry(1).evidence.len(), 1);
}
