//! How private keys lie on the disk: encrypted with the first password, if there is one, and
//! readable with all of them.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use openssl::error::ErrorStack;
use openssl::pkey::{PKey, Private};
use openssl::sha::sha256;

use super::pbes2::{self, Stretching, Tried};
use crate::bundle::private_key;
use crate::settings::{EntryName, Passwords, Secret};

/// Shared by all handles of a keystore in one process.
pub struct Protection {
    passwords: Passwords,
    /// What came of the key file that was last read of each entry: it is read again whenever
    /// something about the entry changes, and to open it costs milliseconds.
    known: Mutex<HashMap<EntryName, ([u8; 32], Opened)>>,
    /// What passwords were stretched to, by their number: tens of milliseconds each.
    derived: Mutex<HashMap<(usize, Stretching), Secret>>,
    /// Those with which a password of ours has opened or sealed a key. Each has a salt of its own,
    /// so what lies under it lies under that password, and is damaged when it does not open.
    ours: Mutex<HashSet<Stretching>>,
    /// How new keys are encrypted: with the salt of those that are there, so that a process which
    /// loads a thousand of them stretches the password once. A salt keeps one guess from serving
    /// for many passwords, and here all keys have the same one.
    usual: Mutex<Option<Stretching>>,
}

pub type Opened = Result<Key, Fault>;

#[derive(Clone)]
pub struct Key {
    pub key: PKey<Private>,
    pub by: By,
}

/// What a key lies under.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum By {
    Nothing,
    /// The password with this number.
    Password(usize),
}

/// Why a key can't be used.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Fault {
    /// No password opens it: that says something about the passwords and nothing about the key.
    Sealed,
    /// The cause in words.
    Broken(String),
}

impl Protection {
    pub fn new(passwords: Passwords) -> Protection {
        Protection {
            passwords,
            known: Mutex::default(),
            derived: Mutex::default(),
            ours: Mutex::default(),
            usual: Mutex::default(),
        }
    }

    pub fn passwords(&self) -> &Passwords {
        &self.passwords
    }

    /// What new keys are to lie under.
    pub fn wanted(&self) -> By {
        if self.passwords.is_empty() { By::Nothing } else { By::Password(0) }
    }

    /// A key as it is to lie on the disk.
    pub fn seal(&self, key_pem: &Secret) -> Result<Secret, String> {
        let Some(password) = self.passwords.first() else { return Ok(key_pem.clone()) };
        let key = private_key(key_pem.bytes()).map_err(|e| e.to_string())?;
        self.seal_with(&key, password).map_err(|e| e.to_string())
    }

    fn seal_with(&self, key: &PKey<Private>, password: &Secret) -> Result<Secret, ErrorStack> {
        let known = lock(&self.usual).clone();
        let usual = known.map_or_else(Stretching::new, Ok)?;
        let usual = lock(&self.usual).get_or_insert(usual).clone(); // another thread's, perhaps
        let derived = self.derived(0, password, &usual)?;
        let sealed = pbes2::seal(key, &usual, &derived)?;
        self.note_ours(&usual);
        Ok(sealed)
    }

    fn note_ours(&self, stretching: &Stretching) {
        let mut ours = lock(&self.ours);
        if !ours.contains(stretching) {
            if ours.len() >= MOST {
                ours.clear();
            }
            ours.insert(stretching.clone());
        }
    }

    fn derived(
        &self,
        number: usize,
        password: &Secret,
        stretching: &Stretching,
    ) -> Result<Secret, ErrorStack> {
        let place = (number, stretching.clone());
        if let Some(derived) = lock(&self.derived).get(&place) {
            return Ok(derived.clone());
        }
        let derived = stretching.derive(password)?; // not under the mutex: it takes its time
        let mut all = lock(&self.derived);
        if all.len() >= MOST {
            all.clear();
        }
        all.insert(place, derived.clone());
        Ok(derived)
    }

    /// Reads a key as it lies on the disk.
    pub fn open(&self, pem: &Secret) -> Opened {
        let sealed = match pbes2::read(pem.bytes()) {
            Some(sealed) => sealed.map_err(|cause| Fault::Broken(cause.into()))?,
            None => {
                let key = private_key(pem.bytes()).map_err(|e| Fault::Broken(e.to_string()))?;
                return Ok(Key { key, by: By::Nothing });
            }
        };
        for (number, password) in self.passwords.iter().enumerate() {
            let stretching = &sealed.stretching;
            let tried = self.derived(number, password, stretching).and_then(|d| sealed.open(&d));
            match tried.map_err(|e| Fault::Broken(e.to_string()))? {
                Tried::Opened(key) => {
                    self.note_ours(stretching);
                    if number == 0 && stretching.is_usual() {
                        lock(&self.usual).get_or_insert_with(|| stretching.clone());
                    }
                    return Ok(Key { key, by: By::Password(number) });
                }
                Tried::WrongPassword => {}
                Tried::Damaged => return Err(damaged()),
            }
        }
        Err(if lock(&self.ours).contains(&sealed.stretching) { damaged() } else { Fault::Sealed })
    }

    /// As [`Protection::open`], for the key of an entry: the same file costs nothing again.
    pub fn open_known(&self, name: &EntryName, pem: &Secret) -> Opened {
        let digest = sha256(pem.bytes());
        // Not under the mutex: other entries are read meanwhile.
        let opened = self.known(name, &digest).unwrap_or_else(|| self.open(pem));
        lock(&self.known).insert(name.clone(), (digest, opened.clone()));
        opened
    }

