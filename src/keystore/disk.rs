//! One folder of the keystore, held open: reads are bounded, writes are whole.
//!
//! Everything goes through descriptors and follows no symbolic link below DIR: the command runs as
//! root in a folder that belongs to the workers' user.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{self, AtFlags, FileType, Mode, OFlags, RenameFlags};
use rustix::io::{Errno, retry_on_intr};
use zeroize::Zeroizing;

use super::{KeystoreError, paths};
use crate::settings::Secret;

/// Whom files belong to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Owner {
    pub uid: u32,
    pub gid: u32,
}

pub struct Dir {
    fd: OwnedFd,
    path: PathBuf,
    /// Whom new files and folders are given to.
    owner: Option<Owner>,
    /// New files are for the group too.
    shared: bool,
}

impl Dir {
    /// Opens DIR itself; here links are the administrator's business.
    pub fn open(path: &Path) -> Result<Dir, KeystoreError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = retry_on_intr(|| fs::open(path, flags, Mode::empty()));
        let fd = fd.map_err(|cause| system("open", path, cause))?;
        Ok(Dir { fd, path: path.to_owned(), owner: None, shared: false })
    }

    /// What is made in it from now on belongs to them.
    pub fn giving_to(self, owner: Owner) -> Dir {
        Dir { owner: Some(owner), ..self }
    }

    /// What is made in it and below from now on is readable by its group.
    pub fn shared(self) -> Dir {
        Dir { shared: true, ..self }
    }

    /// Opens a folder in this one, if it is there.
    pub fn enter(&self, name: &str) -> Result<Option<Dir>, KeystoreError> {
        let fd = self.open_at(name, OFlags::RDONLY | OFlags::DIRECTORY)?;
        let (owner, shared) = (self.owner, self.shared);
        Ok(fd.map(|fd| Dir { fd, path: self.at(name), owner, shared }))
    }

    /// As [`Dir::enter`]; None also where something that is no folder lies there, be it a link.
    pub fn folder(&self, name: &str) -> Result<Option<Dir>, KeystoreError> {
        match self.enter(name) {
            Err(KeystoreError::System { cause: Errno::NOTDIR | Errno::LOOP, .. }) => Ok(None),
            entered => entered,
        }
    }

    /// Opens a folder in this one, made where it is missing.
    pub fn make(&self, name: &str) -> Result<Dir, KeystoreError> {
        if let Some(dir) = self.enter(name)? {
            return Ok(dir);
        }
        match fs::mkdirat(&self.fd, name, DIR_MODE) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(cause) => return Err(self.failed("mkdir", name, cause)),
        }
        let Some(dir) = self.enter(name)? else {
            return Err(self.failed("open", name, Errno::NOENT));
        };
        if let Some(owner) = self.owner {
            dir.give_to(owner)?;
        }
        self.sync()?;
        Ok(dir)
    }

    pub fn owner(&self) -> Result<Owner, KeystoreError> {
        let stat = fs::fstat(&self.fd).map_err(|cause| system("fstat", &self.path, cause))?;
        Ok(Owner { uid: stat.st_uid, gid: stat.st_gid })
    }

    /// A group that the administrator chose stays while the user is right.
    pub fn give_to(&self, owner: Owner) -> Result<(), KeystoreError> {
        if self.owner()?.uid != owner.uid {
            give(&self.fd, owner).map_err(|cause| system("fchown", &self.path, cause))?;
        }
        Ok(())
    }

    /// The whole of a file, if it is there; more than `limit` bytes are refused.
    pub fn read(&self, name: &str, limit: usize) -> Result<Option<Vec<u8>>, KeystoreError> {
        Ok(self.read_secret(name, limit)?.map(|secret| secret.bytes().to_vec()))
    }

    /// As [`Dir::read`], with no copy left behind in memory.
    pub fn read_secret(&self, name: &str, limit: usize) -> Result<Option<Secret>, KeystoreError> {
        let Some(file) = self.open_file(name, OFlags::RDONLY)? else { return Ok(None) };
        let size = file.metadata().map_err(|e| self.failed("fstat", name, errno(&e)))?.len();
        // Room for one byte more, so that the buffer never grows: that would leave a copy unwiped.
        let size = usize::try_from(size).unwrap_or(usize::MAX).min(limit);
        let mut bytes = Zeroizing::new(Vec::with_capacity(size + 1));
        let mut bounded = file.take(limit as u64 + 1);
        bounded.read_to_end(&mut bytes).map_err(|e| self.failed("read", name, errno(&e)))?;
        if bytes.len() > limit {
            return Err(self.damaged(name, format!("larger than {limit} bytes")));
        }
        Ok(Some(Secret::new(std::mem::take(&mut *bytes))))
    }

    /// Opens a regular file, never waiting for the other end of a pipe.
    pub fn open_file(&self, name: &str, flags: OFlags) -> Result<Option<File>, KeystoreError> {
        let Some(fd) = self.open_at(name, flags | OFlags::NONBLOCK)? else { return Ok(None) };
        let stat = fs::fstat(&fd).map_err(|cause| self.failed("fstat", name, cause))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(self.damaged(name, "not a regular file".into()));
        }
        // Only what was just made is given away: anything else may be a link to a file of root.
        if flags.contains(OFlags::CREATE | OFlags::EXCL) {
            if let Some(owner) = self.owner {
                give(&fd, owner).map_err(|cause| self.failed("fchown", name, cause))?;
            }
            if self.shared {
                let done = fs::fchmod(&fd, FILE_MODE | Mode::RGRP);
                done.map_err(|cause| self.failed("fchmod", name, cause))?;
            }
        }
        Ok(Some(File::from(fd)))
    }

    /// Opens a file, made empty where it is missing.
    pub fn open_or_create(&self, name: &str, flags: OFlags) -> Result<File, KeystoreError> {
        if let Some(file) = self.open_file(name, flags)? {
            return Ok(file);
        }
        match self.open_file(name, flags | OFlags::CREATE | OFlags::EXCL) {
            // Another process was faster.
            Err(KeystoreError::System { cause: Errno::EXIST, .. }) => self.open_file(name, flags),
            made => made,
        }?
        .ok_or_else(|| self.failed("open", name, Errno::NOENT))
    }

    /// Whether `file` still is what `name` stands for.
    pub fn is_at(&self, name: &str, file: &File) -> Result<bool, KeystoreError> {
        let open = fs::fstat(file).map_err(|cause| self.failed("fstat", name, cause))?;
        match fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(named) => Ok((named.st_dev, named.st_ino) == (open.st_dev, open.st_ino)),
            Err(Errno::NOENT) => Ok(false),
            Err(cause) => Err(self.failed("stat", name, cause)),
        }
    }

    /// Writes a new file to the disk. Its name is safe only after [`Dir::sync`].
    pub fn create(&self, name: &str, bytes: &[u8], durable: bool) -> Result<(), KeystoreError> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
        let Some(mut file) = self.open_file(name, flags)? else {
            return Err(self.failed("open", name, Errno::NOENT));
        };
        file.write_all(bytes).map_err(|e| self.failed("write", name, errno(&e)))?;
        if durable {
            file.sync_all().map_err(|e| self.failed("fsync", name, errno(&e)))?;
        }
        Ok(())
    }

    /// Replaces a file by one rename and returns when that is on the disk. The caller holds the
    /// lock that guards `name`.
    pub fn replace(&self, name: &str, bytes: &[u8]) -> Result<(), KeystoreError> {
        self.put(name, bytes, true)?;
        self.sync()
    }

    /// As [`Dir::replace`], for what nobody misses after a power failure.
    pub fn replace_lightly(&self, name: &str, bytes: &[u8]) -> Result<(), KeystoreError> {
        self.put(name, bytes, false)
    }

    /// Replaces a symbolic link by one rename and returns when that is on the disk.
    pub fn replace_link(&self, name: &str, target: &str) -> Result<(), KeystoreError> {
        let temporary = paths::temporary(name);
        self.remove(&temporary)?;
        fs::symlinkat(target, &self.fd, temporary.as_str())
            .map_err(|cause| self.failed("symlink", &temporary, cause))?;
        self.rename(&temporary, name)?;
        self.sync()
    }

    /// What a symbolic link says, if it is there.
    pub fn read_link(&self, name: &str) -> Result<Option<String>, KeystoreError> {
        match fs::readlinkat(&self.fd, name, Vec::new()) {
            Ok(target) => Ok(Some(target.to_string_lossy().into_owned())),
            Err(Errno::NOENT) => Ok(None),
            Err(Errno::INVAL) => Err(self.damaged(name, "not a symbolic link".into())),
            Err(cause) => Err(self.failed("readlink", name, cause)),
        }
    }

    pub fn rename(&self, from: &str, to: &str) -> Result<(), KeystoreError> {
        fs::renameat(&self.fd, from, &self.fd, to)
            .map_err(|cause| self.failed("rename", from, cause))
    }

    /// Moves a file or folder of another one here; nothing but a file may be in its way.
    pub fn take(&self, from: &Dir, name: &str, to: &str) -> Result<(), KeystoreError> {
        fs::renameat(&from.fd, name, &self.fd, to)
            .map_err(|cause| from.failed("rename", name, cause))
    }

    /// As [`Dir::take`] for a folder; false: there is one already.
    pub fn take_new(&self, from: &Dir, name: &str, to: &str) -> Result<bool, KeystoreError> {
        let flags = RenameFlags::NOREPLACE;
        match fs::renameat_with(&from.fd, name, &self.fd, to, flags) {
            Ok(()) => Ok(true),
            // NOENT: somebody else has moved it.
            Err(Errno::EXIST | Errno::NOTEMPTY | Errno::NOENT) => Ok(false),
            // Not on this file system: then an empty one may be replaced, and who has just opened
            // that comes again.
            Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {
                self.take(from, name, to).map(|()| true)
            }
            Err(cause) => Err(from.failed("rename", name, cause)),
        }
    }

    /// The folder's own file, for what concerns the folder itself.
    pub fn fd(&self) -> &OwnedFd {
        &self.fd
    }

    /// Removes a file; one that is not there is fine.
    pub fn remove(&self, name: &str) -> Result<(), KeystoreError> {
        match fs::unlinkat(&self.fd, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(cause) => Err(self.failed("unlink", name, cause)),
        }
    }

    /// Removes what a name stands for, whatever it is, with all that is in it.
    pub fn remove_all(&self, name: &str) -> Result<(), KeystoreError> {
        let Some(dir) = self.folder(name)? else { return self.remove(name) };
        for inside in dir.names()? {
            dir.remove_all(&inside)?;
        }
        match fs::unlinkat(&self.fd, name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(cause) => Err(self.failed("rmdir", name, cause)),
        }
    }

    /// What lies in the folder. Names that are not UTF-8 are none of ours.
    pub fn names(&self) -> Result<Vec<String>, KeystoreError> {
        let failed = |cause| system("readdir", &self.path, cause);
        let mut names = Vec::new();
        for entry in fs::Dir::read_from(&self.fd).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            match entry.file_name().to_str() {
                Ok("." | "..") | Err(_) => {}
                Ok(name) => names.push(name.to_owned()),
            }
        }
        Ok(names)
    }

    /// Makes names that were added, moved or removed safe on the disk.
    pub fn sync(&self) -> Result<(), KeystoreError> {
        match retry_on_intr(|| fs::fsync(&self.fd)) {
            // Some file systems have nothing to do for a folder and say it this way.
            Ok(()) | Err(Errno::INVAL | Errno::NOTSUP) => Ok(()),
            Err(cause) => Err(system("fsync", &self.path, cause)),
        }
    }

    /// The path of a name in this folder, for messages.
    pub fn at(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    pub fn failed(&self, call: &'static str, name: &str, cause: Errno) -> KeystoreError {
        system(call, &self.at(name), cause)
    }

    pub fn damaged(&self, name: &str, cause: String) -> KeystoreError {
        KeystoreError::Damaged { path: self.at(name), cause }
    }

    fn put(&self, name: &str, bytes: &[u8], durable: bool) -> Result<(), KeystoreError> {
        let temporary = paths::temporary(name);
        self.remove(&temporary)?;
        let done =
            self.create(&temporary, bytes, durable).and_then(|()| self.rename(&temporary, name));
        if done.is_err() {
            let _ = self.remove(&temporary); // on a full disk it is in the way; else harmless
        }
        done
    }

    fn open_at(&self, name: &str, flags: OFlags) -> Result<Option<OwnedFd>, KeystoreError> {
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match retry_on_intr(|| fs::openat(&self.fd, name, flags, FILE_MODE)) {
            Ok(fd) => Ok(Some(fd)),
            Err(Errno::NOENT) => Ok(None),
            Err(cause) => Err(self.failed("open", name, cause)),
        }
    }
}

/// The number of a failed call of std.
pub fn errno(error: &std::io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}

fn system(call: &'static str, path: &Path, cause: Errno) -> KeystoreError {
    KeystoreError::System { call, path: path.to_owned(), cause }
}

fn give(fd: &OwnedFd, owner: Owner) -> Result<(), Errno> {
    let (uid, gid) = (fs::Uid::from_raw(owner.uid), fs::Gid::from_raw(owner.gid));
    fs::fchown(fd, Some(uid), Some(gid))
}

const DIR_MODE: Mode = Mode::RWXU;
const FILE_MODE: Mode = Mode::RUSR.union(Mode::WUSR);

#[cfg(test)]
mod tests;
