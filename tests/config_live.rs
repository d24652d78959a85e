//! What a running nginx makes of its configuration.

mod lab;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

use lab::*;

const SOON: Duration = Duration::from_secs(10);

/// A certificate of one's own beats the management that is inherited, and the reverse.
#[test]
#[ignore = "needs nginx, the module and pebble: scripts/test.sh"]
fn what_is_nearer_counts() {
    let lab = Stage::trusting_lab();
    let tls = lab.tls_port.addr();
    let other = Port::reserve();
    let own = "ssl_certificate own.pem; ssl_certificate_key own.key;";
    let config = Config::new();
    let id = Identity::self_signed(&Profile::server(&["own.test", "off.test", "plain.test"]));
    fs::write(config.dir().join("own.pem"), id.cert_pem()).expect("write");
    fs::write(config.dir().join("own.key"), id.key_pem()).expect("write");
    // `ssl_cert_autofetch lab` stands in http.
    let stage = Stage::start(
        lab,
        config,
        &format!(
            "server {{ listen {tls} ssl; server_name managed.test; }}\n\
             server {{ listen {tls} ssl; server_name own.test; {own} }}\n\
             server {{ listen {tls} ssl; server_name off.test; ssl_cert_autofetch off; {own} }}"
        ),
    );
    let managed = stage.monitor.wait_valid("managed.test");
    let entries = stage.monitor.status()["entries"].as_array().expect("entries").len();
    assert_eq!(entries, 1);
    assert_eq!(stage.lab.client("managed.test").connect().expect("handshake").serial, managed);
    for name in ["own.test", "off.test"] {
        let client = stage.lab.client(name).trust(id.cert_pem());
        assert_eq!(client.connect().expect("handshake").serial, id.serial(), "{name}");
    }

    // And here certificates do.
    let ca = stage.lab.ca_block("lab", "");
    let config = Config::new();
    fs::write(config.dir().join("own.pem"), id.cert_pem()).expect("write");
    fs::write(config.dir().join("own.key"), id.key_pem()).expect("write");
    let status = Port::reserve();
    let other_addr = other.addr();
    let body = format!(
        "ssl_cert_autofetch_keystore {};\n{ca} {own}\n\
         server {{ listen {other_addr} ssl; server_name plain.test; }}\n\
         server {{ listen {other_addr} ssl; server_name managed.test; ssl_cert_autofetch lab; }}\n\
         server {{ listen {}; {LOCATIONS} }}",
        config.keystore().display(),
        status.addr()
    );
    let _nginx = config.http(body).start();
    let monitor = Monitor::at(&status);
    let managed = monitor.wait_valid("managed.test");
    let client = |name| Client::new(other.number()).sni(name).trust(stage.lab.pebble.root_pem());
    assert_eq!(client("managed.test").connect().expect("handshake").serial, managed);
    let plain = client("plain.test").trust(id.cert_pem()).connect().expect("handshake");
    assert_eq!(plain.serial, id.serial());
}

/// The keystore is made with its parents, for workers without privileges, and they can do
/// everything with it.
#[test]
#[ignore = "needs nginx, the module and pebble: scripts/test.sh"]
fn workers_without_privileges() {
    let lab = Stage::trusting_lab();
    let mut config = Config::new().workers(2);
    config.user = USER.into();
    let dir = config.dir().to_owned();
    let keystore = dir.join("a/b/keystore");
    // Read by the master; nobody else may.
    let ca = dir.join("api-ca.pem");
    fs::copy(lab.pebble.api_ca(), &ca).expect("copy");
    fs::set_permissions(&ca, PermissionsExt::from_mode(0o600)).expect("chmod");
    let tls = lab.tls_port.addr();
    let body = format!(
        "ssl_cert_autofetch_keystore {};\n{}\n\
         server {{ listen {tls} ssl; server_name a.test; ssl_cert_autofetch lab;\n\
           ssl_cert_autofetch_check_interval 0; }}\n\
         server {{ listen {}; {LOCATIONS} }}",
        keystore.display(),
        lab.ca_block("lab", "").replace(&lab.pebble.api_ca().display().to_string(), "api-ca.pem"),
        lab.http_port.addr(),
    );
    let nginx = config.http(body).start();
    let monitor = Monitor::at(&lab.http_port);
    let old = monitor.wait_valid("a.test");
    check_owned(&keystore, owner());
    check_modes(&keystore);

    let stored = Stored::of(&keystore, "a.test");
    lab.pebble.revoke(&stored.chain_pem(), &stored.key_pem(), None).expect("revoked");
    let new = lab.client("a.test").connect().expect("handshake").serial;
    assert_ne!(new, old);
    nginx.reload();
    assert_eq!(monitor.wait_valid("a.test"), new);
    check_owned(&keystore, owner());
    check_modes(&keystore);
    nginx.check_log();
}

