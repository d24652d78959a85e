//! The budget: replacements that are not due by time, per entry and CA, counted in the keystore's
//! ledger so that neither restarts nor other hosts widen it. What is due by time is never refused,
//! but after as many issuances of which nothing could be served the next one, which may well be
//! like them, waits an hour: a mistake that was mended must not cost a week.
//! Names that are lacking, and what a CA only suggests, get half of it: two hosts with different
//! names on one keystore must leave something for a revocation.

use std::time::Duration;

use super::schedule::Why;
use crate::clock::Time;
use crate::keystore::{Keystore, KeystoreError};
use crate::settings::{CaSettings, EntryName};

/// When the CA may be asked for one more: `now`, or a later time.
pub fn allowed_at(
    keystore: &Keystore,
    name: &EntryName,
    ca: &CaSettings,
    why: &Why,
    now: Time,
) -> Result<Time, KeystoreError> {
    let (count, window) = (ca.budget.count as usize, ca.budget.window);
    let (count, wasted) = match why {
        why if why.gets_half() => ((count / 2).max(1).min(count), false),
        why if why.is_budgeted() => (count, false),
        _ => (count.max(1), true),
    };
    let is_full = |since, count| {
        Ok::<_, KeystoreError>(keystore.issued_since(name, &ca.name, since, wasted)? >= count)
    };
    if !is_full(now - window, count)? {
        return Ok(now);
    }
    let (count, window) = if wasted { (1, window.min(AFTER_WASTE)) } else { (count, window) };
    let (mut full, mut free) = (now - window, now + Duration::from_secs(1));
    if !is_full(full, count)? {
        return Ok(now);
    }
    // The ledger only counts: the moment from which on there are fewer is found by halves.
    while free.since(full) > Duration::from_secs(1) {
        let middle = full + free.since(full) / 2;
        if is_full(middle, count)? { full = middle } else { free = middle }
    }
    Ok(free + window)
}

const AFTER_WASTE: Duration = Duration::from_secs(3600);
