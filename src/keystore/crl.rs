//! CRLs on the disk: fetched once for all entries, workers and hosts that need them.
//!
//! What is written here was verified, but nothing that is read here is believed for that: the
//! reader verifies it again. A list and what is known about it are two files. The list is
//! replaced first: a crash in between leaves an ETag too old, which costs a download, and never
//! one that is too new, which would make an old list count for ever.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Seek, Write};
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};

use super::disk::{Dir, errno};
use super::lock::{Held, try_acquire};
use super::{Keystore, KeystoreError, paths};
use crate::clock::Time;
use crate::facts::Fingerprint;

/// What is known about a stored CRL.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct CrlMeta {
    pub url: String,
    /// Headers of the answer that brought it.
    pub etag: Option<String>,
    pub last_modified: Option<String>,
    /// When it was asked for last, whether that brought a new one or not.
    pub asked_at: Time,
    pub this_update: Time,
    pub next_update: Option<Time>,
    /// cRLNumber, hex.
    pub number: Option<String>,
    /// The issuer whose signature it has.
    pub issuer: Fingerprint,
}

/// A stored CRL, open for reading.
pub struct StoredCrl {
    pub meta: CrlMeta,
    pub list: File,
    pub file: CrlFile,
}

/// Tells one file from all others, and from itself with other contents.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct CrlFile {
    device: u64,
    inode: u64,
    size: u64,
    /// Seconds and nanoseconds.
    modified: (i64, i64),
}

/// The right to fetch and store one CRL, until it is dropped or the process dies.
pub struct CrlLock {
    dir: Dir,
    stem: String,
    _held: Held,
}

/// A CRL that is being received. Without [`CrlLock::store`] nothing remains of it.
pub struct Spool<'a> {
    lock: &'a CrlLock,
    file: File,
}

impl Keystore {
    /// The stored CRL of a URL. One that is damaged is none.
    pub fn crl(&self, url: &str) -> Result<Option<StoredCrl>, KeystoreError> {
        let Some(dir) = self.root()?.enter(paths::CRLS)? else { return Ok(None) };
        let stem = paths::crl(url);
        let Some(meta) = read_meta(&dir, &stem)?.filter(|meta| meta.url == url) else {
            return Ok(None);
        };
        let name = paths::crl_list(&stem);
        let Some(list) = dir.open_file(&name, OFlags::RDONLY)? else { return Ok(None) };
        let file = CrlFile::of(&list).map_err(|e| dir.failed("fstat", &name, errno(&e)))?;
        Ok(Some(StoredCrl { meta, list, file }))
    }

    /// The lock of a URL's CRL; None: another thread, process or host has it.
    pub fn try_lock_crl(&self, url: &str) -> Result<Option<CrlLock>, KeystoreError> {
        let dir = self.root()?.make(paths::CRLS)?;
        let stem = paths::crl(url);
        let held = try_acquire(&dir, &paths::crl_lock(&stem), OFlags::empty())?;
        Ok(held.map(|held| CrlLock { dir, stem, _held: held }))
    }

    /// Removes CRLs that nobody needs any more: shards of certificates that were replaced.
    pub fn tidy_crls(&self, now: Time) -> Result<(), KeystoreError> {
        let Some(dir) = self.root()?.enter(paths::CRLS)? else { return Ok(()) };
        let stems: BTreeSet<String> =
            dir.names()?.iter().filter_map(|n| paths::crl_of(n)).collect();
        for stem in stems {
            if is_needed(&dir, &stem, now)? {
                continue;
            }
            let lock = paths::crl_lock(&stem);
            let Some(held) = try_acquire(&dir, &lock, OFlags::empty())? else { continue };
            if !is_needed(&dir, &stem, now)? {
                remove(&dir, &stem)?;
                // Who has it open sees that it is gone, and starts again.
                dir.remove(&lock)?;
            }
            drop(held);
        }
        Ok(())
    }
}

