//! The command: what it says and how it ends, against what other programs say of the same
//! certificates, and beside a running nginx.

mod check;
mod keytool;
#[path = "../lab/mod.rs"]
mod lab;
mod running;
mod vectors;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use lab::command::{Ended, run};
use lab::{Identity, KeyType, Profile, Stored};
use serde_json::Value;

/// On a busy machine.
const WITHIN: Duration = Duration::from_secs(60);

/// The command with one keystore, and a folder for files.
struct Cli {
    keystore: PathBuf,
    dir: tempfile::TempDir,
}

impl Cli {
    /// With a keystore of its own, which nothing else uses.
    fn alone() -> Cli {
        let dir = tempfile::tempdir().expect("directory");
        let keystore = dir.path().join("keystore");
        fs::create_dir_all(keystore.join("certs")).expect("mkdir");
        Cli { keystore, dir }
    }

    fn of(keystore: &Path) -> Cli {
        Cli { keystore: keystore.into(), dir: tempfile::tempdir().expect("directory") }
    }

    fn run(&self, args: &[&str]) -> Ended {
        run_with(&[&["--keystore", self.keystore.to_str().expect("UTF-8")], args].concat())
    }

    /// That ends so; what `--json` tells.
    fn json(&self, code: i32, args: &[&str]) -> Value {
        let ended = self.run(&[&["--json"], args].concat());
        assert_eq!(ended.code, Some(code), "{args:?}: {ended:?}");
        serde_json::from_str(&ended.stdout).unwrap_or_else(|e| panic!("{args:?}: {e}: {ended:?}"))
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().expect("UTF-8").into()
    }

    fn write(&self, name: &str, bytes: &[u8]) -> String {
        fs::write(self.path(name), bytes).expect("write");
        self.path(name)
    }

    fn stored(&self, name: &str) -> Stored {
        Stored::of(&self.keystore, name)
    }
}

fn run_with(args: &[&str]) -> Ended {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cert-autofetch"));
    command.args(args);
    run(command)
}

/// Every subcommand in each of its ends: the exit code, one line on standard error and no more,
/// and JSON that can be read.
#[test]
fn ends_are_told_by_the_exit_code() {
    let cli = Cli::alone();
    let root = Identity::root("Root");
    let good = root.issue(&Profile::server(&["good.test"]));
    let mut expired = Profile::server(&["expired.test"]);
    expired.not_after = -60;
    let expired = root.issue(&expired);
    let with_root = |id: &Identity| [id.cert_pem(), root.cert_pem()].concat();
    cli.stored("good.test").put(&with_root(&good), &good.key_pem());
    cli.stored("expired.test").put(&with_root(&expired), &expired.key_pem());
    let all = [with_root(&good), good.key_pem()].concat();
    let (file, junk) = (cli.write("good.pem", &all), cli.write("junk", b"junk"));
    let mut short = Profile::server(&["good.test"]);
    short.key = KeyType::Rsa1024;
    let short = root.issue(&short);
    let short = cli.write("short.pem", &[with_root(&short), short.key_pem()].concat());
    let (password, out) = (cli.write("password", b"changeit\n"), cli.path("out.p12"));
    let export = |name| vec!["export", name, "--pkcs12", &out, "--password-file", &password];
    let rows: Vec<(Vec<&str>, i32, &str)> = vec![
        (vec!["list"], 0, ""),
        (vec!["show", "good.test"], 0, ""),
        (vec!["show", "expired.test"], 0, ""),
        (vec!["show", "none.test"], 1, "\"none.test\": not found in"),
        (vec!["check", "good.test"], 0, ""),
        (vec!["check", "expired.test"], 1, ""),
        (vec!["check", "none.test"], 1, "\"none.test\": not found in"),
        (vec!["renew", "good.test"], 3, "no running nginx watches this keystore"),
        (vec!["renew", "none.test"], 1, "\"none.test\": not found in"),
        (vec!["import", "good.test", &file], 0, ""),
        (vec!["import", "other.test", &file], 1, "lacks the name \"other.test\""),
        (vec!["import", "good.test", &short], 1, "OpenSSL does not take it: ee key too small"),
        (vec!["import", "good.test", &short, "--force"], 1, "OpenSSL does not take it"),
        (vec!["import", "good.test", &junk], 1, "neither PEM nor DER nor PKCS#12 nor JKS"),
        (vec!["import", "good.test", "/none"], 3, "\"/none\" can't be read: No such file"),
        (export("good.test"), 0, ""),
        (export("none.test"), 1, "\"none.test\": not found in"),
        (vec!["export", "good.test"], 2, "the following required arguments were not provided"),
        (vec!["import", "good.test"], 2, "the following required arguments were not provided"),
        (vec!["show", "../x"], 2, "it is not a host name"),
        (vec!["frobnicate"], 2, "unrecognized subcommand 'frobnicate'"),
        (vec!["check", "good.test", "--crl", "foo"], 2, "it is no http or https URL"),
        (vec![], 2, "requires a subcommand"),
    ];
    for (args, code, said) in rows {
        for json in [&[][..], &["--json"]] {
            let ended = cli.run(&[&args[..], json].concat());
            assert_eq!(ended.code, Some(code), "{args:?}: {ended:?}");
            assert!(ended.stderr.contains(said), "{args:?}: {ended:?}");
            let lines = usize::from(!said.is_empty());
            assert_eq!(ended.stderr.lines().count(), lines, "{args:?}: {ended:?}");
            assert!(said.is_empty() || ended.stderr.starts_with("cert-autofetch: "));
            if code != 2 && !json.is_empty() {
                let object: Value = serde_json::from_str(&ended.stdout).expect(&ended.stdout);
                assert!(object.is_object(), "{args:?}: {object}");
                assert!(!said.contains("not found") || object["error"].is_string(), "{object}");
            }
        }
    }
    let away = run_with(&["list", "--keystore", "/nowhere"]);
    assert_eq!((away.code, away.stdout.as_str()), (Some(3), ""));
    for args in ["--help", "--version"] {
        let ended = run_with(&[args]);
        assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
        assert!(ended.stdout.contains("cert-autofetch"));
    }
}

