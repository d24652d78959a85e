//! What an answer says, whoever signed it.

use super::*;
use crate::evidence::{Reason, Source, Status};
use crate::fixture::der::{extension, tlv};
use crate::fixture::ocsp::{CertStatus, response, response_of_type, status_only};
use crate::fixture::{DAY, at};

#[test]
fn good_is_evidence() {
    let world = World::new();
    let evidence = verify(&world.good().der(), &world.query(), None, NOW).unwrap();
    let expected = Evidence {
        certificate: world.facts.fingerprint.clone(),
        serial: world.facts.serial.clone(),
        source: Source::Ocsp,
        status: Status::Good,
        this_update: at(-60),
        next_update: Some(at(3600)),
        checked_at: NOW,
        responder: URL.to_string(),
    };
    assert_eq!(evidence, expected);
    let by_key = Reply { by_key: true, ..world.good() };
    assert_eq!(world.verify(&by_key.der()).unwrap(), expected);
}

#[test]
fn revoked_and_unknown_are_evidence() {
    let world = World::new();
    let codes = (0..=12).map(Some).chain([None]);
    for code in codes {
        let single = world.single().status(CertStatus::Revoked(at(-500), code));
        let reason = Reason::from_code(code.map(i32::from));
        let expected = Status::Revoked { reason, at: at(-500) };
        assert_eq!(world.verify(&world.with(single)).unwrap().status, expected, "{code:?}");
    }
    let unknown = world.single().status(CertStatus::Unknown);
    assert_eq!(world.verify(&world.with(unknown)).unwrap().status, Status::Unknown);
}

#[test]
fn what_is_no_response() {
    let world = World::new();
    let good = world.good().der();
    let basic = world.good().basic();
    let trailing = [&good[..], &[0]].concat();
    let trailing_inside = response(&[&basic[..], &[0]].concat());
    let oversized = vec![0x30; LIMIT + 1];
    let no_singles = Reply { singles: vec![], ..world.good() }.der();
    let other_type = response_of_type("1.3.6.1.5.5.7.48.1.9", &basic);
    let mut bad_time = world.single();
    bad_time.this_update = tlv(0x18, b"20330231000000Z");
    let table: &[(&[u8], &str)] = &[
        (&[], "not an OCSP response: malformed"),
        (b"<html>captive portal</html>", "not an OCSP response: malformed"),
        (&[0x30, 0x80, 0, 0], "not an OCSP response: malformed"),
        (&good[..good.len() - 1], "not an OCSP response: malformed"),
        (&good[..5], "not an OCSP response: malformed"),
        (&trailing, "not an OCSP response: trailing bytes"),
        (&trailing_inside, "not an OCSP response: trailing bytes"),
        (&oversized, "response is larger than 65536 bytes"),
        (&response(b"\x30\x00"), "not an OCSP response: malformed basic response"),
        (&status_only(0), "not an OCSP response: malformed basic response"),
        (&other_type, "not an OCSP response: not a basic response"),
        (&no_singles, "not an OCSP response: no certificate in it"),
        (&world.with(bad_time), "response has a malformed time"),
        (&status_only(1), "responder says malformedRequest"),
        (&status_only(2), "responder says internalError"),
        (&status_only(3), "responder says tryLater"),
        (&status_only(4), "not an OCSP response: unknown status"),
        (&status_only(5), "responder says sigRequired: it answers signed requests only"),
        (&status_only(6), "responder says unauthorized: it does not know the certificate"),
        (&status_only(7), "not an OCSP response: unknown status"),
        (&status_only(0x80), "not an OCSP response: unknown status"),
    ];
    for (der, expected) in table {
        assert_eq!(text(world.verify(der)), *expected, "{:02x?}", &der[..der.len().min(20)]);
    }
}

