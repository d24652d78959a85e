//! The watch: what the disk thread does once a second and when it is woken. It reads the keystore
//! and begins jobs; it never talks to the network.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::board::Lane;
use super::desk::Desk;
use super::entry::Entry;
use super::rekey::Rekeying;
use super::schedule::first_delay;
use super::subject::Subject;
use crate::ca::ChallengeAnswer;
use crate::clock::Time;
use crate::keystore::{Change, Cursor};
use crate::policy::due_at;
use crate::report::What;
use crate::settings::{Check, EntryName};

const RESCAN: Duration = Duration::from_secs(300);

pub struct Watch {
    started: Time,
    /// How far `changes` was read; None: not begun.
    cursor: Option<Cursor>,
    /// The number of `Host::changes_known` up to which it was read.
    known: u64,
    led: bool,
    /// Since when everything is read anew though nothing was heard of, and how many entries were: a
    /// host that was killed between a commit and its line in `changes` tells nobody.
    rescanned: (Time, usize),
    /// When it was said in the keystore that this nginx is there.
    present: Option<Time>,
    /// Answers of other hosts that were made visible here.
    challenges: Vec<ChallengeAnswer>,
    rekeying: Rekeying,
}

impl Watch {
    pub fn new(desk: &Desk) -> Watch {
        Watch {
            started: desk.now(),
            cursor: None,
            known: 0,
            led: false,
            rescanned: (desk.now(), 0),
            present: None,
            challenges: Vec::new(),
            rekeying: Rekeying::default(),
        }
    }

    /// Looks at everything that may have changed. Called every second, when another worker has
    /// something to tell, and at the time that is returned: the next at which something is due.
    pub fn look(&mut self, desk: &Desk) -> Option<Time> {
        // A clock that was set back.
        self.started = self.started.min(desk.now());
        self.rescanned.0 = self.rescanned.0.min(desk.now());
        let leads = desk.host.leads(desk.now());
        let took_over = leads && !self.led;
        self.led = leads;
        if leads {
            self.be_present(desk);
        }
        let known = desk.host.changes_known();
        if self.cursor.is_none() {
            self.begin(desk);
        } else if leads || known != self.known {
            self.read_changes(desk, leads);
        }
        self.known = known;
        self.rescan(desk);
        if took_over {
            self.bring_challenges(desk);
        } else if leads {
            // Not in the first look, which the start of a worker waits for.
            self.rekeying.go_on(desk);
        }
        let all = 0..desk.plan.entries.len();
        all.filter_map(|index| self.look_at(desk, index, leads)).min()
    }

    fn be_present(&mut self, desk: &Desk) {
        let now = desk.now();
        if self.present.is_none_or(|at| at + PRESENCE <= now || now < at) {
            // Not worth a word: who can't write here will say so soon.
            let _ = desk.keystore.be_present(&desk.host.id());
            self.present = Some(now);
        }
    }

    /// Loads all entries.
    fn begin(&mut self, desk: &Desk) {
        // The end of the news comes first, so that nothing falls between.
        let Ok(cursor) = desk.keystore.changes_end() else { return };
        for index in 0..desk.plan.entries.len() {
            let _ = desk.reload(&mut desk.entry(index)); // again when it is looked at
        }
        self.cursor = Some(cursor);
    }

    fn read_changes(&mut self, desk: &Desk, leads: bool) {
        let Some(mut cursor) = self.cursor else { return };
        let mut touched = BTreeSet::new();
        let mut news = false;
        while let Ok((changes, next)) = desk.keystore.changes_since(cursor) {
            if next == cursor {
                break;
            }
            (cursor, news) = (next, true);
            for change in &changes {
                self.take_in(desk, leads, change, &mut touched);
            }
        }
        self.cursor = Some(cursor);
        for index in touched {
            let mut entry = desk.entry(index);
            if desk.reload(&mut entry).is_err() {
                entry.is_stale = true; // it is tried again, and what was there still stands
            }
        }
        if leads && news {
            desk.announce_changes();
        }
    }

    /// A few at each look, so that a thousand entries are no burst.
    fn rescan(&mut self, desk: &Desk) {
        let (since, done) = self.rescanned;
        let (now, all) = (desk.now(), desk.plan.entries.len());
        let due = rescan_due(all, now.since(since));
        for index in done..due {
            let _ = desk.reload(&mut desk.entry(index)); // what was there still stands
        }
        let is_over = now.since(since) >= RESCAN;
        self.rescanned = if is_over { (now, 0) } else { (since, due.max(done)) };
    }

    fn take_in(
        &mut self,
        desk: &Desk,
        leads: bool,
        change: &Change,
        touched: &mut BTreeSet<usize>,
    ) {
        let place = |name: &EntryName| desk.plan.entries.iter().position(|e| e.name == *name);
        match change {
            Change::Certificate(name, version) => {
                self.rekeying.look_at(name); // of another program, or a host without a password
                let Some(index) = place(name) else { return };
                desk.entry(index).heard_of = Some((*version, desk.now()));
                touched.insert(index);
            }
            Change::Import(name) => {
                self.rekeying.look_at(name);
                touched.extend(place(name));
            }
            Change::Evidence(name) => touched.extend(place(name)),
            Change::Renew(name) => {
                let Some(index) = place(name).filter(|_| leads) else { return };
                let mut entry = desk.entry(index);
                entry.unwanted = Some(entry.fingerprint().cloned());
                entry.rests.clear();
                desk.publish(&mut entry, |news| news.next_issue = None);
            }
            Change::Challenge if leads => self.bring_challenges(desk),
            Change::Challenge => {}
            Change::Everything => touched.extend(0..desk.plan.entries.len()),
        }
    }

