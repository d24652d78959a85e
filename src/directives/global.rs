//! The directives that stand in `http` only and hold for all servers.

use std::path::{Path, PathBuf};

use super::files::{self, Read};
use super::values::{invalid, number, shown};
use super::{DIRECTIVES, find, first, once};
use crate::settings::{CaSettings, Passwords};

pub const DEFAULT_KEYSTORE: &str = "/var/lib/nginx/ssl_cert_autofetch";

#[derive(Clone, Debug, Default)]
pub struct RawMain {
    keystore: Option<RawKeystore>,
    passwords: Passwords,
    group: Option<u32>,
    max_held: Option<usize>,
    cas: Vec<CaSettings>,
}

/// `ssl_cert_autofetch_keystore` as written.
#[derive(Clone, Debug)]
struct RawKeystore {
    dir: PathBuf,
    password_file: Option<String>,
    group: Option<String>,
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
        if let Some(keystore) = &mut self.keystore {
            keystore.dir = full;
        }
    }

    /// Reads the passwords and finds the group, if they were written. `find_group` gives the
    /// number of a group of this name; None: there is none.
    pub fn resolve_access(
        &mut self,
        read: Read,
        find_group: &dyn Fn(&str) -> Option<u32>,
    ) -> Result<(), String> {
        let Some(keystore) = &self.keystore else { return Ok(()) };
        if let Some(file) = &keystore.password_file {
            self.passwords = files::passwords(file, KEYSTORE, read)?;
        }
        if let Some(group) = &keystore.group {
            let known = group.parse().ok().filter(|gid| *gid != u32::MAX);
            let known = known.or_else(|| find_group(group));
            self.group = Some(known.ok_or_else(|| {
                invalid(&format!("group={group}"), KEYSTORE, "the name or number of a group")
            })?);
        }
        Ok(())
    }

    /// For the private keys in the keystore; none: they are not encrypted.
    pub fn passwords(&self) -> &Passwords {
        &self.passwords
    }

    /// The number of the group that may read certificates and keys.
    pub fn group(&self) -> Option<u32> {
        self.group
    }

    pub fn keystore(&self) -> &Path {
        self.keystore.as_ref().map_or(Path::new(DEFAULT_KEYSTORE), |keystore| &keystore.dir)
    }

    /// None: the default, which only nginx can tell.
    pub fn max_held(&self) -> Option<usize> {
        self.max_held
    }

    pub fn cas(&self) -> &[CaSettings] {
        &self.cas
    }
}

const KEYSTORE: &str = "ssl_cert_autofetch_keystore";

