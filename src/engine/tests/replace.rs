//! Replacements: of what is bad, of what grows old, and what becomes of what can't be proven.

use std::time::Duration;

use super::world::*;
use crate::bundle::Replaced;
use crate::ca::IssueError;
use crate::engine::{Count, Working};
use crate::evidence::Reason;
use crate::fixture::{DAY, Spec};
use crate::policy::{Badness, Decision, Refusal};
use crate::report::What;
use crate::settings::{Budget, Check};

fn refused(about_name: bool, retry_after: Option<Duration>) -> IssueError {
    IssueError::Refused { what: "order", problem: "no".into(), about_name, retry_after }
}

fn unreachable() -> IssueError {
    IssueError::Unreachable { what: "order", cause: "timed out".into() }
}

/// A world with a certificate that its responder calls revoked.
fn revoked() -> (World, crate::facts::Serial) {
    let world = World::new();
    let old = world.store(0x11);
    world.responder.say(&old, &[Say::Revoked(Reason::KeyCompromise)]);
    (world, old)
}

#[test]
fn revoked_is_replaced_before_the_handshake_goes_on() {
    for check in [Check::Soft, Check::Hard] {
        let (mut world, old) = revoked();
        world.settings.check = check;
        let mut worker = world.worker();
        worker.demand();
        world.drive(&mut [&mut worker]);
        let new = world.cas[0].serial(1);
        assert_eq!(world.stored(), Some(new.clone()));
        assert_eq!(world.responder.queries(), [old.clone(), new.clone()], "one query each");
        assert_eq!((world.cas[0].orders(), world.cas[0].issued()), (1, 1));

        let updates = worker.updates();
        let last = updates.last().unwrap();
        assert_eq!(updates.iter().filter(|u| u.finished.is_some()).count(), 1);
        assert!(last.finished.is_some(), "the last word");
        assert_eq!(last.view.last_revoked, Some(old.clone()));
        assert_eq!(last.view.bundle.as_ref().unwrap().facts.serial, new);
        assert_eq!(worker.decide(last.finished), Decision::Serve);
        assert_eq!(worker.decide(None), Decision::Serve);
        // Never in between: nobody may be told that it failed.
        assert!(updates.iter().all(|u| u.view.news.next_issue.is_none()));

        let events: Vec<&What> = updates.iter().flat_map(|u| &u.events).map(|e| &e.what).collect();
        let after = Duration::from_secs(1); // what the CA let us wait
        assert_eq!(
            events,
            [
                &What::Revoked {
                    serial: old.clone(),
                    reason: Reason::KeyCompromise,
                    source: "http://ocsp/".into()
                },
                &What::Replaced { old: Some(old.clone()), new, ca: "one".into(), after },
            ]
        );
        let counts: Vec<Count> = updates.iter().flat_map(|u| u.counts.clone()).collect();
        let want = [Count::OcspQuery, Count::OcspQuery, Count::Issued, Count::ReplacedRevoked];
        assert_eq!(counts, want);
        let news = worker.news();
        let replaced =
            Replaced { serial: old, reason: "keyCompromise".into(), at: world.now(), seconds: 1.0 };
        assert_eq!(news.replaced, Some(replaced));
        assert_eq!((news.working, news.bad_since, news.last_error), (None, None, None));
        assert!(world.keystore().pending(&world.settings.name).unwrap().is_none());
    }
}

#[test]
fn what_is_bad_otherwise_is_replaced_without_a_query() {
    let lapsed = Spec { serial: 0x11, life: (-9 * DAY, -DAY), ..Spec::default() };
    let misnamed = Spec { serial: 0x11, names: &["other.example"], ..Spec::default() };
    for (spec, reason) in
        [(Some(lapsed), Some("expired")), (Some(misnamed), Some("names")), (None, None)]
    {
        let world = World::new();
        if let Some(spec) = spec {
            world.store_as(spec);
        }
        if reason == Some("names") {
            world.responder.say(&hex(0x11), &[Say::Good]);
        }
        let mut worker = world.worker();
        worker.demand();
        world.drive(&mut [&mut worker]);
        let told = worker.told();
        let new = world.cas[0].serial(1);
        assert_eq!(world.stored(), Some(new.clone()), "{reason:?}");
        assert_eq!(worker.decide(told.finished.last().copied()), Decision::Serve);
        assert_eq!(told.finished.len(), 1);
        assert_eq!(worker.news().replaced.map(|r| r.reason).as_deref(), reason);
        let line = told.lines().last().unwrap().clone();
        match reason {
            Some(_) => {
                assert!(line.starts_with("replaced serial=11 by serial=a001 from"), "{line}")
            }
            None => assert_eq!(line, "issued serial=a001 from \"one\""),
        }
        let expired = told.count(Count::ReplacedExpired);
        assert_eq!(expired, usize::from(reason == Some("expired")));
        let queries = world.responder.queries();
        let asked = if reason == Some("names") { vec![hex(0x11), new] } else { vec![new] };
        assert_eq!(queries, asked);
    }
}

