//! The account at a CA (RFC 8555 section 7.3): one per CA and keystore, shared by all workers and
//! hosts, made when it is first needed.

use std::sync::{Arc, Mutex};

use super::client::{Client, lock};
use super::jws::AccountKey;
use super::registration::{find, may_register, register, update_contact};
use super::rollover::{Taken, take_over};
use super::stored::{AccountStore, StoredAccount};
use crate::ca::IssueError;
use crate::settings::{AcmeSettings, Secret};

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
    remarks: Mutex<Vec<String>>,
}

impl Accounts {
    pub fn new(store: Arc<dyn AccountStore>) -> Accounts {
        Accounts { store, known: Mutex::default(), remarks: Mutex::default() }
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
        let stored = self.store.load(&settings.ca)?.unwrap_or_default();
        if let Some(cause) = &stored.damage {
            self.remark(format!("{cause}: the account is made or looked for anew"));
        }
        let (account, stored) = match usable(&stored, settings, own_key.as_ref())? {
            Some(account) => (account, stored),
            None => {
                let made = self.make(settings, client, own_key.as_ref())?;
                (made, self.store.load(&settings.ca)?.unwrap_or_default())
            }
        };
        // What is not done now is due the next time: no reason not to issue.
        if let Err(error) = self.keep_up(settings, client, &stored, &account) {
            self.remark(format!("the stored account is not brought up to date: {error}"));
        }
        if own_key.is_some_and(|own| is_retired(&stored, &own)) {
            self.remark(format!(
                "account_key is a key that account \"{}\" had before: the newer one in the \
                 keystore is used",
                account.url
            ));
        }
        let account = Arc::new(account);
        *lock(&self.known) = Some(Arc::clone(&account));
        Ok(account)
    }

    /// The keystore is asked again next time: somebody may have changed it.
    pub fn forget(&self) {
        *lock(&self.known) = None;
    }

    /// What the administrator should know of accounts, each once.
    pub fn take_remarks(&self) -> Vec<String> {
        std::mem::take(&mut *lock(&self.remarks))
    }

    /// Whether the keystore has another key than `account`; if so, it is what is used next.
    pub fn has_newer(&self, settings: &AcmeSettings, account: &Account) -> bool {
        let stored = self.store.load(&settings.ca).ok().flatten();
        let has =
            stored.is_some_and(|s| s.url.is_some() && s.thumbprint != account.key.thumbprint());
        if has {
            self.forget();
        }
        has
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
        own_key: Option<&AccountKey>,
    ) -> Result<Account, IssueError> {
        if own_key.is_none() {
            may_register(settings, client)?;
            self.store.with_lock(&settings.ca, &mut with_key)?;
        }
        let mut made = None;
        self.store.with_lock(&settings.ca, &mut |stored| {
            let stored = stored.unwrap_or_default();
            if let Some(account) = usable(&stored, settings, own_key)? {
                made = Some(account);
                return Ok(None);
            }
            let changed = match (own_key, &stored.key) {
                (Some(key), _) => match self.with_own_key(settings, client, &stored, key)? {
                    Some(changed) => changed,
                    None => {
                        made = usable(&stored, settings, None)?;
                        return Ok(None);
                    }
                },
                (None, Some(pem)) => registered(settings, client, &stored_key(pem)?)?,
                (None, None) => return Err(IssueError::Storage("the account key is gone".into())),
            };
            made = usable(&changed, settings, own_key)?;
            Ok(Some(changed))
        })?;
        made.ok_or_else(|| IssueError::Storage("the account was not stored".into()))
    }

    /// The account for a key from the configuration. None: the stored one goes on being used with
    /// the key that it has, and what was not done now is tried when it is read again.
    fn with_own_key(
        &self,
        settings: &AcmeSettings,
        client: &Client,
        stored: &StoredAccount,
        key: &AccountKey,
    ) -> Result<Option<StoredAccount>, IssueError> {
        // One that can't be read is one that nobody has.
        let Some(old) = usable(stored, settings, None).ok().flatten() else {
            let found = find(client, key)?.map(|url| account_of(settings, url, key));
            return found.unwrap_or_else(|| registered(settings, client, key)).map(Some);
        };
        let url = match take_over(settings, client, &old, key)? {
            Taken::Found(url) => url,
            Taken::RolledOver => old.url.clone(),
            Taken::Registered(url) => return new_account(settings, url, key).map(Some),
            Taken::Nothing(cause) => {
                self.remark(format!(
                    "account_key is not used yet, account \"{}\" keeps the key before it: {cause}",
                    old.url
                ));
                return Ok(None);
            }
        };
        let mut changed = account_of(settings, url, key)?;
        if changed.url.as_ref() == Some(&old.url) {
            changed.retired = retired(stored);
            changed.contact = stored.contact.clone();
        } else {
            self.remark(format!(
                "account_key has an account of its own, which is used instead of \"{}\"",
                old.url
            ));
        }
        Ok(Some(changed))
    }

