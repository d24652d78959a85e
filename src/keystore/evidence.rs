//! Evidence on the disk: all workers and hosts put their verified answers together.
//!
//! It never forgets a revocation for an older answer ([`Evidence::newest`] decides), and it never
//! grows without bound.

use std::cmp::Reverse;
use std::collections::HashSet;
use std::time::Duration;

use serde_json::Value;

use super::disk::Dir;
use super::lock::{PATIENCE, insist};
use super::{Change, Keystore, KeystoreError, paths};
use crate::clock::{SKEW, Time};
use crate::evidence::{Evidence, Source, Status};
use crate::facts::Fingerprint;
use crate::settings::EntryName;

impl Keystore {
    /// What is known about the certificates of an entry. An error is to be reported; then it is
    /// as if nothing were known.
    pub fn evidence(&self, name: &EntryName) -> Result<Vec<Evidence>, KeystoreError> {
        self.entry(name)?.map_or(Ok(Vec::new()), |entry| read(&entry))
    }

    /// The newest OCSP answer, DER, for stapling. It may be about a certificate that is no longer
    /// current: the caller looks.
    pub fn ocsp_answer(&self, name: &EntryName) -> Result<Option<Vec<u8>>, KeystoreError> {
        self.entry(name)?.map_or(Ok(None), |entry| entry.read(paths::OCSP, OCSP_LIMIT))
    }

    /// Adds one verified answer to what is known, and returns all of that. `der`: the OCSP
    /// response, where it can be stapled. What does not count at `now` is dropped. Waits for other
    /// writers, two seconds at most.
    pub fn merge_evidence(
        &self,
        name: &EntryName,
        new: Evidence,
        der: Option<&[u8]>,
        now: Time,
    ) -> Result<Vec<Evidence>, KeystoreError> {
        let entry = self.make_entry(name)?;
        let lock = insist(&entry, paths::EVIDENCE_LOCK, PATIENCE)?;
        let old = match read(&entry) {
            // Nothing can be learnt from it any more, and it must not stay in the way.
            Err(KeystoreError::Damaged { .. }) => Vec::new(),
            read => read?,
        };
        let merged = merge(old.clone(), new.clone(), now);
        if merged == old {
            return Ok(merged);
        }
        // A newer answer that was asked for earlier stands with the later time of the other one.
        let is_new = |e: &Evidence| Evidence { checked_at: new.checked_at, ..e.clone() } == new;
        let won = merged.iter().any(is_new);
        // The answer first: a crash in between costs one query, not the staple.
        if let Some(der) = der.filter(|d| won && d.len() <= OCSP_LIMIT && staples(&new)) {
            entry.replace(paths::OCSP, der)?;
        }
        let (merged, json) = fitting(merged).map_err(|e| entry.damaged(paths::EVIDENCE, e))?;
        entry.replace(paths::EVIDENCE, &json)?;
        drop(lock);
        self.announce(&Change::Evidence(name.clone()))?;
        Ok(merged)
    }
}

/// Entries that can't be understood (a newer version's) are passed over.
fn read(entry: &Dir) -> Result<Vec<Evidence>, KeystoreError> {
    let Some(json) = entry.read(paths::EVIDENCE, LIMIT)? else { return Ok(Vec::new()) };
    let objects: Vec<serde_json::Map<String, Value>> =
        serde_json::from_slice(&json).map_err(|e| entry.damaged(paths::EVIDENCE, e.to_string()))?;
    let values = objects.into_iter().map(Value::Object);
    Ok(values.filter_map(|v| serde_json::from_value(v).ok()).collect())
}

/// One answer a certificate and source, newest first; none of the future, whose order among
/// others would be wrong for as long as the clock was set back.
fn merge(mut all: Vec<Evidence>, new: Evidence, now: Time) -> Vec<Evidence> {
    let same = |e: &Evidence| e.certificate == new.certificate && e.source == new.source;
    let stands = match all.iter().position(same) {
        Some(at) => Evidence::newest(all.remove(at), new, now),
        None => new,
    };
    all.push(stands);
    all.retain(|e| e.counts_at(now));
    for revoked in all.iter_mut().filter(|e| e.checked_at > now + SKEW) {
        revoked.checked_at = now;
    }
    all.sort_by_key(|e| Reverse(e.checked_at));
    keep(all)
}

