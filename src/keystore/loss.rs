//! What a change of the passwords would lose.

use rustix::io::Errno;

use super::protection::Fault;
use super::rekey::key_in;
use super::{Holder, Keystore, KeystoreError, paths};
use crate::settings::{Passwords, Secret};

impl Keystore {
    /// The error of the first key that the passwords `before` open and ours do not: of any
    /// certificate, order or account, configured or not. What those did not open either is no
    /// loss, and what else may be wrong with a key is told by who needs it.
    pub fn check_loss(&self, before: &Passwords) -> Result<(), KeystoreError> {
        if self.protection.passwords().include(before) {
            return Ok(());
        }
        let before = self.clone().with_passwords(before.clone());
        let holders = match self.holders() {
            // There is none yet.
            Err(KeystoreError::System { cause: Errno::NOENT, .. }) => return Ok(()),
            holders => holders?,
        };
        holders.iter().find_map(|holder| self.lost(holder, &before)).map_or(Ok(()), Err)
    }

    fn lost(&self, holder: &Holder, before: &Keystore) -> Option<KeystoreError> {
        let name = match holder {
            Holder::Account(ca) => {
                let error = self.account(ca).err().filter(is_sealed)?;
                return before.account(ca).is_ok().then_some(error);
            }
            Holder::Entry(name) => name,
        };
        let places = self.places(name).ok().flatten()?;
        let is_lost = |key: &Secret| {
            matches!(self.protection.open(key), Err(Fault::Sealed))
                && before.protection.open(key).is_ok()
        };
        let mut folders = places.folders();
        let folder = folders.find(|f| key_in(f).ok().flatten().as_ref().is_some_and(is_lost))?;
        Some(self.sealed(folder, paths::KEY))
    }
}

fn is_sealed(error: &KeystoreError) -> bool {
    matches!(error, KeystoreError::Sealed { .. })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::keystore::testing;

    /// What lies in the keystore: the key of a certificate and of the one before it, of an order,
    /// of an account.
    #[derive(Clone, Copy, Debug)]
    enum What {
        Version,
        Order,
        Account,
    }

    fn store(keystore: &Keystore, what: What) {
        let name = testing::name("a.example");
        let pair = testing::pair("a.example");
        let lock = keystore.try_lock(&name).unwrap().unwrap();
        match what {
            What::Version => drop(testing::commit(keystore, &lock, &pair)),
            What::Order => keystore.save_pending(&lock, &testing::pending(&pair.key)).unwrap(),
            What::Account => {
                let key = String::from_utf8(pair.key.bytes().to_vec()).unwrap();
                let account = serde_json::json!({ "key": key }).to_string();
                let lock = keystore.lock_account("corp", Duration::ZERO).unwrap();
                keystore.store_account(&lock, &Secret::new(account.into())).unwrap();
            }
        }
    }

    /// What lies there under which password, the passwords before and now, what is lost.
    type Row<'a> = (&'a [(What, &'a str)], &'a [&'a str], &'a [&'a str], Option<&'a str>);

    #[test]
    fn every_key_that_was_open_stays_open() {
        use What::{Account, Order, Version};
        let is_lost: [Row; 10] = [
            (
                &[(Version, "new"), (Account, "old")],
                &["new", "old"],
                &["new"],
                Some("account.json"),
            ),
            (&[(Version, "new"), (Order, "old")], &["new", "old"], &["new"], Some("pending")),
            (&[(Version, "old"), (Version, "new")], &["new", "old"], &["new"], Some("versions/1")),
            (&[(Version, "old")], &["old"], &[], Some("versions/1")),
            (&[(Version, "new"), (Order, "new")], &["new", "old"], &["new"], None),
            (&[(Version, "new"), (Account, "new")], &["new", "old"], &["new"], None),
            (&[(Version, "old"), (Account, "old")], &["old"], &["new", "old"], None),
            // Nobody had it before either.
            (&[(Version, "gone"), (Account, "gone")], &["new", "old"], &["new"], None),
            (&[(Order, "gone"), (Account, "old")], &["new", "old"], &["new"], Some("account.json")),
            (&[], &["old"], &["new"], None),
        ];
        for (stored, before, after, expected) in is_lost {
            let (_dir, plain) = testing::keystore();
            let with = |words: &[&str]| plain.clone().with_passwords(testing::passwords(words));
            stored.iter().for_each(|(what, word)| store(&with(&[word]), *what));
            let error = with(after).check_loss(&testing::passwords(before)).err();
            let told = error.map(|error| error.to_string());
            let fits = match (&told, expected) {
                (Some(told), Some(path)) => told.contains(path) && told.contains("is encrypted"),
                (told, expected) => told.is_none() && expected.is_none(),
            };
            assert!(fits, "{stored:?} {before:?} {after:?}: {told:?}");
        }
        let nowhere = Keystore::at(std::path::Path::new("/nowhere/at/all"));
        nowhere.check_loss(&testing::passwords(&["old"])).unwrap();
    }
}
