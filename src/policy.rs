//! The decision: what one handshake gets, from the time, the certificate, the evidence and the
//! settings. Pure; nothing else in the project decides. The table is that of interface.md.

use std::fmt;
use std::time::Duration;

use crate::bundle::Defect;
use crate::clock::{SKEW, Time};
use crate::evidence::{Evidence, Reason, Status};
use crate::facts::CertFacts;
use crate::settings::{Check, EntrySettings, RenewBefore};

/// All that is known about an entry.
#[derive(Clone, Debug)]
pub struct Standing<'a> {
    pub certificate: Result<&'a CertFacts, &'a Defect>,
    /// The newest answers about this certificate, one a source at most.
    pub evidence: &'a [Evidence],
    /// Whether anybody can be asked: an OCSP responder or CRL is known.
    pub has_source: bool,
    /// When the certificate came into the keystore, where that is known.
    pub stored_at: Option<Time>,
    /// After a failed check: until then it is not tried again.
    pub next_check: Option<Time>,
    /// After a failed issuance: until then it is not tried again.
    pub next_issue: Option<Time>,
}

/// What a handshake gets.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Decision {
    /// The certificate that is there.
    Serve,
    /// Wait for evidence.
    Check,
    /// Wait for a replacement.
    Replace(Badness),
    /// The alert internal_error, before any certificate is sent.
    Refuse(Refusal),
}

/// Why a certificate may not be served, whatever the settings.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Badness {
    Missing,
    Broken(String),
    KeyMismatch,
    Expired,
    /// It lacks the name asked for, an exact name of the entry.
    Names,
    Revoked(Reason),
}

#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Refusal {
    Bad(Badness),
    /// `check hard` and no proof of validity.
    NoProof,
    /// `check hard` and not valid for more than the tolerated skew to come.
    NotYetValid,
}

impl fmt::Display for Badness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Badness::Missing => f.write_str("no certificate yet"),
            Badness::Broken(cause) => write!(f, "it can't be used: {cause}"),
            Badness::KeyMismatch => f.write_str("the key is not that of the certificate"),
            Badness::Expired => f.write_str("it has expired"),
            Badness::Names => f.write_str("it lacks a name"),
            Badness::Revoked(reason) => write!(f, "it is revoked ({})", reason.as_str()),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Bad(badness) => badness.fmt(f),
            Refusal::NoProof => f.write_str("no proof that it is valid"),
            Refusal::NotYetValid => f.write_str("it is not valid yet"),
        }
    }
}

/// Who asks.
#[derive(Clone, Copy, Debug, Default)]
pub struct Asker<'a> {
    /// The server name of the ClientHello in lower case; None: none was sent.
    pub name: Option<&'a str>,
    /// When the query was asked whose answer this handshake has waited for: that answer counts
    /// as fresh for it, and it does not wait again.
    pub waited_for: Option<Time>,
}

/// Decides for one handshake.
pub fn decide(now: Time, standing: &Standing, settings: &EntrySettings, asker: Asker) -> Decision {
    let waited = asker.waited_for.is_some();
    if let Some(badness) = badness(now, standing, settings, asker.name) {
        return match standing.next_issue {
            _ if waited => Decision::Refuse(Refusal::Bad(badness)),
            Some(next) if now < next => Decision::Refuse(Refusal::Bad(badness)),
            _ => Decision::Replace(badness),
        };
    }
    if settings.check == Check::Off {
        return Decision::Serve;
    }
    if standing.certificate.is_ok_and(|c| now + SKEW < c.not_before) {
        return unproven(settings.check, Refusal::NotYetValid);
    }
    if !standing.has_source || has_fresh_proof(now, standing, settings, asker.waited_for) {
        return Decision::Serve;
    }
    match standing.next_check {
        _ if waited => unproven(settings.check, Refusal::NoProof),
        Some(next) if now < next => unproven(settings.check, Refusal::NoProof),
        _ => Decision::Check,
    }
}

