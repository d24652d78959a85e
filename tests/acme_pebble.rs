//! The ACME client against Pebble: real TLS, real validation, every second nonce refused.
//! Run by scripts/test.sh, which installs pebble.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use cert_autofetch::ca::acme::{AccountStore, AcmeCa, Change, StoredAccount};
use cert_autofetch::ca::csr::{csr, new_key};
use cert_autofetch::ca::{Ca, ChallengeAnswer, Challenges, IssueError, Issued, Order, Progress};
use cert_autofetch::clock::SystemClock;
use cert_autofetch::http::network::NetworkHttp;
use cert_autofetch::settings::{AcmeSettings, Challenge, KeyType, Secret, WaySettings};
use openssl::asn1::Asn1Time;
use openssl::bn::BigNum;
use openssl::hash::MessageDigest;
use openssl::pkey::{PKey, Private};
use openssl::x509::extension::{BasicConstraints, SubjectAlternativeName};
use openssl::x509::{X509, X509NameBuilder};

/// One order.
const WITHIN: Duration = Duration::from_secs(60);

#[test]
#[ignore = "needs pebble: scripts/test.sh"]
fn issues_again_with_the_same_account() {
    let world = World::start();
    let (key, mut order) = world.order(KeyType::Ecdsa256, &["one.example", "two.example"]);
    let chain = world.issue(&world.ca(), &mut order).unwrap();
    assert_eq!(names(&chain[0]), ["one.example", "two.example"]);
    assert!(chain[0].public_key().unwrap().public_eq(&key));
    assert!(chain.len() > 1, "the issuer is delivered too");
    assert_eq!(world.challenges.ever.lock().unwrap().len(), 2);
    let account = world.accounts.stored().unwrap();
    assert!(account.url.is_some() && account.key.is_some());

    // A new process: it knows only what is stored.
    let (key, mut order) = world.order(KeyType::Rsa2048, &["one.example"]);
    let chain = world.issue(&world.ca(), &mut order).unwrap();
    assert!(chain[0].public_key().unwrap().public_eq(&key));
    assert_eq!(world.accounts.stored().unwrap(), account);
    assert!(world.challenges.now.lock().unwrap().is_empty(), "all answers are withdrawn");
}

#[test]
#[ignore = "needs pebble: scripts/test.sh"]
fn goes_on_after_a_crash_after_each_step() {
    let world = World::start();
    let (key, mut order) = world.order(KeyType::Ecdsa384, &["crash.example", "www.crash.example"]);
    let (mut steps, deadline) = (0, Instant::now() + WITHIN);
    let chain = loop {
        // Each step in a new process, with what the last one saved.
        let progress = world.ca().step(&mut order, None).unwrap();
        order = serde_json::from_str(&serde_json::to_string(&order).unwrap()).unwrap();
        steps += 1;
        if let Progress::Issued(Issued { chain, .. }) = progress {
            break chain;
        }
        pause(&progress, deadline);
    };
    assert!(steps >= 3, "{steps}");
    assert!(X509::stack_from_pem(&chain).unwrap()[0].public_key().unwrap().public_eq(&key));
    assert!(world.challenges.now.lock().unwrap().is_empty());
    // The answer of the last step got lost: it can be asked for again.
    assert!(
        matches!(world.ca().step(&mut order, None), Ok(Progress::Issued(again)) if again.chain == chain)
    );
}

#[test]
#[ignore = "needs pebble: scripts/test.sh"]
fn refusals_say_what_is_wrong() {
    let world = World::start();
    let strict = AcmeSettings { accept_terms_of_service: false, ..world.settings("strict") };
    let (_, mut order) = world.order(KeyType::Ecdsa256, &["a.example"]);
    let error = world.issue(&world.ca_with(strict), &mut order).unwrap_err();
    assert!(matches!(error, IssueError::Configuration(_)), "{error}");
    assert!(error.to_string().contains("data:text/plain"), "{error}");

    let (_, mut order) = world.order(KeyType::Ecdsa256, &["www.blocked-domain.example"]);
    let error = world.issue(&world.ca(), &mut order).unwrap_err();
    let IssueError::Refused { about_name: true, problem, .. } = &error else { panic!("{error}") };
    assert!(problem.starts_with("rejectedIdentifier: "), "{problem}");

    // The CA sees another answer than ours.
    let (_, mut order) = world.order(KeyType::Ecdsa256, &["good.example", "lost.example"]);
    let error = world.issue(&world.ca(), &mut order).unwrap_err();
    let IssueError::Refused { about_name: true, problem, .. } = &error else { panic!("{error}") };
    assert!(problem.starts_with("lost.example: unauthorized: "), "{problem}");
    assert!(error.order_is_dead());
    assert!(world.challenges.now.lock().unwrap().is_empty(), "withdrawn after a failure too");
}

