//! What lies on the disk: private keys under a password (`password_file`), certificates and keys
//! for a group (`group`).

mod lab;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use lab::command::{openssl, run};
use lab::*;

const WITHIN: Duration = Duration::from_secs(60);
/// The distribution's, for web servers; member of no group of ours.
const USER: &str = "www-data";

struct Scene {
    lab: Lab,
    nginx: Nginx,
    monitor: Monitor,
    passwords: PathBuf,
}

impl Scene {
    /// nginx with these parameters of the keystore, and these lines in the password file.
    fn start(parameters: &str, passwords: &str) -> Scene {
        let lab = Stage::trusting_lab();
        let mut config = Config::new().workers(2);
        config.user = USER.into();
        Scene::of(lab, config, parameters, passwords)
    }

    fn of(lab: Lab, config: Config, parameters: &str, passwords: &str) -> Scene {
        let file = config.dir().join("words");
        write_words(&file, passwords);
        let body = body(&lab, &config.keystore(), parameters);
        let monitor = Monitor::at(&lab.http_port);
        let nginx = config.http(body).start();
        Scene { lab, nginx, monitor, passwords: file }
    }

    /// Ends nginx, and starts it with other parameters and passwords.
    fn restart(self, parameters: &str, passwords: &str) -> Scene {
        let config = self.nginx.stop();
        Scene::of(self.lab, config, parameters, passwords)
    }

    fn body(&self, parameters: &str) -> String {
        body(&self.lab, &self.nginx.keystore(), parameters)
    }

    fn served(&self) -> String {
        self.lab.client("a.test").connect().expect("handshake").serial
    }

    fn entry(&self) -> PathBuf {
        self.nginx.keystore().join("certs/a.test")
    }

    /// The keys of all versions, oldest first.
    fn keys(&self) -> Vec<PathBuf> {
        let versions = fs::read_dir(self.entry().join("versions")).expect("versions").flatten();
        let mut keys: Vec<_> = versions.map(|v| v.path().join("privkey.pem")).collect();
        keys.sort();
        keys
    }

    /// Whether every key of the entry and of the account is encrypted with this password.
    fn all_lie_under(&self, password: &str) -> bool {
        let file = self.nginx.dir().join("single-word");
        write_words(&file, password);
        let account = fs::read_to_string(self.nginx.keystore().join("accounts/lab/account.json"));
        let account: serde_json::Value =
            serde_json::from_str(&account.expect("account.json")).expect("JSON");
        let of_account = self.nginx.dir().join("account.pem");
        fs::write(&of_account, account["key"].as_str().expect("a key")).expect("write");
        let opens = |key: &PathBuf| {
            let pem = fs::read_to_string(key).expect("key");
            let (word, key) = (format!("file:{}", file.display()), key.display().to_string());
            let is_sealed = pem.starts_with("-----BEGIN ENCRYPTED PRIVATE KEY-----\n");
            is_sealed && openssl(&["pkey", "-noout", "-passin", &word, "-in", &key]).ok
        };
        self.keys().iter().chain([&of_account]).all(opens)
    }

    fn wait_under(&self, password: &str) {
        wait_until("keys under the password", WITHIN, || self.all_lie_under(password));
    }

    /// Revokes what is served, as the responder says; the serial of its successor.
    fn replace(&self) -> String {
        let old = self.served();
        self.lab.responder.behave_for(&old, Behaviour::revoked(Some(1)));
        let new = self.served();
        assert_ne!(new, old);
        new
    }
}

fn body(lab: &Lab, keystore: &Path, parameters: &str) -> String {
    let keystore = keystore.display();
    let http = Stage::asking(lab, "");
    Stage::body(lab, Path::new("PLACE"), &http)
        .replace("keystore PLACE;", &format!("keystore {keystore} {parameters};"))
}

/// Only root, whose the tests are mostly, may read it: the master does, the workers can't.
fn write_words(file: &Path, words: &str) {
    fs::write(file, words).expect("write");
    fs::set_permissions(file, PermissionsExt::from_mode(0o600)).expect("chmod");
}

