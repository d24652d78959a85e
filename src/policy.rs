//! The decision: what one handshake gets, from the time, the certificate, the evidence and the
//! settings. Pure; nothing else in the project decides. The table is that of interface.md.

use std::fmt;
use std::time::Duration;

use crate::bundle::Defect;
use crate::clock::{SKEW, Time};
use crate::evidence::{Evidence, Reason, Source, Status};
use crate::facts::CertFacts;
use crate::settings::{Check, EntrySettings, RenewBefore};

/// All that is known about an entry.
#[derive(Clone, Debug)]
pub struct Standing<'a> {
    pub certificate: Result<&'a CertFacts, &'a Defect>,
    /// The certificates that are checked, leaf first; empty: there is no certificate.
    pub links: &'a [Link],
    /// Until when there is a staple to send; None: there is none.
    pub stapled_until: Option<Time>,
    /// When the CA wants the certificate replaced; None: it does not say.
    pub suggested_at: Option<Time>,
    /// When the certificate came into the keystore, where that is known.
    pub stored_at: Option<Time>,
    /// After a failed check: until then it is not tried again.
    pub next_check: Option<Time>,
    /// After responders that failed where a CRL gave proof: until then they are not asked again.
    pub next_ocsp: Option<Time>,
    /// After a CRL that could not be had: until then it is not fetched again.
    pub next_crl: Option<Time>,
    /// After a failed issuance: until then it is not tried again.
    pub next_issue: Option<Time>,
}

/// One certificate of a chain, and what is known about it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Link {
    /// The newest answers about it, one a source at most.
    pub evidence: Vec<Evidence>,
    /// Who can be asked about it.
    pub has_ocsp: bool,
    pub has_crl: bool,
}

impl Link {
    pub fn has_source(&self) -> bool {
        self.has_ocsp || self.has_crl
    }

    pub fn has(&self, source: Source) -> bool {
        match source {
            Source::Ocsp => self.has_ocsp,
            Source::Crl => self.has_crl,
        }
    }

    /// What it stands and falls with until something newer is known: a hold may be lifted.
    pub fn may_change(&self, now: Time) -> impl Iterator<Item = &Evidence> {
        self.evidence.iter().filter(move |e| match e.status {
            Status::Good => e.counts_at(now),
            Status::Revoked { reason, .. } => reason == Reason::CertificateHold,
            Status::Unknown => false,
        })
    }

    /// Answers that prove it, if they are fresh.
    pub fn good(&self, now: Time) -> impl Iterator<Item = &Evidence> {
        self.evidence.iter().filter(move |e| e.status == Status::Good && e.counts_at(now))
    }

    /// Revoked in any source is revoked.
    fn revocation(&self) -> Option<Reason> {
        self.evidence.iter().find_map(|e| match e.status {
            Status::Revoked { reason, .. } => Some(reason),
            _ => None,
        })
    }

    /// Whether nothing is left to be asked: one fresh proof is enough, from whichever source.
    pub fn is_proven(&self, now: Time, interval: Duration, waited_for: Option<Time>) -> bool {
        let answered = |e: &Evidence| waited_for.is_some_and(|asked| e.checked_at >= asked);
        let proves = |e: &Evidence| now < e.fresh_until(interval) || answered(e);
        !self.has_source() || self.good(now).any(proves)
    }

    /// Until when it is proven, as things stand; None: it is not.
    fn proven_until(&self, now: Time, interval: Duration) -> Option<Time> {
        let until = self.good(now).map(|e| e.fresh_until(interval)).max();
        if self.has_source() { until.filter(|until| now < *until) } else { Some(Time::MAX) }
    }
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
    /// A certificate above it in the chain is.
    IssuerRevoked(Reason),
}

#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Refusal {
    Bad(Badness),
    /// `check hard` and no proof of validity.
    NoProof,
    /// `check hard` and not valid for more than the tolerated skew to come.
    NotYetValid,
}

impl Badness {
    /// Whether a newer answer may take it back (RFC 5280, 5.3.1).
    pub fn may_be_lifted(&self) -> bool {
        let hold = Reason::CertificateHold;
        matches!(self, Badness::Revoked(r) | Badness::IssuerRevoked(r) if *r == hold)
    }
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
            Badness::IssuerRevoked(reason) => {
                write!(f, "its issuer is revoked ({})", reason.as_str())
            }
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
    let is_proven = is_proven(now, standing, settings, asker.waited_for);
    if is_proven && !lacks_staple(now, standing, settings) {
        return Decision::Serve;
    }
    match standing.next_check {
        Some(next) if !waited && next <= now => Decision::Check,
        None if !waited => Decision::Check,
        _ if is_proven => Decision::Serve,
        _ => unproven(settings.check, Refusal::NoProof),
    }
}

/// Whether each certificate of the chain is proven.
pub fn is_proven(
    now: Time,
    standing: &Standing,
    settings: &EntrySettings,
    waited_for: Option<Time>,
) -> bool {
    standing.links.iter().all(|l| l.is_proven(now, settings.check_interval, waited_for))
}

/// Whether clients that obey the certificate (RFC 7633) would refuse it, though there may be a
/// staple to be had.
pub fn lacks_staple(now: Time, standing: &Standing, settings: &EntrySettings) -> bool {
    let must = standing.certificate.is_ok_and(|c| c.must_staple) && settings.stapling;
    let may_have = |leaf: &Link| leaf.has_ocsp && leaf.revocation().is_none();
    let can_be_had = standing.links.first().is_some_and(may_have);
    must && can_be_had && standing.stapled_until.is_none_or(|until| until <= now)
}

/// The earliest moment at which [`decide`] may say anything else than Serve: until then no
/// handshake needs to be looked at.
pub fn due_at(now: Time, standing: &Standing, settings: &EntrySettings) -> Time {
    let Ok(certificate) = standing.certificate else { return now };
    let any_name = settings.exact_names().map(|n| Asker { name: Some(n), waited_for: None });
    if any_name.into_iter().any(|a| decide(now, standing, settings, a) != Decision::Serve) {
        return now;
    }
    let mut due = certificate.not_after;
    if settings.check == Check::Off {
        return due;
    }
    for link in standing.links {
        match (link.proven_until(now, settings.check_interval), standing.next_check) {
            (Some(proven), _) => due = due.min(proven),
            (None, Some(next)) => due = due.min(next),
            (None, None) => due = now,
        }
    }
    match (standing.stapled_until.filter(|until| now < *until), standing.next_check) {
        _ if !(certificate.must_staple && settings.stapling) => due,
        (Some(stapled), _) => due.min(stapled),
        (None, Some(next)) => due.min(next),
        // Nobody can be asked for one.
        (None, None) => due,
    }
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
    let mut links = standing.links.iter().map(Link::revocation);
    if let Some(reason) = links.next().flatten() {
        return Some(Badness::Revoked(reason));
    }
    if let Some(reason) = links.flatten().next() {
        return Some(Badness::IssuerRevoked(reason));
    }
    if certificate.not_after < now {
        return Some(Badness::Expired);
    }
    let lacks = |n: &&str| settings.exact_names().any(|own| own == n) && !certificate.covers(n);
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
mod tests;
