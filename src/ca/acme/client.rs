//! The conversation with an ACME server: directory, nonces, signed requests (RFC 8555 sections
//! 6 and 7.1.1). It knows no accounts or orders, and believes nothing that it can check.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use super::jws::{AccountKey, Signed};
use super::problem::Rejection;
use crate::ca::IssueError;
use crate::ca::exchange::{self, parse};
use crate::clock::{Clock, Time};
use crate::http::url::target;
use crate::http::{Http, Method, Request, Response};
use crate::report::printable;

/// One ACME server.
pub struct Client {
    http: Arc<dyn Http>,
    pub clock: Arc<dyn Clock>,
    directory_url: String,
    timeout: Duration,
    directory: Mutex<Option<(Time, Arc<Directory>)>>,
    nonces: Mutex<Vec<String>>,
}

/// RFC 8555 section 7.1.1, as far as it is used.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Directory {
    new_nonce: String,
    pub new_account: String,
    pub new_order: String,
    /// RFC 9773.
    pub renewal_info: Option<String>,
    pub key_change: Option<String>,
    meta: Option<Meta>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Meta {
    terms_of_service: Option<String>,
    external_account_required: Option<bool>,
    /// Name and description (draft-ietf-acme-profiles section 3).
    profiles: Option<Value>,
}

/// A request in words, for errors, and what it carries.
pub struct Post<'a> {
    pub what: &'static str,
    pub url: &'a str,
    pub by: Signed<'a>,
    /// JSON; empty for a POST-as-GET.
    pub payload: Vec<u8>,
    pub accept: &'static str,
    pub limit: usize,
}

