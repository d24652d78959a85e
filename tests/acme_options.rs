//! What an ACME CA may want of a client, and a client of it, against Pebble and OpenBao: accounts
//! that are bound, change their key or their contact; chains; profiles; directories that have moved.

mod lab;

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use base64::prelude::{BASE64_URL_SAFE_NO_PAD as BASE64URL, Engine};
use cert_autofetch::ca::acme::{AccountStore, AcmeCa, Change, StoredAccount};
use cert_autofetch::ca::csr::{csr, new_key};
use cert_autofetch::ca::{Ca, ChallengeAnswer, Challenges, IssueError, Issued, Order, Progress};
use cert_autofetch::clock::SystemClock;
use cert_autofetch::http::network::NetworkHttp;
use cert_autofetch::settings::{
    AcmeSettings, Challenge, ExternalAccount, KeyType, Secret, WaySettings,
};
use lab::wire::{Exchange, Server};
use lab::{OpenBao, Pebble, Port, Profile, Settings};
use openssl::nid::Nid;
use openssl::x509::X509;

/// One order.
const WITHIN: Duration = Duration::from_secs(60);
/// 32 bytes.
const MAC_KEY: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY";

#[test]
#[ignore = "needs pebble: scripts/test.sh"]
fn an_account_that_is_bound() {
    let bound = Some(("kid-1".to_owned(), MAC_KEY.to_owned()));
    let world = World::start(Settings { external_account: bound, ..validating_nothing() });
    let error = world.issue(&world.settings()).unwrap_err();
    assert!(error.to_string().contains("set external_account_key"), "{error}");
    for (kid, key) in [("kid-1", "bm90IHRoZSByaWdodCBrZXk"), ("kid-2", MAC_KEY)] {
        let error = world.issue(&bind(world.settings(), kid, key)).unwrap_err();
        assert!(matches!(error, IssueError::Configuration(_)), "{error}");
        assert!(
            error.to_string().contains("look whether external_account_key is right"),
            "{error}"
        );
        assert_eq!(world.store.stored().and_then(|s| s.url), None);
    }
    world.issue(&bind(world.settings(), "kid-1", MAC_KEY)).unwrap();
    let account = world.store.stored().unwrap();
    // What binds is for new accounts.
    world.issue(&world.settings()).unwrap();
    assert_eq!(world.store.stored().unwrap(), account);
}

/// Its credentials are good for one account.
#[test]
#[ignore = "needs OpenBao: scripts/test.sh"]
fn an_account_that_openbao_binds() {
    let bao = OpenBao::start();
    let directory = bao.enable_acme();
    let (kid, key) = bao.external_account();
    let settings = AcmeSettings { url: directory, ..settings("") };
    let placed = |store: &Arc<Memory>, settings: &AcmeSettings| {
        let ca = ca(settings, NetworkHttp::new(&WaySettings::default()).unwrap(), store);
        ca.step(&mut order("host.example"), None)
    };
    let store = Arc::default();
    let error = placed(&store, &settings).unwrap_err();
    assert!(error.to_string().contains("set external_account_key"), "{error}");
    let bound = bind(settings.clone(), &kid, &key);
    assert!(matches!(placed(&store, &bound), Ok(Progress::Wait(_))), "account and order");
    assert!(matches!(placed(&store, &settings), Ok(Progress::Wait(_))), "the same account");
    // It lists keyChange and has none.
    let changed = with_key(bound.clone(), KeyType::Ecdsa384);
    let before = store.stored();
    for _ in 0..2 {
        let placed = placed(&store, &changed);
        assert!(matches!(placed, Ok(Progress::Wait(_))), "the key that it has: {placed:?}");
        assert_eq!(store.stored(), before);
    }
    let error = placed(&Arc::default(), &bound).unwrap_err();
    assert!(error.to_string().contains("not used up"), "{error}");
}

