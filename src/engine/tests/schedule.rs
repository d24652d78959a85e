//! What is done though no handshake asks for it.

use super::world::*;
use crate::ca::IssueError;
use crate::evidence::Reason;
use crate::fixture::{DAY, Spec};
use crate::keystore::Change;
use crate::policy::Decision;

#[test]
fn the_first_certificate_is_there_before_anybody_asks() {
    let world = World::new();
    let mut worker = world.worker();
    world.pass(&mut [&mut worker], s(2));
    assert_eq!(world.stored(), Some(world.cas[0].serial(1)));
    assert_eq!(worker.decide(None), Decision::Serve, "with its proof");
    let told = worker.told();
    assert_eq!(told.lines(), ["issued serial=a001 from \"one\""]);
    assert_eq!(told.finished, [], "nobody waited");
}

#[test]
fn a_view_comes_with_the_first_look_even_of_nothing() {
    let world = World::new();
    let mut worker = world.worker();
    worker.look();
    let updates = worker.updates();
    assert!(updates.iter().any(|u| u.view.bundle.is_err()));
}

#[test]
fn evidence_is_renewed_before_it_ends() {
    let world = World::new();
    world.store(0x11);
    let mut worker = world.worker();
    world.pass(&mut [&mut worker], s(2 * 3600));
    let asked = world.responder.queries().len();
    // Each 1800 to 2880 seconds.
    assert!((3..=5).contains(&asked), "{asked}");
    for _ in 0..2000 {
        world.pass(&mut [&mut worker], s(1));
        assert_eq!(worker.decide(None), Decision::Serve, "nobody is ever held");
    }
    assert_eq!(worker.told().finished, []);
}

#[test]
fn without_interval_nothing_is_asked_behind() {
    let world = World::with(|w| w.settings.check_interval = s(0));
    world.store(0x11);
    let mut worker = world.worker();
    world.pass(&mut [&mut worker], s(600));
    assert_eq!(world.responder.queries(), []);
}

#[test]
fn a_revocation_is_found_and_mended_without_clients() {
    let world = World::new();
    let old = world.store(0x11);
    world.responder.say(&old, &[Say::Good, Say::Revoked(Reason::Superseded)]);
    let mut worker = world.worker();
    world.pass(&mut [&mut worker], s(3000));
    assert_eq!(world.stored(), Some(world.cas[0].serial(1)));
    assert_eq!(worker.decide(None), Decision::Serve);
}

#[test]
fn renewal_comes_before_the_end_and_once() {
    let world = World::new();
    world.store(0x11); // 31 days, of which one is over
    let mut worker = world.worker();
    world.clock.advance(s(18 * 86400));
    world.pass(&mut [&mut worker], s(10));
    assert_eq!(world.cas[0].orders(), 0);
    world.clock.advance(s(3 * 86400));
    world.pass(&mut [&mut worker], s(10));
    assert_eq!(world.stored(), Some(world.cas[0].serial(1)));
    let told = worker.told();
    assert!(told.lines().iter().any(|l| l.starts_with("replaced serial=11 by serial=a001")));
    assert_eq!(worker.news().replaced, None, "it was in time");
    assert_eq!(told.count(crate::engine::Count::ReplacedExpired), 0);
    world.pass(&mut [&mut worker], s(600));
    assert_eq!(world.cas[0].orders(), 1);
}

#[test]
fn a_certificate_of_the_future_is_no_reason_to_issue() {
    let world = World::new();
    world.store_as(Spec { serial: 0x11, life: (DAY, 30 * DAY), ..Spec::default() });
    let mut worker = world.worker();
    world.pass(&mut [&mut worker], s(60));
    worker.demand();
    world.drive(&mut [&mut worker]);
    assert_eq!(world.cas[0].orders(), 0);
    assert_eq!(world.responder.queries(), [], "an answer would change nothing");
    assert_eq!(worker.told().finished.len(), 1);
    world.clock.advance(s(86400 - 60));
    world.pass(&mut [&mut worker], s(2));
    assert_eq!(world.responder.queries().len(), 1);
}

