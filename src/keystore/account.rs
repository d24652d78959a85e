//! Accounts at CAs. What is in an account is the CA's own business; here it is bytes with a key in
//! them.

use std::time::Duration;

use super::disk::Dir;
use super::lock::{Held, insist};
use super::{Keystore, KeystoreError, paths};
use crate::settings::Secret;

/// The right to make or change the account at one CA, until it is dropped.
pub struct AccountLock {
    dir: Dir,
    _held: Held,
}

impl Keystore {
    /// The stored account.
    pub fn account(&self, ca: &str) -> Result<Option<Secret>, KeystoreError> {
        let Some(accounts) = self.root()?.enter(paths::ACCOUNTS)? else { return Ok(None) };
        let Some(dir) = accounts.enter(paths::ca(ca)?)? else { return Ok(None) };
        dir.read_secret(paths::ACCOUNT, LIMIT)
    }

    /// Waits for the lock, `patience` at most; then it is busy. Who gets it reads the account
    /// again: another one may just have made it.
    pub fn lock_account(&self, ca: &str, patience: Duration) -> Result<AccountLock, KeystoreError> {
        let ca = paths::ca(ca)?;
        let dir = self.root()?.make(paths::ACCOUNTS)?.make(ca)?;
        let held = insist(&dir, paths::LOCK, patience)?;
        Ok(AccountLock { dir, _held: held })
    }

    /// Stores the account; on return it is on the disk.
    pub fn store_account(&self, lock: &AccountLock, account: &Secret) -> Result<(), KeystoreError> {
        if account.bytes().len() > LIMIT {
            return Err(lock.dir.damaged(paths::ACCOUNT, "not stored: too large".into()));
        }
        lock.dir.replace(paths::ACCOUNT, account.bytes())
    }
}

const LIMIT: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keystore::testing;

    #[test]
    fn stores_under_the_lock() {
        let (_dir, keystore) = testing::keystore();
        assert_eq!(keystore.account("corp").unwrap(), None);
        let lock = keystore.lock_account("corp", Duration::ZERO).unwrap();
        assert_eq!(keystore.account("corp").unwrap(), None);
        let busy = keystore.lock_account("corp", Duration::from_millis(10));
        assert!(matches!(busy, Err(KeystoreError::Busy { .. })));
        assert!(keystore.lock_account("other", Duration::ZERO).is_ok());
        for text in ["one", "two"] {
            let account = Secret::new(text.into());
            keystore.store_account(&lock, &account).unwrap();
            assert_eq!(keystore.account("corp").unwrap(), Some(account));
        }
        drop(lock);
        assert!(keystore.lock_account("corp", Duration::ZERO).is_ok());
        assert!(keystore.dir().join("accounts/corp/account.json").is_file());
    }

    #[test]
    fn only_plain_names_become_paths() {
        let (_dir, keystore) = testing::keystore();
        assert!(matches!(keystore.account("../x"), Err(KeystoreError::Name(_))));
        assert!(matches!(keystore.lock_account("..", Duration::ZERO), Err(KeystoreError::Name(_))));
    }
}
