//! The PKI secrets engine of OpenBao and Vault: `protocol vault`.
//!
//! One exchange: the CSR goes to `sign` (or `sign-verbatim`) of a role, the chain comes back. There
//! is no order that could be pending; an answer that was lost costs one more certificate.

use std::path::PathBuf;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Value, json};

use super::csr;
use super::exchange::{parse, problem, send};
use super::{Ca, IssueError, Order, Progress};
use crate::bundle::Bundle;
use crate::clock::Clock;
use crate::http::url::host_of;
use crate::http::{Http, Method, Request, Response};
use crate::names;
use crate::settings::{Secret, VaultSettings};

/// One mount and role of a server.
pub struct VaultCa {
    settings: VaultSettings,
    host: String,
    http: Arc<dyn Http>,
    clock: Arc<dyn Clock>,
}

impl VaultCa {
    pub fn new(settings: VaultSettings, http: Arc<dyn Http>, clock: Arc<dyn Clock>) -> VaultCa {
        let host = host_of(&settings.url);
        VaultCa { settings, host, http, clock }
    }

    fn request(&self, order: &Order) -> Result<Request, IssueError> {
        let token = read_token(&self.settings.token_file)?;
        let token = std::str::from_utf8(token.bytes()).unwrap_or_default().to_owned();
        let mut headers = vec![
            ("content-type", "application/json".to_owned()),
            // The server's own clients send it: an agent in between may insist.
            ("x-vault-request", "true".to_owned()),
            ("x-vault-token", token),
        ];
        if let Some(namespace) = &self.settings.namespace {
            headers.push(("x-vault-namespace", namespace.clone()));
        }
        let (addresses, hosts): (Vec<&str>, Vec<&str>) =
            order.names.iter().map(String::as_str).partition(|name| names::ip(name).is_some());
        // One is required, and the server makes a dNSName of it, also of an address.
        let common_name = csr::common_name(&order.names);
        let mut body = json!({
            "csr": order.csr_pem()?,
            "common_name": common_name.or(order.names.first().map(String::as_str)),
            "exclude_cn_from_sans": common_name.is_none(),
            "alt_names": hosts.join(","),
            "ip_sans": addresses.join(","),
            "format": "pem",
        });
        // `sign` drops the TLS feature of a request. `sign-verbatim` keeps it, and instead of what
        // the role says about usage it takes this.
        let verb = match csr::wants_staple(&order.csr) {
            true => {
                body["key_usage"] = json!(["DigitalSignature", "KeyEncipherment", "KeyAgreement"]);
                body["ext_key_usage"] = json!(["ServerAuth"]);
                "sign-verbatim"
            }
            false => "sign",
        };
        let base = self.settings.url.trim_end_matches('/');
        Ok(Request {
            method: Method::Post,
            url: format!("{base}/{verb}/{}", self.settings.role),
            headers,
            body: body.to_string().into_bytes(),
            redirects: 0,
            limit: LIMIT,
            timeout: self.settings.timeout,
        })
    }

    fn refusal(&self, response: &Response, order: &Order) -> IssueError {
        let problem = problem(response.status, &errors(response));
        let retry_after = response.retry_after(self.clock.now());
        match response.status {
            // Sealed, in standby, or too many requests.
            412 | 429 | 500.. => IssueError::Busy { what: WHAT, problem, retry_after },
            401 | 403 => IssueError::Configuration(format!(
                "{WHAT}: {problem}, see \"token_file\" \"{}\" and its policy",
                self.settings.token_file.display()
            )),
            404 => IssueError::Configuration(format!("{WHAT}: {problem}, see \"url\"")),
            _ if problem.contains("unknown role") => {
                IssueError::Configuration(format!("{WHAT}: {problem}, see \"role\""))
            }
            _ => IssueError::Refused {
                what: WHAT,
                about_name: ["not allowed by this role", "not allowed in this role"]
                    .iter()
                    .any(|words| problem.contains(words)),
                problem: format!("{problem}{}", hint(&problem, order)),
                retry_after,
            },
        }
    }
}

impl Ca for VaultCa {
    fn name(&self) -> &str {
        &self.settings.ca
    }

    fn host(&self) -> &str {
        &self.host
    }

    fn step(&self, order: &mut Order, _: Option<&Bundle>) -> Result<Progress, IssueError> {
        let request = self.request(order)?;
        let response = send(self.http.as_ref(), WHAT, &request)?;
        if response.status != 200 {
            return Err(self.refusal(&response, order));
        }
        let answer: Answer = parse(WHAT, &response)?;
        Ok(Progress::Issued(answer.data.chain().into()))
    }
}

#[derive(Deserialize)]
struct Answer {
    data: Data,
}

#[derive(Deserialize)]
struct Data {
    certificate: String,
    #[serde(default)]
    issuing_ca: String,
    #[serde(default)]
    ca_chain: Vec<String>,
}

impl Data {
    /// Below an imported issuer `ca_chain` may be empty.
    fn chain(self) -> Vec<u8> {
        let above = if self.ca_chain.is_empty() { vec![self.issuing_ca] } else { self.ca_chain };
        let all = [vec![self.certificate], above].concat();
        all.iter().flat_map(|pem| format!("{}\n", pem.trim()).into_bytes()).collect()
    }
}

/// Read anew for each request: tokens are renewed by programs that write this file.
fn read_token(file: &PathBuf) -> Result<Secret, IssueError> {
    let failed = |cause: String| {
        IssueError::Configuration(format!("token_file \"{}\": {cause}", file.display()))
    };
    let bytes = std::fs::read(file).map(Secret::new).map_err(|e| failed(e.to_string()))?;
    let token = bytes.bytes().trim_ascii();
    match token {
        [] => Err(failed("it is empty".into())),
        // It becomes a header.
        token if token.len() <= LONGEST_TOKEN && token.iter().all(u8::is_ascii_graphic) => {
            Ok(Secret::new(token.to_vec()))
        }
        _ => Err(failed("it is not one word".into())),
    }
}

/// A role may issue no wildcards.
fn hint(problem: &str, order: &Order) -> &'static str {
    let mut wildcards = order.names.iter().filter(|name| names::wildcard(name).is_some());
    if wildcards.any(|name| problem.contains(name)) { ", see \"wildcards\"" } else { "" }
}

/// `{"errors": [...]}`, all of them.
fn errors(response: &Response) -> String {
    let body: Value = serde_json::from_slice(&response.body).unwrap_or_default();
    let errors = body["errors"].as_array().into_iter().flatten().filter_map(Value::as_str);
    errors.collect::<Vec<_>>().join("; ")
}

const WHAT: &str = "sign";
const LIMIT: usize = 256 * 1024;
const LONGEST_TOKEN: usize = 8192;

#[cfg(test)]
mod tests;