    /// Returns when something is due next without anybody asking.
    fn look_at(&self, desk: &Desk, index: usize, leads: bool) -> Option<Time> {
        let mut entry = desk.entry(index);
        let now = desk.now();
        let begun = self.started + first_delay(index, desk.plan.entries.len());
        let may_begin = leads && !desk.host.exiting() && begun <= now;
        let is_unread = (!entry.loaded || entry.is_stale) && desk.reload(&mut entry).is_err();
        if is_unread && !entry.loaded {
            // A job meets the same error, tells it and sets a next attempt.
            let next = desk.host.news(index).next_issue;
            if may_begin && next.is_none_or(|next| next <= now) {
                desk.begin((index, Lane::Replace), now);
            }
            return None;
        }
        let news = desk.host.news(index);
        if news != entry.news {
            entry.news = news;
            desk.tell(&entry, vec![], vec![]);
        }
        desk.forget_the_future(&mut entry);
        if !leads || desk.host.exiting() {
            return None;
        }
        self.tell_no_source(desk, &mut entry);
        // It may have become bad by time alone.
        desk.note_bad(&mut entry, now);
        desk.note_refused(&mut entry);
        if now < begun {
            return Some(begun);
        }
        let (check, crl, replace) = (entry.check_at(now), entry.crl_at(now), entry.replace_at(now));
        if check.is_some_and(|due| due <= now) {
            desk.begin((index, Lane::Check), now);
        }
        if crl.is_some_and(|due| due <= now) {
            desk.begin((index, Lane::Crl), now);
        }
        if replace <= now {
            desk.begin((index, Lane::Replace), now);
        }
        let renewal = desk.renewal_info_at(&entry);
        if renewal.is_some_and(|due| due <= now) {
            desk.begin((index, Lane::Renewal), now);
        }
        // What is due already is begun, and tells when it is over. The end of proof is looked at too.
        let end = entry.with_standing(|s| due_at(now, s, &entry.settings));
        check
            .into_iter()
            .chain(crl)
            .chain(renewal)
            .chain([replace, end])
            .filter(|due| now < *due)
            .min()
    }

    fn tell_no_source(&self, desk: &Desk, entry: &mut Entry) {
        let Ok(bundle) = &entry.bundle else { return };
        let facts = &bundle.facts;
        let is_told = entry.told_no_source.as_ref() == Some(&facts.fingerprint);
        if entry.settings.check == Check::Off || is_told {
            return;
        }
        entry.told_no_source = Some(facts.fingerprint.clone());
        let unchecked = entry.subjects.iter().filter(|s| !s.has_source());
        let event = |s: &Arc<Subject>| match (s.is_ca, s.names_source()) {
            (false, _) => Some(What::NoSource { serial: s.facts.serial.clone() }),
            (true, true) => Some(What::NoIssuer { serial: s.facts.serial.clone() }),
            // Many intermediates name nobody.
            (true, false) => None,
        };
        let events: Vec<What> = unchecked.filter_map(event).collect();
        if !events.is_empty() {
            desk.tell(entry, events, vec![]);
        }
    }

    fn bring_challenges(&mut self, desk: &Desk) {
        let now = desk.now();
        let Ok(answers) = desk.keystore.challenges(now) else { return };
        for gone in self.challenges.iter().filter(|a| !answers.contains(a)) {
            desk.host.withdraw_challenge(gone);
        }
        for new in answers.iter().filter(|a| !self.challenges.contains(a)) {
            // One that finds no room is answered by the host that it belongs to.
            let _ = desk.host.publish_challenge(new, now + CHALLENGE_LIFE);
        }
        self.challenges = answers;
    }
}

/// Others take this nginx for gone after a few of these.
const PRESENCE: Duration = Duration::from_secs(3);
/// How many of all entries were to be read anew after so much of [`RESCAN`].
fn rescan_due(all: usize, elapsed: Duration) -> usize {
    let share = (elapsed.as_secs_f64() / RESCAN.as_secs_f64()).min(1.0);
    (all as f64 * share) as usize
}

const CHALLENGE_LIFE: Duration = Duration::from_secs(600);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rescan_is_no_burst() {
        for all in [0, 1, 1000] {
            let due: Vec<usize> =
                (0..=300).map(|s| rescan_due(all, Duration::from_secs(s))).collect();
            assert_eq!((due[0], due[300]), (0, all));
            assert!(due.windows(2).all(|w| w[0] <= w[1] && w[1] - w[0] <= all.div_ceil(300)));
        }
        assert_eq!(rescan_due(7, RESCAN * 9), 7);
    }
}
