//! How long a CA wants to be left alone (Retry-After). Kept in the keystore too: neither a restart
//! nor another worker or host asks it before.

use std::time::Duration;

use super::attempt::Attempt;
use super::desk::Desk;
use super::entry::Entry;
use crate::clock::{SKEW, Time};
use crate::keystore::Rest;

/// Notes the wish of the CA whose turn it is. From when on it may be asked.
pub fn note(desk: &Desk, entry: &mut Entry, attempt: &Attempt, wish: Duration) -> Time {
    let now = desk.now();
    let rest = Rest {
        ca: desk.plan.cas[attempt.ca].name.clone(),
        host: desk.ports.cas[attempt.ca].host().to_owned(),
        noted_at: now,
        until: now + wish.min(LONGEST),
    };
    let until = rest.until;
    // A full disk must not keep us from leaving it alone.
    let _ = desk.keystore.record_rest(&attempt.lock, &rest);
    entry.rests.retain(|r| r.ca != rest.ca);
    entry.rests.push(rest);
    until
}

/// Until when the CA wants to be left alone; None: it may be asked.
pub fn until(desk: &Desk, entry: &Entry, ca: usize, now: Time) -> Option<Time> {
    // What a person wants counts more than what was noted before: watch.rs has forgotten that.
    let stored = match entry.is_unwanted() {
        true => Vec::new(),
        // What can't be read is nobody's wish.
        false => desk.keystore.rests(&entry.settings.name).unwrap_or_default(),
    };
    let name = &desk.plan.cas[ca].name;
    // The same name may mean another CA by now, or another one of the CA's servers.
    let host = desk.ports.cas[ca].host();
    let of_ca = |r: &&Rest| r.ca == *name && r.host == host;
    let wishes = entry.rests.iter().chain(&stored).filter(of_ca);
    wishes.filter_map(|r| end(r, now)).max()
}

fn end(rest: &Rest, now: Time) -> Option<Time> {
    // A clock that was ahead wrote it.
    let is_sane = rest.noted_at <= now + SKEW;
    let end = rest.until.min(rest.noted_at + LONGEST);
    (is_sane && now < end).then_some(end)
}

/// A longer wish is a mistake: nothing would end it but a person.
const LONGEST: Duration = Duration::from_secs(86_400);
