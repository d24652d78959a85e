//! The names of servers and certificates: host names, wildcards and IP addresses, each one text
//! that is written in one way only. A name that is none of these belongs nowhere.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv6Addr};

/// Whether `name` is a plain host name in lower case (RFC 1123, and `_`, which private networks
/// use). One that ends in a number is none: programs take it for an IP address.
pub fn is_host_name(name: &str) -> bool {
    let label = |l: &str| {
        (1..=63).contains(&l.len())
            && !l.starts_with('-')
            && !l.ends_with('-')
            && l.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_'))
    };
    let last = name.rsplit('.').next().unwrap_or_default();
    let is_number = last.bytes().all(|b| b.is_ascii_digit());
    name.len() <= 253 && name.split('.').all(label) && !is_number
}

/// The address that a name is, in the text form of [`IpAddr`] (RFC 5952), which has no brackets.
pub fn ip(name: &str) -> Option<IpAddr> {
    name.parse().ok().filter(|ip: &IpAddr| ip.to_string() == name)
}

/// What a wildcard stands on: `corp.example` of `*.corp.example`.
pub fn wildcard(name: &str) -> Option<&str> {
    name.strip_prefix("*.")
}

/// One address of a host, in the text form of [`ip`]: neither "any" nor a group.
pub fn host_address(text: &str) -> Option<String> {
    let ip: IpAddr = text.parse().ok()?;
    let is_host = !ip.is_unspecified() && !ip.is_multicast();
    is_host.then(|| ip.to_string())
}

/// An exact name of nginx's `server_name` as it stands in a certificate, or None. An IPv6 address
/// has brackets there, because it has them in a request.
pub fn exact(written: &str) -> Option<String> {
    let written = written.to_ascii_lowercase();
    if let Some(v6) = written.strip_prefix('[') {
        let v6 = v6.strip_suffix(']')?;
        return v6.parse::<Ipv6Addr>().ok().and_then(|_| host_address(v6));
    }
    match is_host_name(&written) {
        true => Some(written),
        false if written.contains(':') => None,
        false => host_address(&written),
    }
}

/// Whether a name of a certificate is good for `name` (RFC 9525): a wildcard for the whole
/// left-most label of a host name, and for the same wildcard.
pub fn stands_for(san: &str, name: &str) -> bool {
    let parent = || name.split_once('.').map(|(_, parent)| parent);
    san == name || wildcard(san).is_some_and(|on| parent() == Some(on) && ip(name).is_none())
}

/// What to ask a CA for so that all `names` are covered: not for what a wildcard among them stands
/// for already, which public CAs refuse.
pub fn to_ask_for(names: &[String]) -> Vec<String> {
    let is_covered =
        |name: &String| names.iter().any(|other| other != name && stands_for(other, name));
    names.iter().filter(|name| !is_covered(name)).cloned().collect()
}

/// The server name by which a validation with tls-alpn-01 asks: for an address its name in the
/// reverse tree (RFC 8738 section 6).
pub fn in_tls_alpn(name: &str) -> Cow<'_, str> {
    match ip(name) {
        None => name.into(),
        Some(IpAddr::V4(v4)) => {
            let [a, b, c, d] = v4.octets();
            format!("{d}.{c}.{b}.{a}.in-addr.arpa").into()
        }
        Some(IpAddr::V6(v6)) => {
            let nibbles = v6.octets().into_iter().rev().flat_map(|byte| [byte & 15, byte >> 4]);
            let labels: String = nibbles.map(|nibble| format!("{nibble:x}.")).collect();
            format!("{labels}ip6.arpa").into()
        }
    }
}

#[cfg(test)]
mod tests;
