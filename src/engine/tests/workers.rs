//! Several workers, hosts, and workers that die.

use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Mutex};

use super::world::*;
use crate::ca::IssueError;
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
        let mut a = world.worker();
        let b = Arc::new(Mutex::new(world.worker()));
        let (late, clock) = (Arc::clone(&b), Arc::clone(&world.clock));
        *world.responder.meanwhile.lock().unwrap() = Some(Box::new(move || {
            clock.advance(s(1));
            let mut b = late.lock().unwrap();
            b.demand();
            b.desk.work_once(); // finds that it is being asked
        }));
        a.demand();
        a.desk.work_once();
        a.desk.work_once();
        let mut b = b.lock().unwrap();
        world.drive(&mut [&mut b]);
        assert_eq!(world.responder.queries().len(), 1, "check_interval {interval}");
        let finished = b.told().finished;
        assert_eq!(b.decide(Some(finished[0])), Decision::Serve);
    }
}

#[test]
fn what_another_worker_learns_just_before_the_claim_is_not_asked_again() {
    let world = World::new();
    world.store(0x11);
    let mut a = world.worker();
    let mut b = world.worker();
    let host = Arc::clone(&b.host);
    *host.before_claim.lock().unwrap() = Some(Box::new(move || {
        a.demand();
        while a.desk.work_once().is_some() {}
    }));
    b.demand();
    world.drive(&mut [&mut b]);
    assert_eq!(world.responder.queries().len(), 1);
    assert_eq!(b.told().finished.len(), 1);
}

#[test]
fn a_demand_that_comes_while_a_job_looks_is_not_overlooked() {
    let world = World::with(|w| {
        w.settings.check_interval = s(0);
        w.settings.check = Check::Hard;
    });
    world.store(0x11);
    let worker = Arc::new(world.worker());
    let late = Arc::clone(&worker);
    worker.desk.begin((0, Lane::Check), world.now());
    *worker.host.before_news.lock().unwrap() = Some(Box::new(move || late.desk.demand(0)));
    while worker.desk.work_once().is_some() {}
    assert_eq!(world.responder.queries().len(), 1);
    let updates = worker.desk.board().take_updates();
    let finished: Vec<_> = updates.iter().filter_map(|u| u.finished).collect();
    assert_eq!(finished.len(), 1);
    assert_eq!(worker.decide(Some(finished[0])), Decision::Serve);
}

#[test]
fn what_others_put_in_place_is_checked_before_it_is_served() {
    let world = World::with(|w| w.settings.check = Check::Hard);
    let old = world.store(0x11);
    world.responder.say(&old, &[Say::Revoked(Reason::Superseded)]);
    let lock = world.keystore().try_lock(&world.settings.name).unwrap().unwrap();
    let mut worker = world.worker();
    worker.demand();
    while worker.desk.work_once().is_some() {}
    drop(lock);
    let new = world.store(0x12);
    world.drive(&mut [&mut worker]);
    assert_eq!(world.responder.queries(), [old, new]);
    let told = worker.told();
    assert_eq!(told.finished.len(), 1);
    assert_eq!(worker.decide(Some(told.finished[0])), Decision::Serve);
    assert_eq!(world.cas[0].orders(), 0);
}

