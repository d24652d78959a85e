mod look_up;

use base64::prelude::{BASE64_STANDARD, Engine};
use openssl::pkey::{Id, PKey, Private};
use openssl::rsa::Rsa;

use super::*;
use crate::evidence::{Reason, Source, Status};
use crate::fixture::crl::{Algorithm, Crl, NUMBER, POINT, REASON, entry, point, revoked};
use crate::fixture::der::{self, explicit, integer, octets, seq, time, tlv, uri};
use crate::fixture::{DAY, Identity, NOW, Spec, at, root, self_signed, self_signed_with};

const URL: &str = "http://crl.example/1.crl";
const CDP: &str = "2.5.29.31";
/// That of the leaf, and of another.
const SERIAL: &[u8] = &[0x12, 0x34];
const OTHER: &[u8] = &[0x12, 0x35];

/// OID, critical, contents.
type Extension<'a> = (&'a str, bool, &'a [u8]);

/// A CA, a leaf of it, and what is asked about that.
struct World {
    ca: Identity,
    facts: CertFacts,
}

impl World {
    fn new() -> World {
        World::of(root("CA"))
    }

    fn of(ca: Identity) -> World {
        let urls = seq(&[&seq(&[&explicit(0, &explicit(0, &uri("http://crl.example/cdp")))])]);
        let extensions: &[Extension] = &[(CDP, false, &urls)];
        let leaf = ca.issue(Spec { serial: 0x1234, extensions, ..Spec::default() });
        let facts = CertFacts::from_der(&leaf.der()).unwrap();
        World { ca, facts }
    }

    fn query(&self) -> Query<'_> {
        Query {
            facts: &self.facts,
            is_ca: false,
            issuer: &self.ca.cert,
            url: URL,
            asked_since: NOW,
            timeout: Duration::from_secs(60),
        }
    }

    fn crl(&self) -> Crl {
        Crl::new(&self.ca)
    }

    fn read(&self, crl: &[u8]) -> Result<Evidence, Fault> {
        try_read(crl, &self.query(), NOW)
    }
}

/// The status, or the fault.
fn text(read: Result<Evidence, Fault>) -> String {
    match read {
        Ok(Evidence { status: Status::Revoked { reason, .. }, .. }) => reason.as_str().into(),
        Ok(evidence) => format!("{:?}", evidence.status),
        Err(fault) => fault.to_string(),
    }
}

