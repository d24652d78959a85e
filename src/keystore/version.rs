//! The versions of a certificate: each written whole before `current` points to it.

use openssl::pkey::{PKey, Private};
use openssl::x509::X509;

use super::disk::Dir;
use super::protection::Fault;
use super::{Change, Keystore, KeystoreError, Lock, paths, sharing};
use crate::bundle::{Bundle, Defect, Meta, can_be_served, is_encrypted, private_key};
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
            let loaded = self.read(name, &entry, version)?;
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
            Some(entry) => self.read(name, &entry, version),
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
        let key_pem = &self.protection.seal(key_pem).map_err(|cause| unfit_cause(name, cause))?;
        let meta_json = serde_json::to_vec(meta).map_err(|e| unfit_cause(name, e.to_string()))?;
        let entry = self.make_entry(name)?;
        let staging = self.staging()?;
        let versions = sharing::make(&entry, paths::VERSIONS, staging.as_ref(), name)?;

        clean(&versions)?;
        let highest = versions.names()?.iter().filter_map(|n| paths::version_number(n)).max();
        let highest = highest.max(current(&entry).unwrap_or(None)).unwrap_or(0);
        let version = highest
            .checked_add(1)
            .ok_or_else(|| entry.damaged(paths::VERSIONS, "no number is left".into()))?;

        let nursery = staging.as_ref().unwrap_or(&versions);
        let unborn = match &staging {
            Some(_) => paths::staged(name, paths::NEW_VERSION),
            None => paths::NEW_VERSION.into(),
        };
        nursery.remove_all(&unborn)?;
        let new = nursery.make(&unborn)?;
        new.create(paths::KEY, key_pem.bytes(), true)?;
        new.create(paths::CHAIN, chain_pem, true)?;
        new.create(paths::META, &meta_json, true)?;
        if staging.is_some() {
            sharing::open_to_group(&new)?;
        }
        new.sync()?;
        versions.take(nursery, &unborn, &paths::version(version))?;
        versions.sync()?;
        entry.replace_link(paths::CURRENT, &paths::current_target(version))?;

        // It is served from here on: nothing below may fail it.
        let _ = forget_old(&versions, version); // the next commit tries again
        let untold = self.announce(&Change::Certificate(name.clone(), version)).err();
        Ok(Committed { version, untold })
    }

    /// Reads a version through one descriptor of its folder: never a mix of two.
    fn read(&self, name: &EntryName, entry: &Dir, version: u64) -> Result<Loaded, KeystoreError> {
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
        let key = match self.protection.open_known(name, &key) {
            Ok(opened) => opened.key,
            Err(Fault::Sealed) => return Err(self.sealed(&folder, paths::KEY)),
            Err(Fault::Broken(cause)) => return Ok(Err(broken(paths::KEY, &cause))),
        };
        // It only says where the certificate came from: without it the certificate is as good.
        let meta = meta.and_then(|json| serde_json::from_slice(&json).ok()).unwrap_or_default();
        Ok(parse(version, &chain, key, meta))
    }
}

/// The version that `current` points to.
pub(super) fn current(entry: &Dir) -> Result<Option<u64>, KeystoreError> {
    let Some(target) = entry.read_link(paths::CURRENT)? else { return Ok(None) };
    let version = paths::version_of_target(&target);
    version.map(Some).ok_or_else(|| {
        entry.damaged(
            paths::CURRENT,
            format!("it points to {:?}", crate::report::printable(&target)),
        )
    })
}

fn parse(version: u64, chain_pem: &[u8], key: PKey<Private>, meta: Meta) -> Loaded {
    let broken = |cause: &dyn std::fmt::Display| broken(paths::CHAIN, cause);
    if is_encrypted(chain_pem) {
        return Err(broken(&"it is encrypted"));
    }
    let chain = X509::stack_from_pem(chain_pem).map_err(|e| broken(&e))?;
    let leaf = chain.first().ok_or_else(|| broken(&"no certificate in it"))?;
    let public = leaf.public_key().map_err(|e| broken(&e))?;
    if !public.public_eq(&key) {
        return Err(Defect::KeyMismatch);
    }
    let der = leaf.to_der().map_err(|e| broken(&e))?;
    let facts = CertFacts::from_der(&der).map_err(|e| broken(&e))?;
    can_be_served(&chain, &key).map_err(|e| broken(&e))?;
    Ok(Bundle { version, chain, key, facts, meta })
}

fn broken(file: &str, cause: &dyn std::fmt::Display) -> Defect {
    Defect::Broken(format!("\"{file}\" can't be used: {cause}"))
}

/// Whether what is to be stored would load again.
fn check(chain_pem: &[u8], key_pem: &Secret, meta: &Meta) -> Result<(), Defect> {
    // Encrypted and in PEM a key is somewhat longer.
    let sizes = [(chain_pem.len(), CHAIN_LIMIT), (key_pem.bytes().len(), KEY_LIMIT / 2)];
    if sizes.iter().any(|(size, limit)| size > limit) {
        return Err(Defect::Broken("it is too large".into()));
    }
    let key = private_key(key_pem.bytes()).map_err(|e| broken(paths::KEY, &e))?;
    parse(0, chain_pem, key, meta.clone()).map(|_| ())
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
        let _ = versions.remove_all(left); // garbage, and what is to be written into is looked at
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
        versions.remove_all(&dead)?;
    }
    Ok(())
}

const KEEP: usize = 5;
const CHAIN_LIMIT: usize = 256 << 10;
pub(super) const KEY_LIMIT: usize = 64 << 10;
const META_LIMIT: usize = 64 << 10;

#[cfg(test)]
mod tests;
