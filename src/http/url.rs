//! What has to be known of a URL before it is used (RFC 3986). URLs come from the configuration,
//! from certificates and from CAs; only absolute http and https ones pass.

/// The parts of a URL that decide where a request goes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Target<'a> {
    pub https: bool,
    /// A name, an IPv4 address, or an IPv6 address in brackets.
    pub host: &'a str,
    pub port: u16,
}

/// No real URL is longer; a longer one is an attack or a mistake.
const LONGEST: usize = 2048;

/// Takes `url` apart. None: not an absolute http or https URL in printable ASCII, or one with
/// user information, which would end up in logs.
pub fn target(url: &str) -> Option<Target<'_>> {
    if url.len() > LONGEST || !url.bytes().all(|b| b.is_ascii_graphic()) {
        return None;
    }
    let (scheme, rest) = url.split_once("://")?;
    let https = match () {
        () if scheme.eq_ignore_ascii_case("https") => true,
        () if scheme.eq_ignore_ascii_case("http") => false,
        () => return None,
    };
    let authority = rest.split(['/', '?', '#']).next()?;
    let (host, port) = match authority.rsplit_once(':') {
        // The last colon of an IPv6 address without a port is inside the brackets.
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (authority, None),
    };
    let port = match port {
        Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => digits.parse().ok()?,
        Some(_) => return None,
        None if https => 443,
        None => 80,
    };
    is_host(host).then_some(Target { https, host, port })
}

/// `host:port` of a URL: what jobs that talk to one host have in common.
pub fn host_of(url: &str) -> String {
    let place = |t: Target<'_>| format!("{}:{}", t.host.to_ascii_lowercase(), t.port);
    target(url).map_or_else(|| url.to_owned(), place)
}

fn is_host(host: &str) -> bool {
    match host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            !host.is_empty()
                && host
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets() {
        for (url, expected) in [
            ("https://ca.example/dir", Some((true, "ca.example", 443))),
            ("HTTP://ca.example", Some((false, "ca.example", 80))),
            ("https://ca.example:14000/dir?x=a:b", Some((true, "ca.example", 14000))),
            ("http://127.0.0.1:1?x", Some((false, "127.0.0.1", 1))),
            ("http://[::1]:8080/", Some((false, "[::1]", 8080))),
            ("http://[::1]/", Some((false, "[::1]", 80))),
            ("http://::1/", None),
            ("http://[x]/", None),
            ("ftp://ca.example/", None),
            ("file:///etc/passwd", None),
            ("//ca.example/", None),
            ("/dir", None),
            ("", None),
            ("https://", None),
            ("https:///x", None),
            ("https://:443/", None),
            ("https://a:/", None),
            ("https://a:65536/", None),
            ("https://a:+1/", None),
            ("https://user:word@a/", None),
            ("https://user@a/", None),
            ("https://a b/", None),
            ("https://a/\r\nx: y", None),
            ("https://ä.example/", None),
        ] {
            let found = target(url).map(|t| (t.https, t.host, t.port));
            assert_eq!(found, expected, "{url}");
        }
        assert_eq!(target(&format!("http://a/{}", "x".repeat(LONGEST))), None);
    }

    #[test]
    fn hosts() {
        for (url, expected) in [
            ("https://CA.Example/Dir", "ca.example:443"),
            ("http://[::1]:80/", "[::1]:80"),
            ("nonsense", "nonsense"),
        ] {
            assert_eq!(host_of(url), expected);
        }
    }
}
