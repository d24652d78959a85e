//! What is asked of the CA about an account (RFC 8555 section 7.3): that there be one, which one a
//! key has, and whether it is still good.

use serde::Deserialize;
use serde_json::{Value, json};

use super::account::Account;
use super::binding::binding;
use super::client::{Client, Failure, Post};
use super::jws::{AccountKey, Signed};
use super::problem::Rejection;
use crate::ca::IssueError;
use crate::ca::exchange::parse;
use crate::http::Response;
use crate::settings::AcmeSettings;

#[derive(Deserialize)]
struct AccountObject {
    status: String,
}

const WHAT: &str = "newAccount";

/// Whether the administrator has agreed to all that a new account needs; else what is missing.
pub fn may_register(settings: &AcmeSettings, client: &Client) -> Result<(), IssueError> {
    let directory = client.directory()?;
    let name = &settings.ca;
    if let (Some(terms), false) = (directory.terms_of_service(), settings.accept_terms_of_service) {
        return Err(IssueError::Configuration(format!(
            "\"{name}\" asks to agree to its terms of service, \"{}\": \
             read them and set accept_terms_of_service",
            crate::report::printable(terms)
        )));
    }
    if directory.external_account_required() && settings.external_account.is_none() {
        return Err(IssueError::Configuration(format!(
            "\"{name}\" gives accounts only with external account binding: ask it for a key and \
             set external_account_key"
        )));
    }
    Ok(())
}

/// Section 7.3: 201 with a new account, or 200 with the one that the key has already. Its URL.
pub fn register(
    settings: &AcmeSettings,
    client: &Client,
    key: &AccountKey,
) -> Result<String, IssueError> {
    may_register(settings, client)?;
    let directory = client.directory()?;
    let url = &directory.new_account;
    let payload = application(settings, key, url)?;
    let response = match client.post(key, &Post::json(WHAT, url, Signed::ByKey, &payload)) {
        Ok(response) => response,
        Err(Failure::Rejected(rejection)) if settings.external_account.is_some() => {
            return Err(not_bound(*rejection));
        }
        // Section 7.3.6: the key's account was closed.
        Err(Failure::Rejected(rejection)) if rejection.is("unauthorized") => {
            let line = rejection.problem.line();
            return Err(IssueError::Configuration(format!("{WHAT}: {line}")));
        }
        Err(failure) => return Err(failure.into_error(WHAT)),
    };
    let url = client.location(WHAT, &response)?;
    must_be_valid(&response, &url)?;
    Ok(url)
}

/// Section 7.3.1: the account that the key has at the CA, if it has one.
pub fn find(client: &Client, key: &AccountKey) -> Result<Option<String>, IssueError> {
    let directory = client.directory()?;
    let payload = json!({"onlyReturnExisting": true});
    let post = Post::json(WHAT, &directory.new_account, Signed::ByKey, &payload);
    let response = match client.post(key, &post) {
        Ok(response) => response,
        // Whatever it is, registering tells it better.
        Err(Failure::Rejected(rejection)) if !rejection.is_busy() => return Ok(None),
        Err(failure) => return Err(failure.into_error(WHAT)),
    };
    let url = client.location(WHAT, &response)?;
    must_be_valid(&response, &url)?;
    Ok(Some(url))
}

/// Section 7.3.2. The error is the cause in words.
pub fn update_contact(
    client: &Client,
    account: &Account,
    contact: &[String],
) -> Result<(), String> {
    let payload = json!({"contact": contact});
    let by = Signed::ByAccount(&account.url);
    match client.post(&account.key, &Post::json("account", &account.url, by, &payload)) {
        Ok(_) => Ok(()),
        Err(failure) => Err(failure.into_error("account").to_string()),
    }
}

/// Whether the CA still works for `account`; asked when it says `unauthorized`, which does not
/// tell the account from the order (section 7.3.6).
pub fn check(client: &Client, account: &Account) -> Result<(), IssueError> {
    match look(client, account) {
        Ok(response) => must_be_valid(&response, &account.url),
        Err(Failure::Rejected(rejection)) if rejection.is("unauthorized") => {
            let line = rejection.problem.line();
            Err(IssueError::Configuration(format!("account \"{}\": {line}", account.url)))
        }
        // Nothing learned: the first error stands.
        Err(_) => Ok(()),
    }
}

/// Whether the CA says that the account is of no more use with this key. A CA that does not show
/// accounts does not say so. An error if it does not answer.
pub fn is_lost(client: &Client, account: &Account) -> Result<bool, IssueError> {
    match look(client, account) {
        Ok(response) => {
            let account = parse::<AccountObject>("account", &response);
            Ok(account.is_ok_and(|a| a.status != "valid"))
        }
        Err(Failure::Rejected(r)) => Ok(r.is("accountDoesNotExist") || r.is_about_key()),
        Err(Failure::Other(error)) => Err(error),
    }
}

fn look(client: &Client, account: &Account) -> Result<Response, Failure> {
    let by = Signed::ByAccount(&account.url);
    client.post(&account.key, &Post::get("account", &account.url, by))
}

/// What the administrator has not agreed to is not sent.
fn application(settings: &AcmeSettings, key: &AccountKey, url: &str) -> Result<Value, IssueError> {
    let mut payload = json!({});
    if settings.accept_terms_of_service {
        payload["termsOfServiceAgreed"] = true.into();
    }
    if !settings.contact.is_empty() {
        payload["contact"] = settings.contact.clone().into();
    }
    if let Some(external) = &settings.external_account {
        let failed = |e| IssueError::Configuration(format!("external_account_key: {e}"));
        payload["externalAccountBinding"] = binding(external, key, url).map_err(failed)?;
    }
    Ok(payload)
}

fn not_bound(rejection: Rejection) -> IssueError {
    let kind = rejection.problem.kind.clone();
    let error = rejection.into_error(WHAT);
    match kind.as_str() {
        "unauthorized" | "malformed" | "externalAccountRequired" => IssueError::Configuration(
            format!("{error}: look whether external_account_key is right and not used up"),
        ),
        _ => error,
    }
}

fn must_be_valid(response: &Response, url: &str) -> Result<(), IssueError> {
    let account: AccountObject = parse("account", response)?;
    match account.status.as_str() {
        "valid" => Ok(()),
        status => Err(IssueError::Configuration(format!(
            "account \"{url}\" is {}: the CA wants another account key",
            crate::report::printable(status)
        ))),
    }
}
