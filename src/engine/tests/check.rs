//! Checks: what is asked, what comes of it, and when it is asked again.

use super::world::*;
use crate::engine::{Count, Working};
use crate::evidence::Reason;
use crate::fixture::Spec;
use crate::policy::{Decision, Refusal};
use crate::settings::Check;

#[test]
fn no_evidence_is_asked_for_once_and_then_fresh() {
    let world = World::new();
    let serial = world.store(0x11);
    let mut worker = world.worker();
    worker.demand();
    worker.demand();
    world.drive(&mut [&mut worker]);
    let told = worker.told();
    assert_eq!(world.responder.queries(), [serial]);
    assert_eq!(told.finished.len(), 1, "both waited for one job");
    assert_eq!(told.count(Count::OcspQuery), 1);
    assert_eq!(worker.decide(None), Decision::Serve);
    assert_eq!(told.events, []);
    assert_eq!(world.cas[0].orders(), 0);

    world.clock.advance(s(3599));
    worker.demand();
    world.drive(&mut [&mut worker]);
    assert_eq!(world.responder.queries(), [], "it is fresh");
    assert_eq!(worker.told().finished.len(), 1);

    world.clock.advance(s(1));
    assert_eq!(worker.decide(None), Decision::Check);
    worker.demand();
    world.drive(&mut [&mut worker]);
    assert_eq!(world.responder.queries().len(), 1);
}

#[test]
fn a_demand_while_the_answer_is_on_its_way_joins() {
    let world = World::with(|w| w.settings.check_interval = s(0));
    world.store(0x11);
    let mut worker = world.worker();
    worker.demand();
    worker.desk.work_once(); // looked
    world.clock.advance(s(1));
    worker.demand();
    world.drive(&mut [&mut worker]);
    worker.demand(); // the first one's answer was not taken yet
    world.drive(&mut [&mut worker]);
    assert_eq!(world.responder.queries().len(), 1);
    let told = worker.told();
    assert_eq!(told.finished.len(), 1);
    assert_eq!(worker.decide(Some(told.finished[0])), Decision::Serve);
    // None is reused.
    assert_eq!(worker.decide(None), Decision::Check);
    world.clock.advance(s(1));
    worker.demand();
    world.drive(&mut [&mut worker]);
    assert_eq!(world.responder.queries().len(), 1);
}

#[test]
fn without_an_answer() {
    for (say, cause) in [
        (Say::Nothing(None), "ocsp: no answer, source=http://ocsp/"),
        (Say::Unknown, "\"http://ocsp/\" does not know certificate serial=11"),
        (Say::Hang(s(60)), "ocsp: timed out, source=http://ocsp/"),
    ] {
        for check in [Check::Soft, Check::Hard] {
            let world = World::with(|w| w.settings.check = check);
            let serial = world.store(0x11);
            world.responder.say(&serial, std::slice::from_ref(&say));
            let mut worker = world.worker();
            worker.demand();
            world.drive(&mut [&mut worker]);
            let told = worker.told();
            let decision = match check {
                Check::Hard => Decision::Refuse(Refusal::NoProof),
                _ => Decision::Serve,
            };
            assert_eq!(worker.decide(Some(told.finished[0])), decision, "{say:?}");
            // Nobody is held until the next attempt is due.
            assert_eq!(worker.decide(None), decision, "{say:?}");
            assert!(
                told.lines()[0].starts_with(&format!("CHECK failed: {cause}, next attempt in "))
            );
            let verdicts: &[&str] = match check {
                Check::Hard => &["refused, certificate serial=11: no proof that it is valid"],
                _ => &[],
            };
            assert_eq!(told.verdicts(), verdicts);
            assert_eq!(told.count(Count::OcspError), 1);
            let news = worker.news();
            assert_eq!((news.check_failures, news.working), (1, None));
            assert_eq!(news.last_error.as_deref(), Some(cause));
            let wait = news.next_check.unwrap().since(world.now());
            assert!(s(4) <= wait && wait <= s(6), "{wait:?}");
            world.clock.advance(wait);
            assert_eq!(worker.decide(None), Decision::Check);

            world.responder.say(&serial, &[Say::Good]);
            worker.demand();
            world.drive(&mut [&mut worker]);
            assert_eq!(worker.decide(None), Decision::Serve);
            let verdicts: &[&str] = match check {
                Check::Hard => &["served again with serial=11"],
                _ => &[],
            };
            assert_eq!(worker.told().verdicts(), verdicts);
            let news = worker.news();
            assert_eq!((news.next_check, news.check_failures, news.last_error), (None, 0, None));
            assert_eq!(world.cas[0].orders(), 0);
        }
    }
}