/// Every byte counts: no single changed byte leaves a response that says something else.
#[test]
fn no_changed_byte_is_believed() {
    let world = World::new();
    let revoked = world.single().status(CertStatus::Revoked(at(-500), Some(1)));
    let der = Reply::new(&world.ca, revoked).with_nonce(&SENT).der();
    let expected = world.verify(&der).unwrap();
    for i in 0..der.len() {
        let mut changed = der.clone();
        changed[i] ^= 0x01;
        if let Ok(evidence) = world.verify(&changed) {
            // Encodings that OpenSSL reads as the same.
            assert_eq!(evidence, expected, "byte {i}");
        }
        assert!(world.verify(&der[..i]).is_err(), "first {i} bytes");
    }
}

#[test]
fn whom_it_is_about() {
    let world = World::new();
    let sha256 = CertId::sha256(&world.leaf.cert, &world.ca.cert);
    let mixed = CertId { digest_oid: "2.16.840.1.101.3.4.2.1", ..world.single().id };
    let sha512 = CertId::new(
        "2.16.840.1.101.3.4.2.3",
        MessageDigest::sha512(),
        &world.leaf.cert,
        &world.ca.cert,
    );
    const ISSUER: &str = "response is about a certificate of another issuer";
    let table: &[(&str, Vec<u8>, &str)] = &[
        ("SHA-1", world.with_id(|_| {}), "Good"),
        ("SHA-256", world.with_id(|id| *id = sha256.clone()), "Good"),
        ("SHA-512", world.with_id(|id| *id = sha512.clone()), ISSUER),
        ("SHA-1 said to be SHA-256", world.with_id(|id| *id = mixed.clone()), ISSUER),
        ("key hash", world.with_id(|id| id.key_hash[0] ^= 1), ISSUER),
        ("name hash", world.with_id(|id| id.name_hash[19] ^= 1), ISSUER),
        ("short hash", world.with_id(|id| id.key_hash.truncate(4)), ISSUER),
        ("no hash", world.with_id(|id| id.key_hash.clear()), ISSUER),
        (
            "serial",
            world.with_id(|id| id.serial = vec![0x12, 0x35]),
            "response is about another certificate: serial=1235",
        ),
        (
            "negative serial",
            world.with_id(|id| id.serial = vec![0x92, 0x34]),
            "response is about another certificate: serial=negative",
        ),
        (
            "serial 0, as openssl ocsp says to an unknown digest",
            world.with_id(|id| id.serial = vec![0]),
            "response is about another certificate: serial=00",
        ),
    ];
    for (name, der, expected) in table {
        assert_eq!(text(world.verify(der)), *expected, "{name}");
    }
}

/// The same digits as a negative number are another certificate.
#[test]
fn a_negative_serial_is_another() {
    let world = World::new();
    let leaf = world.ca.issue(Spec { serial: 0xff12, ..Spec::default() });
    let facts = CertFacts::from_der(&leaf.der()).unwrap();
    assert_eq!(facts.serial.0, "ff12");
    let query = Query { certificate: &leaf.cert, facts: &facts, ..world.query() };
    let mut single = Single::good(&leaf.cert, &world.ca.cert);
    assert_eq!(single.id.serial, [0, 0xff, 0x12]);
    let verify = |single: &Single| verify(&world.with(single.clone()), &query, None, NOW);
    assert!(verify(&single).is_ok());
    single.id.serial = vec![0xff, 0x12];
    assert!(verify(&single).is_err());
    single.id.serial = vec![0xff, 0x00, 0xee]; // -0xff12
    assert!(verify(&single).is_err());
}

