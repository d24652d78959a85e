//! From blocks to entries: what only the whole configuration tells.

use std::time::Duration;

use super::block::{CHECKS, KEYS, RawBlock, SWITCH};
use super::server_names::{exact_names, provable, wildcards};
use super::url::host;
use super::values::{list, shown, word};
use crate::names;
use crate::settings::{CaSettings, Check, EntryName, EntrySettings, RenewBefore};

const CHECK_INTERVAL: Duration = Duration::from_secs(3600);
const TIMEOUT: Duration = Duration::from_secs(10);

/// The entry of a managed server. `block` has inherited already. `server_names` are as written:
/// regular expressions with their `~`, which nginx strips from what it keeps.
pub fn entry(
    block: &RawBlock,
    server_names: &[&str],
    cas: &[CaSettings],
) -> Result<EntrySettings, String> {
    known_cas(block, cas)?;
    let wanted = block.cas.as_deref().unwrap_or_default();
    if wanted.is_empty() {
        return Err("\"ssl_cert_autofetch\" is off".into());
    }
    let mut names = exact_names(server_names)?;
    let first = names.first().and_then(|n| EntryName::new(n)).ok_or(
        "no exact \"server_name\" for \"ssl_cert_autofetch\", it must be at least one host name, \
         not \"_\", a wildcard or a regular expression",
    )?;
    let own: Vec<&CaSettings> = cas.iter().filter(|ca| wanted.contains(&ca.name)).collect();
    provable(&names, &own)?;
    if own.iter().all(|ca| ca.wildcards) {
        names.extend(wildcards(server_names)?);
    }
    Ok(EntrySettings {
        name: first,
        names,
        cas: wanted.to_vec(),
        check: block.check.unwrap_or_default(),
        check_interval: block.check_interval.unwrap_or(CHECK_INTERVAL),
        timeout: block.timeout.unwrap_or(TIMEOUT),
        renew_before: block.renew_before.unwrap_or_default(),
        key: block.key.unwrap_or_default(),
        stapling: block.stapling.unwrap_or(true),
        must_staple: block.must_staple.unwrap_or(false),
    })
}

/// Whether each CA that a block names is one; of a server too that has no TLS yet.
pub fn known_cas(block: &RawBlock, cas: &[CaSettings]) -> Result<(), String> {
    let wanted = block.cas.as_deref().unwrap_or_default();
    match wanted.iter().find(|n| !cas.iter().any(|c| c.name == **n)) {
        Some(name) => Err(unknown_ca(name, cas)),
        None => Ok(()),
    }
}

/// Server blocks with the same first name share one entry: takes the names of `other` into
/// `into`. What can't be both is refused; of limits the stricter one counts.
pub fn unite(into: &mut EntrySettings, other: &EntrySettings) -> Result<(), String> {
    let check = |e: &EntrySettings| word(CHECKS, &e.check).to_owned();
    let key = |e: &EntrySettings| word(KEYS, &e.key).to_owned();
    let must_staple = |e: &EntrySettings| word(SWITCH, &e.must_staple).to_owned();
    let must_agree = [
        ("ssl_cert_autofetch", into.cas.join(" "), other.cas.join(" ")),
        ("ssl_cert_autofetch_check", check(into), check(other)),
        ("ssl_cert_autofetch_key", key(into), key(other)),
        ("ssl_cert_autofetch_must_staple", must_staple(into), must_staple(other)),
    ];
    for (directive, a, b) in must_agree {
        if a != b {
            let (a, b) = (shown(&a), shown(&b));
            return Err(format!(
                "conflicting values \"{a}\" and \"{b}\" in \"{directive}\", it must be the same \
                 for all servers with the first name \"{}\"",
                into.name
            ));
        }
    }
    let new: Vec<String> =
        other.names.iter().filter(|n| !into.names.contains(n)).cloned().collect();
    into.names.extend(new);
    into.names.sort_by_key(|name| names::wildcard(name).is_some());
    into.check_interval = into.check_interval.min(other.check_interval);
    into.timeout = into.timeout.min(other.timeout);
    into.renew_before = earlier(into.renew_before, other.renew_before);
    into.stapling |= other.stapling;
    Ok(())
}

