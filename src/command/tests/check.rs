//! `check`: what the sources say, and what the entry is worth for it.

use super::*;
use crate::clock::Time;
use crate::evidence::{Source, Status};
use crate::fixture::crl::{Crl, revoked};
use crate::fixture::der::{explicit, oid, seq, uri};
use crate::fixture::ocsp::{CertStatus, Single, status_only};

const OCSP: &str = "http://ca.example/ocsp";
const LIST: &str = "http://ca.example/list.crl";

/// What a certificate names.
#[derive(Clone, Copy)]
struct Named {
    ocsp: bool,
    crl: bool,
}

const BOTH: Named = Named { ocsp: true, crl: true };
const RESPONDER: Named = Named { ocsp: true, crl: false };
const NOBODY: Named = Named { ocsp: false, crl: false };

impl Scene {
    fn with_sources(&self, life: (i64, i64), named: Named) -> Identity {
        let access = seq(&[&seq(&[&oid("1.3.6.1.5.5.7.48.1"), &uri(OCSP)])]);
        let points = seq(&[&seq(&[&explicit(0, &explicit(0, &uri(LIST)))])]);
        let all = [
            (named.ocsp, ("1.3.6.1.5.5.7.1.1", false, &access[..])),
            (named.crl, ("2.5.29.31", false, &points[..])),
        ];
        let extensions: Vec<_> = all.into_iter().filter(|(is, _)| *is).map(|(_, e)| e).collect();
        let names = &["a.example"];
        let spec =
            Spec { cn: "a.example", names, life, extensions: &extensions, ..Spec::default() };
        let id = self.ca.issue(spec);
        self.put("a.example", &id);
        id
    }

    fn ocsp(&self, id: &Identity, status: CertStatus) -> Vec<u8> {
        self.reply(id, status).der()
    }

    fn reply(&self, id: &Identity, status: CertStatus) -> Reply {
        Reply::new(&self.ca, Single::good(&id.cert, &self.ca.cert).status(status))
    }

    fn crl(&self, serials: &[&[u8]]) -> Vec<u8> {
        let entries: Vec<_> = serials.iter().map(|serial| revoked(serial, Some(4))).collect();
        let crl = Crl::new(&self.ca);
        if entries.is_empty() { crl.der() } else { crl.with(&entries).der() }
    }
}