#[test]
#[ignore = "needs pebble: scripts/test.sh"]
fn the_administrators_own_keys() {
    let world = World::start();
    for kind in [KeyType::Rsa2048, KeyType::Ecdsa384] {
        let pem = new_key(kind).unwrap().private_key_to_pem_pkcs8().unwrap();
        let settings =
            AcmeSettings { account_key: Some(Secret::new(pem)), ..world.settings("corp") };
        let (_, mut order) = world.order(KeyType::Ecdsa256, &["own.example"]);
        world.issue(&world.ca_with(settings), &mut order).unwrap();
        assert!(world.accounts.stored().unwrap().key.is_some(), "for a rollover");
    }
}

#[test]
#[ignore = "needs pebble: scripts/test.sh"]
fn several_workers_make_one_account() {
    let world = World::start();
    std::thread::scope(|scope| {
        for i in 0..4 {
            let world = &world;
            scope.spawn(move || {
                let name = format!("worker-{i}.example");
                let (_, mut order) = world.order(KeyType::Ecdsa256, &[&name]);
                world.issue(&world.ca(), &mut order).unwrap();
            });
        }
    });
    // One write for the key, one for the URL.
    assert_eq!(*world.accounts.writes.lock().unwrap(), 2);
}

#[test]
#[ignore = "needs pebble: scripts/test.sh"]
fn a_ca_that_forgot_everything() {
    let mut world = World::start();
    let (_, mut order) = world.order(KeyType::Ecdsa256, &["again.example"]);
    assert_eq!(world.ca().step(&mut order, None).unwrap(), Progress::Wait(Duration::ZERO));
    let account = world.accounts.stored().unwrap();
    world.restart();
    // Same place, same account key; the old order is nowhere.
    let ca = world.ca();
    let error = world.issue(&ca, &mut order).unwrap_err();
    assert!(error.order_is_dead(), "{error}");
    order.state = serde_json::Value::Null;
    world.issue(&ca, &mut order).unwrap();
    let again = world.accounts.stored().unwrap();
    assert_eq!(again.key, account.key);
    assert_ne!(again.url, account.url);
}

#[test]
#[ignore = "needs pebble: scripts/test.sh"]
fn a_ca_that_is_not_trusted() {
    let world = World::start();
    let stranger = Identity::new().root.to_pem().unwrap();
    let (_, mut order) = world.order(KeyType::Ecdsa256, &["a.example"]);
    let error =
        world.ca_trusting(&stranger, world.settings("corp")).step(&mut order, None).unwrap_err();
    assert!(matches!(error, IssueError::Unreachable { .. }), "{error}");
    assert!(!error.order_is_dead());
}

/// Pebble with its DNS, the server that it validates, and what a keystore would keep.
struct World {
    accounts: Arc<Memory>,
    challenges: Arc<Handlers>,
    root: Vec<u8>,
    directory: tempfile::TempDir,
    api: u16,
    dns: u16,
    pebble: Process,
    _dns: Process,
}

impl World {
    fn start() -> World {
        let directory = tempfile::tempdir().unwrap();
        let identity = Identity::new();
        identity.write(directory.path());
        let challenges = Arc::new(Handlers::default());
        let http = TcpListener::bind("127.0.0.1:0").unwrap();
        let http_port = http.local_addr().unwrap().port();
        let handlers = Arc::clone(&challenges);
        std::thread::spawn(move || http.incoming().flatten().for_each(|s| handlers.answer(s)));
        let [api, management, dns, dns_management] = free_ports();
        let config = serde_json::json!({"pebble": {
            "listenAddress": format!("127.0.0.1:{api}"),
            "managementListenAddress": format!("127.0.0.1:{management}"),
            "certificate": "api.pem",
            "privateKey": "api.key",
            "httpPort": http_port,
            "tlsPort": 1,
            "domainBlocklist": ["blocked-domain.example"],
            "certificateValidityPeriod": 86400,
        }});
        std::fs::write(directory.path().join("pebble.json"), config.to_string()).unwrap();
        let mut command = Command::new("pebble-challtestsrv");
        command
            .args(["-management", &format!("127.0.0.1:{dns_management}")])
            .args(["-dns01", &format!("127.0.0.1:{dns}")])
            .args(["-http01", "", "-https01", "", "-tlsalpn01", ""])
            .args(["-defaultIPv4", "127.0.0.1", "-defaultIPv6", ""]);
        let dns_server = Process::start(command, dns_management);
        let pebble = pebble(directory.path(), api, dns);
        World {
            accounts: Arc::default(),
            challenges,
            root: identity.root.to_pem().unwrap(),
            directory,
            api,
            dns,
            pebble,
            _dns: dns_server,
        }
    }

