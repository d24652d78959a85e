//! The issuance in progress: its key is on the disk before the CSR leaves, so that a crash costs
//! no order and no certificate is ever issued for a key that nobody has.
//!
//! The folder has no version of its own: `order.json` says that the rest is there. It is the
//! first to go and the last to come, so that an order never meets another order's key.

use serde::{Deserialize, Serialize};

use super::disk::Dir;
use super::version::KEY_LIMIT;
use super::{Keystore, KeystoreError, Lock, paths};
use crate::bundle::private_key;
use crate::ca::Order;
use crate::clock::Time;
use crate::facts::Serial;
use crate::settings::{EntryName, Secret};

/// A certificate that is asked for, or issued and not yet proven.
#[derive(Clone, Debug, PartialEq)]
pub struct Pending {
    pub key_pem: Secret,
    pub order: Order,
    /// PEM as the CA delivered it, once it has.
    pub chain: Option<Vec<u8>>,
    pub created_at: Time,
    /// None: a first issuance or one that was due by time.
    pub replaces: Option<Replacing>,
    /// It is in the ledger already.
    pub counted: bool,
}

/// What a pending certificate replaces before its time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Replacing {
    /// None: it could not be read.
    pub serial: Option<Serial>,
    /// RFC 5280's name, or `expired`, `broken`, `names`.
    pub reason: String,
    /// When the verified answer came: the replacement's time is counted from here.
    pub since: Time,
}

impl Keystore {
    /// The issuance in progress. Only the holder of the entry's lock may go on with it; to anybody
    /// else it may change while it is read.
    pub fn pending(&self, name: &EntryName) -> Result<Option<Pending>, KeystoreError> {
        match self.entry(name)? {
            Some(entry) => {
                entry.enter(paths::PENDING)?.map_or(Ok(None), |dir| self.read_pending(&dir))
            }
            None => Ok(None),
        }
    }

    /// Stores an issuance or the progress of one; on return it is on the disk. Another key ends
    /// the issuance that was there.
    pub fn save_pending(&self, lock: &Lock, pending: &Pending) -> Result<(), KeystoreError> {
        let dir = self.make_entry(lock.name())?.make(paths::PENDING)?;
        let notes = Notes {
            order: pending.order.clone(),
            created_at: pending.created_at,
            replaces: pending.replaces.clone(),
            counted: pending.counted,
        };
        let json = serde_json::to_vec(&notes)
            .map_err(|e| dir.damaged(paths::ORDER, format!("not stored: {e}")))?;
        let files = [
            (paths::ORDER, json.len(), ORDER_LIMIT),
            (paths::KEY, pending.key_pem.bytes().len(), KEY_LIMIT / 2), // encrypted it is longer
            (paths::CHAIN, pending.chain.as_ref().map_or(0, Vec::len), CHAIN_LIMIT),
        ];
        if let Some((name, size, _)) = files.into_iter().find(|(_, size, limit)| size > limit) {
            return Err(dir.damaged(name, format!("not stored: {size} bytes are too many")));
        }

        if !self.has_key(&dir, &pending.key_pem)? {
            let key = self.seal(&dir, paths::KEY, &pending.key_pem)?;
            clear(&dir)?;
            dir.replace(paths::KEY, key.bytes())?;
        }
        match &pending.chain {
            Some(chain) => dir.replace(paths::CHAIN, chain)?,
            None => dir.remove(paths::CHAIN)?,
        }
        dir.replace(paths::ORDER, &json)
    }

    /// Ends the issuance: its certificate is stored, or nothing will come of it.
    pub fn clear_pending(&self, lock: &Lock) -> Result<(), KeystoreError> {
        match self.entry(lock.name())? {
            Some(entry) => entry.enter(paths::PENDING)?.map_or(Ok(()), |dir| clear(&dir)),
            None => Ok(()),
        }
    }

    fn read_pending(&self, dir: &Dir) -> Result<Option<Pending>, KeystoreError> {
        let Some(json) = dir.read(paths::ORDER, ORDER_LIMIT)? else { return Ok(None) };
        let Notes { order, created_at, replaces, counted } =
            serde_json::from_slice(&json).map_err(|e| dir.damaged(paths::ORDER, e.to_string()))?;
        let Some(key_pem) = dir.read_secret(paths::KEY, KEY_LIMIT)? else {
            return Err(dir.damaged(paths::KEY, "missing".into()));
        };
        let key_pem = self.unseal(dir, paths::KEY, &key_pem)?;
        let chain = dir.read(paths::CHAIN, CHAIN_LIMIT)?;
        Ok(Some(Pending { key_pem, order, chain, created_at, replaces, counted }))
    }

