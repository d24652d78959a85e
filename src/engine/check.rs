//! The check of an entry: reads what the keystore has, and asks for evidence about each
//! certificate of the chain where that is not enough. It issues nothing: what it finds bad it
//! hands over.

use std::time::Duration;

use super::board::Lane;
use super::desk::Desk;
use super::entry::Entry;
use super::host::{Count, Working};
use super::job::{Claim, End, MINIMUM, Next, patience};
use super::outcome::{self, Answers, after, fail};
use super::ports::{Inquiry, NoAnswer};
use super::replace;
use super::round::Round;
use crate::clock::Time;
use crate::evidence::{Source, Status};
use crate::http::url::host_of;

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
    /// All responders were asked; a CRL is on its way.
    AwaitCrl(Asking),
}

struct Asking {
    claim: Claim,
    round: Round,
    /// When the first query went out, and until when answers are waited for.
    asked: Option<(Time, Time)>,
    /// A responder has answered.
    answered: bool,
    /// Why certificates are without an answer.
    failure: Option<NoAnswer>,
    /// CRLs were looked at for those who wait now, not only for others before them.
    crl_begun: bool,
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
            State::Ask(asking) => asking.round.url().map(host_of),
            State::Look | State::AwaitCrl(_) => None,
        }
    }

    pub fn step(&mut self, desk: &Desk) -> Next {
        match std::mem::replace(&mut self.state, State::Look) {
            State::Look => self.look(desk),
            State::Ask(asking) => self.ask(desk, asking),
            State::AwaitCrl(asking) => self.await_crl(desk, asking),
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
        if since.is_some() {
            desk.publish(&mut entry, |news| news.working = Some(Working::Checking));
        }
        let (round, failure) = Round::new(&entry, Source::Ocsp, now, since);
        let (asked, answered, crl_begun) = (None, false, false);
        self.state = State::Ask(Asking { claim, round, asked, answered, failure, crl_begun });
        Next::Run
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
                fail(desk, entry, &NoAnswer { cause, retry_after: None });
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
        let is_due = entry.check_at(now).is_some_and(|due| due <= now);
        if entry.is_bad(now) {
            // Whether a hold was lifted is asked while nobody waits.
            return if is_due && since.is_none() { Need::Ask } else { Need::Replace };
        }
        // An answer counts that was asked for after the demand, or by the worker that this job
        // has waited for: its query is shared.
        let proven = entry.proven_at(now);
        let is_shared = self.proven_before.is_some_and(|before| proven > before);
        // What is only to be renewed in time is not waited for.
        let asks = match since {
            Some(since) => !is_shared && entry.needs_check(now, since),
            None => is_due,
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
        let (_, deadline) = match asking.asked {
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
        asking.round.pass_over_answered(&desk.entry(self.entry), now);
        let Some((subject, issuer, url)) = asking.round.take() else {
            return self.settle(desk, asking, deadline);
        };
        // Those that come after it get their share of the time.
        let turns = asking.round.left() + 1 + u32::from(subject.has_crl());
        let siblings = desk.siblings(&subject);
        let answer = desk.ports.responders.ask(&Inquiry {
            siblings: &siblings,
            ..subject.inquiry(&issuer, &url, (deadline.since(now) / turns).max(MINIMUM))
        });
        let mut counts = vec![Count::OcspQuery];
        let mut failure = None;
        let mut entry = desk.entry(self.entry);
        // Another worker or host may have replaced it meanwhile.
        let _ = desk.reload(&mut entry);
        match answer {
            Ok(answer) => {
                let proves = answer.evidence.status != Status::Unknown;
                if !proves {
                    let serial = &subject.facts.serial;
                    let cause = format!("\"{url}\" does not know certificate serial={serial}");
                    failure = Some(NoAnswer { cause, retry_after: None });
                }
                // One about what was replaced meanwhile must not take the place of its successor's.
                let is_stapled = !subject.is_ca && asking.round.is_about(&entry);
                let der = is_stapled.then_some(answer.der);
                // An unknown is stored where nothing better is: the status tells it.
                desk.save_evidence(&mut entry, answer.evidence.clone(), der);
                desk.note_bad(&mut entry, desk.now());
                if proves {
                    asking.round.answered(&subject);
                    asking.answered = true;
                    drop(entry);
                    if subject.is_ca {
                        desk.spread(self.entry, &answer.evidence);
                    }
                    answer.others.iter().for_each(|other| desk.spread(self.entry, other));
                    entry = desk.entry(self.entry);
                }
            }
            Err(cause) => failure = Some(cause),
        }
        if let Some(failure) = failure {
            counts.push(Count::OcspError);
            asking.failure = asking.round.failed(&subject, failure, asking.failure.take());
        }
        desk.tell(&entry, vec![], counts);
        if !asking.round.is_about(&entry) {
            return Next::Run; // to look at the certificate that is there now
        }
        if entry.is_bad(desk.now()) {
            outcome::rest_if_due(desk, &mut entry);
            desk.announce_changes();
            let since = desk.board().demanded(self.entry);
            let asked = asking.asked.map_or(now, |(asked, _)| asked);
            return after(&entry, desk.now(), since, End::Asked(asked));
        }
        drop(entry);
        if desk.now() >= deadline {
            asking.failure = asking.round.give_up(asking.failure.take());
        }
        self.state = State::Ask(asking);
        Next::Run
    }

    /// All that could be asked was. Where that was not enough CRLs are looked at.
    fn settle(&mut self, desk: &Desk, mut asking: Asking, deadline: Time) -> Next {
        let now = desk.now();
        let mut entry = desk.entry(self.entry);
        if !asking.round.is_about(&entry) {
            return Next::Run;
        }
        let since = desk.board().demanded(self.entry);
        let each = entry.settings.check_interval.is_zero();
        let lacks = entry.lacks_crl(now, since);
        let is_due = entry.news.next_crl.is_none_or(|next| next <= now);
        let beside = each && entry.has_crl();
        if is_due && (lacks || (beside && since.is_some())) {
            asking.crl_begun = desk.begin_crl(self.entry, since);
            if lacks && now < deadline {
                drop(entry);
                self.state = State::AwaitCrl(asking);
                return Next::Wait(Duration::from_millis(20));
            }
        }
        asking.conclude(desk, &mut entry, since)
    }

    fn await_crl(&mut self, desk: &Desk, mut asking: Asking) -> Next {
        let now = desk.now();
        let mut entry = desk.entry(self.entry);
        if !asking.round.is_about(&entry) {
            return Next::Run;
        }
        let since = desk.board().demanded(self.entry);
        let deadline = asking.asked.map_or(now, |(_, deadline)| deadline);
        let may_wait = now < deadline && !entry.is_bad(now) && entry.lacks_crl(now, since);
        let mut is_coming = desk.board().is_active((self.entry, Lane::Crl));
        // What came was for others, and asked for before these began to wait.
        if may_wait && !is_coming && !asking.crl_begun && entry.may_look_at_crl(now, since) {
            asking.crl_begun = desk.begin_crl(self.entry, since);
            is_coming = asking.crl_begun;
        }
        if may_wait && is_coming {
            drop(entry);
            let pause = desk.pause(30, 80);
            self.state = State::AwaitCrl(asking);
            return Next::Wait(pause);
        }
        asking.conclude(desk, &mut entry, since)
    }
}

impl Asking {
    fn conclude(self, desk: &Desk, entry: &mut Entry, since: Option<Time>) -> Next {
        let asked = self.asked.map_or(desk.now(), |(asked, _)| asked);
        let answers = Answers { asked, any: self.answered, failure: self.failure };
        outcome::conclude(desk, entry, answers, since)
    }
}