#[test]
fn what_a_crl_says_about_ours() {
    let world = World::new();
    let read = world.read(&world.crl().with(&[revoked(SERIAL, Some(1))]).der()).unwrap();
    let status = Status::Revoked { reason: Reason::KeyCompromise, at: at(-DAY) };
    let expected = Evidence {
        certificate: world.facts.fingerprint.clone(),
        serial: world.facts.serial.clone(),
        source: Source::Crl,
        status,
        this_update: at(-60),
        next_update: Some(at(3600)),
        checked_at: NOW,
        responder: URL.into(),
    };
    assert_eq!(read, expected);
    let date = time(at(-DAY)); // GeneralizedTime
    let broken = |serial| seq(&[&integer(serial), &tlv(0x17, b"yesterday")]);
    let many: Vec<_> = (0..3000_u32).map(|n| revoked(&n.to_be_bytes()[1..], Some(4))).collect();
    let table: &[(&[Vec<u8>], &str)] = &[
        (&[], "Good"),
        (&[revoked(OTHER, Some(1))], "Good"),
        (&[revoked(&[0x12], None), revoked(&[0x12, 0x34, 0], None)], "Good"),
        (&[revoked(OTHER, Some(1)), revoked(SERIAL, None)], "unspecified"),
        (&[revoked(SERIAL, Some(0))], "unspecified"),
        (&[revoked(SERIAL, Some(4))], "superseded"),
        (&[revoked(SERIAL, Some(6))], "certificateHold"),
        (&[revoked(SERIAL, Some(7))], "unspecified"),
        (&[revoked(SERIAL, Some(0xff))], "unspecified"),
        (
            &[revoked(SERIAL, Some(8))],
            "CRL proves nothing here: removeFromCRL in one that is complete",
        ),
        (&[revoked(OTHER, Some(8))], "Good"),
        (&[revoked(SERIAL, Some(6)), revoked(SERIAL, Some(1))], "keyCompromise"),
        (&[revoked(SERIAL, Some(1)), revoked(SERIAL, Some(6))], "keyCompromise"),
        (&[revoked(SERIAL, Some(1)), revoked(SERIAL, Some(4))], "keyCompromise"),
        (&[seq(&[&integer(SERIAL), &date])], "unspecified"),
        (&[seq(&[&tlv(2, &[0, 0, 0x12, 0x34]), &date])], "unspecified"), // sloppy, but ours
        (&[broken(SERIAL)], "CRL has a malformed time"),
        (&[broken(OTHER)], "Good"),
        (&[revoked(&[0x7f; 32], None)], "Good"),
        (&[revoked(&[0x7f; 33], None)], "not a CRL: a serial number of an absurd length"),
        (&[seq(&[&tlv(2, &[]), &date])], "not a CRL: a serial number of an absurd length"),
        (&[seq(&[&integer(OTHER), &octets(b"")])], "not a CRL: malformed"),
        (&[seq(&[&integer(OTHER)])], "not a CRL: malformed"),
        (&[seq(&[&integer(OTHER), &date, &integer(&[1])])], "not a CRL: malformed"),
        (&[octets(b"x")], "not a CRL: malformed"),
        (
            &[entry(OTHER, NOW, &[("1.2.3", false, &vec![0; 20_000])])],
            "not a CRL: an element is absurdly long",
        ),
        (&many[..2], "Good"),
        (&many, "Good"),
    ];
    for (entries, expected) in table {
        let found = text(world.read(&world.crl().with(entries).der()));
        assert_eq!(found, *expected, "{entries:02x?}");
    }
    let last = [&many[..], &[revoked(SERIAL, Some(1))]].concat();
    assert_eq!(text(world.read(&world.crl().with(&last).der())), "keyCompromise");
    assert_eq!(text(world.read(&world.crl().der())), "Good", "no list at all");
}

#[test]
fn extensions_of_entries() {
    let world = World::new();
    let code = tlv(0x0a, &[1]);
    let table: &[(&[Extension], &str)] = &[
        (&[(REASON, true, &code)], "Good"),
        (&[("2.5.29.24", true, &time(NOW))], "Good"),
        (&[("1.2.3.4", false, b"x")], "Good"),
        (
            &[("1.2.3.4", true, b"x")],
            "entry of the CRL has a critical extension that is not known: 1.2.3.4",
        ),
        (&[("2.5.29.29", true, b"x")], "CRL proves nothing here: it is an indirect CRL"),
        (&[("2.5.29.29", false, b"x")], "CRL proves nothing here: it is an indirect CRL"),
        (
            &[(REASON, false, &code), (REASON, false, &code)],
            "CRL has the extension 2.5.29.21 twice",
        ),
        (&[(REASON, false, &tlv(0x0a, &[1, 1]))], "not a CRL: malformed"),
        (&[(REASON, false, &tlv(0x02, &[1]))], "not a CRL: malformed"),
    ];
    for (extensions, expected) in table {
        // Of another's entry: it spoils the CRL all the same.
        let crl = world.crl().with(&[entry(OTHER, NOW, extensions)]);
        assert_eq!(text(world.read(&crl.der())), *expected, "{extensions:02x?}");
    }
}

