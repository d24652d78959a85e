//! The configuration, as far as it needs no nginx: which directives there are, what their values
//! may be, and the settings that come of them. Reads no file itself (it only looks whether a program
//! can be run) and resolves no path.
//!
//! A directive is checked when it is read, so that nginx can name its file and line; what only
//! the whole configuration tells (unknown CAs, server names, conflicts) is checked by [`entry`]
//! and [`unite`]. Every refusal is one line for the administrator: directive, value, what is
//! accepted.

mod block;
mod ca;
mod challenge;
mod entry;
mod est;
mod files;
mod global;
mod server_names;
mod url;
mod values;

pub use block::RawBlock;
pub use ca::RawCa;
pub use entry::{entry, known_cas, unite, warnings};
pub use global::{DEFAULT_KEYSTORE, RawMain};
pub use url::host;
pub use values::parse_time;

use std::fmt;

/// A directive, for nginx's command table, for the check of its arguments and for the README.
#[derive(Clone, Copy, Debug)]
pub struct Directive {
    pub name: &'static str,
    pub contexts: &'static [Context],
    /// Arguments at least.
    pub min: usize,
    /// Arguments at most; `usize::MAX`: any number.
    pub max: usize,
    /// The arguments, as the README writes them.
    pub syntax: &'static str,
    pub default: &'static str,
    pub meaning: &'static str,
    /// Whether `{ ... }` follows.
    pub block: bool,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Context {
    Http,
    Server,
    Location,
    /// Inside `ssl_cert_autofetch_ca NAME { }`.
    Ca,
}

impl fmt::Display for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Context::Http => "http",
            Context::Server => "server",
            Context::Location => "location",
            Context::Ca => "ssl_cert_autofetch_ca",
        })
    }
}

const HTTP: &[Context] = &[Context::Http];
const HTTP_SERVER: &[Context] = &[Context::Http, Context::Server];

pub static DIRECTIVES: &[Directive] = &[
    Directive {
        name: "ssl_cert_autofetch",
        contexts: HTTP_SERVER,
        min: 1,
        max: usize::MAX,
        syntax: "off | CA [CA...]",
        default: "off",
        meaning: "manage this server's certificate with the named CAs, in order of preference",
        block: false,
    },
    Directive {
        name: "ssl_cert_autofetch_keystore",
        contexts: HTTP,
        min: 1,
        max: 3,
        syntax: "DIR [password_file=FILE] [group=GROUP]",
        default: DEFAULT_KEYSTORE,
        meaning: "shared keystore, made with its parents and owned by the workers' user; with a \
                  password file private keys are stored encrypted (PKCS#8, PBES2; the first line \
                  encrypts, all lines decrypt); with a group certificates and keys are readable \
                  by it (0750/0640)",
        block: false,
    },
    Directive {
        name: "ssl_cert_autofetch_ca",
        contexts: HTTP,
        min: 1,
        max: 1,
        syntax: "NAME { ... }",
        default: "",
        meaning: "a certificate authority, below",
        block: true,
    },
    Directive {
        name: "ssl_cert_autofetch_check",
        contexts: HTTP_SERVER,
        min: 1,
        max: 1,
        syntax: "hard | soft | off",
        default: "soft",
        meaning: "what to do without proof of validity: refuse, serve; off: nothing is asked, but \
                  stored evidence of revocation, expiry, names and key count as ever",
        block: false,
    },
    Directive {
        name: "ssl_cert_autofetch_check_interval",
        contexts: HTTP_SERVER,
        min: 1,
        max: 1,
        syntax: "TIME",
        default: "1h",
        meaning: "a good answer is relied on this long at most; `0`: none is reused (concurrent \
                  handshakes share one query; no background refresh)",
        block: false,
    },
    Directive {
        name: "ssl_cert_autofetch_timeout",
        contexts: HTTP_SERVER,
        min: 1,
        max: 1,
        syntax: "TIME",
        default: "10s",
        meaning: "how long a handshake is held at most, up to 1h; a value not below \
                  `client_header_timeout` is lowered with one warning",
        block: false,
    },
    Directive {
        name: "ssl_cert_autofetch_max_held",
        contexts: HTTP,
        min: 1,
        max: 1,
        syntax: "N",
        default: "worker_connections / 4",
        meaning: "held handshakes a worker at most; beyond it `soft` serves what is not known to \
                  be bad, `hard` refuses",
        block: false,
    },
    Directive {
        name: "ssl_cert_autofetch_renew_before",
        contexts: HTTP_SERVER,
        min: 1,
        max: 1,
        syntax: "TIME | N%",
        default: "33%",
        meaning: "renew this long before notAfter; per cent are of the certificate's life; where \
                  an ACME CA suggests a time (ARI), that goes first",
        block: false,
    },
    Directive {
        name: "ssl_cert_autofetch_key",
        contexts: HTTP_SERVER,
        min: 1,
        max: 1,
        syntax: "ecdsa:256 | ecdsa:384 | rsa:2048 | rsa:3072 | rsa:4096",
        default: "ecdsa:256",
        meaning: "key of new certificates",
        block: false,
    },
    Directive {
        name: "ssl_cert_autofetch_stapling",
        contexts: HTTP_SERVER,
        min: 1,
        max: 1,
        syntax: "on | off",
        default: "on",
        meaning: "staple the newest good answer, from the first handshake on",
        block: false,
    },
    Directive {
        name: "ssl_cert_autofetch_must_staple",
        contexts: HTTP_SERVER,
        min: 1,
        max: 1,
        syntax: "on | off",
        default: "off",
        meaning: "ask for the TLS feature extension",
        block: false,
    },
    Directive {
        name: "ssl_cert_autofetch_status",
        contexts: &[Context::Location],
        min: 0,
        max: 0,
        syntax: "",
        default: "",
        meaning: "answer with the status as JSON; restrict it by `allow` and `deny`",
        block: false,
    },
];

