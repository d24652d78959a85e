//! Several workers, hosts, and workers that die.

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

use super::world::*;
use crate::engine::board::Lane;
use crate::evidence::Reason;
use crate::fixture::{DAY, Spec};
use crate::policy::Decision;
use crate::settings::Check;

#[test]
fn two_workers_ask_once_and_issue_once() {
    for interval in [3600, 0] {
        let world = World::with(|w| w.settings.check_interval = s(interval));
        let old = world.store(0x11);
        world.responder.say(&old, &[Say::Revoked(Reason::KeyCompromise)]);
        let (mut a, mut b) = (world.worker(), world.worker());
        for worker in [&mut a, &mut b] {
            worker.look();
        }
        a.demand();
        b.demand();
        world.drive(&mut [&mut a, &mut b]);
        let new = world.cas[0].serial(1);
        assert_eq!(world.stored(), Some(new.clone()));
        assert_eq!(world.responder.queries(), [old, new]);
        assert_eq!(world.cas[0].orders(), 1);
        let (told_a, told_b) = (a.told(), b.told());
        assert_eq!((told_a.finished.len(), told_b.finished.len()), (1, 1));
        assert_eq!(a.decide(Some(told_a.finished[0])), Decision::Serve);
        assert_eq!(b.decide(Some(told_b.finished[0])), Decision::Serve);
        let lines = [told_a.lines(), told_b.lines()].concat();
        let count = |what| lines.iter().filter(|l| l.contains(what)).count();
        assert_eq!((count("is revoked"), count("replaced serial=11")), (1, 1), "{lines:?}");
    }
}

#[test]
fn two_workers_share_a_good_answer() {
    for interval in [3600, 0] {
        let world = World::with(|w| {
            w.settings.check_interval = s(interval);
            w.settings.check = Check::Hard;
        });
        world.store(0x11);
        let (mut a, mut b) = (world.worker(), world.worker());
        a.demand();
        a.desk.work_once(); // holds the claim
        b.demand();
        world.drive(&mut [&mut b, &mut a]);
        assert_eq!(world.responder.queries().len(), 1, "check_interval {interval}");
        let finished = b.told().finished;
        assert_eq!(b.decide(Some(finished[0])), Decision::Serve);
    }
}

#[test]
fn the_claim_of_a_dead_worker_is_free() {
    let world = World::new();
    world.store(0x11);
    let (mut a, mut b) = (world.worker(), world.worker());
    a.demand();
    a.desk.work_once();
    std::mem::forget(a.desk.board().close()); // killed: nothing is given back
    b.demand();
    b.desk.work_once();
    assert_eq!(world.responder.queries(), [], "it is claimed");
    a.host.die();
    world.drive(&mut [&mut b]);
    assert_eq!(world.responder.queries().len(), 1);
    assert_eq!(b.told().finished.len(), 1);
}

#[test]
fn other_workers_and_hosts_serve_a_replacement_within_a_second() {
    let world = World::new();
    let old = world.store(0x11);
    world.responder.say(&old, &[Say::Revoked(Reason::KeyCompromise)]);
    let zone = Arc::default();
    let (mut a, mut b, mut c) = (world.worker(), world.worker(), world.worker_of(&zone));
    let mut d = world.worker_of(&zone);
    for worker in [&mut a, &mut b, &mut c, &mut d] {
        worker.host.exiting.store(true, SeqCst); // nothing by themselves
        worker.look();
    }
    a.demand();
    world.drive(&mut [&mut a]);
    let new = world.cas[0].serial(1);
    // Of the same nginx at the next look, of another host when its leader has told.
    for (name, worker) in [("b", &mut b), ("c", &mut c), ("d", &mut d)] {
        worker.told();
        worker.look();
        let view = worker.desk.entry(0).view();
        assert_eq!(view.bundle.unwrap().facts.serial, new, "{name}");
        assert_eq!(view.last_revoked, Some(old.clone()), "{name}");
        assert!(!worker.updates().is_empty(), "{name} tells its event loop");
        assert_eq!(worker.decide(None), Decision::Serve, "{name}: the proof came with it");
    }
    assert_eq!(world.responder.queries().len(), 2);
    let before = b.host.woken.load(SeqCst);
    world.pass(&mut [&mut b, &mut c, &mut d], s(3));
    assert_eq!(b.host.woken.load(SeqCst), before, "and then there is peace");
}

#[test]
fn a_new_version_is_found_by_its_number_though_the_link_is_old() {
    let world = World::new();
    world.store(0x11);
    let mut worker = world.worker();
    worker.look();
    let new = world.store(0x12);
    // As NFS shows it for a while.
    let entry = world.dir().join("certs/shop.example");
    std::fs::remove_file(entry.join("current")).unwrap();
    std::os::unix::fs::symlink("versions/1", entry.join("current")).unwrap();
    worker.look();
    world.drive(&mut [&mut worker]);
    assert_eq!(worker.desk.entry(0).serial(), Some(new));
    // If it stays so, somebody wants it so.
    world.clock.advance(s(3600));
    world.pass(&mut [&mut worker], s(2));
    assert_eq!(worker.desk.entry(0).serial(), Some(hex(0x11)));
}

#[test]
fn damaged_notes_are_no_obstacle() {
    let world = World::new();
    let old = world.store(0x11);
    world.responder.say(&old, &[Say::Revoked(Reason::Superseded)]);
    let entry = world.dir().join("certs/shop.example");
    std::fs::create_dir(entry.join("pending")).unwrap();
    for file in ["evidence.json", "ledger.json", "pending/order.json"] {
        std::fs::write(entry.join(file), "{").unwrap();
    }
    let mut worker = world.worker();
    worker.demand();
    world.drive(&mut [&mut worker]);
    assert_eq!(world.stored(), Some(world.cas[0].serial(1)));
    assert_eq!(worker.told().finished.len(), 1);
}