#[test]
fn extensions_of_the_crl() {
    let world = World::new();
    let number = integer(&[7]);
    let table: &[(&[Extension], &str)] = &[
        (&[], "Good"),
        (&[(NUMBER, false, &number)], "Good"),
        (&[(NUMBER, true, &number)], "Good"),
        (
            &[(NUMBER, false, &number), (NUMBER, false, &number)],
            "CRL has the extension 2.5.29.20 twice",
        ),
        (&[(NUMBER, false, b"x")], "not a CRL: malformed"),
        (&[("2.5.29.35", true, b"x"), ("2.5.29.18", false, b"x")], "Good"),
        (&[("2.5.29.46", false, b"x")], "Good"),
        (&[("2.5.29.46", true, b"x")], "CRL has a critical extension that is not known: 2.5.29.46"),
        (&[("1.2.3.4", false, b"x")], "Good"),
        (&[("1.2.3.4", true, b"x")], "CRL has a critical extension that is not known: 1.2.3.4"),
        (&[("2.5.29.27", true, &number)], "CRL proves nothing here: it is a delta CRL"),
        (&[("2.5.29.27", false, &number)], "CRL proves nothing here: it is a delta CRL"),
    ];
    for (extensions, expected) in table {
        let crl = world.crl().extended(extensions);
        assert_eq!(text(world.read(&crl.der())), *expected, "{extensions:02x?}");
    }
}

#[test]
fn whom_a_crl_tells_of() {
    let world = World::new();
    let flag = |n: u8| tlv(0x80 | n, &[0xff]);
    let flags = |n: u8| seq(&[&flag(n)]);
    let relative = seq(&[&explicit(0, &tlv(0xa1, b""))]);
    let directory = seq(&[&explicit(0, &explicit(0, &explicit(4, &seq(&[]))))]);
    const OTHER_POINT: &str = "CRL is for another distribution point: http://crl.example/2";
    const USERS: &str = "CRL proves nothing here: it is for certificates of users only";
    const CAS: &str = "CRL proves nothing here: it is for certificates of CAs only";
    // The same for a certificate of a user and of a CA, or each.
    let table: &[(Vec<u8>, &str, &str)] = &[
        (seq(&[]), "Good", "Good"),
        (point(&[URL], &[]), "Good", "Good"),
        (point(&["http://crl.example/cdp"], &[]), "Good", "Good"),
        (point(&["ldap://x", URL], &[]), "Good", "Good"),
        (point(&["http://crl.example/2"], &[]), OTHER_POINT, OTHER_POINT),
        (
            point(&["http://crl.example/2", "http://crl.example/1.cr"], &[]),
            OTHER_POINT,
            OTHER_POINT,
        ),
        (
            directory,
            "CRL is for another distribution point: one without a URL",
            "CRL is for another distribution point: one without a URL",
        ),
        (
            relative,
            "CRL proves nothing here: its distribution point is named relative to the issuer",
            "CRL proves nothing here: its distribution point is named relative to the issuer",
        ),
        (flags(1), "Good", USERS),
        (flags(2), CAS, "Good"),
        (point(&[URL], &flag(1)), "Good", USERS),
        (seq(&[&tlv(0x81, &[0])]), "Good", "Good"),
        (seq(&[&tlv(0x82, &[1])]), CAS, "Good"), // sloppy, but meant
        (
            seq(&[&tlv(0x83, &[6, 0x40])]),
            "CRL proves nothing here: it is for some reasons of revocation only",
            "CRL proves nothing here: it is for some reasons of revocation only",
        ),
        (
            flags(4),
            "CRL proves nothing here: it is an indirect CRL",
            "CRL proves nothing here: it is an indirect CRL",
        ),
        (
            flags(5),
            "CRL proves nothing here: it is for attribute certificates only",
            "CRL proves nothing here: it is for attribute certificates only",
        ),
        (flags(6), "not a CRL: malformed", "not a CRL: malformed"),
        (tlv(0x30, &[0x81, 2, 0, 0]), "not a CRL: malformed", "not a CRL: malformed"),
    ];
    for (value, of_user, of_ca) in table {
        let der = world.crl().extended(&[(POINT, true, value)]).der();
        for (is_ca, expected) in [(false, of_user), (true, of_ca)] {
            let found = try_read(&der[..], &Query { is_ca, ..world.query() }, NOW);
            assert_eq!(text(found), *expected, "{value:02x?} {is_ca}");
        }
        // Not critical: it counts all the same.
        let der = world.crl().extended(&[(POINT, false, value)]).der();
        assert_eq!(text(world.read(&der)), *of_user, "{value:02x?}");
    }
}

