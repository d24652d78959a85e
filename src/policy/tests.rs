use super::*;
use crate::facts::{Fingerprint, Serial};
use crate::settings::{EntryName, KeyType};

const NOW: Time = Time::from_secs(1_000_000);
const HOUR: Duration = Duration::from_secs(3600);
const MINUTE: Duration = Duration::from_secs(60);

fn settings(check: Check) -> EntrySettings {
    EntrySettings {
        name: EntryName::new("a.example").unwrap(),
        names: vec!["a.example".into(), "b.example".into()],
        cas: vec!["corp".into()],
        check,
        check_interval: HOUR,
        timeout: Duration::from_secs(10),
        renew_before: RenewBefore::default(),
        key: KeyType::default(),
        stapling: true,
        must_staple: false,
    }
}

fn certificate() -> CertFacts {
    CertFacts {
        fingerprint: Fingerprint("f".into()),
        serial: Serial("01".into()),
        not_before: NOW - HOUR * 24,
        not_after: NOW + HOUR * 24,
        names: vec!["a.example".into(), "b.example".into()],
        issuer: String::new(),
        ocsp_urls: vec![],
        crl_urls: vec![],
        must_staple: false,
    }
}

fn evidence(status: Status, asked: Time) -> Evidence {
    Evidence {
        certificate: Fingerprint("f".into()),
        serial: Serial("01".into()),
        source: Source::Ocsp,
        status,
        this_update: asked,
        next_update: None,
        checked_at: asked,
        responder: String::new(),
    }
}

/// A chain of one, about which an OCSP responder can be asked.
fn leaf(evidence: Vec<Evidence>) -> Vec<Link> {
    vec![Link { evidence, has_ocsp: true, has_crl: false }]
}

/// With an issuer whose CRL is known.
fn chain(about_leaf: Vec<Evidence>, about_issuer: Vec<Evidence>) -> Vec<Link> {
    let issuer = Link { evidence: about_issuer, has_ocsp: false, has_crl: true };
    [leaf(about_leaf), vec![issuer]].concat()
}

fn revoked() -> Status {
    Status::Revoked { reason: Reason::Superseded, at: NOW - HOUR }
}

/// One case of the table: what is known, and what soft, hard and off say to one that may
/// still wait, and to one that has waited.
struct Case {
    what: &'static str,
    certificate: Result<CertFacts, Defect>,
    links: Vec<Link>,
    stapled_until: Option<Time>,
    next_check: Option<Time>,
    next_issue: Option<Time>,
    want: [Decision; 3],
    waited: [Decision; 3],
}

impl Case {
    fn standing(&self) -> Standing<'_> {
        Standing {
            certificate: self.certificate.as_ref(),
            links: &self.links,
            stapled_until: self.stapled_until,
            suggested_at: None,
            stored_at: None,
            next_check: self.next_check,
            next_ocsp: None,
            next_crl: None,
            next_issue: self.next_issue,
        }
    }
}

fn case(what: &'static str) -> Case {
    Case {
        what,
        certificate: Ok(certificate()),
        links: leaf(vec![]),
        stapled_until: None,
        next_check: None,
        next_issue: None,
        want: all(Decision::Serve),
        waited: all(Decision::Serve),
    }
}

fn all(decision: Decision) -> [Decision; 3] {
    [decision.clone(), decision.clone(), decision]
}

const ASKED: Time = Time::from_secs(1_000_000 - 5);

fn bad(case: Case, badness: Badness) -> Case {
    Case {
        want: all(Decision::Replace(badness.clone())),
        waited: all(Decision::Refuse(Refusal::Bad(badness))),
        ..case
    }
}

fn no_proof() -> [Decision; 3] {
    [Decision::Serve, Decision::Refuse(Refusal::NoProof), Decision::Serve]
}

fn must_staple() -> Result<CertFacts, Defect> {
    Ok(CertFacts { must_staple: true, ..certificate() })
}

