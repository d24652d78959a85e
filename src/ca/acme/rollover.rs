//! Another key for the same account (RFC 8555 section 7.3.5), and what there is where that fails.

use serde_json::{Value, json};

use super::account::Account;
use super::client::{Client, Failure, Post};
use super::jws::{AccountKey, Signed};
use super::registration::{find, is_lost, register};
use crate::ca::IssueError;
use crate::settings::AcmeSettings;

/// What a key has got that is to take the place of another one.
pub enum Taken {
    /// It had an account, maybe that of the other key.
    Found(String),
    RolledOver,
    Registered(String),
    /// Nothing, for this reason: the account works, with the key that it has.
    Nothing(IssueError),
}

const WHAT: &str = "keyChange";

/// The account of `new`: the one that it has, else `old` rolled over to it, else a new one. That it
/// has one is also how a rollover whose answer was lost comes to light. An error only if `old`
/// is of no use either.
pub fn take_over(
    settings: &AcmeSettings,
    client: &Client,
    old: &Account,
    new: &AccountKey,
) -> Result<Taken, IssueError> {
    let (cause, may_register) = match find_or_roll_over(client, old, new) {
        Ok(Some(taken)) => return Ok(taken),
        Ok(None) => match register(settings, client, new) {
            Ok(url) => return Ok(Taken::Registered(url)),
            Err(cause) => (cause, false),
        },
        // Without an answer nobody knows what the CA has done: the next time tells.
        Err(cause @ (IssueError::Unreachable { .. } | IssueError::Busy { .. })) => (cause, false),
        Err(cause) => (cause, true),
    };
    match is_lost(client, old) {
        Ok(false) => Ok(Taken::Nothing(cause)),
        Ok(true) if may_register => register(settings, client, new).map(Taken::Registered),
        Ok(true) | Err(_) => Err(cause),
    }
}

/// None: the CA can't roll over.
fn find_or_roll_over(
    client: &Client,
    old: &Account,
    new: &AccountKey,
) -> Result<Option<Taken>, IssueError> {
    match find(client, new)? {
        Some(url) => Ok(Some(Taken::Found(url))),
        None => Ok(roll_over(client, old, new)?.then_some(Taken::RolledOver)),
    }
}

/// Has the CA take `new` instead of the account's key. False: it has no keyChange.
fn roll_over(client: &Client, old: &Account, new: &AccountKey) -> Result<bool, IssueError> {
    let directory = client.directory()?;
    let Some(url) = &directory.key_change else { return Ok(false) };
    client.check_url(WHAT, url)?;
    let inner = consent(old, new, url)?;
    let by = Signed::ByAccount(&old.url);
    match client.post(&old.key, &Post::json(WHAT, url, by, &inner)) {
        Ok(_) => Ok(true),
        Err(Failure::Rejected(rejection)) if rejection.status == 409 => {
            Err(IssueError::Configuration(format!(
                "{WHAT}: {}: account_key is the key of another account at the CA, set another one",
                rejection.problem.line()
            )))
        }
        Err(failure) => Err(failure.into_error(WHAT)),
    }
}

/// What the new key signs: that it wants the account.
fn consent(old: &Account, new: &AccountKey, url: &str) -> Result<Value, IssueError> {
    let failed = |e: String| IssueError::Configuration(format!("account_key: {e}"));
    let old_key: Value = serde_json::from_str(old.key.jwk()).map_err(|e| failed(e.to_string()))?;
    let payload = json!({"account": old.url, "oldKey": old_key}).to_string();
    new.sign_inner(url, payload.as_bytes()).map_err(|e| failed(e.to_string()))
}
