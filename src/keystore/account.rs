//! Accounts at CAs. What is in an account is the CA's own business; here it is bytes with a key in
//! them.

use std::io::Write;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;
use zeroize::{Zeroize, Zeroizing};

use super::disk::Dir;
use super::lock::{Held, insist};
use super::protection::{By, Fault, Key};
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
        let Some(stored) = dir.read_secret(paths::ACCOUNT, LIMIT)? else { return Ok(None) };
        with_keys(&stored, |key| self.unseal(&dir, paths::ACCOUNT, key)).map(Some)
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
        let (dir, file) = (&lock.dir, paths::ACCOUNT);
        let account = match self.protection.wanted() {
            By::Nothing => account.clone(),
            By::Password(_) => with_keys(account, |key| self.seal(dir, file, key))?,
        };
        if account.bytes().len() > LIMIT {
            return Err(dir.damaged(file, "not stored: too large".into()));
        }
        dir.replace(file, account.bytes())
    }

    /// Puts the keys of an account under the first password; how many were not. None: another one
    /// has the lock.
    pub(super) fn rekey_account(&self, ca: &str) -> Result<Option<usize>, KeystoreError> {
        let lock = match self.lock_account(ca, Duration::ZERO) {
            Err(KeystoreError::Busy { .. }) => return Ok(None),
            lock => lock?,
        };
        lock.dir.remove(&paths::temporary(paths::ACCOUNT))?; // of a dead process
        let Some(stored) = lock.dir.read_secret(paths::ACCOUNT, LIMIT)? else { return Ok(Some(0)) };
        let mut others = 0;
        let mut count = |key: &Secret| match self.protection.open(key) {
            // What can't be read stays as it is: who needs it says so.
            Err(Fault::Sealed | Fault::Broken(_)) => Err(()),
            Ok(Key { by, .. }) => {
                others += usize::from(by != self.protection.wanted());
                Ok(key.clone())
            }
        };
        if with_keys(&stored, &mut count).is_err() || others == 0 {
            return Ok(Some(0));
        }
        if let Some(account) = self.account(ca)? {
            self.store_account(&lock, &account)?;
        }
        Ok(Some(others))
    }
}

/// The account with its keys changed: they are strings in JSON, wherever they stand. What is no
/// JSON has none.
fn with_keys<E>(
    account: &Secret,
    mut change: impl FnMut(&Secret) -> Result<Secret, E>,
) -> Result<Secret, E> {
    let Ok(json) = serde_json::from_slice(account.bytes()) else { return Ok(account.clone()) };
    let mut json = Wiped(json);
    for text in strings(&mut json.0).into_iter().filter(|text| text.contains(KEY_MARK)) {
        let key = change(&Secret::new(text.as_bytes().to_vec()))?;
        text.zeroize();
        text.push_str(&String::from_utf8_lossy(key.bytes())); // PEM
    }
    Ok(in_json(&json.0).unwrap_or_else(|_| account.clone())) // strings and numbers can't fail
}

/// An account as JSON, with no copy of its key left behind in memory.
pub fn in_json(account: &impl Serialize) -> Result<Secret, serde_json::Error> {
    Ok(Secret::new(std::mem::take(&mut *measured(account)?)))
}

/// A buffer that grows would leave what it had before, so its size is found first.
fn measured(account: &impl Serialize) -> Result<Zeroizing<Vec<u8>>, serde_json::Error> {
    let mut size = Size(0);
    serde_json::to_writer(&mut size, account)?;
    let mut json = Zeroizing::new(Vec::with_capacity(size.0));
    serde_json::to_writer(&mut *json, account)?;
    Ok(json)
}

/// Of what is written to it.
struct Size(usize);

impl Write for Size {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// As in "BEGIN PRIVATE KEY" and "BEGIN ENCRYPTED PRIVATE KEY".
const KEY_MARK: &str = "PRIVATE KEY-----";

struct Wiped(Value);

impl Drop for Wiped {
    fn drop(&mut self) {
        strings(&mut self.0).into_iter().for_each(String::zeroize);
    }
}

fn strings(json: &mut Value) -> Vec<&mut String> {
    match json {
        Value::String(text) => vec![text],
        Value::Array(values) => values.iter_mut().flat_map(strings).collect(),
        Value::Object(members) => members.values_mut().flat_map(strings).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) => Vec::new(),
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
    fn keys_lie_under_the_password() {
        let (_dir, plain) = testing::keystore();
        let with = |words: &[&str]| plain.clone().with_passwords(testing::passwords(words));
        let key = String::from_utf8(testing::pair("x").key.bytes().to_vec()).unwrap();
        let account = serde_json::json!({ "key": key, "url": "https://ca/1", "n": [1, null] });
        let account = Secret::new(serde_json::to_vec(&account).unwrap());
        let stored = || std::fs::read_to_string(plain.dir().join("accounts/corp/account.json"));
        let store = |keystore: &Keystore| {
            let lock = keystore.lock_account("corp", Duration::ZERO).unwrap();
            keystore.store_account(&lock, &account).unwrap();
        };
        store(&plain);
        assert!(stored().unwrap().contains("-----BEGIN PRIVATE KEY-----"));
        for (words, changed) in [(&["one"] as &[&str], 1), (&["one"], 0), (&["two", "one"], 1)] {
            assert_eq!(with(words).rekey_account("corp").unwrap(), Some(changed), "{words:?}");
            assert!(stored().unwrap().contains("-----BEGIN ENCRYPTED PRIVATE KEY-----"));
            assert_eq!(with(words).account("corp").unwrap().as_ref(), Some(&account));
        }
        for words in [&[] as &[&str], &["one"]] {
            let error = with(words).account("corp").unwrap_err().to_string();
            assert!(error.contains("\"password_file\""), "{error}");
            assert_eq!(with(words).rekey_account("corp").unwrap(), Some(0));
        }
        assert_eq!(with(&["two"]).account("corp").unwrap().as_ref(), Some(&account));
        store(&with(&["three"]));
        assert_eq!(with(&["three"]).account("corp").unwrap().as_ref(), Some(&account));
        let left = plain.dir().join("accounts/corp/.account.json.new");
        std::fs::write(&left, account.bytes()).unwrap();
        assert_eq!(with(&["three"]).rekey_account("corp").unwrap(), Some(0));
        assert!(!left.exists());
        let held = plain.lock_account("corp", Duration::ZERO).unwrap();
        assert_eq!(with(&["four", "three"]).rekey_account("corp").unwrap(), None);
        drop(held);
    }

    #[test]
    fn json_is_written_in_one_piece() {
        for size in [0, 1, 100, LIMIT] {
            let account = serde_json::json!({ "key": "\n".repeat(size), "n": [1.5, null] });
            let json = measured(&account).unwrap();
            assert_eq!(*json, serde_json::to_vec(&account).unwrap());
            assert_eq!(json.capacity(), json.len());
            assert_eq!(in_json(&account).unwrap().bytes(), &**json);
        }
    }

    #[test]
    fn only_plain_names_become_paths() {
        let (_dir, keystore) = testing::keystore();
        assert!(matches!(keystore.account("../x"), Err(KeystoreError::Name(_))));
        assert!(matches!(keystore.lock_account("..", Duration::ZERO), Err(KeystoreError::Name(_))));
    }
}
