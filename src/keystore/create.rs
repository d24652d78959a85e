//! Making the keystore: nginx's master does this as root, for the workers' user.

use std::path::Path;

use rustix::fs::{self, Access, Mode};
use rustix::io::Errno;

use super::disk::{Dir, Owner};
use super::{Keystore, KeystoreError, paths};

impl Keystore {
    /// Makes DIR with its parents and the folders in it where they are missing, and gives them to
    /// `owner` (uid, gid) unless its user has them already. What lies deeper is left alone.
    pub fn create(dir: &Path, owner: Option<(u32, u32)>) -> Result<Keystore, KeystoreError> {
        let owner = owner.map(|(uid, gid)| Owner { uid, gid });
        if owner.is_some() {
            refuse_links_of_others(dir)?;
        }
        let parents: Vec<&Path> = dir.ancestors().skip(1).collect();
        for parent in parents.into_iter().rev().filter(|p| !p.as_os_str().is_empty()) {
            // The mode counts exactly: with umask 077 the workers could not pass.
            if make(parent, PARENT_MODE)? {
                fs::chmod(parent, PARENT_MODE).map_err(|cause| failed("chmod", parent, cause))?;
            }
        }
        make(dir, Mode::RWXU)?;
        let mut root = Dir::open(dir)?;
        if let Some(owner) = owner {
            root.give_to(owner)?;
            root = root.giving_to(owner);
        }
        for folder in [paths::CERTS, paths::ACCOUNTS, paths::CHALLENGES] {
            let folder = root.make(folder)?;
            if let Some(owner) = owner {
                folder.give_to(owner)?;
            }
        }
        Keystore::open(dir)
    }

    /// Whether anything can be stored at all, as far as that can be seen without storing: not on a
    /// read-only mount, where even root can't.
    pub fn check_writable(&self) -> Result<(), KeystoreError> {
        fs::access(&self.dir, Access::WRITE_OK).map_err(|cause| failed("access", &self.dir, cause))
    }

    /// Whether DIR is a folder or could be made one, as far as that can be seen without making
    /// anything: for `nginx -t`. Errors are texts for the log.
    pub fn check_place(dir: &Path) -> Result<(), String> {
        let there = dir.ancestors().find(|path| path.symlink_metadata().is_ok());
        match there {
            Some(path) if path.is_dir() => Ok(()),
            Some(path) => Err(format!("\"{}\" is not a directory", path.display())),
            None => Err(format!("\"{}\" has no parent that exists", dir.display())),
        }
    }
}

/// What root gives away must be what the administrator meant: where the workers' user may put a
/// link into the way, a worker that was broken into would get the folder that it points to.
fn refuse_links_of_others(dir: &Path) -> Result<(), KeystoreError> {
    use std::os::unix::fs::MetadataExt;
    let of_root_alone = |path: &Path| {
        path.metadata()
            .is_ok_and(|m| m.uid() == 0 && (m.mode() & 0o022 == 0 || m.mode() & 0o1000 != 0))
    };
    for path in dir.ancestors() {
        let link = path.symlink_metadata().ok().filter(|m| m.file_type().is_symlink());
        let Some(link) = link else { continue };
        let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        if link.uid() != 0 || !of_root_alone(parent) {
            return Err(KeystoreError::Link { path: path.to_owned() });
        }
    }
    Ok(())
}

/// Whether the folder had to be made.
fn make(path: &Path, mode: Mode) -> Result<bool, KeystoreError> {
    match fs::mkdir(path, mode) {
        Ok(()) => Ok(true),
        // A folder that is there may hide behind an error about its read-only parent.
        Err(_) if path.is_dir() => Ok(false),
        Err(cause) => Err(failed("mkdir", path, cause)),
    }
}

fn failed(call: &'static str, path: &Path, cause: Errno) -> KeystoreError {
    KeystoreError::System { call, path: path.to_owned(), cause }
}