#[test]
fn the_answer_that_there_is_none_comes_in_time() {
    let world = World::new();
    let serial = world.store(0x11);
    world.responder.say(&serial, &[Say::Hang(s(60))]);
    let mut worker = world.worker();
    let before = world.now();
    worker.demand();
    world.drive(&mut [&mut worker]);
    assert!(world.now().since(before) < world.settings.timeout);
}

#[test]
fn the_time_in_a_queue_is_not_the_responders() {
    for is_demanded in [true, false] {
        let world = World::with(|w| w.settings.check = Check::Hard);
        let serial = world.store(0x11);
        world.responder.say(&serial, &[Say::Slow(s(1) / 2)]);
        let (mut worker, mut other) = (world.worker(), world.worker());
        match is_demanded {
            true => worker.demand(),
            false => _ = worker.look(),
        }
        worker.desk.work_once(); // looks
        world.clock.advance(s(60)); // no thread is free
        if is_demanded {
            other.demand();
            other.desk.work_once(); // the claim has run out
        }
        world.drive(&mut [&mut worker, &mut other]);
        assert_eq!(worker.told().lines(), [""; 0], "{is_demanded}");
        assert_eq!(worker.decide(None), Decision::Serve);
        assert_eq!(world.responder.queries(), [serial], "by one of them");
    }
}

#[test]
fn a_replacements_time_in_a_queue_is_not_the_responders() {
    let world = World::with(|w| w.settings.check = Check::Hard);
    world.responder.say(&world.cas[0].serial(1), &[Say::Slow(s(2))]);
    let mut worker = world.worker();
    worker.look();
    while world.cas[0].issued() == 0 {
        if worker.desk.work_once().is_none() {
            world.clock.advance(s(1));
        }
    }
    world.clock.advance(s(60));
    world.drive(&mut [&mut worker]);
    assert_eq!(world.stored(), Some(world.cas[0].serial(1)));
    assert_eq!(worker.news().issue_failures, 0);
}

#[test]
fn an_answer_about_another_certificate_says_nothing_about_this_one() {
    for say in [Say::Good, Say::Nothing(Some(s(300))), Say::Unknown] {
        let world = World::with(|w| w.settings.check = Check::Hard);
        let old = world.store(0x11);
        world.responder.say(&old, std::slice::from_ref(&say));
        let worker = std::sync::Arc::new(world.worker());
        worker.desk.demand(0);
        worker.desk.work_once(); // looks
        let late = std::sync::Arc::clone(&worker);
        *world.responder.meanwhile.lock().unwrap() = Some(Box::new({
            let (new, dir) = (world.prepare(0x12), world.dir());
            move || {
                new(&dir);
                late.desk.reload(&mut late.desk.entry(0)).unwrap();
            }
        }));
        while worker.desk.work_once().is_some() {}
        assert_eq!(world.responder.queries(), [old, hex(0x12)], "{say:?}");
        let updates = worker.desk.board().take_updates();
        let finished: Vec<_> = updates.iter().filter_map(|u| u.finished).collect();
        assert_eq!(worker.decide(Some(finished[0])), Decision::Serve, "{say:?}");
        assert_eq!((worker.news().next_check, worker.news().check_failures), (None, 0));
    }
}

#[test]
fn the_back_off_of_one_certificate_does_not_hold_up_the_next() {
    let world = World::with(|w| w.settings.check = Check::Hard);
    let old = world.store(0x11);
    world.responder.say(&old, &[Say::Nothing(None)]);
    let (mut worker, mut other) = (world.worker(), world.worker());
    world.pass(&mut [&mut worker, &mut other], s(200));
    assert!(worker.news().next_check.is_some_and(|next| next > world.now() + s(30)));
    world.store(0x12); // imported
    world.pass(&mut [&mut worker, &mut other], s(2));
    assert_eq!(worker.decide(None), Decision::Serve);

    // But what was noted about the new one stays, whoever sees it first.
    let world = World::new();
    let old = world.store(0x11);
    world.responder.say(&old, &[Say::Revoked(Reason::Superseded)]);
    world.responder.say(&world.cas[0].serial(1), &[Say::Nothing(None)]);
    let (mut worker, mut other) = (world.worker(), world.worker());
    other.look();
    worker.demand();
    world.drive(&mut [&mut worker]);
    let next = worker.news().next_check;
    assert!(next.is_some());
    other.look();
    assert_eq!(other.desk.entry(0).serial(), Some(world.cas[0].serial(1)));
    assert_eq!(other.news().next_check, next);
}

