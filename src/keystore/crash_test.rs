//! kill -9 at any instant: a child process stores as fast as it can and is killed again and again,
//! while the parent reads.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;
use std::process::{Child, Command};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use super::testing::{self, Pair, name};
use super::{Holder, Keystore, Pending};
use crate::bundle::{Defect, Meta};
use crate::ca::Order;
use crate::clock::Time;

const ROUNDS: u32 = 40;
/// Until then it goes on if the reader has hardly seen anything.
const MOST_ROUNDS: u32 = 1000;
const DIR: &str = "CERT_AUTOFETCH_CRASH_TEST_DIR";
const ENTRY: &str = "a.example";

/// The passwords of the child, in one order and then in the other; none: it has no passwords.
const PASSWORDS: &str = "CERT_AUTOFETCH_CRASH_TEST_PASSWORDS";

#[test]
fn killed_at_any_instant() {
    let (temp, keystore) = testing::keystore();
    kill_again_and_again(&temp, keystore);
}

/// Under changing passwords, and where it can be with a group.
#[test]
fn killed_while_keys_are_encrypted() {
    let (temp, keystore) = testing::keystore();
    if rustix::process::geteuid().is_root() {
        keystore.share(Some(54_321), 0).unwrap();
    }
    kill_again_and_again(&temp, keystore.with_passwords(testing::passwords(&["one", "two"])));
}

#[allow(clippy::disallowed_methods)] // it kills at a random moment, and polls another process
fn kill_again_and_again(temp: &tempfile::TempDir, keystore: Keystore) {
    let progress = temp.path().join("progress");
    let reading = AtomicBool::new(true);
    let (loads, version) = (AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| read_until(&keystore, &reading, &loads, &version));
        let until = Reading(&reading);
        let (loads, version) = (|| loads.load(SeqCst), || version.load(SeqCst));
        let has_seen_much = || loads() > u64::from(ROUNDS) && version() > 1;
        for round in 0.. {
            if round >= ROUNDS && has_seen_much() {
                eprintln!("{round} kills, {} loads, {} versions", loads(), version());
                break;
            }
            assert!(round < MOST_ROUNDS, "{} loads, {} versions", loads(), version());
            std::fs::write(&progress, "").unwrap();
            let mut child = Killed(start(&keystore));
            while std::fs::read(&progress).unwrap().is_empty() {
                assert!(child.0.try_wait().unwrap().is_none(), "the child has failed");
                std::thread::sleep(Duration::from_millis(1));
            }
            let mut random = [0; 2];
            openssl::rand::rand_bytes(&mut random).unwrap();
            // Up to 65 ms; on a machine whose disk is busy a child needs longer to store anything.
            let time = Duration::from_micros(u16::from_ne_bytes(random).into());
            std::thread::sleep(time * (1 + round / ROUNDS));
            assert!(child.0.try_wait().unwrap().is_none(), "the child has failed");
            drop(child);
            look_at_pending(&keystore, &std::fs::read_to_string(&progress).unwrap(), round);
        }
        drop(until);
        reader.join().unwrap();
    });

    // The dead left locks that are free and garbage that goes.
    let lock = keystore.try_lock(&name(ENTRY)).unwrap().unwrap();
    let last = keystore.load(&name(ENTRY)).unwrap().ok().unwrap().version;
    assert!(testing::commit(&keystore, &lock, &testing::pair(ENTRY)) > last);
    keystore.clear_pending(&lock).unwrap();
    let entry = keystore.dir().join("certs").join(ENTRY);
    let current = std::fs::canonicalize(entry.join("current")).unwrap();
    let folders = [entry.clone(), entry.join("versions"), entry.join("pending"), current];
    for folder in folders {
        for file in std::fs::read_dir(&folder).unwrap() {
            let file = file.unwrap().file_name();
            assert!(!file.to_string_lossy().starts_with('.'), "{file:?} was left");
        }
    }
}

