//! An entry as the keystore has it, and what that is worth without asking anybody.

use std::fmt;

use openssl::x509::X509;

use super::World;
use super::answer::{Exit, Failure};
use crate::bundle::{Bundle, Defect};
use crate::clock::{SKEW, Time};
use crate::evidence::{Evidence, Reason, Status};
use crate::facts::{CertFacts, Fingerprint};
use crate::keystore::{Keystore, KeystoreError, Loaded};
use crate::report::printable;
use crate::settings::EntryName;

pub struct Entry {
    pub name: EntryName,
    pub loaded: Loaded,
    /// Also about certificates that were replaced.
    pub evidence: Vec<Evidence>,
    /// Why the stored evidence can't be read, if it can't.
    pub lost_evidence: Option<String>,
    /// What could not be read, and does not stand in the way.
    pub notes: Vec<String>,
}

/// What an entry is worth, worst first where several are true.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum State {
    Missing,
    Broken(String),
    /// By stored evidence; of the leaf or of one above it.
    Revoked(Reason),
    Expired(Time),
    NotYetValid(Time),
    /// It lacks the name of its entry.
    WrongName(String),
    Valid,
}

impl Entry {
    /// Reads an entry; one that the keystore does not have is a bad answer.
    pub fn find(world: &World, name: &EntryName) -> Result<Entry, Failure> {
        Entry::expect(world, name)?;
        Ok(Entry::read(&world.keystore, name)?)
    }

    /// That the keystore has it. Nothing of it is read.
    pub fn expect(world: &World, name: &EntryName) -> Result<(), Failure> {
        if world.keystore.entries()?.contains(name) {
            return Ok(());
        }
        let dir = world.keystore.dir().display();
        Err(Failure::bad(format!("\"{name}\": not found in \"{dir}\"")))
    }

    pub fn read(keystore: &Keystore, name: &EntryName) -> Result<Entry, KeystoreError> {
        let loaded = keystore.load(name)?;
        let (evidence, lost_evidence) = match keystore.evidence(name) {
            Ok(evidence) => (evidence, None),
            Err(error) => (Vec::new(), Some(error.to_string())),
        };
        let notes = lost_evidence.iter().map(|lost| format!("\"{name}\": {lost}")).collect();
        Ok(Entry { name: name.clone(), loaded, evidence, lost_evidence, notes })
    }

    /// The certificate with all that belongs to it; without one there is a bad answer.
    pub fn bundle(&self) -> Result<&Bundle, Failure> {
        let state = |defect| format!("\"{}\": {}", self.name, State::of_defect(defect));
        self.loaded.as_ref().map_err(|defect| Failure::bad(state(defect)))
    }

    pub fn state(&self, now: Time) -> State {
        match &self.loaded {
            Ok(bundle) => State::of(bundle, &self.evidence, &self.name, now),
            Err(defect) => State::of_defect(defect),
        }
    }

    /// What the certificates above the leaf say; one that can't be read is left out.
    pub fn links(bundle: &Bundle) -> Vec<(&X509, CertFacts)> {
        let facts = |c: &X509| CertFacts::from_der(&c.to_der().ok()?).ok();
        bundle.chain.iter().skip(1).filter_map(|c| Some((c, facts(c)?))).collect()
    }
}

impl State {
    fn of_defect(defect: &Defect) -> State {
        match defect {
            Defect::Missing => State::Missing,
            Defect::Broken(cause) => State::Broken(cause.clone()),
            Defect::KeyMismatch => State::Broken("the key is not that of the certificate".into()),
        }
    }

    pub fn of(bundle: &Bundle, evidence: &[Evidence], name: &EntryName, now: Time) -> State {
        let facts = &bundle.facts;
        if let Some(reason) = revocation(bundle, evidence) {
            return State::Revoked(reason);
        }
        if facts.not_after < now {
            return State::Expired(facts.not_after);
        }
        if now + SKEW < facts.not_before {
            return State::NotYetValid(facts.not_before);
        }
        match facts.covers(name.as_str()) {
            true => State::Valid,
            false => State::WrongName(name.to_string()),
        }
    }

    /// For scripts; also for people, with spaces.
    pub fn word(&self) -> &'static str {
        match self {
            State::Missing => "missing",
            State::Broken(_) => "broken",
            State::Revoked(_) => "revoked",
            State::Expired(_) => "expired",
            State::NotYetValid(_) => "not_yet_valid",
            State::WrongName(_) => "wrong_name",
            State::Valid => "valid",
        }
    }

    /// Why it is not simply valid.
    pub fn cause(&self) -> Option<String> {
        match self {
            State::Missing => Some("there is no certificate yet".into()),
            State::Broken(cause) => Some(printable(cause)),
            State::Revoked(reason) => Some(reason.as_str().into()),
            State::Expired(at) => Some(format!("at {at}")),
            State::NotYetValid(from) => Some(format!("before {from}")),
            State::WrongName(name) => Some(format!("the certificate lacks the name \"{name}\"")),
            State::Valid => None,
        }
    }

    pub fn exit(&self) -> Exit {
        if *self == State::Valid { Exit::Done } else { Exit::Bad }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.word().replace('_', " "))?;
        self.cause().map_or(Ok(()), |cause| write!(f, ": {cause}"))
    }
}

/// A revocation of the leaf, or else of one above it.
fn revocation(bundle: &Bundle, evidence: &[Evidence]) -> Option<Reason> {
    let fingerprint = |c: &X509| c.to_der().ok().map(|der| Fingerprint::of(&der));
    bundle.chain.iter().filter_map(fingerprint).find_map(|certificate| {
        evidence.iter().filter(|e| e.certificate == certificate).find_map(|e| match e.status {
            Status::Revoked { reason, .. } => Some(reason),
            _ => None,
        })
    })
}
