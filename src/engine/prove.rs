//! The proof of a delivered chain, and its way into use. Nothing that failed a check here is ever
//! served; what can't be proven yet waits in `pending`, and nothing else is issued meanwhile.

use std::time::Duration;

use openssl::error::ErrorStack;
use openssl::pkey::{PKey, Private};

use super::attempt::Attempt;
use super::backoff;
use super::desk::{Desk, brief, is_good};
use super::host::{Count, News};
use super::job::{End, Next, patience};
use super::ports::{Answer, Inquiry, NoAnswer};
use super::replace::{ReplaceJob, postpone};
use super::schedule::{Why, is_short_lived};
use super::source::{Source, host_of};
use crate::bundle::{Meta, Replaced};
use crate::clock::{SKEW, Time};
use crate::evidence::Status;
use crate::evidence::chain::{ChainError, CheckedChain, check_new_chain};
use crate::keystore::Pending;
use crate::policy::Badness;
use crate::report::What;
use crate::settings::Check;

/// The question whether a new certificate is valid, under way.
pub struct Proof {
    checked: CheckedChain,
    source: Source,
    /// Until when it is asked again at once, from the first question on.
    until: Option<Time>,
    tries: u32,
}

impl Proof {
    pub fn host(&self) -> String {
        host_of(self.url())
    }

