//! The directives of an `http` or `server` block that a server may have for itself.

use std::time::Duration;

use super::values::{Choices, choice, invalid, number, parse_time, shown};
use super::{DIRECTIVES, find, first, once};
use crate::settings::{Check, KeyType, RenewBefore};

pub(super) const CHECKS: Choices<Check> =
    &[("hard", Check::Hard), ("soft", Check::Soft), ("off", Check::Off)];

pub(super) const KEYS: Choices<KeyType> = &[
    ("ecdsa:256", KeyType::Ecdsa256),
    ("ecdsa:384", KeyType::Ecdsa384),
    ("rsa:2048", KeyType::Rsa2048),
    ("rsa:3072", KeyType::Rsa3072),
    ("rsa:4096", KeyType::Rsa4096),
];

pub(super) const SWITCH: Choices<bool> = &[("on", true), ("off", false)];

/// Longer than any client waits; it keeps timers far from overflow.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(3600);

/// What one block says; None: nothing. Values are good each for itself.
#[derive(Clone, Debug, Default)]
pub struct RawBlock {
    /// CAs in order of preference; empty: off.
    pub(super) cas: Option<Vec<String>>,
    names_autofetch_itself: bool,
    pub(super) check: Option<Check>,
    pub(super) check_interval: Option<Duration>,
    pub(super) timeout: Option<Duration>,
    pub(super) renew_before: Option<RenewBefore>,
    pub(super) key: Option<KeyType>,
    pub(super) stapling: Option<bool>,
    pub(super) must_staple: Option<bool>,
}

impl RawBlock {
    /// Takes one directive, `name`, as written in this block.
    pub fn set(&mut self, name: &str, args: &[&str]) -> Result<(), String> {
        let unknown = || format!("unknown directive \"{}\"", shown(name));
        let directive = find(DIRECTIVES, name).ok_or_else(unknown)?;
        let value = || first(directive, args);
        match name {
            "ssl_cert_autofetch" => {
                once(&mut self.cas, name, || value().and_then(|_| cas(args, name)))?;
                self.names_autofetch_itself = true;
                Ok(())
            }
            "ssl_cert_autofetch_check" => {
                once(&mut self.check, name, || choice(CHECKS, value()?, name))
            }
            "ssl_cert_autofetch_check_interval" => {
                once(&mut self.check_interval, name, || check_interval(value()?, name))
            }
            "ssl_cert_autofetch_timeout" => {
                once(&mut self.timeout, name, || timeout(value()?, name))
            }
            "ssl_cert_autofetch_renew_before" => {
                once(&mut self.renew_before, name, || renew_before(value()?, name))
            }
            "ssl_cert_autofetch_key" => once(&mut self.key, name, || choice(KEYS, value()?, name)),
            "ssl_cert_autofetch_stapling" => {
                once(&mut self.stapling, name, || choice(SWITCH, value()?, name))
            }
            "ssl_cert_autofetch_must_staple" => {
                once(&mut self.must_staple, name, || choice(SWITCH, value()?, name))
            }
            _ => Err(unknown()),
        }
    }

    /// Takes from the enclosing block what this one does not say.
    pub fn inherit(&mut self, outer: &RawBlock) {
        self.cas = self.cas.take().or_else(|| outer.cas.clone());
        self.check = self.check.or(outer.check);
        self.check_interval = self.check_interval.or(outer.check_interval);
        self.timeout = self.timeout.or(outer.timeout);
        self.renew_before = self.renew_before.or(outer.renew_before);
        self.key = self.key.or(outer.key);
        self.stapling = self.stapling.or(outer.stapling);
        self.must_staple = self.must_staple.or(outer.must_staple);
    }

    /// Whether certificates are managed here; before [`RawBlock::inherit`]: by its own word.
    pub fn is_on(&self) -> bool {
        self.cas.as_ref().is_some_and(|cas| !cas.is_empty())
    }

    /// Whether `ssl_cert_autofetch`, even `off`, was written in this very block.
    pub fn names_autofetch_itself(&self) -> bool {
        self.names_autofetch_itself
    }
}

fn cas(args: &[&str], directive: &str) -> Result<Vec<String>, String> {
    if args == ["off"] {
        return Ok(Vec::new());
    }
    let mut cas = Vec::new();
    for name in args {
        let accepted = match *name {
            "off" => "alone or not at all",
            "" => "\"off\" or names of CAs",
            name if cas.iter().any(|n| n == name) => "named once",
            name => {
                cas.push(name.to_owned());
                continue;
            }
        };
        return Err(invalid(name, directive, accepted));
    }
    Ok(cas)
}

