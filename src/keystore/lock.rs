//! Locks between threads, processes and hosts: flock(2) on files that are never removed.
//!
//! flock and not fcntl: a lock of fcntl excludes no thread of its own process and is gone with
//! the first close of any descriptor of the file. Files are opened for writing because NFS asks
//! for it. Nobody ever blocks in the kernel: who has to wait asks again.
//!
//! A lock is taken off, not only closed: a child that another thread has just forked has the
//! descriptor too until its exec, and would go on holding the lock. (Who dies holding a lock
//! still leaves it to such a child: nothing that is forked may live on without an exec.)

use std::fs::File;
use std::ops::Deref;
use std::time::Duration;

use rustix::fs::{FlockOperation, OFlags, flock};
use rustix::io::{Errno, retry_on_intr};

use super::disk::Dir;
use super::{Keystore, KeystoreError, paths};
use crate::settings::EntryName;

/// The right to issue and store for one entry, until it is dropped or the process dies.
#[derive(Debug)]
pub struct Lock {
    name: EntryName,
    _held: Held,
}

impl Lock {
    pub fn name(&self) -> &EntryName {
        &self.name
    }
}

impl Keystore {
    /// The lock of an entry; None: another thread, process or host has it.
    pub fn try_lock(&self, name: &EntryName) -> Result<Option<Lock>, KeystoreError> {
        let held = try_acquire(&self.make_entry(name)?, paths::LOCK, OFlags::empty())?;
        Ok(held.map(|held| Lock { name: name.clone(), _held: held }))
    }
}

/// A locked file, until it is dropped.
#[derive(Debug)]
pub struct Held(File);

impl Deref for Held {
    type Target = File;
    fn deref(&self) -> &File {
        &self.0
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let _ = retry_on_intr(|| flock(&self.0, FlockOperation::Unlock)); // closing remains
    }
}

/// How long somebody waits for a lock that others hold for milliseconds.
pub const PATIENCE: Duration = Duration::from_secs(2);

/// The locked file, asked for again and again for as long as `patience` lasts; None: still held.
pub fn acquire(
    dir: &Dir,
    name: &str,
    flags: OFlags,
    patience: Duration,
) -> Result<Option<Held>, KeystoreError> {
    let mut waited = Duration::ZERO;
    loop {
        if let Some(held) = try_acquire(dir, name, flags)? {
            return Ok(Some(held));
        }
        if waited >= patience {
            return Ok(None);
        }
        waited += pause(PAUSE);
    }
}

/// As [`acquire`], for locks without which nothing can be done.
pub fn insist(dir: &Dir, name: &str, patience: Duration) -> Result<Held, KeystoreError> {
    let held = acquire(dir, name, OFlags::empty(), patience)?;
    held.ok_or_else(|| KeystoreError::Busy { path: dir.at(name) })
}

/// The locked file, opened for reading and writing and with `flags`; None: held by another.
pub fn try_acquire(dir: &Dir, name: &str, flags: OFlags) -> Result<Option<Held>, KeystoreError> {
    let file = dir.open_or_create(name, OFlags::RDWR | flags)?;
    match retry_on_intr(|| flock(&file, FlockOperation::NonBlockingLockExclusive)) {
        Ok(()) => {}
        Err(Errno::WOULDBLOCK) => return Ok(None),
        Err(cause) => return Err(dir.failed("flock", name, cause)),
    }
    let held = Held(file);
    // Replaced since it was opened: this lock would exclude nobody.
    Ok(dir.is_at(name, &held)?.then_some(held))
}

#[allow(clippy::disallowed_methods)] // waiting for another process; there is nothing to be told by
fn pause(time: Duration) -> Duration {
    std::thread::sleep(time);
    time
}

const PAUSE: Duration = Duration::from_millis(5);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keystore::testing;

    #[test]
    fn one_holder() {
        let (_dir, keystore) = testing::keystore();
        let (a, b) = (testing::name("a.example"), testing::name("b.example"));
        let held = keystore.try_lock(&a).unwrap().unwrap();
        assert_eq!(held.name(), &a);
        assert!(keystore.try_lock(&a).unwrap().is_none());
        assert!(keystore.try_lock(&b).unwrap().is_some());
        drop(held);
        assert!(keystore.try_lock(&a).unwrap().is_some());
    }

    #[test]
    fn a_forked_child_keeps_no_lock() {
        let (_dir, keystore) = testing::keystore();
        let name = testing::name("a.example");
        let lock = keystore.try_lock(&name).unwrap().unwrap();
        let _of_the_child = lock._held.try_clone().unwrap(); // the same lock, as after fork()
        assert!(keystore.try_lock(&name).unwrap().is_none());
        drop(lock);
        assert!(keystore.try_lock(&name).unwrap().is_some());
    }

    #[test]
    fn a_lock_on_a_removed_file_is_none() {
        let (_dir, keystore) = testing::keystore();
        let name = testing::name("a.example");
        let _held = keystore.try_lock(&name).unwrap().unwrap();
        std::fs::remove_dir_all(keystore.dir().join("certs/a.example")).unwrap();
        let _new = keystore.try_lock(&name).unwrap().unwrap();
        assert!(keystore.try_lock(&name).unwrap().is_none());
    }

    #[test]
    fn waits_only_so_long() {
        let (_dir, keystore) = testing::keystore();
        let name = testing::name("a.example");
        let held = keystore.try_lock(&name).unwrap().unwrap();
        let entry = keystore.make_entry(&name).unwrap();
        let error = insist(&entry, paths::LOCK, Duration::from_millis(20)).unwrap_err();
        assert!(error.to_string().ends_with("is locked by another process"), "{error}");
        let waiter = std::thread::spawn(move || insist(&entry, paths::LOCK, PATIENCE).is_ok());
        pause(Duration::from_millis(20));
        drop(held);
        assert!(waiter.join().unwrap());
    }
}
