//! The ledger: when which CA issued for an entry, for the budget. It only counts; what was due by
//! time is in it only when nothing came of it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::disk::Dir;
use super::{Keystore, KeystoreError, Lock, paths};
use crate::clock::Time;
use crate::settings::EntryName;

impl Keystore {
    /// Notes one issuance; `wasted`: nothing of it will be served.
    pub fn record_issuance(
        &self,
        lock: &Lock,
        ca: &str,
        at: Time,
        wasted: bool,
    ) -> Result<(), KeystoreError> {
        let entry = self.make_entry(lock.name())?;
        let mut lines = match read(&entry) {
            // Its count is lost; it must not stay in the way of new ones.
            Err(KeystoreError::Damaged { .. }) => Vec::new(),
            read => read?,
        };
        lines.push(Line { ca: paths::ca(ca)?.to_owned(), at, wasted });
        lines.retain(|line| at.since(line.at) < KEPT_FOR);
        lines.sort_by_key(|line| line.at);
        let surplus = lines.len().saturating_sub(LINES);
        lines.drain(..surplus);
        let json =
            serde_json::to_vec(&lines).map_err(|e| entry.damaged(paths::LEDGER, e.to_string()))?;
        entry.replace(paths::LEDGER, &json)
    }

    /// How many issuances of `ca` are noted, from `since` on; or only those that were `wasted`.
    pub fn issued_since(
        &self,
        name: &EntryName,
        ca: &str,
        since: Time,
        wasted: bool,
    ) -> Result<usize, KeystoreError> {
        let lines = self.entry(name)?.map_or(Ok(Vec::new()), |entry| read(&entry))?;
        Ok(lines
            .iter()
            .filter(|line| line.ca == ca && line.at >= since && line.wasted >= wasted)
            .count())
    }
}

#[derive(Serialize, Deserialize)]
struct Line {
    ca: String,
    at: Time,
    #[serde(default)]
    wasted: bool,
}

fn read(entry: &Dir) -> Result<Vec<Line>, KeystoreError> {
    let Some(json) = entry.read(paths::LEDGER, LIMIT)? else { return Ok(Vec::new()) };
    serde_json::from_slice(&json).map_err(|e| entry.damaged(paths::LEDGER, e.to_string()))
}

/// Longer than any sensible budget's window.
const KEPT_FOR: Duration = Duration::from_secs(400 * 86_400);
const LINES: usize = 1000;
/// A line is 330 bytes at most.
const LIMIT: usize = 512 << 10;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keystore::testing;

    fn day(n: i64) -> Time {
        Time::from_secs(n * 86_400)
    }

    #[test]
    fn counts_by_ca_and_time() {
        let (_dir, keystore) = testing::keystore();
        let name = testing::name("a.example");
        assert_eq!(keystore.issued_since(&name, "corp", day(0), false).unwrap(), 0);
        let lock = keystore.try_lock(&name).unwrap().unwrap();
        for (ca, at) in [("corp", 10), ("corp", 12), ("other", 12), ("corp", 14)] {
            keystore.record_issuance(&lock, ca, day(at), at == 12).unwrap();
        }
        for (ca, since, count) in
            [("corp", 0, 3), ("corp", 12, 2), ("corp", 15, 0), ("other", 0, 1)]
        {
            assert_eq!(
                keystore.issued_since(&name, ca, day(since), false).unwrap(),
                count,
                "{ca} {since}"
            );
        }
        assert_eq!(keystore.issued_since(&name, "corp", day(0), true).unwrap(), 1);
        keystore.record_issuance(&lock, "corp", day(412), false).unwrap();
        assert_eq!(keystore.issued_since(&name, "corp", day(0), false).unwrap(), 2); // 14 and 412
        assert!(keystore.record_issuance(&lock, "../x", day(412), false).is_err());
    }

    #[test]
    fn stays_bounded_and_overcomes_damage() {
        let (_dir, keystore) = testing::keystore();
        let name = testing::name("a.example");
        let lock = keystore.try_lock(&name).unwrap().unwrap();
        let file = keystore.dir().join("certs/a.example/ledger.json");
        let ca = "c".repeat(255);
        let lines: Vec<Line> =
            (0..LINES).map(|_| Line { ca: ca.clone(), at: day(1), wasted: false }).collect();
        std::fs::write(&file, serde_json::to_vec(&lines).unwrap()).unwrap();
        keystore.record_issuance(&lock, &ca, day(2), false).unwrap();
        assert_eq!(keystore.issued_since(&name, &ca, day(0), false).unwrap(), LINES);
        assert_eq!(keystore.issued_since(&name, &ca, day(2), false).unwrap(), 1);

        std::fs::write(&file, "{").unwrap();
        assert!(keystore.issued_since(&name, &ca, day(0), false).is_err());
        keystore.record_issuance(&lock, &ca, day(2), false).unwrap();
        assert_eq!(keystore.issued_since(&name, &ca, day(0), false).unwrap(), 1);
    }
}