fn table() -> Vec<Case> {
    let good = |asked| vec![evidence(Status::Good, asked)];
    let past_next_update =
        Evidence { next_update: Some(NOW - MINUTE), ..evidence(Status::Good, NOW - MINUTE * 5) };
    let check = [Decision::Check, Decision::Check, Decision::Serve];
    let future = |d| Ok(CertFacts { not_before: NOW + d, ..certificate() });
    let expired = Ok(CertFacts { not_after: NOW - MINUTE, ..certificate() });
    let lacks_a = Ok(CertFacts { names: vec!["b.example".into()], ..certificate() });
    let lacks_b = Ok(CertFacts { names: vec!["a.example".into()], ..certificate() });
    let not_yet = [Decision::Serve, Decision::Refuse(Refusal::NotYetValid), Decision::Serve];
    vec![
        Case { links: leaf(good(NOW - MINUTE)), ..case("fresh good") },
        Case {
            links: leaf(good(NOW - HOUR)),
            want: check.clone(),
            waited: no_proof(),
            ..case("good, as old as the interval")
        },
        Case {
            links: leaf(vec![past_next_update]),
            want: check.clone(),
            waited: no_proof(),
            ..case("good, past nextUpdate")
        },
        Case {
            links: leaf(good(NOW + HOUR)),
            want: check.clone(),
            waited: no_proof(),
            ..case("good, asked before the clock was set back")
        },
        Case { want: check.clone(), waited: no_proof(), ..case("no evidence") },
        Case {
            links: leaf(vec![evidence(Status::Unknown, NOW - MINUTE)]),
            want: check.clone(),
            waited: no_proof(),
            ..case("unknown")
        },
        Case {
            next_check: Some(NOW + MINUTE),
            want: no_proof(),
            waited: no_proof(),
            ..case("no evidence, next attempt to come")
        },
        Case {
            next_check: Some(NOW),
            want: check.clone(),
            waited: no_proof(),
            ..case("no evidence, next attempt due")
        },
        Case { links: vec![Link::default()], ..case("nobody to ask") },
        bad(
            Case { links: leaf(vec![evidence(revoked(), NOW - HOUR * 99)]), ..case("revoked") },
            Badness::Revoked(Reason::Superseded),
        ),
        bad(
            Case {
                links: leaf(vec![evidence(Status::Good, NOW), evidence(revoked(), NOW - HOUR)]),
                ..case("good in one source, revoked in the other")
            },
            Badness::Revoked(Reason::Superseded),
        ),
        Case {
            links: leaf(vec![evidence(revoked(), NOW)]),
            next_issue: Some(NOW + MINUTE),
            want: all(Decision::Refuse(Refusal::Bad(Badness::Revoked(Reason::Superseded)))),
            waited: all(Decision::Refuse(Refusal::Bad(Badness::Revoked(Reason::Superseded)))),
            ..case("revoked, next attempt to come")
        },
        bad(Case { certificate: expired, ..case("expired") }, Badness::Expired),
        bad(Case { certificate: Err(Defect::Missing), ..case("nothing stored") }, Badness::Missing),
        bad(
            Case { certificate: Err(Defect::KeyMismatch), ..case("key of another") },
            Badness::KeyMismatch,
        ),
        bad(
            Case { certificate: Err(Defect::Broken("x".into())), ..case("broken file") },
            Badness::Broken("x".into()),
        ),
        bad(
            Case { certificate: lacks_a, links: leaf(good(NOW)), ..case("lacks the name asked") },
            Badness::Names,
        ),
        Case { certificate: lacks_b, links: leaf(good(NOW)), ..case("lacks another name only") },
        Case {
            certificate: future(MINUTE * 5),
            links: leaf(good(NOW)),
            ..case("not yet valid, by the tolerated skew")
        },
        Case {
            certificate: future(MINUTE * 6),
            links: leaf(good(NOW)),
            want: not_yet.clone(),
            waited: not_yet,
            ..case("not yet valid, by more")
        },
        Case {
            links: leaf(good(ASKED)),
            next_check: Some(NOW + MINUTE),
            ..case("good, and it counts though a check failed since")
        },
        Case { links: chain(good(NOW), good(NOW - MINUTE)), ..case("leaf and issuer fresh good") },
        Case {
            links: chain(good(NOW), vec![]),
            want: check.clone(),
            waited: no_proof(),
            ..case("nothing known about the issuer")
        },
        Case {
            links: chain(vec![], good(NOW)),
            want: check.clone(),
            waited: no_proof(),
            ..case("the issuer's proof is not the leaf's")
        },
        Case {
            links: [leaf(good(NOW)), vec![Link::default()]].concat(),
            ..case("nobody to ask about the issuer")
        },
        bad(
            Case {
                links: chain(good(NOW), vec![evidence(revoked(), NOW - HOUR)]),
                ..case("issuer revoked")
            },
            Badness::IssuerRevoked(Reason::Superseded),
        ),
        bad(
            Case {
                links: chain(vec![evidence(revoked(), NOW)], vec![evidence(revoked(), NOW)]),
                ..case("both revoked")
            },
            Badness::Revoked(Reason::Superseded),
        ),
        Case {
            certificate: must_staple(),
            links: leaf(good(NOW)),
            stapled_until: Some(NOW + MINUTE),
            ..case("must-staple, with a staple")
        },
        Case {
            certificate: must_staple(),
            links: leaf(good(NOW)),
            want: check.clone(),
            ..case("must-staple, none there")
        },
        Case {
            certificate: must_staple(),
            links: leaf(good(NOW)),
            stapled_until: Some(NOW),
            want: check.clone(),
            ..case("must-staple, over")
        },
        Case {
            certificate: must_staple(),
            links: leaf(good(NOW)),
            next_check: Some(NOW + MINUTE),
            ..case("must-staple, none to be had before the next attempt")
        },
        Case {
            certificate: must_staple(),
            links: vec![Link { evidence: good(NOW), has_ocsp: false, has_crl: true }],
            ..case("must-staple, and nobody who makes staples")
        },
    ]
}