    fn url(&self) -> &str {
        &self.source.urls[self.tries as usize % self.source.urls.len()]
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
            Err(error) => return self.reject(desk, attempt, error.to_string()),
        };
        let source = match settings.check {
            Check::Off => None,
            _ => Source::of(&desk.plan, &settings, Some(&ca.name), &checked.facts),
        };
        let Some(source) = source else { return self.commit(desk, attempt, &checked, Ok(None)) };
        let proof = Proof { checked, source, until: None, tries: 0 };
        self.go_on_proving(attempt, Box::new(proof), Next::Run)
    }

    /// One question about the new certificate. So soon after its issuance a responder may not
    /// know it yet, so it is asked again.
    pub(super) fn prove(
        &mut self,
        desk: &Desk,
        mut attempt: Box<Attempt>,
        mut proof: Box<Proof>,
    ) -> Next {
        let (now, timeout) = (desk.now(), desk.entry(self.entry).settings.timeout);
        let since = desk.board().demanded(self.entry);
        let until = *proof.until.get_or_insert_with(|| patience(now, since, timeout));
        let checked = &proof.checked;
        let answer = desk.ports.responders.ask(&Inquiry {
            certificate: &checked.chain[0],
            facts: &checked.facts,
            issuer: &checked.issuer,
            url: proof.url(),
            ca: proof.source.ca,
            timeout: until.since(now).max(SHORTEST),
        });
        attempt.counts.push(Count::OcspQuery);
        let failure = match answer {
            Ok(answer) if is_good(&answer.evidence) => {
                return self.commit(desk, attempt, &proof.checked, Ok(Some(answer)));
            }
            Ok(answer) => match answer.evidence.status {
                Status::Revoked { reason, .. } => {
                    let (serial, reason) = (&checked.facts.serial, reason.as_str());
                    let cause = format!("new certificate serial={serial} is revoked ({reason})");
                    return self.reject(desk, attempt, cause);
                }
                _ => NoAnswer {
                    cause: format!("\"{}\" does not know it", proof.url()),
                    retry_after: None,
                },
            },
            Err(failure) => failure,
        };
        attempt.counts.push(Count::OcspError);
        let delay = FIRST_DELAY * 2u32.saturating_pow(proof.tries.min(4));
        if desk.now() + delay < until {
            proof.tries += 1;
            return self.go_on_proving(attempt, proof, Next::Wait(delay));
        }
        self.unproven(desk, attempt, &proof.checked, failure)
    }

    /// There is no proof in time: in the place of a bad certificate `soft` serves it all the same.
    fn unproven(
        &mut self,
        desk: &Desk,
        attempt: Box<Attempt>,
        checked: &CheckedChain,
        failure: NoAnswer,
    ) -> Next {
        let now = desk.now();
        let mut entry = desk.entry(self.entry);
        // What is replaced may have become bad meanwhile.
        let why = entry.why_replace(now).unwrap_or_else(|| attempt.why.clone());
        let demanded = desk.board().demanded(self.entry).is_some();
        let wanted = why.is_bad() || (why == Why::Names && demanded);
        if wanted && entry.settings.check == Check::Soft {
            drop(entry);
            return self.commit(desk, attempt, checked, Err(failure));
        }
        let failures = entry.news.issue_failures.saturating_add(1);
        let interval = entry.settings.check_interval;
        // Nothing can be served until there is proof: a wish for a long rest can't be granted.
        let wish = failure.retry_after.map(|w| if why.is_bad() { w.min(LONGEST_REST) } else { w });
        let wait = backoff::check(failures, interval, wish, desk.share());
        let (serial, ca) = (&checked.facts.serial, &desk.plan.cas[attempt.ca].name);
        let cause = format!("\"{ca}\": no proof for serial={serial} yet: {}", failure.cause);
        let counts = attempt.counts.clone();
        drop(attempt); // the lock; the chain stays in `pending`
        postpone(desk, &mut entry, &cause, now + wait, counts)
    }

    /// Stores the new certificate and lets it be served. `proof`: None if nobody can be asked.
    fn commit(
        &mut self,
        desk: &Desk,
        attempt: Box<Attempt>,
        checked: &CheckedChain,
        proof: Result<Option<Answer>, NoAnswer>,
    ) -> Next {
        let now = desk.now();
        let ca = desk.plan.cas[attempt.ca].name.clone();
        let Some(pending) = &attempt.pending else {
            return self.stuck(desk, attempt, "the order is gone".into());
        };
        let mut entry = desk.entry(self.entry);
        let why = entry.why_replace(now).unwrap_or_else(|| attempt.why.clone());
        let since = if why.is_bad() && !attempt.why.is_bad() {
            entry.news.bad_since.unwrap_or(attempt.since)
        } else {
            attempt.since
        };
        let after = now.since(since);
        let replaced = why.reason().zip(attempt.old.clone()).map(|(reason, serial)| Replaced {
            serial,
            reason: reason.into(),
            at: now,
            seconds: after.as_secs_f64(),
        });
        let before = entry.bundle.as_ref().map_or(0, |b| b.meta.short_lived);
        let short_lived = match is_short_lived(&checked.facts, now) {
            true => before.saturating_add(1),
            false => 0,
        };
        let meta = Meta {
            ca: Some(ca.clone()),
            stored_at: Some(now),
            replaced: replaced.clone(),
            short_lived,
        };
        let asked = proof.as_ref().ok().and_then(|a| a.as_ref()).map(|a| a.evidence.checked_at);
        // The proof first: another worker that sees the certificate sees it, too.
        let failure = match proof {
            Ok(Some(answer)) => {
                desk.save_evidence(&mut entry, answer.evidence, answer.der);
                None
            }
            Ok(None) => None,
            Err(failure) => Some(failure),
        };
        let stored = pem(checked).map_err(|e| e.to_string()).and_then(|pem| {
            let stored = desk.keystore.commit(&attempt.lock, &pem, &pending.key_pem, &meta);
            stored.map_err(|e| e.to_string())
        });
        if let Err(cause) = stored {
            drop(entry);
            return self.stuck(desk, attempt, cause);
        }
        // It is served from here on: nothing below may fail it. What is left behind in `pending`
        // is seen to be stored by its key.
        let _ = desk.keystore.clear_pending(&attempt.lock);
        let next_check = failure.as_ref().map(|f| {
            let interval = entry.settings.check_interval;
            backoff::check(1, interval, f.retry_after, desk.share())
        });
        let _ = desk.reload(&mut entry); // else with the next change
        desk.publish(&mut entry, |news| {
            *news = News {
                seq: news.seq,
                next_check: next_check.map(|wait| now + wait),
                check_failures: u32::from(next_check.is_some()),
                last_error: failure.as_ref().map(|f| brief(&f.cause)),
                replaced: replaced.clone().or_else(|| news.replaced.take()),
                ..News::default()
            }
        });
        let mut counts = attempt.counts.clone();
        counts.push(Count::Issued);
        match &why {
            Why::Bad(Badness::Revoked(_)) => counts.push(Count::ReplacedRevoked),
            Why::Bad(Badness::Expired) => counts.push(Count::ReplacedExpired),
            _ => {}
        }
        let new = checked.facts.serial.clone();
        let mut events = vec![match why {
            Why::Bad(Badness::Missing) => What::Issued { serial: new, ca },
            _ => What::Replaced { old: attempt.old.clone(), new, ca, after },
        }];
        if entry.settings.must_staple && !checked.facts.must_staple {
            let (serial, ca) =
                (checked.facts.serial.clone(), desk.plan.cas[attempt.ca].name.clone());
            events.push(What::NoMustStaple { serial, ca });
        }
        if let (Some(failure), Some(retry)) = (failure, next_check) {
            events.push(What::CheckFailed { cause: failure.cause, retry });
        }
        drop(attempt); // the lock, before anybody is told
        desk.tell(&entry, events, counts);
        desk.announce_changes();
        Next::Done(asked.map_or(End::Idle { since: None }, End::Asked))
    }
}

fn delivered(pending: &Pending) -> Option<(Vec<u8>, PKey<Private>)> {
    let key = PKey::private_key_from_pem_callback(pending.key_pem.bytes(), |_| Ok(0)).ok()?;
    Some((pending.chain.clone()?, key))
}

/// The chain as checked: in order, without what is no part of it.
fn pem(checked: &CheckedChain) -> Result<Vec<u8>, ErrorStack> {
    let mut pem = Vec::new();
    for certificate in &checked.chain {
        pem.extend(certificate.to_pem()?);
    }
    Ok(pem)
}

/// How long after its issuance an unknown certificate is asked about again; then twice as long.
const FIRST_DELAY: Duration = Duration::from_millis(200);
const SHORTEST: Duration = Duration::from_millis(200);
const LONGEST_REST: Duration = Duration::from_secs(60);
/// A certificate of the future is looked at again between these.
const SOON: Duration = Duration::from_secs(10);
const LATE: Duration = Duration::from_secs(3600);