#[test]
fn an_old_answer_without_end_is_for_us_or_proves_nothing_good() {
    let world = World::new();
    let gone = CertStatus::Revoked(at(-365 * DAY), None);
    let gone_text = format!("Revoked {{ reason: Unspecified, at: {:?} }}", at(-365 * DAY));
    const STALE: &str = "response is stale since 2033-05-18T03:28:19Z";
    for (this_update, next_update, status, has_nonce, expected) in [
        (-7 * DAY - 301, None, CertStatus::Good, false, STALE),
        (-7 * DAY - 301, None, CertStatus::Good, true, "Good"),
        (-7 * DAY - 301, Some(0), CertStatus::Good, false, "Good"),
        (-365 * DAY, None, CertStatus::Unknown, false, "Unknown"),
        (-365 * DAY, None, gone, false, &gone_text),
    ] {
        let single = world.single().status(status).times(this_update, next_update);
        let reply = Reply::new(&world.ca, single);
        let reply = if has_nonce { reply.with_nonce(&SENT) } else { reply };
        let verified = try_verify(&reply.der(), &world.query(), Some(&SENT));
        assert_eq!(text(verified), expected, "{this_update} {next_update:?} {has_nonce}");
    }
}

#[test]
fn when_it_counts() {
    let world = World::new();
    let table: &[(i64, Option<i64>, &str)] = &[
        (0, Some(3600), "Good"),
        (0, None, "Good"),
        (-7 * DAY - 300, None, "Good"),
        (300, None, "Good"),
        (301, None, "response is not valid before 2033-05-18T03:38:21Z"),
        (301, Some(3600), "response is not valid before 2033-05-18T03:38:21Z"),
        (-7200, Some(-300), "Good"),
        (-7200, Some(-301), "response is stale since 2033-05-18T03:28:19Z"),
        (-10, Some(-10), "Good"),
        (
            -10,
            Some(-11),
            "response ends at 2033-05-18T03:33:09Z before it begins at 2033-05-18T03:33:10Z",
        ),
    ];
    for (this_update, next_update, expected) in table {
        for status in [CertStatus::Good, CertStatus::Revoked(at(-9), None), CertStatus::Unknown] {
            let single = world.single().status(status).times(*this_update, *next_update);
            let verified = world.verify(&world.with(single));
            match (verified, *expected) {
                (Ok(evidence), "Good") => {
                    assert_eq!(evidence.this_update, at(*this_update));
                    assert_eq!(evidence.next_update, next_update.map(at));
                }
                (verified, expected) => assert_eq!(text(verified), expected),
            }
        }
    }
}