#[test]
fn a_replacement_that_is_revoked_is_never_served() {
    let (world, _) = revoked();
    let first = world.cas[0].serial(1);
    world.responder.say(&first, &[Say::Revoked(Reason::Superseded)]);
    let mut worker = world.worker();
    worker.demand();
    world.drive(&mut [&mut worker]);
    let told = worker.told();
    assert_eq!(world.stored(), Some(hex(0x11)));
    let bad = Badness::Revoked(Reason::KeyCompromise);
    assert_eq!(worker.decide(Some(told.finished[0])), Decision::Refuse(Refusal::Bad(bad)));
    let line = told.lines().pop().unwrap();
    let cause = "\"one\": new certificate serial=a001 is revoked (superseded)";
    assert!(line.starts_with(&format!("ISSUE failed: {cause}, next attempt in ")), "{line}");
    let wait = worker.news().next_issue.unwrap().since(world.now());
    assert!(s(8) <= wait && wait <= s(12), "{wait:?}");
    world.pass(&mut [&mut worker], wait + s(3));
    assert_eq!(world.stored(), Some(world.cas[0].serial(2)), "the next is good, with a new key");
    let keys = world.cas[0].keys.lock().unwrap();
    assert_ne!(keys[0], keys[1]);
}

#[test]
fn a_revoked_replacement_makes_way_for_the_next_ca() {
    let (mut world, _) = revoked();
    world.settings.cas = vec!["one".into(), "two".into()];
    world.responder.say(&world.cas[0].serial(1), &[Say::Revoked(Reason::Superseded)]);
    let mut worker = world.worker();
    worker.demand();
    world.drive(&mut [&mut worker]);
    assert_eq!(world.stored(), Some(world.cas[1].serial(1)));
    let told = worker.told();
    assert_eq!(worker.decide(Some(told.finished[0])), Decision::Serve);
    assert_eq!((told.count(Count::IssueError), told.count(Count::Issued)), (1, 1));
    assert_eq!(worker.news().next_issue, None);
}

#[test]
fn a_replacement_without_proof() {
    for say in [Say::Unknown, Say::Nothing(Some(s(300)))] {
        for check in [Check::Soft, Check::Hard] {
            let (mut world, _) = revoked();
            world.settings.check = check;
            let new = world.cas[0].serial(1);
            world.responder.say(&new, std::slice::from_ref(&say));
            let mut worker = world.worker();
            let begun = world.now();
            worker.demand();
            world.drive(&mut [&mut worker]);
            let told = worker.told();
            assert!(world.now().since(begun) < world.settings.timeout, "in time for who waits");
            let asked = world.responder.queries().len() - 1;
            assert!((3..20).contains(&asked), "asked again, not all the time: {asked}");
            if check == Check::Soft {
                assert_eq!(world.stored(), Some(new.clone()), "{say:?}");
                assert_eq!(worker.decide(Some(told.finished[0])), Decision::Serve);
                assert_eq!(worker.decide(None), Decision::Serve, "nobody is held for it");
                assert!(worker.news().next_check.is_some());
                assert_eq!(worker.news().next_issue, None);
            } else {
                assert_eq!(world.stored(), Some(hex(0x11)), "{say:?}");
                assert!(matches!(worker.decide(Some(told.finished[0])), Decision::Refuse(_)));
                assert!(told.lines().last().unwrap().contains("no proof for serial=a001 yet"));
                // It is proven later, and nothing else was issued meanwhile.
                world.responder.say(&new, &[Say::Good]);
                let wait = worker.news().next_issue.unwrap().since(world.now());
                assert!(wait <= s(60), "nothing can be served until then: {wait:?}");
                world.pass(&mut [&mut worker], wait + s(2));
                assert_eq!(world.stored(), Some(new.clone()));
                assert_eq!(worker.decide(None), Decision::Serve);
            }
            assert_eq!(world.cas[0].orders(), 1, "{say:?} {check:?}");
        }
    }
}

