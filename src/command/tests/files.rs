//! `import` and `export`: what is taken, what is refused and why, and what comes out again.

use std::os::unix::fs::PermissionsExt;

use openssl::pkcs12::Pkcs12;
use openssl::pkey::PKey;
use openssl::rsa::Rsa;
use openssl::stack::Stack;
use openssl::symm::Cipher;

use super::*;

const LIFE: (i64, i64) = (-DAY, 30 * DAY);

fn p12(id: &Identity, above: &[&Identity], alias: &str, password: &str) -> Vec<u8> {
    let mut chain = Stack::new().unwrap();
    above.iter().for_each(|ca| chain.push(ca.cert.clone()).unwrap());
    let mut builder = Pkcs12::builder();
    builder.name(alias).pkey(&id.key).cert(&id.cert).ca(chain);
    builder.build2(password).unwrap().to_der().unwrap()
}

#[test]
fn imports_are_checked_as_deliveries_are() {
    let scene = Scene::new();
    let id = scene.leaf("a.example", LIFE);
    let (cert, ca) = (scene.write("a.pem", &id.pem()), scene.write("ca.pem", &scene.ca.pem()));
    let key = scene.write("a.key", key_of(&id).bytes());
    let with = |name: &str, id: &Identity| {
        scene.write(name, &[id.pem(), scene.ca.pem(), key_of(id).bytes().to_vec()].concat())
    };
    let expired = with("expired", &scene.leaf("a.example", (-DAY, -1)));
    let later = with("later", &scene.leaf("a.example", (DAY, 2 * DAY)));
    let other = with("other", &scene.leaf("other.example", LIFE));
    let own = Spec { cn: "own", names: &["a.example"], ..Spec::default() };
    let own = with("own", &fixture::self_signed(own));
    let client = Spec { usage: &["clientAuth"], names: &["a.example"], ..Spec::default() };
    let client = with("client", &scene.ca.issue(client));
    let junk = scene.write("junk", b"junk");
    let large = scene.write("large", &vec![b'x'; (1 << 20) + 1]);
    let torn = scene.write("torn", b"-----BEGIN CERTIFICATE-----\nMIIB");
    let short = PKey::from_rsa(Rsa::generate(512).unwrap()).unwrap();
    let spec = Spec { names: &["a.example"], ..Spec::default() };
    let short = with("short", &Identity { cert: scene.ca.certify(&spec, &short), key: short });
    let jceks = scene.write("jceks", &[0xce; 40]);
    for (files, force, cause) in [
        (vec![&cert, &ca], false, "there is no private key in the files"),
        (vec![&key, &ca], true, "none of the certificates is for the private key"),
        (vec![&cert, &key], false, "the certificate of its issuer is in none of the files"),
        (vec![&expired], false, "certificate expired at"),
        (vec![&later], false, "certificate is not valid before"),
        (vec![&other], false, "certificate lacks the name \"a.example\"; --force"),
        (vec![&own], false, "certificate is self-signed"),
        (vec![&client], false, "lacks serverAuth"),
        (vec![&short], false, "not imported: OpenSSL does not take it: ee key too small"),
        (vec![&short], true, "not imported: OpenSSL does not take it: ee key too small"),
        (vec![&junk], true, "neither PEM nor DER nor PKCS#12 nor JKS"),
        (vec![&large], true, "is larger than 1048576 bytes"),
        (vec![&torn], true, "a PEM block has no end"),
        (vec![&jceks], true, "a JCEKS keystore is not read"),
    ] {
        let mut args = vec!["import", "a.example"];
        args.extend(files.iter().map(|f| f.as_str()));
        args.extend(force.then_some("--force"));
        let (exit, line) = scene.fail(&args);
        assert_eq!(exit, Exit::Bad, "{line}");
        assert!(line.contains(cause), "{cause}: {line}");
    }
    assert_eq!(scene.keystore().entries().unwrap(), []);
    assert_eq!(scene.fail(&["import", "a.example", "/none"]).0, Exit::Unknown);
    // Each of them by force.
    for file in [&expired, &later, &other, &own, &client] {
        scene.run(&["import", "a.example", file, "--force"]);
    }
    let answer = scene.run(&["import", "a.example", &cert, &key, "--force"]);
    assert_eq!((&answer.json["version"], &answer.json["chain_length"]), (&6.into(), &1.into()));
}

