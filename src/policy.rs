//! The decision: what one handshake gets, from the time, the certificate, the evidence and the
//! settings. Pure; nothing else in the project decides. The table is that of interface.md.

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
    match (fresh_until(standing, settings).filter(|t| now < *t), standing.next_check) {
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
        .any(|e| now < e.fresh_until(settings.check_interval) || answered(e))
}

fn fresh_until(standing: &Standing, settings: &EntrySettings) -> Option<Time> {
    let good = standing.evidence.iter().filter(|e| e.status == Status::Good);
    good.map(|e| e.fresh_until(settings.check_interval)).max()
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
