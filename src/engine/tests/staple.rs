//! What can be stapled, through checks, restarts and replacements.

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

use super::world::*;
use crate::engine::{Update, View};
use crate::evidence::{Evidence, Reason, Source, Status};
use crate::facts::Fingerprint;
use crate::fixture::{DAY, NOW, Spec, at};
use crate::settings::Check;
use crate::staple::Staple;

/// The staple of a view, which is about its certificate whatever happens.
fn staple(view: &View) -> Option<&Arc<Staple>> {
    let staple = view.staple.as_ref()?;
    assert_eq!(*staple.certificate(), view.bundle.as_ref().unwrap().facts.fingerprint);
    Some(staple)
}

fn last(updates: &[Update]) -> &View {
    &updates.last().expect("an update").view
}

/// A world with a certificate and a worker that has asked about it.
fn checked() -> (World, Worker) {
    let world = World::new();
    world.store(0x11);
    let mut worker = world.worker();
    worker.demand();
    world.drive(&mut [&mut worker]);
    (world, worker)
}

#[test]
fn the_answer_that_a_handshake_waited_for_is_stapled_to_it() {
    let (_world, mut worker) = checked();
    let updates = worker.updates();
    let finished = updates.iter().find(|u| u.finished.is_some()).expect("finished");
    assert_eq!(staple(&finished.view).expect("a staple").until(), at(7 * DAY));
}

#[test]
fn a_restart_without_network_staples_at_once() {
    for check in [Check::Soft, Check::Hard, Check::Off] {
        let (mut world, _) = checked();
        world.settings.check = check;
        world.responder.queries();
        let mut worker = world.worker();
        worker.look();
        assert!(staple(last(&worker.updates())).is_some(), "{check:?}");
        assert_eq!(world.responder.queries(), [], "{check:?}");
    }
}

#[test]
fn the_staple_changes_with_the_certificate_and_not_beside_it() {
    let (world, mut worker) = checked();
    let old = staple(last(&worker.updates())).expect("a staple").clone();
    world.responder.say(&hex(0x11), &[Say::Revoked(Reason::KeyCompromise)]);
    world.clock.advance(s(4000));
    worker.demand();
    world.drive(&mut [&mut worker]);
    let updates = worker.updates();
    let new = world.cas[0].serial(1);
    for update in &updates {
        let serial = &update.view.bundle.as_ref().unwrap().facts.serial;
        let revoked = update.view.links[0].evidence.iter().any(Evidence::is_revoked);
        assert_eq!(staple(&update.view).is_some(), *serial == new || !revoked);
    }
    assert_ne!(staple(last(&updates)), Some(&old));
    assert_eq!(last(&updates).bundle.as_ref().unwrap().facts.serial, new);
}

#[test]
fn what_says_nothing_takes_no_staple_away() {
    for say in [Say::Unknown, Say::Nothing(None)] {
        let (world, mut worker) = checked();
        let before = staple(last(&worker.updates())).expect("a staple").clone();
        world.responder.say(&hex(0x11), std::slice::from_ref(&say));
        world.clock.advance(s(4000));
        worker.demand();
        world.drive(&mut [&mut worker]);
        assert_eq!(staple(last(&worker.updates())), Some(&before), "{say:?}");
        let mut other = world.worker();
        other.look();
        assert_eq!(staple(last(&other.updates())), Some(&before), "{say:?}");
    }
}

#[test]
fn another_certificates_answer_takes_no_staple_away() {
    let (world, mut worker) = checked();
    let before = staple(last(&worker.updates())).expect("a staple").clone();
    let other = Evidence {
        certificate: Fingerprint("other".into()),
        serial: hex(0x99),
        source: Source::Ocsp,
        status: Status::Good,
        this_update: NOW,
        next_update: None,
        checked_at: NOW,
        responder: String::new(),
    };
    let keystore = world.keystore();
    keystore.merge_evidence(&world.settings.name, other, Some(b"another"), NOW).unwrap();
    let mut entry = worker.desk.entry(0);
    worker.desk.reload(&mut entry).unwrap();
    assert_eq!(staple(&entry.view()), Some(&before));
}

#[test]
fn newer_answers_follow_and_older_ones_do_not() {
    let (world, mut worker) = checked();
    let first = staple(last(&worker.updates())).expect("a staple").clone();
    world.clock.advance(s(4000));
    worker.demand();
    world.drive(&mut [&mut worker]);
    let second = staple(last(&worker.updates())).expect("a staple").clone();
    assert!(second.until() > first.until());
    let mut entry = worker.desk.entry(0);
    let mut late = entry.evidence[0].clone();
    late.this_update = NOW;
    worker.desk.save_evidence(&mut entry, late, Some(first.der().to_vec()));
    assert_eq!(staple(&entry.view()), Some(&second));
    worker.desk.reload(&mut entry).unwrap();
    assert_eq!(staple(&entry.view()), Some(&second));
}

