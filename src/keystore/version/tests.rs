use std::os::unix::fs::symlink;
use std::path::PathBuf;

use super::*;
use crate::clock::Time;
use crate::fixture::{self, Spec};
use crate::keystore::testing::{self, Pair};

struct Entry {
    keystore: Keystore,
    name: EntryName,
    path: PathBuf,
    _dir: tempfile::TempDir,
}

fn entry() -> Entry {
    let (_dir, keystore) = testing::keystore();
    let path = keystore.dir().join("certs/a.example");
    Entry { keystore, name: testing::name("a.example"), path, _dir }
}

impl Entry {
    fn commit(&self, pair: &Pair) -> u64 {
        let lock = self.keystore.try_lock(&self.name).unwrap().unwrap();
        testing::commit(&self.keystore, &lock, pair)
    }

    fn defect(&self) -> Defect {
        self.keystore.load(&self.name).unwrap().err().unwrap()
    }

    fn current(&self) -> PathBuf {
        self.path.join("current")
    }
}

#[test]
fn stores_and_loads() {
    let e = entry();
    assert_eq!(e.defect(), Defect::Missing);
    let lock = e.keystore.try_lock(&e.name).unwrap().unwrap();
    assert_eq!(e.defect(), Defect::Missing);
    let meta = Meta {
        ca: Some("corp".into()),
        stored_at: Some(Time::from_secs(1_800_000_000)),
        replaced: None,
        short_lived: 2,
    };
    for version in 1..=2 {
        let pair = testing::pair("a.example");
        let done = e.keystore.commit(&lock, &pair.chain, &pair.key, &meta).unwrap();
        assert_eq!(done.version, version);
        assert!(done.untold.is_none());
        let loaded = e.keystore.load(&e.name).unwrap().ok().unwrap();
        assert_eq!(loaded.version, version);
        assert_eq!(loaded.chain[0].to_pem().unwrap(), pair.chain);
        assert_eq!(loaded.meta, meta);
        assert_eq!(loaded.facts.names, ["a.example"]);
    }
    assert_eq!(std::fs::read_link(e.current()).unwrap().to_str(), Some("versions/2"));
    let first = e.keystore.load_version(&e.name, 1).unwrap().ok().unwrap();
    assert_eq!(first.version, 1);
    assert!(matches!(e.keystore.load_version(&e.name, 3).unwrap(), Err(Defect::Broken(_))));
}

#[test]
fn keeps_the_newest_versions() {
    let e = entry();
    let pair = testing::pair("a.example");
    for _ in 0..8 {
        e.commit(&pair);
    }
    let mut kept: Vec<_> = std::fs::read_dir(e.path.join("versions"))
        .unwrap()
        .map(|f| f.unwrap().file_name().into_string().unwrap())
        .collect();
    kept.sort();
    assert_eq!(kept, ["4", "5", "6", "7", "8"]);
}

#[test]
fn never_stores_what_can_not_be_served() {
    let e = entry();
    let (a, b) = (testing::pair("a.example"), testing::pair("a.example"));
    let lock = e.keystore.try_lock(&e.name).unwrap().unwrap();
    let none = Secret::new(Vec::new());
    for (chain, key, cause) in [
        (&a.chain[..], &b.key, "its key is another one"),
        (b"", &a.key, "no certificate in it"),
        (b"Proc-Type: 4,ENCRYPTED", &a.key, "it is encrypted"),
        (&a.chain, &none, "\"privkey.pem\" can't be used"),
        (&vec![b' '; CHAIN_LIMIT + 1], &a.key, "too large"),
    ] {
        let error = e.keystore.commit(&lock, chain, key, &Meta::default()).unwrap_err();
        assert!(error.to_string().contains(cause), "{error}");
        assert!(!error.may_pass());
    }
    assert_eq!(e.defect(), Defect::Missing);
}