impl<'a> Post<'a> {
    pub fn json(what: &'static str, url: &'a str, by: Signed<'a>, payload: &Value) -> Post<'a> {
        let payload = payload.to_string().into_bytes();
        Post { what, url, by, payload, accept: JSON, limit: JSON_LIMIT }
    }

    /// POST-as-GET (section 6.3).
    pub fn get(what: &'static str, url: &'a str, by: Signed<'a>) -> Post<'a> {
        Post { what, url, by, payload: Vec::new(), accept: JSON, limit: JSON_LIMIT }
    }
}

/// Why a request brought no good answer.
pub enum Failure {
    /// The CA says no: some of these have a remedy.
    Rejected(Box<Rejection>),
    Other(IssueError),
}

pub const JSON: &str = "application/json";
pub const JSON_LIMIT: usize = 64 * 1024;

/// CAs move their endpoints rarely, but do.
const DIRECTORY_AGE: Duration = Duration::from_secs(3600);

/// Only for the directory, an unsigned GET: directories have moved.
const DIRECTORY_REDIRECTS: u32 = 3;

/// For what nobody waits for.
const PUBLIC_TIMEOUT: Duration = Duration::from_secs(10);

/// A nonce that is refused is normal (section 6.5); Pebble can be told to refuse every second.
const NONCE_ATTEMPTS: u32 = 16;

/// More than the threads that talk to one CA at a time; old ones are refused anyway.
const MOST_NONCES: usize = 8;

impl Client {
    pub fn new(
        http: Arc<dyn Http>,
        clock: Arc<dyn Clock>,
        directory_url: String,
        timeout: Duration,
    ) -> Client {
        let (directory, nonces) = (Mutex::default(), Mutex::default());
        Client { http, clock, directory_url, timeout, directory, nonces }
    }

    pub fn directory(&self) -> Result<Arc<Directory>, IssueError> {
        const WHAT: &str = "directory";
        let now = self.clock.now();
        if let Some((at, directory)) = &*lock(&self.directory) {
            if now < *at + DIRECTORY_AGE {
                return Ok(Arc::clone(directory));
            }
        }
        let mut request = self.request(Method::Get, &self.directory_url);
        request.redirects = DIRECTORY_REDIRECTS;
        request.headers.push(("Accept", JSON.into()));
        let response = self.send(WHAT, &request)?;
        if response.status != 200 {
            return Err(Rejection::read(&response, now).into_error(WHAT));
        }
        let directory: Directory = parse(WHAT, &response)?;
        let more = directory.renewal_info.iter();
        let needed = [&directory.new_nonce, &directory.new_account, &directory.new_order];
        for url in needed.into_iter().chain(more) {
            self.check_url(WHAT, url)?;
        }
        let directory = Arc::new(directory);
        *lock(&self.directory) = Some((now, Arc::clone(&directory)));
        Ok(directory)
    }

    /// An unsigned request, for what is public.
    pub fn get(&self, what: &'static str, url: &str) -> Result<Response, IssueError> {
        let mut request = self.request(Method::Get, url);
        request.headers.push(("Accept", JSON.into()));
        request.timeout = self.timeout.min(PUBLIC_TIMEOUT);
        self.send(what, &request)
    }

    /// After an error nothing is taken for granted: the next request starts afresh.
    pub fn forget(&self) {
        *lock(&self.directory) = None;
        lock(&self.nonces).clear();
    }

    /// Sends a signed request, again with a new nonce as often as the CA asks for that.
    pub fn post(&self, key: &AccountKey, post: &Post<'_>) -> Result<Response, Failure> {
        let mut attempts = NONCE_ATTEMPTS;
        loop {
            let nonce = self.nonce()?;
            let body = key
                .sign(post.by, &nonce, post.url, &post.payload)
                .map_err(|e| IssueError::Configuration(format!("signing failed: {e}")))?;
            let mut request = self.request(Method::Post, post.url);
            request.headers.push(("Content-Type", "application/jose+json".into()));
            request.headers.push(("Accept", post.accept.into()));
            request.body = body;
            request.limit = post.limit;
            let response = self.send(post.what, &request)?;
            if (200..300).contains(&response.status) {
                self.keep_nonce(&response);
                return Ok(response);
            }
            let rejection = Rejection::read(&response, self.clock.now());
            attempts -= 1;
            if rejection.is("badNonce") {
                // Its age says that those beside it are no good either; section 6.5 demands to
                // go on with the nonce of the refusal.
                lock(&self.nonces).clear();
            }
            self.keep_nonce(&response);
            if !rejection.is("badNonce") || attempts == 0 {
                return Err(Failure::Rejected(Box::new(rejection)));
            }
        }
    }

    /// Whether a URL that the CA gave may be asked: a CA reached by TLS has no business without.
    pub fn check_url(&self, what: &'static str, url: &str) -> Result<(), IssueError> {
        let secure = target(&self.directory_url).is_some_and(|t| t.https);
        match target(url) {
            Some(t) if t.https || !secure => Ok(()),
            _ => {
                let cause = format!("the CA names an unusable URL \"{}\"", printable(url));
                Err(IssueError::Protocol { what, cause })
            }
        }
    }

    /// The URL of what a request made (section 7.3 and 7.4: Location).
    pub fn location(&self, what: &'static str, response: &Response) -> Result<String, IssueError> {
        let Some(url) = response.header("location") else {
            return Err(IssueError::Protocol { what, cause: "no Location in the answer".into() });
        };
        self.check_url(what, url)?;
        Ok(url.to_owned())
    }

    pub fn retry_after(&self, response: &Response) -> Option<Duration> {
        response.retry_after(self.clock.now())
    }

    fn nonce(&self) -> Result<String, IssueError> {
        const WHAT: &str = "newNonce";
        if let Some(nonce) = lock(&self.nonces).pop() {
            return Ok(nonce);
        }
        let directory = self.directory()?;
        let response = self.send(WHAT, &self.request(Method::Head, &directory.new_nonce))?;
        if !(200..300).contains(&response.status) {
            return Err(Rejection::read(&response, self.clock.now()).into_error(WHAT));
        }
        nonce_of(&response)
            .map(str::to_owned)
            .ok_or(IssueError::Protocol { what: WHAT, cause: "no nonce in the answer".into() })
    }

    fn keep_nonce(&self, response: &Response) {
        if let Some(nonce) = nonce_of(response) {
            let mut nonces = lock(&self.nonces);
            if nonces.len() == MOST_NONCES {
                nonces.remove(0);
            }
            nonces.push(nonce.to_owned());
        }
    }

    fn request(&self, method: Method, url: &str) -> Request {
        Request {
            method,
            url: url.to_owned(),
            // Section 6.1 asks for a language; logs are in English.
            headers: vec![("Accept-Language", "en".into())],
            body: Vec::new(),
            redirects: 0,
            limit: JSON_LIMIT,
            timeout: self.timeout,
        }
    }

    fn send(&self, what: &'static str, request: &Request) -> Result<Response, IssueError> {
        exchange::send(self.http.as_ref(), what, request)
    }
}

impl Directory {
    /// What the administrator has to agree to first.
    pub fn terms_of_service(&self) -> Option<&str> {
        let terms = self.meta.as_ref()?.terms_of_service.as_deref()?;
        Some(terms).filter(|t| !t.is_empty())
    }

    /// The names of the profiles that may be asked for.
    pub fn profiles(&self) -> impl Iterator<Item = &str> {
        let profiles = self.meta.as_ref().and_then(|m| m.profiles.as_ref()?.as_object());
        profiles.into_iter().flat_map(|p| p.keys()).map(String::as_str)
    }

    pub fn external_account_required(&self) -> bool {
        self.meta.as_ref().and_then(|m| m.external_account_required).unwrap_or(false)
    }
}

impl Failure {
    pub fn into_error(self, what: &'static str) -> IssueError {
        match self {
            Failure::Rejected(rejection) => rejection.into_error(what),
            Failure::Other(error) => error,
        }
    }
}

impl From<IssueError> for Failure {
    fn from(error: IssueError) -> Failure {
        Failure::Other(error)
    }
}

/// Whether `text` is base64url and of a length that makes sense.
pub fn is_base64url(text: &str, longest: usize) -> bool {
    (1..=longest).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
}

/// For a lock that guards nothing which a panic could leave half-done.
pub fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Section 6.5.1: a value that is not base64url is to be ignored.
fn nonce_of(response: &Response) -> Option<&str> {
    response.header("replay-nonce").filter(|n| is_base64url(n, 512))
}