    /// Does for an account that is in use what has come to be due.
    fn keep_up(
        &self,
        settings: &AcmeSettings,
        client: &Client,
        stored: &StoredAccount,
        account: &Account,
    ) -> Result<(), IssueError> {
        let is_due = |stored: &StoredAccount| {
            !is_told(stored, &settings.contact) || !has_key(stored, account)
        };
        if !is_due(stored) {
            return Ok(());
        }
        self.store.with_lock(&settings.ca, &mut |stored| {
            let same = stored.filter(|s| s.url.as_deref() == Some(account.url.as_str()));
            let same = same.filter(|s| s.thumbprint == account.key.thumbprint());
            // Another worker may have been faster, or have changed all of it.
            let Some(mut changed) = same.filter(is_due) else { return Ok(None) };
            changed.key = Some(to_pem(&account.key)?);
            if !is_told(&changed, &settings.contact) {
                match update_contact(client, account, &settings.contact) {
                    Ok(()) => changed.contact = Some(settings.contact.clone()),
                    Err(cause) => self.remark(format!("contact is not changed: {cause}")),
                }
            }
            Ok(Some(changed))
        })
    }

    fn remark(&self, text: String) {
        let mut remarks = lock(&self.remarks);
        if !remarks.contains(&text) && remarks.len() < MOST_REMARKS {
            remarks.push(text);
        }
    }
}

/// More than there are kinds of.
const MOST_REMARKS: usize = 8;

/// Older ones belong to nobody any more.
const MOST_RETIRED: usize = 16;

fn registered(
    settings: &AcmeSettings,
    client: &Client,
    key: &AccountKey,
) -> Result<StoredAccount, IssueError> {
    new_account(settings, register(settings, client, key)?, key)
}

fn new_account(
    settings: &AcmeSettings,
    url: String,
    key: &AccountKey,
) -> Result<StoredAccount, IssueError> {
    let contact = Some(settings.contact.clone());
    Ok(StoredAccount { contact, ..account_of(settings, url, key)? })
}

fn account_of(
    settings: &AcmeSettings,
    url: String,
    key: &AccountKey,
) -> Result<StoredAccount, IssueError> {
    Ok(StoredAccount {
        directory: settings.url.clone(),
        url: Some(url),
        thumbprint: key.thumbprint().to_owned(),
        key: Some(to_pem(key)?),
        ..StoredAccount::default()
    })
}

/// What has been retired when the account has got another key than `stored` says.
fn retired(stored: &StoredAccount) -> Vec<String> {
    let mut all = stored.retired.clone();
    all.push(stored.thumbprint.clone());
    all.drain(..all.len().saturating_sub(MOST_RETIRED));
    all
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
        (Some(key), Some(pem)) if is_retired(stored, key) => stored_key(pem)?,
        (Some(key), _) => key.clone(),
        (None, Some(pem)) => stored_key(pem)?,
        (None, None) => return Ok(None),
    };
    Ok((key.thumbprint() == stored.thumbprint).then_some(Account { key, url }))
}

fn is_retired(stored: &StoredAccount, key: &AccountKey) -> bool {
    stored.retired.iter().any(|t| t == key.thumbprint())
}

fn stored_key(pem: &Secret) -> Result<AccountKey, IssueError> {
    AccountKey::from_pem(pem.bytes())
        .map_err(|e| IssueError::Storage(format!("the stored account key is unusable: {e}")))
}

/// An earlier version did not keep keys from the configuration.
fn has_key(stored: &StoredAccount, account: &Account) -> bool {
    let key = stored.key.as_ref().and_then(|pem| stored_key(pem).ok());
    key.is_some_and(|key| key.thumbprint() == account.key.thumbprint())
}

/// Whether the CA knows whom it may write to. What others have told it is left alone till there is
/// something to tell.
fn is_told(stored: &StoredAccount, contact: &[String]) -> bool {
    stored.contact.as_ref().map_or(contact.is_empty(), |told| told == contact)
}

fn to_pem(key: &AccountKey) -> Result<Secret, IssueError> {
    key.to_pem().map_err(|e| IssueError::Storage(format!("account key: {e}")))
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