#[test]
fn a_person_asks_for_another_one() {
    let world = World::with(|w| {
        w.ca_settings[0].budget = crate::settings::Budget { count: 0, window: s(86400) };
    });
    world.store(0x11);
    let mut worker = world.worker();
    world.pass(&mut [&mut worker], s(3));
    world.keystore().announce(&Change::Renew(world.settings.name.clone())).unwrap();
    world.pass(&mut [&mut worker], s(5));
    assert_eq!(world.stored(), Some(world.cas[0].serial(1)), "whatever the budget says");
    world.pass(&mut [&mut worker], s(60));
    assert_eq!(world.cas[0].orders(), 1, "once");

    // Even where there was no other way left.
    world.responder.say(&world.cas[0].serial(1), &[Say::Revoked(Reason::Superseded)]);
    world.clock.advance(s(3600));
    world.pass(&mut [&mut worker], s(60));
    assert_eq!(world.cas[0].orders(), 1);
    world.keystore().announce(&Change::Renew(world.settings.name.clone())).unwrap();
    world.pass(&mut [&mut worker], s(5));
    assert_eq!(world.stored(), Some(world.cas[0].serial(2)));
}

#[test]
fn a_person_asks_for_another_one_in_the_place_of_a_broken_one() {
    for is_there in [true, false] {
        let world = World::with(|w| {
            w.ca_settings[0].budget = crate::settings::Budget { count: 0, window: s(86400) };
        });
        if is_there {
            world.store(0x11);
            let file = world.dir().join("certs/shop.example/current/fullchain.pem");
            std::fs::write(file, "x").unwrap();
        }
        world.cas[0].script(vec![Do::IssueWrong]); // which uses up what is due by time
        let mut worker = world.worker();
        world.pass(&mut [&mut worker], s(600));
        let orders = world.cas[0].orders();
        assert_eq!((orders, world.cas[0].issued()), if is_there { (0, 0) } else { (1, 1) });
        world.cas[0].script(vec![]);
        world.keystore().announce(&Change::Renew(world.settings.name.clone())).unwrap();
        world.pass(&mut [&mut worker], s(5));
        assert_eq!(world.stored(), Some(world.cas[0].serial(orders + 1)), "{is_there}");
        assert_eq!(worker.desk.entry(0).unwanted, None);
    }
}

#[test]
fn an_imported_certificate_is_found() {
    let world = World::new();
    world.store(0x11);
    let mut worker = world.worker();
    world.pass(&mut [&mut worker], s(3));
    world.responder.queries();
    let new = world.store(0x12);
    worker.look();
    world.drive(&mut [&mut worker]);
    assert_eq!(world.responder.queries(), [new], "and asked about at once");
}

#[test]
fn a_keystore_that_cant_be_read_is_no_reason_to_issue() {
    let world = World::new();
    world.store(0x11);
    let moved = world.dir().with_extension("away");
    let mut worker = world.worker();
    std::fs::rename(world.dir(), &moved).unwrap();
    world.pass(&mut [&mut worker], s(3));
    worker.demand();
    world.drive(&mut [&mut worker]);
    let told = worker.told();
    assert_eq!(told.finished.len(), 1);
    assert!(told.lines()[0].starts_with("ISSUE failed: open() "), "{:?}", told.lines());
    std::fs::rename(&moved, world.dir()).unwrap();
    world.pass(&mut [&mut worker], s(10));
    assert_eq!(world.cas[0].orders(), 0);
    assert_eq!(worker.decide(None), Decision::Serve);
    assert_eq!((worker.news().last_error, worker.news().next_issue), (None, None));

    // What was loaded still stands, and is checked.
    std::fs::rename(world.dir(), &moved).unwrap();
    world.responder.queries();
    world.pass(&mut [&mut worker], s(3700));
    assert_eq!(worker.decide(None), Decision::Serve, "soft");
    let asked = world.responder.queries().len();
    assert!((1..=3).contains(&asked), "{asked}");
    assert_eq!(worker.news().next_check, None, "with an answer");
    assert_eq!(worker.desk.entry(0).unsaved.len(), 1, "the newest");
    assert_eq!(world.cas[0].orders(), 0);
    std::fs::rename(&moved, world.dir()).unwrap();
}

#[test]
fn a_clock_that_is_set_back_is_no_reason_to_wait() {
    let world = World::new();
    world.cas[0].script(vec![Do::Fail(IssueError::Storage("disk".into()))]);
    let mut worker = world.worker();
    worker.demand();
    world.drive(&mut [&mut worker]);
    assert!(worker.news().next_issue.is_some_and(|next| next > world.now()));
    world.clock.set_back(s(86_400));
    world.pass(&mut [&mut worker], s(5));
    assert_eq!(worker.decide(None), Decision::Serve, "not only a day later");
}

