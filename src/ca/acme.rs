//! ACME (RFC 8555), a client of it: `protocol acme`.
//!
//! Nothing here waits: [`AcmeCa`] does what can be done now and says when to come back. What it
//! must not forget lies in the order that the caller stores, and in the account store. Everything
//! that the CA says is checked before it is used.

mod account;
mod authorization;
mod binding;
mod chain;
mod client;
mod dns_01;
mod jws;
mod link;
mod order;
mod problem;
mod registration;
mod renewal;
mod rollover;
mod stored;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use account::{Account, Accounts};
use authorization::Published;
pub use dns_01::DnsHook;
pub use stored::{AccountStore, Change, StoredAccount};

use client::{Client, Failure, JSON, JSON_LIMIT, Post};
use jws::Signed;
use openssl::x509::X509Ref;

use crate::bundle::Bundle;
use crate::ca::renewal::RenewalInfo;
use crate::ca::{Ca, Challenges, IssueError, Issued, Order, Progress};
use crate::clock::Clock;
use crate::http::url::host_of;
use crate::http::{Http, Response};
use crate::settings::AcmeSettings;

/// One ACME CA of the configuration.
pub struct AcmeCa {
    settings: AcmeSettings,
    host: String,
    client: Client,
    accounts: Accounts,
    challenges: Arc<dyn Challenges>,
    /// What this process has published, by token.
    published: Mutex<BTreeMap<String, Published>>,
}

impl AcmeCa {
    pub fn new(
        settings: AcmeSettings,
        http: Arc<dyn Http>,
        clock: Arc<dyn Clock>,
        accounts: Arc<dyn AccountStore>,
        challenges: Arc<dyn Challenges>,
    ) -> AcmeCa {
        let host = host_of(&settings.url);
        AcmeCa {
            host,
            client: Client::new(http, clock, settings.url.clone(), settings.timeout),
            accounts: Accounts::new(accounts),
            challenges,
            published: Mutex::default(),
            settings,
        }
    }

    /// Sends a request of the account. If the CA has lost the account, a new one is made first.
    fn post(&self, what: &'static str, url: &str, payload: Vec<u8>) -> Result<Response, Failure> {
        self.post_for(what, url, payload, JSON, JSON_LIMIT)
    }

    /// POST-as-GET (section 6.3).
    fn get(&self, what: &'static str, url: &str) -> Result<Response, Failure> {
        self.post(what, url, Vec::new())
    }

    fn post_for(
        &self,
        what: &'static str,
        url: &str,
        payload: Vec<u8>,
        accept: &'static str,
        limit: usize,
    ) -> Result<Response, Failure> {
        let account = self.account()?;
        let by = Signed::ByAccount(&account.url);
        let post = Post { what, url, by, payload, accept, limit };
        match self.client.post(&account.key, &post) {
            Err(Failure::Rejected(rejection)) if rejection.is("accountDoesNotExist") => {
                self.accounts.drop_url(&self.settings, &account)?;
                let account = self.account()?;
                let by = Signed::ByAccount(&account.url);
                self.client.post(&account.key, &Post { by, ..post })
            }
            // Another process may have rolled the key over since ours read it.
            Err(Failure::Rejected(rejection))
                if rejection.is_about_key()
                    && self.accounts.has_newer(&self.settings, &account) =>
            {
                let account = self.account()?;
                let by = Signed::ByAccount(&account.url);
                self.client.post(&account.key, &Post { by, ..post })
            }
            Err(Failure::Rejected(rejection)) if rejection.is("unauthorized") => {
                registration::check(&self.client, &account)?;
                Err(Failure::Rejected(rejection))
            }
            result => result,
        }
    }

    /// With what is to be said about the account.
    fn with_remarks(&self, issued: Issued) -> Issued {
        let mut remarks = self.accounts.take_remarks();
        remarks.extend(issued.remark);
        let remark = remarks.join("; ");
        Issued { remark: (!remark.is_empty()).then_some(remark), ..issued }
    }

    fn account(&self) -> Result<Arc<Account>, IssueError> {
        self.accounts.get(&self.settings, &self.client)
    }
}

impl Ca for AcmeCa {
    fn name(&self) -> &str {
        &self.settings.ca
    }

    fn host(&self) -> &str {
        &self.host
    }

    fn step(&self, order: &mut Order, current: Option<&Bundle>) -> Result<Progress, IssueError> {
        let result = order::step(self, order, current);
        if result.is_err() {
            // The next attempt reads the directory and the stored account again: what was wrong
            // may have been mended there.
            self.client.forget();
            self.accounts.forget();
        }
        result
    }

    fn offers_renewal_info(&self) -> bool {
        true
    }

    fn renewal_info(&self, certificate: &X509Ref) -> Result<Option<RenewalInfo>, IssueError> {
        renewal::ask(&self.client, certificate)
    }

    fn abandon(&self, order: &Order) {
        order::abandon(self, order);
    }
}

#[cfg(test)]
mod tests;