#[test]
fn an_import_is_a_new_version_in_order() {
    let scene = Scene::new();
    let sub = scene.ca.issue(Spec { serial: 9, ..Spec::ca("Sub") });
    let leaf = Spec { names: &["a.example", "*.b.example"], ..Spec::default() };
    let (id, stranger) = (sub.issue(leaf), fixture::root("Stranger"));
    let parts = [&stranger.pem()[..], &scene.ca.pem(), &sub.pem(), b"text\n", &id.pem()].concat();
    let (certs, key) = (scene.write("certs", &parts), scene.write("key", key_of(&id).bytes()));
    let before = scene.keystore().changes_end().unwrap();
    let answer = scene.run(&["import", "A.example", &key, &certs]);
    let expected = serde_json::json!({
        "name": "a.example", "serial": "1234", "version": 1, "chain_length": 2,
        "names": ["a.example", "*.b.example"], "not_after": "2033-06-17T03:33:20Z",
        "replaced_serial": null,
    });
    assert_eq!((answer.json, answer.notes.len()), (expected, 0));
    let loaded = scene.keystore().load(&entry("a.example")).unwrap().ok().unwrap();
    assert!(loaded.chain == [id.cert.clone(), sub.cert] && loaded.key.public_eq(&id.key));
    assert_eq!((loaded.meta.ca, loaded.meta.stored_at), (None, Some(NOW)));
    let (changes, _) = scene.keystore().changes_since(before).unwrap();
    assert_eq!(changes, [Change::Certificate(entry("a.example"), 1)]);
    assert!(scene.run(&["list"]).text.ends_with("  imported\n"));
    assert_eq!(scene.run(&["import", "x.b.example", &certs, &key]).json["version"], 1);
}

#[test]
fn what_was_revoked_does_not_come_back() {
    use crate::evidence::{Evidence, Reason, Source, Status};
    let scene = Scene::new();
    let (id, name) = (scene.leaf("a.example", LIFE), entry("a.example"));
    let facts = crate::facts::CertFacts::from_der(&id.der()).unwrap();
    let evidence = Evidence {
        certificate: facts.fingerprint,
        serial: facts.serial,
        source: Source::Ocsp,
        status: Status::Revoked { reason: Reason::KeyCompromise, at: NOW },
        this_update: NOW,
        next_update: None,
        checked_at: NOW,
        responder: "http://ca.example".into(),
    };
    scene.keystore().merge_evidence(&name, evidence, None, NOW).unwrap();
    let all = [id.pem(), scene.ca.pem(), key_of(&id).bytes().to_vec()].concat();
    let file = scene.write("all", &all);
    let (exit, line) = scene.fail(&["import", "a.example", &file]);
    assert_eq!(exit, Exit::Bad);
    assert!(line.contains("serial=1234 is revoked (keyCompromise)"), "{line}");
    scene.run(&["import", "a.example", &file, "--force"]);
    assert_eq!(scene.run(&["list"]).json["entries"][0]["state"], "revoked");
}

#[test]
fn passwords() {
    let scene = Scene::new();
    let id = scene.leaf("a.example", LIFE);
    let store = scene.write("a.p12", &p12(&id, &[&scene.ca], "web", "changeit"));
    let pem = id.key.private_key_to_pem_pkcs8_passphrase(Cipher::aes_256_cbc(), b"changeit");
    let old = id.key.ec_key().unwrap();
    let old = old.private_key_to_pem_passphrase(Cipher::aes_128_cbc(), b"changeit").unwrap();
    let certs = [id.pem(), scene.ca.pem()].concat();
    let pem = scene.write("a.pem", &[pem.unwrap(), certs.clone()].concat());
    let old = scene.write("old.pem", &[certs, old].concat());
    let right = scene.write("right", b"changeit\n");
    let (wrong, empty) = (scene.write("wrong", b"nonsense\r\n"), scene.write("empty", b""));
    let second = scene.write("second", b"nonsense\nchangeit\n");
    for (file, password, cause) in [
        (&store, None, "it is encrypted: --password-file names a file with the password"),
        (&store, Some(&wrong), "the password in --password-file is wrong"),
        (&store, Some(&empty), "the password in --password-file is wrong"),
        (&store, Some(&second), "the password in --password-file is wrong"),
        (&store, Some(&right), ""),
        (&pem, None, "it is encrypted"),
        (&pem, Some(&wrong), "is wrong"),
        (&pem, Some(&right), ""),
        (&pem, Some(&second), ""),
        (&old, None, "it is encrypted"),
        (&old, Some(&wrong), "is wrong"),
        (&old, Some(&right), ""),
    ] {
        let mut args = vec!["import", "a.example", file];
        args.extend(password.iter().flat_map(|p| ["--password-file", p]));
        if cause.is_empty() {
            scene.run(&args);
            continue;
        }
        let (exit, line) = scene.fail(&args);
        assert_eq!(exit, Exit::Bad, "{args:?}");
        assert!(line.contains(cause), "{args:?}: {line}");
        assert!(!line.contains("changeit") && !line.contains("nonsense"), "{line}");
    }
}

