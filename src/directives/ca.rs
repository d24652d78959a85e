//! `ssl_cert_autofetch_ca NAME { ... }`: one certificate authority.

use std::time::Duration;

use super::files::{Read, account_key, certificates, one_certificate, signer};
use super::url::{Plain, url};
use super::values::{Choices, choice, invalid, list, number, parse_time, shown};
use super::{CA_DIRECTIVES, find, first, once};
use crate::settings::{
    AcmeSettings, Budget, CaSettings, Challenge, EvidenceSettings, Nonce, Protocol, Secret, Signer,
    is_host_name,
};

/// More come in later releases.
const PROTOCOLS: Choices<()> = &[("acme", ())];

const CHALLENGES: Choices<Challenge> =
    &[("http-01", Challenge::Http01), ("tls-alpn-01", Challenge::TlsAlpn01)];

const NONCES: Choices<Nonce> =
    &[("on", Nonce::On), ("off", Nonce::Off), ("required", Nonce::Required)];

const TIMEOUT: Duration = Duration::from_secs(30);

/// What the block says so far. Values are good each for itself.
#[derive(Debug)]
pub struct RawCa {
    name: String,
    protocol: Option<()>,
    url: Option<String>,
    trusted_certificate: Option<Vec<u8>>,
    account_key: Option<Secret>,
    contact: Vec<String>,
    accept_terms_of_service: Option<()>,
    challenge: Option<Challenge>,
    timeout: Option<Duration>,
    issuer_certificate: Option<Vec<u8>>,
    ocsp_responder: Option<String>,
    ocsp_certificate: Option<Vec<u8>>,
    ocsp_signer: Option<Signer>,
    ocsp_nonce: Option<Nonce>,
    crl: Option<String>,
    budget: Option<Budget>,
}

impl RawCa {
    pub fn new(name: &str) -> Result<RawCa, String> {
        // `ssl_cert_autofetch off` must not mean a CA.
        if !is_word(name) || name.eq_ignore_ascii_case("off") {
            let accepted = "1 to 64 letters, digits, \"-\", \"_\" or \".\", a letter or digit \
                            first, and not \"off\"";
            return Err(invalid(name, "ssl_cert_autofetch_ca", accepted));
        }
        Ok(RawCa {
            name: name.to_owned(),
            protocol: None,
            url: None,
            trusted_certificate: None,
            account_key: None,
            contact: Vec::new(),
            accept_terms_of_service: None,
            challenge: None,
            timeout: None,
            issuer_certificate: None,
            ocsp_responder: None,
            ocsp_certificate: None,
            ocsp_signer: None,
            ocsp_nonce: None,
            crl: None,
            budget: None,
        })
    }

    /// Takes one directive of the block. `read` reads the files that it names, relative paths
    /// resolved as nginx does; its error is the cause in words.
    pub fn set(
        &mut self,
        name: &str,
        args: &[&str],
        read: &dyn Fn(&str) -> Result<Vec<u8>, String>,
    ) -> Result<(), String> {
        let unknown = || unknown(name, &self.name);
        let directive = find(CA_DIRECTIVES, name).ok_or_else(unknown)?;
        let value = first(directive, args)?;
        match name {
            "protocol" => once(&mut self.protocol, name, || choice(PROTOCOLS, value, name)),
            "url" => once(&mut self.url, name, || url(value, name, Plain::Loopback)),
            "trusted_certificate" => {
                once(&mut self.trusted_certificate, name, || file(value, name, read, certificates))
            }
            "account_key" => {
                once(&mut self.account_key, name, || file(value, name, read, account_key))
            }
            "contact" => args.iter().try_for_each(|a| self.add_contact(a, name)),
            "accept_terms_of_service" => once(&mut self.accept_terms_of_service, name, || Ok(())),
            "challenge" => once(&mut self.challenge, name, || choice(CHALLENGES, value, name)),
            "timeout" => once(&mut self.timeout, name, || timeout(value, name)),
            "issuer_certificate" => {
                once(&mut self.issuer_certificate, name, || file(value, name, read, certificates))
            }
            "ocsp_responder" => {
                once(&mut self.ocsp_responder, name, || url(value, name, Plain::Anywhere))
            }
            "ocsp_certificate" => {
                once(&mut self.ocsp_certificate, name, || file(value, name, read, one_certificate))
            }
            "ocsp_signer" => {
                let key = args.get(1).copied().unwrap_or_default();
                once(&mut self.ocsp_signer, name, || request_signer(value, key, name, read))
            }
            "ocsp_nonce" => once(&mut self.ocsp_nonce, name, || choice(NONCES, value, name)),
            "crl" => once(&mut self.crl, name, || url(value, name, Plain::Anywhere)),
            "budget" => once(&mut self.budget, name, || budget(value, name)),
            _ => Err(unknown()),
        }
    }

