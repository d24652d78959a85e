//! Orders that take long, or that an earlier attempt has left.

use super::*;

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
fn an_order_is_told_why_it_is_gone_on_with() {
    let world = World::new();
    let old = world.store(0x11);
    world.cas[0].script(vec![Do::Wait(s(5000))]);
    let mut worker = world.worker();
    world.clock.advance(s(21 * 86_400));
    world.pass(&mut [&mut worker], s(5));
    world.responder.say(&old, &[Say::Revoked(Reason::KeyCompromise)]);
    world.pass(&mut [&mut worker], s(4000));
    assert_eq!(world.stored(), Some(world.cas[0].serial(1)));
    let reasons = world.cas[0].reasons.lock().unwrap().clone();
    assert_eq!((reasons[0].as_str(), reasons[1].as_str()), ("renewal", "keyCompromise"));
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

/// A person may take days: that is no row of failures.
#[test]
fn waiting_for_approval_is_no_failure_and_told_once() {
    let (world, _) = revoked();
    let waits = (0..8).map(|_| Do::Wait(s(60)));
    world.cas[0].script(waits.chain([Do::Fail(unreachable())]).collect());
    let mut worker = world.worker();
    worker.demand();
    world.pass(&mut [&mut worker], s(8 * 61));
    let lines = worker.told().lines().join("\n");
    let line = "ISSUE failed: \"one\": the order is still pending, next attempt in 60 s";
    assert_eq!(lines.matches(line).count(), 1, "{lines}");
    assert_eq!(lines.matches("ISSUE failed").count(), 2, "{lines}");
    let wait = worker.news().next_issue.map_or(s(0), |next| next.since(world.now()));
    assert!(wait <= s(12), "the failure is the first: {wait:?}");
    world.pass(&mut [&mut worker], s(20));
    assert_eq!(world.stored(), Some(world.cas[0].serial(1)));
    assert_eq!((world.cas[0].orders(), worker.news().pending), (1, false));
}

#[test]
fn what_waits_is_in_the_status_though_checks_go_well() {
    let world = World::new();
    world.store(0x11);
    world.cas[0].script(vec![Do::Wait(s(86_400))]);
    let mut worker = world.worker();
    world.clock.advance(s(21 * 86_400));
    world.pass(&mut [&mut worker], s(4000));
    let told = "\"one\": the order is still pending";
    assert_eq!(worker.news().last_error.as_deref(), Some(told));
    // Imported meanwhile: nothing is waited for.
    world.store_as(Spec { serial: 0x12, life: (20 * DAY, 300 * DAY), ..Spec::default() });
    world.pass(&mut [&mut worker], s(5));
    assert_eq!((worker.news().last_error, worker.news().next_issue), (None, None));
}

#[test]
fn what_waits_is_told_once_whatever_fails_beside_it() {
    let world = World::with(|w| w.settings.check_interval = s(200));
    let old = world.store(0x11);
    world.responder.say(&old, &[Say::Good, Say::Nothing(None)]);
    world.cas[0].script((0..8).map(|_| Do::Wait(s(300))).collect());
    let mut worker = world.worker();
    world.clock.advance(s(21 * 86_400));
    world.pass(&mut [&mut worker], s(2000));
    let lines = worker.told().lines().join("\n");
    assert!(lines.contains("CHECK failed"), "{lines}");
    assert_eq!(lines.matches("still pending").count(), 1, "{lines}");
}