#[test]
fn several_keys() {
    let scene = Scene::new();
    let (a, b) = (scene.leaf("a.example", LIFE), scene.leaf("b.example", LIFE));
    let b2 = scene.ca.issue(Spec { serial: 7, names: &["b.example"], ..Spec::default() });
    let file = |name: &str, id: &Identity| scene.write(name, &p12(id, &[&scene.ca], name, ""));
    let (a, b, b2) = (file("A1", &a), file("b1", &b), file("b2", &b2));
    assert_eq!(scene.run(&["import", "a.example", &b, &a]).json["names"][0], "a.example");
    let (exit, line) = scene.fail(&["import", "b.example", &a, &b, &b2]);
    assert_eq!(exit, Exit::Bad);
    assert!(line.ends_with("--alias names the one to take (A1, b1, b2)"), "{line}");
    let answer = scene.run(&["import", "b.example", &a, &b, &b2, "--alias", "B2"]);
    assert_eq!(answer.json["serial"], "07");
    let (_, line) = scene.fail(&["import", "b.example", &a, &b, "--alias", "b3"]);
    assert!(line.ends_with("there is no key with the alias \"b3\" (A1, b1)"), "{line}");
    // One key twice is one key.
    scene.run(&["import", "b.example", &b, &b]);
}

#[test]
fn what_goes_out_comes_in_again() {
    let scene = Scene::new();
    let id = scene.leaf("a.example", LIFE);
    scene.put("a.example", &id);
    let (out, password) = (scene.path("out.p12"), scene.write("password", "päss\n".as_bytes()));
    let out = out.to_str().unwrap();
    std::fs::write(out, "old").unwrap();
    let args = ["export", "a.example", "--pkcs12", out, "--password-file", &password];
    let answer = scene.run(&args);
    assert_eq!(
        (&answer.json["alias"], &answer.json["chain_length"]),
        (&"a.example".into(), &2.into())
    );
    let mode = std::fs::metadata(out).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let files = std::fs::read_dir(scene.dir.path()).unwrap().count();
    assert_eq!(files, 3, "keystore, password, out.p12");
    scene.run(&["import", "a.example", out, "--password-file", &password]);
    let loaded = scene.keystore().load(&entry("a.example")).unwrap().ok().unwrap();
    assert!(loaded.chain[0] == id.cert && loaded.chain.len() == 2 && loaded.key.public_eq(&id.key));
    scene.run(&[&args[..], &["--alias", "web"]].concat());
    let args = ["import", "a.example", out, "--password-file", &password, "--alias", "WEB"];
    assert_eq!(scene.run(&args).json["version"], 3);

    let empty = scene.write("empty", b"\n");
    for (args, exit, cause) in [
        (
            ["export", "a.example", "--pkcs12", out, "--password-file", &empty],
            Exit::Bad,
            "is empty",
        ),
        (
            ["export", "b.example", "--pkcs12", out, "--password-file", &password],
            Exit::Bad,
            "not found",
        ),
        (
            ["export", "a.example", "--pkcs12", "/none/x", "--password-file", &password],
            Exit::Unknown,
            "can't be written",
        ),
        (
            ["export", "a.example", "--pkcs12", out, "--password-file", "/none"],
            Exit::Unknown,
            "can't be read",
        ),
    ] {
        let (got, line) = scene.fail(&args);
        assert_eq!(got, exit, "{line}");
        assert!(line.contains(cause), "{line}");
    }
}

/// As root a file would take the place of the device.
#[test]
fn what_is_no_file_is_written_into() {
    use std::io::Read;
    use std::os::unix::fs::{FileTypeExt, OpenOptionsExt, symlink};
    let scene = Scene::new();
    scene.put("a.example", &scene.leaf("a.example", LIFE));
    let password = scene.write("password", b"changeit\n");
    let path = |name: &str| scene.path(name).to_str().unwrap().to_owned();
    let export = |to: &str| {
        scene.try_run(&["export", "a.example", "--pkcs12", to, "--password-file", &password])
    };
    let fifo = path("fifo");
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    symlink(&fifo, path("link")).unwrap();
    // Open for both, it has a reader, and room for what is written.
    let nonblock = rustix::fs::OFlags::NONBLOCK.bits() as i32;
    let mut reader = std::fs::OpenOptions::new();
    let mut reader = reader.read(true).write(true).custom_flags(nonblock).open(&fifo).unwrap();
    for to in [&fifo, &path("link")] {
        assert_eq!(export(to).unwrap().exit, Exit::Done);
        let mut bytes = vec![0; 65536];
        let read = reader.read(&mut bytes).unwrap();
        bytes.truncate(read);
        let file = scene.write("read.p12", &bytes);
        scene.run(&["import", "a.example", &file, "--password-file", &password]);
        assert!(std::fs::metadata(&fifo).unwrap().file_type().is_fifo());
    }
    // A link to a file that others may have laid.
    std::fs::write(path("file"), "theirs").unwrap();
    symlink(path("file"), path("to-file")).unwrap();
    let refused = export(&path("to-file")).err().unwrap();
    assert_eq!(refused.exit, Exit::Unknown);
    assert!(refused.line.contains("it is a symbolic link: name the file itself"));
    assert_eq!(std::fs::read(path("file")).unwrap(), b"theirs");
}
