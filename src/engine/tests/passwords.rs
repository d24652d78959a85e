//! Private keys under passwords: put there at the start, and never a reason to issue when the
//! passwords are wrong.

use super::world::*;
use crate::ca::Order;
use crate::fixture;
use crate::keystore::{Change, Pending};
use crate::policy::Decision;
use crate::report::What;
use crate::settings::{EntryName, Passwords, Secret};

fn passwords(words: &[&str]) -> Passwords {
    Passwords::new(words.iter().map(|word| Secret::new((*word).into())).collect())
}

fn key_pem(world: &World) -> String {
    let key = world.dir().join("certs/shop.example/current/privkey.pem");
    std::fs::read_to_string(key).unwrap()
}

/// A world whose certificate lies under "right".
fn sealed() -> World {
    let mut world = World::new();
    world.store(0x11);
    world.passwords = passwords(&["right"]);
    let mut worker = world.worker();
    world.pass(&mut [&mut worker], s(2));
    assert!(key_pem(&world).starts_with("-----BEGIN ENCRYPTED PRIVATE KEY-----\n"));
    world.zone = Default::default(); // the next one leads
    world
}

#[test]
fn keys_are_encrypted_at_the_start_and_when_they_come() {
    let mut world = World::new();
    world.store(0x11);
    assert!(key_pem(&world).starts_with("-----BEGIN PRIVATE KEY-----\n"));
    for (words, told) in [(&["one"] as &[&str], 1), (&["one"], 0), (&["two", "one"], 1)] {
        world.passwords = passwords(words);
        let mut worker = world.worker();
        world.pass(&mut [&mut worker], s(2));
        let events = worker.told().events;
        let rekeyed = events.iter().filter(|e| matches!(e, What::Rekeyed { .. }));
        assert_eq!(rekeyed.count(), told, "{words:?}");
        assert_eq!(worker.decide(None), Decision::Serve);
        assert!(key_pem(&world).starts_with("-----BEGIN ENCRYPTED PRIVATE KEY-----\n"));
        if told == 0 {
            // Another program, which knows no password.
            world.store(0x12);
            world.pass(&mut [&mut worker], s(2));
            assert!(key_pem(&world).starts_with("-----BEGIN ENCRYPTED PRIVATE KEY-----\n"));
            assert_eq!(worker.desk.entry(0).serial(), Some(hex(0x12)));
        }
        world.zone = Default::default(); // the next one leads
    }
    assert_eq!(world.cas[0].issued(), 0);
}

#[test]
fn a_start_with_the_wrong_password_issues_nothing() {
    for words in [&["wrong"] as &[&str], &[]] {
        let mut world = sealed();
        world.passwords = passwords(words);
        let mut worker = world.worker();
        world.pass(&mut [&mut worker], s(7200));
        assert!(matches!(worker.decide(None), Decision::Refuse(_)), "{words:?}");
        let lines = worker.told().lines();
        assert!(lines[0].contains("privkey.pem\" is encrypted"), "{lines:#?}");
        let all = lines.iter().all(|line| line.contains("\"password_file\""));
        assert!(all && lines.len() < 20, "{lines:#?}");
        assert_eq!(world.cas[0].orders(), 0);

        world.zone = Default::default();
        world.passwords = passwords(&["right"]);
        let mut worker = world.worker();
        world.pass(&mut [&mut worker], s(2));
        assert_eq!(worker.decide(None), Decision::Serve);
        assert_eq!(world.cas[0].orders(), 0);
    }
}

/// Another host put the key under a password that we do not have.
#[test]
fn what_is_loaded_is_served_on() {
    let mut world = sealed();
    let mut worker = world.worker();
    world.pass(&mut [&mut worker], s(2));
    let other_host = Default::default();
    world.passwords = passwords(&["theirs", "right"]);
    let mut other = world.worker_of(&other_host);
    world.pass(&mut [&mut other], s(2));
    world.pass(&mut [&mut worker], s(7200));
    assert_eq!(worker.decide(None), Decision::Serve);
    assert_eq!(world.cas[0].orders(), 0);
    assert!(worker.desk.reload(&mut worker.desk.entry(0)).is_err());
}

/// Its key is nobody's any more, and the certificate's is ours.
#[test]
fn an_order_under_a_gone_password_stops_nothing() {
    for (has_certificate, orders) in [(true, 1), (false, 0)] {
        let mut world = World::new();
        if has_certificate {
            world.store(0x11);
        }
        let name = world.settings.name.clone();
        let gone = world.keystore().with_passwords(passwords(&["gone"]));
        let key = fixture::root("x").key.private_key_to_pem_pkcs8().unwrap();
        let pending = pending(&world, key);
        gone.save_pending(&gone.try_lock(&name).unwrap().unwrap(), &pending).unwrap();

        world.passwords = passwords(&["ours"]);
        let of_workers = world.keystore().with_passwords(world.passwords.clone());
        *world.cas[0].keystore.lock().unwrap() = of_workers;
        let mut worker = world.worker();
        world.pass(&mut [&mut worker], s(2));
        world.keystore().announce(&Change::Renew(name)).unwrap();
        world.pass(&mut [&mut worker], s(60));
        assert_eq!(world.cas[0].orders(), orders, "{has_certificate}");
        let serves = worker.decide(None) == Decision::Serve;
        assert_eq!(serves, has_certificate);
        assert_eq!(world.cas[0].issued(), orders);
        assert_eq!(worker.told().lines().iter().any(|l| l.contains("is encrypted")), orders == 0);
    }
}

/// A failure is told once, and keeps nobody else waiting.
#[test]
fn the_rekeying_goes_on_after_a_failure() {
    let mut world = World::new();
    world.store(0x11);
    let bad = EntryName::new("a.example").unwrap(); // comes first
    let lock = world.keystore().try_lock(&bad).unwrap().unwrap();
    let key = fixture::root("x").key.private_key_to_pem_pkcs8().unwrap();
    world.keystore().save_pending(&lock, &pending(&world, key)).unwrap();
    drop(lock);
    let obstacle = world.dir().join("certs/a.example/pending/.privkey.pem.new");
    std::fs::create_dir(&obstacle).unwrap();
    world.passwords = passwords(&["one"]);
    let mut worker = world.worker();
    world.pass(&mut [&mut worker], s(100));
    assert!(key_pem(&world).starts_with("-----BEGIN ENCRYPTED PRIVATE KEY-----\n"));
    let failures = |worker: &mut Worker| {
        let events = worker.told().events;
        events.iter().filter(|e| matches!(e, What::RekeyFailed { .. })).count()
    };
    assert_eq!(failures(&mut worker), 1);
    world.pass(&mut [&mut worker], s(300));
    assert_eq!(failures(&mut worker), 1);
    std::fs::remove_dir(&obstacle).unwrap();
    world.pass(&mut [&mut worker], s(300));
    assert_eq!(failures(&mut worker), 0);
    let key = std::fs::read_to_string(obstacle.with_file_name("privkey.pem")).unwrap();
    assert!(key.starts_with("-----BEGIN ENCRYPTED PRIVATE KEY-----\n"));
}

fn pending(world: &World, key_pem: Vec<u8>) -> Pending {
    Pending {
        key_pem: Secret::new(key_pem),
        order: Order {
            ca: world.cas[0].name.clone(),
            names: world.settings.names.clone(),
            csr: Vec::new(),
            entry: "a.example".into(),
            reason: "missing".into(),
            accepted: true,
            state: serde_json::json!({ "url": "https://ca/1" }),
        },
        chain: None,
        created_at: world.now(),
        replaces: None,
        counted: false,
    }
}
