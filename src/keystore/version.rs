//! The versions of a certificate: each written whole before `current` points to it.

use openssl::x509::X509;

use super::disk::Dir;
use super::{Change, Keystore, KeystoreError, Lock, paths};
use crate::bundle::{Bundle, Defect, Meta, is_encrypted, private_key};
use crate::facts::CertFacts;
use crate::settings::{EntryName, Secret};

/// What an entry's certificate is: a whole bundle, or why there is none.
pub type Loaded = Result<Bundle, Defect>;

/// A stored version.
#[derive(Debug)]
pub struct Committed {
    pub version: u64,
    /// Why other workers were not told of it. It is stored all the same.
    pub untold: Option<KeystoreError>,
}

impl Keystore {
    /// Reads what `current` points to. An error says nothing about the certificate: the keystore
    /// could not be read now, and what was loaded before still stands.
    pub fn load(&self, name: &EntryName) -> Result<Loaded, KeystoreError> {
        let Some(entry) = self.entry(name)? else { return Ok(Err(Defect::Missing)) };
        let mut seen = None;
        loop {
            let version = match current(&entry) {
                Ok(Some(version)) => version,
                Ok(None) => return Ok(Err(Defect::Missing)),
                Err(error) => return defect(error).map(Err),
            };
            let loaded = read(&entry, version)?;
            // A defect counts when it is seen twice: the version may have been replaced, and
            // removed, while it was read.
            if loaded.is_ok() || seen == Some(version) {
                return Ok(loaded);
            }
            seen = Some(version);
        }
    }

    /// Reads one version by its number: on NFS `current` may be old for half a minute, a number
    /// that was never looked up is found at once.
    pub fn load_version(&self, name: &EntryName, version: u64) -> Result<Loaded, KeystoreError> {
        match self.entry(name)? {
            Some(entry) => read(&entry, version),
            None => Ok(Err(Defect::Missing)),
        }
    }

    /// Stores a new version and points `current` to it. On return both are on the disk.
    pub fn commit(
        &self,
        lock: &Lock,
        chain_pem: &[u8],
        key_pem: &Secret,
        meta: &Meta,
    ) -> Result<Committed, KeystoreError> {
        let name = lock.name();
        check(chain_pem, key_pem, meta).map_err(|defect| unfit(name, &defect))?;
        let meta_json = serde_json::to_vec(meta).map_err(|e| unfit_cause(name, e.to_string()))?;
        let entry = self.make_entry(name)?;
        let versions = entry.make(paths::VERSIONS)?;

        clean(&versions)?;
        let highest = versions.names()?.iter().filter_map(|n| paths::version_number(n)).max();
        let highest = highest.max(current(&entry).unwrap_or(None)).unwrap_or(0);
        let version = highest
            .checked_add(1)
            .ok_or_else(|| entry.damaged(paths::VERSIONS, "no number is left".into()))?;

        let new = versions.make(paths::NEW_VERSION)?;
        new.create(paths::KEY, key_pem.bytes(), true)?;
        new.create(paths::CHAIN, chain_pem, true)?;
        new.create(paths::META, &meta_json, true)?;
        new.sync()?;
        versions.rename(paths::NEW_VERSION, &paths::version(version))?;
        versions.sync()?;
        entry.replace_link(paths::CURRENT, &paths::current_target(version))?;

        // It is served from here on: nothing below may fail it.
        let _ = forget_old(&versions, version); // the next commit tries again
        let untold = self.announce(&Change::Certificate(name.clone(), version)).err();
        Ok(Committed { version, untold })
    }
}

/// The version that `current` points to.
fn current(entry: &Dir) -> Result<Option<u64>, KeystoreError> {
    let Some(target) = entry.read_link(paths::CURRENT)? else { return Ok(None) };
    let version = paths::version_of_target(&target);
    version.map(Some).ok_or_else(|| {
        entry.damaged(
            paths::CURRENT,
            format!("it points to {:?}", crate::report::printable(&target)),
        )
    })
}