#[test]
#[ignore = "needs nginx, the module and pebble: scripts/test.sh"]
fn keys_are_encrypted_and_the_password_may_change() {
    let scene = Scene::start("password_file=words", "first-word\n");
    scene.monitor.wait_valid("a.test");
    assert!(scene.all_lie_under("first-word"));
    let new = scene.replace();
    assert_eq!(scene.keys().len(), 2);
    assert!(scene.all_lie_under("first-word"));
    let issued = scene.lab.issued();

    for (words, first) in
        [("second-word\r\n\nfirst-word\n", "second-word"), ("second-word", "second-word")]
    {
        write_words(&scene.passwords, words);
        scene.nginx.reload();
        scene.wait_under(first);
        assert_eq!(scene.served(), new);
    }
    let scene = scene.restart("password_file=words", "second-word");
    assert_eq!(scene.monitor.wait_valid("a.test"), new);
    assert_eq!((scene.served(), scene.lab.issued()), (new, issued));
    // One line for the entry, one for the account.
    let told = scene.nginx.log_lines("private keys encrypted with the first line");
    assert_eq!(told.len(), 2, "{told:#?}");
    scene.nginx.check_log();
    let log = scene.nginx.error_log();
    assert!(!log.contains("first-word") && !log.contains("second-word"));
    assert!(!scene.monitor.status().to_string().contains("-word"));
}

#[test]
#[ignore = "needs nginx, the module and pebble: scripts/test.sh"]
fn keys_that_are_there_are_encrypted() {
    let mut scene = Scene::start("", "");
    let serial = scene.monitor.wait_valid("a.test");
    assert!(!scene.all_lie_under("word"));
    write_words(&scene.passwords, "word");
    let body = scene.body("password_file=words");
    scene.nginx.reload_with(body);
    scene.wait_under("word");
    assert_eq!((scene.served(), scene.lab.issued()), (serial, 1));
    scene.nginx.check_log();
}

/// The old workers have what the new ones could not read.
#[test]
#[ignore = "needs nginx, the module and pebble: scripts/test.sh"]
fn a_reload_with_the_wrong_password_is_refused() {
    let mut scene = Scene::start("password_file=words", "right");
    let serial = scene.monitor.wait_valid("a.test");
    let workers = scene.nginx.worker_pids();
    write_words(&scene.passwords, "wrong");
    scene.nginx.signal(libc::SIGHUP);
    let line = scene.nginx.wait_log("[emerg]", WITHIN);
    let cause = "privkey.pem\" is encrypted, and no line of the \"password_file\" in \
                 \"ssl_cert_autofetch_keystore\" decrypts it";
    assert!(line.contains(cause), "{line}");
    assert_eq!(scene.served(), serial);
    // Nor without any.
    let body = scene.body("");
    scene.nginx.try_reload_with(body);
    let cause = "is encrypted, and \"ssl_cert_autofetch_keystore\" has no \"password_file\"";
    scene.nginx.wait_log(cause, WITHIN);
    assert_eq!(scene.served(), serial);
    assert_eq!(scene.nginx.worker_pids(), workers);
    assert_eq!(scene.nginx.log_lines("is encrypted").len(), 2);

    write_words(&scene.passwords, "right");
    let body = scene.body("password_file=words");
    scene.nginx.reload_with(body);
    assert_eq!(scene.monitor.wait_valid("a.test"), serial);
    assert_eq!((scene.served(), scene.lab.issued()), (serial, 1));
}

/// The certificate's key is under the new password already, the account's is not.
#[test]
#[ignore = "needs nginx, the module and pebble: scripts/test.sh"]
fn a_reload_that_would_lose_the_account_is_refused() {
    let scene = Scene::start("password_file=words", "old-word");
    scene.monitor.wait_valid("a.test");
    let key = scene.keys().pop().expect("a key");
    put_under(&key, "old-word", "new-word");
    let workers = scene.nginx.worker_pids();
    write_words(&scene.passwords, "new-word");
    scene.nginx.signal(libc::SIGHUP);
    let line = scene.nginx.wait_log("[emerg]", WITHIN);
    assert!(line.contains("accounts/lab/account.json\" is encrypted, and no line"), "{line}");
    assert_eq!(scene.nginx.worker_pids(), workers);

    write_words(&scene.passwords, "new-word\nold-word");
    scene.nginx.reload();
    scene.wait_under("new-word");
    write_words(&scene.passwords, "new-word");
    scene.nginx.reload();
    scene.replace();
    assert_eq!(scene.lab.issued(), 2);
}

