//! Puts the private keys that lie in the keystore under the first password: those that lie there
//! in the clear or under an older one.
//!
//! Each key is replaced by one rename under the lock of its owner, and the key of the current
//! version is the last of its entry: where that is in order, so are the others, and a start costs
//! nothing.

use super::disk::Dir;
use super::protection::{By, Opened};
use super::version::{KEY_LIMIT, current};
use super::{Keystore, KeystoreError, Lock, paths, sharing};
use crate::settings::{EntryName, Secret};

/// Who may have private keys.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Holder {
    Entry(EntryName),
    /// At the CA of this name.
    Account(String),
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Holder::Entry(name) => name.fmt(f),
            Holder::Account(ca) => write!(f, "{}/{ca}", paths::ACCOUNTS),
        }
    }
}

impl Keystore {
    /// All that may have keys, whether they are still configured or not.
    pub fn holders(&self) -> Result<Vec<Holder>, KeystoreError> {
        let accounts = match self.root()?.enter(paths::ACCOUNTS)? {
            Some(accounts) => accounts.names()?,
            None => Vec::new(),
        };
        let accounts = accounts.into_iter().filter(|ca| paths::ca(ca).is_ok());
        let entries = self.entries()?.into_iter().map(Holder::Entry);
        Ok(entries.chain(accounts.map(Holder::Account)).collect())
    }

    /// Puts the keys of one holder under the first password; how many were not. None: another one
    /// has the lock. What no password opens stays as it is: who needs it says so.
    pub fn rekey(&self, holder: &Holder) -> Result<Option<usize>, KeystoreError> {
        match holder {
            _ if self.protection.wanted() == By::Nothing => Ok(Some(0)),
            Holder::Account(ca) => self.rekey_account(ca),
            Holder::Entry(name) if self.is_in_order(name)? => Ok(Some(0)),
            Holder::Entry(name) => match self.try_lock(name)? {
                Some(lock) => self.rekey_entry(&lock).map(Some),
                None => Ok(None),
            },
        }
    }

    fn is_in_order(&self, name: &EntryName) -> Result<bool, KeystoreError> {
        let Some(entry) = self.entry(name)? else { return Ok(true) };
        if let Some(key) = key_in(entry.enter(paths::PENDING)?.as_ref())? {
            if self.is_other(&self.protection.open(&key)) {
                return Ok(false);
            }
        }
        // A link that says nothing is told of by who serves from it.
        let Some(version) = current(&entry).unwrap_or(None) else { return Ok(false) };
        let Some(versions) = entry.enter(paths::VERSIONS)? else { return Ok(true) };
        let key = key_in(versions.enter(&paths::version(version))?.as_ref())?;
        Ok(key.is_none_or(|key| !self.is_other(&self.protection.known_or_open(name, &key))))
    }

    fn rekey_entry(&self, lock: &Lock) -> Result<usize, KeystoreError> {
        let Some(entry) = self.entry(lock.name())? else { return Ok(0) };
        let staging = self.staging()?;
        let mut changed = 0;
        if let Some(pending) = entry.enter(paths::PENDING)? {
            changed +=
                usize::from(self.rekey_in(&pending, &|key| pending.replace(paths::KEY, key))?);
        }
        let Some(versions) = entry.enter(paths::VERSIONS)? else { return Ok(changed) };
        let current = current(&entry).unwrap_or(None);
        let mut numbers: Vec<u64> =
            versions.names()?.iter().filter_map(|n| paths::version_number(n)).collect();
        numbers.sort_unstable_by_key(|n| (Some(*n) == current, *n));
        for number in numbers {
            if let Some(version) = versions.enter(&paths::version(number))? {
                let put = |key: &[u8]| match &staging {
                    Some(staging) => sharing::replace(&version, paths::KEY, key, staging, lock),
                    None => version.replace(paths::KEY, key),
                };
                changed += usize::from(self.rekey_in(&version, &put)?);
            }
        }
        Ok(changed)
    }

    fn rekey_in(
        &self,
        folder: &Dir,
        put: &dyn Fn(&[u8]) -> Result<(), KeystoreError>,
    ) -> Result<bool, KeystoreError> {
        let Some(pem) = key_in(Some(folder))? else { return Ok(false) };
        let opened = self.protection.open(&pem);
        if !self.is_other(&opened) {
            return Ok(false);
        }
        let plain = self.unseal(folder, paths::KEY, &pem)?;
        let sealed = self.seal(folder, paths::KEY, &plain)?;
        put(sealed.bytes())?;
        Ok(true)
    }

    /// Whether it can be put under the first password and is not.
    fn is_other(&self, opened: &Opened) -> bool {
        opened.as_ref().is_ok_and(|key| key.by != self.protection.wanted())
    }
}