#[test]
fn a_replacement_that_is_known_a_little_later() {
    let (mut world, _) = revoked();
    world.settings.check = Check::Hard;
    let new = world.cas[0].serial(1);
    world.responder.say(&new, &[Say::Unknown, Say::Nothing(None), Say::Good]);
    let mut worker = world.worker();
    worker.demand();
    world.drive(&mut [&mut worker]);
    let told = worker.told();
    assert_eq!(worker.decide(Some(told.finished[0])), Decision::Serve);
    assert_eq!(told.count(Count::OcspError), 2);
}

#[test]
fn a_renewal_that_cant_be_proven_waits_and_the_old_one_is_served() {
    for check in [Check::Soft, Check::Hard] {
        let world = World::with(|w| w.settings.check = check);
        let old =
            world.store_as(Spec { serial: 0x11, life: (-25 * DAY, 5 * DAY), ..Spec::default() });
        let new = world.cas[0].serial(1);
        world.responder.say(&new, &[Say::Nothing(None)]);
        let mut worker = world.worker();
        world.pass(&mut [&mut worker], s(120));
        assert_eq!(world.stored(), Some(old));
        assert_eq!(worker.decide(None), Decision::Serve);
        assert_eq!(world.cas[0].orders(), 1);
        let news = worker.news();
        assert!(news.next_issue.is_some() && news.working.is_none());
        world.responder.say(&new, &[Say::Good]);
        world.pass(&mut [&mut worker], s(400));
        assert_eq!(world.stored(), Some(new));
        assert_eq!(world.cas[0].orders(), 1, "{check:?}");
        assert_eq!(worker.news().next_issue, None);
    }
}

#[test]
fn an_unproven_renewal_is_swapped_in_when_the_old_one_is_revoked() {
    let world = World::new();
    let old = world.store_as(Spec { serial: 0x11, life: (-25 * DAY, 5 * DAY), ..Spec::default() });
    let new = world.cas[0].serial(1);
    world.responder.say(&new, &[Say::Nothing(None)]);
    let mut worker = world.worker();
    world.pass(&mut [&mut worker], s(60));
    assert_eq!(world.stored(), Some(old.clone()));
    world.responder.say(&old, &[Say::Revoked(Reason::Superseded)]);
    world.clock.advance(s(3600));
    worker.told();
    worker.demand();
    world.drive(&mut [&mut worker]);
    assert_eq!(world.stored(), Some(new));
    let told = worker.told();
    assert_eq!(worker.decide(Some(told.finished[0])), Decision::Serve);
    assert_eq!(world.cas[0].orders(), 1, "nothing else was issued");
}

#[test]
fn evidence_is_renewed_while_a_renewal_is_under_way() {
    let world = World::new();
    world.store_as(Spec { serial: 0x11, life: (-25 * DAY, 5 * DAY), ..Spec::default() });
    world.cas[0].script((0..20).map(|_| Do::Wait(s(5))).collect());
    let mut worker = world.worker();
    worker.look();
    for _ in 0..4 {
        worker.desk.work_once();
    }
    worker.told();
    world.clock.advance(s(3600));
    let begun = world.now();
    worker.demand();
    while worker.desk.board().demanded(0).is_some() {
        assert!(worker.desk.work_once().is_some());
    }
    assert_eq!(world.now(), begun, "the handshake does not wait for the CA");
    assert_eq!(worker.told().finished.len(), 1);
}

