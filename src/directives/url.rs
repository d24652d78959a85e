//! URLs in the configuration: http or https, a host, nothing secret in them.

use std::net::{IpAddr, Ipv6Addr};

use ureq::Proxy;
use ureq::http::Uri;

use super::values::invalid;
use crate::names::is_host_name;
use crate::settings::{ProxySettings, Secret};

/// Where http without TLS is accepted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Plain {
    Anywhere,
    Loopback,
}

/// Longer ones are nobody's real URL, and it stands in every request line.
const LIMIT: usize = 2048;

/// Accepts a URL as it is written.
pub(super) fn url(value: &str, directive: &str, plain: Plain) -> Result<String, String> {
    let accepted = match plain {
        Plain::Anywhere => "an http or https URL with a host, without user name and password",
        Plain::Loopback => {
            "an https URL with a host, without user name and password; http is accepted only for \
             loopback hosts"
        }
    };
    let good = |p: &Parts| p.https || plain == Plain::Anywhere || is_loopback(&p.host);
    match parse(value).filter(good) {
        Some(_) => Ok(value.to_owned()),
        None => Err(invalid(&without_password(value), directive, accepted)),
    }
}

/// One that [`url`] took and that paths are appended to.
pub(super) fn base(url: String, directive: &str) -> Result<String, String> {
    match url.contains('?') {
        false => Ok(url),
        true => Err(invalid(&url, directive, "without a query: paths are appended to it")),
    }
}

/// That no request to `url` passes the network in the clear. Both are good each for itself.
pub(super) fn check_way(url: &str, proxy: &ProxySettings, ca: &str) -> Result<(), String> {
    let is_plain = parse(url).is_some_and(|url| !url.https);
    let text = String::from_utf8_lossy(proxy.url.bytes());
    let address = text.rsplit_once('@').map_or(&*text, |(_, address)| address);
    let address = address.strip_prefix("http://").unwrap_or(address);
    let is_near = parse(&format!("http://{address}")).is_some_and(|p| is_loopback(&p.host));
    if !is_plain || is_near {
        return Ok(());
    }
    Err(format!(
        "\"url\" in ssl_cert_autofetch_ca \"{ca}\" is http, and its \"proxy\" not on loopback: what is \
         secret would pass the network in the clear, it must be https"
    ))
}

/// An http proxy, with or without a user name and password. None of it is shown: whoever mistypes
/// the URL of a proxy has the password in it all the same.
pub(super) fn proxy(value: &str, directive: &str) -> Result<ProxySettings, String> {
    let good = || {
        let rest = value.strip_prefix("http://")?;
        let (user, address) = match rest.rsplit_once('@') {
            Some((user, address)) => (Some(user), address),
            None => (None, rest),
        };
        let parts = parse(&format!("http://{address}"))?;
        let plain = !address.trim_end_matches('/').contains(['/', '?']) && parts.port.is_some();
        let user = user.is_none_or(is_user) && Proxy::new(value).is_ok();
        (plain && user).then(|| ProxySettings { url: Secret::new(value.into()) })
    };
    good().ok_or_else(|| invalid("...", directive, PROXY))
}

const PROXY: &str = "a URL such as \"http://proxy.corp.example:3128\" or \
                     \"http://user:password@proxy.corp.example:3128\", of an http proxy and with its \
                     port; what is not a letter or digit in user name and password is percent-encoded";

/// `USER:PASSWORD` in the characters of RFC 3986, 3.2.1.
fn is_user(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=%:".contains(&b);
    text.split_once(':').is_some_and(|(user, _)| !user.is_empty()) && text.bytes().all(allowed)
}

/// The host of a URL in lower case, IPv6 addresses without brackets.
pub fn host(url: &str) -> Option<String> {
    parse(url).map(|p| p.host)
}

struct Parts {
    https: bool,
    host: String,
    port: Option<u16>,
}