fn check_interval(value: &str, directive: &str) -> Result<Duration, String> {
    parse_time(value).ok_or_else(|| invalid(value, directive, "a time such as \"1h\", or \"0\""))
}

fn timeout(value: &str, directive: &str) -> Result<Duration, String> {
    parse_time(value).filter(|t| !t.is_zero() && *t <= LONGEST_TIMEOUT).ok_or_else(|| {
        invalid(value, directive, "a time such as \"10s\", above 0 and up to \"1h\"")
    })
}

fn renew_before(value: &str, directive: &str) -> Result<RenewBefore, String> {
    let good = match value.strip_suffix('%') {
        Some(n) => number(n).filter(|n| (1..=99).contains(n)).map(RenewBefore::Percent),
        None => parse_time(value).filter(|t| !t.is_zero()).map(RenewBefore::Time),
    };
    good.ok_or_else(|| {
        invalid(value, directive, "a time such as \"30d\" above 0, or \"1%\" to \"99%\"")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    type Line<'a> = (&'a str, &'a [&'a str]);

    fn set(lines: &[Line]) -> Result<RawBlock, String> {
        let mut block = RawBlock::default();
        for (name, args) in lines {
            block.set(name, args)?;
        }
        Ok(block)
    }

    #[test]
    fn values() {
        const CHECK: &str = "it must be \"hard\", \"soft\" or \"off\"";
        const INTERVAL: &str = "it must be a time such as \"1h\", or \"0\"";
        const TIMEOUT: &str = "it must be a time such as \"10s\", above 0 and up to \"1h\"";
        const RENEW: &str = "it must be a time such as \"30d\" above 0, or \"1%\" to \"99%\"";
        const KEY: &str = "it must be \"ecdsa:256\", \"ecdsa:384\", \"rsa:2048\", \"rsa:3072\" or \
                           \"rsa:4096\"";
        const SWITCH: &str = "it must be \"on\" or \"off\"";
        // Directive, value, None: accepted, else how the refusal goes on.
        let table: &[(&str, &str, Option<&str>)] = &[
            ("check", "hard", None),
            ("check", "soft", None),
            ("check", "off", None),
            ("check", "HARD", None),
            ("check", "hrd", Some(CHECK)),
            ("check", "", Some(CHECK)),
            ("check_interval", "0", None),
            ("check_interval", "1h 30m", None),
            ("check_interval", "1y", None),
            ("check_interval", "-1", Some(INTERVAL)),
            ("check_interval", "often", Some(INTERVAL)),
            ("timeout", "1ms", None),
            ("timeout", "1h", None),
            ("timeout", "0", Some(TIMEOUT)),
            ("timeout", "3601", Some(TIMEOUT)),
            ("timeout", "10x", Some(TIMEOUT)),
            ("renew_before", "30d", None),
            ("renew_before", "1%", None),
            ("renew_before", "99%", None),
            ("renew_before", "0%", Some(RENEW)),
            ("renew_before", "100%", Some(RENEW)),
            ("renew_before", "356%", Some(RENEW)),
            ("renew_before", "-1%", Some(RENEW)),
            ("renew_before", "+5%", Some(RENEW)),
            ("renew_before", "%", Some(RENEW)),
            ("renew_before", "0", Some(RENEW)),
            ("key", "ecdsa:256", None),
            ("key", "ecdsa:384", None),
            ("key", "rsa:2048", None),
            ("key", "rsa:3072", None),
            ("key", "rsa:4096", None),
            ("key", "rsa:1024", Some(KEY)),
            ("key", "ecdsa", Some(KEY)),
            ("stapling", "on", None),
            ("stapling", "off", None),
            ("stapling", "On", None),
            ("stapling", "yes", Some(SWITCH)),
            ("must_staple", "on", None),
            ("must_staple", "off", None),
            ("must_staple", "1", Some(SWITCH)),
        ];
        for (name, value, refusal) in table {
            let name = format!("ssl_cert_autofetch_{name}");
            let expected = refusal.map(|r| format!("invalid value \"{value}\" in \"{name}\", {r}"));
            assert_eq!(set(&[(&name, &[value])]).err(), expected, "{name} {value}");
        }
    }

    #[test]
    fn cas_in_order() {
        const NAME: &str = "ssl_cert_autofetch";
        type Expected<'a> = Result<&'a [&'a str], &'a str>;
        let table: &[(&[&str], Expected)] = &[
            (&["off"], Ok(&[])),
            (&["corp"], Ok(&["corp"])),
            (&["b", "a"], Ok(&["b", "a"])),
            (
                &["corp", "off"],
                Err("invalid value \"off\" in \"ssl_cert_autofetch\", it must be alone or not at \
                     all"),
            ),
            (
                &["off", "off"],
                Err("invalid value \"off\" in \"ssl_cert_autofetch\", it must be alone or not at \
                     all"),
            ),
            (
                &["a", "b", "a"],
                Err("invalid value \"a\" in \"ssl_cert_autofetch\", it must be named once"),
            ),
            (
                &[""],
                Err(
                    "invalid value \"\" in \"ssl_cert_autofetch\", it must be \"off\" or names of \
                     CAs",
                ),
            ),
            (
                &[],
                Err("invalid number of arguments in \"ssl_cert_autofetch\" directive, it must be \
                     \"ssl_cert_autofetch off | CA [CA...]\""),
            ),
        ];
        for (args, expected) in table {
            let block = set(&[(NAME, args)]);
            match (block, expected) {
                (Ok(block), Ok(cas)) => {
                    assert_eq!(block.cas.as_deref().unwrap(), *cas);
                    assert_eq!(block.is_on(), !cas.is_empty());
                    assert!(block.names_autofetch_itself());
                }
                (block, expected) => {
                    assert_eq!(block.err().as_deref(), expected.err(), "{args:?}")
                }
            }
        }
    }

    #[test]
    fn shape() {
        let twice: Line = ("ssl_cert_autofetch_check", &["hard"]);
        let wrong: Line = ("ssl_cert_autofetch_check", &["hrd"]);
        let duplicate = "\"ssl_cert_autofetch_check\" directive is duplicate";
        assert_eq!(set(&[twice, twice]).unwrap_err(), duplicate);
        assert_eq!(set(&[twice, wrong]).unwrap_err(), duplicate);
        let off: Line = ("ssl_cert_autofetch", &["off"]);
        assert_eq!(
            set(&[off, ("ssl_cert_autofetch", &["a"])]).unwrap_err(),
            "\"ssl_cert_autofetch\" directive is duplicate"
        );
        assert_eq!(
            set(&[("ssl_cert_autofetch_key", &["a", "b"])]).unwrap_err(),
            "invalid number of arguments in \"ssl_cert_autofetch_key\" directive, it must be \
             \"ssl_cert_autofetch_key ecdsa:256 | ecdsa:384 | rsa:2048 | rsa:3072 | rsa:4096\""
        );
        assert_eq!(
            set(&[("ssl_cert_autofetch_chek", &["a"])]).unwrap_err(),
            "unknown directive \"ssl_cert_autofetch_chek\""
        );
    }

    #[test]
    fn inheritance() {
        let http = set(&[
            ("ssl_cert_autofetch", &["corp"]),
            ("ssl_cert_autofetch_check", &["hard"]),
            ("ssl_cert_autofetch_timeout", &["5s"]),
            ("ssl_cert_autofetch_key", &["rsa:2048"]),
            ("ssl_cert_autofetch_renew_before", &["10%"]),
            ("ssl_cert_autofetch_check_interval", &["0"]),
            ("ssl_cert_autofetch_stapling", &["off"]),
            ("ssl_cert_autofetch_must_staple", &["on"]),
        ])
        .unwrap();

        let mut silent = RawBlock::default();
        silent.inherit(&http);
        assert!(silent.is_on() && !silent.names_autofetch_itself());
        assert_eq!(silent.check, Some(Check::Hard));
        assert_eq!(silent.check_interval, Some(Duration::ZERO));
        assert_eq!(silent.timeout, Some(Duration::from_secs(5)));
        assert_eq!((silent.stapling, silent.must_staple), (Some(false), Some(true)));
        assert_eq!(silent.renew_before, Some(RenewBefore::Percent(10)));
        assert_eq!(silent.key, Some(KeyType::Rsa2048));

        let mut off = set(&[("ssl_cert_autofetch", &["off"])]).unwrap();
        off.inherit(&http);
        assert!(!off.is_on() && off.names_autofetch_itself());

        let mut own = set(&[
            ("ssl_cert_autofetch", &["a", "b"]),
            ("ssl_cert_autofetch_check", &["soft"]),
            ("ssl_cert_autofetch_timeout", &["1s"]),
            ("ssl_cert_autofetch_stapling", &["on"]),
            ("ssl_cert_autofetch_must_staple", &["off"]),
        ])
        .unwrap();
        own.inherit(&http);
        assert_eq!(own.cas.as_deref().unwrap(), ["a", "b"]);
        assert_eq!(own.check, Some(Check::Soft));
        assert_eq!(own.timeout, Some(Duration::from_secs(1)));
        assert_eq!((own.stapling, own.must_staple), (Some(true), Some(false)));
        assert_eq!(own.key, Some(KeyType::Rsa2048));
    }
}
