//! A keystore with one file that is not as we wrote it: damage, or another program's doing.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use cert_autofetch::bundle::{Bundle, Meta};
use cert_autofetch::ca::acme::StoredAccount;
use cert_autofetch::clock::Time;
use cert_autofetch::evidence::{Evidence, Reason, Source, Status};
use cert_autofetch::facts::CertFacts;
use cert_autofetch::keystore::{Change, Cursor, Keystore, KeystoreError, Lock, Rest};
use cert_autofetch::settings::{EntryName, Passwords, Secret};
use openssl::error::ErrorStack;

use super::pki::{LEAF, NOW, Pki, SUB, certificate, key_pem};
use super::{must_be_a_line, no_error_is_left};

thread_local!(static WORLD: World = World::new());

/// The first byte says which file has the rest as its contents.
pub fn run(data: &[u8]) {
    if let Some((file, contents)) = data.split_first() {
        WORLD.with(|world| world.look_at(FILES[usize::from(*file) % FILES.len()], contents));
    }
}

const CHAIN: &str = "certs/shop.example/versions/1/fullchain.pem";
const KEY: &str = "certs/shop.example/versions/1/privkey.pem";
const META: &str = "certs/shop.example/versions/1/meta.json";
const CURRENT: &str = "certs/shop.example/current";
const EVIDENCE: &str = "certs/shop.example/evidence.json";
const LEDGER: &str = "certs/shop.example/ledger.json";
const ORDER: &str = "certs/shop.example/pending/order.json";
const ORDER_KEY: &str = "certs/shop.example/pending/privkey.pem";
const ACCOUNT: &str = "accounts/corp/account.json";
const CHANGES: &str = "changes";
const CHALLENGE: &str =
    "challenges/0000000000000000000000000000000000000000000000000000000000000000";

/// In the order of their letters in the seeds: `a` is the first.
const FILES: [&str; 11] =
    [ACCOUNT, CHAIN, CHALLENGE, CHANGES, CURRENT, EVIDENCE, KEY, LEDGER, META, ORDER, ORDER_KEY];

struct World {
    _dir: tempfile::TempDir,
    keystore: Keystore,
    name: EntryName,
    lock: Lock,
    pki: Pki,
    chain: Vec<u8>,
    key: Vec<u8>,
}

impl World {
    fn new() -> World {
        let dir = tempfile::tempdir().unwrap();
        let keystore = Keystore::create(&dir.path().join("keystore"), None).unwrap();
        let words = Passwords::new(vec![Secret::new(b"word".to_vec())]);
        let keystore = keystore.with_passwords(words);
        let name = EntryName::new("shop.example").unwrap();
        let lock = keystore.try_lock(&name).unwrap().unwrap();
        let chain = [certificate(LEAF), certificate(SUB)].concat();
        let key = key_pem(LEAF);
        keystore.commit(&lock, &chain, &Secret::new(key.clone()), &Meta::default()).unwrap();
        for file in FILES {
            let path = keystore.dir().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
        }
        World { _dir: dir, keystore, name, lock, pki: Pki::new(), chain, key }
    }

    fn look_at(&self, file: &str, contents: &[u8]) {
        if !self.put(file, contents) {
            return;
        }
        match file {
            CHAIN | KEY | META | CURRENT => self.certificate(),
            EVIDENCE => self.evidence(),
            LEDGER => self.ledger(),
            ORDER | ORDER_KEY => self.pending(),
            ACCOUNT => self.account(),
            CHANGES => self.changes(),
            _ => self.challenges(),
        }
        no_error_is_left();
        self.mend(file);
    }

    fn path(&self, file: &str) -> PathBuf {
        self.keystore.dir().join(file)
    }

    fn put(&self, file: &str, contents: &[u8]) -> bool {
        if file == CURRENT {
            let target = String::from_utf8_lossy(contents);
            fs::remove_file(self.path(file)).unwrap();
            let made = symlink(&*target, self.path(file)).is_ok();
            if !made {
                self.mend(file);
            }
            return made;
        }
        fs::write(self.path(file), contents).unwrap();
        true
    }

    /// As it was before.
    fn mend(&self, file: &str) {
        match file {
            CHAIN => fs::write(self.path(file), &self.chain).unwrap(),
            KEY => fs::write(self.path(file), &self.key).unwrap(),
            CURRENT => {
                let _ = fs::remove_file(self.path(file));
                symlink("versions/1", self.path(file)).unwrap();
            }
            ORDER | ORDER_KEY => self.keystore.clear_pending(&self.lock).unwrap(),
            _ => fs::remove_file(self.path(file)).unwrap_or_default(),
        }
        let _ = fs::remove_file(self.path(CHANGES));
    }

