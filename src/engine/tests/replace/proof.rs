//! The proof of a replacement, and what becomes of what can't be proven.

use super::*;

#[test]
fn a_replacement_that_is_revoked_is_never_served() {
    let (world, _) = revoked();
    let first = world.cas[0].serial(1);
    world.responder.say(&first, &[Say::Revoked(Reason::Superseded)]);
    let mut worker = world.worker();
    worker.demand();
    world.drive(&mut [&mut worker]);
    let told = worker.told();
    assert_eq!(world.stored(), Some(hex(0x11)));
    let bad = Badness::Revoked(Reason::KeyCompromise);
    assert_eq!(worker.decide(Some(told.finished[0])), Decision::Refuse(Refusal::Bad(bad)));
    let line = told.lines().pop().unwrap();
    let cause = "\"one\": new certificate serial=a001 is revoked (superseded)";
    assert!(line.starts_with(&format!("ISSUE failed: {cause}, next attempt in ")), "{line}");
    let wait = worker.news().next_issue.unwrap().since(world.now());
    assert!(s(8) <= wait && wait <= s(12), "{wait:?}");
    world.pass(&mut [&mut worker], wait + s(3));
    assert_eq!(world.stored(), Some(world.cas[0].serial(2)), "the next is good, with a new key");
    let keys = world.cas[0].keys.lock().unwrap();
    assert_ne!(keys[0], keys[1]);
}

#[test]
fn a_revoked_replacement_makes_way_for_the_next_ca() {
    let (mut world, _) = revoked();
    world.settings.cas = vec!["one".into(), "two".into()];
    world.responder.say(&world.cas[0].serial(1), &[Say::Revoked(Reason::Superseded)]);
    let mut worker = world.worker();
    worker.demand();
    world.drive(&mut [&mut worker]);
    assert_eq!(world.stored(), Some(world.cas[1].serial(1)));
    let told = worker.told();
    assert_eq!(worker.decide(Some(told.finished[0])), Decision::Serve);
    assert_eq!((told.count(Count::IssueError), told.count(Count::Issued)), (1, 1));
    assert_eq!(worker.news().next_issue, None);
}

/// What a preference brought is of no use: no reason to ask for another certificate.
#[test]
fn another_chain_of_the_same_certificate_is_served() {
    let (world, _) = revoked();
    *world.cas[0].above.lock().unwrap() = crate::fixture::root("one").pem();
    world.cas[0].script(vec![Do::IssueTwoChains]);
    let mut worker = world.worker();
    worker.demand();
    world.drive(&mut [&mut worker]);
    assert_eq!(world.stored(), Some(world.cas[0].serial(1)));
    let told = worker.told();
    assert_eq!(worker.decide(Some(told.finished[0])), Decision::Serve);
    assert_eq!((world.cas[0].orders(), told.count(Count::IssueError)), (1, 0));
    let remark = "\"one\": the preferred chain can't be used, the first is: ";
    assert!(told.lines().iter().any(|line| line.starts_with(remark)), "{:?}", told.lines());
}

#[test]
fn another_chain_is_served_where_the_intermediate_of_the_first_is_revoked() {
    let world = World::with_intermediate(Some("http://root-ocsp/"), None);
    let old = world.store(0x11);
    world.responder.say(&old, &[Say::Revoked(Reason::KeyCompromise)]);
    world.responder.say(&hex(0xcb), &[Say::Revoked(Reason::CaCompromise)]);
    world.cas[0].script(vec![Do::IssueTwoChains]);
    let mut worker = world.worker();
    worker.demand();
    world.drive(&mut [&mut worker]);
    assert!(world.responder.queries().contains(&hex(0xcb)));
    assert_eq!(world.stored(), Some(world.cas[0].serial(1)));
    let told = worker.told();
    assert_eq!(worker.decide(Some(told.finished[0])), Decision::Serve);
    assert_eq!((world.cas[0].orders(), told.count(Count::IssueError)), (1, 0));
}