#[test]
fn judges_by_what_is_said() {
    const LIFE: (i64, i64) = (-DAY, 30 * DAY);
    const SERIAL: &[u8] = &[0x12, 0x34];
    let bad = CertStatus::Revoked(fixture::at(-3600), Some(1));
    let (good, unknown) = (CertStatus::Good, CertStatus::Unknown);
    type Row<'a> =
        (&'a str, (i64, i64), Named, Option<CertStatus>, Option<&'a [&'a [u8]]>, &'a str, Exit);
    let rows: &[Row] = &[
        ("good", LIFE, BOTH, Some(good), Some(&[]), "good", Exit::Done),
        ("no responder but a list", LIFE, BOTH, None, Some(&[]), "good", Exit::Done),
        ("no list but a responder", LIFE, BOTH, Some(good), None, "good", Exit::Done),
        ("revoked", LIFE, RESPONDER, Some(bad), None, "revoked", Exit::Bad),
        ("revoked by the list only", LIFE, BOTH, Some(good), Some(&[SERIAL]), "revoked", Exit::Bad),
        ("unknown", LIFE, RESPONDER, Some(unknown), None, "unproven", Exit::Unknown),
        ("unknown, but listed", LIFE, BOTH, Some(unknown), Some(&[SERIAL]), "revoked", Exit::Bad),
        ("nobody answers", LIFE, BOTH, None, None, "unproven", Exit::Unknown),
        ("nobody to be asked", LIFE, NOBODY, None, None, "good", Exit::Done),
        ("expired", (-DAY, -1), RESPONDER, Some(good), None, "expired", Exit::Bad),
        ("revoked and expired", (-DAY, -1), RESPONDER, Some(bad), None, "revoked", Exit::Bad),
        ("ends soon", (-DAY, 5), RESPONDER, Some(good), None, "good", Exit::Done),
        ("not yet valid", (DAY, 2 * DAY), NOBODY, None, None, "not_yet_valid", Exit::Bad),
    ];
    for (what, life, named, ocsp, list, result, exit) in rows {
        let mut scene = Scene::new();
        let id = scene.with_sources(*life, *named);
        let ocsp = ocsp.map(|status| (OCSP.to_owned(), 200, scene.ocsp(&id, status)));
        let list = list.map(|serials| (LIST.to_owned(), 200, scene.crl(serials)));
        scene.answers.extend(ocsp.into_iter().chain(list));
        let answer = scene.run(&["check", "a.example"]);
        assert_eq!(
            (&answer.json["result"], answer.exit),
            (&(*result).into(), *exit),
            "{what}: {}",
            answer.text
        );
        assert!(
            answer.text.contains(&format!("a.example: {}", result.replace('_', " "))),
            "{what}"
        );
        let asked = usize::from(named.ocsp) + usize::from(named.crl);
        assert_eq!(
            answer.json["certificates"][0]["answers"].as_array().unwrap().len(),
            asked,
            "{what}"
        );
    }
}

#[test]
fn what_is_verified_is_stored_for_all() {
    let mut scene = Scene::new();
    let id = scene.with_sources((-DAY, DAY), BOTH);
    scene.replies = vec![(OCSP.into(), scene.reply(&id, CertStatus::Good))];
    scene.answers = vec![(LIST.into(), 200, scene.crl(&[]))];
    let (keystore, name) = (scene.keystore(), entry("a.example"));
    let before = keystore.changes_end().unwrap();
    let answer = scene.run(&["check", "a.example"]);
    assert_eq!((&answer.json["stored"], answer.notes.len()), (&true.into(), 0));
    let stored = keystore.evidence(&name).unwrap();
    let kinds: Vec<_> = stored.iter().map(|e| (e.source, e.status.clone(), e.checked_at)).collect();
    assert!(kinds.contains(&(Source::Ocsp, Status::Good, NOW)), "{kinds:?}");
    assert!(kinds.contains(&(Source::Crl, Status::Good, NOW)), "{kinds:?}");
    assert!(keystore.ocsp_answer(&name).unwrap().is_some());
    let (changes, _) = keystore.changes_since(before).unwrap();
    assert_eq!(changes, [Change::Evidence(name.clone()), Change::Evidence(name.clone())]);

    // A revocation is never forgotten for a later "good".
    let revoked = CertStatus::Revoked(Time::from_secs(1_900_000_000), Some(1));
    let good = scene.replies[0].clone();
    scene.replies[0].1 = scene.reply(&id, revoked);
    assert_eq!(scene.run(&["check", "a.example"]).json["cause"], "keyCompromise");
    scene.replies[0] = good;
    let answer = scene.run(&["check", "a.example"]);
    assert_eq!((&answer.json["result"], answer.exit), (&"revoked".into(), Exit::Bad));
    assert_eq!(scene.run(&["list"]).json["entries"][0]["state"], "revoked");
}

/// The command does not know `ocsp_nonce`, and the module relies on what is stored.
#[test]
fn what_anybody_could_have_kept_is_told_and_not_stored() {
    let bad = CertStatus::Revoked(fixture::at(-60), Some(1));
    // What is said, whether with our nonce; what is told, and whether it is stored.
    for (status, with_nonce, result, stored) in [
        (CertStatus::Good, true, "good", true),
        (CertStatus::Good, false, "good", false),
        (CertStatus::Unknown, true, "unproven", true),
        (CertStatus::Unknown, false, "unproven", false),
        (bad, true, "revoked", true),
        (bad, false, "revoked", true),
    ] {
        let mut scene = Scene::new();
        let id = scene.with_sources((-DAY, DAY), RESPONDER);
        match with_nonce {
            true => scene.replies = vec![(OCSP.into(), scene.reply(&id, status))],
            false => scene.answers = vec![(OCSP.into(), 200, scene.ocsp(&id, status))],
        }
        let answer = scene.run(&["check", "a.example"]);
        assert_eq!(
            (&answer.json["result"], &answer.json["stored"]),
            (&result.into(), &stored.into())
        );
        let evidence = scene.keystore().evidence(&entry("a.example")).unwrap();
        assert_eq!(evidence.len(), usize::from(stored), "{result} {with_nonce}");
        let staple = scene.keystore().ocsp_answer(&entry("a.example")).unwrap();
        assert_eq!(staple.is_some(), stored && result != "unproven", "{result} {with_nonce}");
    }
}

#[test]
fn what_can_not_be_verified_says_nothing() {
    let mut scene = Scene::new();
    let id = scene.with_sources((-DAY, DAY), RESPONDER);
    let other = fixture::root("CA");
    let forged = Reply::new(&other, Single::good(&id.cert, &scene.ca.cert)).der();
    for (body, cause) in [
        (forged, "bad signature"),
        (status_only(6), "unauthorized"),
        (b"<html>".to_vec(), "not an OCSP response"),
    ] {
        scene.answers = vec![(OCSP.into(), 200, body)];
        let answer = scene.run(&["check", "a.example"]);
        assert_eq!((&answer.json["result"], answer.exit), (&"unproven".into(), Exit::Unknown));
        assert!(answer.text.contains(cause), "{cause}: {}", answer.text);
        assert_eq!(answer.json["stored"], false);
        assert_eq!(scene.keystore().evidence(&entry("a.example")).unwrap(), []);
    }
}

#[test]
fn lost_evidence_is_not_passed_over() {
    for damaged in ["{", "{}", "[1]", "[{}, null]"] {
        let mut scene = Scene::new();
        let id = scene.with_sources((-DAY, DAY), RESPONDER);
        scene.replies = vec![(OCSP.into(), scene.reply(&id, CertStatus::Good))];
        let file = scene.keystore().dir().join("certs/a.example/evidence.json");
        std::fs::write(file, damaged).unwrap();
        let listed = scene.run(&["list"]);
        assert!(listed.notes[0].contains("evidence.json\" is damaged"), "{damaged}");
        let answer = scene.run(&["check", "a.example"]);
        assert_eq!((&answer.json["result"], answer.exit), (&"unproven".into(), Exit::Unknown));
        assert!(answer.notes[0].contains("evidence.json\" is damaged"), "{damaged}");
        // What was found out is stored in its place.
        let answer = scene.run(&["check", "a.example"]);
        assert_eq!((answer.notes.len(), answer.exit), (0, Exit::Done), "{damaged}");
    }
}

/// As in the CA's block: another responder, and who issued a leaf that comes alone.
#[test]
fn options_stand_for_the_configuration() {
    let mut scene = Scene::new();
    let id = scene.with_sources((-DAY, DAY), RESPONDER);
    let body = scene.ocsp(&id, CertStatus::Good);
    scene.answers = vec![("http://other.example/".into(), 200, body.clone())];
    let args = ["check", "a.example", "--ocsp-responder", "http://other.example/"];
    assert_eq!(scene.run(&args).json["result"], "good");
    let list = scene.crl(&[]);
    scene.answers = vec![("http://other.example/l".into(), 200, list)];
    let args = ["check", "a.example", "--crl", "http://other.example/l"];
    assert_eq!(scene.run(&args).json["result"], "good");

    scene.answers = vec![(OCSP.into(), 200, body)];
    let keystore = scene.keystore();
    {
        let lock = keystore.try_lock(&entry("a.example")).unwrap().unwrap();
        keystore.commit(&lock, &id.pem(), &key_of(&id), &Meta::default()).unwrap();
    }
    let answer = scene.run(&["check", "a.example"]);
    assert_eq!(answer.exit, Exit::Unknown);
    assert!(answer.text.contains("--issuer-certificate names a file with it"), "{}", answer.text);
    let anchor = scene.write("ca.pem", &scene.ca.pem());
    let args = ["check", "a.example", "--issuer-certificate", &anchor];
    assert_eq!(scene.run(&args).json["result"], "good");
    // One who did not issue it.
    let other = scene.write("other.pem", &fixture::root("Other").pem());
    let args = ["check", "a.example", "--issuer-certificate", &other];
    assert_eq!(scene.run(&args).exit, Exit::Unknown);
    let (exit, line) = scene.fail(&["check", "a.example", "--issuer-certificate", "/dev/null"]);
    assert_eq!(exit, Exit::Bad);
    assert!(line.contains("is no PEM of certificates"), "{line}");
}

/// Chains come without their root: an intermediate that names a responder can't be asked about
/// where nobody knows its issuer.
#[test]
fn an_intermediate_that_can_not_be_asked_about_is_no_proof() {
    let mut scene = Scene::new();
    let access = seq(&[&seq(&[&oid("1.3.6.1.5.5.7.48.1"), &uri(OCSP)])]);
    let extensions = &[("1.3.6.1.5.5.7.1.1", false, &access[..])];
    let sub = scene.ca.issue(Spec { extensions, serial: 2, ..Spec::ca("Sub") });
    let leaf = sub.issue(Spec { cn: "a.example", names: &["a.example"], ..Spec::default() });
    {
        let keystore = scene.keystore();
        let lock = keystore.try_lock(&entry("a.example")).unwrap().unwrap();
        let chain = [leaf.pem(), sub.pem()].concat();
        keystore.commit(&lock, &chain, &key_of(&leaf), &Meta::default()).unwrap();
    }
    let root = scene.write("root.pem", &scene.ca.pem());
    let good = scene.ocsp(&sub, CertStatus::Good);
    let bad = scene.ocsp(&sub, CertStatus::Revoked(fixture::at(-60), Some(2)));
    for (body, options, result, exit) in [
        (&good, vec![], "unproven", Exit::Unknown),
        (&good, vec!["--issuer-certificate", &root], "good", Exit::Done),
        (&good, vec!["--trusted-certificate", &root], "good", Exit::Done),
        (&bad, vec!["--trusted-certificate", &root], "revoked", Exit::Bad),
    ] {
        scene.answers = vec![(OCSP.into(), 200, body.clone())];
        let answer = scene.run(&[&["check", "a.example"][..], &options].concat());
        assert_eq!(
            (&answer.json["result"], answer.exit),
            (&result.into(), exit),
            "{options:?}: {}",
            answer.text
        );
        let names_option = answer.text.contains("--issuer-certificate names a file with it");
        assert_eq!(names_option, exit == Exit::Unknown, "{}", answer.text);
    }
    let way = |file: &str| {
        let args = ["cert-autofetch", "check", "a.example", "--trusted-certificate", file];
        let Action::Check(args) = Args::try_parse_from(args).unwrap().action else { panic!() };
        args.way().map(|way| way.trusted_certificate)
    };
    assert_eq!(way(&root).unwrap().unwrap(), std::fs::read(&root).unwrap(), "for TLS too");
    assert!(way("/dev/null").is_err());
    let (exit, line) = scene.fail(&["check", "a.example", "--trusted-certificate", "/dev/null"]);
    assert_eq!(exit, Exit::Bad);
    assert!(line.starts_with("--trusted-certificate"), "{line}");
}

#[test]
fn what_clients_refuse_is_bad() {
    let scene = Scene::new();
    let own = fixture::self_signed(Spec { names: &["a.example"], ..Spec::default() });
    scene.put("a.example", &own);
    let answer = scene.run(&["check", "a.example"]);
    assert_eq!((&answer.json["result"], answer.exit), (&"chain".into(), Exit::Bad));
    assert_eq!(answer.json["cause"], "certificate is self-signed");
    drop(scene.keystore().try_lock(&entry("b.example")).unwrap());
    let answer = scene.run(&["check", "b.example"]);
    assert_eq!((&answer.json["result"], answer.exit), (&"missing".into(), Exit::Bad));
    assert_eq!(scene.fail(&["check", "c.example"]).0, Exit::Bad);
}
