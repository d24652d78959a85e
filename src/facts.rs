//! What a certificate says, read once (RFC 5280).

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use x509_parser::asn1_rs::{FromDer, Oid, SequenceOf, oid};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{DistributionPointName, GeneralName, ParsedExtension};
use x509_parser::objects::{oid_registry, oid2abbrev};
use x509_parser::time::ASN1Time;
use x509_parser::x509::{AttributeTypeAndValue, X509Name};

use crate::clock::Time;
use crate::names;

/// The facts of one certificate that decisions need.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CertFacts {
    pub fingerprint: Fingerprint,
    pub serial: Serial,
    pub not_before: Time,
    pub not_after: Time,
    /// SANs as [`names`] writes them: dNSNames in lower case and iPAddresses.
    pub names: Vec<String>,
    /// Issuer DN in RFC 4514 order, for people.
    pub issuer: String,
    /// AIA id-ad-ocsp, http(s) URLs only, in the certificate's order.
    pub ocsp_urls: Vec<String>,
    /// CDP, http(s) URLs only.
    pub crl_urls: Vec<String>,
    /// TLS feature status_request (RFC 7633).
    pub must_staple: bool,
}

/// SHA-256 of the certificate's DER, lower-case hex.
#[derive(Clone, Debug, Eq, Hash, PartialEq, Serialize, Deserialize)]
pub struct Fingerprint(pub String);

/// A serial number: lower-case hex, two digits a byte, no leading 00. A negative one, which RFC
/// 5280, 4.1.2.2, forbids and some CAs have made, has a minus in front.
#[derive(Clone, Debug, Eq, Hash, PartialEq, Serialize, Deserialize)]
pub struct Serial(pub String);

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Fingerprint {
    pub fn of(der: &[u8]) -> Fingerprint {
        Fingerprint(hex(&openssl::sha::sha256(der)))
    }
}

impl Serial {
    /// From big-endian bytes; leading zero bytes are dropped.
    pub fn from_bytes(bytes: &[u8]) -> Serial {
        Serial(hex(significant(bytes)))
    }

    /// From the contents of a DER INTEGER.
    pub fn from_integer(contents: &[u8]) -> Serial {
        match lookup_key(contents).as_ref() {
            [0, negative @ ..] if !negative.is_empty() => Serial(format!("-{}", hex(negative))),
            key => Serial(hex(key)),
        }
    }

    /// As [`lookup_key`] makes them of the INTEGER.
    pub fn to_bytes(&self) -> Vec<u8> {
        let (sign, digits) = match self.0.strip_prefix('-') {
            Some(digits) => (Some(0), digits),
            None => (None, self.0.as_str()),
        };
        let digit = |b: u8| char::from(b).to_digit(16).unwrap_or(0) as u8;
        let pair = |p: &[u8]| p.iter().fold(0, |n, b| n << 4 | digit(*b));
        sign.into_iter().chain(digits.as_bytes().chunks(2).map(pair)).collect()
    }
}

/// What tells the contents of one DER INTEGER from those of all others: big-endian bytes without
/// leading zeros. A negative number has those of its amount, and one zero before them: -1 is not
/// 255, though both end with ff.
pub fn lookup_key(contents: &[u8]) -> Cow<'_, [u8]> {
    if contents.first().is_none_or(|first| *first < 0x80) {
        return Cow::Borrowed(significant(contents));
    }
    let mut amount: Vec<u8> = contents.iter().map(|b| !b).collect();
    for byte in amount.iter_mut().rev() {
        *byte = byte.wrapping_add(1);
        if *byte != 0 {
            break;
        }
    }
    Cow::Owned([&[0], significant(&amount)].concat())
}

/// Big-endian bytes without leading zeros, but for the last one.
fn significant(bytes: &[u8]) -> &[u8] {
    let start = bytes.iter().position(|b| *b != 0).unwrap_or(bytes.len().saturating_sub(1));
    &bytes[start..]
}

/// The largest certificate that is read, in bytes: some twenty times what the largest real ones
/// need.
const MAX_SIZE: usize = 64 * 1024;
const MAX_NAMES: usize = 1000;
const MAX_URLS: usize = 32;
const MAX_URL: usize = 2048;