#[test]
fn news_of_one_worker_reach_the_others() {
    let world = World::new();
    let serial = world.store(0x11);
    world.responder.say(&serial, &[Say::Nothing(None)]);
    let (mut a, mut b) = (world.worker(), world.worker());
    a.look();
    b.look();
    b.told();
    a.demand();
    world.drive(&mut [&mut a]);
    assert_eq!(b.decide(None), Decision::Check);
    b.look();
    let update = b.updates().pop().unwrap();
    assert!(update.view.news.next_check.is_some());
    assert_eq!(update.finished, None);
    assert_eq!(b.decide(None), Decision::Serve, "nobody is held until then");
}

#[test]
fn a_crash_after_any_step_loses_no_key() {
    for check in [Check::Soft, Check::Hard] {
        let mut crashed = 0;
        for steps in 1.. {
            let world = World::with(|w| w.settings.check = check);
            let old = world.store(0x11);
            world.responder.say(&old, &[Say::Revoked(Reason::KeyCompromise)]);
            // Known only to the third question, so that there are steps without proof, too.
            let new = world.cas[0].serial(1);
            world.responder.say(&new, &[Say::Unknown, Say::Unknown, Say::Good]);
            let mut first = world.worker();
            first.demand();
            for _ in 0..steps {
                if first.desk.work_once().is_none() {
                    let alarm = first.desk.board().next_alarm();
                    alarm.map(|t| world.clock.advance(t.since(world.now())));
                }
            }
            let over = first.desk.board().demanded(0).is_none();
            first.host.die();
            drop(first);

            let mut second = world.worker();
            world.pass(&mut [&mut second], s(30));
            assert_eq!(world.stored(), Some(new.clone()), "crash after step {steps}");
            assert_eq!(world.cas[0].orders(), 1, "crash after step {steps}");
            assert_eq!(second.decide(None), Decision::Serve);
            let bundle = world.keystore().load(&world.settings.name).unwrap().unwrap();
            let key = bundle.key.public_key_to_der().unwrap();
            assert_eq!(*world.cas[0].keys.lock().unwrap(), [key]);
            if over {
                break;
            }
            crashed += 1;
        }
        assert!(crashed >= 8, "{crashed} steps were cut off");
    }
}

#[test]
fn a_stored_certificate_that_is_left_in_pending_is_not_taken_up() {
    let world = World::new();
    let mut worker = world.worker();
    world.pass(&mut [&mut worker], s(3));
    let keystore = world.keystore();
    let bundle = keystore.load(&world.settings.name).unwrap().unwrap();
    // As if the crash had come between the commit and the clearing.
    let lock = keystore.try_lock(&world.settings.name).unwrap().unwrap();
    let chain = [&bundle.chain[0], &bundle.chain[1]].map(|c| c.to_pem().unwrap()).concat();
    let key = bundle.key.private_key_to_pem_pkcs8().unwrap();
    let order = crate::ca::Order {
        ca: "one".into(),
        names: world.settings.names.clone(),
        csr: vec![],
        state: serde_json::Value::Null,
    };
    let pending = crate::keystore::Pending {
        key_pem: crate::settings::Secret::new(key),
        order,
        chain: Some(chain),
        created_at: world.now(),
        replaces: None,
    };
    keystore.save_pending(&lock, &pending).unwrap();
    drop(lock);
    world.clock.advance(s(25 * 86400));
    world.pass(&mut [&mut worker], s(5));
    assert_eq!(world.stored(), Some(world.cas[0].serial(2)), "a new one with a new key");
}

#[test]
fn the_leader_begins_and_when_it_goes_the_next_one_does() {
    let world = World::new();
    world.cas[0].script(vec![Do::Wait(s(2))]);
    let (mut a, mut b) = (world.worker(), world.worker());
    a.look();
    b.look();
    assert!(a.desk.board().is_active((0, Lane::Replace)));
    assert!(!b.desk.board().is_active((0, Lane::Replace)), "only one leads");
    a.desk.work_once();
    a.desk.work_once();
    a.host.die();
    drop(a);
    world.pass(&mut [&mut b], s(5));
    assert_eq!(world.stored(), Some(world.cas[0].serial(1)));
    assert_eq!(world.cas[0].orders(), 1, "it has gone on with the order");
}

#[test]
fn an_exiting_worker_begins_only_what_a_handshake_waits_for() {
    let world = World::new();
    world.store_as(Spec { serial: 0x11, life: (-25 * DAY, 5 * DAY), ..Spec::default() });
    let mut worker = world.worker();
    worker.host.exiting.store(true, SeqCst);
    world.pass(&mut [&mut worker], s(5));
    assert_eq!(world.responder.queries(), []);
    assert_eq!(world.cas[0].orders(), 0);
    worker.demand();
    world.drive(&mut [&mut worker]);
    assert_eq!(world.responder.queries().len(), 1);
    assert_eq!(worker.told().finished.len(), 1);
}

#[test]
fn closing_gives_back_claims_and_locks() {
    let world = World::new();
    let old = world.store(0x11);
    world.responder.say(&old, &[Say::Revoked(Reason::KeyCompromise)]);
    let mut worker = world.worker();
    worker.demand();
    while world.cas[0].orders() == 0 {
        worker.desk.work_once();
    }
    let is_free = || world.keystore().try_lock(&world.settings.name).unwrap().is_some();
    assert!(!is_free());
    drop(worker.desk.board().close());
    assert!(is_free());
    worker.demand();
    assert!(worker.desk.work_once().is_none(), "nothing begins any more");
}
