//! The directives that stand in `http` only and hold for all servers.

use std::path::{Path, PathBuf};

use super::values::{invalid, number, shown};
use super::{DIRECTIVES, find, first, once};
use crate::settings::CaSettings;

pub const DEFAULT_KEYSTORE: &str = "/var/lib/nginx/ssl_cert_autofetch";

/// What later releases take beside the directory.
const LATER: &[&str] = &["password_file=", "group="];

#[derive(Clone, Debug, Default)]
pub struct RawMain {
    keystore: Option<PathBuf>,
    max_held: Option<usize>,
    cas: Vec<CaSettings>,
}

impl RawMain {
    /// Takes one directive; `ssl_cert_autofetch_ca` comes by [`RawMain::add_ca`].
    pub fn set(&mut self, name: &str, args: &[&str]) -> Result<(), String> {
        let unknown = || format!("unknown directive \"{}\"", shown(name));
        let directive = find(DIRECTIVES, name).ok_or_else(unknown)?;
        let value = || first(directive, args);
        match name {
            "ssl_cert_autofetch_keystore" => once(&mut self.keystore, name, || {
                value()?;
                keystore(args, name)
            }),
            "ssl_cert_autofetch_max_held" => {
                once(&mut self.max_held, name, || max_held(value()?, name))
            }
            _ => Err(unknown()),
        }
    }

    pub fn add_ca(&mut self, ca: CaSettings) -> Result<(), String> {
        if self.cas.iter().any(|c| c.name == ca.name) {
            return Err(format!("duplicate ssl_cert_autofetch_ca \"{}\"", ca.name));
        }
        self.cas.push(ca);
        Ok(())
    }

    /// Puts the whole path in place of what was written and accepted, which may be relative.
    pub fn resolve_keystore(&mut self, full: PathBuf) {
        self.keystore = Some(full);
    }

    pub fn keystore(&self) -> &Path {
        self.keystore.as_deref().unwrap_or(Path::new(DEFAULT_KEYSTORE))
    }

    /// None: the default, which only nginx can tell.
    pub fn max_held(&self) -> Option<usize> {
        self.max_held
    }

    pub fn cas(&self) -> &[CaSettings] {
        &self.cas
    }
}

fn keystore(args: &[&str], directive: &str) -> Result<PathBuf, String> {
    if let Some(arg) = args.iter().find(|a| LATER.iter().any(|l| a.starts_with(l))) {
        let accepted = "a directory alone, this release has no other parameter";
        return Err(invalid(arg, directive, accepted));
    }
    match args {
        [dir] if !dir.is_empty() && !dir.contains('\0') => Ok(PathBuf::from(dir)),
        [.., last] => Err(invalid(last, directive, "one directory")),
        [] => Err(invalid("", directive, "one directory")),
    }
}

fn max_held(value: &str, directive: &str) -> Result<usize, String> {
    number(value)
        .filter(|n| *n >= 1)
        .ok_or_else(|| invalid(value, directive, "a number, 1 or more"))
}

#[cfg(test)]
mod tests {
    use super::super::RawCa;
    use super::*;

    #[test]
    fn values() {
        const KEYSTORE: &str = "ssl_cert_autofetch_keystore";
        const HELD: &str = "ssl_cert_autofetch_max_held";
        let table: &[(&str, &[&str], Option<&str>)] = &[
            (KEYSTORE, &["/srv/keys"], None),
            (KEYSTORE, &["keys"], None),
            (
                KEYSTORE,
                &["/srv/keys", "password_file=/etc/pw"],
                Some(
                    "invalid value \"password_file=/etc/pw\" in \"ssl_cert_autofetch_keystore\", \
                     it must be a directory alone, this release has no other parameter",
                ),
            ),
            (
                KEYSTORE,
                &["group=ssl"],
                Some(
                    "invalid value \"group=ssl\" in \"ssl_cert_autofetch_keystore\", it must be a \
                     directory alone, this release has no other parameter",
                ),
            ),
            (
                KEYSTORE,
                &["/a", "/b"],
                Some(
                    "invalid value \"/b\" in \"ssl_cert_autofetch_keystore\", it must be one directory",
                ),
            ),
            (
                KEYSTORE,
                &[""],
                Some(
                    "invalid value \"\" in \"ssl_cert_autofetch_keystore\", it must be one directory",
                ),
            ),
            (HELD, &["1"], None),
            (HELD, &["100000"], None),
            (
                HELD,
                &["0"],
                Some(
                    "invalid value \"0\" in \"ssl_cert_autofetch_max_held\", it must be a number, 1 or more",
                ),
            ),
            (
                HELD,
                &["many"],
                Some(
                    "invalid value \"many\" in \"ssl_cert_autofetch_max_held\", it must be a number, 1 or more",
                ),
            ),
            (
                HELD,
                &[],
                Some(
                    "invalid number of arguments in \"ssl_cert_autofetch_max_held\" directive, it must be \"ssl_cert_autofetch_max_held N\"",
                ),
            ),
        ];
        for (name, args, expected) in table {
            let result = RawMain::default().set(name, args);
            assert_eq!(result.err().as_deref(), *expected, "{name} {args:?}");
        }
    }

    #[test]
    fn defaults_and_duplicates() {
        let mut main = RawMain::default();
        assert_eq!(main.keystore(), Path::new(DEFAULT_KEYSTORE));
        assert_eq!(main.max_held(), None);
        main.set("ssl_cert_autofetch_keystore", &["/k"]).unwrap();
        main.set("ssl_cert_autofetch_max_held", &["7"]).unwrap();
        assert_eq!(main.keystore(), Path::new("/k"));
        assert_eq!(main.max_held(), Some(7));
        for name in ["ssl_cert_autofetch_keystore", "ssl_cert_autofetch_max_held"] {
            let error = main.set(name, &["1"]).unwrap_err();
            assert_eq!(error, format!("\"{name}\" directive is duplicate"));
        }
        let ca = || {
            let mut ca = RawCa::new("corp").unwrap();
            ca.set("url", &["https://ca.example/"], &|_| Err(String::new())).unwrap();
            ca.finish().unwrap()
        };
        main.add_ca(ca()).unwrap();
        assert_eq!(main.add_ca(ca()).unwrap_err(), "duplicate ssl_cert_autofetch_ca \"corp\"");
        assert_eq!(main.cas().len(), 1);
    }
}
