//! Authorizations and their challenges.

use super::*;

#[test]
fn answers_are_all_public_before_the_ca_is_told_of_one() {
    let bench = Bench::with_account();
    let (ca, mut order) = (bench.ca(), order());
    order.names.push("b.example".into());
    let mut object = order_object("pending");
    object["authorizations"] = json!([url("/authz/1"), url("/authz/2")]);
    let new = post("/new-order", 201, object).header("location", &url("/order/1"));
    bench.step(&ca, &mut order, [directory(json!({})), nonce(), new]).unwrap();
    bench.log();
    let second = json!({"token": "second", "url": url("/chall/2")});
    let second = look("/authz/2", authz("b.example", "pending", second));
    let tell_second = post("/chall/2", 200, json!({})).carries(json!({}));
    bench.step(&ca, &mut order, [pending(), second, tell(), tell_second]).unwrap();
    assert_eq!(
        bench.log(),
        [
            "Post /authz/1",
            "publish a.example",
            "Post /authz/2",
            "publish b.example",
            "Post /chall/1",
            "Post /chall/2"
        ]
    );
    // One is decided: only the other is asked for again.
    let slow = look("/authz/2", authz("b.example", "pending", json!({"token": "second"})));
    bench.step(&ca, &mut order, [valid(), slow]).unwrap();
    assert_eq!(bench.log(), ["Post /authz/1", "withdraw a.example", "Post /authz/2"]);
    let failed = json!({"token": "second", "status": "invalid", "error": {"detail": "x"}});
    let failed = look("/authz/2", authz("b.example", "invalid", failed));
    let error = bench.step(&ca, &mut order, [failed]).unwrap_err();
    assert_eq!(error.to_string(), "challenge: b.example: x");
    assert_eq!(bench.log(), ["Post /authz/2", "withdraw b.example"]);
}

#[test]
fn the_ca_is_told_when_all_others_can_answer() {
    let bench = Bench::with_account();
    *bench.settle.lock().unwrap() = Duration::from_millis(1500);
    let clock = Arc::new(FakeClock::at(now()));
    let ca = AcmeCa::new(settings(), bench.clone(), clock.clone(), bench.clone(), bench.clone());
    let mut order = order();
    bench.step(&ca, &mut order, [directory(json!({})), nonce(), new_order()]).unwrap();
    assert_eq!(bench.step(&ca, &mut order, [pending()]).unwrap(), wait(1500));
    clock.advance(Duration::from_millis(1000));
    assert_eq!(bench.step(&ca, &mut order, [pending()]).unwrap(), wait(500));
    clock.advance(Duration::from_millis(500));
    assert_eq!(bench.step(&ca, &mut order, [pending(), tell()]).unwrap(), wait(250));
    let published = bench.log().iter().filter(|l| l.starts_with("publish")).count();
    assert_eq!(published, 1);
}

#[test]
fn the_challenge_of_the_configuration_is_chosen() {
    let bench = Bench::with_account();
    let by_tls = AcmeSettings { challenge: Challenge::TlsAlpn01, ..settings() };
    let (ca, mut order) = (bench.ca_at(by_tls, now()), order());
    bench.step(&ca, &mut order, [directory(json!({})), nonce(), new_order()]).unwrap();
    let mut object = authz("a.example", "pending", json!({}));
    let tls = json!({"type": "tls-alpn-01", "url": url("/chall/9"), "token": "of-tls"});
    object["challenges"].as_array_mut().unwrap().push(tls);
    let tell = post("/chall/9", 200, json!({})).carries(json!({}));
    bench.step(&ca, &mut order, [look("/authz/1", object), tell]).unwrap();
    assert!(bench.log().contains(&"publish a.example by TLS".to_owned()));
}