#[test]
#[ignore = "needs pebble: scripts/test.sh"]
fn an_account_changes_its_key_and_keeps_its_url() {
    let world = World::start(validating_nothing());
    world.issue(&world.settings()).unwrap();
    let made = world.store.stored().unwrap();
    let mut retired = Vec::new();
    for kind in [KeyType::Ecdsa384, KeyType::Rsa2048, KeyType::Ecdsa256] {
        let before = world.store.stored().unwrap();
        let settings = with_key(world.settings(), kind);
        world.issue(&settings).unwrap();
        let after = world.store.stored().unwrap();
        assert_eq!((&after.url, &after.key), (&made.url, &settings.account_key), "{kind:?}");
        retired.push(before.thumbprint.clone());
        assert_eq!(after.retired, retired);

        // The CA has changed it and its answer was lost: the keystore still has the old one.
        world.store.put(&before);
        world.issue(&settings).unwrap();
        assert_eq!(world.store.stored().unwrap(), after);
    }
    // With no key in the configuration the account has the one that it has.
    world.issue(&world.settings()).unwrap();
    assert_eq!(world.store.stored().unwrap().retired, retired);
}

/// Workers and hosts that read the configuration before it was changed.
#[test]
#[ignore = "needs pebble: scripts/test.sh"]
fn an_old_key_is_not_rolled_back_to() {
    let world = World::start(validating_nothing());
    let [first, second] =
        [KeyType::Ecdsa256, KeyType::Ecdsa384].map(|kind| with_key(world.settings(), kind));
    let old = world.ca(&first);
    assert_eq!(world.issue_by(&old, "a.example").unwrap().remark, None);
    assert_eq!(world.issue(&second).unwrap().remark, None);
    let account = world.store.stored().unwrap();
    assert_eq!(account.retired.len(), 1);
    for ca in [old, world.ca(&first)] {
        let remark = world.issue_by(&ca, "b.example").unwrap().remark.unwrap();
        assert!(remark.starts_with("account_key is a key that account"), "{remark}");
        assert_eq!(world.store.stored().unwrap(), account);
    }
}

#[test]
#[ignore = "needs pebble: scripts/test.sh"]
fn a_key_that_has_an_account_already() {
    let world = World::start(validating_nothing());
    world.issue(&world.settings()).unwrap();
    let one = world.store.stored().unwrap();
    let settings = with_key(world.settings(), KeyType::Ecdsa256);
    let elsewhere = World { pebble: world.pebble.clone(), store: Arc::default() };
    elsewhere.issue(&settings).unwrap();
    let other = elsewhere.store.stored().unwrap();
    assert_ne!(one.url, other.url);

    let remark = world.issue(&settings).unwrap().remark.unwrap();
    assert!(remark.contains("has an account of its own"), "{remark}");
    let now = world.store.stored().unwrap();
    assert_eq!((now.url, now.key, now.retired), (other.url, other.key, vec![]));
}

#[test]
#[ignore = "needs pebble: scripts/test.sh"]
fn the_ca_is_told_of_another_contact() {
    let world = World::start(validating_nothing());
    world.issue(&world.settings()).unwrap();
    for contact in [vec!["mailto:b@corp.example".to_owned()], vec![]] {
        let settings = AcmeSettings { contact: contact.clone(), ..world.settings() };
        assert_eq!(world.issue(&settings).unwrap().remark, None);
        assert_eq!(world.store.stored().unwrap().contact, Some(contact));
    }
    // Pebble takes nothing else for an address.
    let settings = AcmeSettings { contact: vec!["tel:+123".into()], ..world.settings() };
    let remark = world.issue(&settings).unwrap().remark.unwrap();
    assert!(remark.starts_with("contact is not changed: account: "), "{remark}");
}

#[test]
#[ignore = "needs pebble: scripts/test.sh"]
fn a_chain_that_is_preferred() {
    let env = [("PEBBLE_ALTERNATE_ROOTS", "2"), ("PEBBLE_CHAIN_LENGTH", "2")];
    let env = env.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    let world = World::start(Settings { env, ..validating_nothing() });
    let roots = world.pebble.roots();
    assert_eq!(roots.len(), 3);
    for root in &roots {
        let wanted = common_name(root.subject_name());
        let settings = AcmeSettings { preferred_chain: Some(wanted.clone()), ..world.settings() };

        let issued = world.issue(&settings).unwrap();
        let chain = X509::stack_from_pem(&issued.chain).unwrap();
        assert_eq!(common_name(chain.last().unwrap().issuer_name()), wanted);
        assert!(chain.last().unwrap().verify(&root.public_key().unwrap()).unwrap());
        assert_eq!(issued.remark, None);
    }
    let settings = AcmeSettings { preferred_chain: Some("No Root".into()), ..world.settings() };
    let issued = world.issue(&settings).unwrap();
    let names = roots.iter().map(|r| format!("\"{}\"", common_name(r.subject_name())));
    let names = names.collect::<Vec<_>>().join(", ");
    let expected =
        format!("preferred_chain \"No Root\" is not offered, only {names}: the first is used");
    assert_eq!(issued.remark, Some(expected));
}

