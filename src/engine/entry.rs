//! What a worker holds of one entry in memory. Jobs and the disk thread take its mutex while they
//! read the disk; the event loop never does, it gets views.

use std::sync::Arc;
use std::time::Duration;

use super::backoff::share_of;
use super::host::{News, View};
use super::schedule::{self, Why};
use super::subject::Subject;
use crate::bundle::{Bundle, Defect};
use crate::ca::renewal::Renewal;
use crate::clock::Time;
use crate::evidence::Evidence;
use crate::facts::{Fingerprint, Serial};
use crate::keystore::Rest;
use crate::policy::{self, Asker, Decision, Link, Standing};
use crate::settings::EntrySettings;
use crate::staple::Staple;

pub struct Entry {
    pub index: usize,
    pub settings: Arc<EntrySettings>,
    /// Whether the keystore could be read at all: until then nothing is known to be missing.
    pub loaded: bool,
    /// There is something new that could not be read.
    pub is_stale: bool,
    pub bundle: Result<Arc<Bundle>, Defect>,
    /// All that the keystore has, also about earlier certificates.
    pub evidence: Vec<Evidence>,
    /// Verified, but not stored yet because the keystore failed; one a certificate and source.
    pub unsaved: Vec<(Evidence, Option<Vec<u8>>)>,
    /// The certificates of the chain that are checked, leaf first.
    pub subjects: Vec<Arc<Subject>>,
    /// The newest good answer about some certificate of this entry, as it can be stapled.
    pub staple: Option<Arc<Staple>>,
    /// What the CA says about renewal, of some certificate of this entry.
    pub renewal: Option<Renewal>,
    pub news: News,
    /// Until when CAs want to be left alone, as far as this process was told; one a CA.
    pub rests: Vec<Rest>,
    /// A version that was heard of by its number, and when: on NFS `current` may be older for half
    /// a minute.
    pub heard_of: Option<(u64, Time)>,
    /// The certificate that a person wants replaced (`cert-autofetch renew`); Some(None): one that
    /// can't be read, or the first.
    pub unwanted: Option<Option<Fingerprint>>,
    /// The certificate that was told of as having no source.
    pub told_no_source: Option<Fingerprint>,
}

impl Entry {
    pub fn new(index: usize, settings: Arc<EntrySettings>) -> Entry {
        Entry {
            index,
            settings,
            loaded: false,
            is_stale: false,
            bundle: Err(Defect::Missing),
            evidence: Vec::new(),
            unsaved: Vec::new(),
            subjects: Vec::new(),
            staple: None,
            renewal: None,
            news: News::default(),
            rests: Vec::new(),
            heard_of: None,
            unwanted: None,
            told_no_source: None,
        }
    }

    pub fn name(&self) -> String {
        self.settings.name.to_string()
    }

    pub fn view(&self) -> View {
        View {
            bundle: self.bundle.clone(),
            links: self.links(),
            staple: self.own_staple(),
            suggested_at: self.suggested_at(),
            news: self.news.clone(),
            last_revoked: self.last_revoked(),
        }
    }

    /// What is to be decided about, with the evidence of its certificate.
    pub fn with_standing<R>(&self, decide: impl FnOnce(&Standing) -> R) -> R {
        let links = self.links();
        decide(&Standing {
            certificate: self.bundle.as_ref().map(|b| &b.facts),
            links: &links,
            stapled_until: self.own_staple().map(|staple| staple.until()),
            suggested_at: self.suggested_at(),
            stored_at: self.bundle.as_ref().ok().and_then(|b| b.meta.stored_at),
            next_check: self.news.next_check,
            next_ocsp: self.news.next_ocsp,
            next_crl: self.news.next_crl,
            next_issue: self.news.next_issue,
        })
    }

    pub fn why_replace(&self, now: Time) -> Option<Why> {
        self.with_standing(|s| schedule::why_replace(now, s, &self.settings))
            .or(self.is_unwanted().then_some(Why::Unwanted))
    }