#[test]
fn nonces() {
    const OTHER: openssl_ffi::Nonce = [8; 32];
    const DIFFERS: &str = "nonce of the response is not that of the request";
    const MISSING: &str = "response does not carry the nonce of the request";
    let world = World::new();
    type Row = (Nonce, Option<openssl_ffi::Nonce>, Option<openssl_ffi::Nonce>, &'static str);
    let table: &[Row] = &[
        (Nonce::On, Some(SENT), Some(SENT), "Good"),
        (Nonce::On, Some(SENT), None, "Good"),
        (Nonce::On, Some(SENT), Some(OTHER), DIFFERS),
        (Nonce::On, None, Some(OTHER), "Good"),
        (Nonce::On, None, None, "Good"),
        (Nonce::Off, None, None, "Good"),
        (Nonce::Off, None, Some(OTHER), "Good"),
        (Nonce::Required, Some(SENT), Some(SENT), "Good"),
        (Nonce::Required, Some(SENT), None, MISSING),
        (Nonce::Required, Some(SENT), Some(OTHER), DIFFERS),
        (Nonce::Required, None, None, MISSING),
        (Nonce::Required, None, Some(OTHER), MISSING),
    ];
    for (nonce, sent, answered, expected) in table {
        let mut reply = world.good();
        if let Some(answered) = answered {
            reply = reply.with_nonce(answered);
        }
        let query = Query { nonce: *nonce, ..world.query() };
        let verified = try_verify(&reply.der(), &query, sent.as_ref());
        assert_eq!(text(verified), *expected, "{nonce:?} {sent:?} {answered:?}");
    }
    // A part of it is not it, and neither is it without its own OCTET STRING.
    for bytes in [SENT.to_vec(), tlv(4, &SENT[..31]), tlv(4, &[&SENT[..], &[7]].concat())] {
        let reply = Reply { nonce: Some(bytes), ..world.good() };
        let verified = try_verify(&reply.der(), &world.query(), Some(&SENT));
        assert_eq!(text(verified), DIFFERS);
    }
}

/// Years later nobody knows what was sent.
#[test]
fn a_stored_answer_is_verified_again_before_it_is_stapled() {
    let world = World::new();
    let query = Query { nonce: Nonce::Off, ..world.query() };
    let other = world.ca.issue(Spec { serial: 9, ..Spec::default() });
    let others = Query { certificate: &other.cert, ..query };
    let der = world.good().with_nonce(&SENT).der();
    assert_eq!(verify(&der, &query, None, NOW).unwrap().status, Status::Good);
    assert!(verify(&der, &query, None, at(3600 + 300)).is_ok());
    let text = |result: Result<Evidence, OcspError>| result.unwrap_err().to_string();
    assert_eq!(
        text(verify(&der, &query, None, at(3600 + 301))),
        "ocsp: response is stale since 2033-05-18T04:33:20Z, source=http://ocsp.example"
    );
    assert_eq!(
        text(verify(&der, &others, None, NOW)),
        "ocsp: response is about another certificate: serial=1234, source=http://ocsp.example"
    );
}

/// RFC 6960, 4.4: what is critical and not known makes the answer worthless, for whom it is in.
#[test]
fn critical_extensions() {
    let world = World::new();
    const UNKNOWN: &str = "response has a critical extension that is not known: 1.2.3.4";
    let table: &[(&str, bool, &str, &str)] = &[
        ("1.2.3.4", false, "Good", "Good"),
        ("1.2.3.4", true, UNKNOWN, UNKNOWN),
        ("1.3.6.1.5.5.7.48.1.3", true, "Good", "Good"), // CRL references
        (
            "1.3.6.1.5.5.7.48.1.6", // archive cutoff
            true,
            "response has a critical extension that is not known: OCSP Archive Cutoff",
            "Good",
        ),
        (
            "1.3.6.1.5.5.7.48.1.2", // nonce
            true,
            "nonce of the response is not that of the request",
            "response has a critical extension that is not known: OCSP Nonce",
        ),
        (
            "2.5.29.29",
            true,
            "response has a critical extension that is not known: X509v3 Certificate Issuer",
            "response has a critical extension that is not known: X509v3 Certificate Issuer",
        ),
    ];
    let harmless = extension("1.2.3.5", false, b"x");
    for (id, critical, of_response, of_single) in table {
        let extensions = [harmless.clone(), extension(id, *critical, b"x")].concat();
        let reply = Reply { extensions: extensions.clone(), ..world.good() };
        let verified = try_verify(&reply.der(), &world.query(), Some(&SENT));
        assert_eq!(text(verified), *of_response, "{id} {critical}");
        for status in [CertStatus::Good, CertStatus::Revoked(at(-500), None)] {
            let single = Single { extensions: extensions.clone(), ..world.single() };
            let is_good = matches!(status, CertStatus::Good);
            let found = text(world.verify(&world.with(single.status(status))));
            let expected = of_single.replace("Good", if is_good { "Good" } else { "Revoked" });
            assert!(found.starts_with(&expected), "{id} {critical}: {found}");
        }
    }
    // What is said of another is that one's affair.
    let other = world.ca.issue(Spec { serial: 9, ..Spec::default() });
    let other = Single::good(&other.cert, &world.ca.cert);
    let other = Single { extensions: extension("1.2.3.4", true, b"x"), ..other };
    let siblings = [(Serial("09".into()), Fingerprint("of 09".into()))];
    let query = Query { siblings: &siblings, ..world.query() };
    let der = Reply { singles: vec![other, world.single()], ..world.good() }.der();
    let verified = verify::try_verify(&der, &query, None, NOW).unwrap();
    assert_eq!((verified.evidence.status, verified.others.len()), (Status::Good, 0));
}