#[test]
fn a_replacement_without_proof() {
    for say in [Say::Unknown, Say::Nothing(Some(s(300)))] {
        for check in [Check::Soft, Check::Hard] {
            let (mut world, _) = revoked();
            world.settings.check = check;
            let new = world.cas[0].serial(1);
            world.responder.say(&new, std::slice::from_ref(&say));
            let mut worker = world.worker();
            let begun = world.now();
            worker.demand();
            world.drive(&mut [&mut worker]);
            let told = worker.told();
            assert!(world.now().since(begun) < world.settings.timeout, "in time for who waits");
            let asked = world.responder.queries().len() - 1;
            assert!((3..20).contains(&asked), "asked again, not all the time: {asked}");
            if check == Check::Soft {
                assert_eq!(world.stored(), Some(new.clone()), "{say:?}");
                assert_eq!(worker.decide(Some(told.finished[0])), Decision::Serve);
                assert_eq!(worker.decide(None), Decision::Serve, "nobody is held for it");
                assert!(worker.news().next_check.is_some());
                assert_eq!(worker.news().next_issue, None);
            } else {
                assert_eq!(world.stored(), Some(hex(0x11)), "{say:?}");
                assert!(matches!(worker.decide(Some(told.finished[0])), Decision::Refuse(_)));
                assert!(told.lines().last().unwrap().contains("no proof for serial=a001 yet"));
                // It is proven later, and nothing else was issued meanwhile.
                world.responder.say(&new, &[Say::Good]);
                let wait = worker.news().next_issue.unwrap().since(world.now());
                assert!(wait <= s(60), "nothing can be served until then: {wait:?}");
                world.pass(&mut [&mut worker], wait + s(2));
                assert_eq!(world.stored(), Some(new.clone()));
                assert_eq!(worker.decide(None), Decision::Serve);
            }
            assert_eq!(world.cas[0].orders(), 1, "{say:?} {check:?}");
        }
    }
}

#[test]
fn a_replacement_that_is_known_a_little_later() {
    let (mut world, _) = revoked();
    world.settings.check = Check::Hard;
    let new = world.cas[0].serial(1);
    world.responder.say(&new, &[Say::Unknown, Say::Nothing(None), Say::Good]);
    let mut worker = world.worker();
    worker.demand();
    world.drive(&mut [&mut worker]);
    let told = worker.told();
    assert_eq!(worker.decide(Some(told.finished[0])), Decision::Serve);
    assert_eq!(told.count(Count::OcspError), 2);
}

#[test]
fn a_renewal_that_cant_be_proven_waits_and_the_old_one_is_served() {
    for check in [Check::Soft, Check::Hard] {
        let world = World::with(|w| w.settings.check = check);
        let old =
            world.store_as(Spec { serial: 0x11, life: (-25 * DAY, 5 * DAY), ..Spec::default() });
        let new = world.cas[0].serial(1);
        world.responder.say(&new, &[Say::Nothing(None)]);
        let mut worker = world.worker();
        world.pass(&mut [&mut worker], s(120));
        assert_eq!(world.stored(), Some(old));
        assert_eq!(worker.decide(None), Decision::Serve);
        assert_eq!(world.cas[0].orders(), 1);
        let news = worker.news();
        assert!(news.next_issue.is_some() && news.working.is_none());
        world.responder.say(&new, &[Say::Good]);
        world.pass(&mut [&mut worker], s(400));
        assert_eq!(world.stored(), Some(new));
        assert_eq!(world.cas[0].orders(), 1, "{check:?}");
        assert_eq!(worker.news().next_issue, None);
    }
}

#[test]
fn an_unproven_renewal_is_swapped_in_when_the_old_one_is_revoked() {
    let world = World::new();
    let old = world.store_as(Spec { serial: 0x11, life: (-25 * DAY, 5 * DAY), ..Spec::default() });
    let new = world.cas[0].serial(1);
    world.responder.say(&new, &[Say::Nothing(None)]);
    let mut worker = world.worker();
    world.pass(&mut [&mut worker], s(60));
    assert_eq!(world.stored(), Some(old.clone()));
    world.responder.say(&old, &[Say::Revoked(Reason::Superseded)]);
    world.clock.advance(s(3600));
    worker.told();
    worker.demand();
    world.drive(&mut [&mut worker]);
    assert_eq!(world.stored(), Some(new));
    let told = worker.told();
    assert_eq!(worker.decide(Some(told.finished[0])), Decision::Serve);
    assert_eq!(world.cas[0].orders(), 1, "nothing else was issued");
}