/// Whether it was asked for, and current, not too long ago. One that is being fetched for the
/// first time has nothing to tell; its lock is held.
fn is_needed(dir: &Dir, stem: &str, now: Time) -> Result<bool, KeystoreError> {
    const UNUSED: Duration = Duration::from_secs(30 * 86_400);
    const STALE: Duration = Duration::from_secs(7 * 86_400);
    Ok(read_meta(dir, stem)?.is_some_and(|meta| {
        let stale = meta.next_update.is_some_and(|end| now.since(end) > STALE);
        now.since(meta.asked_at) <= UNUSED && !stale
    }))
}

fn read_meta(dir: &Dir, stem: &str) -> Result<Option<CrlMeta>, KeystoreError> {
    const LIMIT: usize = 16 << 10;
    match dir.read(&paths::crl_meta(stem), LIMIT) {
        Ok(json) => Ok(json.and_then(|json| serde_json::from_slice(&json).ok())),
        Err(KeystoreError::Damaged { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

fn remove(dir: &Dir, stem: &str) -> Result<(), KeystoreError> {
    for name in [paths::crl_meta(stem), paths::crl_list(stem)] {
        dir.remove(&paths::temporary(&name))?;
        dir.remove(&name)?;
    }
    Ok(())
}

impl CrlLock {
    /// A place for a CRL that is about to come.
    pub fn spool(&self) -> Result<Spool<'_>, KeystoreError> {
        let name = self.temporary();
        self.dir.remove(&name)?; // left by a dead one
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL;
        let file = self.dir.open_or_create(&name, flags)?;
        Ok(Spool { lock: self, file })
    }

    /// Puts what was received in the place of what was there, and returns when that is on the
    /// disk.
    pub fn store(&self, spool: Spool<'_>, meta: &CrlMeta) -> Result<CrlFile, KeystoreError> {
        let (from, to) = (self.temporary(), paths::crl_list(&self.stem));
        spool.file.sync_all().map_err(|e| self.dir.failed("fsync", &from, errno(&e)))?;
        let file = spool.id()?;
        self.dir.rename(&from, &to)?;
        self.dir.sync()?; // nor may a power failure keep the second rename and lose this one
        self.update(meta)?;
        Ok(file)
    }

    /// Replaces what is known about the CRL that is there.
    pub fn update(&self, meta: &CrlMeta) -> Result<(), KeystoreError> {
        let name = paths::crl_meta(&self.stem);
        let json = serde_json::to_vec(meta).map_err(|e| self.dir.damaged(&name, e.to_string()))?;
        self.dir.replace(&name, &json)
    }

    /// Drops what is there.
    pub fn remove(&self) -> Result<(), KeystoreError> {
        remove(&self.dir, &self.stem)
    }

    fn temporary(&self) -> String {
        paths::temporary(&paths::crl_list(&self.stem))
    }
}

impl Spool<'_> {
    /// What was received, from its beginning.
    pub fn reader(&mut self) -> Result<&File, KeystoreError> {
        self.file.rewind().map_err(|e| self.failed("lseek", &e))?;
        Ok(&self.file)
    }

    fn id(&self) -> Result<CrlFile, KeystoreError> {
        CrlFile::of(&self.file).map_err(|e| self.failed("fstat", &e))
    }

    fn failed(&self, call: &'static str, error: &std::io::Error) -> KeystoreError {
        self.lock.dir.failed(call, &self.lock.temporary(), errno(error))
    }
}

impl Write for Spool<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}

impl Drop for Spool<'_> {
    fn drop(&mut self) {
        let _ = self.lock.dir.remove(&self.lock.temporary()); // the next one removes it too
    }
}

