//! What the administrator asked for, validated: a value of these types can't be wrong.

mod dn;

pub use dn::Dn;

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::names::{self, is_host_name};

/// The settings of one entry (one certificate).
#[derive(Clone, Debug, PartialEq)]
pub struct EntrySettings {
    /// The first exact server name; also the name of the entry's directory.
    pub name: EntryName,
    /// What its certificate is to cover, as [`names`] writes it: all exact names, the entry's name
    /// first, and behind them the wildcards, where each of its CAs issues them.
    pub names: Vec<String>,
    /// Names of CAs in order of preference; at least one.
    pub cas: Vec<String>,
    pub check: Check,
    /// How long a good answer is relied on at most; zero: none is reused.
    pub check_interval: Duration,
    /// How long a handshake is held at most.
    pub timeout: Duration,
    pub renew_before: RenewBefore,
    pub key: KeyType,
    /// Whether any of its servers staples the newest good OCSP answer.
    pub stapling: bool,
    /// Whether new certificates ask clients to insist on a staple (RFC 7633).
    pub must_staple: bool,
}

impl EntrySettings {
    /// The names without which a client that asks for one of them is not served.
    pub fn exact_names(&self) -> impl Iterator<Item = &String> {
        self.names.iter().filter(|name| names::wildcard(name).is_none())
    }
}

/// A plain host name in lower case or the address of a host as [`names`] writes it: safe as the
/// name of a directory.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct EntryName(String);

impl EntryName {
    /// Accepts letters, digits, `-`, `_` and `.` in labels of 1 to 63, 253 at most, and addresses,
    /// without brackets.
    pub fn new(name: &str) -> Option<EntryName> {
        let name = name.to_ascii_lowercase();
        let name = if is_host_name(&name) { Some(name) } else { names::host_address(&name) };
        name.map(EntryName)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for EntryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What to do without proof of validity.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Check {
    Hard,
    #[default]
    Soft,
    Off,
}

/// When to renew before notAfter.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RenewBefore {
    Time(Duration),
    /// Per cent of the certificate's life, 1 to 99.
    Percent(u8),
}

impl Default for RenewBefore {
    fn default() -> Self {
        RenewBefore::Percent(33)
    }
}

#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum KeyType {
    #[default]
    Ecdsa256,
    Ecdsa384,
    Rsa2048,
    Rsa3072,
    Rsa4096,
}

/// A certificate authority. Files named in the configuration are already read.
#[derive(Clone, Debug, PartialEq)]
pub struct CaSettings {
    /// From the configuration: a plain word, safe as the name of a directory.
    pub name: String,
    pub protocol: Protocol,
    pub way: WaySettings,
    /// What its requests have in their subject beside the common name, which is the first name
    /// unless it is in here too.
    pub subject: Option<Dn>,
    /// PEM: trust anchors for what this CA issues.
    pub issuer_certificate: Option<Vec<u8>>,
    /// Whether it is asked for wildcard names.
    pub wildcards: bool,
    pub budget: Budget,
    pub evidence: EvidenceSettings,
}

/// How requests get to a CA, and to its OCSP and CRL servers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WaySettings {
    /// PEM of the roots that the CA's TLS certificate must lead to; None: the system's.
    pub trusted_certificate: Option<Vec<u8>>,
    /// Who we are, to a server that asks in TLS.
    pub client_certificate: Option<Signer>,
    /// None: no proxy, whatever the environment says.
    pub proxy: Option<ProxySettings>,
}

/// An http proxy.
#[derive(Clone, Debug, PartialEq)]
pub struct ProxySettings {
    /// `http://[USER:PASSWORD@]HOST:PORT`
    pub url: Secret,
}

/// How a CA is talked to, with all that this protocol needs.
#[derive(Clone, Debug, PartialEq)]
pub enum Protocol {
    Acme(AcmeSettings),
    Vault(VaultSettings),
    Cfssl(CfsslSettings),
    Est(EstSettings),
    Command(CommandSettings),
}

impl Protocol {
    /// Whether it has a proof for IP addresses: dns-01 has none (RFC 8738 section 7).
    pub fn proves_addresses(&self) -> bool {
        !matches!(self, Protocol::Acme(acme) if acme.challenge == Challenge::Dns01)
    }

