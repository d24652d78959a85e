//! The subcommands in a world of their own: a keystore in a folder, a clock that stands still, and
//! answers that were made on the spot.

mod check;
mod files;

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::answer::{Answer, Exit, Failure};
use super::*;
use crate::bundle::Meta;
use crate::clock::FakeClock;
use crate::fixture::ocsp::{Reply, nonce_of};
use crate::fixture::{self, DAY, Identity, NOW, Spec};
use crate::http::{HttpError, Request, Response};
use crate::keystore::{Change, Pending};
use crate::settings::Secret;

struct Scene {
    dir: tempfile::TempDir,
    clock: FakeClock,
    ca: Identity,
    /// By URL: status and body.
    answers: Vec<(String, u16, Vec<u8>)>,
    /// By URL, with the nonce of the request.
    replies: Vec<(String, Reply)>,
}

impl Http for Scene {
    fn send(&self, request: &Request) -> Result<Response, HttpError> {
        let reply = self.replies.iter().find(|(url, _)| *url == request.url);
        if let Some((_, reply)) = reply {
            let body = reply.clone().with_nonce(nonce_of(&request.body).unwrap()).der();
            return Ok(Response { status: 200, body, ..Response::default() });
        }
        let found = self.answers.iter().find(|(url, _, _)| *url == request.url);
        let Some((_, status, body)) = found else { return Err(HttpError::Timeout) };
        Ok(Response { status: *status, body: body.clone(), ..Response::default() })
    }
}

impl Scene {
    fn new() -> Scene {
        let dir = tempfile::tempdir().unwrap();
        Keystore::create(&dir.path().join("keystore"), None).unwrap();
        let (clock, ca) = (FakeClock::at(NOW), fixture::root("CA"));
        Scene { dir, clock, ca, answers: Vec::new(), replies: Vec::new() }
    }

    fn keystore(&self) -> Keystore {
        Keystore::open(&self.dir.path().join("keystore")).unwrap()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, bytes: &[u8]) -> String {
        std::fs::write(self.path(name), bytes).unwrap();
        self.path(name).to_str().unwrap().to_owned()
    }

    /// Stores a certificate of the CA's, as a worker would.
    fn put(&self, name: &str, id: &Identity) {
        let (keystore, meta) =
            (self.keystore(), Meta { ca: Some("corp".into()), ..Meta::default() });
        let lock = keystore.try_lock(&entry(name)).unwrap().unwrap();
        let chain = [id.pem(), self.ca.pem()].concat();
        keystore.commit(&lock, &chain, &key_of(id), &meta).unwrap();
    }

    fn leaf(&self, name: &str, life: (i64, i64)) -> Identity {
        self.ca.issue(Spec { cn: name, names: &[name], life, ..Spec::default() })
    }

    fn try_run(&self, args: &[&str]) -> Result<Answer, Failure> {
        let keystore = self.path("keystore");
        let before = ["cert-autofetch", "--keystore", keystore.to_str().unwrap()];
        let args = Args::try_parse_from(before.iter().chain(args)).unwrap();
        run(&args, &self.clock, self)
    }

    fn run(&self, args: &[&str]) -> Answer {
        self.try_run(args).unwrap_or_else(|e| panic!("{args:?}: {}", e.line))
    }

    fn fail(&self, args: &[&str]) -> (Exit, String) {
        match self.try_run(args) {
            Ok(answer) => panic!("{args:?}: {}", answer.text),
            Err(failure) => (failure.exit, failure.line),
        }
    }
}

fn entry(name: &str) -> EntryName {
    EntryName::new(name).unwrap()
}

fn key_of(id: &Identity) -> Secret {
    Secret::new(id.key.private_key_to_pem_pkcs8().unwrap())
}