/// nginx's own rule for relative paths.
#[test]
#[ignore = "needs nginx, the module and pebble: scripts/test.sh"]
fn a_relative_keystore_is_below_the_prefix() {
    let lab = Stage::trusting_lab();
    let config = Config::new();
    let keystore = config.dir().join("deep/keystore");
    let server = format!("server {{ listen {} ssl; server_name a.test; }}", lab.tls_port.addr());
    let body = Stage::body(&lab, Path::new("deep/keystore"), &server);
    let _nginx = config.http(body).start();
    let serial = Monitor::at(&lab.http_port).wait_valid("a.test");
    assert_eq!(Stored::of(&keystore, "a.test").serial(), serial);
}

/// What can't be a keystore stops nginx, in words.
#[test]
#[ignore = "needs nginx and the module: scripts/test.sh"]
fn a_keystore_that_cannot_be_made_stops_nginx() {
    let config = Config::new();
    fs::write(config.dir().join("file"), b"no folder").expect("write");
    let ca = "ssl_cert_autofetch_ca lab { url https://localhost:1/; }";
    let said = config
        .http(format!(
            "ssl_cert_autofetch_keystore file/keystore; {ca}\n\
             server {{ listen {} ssl; server_name a.test; ssl_cert_autofetch lab; }}",
            Port::reserve().addr()
        ))
        .start_in_vain(SOON);
    let lines: Vec<_> = said.lines().filter(|l| l.contains("[emerg]")).collect();
    assert_eq!(lines.len(), 1, "{said}");
    assert!(lines[0].contains("keystore") && lines[0].contains("/file\""), "{said}");
}

/// A folder above the keystore that the workers may not enter: they say so, and go on trying.
#[test]
#[ignore = "needs nginx and the module: scripts/test.sh"]
fn a_keystore_that_workers_cannot_reach_is_told() {
    let mut config = Config::new();
    config.user = USER.into();
    let closed = config.dir().join("closed");
    fs::create_dir(&closed).expect("mkdir");
    fs::set_permissions(&closed, PermissionsExt::from_mode(0o700)).expect("chmod");
    let status = Port::reserve();
    let ca = "ssl_cert_autofetch_ca lab { url https://localhost:1/; }";
    let tls = Port::reserve();
    let nginx = config
        .http(format!(
            "ssl_cert_autofetch_keystore closed/keystore; {ca}\n\
             server {{ listen {} ssl; server_name a.test; ssl_cert_autofetch lab; }}\n\
             server {{ listen {}; {LOCATIONS} }}",
            tls.addr(),
            status.addr()
        ))
        .start();
    if owner() == rustix::process::geteuid().as_raw() {
        eprintln!("skipped: the workers are the user who closed the folder");
        return;
    }
    let line = nginx.wait_log("\"a.test\": ISSUE failed: ", SOON);
    assert!(line.contains("closed/keystore") && line.contains("Permission denied"), "{line}");
    let refused = Client::new(tls.number()).sni("a.test").connect().expect_err("no certificate");
    assert_eq!(refused.alert, Some(INTERNAL_ERROR));
    let monitor = Monitor::at(&status);
    let error = monitor.entry("a.test")["last_error"].to_string();
    assert!(error.contains("Permission denied"), "{error}");

    // As soon as it is open the next attempt gets further: to the CA, which is not there.
    fs::set_permissions(&closed, PermissionsExt::from_mode(0o755)).expect("chmod");
    nginx.wait_log("\"a.test\": ISSUE failed: \"lab\": ", Duration::from_secs(20));
}

/// Of the workers: [`USER`], if the tests run as root; else the user of the tests.
fn owner() -> u32 {
    let own = rustix::process::geteuid();
    if !own.is_root() {
        return own.as_raw();
    }
    let user = std::ffi::CString::new(USER).expect("a name");
    // SAFETY: asks only; the answer is copied before anybody else asks.
    unsafe { (*libc::getpwnam(user.as_ptr())).pw_uid }
}

/// The distribution's, for web servers.
const USER: &str = "www-data";

fn check_owned(path: &Path, owner: u32) {
    for path in below(path) {
        let found = fs::symlink_metadata(&path).expect("metadata");
        assert_eq!(found.uid(), owner, "{}", path.display());
    }
}

/// Folders 0700, files 0600.
fn check_modes(path: &Path) {
    for path in below(path) {
        let found = fs::symlink_metadata(&path).expect("metadata");
        let expected = if found.is_dir() { 0o700 } else { 0o600 };
        assert!(found.is_symlink() || found.mode() & 0o777 == expected, "{}", path.display());
    }
}

fn below(path: &Path) -> Vec<std::path::PathBuf> {
    let mut all = vec![path.to_owned()];
    if fs::symlink_metadata(path).expect("metadata").is_dir() {
        let inner = fs::read_dir(path).expect("a folder").flatten();
        all.extend(inner.flat_map(|e| below(&e.path())));
    }
    all
}