    fn known(&self, name: &EntryName, digest: &[u8; 32]) -> Option<Opened> {
        let known = lock(&self.known);
        // What no password opened may turn out to be damaged when others have been opened.
        let known = known.get(name).filter(|(of, opened)| of == digest && !is_sealed(opened));
        known.map(|(_, opened)| opened.clone())
    }

    /// A key in PEM as it is used in memory, from how it lies on the disk.
    pub fn unseal(&self, pem: &Secret) -> Result<Secret, Fault> {
        if pbes2::read(pem.bytes()).is_none() {
            return Ok(pem.clone());
        }
        let broken = |e: ErrorStack| Fault::Broken(e.to_string());
        let plain = self.open(pem)?.key.private_key_to_pem_pkcs8().map_err(broken)?;
        Ok(Secret::new(plain))
    }
}

fn damaged() -> Fault {
    Fault::Broken("what is encrypted is damaged".into())
}

fn is_sealed(opened: &Opened) -> bool {
    matches!(opened, Err(Fault::Sealed))
}

/// Of what is kept about stretched passwords: files with other parameters may come from anybody.
const MOST: usize = 1024;

/// Nothing in them is ever half-changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl std::fmt::Debug for Protection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Protection(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keystore::testing::{name, pair, passwords};

    #[test]
    fn the_first_encrypts_all_decrypt() {
        let key = pair("a.example").key;
        let with = |words: &[&str]| Protection::new(passwords(words));
        let by_one = with(&["one"]).seal(&key).unwrap();
        let by_two = with(&["two", "one"]).seal(&key).unwrap();
        for (words, pem, expected) in [
            (&[] as &[&str], &key, Ok(By::Nothing)),
            (&["one"], &key, Ok(By::Nothing)),
            (&["one"], &by_one, Ok(By::Password(0))),
            (&["two", "one"], &by_one, Ok(By::Password(1))),
            (&["two", "one"], &by_two, Ok(By::Password(0))),
            (&["one"], &by_two, Err(Fault::Sealed)),
            (&[], &by_one, Err(Fault::Sealed)),
        ] {
            let protection = with(words);
            let by = |opened: Opened| opened.map(|key| key.by);
            assert_eq!(by(protection.open(pem)), expected, "{words:?}");
            for _ in 0..2 {
                let known = protection.open_known(&name("a.example"), pem);
                assert_eq!(by(known), expected, "{words:?}");
            }
            let plain = expected.is_ok().then(|| key.clone()).ok_or(Fault::Sealed);
            assert_eq!(protection.unseal(pem), plain, "{words:?}");
        }
        assert_eq!(with(&[]).seal(&key).unwrap(), key);
    }

    /// Also by another process, and after a start.
    #[test]
    fn one_salt_for_all() {
        let (one, other) = (testing_protection(), testing_protection());
        let first = one.seal(&pair("a.example").key).unwrap();
        assert!(other.open(&first).is_ok());
        for protection in [&one, &other] {
            let sealed = protection.seal(&pair("b.example").key).unwrap();
            assert_ne!(sealed, first);
            assert!(one.open(&sealed).is_ok());
            assert_eq!(lock(&protection.derived).len(), 1);
        }
        assert_eq!(lock(&one.derived).len(), 1);
    }

    fn testing_protection() -> Protection {
        Protection::new(passwords(&["one"]))
    }

    /// The beginning of a key tells a wrong password, unless it is the beginning that is damaged:
    /// then the salt tells, once it is known to be ours.
    #[test]
    fn a_damaged_beginning_is_no_wrong_password() {
        let (ours, theirs) = (testing_protection(), Protection::new(passwords(&["two"])));
        let pems = ["a.example", "b.example"].map(|name| ours.seal(&pair(name).key).unwrap());
        let other = theirs.seal(&pair("c.example").key).unwrap();
        let damaged = |line: usize, column: usize| {
            let text = String::from_utf8(pems[0].bytes().to_vec()).unwrap();
            let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
            let new = if lines[line].as_bytes()[column] == b'A' { "B" } else { "A" };
            lines[line].replace_range(column..=column, new);
            Secret::new((lines.join("\n") + "\n").into_bytes())
        };
        // In the IV, and in the first block of what is encrypted.
        for pem in [damaged(2, 51), damaged(3, 18)] {
            let fresh = testing_protection();
            let name = name("a.example");
            for _ in 0..2 {
                assert_eq!(fresh.open_known(&name, &pem).err(), Some(Fault::Sealed));
            }
            assert!(fresh.open(&pems[1]).is_ok());
            for _ in 0..2 {
                assert_eq!(fresh.open_known(&name, &pem).err(), Some(super::damaged()));
            }
            assert_eq!(fresh.open(&other).err(), Some(Fault::Sealed));
            assert_eq!(ours.open(&pem).err(), Some(super::damaged())); // sealed there
        }
    }

    #[test]
    fn what_is_known_is_of_that_file() {
        let protection = Protection::new(passwords(&["one"]));
        let name = name("a.example");
        for _ in 0..2 {
            let key = pair("a.example").key;
            let sealed = protection.seal(&key).unwrap();
            let opened = protection.open_known(&name, &sealed).unwrap_or_else(|e| panic!("{e:?}"));
            assert!(opened.key.public_eq(&private_key(key.bytes()).unwrap()));
        }
        let junk = Secret::new(b"junk".to_vec());
        assert!(matches!(protection.open_known(&name, &junk), Err(Fault::Broken(_))));
        assert!(protection.seal(&junk).is_err());
    }
}