    /// At the end of the block.
    pub fn finish(self) -> Result<CaSettings, String> {
        let Some(url) = self.url else {
            return Err(format!("no \"url\" in ssl_cert_autofetch_ca \"{}\"", self.name));
        };
        Ok(CaSettings {
            protocol: Protocol::Acme(AcmeSettings {
                ca: self.name.clone(),
                url,
                timeout: self.timeout.unwrap_or(TIMEOUT),
                account_key: self.account_key,
                contact: self.contact,
                accept_terms_of_service: self.accept_terms_of_service.is_some(),
                challenge: self.challenge.unwrap_or_default(),
            }),
            trusted_certificate: self.trusted_certificate,
            issuer_certificate: self.issuer_certificate,
            name: self.name,
            budget: self.budget.unwrap_or_default(),
            evidence: EvidenceSettings {
                ocsp_responder: self.ocsp_responder,
                ocsp_certificate: self.ocsp_certificate,
                ocsp_signer: self.ocsp_signer,
                ocsp_nonce: self.ocsp_nonce.unwrap_or_default(),
                crl: self.crl,
            },
        })
    }

    /// Several may stand in one line or in lines of their own.
    fn add_contact(&mut self, value: &str, directive: &str) -> Result<(), String> {
        let accepted = "an e-mail address such as \"admin@corp.example\", with or without \
                        \"mailto:\"";
        let contact = mailto(value).ok_or_else(|| invalid(value, directive, accepted))?;
        if self.contact.contains(&contact) {
            return Err(invalid(value, directive, "named once"));
        }
        self.contact.push(contact);
        Ok(())
    }
}

fn unknown(name: &str, ca: &str) -> String {
    let known = list(CA_DIRECTIVES.iter().map(|d| d.name));
    let name = shown(name);
    format!("unknown directive \"{name}\" in ssl_cert_autofetch_ca \"{ca}\", known are: {known}")
}

/// A name that is also one of a directory.
fn is_word(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
}

fn file<T>(
    path: &str,
    directive: &str,
    read: Read,
    check: fn(&str, &str, Read) -> Result<T, String>,
) -> Result<T, String> {
    match path {
        "" => Err(invalid(path, directive, "a file")),
        path => check(path, directive, read),
    }
}

fn request_signer(
    certificate: &str,
    key: &str,
    directive: &str,
    read: Read,
) -> Result<Signer, String> {
    match (certificate, key) {
        ("", _) | (_, "") => Err(invalid("", directive, "two files")),
        _ => signer(certificate, key, directive, read),
    }
}

/// One address and no header fields (RFC 8555 section 7.3).
fn mailto(value: &str) -> Option<String> {
    const SCHEME: &str = "mailto:";
    // The RFC 5322 dot-atom: what people have, and nothing that needs quoting in a URL or a log.
    let atom = |b: u8| b.is_ascii_alphanumeric() || b"!$&'*+-/=^_{}~.".contains(&b);
    let address = match value.get(..SCHEME.len()) {
        Some(scheme) if scheme.eq_ignore_ascii_case(SCHEME) => &value[SCHEME.len()..],
        _ => value,
    };
    let (local, domain) = address.split_once('@')?;
    let good = (1..=64).contains(&local.len())
        && local.bytes().all(atom)
        && is_host_name(&domain.to_ascii_lowercase());
    good.then(|| format!("{SCHEME}{address}"))
}

fn timeout(value: &str, directive: &str) -> Result<Duration, String> {
    parse_time(value)
        .filter(|t| !t.is_zero())
        .ok_or_else(|| invalid(value, directive, "a time such as \"30s\", above 0"))
}

fn budget(value: &str, directive: &str) -> Result<Budget, String> {
    let parse = || {
        let (count, window) = value.split_once('/')?;
        let count = number(count).filter(|n| (1..=1000).contains(n))?;
        let window = parse_time(window).filter(|t| !t.is_zero())?;
        Some(Budget { count, window })
    };
    let accepted = "a number from 1 to 1000 and a time above 0, such as \"5/7d\"";
    parse().ok_or_else(|| invalid(value, directive, accepted))
}

#[cfg(test)]
mod tests;
