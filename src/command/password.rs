//! The file of `--password-file`: passwords are never arguments, which everybody can read.

use std::path::Path;

use zeroize::Zeroizing;

use super::answer::Failure;
use super::keyfile::read_file;
use crate::settings;

/// The keystore's own password file, as the module reads it.
pub fn of_keystore(path: &Path) -> Result<settings::Passwords, Failure> {
    let bytes = read_file(path)?;
    settings::Passwords::of_lines(&bytes).map_err(|cause| {
        Failure::bad(format!("--keystore-password-file \"{}\": {cause}", path.display()))
    })
}

/// The passwords of a file with keys in it.
#[derive(Default)]
pub struct Passwords {
    lines: Option<(Zeroizing<String>, Option<Zeroizing<String>>)>,
}

impl Passwords {
    /// The first line is the password of the file, the second, if any, that of the key in it.
    pub fn read(path: &Path) -> Result<Passwords, Failure> {
        let bytes = read_file(path)?;
        let Ok(text) = std::str::from_utf8(bytes.bytes()) else {
            return Err(Failure::bad(format!("\"{}\": it is not UTF-8", path.display())));
        };
        Ok(Passwords::of(text))
    }

    pub(super) fn of(text: &str) -> Passwords {
        let mut lines = text.lines().map(|line| Zeroizing::new(line.to_owned()));
        let store = lines.next().unwrap_or_default();
        Passwords { lines: Some((store, lines.next().filter(|line| !line.is_empty()))) }
    }

    pub fn are_given(&self) -> bool {
        self.lines.is_some()
    }

    /// Of the file; empty where none is given.
    pub fn store(&self) -> &str {
        self.lines.as_ref().map_or("", |(store, _)| store)
    }

    /// Of a key in it: that of the file, unless it has one of its own.
    pub fn key(&self) -> &str {
        match &self.lines {
            Some((_, Some(key))) => key,
            _ => self.store(),
        }
    }
}