    /// Whether it has a proof for wildcards: of ACME's challenges dns-01 alone (RFC 8555 section
    /// 8.3, RFC 8737 section 3).
    pub fn proves_wildcards(&self) -> bool {
        !matches!(self, Protocol::Acme(acme) if acme.challenge != Challenge::Dns01)
    }

    /// Where requests go to; None: to no server.
    pub fn url(&self) -> Option<&str> {
        match self {
            Protocol::Acme(acme) => Some(&acme.url),
            Protocol::Vault(vault) => Some(&vault.url),
            Protocol::Cfssl(cfssl) => Some(&cfssl.url),
            Protocol::Est(est) => Some(&est.url),
            Protocol::Command(_) => None,
        }
    }
}

/// `protocol acme` (RFC 8555).
#[derive(Clone, Debug, PartialEq)]
pub struct AcmeSettings {
    /// The CA's name.
    pub ca: String,
    /// The directory.
    pub url: String,
    /// For one request.
    pub timeout: Duration,
    /// PEM of the account key; None: one is made and kept in the keystore.
    pub account_key: Option<Secret>,
    /// URLs, `mailto:` in front.
    pub contact: Vec<String>,
    pub accept_terms_of_service: bool,
    /// What binds a new account to the customer that the CA knows (RFC 8555 section 7.3.4).
    pub external_account: Option<ExternalAccount>,
    pub challenge: Challenge,
    /// The path of the program that answers dns-01; None with every other challenge.
    pub hook: Option<String>,
    /// One of those that the directory lists.
    pub profile: Option<String>,
    /// Common name of the issuer at the top of the chain that is wanted.
    pub preferred_chain: Option<String>,
}

/// Credentials that a CA hands out for one account or several.
#[derive(Clone, Debug, PartialEq)]
pub struct ExternalAccount {
    /// The key's name at the CA; no secret.
    pub kid: String,
    /// The bytes of the MAC key.
    pub key: Secret,
}

/// `protocol vault`: the PKI secrets engine of OpenBao and Vault.
#[derive(Clone, Debug, PartialEq)]
pub struct VaultSettings {
    /// The CA's name.
    pub ca: String,
    /// The mount, such as `https://vault.corp.example:8200/v1/pki`.
    pub url: String,
    /// For one request.
    pub timeout: Duration,
    pub role: String,
    /// Read anew for each request.
    pub token_file: PathBuf,
    pub namespace: Option<String>,
}

/// `protocol cfssl`.
#[derive(Clone, Debug, PartialEq)]
pub struct CfsslSettings {
    /// The CA's name.
    pub ca: String,
    /// The server, such as `https://cfssl.corp.example:8888`.
    pub url: String,
    /// For one request.
    pub timeout: Duration,
    pub profile: Option<String>,
    /// The bytes of the profile's key; None: it asks for no authentication.
    pub auth_key: Option<Secret>,
}

/// `protocol est` (RFC 7030).
#[derive(Clone, Debug, PartialEq)]
pub struct EstSettings {
    /// The CA's name.
    pub ca: String,
    /// What the operations stand behind, such as `https://est.corp.example/.well-known/est`.
    pub url: String,
    /// For one request.
    pub timeout: Duration,
    /// For HTTP Basic authentication; with a password or not at all.
    pub username: Option<String>,
    pub password: Option<Secret>,
    /// The CA makes the keys.
    pub server_keygen: bool,
}

/// `protocol command`: a program of the administrator.
#[derive(Clone, Debug, PartialEq)]
pub struct CommandSettings {
    /// The CA's name.
    pub ca: String,
    /// The program, an absolute path, and its arguments.
    pub command: Vec<String>,
    /// For one run.
    pub timeout: Duration,
}

/// Who is asked about the leaves that a CA issued, and who is believed. Intermediates are asked
/// about where they say so themselves.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EvidenceSettings {
    /// Instead of the responders that the leaf names.
    pub ocsp_responder: Option<String>,
    /// PEM of one certificate: a further accepted signer of OCSP answers.
    pub ocsp_certificate: Option<Vec<u8>>,
    /// Signs OCSP requests.
    pub ocsp_signer: Option<Signer>,
    pub ocsp_nonce: Nonce,
    /// Instead of the CRL distribution points that the leaf names.
    pub crl: Option<String>,
}

