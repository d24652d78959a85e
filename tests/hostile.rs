//! Wrong input never changes what is served: an OCSP responder that lies or breaks, and a CA that
//! does. Each wrong answer leaves a clear line in the log and a next attempt, and nothing else.

mod lab;

use std::time::Duration;

use lab::behaviour::Delegate;
use lab::ocsp::Status;
use lab::*;
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// What the responder does about one serial, and what the log has to say.
type Case = (&'static str, Behaviour, &'static str);

/// Two entries a case: `soft` goes on with the certificate, `hard` refuses.
#[test]
#[ignore = "needs nginx and the module: scripts/test.sh"]
fn a_hostile_responder_changes_nothing() {
    let liar = Liar::start();
    let other = liar.issue(&["bystander.test"]);
    let cases = cases(&liar, &other);
    let tls = Port::reserve();
    let pair = |i: usize| [format!("soft-{i}.test"), format!("hard-{i}.test")];
    let server = |name: &String| {
        let check = &name[..4];
        let address = tls.addr();
        format!(
            "server {{ listen {address} ssl; server_name {name}; ssl_cert_autofetch_check {check}; }}\n"
        )
    };
    let servers: String = (0..cases.len()).flat_map(pair).map(|name| server(&name)).collect();
    let lines = "ssl_cert_autofetch_check_interval 0; ssl_cert_autofetch_timeout 2s;";
    let stage = Hostile::start(liar, tls, &format!("{lines}\n{servers}"));
    for name in (0..cases.len()).flat_map(pair) {
        stage.monitor.wait_valid(&name);
    }
    let issued = stage.monitor.counter("issued");

    for (i, (what, behaviour, cause)) in cases.iter().enumerate() {
        let [soft, hard] = pair(i);
        let [soft_serial, hard_serial] =
            [&soft, &hard].map(|name| stage.monitor.serial(name).expect("a certificate"));
        for serial in [&soft_serial, &hard_serial] {
            let responder = &stage.liar.responder;
            let before = responder.last_answer(serial).filter(|_| *what == OWN_OF_BEFORE);
            responder.behave_for(serial, before.map_or_else(|| behaviour.clone(), replay));
        }
        let waiting = [&soft, &hard].map(|name| stage.client(name).connect_aside());
        let [served, refused] = waiting.map(|handle| handle.join().expect("thread"));
        let served = served.unwrap_or_else(|e| panic!("{what}: {e:?}"));
        assert_eq!(served.serial, soft_serial, "{what}");
        stage.check_refused(what, refused);
        for (name, serial) in [(&soft, &soft_serial), (&hard, &hard_serial)] {
            stage.check_failure(what, name, serial, "CHECK", cause, longest(what));
            // Until the next attempt nobody is asked, and nobody waits.
            let queries = stage.liar.responder.queries_for(serial).len();
            let again = stage.client(name).connect();
            match name == &soft {
                true => assert_eq!(again.expect("handshake").serial, *serial, "{what}"),
                false => stage.check_refused(what, again),
            }
            assert_eq!(stage.liar.responder.queries_for(serial).len(), queries, "{what}");
            assert_eq!(stage.liar.orders_for(name), 1, "{what}");
        }
    }
    assert_eq!(stage.monitor.counter("issued"), issued);
    assert_eq!(stage.nginx.log_lines("is revoked").len(), 0);

    stage.liar.responder.behave_well();
    for (i, (what, ..)) in cases.iter().enumerate().filter(|(_, c)| longest(c.0) < MINUTE) {
        for name in pair(i) {
            let serial = stage.monitor.serial(&name).expect("a certificate");
            let served =
                wait_for(&format!("{what}: service again"), Duration::from_secs(15), || {
                    stage.client(&name).connect().ok().filter(|_| stage.error(&name).is_none())
                });
            assert_eq!(served.serial, serial, "{what}");
        }
    }
    assert_eq!(stage.monitor.counter("issued"), issued);
    stage.nginx.check_log();
}

/// The longest time to the first next attempt, in seconds.
fn longest(what: &str) -> u64 {
    match what {
        "malformedRequest" | "sigRequired" => MINUTE,
        "tryLater" => 10,
        _ => 6,
    }
}

const MINUTE: u64 = 60;