#[test]
#[ignore = "needs pebble: scripts/test.sh"]
fn a_directory_that_has_moved() {
    let world = World::start(validating_nothing());
    let authority = lab::Identity::root("Redirecting CA");
    let identity = authority.issue(&Profile::server(&["localhost"]));
    let to = world.pebble.directory_url();
    let handler = move |request: &lab::wire::Request, exchange: &mut Exchange| {
        // Every status, and as many redirects as there are.
        let (status, location) = match request.target.as_str() {
            "/circle" => (302, "/circle".to_owned()),
            "/off" => (302, to.replace("https", "http")),
            "/far" => (301, "/302".to_owned()),
            "/302" => (302, "/308".to_owned()),
            path => (path.trim_start_matches('/').parse().unwrap_or(404), to.clone()),
        };
        exchange.respond(status, "text/plain", &format!("Location: {location}\r\n"), b"")
    };
    let server = Server::start_tls(Port::reserve(), &identity, Arc::new(handler));
    let trusted = [authority.cert_pem(), std::fs::read(world.pebble.api_ca()).unwrap()].concat();
    let place = |path: &str| {
        let url = format!("https://localhost:{}{path}", server.port());
        let settings = AcmeSettings { url, ..world.settings() };
        let http = NetworkHttp::new(&trusting(&trusted)).unwrap();
        ca(&settings, http, &Arc::default()).step(&mut order("a.example"), None)
    };
    for path in ["/301", "/302", "/307", "/308", "/far"] {
        let placed = place(path);
        assert!(matches!(placed, Ok(Progress::Wait(_))), "{path}: {placed:?}");
    }
    for (path, expected) in
        [("/circle", "redirect"), ("/off", "is not a usable URL"), ("/404", "404")]
    {
        let error = place(path).unwrap_err();
        assert!(error.to_string().contains(expected), "{path}: {error}");
        assert!(error.to_string().starts_with("directory: "), "{path}: {error}");
    }
}

mod newer_pebble {
    use super::*;

    #[test]
    #[ignore = "needs a newer pebble: scripts/test.sh"]
    fn profiles() {
        let profiles = vec![("short".to_owned(), 3600), ("long".to_owned(), 86_400)];
        let program = Some(lab::pebble::newer());
        let world = World::start(Settings { program, profiles, ..validating_nothing() });
        let of = |name: &str| AcmeSettings { profile: Some(name.into()), ..world.settings() };
        for (profile, seconds) in [("short", 3600), ("long", 86_400)] {
            let issued = world.issue(&of(profile)).unwrap();
            let leaf = X509::from_pem(&issued.chain).unwrap();
            let life = leaf.not_before().diff(leaf.not_after()).unwrap();
            let life = life.days * 86_400 + life.secs;
            assert!((life - seconds).abs() <= 60, "{profile}: {life}");
        }
        let error = world.issue(&of("middle")).unwrap_err();
        let expected =
            "profile \"middle\" is none of those that \"corp\" offers: \"long\", \"short\"";
        assert_eq!(error.to_string(), expected);
    }
}

/// A CA that asks for no proof, and refuses every second nonce.
fn validating_nothing() -> Settings {
    Settings { always_valid: true, nonce_reject: 50, ..Settings::default() }
}

fn settings(url: &str) -> AcmeSettings {
    AcmeSettings {
        hook: None,
        ca: "corp".into(),
        url: url.into(),
        account_key: None,
        contact: vec!["mailto:a@corp.example".into()],
        accept_terms_of_service: true,
        external_account: None,
        challenge: Challenge::Http01,
        profile: None,
        preferred_chain: None,
        timeout: Duration::from_secs(30),
    }
}