const PARENT_MODE: Mode =
    Mode::RWXU.union(Mode::RGRP.union(Mode::XGRP)).union(Mode::ROTH.union(Mode::XOTH));

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    use super::*;
    use crate::keystore::testing;

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn links_of_others_are_not_followed() {
        if !rustix::process::geteuid().is_root() {
            return; // only root gives anything away
        }
        let temp = tempfile::tempdir().unwrap();
        let target = temp.path().join("target");
        std::fs::create_dir(&target).unwrap();
        let link = temp.path().join("link");
        std::os::unix::fs::symlink(&target, &link).unwrap();
        let owner = Some((65534, 65534));
        Keystore::create(&link, owner).unwrap();
        std::os::unix::fs::lchown(&link, Some(65534), None).unwrap();
        for dir in [link.clone(), link.join("below")] {
            let error = Keystore::create(&dir, owner).unwrap_err();
            assert!(error.to_string().contains("is a symbolic link"), "{error}");
        }
    }

    #[test]
    fn what_nobody_can_write() {
        let (_dir, keystore) = testing::keystore();
        keystore.check_writable().unwrap();
        // Here root can write no more than others, as on a read-only mount.
        let error = Keystore::at(Path::new("/proc/sys")).check_writable().unwrap_err();
        assert!(error.to_string().starts_with("access() \"/proc/sys\" failed ("), "{error}");
    }

    #[test]
    fn places() {
        let temp = tempfile::tempdir().unwrap();
        std::fs::write(temp.path().join("file"), "").unwrap();
        std::os::unix::fs::symlink("nowhere", temp.path().join("link")).unwrap();
        for (place, fine) in
            [(".", true), ("a/b/c", true), ("file", false), ("file/a", false), ("link/a", false)]
        {
            let result = Keystore::check_place(&temp.path().join(place));
            assert_eq!(result.is_ok(), fine, "{place}: {result:?}");
        }
    }

    #[test]
    fn makes_parents_and_folders() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("a/b/keystore");
        Keystore::create(&dir, None).unwrap();
        assert_eq!((mode(&temp.path().join("a")), mode(&temp.path().join("a/b"))), (0o755, 0o755));
        assert_eq!(mode(&dir), 0o700);
        for folder in ["certs", "accounts", "challenges"] {
            assert_eq!(mode(&dir.join(folder)), 0o700);
        }
        // Again, and with a mode that the administrator chose.
        std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o750)).unwrap();
        Keystore::create(&dir, None).unwrap();
        assert_eq!(mode(&dir), 0o750);
    }

    #[test]
    fn a_file_in_the_way() {
        let temp = tempfile::tempdir().unwrap();
        let file = temp.path().join("file");
        std::fs::write(&file, "").unwrap();
        let error = Keystore::create(&file.join("keystore"), None).unwrap_err();
        assert!(error.to_string().starts_with("mkdir() \""), "{error}");
        assert!(error.to_string().ends_with("failed (17: File exists)"), "{error}");
    }

    #[test]
    fn root_gives_everything_to_the_owner() {
        if !rustix::process::geteuid().is_root() {
            return; // only root can give
        }
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("a/keystore");
        Keystore::create(&dir, Some((65_534, 65_533))).unwrap();
        let keystore = Keystore::open(&dir).unwrap();
        let name = testing::name("a.example");
        let lock = keystore.try_lock(&name).unwrap().unwrap();
        testing::commit(&keystore, &lock, &testing::pair("a.example"));

        assert_eq!(std::fs::metadata(temp.path().join("a")).unwrap().uid(), 0);
        let mut folders = vec![dir];
        let mut seen = 0;
        while let Some(folder) = folders.pop() {
            let own = std::fs::metadata(&folder).unwrap();
            assert_eq!((own.uid(), own.gid()), (65_534, 65_533), "{}", folder.display());
            for entry in std::fs::read_dir(&folder).unwrap() {
                let path = entry.unwrap().path();
                let meta = std::fs::symlink_metadata(&path).unwrap();
                if meta.is_dir() {
                    folders.push(path);
                } else if meta.is_file() {
                    assert_eq!((meta.uid(), meta.gid()), (65_534, 65_533), "{}", path.display());
                    seen += 1;
                }
            }
        }
        assert_eq!(seen, 5); // three files of the version, its lock, changes
    }
}