/// The earliest moment at which [`decide`] may say anything else than Serve: until then no
/// handshake needs to be looked at.
pub fn due_at(now: Time, standing: &Standing, settings: &EntrySettings) -> Time {
    let Ok(certificate) = standing.certificate else { return now };
    let any_name = settings.names.iter().map(|n| Asker { name: Some(n), waited_for: None });
    if any_name.into_iter().any(|a| decide(now, standing, settings, a) != Decision::Serve) {
        return now;
    }
    let mut due = certificate.not_after;
    if settings.check == Check::Off || !standing.has_source {
        return due;
    }
    let fresh = standing.evidence.iter().filter(|e| e.status == Status::Good);
    let fresh = fresh.filter(|e| is_fresh(e, now, settings.check_interval));
    let fresh_until = fresh.map(|e| e.fresh_until(settings.check_interval)).max();
    match (fresh_until, standing.next_check) {
        (Some(fresh), _) => due = due.min(fresh),
        (None, Some(next)) => due = due.min(next),
        (None, None) => due = now,
    }
    due
}

/// Whether the certificate may not be served at all, and why.
pub fn badness(
    now: Time,
    standing: &Standing,
    settings: &EntrySettings,
    name: Option<&str>,
) -> Option<Badness> {
    let certificate = match standing.certificate {
        Ok(certificate) => certificate,
        Err(Defect::Missing) => return Some(Badness::Missing),
        Err(Defect::Broken(cause)) => return Some(Badness::Broken(cause.clone())),
        Err(Defect::KeyMismatch) => return Some(Badness::KeyMismatch),
    };
    if let Some(reason) = revocation(standing.evidence) {
        return Some(Badness::Revoked(reason));
    }
    if certificate.not_after < now {
        return Some(Badness::Expired);
    }
    let lacks = |n: &&str| settings.names.iter().any(|own| own == n) && !certificate.covers(n);
    name.filter(lacks).map(|_| Badness::Names)
}

/// When the certificate should be renewed for its age alone.
pub fn renew_at(certificate: &CertFacts, before: RenewBefore) -> Time {
    let life = certificate.not_after.since(certificate.not_before);
    let before = match before {
        RenewBefore::Time(d) => d,
        RenewBefore::Percent(p) => life * u32::from(p) / 100,
    };
    certificate.not_after - before.min(life)
}

fn unproven(check: Check, refusal: Refusal) -> Decision {
    match check {
        Check::Hard => Decision::Refuse(refusal),
        Check::Soft | Check::Off => Decision::Serve,
    }
}

/// Revoked in any source is revoked.
fn revocation(evidence: &[Evidence]) -> Option<Reason> {
    evidence.iter().find_map(|e| match e.status {
        Status::Revoked { reason, .. } => Some(reason),
        _ => None,
    })
}

fn has_fresh_proof(
    now: Time,
    standing: &Standing,
    settings: &EntrySettings,
    waited_for: Option<Time>,
) -> bool {
    let good = |e: &&Evidence| e.status == Status::Good;
    let answered = |e: &Evidence| waited_for.is_some_and(|asked| e.checked_at >= asked);
    standing
        .evidence
        .iter()
        .filter(good)
        .filter(|e| e.counts_at(now))
        .any(|e| is_fresh(e, now, settings.check_interval) || answered(e))
}

fn is_fresh(evidence: &Evidence, now: Time, interval: Duration) -> bool {
    evidence.counts_at(now) && now < evidence.fresh_until(interval)
}

