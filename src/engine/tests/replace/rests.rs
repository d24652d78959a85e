//! How long CAs are left alone.

use std::sync::Arc;

use super::*;
use crate::fixture::NOW;
use crate::keystore::{Change, Rest};

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
fn what_a_ca_wants_outlives_a_restart() {
    let world = World::new();
    world.cas[0].script(vec![Do::Fail(refused(false, Some(s(1000))))]);
    world.pass(&mut [&mut world.worker()], s(20));
    assert_eq!(world.cas[0].orders(), 1);
    // Another nginx, or this one after a restart: it knows what the keystore has.
    let mut worker = world.worker_of(&Arc::default());
    worker.demand();
    world.pass(&mut [&mut worker], s(900));
    assert_eq!(world.cas[0].orders(), 1);
    let lines = worker.told().lines();
    let rest = "ISSUE failed: \"one\": wants to be left alone until ";
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].starts_with(rest), "{lines:?}");
    world.pass(&mut [&mut worker], s(90));
    assert_eq!(world.stored(), Some(world.cas[0].serial(1)));
}

#[test]
fn what_a_ca_wanted_is_not_believed_without_reason() {
    let (day, year) = (s(86_400), s(365 * 86_400));
    let rest = |noted_at, until| Rest { ca: "one".into(), host: "one".into(), noted_at, until };
    for (what, rest, held) in [
        ("as it is", rest(NOW, NOW + day), true),
        ("that is over", rest(NOW - s(20), NOW), false),
        ("of a clock that was ahead", rest(NOW + year, NOW + year), false),
        ("longer than any", rest(NOW - s(2 * 86_400), NOW + year), false),
        ("of another CA", Rest { ca: "two".into(), ..rest(NOW, NOW + day) }, false),
        ("of the CA's test server", Rest { host: "test".into(), ..rest(NOW, NOW + day) }, false),
    ] {
        let world = World::new();
        let keystore = world.keystore();
        let lock = keystore.try_lock(&world.settings.name).unwrap().unwrap();
        keystore.record_rest(&lock, &rest).unwrap();
        drop(lock);
        world.pass(&mut [&mut world.worker()], s(10));
        assert_eq!(world.cas[0].issued(), usize::from(!held), "{what}");
    }
}

#[test]
fn what_a_person_wants_counts_more_than_what_the_ca_wanted() {
    let world = World::new();
    world.store(0x11);
    let keystore = world.keystore();
    let lock = keystore.try_lock(&world.settings.name).unwrap().unwrap();
    let until = NOW + s(86_400);
    let rest = Rest { ca: "one".into(), host: "one".into(), noted_at: NOW, until };
    keystore.record_rest(&lock, &rest).unwrap();
    drop(lock);
    let mut worker = world.worker();
    world.pass(&mut [&mut worker], s(5));
    keystore.announce(&Change::Renew(world.settings.name.clone())).unwrap();
    world.pass(&mut [&mut worker], s(10));
    assert_eq!(world.stored(), Some(world.cas[0].serial(1)));
}