/// Reads a version through one descriptor of its folder: never a mix of two.
fn read(entry: &Dir, version: u64) -> Result<Loaded, KeystoreError> {
    let Some(versions) = entry.enter(paths::VERSIONS)? else {
        return Ok(Err(missing(paths::VERSIONS)));
    };
    let folder = match versions.enter(&paths::version(version)) {
        Ok(Some(folder)) => folder,
        Ok(None) => return Ok(Err(missing(&paths::current_target(version)))),
        Err(error) => return defect(error).map(Err),
    };
    let files = || {
        let chain = folder.read(paths::CHAIN, CHAIN_LIMIT)?;
        let key = folder.read_secret(paths::KEY, KEY_LIMIT)?;
        Ok((chain, key, folder.read(paths::META, META_LIMIT)?))
    };
    let (chain, key, meta) = match files() {
        Ok(files) => files,
        Err(error) => return defect(error).map(Err),
    };
    let Some(chain) = chain else { return Ok(Err(missing(paths::CHAIN))) };
    let Some(key) = key else { return Ok(Err(missing(paths::KEY))) };
    // It only says where the certificate came from: without it the certificate is as good.
    let meta = meta.and_then(|json| serde_json::from_slice(&json).ok()).unwrap_or_default();
    Ok(parse(version, &chain, &key, meta))
}

fn parse(version: u64, chain_pem: &[u8], key_pem: &Secret, meta: Meta) -> Loaded {
    let broken = |file: &str, cause: &dyn std::fmt::Display| {
        Defect::Broken(format!("\"{file}\" can't be used: {cause}"))
    };
    if is_encrypted(chain_pem) {
        return Err(broken(paths::CHAIN, &"it is encrypted"));
    }
    let chain = X509::stack_from_pem(chain_pem).map_err(|e| broken(paths::CHAIN, &e))?;
    let leaf = chain.first().ok_or_else(|| broken(paths::CHAIN, &"no certificate in it"))?;
    let key = private_key(key_pem.bytes()).map_err(|e| broken(paths::KEY, &e))?;
    let public = leaf.public_key().map_err(|e| broken(paths::CHAIN, &e))?;
    if !public.public_eq(&key) {
        return Err(Defect::KeyMismatch);
    }
    let der = leaf.to_der().map_err(|e| broken(paths::CHAIN, &e))?;
    let facts = CertFacts::from_der(&der).map_err(|e| broken(paths::CHAIN, &e))?;
    Ok(Bundle { version, chain, key, facts, meta })
}

/// Whether what is to be stored would load again.
fn check(chain_pem: &[u8], key_pem: &Secret, meta: &Meta) -> Result<(), Defect> {
    let sizes = [(chain_pem.len(), CHAIN_LIMIT), (key_pem.bytes().len(), KEY_LIMIT)];
    if sizes.iter().any(|(size, limit)| size > limit) {
        return Err(Defect::Broken("it is too large".into()));
    }
    parse(0, chain_pem, key_pem, meta.clone()).map(|_| ())
}

/// What an error in a version's own files says about the certificate. What may be gone the next
/// moment (a network file system, no descriptors left) says nothing and stays an error: it must
/// never cause an issuance.
fn defect(error: KeystoreError) -> Result<Defect, KeystoreError> {
    use rustix::io::Errno;
    match error {
        KeystoreError::System { cause, .. }
            if !matches!(cause, Errno::ACCESS | Errno::PERM | Errno::LOOP | Errno::NOTDIR) =>
        {
            Err(error)
        }
        _ => Ok(Defect::Broken(error.to_string())),
    }
}

fn missing(what: &str) -> Defect {
    Defect::Broken(format!("\"{what}\" is missing"))
}

fn unfit(name: &EntryName, defect: &Defect) -> KeystoreError {
    let cause = match defect {
        Defect::Missing => "there is none".into(),
        Defect::Broken(cause) => cause.clone(),
        Defect::KeyMismatch => "its key is another one".into(),
    };
    unfit_cause(name, cause)
}

fn unfit_cause(name: &EntryName, cause: String) -> KeystoreError {
    KeystoreError::Unfit { name: name.to_string(), cause }
}

/// Removes what a dead process left half-written or half-removed.
fn clean(versions: &Dir) -> Result<(), KeystoreError> {
    for left in versions.names()?.iter().filter(|n| paths::is_temporary(n)) {
        let removed = versions.remove_folder(left);
        if left == paths::NEW_VERSION {
            removed?; // it would be written into; the others are only garbage
        }
    }
    Ok(())
}