/// As a pipeline has it: the file and nothing else.
#[test]
fn an_export_to_standard_output_is_the_file() {
    let cli = Cli::alone();
    let root = Identity::root("Root");
    let id = root.issue(&Profile::server(&["a.test"]));
    cli.stored("a.test").put(&[id.cert_pem(), root.cert_pem()].concat(), &id.key_pem());
    let password = cli.write("password", b"changeit\n");
    for to_file in [false, true] {
        for json in [&[][..], &["--json"]] {
            let mut command = Command::new(env!("CARGO_BIN_EXE_cert-autofetch"));
            command.args(json).arg("--keystore").arg(&cli.keystore).args(["export", "a.test"]);
            command.args(["--pkcs12", "/dev/stdout", "--password-file", &password]);
            let out = cli.path("out.p12");
            if to_file {
                command.stdout(fs::File::create(&out).expect("create"));
            }
            let mut ended = command.output().expect("started");
            if to_file {
                ended.stdout = fs::read(&out).expect("read");
            }
            assert_eq!(ended.status.code(), Some(0), "{ended:?}");
            assert!(String::from_utf8_lossy(&ended.stderr).contains("/dev/stdout"), "{ended:?}");
            let p12 = openssl::pkcs12::Pkcs12::from_der(&ended.stdout).expect("PKCS#12");
            assert_eq!(p12.to_der().expect("DER").len(), ended.stdout.len(), "nothing behind it");
            assert!(p12.parse2("changeit").expect("opened").pkey.is_some());
        }
    }
    assert!(fs::symlink_metadata("/dev/stdout").expect("link").is_symlink());
}

/// Who reads only the beginning of a list is no reason for a panic.
#[test]
fn a_closed_pipe_is_no_panic() {
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixStream;
    let (ours, theirs) = UnixStream::pair().expect("socketpair");
    drop(theirs);
    let mut command = Command::new(env!("CARGO_BIN_EXE_cert-autofetch"));
    let ended = command.arg("--help").stdout(OwnedFd::from(ours)).output().expect("started");
    assert_eq!((ended.status.code(), ended.stderr.len()), (Some(3), 0), "{ended:?}");
}

/// What root imports belongs to whom the keystore belongs to.
#[test]
#[ignore = "needs root: scripts/test.sh"]
fn the_owner_of_the_keystore_gets_what_is_imported() {
    use std::os::unix::fs::{MetadataExt, chown};
    let cli = Cli::alone();
    const NOBODY: u32 = 65534;
    for path in [cli.keystore.clone(), cli.keystore.join("certs")] {
        chown(path, Some(NOBODY), Some(NOBODY)).expect("chown");
    }
    let root = Identity::root("Root");
    let id = root.issue(&Profile::server(&["a.test"]));
    let all = [id.cert_pem(), root.cert_pem(), id.key_pem()].concat();
    let file = cli.write("a.pem", &all);
    cli.json(0, &["import", "a.test", &file]);
    let mut paths = vec![cli.keystore.join("changes"), cli.keystore.join("certs/a.test")];
    for name in ["lock", "versions", "versions/1", "versions/1/privkey.pem"] {
        paths.push(cli.keystore.join("certs/a.test").join(name));
    }
    for path in paths {
        let found = fs::metadata(&path).expect("metadata");
        assert_eq!((found.uid(), found.mode() & 0o077), (NOBODY, 0), "{}", path.display());
    }
}
