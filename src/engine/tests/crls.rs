//! CRLs that say what the test wants.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::clock::{Clock, FakeClock, Time};
use crate::engine::{Crls, Inquiry, Listing, NoAnswer};
use crate::evidence::{Evidence, Reason, Source, Status};
use crate::facts::Serial;

/// What the CRL says about a certificate.
#[derive(Clone, Debug)]
pub enum Lists {
    Not,
    As(Reason),
    /// There is no CRL to be had.
    Nothing,
    /// Somebody else is fetching it.
    Busy,
}

pub struct FakeCrls {
    clock: Arc<FakeClock>,
    script: Mutex<BTreeMap<String, VecDeque<Lists>>>,
    looked: Mutex<Vec<(Serial, Time)>>,
    copy: Mutex<Option<Time>>,
    /// How long the last look-up might have taken.
    pub patience: Mutex<Duration>,
}

impl FakeCrls {
    pub fn new(clock: Arc<FakeClock>) -> FakeCrls {
        FakeCrls {
            clock,
            script: Mutex::default(),
            looked: Mutex::default(),
            copy: Mutex::default(),
            patience: Mutex::default(),
        }
    }

    /// The last is repeated. Of what nothing is said is not listed.
    pub fn say(&self, serial: &Serial, says: &[Lists]) {
        let says = says.iter().cloned().collect();
        self.script.lock().unwrap().insert(serial.0.clone(), says);
    }

    /// There is a copy that was asked for then: it is what those get for whom it is good enough.
    pub fn copy_of(&self, asked: Time) {
        *self.copy.lock().unwrap() = Some(asked);
    }

    /// What was looked up since the last call, and how old a copy would have been good enough.
    pub fn looked_up(&self) -> Vec<(Serial, Time)> {
        std::mem::take(&mut *self.looked.lock().unwrap())
    }

    pub fn serials(&self) -> Vec<Serial> {
        self.looked_up().into_iter().map(|(serial, _)| serial).collect()
    }
}

impl Crls for FakeCrls {
    fn look_up(&self, inquiry: &Inquiry, asked_since: Time) -> Result<Option<Listing>, NoAnswer> {
        let serial = inquiry.facts.serial.clone();
        assert!(crate::evidence::chain::issued_by(inquiry.certificate, inquiry.issuer));
        let says = {
            let mut script = self.script.lock().unwrap();
            let says = script.entry(serial.0.clone()).or_default();
            if says.len() > 1 { says.pop_front() } else { says.front().cloned() }
        };
        *self.patience.lock().unwrap() = inquiry.timeout;
        let asked = self.clock.now();
        let status = match says.unwrap_or(Lists::Not) {
            Lists::Busy => return Ok(None),
            Lists::Not => Status::Good,
            Lists::As(reason) => Status::Revoked { reason, at: asked },
            Lists::Nothing => {
                self.looked.lock().unwrap().push((serial, asked_since));
                let cause = format!("crl: HTTP status 404 to GET, source={}", inquiry.url);
                return Err(NoAnswer { cause, retry_after: None });
            }
        };
        self.looked.lock().unwrap().push((serial.clone(), asked_since));
        let copy = self.copy.lock().unwrap().filter(|asked| *asked >= asked_since);
        let asked = copy.unwrap_or(asked);
        let evidence = Evidence {
            certificate: inquiry.facts.fingerprint.clone(),
            serial,
            source: Source::Crl,
            status,
            this_update: asked,
            next_update: None,
            checked_at: asked,
            responder: inquiry.url.to_owned(),
        };
        Ok(Some(Listing { evidence, fetched: true }))
    }
}