/// A certificate and its key, PEM; the certificate's chain may follow it.
#[derive(Clone, Debug, PartialEq)]
pub struct Signer {
    pub certificate: Vec<u8>,
    pub key: Secret,
}

/// RFC 9654: what makes an OCSP answer one to our question.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Nonce {
    /// Sent; an answer without one is accepted, as pre-produced answers (RFC 5019) have none.
    #[default]
    On,
    Off,
    Required,
}

/// Replacements that are not due by time: at most `count` in `window`, per entry and CA.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Budget {
    pub count: u32,
    pub window: Duration,
}

impl Default for Budget {
    fn default() -> Self {
        Budget { count: 5, window: Duration::from_secs(7 * 86400) }
    }
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub enum Challenge {
    #[default]
    #[serde(rename = "http-01")]
    Http01,
    #[serde(rename = "tls-alpn-01")]
    TlsAlpn01,
    #[serde(rename = "dns-01")]
    Dns01,
}

/// Bytes that never appear in a log and are wiped when dropped.
#[derive(Clone, PartialEq)]
pub struct Secret(zeroize::Zeroizing<Vec<u8>>);

impl Secret {
    pub fn new(bytes: Vec<u8>) -> Secret {
        Secret(zeroize::Zeroizing::new(bytes))
    }

    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// What the keystore's private keys are encrypted with: the first encrypts, all decrypt. None:
/// they are not encrypted.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Passwords(Vec<Secret>);

impl Passwords {
    pub fn new(all: Vec<Secret>) -> Passwords {
        Passwords(all)
    }

    /// Of a password file: one a line, in any system's lines. The error is the cause in words.
    pub fn of_lines(file: &Secret) -> Result<Passwords, String> {
        // Each may be tried on a key, which takes its time.
        const MOST: usize = 16;
        const LONGEST: usize = 1024;
        let without_cr = |line: &[u8]| {
            let end = line.iter().rposition(|b| *b != b'\r').map_or(0, |last| last + 1);
            Secret::new(line[..end].to_vec())
        };
        let lines = file.bytes().split(|b| *b == b'\n').map(without_cr);
        let lines: Vec<Secret> = lines.filter(|line| !line.bytes().is_empty()).collect();
        match lines.len() {
            0 => Err("no password found".into()),
            1..=MOST if lines.iter().all(|line| line.bytes().len() <= LONGEST) => {
                Ok(Passwords(lines))
            }
            1..=MOST => Err("a line is too long".into()),
            lines => Err(format!("{lines} passwords found")),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn first(&self) -> Option<&Secret> {
        self.0.first()
    }

    pub fn iter(&self) -> impl Iterator<Item = &Secret> {
        self.0.iter()
    }

    /// Whether everything that `other` decrypts is decrypted.
    pub fn include(&self, other: &Passwords) -> bool {
        other.iter().all(|password| self.0.contains(password))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entry_names() {
        let long = format!("{}.example", "a".repeat(63));
        for good in ["shop.example", "SHOP.example", "a", "x-1._y.example", long.as_str()] {
            assert!(EntryName::new(good).is_some(), "{good}");
        }
        for (address, name) in
            [("192.0.2.1", "192.0.2.1"), ("2001:DB8:0::1", "2001:db8::1"), ("::1", "::1")]
        {
            assert_eq!(EntryName::new(address).unwrap().as_str(), name);
        }
        let too_long = "a".repeat(64);
        for bad in [
            "",
            ".",
            "..",
            "a..b",
            ".a",
            "a.",
            "-a",
            "a-",
            "*.a",
            "a/b",
            "a\0b",
            "0.0.0.0",
            "::",
            ":",
            "192.0.2.01",
            "192.0.2.1/24",
            "[::1]",
            "fe80::1%lo",
            "fe80::1%../x",
            "~x",
            &too_long,
        ] {
            assert!(EntryName::new(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn secrets_are_not_printed() {
        assert_eq!(format!("{:?}", Secret::new(b"hush".to_vec())), "Secret(..)");
    }
}