impl CrlFile {
    fn of(file: &File) -> std::io::Result<CrlFile> {
        let found = file.metadata()?;
        Ok(CrlFile {
            device: found.dev(),
            inode: found.ino(),
            size: found.size(),
            modified: (found.mtime(), found.mtime_nsec()),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::keystore::testing;

    const URL: &str = "http://crl.example/../1.crl";
    const OTHER: &str = "http://crl.example/2.crl";

    fn meta(etag: &str) -> CrlMeta {
        CrlMeta {
            url: URL.into(),
            etag: Some(etag.into()),
            last_modified: None,
            asked_at: Time::from_secs(10),
            this_update: Time::from_secs(5),
            next_update: Some(Time::from_secs(50)),
            number: Some("07".into()),
            issuer: Fingerprint("f".into()),
        }
    }

    fn store(keystore: &Keystore, text: &str) -> CrlFile {
        let lock = keystore.try_lock_crl(URL).unwrap().unwrap();
        let mut spool = lock.spool().unwrap();
        spool.write_all(text.as_bytes()).unwrap();
        lock.store(spool, &meta(text)).unwrap()
    }

    fn contents(mut file: &File) -> String {
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn what_is_stored_is_there_for_others() {
        let (_dir, keystore) = testing::keystore();
        assert!(keystore.crl(URL).unwrap().is_none());
        let mut files = Vec::new();
        for text in ["one", "two"] {
            files.push(store(&keystore, text));
            let stored = keystore.crl(URL).unwrap().unwrap();
            assert_eq!((stored.meta, stored.file), (meta(text), *files.last().unwrap()));
            assert_eq!(contents(&stored.list), text);
        }
        assert_ne!(files[0], files[1]);
        assert!(keystore.crl(OTHER).unwrap().is_none());
        let mode = |path: &std::path::Path| path.metadata().unwrap().permissions().mode() & 0o777;
        let dir = keystore.dir().join("crls");
        assert_eq!(mode(&dir), 0o700);
        let files: Vec<_> = dir.read_dir().unwrap().map(|e| e.unwrap().path()).collect();
        assert_eq!(files.len(), 3, "{files:?}");
        assert!(files.iter().all(|f| mode(f) == 0o600));
    }

    #[test]
    fn what_was_not_stored_leaves_nothing() {
        let (_dir, keystore) = testing::keystore();
        store(&keystore, "one");
        let lock = keystore.try_lock_crl(URL).unwrap().unwrap();
        let dead = keystore.dir().join("crls").join(lock.temporary());
        std::fs::write(&dead, "left by a dead one").unwrap();
        let mut spool = lock.spool().unwrap();
        spool.write_all(b"two").unwrap();
        assert_eq!(contents(spool.reader().unwrap()), "two");
        assert!(dead.exists());
        drop(spool);
        assert!(!dead.exists());
        assert_eq!(contents(&keystore.crl(URL).unwrap().unwrap().list), "one");
        lock.update(&meta("three")).unwrap();
        assert_eq!(keystore.crl(URL).unwrap().unwrap().meta, meta("three"));
        lock.remove().unwrap();
        lock.remove().unwrap();
        assert!(keystore.crl(URL).unwrap().is_none());
    }

    #[test]
    fn one_fetches() {
        let (_dir, keystore) = testing::keystore();
        let held = keystore.try_lock_crl(URL).unwrap().unwrap();
        assert!(keystore.try_lock_crl(URL).unwrap().is_none());
        assert!(keystore.try_lock_crl(OTHER).unwrap().is_some());
        drop(held);
        assert!(keystore.try_lock_crl(URL).unwrap().is_some());
    }

    #[test]
    fn what_is_damaged_or_of_another_is_none() {
        let (_dir, keystore) = testing::keystore();
        store(&keystore, "one");
        let dir = keystore.dir().join("crls");
        let json = dir.join(paths::crl_meta(&paths::crl(URL)));
        let good = std::fs::read(&json).unwrap();
        let other = serde_json::to_vec(&CrlMeta { url: OTHER.into(), ..meta("x") }).unwrap();
        for bad in [vec![], b"{}".to_vec(), good[1..].to_vec(), other, vec![b' '; 20_000]] {
            std::fs::write(&json, &bad).unwrap();
            assert!(keystore.crl(URL).unwrap().is_none());
        }
        std::fs::write(&json, &good).unwrap();
        assert!(keystore.crl(URL).unwrap().is_some());
        std::fs::remove_file(dir.join(paths::crl_list(&paths::crl(URL)))).unwrap();
        assert!(keystore.crl(URL).unwrap().is_none());
    }
}