/// Why a certificate can't be read.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum FactsError {
    #[error("certificate of {0} bytes is too large")]
    TooLarge(usize),
    #[error("not a certificate")]
    Malformed,
    #[error("certificate is followed by {0} bytes")]
    Trailing(usize),
    #[error("certificate with a malformed or repeated extension {0}")]
    Extension(&'static str),
    #[error("certificate with too many {0}")]
    TooMany(&'static str),
}

impl CertFacts {
    /// Reads a certificate in DER.
    pub fn from_der(der: &[u8]) -> Result<CertFacts, FactsError> {
        let certificate = parse(der)?;
        Ok(CertFacts {
            fingerprint: Fingerprint::of(der),
            serial: Serial::from_integer(certificate.raw_serial()),
            not_before: time(certificate.validity().not_before),
            not_after: time(certificate.validity().not_after),
            names: alternative_names(&certificate)?,
            issuer: distinguished_name(certificate.issuer()),
            ocsp_urls: ocsp_urls(&certificate)?,
            crl_urls: crl_urls(&certificate)?,
            must_staple: must_staple(&certificate)?,
        })
    }

    /// Whether a client that asked for `name`, as [`names`] writes it, accepts this certificate
    /// (RFC 9525).
    pub fn covers(&self, name: &str) -> bool {
        self.names.iter().any(|san| names::stands_for(san, name))
    }
}

/// What a certificate may be used for (RFC 5280, 4.2.1.3, 4.2.1.9 and 4.2.1.12), and when.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Usage {
    pub not_before: Time,
    pub not_after: Time,
    pub is_ca: bool,
    /// Its key may make signatures other than on certificates and CRLs.
    pub signs: bool,
    /// Its key may make signatures on CRLs.
    pub signs_crls: bool,
    /// id-kp-serverAuth, or no ExtendedKeyUsage at all.
    pub server_auth: bool,
    /// id-kp-OCSPSigning, by its own name: neither anyExtendedKeyUsage nor no extension will do.
    pub ocsp_signing: bool,
    /// id-pkix-ocsp-nocheck (RFC 6960, 4.2.2.2.1).
    pub ocsp_nocheck: bool,
}

impl Usage {
    /// Reads a certificate in DER.
    pub fn from_der(der: &[u8]) -> Result<Usage, FactsError> {
        let certificate = parse(der)?;
        let is_ca = match extension(&certificate, BASIC_CONSTRAINTS, "basicConstraints")? {
            Some(ParsedExtension::BasicConstraints(constraints)) => constraints.ca,
            _ => false,
        };
        let (signs, signs_crls) = match extension(&certificate, KEY_USAGE, "keyUsage")? {
            Some(ParsedExtension::KeyUsage(usage)) => {
                (usage.digital_signature() || usage.non_repudiation(), usage.crl_sign())
            }
            _ => (true, true),
        };
        let extended = match extension(&certificate, EXT_KEY_USAGE, "extKeyUsage")? {
            Some(ParsedExtension::ExtendedKeyUsage(usage)) => Some(usage),
            _ => None,
        };
        Ok(Usage {
            not_before: time(certificate.validity().not_before),
            not_after: time(certificate.validity().not_after),
            is_ca,
            signs,
            signs_crls,
            server_auth: extended.is_none_or(|usage| usage.server_auth),
            ocsp_signing: extended.is_some_and(|usage| usage.ocsp_signing),
            // Of its NULL nothing depends.
            ocsp_nocheck: certificate.extensions().iter().any(|e| e.oid == OCSP_NOCHECK),
        })
    }
}

fn parse(der: &[u8]) -> Result<X509Certificate<'_>, FactsError> {
    if der.len() > MAX_SIZE {
        return Err(FactsError::TooLarge(der.len()));
    }
    let (rest, certificate) = X509Certificate::from_der(der).map_err(|_| FactsError::Malformed)?;
    if rest.is_empty() { Ok(certificate) } else { Err(FactsError::Trailing(rest.len())) }
}

const KEY_USAGE: Oid<'static> = oid!(2.5.29.15);
const SUBJECT_ALT_NAME: Oid<'static> = oid!(2.5.29.17);
const BASIC_CONSTRAINTS: Oid<'static> = oid!(2.5.29.19);
const CRL_DISTRIBUTION_POINTS: Oid<'static> = oid!(2.5.29.31);
const EXT_KEY_USAGE: Oid<'static> = oid!(2.5.29.37);
const AUTHORITY_INFO_ACCESS: Oid<'static> = oid!(1.3.6.1.5.5.7.1.1);
const TLS_FEATURE: Oid<'static> = oid!(1.3.6.1.5.5.7.1.24);
const OCSP_NOCHECK: Oid<'static> = oid!(1.3.6.1.5.5.7.48.1.5);
const AD_OCSP: Oid<'static> = oid!(1.3.6.1.5.5.7.48.1);