#[test]
fn errors_of_the_ca() {
    struct Case {
        error: IssueError,
        cause: &'static str,
        /// Of the next attempt.
        seconds: (u64, u64),
        /// Orders after the next attempt.
        orders: usize,
    }
    let case = |error, cause, seconds, orders| Case { error, cause, seconds, orders };
    for case in [
        case(unreachable(), "\"one\": order: timed out", (8, 12), 1),
        case(refused(false, None), "\"one\": order: no", (8, 12), 2),
        case(refused(true, None), "\"one\": order: no", (8, 12), 2),
        case(refused(false, Some(s(100))), "\"one\": order: no", (100, 100), 2),
        case(
            IssueError::Busy { what: "order", problem: "busy".into(), retry_after: Some(s(90)) },
            "\"one\": order: busy",
            (90, 90),
            1,
        ),
        case(
            IssueError::Protocol { what: "order", cause: "odd".into() },
            "\"one\": order: odd",
            (8, 12),
            2,
        ),
        case(IssueError::Configuration("terms".into()), "\"one\": terms", (8, 12), 1),
        case(IssueError::Storage("disk".into()), "\"one\": disk", (8, 12), 1),
    ] {
        let world = World::new();
        world.cas[0].script(vec![Do::Fail(case.error)]);
        let mut worker = world.worker();
        worker.demand();
        world.drive(&mut [&mut worker]);
        let told = worker.told();
        assert_eq!(told.finished.len(), 1, "{}", case.cause);
        assert_eq!(worker.decide(None), Decision::Refuse(Refusal::Bad(Badness::Missing)));
        let wait = worker.news().next_issue.unwrap().since(world.now());
        assert!(s(case.seconds.0) <= wait && wait <= s(case.seconds.1), "{}: {wait:?}", case.cause);
        let line = format!("ISSUE failed: {}, next attempt in {} s", case.cause, wait.as_secs());
        assert_eq!(told.lines(), [line]);
        assert_eq!(told.verdicts(), ["refused: no certificate yet"]);
        assert_eq!(told.count(Count::IssueError), 1);
        let news = worker.news();
        assert_eq!((news.issue_failures, news.working), (1, None));
        assert_eq!(news.last_error.as_deref(), Some(case.cause));
        // Before that nothing is asked, whoever comes.
        worker.demand();
        world.pass(&mut [&mut worker], wait - s(1));
        assert_eq!(world.stored(), None);
        world.pass(&mut [&mut worker], s(4));
        assert_eq!(world.stored(), Some(world.cas[0].serial(1)), "{}", case.cause);
        assert_eq!(world.cas[0].orders(), case.orders, "{}", case.cause);
        assert_eq!((worker.news().issue_failures, worker.news().last_error), (0, None));
    }
}

#[test]
fn failed_issuances_back_off() {
    let world = World::new();
    world.cas[0].script((0..20).map(|_| Do::Fail(unreachable())).collect());
    let mut worker = world.worker();
    let mut waits = Vec::new();
    for _ in 0..7 {
        worker.look();
        world.drive(&mut [&mut worker]);
        let wait = worker.news().next_issue.unwrap().since(world.now());
        waits.push(wait.as_secs());
        world.clock.advance(wait);
    }
    for (wait, usual) in waits.iter().zip([10u64, 30, 60, 300, 900, 3600, 3600]) {
        assert!(usual * 8 / 10 <= *wait + 1 && *wait <= usual * 12 / 10, "{waits:?}");
    }
}

/// The back-off of a renewal that failed for days is none for a certificate that has ended.
#[test]
fn the_end_of_a_certificate_does_not_wait_for_the_next_renewal() {
    let world = World::with(|w| w.settings.check = Check::Off);
    world.store_as(Spec { serial: 0x11, life: (-DAY, 3600), ..Spec::default() });
    world.cas[0].script((0..6).map(|_| Do::Fail(unreachable())).collect());
    let mut worker = world.worker();
    while worker.news().issue_failures < 6 {
        world.pass(&mut [&mut worker], s(60));
    }
    let next = worker.news().next_issue.unwrap();
    let end = world.keystore().load(&world.settings.name).unwrap().ok().unwrap().facts.not_after;
    assert!(end + s(60) < next, "{end} {next}");
    world.clock.advance(end.since(world.now()));
    world.pass(&mut [&mut worker], s(5));
    assert_eq!(world.stored(), Some(world.cas[0].serial(1)));
}

#[test]
fn which_ca_is_asked() {
    // What the first CA says, and what was issued by whom after the first and second attempt.
    for (error, first, second) in [
        (unreachable(), (0, 1), (0, 1)),
        (refused(false, None), (0, 1), (0, 1)),
        (refused(false, Some(s(9))), (0, 1), (0, 1)),
        // What is wrong with the name is not tried elsewhere at once.
        (refused(true, None), (0, 0), (0, 1)),
    ] {
        let world = World::with(|w| w.settings.cas = vec!["one".into(), "two".into()]);
        world.cas[0].script(vec![Do::Fail(error.clone()), Do::Fail(error.clone())]);
        let mut worker = world.worker();
        let issued = || (world.cas[0].issued(), world.cas[1].issued());
        worker.demand();
        world.drive(&mut [&mut worker]);
        assert_eq!(issued(), first, "{error:?}");
        world.pass(&mut [&mut worker], s(20));
        assert_eq!(issued(), second, "{error:?}");
    }
}

