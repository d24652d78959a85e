//! The HTTP port over the network: ureq, with OpenSSL as its TLS.
//!
//! Everything that ureq would take from its surroundings is set here: provider and roots (either
//! default panics at the first https request when only `native-tls-no-default` is built in), and
//! no proxy from the environment. There are no cookies, no decompression, no retries.

use std::io::{Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use ureq::config::Config;
use ureq::http::{self, HeaderMap};
use ureq::{Agent, AsSendBody, Body};

use super::{Http, HttpError, Method, Request, Response, haste, url};
use crate::clock::Stopwatch;
use crate::report::printable;
use crate::settings::WaySettings;

mod proxy;
mod reach;
mod tls;

use proxy::ProxyConnector;
use reach::Reachable;

/// Sends requests over TCP and TLS. Connections are kept for a while and used again.
pub struct NetworkHttp {
    config: Config,
    /// How long a server of a download may say nothing: before its answer, and between its parts.
    stall: Duration,
    agent: Mutex<Agent>,
}

const USER_AGENT: &str = concat!("cert-autofetch/", env!("CARGO_PKG_VERSION"));

/// Status line and headers together.
const HEADER_LIMIT: usize = 32 * 1024;

const STALL: Duration = Duration::from_secs(10);

/// Further headers are left out.
const HEADER_COUNT: usize = 64;

impl NetworkHttp {
    /// Nobody but the roots of `way` is trusted; without them the system's are: OpenSSL's default
    /// paths and what openssl-probe finds.
    pub fn new(way: &WaySettings) -> Result<NetworkHttp, String> {
        let proxy = way.proxy.as_ref().map(proxy::parse).transpose()?;
        let config = Agent::config_builder()
            .tls_config(tls::config(way)?)
            .proxy(proxy)
            .user_agent(USER_AGENT)
            .http_status_as_error(false)
            .max_response_header_size(HEADER_LIMIT)
            .build();
        Ok(NetworkHttp { agent: Mutex::new(new_agent(&config)), config, stall: STALL })
    }
}

fn new_agent(config: &Config) -> Agent {
    let connector = tls::OneContext(ProxyConnector::new());
    Agent::with_parts(config.clone(), connector, Reachable::default())
}

impl Http for NetworkHttp {
    fn send(&self, request: &Request) -> Result<Response, HttpError> {
        self.run(request, None, None)
    }

    fn download(&self, request: &Request, body: &mut dyn Write) -> Result<Response, HttpError> {
        self.run(request, Some(self.stall), Some(body))
    }
}

/// Where the body of an answer with status 200 goes, if not into memory.
type Sink<'a> = Option<&'a mut dyn Write>;

/// What of an exchange is not in its request.
struct Way<'a> {
    https: bool,
    stall: Option<Duration>,
    sink: Sink<'a>,
}

impl NetworkHttp {
    fn run(
        &self,
        request: &Request,
        stall: Option<Duration>,
        sink: Sink<'_>,
    ) -> Result<Response, HttpError> {
        let Some(target) = url::target(&request.url) else {
            return Err(HttpError::Url(printable(&request.url)));
        };
        let agent = self.agent.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let way = Way { https: target.https, stall, sink };
        // ureq panics when no thread can be started for a name lookup, for one. What a panic may
        // have left half-done is inside the agent, which is thrown away.
        catch_unwind(AssertUnwindSafe(|| match request.method {
            Method::Get => exchange(&agent, request, http::Method::GET, (), way),
            Method::Head => exchange(&agent, request, http::Method::HEAD, (), way),
            Method::Post => exchange(&agent, request, http::Method::POST, &request.body, way),
        }))
        .unwrap_or_else(|_| {
            *self.agent.lock().unwrap_or_else(PoisonError::into_inner) = new_agent(&self.config);
            Err(HttpError::Io("the HTTP client failed".into()))
        })
        .and_then(|answer| proxy::refusal(&self.config, target.https, answer))
        .map_err(|error| proxy::name_it(&self.config, error))
    }
}