/// The extension, if there is one; what can't be read is an error, never "there is none".
fn extension<'a, 'b>(
    certificate: &'a X509Certificate<'b>,
    oid: Oid<'static>,
    what: &'static str,
) -> Result<Option<&'a ParsedExtension<'b>>, FactsError> {
    let found = certificate.tbs_certificate.get_extension_unique(&oid);
    match found.map_err(|_| FactsError::Extension(what))?.map(|e| e.parsed_extension()) {
        Some(ParsedExtension::ParseError { .. }) => Err(FactsError::Extension(what)),
        other => Ok(other),
    }
}

fn alternative_names(certificate: &X509Certificate) -> Result<Vec<String>, FactsError> {
    let found = extension(certificate, SUBJECT_ALT_NAME, "subjectAltName")?;
    let Some(ParsedExtension::SubjectAlternativeName(san)) = found else { return Ok(Vec::new()) };
    if san.general_names.len() > MAX_NAMES {
        return Err(FactsError::TooMany("names"));
    }
    // A dNSName with anything but printable ASCII matches no host, and would disturb logs; nor
    // does one that is an address (RFC 9525 section 6.5).
    let usable =
        |name: &&str| name.bytes().all(|b| b.is_ascii_graphic()) && names::ip(name).is_none();
    let names = san.general_names.iter().filter_map(|name| match name {
        GeneralName::DNSName(name) => Some(*name).filter(usable).map(str::to_ascii_lowercase),
        GeneralName::IPAddress(bytes) => address(bytes).map(|ip| ip.to_string()),
        _ => None,
    });
    Ok(names.collect())
}

/// RFC 5280, 4.2.1.6: 4 bytes or 16.
fn address(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
}

fn ocsp_urls(certificate: &X509Certificate) -> Result<Vec<String>, FactsError> {
    let found = extension(certificate, AUTHORITY_INFO_ACCESS, "authorityInfoAccess")?;
    let Some(ParsedExtension::AuthorityInfoAccess(aia)) = found else { return Ok(Vec::new()) };
    let ocsp = aia.accessdescs.iter().filter(|access| access.access_method == AD_OCSP);
    urls(ocsp.map(|access| &access.access_location), "OCSP URLs")
}

/// URLs of whole distribution points only: one for some reasons only, or with a CRL issuer of its
/// own (an indirect CRL), says nothing that could be verified with the certificate's issuer.
fn crl_urls(certificate: &X509Certificate) -> Result<Vec<String>, FactsError> {
    let found = extension(certificate, CRL_DISTRIBUTION_POINTS, "cRLDistributionPoints")?;
    let Some(ParsedExtension::CRLDistributionPoints(points)) = found else {
        return Ok(Vec::new());
    };
    let whole = points.points.iter().filter(|p| p.reasons.is_none() && p.crl_issuer.is_none());
    let names = whole.filter_map(|point| match &point.distribution_point {
        Some(DistributionPointName::FullName(names)) => Some(names),
        _ => None,
    });
    urls(names.flatten(), "CRL URLs")
}

/// The http and https URLs among the names, each once. Others (ldap, mostly) are not for us.
fn urls<'a>(
    names: impl Iterator<Item = &'a GeneralName<'a>>,
    what: &'static str,
) -> Result<Vec<String>, FactsError> {
    let mut urls: Vec<String> = Vec::new();
    for name in names {
        let GeneralName::URI(url) = name else { continue };
        if !is_http(url) || urls.iter().any(|known| known == url) {
            continue;
        }
        if urls.len() == MAX_URLS {
            return Err(FactsError::TooMany(what));
        }
        urls.push((*url).to_string());
    }
    Ok(urls)
}

fn is_http(url: &str) -> bool {
    let scheme = |s: &str| url.get(..s.len()).is_some_and(|u| u.eq_ignore_ascii_case(s));
    url.len() <= MAX_URL
        && url.bytes().all(|b| b.is_ascii_graphic())
        && (scheme("http://") || scheme("https://"))
}