#[test]
fn an_order_at_the_second_ca_is_taken_up() {
    let (mut world, _) = revoked();
    world.settings.cas = vec!["one".into(), "two".into()];
    world.cas[0].script((0..9).map(|_| Do::Fail(refused(false, None))).collect());
    world.cas[1].script((0..3).map(|_| Do::Wait(s(100))).collect());
    let mut worker = world.worker();
    worker.demand();
    world.pass(&mut [&mut worker], s(330));
    assert_eq!((world.cas[0].orders(), world.cas[1].orders()), (1, 1));
    assert_eq!(world.stored(), Some(world.cas[1].serial(1)));
}

#[test]
fn an_order_is_kept_until_another_one_takes_its_place() {
    let (mut world, _) = revoked();
    world.settings.cas = vec!["one".into(), "two".into()];
    world.ca_settings[1].budget = Budget { count: 0, window: s(86400) };
    world.cas[0].script(vec![Do::Wait(s(1)), Do::Fail(unreachable())]);
    let mut worker = world.worker();
    worker.demand();
    world.pass(&mut [&mut worker], s(30));
    assert_eq!((world.cas[0].orders(), world.cas[1].orders()), (1, 0));
    assert_eq!(world.stored(), Some(world.cas[0].serial(1)));
}

#[test]
fn a_ca_that_wants_to_be_left_alone_is() {
    let (mut world, _) = revoked();
    world.settings.cas = vec!["one".into(), "two".into()];
    let mut script = vec![Do::Fail(refused(false, Some(s(1000))))];
    script.extend((0..9).map(|_| Do::Fail(unreachable())));
    world.cas[0].script(script);
    world.cas[1].script((0..3).map(|_| Do::Fail(unreachable())).collect());
    let mut worker = world.worker();
    worker.demand();
    world.pass(&mut [&mut worker], s(300));
    assert_eq!(world.cas[0].orders(), 1, "asked once");
    assert_eq!(world.stored(), Some(world.cas[1].serial(1)), "by the other");
    let lines = worker.told().lines().join("\n");
    assert!(lines.contains("\"one\": wants to be left alone until"), "{lines}");
}

#[test]
fn a_wrong_chain_is_refused_and_forgotten() {
    let (world, _) = revoked();
    world.cas[0].script(vec![Do::IssueWrong]);
    let mut worker = world.worker();
    worker.demand();
    world.drive(&mut [&mut worker]);
    assert_eq!(world.stored(), Some(hex(0x11)));
    let line = worker.told().lines().pop().unwrap();
    assert!(line.contains("\"one\": certificate lacks the name \"shop.example\""), "{line}");
    assert!(world.keystore().pending(&world.settings.name).unwrap().is_none());
    assert_eq!(world.responder.queries(), [hex(0x11)], "no question about it");
    world.pass(&mut [&mut worker], s(15));
    assert_eq!(world.stored(), Some(world.cas[0].serial(2)));
}

#[test]
fn a_certificate_of_the_future_is_waited_for() {
    let (world, _) = revoked();
    world.cas[0].script(vec![Do::IssueFor(600, 30 * DAY)]);
    let mut worker = world.worker();
    worker.demand();
    world.drive(&mut [&mut worker]);
    assert_eq!(world.stored(), Some(hex(0x11)));
    let wait = worker.news().next_issue.unwrap().since(world.now());
    assert_eq!(wait, s(300), "until it is within the skew");
    world.pass(&mut [&mut worker], wait + s(2));
    assert_eq!(world.stored(), Some(world.cas[0].serial(1)));
    assert_eq!(world.cas[0].orders(), 1);
}