#[test]
fn whose_it_is() {
    let world = World::new();
    let same_name = root("CA");
    let same_key = self_signed_with(Spec::ca("Other"), world.ca.key.clone());
    assert_eq!(text(world.read(&Crl::new(&same_name).der())), "bad signature");
    let other = "CRL is of another issuer: CN=Other,O=Test\\, Inc.";
    assert_eq!(text(world.read(&Crl::new(&same_key).der())), other);
    assert_eq!(text(world.read(&world.crl().der_badly_signed())), "bad signature");
    let shouting = seq(&[
        &tlv(0x31, &seq(&[&der::oid("2.5.4.10"), &tlv(0x13, b"TEST,  inc.")])),
        &tlv(0x31, &seq(&[&der::oid("2.5.4.3"), &tlv(0x0c, b"ca")])),
    ]);
    assert_eq!(text(world.read(&Crl { issuer: shouting, ..world.crl() }.der())), "Good");
    let broken = Crl { issuer: seq(&[&octets(b"x")]), ..world.crl() };
    assert_eq!(
        text(world.read(&broken.der())),
        "CRL is of another issuer: one without a readable name"
    );
}

#[test]
fn who_may_sign() {
    const USAGE: &str = "2.5.29.15";
    for (bits, expected) in [
        (None, "Good"),
        (Some([0x03, 2, 1, 0x02]), "Good"),
        (Some([0x03, 2, 2, 0x04]), "keyUsage of the issuer allows no CRLs"),
    ] {
        let usage: Vec<Extension> = bits.iter().map(|b| (USAGE, true, &b[..])).collect();
        let spec = Spec { cn: "CA", usage: &[], names: &[], extensions: &usage, ..Spec::default() };
        let world = World::of(self_signed(spec));
        assert_eq!(text(world.read(&world.crl().der())), expected, "{bits:?}");
    }
}

fn rsa_key() -> PKey<Private> {
    PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap()
}

/// A CA and a CRL of it. The certificate is signed by another: self-signed ones are always signed
/// with SHA-256, which Ed25519 has no use for.
fn world_with(key: PKey<Private>) -> World {
    let cert = root("Root").certify(&Spec::ca("CA"), &key);
    let cert = Identity { cert, key };
    // The key of the leaf's issuer does not matter here.
    let World { facts, .. } = World::new();
    World { ca: cert, facts }
}