#[test]
fn authorizations_that_break_the_protocol() {
    let wildcard = json!({
        "status": "pending", "identifier": {"type": "dns", "value": "a.example"},
        "challenges": [{"type": "dns-01", "url": url("/chall/0"), "token": TOKEN}],
    });
    for (object, expected) in [
        (wildcard, "http-01 is not offered for \"a.example\", only dns-01"),
        (authz("b.example", "pending", json!({})), "for \"b.example\", which was not asked for"),
        (authz("", "pending", json!({})), "for \"\", which was not asked for"),
        (authz("a.example", "pending", json!({"token": "../../etc"})), "unusable token"),
        (authz("a.example", "pending", json!({"token": ""})), "unusable token"),
        (authz("a.example", "pending", json!({"token": null})), "unusable token"),
        (authz("a.example", "pending", json!({"token": "x".repeat(129)})), "unusable token"),
        (authz("a.example", "pending", json!({"url": "http://a.example/"})), "unusable URL"),
        (authz("a.example", "pending", json!({"url": null})), "unusable URL"),
        (json!({"status": "pending"}), "missing field"),
        (json!([]), "invalid"),
    ] {
        let bench = Bench::with_account();
        let (ca, mut order) = (bench.ca(), order());
        bench.step(&ca, &mut order, [directory(json!({})), nonce(), new_order()]).unwrap();
        let error = bench.step(&ca, &mut order, [look("/authz/1", object)]).unwrap_err();
        let IssueError::Protocol { cause, .. } = &error else { panic!("{error}") };
        assert!(cause.contains(expected), "{cause}");
        assert!(!bench.log().iter().any(|l| l.starts_with("publish")));
    }
}

#[test]
fn the_domain_above_a_name_may_be_proven_instead() {
    let bench = Bench::with_account();
    let (ca, mut order) = (bench.ca(), order());
    order.names = vec!["www.a.example".into()];
    bench.step(&ca, &mut order, [directory(json!({})), nonce(), new_order()]).unwrap();
    bench.step(&ca, &mut order, [pending(), tell()]).unwrap();
}

