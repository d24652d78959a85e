//! What the keystore has of an account.

use serde::{Deserialize, Serialize};

use super::jws::AccountKey;
use crate::ca::IssueError;
use crate::settings::Secret;

/// Keeps `accounts/CA/account.json`.
pub trait AccountStore: Send + Sync {
    /// What is stored now. Takes no lock. What is damaged is no error: else its CA could not be
    /// used till somebody removes it.
    fn load(&self, ca: &str) -> Result<Option<StoredAccount>, IssueError>;

    /// Under `accounts/CA/lock`: reads what is stored, gives it to `change`, and stores what that
    /// returns before the lock is free again. None, or an error of `change`, stores nothing.
    /// `change` may send requests.
    fn with_lock(&self, ca: &str, change: &mut Change<'_>) -> Result<(), IssueError>;
}

/// The new content of the file, made from the old one.
pub type Change<'a> =
    dyn FnMut(Option<StoredAccount>) -> Result<Option<StoredAccount>, IssueError> + 'a;

/// `account.json`. A key that we make is stored before the CA hears of it: an account is never lost
/// to a crash, because asking again with the same key finds it. A key from the configuration is
/// stored with the account that it got, since it takes the old key to roll an account over to the
/// next one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StoredAccount {
    /// The CA's directory, where `url` was given.
    #[serde(default)]
    pub directory: String,
    /// The account; None: not made yet.
    #[serde(default)]
    pub url: Option<String>,
    /// Of the key that `url` belongs to.
    #[serde(default)]
    pub thumbprint: String,
    /// PEM (PKCS#8): the account's key, or the one that is to become it.
    #[serde(default, with = "pem")]
    pub key: Option<Secret>,
    /// Thumbprints of keys that this account had before, the last one at the end. It is never
    /// rolled back to them: a worker or host that still has the old configuration would undo what
    /// the others do.
    #[serde(default)]
    pub retired: Vec<String>,
    /// What the CA was told last; None: not known.
    #[serde(default)]
    pub contact: Option<Vec<String>>,
    /// Why something that was stored is not here. The keystore loses no more by a new account.
    #[serde(skip)]
    pub damage: Option<String>,
}

impl StoredAccount {
    /// What can be read of a file. No error has any of it in it: it has a key.
    pub fn read(json: &[u8]) -> StoredAccount {
        let mut stored: StoredAccount = match serde_json::from_slice(json) {
            Ok(stored) => stored,
            Err(e) => {
                let (line, column) = (e.line(), e.column());
                return StoredAccount::damaged(format!(
                    "account.json is damaged at line {line}, column {column}"
                ));
            }
        };
        let is_good = |pem: &Secret| AccountKey::from_pem(pem.bytes()).is_ok();
        if stored.key.as_ref().is_some_and(|pem| !is_good(pem)) {
            stored.key = None;
            stored.damage = Some("account.json is damaged: its key can't be read".into());
        }
        stored
    }

    pub fn damaged(cause: String) -> StoredAccount {
        StoredAccount { damage: Some(cause), ..StoredAccount::default() }
    }
}

mod pem {
    use serde::{Deserialize, Deserializer, Serializer, ser::Error};

    use crate::settings::Secret;

    pub fn serialize<S: Serializer>(key: &Option<Secret>, s: S) -> Result<S::Ok, S::Error> {
        match key {
            Some(key) => {
                s.serialize_str(std::str::from_utf8(key.bytes()).map_err(S::Error::custom)?)
            }
            None => s.serialize_none(),
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Secret>, D::Error> {
        Ok(Option::<String>::deserialize(d)?.map(|pem| Secret::new(pem.into_bytes())))
    }
}