    /// When a replacement is due.
    pub fn replace_at(&self, now: Time) -> Time {
        match self.is_unwanted() {
            true => self.news.next_issue.unwrap_or(now),
            false => {
                let due = self.with_standing(|s| schedule::replace_at(now, s, &self.settings));
                self.rests_until(now).map_or(due, |rest| due.max(rest))
            }
        }
    }

    /// Before that nothing is issued unless a handshake needs it.
    pub fn rests_until(&self, now: Time) -> Option<Time> {
        let meta = &self.bundle.as_ref().ok()?.meta;
        schedule::rests_until(&self.why_replace(now)?, now, meta)
    }

    /// When the certificate is due by its age, whatever the CA says.
    pub fn renewal_at(&self) -> Option<Time> {
        let bundle = self.bundle.as_ref().ok()?;
        Some(schedule::renewal_at(&bundle.facts, bundle.meta.stored_at, &self.settings))
    }

    /// When the CA wants the certificate replaced, if it says so.
    fn suggested_at(&self) -> Option<Time> {
        let (window, certificate) = (self.own_renewal()?.window?, self.fingerprint()?);
        Some(window.moment(share_of(&certificate.0, 0)))
    }

    /// When the CA is to be asked about that; None: there is nothing to ask about.
    pub fn renewal_info_at(&self, now: Time) -> Option<Time> {
        let bundle = self.bundle.as_ref().ok()?;
        // RFC 9773, 4.3.3: not about an expired one. What is bad is replaced anyway.
        let is_over = bundle.facts.not_after <= now || self.is_bad(now);
        (!is_over).then(|| self.own_renewal().map_or(now, |renewal| renewal.ask_at(now)))
    }

    /// Takes in what the keystore has; what could not be stored there still stands.
    pub fn take_renewal(&mut self, stored: Option<Renewal>) {
        let own = self.own_renewal().map(|own| own.asked_at);
        let is_older = own.is_some_and(|own| stored.as_ref().is_none_or(|s| s.asked_at < own));
        if !is_older {
            self.renewal = stored;
        }
    }

    fn own_renewal(&self) -> Option<&Renewal> {
        self.renewal.as_ref().filter(|r| Some(&r.certificate) == self.fingerprint())
    }

    /// When responders are to be asked though no handshake waits.
    pub fn check_at(&self, now: Time) -> Option<Time> {
        self.with_standing(|s| schedule::check_at(now, s, &self.settings))
    }

    /// When CRLs are to be looked at though no handshake waits.
    pub fn crl_at(&self, now: Time) -> Option<Time> {
        self.with_standing(|s| schedule::crl_at(now, s, &self.settings))
    }

    pub fn is_unwanted(&self) -> bool {
        self.unwanted.as_ref().is_some_and(|unwanted| unwanted.as_ref() == self.fingerprint())
    }

    /// The version that is known to be current.
    pub fn named(&self, now: Time) -> Option<u64> {
        self.heard_of.filter(|(_, at)| now.since(*at) < STALE_LINK).map(|(version, _)| version)
    }

    pub fn is_bad(&self, now: Time) -> bool {
        self.why_replace(now).is_some_and(|why| why.is_bad())
    }

    pub fn serial(&self) -> Option<Serial> {
        self.bundle.as_ref().ok().map(|b| b.facts.serial.clone())
    }

    pub fn fingerprint(&self) -> Option<&Fingerprint> {
        self.bundle.as_ref().ok().map(|b| &b.facts.fingerprint)
    }

    /// Whether handshakes that wait since then need an answer that is not there.
    pub fn needs_check(&self, now: Time, since: Time) -> bool {
        let decision = |s: &Standing| policy::decide(now, s, &self.settings, Asker::default());
        self.with_standing(decision) == Decision::Check
            && self.proven_at(now).is_none_or(|proven| proven < since)
    }

    /// When the proof of this chain was asked for: the newest good answer about each certificate
    /// of it, and of those the oldest; None: one has none.
    pub fn proven_at(&self, now: Time) -> Option<Time> {
        let links = self.links();
        let newest = |l: &Link| l.good(now).map(|e| e.checked_at).max();
        let asked = links.iter().filter(|l| l.has_source()).map(newest);
        asked.min().flatten()
    }

