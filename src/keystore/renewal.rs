//! What a CA has said about the renewal of an entry's certificate, so that neither restarts nor
//! other hosts ask again before it is time.

use super::lock::{PATIENCE, insist};
use super::{Change, Keystore, KeystoreError, paths};
use crate::ca::renewal::Renewal;
use crate::settings::EntryName;

impl Keystore {
    /// The last answer, or that there was none. It may be about a certificate that is no longer
    /// current: the caller looks.
    pub fn renewal(&self, name: &EntryName) -> Result<Option<Renewal>, KeystoreError> {
        let Some(entry) = self.entry(name)? else { return Ok(None) };
        let Some(json) = entry.read(paths::RENEWAL, LIMIT)? else { return Ok(None) };
        let read = serde_json::from_slice(&json);
        read.map(Some).map_err(|e| entry.damaged(paths::RENEWAL, e.to_string()))
    }

    /// Stores an answer in the place of the one before, and tells others. Two hosts that asked at
    /// once have the same answer.
    pub fn store_renewal(&self, name: &EntryName, renewal: &Renewal) -> Result<(), KeystoreError> {
        let entry = self.make_entry(name)?;
        let lock = insist(&entry, paths::EVIDENCE_LOCK, PATIENCE)?;
        let json = serde_json::to_vec(renewal)
            .map_err(|e| entry.damaged(paths::RENEWAL, e.to_string()))?;
        entry.replace(paths::RENEWAL, &json)?;
        drop(lock);
        self.announce(&Change::Evidence(name.clone()))
    }
}

const LIMIT: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ca::renewal::Window;
    use crate::clock::Time;
    use crate::facts::Fingerprint;
    use crate::keystore::testing;

    #[test]
    fn comes_back_as_it_was() {
        let (_dir, keystore) = testing::keystore();
        let name = testing::name("a.example");
        assert_eq!(keystore.renewal(&name).unwrap(), None);
        let t = Time::from_secs;
        for window in [Some(Window { start: t(1_800_000_000), end: t(1_800_086_400) }), None] {
            let renewal = Renewal {
                certificate: Fingerprint("ab".into()),
                window,
                asked_at: t(1_799_000_000),
                next: t(1_799_021_600),
                failures: 2,
            };
            keystore.store_renewal(&name, &renewal).unwrap();
            assert_eq!(keystore.renewal(&name).unwrap(), Some(renewal));
        }
        let file = keystore.dir().join("certs/a.example/renewal.json");
        std::fs::write(file, "{").unwrap();
        assert!(!keystore.renewal(&name).unwrap_err().may_pass());
    }
}