/// All about the certificates that were asked about last, and the revocations of a year: a
/// revoked certificate that comes back (an import, a backup) must be known at once.
fn keep(all: Vec<Evidence>) -> Vec<Evidence> {
    let newest = all.first().map_or(Time::default(), |e| e.checked_at);
    let mut certificates: HashSet<Fingerprint> = HashSet::new();
    let mut revoked = 0;
    let stays = |e: &Evidence| {
        if certificates.contains(&e.certificate) || certificates.len() < CERTIFICATES {
            certificates.insert(e.certificate.clone());
            return true;
        }
        revoked += usize::from(e.is_revoked());
        e.is_revoked() && revoked <= REVOKED && newest.since(e.checked_at) < REVOKED_FOR
    };
    all.into_iter().filter(stays).collect()
}

/// As many as can be read again, newest first, as JSON.
fn fitting(mut all: Vec<Evidence>) -> Result<(Vec<Evidence>, Vec<u8>), String> {
    loop {
        let json = serde_json::to_vec(&all).map_err(|e| e.to_string())?;
        if json.len() <= LIMIT || all.pop().is_none() {
            return Ok((all, json));
        }
    }
}

fn staples(evidence: &Evidence) -> bool {
    evidence.source == Source::Ocsp && evidence.status != Status::Unknown
}