/// What is accepted but will not work well, a line each.
pub fn warnings(entries: &[EntrySettings], cas: &[CaSettings]) -> Vec<String> {
    let is_ours = |host: &String| entries.iter().any(|e| e.names.contains(host));
    let mut lines = Vec::new();
    for ca in cas {
        let urls = [
            ("url", ca.protocol.url()),
            ("ocsp_responder", ca.evidence.ocsp_responder.as_deref()),
            ("crl", ca.evidence.crl.as_deref()),
        ];
        for (directive, url) in urls {
            if let Some(host) = url.and_then(host).filter(is_ours) {
                lines.push(format!(
                    "host \"{host}\" in \"{directive}\" of ssl_cert_autofetch_ca \"{}\" is itself \
                     managed by \"ssl_cert_autofetch\", without a valid certificate it can't be \
                     asked for one",
                    ca.name
                ));
            }
        }
    }
    for entry in entries.iter().filter(|e| e.must_staple) {
        let (directive, effect) = match (entry.stapling, entry.check) {
            (false, _) => ("ssl_cert_autofetch_stapling", ""),
            (true, Check::Off) => ("ssl_cert_autofetch_check", ", so that nothing is stapled"),
            _ => continue,
        };
        lines.push(format!(
            "\"ssl_cert_autofetch_must_staple\" is on for \"{}\" and \"{directive}\" is \
             off{effect}, clients will refuse the certificate",
            entry.name
        ));
    }
    lines
}

fn unknown_ca(name: &str, cas: &[CaSettings]) -> String {
    let known = match cas {
        [] => "no \"ssl_cert_autofetch_ca\" is defined".to_owned(),
        cas => format!("known are: {}", list(cas.iter().map(|c| c.name.as_str()))),
    };
    format!("unknown CA \"{}\" in \"ssl_cert_autofetch\", {known}", shown(name))
}

/// A time and a share can't be compared without a certificate: the first one stays.
fn earlier(a: RenewBefore, b: RenewBefore) -> RenewBefore {
    match (a, b) {
        (RenewBefore::Time(x), RenewBefore::Time(y)) => RenewBefore::Time(x.max(y)),
        (RenewBefore::Percent(x), RenewBefore::Percent(y)) => RenewBefore::Percent(x.max(y)),
        _ => a,
    }
}

#[cfg(test)]
mod tests {
    use super::super::RawCa;
    use super::*;
    use crate::settings::KeyType;

    fn ca(name: &str, lines: &[(&str, &str)]) -> CaSettings {
        let mut ca = RawCa::new(name).unwrap();
        for (directive, value) in lines {
            ca.set(directive, &[value], &|_| Err(String::new())).unwrap();
        }
        ca.finish().unwrap()
    }

    fn cas() -> Vec<CaSettings> {
        ["corp", "le"].map(|n| ca(n, &[("url", "https://ca.example/")])).into()
    }

    fn block(lines: &[(&str, &[&str])]) -> RawBlock {
        let mut block = RawBlock::default();
        for (directive, args) in lines {
            block.set(directive, args).unwrap();
        }
        block
    }

    fn with(lines: &[(&str, &[&str])], names: &[&str]) -> EntrySettings {
        let mut b = block(lines);
        b.inherit(&block(&[("ssl_cert_autofetch", &["corp"])]));
        entry(&b, names, &cas()).unwrap()
    }