const CA: &[Context] = &[Context::Ca];

/// A CA directive with one argument: nearly all are.
const fn ca_directive(
    name: &'static str,
    syntax: &'static str,
    default: &'static str,
    meaning: &'static str,
) -> Directive {
    Directive { name, contexts: CA, min: 1, max: 1, syntax, default, meaning, block: false }
}

pub static CA_DIRECTIVES: &[Directive] = &[
    ca_directive(
        "protocol",
        "acme | vault | cfssl | est | command",
        "acme",
        "how to talk to the CA: ACME (RFC 8555), the PKI engine of OpenBao and Vault, cfssl's \
         JSON API, EST (RFC 7030), a program of yours",
    ),
    ca_directive(
        "url",
        "URL",
        "",
        "the ACME directory, vault's mount (`https://HOST/v1/pki`), cfssl's server, or the base \
         of EST (`https://HOST/.well-known/est`, a label may follow); required, but not with a \
         program; https, or, but for EST, http to a loopback host",
    ),
    ca_directive(
        "trusted_certificate",
        "FILE",
        "the system's",
        "PEM of the roots that the TLS certificate of the CA must lead to",
    ),
    ca_directive(
        "client_certificate",
        "FILE",
        "",
        "PEM of the certificate that the CA's TLS server is shown when it asks for one; its chain \
         may follow",
    ),
    ca_directive(
        "client_certificate_key",
        "FILE",
        "",
        "PEM of its unencrypted private key; required with it",
    ),
    ca_directive(
        "proxy",
        "URL",
        "",
        "`http://[USER:PASSWORD@]HOST:PORT`: the http proxy to the CA and to its OCSP and CRL \
         servers, loopback addresses too; one that is not on loopback itself needs an https `url`; \
         that of the environment is never used",
    ),
    ca_directive(
        "account_key",
        "FILE",
        "made and kept in the keystore",
        "PEM of the ACME account's private key: ECDSA P-256 or P-384, or RSA of 2048 bits or more; \
         it is kept in the keystore too, and when another one is named the account is rolled over \
         to it",
    ),
    Directive {
        max: usize::MAX,
        ..ca_directive(
            "contact",
            "ADDRESS...",
            "",
            "e-mail addresses or `mailto:` URLs that the CA may write to",
        )
    },
    Directive {
        min: 0,
        max: 0,
        ..ca_directive(
            "accept_terms_of_service",
            "",
            "not accepted",
            "agree to the CA's terms of service",
        )
    },
    Directive {
        min: 2,
        max: 2,
        ..ca_directive(
            "external_account_key",
            "KID FILE",
            "",
            "acme: external account binding: the key's name and a file with the HMAC key in \
             base64url, as the CA hands them out; used once, for a new account",
        )
    },
    Directive {
        max: 2,
        ..ca_directive(
            "challenge",
            "http-01 | tls-alpn-01 | dns-01 HOOK",
            "http-01",
            "how the CA is shown that the names are ours: http-01 and tls-alpn-01 are answered by \
             this nginx, dns-01 by a program of yours (absolute path, see below), for wildcards \
             too",
        )
    },
    ca_directive("role", "NAME", "", "vault: the role to issue by, required"),
    ca_directive(
        "token_file",
        "FILE",
        "",
        "vault: a file with the token, required; the workers read it anew for each request",
    ),
    ca_directive("namespace", "PATH", "", "vault: the namespace of the mount"),
    ca_directive(
        "profile",
        "NAME",
        "the server's default",
        "acme: one of the certificate profiles that the directory lists; cfssl: the signing profile",
    ),
    ca_directive(
        "preferred_chain",
        "NAME",
        "the CA's default",
        "acme: of several chains take the one whose topmost certificate was issued by this common name",
    ),
    ca_directive(
        "auth_key_file",
        "FILE",
        "",
        "cfssl: a file with the profile's authentication key in hexadecimal digits",
    ),
    ca_directive("username", "NAME", "", "est: for HTTP Basic authentication"),
    ca_directive("password_file", "FILE", "", "est: a file with the password in one line"),
    ca_directive(
        "server_keygen",
        "on | off",
        "off",
        "est: the CA makes the private keys too, of the kind that it likes",
    ),
    Directive {
        max: usize::MAX,
        ..ca_directive(
            "command",
            "PATH [ARG...]",
            "",
            "command: the program, required; it gets the CSR in PEM on its standard input and \
             writes the chain in PEM to its standard output, see \"Programs as a CA\"",
        )
    },
    ca_directive("timeout", "TIME", "30s", "for one request to the CA, or one run of the program"),
    ca_directive(
        "subject",
        "DN",
        "",
        "put into the CSR, such as `\"O=Corp, OU=Web, C=DE\"`, in this order; CN is the first host \
         name of the request unless it is given here; CAs may leave it out",
    ),
    ca_directive(
        "issuer_certificate",
        "FILE",
        "",
        "PEM of the trust anchors for what this CA issues; without it the delivered chain must \
         link the leaf to its second certificate, and a chain of one is refused",
    ),
    ca_directive(
        "wildcards",
        "on | off",
        "on; off with http-01 and tls-alpn-01",
        "ask for the wildcards among the server names, such as `*.corp.example`; off where the CA \
         refuses them",
    ),
    ca_directive(
        "ocsp_responder",
        "URL",
        "the certificate's own",
        "ask this OCSP responder about the leaf",
    ),
    ca_directive(
        "ocsp_certificate",
        "FILE",
        "",
        "PEM of a further accepted signer of OCSP answers about the leaf, as long as it is valid \
         itself",
    ),
    Directive {
        min: 2,
        max: 2,
        ..ca_directive(
            "ocsp_signer",
            "CERT KEY",
            "",
            "sign OCSP requests about the leaf: PEM of a certificate, its chain may follow, and \
             its unencrypted key",
        )
    },
    ca_directive(
        "ocsp_nonce",
        "on | off | required",
        "on",
        "nonce in OCSP requests about the leaf: sent; not sent; sent, and answers without it are \
         refused",
    ),
    ca_directive("crl", "URL", "the certificate's own", "take this CRL for the leaf"),
    ca_directive(
        "budget",
        "N/TIME",
        "5/7d",
        "replacements an entry at most that are not due by time, kept across restarts; what the CA issued and could not be served counts too, lacking names get half of it",
    ),
];