/// When evidence is asked for again without a client: at `share` (0.5 to 0.8) of its freshness.
/// None: with `check_interval 0` nothing is refreshed behind.
pub fn refresh_at(evidence: &Evidence, interval: Duration, share: f64) -> Option<Time> {
    if interval.is_zero() {
        return None;
    }
    let life = evidence.fresh_until(interval).since(evidence.checked_at);
    Some(evidence.checked_at + life.mul_f64(share))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::Source;
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

    fn revoked() -> Status {
        Status::Revoked { reason: Reason::Superseded, at: NOW - HOUR }
    }

    /// One case of the table: what is known, and what soft, hard and off say to one that may
    /// still wait, and to one that has waited.
    struct Case {
        what: &'static str,
        certificate: Result<CertFacts, Defect>,
        evidence: Vec<Evidence>,
        has_source: bool,
        next_check: Option<Time>,
        next_issue: Option<Time>,
        want: [Decision; 3],
        waited: [Decision; 3],
    }

    impl Case {
        fn standing(&self) -> Standing<'_> {
            Standing {
                certificate: self.certificate.as_ref(),
                evidence: &self.evidence,
                has_source: self.has_source,
                stored_at: None,
                next_check: self.next_check,
                next_issue: self.next_issue,
            }
        }
    }

    fn case(what: &'static str) -> Case {
        Case {
            what,
            certificate: Ok(certificate()),
            evidence: vec![],
            has_source: true,
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

    fn table() -> Vec<Case> {
        let good = |asked| vec![evidence(Status::Good, asked)];
        let past_next_update = Evidence {
            next_update: Some(NOW - MINUTE),
            ..evidence(Status::Good, NOW - MINUTE * 5)
        };
        let check = [Decision::Check, Decision::Check, Decision::Serve];
        let future = |d| Ok(CertFacts { not_before: NOW + d, ..certificate() });
        let expired = Ok(CertFacts { not_after: NOW - MINUTE, ..certificate() });
        let lacks_a = Ok(CertFacts { names: vec!["b.example".into()], ..certificate() });
        let lacks_b = Ok(CertFacts { names: vec!["a.example".into()], ..certificate() });
        let not_yet = [Decision::Serve, Decision::Refuse(Refusal::NotYetValid), Decision::Serve];
        vec![
            Case { evidence: good(NOW - MINUTE), ..case("fresh good") },
            Case {
                evidence: good(NOW - HOUR),
                want: check.clone(),
                waited: no_proof(),
                ..case("good, as old as the interval")
            },
            Case {
                evidence: vec![past_next_update],
                want: check.clone(),
                waited: no_proof(),
                ..case("good, past nextUpdate")
            },
            Case {
                evidence: good(NOW + HOUR),
                want: check.clone(),
                waited: no_proof(),
                ..case("good, asked before the clock was set back")
            },
            Case { want: check.clone(), waited: no_proof(), ..case("no evidence") },
            Case {
                evidence: vec![evidence(Status::Unknown, NOW - MINUTE)],
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
            Case { has_source: false, ..case("nobody to ask") },
            bad(
                Case { evidence: vec![evidence(revoked(), NOW - HOUR * 99)], ..case("revoked") },
                Badness::Revoked(Reason::Superseded),
            ),
            bad(
                Case {
                    evidence: vec![evidence(Status::Good, NOW), evidence(revoked(), NOW - HOUR)],
                    ..case("good in one source, revoked in the other")
                },
                Badness::Revoked(Reason::Superseded),
            ),
            Case {
                evidence: vec![evidence(revoked(), NOW)],
                next_issue: Some(NOW + MINUTE),
                want: all(Decision::Refuse(Refusal::Bad(Badness::Revoked(Reason::Superseded)))),
                waited: all(Decision::Refuse(Refusal::Bad(Badness::Revoked(Reason::Superseded)))),
                ..case("revoked, next attempt to come")
            },
            bad(Case { certificate: expired, ..case("expired") }, Badness::Expired),
            bad(
                Case { certificate: Err(Defect::Missing), ..case("nothing stored") },
                Badness::Missing,
            ),
            bad(
                Case { certificate: Err(Defect::KeyMismatch), ..case("key of another") },
                Badness::KeyMismatch,
            ),
            bad(
                Case { certificate: Err(Defect::Broken("x".into())), ..case("broken file") },
                Badness::Broken("x".into()),
            ),
            bad(
                Case { certificate: lacks_a, evidence: good(NOW), ..case("lacks the name asked") },
                Badness::Names,
            ),
            Case { certificate: lacks_b, evidence: good(NOW), ..case("lacks another name only") },
            Case {
                certificate: future(MINUTE * 5),
                evidence: good(NOW),
                ..case("not yet valid, by the tolerated skew")
            },
            Case {
                certificate: future(MINUTE * 6),
                evidence: good(NOW),
                want: not_yet.clone(),
                waited: not_yet,
                ..case("not yet valid, by more")
            },
            Case {
                evidence: good(ASKED),
                next_check: Some(NOW + MINUTE),
                ..case("good, and it counts though a check failed since")
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
        let good = Case { evidence: vec![evidence(Status::Good, ASKED)], ..case("good") };
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
        let fresh = Case { evidence: vec![evidence(Status::Good, NOW)], ..case("fresh") };
        let standing = fresh.standing();
        assert_eq!(due_at(NOW, &standing, &settings(Check::Soft)), NOW + HOUR);
        assert_eq!(due_at(NOW, &standing, &settings(Check::Off)), certificate().not_after);
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
}
