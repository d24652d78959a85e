//! `ssl_cert_autofetch_ca NAME { ... }`: one certificate authority.

use std::path::PathBuf;
use std::time::Duration;

use super::block::SWITCH;
use super::challenge::challenge;
use super::est;
use super::files::{
    Read, account_key, auth_key, certificates, client_key, is_key_of, mac_key, one_certificate,
    password, program, roots, signer,
};
use super::url::{Plain, base, check_way, proxy, url};
use super::values::{Choices, choice, invalid, list, number, parse_time, shown, word};
use super::{CA_DIRECTIVES, find, first, once};
use crate::names::is_host_name;
use crate::settings::{
    AcmeSettings, Budget, CaSettings, CfsslSettings, Challenge, CommandSettings, Dn, EstSettings,
    EvidenceSettings, ExternalAccount, Nonce, Protocol, ProxySettings, Secret, Signer,
    VaultSettings, WaySettings,
};

/// The protocols, by name.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum Kind {
    #[default]
    Acme,
    Vault,
    Cfssl,
    Est,
    Command,
}

const ACME: &[Kind] = &[Kind::Acme];
const VAULT: &[Kind] = &[Kind::Vault];
const CFSSL: &[Kind] = &[Kind::Cfssl];
const WITH_PROFILE: &[Kind] = &[Kind::Acme, Kind::Cfssl];
const EST: &[Kind] = &[Kind::Est];
const COMMAND: &[Kind] = &[Kind::Command];
const WITH_URL: &[Kind] = &[Kind::Acme, Kind::Vault, Kind::Cfssl, Kind::Est];

const PROTOCOLS: Choices<Kind> = &[
    ("acme", Kind::Acme),
    ("vault", Kind::Vault),
    ("cfssl", Kind::Cfssl),
    ("est", Kind::Est),
    ("command", Kind::Command),
];

const NONCES: Choices<Nonce> =
    &[("on", Nonce::On), ("off", Nonce::Off), ("required", Nonce::Required)];

const TIMEOUT: Duration = Duration::from_secs(30);