/// The reference of all directives in Markdown, for the README.
pub fn reference() -> String {
    format!("{}\nIn `ssl_cert_autofetch_ca`:\n\n{}", table(DIRECTIVES), table(CA_DIRECTIVES))
}

fn table(directives: &[Directive]) -> String {
    let mut text =
        "| directive | context | default | meaning |\n| --- | --- | --- | --- |\n".to_owned();
    for d in directives {
        let usage = usage(d).replace('|', "\\|");
        let contexts: Vec<String> = d.contexts.iter().map(Context::to_string).collect();
        let (contexts, default, meaning) = (contexts.join(", "), d.default, d.meaning);
        text += &format!("| `{usage}` | {contexts} | {default} | {meaning} |\n");
    }
    text
}

fn usage(directive: &Directive) -> String {
    format!("{} {}", directive.name, directive.syntax).trim_end().to_owned()
}

/// Finds a directive; None: there is none of this name.
pub fn find(directives: &'static [Directive], name: &str) -> Option<&'static Directive> {
    directives.iter().find(|d| d.name == name)
}

/// Checks the number of arguments and gives the first one, which most directives are about;
/// empty where there is none.
fn first<'a>(directive: &Directive, args: &[&'a str]) -> Result<&'a str, String> {
    if (directive.min..=directive.max).contains(&args.len()) {
        return Ok(args.first().copied().unwrap_or_default());
    }
    Err(format!(
        "invalid number of arguments in \"{}\" directive, it must be \"{}\"",
        directive.name,
        usage(directive)
    ))
}

