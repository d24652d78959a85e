//! When the CA wants a certificate renewed.

use super::world::*;
use crate::ca::IssueError;
use crate::ca::renewal::{RenewalInfo, Window};
use crate::clock::Time;
use crate::engine::board::Lane;
use crate::engine::job::Job;
use crate::fixture::{NOW, Spec};
use crate::keystore::Keystore;

const HOUR: u64 = 3600;

fn window(start: Time, hours: u64) -> RenewalInfo {
    let window = Window { start, end: start + s(hours * HOUR) };
    RenewalInfo { window, explanation: None, retry_after: s(6 * HOUR) }
}

/// A certificate of 100 days in the middle of its life, or just made.
fn stored(world: &World, over: i64) {
    let day = crate::fixture::DAY;
    world.store_as(Spec {
        serial: 0x11,
        life: (-over * day, (100 - over) * day),
        ..Spec::default()
    });
}

#[test]
fn the_ca_is_asked_now_and_then_and_by_one() {
    let world = World::new();
    world.cas[0].suggest(Ok(Some(window(NOW + s(1000 * HOUR), 24))));
    stored(&world, 1);
    let (mut a, mut b) = (world.worker(), world.worker());
    world.pass(&mut [&mut a, &mut b], s(20));
    assert_eq!(world.cas[0].asked(), 1);
    world.pass(&mut [&mut a, &mut b], s(6 * HOUR + 10));
    assert_eq!(world.cas[0].asked(), 2);
    // Not anew by the next nginx.
    let mut c = world.worker();
    world.pass(&mut [&mut c], s(HOUR));
    assert_eq!((world.cas[0].asked(), world.cas[0].orders()), (2, 0));
}

#[test]
fn a_window_goes_before_renew_before() {
    for (hours, orders_then) in [(-48, 1), (-1, 1), (200, 0)] {
        let world = World::new();
        let start =
            if hours < 0 { NOW - s((-hours) as u64 * HOUR) } else { NOW + s(hours as u64 * HOUR) };
        world.cas[0].suggest(Ok(Some(window(start, 1))));
        stored(&world, 50); // not due for its age
        let mut worker = world.worker();
        world.pass(&mut [&mut worker], s(60));
        assert_eq!(world.cas[0].orders(), orders_then, "{hours}");
        let told = worker.told();
        let line = told.lines().iter().any(|l| l.starts_with("\"one\" wants serial=11"));
        assert!(!line, "it is no news that an old one is to be renewed");
    }
    // Later than for its age, but not at its end.
    let world = World::new();
    world.cas[0].suggest(Ok(Some(window(NOW + s(10_000 * HOUR), 1))));
    stored(&world, 60);
    let mut worker = world.worker();
    for (days, orders) in [(0, 0), (20, 0), (14, 0), (2, 1)] {
        world.clock.advance(s(days * 24 * HOUR));
        world.pass(&mut [&mut worker], s(60));
        assert_eq!(world.cas[0].orders(), orders, "{days}");
    }
}

#[test]
fn a_young_one_is_replaced_within_the_budget() {
    let world = World::new();
    let past =
        RenewalInfo { explanation: Some("https://ca/why".into()), ..window(NOW - s(HOUR), 1) };
    world.cas[0].suggest(Ok(Some(past)));
    stored(&world, 1);
    let mut worker = world.worker();
    world.pass(&mut [&mut worker], s(60));
    assert_eq!(world.stored(), Some(world.cas[0].serial(1)));
    let lines = worker.told().lines().join("\n");
    assert!(lines.contains("\"one\" wants serial=11 replaced between"), "{lines}");
    assert!(lines.contains(", see https://ca/why"), "{lines}");
    assert_eq!(worker.news().replaced, None, "it was not bad");
    // It says so of the new one too: half the budget, and never two in an hour.
    world.pass(&mut [&mut worker], s(3000));
    assert_eq!(world.cas[0].issued(), 1);
    for _ in 0..10 {
        world.clock.advance(s(HOUR));
        world.pass(&mut [&mut worker], s(30));
    }
    assert_eq!(world.cas[0].issued(), 2);
    let lines = worker.told().lines().join("\n");
    assert!(lines.contains("half the budget of 5"), "{lines}");
}

#[test]
fn a_failure_is_told_once_and_tried_again() {
    let world = World::new();
    let down = || IssueError::Unreachable { what: "renewalInfo", cause: "timed out".into() };
    world.cas[0].suggest(Err(down()));
    stored(&world, 1);
    let mut worker = world.worker();
    world.pass(&mut [&mut worker], s(300));
    let asked = world.cas[0].asked();
    assert!((3..=5).contains(&asked), "{asked}");
    let lines = worker.told().lines().join("\n");
    let line = "CHECK failed: \"one\": renewalInfo: timed out, next attempt in ";
    assert_eq!(lines.matches(line).count(), 1, "{lines}");
    assert_eq!(worker.decide(None), crate::policy::Decision::Serve);
    world.cas[0].suggest(Ok(Some(window(NOW - s(HOUR), 1))));
    world.pass(&mut [&mut worker], s(400));
    assert_eq!(world.cas[0].orders(), 1);
}

