//! Replacements: of what is bad, and of what grows old.

mod budget;
mod cas;
mod orders;
mod proof;
mod rests;

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
        let seconds = wait.as_millis().div_ceil(1000);
        let line = format!("ISSUE failed: {}, next attempt in {seconds} s", case.cause);
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
fn a_wildcard_is_fetched_behind_and_what_it_stands_for_is_not_asked_for() {
    let wanted = ["shop.example", "www.shop.example", "*.shop.example"].map(String::from);
    let world = World::with(|w| w.settings.names = wanted.into());
    world.store(0x11);
    let mut worker = world.worker();
    world.pass(&mut [&mut worker], s(15));
    assert_eq!(world.stored(), Some(world.cas[0].serial(1)));
    let facts = world.keystore().load(&world.settings.name).unwrap().unwrap().facts;
    assert_eq!(facts.names, ["shop.example", "*.shop.example"]);
    world.pass(&mut [&mut worker], s(3600));
    assert_eq!(world.cas[0].issued(), 1);
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