#[test]
fn evidence_is_renewed_while_a_renewal_is_under_way() {
    let world = World::new();
    world.store_as(Spec { serial: 0x11, life: (-25 * DAY, 5 * DAY), ..Spec::default() });
    world.cas[0].script((0..20).map(|_| Do::Wait(s(5))).collect());
    let mut worker = world.worker();
    worker.look();
    for _ in 0..4 {
        worker.desk.work_once();
    }
    worker.told();
    world.clock.advance(s(3600));
    let begun = world.now();
    worker.demand();
    while worker.desk.board().demanded(0).is_some() {
        assert!(worker.desk.work_once().is_some());
    }
    assert_eq!(world.now(), begun, "the handshake does not wait for the CA");
    assert_eq!(worker.told().finished.len(), 1);
}

#[test]
fn a_missing_name_is_served_unproven_to_who_waits_for_it() {
    for (check, served) in [(Check::Soft, true), (Check::Hard, false)] {
        let world = World::with(|w| {
            w.settings.names.push("www.shop.example".into());
            w.settings.check = check;
        });
        world.store(0x11);
        world.responder.say(&world.cas[0].serial(1), &[Say::Unknown]);
        let mut worker = world.worker();
        world.pass(&mut [&mut worker], s(12));
        assert_eq!(world.stored(), Some(hex(0x11)), "nobody waits");
        world.clock.advance(s(60));
        worker.demand();
        world.drive(&mut [&mut worker]);
        assert_eq!(world.stored() == Some(world.cas[0].serial(1)), served, "{check:?}");
        assert_eq!(world.cas[0].orders(), 1);
    }
}

#[test]
fn what_is_revoked_while_its_renewal_is_being_proven() {
    let world = World::with(|w| w.settings.check_interval = s(60));
    let old = world.store_as(Spec { serial: 0x11, life: (-25 * DAY, 5 * DAY), ..Spec::default() });
    let new = world.cas[0].serial(1);
    world.responder.say(&new, &[Say::Nothing(None)]);
    let mut worker = world.worker();
    worker.look();
    while !world.responder.queries().contains(&new) {
        if worker.desk.work_once().is_none() {
            world.clock.advance(s(1));
        }
    }
    worker.told();
    world.responder.say(&old, &[Say::Revoked(Reason::Superseded)]);
    worker.desk.entry(0).evidence.clear();
    std::fs::remove_file(world.dir().join("certs/shop.example/evidence.json")).unwrap();
    worker.demand();
    world.drive(&mut [&mut worker]);
    assert_eq!(world.stored(), Some(new));
    let told = worker.told();
    assert_eq!(worker.decide(Some(told.finished[0])), Decision::Serve);
    assert_eq!(worker.news().replaced.map(|r| r.reason).as_deref(), Some("superseded"));
}

/// Of another kind than the key of the request, and still good.
#[test]
fn a_key_of_the_ca_is_kept_while_its_chain_is_unproven() {
    let world = World::with(|w| w.settings.check = Check::Hard);
    world.store_as(Spec { serial: 0x11, life: (-25 * DAY, 5 * DAY), ..Spec::default() });
    world.cas[0].script((0..9).map(|_| Do::MakeKey).collect());
    let new = world.cas[0].serial(1);
    world.responder.say(&new, &[Say::Unknown]);
    let mut worker = world.worker();
    world.pass(&mut [&mut worker], s(2 * 3600));
    assert_eq!((world.cas[0].orders(), world.cas[0].issued()), (1, 1));
    world.responder.say(&new, &[Say::Good]);
    world.pass(&mut [&mut worker], s(2 * 3600));
    assert_eq!((world.stored(), world.cas[0].issued()), (Some(new), 1));
}
