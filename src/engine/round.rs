//! One round of questions about the certificates of a chain: each certificate's URLs in order,
//! until one of them gives an answer.

use std::collections::VecDeque;
use std::sync::Arc;

use openssl::x509::X509;

use super::entry::Entry;
use super::ports::NoAnswer;
use super::schedule::refresh_at;
use super::subject::Subject;
use crate::clock::Time;
use crate::evidence::{Evidence, Source, Status};
use crate::facts::Fingerprint;
use crate::policy::{self, Link};

pub struct Round {
    /// The leaf it is about.
    leaf: Option<Fingerprint>,
    begun: Time,
    todo: VecDeque<Question>,
}

struct Question {
    subject: Arc<Subject>,
    issuer: X509,
    urls: VecDeque<String>,
    /// Why those that were asked gave nothing.
    failure: Option<NoAnswer>,
}

impl Round {
    /// What is to be asked of this kind of source; `since`: handshakes wait since then. Also why
    /// something can't be asked at all.
    pub fn new(
        entry: &Entry,
        source: Source,
        now: Time,
        since: Option<Time>,
    ) -> (Round, Option<NoAnswer>) {
        let mut round =
            Round { leaf: entry.fingerprint().cloned(), begun: now, todo: VecDeque::new() };
        let mut failure = None;
        for (subject, link) in entry.subjects.iter().zip(entry.links()) {
            if !is_wanted(entry, subject, &link, source, now, since) {
                continue;
            }
            match &subject.issuer {
                Some(issuer) => round.todo.push_back(Question {
                    subject: Arc::clone(subject),
                    issuer: issuer.clone(),
                    urls: subject.urls(source).to_vec().into(),
                    failure: None,
                }),
                None => failure = Some(NoAnswer::no_issuer()),
            }
        }
        (round, failure)
    }

    /// Whether it is about what the entry has now.
    pub fn is_about(&self, entry: &Entry) -> bool {
        entry.fingerprint() == self.leaf.as_ref()
    }

    /// Leaves out intermediates that others have asked about since this round was made: a
    /// thousand entries that share one find out at one moment that it is time, and one asks.
    pub fn pass_over_answered(&mut self, entry: &Entry, now: Time) {
        let interval = entry.settings.check_interval;
        let begun = self.begun;
        let is_fresh = |e: &Evidence| e.checked_at >= begun && now < e.fresh_until(interval);
        self.todo.retain(|q| {
            let mut known = entry.known(&q.subject.facts.fingerprint);
            let is_good = |e: &Evidence| e.source == Source::Ocsp && e.status == Status::Good;
            !(q.subject.is_ca && known.any(|e| is_good(e) && is_fresh(e)))
        });
    }

    /// The next URL.
    pub fn url(&self) -> Option<&str> {
        self.todo.front()?.urls.front().map(String::as_str)
    }

    /// The next question: the certificate, its issuer, and whom to ask.
    pub fn take(&mut self) -> Option<(Arc<Subject>, X509, String)> {
        let question = self.todo.front_mut()?;
        let url = question.urls.pop_front()?;
        Some((Arc::clone(&question.subject), question.issuer.clone(), url))
    }

    /// The last question was taken in vain, and is asked again.
    pub fn put_back(&mut self, url: String) {
        if let Some(question) = self.todo.front_mut() {
            question.urls.push_front(url);
        }
    }

    /// How many questions may still come.
    pub fn left(&self) -> u32 {
        self.todo.iter().map(|q| q.urls.len() as u32).sum()
    }

    /// There is an answer about it: its other URLs are not asked.
    pub fn answered(&mut self, subject: &Arc<Subject>) {
        self.todo.retain(|q| !Arc::ptr_eq(&q.subject, subject));
    }

    /// There is none. Returns what failed so far for good: `before`, and this certificate once
    /// nobody is left to be asked about it.
    pub fn failed(
        &mut self,
        subject: &Arc<Subject>,
        failure: NoAnswer,
        before: Option<NoAnswer>,
    ) -> Option<NoAnswer> {
        let Some(at) = self.todo.iter().position(|q| Arc::ptr_eq(&q.subject, subject)) else {
            return before;
        };
        let question = &mut self.todo[at];
        let failure = worst(question.failure.take(), failure);
        if question.urls.is_empty() {
            self.todo.remove(at);
            return Some(worst(before, failure));
        }
        question.failure = Some(failure);
        before
    }

    /// The time is over, and nobody is asked any more: adds why those who were gave nothing.
    pub fn give_up(&mut self, before: Option<NoAnswer>) -> Option<NoAnswer> {
        let failures = std::mem::take(&mut self.todo).into_iter().filter_map(|q| q.failure);
        failures.fold(before, |before, failure| Some(worst(before, failure)))
    }
}

/// Whether an answer of this source is to be asked for.
fn is_wanted(
    entry: &Entry,
    subject: &Arc<Subject>,
    link: &Link,
    source: Source,
    now: Time,
    since: Option<Time>,
) -> bool {
    let interval = entry.settings.check_interval;
    let rests = entry.news.next_ocsp.is_some_and(|next| now < next);
    if !link.has(source) || (source == Source::Ocsp && link.has_crl && since.is_some() && rests) {
        return false;
    }
    let lacks_staple = || {
        let lacks = entry.with_standing(|s| policy::lacks_staple(now, s, &entry.settings));
        source == Source::Ocsp && !subject.is_ca && lacks
    };
    match since {
        // With an interval of zero CRLs are looked at beside OCSP whenever a handshake asks.
        Some(since) if source == Source::Crl && interval.is_zero() => {
            let known = link.evidence.iter().filter(|e| e.source == source);
            known.map(|e| e.checked_at).max().is_none_or(|at| at < since)
        }
        Some(_) if link.is_proven(now, interval, since) => lacks_staple(),
        Some(_) => true,
        None if interval.is_zero() && !link.evidence.iter().any(|e| e.is_revoked()) => {
            lacks_staple()
        }
        None => refresh_at(now, link, source, interval) <= now || lacks_staple(),
    }
}

/// Both causes, and the longer wish.
pub fn worst(first: Option<NoAnswer>, second: NoAnswer) -> NoAnswer {
    let Some(first) = first else { return second };
    NoAnswer {
        cause: format!("{}; {}", first.cause, second.cause),
        retry_after: first.retry_after.max(second.retry_after),
    }
}
