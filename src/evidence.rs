//! Verified evidence: what an OCSP responder or CRL said about one certificate, and what it is worth.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::Time;
use crate::facts::{Fingerprint, Serial};

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

impl Evidence {
    /// The moment from which this answer is relied on no longer.
    pub fn fresh_until(&self, check_interval: Duration) -> Time {
        let by_age = self.checked_at + check_interval;
        self.next_update.map_or(by_age, |next| by_age.min(next))
    }

    pub fn is_revoked(&self) -> bool {
        matches!(self.status, Status::Revoked { .. })
    }

    /// Which of two answers about one certificate from one source stands: revoked beats good of
    /// any age, unless the revocation was a hold that a newer answer lifts; else the newer one.
    /// An unknown says nothing: it never replaces an answer that says something.
    pub fn newest(old: Evidence, new: Evidence) -> Evidence {
        let newer = (new.this_update, new.checked_at) >= (old.this_update, old.checked_at);
        match (&old.status, &new.status) {
            (Status::Unknown, _) => new,
            (_, Status::Unknown) => old,
            (Status::Revoked { reason: Reason::CertificateHold, .. }, _) if newer => new,
            (Status::Revoked { reason: Reason::CertificateHold, .. }, Status::Good) => old,
            (Status::Revoked { .. }, Status::Good) => old,
            (Status::Good, Status::Revoked { reason: Reason::CertificateHold, .. }) if !newer => {
                old
            }
            (Status::Good, Status::Revoked { .. }) => new,
            _ if newer => new,
            _ => old,
        }
    }
}
