//! CRLs beside other work: with each handshake, for others, and behind.

use std::time::Duration;

use super::crl::{intermediate, with_both, with_crl_only};
use super::crls::Lists;
use super::world::*;
use crate::engine::job::Job;
use crate::evidence::Reason;
use crate::fixture::{DAY, Spec};
use crate::policy::Decision;
use crate::settings::Check;

#[test]
fn with_no_interval_a_crl_is_looked_at_beside_each_answer() {
    let mut world = with_both();
    world.settings.check_interval = s(0);
    let serial = world.store(0x11);
    let mut worker = world.worker();
    for n in 1..=3 {
        worker.demand();
        world.drive(&mut [&mut worker]);
        let told = worker.told();
        assert_eq!(told.finished.len(), 1, "{n}");
        assert_eq!(worker.decide(Some(told.finished[0])), Decision::Serve);
        let looked = world.crls.looked_up();
        assert_eq!(looked.len(), 1, "{n}");
        assert!(looked[0].1 >= told.finished[0], "no copy of before counts");
        world.clock.advance(s(1));
    }
    world.crls.say(&serial, &[Lists::As(Reason::Superseded)]);
    worker.demand();
    world.drive(&mut [&mut worker]);
    assert_eq!(world.stored(), Some(world.cas[0].serial(1)));
}

#[test]
fn with_no_interval_a_crl_stands_in_for_a_responder_each_time() {
    for say in [Say::Hang(s(60)), Say::Nothing(None), Say::Unknown] {
        let mut world = with_both();
        (world.settings.check, world.settings.check_interval) = (Check::Hard, s(0));
        let serial = world.store(0x11);
        world.responder.say(&serial, std::slice::from_ref(&say));
        let mut worker = world.worker();
        let mut lines = Vec::new();
        for n in 1..=3 {
            worker.look();
            worker.told();
            assert_eq!(worker.decide(None), Decision::Check, "{say:?} {n}");
            let begun = world.now();
            worker.demand();
            world.drive(&mut [&mut worker]);
            let told = worker.told();
            assert!(world.now().since(begun) < world.settings.timeout, "{say:?} {n}");
            assert_eq!(worker.decide(Some(told.finished[0])), Decision::Serve, "{say:?} {n}");
            lines.extend(told.lines());
            world.clock.advance(s(1));
        }
        assert_eq!(lines.len(), 1, "told once: {lines:?}");
    }
}

#[test]
fn a_crl_that_others_asked_for_meanwhile_is_proof() {
    let mut world = with_crl_only(Check::Hard);
    world.settings.check_interval = s(0);
    world.store(0x11);
    let mut worker = world.worker();
    worker.look();
    // A job stands in a queue; until it runs another worker asks.
    worker.demand();
    world.clock.advance(Duration::from_millis(20));
    world.crls.copy_of(world.now());
    world.clock.advance(Duration::from_millis(20));
    world.drive(&mut [&mut worker]);
    let told = worker.told();
    assert_eq!(told.lines(), Vec::<String>::new());
    assert_eq!(worker.decide(Some(told.finished[0])), Decision::Serve);
}

#[test]
fn a_crl_that_came_for_others_is_looked_at_again() {
    let mut world = with_both();
    (world.settings.check, world.settings.check_interval) = (Check::Hard, s(0));
    let serial = world.store(0x11);
    world.responder.say(&serial, &[Say::Good, Say::Nothing(None)]);
    world.crls.say(&serial, &[vec![Lists::Busy; 10], vec![Lists::Not]].concat());
    let mut worker = world.worker();
    worker.look();
    worker.demand();
    world.crls.copy_of(world.now());
    while worker.told().finished.is_empty() {
        assert!(worker.desk.work_once().is_some());
    }
    // The CRL is still on its way, and the responder fails from now on.
    world.clock.advance(Duration::from_millis(100));
    worker.demand();
    world.drive(&mut [&mut worker]);
    let told = worker.told();
    assert_eq!(worker.decide(Some(told.finished[0])), Decision::Serve, "{:?}", told.lines());
}

#[test]
fn a_crl_that_fails_behind_is_told_once_an_attempt() {
    let world = World::with_intermediate(None, Some("http://root-crl/"));
    world.store(0x11);
    world.crls.say(&intermediate(), &[Lists::Nothing]);
    let mut worker = world.worker();
    worker.demand();
    world.drive(&mut [&mut worker]);
    world.pass(&mut [&mut worker], s(600));
    let attempts = world.crls.serials().len();
    let lines = worker.told().lines();
    assert_eq!(lines.len(), attempts, "{lines:?}");
    assert!(lines.iter().all(|line| line.contains("crl: HTTP status 404")), "{lines:?}");
    world.crls.say(&intermediate(), &[Lists::Not]);
    world.pass(&mut [&mut worker], s(400));
    let news = worker.news();
    assert_eq!((news.next_check, news.next_crl, news.last_error), (None, None, None));
    assert_eq!(worker.decide(None), Decision::Serve);
}

#[test]
fn a_crl_that_comes_in_takes_no_place_of_ocsp() {
    let world = with_both();
    world.store(0x11);
    let worker = world.worker();
    worker.desk.reload(&mut worker.desk.entry(0)).unwrap();
    let host_of = |job: Job| job.step(&worker.desk).0.host(&worker.desk);
    assert_eq!(host_of(Job::check(0, world.now())).as_deref(), Some("ocsp:80"));
    assert_eq!(host_of(Job::crl(0, None)).as_deref(), Some("crl crl:80"));
}

#[test]
fn who_is_not_waited_for_looks_seldom_and_long() {
    for (since, seldom) in [(None, true), (Some(s(0)), false)] {
        let world = with_both();
        let serial = world.store(0x11);
        world.crls.say(&serial, &[Lists::Busy]);
        let worker = world.worker();
        worker.desk.reload(&mut worker.desk.entry(0)).unwrap();
        worker.desk.begin_crl(0, since.map(|ago| world.now() - ago));
        let begun = world.now();
        while worker.desk.work_once().is_some()
            || (world.now() < begun + s(20) && world.advance_to_alarm(&worker))
        {}
        let pause = worker.desk.board().next_alarm().unwrap().since(world.now());
        assert_eq!(pause >= s(1), seldom, "{pause:?}");
    }
    // A renewal, and a replacement that handshakes wait for.
    for (life, long) in [((-10 * DAY, DAY), true), ((-DAY, -1), false)] {
        let world = with_crl_only(Check::Soft);
        world.store_as(Spec { serial: 0x11, life, ..Spec::default() });
        let mut worker = world.worker();
        world.pass(&mut [&mut worker], s(5));
        assert_eq!(world.stored(), Some(world.cas[0].serial(1)));
        assert_eq!(world.crls.serials().pop(), world.stored());
        assert_eq!(*world.crls.patience.lock().unwrap() > world.settings.timeout, long);
    }
}
