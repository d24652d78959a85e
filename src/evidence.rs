//! Verified evidence: what an OCSP responder or CRL said about one certificate, and what it is worth.

pub mod chain;
pub mod crl;
pub mod ocsp;
pub mod roots;

use std::cmp::Ordering;
use std::fmt;
use std::time::Duration;

use openssl::nid::Nid;
use serde::{Deserialize, Serialize};

use crate::clock::{SKEW, Time};
use crate::facts::{Fingerprint, Serial};
use crate::report::printable;

/// One verified answer about one certificate. Unverified answers never become a value of this type.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// The certificate it is about.
    pub certificate: Fingerprint,
    pub serial: Serial,
    pub source: Source,
    pub status: Status,
    pub this_update: Time,
    pub next_update: Option<Time>,
    /// When it was asked for.
    pub checked_at: Time,
    /// URL of the responder or CRL.
    pub responder: String,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    Ocsp,
    Crl,
}

#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    Good,
    Revoked { reason: Reason, at: Time },
    Unknown,
}

impl Source {
    pub fn as_str(self) -> &'static str {
        match self {
            Source::Ocsp => "ocsp",
            Source::Crl => "crl",
        }
    }
}

impl Status {
    /// Without what belongs to it.
    pub fn as_str(&self) -> &'static str {
        match self {
            Status::Good => "good",
            Status::Revoked { .. } => "revoked",
            Status::Unknown => "unknown",
        }
    }
}

/// CRLReason (RFC 5280, 5.3.1) under its own names.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Reason {
    Unspecified,
    KeyCompromise,
    #[serde(rename = "cACompromise")]
    CaCompromise,
    AffiliationChanged,
    Superseded,
    CessationOfOperation,
    CertificateHold,
    RemoveFromCRL,
    PrivilegeWithdrawn,
    #[serde(rename = "aACompromise")]
    AaCompromise,
}

impl Reason {
    /// From the code in an answer; None and unassigned codes are `unspecified`.
    pub fn from_code(code: Option<i32>) -> Reason {
        match code {
            Some(1) => Reason::KeyCompromise,
            Some(2) => Reason::CaCompromise,
            Some(3) => Reason::AffiliationChanged,
            Some(4) => Reason::Superseded,
            Some(5) => Reason::CessationOfOperation,
            Some(6) => Reason::CertificateHold,
            Some(8) => Reason::RemoveFromCRL,
            Some(9) => Reason::PrivilegeWithdrawn,
            Some(10) => Reason::AaCompromise,
            _ => Reason::Unspecified,
        }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Reason::Unspecified => "unspecified",
            Reason::KeyCompromise => "keyCompromise",
            Reason::CaCompromise => "cACompromise",
            Reason::AffiliationChanged => "affiliationChanged",
            Reason::Superseded => "superseded",
            Reason::CessationOfOperation => "cessationOfOperation",
            Reason::CertificateHold => "certificateHold",
            Reason::RemoveFromCRL => "removeFromCRL",
            Reason::PrivilegeWithdrawn => "privilegeWithdrawn",
            Reason::AaCompromise => "aACompromise",
        }
    }
}

/// Digests with which somebody else can make the same signature fit other contents. SHA-1 stays:
/// old private CAs have no other, and its collisions need a signer that signs what an attacker
/// chose, with no nonce or serial in front.
fn weak_digest(digest: Nid) -> Option<&'static str> {
    match digest {
        Nid::MD5 => Some("MD5"),
        Nid::MD4 => Some("MD4"),
        Nid::MD2 => Some("MD2"),
        _ => None,
    }
}

/// How long somebody who was asked may ask to be left alone: nobody has signed that wish.
fn bounded(wish: Duration) -> Duration {
    wish.clamp(Duration::from_secs(1), Duration::from_secs(3600))
}

/// The CAUSE of a log line. Either part may quote the network; neither may push the other out of
/// the line.
fn cause(source: &str, fault: &dyn fmt::Display, url: &str) -> String {
    let part = |text: &str| printable(text).chars().take(250).collect::<String>();
    format!("{source}: {}, source={}", part(&fault.to_string()), part(url))
}

