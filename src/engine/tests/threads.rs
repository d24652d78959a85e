//! With real threads: that they come, work, and go.

use std::sync::Arc;
use std::time::Duration;

use super::world::*;
use crate::engine::{Engine, Plan, Update};
use crate::evidence::Reason;

fn engine(world: &World) -> (Engine, Arc<FakeHost>) {
    let worker = world.worker();
    let plan = Plan {
        keystore: world.dir(),
        passwords: world.passwords.clone(),
        cas: world.ca_settings.clone(),
        entries: vec![Arc::new(world.settings.clone())],
    };
    let host = worker.host;
    (Engine::new(plan, host.clone(), world.ports()), host)
}

/// What is told until `is_it`, with the clock going on. The deadline only ends a test that fails.
fn wait_for(
    world: &World,
    engine: &Engine,
    host: &FakeHost,
    is_it: impl Fn(&Update) -> bool,
) -> Vec<Update> {
    let mut all = Vec::new();
    for _ in 0..3000 {
        all.extend(engine.take_updates());
        if all.iter().any(&is_it) {
            return all;
        }
        host.wait();
        world.clock.advance(Duration::from_millis(10));
        engine.poke();
    }
    panic!("it never came: {:?}", all.iter().map(|u| &u.events).collect::<Vec<_>>());
}

#[test]
fn revoked_is_replaced() {
    let world = World::new();
    let old = world.store(0x11);
    world.responder.say(&old, &[Say::Revoked(Reason::Superseded)]);
    let (engine, host) = engine(&world);
    engine.start();
    engine.start(); // once is enough
    engine.demand(0);
    wait_for(&world, &engine, &host, |u| u.finished.is_some());
    assert_eq!(world.stored(), Some(world.cas[0].serial(1)));
    assert_eq!(world.cas[0].orders(), 1);
    assert!(engine.stop(Duration::from_secs(20)), "no thread is left");
    assert!(engine.stop(Duration::ZERO));
    engine.demand(0);
    assert!(engine.take_updates().iter().all(|u| u.finished.is_none()));
}

#[test]
fn the_first_certificate_comes_by_itself() {
    let world = World::new();
    let (engine, host) = engine(&world);
    engine.start();
    wait_for(&world, &engine, &host, |u| u.view.bundle.is_ok());
    assert!(engine.stop(Duration::from_secs(20)));
}

#[test]
fn a_panic_does_not_end_the_watch() {
    let world = World::new();
    let (engine, host) = engine(&world);
    *host.before_news.lock().unwrap() = Some(Box::new(|| panic!("the watch's test")));
    engine.start();
    wait_for(&world, &engine, &host, |u| u.view.bundle.is_ok());
    assert!(host.before_news.lock().unwrap().is_none());
    assert!(engine.stop(Duration::from_secs(20)));
}

#[test]
fn stopping_before_the_start_and_in_the_middle() {
    let world = World::new();
    let (idle, _host) = engine(&world);
    assert!(idle.stop(Duration::ZERO));
    idle.start();
    assert!(idle.stop(Duration::ZERO), "it does not start any more");

    let (busy, _host) = engine(&world);
    busy.start();
    busy.demand(0);
    assert!(busy.stop(Duration::from_secs(20)));
    let lock = world.keystore().try_lock(&world.settings.name).unwrap();
    assert!(lock.is_some(), "everything was given back");
}

#[test]
fn what_is_stored_is_known_when_the_first_look_is_over() {
    let world = World::new();
    let stored = world.store(0x11);
    let (engine, _host) = engine(&world);
    engine.await_look(Duration::ZERO); // not begun: nothing to wait for
    assert!(engine.take_updates().is_empty());
    engine.start();
    engine.await_look(Duration::from_secs(20));
    let known = |u: &Update| u.view.bundle.as_ref().is_ok_and(|b| b.facts.serial == stored);
    assert!(engine.take_updates().iter().any(known));
    assert!(engine.stop(Duration::from_secs(20)));
}
