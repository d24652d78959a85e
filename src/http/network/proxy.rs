//! Requests by a proxy of the configuration: https through a tunnel (CONNECT, RFC 9110, 9.3.6),
//! which is ureq's own, and http by the absolute form (RFC 9112, 3.2.2). ureq knows only the
//! tunnel, and proxies refuse one to port 80, where OCSP responders and CRLs are.

use std::fmt;

use base64::prelude::{BASE64_STANDARD, Engine};
use ureq::config::Config;
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, DefaultConnector, NextTimeout, Transport,
};
use ureq::{Agent, Error, Proxy};

use super::tls::of_agent;
use crate::http::{HttpError, Response};
use crate::report::printable;
use crate::settings::{ProxySettings, Secret};

pub(super) fn parse(settings: &ProxySettings) -> Result<Proxy, String> {
    let url = std::str::from_utf8(settings.url.bytes()).map_err(|e| e.to_string())?;
    Proxy::new(url).map_err(|e| e.to_string())
}

/// An answer that is the proxy's and not the server's. Without TLS one looks like the other.
pub(super) fn refusal(
    config: &Config,
    https: bool,
    answer: Response,
) -> Result<Response, HttpError> {
    match answer.status {
        407 if config.proxy().is_some() && !https => Err(HttpError::Io(REFUSED.into())),
        _ => Ok(answer),
    }
}

/// Connecting failed at the proxy, or it lost the connection: the administrator looks there first.
pub(super) fn name_it(config: &Config, error: HttpError) -> HttpError {
    match (config.proxy(), error) {
        (Some(proxy), HttpError::Io(cause)) => {
            HttpError::Io(format!("{cause}, proxy={}:{}", proxy.host(), proxy.port()))
        }
        (_, other) => other,
    }
}

/// Why there is no tunnel; `said` by ureq.
pub(super) fn cause(said: &str) -> String {
    match said.contains(" 407/") {
        true => REFUSED.to_owned(),
        false => format!("no tunnel: {}", printable(said)),
    }
}

const REFUSED: &str = "the proxy asks for another user name and password (407)";

/// Connects as ureq does, but for http by a proxy.
#[derive(Debug)]
pub(super) struct ProxyConnector {
    usual: DefaultConnector,
    /// For the connection to the proxy itself.
    direct: Config,
}

impl ProxyConnector {
    pub(super) fn new() -> ProxyConnector {
        let direct = Agent::config_builder().proxy(None).build();
        ProxyConnector { usual: DefaultConnector::new(), direct }
    }
}

impl Connector<()> for ProxyConnector {
    type Out = Box<dyn Transport>;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        chained: Option<()>,
    ) -> Result<Option<Self::Out>, Error> {
        let (proxy, false) = (details.config.proxy(), details.needs_tls()) else {
            return self.usual.connect(details, chained);
        };
        let (Some(proxy), Some(authority)) = (proxy, details.uri.authority()) else {
            return self.usual.connect(details, chained);
        };
        let addrs = details.resolver.resolve(proxy.uri(), &self.direct, details.timeout)?;
        let (uri, config) = (proxy.uri(), &self.direct);
        let to_proxy = ConnectionDetails { uri, addrs, config, ..of_agent(details) };
        let Some(inner) = self.usual.connect(&to_proxy, chained)? else { return Ok(None) };
        let form = AbsoluteForm {
            inner,
            target: format!("http://{authority}"),
            credentials: credentials(proxy),
            head_is_sent: false,
        };
        Ok(Some(form.boxed()))
    }
}

/// The header (RFC 9110, 11.7.2; RFC 7617).
fn credentials(proxy: &Proxy) -> Option<Secret> {
    let (user, password) = (proxy.username()?, proxy.password().unwrap_or_default());
    let plain = Secret::new(format!("{user}:{password}").into_bytes());
    let encoded = Secret::new(BASE64_STANDARD.encode(plain.bytes()).into_bytes());
    let line = [b"Proxy-Authorization: Basic ", encoded.bytes(), b"\r\n"].concat();
    Some(Secret::new(line))
}

/// A connection to a proxy, for one request.
struct AbsoluteForm {
    inner: Box<dyn Transport>,
    /// What goes before the path.
    target: String,
    credentials: Option<Secret>,
    head_is_sent: bool,
}

impl AbsoluteForm {
    /// The request line is whole in what is written first: the buffer is longer than any URL.
    fn head(&self, written: &[u8]) -> Option<Secret> {
        let end = written.windows(2).position(|w| w == b"\r\n")? + 2;
        let space = written[..end].iter().position(|b| *b == b' ')? + 1;
        let credentials = self.credentials.as_ref().map_or(&[][..], Secret::bytes);
        let parts = [
            &written[..space],
            self.target.as_bytes(),
            &written[space..end],
            credentials,
            &written[end..],
        ];
        Some(Secret::new(parts.concat()))
    }
}

impl Transport for AbsoluteForm {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.inner.buffers()
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        if self.head_is_sent {
            return self.inner.transmit_output(amount, timeout);
        }
        let written = Secret::new(self.inner.buffers().output()[..amount].to_vec());
        let no_head = || Error::Io(std::io::Error::other("the request has no first line"));
        let head = self.head(written.bytes()).ok_or_else(no_head)?;
        self.head_is_sent = true;
        let mut rest = head.bytes();
        while !rest.is_empty() {
            let room = self.inner.buffers().output();
            let (part, after) = rest.split_at(rest.len().min(room.len()));
            room[..part.len()].copy_from_slice(part);
            self.inner.transmit_output(part.len(), timeout)?;
            rest = after;
        }
        Ok(())
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        self.inner.await_input(timeout)
    }

    /// Not for a second request: whose head would be sent as it is.
    fn is_open(&mut self) -> bool {
        false
    }
}

impl fmt::Debug for AbsoluteForm {
    /// Without the secret part.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AbsoluteForm({})", self.target)
    }
}
