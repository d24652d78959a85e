//! nginx's `server_name` as the names of a certificate.

use super::values::shown;
use crate::names;
use crate::settings::CaSettings;

/// Each once, in order, lower case. A name that no certificate can carry is refused, not left
/// out: its clients would get a certificate that they can't accept.
pub(super) fn exact_names(server_names: &[&str]) -> Result<Vec<String>, String> {
    let mut names: Vec<String> = Vec::new();
    for written in server_names.iter().filter(|n| is_exact(n)) {
        // `.x` means `x` and `*.x`.
        let name = match written.strip_prefix('.') {
            Some(on) => names::exact(on).filter(|on| names::ip(on).is_none()),
            None => names::exact(written),
        };
        let name = name.ok_or_else(|| misnamed(written))?;
        if !names.contains(&name) {
            names.push(name);
        }
    }
    Ok(names)
}

/// Each once, in order, lower case, as certificates write them.
pub(super) fn wildcards(server_names: &[&str]) -> Result<Vec<String>, String> {
    let mut wildcards: Vec<String> = Vec::new();
    for written in server_names {
        let on = written.strip_prefix('.').or_else(|| names::wildcard(written));
        let Some(on) = on else { continue };
        let on = names::exact(on).filter(|on| names::ip(on).is_none());
        let wildcard = format!("*.{}", on.ok_or_else(|| misnamed(written))?);
        if !wildcards.contains(&wildcard) {
            wildcards.push(wildcard);
        }
    }
    Ok(wildcards)
}

/// Whether each of the CAs can be shown that the exact names are ours.
pub(super) fn provable(names: &[String], cas: &[&CaSettings]) -> Result<(), String> {
    let address = names.iter().find(|name| names::ip(name).is_some());
    let ca = cas.iter().find(|ca| !ca.protocol.proves_addresses());
    match (address, ca) {
        (Some(address), Some(ca)) => Err(format!(
            "IP address \"{address}\" in \"server_name\" for \"ssl_cert_autofetch\" can't be proven \
             by \"challenge dns-01\" of ssl_cert_autofetch_ca \"{}\", it must be \"http-01\" or \
             \"tls-alpn-01\"",
            ca.name
        )),
        _ => Ok(()),
    }
}

fn misnamed(written: &str) -> String {
    format!(
        "invalid value \"{}\" in \"server_name\" for \"ssl_cert_autofetch\", it must be a host name \
         of letters, digits, \"-\" and \"_\" (others in their \"xn--\" form), or an IP address, IPv6 \
         in brackets",
        shown(written)
    )
}

/// `_` is by convention the name of a server that has none.
fn is_exact(name: &str) -> bool {
    !(name.is_empty() || name == "_" || name.starts_with('~') || name.contains('*'))
}

#[cfg(test)]
mod tests {
    use super::super::entry::{entry, unite};
    use super::super::{RawBlock, RawCa};
    use super::*;
    use crate::settings::EntrySettings;

    fn cas() -> Vec<CaSettings> {
        let ca = |name: &str, challenge: &[&str], wildcards: &str| {
            let mut ca = RawCa::new(name).unwrap();
            let url: &[&str] = &["https://ca.example/"];
            for (directive, args) in
                [("url", url), ("challenge", challenge), ("wildcards", &[wildcards])]
            {
                ca.set(directive, args, &|_| Err(String::new())).unwrap();
            }
            ca.finish().unwrap()
        };
        let dns: &[&str] = &["dns-01", "/hook"];
        vec![ca("corp", &["http-01"], "off"), ca("wild", dns, "on"), ca("tame", dns, "off")]
    }

    fn made(by: &[&str], server_names: &[&str]) -> Result<EntrySettings, String> {
        let mut block = RawBlock::default();
        block.set("ssl_cert_autofetch", by).unwrap();
        entry(&block, server_names, &cas())
    }

    #[test]
    fn names_of_the_certificate() {
        type Row<'a> = (&'a [&'a str], &'a [&'a str], &'a [&'a str]);
        // CAs, as written, the names.
        let table: &[Row] = &[
            (&["wild"], &["*.example", "A.example"], &["a.example", "*.example"]),
            (&["wild"], &[".example"], &["example", "*.example"]),
            (&["wild"], &["a", ".example", "*.example", "b"], &["a", "example", "b", "*.example"]),
            (&["wild"], &["a", "www.*", "~^x", "_", "*"], &["a"]),
            (&["corp"], &["a", "*.example", ".x.example"], &["a", "x.example"]),
            (&["wild", "corp"], &["a", "*.example"], &["a"]),
            (&["wild", "tame"], &["a", "*.example"], &["a"]),
            (&["tame"], &["a", "*.example"], &["a"]),
            // Of no interest where they are not asked for.
            (&["corp"], &["a", "*.b\u{fc}ro.example"], &["a"]),
            (&["corp"], &["192.0.2.1", "[2001:DB8::1]"], &["192.0.2.1", "2001:db8::1"]),
            (&["corp"], &["a", "192.0.2.1", "192.0.2.1"], &["a", "192.0.2.1"]),
        ];
        for (cas, written, names) in table {
            let found = made(cas, written).unwrap();
            assert_eq!(found.names, *names, "{written:?}");
            assert_eq!(found.name.as_str(), names[0]);
        }
        assert_eq!(
            made(&["corp", "wild"], &["a", "[2001:db8::1]"]).unwrap_err(),
            "IP address \"2001:db8::1\" in \"server_name\" for \"ssl_cert_autofetch\" can't be \
             proven by \"challenge dns-01\" of ssl_cert_autofetch_ca \"wild\", it must be \
             \"http-01\" or \"tls-alpn-01\""
        );
        let error = made(&["wild"], &["a", "*.b\u{fc}ro.example"]).unwrap_err();
        assert!(error.starts_with("invalid value \"*.b\u{fc}ro.example\" in"), "{error}");
    }

    #[test]
    fn wildcards_stay_behind_exact_names() {
        let mut one = made(&["wild"], &["a", "*.x"]).unwrap();
        unite(&mut one, &made(&["wild"], &["a", "b", "*.x", "*.y"]).unwrap()).unwrap();
        assert_eq!(one.names, ["a", "b", "*.x", "*.y"]);
    }
}
