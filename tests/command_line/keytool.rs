//! Java's keytool: what it made is imported and served, what was exported it imports.

use std::process::Command;

use openssl::pkcs12::Pkcs12;
use openssl::stack::Stack;
use openssl::x509::X509Req;

use super::lab::command::{Ended, run};
use super::lab::{Guests, Identity, KeyType, Profile, wait_until};
use super::{Cli, WITHIN};

const PASSWORD: &str = "changeit";

/// Each way in which keytool protects keystores: store type, and properties of the JVM.
const WAYS: [(&str, &str, &[&str]); 7] = [
    ("default.test", "PKCS12", &[]),
    ("legacy.test", "PKCS12", &["keystore.pkcs12.legacy"]),
    (
        "des.test",
        "PKCS12",
        &[
            "keystore.pkcs12.certProtectionAlgorithm=PBEWithSHA1AndDESede",
            "keystore.pkcs12.keyProtectionAlgorithm=PBEWithSHA1AndDESede",
        ],
    ),
    (
        "sha512.test",
        "PKCS12",
        &[
            "keystore.pkcs12.certProtectionAlgorithm=PBEWithHmacSHA512AndAES_256",
            "keystore.pkcs12.keyProtectionAlgorithm=PBEWithHmacSHA512AndAES_256",
        ],
    ),
    (
        "sha1.test",
        "PKCS12",
        &[
            "keystore.pkcs12.certProtectionAlgorithm=PBEWithHmacSHA1AndAES_128",
            "keystore.pkcs12.keyProtectionAlgorithm=PBEWithHmacSHA1AndAES_128",
        ],
    ),
    (
        "bare.test",
        "PKCS12",
        &["keystore.pkcs12.macAlgorithm=NONE", "keystore.pkcs12.certProtectionAlgorithm=NONE"],
    ),
    ("jks.test", "JKS", &[]),
];

#[test]
#[ignore = "needs nginx, the module and keytool: scripts/test.sh"]
fn what_keytool_made_is_served() {
    let (root, sub) = authorities();
    let mut guests = Guests::of(&root.cert_pem());
    for (name, _, _) in WAYS {
        guests = guests.empty(name);
    }
    let site = guests.start();
    let cli = Cli::of(&site.nginx.keystore());
    let password = cli.write("password", PASSWORD.as_bytes());
    for (i, (name, kind, properties)) in WAYS.into_iter().enumerate() {
        let key = if i % 2 == 0 { KeyType::Ecdsa256 } else { KeyType::Rsa2048 };
        let id = sub.issue(&Profile { key, ..Profile::server(&[name]) });
        let (from, to) = (cli.write("from.p12", &pkcs12(&id)), cli.path(name));
        let mut args = vec!["-importkeystore", "-noprompt", "-srckeystore", &from];
        args.extend(["-srcstorepass", PASSWORD, "-destkeystore", &to, "-deststoretype", kind]);
        args.extend(["-deststorepass", PASSWORD]);
        keytool(&args, properties);
        site.monitor.wait_valid(name);
        let args = ["import", name, &to, "--password-file", &password, "--alias", "Web"];
        let imported = cli.json(0, &args);
        let told = (&imported["serial"], &imported["chain_length"]);
        assert_eq!(told, (&id.serial().into(), &2.into()), "{name}");
        let is_served = || site.client(name).connect().is_ok_and(|c| c.serial == id.serial());
        wait_until(&format!("{name} of keytool"), WITHIN, is_served);
        let wrong = cli.write("wrong", b"nonsense");
        if name != "bare.test" {
            let ended = cli.run(&["import", name, &to, "--password-file", &wrong]);
            assert_eq!(ended.code, Some(1), "{name}");
            assert!(ended.stderr.contains("is wrong"), "{name}: {}", ended.stderr);
        }
    }
}