#[test]
fn a_claim_ends_with_its_job() {
    let world = World::with(|w| w.settings.check_interval = s(0));
    world.store(0x11);
    let (mut a, mut b) = (world.worker(), world.worker());
    for worker in [&mut a, &mut b] {
        world.clock.advance(s(1));
        let before = world.now();
        worker.demand();
        world.drive(&mut [worker]);
        assert_eq!(world.now(), before, "nothing to wait for");
    }
    assert_eq!(world.responder.queries().len(), 2);
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
    let before = b.host.woken();
    world.pass(&mut [&mut b, &mut c, &mut d], s(3));
    assert_eq!(b.host.woken(), before, "and then there is peace");
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
fn what_another_host_finds_revoked_does_not_wait_for_a_renewals_back_off() {
    let world = World::with(|w| w.settings.check_interval = s(60));
    let old = world.store_as(Spec { serial: 0x11, life: (-25 * DAY, 5 * DAY), ..Spec::default() });
    world.cas[0].script((0..9).map(|_| Do::Fail(unreachable())).collect());
    let mut worker = world.worker();
    world.pass(&mut [&mut worker], s(500));
    assert!(worker.news().next_issue.unwrap() > world.now() + s(90));
    worker.told();

    world.responder.say(&old, &[Say::Revoked(Reason::Superseded)]);
    world.clock.advance(s(61));
    let mut other = world.worker_of(&Arc::default());
    other.demand();
    other.desk.work_once(); // looks
    other.desk.work_once(); // asks
    drop(other);
    worker.look();
    let updates = worker.updates();
    let (mut seen, mut refused) = (0, 0);
    for view in updates.iter().map(|u| &u.view).filter(|v| v.last_revoked.is_some()) {
        seen += 1;
        refused += usize::from(view.news.next_issue.is_some());
    }
    assert!(seen > 0);
    assert_eq!(refused, 0, "nobody is refused for it");
}

#[test]
fn a_renewal_that_fails_does_not_end_the_wait_for_a_check() {
    let world = World::with(|w| {
        w.settings.check = Check::Hard;
        w.settings.check_interval = s(60);
    });
    world.store_as(Spec { serial: 0x11, life: (-25 * DAY, 5 * DAY), ..Spec::default() });
    world.cas[0].script(vec![Do::Wait(s(10)), Do::Fail(unreachable())]);
    let worker = Arc::new(world.worker());
    worker.desk.begin((0, Lane::Replace), world.now());
    while worker.desk.work_once().is_some() {}
    // It waits for the CA. A handshake comes, and while its query is under way the CA fails.
    let (other, clock) = (Arc::clone(&worker), Arc::clone(&world.clock));
    *world.responder.meanwhile.lock().unwrap() = Some(Box::new(move || {
        clock.advance(s(10));
        while other.desk.work_once().is_some() {}
    }));
    worker.desk.demand(0);
    while worker.desk.work_once().is_some() {}
    assert!(worker.news().next_issue.is_some(), "the renewal has failed");
    let updates = worker.desk.board().take_updates();
    let finished: Vec<_> = updates.iter().filter_map(|u| u.finished).collect();
    assert_eq!(finished.len(), 1);
    let last = updates.iter().rposition(|u| u.finished.is_some()).unwrap();
    assert!(!updates[last].view.links[0].evidence.is_empty(), "not before the answer");
}

#[test]
fn a_revocation_that_cant_be_stored_counts_and_is_stored_later() {
    let world = World::new();
    let old = world.store(0x11);
    world.responder.say(&old, &[Say::Revoked(Reason::Superseded)]);
    let obstacle = world.dir().join("certs/shop.example/evidence.lock");
    std::fs::create_dir(&obstacle).unwrap();
    let mut worker = world.worker();
    worker.demand();
    world.drive(&mut [&mut worker]);
    let told = worker.told();
    assert_eq!(world.stored(), Some(world.cas[0].serial(1)));
    assert_eq!(worker.decide(Some(told.finished[0])), Decision::Serve);
    std::fs::remove_dir(&obstacle).unwrap();
    worker.demand();
    world.drive(&mut [&mut worker]);
    let stored = world.keystore().evidence(&world.settings.name).unwrap();
    assert!(stored.iter().any(|e| e.serial == old && e.is_revoked()));
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
                    let alarm = first.desk.board().next_alarm().unwrap_or(world.now());
                    world.clock.advance(alarm.since(world.now()));
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
        entry: "a.example".into(),
        reason: "missing".into(),
        accepted: true,
        state: serde_json::Value::Null,
    };
    let pending = crate::keystore::Pending {
        key_pem: crate::settings::Secret::new(key),
        order,
        chain: Some(chain),
        created_at: world.now(),
        replaces: None,
        counted: false,
    };
    keystore.save_pending(&lock, &pending).unwrap();
    drop(lock);
    world.clock.advance(s(25 * 86400));
    world.pass(&mut [&mut worker], s(5));
    assert_eq!(world.stored(), Some(world.cas[0].serial(2)), "a new one with a new key");
    let version = keystore.load(&world.settings.name).unwrap().unwrap().version;
    assert_eq!(version, 2, "and the old one not once more");
}

