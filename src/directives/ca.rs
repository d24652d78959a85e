//! `ssl_cert_autofetch_ca NAME { ... }`: one certificate authority.

use std::time::Duration;

use super::files::{Read, account_key, certificates};
use super::url::{Plain, url};
use super::values::{Choices, choice, invalid, list, number, parse_time, shown};
use super::{CA_DIRECTIVES, find, first, once};
use crate::settings::{Budget, CaSettings, Challenge, EvidenceSettings, Secret, is_host_name};

/// More come in later releases.
const PROTOCOLS: Choices<()> = &[("acme", ())];

const CHALLENGES: Choices<Challenge> =
    &[("http-01", Challenge::Http01), ("tls-alpn-01", Challenge::TlsAlpn01)];

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
            name: self.name,
            url,
            trusted_certificate: self.trusted_certificate,
            account_key: self.account_key,
            contact: self.contact,
            accept_terms_of_service: self.accept_terms_of_service.is_some(),
            challenge: self.challenge.unwrap_or_default(),
            timeout: self.timeout.unwrap_or(TIMEOUT),
            issuer_certificate: self.issuer_certificate,
            budget: self.budget.unwrap_or_default(),
            evidence: EvidenceSettings {
                ocsp_responder: self.ocsp_responder,
                ..EvidenceSettings::default()
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
mod tests {
    use super::*;

    fn no_file(_: &str) -> Result<Vec<u8>, String> {
        Err("no such file".into())
    }

    type Line<'a> = (&'a str, &'a [&'a str]);

    fn set(lines: &[Line]) -> Result<RawCa, String> {
        let mut ca = RawCa::new("corp").unwrap();
        for (name, args) in lines {
            ca.set(name, args, &no_file)?;
        }
        Ok(ca)
    }

    #[test]
    fn names() {
        let long = "a".repeat(64);
        for good in ["corp", "Corp-2_x.y", "1", long.as_str()] {
            assert!(RawCa::new(good).is_ok(), "{good}");
        }
        let too_long = "a".repeat(65);
        for bad in
            ["", ".", "..", ".a", "-a", "_a", "a/b", "a b", "\u{e4}", "off", "OFF", &too_long]
        {
            let error = RawCa::new(bad).unwrap_err();
            assert_eq!(
                error,
                format!(
                    "invalid value \"{bad}\" in \"ssl_cert_autofetch_ca\", it must be 1 to 64 \
                     letters, digits, \"-\", \"_\" or \".\", a letter or digit first, and not \
                     \"off\""
                )
            );
        }
    }

    #[test]
    fn values() {
        const URL: &str = "it must be an https URL with a host, without user name and password; \
                           RFC 8555 requires https, http is accepted only for loopback hosts";
        const RESPONDER: &str =
            "it must be an http or https URL with a host, without user name and password";
        const CONTACT: &str = "it must be an e-mail address such as \"admin@corp.example\", with \
                               or without \"mailto:\"";
        const CHALLENGE: &str = "it must be \"http-01\" or \"tls-alpn-01\"";
        const TIMEOUT: &str = "it must be a time such as \"30s\", above 0";
        const BUDGET: &str =
            "it must be a number from 1 to 1000 and a time above 0, such as \"5/7d\"";
        // Directive, value, None: accepted, else how the refusal goes on.
        let table: &[(&str, &str, Option<&str>)] = &[
            ("protocol", "acme", None),
            ("protocol", "vault", Some("it must be \"acme\"")),
            ("protocol", "cfssl", Some("it must be \"acme\"")),
            ("protocol", "est", Some("it must be \"acme\"")),
            ("protocol", "command", Some("it must be \"acme\"")),
            ("url", "https://ca.example/dir", None),
            ("url", "http://127.0.0.1:14000/dir", None),
            ("url", "http://ca.example/dir", Some(URL)),
            ("url", "ca.example", Some(URL)),
            ("ocsp_responder", "http://ocsp.example", None),
            ("ocsp_responder", "https://ocsp.example/x", None),
            ("ocsp_responder", "ldap://ocsp.example", Some(RESPONDER)),
            ("contact", "admin@corp.example", None),
            ("contact", "mailto:admin+tls@corp.example", None),
            ("contact", "admin", Some(CONTACT)),
            ("contact", "@corp.example", Some(CONTACT)),
            ("contact", "a@b@corp.example", Some(CONTACT)),
            ("contact", "a@corp.example,b@corp.example", Some(CONTACT)),
            ("contact", "a@corp.example?subject=x", Some(CONTACT)),
            ("contact", "a b@corp.example", Some(CONTACT)),
            ("contact", "tel:+123", Some(CONTACT)),
            ("contact", "", Some(CONTACT)),
            ("challenge", "http-01", None),
            ("challenge", "tls-alpn-01", None),
            ("challenge", "dns-01", Some(CHALLENGE)),
            ("timeout", "5s", None),
            ("timeout", "1", None),
            ("timeout", "0", Some(TIMEOUT)),
            ("timeout", "soon", Some(TIMEOUT)),
            ("budget", "1/1s", None),
            ("budget", "1000/1w 1d", None),
            ("budget", "0/7d", Some(BUDGET)),
            ("budget", "1001/7d", Some(BUDGET)),
            ("budget", "5/0", Some(BUDGET)),
            ("budget", "5", Some(BUDGET)),
            ("budget", "5/", Some(BUDGET)),
            ("budget", "/7d", Some(BUDGET)),
            ("budget", "-5/7d", Some(BUDGET)),
            ("budget", "5/7d/1", Some(BUDGET)),
            ("trusted_certificate", "", Some("it must be a file")),
            ("account_key", "", Some("it must be a file")),
            ("issuer_certificate", "", Some("it must be a file")),
        ];
        for (name, value, refusal) in table {
            let expected = refusal.map(|r| format!("invalid value \"{value}\" in \"{name}\", {r}"));
            assert_eq!(set(&[(name, &[value])]).err(), expected, "{name} {value}");
        }
    }

    #[test]
    fn shape() {
        let url: Line = ("url", &["https://ca.example/"]);
        let terms: Line = ("accept_terms_of_service", &[]);
        let contact: Line = ("contact", &["a@b.example"]);
        let table: &[(&[Line], &str)] = &[
            (&[url, url], "\"url\" directive is duplicate"),
            (&[terms, terms], "\"accept_terms_of_service\" directive is duplicate"),
            (
                &[contact, contact],
                "invalid value \"a@b.example\" in \"contact\", it must be named once",
            ),
            (
                &[("accept_terms_of_service", &["on"])],
                "invalid number of arguments in \"accept_terms_of_service\" directive, it must be \
                 \"accept_terms_of_service\"",
            ),
            (
                &[("challenge", &["dns-01", "/hook"])],
                "invalid number of arguments in \"challenge\" directive, it must be \"challenge \
                 http-01 | tls-alpn-01\"",
            ),
            (
                &[("crl", &["http://crl.example/"])],
                "unknown directive \"crl\" in ssl_cert_autofetch_ca \"corp\", known are: \
                 \"protocol\", \"url\", \"trusted_certificate\", \"account_key\", \"contact\", \
                 \"accept_terms_of_service\", \"challenge\", \"timeout\", \
                 \"issuer_certificate\", \"ocsp_responder\", \"budget\"",
            ),
            (
                &[("issuer_certificate", &["/x"])],
                "cannot use \"/x\" in \"issuer_certificate\": no such file, it must be a file of \
                 PEM certificates",
            ),
        ];
        for (lines, expected) in table {
            assert_eq!(set(lines).unwrap_err(), *expected);
        }
        let error = set(&[terms]).unwrap().finish().unwrap_err();
        assert_eq!(error, "no \"url\" in ssl_cert_autofetch_ca \"corp\"");
    }

    #[test]
    fn settings() {
        let url: Line = ("url", &["https://ca.example/"]);
        let least = set(&[url]).unwrap().finish().unwrap();
        assert_eq!(
            least,
            CaSettings {
                name: "corp".into(),
                url: "https://ca.example/".into(),
                trusted_certificate: None,
                account_key: None,
                contact: vec![],
                accept_terms_of_service: false,
                challenge: Challenge::Http01,
                timeout: Duration::from_secs(30),
                issuer_certificate: None,
                budget: Budget { count: 5, window: Duration::from_secs(7 * 86400) },
                evidence: EvidenceSettings::default(),
            }
        );
        let full = set(&[
            url,
            ("protocol", &["acme"]),
            ("contact", &["a@b.example", "MAILTO:c@D.example"]),
            ("contact", &["d@b.example"]),
            ("accept_terms_of_service", &[]),
            ("challenge", &["tls-alpn-01"]),
            ("timeout", &["5s"]),
            ("ocsp_responder", &["http://ocsp.example/"]),
            ("budget", &["2/1h 30m"]),
        ]);
        assert_eq!(
            full.unwrap().finish().unwrap(),
            CaSettings {
                contact: ["mailto:a@b.example", "mailto:c@D.example", "mailto:d@b.example"]
                    .map(String::from)
                    .into(),
                accept_terms_of_service: true,
                challenge: Challenge::TlsAlpn01,
                timeout: Duration::from_secs(5),
                budget: Budget { count: 2, window: Duration::from_secs(5400) },
                evidence: EvidenceSettings {
                    ocsp_responder: Some("http://ocsp.example/".into()),
                    ..EvidenceSettings::default()
                },
                ..least
            }
        );
    }
}