#[test]
fn algorithms() {
    use Algorithm::*;
    let ec = World::new();
    let rsa = world_with(rsa_key());
    let ed = world_with(PKey::generate_ed25519().unwrap());
    for (world, signed_with, expected) in [
        (&ec, EcdsaSha256, "Good"),
        (&ec, EcdsaSha1, "Good"),
        (&rsa, RsaSha1, "Good"),
        (&rsa, RsaSha256, "Good"),
        (&rsa, RsaSha512, "Good"),
        (&rsa, RsaPss(32), "Good"),
        (&rsa, RsaPss(0), "Good"),
        (&rsa, RsaMd5, "signed with MD5, which is too weak"),
        (&ed, Ed25519, "Good"),
    ] {
        let crl = Crl { signed_with, ..world.crl() };
        assert_eq!(text(world.read(&crl.der())), expected, "{signed_with:?}");
        if expected == "Good" {
            let bad = crl.der_badly_signed();
            assert_eq!(text(world.read(&bad)), "bad signature", "{signed_with:?}");
        }
    }
    // What is said of the signature is true, but not of the key or the digest.
    for (world, says, signed_with) in [
        (&ec, RsaSha256, EcdsaSha256),
        (&ec, EcdsaSha1, EcdsaSha256),
        (&ec, RsaPss(32), EcdsaSha256),
        (&rsa, EcdsaSha256, RsaSha256),
        (&rsa, RsaSha512, RsaSha256),
        (&rsa, RsaPss(32), RsaSha256),
        (&rsa, RsaPss(20), RsaPss(32)),
        (&rsa, RsaSha256, RsaPss(32)),
        (&ed, EcdsaSha256, Ed25519),
    ] {
        let (inner, outer) = (Some(says.der()), Some(says.der()));
        let crl = Crl { signed_with, inner, outer, ..world.crl() };
        assert_eq!(text(world.read(&crl.der())), "bad signature", "{says:?} {signed_with:?}");
    }
    let inner = Some(Algorithm::EcdsaSha1.der());
    let outer = Some(der::algorithm("1.2.840.10045.4.1"));
    for crl in [
        Crl { outer: outer.clone(), ..ec.crl() },
        Crl { inner, signed_with: EcdsaSha1, outer: Some(EcdsaSha256.der()), ..ec.crl() },
        Crl { outer: Some(seq(&[&der::oid("1.2.840.10045.4.3.2"), &tlv(5, &[])])), ..ec.crl() },
    ] {
        let expected = "not a CRL: signature algorithms in and beside what is signed differ";
        assert_eq!(text(ec.read(&crl.der())), expected);
    }
    for id in ["1.2.3.4", "2.16.840.1.101.3.4.2.1", "1.2.840.10045.2.1"] {
        let odd = Some(der::algorithm(id));
        let crl = Crl { inner: odd.clone(), outer: odd, ..ec.crl() };
        let expected = format!("signed with an algorithm that is not supported: {id}");
        assert_eq!(text(ec.read(&crl.der())), expected);
    }
    assert_eq!(ed.ca.key.id(), Id::ED25519);
}

#[test]
fn when_it_counts() {
    let world = World::new();
    const STALE: &str = "CRL is stale since 2033-05-18T03:28:19Z";
    let table: &[(i64, Option<i64>, &str)] = &[
        (0, Some(3600), "Good"),
        (0, None, "Good"),
        (300, None, "Good"),
        (301, Some(3600), "CRL is not valid before 2033-05-18T03:38:21Z"),
        (-7200, Some(-300), "Good"),
        (-7200, Some(-301), STALE),
        (-10, Some(-10), "Good"),
        (
            -10,
            Some(-11),
            "CRL ends at 2033-05-18T03:33:09Z before it begins at 2033-05-18T03:33:10Z",
        ),
        (-7 * DAY - 300, None, "Good"),
        (-365 * DAY, Some(10), "Good"),
    ];
    for (this_update, next_update, expected) in table {
        let crl = world.crl().times(*this_update, *next_update);
        assert_eq!(text(world.read(&crl.der())), *expected, "{this_update} {next_update:?}");
        let crl = crl.with(&[revoked(SERIAL, None)]);
        let expected = if *expected == "Good" { "unspecified" } else { expected };
        assert_eq!(text(world.read(&crl.der())), expected, "{this_update} {next_update:?}");
    }
    // Without an end a good one is good for a week.
    let crl = world.crl().times(-7 * DAY - 301, None);
    assert_eq!(text(world.read(&crl.der())), STALE);
    let crl = crl.with(&[revoked(SERIAL, None)]);
    assert_eq!(text(world.read(&crl.der())), "unspecified");
}

