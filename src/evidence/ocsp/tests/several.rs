//! Answers about several certificates.

use super::*;
use crate::clock::FakeClock;
use crate::evidence::Status;
use crate::fixture::ocsp::CertStatus;
use crate::fixture::{DAY, at};

#[test]
fn several_singles() {
    let world = World::new();
    let other = world.ca.issue(Spec { serial: 9, ..Spec::default() });
    let other = |status| Single::good(&other.cert, &world.ca.cert).status(status);
    let ours = |status| world.single().status(status);
    let gone = CertStatus::Revoked(at(-5), Some(4));
    let stale = ours(CertStatus::Good).times(-7200, Some(-3600));
    let mut by_sha256 = ours(gone);
    by_sha256.id = CertId::sha256(&world.leaf.cert, &world.ca.cert);
    let gone_text = format!("Revoked {{ reason: Superseded, at: {:?} }}", at(-5));
    let stale_text = "response is stale since 2033-05-18T02:33:20Z";
    let table: &[(&str, Vec<Single>, &str)] = &[
        ("ours last", vec![other(gone), ours(CertStatus::Good)], "Good"),
        ("ours first", vec![ours(CertStatus::Good), other(gone)], "Good"),
        ("ours revoked", vec![other(CertStatus::Good), ours(gone)], &gone_text),
        ("both, the bad one stands", vec![ours(CertStatus::Good), ours(gone)], &gone_text),
        ("both ways of naming it", vec![ours(CertStatus::Good), by_sha256.clone()], &gone_text),
        ("the same the other way", vec![by_sha256, ours(CertStatus::Good)], &gone_text),
        ("one is stale", vec![stale.clone(), ours(CertStatus::Good)], "Good"),
        ("ours is stale", vec![stale.clone(), other(CertStatus::Good)], stale_text),
        ("ours is stale, last", vec![other(CertStatus::Good), stale], stale_text),
        (
            "none is ours",
            vec![other(CertStatus::Good), other(gone)],
            "response is about another certificate: serial=09",
        ),
    ];
    for (name, singles, expected) in table {
        let der = Reply { singles: singles.clone(), ..world.good() }.der();
        assert_eq!(text(world.verify(&der)), *expected, "{name}");
    }
}

/// A certificate by serial; its fingerprint is made up.
fn sibling(serial: &str) -> (Serial, Fingerprint) {
    (Serial(serial.into()), Fingerprint(format!("of {serial}")))
}

fn told(others: &[Evidence]) -> Vec<String> {
    let text = |e: &Evidence| format!("{} {} {:?}", e.serial, e.certificate.0, e.status);
    others.iter().map(text).collect()
}

