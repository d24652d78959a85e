//! What counts in the budget, and what it holds back.

use super::*;

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
