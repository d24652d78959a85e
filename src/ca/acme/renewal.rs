//! Renewal information from an ACME server (RFC 9773).

use std::time::Duration;

use base64::prelude::{BASE64_URL_SAFE_NO_PAD as BASE64URL, Engine};
use openssl::x509::X509Ref;
use serde::Deserialize;

use super::client::Client;
use super::problem::Rejection;
use crate::ca::IssueError;
use crate::ca::exchange::parse;
use crate::ca::renewal::{RenewalInfo, Window};
use crate::report::printable;

/// Section 4.2.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    suggested_window: Window,
    #[serde(rename = "explanationURL")]
    explanation_url: Option<String>,
}

/// Asks about a certificate; None: the server does not offer it, or not for this certificate.
/// Unsigned, as section 4.2 wants it.
pub fn ask(client: &Client, certificate: &X509Ref) -> Result<Option<RenewalInfo>, IssueError> {
    const WHAT: &str = "renewalInfo";
    let directory = client.directory()?;
    let place = directory.renewal_info.as_ref().zip(certificate_id(certificate));
    let Some((place, id)) = place else { return Ok(None) };
    let response = client.get(WHAT, &format!("{}/{id}", place.trim_end_matches('/')))?;
    if response.status != 200 {
        return Err(Rejection::read(&response, client.clock.now()).into_error(WHAT));
    }
    let answer: Answer = parse(WHAT, &response)?;
    let window = answer.suggested_window;
    if window.end <= window.start {
        let cause = format!("the window ends at {}, before its start", window.end);
        return Err(IssueError::Protocol { what: WHAT, cause });
    }
    Ok(Some(RenewalInfo {
        window,
        explanation: answer.explanation_url.map(|url| printable(&url)),
        retry_after: client.retry_after(&response).unwrap_or(USUAL).clamp(SHORTEST, LONGEST),
    }))
}

/// The identifier of section 4.1, also for `replaces`; None: the certificate does not say which
/// key signed it.
pub fn certificate_id(certificate: &X509Ref) -> Option<String> {
    let issuer = certificate.authority_key_id()?.as_slice();
    let mut serial = certificate.serial_number().to_bn().ok()?.to_vec();
    // The contents of the DER INTEGER, with the zero that keeps it positive.
    if serial.first().is_none_or(|first| first & 0x80 != 0) {
        serial.insert(0, 0);
    }
    Some(format!("{}.{}", BASE64URL.encode(issuer), BASE64URL.encode(serial)))
}

/// Section 4.3.3 leaves the bounds to the client: often enough to hear of a mass revocation.
const SHORTEST: Duration = Duration::from_secs(60);
const USUAL: Duration = Duration::from_secs(6 * 3600);
const LONGEST: Duration = Duration::from_secs(86_400);