    /// What is loaded can be served and stored; what can't is a defect, never an error but that
    /// no password opens it.
    fn certificate(&self) {
        let bundle = match self.keystore.load(&self.name) {
            Err(KeystoreError::Sealed { .. }) | Ok(Err(_)) => return,
            loaded => loaded.unwrap().ok().unwrap(),
        };
        self.must_fit(&bundle);
        let meta = serde_json::to_vec(&bundle.meta).unwrap();
        serde_json::from_slice::<Meta>(&meta).unwrap();
        let again = self.keystore.load_version(&self.name, bundle.version).unwrap();
        assert_eq!(again.ok().unwrap().facts, bundle.facts);
    }

    fn must_fit(&self, bundle: &Bundle) {
        assert_eq!(bundle.version, 1);
        assert!(bundle.chain[0].public_key().unwrap().public_eq(&bundle.key));
        let der = bundle.chain[0].to_der().unwrap();
        assert_eq!(CertFacts::from_der(&der).unwrap(), bundle.facts);
        assert!(bundle.key.private_key_to_pem_pkcs8().is_ok());
        let _ = ErrorStack::get(); // ours, of the comparison
    }

    /// Whatever lies there: an answer can be added to it, and a revocation stays one.
    fn evidence(&self) {
        let old = self.keystore.evidence(&self.name).unwrap_or_default();
        let new = self.good();
        let is_gone = |e: &Evidence| {
            let held = matches!(e.status, Status::Revoked { reason: Reason::CertificateHold, .. });
            (&e.certificate, e.source) == (&new.certificate, new.source) && e.is_revoked() && !held
        };
        let gone =
            old.iter().find(|e| (&e.certificate, e.source) == (&new.certificate, new.source));
        let gone = gone.is_some_and(is_gone);
        let merged = self.keystore.merge_evidence(&self.name, new.clone(), None, NOW).unwrap();
        assert_eq!(self.keystore.evidence(&self.name).unwrap(), merged);
        assert!(!gone || merged.iter().any(is_gone), "a revocation was forgotten");
    }

    fn good(&self) -> Evidence {
        Evidence {
            certificate: self.pki.facts.fingerprint.clone(),
            serial: self.pki.facts.serial.clone(),
            source: Source::Ocsp,
            status: Status::Good,
            this_update: NOW,
            next_update: None,
            checked_at: NOW,
            responder: "http://ocsp.example".into(),
        }
    }

    fn ledger(&self) {
        let noted = |wasted| self.keystore.issued_since(&self.name, "corp", NOW, wasted);
        let before = noted(false).unwrap_or(0);
        assert!(noted(true).unwrap_or(0) <= before);
        self.keystore.record_issuance(&self.lock, "corp", NOW, true).unwrap();
        assert!((1..=1000).contains(&noted(true).unwrap()));
        let rest =
            Rest { ca: "corp".into(), host: "ca:443".into(), noted_at: NOW, until: Time::MAX };
        self.keystore.record_rest(&self.lock, &rest).unwrap();
        assert!((1..=32).contains(&self.keystore.rests(&self.name).unwrap().len()));
    }

    fn pending(&self) {
        let Ok(Some(mut pending)) = self.keystore.pending(&self.name) else { return };
        self.keystore.save_pending(&self.lock, &pending).unwrap();
        let mut stored = self.keystore.pending(&self.name).unwrap().unwrap();
        // serde_json is not exact about floats, of which we write none.
        pending.order.state = serde_json::Value::Null;
        stored.order.state = serde_json::Value::Null;
        assert_eq!(stored, pending);
    }

    /// As the module reads it: what is damaged is left out, and the rest is stored again.
    fn account(&self) {
        let Some(stored) = self.keystore.account("corp").unwrap_or_default() else { return };
        let account = StoredAccount::read(stored.bytes());
        account.damage.iter().for_each(|damage| must_be_a_line(damage, 256));
        let json = serde_json::to_vec(&account).unwrap();
        assert_eq!(StoredAccount::read(&json), StoredAccount { damage: None, ..account });
    }

    /// Reading ends, and what is appended afterwards is seen.
    fn changes(&self) {
        let mut cursor = Cursor::default();
        self.rest(&mut cursor);
        let own = Change::Renew(self.name.clone());
        self.keystore.announce(&own).unwrap();
        let seen = self.rest(&mut cursor);
        assert!(seen.contains(&own) || seen.contains(&Change::Everything), "{seen:?}");
    }

    fn rest(&self, cursor: &mut Cursor) -> Vec<Change> {
        let mut all = Vec::new();
        for _ in 0..1000 {
            let (changes, next) = self.keystore.changes_since(*cursor).unwrap();
            if next == *cursor {
                return all;
            }
            all.extend(changes);
            *cursor = next;
        }
        panic!("the news have no end");
    }

    fn challenges(&self) {
        let answers = self.keystore.challenges(NOW).unwrap();
        assert!(answers.len() <= 1);
    }
}