#[test]
fn arguments() {
    for (args, line) in [
        (&["list", "x"][..], "unexpected argument 'x' found"),
        (&["frob"], "unrecognized subcommand 'frob'"),
        (&["show"], "the following required arguments were not provided: <NAME>"),
        (&["show", "a/b"], "invalid value 'a/b' for '<NAME>': it is not a host name"),
        (&["renew", "*.a.example"], "it is not a host name"),
        (&["import", "a.example"], "the following required arguments were not provided: <FILE>..."),
        (&["export", "a.example", "--pkcs12", "f"], "not provided: --password-file <FILE>"),
        (&["check", "a.example", "--timeout", "0"], "invalid value '0' for '--timeout <SECONDS>'"),
        (&[], "requires a subcommand but one was not provided [subcommands: list, show, check,"),
        (
            &["check", "a.example", "--crl", "foo"],
            "invalid value 'foo' for '--crl <URL>': it is no http or https URL",
        ),
        (
            &["check", "a.example", "--ocsp-responder", "ftp://x"],
            "invalid value 'ftp://x' for '--ocsp-responder <URL>': it is no http or https URL",
        ),
        (&["import", "a.example", "f", "--alias", ""], "for '--alias <ALIAS>'"),
        (
            &["export", "a.example", "--pkcs12", "f", "--password-file", "f", "--alias", ""],
            "for '--alias <ALIAS>'",
        ),
        (&["--keystore"], "a value is required for '--keystore <DIR>'"),
    ] {
        let error = Args::try_parse_from([&["cert-autofetch"], args].concat()).err().unwrap();
        assert!(error.use_stderr(), "{args:?}");
        let said = usage_line(&error);
        assert!(said.contains(line) && !said.contains('\n'), "{args:?}: {said}");
        assert!(!said.starts_with("error"), "{said}");
    }
    // Before the subcommand and behind it.
    for args in [["--json", "list"], ["list", "--json"]] {
        let args = Args::try_parse_from([&["cert-autofetch"][..], &args].concat()).unwrap();
        assert!(args.json);
        assert_eq!(args.keystore, Path::new(DEFAULT_KEYSTORE));
    }
    for args in ["--help", "--version"] {
        assert!(!Args::try_parse_from(["cert-autofetch", args]).err().unwrap().use_stderr());
    }
}

#[test]
fn lists_what_each_entry_is_worth() {
    let scene = Scene::new();
    assert_eq!(scene.run(&["list"]).text, "");
    for (name, life) in [
        ("a.example", (-DAY, DAY)),
        ("b.example", (-DAY, -1)),
        ("c.example", (301, DAY)),
        ("d.example", (299, DAY)),
    ] {
        scene.put(name, &scene.leaf(name, life));
    }
    scene.put("e.example", &scene.leaf("other.example", (-DAY, DAY)));
    let keystore = scene.keystore();
    drop(keystore.try_lock(&entry("f.example")).unwrap());
    scene.put("g.example", &scene.leaf("g.example", (-DAY, DAY)));
    std::fs::write(keystore.dir().join("certs/g.example/current/privkey.pem"), "").unwrap();

    std::fs::write(keystore.dir().join("certs/h.example"), "").unwrap();

    let answer = scene.run(&["list"]);
    let lines: Vec<_> = answer.text.lines().collect();
    assert_eq!(lines[0], "a.example  valid          2033-05-19T03:33:20Z  1234  corp");
    assert_eq!(lines[5], "f.example  missing        -                     -     -");
    assert_eq!((answer.exit, answer.notes.len()), (Exit::Unknown, 1));
    assert!(answer.notes[0].contains("Not a directory"), "{:?}", answer.notes);
    let entries = answer.json["entries"].as_array().unwrap();
    let states: Vec<_> = entries.iter().map(|e| e["state"].as_str().unwrap()).collect();
    let expected = [
        "valid",
        "expired",
        "not_yet_valid",
        "valid",
        "wrong_name",
        "missing",
        "broken",
        "unreadable",
    ];
    assert_eq!(states, expected);
    let text: Vec<_> = lines.iter().map(|l| l[11..24].trim().replace(' ', "_")).collect();
    assert_eq!(text, expected);
    for entry in entries {
        let keys: Vec<_> = entry.as_object().unwrap().keys().map(String::as_str).collect();
        let all = ["ca", "cause", "name", "not_after", "not_before", "serial", "state", "version"];
        assert_eq!(keys, all);
    }
}