#[test]
fn an_order_that_takes_long_is_left_and_taken_up() {
    let (world, _) = revoked();
    world.cas[0].script(vec![Do::Wait(s(2)), Do::Wait(s(500))]);
    let mut worker = world.worker();
    worker.demand();
    world.drive(&mut [&mut worker]);
    let told = worker.told();
    assert_eq!(told.finished.len(), 1);
    assert_eq!(worker.news().working, None);
    let lock = world.keystore().try_lock(&world.settings.name).unwrap();
    assert!(lock.is_some(), "the lock is free");
    drop(lock);
    let wait = worker.news().next_issue.unwrap().since(world.now());
    assert_eq!(wait, s(500));
    world.pass(&mut [&mut worker], wait + s(2));
    assert_eq!(world.stored(), Some(world.cas[0].serial(1)));
    assert_eq!(world.cas[0].orders(), 1);
}

#[test]
fn the_lock_is_not_held_without_end() {
    let (world, _) = revoked();
    world.cas[0].script((0..1000).map(|_| Do::Wait(s(10))).collect());
    let mut worker = world.worker();
    worker.demand();
    let begun = world.now();
    world.drive(&mut [&mut worker]);
    assert!(world.now().since(begun) <= s(120));
    assert!(worker.news().next_issue.is_some());
    assert_eq!(worker.told().finished.len(), 1);
}

#[test]
fn the_budget_counts_what_is_not_due_by_time() {
    let budget = Budget { count: 2, window: s(7 * 86400) };
    let (mut world, _) = revoked();
    world.ca_settings[0].budget = budget;
    let mut worker = world.worker();
    for n in 1..=2 {
        worker.demand();
        world.drive(&mut [&mut worker]);
        assert_eq!(world.stored(), Some(world.cas[0].serial(n)));
        world.responder.say(&world.cas[0].serial(n), &[Say::Revoked(Reason::Superseded)]);
        world.clock.advance(s(3600));
        worker.told();
    }
    worker.demand();
    world.drive(&mut [&mut worker]);
    assert_eq!(world.cas[0].orders(), 2);
    let told = worker.told();
    assert!(matches!(worker.decide(Some(told.finished[0])), Decision::Refuse(_)));
    let line = told.lines().pop().unwrap();
    assert!(
        line.contains("\"one\": budget of 2 in 604800 s is used up, next attempt in "),
        "{line}"
    );
    // When the first of the two is a week old.
    let wait = worker.news().next_issue.unwrap().since(world.now());
    let week = s(7 * 86400);
    assert!(week - s(2 * 3600 + 10) < wait && wait <= week - s(2 * 3600 - 10), "{wait:?}");
    world.clock.advance(wait);
    world.pass(&mut [&mut worker], s(3));
    assert_eq!(world.stored(), Some(world.cas[0].serial(3)));
}

#[test]
fn what_is_issued_and_never_served_counts_whyever_it_was_asked_for() {
    let lapsed = Spec { serial: 0x11, life: (-9 * DAY, -DAY), ..Spec::default() };
    let old = Spec { serial: 0x11, life: (-25 * DAY, 5 * DAY), ..Spec::default() };
    let gone = Spec { serial: 0x11, ..Spec::default() };
    for (spec, is_revoked) in
        [(None, false), (Some(lapsed), false), (Some(old), false), (Some(gone), true)]
    {
        for lost in [true, false] {
            let budget = Budget { count: 2, window: s(7 * 86400) };
            let world = World::with(|w| w.ca_settings[0].budget = budget);
            if let Some(spec) = spec {
                let serial = world.store_as(spec);
                let say = if is_revoked { Say::Revoked(Reason::Superseded) } else { Say::Good };
                world.responder.say(&serial, &[say]);
            }
            let what = || if lost { Do::Lose } else { Do::IssueWrong };
            world.cas[0].script((0..99).map(|_| what()).collect());
            let mut worker = world.worker();
            world.pass(&mut [&mut worker], s(3600));
            assert_eq!(world.cas[0].issued(), 2, "{:?} {lost}", spec.map(|s| s.life));
            world.cas[0].script(vec![]);
            world.clock.advance(s(7 * 86400));
            world.pass(&mut [&mut worker], s(10));
            assert_eq!(world.stored(), Some(world.cas[0].serial(3)), "a week later");
        }
    }
}