/// Names of the order, identifier, `wildcard`, whether the proof is ours to give.
#[test]
fn what_an_order_has_to_prove() {
    type Row<'a> = (&'a [&'a str], (&'a str, &'a str), bool, bool);
    let table: &[Row] = &[
        (&["*.a.example"], ("dns", "a.example"), true, true),
        (&["a.example", "*.a.example"], ("dns", "a.example"), true, true),
        (&["a.example", "*.a.example"], ("dns", "a.example"), false, true),
        // Section 7.1.4.
        (&["a.example"], ("dns", "a.example"), true, false),
        (&["*.a.example"], ("dns", "*.a.example"), false, false),
        (&["*.a.example"], ("dns", "*.a.example"), true, false),
        (&["*.a.example"], ("dns", "example"), true, false),
        (&["*.a.example"], ("dns", "example"), false, true),
        (&["www.a.example"], ("dns", "A.EXAMPLE"), false, true),
        (&["192.0.2.1"], ("ip", "192.0.2.1"), false, true),
        (&["192.0.2.1"], ("ip", "192.0.2.2"), false, false),
        (&["192.0.2.1"], ("dns", "192.0.2.1"), false, false),
        (&["192.0.2.1"], ("dns", "0.2.1"), false, false),
        (&["192.0.2.1"], ("ip", "2.1"), false, false),
        (&["2001:db8::1"], ("ip", "2001:DB8:0::1"), false, true),
        (&["a.example"], ("ip", "a.example"), false, false),
    ];
    for (names, (kind, value), wildcard, expected) in table {
        let bench = Bench::with_account();
        let (ca, mut order) = (bench.ca(), order());
        order.names = names.iter().map(|n| n.to_string()).collect();
        bench.step(&ca, &mut order, [directory(json!({})), nonce(), new_order()]).unwrap();
        let mut object = authz(value, "pending", json!({}));
        object["identifier"]["type"] = json!(kind);
        object["wildcard"] = json!(wildcard);
        bench.expect([look("/authz/1", object)]);
        bench.expect(expected.then(tell));
        let result = bench.step(&ca, &mut order, []);
        assert_eq!(result.is_ok(), *expected, "{names:?} {value} {wildcard}: {result:?}");
    }
}

#[test]
fn a_name_and_its_wildcard_are_proven_side_by_side() {
    let bench = Bench::with_account();
    let by_dns =
        AcmeSettings { challenge: Challenge::Dns01, hook: Some("/hook".into()), ..settings() };
    let (ca, mut order) = (bench.ca_at(by_dns, now()), order());
    order.names = vec!["a.example".into(), "*.a.example".into()];
    let mut placed = order_object("pending");
    placed["authorizations"] = json!([url("/authz/1"), url("/authz/2")]);
    let new = post("/new-order", 201, placed).header("location", &url("/order/1"));
    let new = new.carries(json!({"identifiers": [
        {"type": "dns", "value": "a.example"}, {"type": "dns", "value": "*.a.example"},
    ]}));
    bench.step(&ca, &mut order, [directory(json!({})), nonce(), new]).unwrap();
    bench.log();
    let by_dns = |path: &str, token: &str, chall: &str, wildcard: bool| {
        let challenge = json!({"type": "dns-01", "url": url(chall), "token": token});
        let mut object = authz("a.example", "pending", json!({}));
        object["challenges"] = json!([challenge]);
        object["wildcard"] = json!(wildcard);
        look(path, object)
    };
    let tell = |chall: &str| post(chall, 200, json!({})).carries(json!({}));
    let first = by_dns("/authz/1", "first", "/chall/1", false);
    assert_eq!(bench.step(&ca, &mut order, [first]).unwrap(), wait(0));
    let second = by_dns("/authz/2", "second", "/chall/2", true);
    assert_eq!(bench.step(&ca, &mut order, [second]).unwrap(), wait(0));
    bench.step(&ca, &mut order, [tell("/chall/1"), tell("/chall/2")]).unwrap();
    let published = bench.log().iter().filter(|l| *l == "publish a.example by DNS").count();
    assert_eq!(published, 2);
    // Another order is wanted: a process that has published nothing takes both back.
    let ca = bench.ca_at(AcmeSettings { challenge: Challenge::Dns01, ..settings() }, now());
    bench.expect([directory(json!({}))]);
    ca.abandon(&order);
    let log = bench.log();
    assert_eq!(log.iter().filter(|l| *l == "withdraw a.example by DNS").count(), 2, "{log:?}");
}

#[test]
fn addresses_are_identifiers_of_their_own_type() {
    let bench = Bench::with_account();
    let (ca, mut order) = (bench.ca(), order());
    order.names = vec!["a.example".into(), "192.0.2.1".into(), "2001:db8::1".into()];
    let new = new_order().carries(json!({"identifiers": [
        {"type": "dns", "value": "a.example"},
        {"type": "ip", "value": "192.0.2.1"},
        {"type": "ip", "value": "2001:db8::1"},
    ]}));
    bench.step(&ca, &mut order, [directory(json!({})), nonce(), new]).unwrap();
}

#[test]
fn failed_validations() {
    let error = json!({
        "type": "urn:ietf:params:acme:error:connection",
        "detail": "192.0.2.1: Fetching http://a.example/.well-known/acme-challenge/x: Timeout",
        "status": 400,
    });
    let failed = json!({"status": "invalid", "error": error});
    let theirs = json!({"type": "urn:ietf:params:acme:error:serverInternal"});
    let theirs = json!({"status": "invalid", "error": theirs});
    for (object, expected, about) in [
        (
            authz("a.example", "invalid", failed.clone()),
            "challenge: a.example: connection: 192.0.2.1: Fetching \
             http://a.example/.well-known/acme-challenge/x: Timeout",
            true,
        ),
        // Some CAs are slow to mark the authorization.
        (
            authz("a.example", "pending", failed),
            "challenge: a.example: connection: 192.0.2.1: Fetching \
             http://a.example/.well-known/acme-challenge/x: Timeout",
            true,
        ),
        (authz("a.example", "invalid", theirs), "challenge: a.example: serverInternal", false),
        (authz("a.example", "invalid", json!({})), "challenge: a.example: no reason given", true),
        (authz("a.example", "expired", json!({})), "authorization: a.example: expired", true),
        (
            authz("a.example", "deactivated", json!({})),
            "authorization: a.example: deactivated",
            true,
        ),
    ] {
        let bench = Bench::with_account();
        let (ca, mut order) = proving(&bench);
        let error = bench.step(&ca, &mut order, [look("/authz/1", object)]).unwrap_err();
        assert_eq!(error.to_string(), expected);
        let refused =
            matches!(error, IssueError::Refused { about_name, .. } if about_name == about);
        assert!(refused && error.order_is_dead(), "{error:?}");
        assert_eq!(bench.log(), ["Post /authz/1", "withdraw a.example"]);
    }
}

#[test]
fn a_new_process_publishes_again_and_does_not_tell_again() {
    let bench = Bench::with_account();
    let (_, mut order) = proving(&bench);
    let ca = bench.ca();
    bench.step(&ca, &mut order, [directory(json!({})), nonce(), pending()]).unwrap();
    assert_eq!(bench.log(), ["Get /dir", "Head /nonce", "Post /authz/1", "publish a.example"]);
    // And a third, that has published nothing, takes it back.
    bench.expect([directory(json!({})), nonce(), valid()]);
    let processing = look("/order/1", order_object("processing"));
    bench.step(&bench.ca(), &mut order, [processing]).unwrap();
    assert!(bench.log().contains(&"withdraw a.example".to_owned()));
}

#[test]
fn an_answer_is_published_again_before_it_is_gone() {
    let bench = Bench::with_account();
    *bench.life.lock().unwrap() = Some(Duration::from_secs(3600));
    let clock = Arc::new(FakeClock::at(now()));
    let ca = AcmeCa::new(settings(), bench.clone(), clock.clone(), bench.clone(), bench.clone());
    let mut order = order();
    bench.step(&ca, &mut order, [directory(json!({})), nonce(), new_order()]).unwrap();
    bench.step(&ca, &mut order, [pending(), tell()]).unwrap();
    bench.log();
    let late = || pending().header("retry-after", "7200");
    for (minutes, published) in [(29, 0), (1, 1), (29, 0), (31, 1), (120, 1)] {
        clock.advance(Duration::from_secs(minutes * 60));
        let progress = bench.step(&ca, &mut order, [late()]).unwrap();
        assert_eq!(progress, wait(1_800_000), "in time for the next");
        let count = bench.log().iter().filter(|l| *l == "publish a.example").count();
        assert_eq!(count, published, "{minutes}");
    }
}

/// It has not been told yet: it is told when all others can answer again.
#[test]
fn what_is_published_again_settles_again() {
    let bench = Bench::with_account();
    *bench.life.lock().unwrap() = Some(Duration::from_secs(3600));
    *bench.settle.lock().unwrap() = Duration::from_millis(1500);
    let clock = Arc::new(FakeClock::at(now()));
    let ca = AcmeCa::new(settings(), bench.clone(), clock.clone(), bench.clone(), bench.clone());
    let mut order = order();
    bench.step(&ca, &mut order, [directory(json!({})), nonce(), new_order()]).unwrap();
    assert_eq!(bench.step(&ca, &mut order, [pending()]).unwrap(), wait(1500));
    clock.advance(Duration::from_secs(2 * 3600));
    assert_eq!(bench.step(&ca, &mut order, [pending()]).unwrap(), wait(1500));
    clock.advance(Duration::from_millis(1500));
    assert_eq!(bench.step(&ca, &mut order, [pending(), tell()]).unwrap(), wait(250));
    assert_eq!(bench.log().iter().filter(|l| *l == "publish a.example").count(), 2);
}

/// CAs may have one token for all challenges of a name.
#[test]
fn another_challenge_after_a_reload() {
    let bench = Bench::with_account();
    let (_, mut order) = proving(&bench);
    let by_dns = AcmeSettings { challenge: Challenge::Dns01, ..settings() };
    let ca = bench.ca_at(by_dns, now());
    let tell = post("/chall/0", 200, json!({})).carries(json!({}));
    let requests = [directory(json!({})), nonce(), pending()];
    assert_eq!(bench.step(&ca, &mut order, requests).unwrap(), wait(0));
    assert_eq!(bench.step(&ca, &mut order, [tell]).unwrap(), wait(250));
    let log = bench.log();
    assert_eq!(
        log[2..],
        ["Post /authz/1", "withdraw a.example", "publish a.example by DNS", "Post /chall/0"]
    );
}

/// A challenge of step-ca that it could not look at: section 8.2 leaves it to the client.
#[test]
fn a_ca_that_looked_in_vain_is_told_again() {
    let error = json!({"type": "urn:ietf:params:acme:error:connection", "detail": "refused"});
    let in_vain =
        || look("/authz/1", authz("a.example", "pending", json!({"error": error.clone()})));
    let bench = Bench::with_account();
    let clock = Arc::new(FakeClock::at(now()));
    let ca = AcmeCa::new(settings(), bench.clone(), clock.clone(), bench.clone(), bench.clone());
    let mut order = order();
    bench.step(&ca, &mut order, [directory(json!({})), nonce(), new_order()]).unwrap();
    // An old error, which the CA is to look at again in any case.
    bench.step(&ca, &mut order, [in_vain(), tell()]).unwrap();
    for pause in [2, 4, 8] {
        assert_eq!(bench.step(&ca, &mut order, [in_vain()]).unwrap(), wait(500));
        clock.advance(Duration::from_secs(pause) - Duration::from_millis(1));
        assert_eq!(bench.step(&ca, &mut order, [in_vain()]).unwrap(), wait(1000));
        // It is remembered by whoever goes on.
        let saved = serde_json::to_string(&order).unwrap();
        order = serde_json::from_str(&saved).unwrap();
        clock.advance(Duration::from_millis(1));
        assert_eq!(bench.step(&ca, &mut order, [in_vain(), tell()]).unwrap(), wait(250));
    }
    bench.log();
    let refused = bench.step(&ca, &mut order, [in_vain()]).unwrap_err();
    assert_eq!(refused.to_string(), "challenge: a.example: connection: refused");
    assert!(refused.order_is_dead());
    assert_eq!(bench.log(), ["Post /authz/1", "withdraw a.example"]);
}

/// It goes on by itself.
#[test]
fn a_ca_that_is_still_trying_is_left_alone() {
    let bench = Bench::with_account();
    let (_, mut order) = proving(&bench);
    let trying = json!({"status": "processing", "error": {"detail": "not yet"}});
    bench.expect([directory(json!({})), nonce()]);
    let clock = Arc::new(FakeClock::at(now()));
    let ca = AcmeCa::new(settings(), bench.clone(), clock.clone(), bench.clone(), bench.clone());
    for _ in 0..10 {
        clock.advance(Duration::from_secs(8));
        let trying = look("/authz/1", authz("a.example", "pending", trying.clone()));
        bench.step(&ca, &mut order, [trying]).unwrap();
    }
}

/// A hook may take half a minute for each name.
#[test]
fn each_hook_is_a_step_of_its_own() {
    let bench = Bench::with_account();
    let by_dns =
        AcmeSettings { challenge: Challenge::Dns01, hook: Some("/hook".into()), ..settings() };
    let (ca, mut order) = (bench.ca_at(by_dns, now()), order());
    order.names.push("b.example".into());
    let mut object = order_object("pending");
    object["authorizations"] = json!([url("/authz/1"), url("/authz/2")]);
    let new = post("/new-order", 201, object).header("location", &url("/order/1"));
    bench.step(&ca, &mut order, [directory(json!({})), nonce(), new]).unwrap();
    let asked = |n: u8, name: &str| {
        let challenge = json!({"type": "dns-01", "url": url(&format!("/chall/{n}")),
            "status": "pending", "token": format!("{TOKEN}{n}")});
        let path: &'static str = if n == 1 { "/authz/1" } else { "/authz/2" };
        let mut object = authz(name, "pending", json!({}));
        object["challenges"] = json!([challenge]);
        look(path, object)
    };
    assert_eq!(bench.step(&ca, &mut order, [asked(1, "a.example")]).unwrap(), wait(0));
    let saved = order.state.to_string();
    assert!(saved.contains(&format!("{TOKEN}1")), "{saved}");
    assert_eq!(bench.step(&ca, &mut order, [asked(2, "b.example")]).unwrap(), wait(0));
    let tell = |path| post(path, 200, json!({})).carries(json!({}));
    assert_eq!(
        bench.step(&ca, &mut order, [tell("/chall/1"), tell("/chall/2")]).unwrap(),
        wait(250)
    );
}