const LIMIT: usize = 256 << 10;
const OCSP_LIMIT: usize = 64 << 10;
/// The leaf, its intermediates, and those before them.
const CERTIFICATES: usize = 8;
const REVOKED: usize = 64;
const REVOKED_FOR: Duration = Duration::from_secs(366 * 86_400);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::Reason;
    use crate::facts::Serial;
    use crate::keystore::testing;

    const LATER: Time = Time::from_secs(500 * 86_400);

    fn answer(certificate: &str, at: i64, status: Status) -> Evidence {
        Evidence {
            certificate: Fingerprint(certificate.into()),
            serial: Serial("07".into()),
            source: Source::Ocsp,
            status,
            this_update: Time::from_secs(at),
            next_update: None,
            checked_at: Time::from_secs(at),
            responder: "http://ocsp.example/".into(),
        }
    }

    fn revoked() -> Status {
        Status::Revoked { reason: Reason::KeyCompromise, at: Time::from_secs(1) }
    }

    #[test]
    fn merges_and_keeps_the_answer_that_stands() {
        let (_dir, keystore) = testing::keystore();
        let name = testing::name("a.example");
        assert_eq!(keystore.evidence(&name).unwrap(), []);
        assert_eq!(keystore.ocsp_answer(&name).unwrap(), None);
        let cursor = keystore.changes_end().unwrap();
        let crl = Evidence { source: Source::Crl, ..answer("one", 20, Status::Good) };
        // Newer, though asked for earlier.
        let late = answer("one", 8, Status::Good);
        let late = Evidence { this_update: Time::from_secs(12), ..late };
        for (new, der, stands, stapled) in [
            (answer("one", 10, Status::Good), "good 10", 10, "good 10"),
            (answer("one", 9, Status::Good), "good 9", 10, "good 10"),
            (late, "good 12", 10, "good 12"),
            (crl, "crl", 10, "good 12"),
            (answer("one", 11, Status::Unknown), "unknown", 10, "good 12"),
            (answer("one", 5, revoked()), "revoked 5", 5, "revoked 5"),
            (answer("one", 30, Status::Good), "good 30", 5, "revoked 5"),
            (answer("two", 1, Status::Good), "other", 5, "other"),
        ] {
            let all = keystore.merge_evidence(&name, new, Some(der.as_bytes()), LATER).unwrap();
            assert_eq!(keystore.evidence(&name).unwrap(), all);
            let one = all.iter().find(|e| e.certificate.0 == "one" && e.source == Source::Ocsp);
            assert_eq!(one.unwrap().checked_at, Time::from_secs(stands), "{der}");
            assert_eq!(keystore.ocsp_answer(&name).unwrap().unwrap(), stapled.as_bytes());
        }
        assert_eq!(keystore.evidence(&name).unwrap().len(), 3);
        let (changes, _) = keystore.changes_since(cursor).unwrap();
        assert_eq!(changes, vec![Change::Evidence(name); 5]); // three answers changed nothing
    }

    #[test]
    fn stays_bounded_and_remembers_revocations() {
        let merge = |all, new| merge(all, new, LATER);
        let mut all = Vec::new();
        let day = 86_400;
        all = merge(all, answer("revoked long ago", 0, revoked()));
        all = merge(all, answer("revoked", 300 * day, revoked()));
        for n in 0..20 {
            all = merge(all, answer(&format!("good {n}"), 400 * day + n, Status::Good));
        }
        let names: Vec<&str> = all.iter().map(|e| e.certificate.0.as_str()).collect();
        assert_eq!(names.len(), CERTIFICATES + 1);
        assert_eq!((names[0], names[CERTIFICATES]), ("good 19", "revoked"));
        for n in 0..200 {
            all = merge(all, answer(&format!("bad {n}"), 401 * day + n, revoked()));
        }
        assert_eq!(all.len(), CERTIFICATES + REVOKED);

        let long = Evidence { responder: "x".repeat(LIMIT / 3), ..answer("l", 1, Status::Good) };
        let (kept, json) = fitting(vec![long.clone(), long.clone(), long.clone()]).unwrap();
        assert!(kept.len() == 2 && json.len() <= LIMIT);
    }

    #[test]
    fn a_clock_that_was_set_back_keeps_nothing_of_the_future_but_revocations() {
        let (before, now) = (Time::from_secs(9000), Time::from_secs(10));
        let all = merge(vec![], answer("one", 9000, Status::Good), before);
        let all = merge(all, answer("two", 9000, revoked()), before);
        let all = merge(all, answer("three", 10, revoked()), now);
        let all = merge(all, answer("one", 10, Status::Good), now);
        assert_eq!(all.len(), 3);
        assert!(all.iter().all(|e| e.checked_at == now), "{all:?}");
        let all = merge(all, answer("four", 8000, Status::Good), now);
        assert_eq!(all.len(), 3, "not even a new one");
    }

    #[test]
    fn damage_is_told_and_overcome() {
        let (_dir, keystore) = testing::keystore();
        let name = testing::name("a.example");
        let good = answer("one", 10, Status::Good);
        keystore.merge_evidence(&name, good.clone(), None, LATER).unwrap();
        let file = keystore.dir().join("certs/a.example/evidence.json");
        let text = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, text.replace('[', "[{\"from\":\"the future\"},")).unwrap();
        assert_eq!(keystore.evidence(&name).unwrap(), std::slice::from_ref(&good));
        std::fs::write(&file, "[").unwrap();
        assert!(keystore.evidence(&name).is_err());
        assert_eq!(keystore.merge_evidence(&name, good.clone(), None, LATER).unwrap(), [good]);
    }

    #[test]
    fn no_answer_is_lost_between_writers() {
        let (_dir, keystore) = testing::keystore();
        let name = testing::name("a.example");
        std::thread::scope(|scope| {
            for n in 0..CERTIFICATES {
                let (keystore, name) = (&keystore, &name);
                let new = answer(&format!("{n}"), 10, Status::Good);
                scope.spawn(move || {
                    keystore.merge_evidence(name, new, Some(b"der"), LATER).unwrap()
                });
            }
        });
        assert_eq!(keystore.evidence(&name).unwrap().len(), CERTIFICATES);
    }
}
