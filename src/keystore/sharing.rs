//! Certificates and keys that a group may read (`group=GROUP`): DIR, `certs`, `certs/NAME`,
//! `versions` and `versions/N` 0750, the files of a version 0640. All else stays its owner's.
//!
//! A worker may not give files to a group that it is no member of. But what is made in a folder
//! with the setgid bit has the group of that folder: so the master, as root, makes one such folder,
//! `staging`; what the group may read is made there, gets its mode, and is moved to its place. Its
//! being there is also how workers, other hosts and the command know that there is a group.

use rustix::fs::{self, Gid, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::disk::Dir;
use super::{Keystore, KeystoreError, Lock, paths};
use crate::settings::EntryName;

impl Keystore {
    /// Lets the group with this number read certificates and keys, and no other; None: `own` is
    /// the group of everything, and nobody but the owner may read. What others than the owner of
    /// DIR have put there is left alone. Needs root, or a member of the group.
    pub fn share(&self, group: Option<u32>, own: u32) -> Result<(), KeystoreError> {
        let root = self.root()?;
        match (group, root.enter(paths::STAGING)?) {
            (Some(group), staging) => {
                let staging = staging.map_or_else(|| root.make(paths::STAGING), Ok)?;
                let owner = stat(&root)?.st_uid;
                let set = Setting { owner, group, folder: DIR_MODE, file: FILE_MODE };
                set.folder_to(&staging, STAGING_MODE)?;
                set.all(&root)
            }
            (None, Some(staging)) => {
                let owner = stat(&root)?.st_uid;
                let file = Mode::RUSR | Mode::WUSR;
                let set = Setting { owner, group: own, folder: Mode::RWXU, file };
                // From here on nobody makes anything for the group.
                set.folder_to(&staging, Mode::RWXU)?;
                let _ = root.remove_all(paths::STAGING); // without the bit it is in nobody's way
                set.all(&root)
            }
            (None, None) => Ok(()),
        }
    }

    /// Where what the group may read is made, if there is a group.
    pub(super) fn staging(&self) -> Result<Option<Dir>, KeystoreError> {
        let Some(staging) = self.root()?.enter(paths::STAGING)? else { return Ok(None) };
        let is_ready = Mode::from_raw_mode(stat(&staging)?.st_mode).contains(Mode::SGID);
        Ok(is_ready.then(|| staging.shared()))
    }
}

/// Opens a folder in `parent`, made where it is missing, for the group if there is one.
pub fn make(
    parent: &Dir,
    folder: &str,
    staging: Option<&Dir>,
    entry: &EntryName,
) -> Result<Dir, KeystoreError> {
    let Some(staging) = staging else { return parent.make(folder) };
    if let Some(dir) = parent.enter(folder)? {
        return Ok(dir);
    }
    // One name is enough: two that make the same folder at once make it together.
    let unborn = paths::staged(entry, folder);
    let new = staging.make(&unborn)?;
    open_to_group(&new)?;
    if parent.take_new(staging, &unborn, folder)? {
        parent.sync()?;
    } else {
        let _ = staging.remove_all(&unborn); // an empty one is in nobody's way
    }
    parent.enter(folder)?.ok_or_else(|| parent.failed("open", folder, Errno::NOENT))
}

/// Replaces a file that the group may read. The lock is the entry's.
pub fn replace(
    folder: &Dir,
    file: &str,
    bytes: &[u8],
    staging: &Dir,
    lock: &Lock,
) -> Result<(), KeystoreError> {
    let unborn = paths::staged(lock.name(), file);
    staging.remove(&unborn)?;
    staging.create(&unborn, bytes, true)?;
    folder.take(staging, &unborn, file)?;
    folder.sync()
}

/// The last step before a new folder is moved to its place: without the setgid bit, too.
pub fn open_to_group(new: &Dir) -> Result<(), KeystoreError> {
    fs::fchmod(new.fd(), DIR_MODE).map_err(|cause| new.failed("fchmod", "", cause))
}

/// Group and modes that are put right.
struct Setting {
    /// Whose files these are.
    owner: u32,
    group: u32,
    folder: Mode,
    file: Mode,
}

impl Setting {
    fn all(&self, root: &Dir) -> Result<(), KeystoreError> {
        self.folder_to(root, self.folder)?;
        let Some(certs) = root.enter(paths::CERTS)? else { return Ok(()) };
        self.folder_to(&certs, self.folder)?;
        for entry in certs.names()?.iter().filter(|name| paths::entry_of(name).is_some()) {
            // What others have put beside the folders of entries is not ours to judge.
            let Some(entry) = certs.folder(entry)? else { continue };
            self.folder_to(&entry, self.folder)?;
            let Some(versions) = entry.folder(paths::VERSIONS)? else { continue };
            self.folder_to(&versions, self.folder)?;
            let names = versions.names()?;
            for version in names.iter().filter(|name| paths::version_number(name).is_some()) {
                // It may just have been removed.
                if let Some(version) = versions.folder(version)? {
                    self.version(&version)?;
                }
            }
        }
        Ok(())
    }

    fn version(&self, version: &Dir) -> Result<(), KeystoreError> {
        self.folder_to(version, self.folder)?;
        for file in [paths::KEY, paths::CHAIN, paths::META] {
            match version.open_file(file, OFlags::RDONLY) {
                Ok(Some(open)) => self.set(&open, self.file),
                // A link, a pipe: nobody reads those.
                Ok(None) | Err(KeystoreError::Damaged { .. }) => Ok(()),
                Err(KeystoreError::System { cause: Errno::LOOP, .. }) => Ok(()),
                Err(error) => return Err(error),
            }
            .map_err(|(call, cause)| version.failed(call, file, cause))?;
        }
        Ok(())
    }

    fn folder_to(&self, dir: &Dir, mode: Mode) -> Result<(), KeystoreError> {
        self.set(dir.fd(), mode).map_err(|(call, cause)| dir.failed(call, "", cause))
    }

    fn set(&self, fd: impl std::os::fd::AsFd, mode: Mode) -> Result<(), (&'static str, Errno)> {
        let now = fs::fstat(&fd).map_err(|cause| ("fstat", cause))?;
        if now.st_uid != self.owner {
            return Ok(());
        }
        if now.st_gid != self.group {
            let group = Some(Gid::from_raw(self.group));
            fs::fchown(&fd, None, group).map_err(|cause| ("fchown", cause))?;
        }
        if Mode::from_raw_mode(now.st_mode) != mode || now.st_gid != self.group {
            fs::fchmod(&fd, mode).map_err(|cause| ("fchmod", cause))?;
        }
        Ok(())
    }
}

fn stat(dir: &Dir) -> Result<Stat, KeystoreError> {
    fs::fstat(dir.fd()).map_err(|cause| dir.failed("fstat", "", cause))
}

const DIR_MODE: Mode = Mode::RWXU.union(Mode::RGRP).union(Mode::XGRP);
const FILE_MODE: Mode = Mode::RUSR.union(Mode::WUSR).union(Mode::RGRP);
const STAGING_MODE: Mode = Mode::RWXU.union(Mode::SGID);

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    use std::path::Path;

    use crate::keystore::{Holder, paths, testing};

    const GROUP: u32 = 54_321;

    /// Paths below DIR with group and mode.
    fn tree(dir: &Path) -> Vec<(String, u32, u32)> {
        let (mut found, mut folders) = (Vec::new(), vec![dir.to_owned()]);
        while let Some(folder) = folders.pop() {
            let inside = std::fs::read_dir(&folder).unwrap().map(|f| f.unwrap().path());
            let (dirs, files): (Vec<_>, Vec<_>) =
                inside.filter(|path| !path.is_symlink()).partition(|path| path.is_dir());
            for path in files.iter().chain([&folder]) {
                let meta = std::fs::metadata(path).unwrap();
                let name = path.strip_prefix(dir).unwrap().display().to_string();
                found.push((name, meta.gid(), meta.permissions().mode() & 0o7777));
            }
            folders.extend(dirs);
        }
        found.sort();
        found
    }

    fn is_shared(path: &str) -> bool {
        let parts: Vec<&str> = path.split('/').collect();
        matches!(parts[..], [""] | ["certs"] | ["certs", _] | ["certs", _, "versions", ..])
    }

    #[track_caller]
    fn check(dir: &Path, group: Option<u32>, own: u32) {
        for (path, gid, mode) in tree(dir) {
            let is_folder = dir.join(&path).is_dir();
            let expected = match group.filter(|_| is_shared(&path)) {
                Some(group) => (group, if is_folder { 0o750 } else { 0o640 }),
                None if path == "staging" => (gid, 0o2700),
                None if group.is_some() => (gid, if is_folder { 0o700 } else { 0o600 }),
                None => (own, if is_folder { 0o700 } else { 0o600 }),
            };
            assert_eq!((gid, mode), expected, "{path}");
        }
    }

    #[test]
    fn comes_and_goes() {
        if !rustix::process::geteuid().is_root() {
            return; // only root can give
        }
        let (_dir, keystore) = testing::keystore();
        let keystore = keystore.with_passwords(testing::passwords(&["one"]));
        let (dir, own) = (keystore.dir().to_owned(), rustix::process::getegid().as_raw());
        let commit = |name: &str| {
            let lock = keystore.try_lock(&testing::name(name)).unwrap().unwrap();
            testing::commit(&keystore, &lock, &testing::pair(name));
        };
        commit("a.example");
        keystore.share(None, own).unwrap();
        check(&dir, None, own);
        keystore.share(Some(GROUP), own).unwrap();
        check(&dir, Some(GROUP), own);
        commit("a.example");
        commit("b.example");
        check(&dir, Some(GROUP), own);
        let newer = keystore.clone().with_passwords(testing::passwords(&["two", "one"]));
        let holder = Holder::Entry(testing::name("a.example"));
        assert_eq!(newer.rekey(&holder).unwrap(), Some(2));
        check(&dir, Some(GROUP), own);
        keystore.share(Some(GROUP + 1), own).unwrap();
        check(&dir, Some(GROUP + 1), own);
        assert_eq!(std::fs::read_dir(dir.join("staging")).unwrap().count(), 0);
        std::fs::create_dir(dir.join("staging/left")).unwrap();
        keystore.share(None, own).unwrap();
        check(&dir, None, own);
        assert!(!dir.join("staging").exists());
        commit("c.example");
        check(&dir, None, own);
    }

    /// Beside what is ours: it stops neither the master nor the rekeying, and a link leads nowhere.
    #[test]
    fn files_of_others() {
        let (_dir, keystore) = testing::keystore();
        let keystore = keystore.with_passwords(testing::passwords(&["one"]));
        let (dir, own) = (keystore.dir().to_owned(), rustix::process::getegid().as_raw());
        let group = if rustix::process::geteuid().is_root() { GROUP } else { own };
        let name = testing::name("shop.example");
        let lock = keystore.try_lock(&name).unwrap().unwrap();
        testing::commit(&keystore, &lock, &testing::pair("shop.example"));
        drop(lock);
        for file in ["certs/backup.tar", "certs/shop.example/versions/7", "accounts/old.json"] {
            std::fs::write(dir.join(file), "theirs").unwrap();
        }
        std::os::unix::fs::symlink("shop.example", dir.join("certs/www.example")).unwrap();
        std::os::unix::fs::symlink("/", dir.join("accounts/www")).unwrap();
        std::fs::create_dir(dir.join("certs/api.example")).unwrap();
        for folder in ["versions", "pending"] {
            std::fs::write(dir.join("certs/api.example").join(folder), "theirs").unwrap();
        }
        keystore.share(Some(group), own).unwrap();
        let shared = std::fs::metadata(dir.join("certs/shop.example/versions/1")).unwrap();
        assert_eq!((shared.gid(), shared.permissions().mode() & 0o7777), (group, 0o750));
        for holder in keystore.holders().unwrap() {
            assert_ne!(holder, Holder::Account("www".into()));
            assert_eq!(keystore.rekey(&holder).unwrap(), Some(0), "{holder}");
        }
        let newer = keystore.clone().with_passwords(testing::passwords(&["two", "one"]));
        assert_eq!(newer.rekey(&Holder::Entry(name)).unwrap(), Some(1));
        std::fs::create_dir_all(dir.join("staging/a/b")).unwrap();
        std::fs::write(dir.join("staging/a/b/c"), "theirs").unwrap();
        keystore.share(None, own).unwrap();
        assert!(!dir.join("staging").exists());
        let left = std::fs::metadata(dir.join("certs/backup.tar")).unwrap();
        assert_eq!(left.gid(), own);
    }

    /// What a dead one left in `staging` is in nobody's way, and a link leads nowhere.
    #[test]
    fn leftovers_and_links() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let (_dir, keystore) = testing::keystore();
        let own = rustix::process::getegid().as_raw();
        let name = testing::name("a.example");
        keystore.share(Some(GROUP), own).unwrap();
        let staging = keystore.dir().join("staging");
        std::fs::create_dir(staging.join(paths::staged(&name, "a.example"))).unwrap();
        let unborn = staging.join(paths::staged(&name, paths::NEW_VERSION));
        std::fs::create_dir(&unborn).unwrap();
        std::fs::write(unborn.join("privkey.pem"), "half").unwrap();
        let lock = keystore.try_lock(&name).unwrap().unwrap();
        testing::commit(&keystore, &lock, &testing::pair("a.example"));
        assert!(keystore.load(&name).unwrap().is_ok());
        assert_eq!(std::fs::read_dir(&staging).unwrap().count(), 0);

        let outside = keystore.dir().with_file_name("outside");
        std::fs::write(&outside, "theirs").unwrap();
        std::fs::set_permissions(&outside, std::fs::Permissions::from_mode(0o600)).unwrap();
        let meta = keystore.dir().join("certs/a.example/versions/1/meta.json");
        std::fs::remove_file(&meta).unwrap();
        std::os::unix::fs::symlink(&outside, &meta).unwrap();
        keystore.share(Some(GROUP + 1), own).unwrap();
        let left = std::fs::metadata(&outside).unwrap();
        assert_eq!((left.gid(), left.permissions().mode() & 0o777), (own, 0o600));
    }
}
