//! A URL from a certificate or a CA.

use cert_autofetch::http::url::target;
use cert_autofetch::report::printable;
use ureq::http::Uri;

/// Where we believe that a request goes is where the HTTP client sends it.
pub fn run(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let line = printable(&text);
    assert!(!line.contains(char::is_control) && line.len() <= 1536);
    let Some(target) = target(&text) else { return };
    assert!(!target.host.is_empty() && !target.host.contains(['@', '/', '?', '#', '%']));
    let Ok(uri) = text.parse::<Uri>() else { return };
    let https = uri.scheme_str().map(|s| s == "https");
    let port = uri.port_u16().unwrap_or(if target.https { 443 } else { 80 });
    let theirs = (https, uri.host(), port);
    assert_eq!(theirs, (Some(target.https), Some(target.host), target.port));
}