fn exchange(
    agent: &Agent,
    request: &Request,
    method: http::Method,
    body: impl AsSendBody,
    way: Way<'_>,
) -> Result<Response, HttpError> {
    let mut builder = http::Request::builder().method(method).uri(&request.url);
    for (name, value) in &request.headers {
        builder = builder.header(*name, value);
    }
    let ready = builder.body(body).map_err(|e| HttpError::Url(printable(&e.to_string())))?;
    let ready = agent
        .configure_request(ready)
        .timeout_global(Some(haste::limited(request.timeout)))
        .timeout_resolve(way.stall)
        .timeout_connect(way.stall)
        .timeout_recv_response(way.stall)
        .timeout_per_read(way.stall)
        .max_redirects(request.redirects)
        // A redirect must not take a request off TLS.
        .https_only(way.https)
        .build();
    let mut answer = agent.run(ready).map_err(error)?;
    let headers = headers(answer.headers());
    let status = answer.status().as_u16();
    let body = match way.sink {
        None => read(answer.body_mut(), request.limit)?,
        Some(sink) if status == 200 => {
            copy(answer.body_mut(), request.limit, sink)?;
            Vec::new()
        }
        Some(_) => Vec::new(),
    };
    Ok(Response { status, headers, body })
}

/// Writes the body to `sink`, and of one that is too long as much as is allowed.
fn copy(body: &mut Body, limit: usize, sink: &mut dyn Write) -> Result<(), HttpError> {
    let most = u64::try_from(limit).unwrap_or(u64::MAX);
    if body.content_length().is_some_and(|length| length > most) {
        return Err(HttpError::TooLarge(limit));
    }
    let (mut reader, mut left, mut part) = (body.as_reader(), limit, vec![0; PART]);
    let watch = Stopwatch::start();
    loop {
        let count = reader.read(&mut part).map_err(|e| error(e.into()))?;
        if count == 0 {
            return Ok(());
        }
        left = left.checked_sub(count).ok_or(HttpError::TooLarge(limit))?;
        sink.write_all(&part[..count]).map_err(|e| HttpError::Write(printable(&e.to_string())))?;
        if is_too_slow(limit - left, watch.elapsed()) {
            return Err(HttpError::TooSlow(SLOWEST));
        }
    }
}

const PART: usize = 64 * 1024;

/// Who drips a byte now and then would have a thread for as long as the request may take.
fn is_too_slow(bytes: usize, time: Duration) -> bool {
    time > GRACE && (bytes as f64) < time.as_secs_f64() * SLOWEST as f64
}

const GRACE: Duration = Duration::from_secs(10);
/// Bytes a second.
const SLOWEST: u64 = 4096;

/// Reads no more than one byte over the limit.
fn read(body: &mut Body, limit: usize) -> Result<Vec<u8>, HttpError> {
    let mut bytes = Vec::new();
    let most = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    body.as_reader().take(most).read_to_end(&mut bytes).map_err(|e| error(e.into()))?;
    if bytes.len() > limit { Err(HttpError::TooLarge(limit)) } else { Ok(bytes) }
}

/// Values that are not visible ASCII mean nothing to us and are left out.
fn headers(map: &HeaderMap) -> Vec<(String, String)> {
    map.iter()
        .filter_map(|(name, value)| {
            Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned()))
        })
        .take(HEADER_COUNT)
        .collect()
}

fn error(e: ureq::Error) -> HttpError {
    use ureq::Error;
    match e {
        Error::Timeout(_) => HttpError::Timeout,
        Error::Io(e) if e.kind() == std::io::ErrorKind::TimedOut => HttpError::Timeout,
        Error::Io(e) => HttpError::Io(e.to_string()),
        Error::BadUri(text) | Error::RequireHttpsOnly(text) => HttpError::Url(printable(&text)),
        Error::LargeResponseHeader(_, limit) => HttpError::TooLarge(limit),
        Error::NativeTls(e) => HttpError::Tls(printable(&e.to_string())),
        Error::Tls(_) | Error::Pem(_) | Error::Der(_) | Error::TlsRequired => {
            HttpError::Tls(e.to_string())
        }
        Error::ConnectProxyFailed(cause) => HttpError::Io(proxy::cause(&cause)),
        other => HttpError::Io(printable(&other.to_string())),
    }
}

#[cfg(test)]
mod tests;