impl Evidence {
    /// The moment from which this answer is relied on no longer.
    pub fn fresh_until(&self, check_interval: Duration) -> Time {
        let by_age = self.checked_at + check_interval;
        self.next_update.map_or(by_age, |next| by_age.min(next))
    }

    /// Whether it is there at all: one of the future was asked for before the clock was set back,
    /// and nobody knows how long ago that is. A revocation stands all the same.
    pub fn counts_at(&self, now: Time) -> bool {
        self.is_revoked() || self.checked_at <= now + SKEW
    }

    pub fn is_revoked(&self) -> bool {
        matches!(self.status, Status::Revoked { .. })
    }

    /// Which of two answers about one certificate from one source stands, in whatever order they
    /// became known: several workers and hosts merge what they learn.
    ///
    /// A revocation beats any good or unknown of any age. A hold may be lifted (RFC 5280,
    /// 5.3.1): between it and a good the newer one stands, as between two of a kind. An unknown
    /// says nothing: it never replaces an answer that says something.
    ///
    /// Of two goods the newer stands, asked for when the later one was: behind one URL there may
    /// be several responders of which one lags, and what it says is current and good as well.
    ///
    /// What does not count at `now` never stands in the way of what does.
    pub fn newest(old: Evidence, new: Evidence, now: Time) -> Evidence {
        if old.counts_at(now) != new.counts_at(now) {
            return if old.counts_at(now) { old } else { new };
        }
        let both_good = old.status == Status::Good && new.status == Status::Good;
        let asked = old.checked_at.max(new.checked_at);
        let stands = Evidence::that_stands(old, new);
        if both_good { Evidence { checked_at: asked, ..stands } } else { stands }
    }

    fn that_stands(old: Evidence, new: Evidence) -> Evidence {
        let age = |e: &Evidence| (e.this_update, e.checked_at);
        let newer = match age(&new).cmp(&age(&old)) {
            Ordering::Less => false,
            Ordering::Greater => true,
            // At one moment: the careful one, whichever came first.
            Ordering::Equal => new.is_revoked() || !old.is_revoked(),
        };
        match new.weight().cmp(&old.weight()) {
            Ordering::Less => old,
            Ordering::Greater => new,
            Ordering::Equal if newer => new,
            Ordering::Equal => old,
        }
    }