/// RFC 7633: TLS extension numbers; 5 is status_request.
fn must_staple(certificate: &X509Certificate) -> Result<bool, FactsError> {
    const WHAT: &str = "tlsFeature";
    let found = certificate.tbs_certificate.get_extension_unique(&TLS_FEATURE);
    let Some(found) = found.map_err(|_| FactsError::Extension(WHAT))? else { return Ok(false) };
    match SequenceOf::<u16>::from_der(found.value) {
        Ok(([], features)) => Ok(features.contains(&5)),
        _ => Err(FactsError::Extension(WHAT)),
    }
}

/// RFC 4514: the last RDN first; what has no string form as `#` and hex.
pub fn distinguished_name(name: &X509Name) -> String {
    let rdns: Vec<_> = name.iter_rdn().collect();
    let rdn = |rdn: &&x509_parser::x509::RelativeDistinguishedName| {
        rdn.iter().map(attribute).collect::<Vec<_>>().join("+")
    };
    rdns.iter().rev().map(rdn).collect::<Vec<_>>().join(",")
}

fn attribute(attribute: &AttributeTypeAndValue) -> String {
    let oid = attribute.attr_type();
    let key = oid2abbrev(oid, oid_registry()).map_or_else(|_| oid.to_id_string(), str::to_string);
    match attribute.as_str() {
        Ok(value) => format!("{key}={}", escaped(value)),
        Err(_) => format!("{key}=#{}", hex(attribute.as_slice())),
    }
}

fn escaped(value: &str) -> String {
    let mut out = String::new();
    let last = value.chars().count().saturating_sub(1);
    for (i, c) in value.chars().enumerate() {
        match c {
            '"' | '+' | ',' | ';' | '<' | '>' | '\\' => out.extend(['\\', c]),
            '#' if i == 0 => out.extend(['\\', c]),
            ' ' if i == 0 || i == last => out.extend(['\\', c]),
            c if c.is_control() => {
                let mut bytes = [0; 4];
                for b in c.encode_utf8(&mut bytes).bytes() {
                    out.push_str(&format!("\\{b:02X}"));
                }
            }
            c => out.push(c),
        }
    }
    out
}

