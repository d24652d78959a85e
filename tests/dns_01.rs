//! dns-01 with the example hook, BIND and Pebble: wildcards, and what comes of a hook that fails.

mod lab;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lab::*;
use tempfile::TempDir;

const RECORD: &str = "_acme-challenge.corp.test";
const LONG: Duration = Duration::from_secs(60);

const SERVERS: &str = "corp.test www.corp.test *.corp.test";

struct Scene {
    site: Site,
    dns: Named,
    dir: TempDir,
}

impl Scene {
    /// `hook` makes the hook in a directory, where the server's key is too.
    fn start(hook: impl FnOnce(&Named, &Path) -> PathBuf) -> Scene {
        let dns = Named::start("corp.test");
        let dir = tempfile::tempdir().expect("directory");
        fs::write(dir.path().join("key"), named::key(named::SECRET)).expect("write");
        let hook = hook(&dns, dir.path());
        let mut plan = Plan::server(SERVERS, "ssl_cert_autofetch_check_interval 0;");
        plan.pebble.dns_port = Some(dns.port());
        let site = plan.ca(&format!("challenge dns-01 {};", hook.display())).start();
        Scene { site, dns, dir }
    }
}

#[test]
#[ignore = "needs nginx, the module, pebble and named: scripts/test.sh"]
fn a_wildcard_certificate_is_issued_and_replaced_in_the_handshake() {
    let scene = Scene::start(|dns, dir| dns.hook(dir, &dir.join("key")));
    let site = &scene.site;
    let old = site.wait_valid("corp.test");
    assert_eq!(site.stored("corp.test").names(), ["*.corp.test", "corp.test"]);
    let names = site.entry("corp.test")["server_names"].clone();
    assert_eq!(names, serde_json::json!(["corp.test", "www.corp.test", "*.corp.test"]));
    for name in ["corp.test", "www.corp.test", "any.corp.test"] {
        assert_eq!(site.lab.client(name).connect().expect("handshake").serial, old, "{name}");
    }
    let added = scene.dns.log().matches("adding an RR at '_acme-challenge.corp.test' TXT").count();
    assert_eq!(added, 2, "{}", scene.dns.log());
    wait_until("clean records", LONG, || scene.dns.txt(RECORD).is_empty());

    site.revoke("corp.test", Some(1));
    let served = site.lab.client("any.corp.test").connect().expect("handshake").serial;
    assert_ne!(served, old);
    assert_eq!(served, site.stored("corp.test").serial());
    wait_until("clean records", LONG, || scene.dns.txt(RECORD).is_empty());
    site.nginx.check_log();
}

#[test]
#[ignore = "needs nginx, the module, pebble and named: scripts/test.sh"]
fn a_hook_that_fails_is_told_and_called_again() {
    let scene = Scene::start(|dns, dir| {
        fs::write(dir.join("wrong"), named::key("d3Jvbmctd3JvbmctIQ==")).expect("write");
        dns.hook(dir, &dir.join("wrong"))
    });
    let line = scene.site.nginx.wait_log("ISSUE failed: \"lab\": answering a challenge", LONG);
    let hook = scene.dir.path().join("hook.sh");
    let told = format!("for \"corp.test\": hook \"{} present\" of \"challenge\" ", hook.display());
    assert!(line.contains(&told), "{line}");
    assert!(line.contains("exited with status 2: ") && line.contains("next attempt in"), "{line}");
    assert!(scene.dns.txt(RECORD).is_empty());
    scene.dns.hook(scene.dir.path(), &scene.dir.path().join("key"));
    scene.site.wait_state("corp.test", "valid", LONG);
}

/// It says that it has done its work, and has not: what it was called for is taken back.
#[test]
#[ignore = "needs nginx, the module, pebble and named: scripts/test.sh"]
fn what_was_presented_in_vain_is_cleaned_up() {
    let scene = Scene::start(|_, dir| {
        let hook = dir.join("hook.sh");
        let notes = dir.join("notes");
        let notes = notes.display();
        command::script(&hook, &format!("echo $(env | sort) \"$@\" >>{notes}"));
        hook
    });
    let line = scene.site.nginx.wait_log("ISSUE failed: \"lab\": challenge: corp.test: ", LONG);
    assert!(line.contains("next attempt in"), "{line}");
    let notes = fs::read_to_string(scene.dir.path().join("notes")).expect("notes");
    let calls = |verb: &str| -> BTreeSet<String> {
        let of_verb = notes.lines().filter_map(|line| line.strip_suffix(verb));
        of_verb.filter_map(|line| line.split_once("VALUE=")).map(|(_, v)| v.to_owned()).collect()
    };
    assert_eq!(calls("present").len(), 2, "{notes}");
    assert_eq!(calls("present"), calls("cleanup"), "{notes}");
    for part in ["CA=lab ", " NAME=corp.test ", " RECORD=_acme-challenge.corp.test "] {
        assert!(notes.lines().all(|line| line.contains(part)), "{notes}");
    }
}

/// nginx dies with the first record out; the next one goes on with the order and takes it back.
#[test]
#[ignore = "needs nginx, the module, pebble and named: scripts/test.sh"]
fn no_record_survives_a_crash() {
    let scene = Scene::start(|dns, dir| {
        let hook = dns.hook(dir, &dir.join("key"));
        fs::write(dir.join("stop"), "").expect("write");
        let slow = dir.join("slow.sh");
        let stop = dir.join("stop");
        let script = format!(
            "{} \"$@\" || exit\nwhile [ -e {} ]; do sleep 0.1; done",
            hook.display(),
            stop.display()
        );
        command::script(&slow, &script);
        slow
    });
    wait_until("the first record", LONG, || scene.dns.txt(RECORD).len() == 1);
    let Scene { site, dns, dir } = scene;
    let site = site.restart(
        |nginx| {
            let config = nginx.kill();
            fs::remove_file(dir.path().join("stop")).expect("remove");
            config
        },
        |_| {},
    );
    site.wait_state("corp.test", "valid", LONG);
    wait_until("clean records", LONG, || dns.txt(RECORD).is_empty());
    assert_eq!(site.issued(), 1);
}