fn cases(liar: &Liar, other: &Identity) -> Vec<Case> {
    let about_other = |behaviour| replay(liar.responder.answer_about(&other.serial(), &behaviour));
    let revoked = Behaviour::revoked(Some(1));
    let signed = |signer| Behaviour { signer, ..revoked.clone() };
    let delegate = |delegate| Signer::Delegate(delegate);
    let good = Delegate::default;
    vec![
        ("garbage", Behaviour::delivery(Delivery::Garbage), "not an OCSP response"),
        ("truncated", Behaviour::delivery(Delivery::Truncated), "not an OCSP response"),
        ("empty", replay(Vec::new()), "not an OCSP response"),
        ("more than DER", Behaviour::delivery(Delivery::Oversized(10)), "not an OCSP response"),
        ("oversized", Behaviour::delivery(Delivery::Oversized(1 << 20)), "larger than"),
        ("cut", Behaviour::delivery(Delivery::Cut), "source="),
        ("closed", Behaviour::delivery(Delivery::Close), "source="),
        ("HTTP 403", Behaviour::delivery(Delivery::Http(403)), "HTTP status 403"),
        ("HTTP 404", Behaviour::delivery(Delivery::Http(404)), "HTTP status 404"),
        ("HTTP 500", Behaviour::delivery(Delivery::Http(500)), "HTTP status 500"),
        ("HTTP 503", Behaviour::delivery(Delivery::Http(503)), "HTTP status 503"),
        (
            "redirected to nobody",
            Behaviour::delivery(Delivery::Redirect("http://127.0.0.1:1/".into())),
            "source=",
        ),
        ("malformedRequest", Behaviour::result(ResultCode::MalformedRequest), "malformedRequest"),
        ("internalError", Behaviour::result(ResultCode::InternalError), "internalError"),
        ("tryLater", Behaviour::result(ResultCode::TryLater), "tryLater"),
        ("sigRequired", Behaviour::result(ResultCode::SigRequired), "sigRequired"),
        ("unauthorized", Behaviour::result(ResultCode::Unauthorized), "unauthorized"),
        ("unknown", Behaviour::unknown(), "does not know"),
        ("stale", Behaviour::stale(3600), "stale"),
        (
            "of the future",
            Behaviour { this_update: 3600, ..Behaviour::default() },
            "not valid before",
        ),
        ("bad signature", Behaviour::signer(Signer::BrokenSignature), "bad signature"),
        ("other CA", Behaviour::signer(Signer::OtherCa), "sign"),
        ("no EKU", Behaviour::signer(delegate(Delegate { eku: false, ..good() })), "not appointed"),
        (
            "expired signer",
            Behaviour::signer(delegate(Delegate { expired: true, ..good() })),
            "expired",
        ),
        ("stranger", Behaviour::signer(delegate(Delegate { of_other_ca: true, ..good() })), "sign"),
        (
            "unseen signer",
            Behaviour::signer(delegate(Delegate { sent: false, ..good() })),
            "not known",
        ),
        ("other serial", about(Subject::OtherSerial), "another certificate"),
        ("other issuer", about(Subject::OtherIssuer), "another issuer"),
        ("wrong nonce", Behaviour { nonce: Nonce::Wrong, ..Behaviour::default() }, "nonce"),
        ("another's good", about_other(Behaviour::good()), "another certificate"),
        ("another's revoked", about_other(revoked.clone()), "another certificate"),
        (OWN_OF_BEFORE, Behaviour::default(), "nonce"),
        ("revoked, bad signature", signed(Signer::BrokenSignature), "bad signature"),
        ("revoked, other CA", signed(Signer::OtherCa), "sign"),
        ("revoked, no EKU", signed(delegate(Delegate { eku: false, ..good() })), "not appointed"),
        ("revoked, expired", signed(delegate(Delegate { expired: true, ..good() })), "expired"),
        ("revoked, stranger", signed(delegate(Delegate { of_other_ca: true, ..good() })), "sign"),
        (
            "revoked, other serial",
            Behaviour { subject: Subject::OtherSerial, ..revoked.clone() },
            "another certificate",
        ),
        (
            "revoked, other issuer",
            Behaviour { subject: Subject::OtherIssuer, ..revoked.clone() },
            "another issuer",
        ),
        ("revoked, wrong nonce", Behaviour { nonce: Nonce::Wrong, ..revoked.clone() }, "nonce"),
        ("revoked, stale", Behaviour { status: revoked.status, ..Behaviour::stale(3600) }, "stale"),
        ("revoked, of the future", Behaviour { this_update: 3600, ..revoked }, "not valid before"),
        ("never", Behaviour::delivery(Delivery::Never), "timed out"),
        ("dripping", Behaviour::delivery(Delivery::Drip(Duration::from_millis(100))), "timed out"),
    ]
}