    #[test]
    fn settings() {
        assert_eq!(
            with(&[], &["~^x", "*.example", "Shop.Example", "_", "www.example", "shop.example"]),
            EntrySettings {
                name: EntryName::new("shop.example").unwrap(),
                names: vec!["shop.example".into(), "www.example".into()],
                cas: vec!["corp".into()],
                check: Check::Soft,
                check_interval: Duration::from_secs(3600),
                timeout: Duration::from_secs(10),
                renew_before: RenewBefore::Percent(33),
                key: KeyType::Ecdsa256,
                stapling: true,
                must_staple: false,
            }
        );
        let full = with(
            &[
                ("ssl_cert_autofetch", &["le", "corp"]),
                ("ssl_cert_autofetch_check", &["hard"]),
                ("ssl_cert_autofetch_check_interval", &["0"]),
                ("ssl_cert_autofetch_timeout", &["2s"]),
                ("ssl_cert_autofetch_renew_before", &["1d"]),
                ("ssl_cert_autofetch_key", &["rsa:4096"]),
                ("ssl_cert_autofetch_stapling", &["off"]),
                ("ssl_cert_autofetch_must_staple", &["on"]),
            ],
            &["a"],
        );
        assert_eq!(full.cas, ["le", "corp"]);
        assert_eq!((full.stapling, full.must_staple), (false, true));
        assert_eq!((full.check, full.key), (Check::Hard, KeyType::Rsa4096));
        assert_eq!((full.check_interval, full.timeout), (Duration::ZERO, Duration::from_secs(2)));
        assert_eq!(full.renew_before, RenewBefore::Time(Duration::from_secs(86400)));
    }

    #[test]
    fn server_names() {
        let none = "no exact \"server_name\" for \"ssl_cert_autofetch\", it must be at least one \
                    host name, not \"_\", a wildcard or a regular expression";
        let b = block(&[("ssl_cert_autofetch", &["corp"])]);
        for names in [&[][..], &[""], &["_"], &["*.example"], &["www.*"], &["*"], &["~^(?<x>.+)$"]]
        {
            assert_eq!(entry(&b, names, &cas()).unwrap_err(), none, "{names:?}");
        }
        for name in [
            "192.0.2.300",
            "2001:db8::1",
            "a..b",
            "a/b",
            "x/../y",
            "b\u{fc}ro.example",
            "a.",
            ".a.",
            ".192.0.2.1",
        ] {
            let error = entry(&b, &["good.example", name], &cas()).unwrap_err();
            assert_eq!(
                error,
                format!(
                    "invalid value \"{name}\" in \"server_name\" for \"ssl_cert_autofetch\", it \
                     must be a host name of letters, digits, \"-\" and \"_\" (others in their \
                     \"xn--\" form), or an IP address, IPv6 in brackets"
                )
            );
        }
    }

    #[test]
    fn known_cas() {
        let b = block(&[("ssl_cert_autofetch", &["corp", "x"])]);
        let error = |cas: &[CaSettings]| entry(&b, &["a"], cas).unwrap_err();
        assert_eq!(
            error(&cas()),
            "unknown CA \"x\" in \"ssl_cert_autofetch\", known are: \"corp\", \"le\""
        );
        assert_eq!(
            error(&[]),
            "unknown CA \"corp\" in \"ssl_cert_autofetch\", no \"ssl_cert_autofetch_ca\" is defined"
        );
        for off in [block(&[("ssl_cert_autofetch", &["off"])]), RawBlock::default()] {
            assert_eq!(entry(&off, &["a"], &cas()).unwrap_err(), "\"ssl_cert_autofetch\" is off");
        }
    }

    #[test]
    fn uniting() {
        let mut a = with(
            &[
                ("ssl_cert_autofetch_timeout", &["5s"]),
                ("ssl_cert_autofetch_check_interval", &["10m"]),
                ("ssl_cert_autofetch_renew_before", &["10%"]),
            ],
            &["a", "b"],
        );
        let other = with(
            &[
                ("ssl_cert_autofetch_timeout", &["7s"]),
                ("ssl_cert_autofetch_check_interval", &["0"]),
                ("ssl_cert_autofetch_renew_before", &["20%"]),
            ],
            &["a", "c", "b"],
        );
        unite(&mut a, &other).unwrap();
        assert_eq!(a.names, ["a", "b", "c"]);
        assert_eq!((a.timeout, a.check_interval), (Duration::from_secs(5), Duration::ZERO));
        assert_eq!(a.renew_before, RenewBefore::Percent(20));

        let table: &[(&str, &[&str], &str, &str)] = &[
            ("ssl_cert_autofetch", &["le"], "corp", "le"),
            ("ssl_cert_autofetch", &["corp", "le"], "corp", "corp le"),
            ("ssl_cert_autofetch_check", &["hard"], "soft", "hard"),
            ("ssl_cert_autofetch_key", &["rsa:2048"], "ecdsa:256", "rsa:2048"),
            ("ssl_cert_autofetch_must_staple", &["on"], "off", "on"),
        ];
        for (directive, args, one, two) in table {
            let before = a.clone();
            let error = unite(&mut a, &with(&[(directive, args)], &["a", "z"])).unwrap_err();
            assert_eq!(
                error,
                format!(
                    "conflicting values \"{one}\" and \"{two}\" in \"{directive}\", it must be \
                     the same for all servers with the first name \"a\""
                )
            );
            assert_eq!(a, before, "nothing is taken from what is refused");
        }
    }

