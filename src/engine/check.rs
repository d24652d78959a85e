//! The check of an entry: reads what the keystore has, and asks for evidence if that is not
//! enough. It issues nothing: what it finds bad it hands over.

use std::collections::VecDeque;

use openssl::x509::X509;

use super::backoff;
use super::desk::{Desk, brief, is_good};
use super::entry::Entry;
use super::host::{Count, Working};
use super::job::{Claim, End, MINIMUM, Next, patience};
use super::ports::{Answer, Inquiry, NoAnswer};
use super::replace;
use super::schedule::Why;
use super::source::host_of;
use crate::bundle::Bundle;
use crate::clock::Time;
use crate::evidence::Status;
use crate::evidence::chain::find_issuer;
use crate::report::What;

pub struct CheckJob {
    entry: usize,
    /// Until when it waits for another worker that asks.
    patience: Option<Time>,
    /// When another worker was found asking: the newest proof there was then.
    proven_before: Option<Option<Time>>,
    state: State,
}

enum State {
    Look,
    Ask(Asking),
}

struct Asking {
    claim: Claim,
    bundle: std::sync::Arc<Bundle>,
    issuer: X509,
    ca: usize,
    urls: VecDeque<String>,
    /// When the first query went out, and until when answers are waited for.
    asked: Option<(Time, Time)>,
    failure: Option<NoAnswer>,
}

enum Need {
    Ask,
    Replace,
    Nothing,
}

impl CheckJob {
    pub fn new(entry: usize, _now: Time) -> CheckJob {
        CheckJob { entry, patience: None, proven_before: None, state: State::Look }
    }

    pub fn host(&self) -> Option<String> {
        match &self.state {
            State::Look => None,
            State::Ask(asking) => asking.urls.front().map(|url| host_of(url)),
        }
    }

    pub fn step(&mut self, desk: &Desk) -> Next {
        match std::mem::replace(&mut self.state, State::Look) {
            State::Look => self.look(desk),
            State::Ask(asking) => self.ask(desk, asking),
        }
    }

    /// Looks at what there is. Another worker or host may have done everything.
    fn look(&mut self, desk: &Desk) -> Next {
        let now = desk.now();
        let mut entry = desk.entry(self.entry);
        let since = desk.board().demanded(self.entry);
        if let Some(next) = self.settle_without_asking(desk, &mut entry, now, since) {
            return next;
        }
        let deadline = patience(now, since, entry.settings.timeout);
        let Some(claim) = Claim::take(desk, self.entry, now, deadline) else {
            self.proven_before.get_or_insert(entry.proven_at(now));
            let until = *self.patience.get_or_insert(deadline);
            return match until <= now {
                true => Next::Done(End::Idle { since }),
                false => Next::Wait(desk.pause(50, 150)),
            };
        };
        // What was stored before the claim was ours is not asked for again.
        if let Some(next) = self.settle_without_asking(desk, &mut entry, now, since) {
            return next;
        }
        match Asking::new(desk, &entry, claim) {
            Ok(asking) => {
                if since.is_some() {
                    desk.publish(&mut entry, |news| news.working = Some(Working::Checking));
                }
                self.state = State::Ask(asking);
                Next::Run
            }
            Err(cause) => {
                fail(desk, &mut entry, &NoAnswer { cause, retry_after: None }, vec![]);
                after(&entry, now, since, End::Asked(now))
            }
        }
    }

    fn settle_without_asking(
        &self,
        desk: &Desk,
        entry: &mut Entry,
        now: Time,
        since: Option<Time>,
    ) -> Option<Next> {
        // One that fails later is no reason to stop checking what is served.
        let read =
            desk.reload(entry).or_else(|e| if entry.bundle.is_ok() { Ok(()) } else { Err(e) });
        if let Err(error) = read {
            let cause = error.to_string();
            if entry.is_bad(now) {
                replace::give_up(desk, entry, &cause);
            } else {
                fail(desk, entry, &NoAnswer { cause, retry_after: None }, vec![]);
            }
            return Some(Next::Done(End::Asked(now)));
        }
        desk.note_bad(entry, now);
        match self.need(entry, now, since) {
            Need::Ask => None,
            Need::Replace => Some(Next::Done(End::HandOver)),
            Need::Nothing => Some(after(entry, now, since, self.idle(entry, now, since))),
        }
    }

    fn need(&self, entry: &Entry, now: Time, since: Option<Time>) -> Need {
        if entry.is_bad(now) {
            return Need::Replace;
        }
        // An answer counts that was asked for after the demand, or by the worker that this job
        // has waited for: its query is shared.
        let proven = entry.proven_at(now);
        let is_shared = self.proven_before.is_some_and(|before| proven > before);
        // What is only to be renewed in time is not waited for.
        let asks = match since {
            Some(since) => !is_shared && entry.needs_check(now, since),
            None => entry.check_at(now).is_some_and(|due| due <= now),
        };
        if asks { Need::Ask } else { Need::Nothing }
    }

    fn idle(&self, entry: &Entry, now: Time, since: Option<Time>) -> End {
        let proven = entry.proven_at(now);
        match self.proven_before {
            Some(before) if proven > before => proven.map_or(End::Idle { since }, End::Asked),
            _ => End::Idle { since },
        }
    }

