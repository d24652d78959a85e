//! The proof of a delivered chain, and its way into use. Nothing that failed a check here is ever
//! served; what can't be proven yet waits in `pending`, and nothing else is issued meanwhile.

use std::sync::Arc;
use std::time::Duration;

use openssl::pkey::{PKey, Private};

use super::attempt::Attempt;
use super::backoff;
use super::crl;
use super::desk::{Desk, is_good};
use super::host::Count;
use super::job::{Next, patience};
use super::ports::{Answer, Inquiry, NoAnswer};
use super::replace::{ReplaceJob, postpone};
use super::round::worst;
use super::subject::{Subject, subjects_of_chain};
use crate::bundle::private_key;
use crate::clock::{SKEW, Time};
use crate::evidence::chain::{ChainError, CheckedChain, check_new_chain};
use crate::evidence::{Evidence, Source, Status};
use crate::http::url::host_of;
use crate::keystore::Pending;
use crate::settings::Check;

/// The question whether the certificates of a new chain are valid, under way.
pub struct Proof {
    pub(super) checked: CheckedChain,
    subjects: Vec<Arc<Subject>>,
    /// Which of them is asked about.
    place: usize,
    /// OCSP first: it is newer, and smaller.
    source: Source,
    pub(super) answers: Vec<(Evidence, Option<Vec<u8>>)>,
    /// Until when it is asked again at once, from the first question on.
    until: Option<Time>,
    tries: u32,
    failure: Option<NoAnswer>,
    /// A CRL has proven it, and an answer is still to come that can be stapled.
    lacks_staple: bool,
}

impl Proof {
    pub fn host(&self) -> Option<String> {
        let host = self.url().map(host_of);
        if self.source == Source::Crl { host.map(crl::place_at) } else { host }
    }

    fn url(&self) -> Option<&str> {
        let subject = self.subjects.get(self.place)?;
        let urls = subject.urls(self.source);
        urls.get(self.tries as usize % urls.len().max(1)).map(String::as_str)
    }

    /// The next certificate, which nothing was asked about yet.
    fn go_on(&mut self) {
        (self.place, self.tries, self.failure) = (self.place + 1, 0, None);
        (self.source, self.lacks_staple) = (Source::Ocsp, false);
    }
}

impl ReplaceJob {
    /// What the CA delivered: whether it may be served as far as that can be seen from it.
    pub(super) fn check_chain(&mut self, desk: &Desk, attempt: Box<Attempt>) -> Next {
        let now = desk.now();
        let settings = desk.entry(self.entry).settings.clone();
        let ca = &desk.plan.cas[attempt.ca];
        let Some((chain, key)) = attempt.pending.as_ref().and_then(delivered) else {
            return self.reject(desk, attempt, "the stored order can't be used".into());
        };
        let trusted = ca.issuer_certificate.as_deref();
        let checked = match check_new_chain(&chain, &key, &settings.names, trusted, now) {
            Ok(checked) => checked,
            Err(error @ ChainError::NotYetValid(begin)) => {
                // The CA's clock is before ours: another certificate would not be better.
                let next = (begin - SKEW).max(now + SOON).min(now + LATE);
                let cause = format!("\"{}\": {error}", ca.name);
                drop(attempt);
                return postpone(desk, &mut desk.entry(self.entry), &cause, next, vec![]);
            }
            Err(error) => return self.reject_chain(desk, attempt, error.to_string()),
        };
        let (trust, chain) = (&desk.trust[attempt.ca], &checked.chain);
        let all = subjects_of_chain(&ca.evidence, trust, attempt.ca, chain, &checked.facts);
        let proof = Proof {
            checked,
            subjects: all,
            place: 0,
            source: Source::Ocsp,
            answers: Vec::new(),
            until: None,
            tries: 0,
            failure: None,
            lacks_staple: false,
        };
        self.go_on_proving(attempt, Box::new(proof), Next::Run)
    }