    #[test]
    fn one_server_that_staples_is_enough_for_the_entry() {
        let word = |on: bool| {
            with(&[("ssl_cert_autofetch_stapling", &[if on { "on" } else { "off" }])], &["a"])
        };
        for (one, two) in [(true, true), (true, false), (false, true), (false, false)] {
            let mut entry = word(one);
            unite(&mut entry, &word(two)).unwrap();
            assert_eq!(entry.stapling, one || two);
        }
    }

    #[test]
    fn must_staple_without_staples_is_warned_of() {
        let entry = |stapling, check, must: &str| {
            let lines: &[(&str, &[&str])] = &[
                ("ssl_cert_autofetch_stapling", &[stapling]),
                ("ssl_cert_autofetch_check", &[check]),
                ("ssl_cert_autofetch_must_staple", &[must]),
            ];
            with(lines, &["a"])
        };
        const STAPLING: &str = "\"ssl_cert_autofetch_must_staple\" is on for \"a\" and \
                                \"ssl_cert_autofetch_stapling\" is off, clients will refuse the \
                                certificate";
        const CHECK: &str = "\"ssl_cert_autofetch_must_staple\" is on for \"a\" and \
                             \"ssl_cert_autofetch_check\" is off, so that nothing is stapled, \
                             clients will refuse the certificate";
        let table: &[(&str, &str, &str, &[&str])] = &[
            ("on", "soft", "on", &[]),
            ("on", "hard", "on", &[]),
            ("on", "off", "on", &[CHECK]),
            ("off", "soft", "on", &[STAPLING]),
            ("off", "off", "on", &[STAPLING]),
            ("off", "off", "off", &[]),
            ("on", "off", "off", &[]),
        ];
        for (stapling, check, must, expected) in table {
            let warned = warnings(&[entry(stapling, check, must)], &cas());
            assert_eq!(warned, *expected, "{stapling} {check} {must}");
        }
    }

    #[test]
    fn earlier_renewal() {
        let day = |n: u64| RenewBefore::Time(Duration::from_secs(n * 86400));
        assert_eq!(earlier(day(1), day(2)), day(2));
        assert_eq!(earlier(day(1), RenewBefore::Percent(50)), day(1));
    }

    #[test]
    fn own_hosts_are_warned_of() {
        let entries = [with(&[], &["shop.example", "ca.example"]), with(&[], &["ocsp.example"])];
        let cas = [
            ca("corp", &[("url", "https://CA.example:9000/x")]),
            ca("le", &[("url", "https://le.example/"), ("ocsp_responder", "http://ocsp.example")]),
            ca("x", &[("url", "https://x.example/"), ("crl", "http://shop.example/x.crl")]),
        ];
        let warned = warnings(&entries, &cas);
        assert_eq!(
            warned,
            [
                "host \"ca.example\" in \"url\" of ssl_cert_autofetch_ca \"corp\" is itself \
                 managed by \"ssl_cert_autofetch\", without a valid certificate it can't be asked \
                 for one",
                "host \"ocsp.example\" in \"ocsp_responder\" of ssl_cert_autofetch_ca \"le\" is \
                 itself managed by \"ssl_cert_autofetch\", without a valid certificate it can't be \
                 asked for one",
                "host \"shop.example\" in \"crl\" of ssl_cert_autofetch_ca \"x\" is itself \
                 managed by \"ssl_cert_autofetch\", without a valid certificate it can't be asked \
                 for one",
            ]
        );
        assert!(warnings(&entries[1..], &cas[..1]).is_empty());
    }
}
