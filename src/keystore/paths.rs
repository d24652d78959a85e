//! Every name in the keystore is formed here, and nowhere else.
//!
//! A name that comes from outside becomes a path only as an [`EntryName`], as a checked word, or
//! as a hash.

use std::fmt::Write;

use openssl::sha::sha256;

use super::KeystoreError;
use crate::ca::ChallengeAnswer;
use crate::settings::EntryName;

// DIR
pub const CERTS: &str = "certs";
pub const ACCOUNTS: &str = "accounts";
pub const CHALLENGES: &str = "challenges";
pub const CRLS: &str = "crls";
/// Here is made what a group may read, if one may: see [`super::sharing`].
pub const STAGING: &str = "staging";
pub const CHANGES: &str = "changes";
/// What `changes` was before its rotation.
pub const CHANGES_OLD: &str = "changes.old";

// certs/NAME
pub const CURRENT: &str = "current";
pub const VERSIONS: &str = "versions";
pub const PENDING: &str = "pending";
pub const OCSP: &str = "ocsp.der";
pub const EVIDENCE: &str = "evidence.json";
pub const EVIDENCE_LOCK: &str = "evidence.lock";
pub const LEDGER: &str = "ledger.json";
pub const RENEWAL: &str = "renewal.json";
/// Also in accounts/CA and in challenges.
pub const LOCK: &str = "lock";

// versions/N and pending
pub const CHAIN: &str = "fullchain.pem";
pub const KEY: &str = "privkey.pem";
pub const META: &str = "meta.json";
pub const ORDER: &str = "order.json";

// accounts/CA
pub const ACCOUNT: &str = "account.json";

/// A version that is being written.
pub const NEW_VERSION: &str = ".version.new";

/// The name of an entry's folder.
pub fn entry(name: &EntryName) -> &str {
    name.as_str()
}

/// The entry that a folder in `certs` belongs to.
pub fn entry_of(folder: &str) -> Option<EntryName> {
    EntryName::new(folder).filter(|name| name.as_str() == folder)
}

/// The name of a CA's folder: letters, digits, `-`, `_` and `.`.
pub fn ca(name: &str) -> Result<&str, KeystoreError> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    let fits = (1..=255).contains(&name.len()) && !matches!(name, "." | "..");
    if fits && name.bytes().all(plain) { Ok(name) } else { Err(KeystoreError::Name(name.into())) }
}

/// The name under which the new contents of `name` are written before they take its place. One
/// name is enough: the writer holds the lock that guards `name`, and what a dead one left is
/// written over.
pub fn temporary(name: &str) -> String {
    format!(".{name}.new")
}

pub fn is_temporary(name: &str) -> bool {
    name.starts_with('.')
}

/// The folder of a version in `versions`.
pub fn version(number: u64) -> String {
    number.to_string()
}

/// The number of a version's folder: written in one way only.
pub fn version_number(folder: &str) -> Option<u64> {
    folder.parse().ok().filter(|n| *n > 0 && version(*n) == folder)
}

/// A version that is being removed.
pub fn dead_version(number: u64) -> String {
    format!(".{number}.old")
}

/// What the link `current` says.
pub fn current_target(number: u64) -> String {
    format!("{VERSIONS}/{number}")
}

pub fn version_of_target(target: &str) -> Option<u64> {
    version_number(target.strip_prefix(VERSIONS)?.strip_prefix('/')?)
}

/// The file of a challenge: name and token come from the network, so they are hashed.
pub fn challenge(answer: &ChallengeAnswer) -> String {
    let kind = serde_json::to_string(&answer.kind).unwrap_or_default();
    hashed(&format!("{kind}\0{}\0{}", answer.name, answer.token))
}

/// The file in `challenges` by which an nginx says that it is at work. The name of a host may be
/// anything, so it is hashed too.
pub fn presence(id: &str) -> String {
    format!("{PRESENCE}{}", hashed(id))
}

pub fn is_presence(file: &str) -> bool {
    file.strip_prefix(PRESENCE).is_some_and(is_challenge)
}

const PRESENCE: &str = "host-";

/// The name in `staging` of what is made for an entry: both together may be too long. The entry's
/// lock guards all but its own folder.
pub fn staged(entry: &EntryName, what: &str) -> String {
    hashed(&format!("{entry}/{what}"))
}

/// What the names of the files about one CRL begin with. The URL comes from the network.
pub fn crl(url: &str) -> String {
    hashed(url)
}

/// The [`crl`] that a file in `crls` belongs to.
pub fn crl_of(file: &str) -> Option<String> {
    let stem = file.trim_start_matches('.').split('.').next()?;
    is_challenge(stem).then(|| stem.to_owned())
}

pub fn crl_list(stem: &str) -> String {
    format!("{stem}.crl")
}

pub fn crl_meta(stem: &str) -> String {
    format!("{stem}.json")
}

pub fn crl_lock(stem: &str) -> String {
    format!("{stem}.lock")
}

fn hashed(text: &str) -> String {
    let mut file = String::with_capacity(64);
    for byte in sha256(text.as_bytes()) {
        let _ = write!(file, "{byte:02x}"); // a String takes everything
    }
    file
}

pub fn is_challenge(file: &str) -> bool {
    file.len() == 64 && file.bytes().all(|b| b.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Challenge;

    #[test]
    fn version_links() {
        for (target, number) in [
            ("versions/1", Some(1)),
            ("versions/18446744073709551615", Some(u64::MAX)),
            ("versions/18446744073709551616", None),
            ("versions/0", None),
            ("versions/01", None),
            ("versions/+1", None),
            ("versions/1/", None),
            ("versions//1", None),
            ("versions/", None),
            ("versions", None),
            ("versions1", None),
            ("/versions/1", None),
            ("versions/../../b.example/versions/1", None),
        ] {
            assert_eq!(version_of_target(target), number, "{target}");
        }
        assert_eq!(current_target(7), "versions/7");
    }

    #[test]
    fn ca_names() {
        for good in ["corp", "Corp-2_x.y", "..."] {
            assert_eq!(ca(good).unwrap(), good);
        }
        let long = "a".repeat(256);
        for bad in ["", ".", "..", "a/b", "a b", "a\0", "ä", &long] {
            assert!(ca(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn crl_files() {
        let stem = crl("http://ca.example/../1.crl");
        assert_ne!(stem, crl("http://ca.example/../2.crl"));
        for file in [crl_list(&stem), crl_meta(&stem), crl_lock(&stem), temporary(&stem)] {
            assert_eq!(crl_of(&file).as_deref(), Some(stem.as_str()), "{file}");
        }
        for file in ["", ".", "lock", "../x.crl"] {
            assert_eq!(crl_of(file), None, "{file}");
        }
    }

    #[test]
    fn challenge_files() {
        let answer = ChallengeAnswer {
            kind: Challenge::Http01,
            name: "a.example".into(),
            token: "../../etc/passwd".into(),
            key_authorization: "x".into(),
        };
        let file = challenge(&answer);
        assert!(is_challenge(&file), "{file}");
        assert_ne!(file, challenge(&ChallengeAnswer { token: "t".into(), ..answer.clone() }));
        assert_ne!(file, challenge(&ChallengeAnswer { kind: Challenge::TlsAlpn01, ..answer }));
    }
}
