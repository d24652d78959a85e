//! Every failure of a CA, for every protocol: what is served meanwhile, what the log says, and that
//! nothing but a working CA is needed to end it: no reload.
//!
//! Each row is a CA block of its own, with a [`Front`] before the real CA, or a program. Two names
//! use it: one whose certificate is revoked, and one whose certificate may be served but lacks a
//! name. A new protocol is one more function that gives a [`Ca`], and one more test.

mod lab;

use std::any::Any;
use std::fs;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use lab::wire::Request;
use lab::*;
use openssl::x509::X509Req;
use serde_json::{Value, json};

/// One way in which a CA fails.
struct Row {
    how: How,
    lie: Lie,
    /// Of the log line, behind the protocol's own word unless it begins with `*`, which is
    /// anything.
    cause: String,
    /// Seconds till the next attempt.
    next: (u64, u64),
    /// Whether the next attempts end it in the time of a test.
    ends: bool,
}

#[derive(Debug)]
enum How {
    Way(Break),
    /// Lines of a shell script.
    Program(&'static str),
}

/// A protocol, and a real CA that speaks it.
struct Ca {
    behind: Behind,
    /// Of its URL.
    path: &'static str,
    /// Of its block.
    lines: String,
    roots: Vec<u8>,
    forge: Option<Forging>,
    _keep: Vec<Box<dyn Any>>,
}

/// The forger's answer; None: the request is not about a certificate.
type Forging = fn(&Request, &Forger) -> Option<Vec<u8>>;

/// What all protocols have to bear. `no_json`: what is said of a page, and of other JSON;
/// `refused`: of a status.
fn usual(no_json: [&str; 2], refused: impl Fn(u16) -> String) -> Vec<Row> {
    let row = |how, cause: &str| Row {
        how: How::Way(how),
        lie: Lie::Honest,
        cause: cause.into(),
        next: (8, 12),
        ends: true,
    };
    let status = |status| row(Break::Status(status), &refused(status));
    // Longer than the first attempt's usual wait, or it would say nothing.
    let later = |status| Row { next: (14, 14), ..row(Break::Later(status, 14), &refused(status)) };
    vec![
        row(Break::Down, "Connection refused (os error 111)"),
        row(Break::Untrusted, "TLS failed: *certificate verify failed*"),
        row(Break::WrongName, "TLS failed: *certificate verify failed*"),
        status(400),
        status(401),
        status(403),
        status(404),
        status(500),
        status(503),
        later(429),
        later(503),
        row(Break::Redirect, &refused(302)),
        row(Break::Page, no_json[0]),
        row(Break::OtherJson, no_json[1]),
        row(Break::Cut, "Peer disconnected"),
        row(Break::Endless, "body is larger than * bytes"),
        row(Break::Drip, "timed out"),
        row(Break::Close, "Peer disconnected"),
        row(Break::Mute, "timed out"),
    ]
}

/// Those that happen before a request is heard, and so only to the first.
fn without_connection(rows: Vec<Row>) -> Vec<Row> {
    let early = [Break::Down, Break::Untrusted, Break::WrongName];
    rows.into_iter().filter(|row| !is_one_of(row, &early)).collect()
}

fn is_one_of(row: &Row, ways: &[Break]) -> bool {
    matches!(&row.how, How::Way(how) if ways.contains(how))
}

/// Somebody has to approve.
fn pending(how: How) -> Row {
    let cause = "*the order is still pending".into();
    Row { how, lie: Lie::Honest, cause, next: (APPROVAL - 2, APPROVAL), ends: true }
}

/// Seconds. Waits up to 30 s are not told.
const APPROVAL: u64 = 31;

fn forged() -> Vec<Row> {
    let row = |lie, cause: &str| Row {
        how: How::Way(Break::Forged),
        lie,
        cause: cause.into(),
        next: (8, 12),
        ends: true,
    };
    vec![
        row(Lie::OtherName, "*lacks the name*"),
        row(Lie::OtherKey, "*not for the key*"),
        row(Lie::Expired, "*expired*"),
        row(Lie::Unlinked, "*lacks the issuer*"),
        // Waited for: its clock may be right, and ours wrong.
        Row { next: (3500, 3600), ends: false, ..row(Lie::Tomorrow, "*not valid before*") },
    ]
}

/// The causes, in the words of each protocol.
fn acme_says(status: u16) -> String {
    match status {
        302 => "*".into(), // of the directory it says: too many
        _ => format!("HTTP status {status} (*)"),
    }
}

fn vault_says(status: u16) -> String {
    match status {
        401 | 403 => format!("HTTP status {status}, see \"token_file\" *"),
        404 => "HTTP status 404, see \"url\"".into(),
        _ => format!("HTTP status {status}"),
    }
}

fn cfssl_says(status: u16) -> String {
    match status {
        404 => "HTTP status 404, see \"url\"".into(),
        _ => format!("HTTP status {status}"),
    }
}

fn est_says(status: u16) -> String {
    match status {
        401 => "HTTP status 401, see \"username\" and \"password_file\"".into(),
        403 => "HTTP status 403, see \"username\", *".into(),
        404 => "HTTP status 404, see \"url\"".into(),
        _ => format!("HTTP status {status}"),
    }
}

#[test]
#[ignore = "needs nginx, the module and pebble: scripts/test.sh"]
fn over_acme() {
    at_once(&[
        ("from the first request on", acme_from_the_first_request_on),
        ("at the certificate", acme_at_the_certificate),
    ]);
}

#[test]
#[ignore = "needs nginx, the module, OpenBao and cfssl: scripts/test.sh"]
fn over_cfssl_and_vault() {
    at_once(&[
        ("cfssl from the first request on", cfssl_from_the_first_request_on),
        ("cfssl at its issuer", cfssl_at_its_issuer),
        ("vault", vault),
    ]);
}

#[test]
#[ignore = "needs nginx and the module: scripts/test.sh"]
fn over_est() {
    at_once(&[
        ("from the first request on", est_from_the_first_request_on),
        ("at the enrolment", est_at_the_enrolment),
    ]);
}

/// Nearly all of their time is waiting for next attempts.
fn at_once(scenes: &[(&str, fn())]) {
    std::thread::scope(|scope| {
        for (name, scene) in scenes {
            let thread = std::thread::Builder::new().name(name.to_string());
            thread.spawn_scoped(scope, scene).expect("a thread");
        }
    });
}

fn acme_from_the_first_request_on() {
    run(
        "directory: ",
        "",
        acme(),
        usual(["expected value at *", "invalid length 1, *"], acme_says),
    );
}

fn acme_at_the_certificate() {
    // With all rows Pebble is the slowest part.
    let some = [Break::Status(403), Break::Status(503), Break::Page, Break::Cut, Break::Close];
    let mut rows = usual(["*", "*"], acme_says);
    rows.retain(|row| is_one_of(row, &some));
    run("certificate: ", "/certZ/", acme(), rows);
}

fn vault() {
    let mut rows = usual(["expected value at *", "invalid type: *"], vault_says);
    rows.extend(forged());
    run("sign: ", "", bao(), rows);
}

fn cfssl_from_the_first_request_on() {
    let mut rows = usual([NOT_CFSSL, NOT_CFSSL], cfssl_says);
    rows.extend(forged());
    run("authsign: ", "", cfssl(), rows);
}

fn cfssl_at_its_issuer() {
    let rows = usual([NOT_CFSSL, NOT_CFSSL], cfssl_says);
    run("info: ", "/info", cfssl(), without_connection(rows));
}

fn est_from_the_first_request_on() {
    run("cacerts: ", "", est(), usual([NOT_EST, NOT_EST], est_says));
}

fn est_at_the_enrolment() {
    let mut rows = without_connection(usual([NOT_EST, NOT_EST], est_says));
    rows.extend(forged());
    let other_key = rows.iter_mut().find(|row| row.lie == Lie::OtherKey).expect("the row");
    other_key.cause = "the answer holds no certificate for the key of the request".into();
    rows.push(pending(How::Way(Break::Later(202, APPROVAL as u32))));
    run("simpleenroll: ", "/simpleenroll", est(), rows);
}

const NOT_EST: &str = "the answer is not base64";

/// What of all that a program can do.
#[test]
#[ignore = "needs nginx and the module: scripts/test.sh"]
fn over_a_program() {
    const NO_CHAIN: &str = "what it wrote to its standard output is not a chain in PEM, *";
    let row = |lines, cause: &str| Row {
        how: How::Program(lines),
        lie: Lie::Honest,
        cause: cause.into(),
        next: (8, 12),
        ends: true,
    };
    let rows = vec![
        row("echo not today >&2; exit 1", "\"*\" exited with status 1: not today"),
        row("exit 2", "\"*\" exited with status 2"),
        row("kill -9 $$", "\"*\" killed by signal 9"),
        row("exit 0", NO_CHAIN),
        row("echo '<html>'", NO_CHAIN),
        row("cat \"$CA/ca.pem\" \"$CA/ca.key\"", NO_CHAIN),
        row("head -n 5 \"$CA/ca.pem\"", "*"),
        row("cat \"$CA/ca.pem\"", "*"),
        row("exec yes", "\"*\" output is larger than * bytes"),
        row(SLEEP, "\"*\" timed out after 5 s, see \"timeout\""),
        pending(How::Program("echo Retry-After: 31; exit 75")),
    ];
    let config = Config::new();
    let (root, ca) = OpensslCa::with_root();
    let arguments = ca.arguments();
    let folder = arguments.split(' ').next().expect("a folder");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/nginx-conf/openssl-ca.sh");
    let make = |(i, row): (usize, Row)| {
        let How::Program(lines) = &row.how else { panic!("a program") };
        let path = |name: &str| config.dir().join(format!("{name}{i}"));
        let (program, mended) = (path("issue"), path("mended"));
        let mark = mended.display();
        let text = format!("CA={folder}\n[ -e {mark} ] && exec {script} {arguments}\n{lines}");
        command::script(&program, &text);
        let timeout = if *lines == SLEEP { 5 } else { 60 };
        let lines = format!("protocol command; command {}; timeout {timeout}s;", program.display());
        let mend = Box::new(move || fs::write(&mended, "").expect("write"));
        Case::new(i, row, lines, mend)
    };
    let cases = rows.into_iter().enumerate().map(make).collect();
    check("command: ", config, &root.cert_pem(), cases);
}

const SLEEP: &str = "exec sleep 1000";

const NOT_CFSSL: &str = "the answer is none of cfssl's, see \"url\"";

fn acme() -> Ca {
    let pebble = Pebble::start(&Settings { always_valid: true, ..Settings::default() });
    let port = pebble.directory_url();
    let port = port.trim_start_matches("https://localhost:").trim_end_matches("/dir");
    Ca {
        behind: Behind {
            address: SocketAddr::from(([127, 0, 0, 1], port.parse().expect("port"))),
            tls: Some(fs::read(pebble.api_ca()).expect("PEM")),
        },
        path: "/dir",
        lines: "protocol acme; accept_terms_of_service;".into(),
        roots: pebble.root_pem(),
        forge: None,
        _keep: vec![Box::new(pebble)],
    }
}

fn bao() -> Ca {
    let bao = OpenBao::start();
    Ca {
        behind: Behind { address: bao.address().parse().expect("address"), tls: None },
        path: "/v1/int",
        lines: format!("protocol vault; role server; token_file {};", bao.token_file().display()),
        roots: bao.root_pem().to_vec(),
        forge: Some(|request, forger| {
            let wanted: Value = serde_json::from_slice(&request.body).expect("JSON");
            let csr = X509Req::from_pem(wanted["csr"].as_str()?.as_bytes()).expect("CSR");
            let (leaf, issuer) = (pem(&forger.leaf(&csr)), pem(forger.issuer()));
            let data = json!({"certificate": leaf, "issuing_ca": issuer, "ca_chain": [issuer]});
            Some(json!({ "data": data }).to_string().into_bytes())
        }),
        _keep: vec![Box::new(bao)],
    }
}

fn cfssl() -> Ca {
    let cfssl = Cfssl::start();
    let (server, responder) = (cfssl.serve(), cfssl.respond());
    let address = server.url.trim_start_matches("http://").parse().expect("address");
    let dir = tempfile::tempdir().expect("directory");
    let key = dir.path().join("auth.key");
    fs::write(&key, AUTH_KEY).expect("key");
    Ca {
        behind: Behind { address, tls: None },
        path: "",
        lines: format!("protocol cfssl; profile web; auth_key_file {};", key.display()),
        roots: cfssl.root_pem(),
        forge: Some(|request, forger| {
            let wanted: Value = serde_json::from_slice(&request.body).expect("JSON");
            let certificate = match wanted["request"].as_str() {
                None => pem(forger.issuer()),
                Some(inner) => {
                    let inner = BASE64_STANDARD.decode(inner).expect("base64");
                    let inner: Value = serde_json::from_slice(&inner).expect("JSON");
                    let csr = inner["certificate_request"].as_str()?;
                    pem(&forger.leaf(&X509Req::from_pem(csr.as_bytes()).expect("CSR")))
                }
            };
            let answer = json!({"success": true, "result": {"certificate": certificate}});
            Some(answer.to_string().into_bytes())
        }),
        _keep: vec![Box::new(server), Box::new(responder), Box::new(cfssl), Box::new(dir)],
    }
}

fn est() -> Ca {
    let est = Est::start();
    let (address, root) = est.address();
    let (user, file) = (Est::USER.0, est.password_file());
    Ca {
        behind: Behind { address, tls: Some(root) },
        path: Est::PATH,
        lines: format!("protocol est; username {user}; password_file {};", file.display()),
        roots: est.root_pem(),
        forge: Some(|request, forger| {
            let csr = X509Req::from_der(&lab::est::decoded(&request.body)?).ok()?;
            Some(lab::est::answer(&[&forger.leaf(&csr), forger.issuer()]))
        }),
        _keep: vec![Box::new(est)],
    }
}

fn pem(certificate: &openssl::x509::X509Ref) -> String {
    String::from_utf8(certificate.to_pem().expect("PEM")).expect("PEM")
}

/// One row at work.
struct Case {
    row: Row,
    /// Its CA block: name, and what is in it.
    ca: String,
    lines: String,
    mend: Box<dyn Fn()>,
    /// Whose certificate is revoked, and whose only lacks `www`.
    bad: String,
    old: String,
}

impl Case {
    fn new(i: usize, row: Row, lines: String, mend: Box<dyn Fn()>) -> Case {
        let (ca, bad, old) = (format!("ca{i}"), format!("bad{i}.test"), format!("old{i}.test"));
        Case { row, ca, lines, mend, bad, old }
    }
}

/// All rows at once; `what` is how the cause begins, `at` is where the fronts break.
fn run(what: &str, at: &'static str, ca: Ca, rows: Vec<Row>) {
    let front_ca = Identity::root("Front CA");
    let config = Config::new();
    fs::write(config.dir().join("front-ca.pem"), front_ca.cert_pem()).expect("write");
    let make = |(i, row)| case(i, row, &ca, at, &front_ca);
    let cases = rows.into_iter().enumerate().map(make).collect();
    check(what, config, &ca.roots, cases);
}

fn check(what: &str, config: Config, roots: &[u8], cases: Vec<Case>) {
    let guests = Identity::root("Guests' Root");
    let root_pem = guests.cert_pem();
    let guests = guests.issue(&Profile::authority("Guests' CA"));
    let responder = Responder::start(Port::reserve(), guests.clone(), Source::Own);
    let (tls, status) = (Port::reserve(), Port::reserve());
    let mut serials = Vec::new();
    for case in &cases {
        let guest = |name: &str| {
            let names = [name];
            let profile = Profile { ocsp_url: Some(responder.url()), ..Profile::server(&names) };
            let guest = guests.issue(&profile);
            Stored::of(&config.keystore(), name).put_identity(&guest);
            guest.serial()
        };
        let revoked = Status::Revoked { reason: Some(4), at: clock::now() };
        responder.set_status(&guest(&case.bad), revoked);
        serials.push(guest(&case.old));
    }
    let blocks: String = cases.iter().map(|case| block(case, &tls)).collect();
    let body = format!(
        "ssl_cert_autofetch_keystore {};\n{blocks}\nserver {{ listen {}; {LOCATIONS} }}",
        config.keystore().display(),
        status.addr()
    );
    let monitor = Monitor::at(&status);
    let nginx = config.http(body).start();
    let roots = [&root_pem, roots].concat();
    let client = |name: &str| Client::new(tls.number()).sni(name).trust(&roots);

    for (case, old) in cases.iter().zip(&serials) {
        for name in [&case.bad, &case.old] {
            check_told(&nginx, case, name, what);
        }
        let what = format!("{:?} {:?}", case.row.how, case.row.lie);
        let refused = client(&case.bad).connect().expect_err(&what);
        assert_eq!((refused.alert, refused.chain.len()), (Some(INTERNAL_ERROR), 0), "{what}");
        assert_eq!(client(&case.old).connect().expect(&what).serial, *old, "{what}");
        let entry = monitor.entry(&case.old);
        assert!(entry["last_error"].is_string() && entry["next_action_at"].is_string(), "{entry}");
        // Now, and not after all of them: each failed attempt makes the next one come later.
        (case.mend)();
    }

    for (case, old) in cases.iter().zip(&serials).filter(|(case, _)| case.row.ends) {
        let what = format!("{:?} {:?}", case.row.how, case.row.lie);
        wait_idly(&format!("{what}: service"), WITHIN, || client(&case.bad).connect().ok());
        let www = format!("www.{}", case.old);
        let served = wait_idly(&format!("{what}: the other name"), WITHIN, || {
            client(&www).connect().ok().filter(|c| c.serial != *old)
        });
        let entry = monitor.entry(&case.old);
        assert_eq!(entry["serial"], served.serial, "{what}: {entry:#}");
        assert_eq!(entry["ca"], case.ca, "{what}: {entry:#}");
    }
    let log = nginx.error_log();
    assert!(!log.contains(AUTH_KEY) && !log.contains(Est::USER.1));
    nginx.check_log();
}

fn case(i: usize, row: Row, ca: &Ca, at: &'static str, front_ca: &Identity) -> Case {
    let How::Way(how) = row.how else { panic!("a way") };
    let lie = row.lie;
    let mut case = Case::new(i, row, String::new(), Box::new(|| {}));
    let (bad, old) = (&case.bad, &case.old);
    let forgers = [Forger::new(lie, &[bad]), Forger::new(lie, &[old, &format!("www.{old}")])];
    let (forging, mark) = (ca.forge, old.clone());
    let forge: Forge = Arc::new(move |request| {
        let about_old = says(request, &mark);
        forging.and_then(|forge| forge(request, &forgers[usize::from(about_old)]))
    });
    let front = Front::start(front_ca, ca.behind.clone(), how, at, forge);
    // Nothing that is slow for another reason is taken for it.
    let timeout = if matches!(how, Break::Drip | Break::Mute) { 8 } else { 15 };
    case.lines = format!(
        "url {}{}; trusted_certificate front-ca.pem; timeout {timeout}s; {}",
        front.url(),
        ca.path,
        ca.lines
    );
    case.mend = Box::new(move || front.mend());
    case
}

/// Whether the request is about this name, in plain or in base64.
fn says(request: &Request, name: &str) -> bool {
    let has = |bytes: &[u8]| bytes.windows(name.len()).any(|w| w == name.as_bytes());
    let json: Value = serde_json::from_slice(&request.body).unwrap_or_default();
    let inner = json["request"].as_str().and_then(|inner| BASE64_STANDARD.decode(inner).ok());
    let inner = inner.or_else(|| lab::est::decoded(&request.body));
    has(&request.body) || inner.is_some_and(|inner| has(&inner))
}

fn block(case: &Case, tls: &Port) -> String {
    let Case { ca, lines, bad, old, .. } = case;
    let tls = tls.addr();
    format!(
        "ssl_cert_autofetch_ca {ca} {{ budget 1000/1d; {lines} }}
         server {{ listen {tls} ssl; server_name {bad}; ssl_cert_autofetch {ca}; return 200; }}
         server {{
             listen {tls} ssl; server_name {old} www.{old}; ssl_cert_autofetch {ca}; return 200;
         }}\n"
    )
}

/// The first line about the entry, and the time of the next attempt in it.
fn check_told(nginx: &Nginx, case: &Case, name: &str, what: &str) {
    let mark = format!("ssl_cert_autofetch: \"{name}\": ISSUE failed: ");
    let line = nginx.wait_log(&mark, WITHIN);
    let told = line.split_once(&mark).map(|(_, told)| told).expect("the mark");
    let (cause, seconds) = told.rsplit_once(", next attempt in ").expect("a next attempt");
    let seconds = seconds.strip_suffix(" s").and_then(|s| s.parse::<u64>().ok());
    let seconds = seconds.unwrap_or_else(|| panic!("{line}"));
    let (least, most) = case.row.next;
    assert!((least..=most).contains(&seconds), "{line}");
    assert!(line.contains("[warn]"), "{line}");
    let what = if case.row.cause.starts_with('*') { "" } else { what };
    let expected = format!("\"{}\": {what}{}", case.ca, case.row.cause);
    assert!(text::is_like(cause, &expected), "{cause}\n{expected}");
}

const WITHIN: Duration = Duration::from_secs(120);