/// From the key on: a keystore in which keytool has the only key, and another one beside it; in
/// JKS with a password of its own.
#[test]
#[ignore = "needs keytool: scripts/test.sh"]
fn a_key_that_keytool_made_is_imported() {
    let (root, sub) = authorities();
    let cli = Cli::alone();
    let password = cli.write("password", b"changeit\nanother");
    for (kind, key_password) in [("PKCS12", PASSWORD), ("JKS", "another")] {
        let store = cli.path(kind);
        let at = ["-keystore", &store, "-storepass", PASSWORD];
        for alias in ["web", "other"] {
            let make = ["-genkeypair", "-alias", alias, "-keyalg", "EC", "-groupname", "secp256r1"];
            let more = ["-storetype", kind, "-keypass", key_password, "-dname", "CN=a.test"];
            keytool(&[&make[..], &more, &at].concat(), &[]);
        }
        let (csr, reply) = (cli.path("csr"), cli.path("reply"));
        let key = ["-alias", "web", "-keypass", key_password];
        keytool(&[&["-certreq", "-file", &csr][..], &key, &at].concat(), &[]);
        let csr = X509Req::from_pem(&std::fs::read(&csr).expect("csr")).expect("a CSR");
        let leaf = sub.certify(&csr, &Profile::server(&["a.test"]));
        let certs = [&leaf, &sub.cert, &root.cert].map(|c| c.to_pem().expect("PEM")).concat();
        std::fs::write(&reply, certs).expect("write");
        let import = ["-importcert", "-noprompt", "-trustcacerts", "-file", &reply];
        keytool(&[&import[..], &key, &at].concat(), &[]);

        let args = ["import", "a.test", &store, "--password-file", &password];
        let imported = cli.json(0, &args);
        let serial = super::lab::pki::serial_hex(&leaf);
        assert_eq!((&imported["serial"], &imported["chain_length"]), (&serial.into(), &2.into()));
        cli.stored("a.test").check_whole();
        let ended = cli.run(&[&args[..], &["--alias", "other"]].concat());
        assert_eq!(ended.code, Some(1), "self-signed: {ended:?}");
        assert!(ended.stderr.contains("self-signed"), "{}", ended.stderr);
    }
    let only_store = cli.write("only", PASSWORD.as_bytes());
    let jks = cli.path("JKS");
    let ended = cli.run(&["import", "a.test", &jks, "--password-file", &only_store]);
    assert!(ended.stderr.contains("second line of --password-file"), "{}", ended.stderr);
}

#[test]
#[ignore = "needs keytool: scripts/test.sh"]
fn keytool_imports_what_was_exported() {
    let (root, sub) = authorities();
    let cli = Cli::alone();
    for key in [KeyType::Ecdsa256, KeyType::Ecdsa384, KeyType::Rsa2048] {
        let id = sub.issue(&Profile { key, ..Profile::server(&["a.test"]) });
        let chain = [id.fullchain_pem(), root.cert_pem()].concat();
        cli.stored("a.test").put(&chain, &id.key_pem());
        let (out, password) = (cli.path("out.p12"), cli.write("password", b"changeit\n"));
        let args = ["export", "a.test", "--pkcs12", &out, "--password-file", &password];
        let told = cli.json(0, &[&args[..], &["--alias", "web"]].concat());
        assert_eq!((&told["alias"], &told["chain_length"]), (&"web".into(), &3.into()));

        let store = cli.path(&format!("{key:?}"));
        let import =
            ["-importkeystore", "-noprompt", "-srckeystore", &out, "-destkeystore", &store];
        let passwords = ["-srcstorepass", PASSWORD, "-deststorepass", PASSWORD];
        keytool(&[&import[..], &passwords].concat(), &[]);
        let at = ["-keystore", &store, "-storepass", PASSWORD];
        let listed = keytool(&[&["-list", "-v"][..], &at].concat(), &[]).stdout;
        for words in ["contains 1 entry", "Alias name: web", "Certificate chain length: 3"] {
            assert!(listed.contains(words), "{words}: {listed}");
        }
        // The key works: it signs, and is the one of the certificate.
        let csr = keytool(&[&["-certreq", "-alias", "web"][..], &at].concat(), &[]).stdout;
        let csr = X509Req::from_pem(csr.as_bytes()).expect("a CSR");
        assert!(csr.verify(&id.key).expect("a signature"), "{key:?}");
    }
}

fn authorities() -> (Identity, Identity) {
    let root = Identity::root("Java Root");
    let sub = root.issue(&Profile::authority("Java CA"));
    (root, sub)
}

fn pkcs12(id: &Identity) -> Vec<u8> {
    let mut chain = Stack::new().expect("stack");
    id.chain.iter().for_each(|c| chain.push(c.clone()).expect("push"));
    let mut builder = Pkcs12::builder();
    builder.name("web").pkey(&id.key).cert(&id.cert).ca(chain);
    builder.build2(PASSWORD).and_then(|p12| p12.to_der()).expect("PKCS#12")
}

fn keytool(args: &[&str], properties: &[&str]) -> Ended {
    let mut command = Command::new("keytool");
    command.args(args).args(properties.iter().map(|p| format!("-J-D{p}")));
    let ended = run(command);
    assert!(ended.ok, "{args:?}: {ended:?}");
    ended
}