#[test]
fn shows_all_that_is_stored() {
    let scene = Scene::new();
    let (keystore, name) = (scene.keystore(), entry("a.example"));
    scene.put("a.example", &scene.leaf("a.example", (-DAY, DAY)));
    {
        let lock = keystore.try_lock(&name).unwrap().unwrap();
        keystore.record_issuance(&lock, "corp", NOW, true).unwrap();
        let order = crate::ca::Order {
            ca: "corp".into(),
            entry: "a.example".into(),
            names: vec!["a.example".into()],
            reason: "renewal".into(),
            csr: vec![1],
            accepted: true,
            state: serde_json::json!({ "token": "hush" }),
        };
        let key_pem = Secret::new(b"hush".to_vec());
        let pending =
            Pending { key_pem, order, chain: None, created_at: NOW, replaces: None, counted: true };
        keystore.save_pending(&lock, &pending).unwrap();
    }
    let answer = scene.run(&["show", "a.example"]);
    let value = |key: &str| {
        let lines = answer.text.lines().filter_map(|l| l.strip_prefix(key));
        lines.map(str::trim).collect::<Vec<_>>()
    };
    assert_eq!(value("name "), ["a.example"]);
    assert_eq!((value("state "), value("key ")), (vec!["valid"], vec!["ecdsa:256"]));
    assert_eq!(value("version"), ["1, from \"corp\""]);
    assert_eq!(value("pending"), ["asked for, from \"corp\", since 2033-05-18T03:33:20Z"]);
    assert_eq!(value("issued"), ["at 2033-05-18T03:33:20Z by \"corp\", not served"]);
    let json = &answer.json;
    assert_eq!(json["chain"][0]["subject"], "CN=CA,O=Test\\, Inc.");
    assert_eq!(
        (&json["pending"]["accepted"], &json["issued"][0]["wasted"]),
        (&true.into(), &true.into())
    );
    assert!(!(answer.text.clone() + &json.to_string()).contains("hush"));

    // The same keys where there is nothing, and for what is damaged one line.
    drop(keystore.try_lock(&entry("b.example")).unwrap());
    std::fs::write(keystore.dir().join("certs/b.example/evidence.json"), "{").unwrap();
    let empty = scene.run(&["show", "b.example"]);
    let keys = |v: &Value| v.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(&empty.json), keys(json));
    assert!(empty.notes[0].contains("evidence.json\" is damaged"), "{:?}", empty.notes);
    assert_eq!(empty.exit, Exit::Done);
    let dir = keystore.dir().display();
    let line = format!("\"c.example\": not found in \"{dir}\"");
    assert_eq!(scene.fail(&["show", "c.example"]), (Exit::Bad, line));
}

#[test]
fn renewal_is_requested_of_whoever_watches() {
    let scene = Scene::new();
    let keystore = scene.keystore();
    assert_eq!(scene.fail(&["renew", "a.example"]).0, Exit::Bad);
    scene.put("a.example", &scene.leaf("a.example", (-DAY, DAY)));
    let before = keystore.changes_end().unwrap();
    let answer = scene.run(&["renew", "a.example"]);
    assert!(answer.notes[0].contains("no running nginx"), "{:?}", answer.notes);
    assert_eq!((answer.exit, &answer.json["requested"]), (Exit::Unknown, &false.into()));
    assert_eq!((answer.text.as_str(), keystore.changes_end().unwrap()), ("", before));
    keystore.be_present("nginx").unwrap();
    let answer = scene.run(&["renew", "A.example"]);
    assert_eq!((answer.notes.len(), answer.exit), (0, Exit::Done));
    assert_eq!(answer.json["requested"], true);
    let (changes, _) = keystore.changes_since(before).unwrap();
    assert_eq!(changes, [Change::Renew(entry("a.example"))]);
}

