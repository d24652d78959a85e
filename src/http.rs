//! The HTTP port: one request, one bounded answer. The network adapter is in `http/network.rs`.

pub mod haste;
pub mod network;
pub mod url;

use std::io::Write;
use std::time::Duration;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;

use crate::clock::Time;

/// A request. The body is empty for GET.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: Method,
    pub url: String,
    pub headers: Vec<(&'static str, String)>,
    pub body: Vec<u8>,
    /// How many redirects are followed; 0 where the protocol allows none.
    pub redirects: u32,
    /// The longest body that is accepted, in bytes.
    pub limit: usize,
    /// For the whole exchange: name lookup, connect, TLS, request and answer.
    pub timeout: Duration,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Method {
    Get,
    Head,
    Post,
}

/// An answer, whatever its status.
#[derive(Clone, Debug, Default)]
pub struct Response {
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Response {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// Retry-After (RFC 9110, 10.2.3): seconds or a date.
    pub fn retry_after(&self, now: Time) -> Option<Duration> {
        let value = self.header("retry-after")?.trim();
        if let Ok(seconds) = value.parse::<u32>() {
            return Some(Duration::from_secs(seconds.into()));
        }
        // An IMF-fixdate is an RFC 2822 date; nobody sends the two obsolete forms.
        let date = OffsetDateTime::parse(value, &Rfc2822).ok()?;
        Some(Time::from_secs(date.unix_timestamp()).since(now))
    }
}

/// Why there is no answer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum HttpError {
    #[error("timed out")]
    Timeout,
    #[error("body is larger than {0} bytes")]
    TooLarge(usize),
    #[error("\"{0}\" is not a usable URL")]
    Url(String),
    /// The peer's certificate was not accepted, or TLS failed otherwise.
    #[error("TLS failed: {0}")]
    Tls(String),
    #[error("{0}")]
    Io(String),
    /// It would take for ever.
    #[error("slower than {0} bytes a second")]
    TooSlow(u64),
    /// Ours: what came could not be kept.
    #[error("can't write the body: {0}")]
    Write(String),
}

/// Sends requests. Shared by threads; blocks until the answer is whole or the timeout is over.
pub trait Http: Send + Sync {
    fn send(&self, request: &Request) -> Result<Response, HttpError>;

    /// As [`Http::send`], for what is too large for memory: the body of an answer with status 200
    /// is written to `body` as it comes, and that of the response is empty; other bodies are
    /// dropped. After an error `body` may have got a part. A `timeout` of minutes is in order: a
    /// server that can't be reached, or stalls, is given up sooner.
    fn download(&self, request: &Request, body: &mut dyn Write) -> Result<Response, HttpError> {
        // For those who have it in memory anyway.
        let mut response = self.send(request)?;
        let bytes = std::mem::take(&mut response.body);
        if response.status == 200 {
            body.write_all(&bytes).map_err(|e| HttpError::Write(e.to_string()))?;
        }
        Ok(response)
    }
}