#[test]
fn an_issuance_is_counted_before_its_chain_is_stored_and_once() {
    for check in [Check::Soft, Check::Hard] {
        let (mut world, _) = revoked();
        world.settings.check = check;
        world.responder.say(&world.cas[0].serial(1), &[Say::Unknown]);
        let (keystore, name) = (world.keystore(), world.settings.name.clone());
        let counted = || keystore.issued_since(&name, "one", world.now() - s(3600), false).unwrap();
        let mut worker = world.worker();
        worker.demand();
        let mut seen = 0;
        world.pass(&mut [&mut worker], s(1));
        for _ in 0..99 {
            worker.desk.work_once();
            let chain = keystore.pending(&name).unwrap().and_then(|p| p.chain);
            seen += usize::from(chain.is_some());
            assert!(chain.is_none() || counted() == 1);
        }
        world.pass(&mut [&mut worker], s(120));
        assert_eq!((counted(), seen > 0), (1, true), "{check:?}");
    }
}

#[test]
fn a_used_up_budget_makes_way_for_the_next_ca_but_not_for_what_time_brings() {
    let none = Budget { count: 0, window: s(86400) };
    let (mut world, _) = revoked();
    world.ca_settings[0].budget = none;
    world.settings.cas = vec!["one".into(), "two".into()];
    let mut worker = world.worker();
    worker.demand();
    world.drive(&mut [&mut worker]);
    assert_eq!(world.stored(), Some(world.cas[1].serial(1)));

    let lapsed = Spec { serial: 0x11, life: (-9 * DAY, -DAY), ..Spec::default() };
    let old = Spec { serial: 0x11, life: (-25 * DAY, 5 * DAY), ..Spec::default() };
    for spec in [None, Some(lapsed), Some(old)] {
        let world = World::with(|w| w.ca_settings[0].budget = none);
        spec.map(|spec| world.store_as(spec));
        let mut worker = world.worker();
        world.pass(&mut [&mut worker], s(5));
        assert_eq!(world.stored(), Some(world.cas[0].serial(1)));
    }
}

#[test]
fn a_renewals_back_off_does_not_hold_up_the_replacement_of_what_is_revoked() {
    let world = World::with(|w| w.settings.check_interval = s(60));
    let old = world.store_as(Spec { serial: 0x11, life: (-25 * DAY, 5 * DAY), ..Spec::default() });
    world.cas[0].script((0..9).map(|_| Do::Fail(unreachable())).collect());
    let mut worker = world.worker();
    world.pass(&mut [&mut worker], s(500));
    let news = worker.news();
    assert_eq!(news.issue_failures, 5);
    assert!(news.next_issue.unwrap() > world.now() + s(90));
    world.responder.say(&old, &[Say::Revoked(Reason::Superseded)]);
    world.cas[0].script(vec![]);
    world.clock.advance(s(61));
    worker.told();
    worker.desk.demand(0);
    // Wherever it stands, who waits is not refused before the attempt is over.
    world.drive(&mut [&mut worker]);
    let updates = worker.updates();
    let refuses = |u: &&crate::engine::Update| {
        u.view.news.next_issue.is_some() && u.view.links[0].evidence.iter().any(|e| e.is_revoked())
    };
    assert_eq!(updates.iter().filter(refuses).count(), 0);
    assert_eq!(world.stored(), Some(world.cas[0].serial(1)));
}

#[test]
fn a_certificate_that_lacks_names_is_served_and_replaced_behind() {
    let world = World::with(|w| w.settings.names.push("www.shop.example".into()));
    world.store(0x11);
    world.cas[0].script(vec![Do::Fail(unreachable())]);
    let mut worker = world.worker();
    world.pass(&mut [&mut worker], s(3));
    assert_eq!(worker.decide(None), Decision::Serve, "for the name it has");
    assert_eq!(worker.news().working, None);
    world.pass(&mut [&mut worker], s(15));
    assert_eq!(world.stored(), Some(world.cas[0].serial(1)));
    assert_eq!(worker.news().replaced.map(|r| r.reason).as_deref(), Some("names"));
}

#[test]
fn working_is_shown_while_bad_is_replaced() {
    let (world, _) = revoked();
    let mut worker = world.worker();
    worker.demand();
    let mut seen = Vec::new();
    while worker.desk.work_once().is_some() {
        seen.extend(worker.news().working);
    }
    seen.dedup();
    assert_eq!(seen, [Working::Checking, Working::Replacing]);
}

