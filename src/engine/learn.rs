//! What the answers of responders and CRLs leave behind: on the disk, in memory, for the entries
//! that share a certificate, and as the staple.

use std::sync::Arc;

use super::desk::Desk;
use super::entry::Entry;
use super::subject::{Subject, subjects_of_chain};
use crate::clock::Time;
use crate::evidence::{Evidence, Status};
use crate::facts::{Fingerprint, Serial};
use crate::staple::Staple;

impl Desk {
    /// The certificates of the entry's chain that are checked.
    pub(super) fn subjects(&self, entry: &Entry) -> Vec<Arc<Subject>> {
        let Ok(bundle) = &entry.bundle else { return Vec::new() };
        let cas = &self.plan.cas;
        let place = |name: &String| cas.iter().position(|c| c.name == *name);
        // Imported, or of a CA that is configured no longer: the entry's first stands for it.
        let own = bundle.meta.ca.as_ref().and_then(place);
        let Some(ca) = own.or_else(|| entry.settings.cas.first().and_then(place)) else {
            return Vec::new();
        };
        let (evidence, trust) = (&cas[ca].evidence, &self.trust[ca]);
        subjects_of_chain(evidence, trust, ca, &bundle.chain, &bundle.facts)
    }

    /// Further certificates of ours that its issuer issued: an answer may tell of several. Only
    /// those about which the same settings say what counts as an answer.
    pub fn siblings(&self, subject: &Subject) -> Vec<(Serial, Fingerprint)> {
        let is_sibling = |s: &&Arc<Subject>| {
            s.issuer == subject.issuer
                && (s.ca, s.is_ca) == (subject.ca, subject.is_ca)
                && s.facts.fingerprint != subject.facts.fingerprint
        };
        let named = |s: &Arc<Subject>| (s.facts.serial.clone(), s.facts.fingerprint.clone());
        let of_entry = |index| {
            let entry = self.entry(index);
            entry.subjects.iter().filter(is_sibling).map(named).collect::<Vec<_>>()
        };
        (0..self.plan.entries.len()).flat_map(of_entry).collect()
    }

    /// An answer about a certificate that others have too, or that is theirs: they need not ask.
    pub fn spread(&self, from: usize, evidence: &Evidence) {
        for index in (0..self.plan.entries.len()).filter(|index| *index != from) {
            let mut entry = self.entry(index);
            let is_theirs =
                entry.subjects.iter().any(|s| s.facts.fingerprint == evidence.certificate);
            // Not by when it was asked for: one that lags may have been asked later.
            let stands = |e: &Evidence| {
                let of_both = Evidence::newest(e.clone(), evidence.clone(), self.now());
                e.source == evidence.source && of_both == *e
            };
            let is_known = entry.known(&evidence.certificate).any(stands);
            if is_theirs && !is_known && !puts_off_staple(&entry, evidence, self.now()) {
                self.save_evidence(&mut entry, evidence.clone(), None);
                self.note_bad(&mut entry, self.now());
                self.tell(&entry, vec![], vec![]);
            }
        }
    }

    /// Stores an answer, and keeps it in memory whatever becomes of that. `der`: what can be
    /// stapled.
    pub fn save_evidence(&self, entry: &mut Entry, evidence: Evidence, der: Option<Vec<u8>>) {
        der.iter().for_each(|der| self.note_staple(entry, der));
        let (name, now) = (&entry.settings.name, self.now());
        match self.keystore.merge_evidence(name, evidence.clone(), der.as_deref(), now) {
            Ok(all) => entry.evidence = all,
            Err(_) => {
                entry.absorb(evidence.clone(), now);
                entry.keep_unsaved(evidence, der, now);
            }
        }
    }

    /// Takes an OCSP answer as the staple, if it is one for the entry's certificate and no older
    /// than what there is.
    pub(super) fn note_staple(&self, entry: &mut Entry, der: &[u8]) {
        let Some(leaf) = entry.subjects.first() else { return };
        let (facts, now) = (&leaf.facts, self.now());
        let is_kept =
            |kept: &Arc<Staple>| *kept.certificate() == facts.fingerprint && kept.der() == der;
        if entry.staple.as_ref().is_some_and(is_kept) {
            return; // known, which spares the signature
        }
        let issuer = leaf.issuer.as_deref();
        let staple =
            issuer.and_then(|issuer| Staple::read(der, &leaf.certificate, facts, issuer, now));
        let Some(staple) = staple else { return };
        let stays = |kept: &Arc<Staple>| kept.is_current(now) && kept.is_newer(&staple);
        if !entry.staple.as_ref().is_some_and(stays) {
            entry.staple = Some(Arc::new(staple));
        }
    }
}

/// A server that staples needs answers of its own, whose first word is about its certificate: what
/// is told along the way must not put its next question off for ever. It counts where the entry
/// has no fresh proof, and always if it is bad news.
fn puts_off_staple(entry: &Entry, evidence: &Evidence, now: Time) -> bool {
    let is_own = entry.fingerprint() == Some(&evidence.certificate);
    let interval = entry.settings.check_interval;
    let is_fresh = |e: &Evidence| {
        e.source == evidence.source && e.status == Status::Good && now < e.fresh_until(interval)
    };
    let is_needed = || !entry.known(&evidence.certificate).any(is_fresh);
    entry.settings.stapling && is_own && evidence.status == Status::Good && !is_needed()
}
