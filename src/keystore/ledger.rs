//! The ledger: when which CA issued for an entry, for the budget, and until when which CA wants to
//! be left alone. It only counts; what was due by time is in it only when nothing came of it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::disk::Dir;
use super::{Keystore, KeystoreError, Lock, paths};
use crate::clock::Time;
use crate::settings::EntryName;

/// One issuance.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Issuance {
    /// The CA's name from the configuration.
    pub ca: String,
    pub at: Time,
    /// Nothing of it was served.
    #[serde(default)]
    pub wasted: bool,
}

impl Keystore {
    /// What is noted, oldest first.
    pub fn issuances(&self, name: &EntryName) -> Result<Vec<Issuance>, KeystoreError> {
        self.entry(name)?.map_or(Ok(Vec::new()), |entry| Ok(read(&entry)?.issued))
    }

    /// Notes one issuance; `wasted`: nothing of it will be served.
    pub fn record_issuance(
        &self,
        lock: &Lock,
        ca: &str,
        at: Time,
        wasted: bool,
    ) -> Result<(), KeystoreError> {
        let entry = self.make_entry(lock.name())?;
        let mut ledger = read_for_change(&entry)?;
        let lines = &mut ledger.issued;
        lines.push(Issuance { ca: paths::ca(ca)?.to_owned(), at, wasted });
        lines.retain(|line| at.since(line.at) < KEPT_FOR);
        lines.sort_by_key(|line| line.at);
        let surplus = lines.len().saturating_sub(LINES);
        lines.drain(..surplus);
        write(&entry, &ledger)
    }

    /// Notes until when a CA wants to be left alone, instead of what it wanted before.
    pub fn record_rest(&self, lock: &Lock, rest: &Rest) -> Result<(), KeystoreError> {
        paths::ca(&rest.ca)?;
        let entry = self.make_entry(lock.name())?;
        let mut ledger = read_for_change(&entry)?;
        ledger.rests.retain(|r| r.ca != rest.ca && r.until > rest.noted_at);
        ledger.rests.push(rest.clone());
        let surplus = ledger.rests.len().saturating_sub(RESTS);
        ledger.rests.drain(..surplus);
        write(&entry, &ledger)
    }

    /// What CAs have wanted; it may be over, or be of another time of this host's clock.
    pub fn rests(&self, name: &EntryName) -> Result<Vec<Rest>, KeystoreError> {
        self.entry(name)?.map_or(Ok(Vec::new()), |entry| Ok(read(&entry)?.rests))
    }

    /// How many issuances of `ca` are noted, from `since` on; or only those that were `wasted`.
    pub fn issued_since(
        &self,
        name: &EntryName,
        ca: &str,
        since: Time,
        wasted: bool,
    ) -> Result<usize, KeystoreError> {
        let lines = self.issuances(name)?;
        Ok(lines
            .iter()
            .filter(|line| line.ca == ca && line.at >= since && line.wasted >= wasted)
            .count())
    }
}

/// A wish of a CA (Retry-After).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rest {
    /// The CA's name from the configuration.
    pub ca: String,
    /// Who said it.
    pub host: String,
    pub noted_at: Time,
    pub until: Time,
}

/// `ledger.json`. At first it was nothing but the list of what was issued: that is read, too.
#[derive(Default, Serialize, Deserialize)]
struct Ledger {
    #[serde(default)]
    issued: Vec<Issuance>,
    #[serde(default)]
    rests: Vec<Rest>,
}

fn read(entry: &Dir) -> Result<Ledger, KeystoreError> {
    let Some(json) = entry.read(paths::LEDGER, LIMIT)? else { return Ok(Ledger::default()) };
    let ledger = match json.first() {
        Some(b'[') => serde_json::from_slice(&json).map(|issued| Ledger { issued, rests: vec![] }),
        _ => serde_json::from_slice(&json),
    };
    ledger.map_err(|e| entry.damaged(paths::LEDGER, e.to_string()))
}