fn bind(settings: AcmeSettings, kid: &str, key: &str) -> AcmeSettings {
    let key = Secret::new(BASE64URL.decode(key).unwrap());
    AcmeSettings { external_account: Some(ExternalAccount { kid: kid.into(), key }), ..settings }
}

fn with_key(settings: AcmeSettings, kind: KeyType) -> AcmeSettings {
    let key = new_key(kind).unwrap().private_key_to_pem_pkcs8().unwrap();
    AcmeSettings { account_key: Some(Secret::new(key)), ..settings }
}

fn common_name(name: &openssl::x509::X509NameRef) -> String {
    let entry = name.entries_by_nid(Nid::COMMONNAME).next().expect("a common name");
    entry.data().to_string().expect("text")
}

fn order(name: &str) -> Order {
    let names = vec![name.to_owned()];
    let csr = csr(&new_key(KeyType::Ecdsa256).unwrap(), &names, false, None).unwrap();
    let (ca, reason) = ("corp".into(), "missing".into());
    let entry = names[0].clone();
    Order { ca, entry, names, csr, reason, accepted: false, state: serde_json::Value::Null }
}

fn ca(settings: &AcmeSettings, http: NetworkHttp, store: &Arc<Memory>) -> AcmeCa {
    let challenges = Arc::new(Nobody);
    AcmeCa::new(settings.clone(), Arc::new(http), Arc::new(SystemClock), store.clone(), challenges)
}

/// A CA, and what a keystore would keep.
struct World {
    pebble: Arc<Pebble>,
    store: Arc<Memory>,
}

impl World {
    fn start(settings: Settings) -> World {
        World { pebble: Arc::new(Pebble::start(&settings)), store: Arc::default() }
    }

    fn settings(&self) -> AcmeSettings {
        settings(&self.pebble.directory_url())
    }

    /// As a new process would make it.
    fn ca(&self, settings: &AcmeSettings) -> AcmeCa {
        let trusted = std::fs::read(self.pebble.api_ca()).unwrap();
        ca(settings, NetworkHttp::new(&trusting(&trusted)).unwrap(), &self.store)
    }

    fn issue(&self, settings: &AcmeSettings) -> Result<Issued, IssueError> {
        self.issue_by(&self.ca(settings), "a.example")
    }

    fn issue_by(&self, ca: &AcmeCa, name: &str) -> Result<Issued, IssueError> {
        let mut order = order(name);
        let deadline = Instant::now() + WITHIN;
        loop {
            let wait = match ca.step(&mut order, None)? {
                Progress::Issued(issued) => return Ok(issued),
                Progress::Wait(wait) => wait,
                Progress::LookAgain => Duration::ZERO,
            };
            assert!(Instant::now() + wait < deadline, "an order without end: {order:?}");
            std::thread::sleep(wait);
        }
    }
}

/// Nobody but these roots is trusted.
fn trusting(roots: &[u8]) -> WaySettings {
    WaySettings { trusted_certificate: Some(roots.to_vec()), ..WaySettings::default() }
}

/// `accounts/corp/` in memory; its lock is a mutex.
#[derive(Default)]
struct Memory(Mutex<Option<String>>);

impl Memory {
    fn stored(&self) -> Option<StoredAccount> {
        self.0.lock().unwrap().as_deref().map(|json| serde_json::from_str(json).unwrap())
    }

    fn put(&self, account: &StoredAccount) {
        *self.0.lock().unwrap() = Some(serde_json::to_string(account).unwrap());
    }
}

impl AccountStore for Memory {
    fn load(&self, _: &str) -> Result<Option<StoredAccount>, IssueError> {
        Ok(self.stored())
    }

    fn with_lock(&self, _: &str, change: &mut Change<'_>) -> Result<(), IssueError> {
        if let Some(changed) = change(self.stored())? {
            self.put(&changed);
        }
        Ok(())
    }
}

/// The CA does not look.
struct Nobody;

impl Challenges for Nobody {
    fn publish(&self, _: &ChallengeAnswer) -> Result<(), String> {
        Ok(())
    }

    fn withdraw(&self, _: &ChallengeAnswer) {}
}