#[test]
fn what_will_not_pass_is_asked_again_in_six_hours() {
    let refused = IssueError::Refused {
        what: "renewalInfo",
        problem: "HTTP status 404".into(),
        about_name: false,
        retry_after: None,
    };
    let world = World::new();
    world.cas[0].suggest(Err(refused));
    stored(&world, 1);
    let mut worker = world.worker();
    world.pass(&mut [&mut worker], s(5 * HOUR));
    assert_eq!(world.cas[0].asked(), 1);
    world.pass(&mut [&mut worker], s(HOUR + 10));
    assert_eq!(world.cas[0].asked(), 2);
}

/// Renewal information of a slow server must not take the places of orders.
#[test]
fn it_has_places_of_its_own() {
    let world = World::new();
    world.cas[0].suggest(Ok(None));
    stored(&world, 1);
    let worker = world.worker();
    worker.desk.begin((0, Lane::Renewal), world.now());
    let (_, job) = worker.desk.board().pick(world.now()).unwrap();
    let (job, _) = job.step(&worker.desk);
    assert_eq!(job.host(&worker.desk).as_deref(), Some("renewal one"));
}

#[test]
fn a_panic_is_not_repeated_each_second() {
    let world = World::new();
    world.cas[0].suggest(Ok(None));
    stored(&world, 1);
    let mut worker = world.worker();
    worker.look();
    Job::panicked(&worker.desk, (0, Lane::Renewal));
    world.pass(&mut [&mut worker], s(HOUR));
    assert_eq!(world.cas[0].asked(), 0);
    assert!(worker.told().lines().join("\n").contains("internal error"));
}

#[test]
fn one_that_offers_nothing_is_not_asked_again_today() {
    let world = World::new();
    world.cas[0].suggest(Ok(None));
    stored(&world, 1);
    let mut worker = world.worker();
    world.pass(&mut [&mut worker], s(3 * HOUR));
    assert_eq!(world.cas[0].asked(), 1);
}

#[test]
fn nothing_is_asked_about_what_another_issued() {
    for ca in [None, Some("two"), Some("gone")] {
        let world = World::new();
        world.cas[0].suggest(Ok(Some(window(NOW - s(HOUR), 1))));
        stored(&world, 1);
        let file = world.dir().join("certs/shop.example/current/meta.json");
        std::fs::write(file, serde_json::json!({ "ca": ca }).to_string()).unwrap();
        let mut worker = world.worker();
        world.pass(&mut [&mut worker], s(60));
        assert_eq!((world.cas[0].asked(), world.cas[0].orders()), (0, 0), "{ca:?}");
    }
}

#[test]
fn a_keystore_that_is_full_is_no_reason_to_ask_again_and_again() {
    let world = World::new();
    world.cas[0].suggest(Ok(Some(window(NOW + s(1000 * HOUR), 1))));
    stored(&world, 1);
    std::fs::create_dir(world.dir().join("certs/shop.example/renewal.json")).unwrap();
    let mut worker = world.worker();
    world.pass(&mut [&mut worker], s(600));
    assert_eq!(world.cas[0].asked(), 1);
}

#[test]
fn what_another_host_has_stored_counts() {
    let world = World::new();
    world.store(0x11);
    world.cas[0].script(vec![Do::LookAgain]);
    let mut worker = world.worker();
    world.pass(&mut [&mut worker], s(3));
    world.clock.advance(s(21 * 86_400));
    let other = faster_host(&world);
    *world.cas[0].before_look.lock().unwrap() = Some(Box::new(other));
    world.pass(&mut [&mut worker], s(10));
    assert_eq!((world.cas[0].orders(), world.cas[0].issued()), (1, 0));

    // And without that it is ordered.
    let world = World::new();
    world.store(0x11);
    world.cas[0].script(vec![Do::LookAgain]);
    let mut worker = world.worker();
    world.clock.advance(s(21 * 86_400));
    world.pass(&mut [&mut worker], s(10));
    assert_eq!(world.stored(), Some(world.cas[0].serial(1)));
}

/// Another host's commit, which our lock did not keep out.
fn faster_host(world: &World) -> impl FnOnce() + Send + use<> {
    let elsewhere = tempfile::tempdir().unwrap();
    Keystore::create(elsewhere.path(), None).unwrap();
    let life = (0, 300 * crate::fixture::DAY);
    world.prepare_as(Spec { serial: 0x12, life, ..Spec::default() })(elsewhere.path());
    let ours = world.dir().join("certs/shop.example");
    move || {
        let theirs = elsewhere.path().join("certs/shop.example/versions/1");
        let copied = std::process::Command::new("cp")
            .args(["-r".as_ref(), theirs.as_os_str(), ours.join("versions/2").as_os_str()])
            .status();
        assert!(copied.unwrap().success());
        std::fs::remove_file(ours.join("current")).unwrap();
        std::os::unix::fs::symlink("versions/2", ours.join("current")).unwrap();
    }
}