fn keystore(args: &[&str], directive: &str) -> Result<RawKeystore, String> {
    const ACCEPTED: &str = "a directory, and then \"password_file=FILE\" and \"group=GROUP\" where \
                            they are wanted";
    let wrong = |arg: &str| invalid(arg, directive, ACCEPTED);
    let (dir, rest) = args.split_first().ok_or_else(|| wrong(""))?;
    let is_parameter = |arg: &str| arg.starts_with("password_file=") || arg.starts_with("group=");
    if dir.is_empty() || dir.contains('\0') || is_parameter(dir) {
        return Err(wrong(dir));
    }
    let mut keystore = RawKeystore { dir: dir.into(), password_file: None, group: None };
    for arg in rest {
        let (slot, value) = match arg.split_once('=') {
            Some(("password_file", file)) => (&mut keystore.password_file, file),
            Some(("group", group)) => (&mut keystore.group, group),
            _ => return Err(wrong(arg)),
        };
        if value.is_empty() || value.contains('\0') || slot.is_some() {
            return Err(wrong(arg));
        }
        *slot = Some(value.into());
    }
    Ok(keystore)
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
        const HELD: &str = "ssl_cert_autofetch_max_held";
        let table: &[(&str, &[&str], Option<&str>)] = &[
            (KEYSTORE, &["/srv/keys"], None),
            (KEYSTORE, &["keys"], None),
            (KEYSTORE, &["/srv/keys", "password_file=pw"], None),
            (KEYSTORE, &["/srv/keys", "group=ssl-cert", "password_file=pw"], None),
            (
                KEYSTORE,
                &["/a", "/b"],
                Some(
                    "invalid value \"/b\" in \"ssl_cert_autofetch_keystore\", it must be a directory, and then \"password_file=FILE\" and \"group=GROUP\" where they are wanted",
                ),
            ),
            (
                KEYSTORE,
                &[""],
                Some(
                    "invalid value \"\" in \"ssl_cert_autofetch_keystore\", it must be a directory, and then \"password_file=FILE\" and \"group=GROUP\" where they are wanted",
                ),
            ),
            (
                KEYSTORE,
                &["group=ssl"],
                Some(
                    "invalid value \"group=ssl\" in \"ssl_cert_autofetch_keystore\", it must be a directory, and then \"password_file=FILE\" and \"group=GROUP\" where they are wanted",
                ),
            ),
            (
                KEYSTORE,
                &["/a", "group="],
                Some(
                    "invalid value \"group=\" in \"ssl_cert_autofetch_keystore\", it must be a directory, and then \"password_file=FILE\" and \"group=GROUP\" where they are wanted",
                ),
            ),
            (
                KEYSTORE,
                &["/a", "group=a", "group=b"],
                Some(
                    "invalid value \"group=b\" in \"ssl_cert_autofetch_keystore\", it must be a directory, and then \"password_file=FILE\" and \"group=GROUP\" where they are wanted",
                ),
            ),
            (
                KEYSTORE,
                &["/a", "password=x"],
                Some(
                    "invalid value \"password=x\" in \"ssl_cert_autofetch_keystore\", it must be a directory, and then \"password_file=FILE\" and \"group=GROUP\" where they are wanted",
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
    fn passwords_and_group() {
        let resolve = |args: &[&str], file: &[u8]| {
            let mut main = RawMain::default();
            main.set(KEYSTORE, args).unwrap();
            let find = |name: &str| (name == "ssl-cert").then_some(115);
            main.resolve_access(&|_| Ok(file.to_vec()), &find).map(|()| main)
        };
        let long = [b'x'; 1025];
        let many = b"x\n".repeat(17);
        let accepted =
            "it must be a file with 1 to 16 passwords, one a line, of 1024 bytes at most";
        for (file, expected) in [
            (&b"one"[..], Ok(&[&b"one"[..]] as &[&[u8]])),
            (b"\none\r\n\r\n two \n\xff", Ok(&[b"one", b" two ", b"\xff"])),
            (&long[..1024], Ok(&[&long[..1024]])),
            (&many[..32], Ok(&[&b"x"[..]; 16])),
            (b"", Err("no password found")),
            (b"\r\n\n", Err("no password found")),
            (&long, Err("a line is too long")),
            (&many, Err("17 passwords found")),
        ] {
            let result = resolve(&["/k", "password_file=pw"], file);
            let error = |cause| {
                format!("cannot use \"password_file=pw\" in \"{KEYSTORE}\": {cause}, {accepted}")
            };
            match (result, expected) {
                (Ok(main), Ok(words)) => {
                    let passwords: Vec<_> = main.passwords().iter().map(|p| p.bytes()).collect();
                    assert_eq!(passwords, words);
                }
                (result, expected) => {
                    assert_eq!(result.err(), expected.err().map(error));
                }
            }
        }
        for (group, expected) in [
            ("group=ssl-cert", Some(115)),
            ("group=0", Some(0)),
            ("group=4294967294", Some(u32::MAX - 1)),
            ("group=4294967295", None),
            ("group=-1", None),
            ("group=nobody-knows", None),
        ] {
            let result = resolve(&["/k", group], b"");
            let wrong = || {
                let accepted = "it must be the name or number of a group";
                format!("invalid value \"{group}\" in \"{KEYSTORE}\", {accepted}")
            };
            match result {
                Ok(main) => assert_eq!(main.group(), expected, "{group}"),
                Err(error) => assert_eq!((error, expected), (wrong(), None)),
            }
        }
        let main = resolve(&["/k"], b"").unwrap();
        assert!(main.passwords().is_empty() && main.group().is_none());
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