#[test]
fn a_clock_that_is_set_back_makes_no_old_answer_fresh() {
    let world = World::with(|w| w.settings.check = crate::settings::Check::Hard);
    let old = world.store(0x11);
    let mut worker = world.worker();
    worker.demand();
    world.drive(&mut [&mut worker]);
    worker.told();
    world.clock.set_back(s(7200));
    world.responder.queries();
    world.responder.say(&old, &[Say::Revoked(Reason::KeyCompromise)]);
    worker.demand();
    world.drive(&mut [&mut worker]);
    assert_eq!(world.responder.queries().first(), Some(&old));
    assert_eq!(world.stored(), Some(world.cas[0].serial(1)));
    assert_eq!(worker.decide(Some(worker.desk.now())), Decision::Serve, "the new one");

    // And a good one is asked for without a client.
    world.clock.set_back(s(7200));
    world.pass(&mut [&mut worker], s(3));
    assert_eq!(world.responder.queries().last(), Some(&world.cas[0].serial(1)));
    assert_eq!(worker.decide(None), Decision::Serve);
}

#[test]
fn short_lives_do_not_make_one_issuance_after_the_other() {
    // A life of which so many seconds are over, and so many left; issuances in 300 s.
    for (over, left, at_least, at_most) in [
        (0, 2, 2, 5),
        (DAY, 70, 2, 5),
        (DAY, 2, 2, 5),    // rejected
        (0, 30, 10, 20),   // renewed in time
        (DAY, 3600, 1, 1), // in time as well
    ] {
        let world = World::new();
        let short = (0..99).map(|_| Do::IssueFrom(-over, left)).collect();
        world.cas[0].script(short);
        let mut worker = world.worker();
        world.pass(&mut [&mut worker], s(300));
        let issued = world.cas[0].issued();
        assert!(at_least <= issued && issued <= at_most, "{over} {left}: {issued}");
        let lines = worker.told().lines().join("\n");
        let told = lines.contains("hardly any life") || lines.contains("ends already");
        assert_eq!(told, left < 30 || left == 70, "{lines}");
        if left < 3600 && told {
            world.cas[0].script(vec![]);
            world.pass(&mut [&mut worker], s(1200));
            assert_eq!(worker.decide(None), Decision::Serve, "{over} {left}");
        }
    }
}

#[test]
fn the_watch_comes_back_when_something_is_due() {
    let world = World::with(|w| w.settings.check_interval = s(10));
    world.store(0x11);
    let mut worker = world.worker();
    world.pass(&mut [&mut worker], s(2));
    world.responder.queries();
    for _ in 0..5 {
        let (now, due) = (world.now(), worker.look().expect("the next question"));
        assert!(now < due && due < now + s(10), "{due}");
        world.clock.advance(due.since(now));
        worker.look();
        world.drive(&mut [&mut worker]);
    }
    assert_eq!(world.responder.queries().len(), 5);
    // Who does not lead has nothing to come back for.
    assert_eq!(world.worker().look(), None);
}

#[test]
fn a_refusal_is_told_once_and_its_end_too() {
    let world = World::with(|w| {
        w.settings.check = crate::settings::Check::Hard;
        w.settings.check_interval = s(100);
    });
    let serial = world.store(0x11);
    world.responder.say(&serial, &[Say::Good, Say::Nothing(None)]);
    let (mut worker, mut other) = (world.worker(), world.worker());
    world.pass(&mut [&mut worker, &mut other], s(300));
    world.drive(&mut [&mut worker, &mut other]); // an attempt may be due just now
    let told = [worker.told().verdicts(), other.told().verdicts()].concat();
    assert_eq!(told, ["refused, certificate serial=11: no proof that it is valid"]);
    assert_eq!(worker.decide(None), Decision::Refuse(crate::policy::Refusal::NoProof));

    world.responder.say(&serial, &[Say::Good]);
    world.pass(&mut [&mut worker, &mut other], s(100));
    let told = [worker.told().verdicts(), other.told().verdicts()].concat();
    assert_eq!(told, ["served again with serial=11"]);
}

#[test]
fn the_watch_comes_back_at_the_end_of_proof() {
    let world = World::with(|w| {
        w.settings.check = crate::settings::Check::Hard;
        w.settings.check_interval = s(10);
    });
    let serial = world.store(0x11);
    world.responder.say(&serial, &[Say::Good, Say::Nothing(Some(s(60)))]);
    let mut worker = world.worker();
    worker.look();
    world.drive(&mut [&mut worker]);
    let begun = world.now();
    while worker.decide(None) == Decision::Serve {
        let due = worker.look().unwrap_or(world.now() + s(1));
        world.drive(&mut [&mut worker]);
        world.clock.advance(due.since(world.now()));
        assert!(world.now() <= begun + s(10), "it came late");
    }
    worker.look();
    let told = worker.told().verdicts();
    assert_eq!(told, ["refused, certificate serial=11: no proof that it is valid"]);
}