/// What is right in an unusual way is right.
#[test]
#[ignore = "needs nginx and the module: scripts/test.sh"]
fn an_unusual_responder_is_believed() {
    let liar = Liar::start();
    let tls = Port::reserve();
    let server = format!("server {{ listen {} ssl; server_name a.test; }}", tls.addr());
    let lines = "ssl_cert_autofetch_check hard; ssl_cert_autofetch_check_interval 0;";
    let stage = Hostile::start(liar, tls, &format!("{lines}\n{server}"));
    let serial = stage.monitor.wait_valid("a.test");
    let methods = |methods| Behaviour { methods, ..Behaviour::default() };
    let table = [
        ("delegate", Behaviour::signer(Signer::Delegate(Delegate::default()))),
        ("delegate without revocation check", {
            let delegate = Delegate { nocheck: true, ..Delegate::default() };
            Behaviour::signer(Signer::Delegate(delegate))
        }),
        ("no nonce", Behaviour { nonce: Nonce::Missing, ..Behaviour::default() }),
        ("GET only", methods(Methods::GetOnly)),
        ("POST only", methods(Methods::PostOnly)),
        ("no nextUpdate", Behaviour { next_update: None, ..Behaviour::default() }),
        ("a clock 4 min ahead", Behaviour { this_update: 240, ..Behaviour::default() }),
        ("a clock 4 min behind", Behaviour::stale(240)),
        ("two answers", {
            let others = vec![("77".into(), Status::Revoked { reason: None, at: 0 })];
            Behaviour { others, ..Behaviour::default() }
        }),
    ];
    for (what, behaviour) in table {
        stage.liar.responder.behave(behaviour);
        let served = stage.client("a.test").connect();
        let served =
            served.unwrap_or_else(|e| panic!("{what}: {e:?}\n{}", stage.nginx.error_log()));
        assert_eq!(served.serial, serial, "{what}");
    }
    assert_eq!(stage.nginx.log_lines("failed:"), Vec::<String>::new());
}

#[test]
#[ignore = "needs nginx and the module: scripts/test.sh"]
fn a_lying_ca_gets_nothing_served() {
    let table = [
        (Lie::OtherName, "lacks the name"),
        (Lie::OtherKey, "not for the key"),
        (Lie::Expired, "expired"),
        // The clock of the CA may be right and ours wrong: waited for, no other is ordered.
        (Lie::Tomorrow, "not valid before"),
        (Lie::SelfSigned, "not for the key"),
        (Lie::Unlinked, "lacks the issuer"),
        (Lie::LeafOnly, "lacks the issuer"),
        (Lie::ForClients, "not for servers"),
        (Lie::TheOldOne, "not for the key"),
        (Lie::Problem, "not on a day like this"),
        (Lie::Invalid, "not on a day like this"),
        (Lie::Page, "newOrder"),
        (Lie::PageForCertificate, "certificate"),
        (Lie::Status500, "500"),
        (Lie::Never, "timed out"),
        (Lie::Close, "certificate"),
        (Lie::Endless, "larger than"),
    ];
    let liar = Liar::start();
    let tls = Port::reserve();
    let name = |lie: Lie| format!("{lie:?}.test").to_ascii_lowercase();
    let server =
        |lie| format!("server {{ listen {} ssl; server_name {}; }}\n", tls.addr(), name(lie));
    let servers: String = table.iter().map(|(lie, _)| server(*lie)).collect();
    let lines = "ssl_cert_autofetch_check_interval 0; ssl_cert_autofetch_timeout 8s;";
    let stage = Hostile::start(liar, tls.clone(), &format!("{lines}\n{servers}"));
    for (lie, cause) in table {
        let (name, what) = (name(lie), format!("{lie:?}"));
        let serial = stage.monitor.wait_valid(&name);
        stage.client(&name).connect().expect("handshake");
        stage.liar.lie_about(&name, lie);
        let revoked = Status::Revoked { reason: Some(1), at: clock::now() };
        stage.liar.responder.set_status(&serial, revoked);

        let refused = stage.client(&name).connect();
        stage.check_refused(&what, refused);
        let longest = if lie == Lie::Tomorrow { 3600 } else { 12 };
        stage.check_failure(&what, &name, &serial, "ISSUE", cause, longest);
        let revoked = format!("\"{name}\": certificate serial={serial} is revoked (keyCompromise)");
        assert_eq!(stage.nginx.log_lines(&revoked).len(), 1, "{what}");
        let again = stage.client(&name).connect();
        stage.check_refused(&what, again);
        assert_eq!(stage.liar.orders_for(&name), 2, "{what}");
        stage.liar.lie_about(&name, Lie::Honest);
    }
    for (lie, _) in table.into_iter().filter(|(lie, _)| *lie != Lie::Tomorrow) {
        let new = stage.monitor.wait_valid(&name(lie));
        let served = stage.client(&name(lie)).connect().expect("handshake");
        assert_eq!(served.serial, new, "{lie:?}");
        assert_eq!(stage.monitor.entry(&name(lie))["version"], 2, "{lie:?}");
    }
    stage.nginx.check_log();
}