fn duplicate(name: &str) -> String {
    format!("\"{name}\" directive is duplicate")
}

/// Keeps the value of a directive that may stand once in its block. The value is read only then:
/// of two wrongs the first is named, as nginx does.
fn once<T>(
    slot: &mut Option<T>,
    name: &str,
    value: impl FnOnce() -> Result<T, String>,
) -> Result<(), String> {
    if slot.is_some() {
        return Err(duplicate(name));
    }
    *slot = Some(value()?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_consistent() {
        for d in DIRECTIVES.iter().chain(CA_DIRECTIVES) {
            assert!(d.min <= d.max, "{}", d.name);
            assert_eq!(d.max == 0, d.syntax.is_empty(), "{}", d.name);
            assert!(!d.contexts.is_empty() && !d.meaning.is_empty(), "{}", d.name);
            assert!(!d.meaning.contains(['|', '\n']), "{}", d.name);
        }
        assert!(CA_DIRECTIVES.iter().all(|d| d.contexts == [Context::Ca]));
        assert!(DIRECTIVES.iter().all(|d| !d.contexts.contains(&Context::Ca)));
    }

    /// What a context allows is known to the type that takes its directives, and nothing else is.
    #[test]
    fn every_directive_has_a_taker() {
        let known = |r: Result<(), String>| !r.is_err_and(|e| e.starts_with("unknown directive"));
        for d in DIRECTIVES {
            let block = known(RawBlock::default().set(d.name, &[]));
            let main = known(RawMain::default().set(d.name, &[]));
            let location = d.contexts.contains(&Context::Location);
            assert_eq!(block, d.contexts.contains(&Context::Server), "{}", d.name);
            assert_eq!(main, !block && !location && !d.block, "{}", d.name);
        }
        for d in CA_DIRECTIVES {
            let args = vec![""; d.min];
            let mut ca = RawCa::new("x").unwrap();
            assert!(known(ca.set(d.name, &args, &|_| Err("no".into()))), "{}", d.name);
        }
    }

    #[test]
    fn reference_is_a_table() {
        let text = reference();
        assert!(text.contains(
            "| `ssl_cert_autofetch off \\| CA [CA...]` | http, server | off | manage this"
        ));
        assert!(text.contains("| `ssl_cert_autofetch_status` | location |  | answer"));
        assert!(text.contains("| `budget N/TIME` | ssl_cert_autofetch_ca | 5/7d |"));
    }

    #[test]
    fn readme_has_the_reference() {
        let readme = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");
        if let Ok(readme) = std::fs::read_to_string(readme) {
            assert!(readme.contains(&reference()), "README.md lacks this text:\n{}", reference());
        }
    }
}
