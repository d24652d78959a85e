//! What a check comes to: what is told, what is noted for all workers, and when it is tried again.

use std::time::Duration;

use super::backoff;
use super::board::Lane;
use super::desk::{Desk, brief};
use super::entry::Entry;
use super::host::News;
use super::job::{End, Next};
use super::ports::NoAnswer;
use super::schedule::Why;
use crate::clock::Time;
use crate::policy;
use crate::report::What;

/// What responders have said.
pub struct Answers {
    /// When the first question was asked.
    pub asked: Time,
    /// Whether one of them has answered.
    pub any: bool,
    /// Why certificates are without an answer.
    pub failure: Option<NoAnswer>,
}

/// What all the answers come to. `since`: handshakes wait since then.
pub fn conclude(desk: &Desk, entry: &mut Entry, answers: Answers, since: Option<Time>) -> Next {
    let now = desk.now();
    // A CRL may have been asked for by others, after these began to wait.
    let asked = since.map_or(answers.asked, |since| answers.asked.min(since));
    // Where a CRL can always stand in nobody is the worse for a responder that fails.
    let has_crls = entry.links().iter().all(|link| link.has_crl || !link.has_ocsp);
    match (answers.failure, what_lacks(desk, entry, now, asked, since)) {
        (Some(failure), Lacks::Nothing) if has_crls => fail_quietly(desk, entry, &failure),
        (Some(failure), _) | (None, Lacks::Something(failure)) => {
            fail(desk, entry, &failure);
        }
        (None, Lacks::Crl(next)) => postpone(desk, entry, next),
        (None, Lacks::Nothing) => {
            settle_news(desk, entry);
            if answers.any {
                desk.publish(entry, |news| (news.next_ocsp, news.ocsp_failures) = (None, 0));
            }
        }
    }
    desk.announce_changes();
    after(entry, now, since, End::Asked(asked))
}

enum Lacks {
    Nothing,
    /// A CRL that could not be had, as was or will be told; it is tried again then.
    Crl(Time),
    Something(NoAnswer),
}

/// Nobody who was asked failed, and yet handshakes that have waited may lack something.
fn what_lacks(desk: &Desk, entry: &Entry, now: Time, asked: Time, since: Option<Time>) -> Lacks {
    let settings = &entry.settings;
    let (is_proven, lacks_staple) = entry.with_standing(|s| {
        let is_proven = policy::is_proven(now, s, settings, Some(asked));
        (is_proven, policy::lacks_staple(now, s, settings))
    });
    let is_coming = desk.board().is_active((entry.index, Lane::Crl));
    let cause = match entry.news.next_crl.filter(|next| now < *next) {
        _ if is_proven && !lacks_staple => return Lacks::Nothing,
        _ if is_proven => "no OCSP answer that can be stapled, as the certificate demands it",
        // Nobody waits for it, and the job that looks at it tells what becomes of that.
        _ if is_coming && since.is_none() => return Lacks::Crl(now + SOON),
        _ if is_coming => "crl: it is still being fetched",
        Some(next) => return Lacks::Crl(next),
        None => "nobody who was asked gave proof",
    };
    Lacks::Something(NoAnswer { cause: cause.to_owned(), retry_after: None })
}

/// A CRL gave the proof that no responder gave: says so, and when they are asked again.
fn fail_quietly(desk: &Desk, entry: &mut Entry, failure: &NoAnswer) {
    settle_news(desk, entry);
    tell_failure(desk, entry, failure, entry.news.ocsp_failures, |news, next, failures| {
        (news.next_ocsp, news.ocsp_failures) = (Some(next), failures);
    });
}

const SOON: Duration = Duration::from_secs(5);

/// It is bad. A hold that the answer did not lift is asked about again later: an answer that is
/// older than the hold leaves no trace, and would be asked for again at once.
pub fn rest_if_due(desk: &Desk, entry: &mut Entry) {
    let now = desk.now();
    let is_due = entry.check_at(now).is_some_and(|due| due <= now);
    let failures = entry.news.check_failures.saturating_add(1);
    let rest = backoff::check(failures, entry.settings.check_interval, None, desk.share());
    desk.publish(entry, |news| {
        news.working = None;
        if is_due {
            (news.next_check, news.check_failures) = (Some(now + rest), failures);
        }
    });
}

/// Nobody is held before that.
fn postpone(desk: &Desk, entry: &mut Entry, next: Time) {
    desk.publish(entry, |news| {
        news.next_check = Some(next);
        news.check_failures = news.check_failures.saturating_add(1);
        news.working = None;
    });
}

/// Where it goes on: handshakes that wait for a name that the certificate lacks need another one.
pub fn after(entry: &Entry, now: Time, since: Option<Time>, end: End) -> Next {
    let is_due = entry.news.next_issue.is_none_or(|next| next <= now);
    let waited_for = |why: Why| why.is_waited_for(since.is_some());
    Next::Done(if entry.why_replace(now).is_some_and(waited_for) && is_due {
        End::HandOver
    } else {
        end
    })
}

/// There is proof: nothing is left of earlier failures.
pub fn settle_news(desk: &Desk, entry: &mut Entry) {
    let bad = entry.is_bad(desk.now());
    desk.publish(entry, |news| {
        news.next_check = None;
        news.check_failures = 0;
        news.working = None;
        if !news.issue_is_open() && news.crl_failures == 0 {
            news.last_error = None;
        }
        if !bad {
            news.bad_since = None; // a hold was lifted
        }
    });
}

/// There is no proof: says so, and when it is tried again.
pub fn fail(desk: &Desk, entry: &mut Entry, failure: &NoAnswer) {
    tell_failure(desk, entry, failure, entry.news.check_failures, |news, next, failures| {
        (news.next_check, news.check_failures) = (Some(next), failures);
        news.working = None;
    });
}

/// Says what failed after so many failures in a row, and lets `note` note the next attempt and
/// how many there are now.
pub fn tell_failure(
    desk: &Desk,
    entry: &mut Entry,
    failure: &NoAnswer,
    before: u32,
    note: impl Fn(&mut News, Time, u32),
) {
    let now = desk.now();
    let failures = before.saturating_add(1);
    let interval = entry.settings.check_interval;
    let retry = backoff::check(failures, interval, failure.retry_after, desk.share());
    let event = What::CheckFailed { cause: failure.cause.clone(), retry };
    desk.tell(entry, vec![event], vec![]);
    desk.publish(entry, |news| {
        note(news, now + retry, failures);
        news.last_error = Some(brief(&failure.cause));
    });
}