    /// When the query was asked whose answer handshakes that wait since then have got: that of
    /// the newest answer if it is fresh for them, else now.
    pub fn answered_at(&self, now: Time, since: Option<Time>) -> Time {
        let fresh = |e: &&Evidence| {
            now < e.fresh_until(self.settings.check_interval)
                || since.is_some_and(|t| e.checked_at >= t)
        };
        let newest = |l: &Link| l.good(now).filter(fresh).map(|e| e.checked_at).max();
        let links = self.links();
        let asked = links.iter().filter(|l| l.has_source()).map(newest);
        asked.min().flatten().unwrap_or(now)
    }

    /// Takes in an answer that is not read back from the keystore.
    pub fn absorb(&mut self, new: Evidence, now: Time) {
        let same = |e: &Evidence| e.certificate == new.certificate && e.source == new.source;
        match self.evidence.iter().position(same) {
            Some(i) => {
                let old = self.evidence.swap_remove(i);
                self.evidence.push(Evidence::newest(old, new, now));
            }
            None => self.evidence.push(new),
        }
    }

    /// Keeps an answer that could not be stored, instead of another one of which it takes the place.
    pub fn keep_unsaved(&mut self, new: Evidence, der: Option<Vec<u8>>, now: Time) {
        let same = |e: &Evidence| e.certificate == new.certificate && e.source == new.source;
        let Some(i) = self.unsaved.iter().position(|(e, _)| same(e)) else {
            return self.unsaved.push((new, der));
        };
        let (old, old_der) = self.unsaved.swap_remove(i);
        let stands = Evidence::newest(old, new.clone(), now);
        let der = if stands == new { der } else { old_der };
        self.unsaved.push((stands, der));
    }

    /// What is known about each certificate of the chain that is checked.
    pub fn links(&self) -> Vec<Link> {
        self.subjects.iter().map(|subject| self.link(subject)).collect()
    }

    /// What is known about a certificate, of this chain or another.
    pub fn link(&self, subject: &Subject) -> Link {
        Link {
            evidence: self.known(&subject.facts.fingerprint).cloned().collect(),
            has_ocsp: !subject.ocsp_urls.is_empty(),
            has_crl: subject.has_crl(),
        }
    }

    /// Whether a CRL could help handshakes that wait since then.
    pub fn lacks_crl(&self, now: Time, since: Option<Time>) -> bool {
        let interval = self.settings.check_interval;
        self.links().iter().any(|l| l.has_crl && !l.is_proven(now, interval, since))
    }

    /// Whether a CRL could help them that did not fail a moment ago.
    pub fn may_look_at_crl(&self, now: Time, since: Option<Time>) -> bool {
        self.news.next_crl.is_none_or(|next| next <= now) && self.lacks_crl(now, since)
    }

    pub fn has_crl(&self) -> bool {
        self.subjects.iter().any(|subject| subject.has_crl())
    }

    /// The answers about one certificate.
    pub fn known(&self, certificate: &Fingerprint) -> impl Iterator<Item = &Evidence> {
        self.evidence.iter().filter(move |e| e.certificate == *certificate)
    }

    /// Never one about another certificate, nor beside a revocation: on its way to us the good
    /// answer may have been the slower one.
    fn own_staple(&self) -> Option<Arc<Staple>> {
        let staple = self.staple.as_ref()?;
        let is_own = Some(staple.certificate()) == self.fingerprint();
        let revoked = || self.known(staple.certificate()).any(Evidence::is_revoked);
        (is_own && !revoked()).then(|| Arc::clone(staple))
    }

    fn last_revoked(&self) -> Option<Serial> {
        let revoked = self.evidence.iter().filter(|e| e.is_revoked());
        // By what all workers and hosts read in the same file, so that they agree.
        let newest = revoked.max_by_key(|e| (e.checked_at, &e.serial.0, &e.certificate.0));
        newest.map(|e| e.serial.clone())
    }
}

/// Longer than a network file system remembers a folder (NFS: `acdirmax`, 60 s).
const STALE_LINK: Duration = Duration::from_secs(90);