    fn has_key(&self, dir: &Dir, key: &Secret) -> Result<bool, KeystoreError> {
        let stored = dir.read_secret(paths::KEY, KEY_LIMIT);
        match stored.and_then(|key| key.map(|key| self.unseal(dir, paths::KEY, &key)).transpose()) {
            Ok(stored) => Ok(stored.is_some_and(|stored| is_same(&stored, key))),
            Err(KeystoreError::Damaged { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// `order.json`.
#[derive(Serialize, Deserialize)]
struct Notes {
    order: Order,
    created_at: Time,
    #[serde(default)]
    replaces: Option<Replacing>,
    #[serde(default)]
    counted: bool,
}

/// An encrypted key comes back in PKCS#8, whatever it was.
fn is_same(a: &Secret, b: &Secret) -> bool {
    let read = |pem: &Secret| private_key(pem.bytes()).ok();
    a == b || read(a).zip(read(b)).is_some_and(|(a, b)| a.public_eq(&b))
}

fn clear(dir: &Dir) -> Result<(), KeystoreError> {
    dir.remove(paths::ORDER)?;
    dir.sync()?;
    for file in dir.names()? {
        dir.remove(&file)?; // also what a dead process left
    }
    dir.sync()
}

const ORDER_LIMIT: usize = 256 << 10;
const CHAIN_LIMIT: usize = 256 << 10;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keystore::testing;

    fn pending(key: &str) -> Pending {
        Pending {
            key_pem: Secret::new(key.into()),
            order: Order {
                ca: "corp".into(),
                names: vec!["a.example".into()],
                csr: vec![1, 2],
                entry: "a.example".into(),
                reason: "missing".into(),
                accepted: false,
                state: serde_json::json!({ "url": "https://ca/1" }),
            },
            chain: None,
            created_at: Time::from_secs(1_800_000_000),
            replaces: Some(Replacing {
                serial: Some(Serial("07".into())),
                reason: "keyCompromise".into(),
                since: Time::from_millis(1_799_999_999_123),
            }),
            counted: false,
        }
    }

    #[test]
    fn goes_its_way() {
        let (_dir, keystore) = testing::keystore();
        let name = testing::name("a.example");
        assert_eq!(keystore.pending(&name).unwrap(), None);
        let lock = keystore.try_lock(&name).unwrap().unwrap();
        assert_eq!(keystore.pending(&name).unwrap(), None);
        keystore.clear_pending(&lock).unwrap();

        let mut first = pending("key one");
        keystore.save_pending(&lock, &first).unwrap();
        assert_eq!(keystore.pending(&name).unwrap(), Some(first.clone()));
        first.order.state = serde_json::json!({ "url": "https://ca/2" });
        first.chain = Some(b"chain".to_vec());
        (first.order.accepted, first.counted) = (true, true);
        keystore.save_pending(&lock, &first).unwrap();
        assert_eq!(keystore.pending(&name).unwrap(), Some(first));

        let second = pending("key two");
        keystore.save_pending(&lock, &second).unwrap();
        assert_eq!(keystore.pending(&name).unwrap(), Some(second));
        keystore.clear_pending(&lock).unwrap();
        assert_eq!(keystore.pending(&name).unwrap(), None);
        let folder = keystore.dir().join("certs/a.example/pending");
        assert_eq!(std::fs::read_dir(folder).unwrap().count(), 0);
    }

    #[test]
    fn damage_is_an_error_and_can_be_left_behind() {
        let (_dir, keystore) = testing::keystore();
        let name = testing::name("a.example");
        let lock = keystore.try_lock(&name).unwrap().unwrap();
        let folder = keystore.dir().join("certs/a.example/pending");
        for file in ["order.json", "privkey.pem"] {
            keystore.save_pending(&lock, &pending("key")).unwrap();
            std::fs::write(folder.join(file), vec![b'x'; ORDER_LIMIT + 1]).unwrap();
            let error = keystore.pending(&name).unwrap_err();
            assert!(!error.may_pass(), "{error}");
            keystore.save_pending(&lock, &pending("key")).unwrap();
            assert!(keystore.pending(&name).unwrap().is_some());
        }
        std::fs::remove_file(folder.join("privkey.pem")).unwrap();
        assert!(keystore.pending(&name).is_err());
        keystore.clear_pending(&lock).unwrap();
        assert_eq!(keystore.pending(&name).unwrap(), None);
    }

    #[test]
    fn what_could_not_be_read_again_is_not_stored() {
        let (_dir, keystore) = testing::keystore();
        let lock = keystore.try_lock(&testing::name("a.example")).unwrap().unwrap();
        let huge = Pending { chain: Some(vec![b'x'; CHAIN_LIMIT + 1]), ..pending("key") };
        let error = keystore.save_pending(&lock, &huge).unwrap_err();
        assert!(error.to_string().contains("262145 bytes are too many"), "{error}");
        assert_eq!(keystore.pending(lock.name()).unwrap(), None);
    }
}