/// Not a test of its own: the life of the child.
#[test]
fn child() {
    let Some(dir) = std::env::var_os(DIR) else { return };
    let mut keystore = Keystore::open(Path::new(&dir)).unwrap();
    let mut others = None;
    if std::env::var_os(PASSWORDS).is_some() {
        others = Some(keystore.clone().with_passwords(testing::passwords(&["two", "one"])));
        keystore = keystore.with_passwords(testing::passwords(&["one", "two"]));
    }
    let progress = Path::new(&dir).with_file_name("progress");
    let mut progress = OpenOptions::new().append(true).open(progress).unwrap();
    let mut say = |line: String| progress.write_all(line.as_bytes()).unwrap();
    let pairs: Vec<Pair> = (0..4).map(|_| testing::pair(ENTRY)).collect();
    let mut lock = keystore.try_lock(&name(ENTRY)).unwrap().unwrap();
    // Not for ever: the parent may be killed too.
    for (turn, pair) in pairs.iter().cycle().enumerate().take(3000) {
        let text = String::from_utf8(pair.key.bytes().to_vec()).unwrap();
        let id: String = text.lines().nth(1).unwrap().into();
        let mut pending = Pending {
            key_pem: pair.key.clone(),
            order: Order {
                ca: "corp".into(),
                names: vec![ENTRY.into()],
                csr: Vec::new(),
                entry: "a.example".into(),
                reason: "missing".into(),
                accepted: false,
                state: id.clone().into(),
            },
            chain: None,
            created_at: Time::from_secs(1),
            replaces: None,
            counted: false,
        };
        say(format!("begin {id}\n"));
        keystore.save_pending(&lock, &pending).unwrap();
        say(format!("saved {id}\n"));
        pending.created_at = Time::from_secs(2);
        keystore.save_pending(&lock, &pending).unwrap();
        pending.chain = Some(pair.chain.clone());
        keystore.save_pending(&lock, &pending).unwrap();
        say(format!("issued {id}\n"));
        let meta = Meta { ca: Some(id.clone()), ..Meta::default() };
        keystore.commit(&lock, &pair.chain, &pair.key, &meta).unwrap();
        if let Some(others) = &mut others {
            drop(lock);
            assert!(others.rekey(&Holder::Entry(name(ENTRY))).unwrap().unwrap() > 0);
            lock = keystore.try_lock(&name(ENTRY)).unwrap().unwrap();
            std::mem::swap(&mut keystore, others);
        }
        // Every second time the next order has to push this one out.
        if turn % 2 == 0 {
            say(format!("begin {id}\n"));
            keystore.clear_pending(&lock).unwrap();
        }
    }
}

/// The child, dead when this is dropped.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill(); // SIGKILL
        let _ = self.0.wait();
    }
}

/// The reader goes on until this is dropped, also by a failed assertion.
struct Reading<'a>(&'a AtomicBool);

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        self.0.store(false, SeqCst);
    }
}

fn start(keystore: &Keystore) -> Child {
    let test = concat!(module_path!(), "::child");
    let test = test.split_once("::").unwrap().1; // libtest leaves out the crate
    let passwords = !keystore.protection.passwords().is_empty();
    Command::new(std::env::current_exe().unwrap())
        .envs(passwords.then_some((PASSWORDS, "")))
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(DIR, keystore.dir())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap()
}

/// Loads all the time: each bundle is whole and none is older than the one before.
fn read_until(keystore: &Keystore, reading: &AtomicBool, loads: &AtomicU64, newest: &AtomicU64) {
    let mut version = 0;
    while reading.load(SeqCst) {
        match keystore.load(&name(ENTRY)).unwrap() {
            Ok(bundle) => {
                assert!(bundle.version >= version, "{} after {version}", bundle.version);
                version = bundle.version;
                // Key and certificate are compared by load(); meta names the key.
                let key = bundle.key.private_key_to_pem_pkcs8().unwrap();
                let id = String::from_utf8(key).unwrap().lines().nth(1).unwrap().to_owned();
                assert_eq!(bundle.meta.ca, Some(id));
                loads.fetch_add(1, SeqCst);
                newest.store(version, SeqCst);
            }
            Err(Defect::Missing) if version == 0 => {}
            Err(defect) => panic!("{defect:?} after version {version}"),
        }
    }
}

/// What save_pending() returned for is there, whatever came then.
fn look_at_pending(keystore: &Keystore, progress: &str, round: u32) {
    let pending = keystore.pending(&name(ENTRY)).unwrap();
    if let Some(p) = &pending {
        let key = String::from_utf8(p.key_pem.bytes().to_vec()).unwrap();
        assert_eq!(p.order.state, *key.lines().nth(1).unwrap(), "an order with another's key");
    }
    let last = progress.lines().last().unwrap();
    let (what, id) = last.split_once(' ').unwrap();
    if what != "begin" {
        let pending = pending.unwrap_or_else(|| panic!("round {round}: lost after {last:?}"));
        assert_eq!(pending.order.state, *id, "round {round}");
        assert!(what != "issued" || pending.chain.is_some(), "round {round}: the chain is lost");
    }
}
