//! When a CA wants a certificate renewed: ACME renewal information (RFC 9773). It says nothing
//! about validity: a window that is over means "soon", not "revoked".

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::{SKEW, Time};
use crate::facts::Fingerprint;

/// A CA's answer about one certificate.
#[derive(Clone, Debug, PartialEq)]
pub struct RenewalInfo {
    pub window: Window,
    /// A page for people, why it is to be renewed then.
    pub explanation: Option<String>,
    /// When to ask again.
    pub retry_after: Duration,
}

/// `suggestedWindow`; it ends after its start.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Window {
    pub start: Time,
    pub end: Time,
}

impl Window {
    /// The moment that lies this far into the window, 0 to 1: certificates that were issued
    /// together are to be renewed apart (section 4.2).
    pub fn moment(&self, share: f64) -> Time {
        self.start + self.end.since(self.start).mul_f64(share)
    }
}

/// What is known about one certificate, as it lies in the keystore.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Renewal {
    pub certificate: Fingerprint,
    /// None: the CA has not told, or does not offer it.
    pub window: Option<Window>,
    pub asked_at: Time,
    /// When the CA is asked again.
    pub next: Time,
    /// So many attempts in a row brought no answer.
    pub failures: u32,
}

impl Renewal {
    /// When the CA is to be asked. What was noted by a clock that was set back since is not waited
    /// for.
    pub fn ask_at(&self, now: Time) -> Time {
        if self.asked_at > now + SKEW { now } else { self.next }
    }
}
