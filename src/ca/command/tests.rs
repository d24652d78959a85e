use std::sync::Mutex;

use serde_json::Value;

use super::*;
use crate::bundle::Meta;
use crate::ca::csr::{csr, new_key};
use crate::facts::CertFacts;
use crate::fixture::{Spec, root};
use crate::settings::KeyType;

/// Ends always the same; remembers how it was started.
struct Fake {
    end: Result<Vec<u8>, ProgramError>,
    started: Mutex<Vec<Started>>,
}

#[derive(Debug, PartialEq)]
struct Started {
    command: Vec<String>,
    environment: Vec<(&'static str, String)>,
    stdin: String,
    timeout: Duration,
}

impl Programs for Fake {
    fn run(&self, program: &Program) -> Result<Vec<u8>, ProgramError> {
        self.started.lock().unwrap().push(Started {
            command: program.command.to_vec(),
            environment: program.environment.to_vec(),
            stdin: String::from_utf8(program.stdin.to_vec()).unwrap(),
            timeout: program.timeout,
        });
        assert_eq!(program.limit, LIMIT);
        self.end.clone()
    }
}

fn scene(end: Result<&str, ProgramError>) -> (CommandCa, Arc<Fake>, Order) {
    let end = end.map(|output| output.as_bytes().to_vec());
    let fake = Arc::new(Fake { end, started: Mutex::default() });
    let settings = CommandSettings {
        ca: "corp".into(),
        command: ["/bin/issue", "a b"].map(String::from).into(),
        timeout: Duration::from_secs(7),
    };
    let names: Vec<String> = ["a.example", "b.example"].map(String::from).into();
    let csr = csr(&new_key(KeyType::Ecdsa256).unwrap(), &names, false, None).unwrap();
    let order = Order {
        ca: "corp".into(),
        entry: "a.example".into(),
        names,
        reason: "superseded".into(),
        csr,
        accepted: false,
        state: Value::Null,
    };
    (CommandCa::new(settings, fake.clone()), fake, order)
}

fn bundle() -> Bundle {
    let id = root("CA").issue(Spec::default());
    let facts = CertFacts::from_der(&id.der()).unwrap();
    Bundle { version: 1, chain: vec![id.cert], key: id.key, facts, meta: Meta::default() }
}

fn failed(status: i32, stdout: &str, stderr: &str) -> ProgramError {
    ProgramError::Failed { status, stderr: stderr.into(), stdout: stdout.into() }
}

const CHAIN: &str = "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n";

#[test]
fn what_a_program_gets() {
    let (ca, fake, mut order) = scene(Ok(CHAIN));
    assert_eq!((ca.name(), ca.host()), ("corp", "command:corp"));
    let issued = ca.step(&mut order, None).unwrap();
    assert_eq!(issued, Progress::Issued(CHAIN.as_bytes().to_vec().into()));
    let pair = |name, value: &str| (name, value.to_owned());
    let mut expected = Started {
        command: vec!["/bin/issue".into(), "a b".into()],
        environment: vec![
            pair("NAME", "a.example"),
            pair("NAMES", "a.example,b.example"),
            pair("REASON", "superseded"),
            pair("CA", "corp"),
        ],
        stdin: order.csr_pem().unwrap(),
        timeout: Duration::from_secs(7),
    };
    assert!(expected.stdin.starts_with("-----BEGIN CERTIFICATE REQUEST-----\n"));
    assert_eq!(fake.started.lock().unwrap().pop().unwrap(), expected);
    let bundle = bundle();
    ca.step(&mut order, Some(&bundle)).unwrap();
    expected.environment.push(("SERIAL", bundle.facts.serial.to_string()));
    assert_eq!(fake.started.lock().unwrap().pop().unwrap(), expected);
}

#[test]
fn in_haste_it_has_less_time() {
    let (ca, fake, mut order) = scene(Err(ProgramError::Timeout));
    let step = || ca.step(&mut order, None).unwrap_err().to_string();
    let error = haste::with(Some(Duration::from_secs(3)), step);
    assert_eq!(error, "command: \"/bin/issue\" timed out after 3 s, see \"timeout\"");
    assert_eq!(fake.started.lock().unwrap().pop().unwrap().timeout, Duration::from_secs(3));
}

#[test]
fn output_that_is_no_chain() {
    let key = format!("{CHAIN}-----BEGIN PRIVATE KEY-----\nAA==\n-----END PRIVATE KEY-----\n");
    for output in ["", "done\n", "\u{0}", key.as_str()] {
        let (ca, _, mut order) = scene(Ok(output));
        let error = ca.step(&mut order, None).unwrap_err();
        assert!(matches!(error, IssueError::Protocol { .. }), "{output:?}: {error}");
    }
}

#[test]
fn what_failures_mean() {
    // Error, its line, whether the CSR is of no more use.
    let table = [
        (
            ProgramError::NotStarted("Permission denied".into()),
            "command: \"/bin/issue\" can't be started: Permission denied, see \"command\"",
            false,
        ),
        (failed(1, "x", "no"), "command: \"/bin/issue\" exited with status 1: no", true),
        (failed(74, "", ""), "command: \"/bin/issue\" exited with status 74", true),
        (ProgramError::Killed(9), "command: \"/bin/issue\" killed by signal 9", false),
        (
            ProgramError::Timeout,
            "command: \"/bin/issue\" timed out after 7 s, see \"timeout\"",
            false,
        ),
        (ProgramError::TooLarge(5), "command: \"/bin/issue\" output is larger than 5 bytes", true),
    ];
    for (error, line, is_dead) in table {
        let (ca, _, mut order) = scene(Err(error));
        let before = order.clone();
        let error = ca.step(&mut order, None).unwrap_err();
        assert_eq!((error.to_string().as_str(), error.order_is_dead()), (line, is_dead));
        assert_eq!(order, before);
    }
}

#[test]
fn status_75_asks_for_patience() {
    for (stdout, seconds) in [
        ("", 300),
        ("Retry-After: 20\n", 20),
        ("retry-after:20\r\nmore", 20),
        ("Retry-After: 0", 1),
        ("Retry-After: 90000", 86_400),
        ("Retry-After: 99999999999999999999999", 86_400),
        ("Retry-After: soon", 300),
        ("Retry-After: -5", 300),
        ("Retry-After:", 300),
        ("later\nRetry-After: 20\n", 300),
        (CHAIN, 300),
    ] {
        let (ca, _, mut order) = scene(Err(failed(75, stdout, "")));
        let progress = ca.step(&mut order, None).unwrap();
        assert_eq!(progress, Progress::Wait(Duration::from_secs(seconds)), "{stdout:?}");
        assert!(order.accepted, "the CA may issue for it");
    }
}
