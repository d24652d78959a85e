//! The keystore: certificates, keys, evidence, orders and accounts in one folder that several
//! workers, hosts and the command share.
//!
//! Every file is replaced, never edited, and every replacement happens under the lock that guards
//! it, so that `kill -9` at any instant leaves the old file or the new one. What may be read
//! without a lock says so by needing none. Everything here does disk I/O and some of it waits for
//! a lock (two seconds at most): it belongs on the disk thread, never in the event loop. It asks
//! no clock: the caller says what time it is.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::settings::{EntryName, Passwords, Secret};

mod account;
mod challenge;
mod changes;
#[cfg(test)]
mod crash_test;
mod create;
mod crl;
mod disk;
mod error;
mod evidence;
mod ledger;
mod lock;
mod loss;
mod paths;
mod pbes2;
mod pending;
mod presence;
mod protection;
mod rekey;
mod renewal;
mod sharing;
#[cfg(test)]
mod testing;
mod version;

pub use account::{AccountLock, in_json};
pub use changes::{Change, Cursor};
pub use crl::{CrlFile, CrlLock, CrlMeta, Spool, StoredCrl};
pub use error::KeystoreError;
pub use ledger::{Issuance, Rest};
pub use lock::Lock;
pub use pending::{Pending, Replacing};
pub use rekey::Holder;
pub use version::{Committed, Loaded};

use disk::Dir;
use protection::{Fault, Protection};

/// A handle of a keystore. It holds no file open: a folder that was replaced is seen.
#[derive(Clone, Debug)]
pub struct Keystore {
    dir: PathBuf,
    protection: Arc<Protection>,
}

impl Keystore {
    /// The keystore that lies at `dir`. Nothing is created.
    pub fn open(dir: &Path) -> Result<Keystore, KeystoreError> {
        let keystore = Keystore::at(dir);
        keystore.root()?;
        Ok(keystore)
    }

    /// The same for a folder that may be out of reach now and not later: each use of it tells.
    pub fn at(dir: &Path) -> Keystore {
        Keystore {
            dir: dir.to_owned(),
            protection: Arc::new(Protection::new(Passwords::default())),
        }
    }

    /// The same with private keys encrypted. The first password encrypts, all decrypt.
    pub fn with_passwords(self, passwords: Passwords) -> Keystore {
        Keystore { protection: Arc::new(Protection::new(passwords)), ..self }
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Whether the folder with the entries is there: without it this is no keystore, or none yet.
    pub fn has_entries(&self) -> Result<bool, KeystoreError> {
        Ok(self.root()?.enter(paths::CERTS)?.is_some())
    }

    /// The names of all entries, sorted. One may have no certificate yet.
    pub fn entries(&self) -> Result<Vec<EntryName>, KeystoreError> {
        let Some(certs) = self.root()?.enter(paths::CERTS)? else { return Ok(Vec::new()) };
        let mut names: Vec<EntryName> =
            certs.names()?.iter().filter_map(|n| paths::entry_of(n)).collect();
        names.sort();
        Ok(names)
    }

    fn root(&self) -> Result<Dir, KeystoreError> {
        let root = Dir::open(&self.dir)?;
        // Root (the command, a single process) works in a folder of the workers' user.
        let is_root = rustix::process::geteuid().is_root();
        match root.owner()? {
            owner if is_root && owner.uid != 0 => Ok(root.giving_to(owner)),
            _ => Ok(root),
        }
    }

    fn sealed(&self, dir: &Dir, file: &str) -> KeystoreError {
        KeystoreError::Sealed { path: dir.at(file), tried: !self.protection.passwords().is_empty() }
    }

    /// A private key as it is used in memory, from how it lies in `file`.
    fn unseal(&self, dir: &Dir, file: &str, pem: &Secret) -> Result<Secret, KeystoreError> {
        self.protection.unseal(pem).map_err(|fault| match fault {
            Fault::Sealed => self.sealed(dir, file),
            Fault::Broken(cause) => dir.damaged(file, cause),
        })
    }

    /// A private key as it is to lie in `file`.
    fn seal(&self, dir: &Dir, file: &str, pem: &Secret) -> Result<Secret, KeystoreError> {
        let unfit = |cause| dir.damaged(file, format!("not stored: {cause}"));
        self.protection.seal(pem).map_err(unfit)
    }

    /// The folder of an entry, if it has one.
    fn entry(&self, name: &EntryName) -> Result<Option<Dir>, KeystoreError> {
        let Some(certs) = self.root()?.enter(paths::CERTS)? else { return Ok(None) };
        certs.enter(paths::entry(name))
    }

    /// The folder of an entry, made where it is missing.
    fn make_entry(&self, name: &EntryName) -> Result<Dir, KeystoreError> {
        let certs = self.root()?.make(paths::CERTS)?;
        if let Some(entry) = certs.enter(paths::entry(name))? {
            return Ok(entry);
        }
        sharing::make(&certs, paths::entry(name), self.staging()?.as_ref(), name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opens_only_what_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let missing = dir.path().join("none");
        let error = Keystore::open(&missing).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("open() \"{}\" failed (2: No such file or directory)", missing.display())
        );
        assert!(error.may_pass());
    }

    #[test]
    fn lists_entries() {
        let (_dir, keystore) = testing::keystore();
        assert_eq!(keystore.entries().unwrap(), []);
        for name in ["b.example", "a.example"] {
            keystore.make_entry(&testing::name(name)).unwrap();
        }
        for junk in ["Upper.example", ".hidden", "no name"] {
            std::fs::create_dir(keystore.dir().join("certs").join(junk)).unwrap();
        }
        assert_eq!(
            keystore.entries().unwrap(),
            [testing::name("a.example"), testing::name("b.example")]
        );
    }
}
