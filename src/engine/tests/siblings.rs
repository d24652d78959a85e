//! Answers that tell of several certificates.

use std::sync::atomic::Ordering::SeqCst;

use super::world::*;
use crate::evidence::{Evidence, Reason, Status};
use crate::settings::{EntryName, EntrySettings};

/// Two entries under one CA, whose responder tells of both whichever is asked about.
fn world(stapling: bool) -> World {
    let world = World::with(|w| {
        w.settings.stapling = stapling;
        let name = EntryName::new("other.example").unwrap();
        w.more = vec![EntrySettings { name, ..w.settings.clone() }];
    });
    world.responder.tells_all.store(true, SeqCst);
    world.store(0x11);
    world.store_for(&world.more[0], 0x22);
    world
}

/// Reads the entry, and lets a handshake ask for it.
fn ask(world: &World, worker: &mut Worker, entry: usize) {
    worker.desk.reload(&mut worker.desk.entry(entry)).unwrap();
    worker.desk.demand(entry);
    world.drive(&mut [worker]);
}

fn known(worker: &Worker, entry: usize) -> Vec<Evidence> {
    worker.desk.entry(entry).view().links[0].evidence.clone()
}

#[test]
fn what_is_told_along_the_way_counts() {
    for revoked in [false, true] {
        let world = world(true);
        if revoked {
            world.responder.say(&hex(0x22), &[Say::Revoked(Reason::Superseded)]);
        }
        let mut worker = world.worker();
        worker.desk.reload(&mut worker.desk.entry(1)).unwrap();
        ask(&world, &mut worker, 0);
        assert_eq!(world.responder.queries(), [hex(0x11)]);
        let [told] = &known(&worker, 1)[..] else { panic!("no answer") };
        assert_eq!(told.serial, hex(0x22));
        assert_eq!(told.is_revoked(), revoked, "{told:?}");
        assert_eq!(worker.desk.entry(1).is_bad(world.now()), revoked);
    }
}

/// Else the one of two that always asks first would let the staple of the other one run out.
#[test]
fn it_puts_off_no_staple() {
    let table = [
        ("fresh", true, 600, false, false),
        ("fresh, nothing is stapled", false, 600, false, true),
        ("too old", true, 4000, false, true),
        ("bad news", true, 600, true, true),
    ];
    for (what, stapling, age, revoked, taken) in table {
        let world = world(stapling);
        let mut worker = world.worker();
        ask(&world, &mut worker, 1);
        let own = known(&worker, 1);
        world.clock.advance(s(age));
        if revoked {
            world.responder.say(&hex(0x22), &[Say::Revoked(Reason::Superseded)]);
        }
        ask(&world, &mut worker, 0);
        assert_eq!(world.responder.queries(), [hex(0x22), hex(0x11)], "{what}");
        let now = known(&worker, 1);
        assert_eq!(now != own, taken, "{what}");
        assert_eq!(now[0].status == Status::Good, !revoked, "{what}");
    }
}