/// Removes old versions: each is moved away first, so that no number ever means half of one.
fn forget_old(versions: &Dir, current: u64) -> Result<(), KeystoreError> {
    let mut numbers: Vec<u64> =
        versions.names()?.iter().filter_map(|n| paths::version_number(n)).collect();
    numbers.sort_unstable_by(|a, b| b.cmp(a));
    for number in numbers.into_iter().skip(KEEP).filter(|n| *n != current) {
        let dead = paths::dead_version(number);
        versions.rename(&paths::version(number), &dead)?;
        versions.remove_folder(&dead)?;
    }
    Ok(())
}

const KEEP: usize = 5;
const CHAIN_LIMIT: usize = 256 << 10;
const KEY_LIMIT: usize = 64 << 10;
const META_LIMIT: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::path::PathBuf;

    use super::*;
    use crate::clock::Time;
    use crate::keystore::testing::{self, Pair};

    struct Entry {
        keystore: Keystore,
        name: EntryName,
        path: PathBuf,
        _dir: tempfile::TempDir,
    }

    fn entry() -> Entry {
        let (_dir, keystore) = testing::keystore();
        let path = keystore.dir().join("certs/a.example");
        Entry { keystore, name: testing::name("a.example"), path, _dir }
    }

    impl Entry {
        fn commit(&self, pair: &Pair) -> u64 {
            let lock = self.keystore.try_lock(&self.name).unwrap().unwrap();
            testing::commit(&self.keystore, &lock, pair)
        }

        fn defect(&self) -> Defect {
            self.keystore.load(&self.name).unwrap().err().unwrap()
        }

        fn current(&self) -> PathBuf {
            self.path.join("current")
        }
    }

    #[test]
    fn stores_and_loads() {
        let e = entry();
        assert_eq!(e.defect(), Defect::Missing);
        let lock = e.keystore.try_lock(&e.name).unwrap().unwrap();
        assert_eq!(e.defect(), Defect::Missing);
        let meta = Meta {
            ca: Some("corp".into()),
            stored_at: Some(Time::from_secs(1_800_000_000)),
            replaced: None,
            short_lived: 2,
        };
        for version in 1..=2 {
            let pair = testing::pair("a.example");
            let done = e.keystore.commit(&lock, &pair.chain, &pair.key, &meta).unwrap();
            assert_eq!(done.version, version);
            assert!(done.untold.is_none());
            let loaded = e.keystore.load(&e.name).unwrap().ok().unwrap();
            assert_eq!(loaded.version, version);
            assert_eq!(loaded.chain[0].to_pem().unwrap(), pair.chain);
            assert_eq!(loaded.meta, meta);
            assert_eq!(loaded.facts.names, ["a.example"]);
        }
        assert_eq!(std::fs::read_link(e.current()).unwrap().to_str(), Some("versions/2"));
        let first = e.keystore.load_version(&e.name, 1).unwrap().ok().unwrap();
        assert_eq!(first.version, 1);
        assert!(matches!(e.keystore.load_version(&e.name, 3).unwrap(), Err(Defect::Broken(_))));
    }

    #[test]
    fn keeps_the_newest_versions() {
        let e = entry();
        let pair = testing::pair("a.example");
        for _ in 0..8 {
            e.commit(&pair);
        }
        let mut kept: Vec<_> = std::fs::read_dir(e.path.join("versions"))
            .unwrap()
            .map(|f| f.unwrap().file_name().into_string().unwrap())
            .collect();
        kept.sort();
        assert_eq!(kept, ["4", "5", "6", "7", "8"]);
    }

    #[test]
    fn never_stores_what_can_not_be_served() {
        let e = entry();
        let (a, b) = (testing::pair("a.example"), testing::pair("a.example"));
        let lock = e.keystore.try_lock(&e.name).unwrap().unwrap();
        let none = Secret::new(Vec::new());
        for (chain, key, cause) in [
            (&a.chain[..], &b.key, "its key is another one"),
            (b"", &a.key, "no certificate in it"),
            (b"Proc-Type: 4,ENCRYPTED", &a.key, "it is encrypted"),
            (&a.chain, &none, "\"privkey.pem\" can't be used"),
            (&vec![b' '; CHAIN_LIMIT + 1], &a.key, "too large"),
        ] {
            let error = e.keystore.commit(&lock, chain, key, &Meta::default()).unwrap_err();
            assert!(error.to_string().contains(cause), "{error}");
            assert!(!error.may_pass());
        }
        assert_eq!(e.defect(), Defect::Missing);
    }

    #[test]
    fn defects() {
        let e = entry();
        let (good, other) = (testing::pair("a.example"), testing::pair("a.example"));
        let damage = |what: &dyn Fn(&Entry)| {
            e.commit(&good);
            what(&e);
            e.defect()
        };
        let write = |file: &'static str, bytes: &'static [u8]| {
            move |e: &Entry| std::fs::write(e.current().join(file), bytes).unwrap()
        };
        let d = damage(&|e| {
            std::fs::write(e.current().join("privkey.pem"), other.key.bytes()).unwrap()
        });
        assert_eq!(d, Defect::KeyMismatch);
        for (what, cause) in [
            (&write("privkey.pem", b"") as &dyn Fn(&Entry), "\"privkey.pem\" can't be used"),
            (&write("privkey.pem", ENCRYPTED_KEY), "\"privkey.pem\" can't be used"),
            (&write("fullchain.pem", b"nothing"), "no certificate in it"),
            (&write("fullchain.pem", &[b'x'; CHAIN_LIMIT + 1]), "larger than 262144 bytes"),
            (
                &|e| std::fs::remove_file(e.current().join("privkey.pem")).unwrap(),
                "\"privkey.pem\" is missing",
            ),
            (
                &|e| {
                    let key = e.current().join("privkey.pem");
                    std::fs::remove_file(&key).unwrap();
                    symlink("/etc/passwd", key).unwrap();
                },
                "failed (40: Too many levels of symbolic links)",
            ),
            (
                &|e| std::fs::remove_dir_all(std::fs::canonicalize(e.current()).unwrap()).unwrap(),
                "is missing",
            ),
            (
                &|e| {
                    std::fs::remove_file(e.current()).unwrap();
                    symlink("../b.example/versions/1", e.current()).unwrap();
                },
                "it points to \"../b.example/versions/1\"",
            ),
        ] {
            let defect = damage(what);
            let Defect::Broken(text) = &defect else { panic!("{cause}: {defect:?}") };
            assert!(text.contains(cause), "{cause}: {text}");
        }
    }

    #[test]
    fn a_lost_meta_breaks_nothing() {
        let e = entry();
        e.commit(&testing::pair("a.example"));
        std::fs::write(e.current().join("meta.json"), "{").unwrap();
        assert_eq!(e.keystore.load(&e.name).unwrap().ok().unwrap().meta, Meta::default());
    }

    #[test]
    fn a_keystore_that_is_away_is_no_defect() {
        let e = entry();
        e.commit(&testing::pair("a.example"));
        let away = e.keystore.dir().with_extension("away");
        std::fs::rename(e.keystore.dir(), &away).unwrap();
        assert!(e.keystore.load(&e.name).is_err());
        std::fs::rename(&away, e.keystore.dir()).unwrap();
        assert!(e.keystore.load(&e.name).unwrap().is_ok());
    }

    #[test]
    fn leftovers_of_the_dead_are_removed() {
        let e = entry();
        let pair = testing::pair("a.example");
        e.commit(&pair);
        let versions = e.path.join("versions");
        for left in [".version.new", ".1.old"] {
            std::fs::create_dir(versions.join(left)).unwrap();
            std::fs::write(versions.join(left).join("privkey.pem"), "half").unwrap();
        }
        std::fs::create_dir(versions.join("7")).unwrap(); // renamed, but never current
        symlink("versions/7", e.path.join(".current.new")).unwrap();
        assert_eq!(e.keystore.load(&e.name).unwrap().ok().unwrap().version, 1);
        assert_eq!(e.commit(&pair), 8);
        assert!(!versions.join(".version.new").exists() && !versions.join(".1.old").exists());
        assert_eq!(e.keystore.load(&e.name).unwrap().ok().unwrap().version, 8);
    }

    const ENCRYPTED_KEY: &[u8] =
        b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nMA==\n-----END ENCRYPTED PRIVATE KEY-----\n";
}
