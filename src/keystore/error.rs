//! What can go wrong in the keystore: one line each, in nginx's words.

use std::path::PathBuf;

use rustix::io::Errno;

/// Why something could not be read or stored.
#[derive(Clone, Debug, thiserror::Error)]
pub enum KeystoreError {
    #[error("{call}() \"{}\" failed ({}: {})", path.display(), cause.raw_os_error(), text(*cause))]
    System { call: &'static str, path: PathBuf, cause: Errno },
    /// What lies there can't be what we wrote.
    #[error("\"{}\" is damaged: {cause}", path.display())]
    Damaged { path: PathBuf, cause: String },
    /// Root would follow it wherever somebody else wants.
    #[error("\"{}\" is a symbolic link that others than root can change", path.display())]
    Link { path: PathBuf },
    /// Another process held the lock for longer than we wait.
    #[error("\"{}\" is locked by another process", path.display())]
    Busy { path: PathBuf },
    /// The passwords are wrong, which says nothing about the key: never a reason to replace it.
    #[error(
        "\"{}\" is encrypted, and {}", path.display(),
        if *.tried { "no line of the \"password_file\" in \"ssl_cert_autofetch_keystore\" decrypts it" }
        else { "\"ssl_cert_autofetch_keystore\" has no \"password_file\"" }
    )]
    Sealed { path: PathBuf, tried: bool },
    /// Not stored, because it could never be served.
    #[error("\"{name}\": certificate not stored: {cause}")]
    Unfit { name: String, cause: String },
    /// The caller's mistake: this never becomes a path.
    #[error("\"{}\" is not a plain word", crate::report::printable(.0))]
    Name(String),
}

impl KeystoreError {
    /// Whether the same call may succeed later with nothing repaired.
    pub fn may_pass(&self) -> bool {
        matches!(self, KeystoreError::System { .. } | KeystoreError::Busy { .. })
    }
}

/// strerror() without what Rust puts behind it.
fn text(errno: Errno) -> String {
    let text = std::io::Error::from(errno).to_string();
    match text.rfind(" (os error") {
        Some(end) => text[..end].to_owned(),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sounds_like_nginx() {
        let path = PathBuf::from("/path");
        let error = KeystoreError::System { call: "open", path, cause: Errno::ACCESS };
        assert_eq!(error.to_string(), "open() \"/path\" failed (13: Permission denied)");
    }
}