#[test]
fn times() {
    let world = World::new();
    const BAD: &str = "CRL has a malformed time";
    for (tag, text_of_time, expected) in [
        (0x17, "330518033320Z", "Good"),
        (0x18, "20330518033320Z", "Good"),
        (0x18, "19330518033320Z", "Good"),
        (0x17, "500518033320Z", "Good"), // 1950
        (
            0x17,
            "490518033320Z",
            "CRL ends at 2033-05-18T04:33:20Z before it begins at 2049-05-18T03:33:20Z",
        ),
        (0x17, "3305180333Z", BAD),
        (0x17, "330518033320+0000", BAD),
        (0x18, "20330518033320.5Z", BAD),
        (0x18, "330518033320Z", BAD),
        (0x17, "330532033320Z", BAD),
        (0x17, "331318033320Z", BAD),
        (0x17, "330518243320Z", BAD),
        (0x17, "330229033320Z", BAD),
        (0x17, "33051803332 Z", BAD),
        (0x17, "330518033320", BAD),
        (0x17, "", BAD),
        (0x04, "330518033320Z", BAD),
    ] {
        let crl = Crl { this_update: tlv(tag, text_of_time.as_bytes()), ..world.crl() };
        let found = text(world.read(&crl.der()));
        // That one begins after now, which is told first.
        let expected = if text_of_time.starts_with("49") {
            "CRL is not valid before 2049-05-18T03:33:20Z"
        } else {
            expected
        };
        assert_eq!(found, expected, "{tag} {text_of_time}");
    }
}

#[test]
fn shapes() {
    let world = World::new();
    let crl = world.crl().with(&[revoked(OTHER, Some(1))]);
    let der = crl.der();
    let v1 = Crl { version: vec![], ..world.crl().with(&[revoked(SERIAL, None)]) };
    let odd = |change: &dyn Fn(&mut Crl)| {
        let mut crl = crl.clone();
        change(&mut crl);
        crl.der()
    };
    const BAD: &str = "not a CRL: malformed";
    let table: &[(Vec<u8>, &str)] = &[
        (der.clone(), "Good"),
        (v1.der(), "unspecified"),
        (Crl { version: vec![], ..crl.clone() }.der(), BAD), // extensions of entries
        (Crl { version: vec![], ..world.crl().extended(&[]) }.der(), BAD),
        (odd(&|c| c.version = integer(&[0])), "version 1 of CRL is not known"),
        (odd(&|c| c.version = integer(&[2])), "version 3 of CRL is not known"),
        (odd(&|c| c.version = integer(&[1, 0])), BAD),
        (vec![], "not a CRL: empty"),
        (b"<html>".to_vec(), "not a CRL: neither DER nor PEM"),
        ([&der[..], b"\n"].concat(), "not a CRL: trailing bytes"),
        ([&der[..], &der[..]].concat(), "not a CRL: trailing bytes"),
        (odd(&|c| c.more = octets(b"")), "not a CRL: trailing bytes"),
        (odd(&|c| c.extensions = [explicit(0, &seq(&[])), octets(b"x")].concat()), BAD),
        (odd(&|c| c.extensions = explicit(1, &seq(&[]))), BAD),
        (odd(&|c| c.entries = [c.entries.clone(), c.entries.clone()].concat()), BAD),
        (odd(&|c| c.next_update = [c.next_update.clone(), c.next_update.clone()].concat()), BAD),
        (odd(&|c| c.issuer = vec![]), BAD),
        (odd(&|c| (c.this_update, c.next_update) = (vec![], vec![])), "CRL has a malformed time"),
        (
            odd(&|c| c.extensions = explicit(0, &octets(&[0; 70_000]))),
            "not a CRL: an element is absurdly long",
        ),
        (
            odd(&|c| c.entries = vec![0x30, 0x84, 0x10, 0, 0, 0]),
            "not a CRL: an element is longer than what it is in",
        ),
        (odd(&|c| c.entries = vec![0x30, 0x80, 0, 0]), "not a CRL: indefinite length"),
        (odd(&|c| c.entries = vec![0x30, 0x81, 0]), BAD),
        (odd(&|c| c.entries = vec![0x30, 0x82, 0, 0x80]), BAD),
        (odd(&|c| c.entries = vec![0x30, 0x85, 0, 0, 0, 0, 0]), BAD),
        (odd(&|c| c.entries = vec![0x3f, 0x30, 0]), BAD),
        (
            vec![0x30, 0x84, 0xff, 0xff, 0xff, 0xff, 0x30, 0x84, 0xff, 0xff, 0xff, 0],
            "not a CRL: truncated",
        ),
        (vec![0x30], "not a CRL: truncated"),
        (vec![0x30, 0], BAD),
        (seq(&[&seq(&[])]), BAD),
    ];
    for (n, (crl, expected)) in table.iter().enumerate() {
        assert_eq!(text(world.read(crl)), *expected, "{n}");
    }
    // A signature is a BIT STRING of whole bytes.
    let is_bits = |i: &usize| der[*i] == 3 && usize::from(der[i + 1]) == der.len() - i - 2;
    let bits = (der.len() - 80..der.len() - 2).find(is_bits).unwrap();
    let mut odd = der.clone();
    odd[bits + 2] = 1;
    assert_eq!(text(world.read(&odd)), BAD);
}