#[test]
fn siblings_are_told_of_too() {
    let world = World::new();
    let single = |serial: u64, status| {
        let other = world.ca.issue(Spec { serial, ..Spec::default() });
        Single::good(&other.cert, &world.ca.cert).status(status)
    };
    let (good, gone) = (CertStatus::Good, CertStatus::Revoked(at(-5), Some(4)));
    let changed = |change: &dyn Fn(&mut Single)| {
        let mut single = single(9, good);
        change(&mut single);
        single
    };
    let sha256 = {
        let other = world.ca.issue(Spec { serial: 9, ..Spec::default() });
        CertId::sha256(&other.cert, &world.ca.cert)
    };
    let negative = changed(&|s| s.id.serial = vec![0xff, 0x12]);
    const GOOD: &str = "09 of 09 Good";
    let gone_text = format!("09 of 09 Revoked {{ reason: Superseded, at: {:?} }}", at(-5));
    let week_old = single(9, good).times(-7 * DAY - 301, None);
    let table: &[(&str, Vec<Single>, &[&str])] = &[
        ("nothing", vec![], &[]),
        ("good", vec![single(9, good)], &[GOOD]),
        ("revoked", vec![single(9, gone)], &[&gone_text]),
        ("unknown", vec![single(9, CertStatus::Unknown)], &["09 of 09 Unknown"]),
        ("both", vec![single(0xff12, good), single(9, good)], &["ff12 of ff12 Good", GOOD]),
        ("twice, the bad one stands", vec![single(9, gone), single(9, good)], &[&gone_text]),
        ("twice, turned", vec![single(9, good), single(9, gone)], &[&gone_text]),
        ("by SHA-256", vec![changed(&|s| s.id = sha256.clone())], &[GOOD]),
        ("stranger", vec![single(8, gone)], &[]),
        ("ours again", vec![world.single()], &[]),
        ("negative", vec![negative], &[]),
        ("other name", vec![changed(&|s| s.id.name_hash[0] ^= 1)], &[]),
        ("other key", vec![changed(&|s| s.id.key_hash[0] ^= 1)], &[]),
        ("other digest", vec![changed(&|s| s.id.digest_oid = "1.2.3.4")], &[]),
        ("stale", vec![single(9, good).times(-7200, Some(-301))], &[]),
        ("of the future", vec![single(9, good).times(301, None)], &[]),
        ("ends before it begins", vec![single(9, gone).times(-5, Some(-6))], &[]),
        ("stale and current", vec![week_old.clone(), single(9, good)], &[GOOD]),
        ("old without end", vec![week_old], &[]),
        ("old, but revoked", vec![single(9, gone).times(-30 * DAY, None)], &[&gone_text]),
    ];
    let siblings = ["09", "ff12", "1234"].map(sibling);
    let query = Query { siblings: &siblings, ..world.query() };
    for (name, more, expected) in table {
        for ours_first in [true, false] {
            let mut singles = more.clone();
            singles.insert(if ours_first { 0 } else { more.len() }, world.single());
            let der = Reply { singles, ..world.good() }.der();
            let verified = verify::try_verify(&der, &query, None, NOW).unwrap();
            assert_eq!(told(&verified.others), *expected, "{name}");
            assert_eq!(verified.evidence.serial, world.facts.serial, "{name}");
            assert_eq!(verified.evidence.status, Status::Good, "{name}");
        }
    }
}

/// What is refused says nothing about anybody, and neither does one without a word about the
/// certificate in question.
#[test]
fn only_answers_that_count_tell_of_siblings() {
    let world = World::new();
    let other = world.ca.issue(Spec { serial: 9, ..Spec::default() });
    let other = Single::good(&other.cert, &world.ca.cert);
    let siblings = [sibling("09")];
    let both = Reply { singles: vec![world.single(), other.clone()], ..world.good() };
    let table = [
        ("good", both.clone().with_nonce(&SENT).der(), Some("09 of 09 Good")),
        ("badly signed", both.der_badly_signed(), None),
        ("no nonce", both.der(), None),
        ("another's nonce", both.with_nonce(&[8; 32]).der(), None),
        ("not about ours", Reply::new(&world.ca, other).with_nonce(&SENT).der(), None),
    ];
    for (name, der, expected) in table {
        let query = Query { siblings: &siblings, nonce: Nonce::Required, ..world.query() };
        let verified = verify::try_verify(&der, &query, Some(&SENT), NOW);
        let others = verified.ok().map(|v| told(&v.others).concat());
        assert_eq!(others.as_deref(), expected, "{name}");
    }
}

#[test]
fn all_count_as_asked_for_when_they_were() {
    let world = World::new();
    let other = world.ca.issue(Spec { serial: 9, ..Spec::default() });
    let other = Single::good(&other.cert, &world.ca.cert);
    let clock = FakeClock::at(NOW);
    let http = FakeHttp::new(|_, _| {
        clock.advance(Duration::from_secs(2));
        Ok(ok(Reply { singles: vec![world.single(), other.clone()], ..world.good() }.der()))
    });
    let siblings = [sibling("09")];
    let query = Query { siblings: &siblings, ..world.query() };
    let answer = ask(&http, &clock, &query).unwrap();
    assert_eq!(told(&answer.others), ["09 of 09 Good"]);
    assert_eq!((answer.evidence.checked_at, answer.others[0].checked_at), (NOW, NOW));
    assert_eq!(answer.others[0].responder, URL);
}
