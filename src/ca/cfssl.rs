//! The JSON API of cfssl: `protocol cfssl`.
//!
//! Two exchanges: the CSR goes to `authsign` (or `sign`, of a profile without authentication), and
//! the leaf comes back alone; the certificate that issued it is told by `info`.

use std::sync::Arc;

use base64::prelude::{BASE64_STANDARD, Engine};
use openssl::error::ErrorStack;
use serde_json::{Value, json};

use super::exchange::{hmac, problem, send};
use super::{Ca, IssueError, Order, Progress};
use crate::bundle::Bundle;
use crate::clock::Clock;
use crate::http::url::host_of;
use crate::http::{Http, Method, Request, Response};
use crate::settings::CfsslSettings;

/// One server and profile.
pub struct CfsslCa {
    settings: CfsslSettings,
    host: String,
    http: Arc<dyn Http>,
    clock: Arc<dyn Clock>,
}

impl CfsslCa {
    pub fn new(settings: CfsslSettings, http: Arc<dyn Http>, clock: Arc<dyn Clock>) -> CfsslCa {
        let host = host_of(&settings.url);
        CfsslCa { settings, host, http, clock }
    }

    /// The leaf, in PEM.
    fn sign(&self, order: &Order) -> Result<String, IssueError> {
        let mut wanted = json!({ "certificate_request": order.csr_pem()?, "hosts": order.names });
        if let Some(profile) = &self.settings.profile {
            wanted["profile"] = json!(profile);
        }
        let (what, body) = match &self.settings.auth_key {
            None => ("sign", wanted),
            Some(key) => {
                let wanted = wanted.to_string();
                let token = BASE64_STANDARD.encode(hmac(key, wanted.as_bytes()).map_err(ours)?);
                ("authsign", json!({ "token": token, "request": BASE64_STANDARD.encode(wanted) }))
            }
        };
        self.ask(what, &body)
    }

    /// The issuer, in PEM.
    fn issuer(&self) -> Result<String, IssueError> {
        let profile = self.settings.profile.as_deref().unwrap_or_default();
        self.ask("info", &json!({ "label": "", "profile": profile }))
    }

    /// `result.certificate` of an answer.
    fn ask(&self, what: &'static str, body: &Value) -> Result<String, IssueError> {
        let request = Request {
            method: Method::Post,
            url: format!("{}/api/v1/cfssl/{what}", self.settings.url.trim_end_matches('/')),
            headers: vec![("content-type", "application/json".to_owned())],
            body: body.to_string().into_bytes(),
            redirects: 0,
            limit: LIMIT,
            timeout: self.settings.timeout,
        };
        let response = send(self.http.as_ref(), what, &request)?;
        let answer: Value = serde_json::from_slice(&response.body).unwrap_or_default();
        if response.status == 200 && !answer["success"].is_boolean() {
            let cause = "the answer is none of cfssl's, see \"url\"".into();
            return Err(IssueError::Protocol { what, cause });
        }
        if response.status != 200 || answer["success"] != true {
            return Err(self.refusal(what, &response, &answer));
        }
        match answer["result"]["certificate"].as_str() {
            Some(pem) => Ok(pem.to_owned()),
            None => {
                Err(IssueError::Protocol { what, cause: "no certificate in the answer".into() })
            }
        }
    }

    fn refusal(&self, what: &'static str, response: &Response, answer: &Value) -> IssueError {
        let errors = answer["errors"].as_array().into_iter().flatten();
        let texts: Vec<&str> = errors.filter_map(|e| e["message"].as_str()).collect();
        let text = texts.join("; ");
        let problem = problem(response.status, &text);
        let retry_after = response.retry_after(self.clock.now());
        match response.status {
            429 | 500.. => IssueError::Busy { what, problem, retry_after },
            401 | 403 => IssueError::Configuration(format!("{what}: {problem}")),
            404 => IssueError::Configuration(format!("{what}: {problem}, see \"url\"")),
            _ if text.contains("invalid token") || text.contains("authentication") => {
                IssueError::Configuration(format!("{what}: {problem}, see \"auth_key_file\""))
            }
            _ => {
                let text = text.to_ascii_lowercase();
                let about_name = OF_NAMES.iter().any(|words| text.contains(words));
                IssueError::Refused { what, problem, about_name, retry_after }
            }
        }
    }
}

impl Ca for CfsslCa {
    fn name(&self) -> &str {
        &self.settings.ca
    }

    fn host(&self) -> &str {
        &self.host
    }

    fn step(&self, order: &mut Order, _: Option<&Bundle>) -> Result<Progress, IssueError> {
        let Some(leaf) = order.state["certificate"].as_str() else {
            order.state = json!({ "certificate": self.sign(order)? });
            order.accepted = true;
            // What was issued is stored before anything else is asked.
            return Ok(Progress::Wait(std::time::Duration::ZERO));
        };
        let chain = format!("{}\n{}\n", leaf.trim(), self.issuer()?.trim());
        Ok(Progress::Issued(chain.into_bytes().into()))
    }
}

fn ours(error: ErrorStack) -> IssueError {
    IssueError::Configuration(format!("the request can't be made: {error}"))
}

/// What the server says of names that the profile leaves out.
const OF_NAMES: [&str; 2] = ["does not match policy whitelist", "policy violation"];
const LIMIT: usize = 256 * 1024;

#[cfg(test)]
mod tests;