#[test]
fn pem() {
    let world = World::new();
    let der = world.crl().with(&[revoked(SERIAL, Some(1))]).der();
    let pem = |width: usize, end: &str| {
        let text = BASE64_STANDARD.encode(&der);
        let lines: Vec<_> = text.as_bytes().chunks(width).map(String::from_utf8_lossy).collect();
        format!("-----BEGIN X509 CRL-----{end}{}{end}-----END X509 CRL-----{end}", lines.join(end))
    };
    let good = pem(64, "\n");
    const BAD: &str = "not a CRL: malformed PEM";
    for (text_of_pem, expected) in [
        (good.clone(), "keyCompromise"),
        (pem(76, "\r\n"), "keyCompromise"),
        (pem(4000, "\n"), "keyCompromise"),
        (good.trim_end().to_string(), "keyCompromise"),
        (format!("{good}more"), "keyCompromise"),
        (good.replace("X509 CRL", "CERTIFICATE"), BAD),
        (good.replacen('M', "*", 1), BAD),
        (good[..200].to_string(), BAD),
        (good.replace("-----END", "----END"), BAD),
        ("-".repeat(100_000), BAD),
        ("-----BEGIN X509 CRL-----\n-----END X509 CRL-----\n".into(), "not a CRL: truncated"),
    ] {
        let found = text(world.read(text_of_pem.as_bytes()));
        assert_eq!(found, expected, "{text_of_pem}");
    }
}

/// Nothing that was damaged anywhere says anything, and nothing panics.
#[test]
fn damage() {
    let world = World::new();
    let crl = world.crl().with(&[revoked(OTHER, Some(1)), revoked(SERIAL, Some(1))]);
    let der =
        crl.extended(&[(NUMBER, false, &integer(&[7])), (POINT, true, &point(&[URL], &[]))]).der();
    assert_eq!(text(world.read(&der)), "keyCompromise");
    for end in 0..der.len() {
        assert!(world.read(&der[..end]).is_err(), "{end} bytes");
    }
    for at in 0..der.len() * 8 {
        let mut damaged = der.clone();
        damaged[at / 8] ^= 1 << (at % 8);
        assert!(world.read(&damaged).is_err(), "bit {at}");
    }
}

#[test]
fn causes_are_one_bounded_line() {
    let long = format!("http://{}\r\n", "x".repeat(5000));
    let fault = Fault::OtherPoint("a\nb".repeat(5000));
    let text = CrlError { url: long, fault }.to_string();
    assert!(text.len() < 600 && !text.contains(['\r', '\n']), "{text}");
    assert!(text.starts_with("crl: CRL is for another") && text.contains("source=http://xxx"));
}
