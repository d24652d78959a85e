//! The way of a new chain into use: stored with its proof, published, told.

use super::attempt::{Attempt, Failure};
use super::backoff;
use super::desk::{Desk, brief};
use super::host::{Count, News};
use super::job::{End, Next};
use super::ports::NoAnswer;
use super::prove::Proof;
use super::replace::ReplaceJob;
use super::schedule::{Why, is_short_lived};
use crate::bundle::{Meta, Replaced, chain_pem};
use crate::policy::Badness;
use crate::report::What;

impl ReplaceJob {
    /// Stores the new certificate and lets it be served. `failure`: why it is not proven.
    pub(super) fn commit(
        &mut self,
        desk: &Desk,
        attempt: Box<Attempt>,
        proof: Proof,
        failure: Option<NoAnswer>,
    ) -> Next {
        let Proof { checked, answers, .. } = proof;
        let now = desk.now();
        let ca = desk.plan.cas[attempt.ca].name.clone();
        let Some(pending) = &attempt.pending else {
            return self.stuck(desk, attempt, "the order is gone".into());
        };
        let mut entry = desk.entry(self.entry);
        let why = attempt.why_now(&entry, now);
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
        let asked = answers.iter().map(|(e, _)| e.checked_at).min().filter(|_| failure.is_none());
        // The proof first: another worker that sees the certificate sees it, too.
        for (evidence, der) in answers {
            desk.save_evidence(&mut entry, evidence, der);
        }
        let stored = chain_pem(&checked.chain).map_err(|e| e.to_string()).and_then(|pem| {
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
        let passed_over = attempt.passed_over();
        let mut is_told = true;
        desk.publish(&mut entry, |news| {
            is_told = news.passed_over == passed_over;
            *news = News {
                passed_over,
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
            Why::Bad(Badness::Revoked(_) | Badness::IssuerRevoked(_)) => {
                counts.push(Count::ReplacedRevoked)
            }
            Why::Bad(Badness::Expired) => counts.push(Count::ReplacedExpired),
            _ => {}
        }
        let new = checked.facts.serial.clone();
        let mut events = if is_told { vec![] } else { failures(desk, &attempt) };
        events.push(match why {
            Why::Bad(Badness::Missing) => What::Issued { serial: new, ca },
            _ => What::Replaced { old: attempt.old.clone(), new, ca, after },
        });
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

/// Of the CAs that had been asked before, or may not be.
fn failures(desk: &Desk, attempt: &Attempt) -> Vec<What> {
    let name = |ca: usize| desk.plan.cas[ca].name.clone();
    let issued = name(attempt.ca);
    let what = |failure: &Failure| What::CaFailed {
        ca: name(failure.ca),
        cause: failure.cause.clone(),
        issued: issued.clone(),
    };
    attempt.failures.iter().map(what).collect()
}