#[test]
fn an_order_that_the_ca_has_forgotten_is_begun_anew_at_once() {
    let (world, _) = revoked();
    world.cas[0].script(vec![Do::Wait(s(1))]);
    let mut first = world.worker();
    first.demand();
    while world.cas[0].orders() == 0 {
        first.desk.work_once();
    }
    first.host.die();
    drop(first);
    world.cas[0].script(vec![Do::Fail(refused(false, None))]);
    let mut second = world.worker();
    second.demand();
    world.drive(&mut [&mut second]);
    assert_eq!(world.stored(), Some(world.cas[0].serial(1)));
    assert_eq!(world.cas[0].orders(), 2);
    assert_eq!(second.told().count(Count::IssueError), 0, "nothing that counts has failed");
}

#[test]
fn a_chain_that_has_grown_old_in_pending_is_replaced_at_once() {
    let (mut world, _) = revoked();
    world.settings.check = Check::Hard;
    let first = world.cas[0].serial(1);
    world.cas[0].script(vec![Do::IssueFor(-DAY, 600)]);
    world.responder.say(&first, &[Say::Unknown]);
    let mut worker = world.worker();
    worker.demand();
    world.drive(&mut [&mut worker]);
    assert_eq!(world.stored(), Some(hex(0x11)));
    world.clock.advance(s(3600));
    worker.told();
    worker.demand();
    world.drive(&mut [&mut worker]);
    let told = worker.told();
    assert_eq!(world.stored(), Some(world.cas[0].serial(2)));
    assert_eq!(worker.decide(Some(told.finished[0])), Decision::Serve);
    assert_eq!(told.count(Count::IssueError), 0);
}

#[test]
fn what_cant_be_stored_is_kept_and_no_other_ca_asked() {
    let world = World::with(|w| w.settings.cas = vec!["one".into(), "two".into()]);
    let entry = world.dir().join("certs/shop.example");
    std::fs::create_dir_all(&entry).unwrap();
    std::fs::write(entry.join("versions"), "in the way").unwrap();
    let mut worker = world.worker();
    worker.demand();
    world.drive(&mut [&mut worker]);
    assert_eq!((world.cas[0].orders(), world.cas[1].orders()), (1, 0));
    assert!(worker.told().lines()[0].starts_with("ISSUE failed: \"one\": "));
    std::fs::remove_file(entry.join("versions")).unwrap();
    world.pass(&mut [&mut worker], s(15));
    assert_eq!(world.stored(), Some(world.cas[0].serial(1)));
    assert_eq!((world.cas[0].orders(), world.cas[1].orders()), (1, 0));
}

#[test]
fn a_missing_name_is_served_unproven_to_who_waits_for_it() {
    for (check, served) in [(Check::Soft, true), (Check::Hard, false)] {
        let world = World::with(|w| {
            w.settings.names.push("www.shop.example".into());
            w.settings.check = check;
        });
        world.store(0x11);
        world.responder.say(&world.cas[0].serial(1), &[Say::Unknown]);
        let mut worker = world.worker();
        world.pass(&mut [&mut worker], s(12));
        assert_eq!(world.stored(), Some(hex(0x11)), "nobody waits");
        world.clock.advance(s(60));
        worker.demand();
        world.drive(&mut [&mut worker]);
        assert_eq!(world.stored() == Some(world.cas[0].serial(1)), served, "{check:?}");
        assert_eq!(world.cas[0].orders(), 1);
    }
}

#[test]
fn what_is_revoked_while_its_renewal_is_being_proven() {
    let world = World::with(|w| w.settings.check_interval = s(60));
    let old = world.store_as(Spec { serial: 0x11, life: (-25 * DAY, 5 * DAY), ..Spec::default() });
    let new = world.cas[0].serial(1);
    world.responder.say(&new, &[Say::Nothing(None)]);
    let mut worker = world.worker();
    worker.look();
    while !world.responder.queries().contains(&new) {
        if worker.desk.work_once().is_none() {
            world.clock.advance(s(1));
        }
    }
    worker.told();
    world.responder.say(&old, &[Say::Revoked(Reason::Superseded)]);
    worker.desk.entry(0).evidence.clear();
    std::fs::remove_file(world.dir().join("certs/shop.example/evidence.json")).unwrap();
    worker.demand();
    world.drive(&mut [&mut worker]);
    assert_eq!(world.stored(), Some(new));
    let told = worker.told();
    assert_eq!(worker.decide(Some(told.finished[0])), Decision::Serve);
    assert_eq!(worker.news().replaced.map(|r| r.reason).as_deref(), Some("superseded"));
}