    /// One question to one responder.
    fn ask(&mut self, desk: &Desk, mut asking: Asking) -> Next {
        let now = desk.now();
        let (asked, deadline) = match asking.asked {
            Some(asked) => asked,
            None => {
                // It may have stood in a queue until now, which is not the responder's fault.
                let timeout = desk.entry(self.entry).settings.timeout;
                let deadline = patience(now, desk.board().demanded(self.entry), timeout);
                if !asking.claim.prolong(now, deadline) {
                    return Next::Run; // to look, as another worker asks by now
                }
                *asking.asked.insert((now, deadline))
            }
        };
        let Some(url) = asking.urls.pop_front() else {
            return Next::Done(End::Asked(asked)); // a source has at least one
        };
        // Those that come after it get their share of the time.
        let turns = asking.urls.len() as u32 + 1;
        let answer = desk.ports.responders.ask(&Inquiry {
            certificate: &asking.bundle.chain[0],
            facts: &asking.bundle.facts,
            issuer: &asking.issuer,
            url: &url,
            ca: asking.ca,
            is_leaf: true,
            siblings: &[],
            timeout: (deadline.since(now) / turns).max(MINIMUM),
        });
        let now = desk.now();
        let mut entry = desk.entry(self.entry);
        if entry.fingerprint() != Some(&asking.bundle.facts.fingerprint) {
            // It says nothing about the one that is there now, which is looked at.
            let mut counts = vec![Count::OcspQuery];
            match answer {
                Ok(answer) => desk.save_evidence(&mut entry, answer.evidence, answer.der),
                Err(_) => counts.push(Count::OcspError),
            }
            desk.tell(&entry, vec![], counts);
            return Next::Run;
        }
        drop(entry);
        match answer {
            Ok(answer) if answer.evidence.status != Status::Unknown => {
                let mut entry = desk.entry(self.entry);
                learn(desk, &mut entry, answer);
                let since = desk.board().demanded(self.entry);
                after(&entry, now, since, End::Asked(asked))
            }
            refusal => {
                let failure = match refusal {
                    Ok(answer) => unknown(&url, answer, desk, self.entry),
                    Err(failure) => failure,
                };
                if !asking.urls.is_empty() && now < deadline {
                    let counts = vec![Count::OcspQuery, Count::OcspError];
                    desk.tell(&desk.entry(self.entry), vec![], counts);
                    asking.failure = Some(worst(asking.failure.take(), failure));
                    self.state = State::Ask(asking);
                    return Next::Run;
                }
                let failure = worst(asking.failure.take(), failure);
                let mut entry = desk.entry(self.entry);
                fail(desk, &mut entry, &failure, vec![Count::OcspQuery, Count::OcspError]);
                let since = desk.board().demanded(self.entry);
                after(&entry, now, since, End::Asked(asked))
            }
        }
    }
}

impl Asking {
    fn new(desk: &Desk, entry: &Entry, claim: Claim) -> Result<Asking, String> {
        let Ok(bundle) = &entry.bundle else { return Err("no certificate".into()) };
        let source = desk.source(entry).ok_or("nobody can be asked")?;
        let trusted = desk.plan.cas[source.ca].issuer_certificate.as_deref();
        let issuer = find_issuer(&bundle.chain[0], &bundle.chain[1..], trusted)
            .ok_or("the issuer's certificate is neither in the chain nor configured")?;
        Ok(Asking {
            claim,
            bundle: std::sync::Arc::clone(bundle),
            issuer,
            ca: source.ca,
            urls: source.urls.into(),
            asked: None,
            failure: None,
        })
    }
}

/// Where it goes on: handshakes that wait for a name that the certificate lacks need another one.
fn after(entry: &Entry, now: Time, since: Option<Time>, end: End) -> Next {
    let is_due = entry.news.next_issue.is_none_or(|next| next <= now);
    let why = entry.why_replace(now);
    let waited_for = match &why {
        Some(Why::Bad(_)) => true,
        Some(Why::Names) => since.is_some(),
        _ => false,
    };
    Next::Done(if waited_for && is_due { End::HandOver } else { end })
}

/// A verified answer that says something.
fn learn(desk: &Desk, entry: &mut Entry, answer: Answer) {
    let now = desk.now();
    let good = is_good(&answer.evidence);
    desk.save_evidence(entry, answer.evidence, answer.der);
    desk.note_bad(entry, now);
    desk.tell(entry, vec![], vec![Count::OcspQuery]);
    let bad = entry.is_bad(now);
    desk.publish(entry, |news| {
        news.next_check = None;
        news.check_failures = 0;
        news.working = None;
        if news.issue_failures == 0 {
            news.last_error = None;
        }
        if good && !bad {
            news.bad_since = None; // a hold was lifted
        }
    });
    desk.announce_changes();
}

/// An unknown is stored where nothing better is: the status tells it. It proves nothing.
fn unknown(url: &str, answer: Answer, desk: &Desk, index: usize) -> NoAnswer {
    let mut entry = desk.entry(index);
    let serial = answer.evidence.serial.clone();
    desk.save_evidence(&mut entry, answer.evidence, answer.der);
    NoAnswer {
        cause: format!("\"{url}\" does not know certificate serial={serial}"),
        retry_after: None,
    }
}

/// There is no proof: says so, and when it is tried again.
pub fn fail(desk: &Desk, entry: &mut Entry, failure: &NoAnswer, counts: Vec<Count>) {
    let now = desk.now();
    let interval = entry.settings.check_interval;
    let failures = entry.news.check_failures.saturating_add(1);
    let retry = backoff::check(failures, interval, failure.retry_after, desk.share());
    let event = What::CheckFailed { cause: failure.cause.clone(), retry };
    desk.tell(entry, vec![event], counts);
    desk.publish(entry, |news| {
        news.next_check = Some(now + retry);
        news.check_failures = failures;
        news.last_error = Some(brief(&failure.cause));
        news.working = None;
    });
}

/// Both causes, and the longer wish.
fn worst(first: Option<NoAnswer>, second: NoAnswer) -> NoAnswer {
    let Some(first) = first else { return second };
    NoAnswer {
        cause: format!("{}; {}", first.cause, second.cause),
        retry_after: first.retry_after.max(second.retry_after),
    }
}
