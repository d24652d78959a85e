//! What entries of one CA have in common: intermediates, and answers about several.

use std::sync::Arc;

use super::crl::intermediate;
use super::crls::Lists;
use super::world::*;
use crate::engine::subject::Subject;
use crate::evidence::Reason;
use crate::settings::{EntryName, EntrySettings};

/// A world with this many further entries of the same CA, all with a certificate.
fn crowd(mut world: World, others: usize) -> World {
    world.store(0x11);
    for n in 0..others {
        let name = EntryName::new(&format!("shop{n}.example")).unwrap();
        let settings = EntrySettings { name, ..world.settings.clone() };
        world.store_for(&settings, 0x20 + n as u64);
        world.more.push(settings);
    }
    world
}

#[test]
fn one_asks_about_a_shared_intermediate() {
    let world = crowd(World::with_intermediate(Some("http://root-ocsp/"), None), 9);
    let mut worker = world.worker();
    for refreshes in 1..=3 {
        let written = world.keystore().changes_end().unwrap();
        world.pass(&mut [&mut worker], s(1700));
        let asked = world.responder.queries();
        let about = asked.iter().filter(|serial| **serial == intermediate()).count();
        assert!(about <= refreshes.min(2), "{about} queries");
        let (changes, _) = world.keystore().changes_since(written).unwrap();
        assert!(changes.len() <= 45, "{} answers written", changes.len());
    }
    for index in 0..10 {
        let entry = worker.desk.entry(index);
        assert_eq!(entry.links()[1].evidence.len(), 1, "{index}");
        assert!(entry.proven_at(world.now()).is_some());
    }
}

#[test]
fn siblings_are_of_one_issuer_and_settings() {
    let world = crowd(World::new(), 2);
    let worker = world.worker();
    for index in 0..3 {
        worker.desk.reload(&mut worker.desk.entry(index)).unwrap();
    }
    let own = Arc::clone(&worker.desk.entry(0).subjects[0]);
    // Another block of the same CA may believe another signer, or demand nonces; intermediates
    // are asked about with neither.
    for (ca, is_ca, found) in [(0, false, 2), (1, false, 0), (0, true, 0)] {
        let subject = Subject {
            certificate: own.certificate.clone(),
            facts: own.facts.clone(),
            is_ca,
            issuer: own.issuer.clone(),
            ocsp_urls: vec![],
            crl_urls: vec![],
            ca,
        };
        assert_eq!(worker.desk.siblings(&subject).len(), found, "{ca} {is_ca}");
    }
}

#[test]
fn a_hold_of_an_intermediate_that_was_lifted_is_found_out() {
    let world = World::with_intermediate(None, Some("http://root-crl/"));
    world.store(0x11);
    world.crls.say(&intermediate(), &[Lists::As(Reason::CertificateHold), Lists::Not]);
    let mut worker = world.worker();
    world.pass(&mut [&mut worker], s(7200));
    let (looked, issued) = (world.crls.serials().len(), world.cas[0].issued());
    assert!(!worker.desk.entry(0).is_bad(world.now()), "{looked} looked, {issued} issued");
}