fn time(t: ASN1Time) -> Time {
    Time::from_secs(t.timestamp())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::der::{explicit, oid, seq, tlv, uri};
    use crate::fixture::{DAY, Identity, Spec, at, root};

    const AIA: &str = "1.3.6.1.5.5.7.1.1";
    const CDP: &str = "2.5.29.31";
    const FEATURE: &str = "1.3.6.1.5.5.7.1.24";

    fn issue(extensions: &[(&str, bool, &[u8])]) -> Identity {
        root("Root").issue(Spec { extensions, ..Spec::default() })
    }

    fn read(extensions: &[(&str, bool, &[u8])]) -> Result<CertFacts, FactsError> {
        CertFacts::from_der(&issue(extensions).der())
    }

    fn access(method: &str, url: &str) -> Vec<u8> {
        seq(&[&oid(method), &uri(url)])
    }

    fn point(urls: &[&str], rest: &[u8]) -> Vec<u8> {
        let names: Vec<u8> = urls.iter().flat_map(|u| uri(u)).collect();
        seq(&[&explicit(0, &explicit(0, &names)), rest])
    }

    #[test]
    fn reads_what_is_there() {
        let aia = seq(&[
            &access("1.3.6.1.5.5.7.48.2", "http://ca.example/ca.der"),
            &access("1.3.6.1.5.5.7.48.1", "ldap://ocsp.example"),
            &access("1.3.6.1.5.5.7.48.1", "http://ocsp.example"),
            &access("1.3.6.1.5.5.7.48.1", "HTTPS://ocsp2.example/a?b"),
            &access("1.3.6.1.5.5.7.48.1", "http://ocsp.example"),
            &access("1.3.6.1.5.5.7.48.1", "http://ocsp.example/a b"),
        ]);
        let reasons = tlv(0x81, &[6, 0x40]);
        let cdp = seq(&[
            &point(&["ldap://x", "http://crl.example/1"], &[]),
            &point(&["http://crl.example/2"], &[]),
            &point(&["http://crl.example/some-reasons"], &reasons),
        ]);
        let spec = Spec {
            cn: "leaf",
            serial: 0x00ab_0001,
            names: &["Shop.Example", "*.shop.example"],
            life: (-DAY, DAY),
            extensions: &[
                (AIA, false, &aia),
                (CDP, false, &cdp),
                (FEATURE, false, &[0x30, 3, 2, 1, 5]),
            ],
            ..Spec::default()
        };
        let leaf = root("Root").issue(spec);
        let facts = CertFacts::from_der(&leaf.der()).unwrap();
        assert_eq!(facts.fingerprint.0, hex(&openssl::sha::sha256(&leaf.der())));
        assert_eq!(facts.serial.0, "ab0001");
        assert_eq!((facts.not_before, facts.not_after), (at(-DAY), at(DAY)));
        assert_eq!(facts.names, ["shop.example", "*.shop.example"]);
        assert_eq!(facts.issuer, "CN=Root,O=Test\\, Inc.");
        assert_eq!(facts.ocsp_urls, ["http://ocsp.example", "HTTPS://ocsp2.example/a?b"]);
        assert_eq!(facts.crl_urls, ["http://crl.example/1", "http://crl.example/2"]);
        assert!(facts.must_staple);
        assert!(facts.covers("shop.example") && facts.covers("a.shop.example"));
        assert!(!facts.covers("a.b.shop.example") && !facts.covers("other.example"));
    }

    #[test]
    fn serials() {
        for (bytes, text, back) in [
            (&[0, 0, 0xab, 1][..], "ab01", &[0xab, 1][..]),
            (&[0x0a], "0a", &[0x0a]),
            (&[0, 0], "00", &[0]),
            (&[], "", &[]),
        ] {
            let serial = Serial::from_bytes(bytes);
            assert_eq!((serial.0.as_str(), serial.to_bytes().as_slice()), (text, back));
        }
    }

    #[test]
    fn addresses_are_names_of_their_own() {
        let names = tlv(
            0x30,
            &[
                tlv(0x82, b"Shop.example"),
                tlv(0x82, b"192.0.2.9"), // a dNSName for no host
                tlv(0x82, b"*.0.2.7"),
                tlv(0x87, &[192, 0, 2, 1]),
                tlv(0x87, &[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]),
                tlv(0x87, &[192, 0, 2, 0, 255, 255, 255, 0]), // of name constraints
                tlv(0x87, b""),
            ]
            .concat(),
        );
        let spec =
            Spec { names: &[], extensions: &[("2.5.29.17", false, &names)], ..Spec::default() };
        let facts = CertFacts::from_der(&root("Root").issue(spec).der()).unwrap();
        assert_eq!(facts.names, ["shop.example", "*.0.2.7", "192.0.2.1", "2001:db8::1"]);
        for (name, covered) in [
            ("192.0.2.1", true),
            ("2001:db8::1", true),
            ("192.0.2.2", false),
            ("192.0.2.7", false),
            ("192.0.2.9", false),
        ] {
            assert_eq!(facts.covers(name), covered, "{name}");
        }
    }

    #[test]
    fn reads_what_is_not_there() {
        let leaf = root("Root").issue(Spec { names: &[], usage: &[], ..Spec::default() });
        let facts = CertFacts::from_der(&leaf.der()).unwrap();
        assert!(facts.names.is_empty() && facts.ocsp_urls.is_empty() && facts.crl_urls.is_empty());
        assert!(!facts.must_staple);
        assert!(!read(&[(FEATURE, false, &[0x30, 3, 2, 1, 17])]).unwrap().must_staple);
    }

    #[test]
    fn refuses_what_it_cannot_read() {
        let der = issue(&[]).der();
        let trailing = [&der[..], &[0]].concat();
        let table: &[(&[u8], FactsError)] = &[
            (&[], FactsError::Malformed),
            (b"garbage", FactsError::Malformed),
            (&der[..der.len() - 1], FactsError::Malformed),
            (&trailing, FactsError::Trailing(1)),
            (&[0x30; MAX_SIZE + 1], FactsError::TooLarge(MAX_SIZE + 1)),
        ];
        for (der, expected) in table {
            assert_eq!(CertFacts::from_der(der).as_ref(), Err(expected));
        }
    }

    #[test]
    fn refuses_bad_extensions() {
        let aia = seq(&[&access("1.3.6.1.5.5.7.48.1", "http://a")]);
        let many: Vec<u8> = (0..=MAX_URLS)
            .flat_map(|i| access("1.3.6.1.5.5.7.48.1", &format!("http://{i}")))
            .collect();
        let many = tlv(0x30, &many);
        let names: Vec<u8> = (0..=MAX_NAMES).flat_map(|_| tlv(0x82, b"a.example")).collect();
        let names = tlv(0x30, &names);
        let bad = |what| FactsError::Extension(what);
        type Row<'a> = (&'a [(&'a str, bool, &'a [u8])], FactsError);
        let table: &[Row] = &[
            (&[(AIA, false, b"junk")], bad("authorityInfoAccess")),
            (&[(AIA, false, &aia), (AIA, false, &aia)], bad("authorityInfoAccess")),
            (&[(AIA, false, &many)], FactsError::TooMany("OCSP URLs")),
            (&[(CDP, false, b"junk")], bad("cRLDistributionPoints")),
            (&[(FEATURE, false, b"junk")], bad("tlsFeature")),
            (&[(FEATURE, false, &[0x30, 3, 2, 1, 5, 0])], bad("tlsFeature")),
            (&[("2.5.29.17", false, b"junk")], bad("subjectAltName")),
        ];
        for (extensions, expected) in table {
            assert_eq!(read(extensions).as_ref(), Err(expected), "{extensions:?}");
        }
        let spec =
            Spec { names: &[], extensions: &[("2.5.29.17", false, &names)], ..Spec::default() };
        let der = root("Root").issue(spec).der();
        assert_eq!(CertFacts::from_der(&der), Err(FactsError::TooMany("names")));
    }

    #[test]
    fn unprintable_names_are_left_out() {
        let san = seq(&[&tlv(0x82, b"a\0.example"), &tlv(0x82, b"b.example")]);
        let spec =
            Spec { names: &[], extensions: &[("2.5.29.17", false, &san)], ..Spec::default() };
        let facts = CertFacts::from_der(&root("Root").issue(spec).der()).unwrap();
        assert_eq!(facts.names, ["b.example"]);
    }

    #[test]
    fn usages() {
        let usage = |spec| Usage::from_der(&root("Root").issue(spec).der()).unwrap();
        let flags = |u: Usage| (u.is_ca, u.signs, u.server_auth, u.ocsp_signing);
        let with = |usage| Spec { usage, ..Spec::default() };
        let encipher: &[(&str, bool, &[u8])] = &[("2.5.29.15", true, &[3, 2, 5, 0x20])];
        type Flags = (bool, bool, bool, bool);
        let table: &[(Spec, Flags)] = &[
            (with(&[]), (false, true, true, false)),
            (with(&["serverAuth", "clientAuth"]), (false, true, true, false)),
            (with(&["clientAuth"]), (false, true, false, false)),
            (with(&["OCSPSigning"]), (false, true, false, true)),
            (with(&["anyExtendedKeyUsage"]), (false, true, false, false)),
            (Spec { extensions: encipher, ..with(&[]) }, (false, false, true, false)),
            (Spec::ca("ca"), (true, false, true, false)),
        ];
        for (spec, expected) in table {
            assert_eq!(flags(usage(*spec)), *expected, "{:?}", spec.usage);
        }
    }

    #[test]
    fn serial_numbers() {
        let table: &[(&[u8], &str, &[u8])] = &[
            (&[0], "00", &[0]),
            (&[1], "01", &[1]),
            (&[0, 0, 1], "01", &[1]),
            (&[0x7f], "7f", &[0x7f]),
            (&[0, 0xff], "ff", &[0xff]),
            (&[0xff], "-01", &[0, 1]),
            (&[0x80], "-80", &[0, 0x80]),
            (&[0xff, 0], "-0100", &[0, 1, 0]),
            (&[0x80, 0, 0], "-800000", &[0, 0x80, 0, 0]),
        ];
        for (contents, text, key) in table {
            let serial = Serial::from_integer(contents);
            assert_eq!(serial.0, *text);
            assert_eq!(serial.to_bytes(), *key, "{text}");
            assert_eq!(lookup_key(contents).as_ref(), *key, "{text}");
        }
    }

    #[test]
    fn escapes_of_rfc_4514() {
        let table = [
            ("plain", "plain"),
            ("a,b+c\"d\\e;f<g>", "a\\,b\\+c\\\"d\\\\e\\;f\\<g\\>"),
            ("#a#", "\\#a#"),
            (" a b ", "\\ a b\\ "),
            ("a\nb", "a\\0Ab"),
            ("", ""),
        ];
        for (value, expected) in table {
            assert_eq!(escaped(value), expected);
        }
    }
}