fn parse(value: &str) -> Option<Parts> {
    // RFC 3986 has no place for these; a fragment is never sent.
    let allowed = |b: u8| b.is_ascii_graphic() && !b"\"#<>\\^`{|}".contains(&b);
    if value.len() > LIMIT || !value.bytes().all(allowed) {
        return None;
    }
    let uri: Uri = value.parse().ok()?;
    let https = match uri.scheme_str()? {
        "https" => true,
        "http" => false,
        _ => return None,
    };
    // With a user name the authority does not begin with the host.
    let host = uri.host()?;
    let port = uri.authority()?.as_str().strip_prefix(host)?;
    let port_is_good = port.is_empty() || uri.port_u16().is_some_and(|p| p != 0);
    let host = host.to_ascii_lowercase();
    let host = match host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
        Some(v6) => v6.parse::<Ipv6Addr>().ok()?.to_string(),
        None => host,
    };
    let host_is_good = is_host_name(&host) || host.parse::<IpAddr>().is_ok();
    (port_is_good && host_is_good).then_some(Parts { https, host, port: uri.port_u16() })
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// What messages may show: no secret ever reaches a log.
fn without_password(value: &str) -> String {
    value.rsplit_once('@').map_or(value.to_owned(), |(_, rest)| format!("...@{rest}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        let long = |n: usize| format!("https://ca.example/{}", "x".repeat(n - 19));
        let (longest, too_long) = (long(2048), long(2049));
        let table: &[(&str, bool, bool)] = &[
            // URL, as an ACME directory, as a responder
            ("https://ca.example", true, true),
            ("https://ca.example/acme/directory", true, true),
            ("https://CA.example:14000/dir?x=1", true, true),
            ("HTTPS://ca.example/", true, true),
            ("https://192.0.2.1/dir", true, true),
            ("https://[2001:db8::1]:8443/dir", true, true),
            ("https://ca/%41@x", true, true),
            (&longest, true, true),
            ("http://127.0.0.1:14000/dir", true, true),
            ("http://127.9.9.9/dir", true, true),
            ("http://[::1]/dir", true, true),
            ("http://localhost:8080/dir", true, true),
            ("http://LOCALHOST/dir", true, true),
            ("http://ca.example/dir", false, true),
            ("http://localhost.example/dir", false, true),
            ("http://127.0.0.1.example/dir", false, true),
            ("http://192.0.2.1/dir", false, true),
            (&too_long, false, false),
            ("", false, false),
            ("ca.example", false, false),
            ("/acme", false, false),
            ("https:", false, false),
            ("https://", false, false),
            ("https:///dir", false, false),
            ("https://:443/", false, false),
            ("ftp://ca.example/", false, false),
            ("file:///etc/passwd", false, false),
            ("https://user@ca.example/", false, false),
            ("https://user:hush@ca.example/", false, false),
            ("https://ca.example:/", false, false),
            ("https://ca.example:0/", false, false),
            ("https://ca.example:65536/", false, false),
            ("https://ca.example:http/", false, false),
            ("https://ca..example/", false, false),
            ("https://-ca.example/", false, false),
            ("https://*.example/", false, false),
            ("https://[::1/", false, false),
            ("https://[ca.example]/", false, false),
            ("https://ca.example/a b", false, false),
            ("https://ca.example/a\r\nX: y", false, false),
            ("https://ca.example/\0", false, false),
            ("https://ca.example/#top", false, false),
            ("https://ca.example/\"", false, false),
            ("https://c\u{e4}.example/", false, false),
        ];
        for (value, directory, responder) in table {
            assert_eq!(url(value, "url", Plain::Loopback).is_ok(), *directory, "{value}");
            assert_eq!(url(value, "x", Plain::Anywhere).is_ok(), *responder, "{value}");
        }
    }

    #[test]
    fn hosts() {
        assert_eq!(host("https://CA.example:1/").as_deref(), Some("ca.example"));
        assert_eq!(host("http://[0:0::1]:1/").as_deref(), Some("::1"));
        assert_eq!(host("nonsense"), None);
    }

    #[test]
    fn passwords_are_not_shown() {
        let error = url("https://me:hush@ca.example/d", "url", Plain::Loopback).unwrap_err();
        assert!(error.starts_with("invalid value \"...@ca.example/d\" in \"url\""), "{error}");
    }
}