/// What the block says so far. Values are good each for itself.
#[derive(Debug, Default)]
pub struct RawCa {
    name: String,
    protocol: Option<Kind>,
    url: Option<String>,
    trusted_certificate: Option<Vec<u8>>,
    client_certificate: Option<Vec<u8>>,
    client_certificate_key: Option<Secret>,
    proxy: Option<ProxySettings>,
    account_key: Option<Secret>,
    contact: Vec<String>,
    accept_terms_of_service: Option<()>,
    external_account: Option<ExternalAccount>,
    challenge: Option<(Challenge, Option<String>)>,
    role: Option<String>,
    token_file: Option<PathBuf>,
    namespace: Option<String>,
    profile: Option<String>,
    preferred_chain: Option<String>,
    auth_key: Option<Secret>,
    username: Option<String>,
    password: Option<Secret>,
    server_keygen: Option<bool>,
    command: Option<Vec<String>>,
    timeout: Option<Duration>,
    subject: Option<Dn>,
    issuer_certificate: Option<Vec<u8>>,
    wildcards: Option<bool>,
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
        Ok(RawCa { name: name.to_owned(), ..RawCa::default() })
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
                once(&mut self.trusted_certificate, name, || file(value, name, read, roots))
            }
            "client_certificate" => {
                once(&mut self.client_certificate, name, || file(value, name, read, certificates))
            }
            "client_certificate_key" => {
                once(&mut self.client_certificate_key, name, || file(value, name, read, client_key))
            }
            "proxy" => once(&mut self.proxy, name, || proxy(value, name)),
            "account_key" => {
                once(&mut self.account_key, name, || file(value, name, read, account_key))
            }
            "contact" => args.iter().try_for_each(|a| self.add_contact(a, name)),
            "accept_terms_of_service" => once(&mut self.accept_terms_of_service, name, || Ok(())),
            "external_account_key" => {
                let key = args.get(1).copied().unwrap_or_default();
                once(&mut self.external_account, name, || external_account(value, key, name, read))
            }
            "challenge" => {
                once(&mut self.challenge, name, || challenge(value, args.get(1).copied(), name))
            }
            "role" => once(&mut self.role, name, || segment(value, name)),
            "token_file" => once(&mut self.token_file, name, || path(value, name)),
            "namespace" => once(&mut self.namespace, name, || namespace(value, name)),
            "profile" => once(&mut self.profile, name, || segment(value, name)),
            "preferred_chain" => once(&mut self.preferred_chain, name, || issuer(value, name)),
            "auth_key_file" => once(&mut self.auth_key, name, || file(value, name, read, auth_key)),
            "username" => once(&mut self.username, name, || est::username(value, name)),
            "password_file" => once(&mut self.password, name, || file(value, name, read, password)),
            "server_keygen" => once(&mut self.server_keygen, name, || choice(SWITCH, value, name)),
            "command" => once(&mut self.command, name, || command(args, name)),
            "timeout" => once(&mut self.timeout, name, || timeout(value, name)),
            "subject" => once(&mut self.subject, name, || subject(value, name)),
            "issuer_certificate" => {
                once(&mut self.issuer_certificate, name, || file(value, name, read, certificates))
            }
            "wildcards" => once(&mut self.wildcards, name, || choice(SWITCH, value, name)),
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

    /// The full name of `token_file`, which is not read with the configuration.
    pub fn resolve_token_file(&mut self, file: PathBuf) {
        self.token_file = Some(file);
    }

    /// Whether the program that a directive names, if it names one, is there, as far as its mode
    /// tells.
    pub fn check_program(&self, directive: &str) -> Result<(), String> {
        let path = match directive {
            "command" => self.command.iter().flatten().next(),
            "challenge" => self.challenge.as_ref().and_then(|(_, hook)| hook.as_ref()),
            _ => None,
        };
        path.map_or(Ok(()), |path| program(path, directive))
    }

    /// At the end of the block.
    pub fn finish(mut self) -> Result<CaSettings, String> {
        let protocol = self.protocol()?;
        let client_certificate = self.client_certificate()?;
        let can_prove = protocol.proves_wildcards();
        if self.wildcards == Some(true) && !can_prove {
            return Err(format!(
                "\"wildcards on\" in ssl_cert_autofetch_ca \"{}\" needs \"challenge dns-01 \
                 HOOK\", no other challenge proves wildcards",
                self.name
            ));
        }
        Ok(CaSettings {
            protocol,
            wildcards: self.wildcards.unwrap_or(can_prove),
            way: WaySettings {
                trusted_certificate: self.trusted_certificate,
                client_certificate,
                proxy: self.proxy,
            },
            subject: self.subject,
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

    fn protocol(&mut self) -> Result<Protocol, String> {
        self.check_protocol()?;
        let ca = self.name.clone();
        let missing = |name: &str| format!("no \"{name}\" in ssl_cert_autofetch_ca \"{ca}\"");
        let timeout = self.timeout.unwrap_or(TIMEOUT);
        let (challenge, hook) = self.challenge.take().unwrap_or_default();
        let kind = self.protocol.unwrap_or_default();
        let url = match WITH_URL.contains(&kind) {
            true => self.url.take().ok_or_else(|| missing("url"))?,
            false => String::new(),
        };
        self.proxy.iter().try_for_each(|proxy| check_way(&url, proxy, &self.name))?;
        Ok(match kind {
            Kind::Acme => Protocol::Acme(AcmeSettings {
                account_key: self.account_key.take(),
                contact: std::mem::take(&mut self.contact),
                accept_terms_of_service: self.accept_terms_of_service.is_some(),
                external_account: self.external_account.take(),
                challenge,
                hook,
                profile: self.profile.take(),
                preferred_chain: self.preferred_chain.take(),
                ca,
                url,
                timeout,
            }),
            Kind::Cfssl => Protocol::Cfssl(CfsslSettings {
                profile: self.profile.take(),
                auth_key: self.auth_key.take(),
                url: base(url, "url")?,
                ca,
                timeout,
            }),
            Kind::Est => {
                let (username, password) = (self.username.take(), self.password.take());
                match (&username, &password) {
                    (Some(_), None) => return Err(missing("password_file")),
                    (None, Some(_)) => return Err(missing("username")),
                    _ => {}
                }
                Protocol::Est(EstSettings {
                    url: est::base(&url, "url")?,
                    username,
                    password,
                    server_keygen: self.server_keygen.unwrap_or_default(),
                    ca,
                    timeout,
                })
            }
            Kind::Command => Protocol::Command(CommandSettings {
                command: self.command.take().ok_or_else(|| missing("command"))?,
                ca,
                timeout,
            }),
            Kind::Vault => Protocol::Vault(VaultSettings {
                role: self.role.take().ok_or_else(|| missing("role"))?,
                token_file: self.token_file.take().ok_or_else(|| missing("token_file"))?,
                namespace: self.namespace.take(),
                url: base(url, "url")?,
                ca,
                timeout,
            }),
        })
    }

    /// Both or none, and they belong together.
    fn client_certificate(&mut self) -> Result<Option<Signer>, String> {
        const NAMES: [&str; 2] = ["client_certificate", "client_certificate_key"];
        let ca = &self.name;
        let missing = |name: &str, given: &str| {
            Err(format!("no \"{name}\" for the \"{given}\" in ssl_cert_autofetch_ca \"{ca}\""))
        };
        match (self.client_certificate.take(), self.client_certificate_key.take()) {
            (None, None) => Ok(None),
            (Some(_), None) => missing(NAMES[1], NAMES[0]),
            (None, Some(_)) => missing(NAMES[0], NAMES[1]),
            (Some(certificate), Some(key)) => match is_key_of(&key, &certificate) {
                true => Ok(Some(Signer { certificate, key })),
                false => Err(format!(
                    "\"{}\" in ssl_cert_autofetch_ca \"{ca}\" must be the key of the first \
                     certificate in \"{}\"",
                    NAMES[1], NAMES[0]
                )),
            },
        }
    }

    /// What is of no use with the protocol is a mistake: it would be missed elsewhere.
    fn check_protocol(&self) -> Result<(), String> {
        let kind = self.protocol.unwrap_or_default();
        let given = [
            ("account_key", ACME, self.account_key.is_some()),
            ("contact", ACME, !self.contact.is_empty()),
            ("accept_terms_of_service", ACME, self.accept_terms_of_service.is_some()),
            ("external_account_key", ACME, self.external_account.is_some()),
            ("challenge", ACME, self.challenge.is_some()),
            ("role", VAULT, self.role.is_some()),
            ("token_file", VAULT, self.token_file.is_some()),
            ("namespace", VAULT, self.namespace.is_some()),
            ("profile", WITH_PROFILE, self.profile.is_some()),
            ("preferred_chain", ACME, self.preferred_chain.is_some()),
            ("auth_key_file", CFSSL, self.auth_key.is_some()),
            ("username", EST, self.username.is_some()),
            ("password_file", EST, self.password.is_some()),
            ("server_keygen", EST, self.server_keygen.is_some()),
            ("command", COMMAND, self.command.is_some()),
            ("url", WITH_URL, self.url.is_some()),
        ];
        match given.iter().find(|(_, of, is_given)| *is_given && !of.contains(&kind)) {
            Some((directive, of, _)) => Err(format!(
                "\"{directive}\" in ssl_cert_autofetch_ca \"{}\" is of protocol {}, but its \
                 protocol is \"{}\"",
                self.name,
                list(of.iter().map(|kind| word(PROTOCOLS, kind))),
                word(PROTOCOLS, &kind)
            )),
            None => Ok(()),
        }
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

/// One segment of a URL's path.
fn segment(value: &str, directive: &str) -> Result<String, String> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    let good =
        (1..=128).contains(&value.len()) && value.bytes().all(plain) && !value.starts_with('.');
    let accepted = "1 to 128 letters, digits, \"-\", \"_\" or \".\", no \".\" first";
    good.then(|| value.to_owned()).ok_or_else(|| invalid(value, directive, accepted))
}

/// Segments with slashes between them.
fn namespace(value: &str, directive: &str) -> Result<String, String> {
    let accepted = "names of letters, digits, \"-\", \"_\" or \".\" with \"/\" between them";
    let segments = value.trim_end_matches('/').split('/').all(|s| segment(s, directive).is_ok());
    (segments && value.len() <= 512)
        .then(|| value.to_owned())
        .ok_or_else(|| invalid(value, directive, accepted))
}

fn path(value: &str, directive: &str) -> Result<PathBuf, String> {
    match value {
        "" => Err(invalid(value, directive, "a file")),
        value => Ok(value.into()),
    }
}

/// A program and its arguments.
fn command(args: &[&str], directive: &str) -> Result<Vec<String>, String> {
    let path = args.first().copied().unwrap_or_default();
    match path.starts_with('/') {
        true => Ok(args.iter().map(|arg| (*arg).to_owned()).collect()),
        false => Err(invalid(path, directive, "the absolute path of a program, and its arguments")),
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

fn subject(value: &str, directive: &str) -> Result<Dn, String> {
    let accepted = |cause| format!("attributes such as \"O=Corp, OU=Web, C=DE\": {cause}");
    Dn::parse(value).map_err(|cause| invalid(value, directive, &accepted(cause)))
}

/// A common name, as long as one can be (RFC 5280 appendix A.1: 64 characters).
fn issuer(value: &str, directive: &str) -> Result<String, String> {
    let good = (1..=64).contains(&value.chars().count()) && !value.contains(char::is_control);
    let accepted = "the common name of an issuer, such as \"Corp Root X1\"";
    good.then(|| value.to_owned()).ok_or_else(|| invalid(value, directive, accepted))
}

/// A key's name goes into a header in JSON: any text that can be seen.
fn external_account(
    kid: &str,
    key: &str,
    directive: &str,
    read: Read,
) -> Result<ExternalAccount, String> {
    if !(1..=512).contains(&kid.len()) || !kid.bytes().all(|b| b.is_ascii_graphic()) {
        let accepted = "the name of the key as the CA hands it out, without spaces, and a file";
        return Err(invalid(kid, directive, accepted));
    }
    let key = file(key, directive, read, mac_key)?;
    Ok(ExternalAccount { kid: kid.to_owned(), key })
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
