//! Who else works in this keystore. Each nginx keeps a file of its own young, so that one that is
//! alone need not wait until others have seen its answers to challenges.
//!
//! Ages are told by the clock of the file system, which is the same for all hosts.

use std::time::Duration;

use rustix::fs::{OFlags, Timespec, Timestamps, UTIME_NOW, fstat, futimens};

use super::disk::Dir;
use super::{Keystore, KeystoreError, paths};

impl Keystore {
    /// Says that the nginx `id` is at work. To be said again every few seconds.
    pub fn be_present(&self, id: &str) -> Result<(), KeystoreError> {
        touch(&self.root()?.make(paths::CHALLENGES)?, &paths::presence(id)).map(drop)
    }

    /// Whether another nginx than `id` was at work a moment ago. The file of one that ended long
    /// ago is removed on the way.
    pub fn has_company(&self, id: &str) -> Result<bool, KeystoreError> {
        let dir = self.root()?.make(paths::CHALLENGES)?;
        let own = paths::presence(id);
        let now = touch(&dir, &own)?;
        others(&dir, &own, now)
    }

    /// Whether any nginx was at work a moment ago: for who is none itself.
    pub fn is_watched(&self) -> Result<bool, KeystoreError> {
        let dir = self.root()?.make(paths::CHALLENGES)?;
        // It only tells the time.
        let own = paths::temporary("clock");
        let now = touch(&dir, &own)?;
        dir.remove(&own)?;
        others(&dir, &own, now)
    }
}

fn others(dir: &Dir, own: &str, now: i64) -> Result<bool, KeystoreError> {
    let mut company = false;
    for name in dir.names()?.iter().filter(|n| paths::is_presence(n) && **n != own) {
        let Some(file) = dir.open_file(name, OFlags::RDONLY)? else { continue };
        let stat = fstat(&file).map_err(|cause| dir.failed("fstat", name, cause))?;
        let age = Duration::from_secs(u64::try_from(now - stat.st_mtime).unwrap_or(0));
        company |= age < PRESENT;
        if FORGOTTEN < age {
            dir.remove(name)?;
        }
    }
    Ok(company)
}

/// Makes a file young; its time.
fn touch(dir: &Dir, name: &str) -> Result<i64, KeystoreError> {
    const NOW: Timespec = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
    let file = dir.open_or_create(name, OFlags::RDWR)?;
    let times = Timestamps { last_access: NOW, last_modification: NOW };
    futimens(&file, &times).map_err(|cause| dir.failed("futimens", name, cause))?;
    Ok(fstat(&file).map_err(|cause| dir.failed("fstat", name, cause))?.st_mtime)
}

/// Longer than a few looks of the watch, and than a busy machine oversleeps.
const PRESENT: Duration = Duration::from_secs(15);
const FORGOTTEN: Duration = Duration::from_secs(86_400);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keystore::testing;

    #[test]
    fn company_is_who_was_there_a_moment_ago() {
        let (_dir, keystore) = testing::keystore();
        assert!(!keystore.is_watched().unwrap());
        assert!(!keystore.has_company("one").unwrap());
        assert!(keystore.is_watched().unwrap());
        keystore.be_present("one").unwrap();
        assert!(!keystore.has_company("one").unwrap());
        keystore.be_present("../two").unwrap();
        assert!(keystore.has_company("one").unwrap() && keystore.has_company("../two").unwrap());

        let file = keystore.dir().join("challenges").join(paths::presence("../two"));
        let grow_old = |age| {
            let file = std::fs::File::options().write(true).open(&file).unwrap();
            file.set_modified(file.metadata().unwrap().modified().unwrap() - age).unwrap();
        };
        grow_old(PRESENT + Duration::from_secs(2));
        assert!(!keystore.has_company("one").unwrap());
        assert!(file.exists());
        grow_old(FORGOTTEN);
        assert!(!keystore.has_company("one").unwrap());
        assert!(!file.exists());
    }

    #[test]
    fn answers_are_not_disturbed() {
        let (_dir, keystore) = testing::keystore();
        keystore.be_present("one").unwrap();
        assert_eq!(keystore.challenges(crate::clock::Time::from_secs(0)).unwrap(), []);
        keystore.be_present("one").unwrap();
        assert!(!paths::is_challenge(&paths::presence("one")));
    }
}
