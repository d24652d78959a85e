//! Another key for the same account (RFC 8555 section 7.3.5).

use serde_json::{Value, json};

use super::account::Account;
use super::client::{Client, Failure, Post};
use super::jws::{AccountKey, Signed};
use super::registration::is_alive;
use crate::ca::IssueError;

/// Has the CA take `new` instead of the account's key. False: there is nothing that could be
/// rolled over, since the CA has no keyChange, or the account or its old key is of no use to it.
pub fn roll_over(client: &Client, old: &Account, new: &AccountKey) -> Result<bool, IssueError> {
    const WHAT: &str = "keyChange";
    let directory = client.directory()?;
    let Some(url) = &directory.key_change else { return Ok(false) };
    client.check_url(WHAT, url)?;
    let inner = consent(old, new, url)?;
    let by = Signed::ByAccount(&old.url);
    match client.post(&old.key, &Post::json(WHAT, url, by, &inner)) {
        Ok(_) => Ok(true),
        Err(Failure::Rejected(rejection)) if !rejection.is_busy() => {
            if !is_alive(client, old)? {
                return Ok(false);
            }
            let (status, line) = (rejection.status, rejection.problem.line());
            Err(match status {
                409 => IssueError::Configuration(format!(
                    "{WHAT}: {line}: account_key is the key of another account at the CA, set \
                     another one"
                )),
                _ => rejection.into_error(WHAT),
            })
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