#[test]
fn a_keystore_that_takes_no_evidence_costs_no_staple() {
    for stored in [true, false] {
        let world = World::new();
        if stored {
            world.store(0x11);
        }
        let lock = world.dir().join("certs/shop.example/evidence.lock");
        std::fs::create_dir_all(lock).unwrap(); // even root can't open that for writing
        let mut worker = world.worker();
        worker.demand();
        world.drive(&mut [&mut worker]);
        assert_eq!(world.cas[0].issued(), usize::from(!stored));
        assert!(staple(last(&worker.updates())).is_some(), "stored: {stored}");
        assert!(!world.dir().join("certs/shop.example/ocsp.der").exists());
    }
}

#[test]
fn an_answer_that_comes_alone_is_told_of() {
    let (world, mut worker) = checked();
    let file = world.dir().join("certs/shop.example/ocsp.der");
    let der = std::fs::read(&file).unwrap();
    std::fs::remove_file(&file).unwrap();
    worker.updates();
    let mut other = world.worker();
    other.look();
    assert_eq!(staple(last(&other.updates())), None);
    std::fs::write(&file, der).unwrap();
    other.desk.reload(&mut other.desk.entry(0)).unwrap();
    assert!(staple(last(&other.updates())).is_some());
}

/// The CRL knows of a new certificate before the responder does.
fn must_staple_with_a_crl() -> World {
    let world = World::with(|w| {
        w.ca_settings[0].evidence.crl = Some("http://crl/".into());
        w.settings.must_staple = true;
    });
    world.cas[0].must_staple.store(true, SeqCst);
    world.responder.say(&world.cas[0].serial(1), &[Say::Unknown, Say::Unknown, Say::Good]);
    world
}

#[test]
fn a_new_certificate_that_must_be_stapled_waits_for_its_staple() {
    let world = must_staple_with_a_crl();
    let mut worker = world.worker();
    worker.demand();
    world.drive(&mut [&mut worker]);
    let updates = worker.updates();
    for update in updates.iter().filter(|u| u.view.bundle.is_ok()) {
        assert!(staple(&update.view).is_some());
    }
    assert!(last(&updates).bundle.as_ref().unwrap().facts.must_staple);
    assert_eq!(world.crls.serials().len(), 1, "known by then");
}

#[test]
fn one_that_gets_no_staple_replaces_only_a_bad_one() {
    let new = |world: &World| world.stored() == Some(world.cas[0].serial(1));
    for bad in [false, true] {
        let world = must_staple_with_a_crl();
        world.responder.say(&world.cas[0].serial(1), &[Say::Unknown]);
        let life = if bad { (-DAY, -1) } else { (-10 * DAY, DAY) };
        world.store_as(Spec { serial: 0x11, life, ..Spec::default() });
        let mut worker = world.worker();
        world.pass(&mut [&mut worker], s(60));
        assert_eq!(new(&world), bad);
        world.responder.say(&world.cas[0].serial(1), &[Say::Good]);
        world.pass(&mut [&mut worker], s(400));
        assert!(new(&world));
        assert!(staple(last(&worker.updates())).is_some());
        assert_eq!(world.cas[0].issued(), 1);
    }
}

#[test]
fn a_certificate_on_hold_is_not_asked_about_for_its_staple() {
    let world = World::new();
    let feature: &[u8] = &[0x30, 3, 2, 1, 5];
    let extensions = [("1.3.6.1.5.5.7.1.24", false, feature)];
    let serial = world.store_as(Spec { serial: 0x11, extensions: &extensions, ..Spec::default() });
    world.responder.say(&serial, &[Say::Revoked(Reason::CertificateHold)]);
    let fail = || Do::Fail(crate::ca::IssueError::Storage("no CA today".into()));
    world.cas[0].script((0..500).map(|_| fail()).collect());
    let mut worker = world.worker();
    world.pass(&mut [&mut worker], s(600));
    let queries = world.responder.queries().len();
    assert!(queries <= 2, "{queries} queries");
}

#[test]
fn a_hold_that_an_older_answer_can_not_lift_is_asked_about_with_rests() {
    let world = World::new();
    let serial = world.store(0x11);
    let mut worker = world.worker();
    worker.look();
    let leaf = worker.desk.entry(0).fingerprint().unwrap().clone();
    let hold = Evidence {
        certificate: leaf,
        serial,
        source: Source::Ocsp,
        status: Status::Revoked { reason: Reason::CertificateHold, at: NOW },
        this_update: NOW + s(7200), // of another host's clock; the responder lags
        next_update: None,
        checked_at: NOW - s(7200),
        responder: String::new(),
    };
    let keystore = world.keystore();
    keystore.merge_evidence(&world.settings.name, hold, None, NOW).unwrap();
    let fail = || Do::Fail(crate::ca::IssueError::Storage("no CA today".into()));
    world.cas[0].script((0..500).map(|_| fail()).collect());
    world.pass(&mut [&mut worker], s(600));
    let queries = world.responder.queries().len();
    assert!(queries <= 10, "{queries} queries");
}
