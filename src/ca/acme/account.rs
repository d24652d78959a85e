//! The account at a CA (RFC 8555 section 7.3): one per CA and keystore, shared by all workers and
//! hosts, made when it is first needed.

use std::sync::{Arc, Mutex};

use serde::{Deserialize, Serialize};

use super::client::{Client, lock};
use super::jws::AccountKey;
use super::registration::{may_register, register};
use crate::ca::IssueError;
use crate::settings::{AcmeSettings, Secret};

/// Keeps `accounts/CA/account.json`.
pub trait AccountStore: Send + Sync {
    /// What is stored now. Takes no lock.
    fn load(&self, ca: &str) -> Result<Option<StoredAccount>, IssueError>;

    /// Under `accounts/CA/lock`: reads what is stored, gives it to `change`, and stores what that
    /// returns before the lock is free again. None, or an error of `change`, stores nothing.
    /// `change` may send requests.
    fn with_lock(&self, ca: &str, change: &mut Change<'_>) -> Result<(), IssueError>;
}

/// The new content of the file, made from the old one.
pub type Change<'a> =
    dyn FnMut(Option<StoredAccount>) -> Result<Option<StoredAccount>, IssueError> + 'a;

/// `account.json`. The key is stored before the CA hears of it: an account is never lost to a
/// crash, because asking again with the same key finds it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StoredAccount {
    /// The CA's directory, where `url` was given.
    #[serde(default)]
    pub directory: String,
    /// The account; None: not made yet.
    #[serde(default)]
    pub url: Option<String>,
    /// Of the key that `url` belongs to: the administrator's own, or `key`.
    #[serde(default)]
    pub thumbprint: String,
    /// Our own key in PEM (PKCS#8); None when only the administrator's was used.
    #[serde(default, with = "pem")]
    pub key: Option<Secret>,
}

/// An account that is ready for use.
#[derive(Clone, Debug)]
pub struct Account {
    pub key: AccountKey,
    pub url: String,
}

/// The account of one CA, as this process knows it.
pub struct Accounts {
    store: Arc<dyn AccountStore>,
    known: Mutex<Option<Arc<Account>>>,
}

impl Accounts {
    pub fn new(store: Arc<dyn AccountStore>) -> Accounts {
        Accounts { store, known: Mutex::default() }
    }

    /// The account, made if there is none.
    pub fn get(
        &self,
        settings: &AcmeSettings,
        client: &Client,
    ) -> Result<Arc<Account>, IssueError> {
        if let Some(account) = &*lock(&self.known) {
            return Ok(Arc::clone(account));
        }
        let own_key = own_key(settings)?;
        let stored = self.store.load(&settings.ca)?;
        let account = match stored.as_ref().map(|s| usable(s, settings, own_key.as_ref())) {
            Some(Ok(Some(account))) => account,
            Some(Err(e)) => return Err(e),
            _ => self.make(settings, client, own_key)?,
        };
        let account = Arc::new(account);
        *lock(&self.known) = Some(Arc::clone(&account));
        Ok(account)
    }

    /// The keystore is asked again next time: somebody may have changed it.
    pub fn forget(&self) {
        *lock(&self.known) = None;
    }

    /// The CA does not know `account`: its URL is dropped, the key stays.
    pub fn drop_url(&self, settings: &AcmeSettings, account: &Account) -> Result<(), IssueError> {
        self.forget();
        self.store.with_lock(&settings.ca, &mut |stored| {
            // Another worker may have been faster.
            let same = stored.filter(|s| s.url.as_deref() == Some(account.url.as_str()));
            Ok(same.map(|s| StoredAccount { url: None, ..s }))
        })
    }

    fn make(
        &self,
        settings: &AcmeSettings,
        client: &Client,
        own_key: Option<AccountKey>,
    ) -> Result<Account, IssueError> {
        if own_key.is_none() {
            may_register(settings, client)?;
            self.store.with_lock(&settings.ca, &mut with_key)?;
        }
        let mut made = None;
        self.store.with_lock(&settings.ca, &mut |stored| {
            let stored = stored.unwrap_or_default();
            if let Some(account) = usable(&stored, settings, own_key.as_ref())? {
                made = Some(account);
                return Ok(None);
            }
            let key = match (&own_key, &stored.key) {
                (Some(key), _) => key.clone(),
                (None, Some(pem)) => stored_key(pem)?,
                (None, None) => return Err(IssueError::Storage("the account key is gone".into())),
            };
            let url = register(settings, client, &key)?;
            let changed = StoredAccount {
                directory: settings.url.clone(),
                url: Some(url.clone()),
                thumbprint: key.thumbprint().to_owned(),
                key: stored.key,
            };
            made = Some(Account { key, url });
            Ok(Some(changed))
        })?;
        made.ok_or_else(|| IssueError::Storage("the account was not stored".into()))
    }
}

fn own_key(settings: &AcmeSettings) -> Result<Option<AccountKey>, IssueError> {
    let read = |pem: &Secret| AccountKey::from_pem(pem.bytes());
    settings
        .account_key
        .as_ref()
        .map(read)
        .transpose()
        .map_err(|e| IssueError::Configuration(format!("account_key of \"{}\": {e}", settings.ca)))
}

/// The stored account, if it is at this directory and of the key in use.
fn usable(
    stored: &StoredAccount,
    settings: &AcmeSettings,
    own_key: Option<&AccountKey>,
) -> Result<Option<Account>, IssueError> {
    let Some(url) = stored.url.clone().filter(|_| stored.directory == settings.url) else {
        return Ok(None);
    };
    let key = match (own_key, &stored.key) {
        (Some(key), _) => key.clone(),
        (None, Some(pem)) => stored_key(pem)?,
        (None, None) => return Ok(None),
    };
    Ok((key.thumbprint() == stored.thumbprint).then_some(Account { key, url }))
}

fn stored_key(pem: &Secret) -> Result<AccountKey, IssueError> {
    AccountKey::from_pem(pem.bytes())
        .map_err(|e| IssueError::Storage(format!("the stored account key is unusable: {e}")))
}

fn with_key(stored: Option<StoredAccount>) -> Result<Option<StoredAccount>, IssueError> {
    let stored = stored.unwrap_or_default();
    if stored.key.is_some() {
        return Ok(None);
    }
    let failed = |e: String| IssueError::Storage(format!("making an account key failed: {e}"));
    let key = AccountKey::generate().map_err(failed)?;
    let key = key.to_pem().map_err(|e| failed(e.to_string()))?;
    Ok(Some(StoredAccount { key: Some(key), ..stored }))
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
