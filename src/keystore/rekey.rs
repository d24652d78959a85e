//! Puts the private keys that lie in the keystore under the first password: those that lie there
//! in the clear or under an older one.
//!
//! Each key is replaced by one rename under the lock of its owner, and what a dead process left is
//! removed: half of a version has a key, too. All are looked at, not the current one alone: what
//! is stored before its entry's turn comes is in order, and what lies beside it is not.

use rustix::io::Errno;

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
        let mut accounts = Vec::new();
        if let Some(all) = self.root()?.enter(paths::ACCOUNTS)? {
            for ca in all.names()? {
                // Files of others are none of ours.
                if paths::ca(&ca).is_ok() && all.folder(&ca)?.is_some() {
                    accounts.push(ca);
                }
            }
        }
        let entries = self.entries()?.into_iter().map(Holder::Entry);
        Ok(entries.chain(accounts.into_iter().map(Holder::Account)).collect())
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

    /// The folders of an entry that may have keys, if there is an entry.
    pub(super) fn places(&self, name: &EntryName) -> Result<Option<Places>, KeystoreError> {
        let certs = self.root()?.enter(paths::CERTS)?;
        let entry = certs.map_or(Ok(None), |certs| certs.folder(paths::entry(name)))?;
        entry.map(|entry| Places::of(&entry)).transpose()
    }

    fn is_in_order(&self, name: &EntryName) -> Result<bool, KeystoreError> {
        let Some(places) = self.places(name)? else { return Ok(true) };
        if !places.leftovers()?.is_empty() || !staged(self.staging()?.as_ref(), name)?.is_empty() {
            return Ok(false);
        }
        for folder in places.folders() {
            if key_in(folder)?.is_some_and(|key| self.is_other(&self.protection.open(&key))) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn rekey_entry(&self, lock: &Lock) -> Result<usize, KeystoreError> {
        let Some(places) = self.places(lock.name())? else { return Ok(0) };
        let staging = self.staging()?;
        let mut changed = 0;
        if let Some(pending) = &places.pending {
            changed +=
                usize::from(self.rekey_in(pending, &|key| pending.replace(paths::KEY, key))?);
        }
        for version in &places.versions {
            let put = |key: &[u8]| match &staging {
                Some(staging) => sharing::replace(version, paths::KEY, key, staging, lock),
                None => version.replace(paths::KEY, key),
            };
            changed += usize::from(self.rekey_in(version, &put)?);
        }
        for (folder, left) in places.leftovers()? {
            folder.remove_all(&left)?;
        }
        for left in staged(staging.as_ref(), lock.name())? {
            staging.iter().try_for_each(|staging| staging.remove_all(&left))?;
        }
        Ok(changed)
    }

    fn rekey_in(
        &self,
        folder: &Dir,
        put: &dyn Fn(&[u8]) -> Result<(), KeystoreError>,
    ) -> Result<bool, KeystoreError> {
        let Some(pem) = key_in(folder)? else { return Ok(false) };
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

/// Where an entry may have keys.
pub(super) struct Places {
    pending: Option<Dir>,
    all_versions: Option<Dir>,
    /// The current one is the last.
    versions: Vec<Dir>,
}

impl Places {
    fn of(entry: &Dir) -> Result<Places, KeystoreError> {
        let pending = entry.folder(paths::PENDING)?;
        let Some(all) = entry.folder(paths::VERSIONS)? else {
            return Ok(Places { pending, all_versions: None, versions: Vec::new() });
        };
        // A link that says nothing is told of by who serves from it.
        let current = current(entry).unwrap_or(None);
        let mut numbers: Vec<u64> =
            all.names()?.iter().filter_map(|n| paths::version_number(n)).collect();
        numbers.sort_unstable_by_key(|n| (Some(*n) == current, *n));
        let mut versions = Vec::new();
        for number in numbers {
            versions.extend(all.folder(&paths::version(number))?);
        }
        Ok(Places { pending, all_versions: Some(all), versions })
    }

    pub fn folders(&self) -> impl Iterator<Item = &Dir> {
        self.pending.iter().chain(&self.versions)
    }

    /// What is half-written or half-removed: by a dead process, if nobody has the lock.
    fn leftovers(&self) -> Result<Vec<(&Dir, String)>, KeystoreError> {
        let mut left = Vec::new();
        for folder in self.folders().chain(&self.all_versions) {
            let names = match folder.names() {
                // An old version was removed meanwhile.
                Err(KeystoreError::System { cause: Errno::NOENT, .. }) => Vec::new(),
                names => names?,
            };
            let names = names.into_iter().filter(|name| paths::is_temporary(name));
            left.extend(names.map(|name| (folder, name)));
        }
        Ok(left)
    }
}

/// The same in `staging`, as far as it may have keys.
fn staged(staging: Option<&Dir>, name: &EntryName) -> Result<Vec<String>, KeystoreError> {
    let Some(staging) = staging else { return Ok(Vec::new()) };
    let unborn = [paths::NEW_VERSION, paths::KEY].map(|what| paths::staged(name, what));
    let there = staging.names()?;
    Ok(unborn.into_iter().filter(|name| there.contains(name)).collect())
}

/// The key in a folder as it lies there. One that is damaged is nothing to be encrypted.
pub(super) fn key_in(folder: &Dir) -> Result<Option<Secret>, KeystoreError> {
    match folder.read_secret(paths::KEY, KEY_LIMIT) {
        Err(KeystoreError::Damaged { .. }) => Ok(None),
        key => key,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::bundle::Meta;
    use crate::keystore::testing::{self, pending};

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

    /// Wherever it was stopped, the next one sees that there is more to do.
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

    /// The first one to store something under the password was an issuance, not the rekeying.
    #[test]
    fn older_versions_count_too() {
        let (_dir, plain) = testing::keystore();
        let name = testing::name("a.example");
        let lock = plain.try_lock(&name).unwrap().unwrap();
        for _ in 0..3 {
            testing::commit(&plain, &lock, &testing::pair("a.example"));
        }
        let keystore = plain.clone().with_passwords(testing::passwords(&["one"]));
        let holder = Holder::Entry(name);
        assert_eq!(keystore.rekey(&holder).unwrap(), None);
        testing::commit(&keystore, &lock, &testing::pair("a.example"));
        drop(lock);
        assert_eq!(keystore.rekey(&holder).unwrap(), Some(3));
        assert_eq!(keys(&plain.dir().join("certs/a.example")), (0, 4));
        assert_eq!(keystore.rekey(&holder).unwrap(), Some(0));
    }

    /// They may have keys as they were before there was a password.
    #[test]
    fn leftovers_of_the_dead_go() {
        let (_dir, plain) = testing::keystore();
        let keystore = plain.clone().with_passwords(testing::passwords(&["one"]));
        let name = testing::name("a.example");
        let dir = plain.dir().to_owned();
        let pair = testing::pair("a.example");
        let lock = keystore.try_lock(&name).unwrap().unwrap();
        testing::commit(&keystore, &lock, &pair);
        keystore.save_pending(&lock, &pending(&pair.key)).unwrap();
        drop(lock);
        let holder = Holder::Entry(name.clone());
        let entry = dir.join("certs/a.example");
        let staged = |what| dir.join("staging").join(paths::staged(&name, what));
        let is_root = rustix::process::geteuid().is_root();
        let own = rustix::process::getegid().as_raw();
        keystore.share(Some(if is_root { 54_321 } else { own }), own).unwrap();
        for (left, inside) in [
            (entry.join("versions/.version.new"), Some("privkey.pem")),
            (entry.join("versions/.7.old"), Some("privkey.pem")),
            (entry.join("versions/.7.old"), Some("deeper/privkey.pem")),
            (entry.join("versions/1/.privkey.pem.new"), None),
            (entry.join("pending/.privkey.pem.new"), None),
            (staged(paths::NEW_VERSION), Some("privkey.pem")),
            (staged(paths::KEY), None),
        ] {
            let file = inside.map_or(left.clone(), |inside| left.join(inside));
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, pair.key.bytes()).unwrap();
            let lock = keystore.try_lock(&name).unwrap();
            assert_eq!(keystore.rekey(&holder).unwrap(), None, "{}", left.display());
            assert!(left.exists());
            drop(lock);
            assert_eq!(keystore.rekey(&holder).unwrap(), Some(0), "{}", left.display());
            assert!(!left.exists(), "{}", left.display());
        }
        assert!(keystore.load(&name).unwrap().is_ok());
        assert!(keystore.pending(&name).unwrap().is_some());
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