/// nginx between a lying CA and its clients.
struct Hostile {
    liar: Liar,
    nginx: Nginx,
    monitor: Monitor,
    tls: Port,
}

impl Hostile {
    fn start(liar: Liar, tls: Port, http: &str) -> Hostile {
        let config = Config::new();
        let status = Port::reserve();
        let body = format!(
            "ssl_cert_autofetch_keystore {};\n{}ssl_cert_autofetch liar;\n{http}\n\
             server {{ listen {}; {LOCATIONS} }}",
            config.keystore().display(),
            liar.ca_block("liar", "timeout 2s; budget 1000/1d;"),
            status.addr()
        );
        Hostile { liar, nginx: config.http(body).start(), monitor: Monitor::at(&status), tls }
    }

    fn client(&self, name: &str) -> Client {
        Client::new(self.tls.number()).sni(name).trust(self.liar.root_pem())
    }

    fn error(&self, name: &str) -> Option<String> {
        self.monitor.entry(name)["last_error"].as_str().map(str::to_owned)
    }

    fn check_refused(&self, what: &str, result: Result<Connection, Refusal>) {
        let refused = result.expect_err(what);
        let got = (refused.alert, refused.chain.len());
        assert_eq!(got, (Some(INTERNAL_ERROR), 0), "{what}: {refused:?}");
    }

    /// One line in the log, the cause and a next attempt in the status, and nothing else new.
    fn check_failure(
        &self,
        what: &str,
        name: &str,
        serial: &str,
        kind: &str,
        cause: &str,
        longest: u64,
    ) {
        let mark = format!("\"{name}\": {kind} failed: ");
        let line = &self.nginx.wait_log(&mark, Duration::from_secs(5));
        let lines = self.nginx.log_lines(&mark);
        assert_eq!(lines.len(), 1, "{what}: {lines:#?}");
        assert!(line.contains("[warn]") && line.contains(cause), "{what}: {line}");
        let seconds =
            line.rsplit_once(", next attempt in ").and_then(|(_, s)| s.strip_suffix(" s"));
        let seconds = seconds.and_then(|s| s.parse::<u64>().ok()).expect("a next attempt");
        assert!((1..=longest).contains(&seconds), "{what}: {line}");

        let entry = self.monitor.entry(name);
        assert_eq!((&entry["serial"], &entry["version"]), (&serial.into(), &1.into()), "{what}");
        assert_ne!(entry["last_error"], Value::Null, "{what}");
        let next = entry["next_action_at"].as_str().expect("a time");
        let next = OffsetDateTime::parse(next, &Rfc3339).expect("a time").unix_timestamp();
        let wait = next - clock::now();
        assert!((0..=seconds as i64 + 1).contains(&wait), "{what}: {wait} s");
    }
}

fn about(subject: Subject) -> Behaviour {
    Behaviour { subject, ..Behaviour::default() }
}

fn replay(bytes: Vec<u8>) -> Behaviour {
    Behaviour::delivery(Delivery::Replay(bytes))
}

/// Its answer has the nonce of another query.
const OWN_OF_BEFORE: &str = "its own of before";