#[test]
fn hosts_with_different_names_leave_a_budget_for_revocations() {
    let mut world = World::new();
    let mut hosts: Vec<Worker> = ["a.example", "b.example"]
        .map(|name| {
            world.settings.names = vec!["shop.example".into(), name.into()];
            world.worker_of(&Default::default())
        })
        .into();
    let [a, b] = &mut hosts[..] else { panic!() };
    world.pass(&mut [a, b], s(600));
    assert_eq!(world.cas[0].issued(), 2, "the first one, and one for names");
    for _ in 0..5 {
        world.clock.advance(s(3600));
        world.pass(&mut [a, b], s(60));
    }
    assert_eq!(world.cas[0].issued(), 3, "half the budget");
    // Not even for those who ask.
    world.clock.advance(s(3600));
    for _ in 0..5 {
        for worker in [&mut *a, &mut *b] {
            worker.told();
            worker.demand();
            world.drive(&mut [worker]);
            world.clock.advance(s(3600));
        }
    }
    assert_eq!(world.cas[0].issued(), 3);
    world.responder.say(&world.cas[0].serial(3), &[Say::Revoked(Reason::KeyCompromise)]);
    a.told();
    a.demand();
    world.drive(&mut [a]);
    assert_eq!(world.stored(), Some(world.cas[0].serial(4)));
}

#[test]
fn which_issuance_of_another_configuration_is_gone_on_with() {
    use crate::settings::KeyType;
    let (shop, more) = (vec!["shop.example"], vec!["shop.example", "more.example"]);
    // Names asked for and names wanted, the key wanted, and what was issued in the end.
    let wild = vec!["shop.example", "www.shop.example", "*.shop.example"];
    for (before, after, key, issued) in [
        (&wild, &wild, KeyType::Ecdsa256, 1),
        (&more, &wild, KeyType::Ecdsa256, 2),
        (&more, &shop, KeyType::Ecdsa256, 1),
        (&shop, &more, KeyType::Ecdsa256, 2),
        (&shop, &shop, KeyType::Ecdsa384, 2),
    ] {
        let names = |names: &[&str]| names.iter().map(|n| n.to_string()).collect();
        let mut world = World::with(|w| w.settings.check = Check::Hard);
        world.settings.names = names(before);
        world.responder.say(&world.cas[0].serial(1), &[Say::Unknown]);
        let mut worker = world.worker();
        worker.demand();
        world.drive(&mut [&mut worker]);
        assert_eq!((world.cas[0].issued(), world.stored()), (1, None), "it waits for proof");
        worker.host.die();

        (world.settings.names, world.settings.key) = (names(after), key);
        world.responder.say(&world.cas[0].serial(1), &[Say::Good]);
        let mut worker = world.worker_of(&Default::default());
        world.pass(&mut [&mut worker], s(10));
        assert_eq!(world.cas[0].issued(), issued, "{before:?} {after:?} {key:?}");
        assert_eq!(world.cas[0].abandoned.load(SeqCst), issued - 1);
        assert_eq!(world.stored(), Some(world.cas[0].serial(issued)));
    }
}

/// Its records stand in the DNS, whether another order follows or not.
#[test]
fn an_order_of_no_use_is_abandoned_though_no_ca_may_be_asked() {
    let mut world = World::new();
    let old = world.store(0x11);
    world.responder.say(&old, &[Say::Revoked(crate::evidence::Reason::Superseded)]);
    world.cas[0].script(vec![Do::Wait(s(600))]);
    let mut worker = world.worker();
    worker.demand();
    world.drive(&mut [&mut worker]);
    assert_eq!(world.cas[0].orders(), 1);
    worker.host.die();
    world.settings.names.push("more.example".into());
    world.ca_settings[0].budget = crate::settings::Budget { count: 0, window: s(86_400) };
    let mut worker = world.worker_of(&Default::default());
    world.pass(&mut [&mut worker], s(10));
    assert_eq!((world.cas[0].orders(), world.cas[0].abandoned.load(SeqCst)), (1, 1));
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
    worker.desk.begin((0, Lane::Replace), world.now()); // begun just before
    world.drive(&mut [&mut worker]);
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

fn unreachable() -> IssueError {
    IssueError::Unreachable { what: "order", cause: "timed out".into() }
}