/// The key in a folder as it lies there. One that is damaged is nothing to be encrypted.
fn key_in(folder: Option<&Dir>) -> Result<Option<Secret>, KeystoreError> {
    let key = folder.map_or(Ok(None), |folder| folder.read_secret(paths::KEY, KEY_LIMIT));
    match key {
        Err(KeystoreError::Damaged { .. }) => Ok(None),
        key => key,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::bundle::Meta;
    use crate::ca::Order;
    use crate::clock::Time;
    use crate::keystore::{Pending, testing};

    fn pending(key: &Secret) -> Pending {
        Pending {
            key_pem: key.clone(),
            order: Order {
                ca: "corp".into(),
                names: vec!["a.example".into()],
                csr: Vec::new(),
                entry: "a.example".into(),
                reason: "missing".into(),
                accepted: false,
                state: serde_json::Value::Null,
            },
            chain: None,
            created_at: Time::from_secs(1),
            replaces: None,
            counted: false,
        }
    }

    /// How many files of the entry have a key in the clear, and how many an encrypted one.
    fn keys(entry: &Path) -> (usize, usize) {
        let versions = std::fs::read_dir(entry.join("versions")).unwrap();
        let folders = versions.map(|v| v.unwrap().path()).chain([entry.join("pending")]);
        let keys = folders.filter_map(|f| std::fs::read_to_string(f.join("privkey.pem")).ok());
        keys.fold((0, 0), |(plain, sealed), key| match key.lines().next() {
            Some("-----BEGIN PRIVATE KEY-----") => (plain + 1, sealed),
            Some("-----BEGIN ENCRYPTED PRIVATE KEY-----") => (plain, sealed + 1),
            other => panic!("{other:?}"),
        })
    }

    #[test]
    fn everything_comes_under_the_first() {
        let (_dir, plain) = testing::keystore();
        let with = |words: &[&str]| plain.clone().with_passwords(testing::passwords(words));
        let holder = Holder::Entry(testing::name("a.example"));
        let Holder::Entry(name) = &holder else { unreachable!() };
        let entry = plain.dir().join("certs/a.example");
        let pairs: Vec<_> = (0..3).map(|_| testing::pair("a.example")).collect();
        let lock = plain.try_lock(name).unwrap().unwrap();
        pairs.iter().for_each(|pair| assert!(testing::commit(&plain, &lock, pair) > 0));
        plain.save_pending(&lock, &pending(&pairs[0].key)).unwrap();
        assert_eq!(plain.rekey(&holder).unwrap(), Some(0));
        assert_eq!(with(&["one"]).rekey(&holder).unwrap(), None); // locked
        drop(lock);
        assert_eq!(keys(&entry), (4, 0));
        for (words, changed) in [
            (&["one"] as &[&str], 4),
            (&["one"], 0),
            (&["two", "one"], 4),
            (&["one"], 0), // nothing that it could read
            (&["two"], 0),
        ] {
            assert_eq!(with(words).rekey(&holder).unwrap(), Some(changed), "{words:?}");
            assert_eq!(keys(&entry), (0, 4), "{words:?}");
        }
        let keystore = with(&["two"]);
        for version in 1..=3 {
            let bundle = keystore.load_version(name, version).unwrap().ok().unwrap();
            assert_eq!(bundle.chain[0].to_pem().unwrap(), pairs[version as usize - 1].chain);
        }
        assert_eq!(keystore.pending(name).unwrap(), Some(pending(&pairs[0].key)));
        assert_eq!(keystore.holders().unwrap(), [holder]);
    }

    /// Wherever it was stopped, the next one sees by the current key that there is more to do.
    #[test]
    fn what_was_begun_is_ended() {
        let (_dir, plain) = testing::keystore();
        let name = testing::name("a.example");
        let lock = plain.try_lock(&name).unwrap().unwrap();
        for _ in 0..3 {
            testing::commit(&plain, &lock, &testing::pair("a.example"));
        }
        drop(lock);
        let keystore = plain.clone().with_passwords(testing::passwords(&["one"]));
        let entry = plain.dir().join("certs/a.example");
        let obstacle = entry.join("versions/2/.privkey.pem.new");
        std::fs::create_dir(&obstacle).unwrap();
        let holder = Holder::Entry(name);
        keystore.rekey(&holder).unwrap_err();
        assert_eq!(keys(&entry), (2, 1));
        std::fs::remove_dir(&obstacle).unwrap();
        assert_eq!(keystore.rekey(&holder).unwrap(), Some(2));
        assert_eq!(keys(&entry), (0, 3));
    }

    /// What is stored is encrypted from the start, and a wrong password says nothing about it.
    #[test]
    fn a_wrong_password_is_no_defect() {
        let (_dir, plain) = testing::keystore();
        let with = |words: &[&str]| plain.clone().with_passwords(testing::passwords(words));
        let name = testing::name("a.example");
        let right = with(&["right"]);
        let lock = right.try_lock(&name).unwrap().unwrap();
        let pair = testing::pair("a.example");
        right.save_pending(&lock, &pending(&pair.key)).unwrap();
        right.commit(&lock, &pair.chain, &pair.key, &Meta::default()).unwrap();
        assert_eq!(keys(&plain.dir().join("certs/a.example")), (0, 2));
        for (keystore, cause) in [
            (with(&["wrong", "other"]), "no line of the \"password_file\""),
            (plain.clone(), "has no \"password_file\""),
        ] {
            for _ in 0..2 {
                let error = keystore.load(&name).err().unwrap();
                assert!(error.to_string().contains(cause), "{error}");
                assert!(error.to_string().contains("/1/privkey.pem\" is encrypted"), "{error}");
            }
            let error = keystore.pending(&name).unwrap_err();
            assert!(matches!(error, KeystoreError::Sealed { .. }), "{error}");
        }
        assert!(right.load(&name).unwrap().is_ok());
        // The order goes on with the same key.
        let mut second = pending(&pair.key);
        second.chain = Some(pair.chain);
        right.save_pending(&lock, &second).unwrap();
        assert_eq!(right.pending(&name).unwrap(), Some(second));
    }
}