#[test]
fn decisions() {
    for case in table() {
        let standing = case.standing();
        for (i, check) in [Check::Soft, Check::Hard, Check::Off].into_iter().enumerate() {
            let settings = settings(check);
            let name = Some("a.example");
            let asker = Asker { name, waited_for: None };
            let got = decide(NOW, &standing, &settings, asker);
            assert_eq!(got, case.want[i], "{} {check:?}", case.what);
            let waited = Asker { name, waited_for: Some(Time::MAX) };
            let got = decide(NOW, &standing, &settings, waited);
            assert_eq!(got, case.waited[i], "{} {check:?}, waited", case.what);
        }
    }
}

/// With `check_interval 0` no answer is ever fresh, but the one that was waited for counts.
#[test]
fn the_answer_waited_for_counts() {
    let settings = EntrySettings { check_interval: Duration::ZERO, ..settings(Check::Hard) };
    let good = Case { links: leaf(vec![evidence(Status::Good, ASKED)]), ..case("good") };
    let standing = good.standing();
    for (waited_for, want) in [
        (None, Decision::Check),
        (Some(ASKED), Decision::Serve),
        (Some(ASKED + MINUTE), Decision::Refuse(Refusal::NoProof)),
    ] {
        let asker = Asker { name: None, waited_for };
        assert_eq!(decide(NOW, &standing, &settings, asker), want, "{waited_for:?}");
    }
    // But not when it was asked for before the clock was set back.
    let asker = Asker { name: None, waited_for: Some(NOW - HOUR) };
    let got = decide(NOW - HOUR, &standing, &settings, asker);
    assert_eq!(got, Decision::Refuse(Refusal::NoProof));
}

/// Until due_at() nobody needs to be asked: decide() says Serve for every name till then.
#[test]
fn due() {
    for case in table() {
        let standing = case.standing();
        for check in [Check::Soft, Check::Hard, Check::Off] {
            let settings = settings(check);
            let due = due_at(NOW, &standing, &settings);
            let just_before = due - Duration::from_millis(1);
            for now in [NOW, NOW + MINUTE, just_before] {
                if NOW <= now && now < due {
                    for name in &settings.names {
                        let asker = Asker { name: Some(name), waited_for: None };
                        let got = decide(now, &standing, &settings, asker);
                        assert_eq!(got, Decision::Serve, "{} {check:?} {now}", case.what);
                    }
                }
            }
        }
    }
    let fresh = Case { links: leaf(vec![evidence(Status::Good, NOW)]), ..case("fresh") };
    let standing = fresh.standing();
    assert_eq!(due_at(NOW, &standing, &settings(Check::Soft)), NOW + HOUR);
    assert_eq!(due_at(NOW, &standing, &settings(Check::Off)), certificate().not_after);
}

/// A wildcard is no name that anybody asks for; whom it stands for gets what there is.
#[test]
fn a_wildcard_that_is_lacking_is_bad_for_nobody() {
    let good = leaf(vec![evidence(Status::Good, NOW)]);
    let case = Case { links: good, ..case("lacks a wildcard") };
    let standing = case.standing();
    let names = |names: &[&str]| names.iter().map(|n| n.to_string()).collect();
    for (own, asked, bad) in [
        (names(&["a.example", "*.example"]), "x.example", false),
        (names(&["a.example", "*.example"]), "*.example", false),
        (names(&["a.example", "x.example"]), "x.example", true),
        (names(&["a.example", "192.0.2.1"]), "192.0.2.1", true),
    ] {
        let settings = EntrySettings { names: own, ..settings(Check::Soft) };
        let badness = badness(NOW, &standing, &settings, Some(asked));
        assert_eq!(badness, bad.then_some(Badness::Names), "{asked}");
        assert_eq!(due_at(NOW, &standing, &settings) > NOW, !bad, "{asked}");
    }
}

#[test]
fn renewal() {
    let certificate = certificate();
    for (before, want) in [
        (RenewBefore::Percent(25), certificate.not_after - HOUR * 12),
        (RenewBefore::Time(HOUR), certificate.not_after - HOUR),
        (RenewBefore::Time(HOUR * 999), certificate.not_before),
    ] {
        assert_eq!(renew_at(&certificate, before), want, "{before:?}");
    }
}

#[test]
fn refresh() {
    let answer = evidence(Status::Good, NOW);
    assert_eq!(refresh_at(&answer, HOUR, 0.5), Some(NOW + MINUTE * 30));
    assert_eq!(refresh_at(&answer, Duration::ZERO, 0.5), None);
    let short = Evidence { next_update: Some(NOW + MINUTE * 10), ..answer };
    assert_eq!(refresh_at(&short, HOUR, 0.8), Some(NOW + MINUTE * 8));
}