#[test]
fn a_keystore_that_is_not_there_is_no_answer() {
    let scene = Scene::new();
    std::fs::rename(scene.path("keystore"), scene.path("away")).unwrap();
    let (exit, line) = scene.fail(&["list"]);
    assert_eq!(exit, Exit::Unknown);
    assert!(
        line.ends_with("(2: No such file or directory): --keystore DIR names another keystore")
    );
    // A folder with something else in it is left as it is.
    std::fs::create_dir(scene.path("keystore")).unwrap();
    let id = scene.leaf("a.example", (-DAY, DAY));
    let all = [id.pem(), scene.ca.pem(), key_of(&id).bytes().to_vec()].concat();
    let file = scene.write("all", &all);
    for args in [&["list"][..], &["check", "a.example"], &["import", "a.example", &file]] {
        let (exit, line) = scene.fail(args);
        assert_eq!(exit, Exit::Unknown);
        assert!(line.contains("is no keystore, it has no folder \"certs\""), "{line}");
    }
    assert_eq!(std::fs::read_dir(scene.path("keystore")).unwrap().count(), 0);
}

#[test]
fn an_encrypted_keystore_wants_its_password() {
    let scene = Scene::new();
    let secret = |text: &str| Secret::new(text.into());
    let passwords = crate::settings::Passwords::new(vec![secret("new"), secret("old")]);
    let (name, id) = (entry("a.example"), scene.leaf("a.example", (-DAY, DAY)));
    let keystore = scene.keystore().with_passwords(passwords);
    {
        let lock = keystore.try_lock(&name).unwrap().unwrap();
        let chain = [id.pem(), scene.ca.pem()].concat();
        keystore.commit(&lock, &chain, &key_of(&id), &Meta::default()).unwrap();
    }
    let right = scene.write("right", b"other\r\nnew\r\n");
    let wrong = scene.write("wrong", b"nonsense\n");
    let all = [id.pem(), scene.ca.pem(), key_of(&id).bytes().to_vec()].concat();
    let file = scene.write("all", &all);
    for args in [vec!["show", "a.example"], vec!["import", "a.example", &file]] {
        for (with, said) in [
            (&[][..], "is encrypted: --keystore-password-file names the file with its password"),
            (
                &["--keystore-password-file", &wrong],
                "is encrypted, and no line of the file of --keystore-password-file decrypts it",
            ),
        ] {
            let (exit, line) = scene.fail(&[&args[..], with].concat());
            assert_eq!(exit, Exit::Unknown, "{line}");
            assert!(line.ends_with(said), "{line}");
        }
        scene.run(&[&args[..], &["--keystore-password-file", &right]].concat());
    }
    let listed = scene.run(&["list"]);
    assert!(listed.notes[0].contains("--keystore-password-file"), "{:?}", listed.notes);
    let cause = listed.json["entries"][0]["cause"].as_str().unwrap();
    assert!(cause.contains("--keystore-password-file"), "{cause}");
    // It reads no key.
    keystore.be_present("nginx").unwrap();
    assert_eq!(scene.run(&["renew", "a.example"]).exit, Exit::Done);
    assert_eq!(scene.run(&["list"]).json["entries"][0]["state"], "unreadable");
    // Nor beside it in the clear.
    let b = scene.leaf("b.example", (-DAY, DAY));
    let file = scene.write("b", &[b.pem(), scene.ca.pem(), key_of(&b).bytes().to_vec()].concat());
    assert_eq!(scene.fail(&["import", "b.example", &file]).0, Exit::Unknown);
    let key = std::fs::read(keystore.dir().join("certs/a.example/current/privkey.pem")).unwrap();
    assert!(key.starts_with(b"-----BEGIN ENCRYPTED PRIVATE KEY-----"));
}