    /// One question about one certificate of the new chain. So soon after its issuance a
    /// responder may not know the leaf yet, so it is asked again.
    pub(super) fn prove(
        &mut self,
        desk: &Desk,
        attempt: Box<Attempt>,
        mut proof: Box<Proof>,
    ) -> Next {
        let now = desk.now();
        let Some(subject) = proof.subjects.get(proof.place).cloned() else {
            return self.commit(desk, attempt, *proof, None);
        };
        let (settings, known) = {
            let entry = desk.entry(self.entry);
            (Arc::clone(&entry.settings), entry.link(&subject))
        };
        if let Some(revoked) = known.evidence.iter().find(|e| e.is_revoked()) {
            let cause = is_revoked(&subject, revoked);
            return self.reject_revoked(desk, attempt, cause, !subject.is_ca);
        }
        if settings.check == Check::Off || known.is_proven(now, settings.check_interval, None) {
            proof.go_on();
            return self.go_on_proving(attempt, proof, Next::Run);
        }
        let since = desk.board().demanded(self.entry);
        let until = *proof.until.get_or_insert_with(|| patience(now, since, settings.timeout));
        let Some(issuer) = subject.issuer.clone() else {
            return self.unproven(desk, attempt, *proof, NoAnswer::no_issuer());
        };
        let Some(url) = proof.url().map(str::to_owned) else {
            return self.other_source(desk, attempt, proof, until);
        };
        let inquiry = subject.inquiry(&issuer, &url, until.since(now).max(SHORTEST));
        match proof.source {
            Source::Ocsp => self.ask_responder(desk, attempt, proof, &inquiry, until),
            Source::Crl => self.look_into_crl(desk, attempt, proof, inquiry, until),
        }
    }

    fn ask_responder(
        &mut self,
        desk: &Desk,
        mut attempt: Box<Attempt>,
        proof: Box<Proof>,
        inquiry: &Inquiry,
        until: Time,
    ) -> Next {
        attempt.counts.push(Count::OcspQuery);
        let answer = desk.ports.responders.ask(inquiry);
        if answer.as_ref().map_or(true, |a| a.evidence.status == Status::Unknown) {
            attempt.counts.push(Count::OcspError);
        }
        let der = |answer: &Answer| inquiry.is_leaf.then(|| answer.der.clone());
        let answer = answer.map(|a| (der(&a), a.evidence)).map(|(der, e)| (e, der));
        self.weigh(desk, attempt, proof, inquiry, answer, until)
    }

    fn look_into_crl(
        &mut self,
        desk: &Desk,
        mut attempt: Box<Attempt>,
        proof: Box<Proof>,
        mut inquiry: Inquiry,
        until: Time,
    ) -> Next {
        let now = desk.now();
        let settings = Arc::clone(&desk.entry(self.entry).settings);
        if settings.check == Check::Hard || !attempt.why.is_bad() {
            // Without proof it is of no use, or nobody needs it yet: what takes longer than a
            // handshake waits is waited for.
            inquiry.timeout = crl::LONGEST;
        }
        let asked_since = match settings.check_interval {
            Duration::ZERO => attempt.begun,
            interval => now - interval,
        };
        let listing = desk.ports.crls.look_up(&inquiry, asked_since);
        if listing.as_ref().map_or(true, |l| l.as_ref().is_some_and(|l| l.fetched)) {
            attempt.counts.push(Count::CrlFetch);
        }
        let answer = match listing {
            Ok(Some(listing)) => Ok((listing.evidence, None)),
            Ok(None) if desk.now() < until => {
                return self.go_on_proving(attempt, proof, Next::Wait(desk.pause(50, 150)));
            }
            Ok(None) => {
                let cause = format!("crl: another worker is fetching it, source={}", inquiry.url);
                Err(NoAnswer { cause, retry_after: None })
            }
            Err(failure) => Err(failure),
        };
        self.weigh(desk, attempt, proof, &inquiry, answer, until)
    }

    /// What an answer means for the new chain.
    fn weigh(
        &mut self,
        desk: &Desk,
        attempt: Box<Attempt>,
        mut proof: Box<Proof>,
        inquiry: &Inquiry,
        answer: Result<(Evidence, Option<Vec<u8>>), NoAnswer>,
        until: Time,
    ) -> Next {
        let failure = match answer {
            Ok((evidence, der)) if is_good(&evidence) => {
                let facts = &proof.checked.facts;
                let must = facts.must_staple && desk.entry(self.entry).settings.stapling;
                let has_ocsp = proof.subjects.first().is_some_and(|s| !s.ocsp_urls.is_empty());
                let lacks = must && has_ocsp && inquiry.is_leaf && evidence.source == Source::Crl;
                proof.answers.push((evidence, der));
                if lacks {
                    proof.lacks_staple = true;
                    return self.other_source(desk, attempt, proof, until);
                }
                proof.go_on();
                return self.go_on_proving(attempt, proof, Next::Run);
            }
            Ok((evidence, _)) if evidence.is_revoked() => {
                let cause = match proof.subjects.get(proof.place) {
                    Some(subject) => is_revoked(subject, &evidence),
                    None => String::new(),
                };
                if !inquiry.is_leaf {
                    // The next chain of this CA will have it, too.
                    desk.save_evidence(&mut desk.entry(self.entry), evidence, None);
                }
                return self.reject_revoked(desk, attempt, cause, inquiry.is_leaf);
            }
            Ok(_) => NoAnswer {
                cause: format!("\"{}\" does not know it", inquiry.url),
                retry_after: None,
            },
            Err(failure) => failure,
        };
        proof.failure = Some(worst(proof.failure.take(), failure));
        self.other_source(desk, attempt, proof, until)
    }

