//! One attempt at a replacement: the lock it holds, what an earlier one has left, and which CAs
//! may be asked.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use openssl::pkey::{PKey, Private};

use super::desk::Desk;
use super::entry::Entry;
use super::host::Count;
use super::job::{MINIMUM, patience};
use super::schedule::Why;
use super::{budget, rest};
use crate::bundle::private_key;
use crate::ca::Order;
use crate::ca::csr::asks_for_kind;
use crate::clock::Time;
use crate::facts::Serial;
use crate::keystore::{KeystoreError, Lock, Pending};
use crate::names::stands_for;

/// One attempt. Dropped, it gives back the entry's lock.
pub struct Attempt {
    pub lock: Lock,
    pub why: Why,
    /// What is replaced, if it can be read.
    pub old: Option<Serial>,
    /// Since when there is nothing to serve, or else since when it is replaced.
    pub since: Time,
    pub begun: Time,
    /// Those that are still to be tried.
    pub cas: VecDeque<usize>,
    pub ca: usize,
    /// What lies in the keystore: the issuance at this CA, or at another one until it makes way.
    pub pending: Option<Pending>,
    /// Another chain of what is pending, should that one be of no use.
    pub fallback: Option<Vec<u8>>,
    /// It is an earlier attempt's.
    pub taken_up: bool,
    /// Orders that are of no use any more, for their CAs to be told so.
    pub left: Vec<Order>,
    pub failures: Vec<Failure>,
    pub counts: Vec<Count>,
}

/// Why one CA gave nothing that may be served.
pub struct Failure {
    pub ca: usize,
    pub cause: String,
    /// It is not to be asked before.
    pub not_before: Option<Time>,
}

impl Attempt {
    pub fn new(
        desk: &Desk,
        entry: &Entry,
        lock: Lock,
        why: Why,
        now: Time,
    ) -> Result<Attempt, KeystoreError> {
        let left = match desk.keystore.pending(&entry.settings.name) {
            // Stored already: the crash came before it was cleared.
            Ok(pending) => pending.filter(|p| !is_stored(p, entry)),
            Err(KeystoreError::Damaged { .. }) => None,
            // The certificate can be read: the passwords are right, and the order's is gone.
            Err(KeystoreError::Sealed { .. }) if entry.bundle.is_ok() => None,
            Err(error) => return Err(error),
        };
        let (pending, useless) = match left {
            Some(pending) if is_of_use(&pending, entry) => (Some(pending), None),
            useless => (None, useless),
        };
        if pending.is_none() {
            useless.iter().for_each(|p| write_off(desk, &lock, p));
            desk.keystore.clear_pending(&lock)?;
        }
        let left = useless.into_iter().map(|p| p.order).collect();
        let place = |name: &String| desk.plan.cas.iter().position(|c| c.name == *name);
        let mut cas: VecDeque<usize> = entry.settings.cas.iter().filter_map(place).collect();
        // An order that a CA has comes first, whoever has it: nothing is issued while a chain
        // waits, and an order that was left in favour of another CA would never be taken up.
        if let Some(pending) = pending.as_ref().filter(|p| is_at_ca(p)) {
            if let Some(i) = cas.iter().position(|c| desk.plan.cas[*c].name == pending.order.ca) {
                let first = cas.remove(i);
                first.into_iter().for_each(|ca| cas.push_front(ca));
            }
        }
        let before = pending.as_ref().and_then(|p| p.replaces.as_ref());
        let before = before.filter(|r| Some(r.reason.as_str()) == why.reason()).map(|r| r.since);
        let since = match why.is_bad() {
            true => entry.news.bad_since.unwrap_or(now).min(before.unwrap_or(now)),
            false => now,
        };
        Ok(Attempt {
            lock,
            why,
            old: entry.serial(),
            since,
            begun: now,
            cas,
            ca: 0,
            fallback: None,
            taken_up: pending.is_some(),
            left,
            pending,
            failures: Vec::new(),
            counts: Vec::new(),
        })
    }

    /// How long one request to the CA may take, if less than usual: handshakes wait for what is
    /// ordered, and another CA is left to ask in that time. What is too short for an
    /// honest try helps nobody; and every other attempt leaves the CA all of its time, should it be
    /// slow and the only one that works.
    pub fn haste(&self, desk: &Desk, entry: &Entry, now: Time) -> Option<Duration> {
        let others = u32::try_from(self.cas.len()).ok().filter(|others| *others > 0)?;
        let demanded = desk.board().demanded(entry.index);
        let is_waited_for = self.why_now(entry, now).is_waited_for(demanded.is_some());
        let left = patience(now, demanded.or(Some(now)), entry.settings.timeout).since(now);
        let share = left / (others + 2);
        let is_turn = entry.news.issue_failures % 2 == 0;
        (is_waited_for && is_turn && share >= MINIMUM).then_some(share)
    }

    /// Why it is replaced as things are: it may have become bad since, or have been mended.
    pub fn why_now(&self, entry: &Entry, now: Time) -> Why {
        entry.why_replace(now).unwrap_or_else(|| self.why.clone())
    }

    /// Has the CAs take back what they published for orders that are of no use. That may take as
    /// long as a step of an order.
    pub fn abandon(&mut self, desk: &Desk) {
        for order in self.left.drain(..) {
            desk.ports
                .cas
                .iter()
                .filter(|ca| ca.name() == order.ca)
                .for_each(|ca| ca.abandon(&order));
        }
    }

