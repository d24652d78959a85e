//! The extensions of a CRL (RFC 5280, 5.2) and of its entries (5.3), and what they leave of it.

use x509_parser::asn1_rs::Oid;

use super::Fault;
use super::der::{self, Elements, MALFORMED};
use crate::report::printable;

/// What of a CRL's extensions counts.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Extensions {
    /// cRLNumber, big-endian without leading zeros.
    pub number: Option<Vec<u8>>,
    pub scope: Scope,
}

/// Which certificates a CRL tells of: all of its issuer, or those of its issuingDistributionPoint.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Scope {
    /// URLs of the distribution point; None: no point is named.
    pub urls: Option<Vec<String>>,
    pub only_users: bool,
    pub only_cas: bool,
}

impl Scope {
    /// Whether it tells of a certificate that is a CA's or not, and that, or whose administrator,
    /// names `urls`. A part of a CRL says nothing about certificates of another part.
    pub fn check<'a>(
        &self,
        is_ca: bool,
        urls: impl IntoIterator<Item = &'a str>,
    ) -> Result<(), Fault> {
        if self.only_users && is_ca {
            return Err(Fault::Scope("it is for certificates of users only"));
        }
        if self.only_cas && !is_ca {
            return Err(Fault::Scope("it is for certificates of CAs only"));
        }
        match &self.urls {
            Some(points) if !urls.into_iter().any(|url| points.iter().any(|p| p == url)) => {
                let point = points.first().map_or("one without a URL", String::as_str);
                Err(Fault::OtherPoint(printable(point)))
            }
            _ => Ok(()),
        }
    }
}

// Contents of the OIDs.
const ISSUER_ALT_NAME: &[u8] = &[0x55, 0x1d, 0x12];
const CRL_NUMBER: &[u8] = &[0x55, 0x1d, 0x14];
const REASON_CODE: &[u8] = &[0x55, 0x1d, 0x15];
const INVALIDITY_DATE: &[u8] = &[0x55, 0x1d, 0x18];
const DELTA_CRL_INDICATOR: &[u8] = &[0x55, 0x1d, 0x1b];
const ISSUING_DISTRIBUTION_POINT: &[u8] = &[0x55, 0x1d, 0x1c];
const CERTIFICATE_ISSUER: &[u8] = &[0x55, 0x1d, 0x1d];
const AUTHORITY_KEY_IDENTIFIER: &[u8] = &[0x55, 0x1d, 0x23];

/// Reads what is in crlExtensions, a SEQUENCE OF Extension. RFC 5280, 5.2: a CRL with a critical
/// extension that we can't process proves nothing.
pub fn read(der: &[u8]) -> Result<Extensions, Fault> {
    let mut found = Extensions::default();
    let mut seen = Vec::new();
    let mut list = Elements(der::only(der, der::SEQUENCE)?);
    while !list.is_empty() {
        let extension = Extension::read(&mut list)?;
        if seen.contains(&extension.id) {
            return Err(Fault::Repeated(name(extension.id)));
        }
        seen.push(extension.id);
        match extension.id {
            CRL_NUMBER => found.number = Some(number(extension.value)?),
            ISSUING_DISTRIBUTION_POINT => found.scope = scope(extension.value)?,
            DELTA_CRL_INDICATOR => return Err(Fault::Scope("it is a delta CRL")),
            // Help to find the key, which is known; other names of who has it.
            AUTHORITY_KEY_IDENTIFIER | ISSUER_ALT_NAME => {}
            id if extension.critical => return Err(Fault::Critical(name(id))),
            _ => {}
        }
    }
    Ok(found)
}

/// The reasonCode among crlEntryExtensions, if there is one. RFC 5280, 5.3: one critical
/// extension that we can't process in one entry, and the CRL proves nothing about anybody.
pub fn reason(list: &[u8]) -> Result<Option<i32>, Fault> {
    let mut reason = None;
    let mut list = Elements(list);
    while !list.is_empty() {
        let extension = Extension::read(&mut list)?;
        match extension.id {
            REASON_CODE if reason.is_some() => return Err(Fault::Repeated(name(extension.id))),
            REASON_CODE => {
                reason = Some(der::small(der::only(extension.value, der::ENUMERATED)?)?);
            }
            INVALIDITY_DATE => {}
            // This and all that follow are of another issuer, critical or not.
            CERTIFICATE_ISSUER => return Err(INDIRECT),
            id if extension.critical => return Err(Fault::CriticalInEntry(name(id))),
            _ => {}
        }
    }
    Ok(reason)
}

const INDIRECT: Fault = Fault::Scope("it is an indirect CRL");

struct Extension<'a> {
    id: &'a [u8],
    critical: bool,
    value: &'a [u8],
}

impl<'a> Extension<'a> {
    fn read(list: &mut Elements<'a>) -> Result<Extension<'a>, Fault> {
        let mut parts = Elements(list.expect(der::SEQUENCE)?);
        let id = parts.expect(der::OID)?;
        let critical = parts.optional(der::BOOLEAN)?.map_or(Ok(false), der::boolean)?;
        let value = parts.expect(der::OCTET_STRING)?;
        parts.end()?;
        Ok(Extension { id, critical, value })
    }
}

/// RFC 5280, 5.2.3: up to 20 octets, which is not for us to enforce.
fn number(value: &[u8]) -> Result<Vec<u8>, Fault> {
    const LONGEST: usize = 64;
    let bytes = der::only(value, der::INTEGER)?;
    if !(1..=LONGEST).contains(&bytes.len()) {
        return Err(MALFORMED);
    }
    Ok(bytes.iter().copied().skip_while(|b| *b == 0).collect())
}

/// RFC 5280, 5.2.5.
fn scope(value: &[u8]) -> Result<Scope, Fault> {
    let mut parts = Elements(der::only(value, der::SEQUENCE)?);
    let urls = parts.optional(0xa0)?.map(point).transpose()?;
    let mut flag = |tag| parts.optional(tag)?.map_or(Ok(false), der::boolean);
    let (only_users, only_cas) = (flag(0x81)?, flag(0x82)?);
    if parts.optional(0x83)?.is_some() {
        return Err(Fault::Scope("it is for some reasons of revocation only"));
    }
    let mut flag = |tag| parts.optional(tag)?.map_or(Ok(false), der::boolean);
    if flag(0x84)? {
        return Err(INDIRECT);
    }
    if flag(0x85)? {
        return Err(Fault::Scope("it is for attribute certificates only"));
    }
    parts.end()?;
    Ok(Scope { urls, only_users, only_cas })
}

/// The URLs among the names of a distribution point.
fn point(contents: &[u8]) -> Result<Vec<String>, Fault> {
    const FULL_NAME: u8 = 0xa0;
    const URI: u8 = 0x86;
    let mut choice = Elements(contents);
    let (tag, names) = choice.next()?;
    choice.end()?;
    if tag != FULL_NAME {
        return Err(Fault::Scope("its distribution point is named relative to the issuer"));
    }
    let (mut names, mut urls) = (Elements(names), Vec::new());
    while !names.is_empty() {
        if let (URI, url) = names.next()? {
            urls.push(String::from_utf8_lossy(url).into_owned());
        }
    }
    Ok(urls)
}

/// The OID of an extension, for people.
fn name(id: &[u8]) -> String {
    Oid::new(id.into()).to_id_string()
}