    fn weight(&self) -> u8 {
        match self.status {
            Status::Unknown => 0,
            Status::Good | Status::Revoked { reason: Reason::CertificateHold, .. } => 1,
            Status::Revoked { .. } => 2,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Time = Time::from_secs(1000);

    /// thisUpdate and checked_at in seconds.
    fn evidence(status: &Status, this_update: i64, checked_at: i64) -> Evidence {
        Evidence {
            certificate: Fingerprint("f".into()),
            serial: Serial("01".into()),
            source: Source::Ocsp,
            status: status.clone(),
            this_update: Time::from_secs(this_update),
            next_update: None,
            checked_at: Time::from_secs(checked_at),
            responder: "http://ocsp.example".into(),
        }
    }

    fn revoked(reason: Reason) -> Status {
        Status::Revoked { reason, at: Time::from_secs(1) }
    }

    #[test]
    fn which_answer_stands() {
        let (good, unknown) = (Status::Good, Status::Unknown);
        let (hold, gone) = (revoked(Reason::CertificateHold), revoked(Reason::KeyCompromise));
        let other = revoked(Reason::Superseded);
        // The winner first: status, thisUpdate, checked_at.
        let table = [
            ((&good, 20, 20), (&good, 10, 10)),
            ((&good, 10, 30), (&good, 10, 20)), // same answer, asked for again
            ((&gone, 10, 10), (&good, 20, 20)), // of any age
            ((&gone, 20, 20), (&good, 10, 10)),
            ((&gone, 10, 10), (&hold, 20, 20)), // a hold can't soften what is final
            ((&gone, 20, 20), (&hold, 10, 10)),
            ((&gone, 20, 20), (&other, 10, 10)),
            ((&gone, 10, 10), (&unknown, 20, 20)),
            ((&good, 20, 20), (&hold, 10, 10)), // lifted
            ((&good, 10, 30), (&hold, 10, 20)), // lifted within one thisUpdate
            ((&hold, 20, 20), (&good, 10, 10)),
            ((&hold, 10, 10), (&good, 10, 10)), // careful
            ((&hold, 20, 20), (&hold, 10, 10)),
            ((&hold, 10, 10), (&unknown, 20, 20)),
            ((&good, 10, 10), (&unknown, 20, 20)),
            ((&unknown, 20, 20), (&unknown, 10, 10)),
        ];
        for (winner, loser) in table {
            let winner = evidence(winner.0, winner.1, winner.2);
            let loser = evidence(loser.0, loser.1, loser.2);
            for (old, new) in [(&winner, &loser), (&loser, &winner)] {
                let stands = Evidence::newest(old.clone(), new.clone(), NOW);
                assert_eq!(stands, winner, "old {old:?} new {new:?}");
            }
        }
    }

    #[test]
    fn a_lagging_responder_is_proof_too() {
        let good = |this_update, checked_at| evidence(&Status::Good, this_update, checked_at);
        for (old, new) in [(good(20, 20), good(10, 30)), (good(10, 30), good(20, 20))] {
            assert_eq!(Evidence::newest(old, new, NOW), good(20, 30));
        }
        // But it lifts no hold that is newer.
        let hold = evidence(&revoked(Reason::CertificateHold), 20, 20);
        assert_eq!(Evidence::newest(hold.clone(), good(10, 30), NOW), hold);
    }

    #[test]
    fn answers_of_the_future_are_nobodys_proof() {
        let far = NOW.secs() + 301;
        let (good, gone) = (Status::Good, revoked(Reason::KeyCompromise));
        let hold = revoked(Reason::CertificateHold);
        // The winner first.
        for (winner, loser) in [
            ((&good, 10), (&good, far)),
            ((&Status::Unknown, 10), (&good, far)),
            ((&hold, 10), (&good, far)),
            ((&gone, far), (&good, 10)),
            ((&good, far - 1), (&good, 10)), // within the skew
        ] {
            let winner = evidence(winner.0, winner.1, winner.1);
            let loser = evidence(loser.0, loser.1, loser.1);
            for (old, new) in [(&winner, &loser), (&loser, &winner)] {
                assert_eq!(Evidence::newest(old.clone(), new.clone(), NOW), winner, "{loser:?}");
            }
        }
    }

    #[test]
    fn fresh_until_the_first_of_two() {
        // checked_at, nextUpdate, interval, fresh until
        let table = [
            (100, None, 60, 160),
            (100, Some(500), 60, 160),
            (100, Some(130), 60, 130),
            (100, Some(90), 60, 90), // accepted within the skew: fresh for nobody
            (100, None, 0, 100),
        ];
        for (checked_at, next_update, interval, expected) in table {
            let mut evidence = evidence(&Status::Good, 50, checked_at);
            evidence.next_update = next_update.map(Time::from_secs);
            let until = evidence.fresh_until(Duration::from_secs(interval));
            assert_eq!(until, Time::from_secs(expected));
        }
    }

    #[test]
    fn reasons_have_the_names_of_rfc_5280() {
        let table = [
            (None, "unspecified"),
            (Some(0), "unspecified"),
            (Some(1), "keyCompromise"),
            (Some(2), "cACompromise"),
            (Some(3), "affiliationChanged"),
            (Some(4), "superseded"),
            (Some(5), "cessationOfOperation"),
            (Some(6), "certificateHold"),
            (Some(7), "unspecified"),
            (Some(8), "removeFromCRL"),
            (Some(9), "privilegeWithdrawn"),
            (Some(10), "aACompromise"),
            (Some(11), "unspecified"),
            (Some(-1), "unspecified"),
        ];
        for (code, name) in table {
            let reason = Reason::from_code(code);
            assert_eq!(reason.as_str(), name);
            assert_eq!(serde_json::to_string(&reason).unwrap(), format!("\"{name}\""));
        }
    }
}