    /// Below another intermediate the same leaf may be good.
    fn reject_revoked(
        &mut self,
        desk: &Desk,
        attempt: Box<Attempt>,
        cause: String,
        is_leaf: bool,
    ) -> Next {
        match is_leaf {
            true => self.reject(desk, attempt, cause),
            false => self.reject_chain(desk, attempt, cause),
        }
    }

    /// The source gave no proof: the other one, or all again after a while.
    fn other_source(
        &mut self,
        desk: &Desk,
        attempt: Box<Attempt>,
        mut proof: Box<Proof>,
        until: Time,
    ) -> Next {
        if proof.source == Source::Ocsp && !proof.lacks_staple {
            proof.source = Source::Crl;
            if proof.url().is_some() {
                return self.go_on_proving(attempt, proof, Next::Run);
            }
        }
        proof.source = Source::Ocsp;
        let failure = proof.failure.take();
        let delay = FIRST_DELAY * 2u32.saturating_pow(proof.tries.min(4));
        if desk.now() + delay < until {
            proof.tries += 1;
            return self.go_on_proving(attempt, proof, Next::Wait(delay));
        }
        // In the place of a bad one it is better than none.
        if proof.lacks_staple && attempt.why.is_bad() {
            proof.go_on();
            return self.go_on_proving(attempt, proof, Next::Run);
        }
        let nobody = || NoAnswer { cause: "nobody could be asked".into(), retry_after: None };
        self.unproven(desk, attempt, *proof, failure.unwrap_or_else(nobody))
    }

    /// There is no proof in time: in the place of a bad certificate `soft` serves it all the same.
    fn unproven(
        &mut self,
        desk: &Desk,
        attempt: Box<Attempt>,
        proof: Proof,
        failure: NoAnswer,
    ) -> Next {
        let now = desk.now();
        let mut entry = desk.entry(self.entry);
        // What is replaced may have become bad meanwhile.
        let why = attempt.why_now(&entry, now);
        let wanted = why.is_waited_for(desk.board().demanded(self.entry).is_some());
        if wanted && entry.settings.check == Check::Soft {
            drop(entry);
            return self.commit(desk, attempt, proof, Some(failure));
        }
        let failures = entry.news.issue_failures.saturating_add(1);
        let interval = entry.settings.check_interval;
        // Nothing can be served until there is proof: a wish for a long rest can't be granted.
        let wish = failure.retry_after.map(|w| if why.is_bad() { w.min(LONGEST_REST) } else { w });
        let wait = backoff::check(failures, interval, wish, desk.share());
        let (serial, ca) = (&proof.checked.facts.serial, &desk.plan.cas[attempt.ca].name);
        let cause = format!("\"{ca}\": no proof for serial={serial} yet: {}", failure.cause);
        let counts = attempt.counts.clone();
        drop(attempt); // the lock; the chain stays in `pending`
        postpone(desk, &mut entry, &cause, now + wait, counts)
    }
}

fn is_revoked(subject: &Subject, evidence: &Evidence) -> String {
    let Status::Revoked { reason, .. } = evidence.status else { return String::new() };
    let which = if subject.is_ca { "its issuer" } else { "new" };
    let (serial, reason) = (&subject.facts.serial, reason.as_str());
    format!("{which} certificate serial={serial} is revoked ({reason})")
}

fn delivered(pending: &Pending) -> Option<(Vec<u8>, PKey<Private>)> {
    let key = private_key(pending.key_pem.bytes()).ok()?;
    Some((pending.chain.clone()?, key))
}

/// How long after its issuance an unknown certificate is asked about again; then twice as long.
const FIRST_DELAY: Duration = Duration::from_millis(200);
const SHORTEST: Duration = Duration::from_millis(200);
const LONGEST_REST: Duration = Duration::from_secs(60);
/// A certificate of the future is looked at again between these.
const SOON: Duration = Duration::from_secs(10);
const LATE: Duration = Duration::from_secs(3600);
