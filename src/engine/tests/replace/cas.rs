//! CAs in order: who is asked next, and who the time after that.

use super::*;

fn two(edit: impl FnOnce(&mut World)) -> (World, crate::facts::Serial) {
    let (mut world, old) = revoked();
    world.settings.cas = vec!["one".into(), "two".into()];
    edit(&mut world);
    (world, old)
}

#[test]
fn the_second_steps_in_and_the_first_is_asked_again_the_next_time() {
    let (world, _) = two(|_| {});
    world.cas[0].script(vec![Do::Down]);
    let mut worker = world.worker();
    worker.demand();
    world.drive(&mut [&mut worker]);
    let told = worker.told();
    let first = world.cas[1].serial(1);
    assert_eq!((world.stored(), told.finished.len()), (Some(first.clone()), 1));
    assert_eq!(worker.decide(told.finished.last().copied()), Decision::Serve);
    assert_eq!(worker.news().issue_failures, 0);

    world.responder.say(&first, &[Say::Revoked(Reason::Superseded)]);
    world.clock.advance(s(7200));
    worker.demand();
    world.drive(&mut [&mut worker]);
    assert_eq!(world.stored(), Some(world.cas[0].serial(1)));
    assert_eq!((world.cas[0].issued(), world.cas[1].issued()), (1, 1));
}

/// What never arrived is no order: it gives the second CA no right to be the first.
#[test]
fn a_request_that_was_lost_changes_no_order() {
    let (world, _) = two(|_| {});
    world.cas[0].script(vec![Do::Down]);
    world.cas[1].script(vec![Do::Down]);
    let mut worker = world.worker();
    worker.demand();
    world.drive(&mut [&mut worker]);
    let told = worker.told();
    let line = &told.lines()[1];
    let cause =
        "ISSUE failed: \"one\": order: down (in haste: 3.0 s a request); \"two\": order: down, ";
    assert!(line.starts_with(cause), "{line}");
    world.pass(&mut [&mut worker], s(20));
    assert_eq!(world.stored(), Some(world.cas[0].serial(1)));
    assert_eq!((world.cas[0].issued(), world.cas[1].issued()), (1, 0));
}

/// Each change is told, and only that.
#[test]
fn a_first_that_fails_is_told_though_the_second_issues() {
    let (world, _) = two(|_| {});
    let mut worker = world.worker();
    let fail = |cause: &str| Do::Fail(IssueError::Protocol { what: "order", cause: cause.into() });
    for (n, (first, told)) in [
        (Some(fail("no order 7")), Some("order: no order 7")),
        (Some(fail("no order 8")), None),
        (Some(fail("no account")), Some("order: no account")),
        (None, None),
        (Some(fail("no account")), Some("order: no account")),
    ]
    .into_iter()
    .enumerate()
    {
        world.cas[0].script(first.into_iter().collect());
        worker.demand();
        world.drive(&mut [&mut worker]);
        let serial = world.stored().unwrap();
        let lines = worker.told().lines();
        let failed: Vec<_> = lines.iter().filter(|line| line.contains("failed")).collect();
        let expected = told.map(|cause| format!("ISSUE failed: \"one\": {cause}, \"two\" issued"));
        assert_eq!(failed, expected.iter().collect::<Vec<_>>(), "{n}: {lines:#?}");
        world.responder.say(&serial, &[Say::Revoked(Reason::Superseded)]);
        world.clock.advance(s(7200));
    }
}

#[test]
fn an_order_that_one_works_at_for_hours_keeps_the_other_out() {
    let (world, _) = two(|_| {});
    world.cas[0].script(vec![Do::Wait(s(7200)), Do::Wait(s(7200))]);
    let mut worker = world.worker();
    worker.demand();
    world.pass(&mut [&mut worker], s(10_000));
    assert_eq!(
        worker.decide(None),
        Decision::Refuse(Refusal::Bad(Badness::Revoked(Reason::KeyCompromise)))
    );
    assert_eq!((world.cas[0].orders(), world.cas[1].orders()), (1, 0));
    world.pass(&mut [&mut worker], s(5000));
    assert_eq!(world.stored(), Some(world.cas[0].serial(1)));
    assert_eq!((world.cas[0].orders(), world.cas[1].orders()), (1, 0));
}

#[test]
fn a_ca_that_hangs_leaves_time_for_the_next() {
    let usual = s(30);
    // Whether what is stored is bad, the CAs, and the limit of each first step at them.
    for (bad, cas, first, second) in [
        (true, &["one", "two"][..], Some(s(3)), Some(usual)),
        (true, &["two", "one"], Some(usual), Some(s(3))),
        (true, &["one"], Some(usual), None),
        (false, &["one", "two"], Some(usual), Some(usual)),
    ] {
        let mut world = World::new();
        let life = if bad { (-30 * DAY, -DAY) } else { (-60 * DAY, DAY) };
        world.store_as(Spec { serial: 0x11, life, ..Spec::default() });
        world.settings.cas = cas.iter().map(|ca| ca.to_string()).collect();
        world.cas.iter().for_each(|ca| ca.script(vec![Do::Down]));
        let mut worker = world.worker();
        if bad {
            worker.demand();
        } else {
            worker.look();
        }
        world.drive(&mut [&mut worker]);
        let limits = || world.cas.iter().map(|ca| ca.limits.lock().unwrap().clone());
        let found: Vec<_> = limits().map(|l| l.first().copied()).collect();
        assert_eq!(found, [first, second], "{bad} {cas:?}");
        // The attempt after that has time.
        world.pass(&mut [&mut worker], s(20));
        let last: Vec<_> = limits().filter_map(|l| l.last().copied()).collect();
        assert!(last.iter().all(|limit| *limit == usual), "{bad} {cas:?} {last:?}");
        assert_ne!(world.stored(), Some(hex(0x11)), "{bad} {cas:?}");
    }
}

/// A handshake that waits for a responder does not wait for a renewal.
#[test]
fn a_renewal_is_not_in_haste_though_a_handshake_waits() {
    let mut world = World::with(|w| w.settings.check_interval = s(0));
    world.store_as(Spec { serial: 0x11, life: (-60 * DAY, DAY), ..Spec::default() });
    world.settings.cas = vec!["one".into(), "two".into()];
    world.cas[0].script(vec![Do::Down]);
    let mut worker = world.worker();
    worker.look();
    worker.demand();
    world.drive(&mut [&mut worker]);
    assert_eq!(world.cas[0].limits.lock().unwrap().first(), Some(&s(30)));
}