    /// What tells these failures from those before the last issuance; None: there are none.
    pub fn passed_over(&self) -> Option<u64> {
        let mut hasher = DefaultHasher::new();
        for failure in &self.failures {
            (failure.ca, gist(&failure.cause)).hash(&mut hasher);
        }
        (!self.failures.is_empty()).then(|| hasher.finish())
    }

    /// The issuance that is under way at the CA whose turn it is.
    pub fn under_way(&self, desk: &Desk) -> Option<&Pending> {
        self.pending.as_ref().filter(|p| p.order.ca == desk.plan.cas[self.ca].name)
    }
}

/// How the end of a cause begins that tells of haste.
pub const IN_HASTE: &str = " (in haste: ";

/// A cause as far as it is the same each time: numbers are times, ports and orders, and haste
/// depends on who waits.
fn gist(cause: &str) -> String {
    let lasting = cause.split(IN_HASTE).next().unwrap_or_default();
    lasting.chars().filter(|c| !c.is_ascii_digit()).collect()
}

/// Whether there is an order at the CA, as far as we know: a request that was lost on the way is
/// none, and its CA is asked in its turn.
fn is_at_ca(pending: &Pending) -> bool {
    let order = &pending.order;
    order.accepted || !order.state.is_null() || pending.chain.is_some()
}

/// Whether an issuance of an earlier attempt is gone on with.
fn is_of_use(pending: &Pending, entry: &Entry) -> bool {
    // Another host may have asked for more names than ours.
    let asked = &pending.order.names;
    let is_asked = |name: &String| asked.iter().any(|san| stands_for(san, name));
    let has_names = entry.settings.names.iter().all(is_asked);
    let knows_ca = entry.settings.cas.contains(&pending.order.ca);
    // A key that the CA made is as the CA likes it.
    let is_of_kind = asks_for_kind(&pending.order.csr, entry.settings.key);
    has_names && knows_ca && is_of_kind && key(pending).is_some()
}

fn key(pending: &Pending) -> Option<PKey<Private>> {
    private_key(pending.key_pem.bytes()).ok()
}

fn is_stored(pending: &Pending, entry: &Entry) -> bool {
    let stored = entry.bundle.as_ref().ok().map(|bundle| &bundle.key);
    stored.zip(key(pending)).is_some_and(|(stored, key)| key.public_eq(stored))
}

/// Whether the CA whose turn it is may be asked; else why not, and until when.
pub fn may_ask(
    desk: &Desk,
    entry: &Entry,
    attempt: &Attempt,
    now: Time,
) -> Result<(), (String, Option<Time>)> {
    if let Some(until) = rest::until(desk, entry, attempt.ca, now) {
        return Err((format!("wants to be left alone until {until}"), Some(until)));
    }
    // A person's wish is never refused, and an order that is under way was allowed when it was new.
    if entry.is_unwanted() || attempt.under_way(desk).is_some() {
        return Ok(());
    }
    let ca = &desk.plan.cas[attempt.ca];
    // What lacks names, or is only suggested, may be due by time as well.
    let may_wait = attempt.why.gets_half();
    let renewal = entry.renewal_at().filter(|_| may_wait);
    let why = if renewal.is_some_and(|at| at <= now) { &Why::Renewal } else { &attempt.why };
    match budget::allowed_at(&desk.keystore, &entry.settings.name, ca, why, now) {
        Ok(at) if at <= now => Ok(()),
        Ok(at) => {
            let half = if may_wait { "half the " } else { "" };
            let (count, window) = (ca.budget.count, ca.budget.window.as_secs());
            let cause = format!("{half}budget of {count} in {window} s is used up");
            Err((cause, Some(renewal.map_or(at, |renewal| at.min(renewal)))))
        }
        // Its count is lost: a reason to begin a new one, none to refuse.
        Err(KeystoreError::Damaged { .. }) => Ok(()),
        Err(error) => Err((error.to_string(), None)),
    }
}

/// Counts what the CA delivered, before it is stored: a crash in between counts it twice.
pub fn note_issuance(desk: &Desk, attempt: &Attempt, pending: &mut Pending) {
    if attempt.why.is_budgeted() && !pending.counted {
        pending.counted = record(desk, &attempt.lock, pending, false);
    }
}

/// Counts what will never be served, whyever it was asked for and whether it arrived or not: it is
/// the CA that the budget spares.
pub fn write_off(desk: &Desk, lock: &Lock, pending: &Pending) {
    if pending.order.accepted && !pending.counted {
        record(desk, lock, pending, true);
    }
}

fn record(desk: &Desk, lock: &Lock, pending: &Pending, wasted: bool) -> bool {
    // A full disk must not keep a replacement from being served.
    desk.keystore.record_issuance(lock, &pending.order.ca, desk.now(), wasted).is_ok()
}

#[cfg(test)]
mod tests {
    use super::gist;

    #[test]
    fn causes_that_are_the_same() {
        let down = "order: down";
        for (a, b, same) in [
            ("order 17: gone", "order 203: gone", true),
            ("order: down (in haste: 2.5 s a request)", down, true),
            ("order: down (in haste: 2.5 s a request)", "order: down (in haste: 3.0 s", true),
            ("order: up", down, false),
            ("", down, false),
        ] {
            assert_eq!(gist(a) == gist(b), same, "{a} {b}");
        }
    }
}