    /// Pebble keeps nothing: after this it is another CA at the same place.
    fn restart(&mut self) {
        self.pebble.stop();
        self.pebble = pebble(self.directory.path(), self.api, self.dns);
    }

    fn settings(&self, name: &str) -> AcmeSettings {
        AcmeSettings {
            ca: name.into(),
            url: format!("https://localhost:{}/dir", self.api),
            account_key: None,
            contact: vec!["mailto:admin@corp.example".into()],
            accept_terms_of_service: true,
            external_account: None,
            challenge: Challenge::Http01,
            profile: None,
            preferred_chain: None,
            hook: None,
            timeout: Duration::from_secs(10),
        }
    }

    fn ca(&self) -> AcmeCa {
        self.ca_with(self.settings("corp"))
    }

    fn ca_with(&self, settings: AcmeSettings) -> AcmeCa {
        self.ca_trusting(&self.root, settings)
    }

    fn ca_trusting(&self, root: &[u8], settings: AcmeSettings) -> AcmeCa {
        let way =
            WaySettings { trusted_certificate: Some(root.to_vec()), ..WaySettings::default() };
        let http = NetworkHttp::new(&way).unwrap();
        let (accounts, challenges) = (self.accounts.clone(), self.challenges.clone());
        AcmeCa::new(settings, Arc::new(http), Arc::new(SystemClock), accounts, challenges)
    }

    fn order(&self, kind: KeyType, names: &[&str]) -> (PKey<Private>, Order) {
        let names: Vec<String> = names.iter().map(|n| n.to_string()).collect();
        let key = new_key(kind).unwrap();
        let csr = csr(&key, &names, false, None).unwrap();
        (
            key,
            Order {
                ca: "corp".into(),
                names,
                csr,
                entry: "a.example".into(),
                reason: "missing".into(),
                accepted: false,
                state: serde_json::Value::Null,
            },
        )
    }

    fn issue(&self, ca: &AcmeCa, order: &mut Order) -> Result<Vec<X509>, IssueError> {
        let deadline = Instant::now() + WITHIN;
        loop {
            let progress = ca.step(order, None)?;
            if let Progress::Issued(Issued { chain, .. }) = &progress {
                return Ok(X509::stack_from_pem(chain).unwrap());
            }
            pause(&progress, deadline);
        }
    }
}

/// As long as the CA says, but not beyond the deadline.
fn pause(progress: &Progress, deadline: Instant) {
    let wait = if let Progress::Wait(wait) = progress { *wait } else { Duration::ZERO };
    assert!(Instant::now() + wait < deadline, "an order without end");
    std::thread::sleep(wait);
}

fn pebble(directory: &Path, api: u16, dns: u16) -> Process {
    let mut command = Command::new("pebble");
    command
        .args(["-config", "pebble.json", "-strict", "-dnsserver", &format!("127.0.0.1:{dns}")])
        .envs([
            ("PEBBLE_VA_NOSLEEP", "1"),
            ("PEBBLE_WFE_NONCEREJECT", "50"),
            ("PEBBLE_AUTHZREUSE", "0"),
        ])
        .current_dir(directory);
    Process::start(command, api)
}

/// The answers that a server would give.
#[derive(Default)]
struct Handlers {
    now: Mutex<BTreeMap<String, ChallengeAnswer>>,
    ever: Mutex<BTreeSet<String>>,
}

impl Challenges for Handlers {
    fn publish(&self, answer: &ChallengeAnswer) -> Result<(), String> {
        assert_eq!(answer.kind, Challenge::Http01);
        self.ever.lock().unwrap().insert(answer.name.clone());
        self.now.lock().unwrap().insert(answer.token.clone(), answer.clone());
        Ok(())
    }

    fn withdraw(&self, answer: &ChallengeAnswer) {
        // Whoever takes an answer back names it whole.
        let published = self.now.lock().unwrap().remove(&answer.token);
        assert!(published.is_none_or(|p| p == *answer));
    }
}