#[test]
fn defects() {
    let e = entry();
    let (good, other) = (testing::pair("a.example"), testing::pair("a.example"));
    let damage = |what: &dyn Fn(&Entry)| {
        e.commit(&good);
        what(&e);
        e.defect()
    };
    let write = |file: &'static str, bytes: &'static [u8]| {
        move |e: &Entry| std::fs::write(e.current().join(file), bytes).unwrap()
    };
    let d =
        damage(&|e| std::fs::write(e.current().join("privkey.pem"), other.key.bytes()).unwrap());
    assert_eq!(d, Defect::KeyMismatch);
    for (what, cause) in [
        (&write("privkey.pem", b"") as &dyn Fn(&Entry), "\"privkey.pem\" can't be used"),
        (&write("privkey.pem", ENCRYPTED_KEY), "\"privkey.pem\" can't be used"),
        (&write("fullchain.pem", b"nothing"), "no certificate in it"),
        (&write("fullchain.pem", &[b'x'; CHAIN_LIMIT + 1]), "larger than 262144 bytes"),
        (
            &|e| std::fs::remove_file(e.current().join("privkey.pem")).unwrap(),
            "\"privkey.pem\" is missing",
        ),
        (
            &|e| {
                let key = e.current().join("privkey.pem");
                std::fs::remove_file(&key).unwrap();
                symlink("/etc/passwd", key).unwrap();
            },
            "failed (40: Too many levels of symbolic links)",
        ),
        (
            &|e| std::fs::remove_dir_all(std::fs::canonicalize(e.current()).unwrap()).unwrap(),
            "is missing",
        ),
        (
            &|e| {
                std::fs::remove_file(e.current()).unwrap();
                symlink("../b.example/versions/1", e.current()).unwrap();
            },
            "it points to \"../b.example/versions/1\"",
        ),
    ] {
        let defect = damage(what);
        let Defect::Broken(text) = &defect else { panic!("{cause}: {defect:?}") };
        assert!(text.contains(cause), "{cause}: {text}");
    }
}

/// What nginx could not install is as good as broken: it is replaced.
#[test]
fn what_openssl_does_not_serve_is_broken() {
    use openssl::{pkey::PKey, rsa::Rsa};
    let e = entry();
    e.commit(&testing::pair("a.example"));
    let short = PKey::from_rsa(Rsa::generate(512).unwrap()).unwrap();
    let short = fixture::self_signed_with(Spec::default(), short);
    let key = Secret::new(short.key.private_key_to_pem_pkcs8().unwrap());
    let cause = "\"fullchain.pem\" can't be used: OpenSSL does not take it: ee key too small";
    let lock = e.keystore.try_lock(&e.name).unwrap().unwrap();
    let error = e.keystore.commit(&lock, &short.pem(), &key, &Meta::default()).unwrap_err();
    assert!(error.to_string().ends_with(cause), "{error}");
    std::fs::write(e.current().join("fullchain.pem"), short.pem()).unwrap();
    std::fs::write(e.current().join("privkey.pem"), key.bytes()).unwrap();
    assert_eq!(e.defect(), Defect::Broken(cause.into()));
}

#[test]
fn a_lost_meta_breaks_nothing() {
    let e = entry();
    e.commit(&testing::pair("a.example"));
    std::fs::write(e.current().join("meta.json"), "{").unwrap();
    assert_eq!(e.keystore.load(&e.name).unwrap().ok().unwrap().meta, Meta::default());
}

#[test]
fn a_keystore_that_is_away_is_no_defect() {
    let e = entry();
    e.commit(&testing::pair("a.example"));
    let away = e.keystore.dir().with_extension("away");
    std::fs::rename(e.keystore.dir(), &away).unwrap();
    assert!(e.keystore.load(&e.name).is_err());
    std::fs::rename(&away, e.keystore.dir()).unwrap();
    assert!(e.keystore.load(&e.name).unwrap().is_ok());
}

#[test]
fn leftovers_of_the_dead_are_removed() {
    let e = entry();
    let pair = testing::pair("a.example");
    e.commit(&pair);
    let versions = e.path.join("versions");
    for left in [".version.new", ".1.old"] {
        std::fs::create_dir(versions.join(left)).unwrap();
        std::fs::write(versions.join(left).join("privkey.pem"), "half").unwrap();
    }
    std::fs::create_dir(versions.join("7")).unwrap(); // renamed, but never current
    symlink("versions/7", e.path.join(".current.new")).unwrap();
    assert_eq!(e.keystore.load(&e.name).unwrap().ok().unwrap().version, 1);
    assert_eq!(e.commit(&pair), 8);
    assert!(!versions.join(".version.new").exists() && !versions.join(".1.old").exists());
    assert_eq!(e.keystore.load(&e.name).unwrap().ok().unwrap().version, 8);
}

const ENCRYPTED_KEY: &[u8] =
    b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nMA==\n-----END ENCRYPTED PRIVATE KEY-----\n";
