//! CRLs about the certificates of an entry's chain: looked at beside OCSP, on their own time. A
//! large one takes longer to come than any handshake is held.

use std::time::Duration;

use super::backoff;
use super::desk::Desk;
use super::entry::Entry;
use super::host::Count;
use super::job::{End, Next};
use super::outcome::{after, settle_news, tell_failure};
use super::ports::NoAnswer;
use super::round::Round;
use super::subject::Subject;
use crate::clock::Time;
use crate::evidence::Source;
use crate::http::url::host_of;

pub struct CrlJob {
    entry: usize,
    /// Since when handshakes wait, if they do.
    since: Option<Time>,
    asking: Option<Asking>,
}

struct Asking {
    round: Round,
    failure: Option<NoAnswer>,
    /// Until when it waits for another worker or host that fetches.
    until: Time,
}

impl CrlJob {
    pub fn new(entry: usize, since: Option<Time>) -> CrlJob {
        CrlJob { entry, since, asking: None }
    }

    pub fn host(&self) -> Option<String> {
        self.asking.as_ref().and_then(|asking| asking.round.url()).map(host_of).map(place_at)
    }

    pub fn step(&mut self, desk: &Desk) -> Next {
        match self.asking.take() {
            None => self.look(desk),
            Some(asking) => self.ask(desk, asking),
        }
    }

    fn look(&mut self, desk: &Desk) -> Next {
        let now = desk.now();
        let entry = desk.entry(self.entry);
        let (round, failure) = Round::new(&entry, Source::Crl, now, self.since);
        if round.url().is_none() && failure.is_none() {
            return Next::Done(End::Idle { since: None });
        }
        self.asking = Some(Asking { round, failure, until: now + PATIENCE });
        Next::Run
    }

    /// One CRL.
    fn ask(&mut self, desk: &Desk, mut asking: Asking) -> Next {
        let Some((subject, issuer, url)) = asking.round.take() else {
            return self.conclude(desk, asking);
        };
        let asked_since = self.asked_since(&desk.entry(self.entry), &subject, desk.now());
        let inquiry = subject.inquiry(&issuer, &url, LONGEST);
        match desk.ports.crls.look_up(&inquiry, asked_since) {
            Ok(Some(listing)) => {
                let mut entry = desk.entry(self.entry);
                let counts = if listing.fetched { vec![Count::CrlFetch] } else { vec![] };
                asking.round.answered(&subject);
                desk.save_evidence(&mut entry, listing.evidence.clone(), None);
                desk.note_bad(&mut entry, desk.now());
                desk.tell(&entry, vec![], counts);
                drop(entry);
                if subject.is_ca {
                    desk.spread(self.entry, &listing.evidence);
                }
            }
            Ok(None) if desk.now() < asking.until => {
                asking.round.put_back(url);
                // A thousand entries may wait for one large CRL.
                let waited = (desk.now() + PATIENCE).since(asking.until).as_millis() as u64;
                let seldom = (waited / 4).clamp(50, 2000);
                let from = if self.since.is_some() { 50 } else { seldom };
                self.asking = Some(asking);
                return Next::Wait(desk.pause(from, 3 * from));
            }
            Ok(None) => {
                let cause = format!("crl: another worker has not fetched it in time, source={url}");
                let failure = NoAnswer { cause, retry_after: None };
                asking.failure = asking.round.failed(&subject, failure, asking.failure.take());
            }
            Err(failure) => {
                desk.tell(&desk.entry(self.entry), vec![], vec![Count::CrlFetch]);
                asking.failure = asking.round.failed(&subject, failure, asking.failure.take());
            }
        }
        self.asking = Some(asking);
        Next::Run
    }

    /// From when on a copy that somebody else has asked for is as good as an own one.
    fn asked_since(&self, entry: &Entry, subject: &Subject, now: Time) -> Time {
        let interval = entry.settings.check_interval;
        let own = entry.known(&subject.facts.fingerprint).filter(|e| e.source == Source::Crl);
        let newer = own.map(|e| e.checked_at + Duration::from_millis(1)).max();
        let fresh = match self.since {
            Some(since) if interval.is_zero() => since,
            _ => now - interval,
        };
        newer.map_or(fresh, |newer| newer.max(fresh)).min(now)
    }

    fn conclude(&self, desk: &Desk, asking: Asking) -> Next {
        let now = desk.now();
        let mut entry = desk.entry(self.entry);
        if !asking.round.is_about(&entry) {
            return Next::Done(End::Idle { since: None }); // it is looked at anew
        }
        match asking.failure {
            Some(failure) => fail(desk, &mut entry, &failure),
            None => settle(desk, &mut entry),
        }
        desk.announce_changes();
        after(&entry, now, None, End::Idle { since: None })
    }
}

fn settle(desk: &Desk, entry: &mut Entry) {
    let now = desk.now();
    let bad = entry.is_bad(now);
    desk.publish(entry, |news| (news.next_crl, news.crl_failures) = (None, 0));
    // As with OCSP: one that is older than a hold leaves no trace.
    let is_due = bad && entry.crl_at(now).is_some_and(|due| due <= now);
    let rest = backoff::check(u32::MAX, entry.settings.check_interval, None, desk.share());
    desk.publish(entry, |news| {
        if is_due {
            news.next_crl = Some(now + rest);
        }
        if !bad {
            news.bad_since = None; // a hold was lifted
        }
        if !news.issue_is_open() && news.check_failures == 0 {
            news.last_error = None;
        }
    });
    // A failed check was for want of this.
    if entry.links().iter().all(|link| !link.has_ocsp) {
        settle_news(desk, entry);
    }
}

/// What is known still counts; says so, and when it is tried again.
pub fn fail(desk: &Desk, entry: &mut Entry, failure: &NoAnswer) {
    tell_failure(desk, entry, failure, entry.news.crl_failures, |news, next, failures| {
        (news.next_crl, news.crl_failures) = (Some(next), failures);
    });
}

/// What CRLs of a host are counted under: a large one that comes in for minutes must not stand in
/// the way of OCSP, which many CAs have at the same host.
pub fn place_at(host: String) -> String {
    format!("crl {host}")
}

/// For one CRL: a shard of 70 MB over a slow line.
pub const LONGEST: Duration = Duration::from_secs(300);
/// Longer than another worker fetches one.
const PATIENCE: Duration = Duration::from_secs(330);