/// As the rekeying does, by another program.
fn put_under(key: &Path, old: &str, new: &str) {
    let (file, plain) = (key.display().to_string(), key.with_extension("plain"));
    let plain_file = plain.display().to_string();
    let (old, new) = (format!("pass:{old}"), format!("pass:{new}"));
    assert!(openssl(&["pkey", "-in", &file, "-passin", &old, "-out", &plain_file]).ok);
    let sealed = ["pkcs8", "-topk8", "-v2", "aes-256-cbc", "-passout", &new, "-in", &plain_file];
    // Written over, it keeps its owner and mode.
    assert!(openssl(&[&sealed[..], &["-out", &file]].concat()).ok);
    fs::remove_file(plain).expect("remove");
}

#[test]
#[ignore = "needs nginx, the module and pebble: scripts/test.sh"]
fn a_start_with_the_wrong_password_issues_nothing() {
    let scene = Scene::start("password_file=words", "right");
    let serial = scene.monitor.wait_valid("a.test");
    let scene = scene.restart("password_file=words", "wrong");
    let line = scene.nginx.wait_log("\"a.test\": ISSUE failed: ", WITHIN);
    assert!(line.contains("no line of the \"password_file\""), "{line}");
    let refused = scene.lab.client("a.test").connect().expect_err("nothing to serve");
    assert_eq!(refused.alert, Some(INTERNAL_ERROR));
    assert!(refused.took < Duration::from_secs(9), "held for nothing: {:?}", refused.took);
    assert!(scene.monitor.entry("a.test")["last_error"].to_string().contains("password_file"));
    assert!(scene.monitor.state("a.test") != "valid" && scene.lab.issued() == 1);

    write_words(&scene.passwords, "right");
    scene.nginx.reload();
    assert_eq!(scene.monitor.wait_valid("a.test"), serial);
    assert_eq!((scene.served(), scene.lab.issued()), (serial, 1));
}

/// A group that the workers' user is no member of.
#[test]
#[ignore = "needs nginx, the module and pebble: scripts/test.sh"]
fn a_group_reads_certificates_and_keys_and_nothing_else() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root can become somebody else");
        return;
    }
    let mut scene = Scene::start("group=games", "");
    scene.monitor.wait_valid("a.test");
    check_access(&scene, Some("games"));
    // What others put there stops no reload.
    let certs = scene.nginx.keystore().join("certs");
    fs::write(certs.join("backup.tar"), "theirs").expect("write");
    symlink("a.test", certs.join("www.test")).expect("symlink");
    fs::create_dir_all(scene.nginx.keystore().join("staging/a/b")).expect("mkdir");
    scene.replace();
    check_access(&scene, Some("games"));
    // Another group, by its number, and keys that are encrypted meanwhile.
    write_words(&scene.passwords, "word");
    let body = scene.body("group=54321 password_file=words");
    scene.nginx.reload_with(body);
    scene.wait_under("word");
    check_access(&scene, Some("54321"));
    assert!(!reads(&scene.entry().join("current/privkey.pem"), "games"));
    let body = scene.body("password_file=words");
    scene.nginx.reload_with(body);
    check_access(&scene, None);
    scene.replace();
    check_access(&scene, None);
    scene.nginx.check_log();
}

fn check_access(scene: &Scene, group: Option<&str>) {
    let (keystore, entry) = (scene.nginx.keystore(), scene.entry());
    let shared = ["current/privkey.pem", "current/fullchain.pem", "current/meta.json"];
    for path in shared.map(|file| entry.join(file)) {
        assert_eq!(reads(&path, group.unwrap_or("games")), group.is_some(), "{}", path.display());
        let mode = fs::metadata(&path).expect("metadata").mode() & 0o7777;
        assert_eq!(mode, if group.is_some() { 0o640 } else { 0o600 }, "{}", path.display());
    }
    let current = fs::canonicalize(entry.join("current")).expect("current");
    for path in current.ancestors().take_while(|path| path.starts_with(&keystore)) {
        let mode = fs::metadata(path).expect("metadata").mode() & 0o7777;
        assert_eq!(mode, if group.is_some() { 0o750 } else { 0o700 }, "{}", path.display());
    }
    for path in [keystore.join("accounts/lab/account.json"), entry.join("evidence.json")] {
        assert!(!reads(&path, group.unwrap_or("games")), "{}", path.display());
    }
}

/// Whether a user that is in this group and no other can read the file.
fn reads(file: &Path, group: &str) -> bool {
    let mut command = Command::new("setpriv");
    command.args(["--reuid=nobody", "--clear-groups", &format!("--regid={group}"), "cat"]);
    run({
        command.arg(file);
        command
    })
    .ok
}
