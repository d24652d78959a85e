//! The conversation: directory, nonces, errors.

use super::*;

#[test]
fn bad_nonces() {
    let bad = || refusal("/new-order", 400, "badNonce");
    let bench = Bench::with_account();
    bench.expect([directory(json!({})), nonce()]);
    bench.expect((0..15).map(|_| bad()));
    assert_eq!(bench.step(&bench.ca(), &mut order(), [new_order()]).unwrap(), wait(0));

    let bench = Bench::with_account();
    bench.expect([directory(json!({})), nonce()]);
    bench.expect((0..15).map(|_| bad()));
    let error = bench.step(&bench.ca(), &mut order(), [bad()]).unwrap_err();
    assert!(matches!(error, IssueError::Busy { .. }), "{error}");

    // A nonce that is no base64url does not count (section 6.5.1).
    let bench = Bench::with_account();
    let useless = bad().header("replay-nonce", "a+b");
    let second = Exchange::new(Method::Head, "/nonce", 204, "").header("replay-nonce", "second");
    let requests = [directory(json!({})), nonce(), useless, second, new_order()];
    assert_eq!(bench.step(&bench.ca(), &mut order(), requests).unwrap(), wait(0));

    let bench = Bench::with_account();
    let none = Exchange::new(Method::Head, "/nonce", 200, "");
    let error = bench.step(&bench.ca(), &mut order(), [directory(json!({})), none]).unwrap_err();
    assert_eq!(error.to_string(), "newNonce: no nonce in the answer");
}

#[test]
fn retry_after_is_honoured_within_reason() {
    for (value, ms) in [
        ("0", 1000),
        ("3", 3000),
        ("3600", 3_600_000),
        ("999999", 86_400_000),
        ("Sun, 22 Nov 2026 01:59:09 GMT", 10_000),
        ("Sun, 22 Nov 2020 01:59:09 GMT", 1000),
        ("later", 500),
    ] {
        let bench = Bench::with_account();
        let (ca, mut order) = proving(&bench);
        let poll = [pending().header("retry-after", value)];
        assert_eq!(bench.step(&ca, &mut order, poll).unwrap(), wait(ms), "{value}");
        let (ca, mut order) = finishing(&bench);
        let poll = [look("/order/1", order_object("processing")).header("retry-after", value)];
        assert_eq!(bench.step(&ca, &mut order, poll).unwrap(), wait(ms), "{value}");
    }
}

#[test]
fn directories() {
    let broken = |body: &str| Exchange::new(Method::Get, "/dir", 200, body);
    let downgrade = r#"{"newNonce":"http://ca.example/n","newAccount":"https://ca.example/a","newOrder":"https://ca.example/o"}"#;
    let long = " ".repeat(65 * 1024);
    for (exchange, expected) in [
        (broken("<html>"), "directory: expected value at line 1 column 1"),
        (broken("{}"), "directory: missing field `newNonce` at line 1 column 2"),
        (broken(downgrade), "directory: the CA names an unusable URL \"http://ca.example/n\""),
        (broken(&long), "directory: body is larger than 65536 bytes"),
        (
            Exchange::new(Method::Get, "/dir", 502, "<html>"),
            "directory: HTTP status 502 (bad gateway)",
        ),
        (
            broken("").fails(HttpError::Url("ftp://x".into())),
            "directory: \"ftp://x\" is not a usable URL",
        ),
    ] {
        let bench = Bench::with_account();
        let error = bench.step(&bench.ca(), &mut order(), [exchange]).unwrap_err();
        assert_eq!(error.to_string(), expected);
    }
}

#[test]
fn a_directory_is_read_again_when_it_is_old() {
    let bench = Bench::with_account();
    let clock = Arc::new(FakeClock::at(now()));
    let ca = AcmeCa::new(settings(), bench.clone(), clock.clone(), bench.clone(), bench.clone());
    bench.step(&ca, &mut order(), [directory(json!({})), nonce(), new_order()]).unwrap();
    bench.step(&ca, &mut order(), [new_order()]).unwrap();
    clock.advance(Duration::from_secs(3600));
    bench.step(&ca, &mut order(), [directory(json!({})), new_order()]).unwrap();
}

#[test]
fn host_and_port() {
    for (url, expected) in [
        ("https://ca.example/dir", "ca.example:443"),
        ("https://ca.example:14000/dir", "ca.example:14000"),
        ("http://[::1]/dir", "[::1]:80"),
        ("nonsense", "nonsense"),
    ] {
        let ca = Bench::new().ca_at(AcmeSettings { url: url.into(), ..settings() }, now());
        assert_eq!((ca.host(), ca.name()), (expected, "corp"));
    }
}

#[test]
fn secrets_stay_out_of_sight() {
    let bench = Bench::with_account();
    let (ca, order) = proving(&bench);
    let thumbprint = bench.stored.lock().unwrap().clone().unwrap().thumbprint;
    let seen = format!("{order:?} {:?} {:?}", ca.published, ca.account());
    assert!(!seen.contains(&thumbprint) && seen.contains("a.example"), "{seen}");
    let stored = format!("{:?}", bench.stored.lock().unwrap());
    assert!(stored.contains("Secret(..)") && !stored.contains("PRIVATE"), "{stored}");
}