impl Handlers {
    fn answer(&self, stream: TcpStream) {
        let lines = BufReader::new(&stream).lines().map_while(Result::ok);
        let head: Vec<String> = lines.take_while(|l| !l.is_empty()).collect();
        let path = head.first().and_then(|l| l.split(' ').nth(1)).unwrap_or_default();
        let token = path.strip_prefix("/.well-known/acme-challenge/").unwrap_or_default();
        let found = self.now.lock().unwrap().get(token).cloned();
        let body = match found {
            Some(answer) if answer.name.starts_with("lost.") => "something else".into(),
            Some(answer) => answer.key_authorization,
            None => "not here".into(),
        };
        let length = body.len();
        let _ = write!(
            &stream,
            "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        );
    }
}

/// `accounts/corp/` in memory; its lock is a mutex.
#[derive(Default)]
struct Memory {
    json: Mutex<Option<String>>,
    writes: Mutex<usize>,
}

impl Memory {
    fn stored(&self) -> Option<StoredAccount> {
        self.json.lock().unwrap().as_deref().map(|json| serde_json::from_str(json).unwrap())
    }
}

impl AccountStore for Memory {
    fn load(&self, _: &str) -> Result<Option<StoredAccount>, IssueError> {
        Ok(self.stored())
    }

    fn with_lock(&self, _: &str, change: &mut Change<'_>) -> Result<(), IssueError> {
        let mut writes = self.writes.lock().unwrap();
        if let Some(changed) = change(self.stored())? {
            *self.json.lock().unwrap() = Some(serde_json::to_string(&changed).unwrap());
            *writes += 1;
        }
        Ok(())
    }
}

/// A root and a certificate of it for Pebble's API.
struct Identity {
    root: X509,
    leaf: X509,
    key: PKey<Private>,
}

impl Identity {
    fn new() -> Identity {
        let root_key = new_key(KeyType::Ecdsa256).unwrap();
        let root = certificate("api root", &root_key, None);
        let key = new_key(KeyType::Ecdsa256).unwrap();
        let leaf = certificate("localhost", &key, Some((&root, &root_key)));
        Identity { root, leaf, key }
    }

    fn write(&self, directory: &Path) {
        std::fs::write(directory.join("api.pem"), self.leaf.to_pem().unwrap()).unwrap();
        let key = self.key.private_key_to_pem_pkcs8().unwrap();
        std::fs::write(directory.join("api.key"), key).unwrap();
    }
}

fn certificate(cn: &str, key: &PKey<Private>, issuer: Option<(&X509, &PKey<Private>)>) -> X509 {
    let mut name = X509NameBuilder::new().unwrap();
    name.append_entry_by_text("CN", cn).unwrap();
    let name = name.build();
    let mut cert = X509::builder().unwrap();
    cert.set_version(2).unwrap();
    let serial = BigNum::from_u32(1 + u32::from(issuer.is_some())).unwrap();
    cert.set_serial_number(&serial.to_asn1_integer().unwrap()).unwrap();
    cert.set_subject_name(&name).unwrap();
    cert.set_issuer_name(issuer.map_or(&*name, |(root, _)| root.subject_name())).unwrap();
    cert.set_pubkey(key).unwrap();
    cert.set_not_before(&Asn1Time::days_from_now(0).unwrap()).unwrap();
    cert.set_not_after(&Asn1Time::days_from_now(1).unwrap()).unwrap();
    if issuer.is_some() {
        let names =
            SubjectAlternativeName::new().dns(cn).build(&cert.x509v3_context(None, None)).unwrap();
        cert.append_extension(names).unwrap();
    } else {
        cert.append_extension(BasicConstraints::new().critical().ca().build().unwrap()).unwrap();
    }
    cert.sign(issuer.map_or(key, |(_, key)| key), MessageDigest::sha256()).unwrap();
    cert.build()
}

fn names(certificate: &X509) -> Vec<String> {
    let names = certificate.subject_alt_names().unwrap();
    let mut names: Vec<_> = names.iter().filter_map(|n| n.dnsname().map(str::to_owned)).collect();
    names.sort();
    names
}

/// A program that ends with its guard.
struct Process(Child);

impl Process {
    /// Waits until it listens on `port`.
    fn start(mut command: Command, port: u16) -> Process {
        let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut process = Process(quiet.spawn().expect("pebble is installed"));
        let deadline = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            if let Some(status) = process.0.try_wait().unwrap() {
                panic!("{command:?} ended: {status}");
            }
            assert!(Instant::now() < deadline, "{command:?} does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        process
    }

    fn stop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Ports that were free a moment ago, all different.
fn free_ports<const N: usize>() -> [u16; N] {
    let listeners = [(); N].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    listeners.map(|l| l.local_addr().unwrap().port())
}