#[test]
fn failed_checks_back_off_and_the_responders_wish_is_honoured() {
    let world = World::new();
    let serial = world.store(0x11);
    world.responder.say(&serial, &[Say::Nothing(None)]);
    let mut worker = world.worker();
    let mut waits = Vec::new();
    for _ in 0..6 {
        worker.look();
        world.drive(&mut [&mut worker]);
        let wait = worker.news().next_check.unwrap().since(world.now());
        waits.push(wait.as_secs());
        world.clock.advance(wait);
    }
    for (wait, usual) in waits.iter().zip([5u64, 10, 30, 60, 300, 300]) {
        assert!(usual * 8 / 10 <= *wait + 1 && *wait <= usual * 12 / 10, "{waits:?}");
    }
    world.responder.say(&serial, &[Say::Nothing(Some(s(1500)))]);
    worker.look();
    world.drive(&mut [&mut worker]);
    assert_eq!(worker.news().next_check.unwrap().since(world.now()), s(1500));
    assert_eq!(world.responder.queries().len(), 7, "one query an attempt");
}

#[test]
fn the_next_responder_is_asked_when_the_first_fails() {
    use crate::fixture::der;
    let access =
        |url: &str| der::seq(&[&der::oid("1.3.6.1.5.5.7.48.1"), &der::tlv(0x86, url.as_bytes())]);
    let aia = der::seq(&[&access("http://first/"), &access("http://second/x")]);
    let world = World::with(|w| w.ca_settings[0].evidence.ocsp_responder = None);
    let extensions: &[(&str, bool, &[u8])] = &[("1.3.6.1.5.5.7.1.1", false, &aia)];
    let serial = world.store_as(Spec { serial: 0x11, extensions, ..Spec::default() });
    world.responder.say(&serial, &[Say::Hang(s(60)), Say::Good]);
    let mut worker = world.worker();
    let before = world.now();
    worker.demand();
    world.drive(&mut [&mut worker]);
    let asked = world.responder.asked.lock().unwrap().clone();
    let urls: Vec<&str> = asked.iter().map(|(_, url)| url.as_str()).collect();
    assert_eq!(urls, ["http://first/", "http://second/x"]);
    let told = worker.told();
    assert_eq!(worker.decide(Some(told.finished[0])), Decision::Serve);
    assert_eq!((told.count(Count::OcspQuery), told.count(Count::OcspError)), (2, 1));
    assert!(world.now().since(before) < world.settings.timeout, "the second has its share");
    assert_eq!(worker.news().check_failures, 0);
}

#[test]
fn no_source_is_told_once_and_served() {
    let world = World::with(|w| {
        w.ca_settings[0].evidence.ocsp_responder = None;
        w.settings.check = Check::Hard;
    });
    world.store(0x11);
    let mut worker = world.worker();
    world.pass(&mut [&mut worker], s(3));
    worker.demand();
    world.drive(&mut [&mut worker]);
    let told = worker.told();
    assert_eq!(told.lines().len(), 1, "{:?}", told.lines());
    assert!(told.lines()[0].contains("names no OCSP responder"));
    assert_eq!(worker.decide(None), Decision::Serve);
    assert_eq!(world.responder.queries(), []);
}

#[test]
fn check_off_asks_nothing_but_knows_what_is_stored() {
    let world = World::with(|w| w.settings.check = Check::Off);
    let serial = world.store(0x11);
    let mut worker = world.worker();
    world.pass(&mut [&mut worker], s(3));
    assert_eq!(world.responder.queries(), []);
    assert_eq!(worker.decide(None), Decision::Serve);

    // Another host, which checks, found it revoked.
    let mut world = world;
    world.settings.check = Check::Soft;
    world.responder.say(&serial, &[Say::Revoked(Reason::KeyCompromise)]);
    let mut asker = world.worker_of(&Default::default());
    asker.demand();
    for _ in 0..2 {
        asker.desk.work_once(); // looks, asks
    }
    drop(asker);
    world.clock.advance(s(1));
    world.pass(&mut [&mut worker], s(5));
    assert_eq!(world.stored(), Some(world.cas[0].serial(1)));
    assert_eq!(world.responder.queries(), [serial], "the new one is not asked about");
}

#[test]
fn working_is_shown_while_a_handshake_waits() {
    let world = World::new();
    world.store(0x11);
    let mut worker = world.worker();
    worker.demand();
    worker.desk.work_once();
    assert_eq!(worker.news().working, Some(Working::Checking));
    world.drive(&mut [&mut worker]);
    assert_eq!(worker.news().working, None);
}

#[test]
fn a_panic_leaves_a_next_attempt() {
    let world = World::new();
    let serial = world.store(0x11);
    world.responder.say(&serial, &[Say::Panic, Say::Good]);
    let mut worker = world.worker();
    worker.demand();
    world.drive(&mut [&mut worker]);
    assert_eq!(worker.told().finished.len(), 1);
    assert!(worker.news().next_check.is_some());
    assert!(!worker.desk.board().is_active((0, crate::engine::board::Lane::Check)));
    world.pass(&mut [&mut worker], s(10));
    assert_eq!(worker.news().next_check, None, "it has recovered");
}