/// What is lost must not stay in the way of what is new.
fn read_for_change(entry: &Dir) -> Result<Ledger, KeystoreError> {
    match read(entry) {
        Err(KeystoreError::Damaged { .. }) => Ok(Ledger::default()),
        read => read,
    }
}

fn write(entry: &Dir, ledger: &Ledger) -> Result<(), KeystoreError> {
    let json =
        serde_json::to_vec(ledger).map_err(|e| entry.damaged(paths::LEDGER, e.to_string()))?;
    entry.replace(paths::LEDGER, &json)
}

/// Longer than any sensible budget's window.
const KEPT_FOR: Duration = Duration::from_secs(400 * 86_400);
const LINES: usize = 1000;
/// More CAs than an entry has.
const RESTS: usize = 32;
/// A line is 330 bytes at most, a rest 2500.
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
    fn rests_are_one_a_ca_beside_what_is_counted() {
        let (_dir, keystore) = testing::keystore();
        let name = testing::name("a.example");
        assert_eq!(keystore.rests(&name).unwrap(), []);
        let lock = keystore.try_lock(&name).unwrap().unwrap();
        // As an earlier version left it.
        let file = keystore.dir().join("certs/a.example/ledger.json");
        std::fs::write(&file, r#"[{"ca":"corp","at":"1970-01-02T00:00:00Z"}]"#).unwrap();
        let rest = |ca: &str, from, to| Rest {
            ca: ca.into(),
            host: "ca.example:443".into(),
            noted_at: day(from),
            until: day(to),
        };
        keystore.record_rest(&lock, &rest("corp", 2, 9)).unwrap();
        keystore.record_rest(&lock, &rest("other", 2, 4)).unwrap();
        keystore.record_rest(&lock, &rest("corp", 3, 5)).unwrap();
        keystore.record_issuance(&lock, "corp", day(3), false).unwrap();
        assert_eq!(keystore.rests(&name).unwrap(), [rest("other", 2, 4), rest("corp", 3, 5)]);
        assert_eq!(keystore.issued_since(&name, "corp", day(0), false).unwrap(), 2);
        // What is over goes.
        keystore.record_rest(&lock, &rest("third", 4, 6)).unwrap();
        assert_eq!(keystore.rests(&name).unwrap(), [rest("corp", 3, 5), rest("third", 4, 6)]);
        assert!(keystore.record_rest(&lock, &rest("../x", 4, 6)).is_err());
    }

    #[test]
    fn stays_bounded_and_overcomes_damage() {
        let (_dir, keystore) = testing::keystore();
        let name = testing::name("a.example");
        let lock = keystore.try_lock(&name).unwrap().unwrap();
        let file = keystore.dir().join("certs/a.example/ledger.json");
        let ca = "c".repeat(255);
        let lines: Vec<Issuance> =
            (0..LINES).map(|_| Issuance { ca: ca.clone(), at: day(1), wasted: false }).collect();
        std::fs::write(&file, serde_json::to_vec(&lines).unwrap()).unwrap();
        keystore.record_issuance(&lock, &ca, day(2), false).unwrap();
        for i in 0..2 * RESTS {
            let ca = format!("{i:x>255}");
            let rest = Rest { ca, host: "h".repeat(2048), noted_at: day(2), until: day(3) };
            keystore.record_rest(&lock, &rest).unwrap();
        }
        assert_eq!(keystore.rests(&name).unwrap().len(), RESTS);
        assert_eq!(keystore.issued_since(&name, &ca, day(0), false).unwrap(), LINES);
        assert_eq!(keystore.issued_since(&name, &ca, day(2), false).unwrap(), 1);

        std::fs::write(&file, "{").unwrap();
        assert!(keystore.issued_since(&name, &ca, day(0), false).is_err());
        keystore.record_issuance(&lock, &ca, day(2), false).unwrap();
        assert_eq!(keystore.issued_since(&name, &ca, day(0), false).unwrap(), 1);
    }
}
