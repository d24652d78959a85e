//! Orders, from the first request to the chain.

use super::*;

#[test]
fn the_whole_way() {
    let bench = Bench::new();
    let (ca, mut order) = (bench.ca(), order());
    let account = json!({"termsOfServiceAgreed": true, "contact": ["mailto:a@b.example"]});
    let wanted = json!({"identifiers": [{"type": "dns", "value": "a.example"}]});
    let requests = [
        directory(json!({"termsOfService": "https://ca.example/terms"})),
        nonce(),
        new_account().carries(account),
        new_order().carries(wanted),
    ];
    assert_eq!(bench.step(&ca, &mut order, requests).unwrap(), wait(0));
    assert_eq!(bench.step(&ca, &mut order, [pending(), tell()]).unwrap(), wait(250));
    for ms in [500, 1000, 2000, 4000, 8000, 8000] {
        assert_eq!(bench.step(&ca, &mut order, [pending()]).unwrap(), wait(ms));
    }
    let finalize = post("/finalize/1", 200, order_object("processing"))
        .carries(json!({"csr": BASE64URL.encode(b"csr")}));
    let requests = [valid(), look("/order/1", order_object("ready")), finalize];
    assert_eq!(bench.step(&ca, &mut order, requests).unwrap(), wait(250));
    let processing = [look("/order/1", order_object("processing"))];
    assert_eq!(bench.step(&ca, &mut order, processing).unwrap(), wait(500));
    let requests = [look("/order/1", order_object("valid")), certificate()];
    let issued = bench.step(&ca, &mut order, requests).unwrap();
    assert_eq!(issued, Progress::Issued(Vec::from(CHAIN).into()));
    let log = bench.log();
    let place = |what: &str| log.iter().position(|l| l == what).unwrap();
    assert!(place("publish a.example") < place("Post /chall/1"), "{log:?}");
    assert!(place("withdraw a.example") < place("Post /finalize/1"), "{log:?}");
    for once in ["publish a.example", "withdraw a.example", "Post /chall/1", "Head /nonce"] {
        assert_eq!(log.iter().filter(|l| *l == once).count(), 1, "{once}");
    }
}

/// The engine goes by that: it may ask another CA.
#[test]
fn what_no_ca_has_is_no_order() {
    let sent = |exchange: Exchange| vec![directory(json!({})), nonce(), exchange];
    let table = || {
        [
            vec![directory(json!({})).fails(HttpError::Timeout)],
            vec![directory(json!({})), nonce().fails(HttpError::Timeout)],
            sent(new_order().fails(HttpError::Timeout)),
            sent(refusal("/new-order", 429, "rateLimited")),
            sent(refusal("/new-order", 400, "rejectedIdentifier")),
        ]
    };
    let alone = json!({"directory": url("/dir"), "step": "new", "no_successor": true});
    for state in [Value::Null, alone] {
        for requests in table() {
            let bench = Bench::with_account();
            bench.expect(requests);
            let mut order = Order { state: state.clone(), ..order() };
            let error = bench.step(&bench.ca(), &mut order, []).unwrap_err();
            assert!(order.state.is_null(), "{error}: {}", order.state);
        }
    }
}

#[test]
fn what_passes_leaves_the_order_alive() {
    let seconds = |s| Some(Duration::from_secs(s));
    let busy = Exchange::new(Method::Post, "/authz/1", 503, "<html>").header("retry-after", "7");
    let limited = refusal("/authz/1", 429, "rateLimited").header("retry-after", "90000");
    for (exchange, expected, retry) in [
        (busy, "authorization: HTTP status 503 (service unavailable)", seconds(7)),
        (limited, "authorization: rateLimited: because", seconds(90_000)),
        (
            refusal("/authz/1", 500, "serverInternal"),
            "authorization: serverInternal: because",
            None,
        ),
        (pending().fails(HttpError::Timeout), "authorization: timed out", None),
        (pending().fails(HttpError::Tls("no".into())), "authorization: TLS failed: no", None),
    ] {
        let bench = Bench::with_account();
        let (ca, mut order) = proving(&bench);
        let error = bench.step(&ca, &mut order, [exchange]).unwrap_err();
        assert_eq!((error.to_string().as_str(), error.retry_after()), (expected, retry));
        assert!(!error.order_is_dead());
        // The CA may be about to look: the answer stays.
        assert_eq!(bench.log(), ["Post /authz/1"]);
        // The next step starts afresh, and neither publishes nor tells a second time.
        let requests = [directory(json!({})), nonce(), pending()];
        assert_eq!(bench.step(&ca, &mut order, requests).unwrap(), wait(500));
        assert_eq!(bench.log(), ["Get /dir", "Head /nonce", "Post /authz/1"]);
    }
}

#[test]
fn resumed_by_another_process_from_what_the_ca_says() {
    let fresh = || vec![directory(json!({})), nonce()];
    let ready = || look("/order/1", order_object("ready"));
    let finalize = |status| post("/finalize/1", 200, order_object(status));
    let fetch = || [look("/order/1", order_object("valid")), certificate()];
    let issued = || Ok(Progress::Issued(Vec::from(CHAIN).into()));
    let mut invalid = order_object("invalid");
    invalid["error"] = json!({"type": "urn:ietf:params:acme:error:badCSR", "detail": "weak"});
    let failed = json!({"status": "invalid", "error": {"detail": "not found"}});
    let failed = look("/authz/1", authz("a.example", "invalid", failed));
    type Start = fn(&Arc<Bench>) -> (AcmeCa, Order);
    let table: Vec<(Start, Vec<Exchange>, Result<Progress, &str>)> = vec![
        (proving, vec![pending()], Ok(wait(500))),
        (proving, [valid()].into_iter().chain(fetch()).collect(), issued()),
        (
            proving,
            vec![refusal("/authz/1", 404, "malformed")],
            Err("authorization: malformed: because"),
        ),
        (finishing, fetch().into(), issued()),
        (finishing, vec![ready(), finalize("valid"), certificate()], issued()),
        (finishing, vec![ready(), finalize("processing")], Ok(wait(250))),
        (finishing, vec![ready(), refusal("/finalize/1", 403, "orderNotReady")], Ok(wait(500))),
        (
            finishing,
            vec![ready(), refusal("/finalize/1", 400, "badCSR")],
            Err("finalize: badCSR: because"),
        ),
        (finishing, vec![look("/order/1", order_object("processing"))], Ok(wait(500))),
        (finishing, vec![look("/order/1", order_object("pending"))], Ok(wait(500))),
        (finishing, vec![look("/order/1", invalid)], Err("order: badCSR: weak")),
        (
            finishing,
            vec![look("/order/1", order_object("invalid")), failed],
            Err("challenge: a.example: not found"),
        ),
        (
            finishing,
            vec![look("/order/1", order_object("invalid")), valid()],
            Err("order is invalid: no reason given"),
        ),
        (
            finishing,
            vec![look("/order/1", order_object("invalid")), pending()],
            Err("order is invalid: no reason given"),
        ),
        (
            finishing,
            vec![look("/order/1", order_object("odd\n"))],
            Err("order: unexpected status \"odd \""),
        ),
        (finishing, vec![refusal("/order/1", 404, "malformed")], Err("order: malformed: because")),
    ];
    for (start, requests, expected) in table {
        let bench = Bench::with_account();
        let (_, order) = start(&bench);
        let saved = serde_json::to_string(&order).unwrap();
        let mut order: Order = serde_json::from_str(&saved).unwrap();
        let told: Vec<_> = requests.iter().map(|r| r.path.clone()).collect();
        bench.expect(fresh());
        bench.expect(requests);
        match (bench.step(&bench.ca(), &mut order, []), expected) {
            (Ok(progress), Ok(expected)) => assert_eq!(progress, expected, "{told:?}"),
            (Err(error), Err(expected)) => {
                assert_eq!(error.to_string(), expected);
                assert!(error.order_is_dead(), "{error:?}");
                let log = bench.log();
                let did = |what: &str| log.iter().any(|line| line == what);
                assert!(did("withdraw a.example") || !did("publish a.example"), "{log:?}");
            }
            (result, expected) => panic!("{told:?}: {result:?}, expected {expected:?}"),
        }
    }
}

#[test]
fn nothing_is_waited_for_without_end() {
    type Start = fn(&Arc<Bench>) -> (AcmeCa, Order);
    let table: [(Start, Exchange, u64, &str); 2] = [
        (proving, pending(), 15 * 60, "authorization: not decided after 901 s"),
        (
            finishing,
            look("/order/1", order_object("processing")),
            30 * 86400,
            "order: not decided after 2592001 s",
        ),
    ];
    for (start, exchange, seconds, expected) in table {
        let bench = Bench::with_account();
        let (_, mut order) = start(&bench);
        let ca = bench.ca_at(settings(), now() + Duration::from_secs(seconds + 1));
        bench.expect([directory(json!({})), nonce()]);
        let error = bench.step(&ca, &mut order, [exchange]).unwrap_err();
        assert_eq!(error.to_string(), expected);
        assert!(error.order_is_dead());
    }
}

/// Retry-After, how long it has taken so far, and when the CA is asked again.
#[test]
fn who_says_when_to_ask_again_has_time() {
    const DAY: u64 = 86_400;
    type Start = fn(&Arc<Bench>) -> (AcmeCa, Order);
    let table: [(Start, fn() -> Exchange); 2] =
        [(proving, pending), (finishing, || look("/order/1", order_object("processing")))];
    for (start, exchange) in table {
        for (wish, so_far, expected) in [
            (None, 0, Some(500)),
            (Some("5"), 0, Some(5000)),
            // Over a weekend.
            (Some("600"), 3 * DAY, Some(600_000)),
            (Some("600"), 30 * DAY + 1, None),
        ] {
            let bench = Bench::with_account();
            let (_, mut order) = start(&bench);
            let ca = bench.ca_at(settings(), now() + Duration::from_secs(so_far));
            bench.expect([directory(json!({})), nonce()]);
            let exchange = match wish {
                Some(wish) => exchange().header("retry-after", wish),
                None => exchange(),
            };
            let progress = bench.step(&ca, &mut order, [exchange]).ok();
            assert_eq!(progress, expected.map(wait), "{wish:?} {so_far}");
        }
    }
    // Without a wish it is asked less often the longer it takes.
    let bench = Bench::with_account();
    let (_, mut order) = finishing(&bench);
    let ca = bench.ca_at(settings(), now() + Duration::from_secs(DAY));
    let requests = [directory(json!({})), nonce(), look("/order/1", order_object("processing"))];
    assert_eq!(bench.step(&ca, &mut order, requests).unwrap(), wait(DAY * 10));
}

#[test]
fn profiles() {
    let meta = json!({"profiles": {"short": "a week", "classic": {"url": "x"}}});
    let of = |profile: &str| AcmeSettings { profile: Some(profile.into()), ..settings() };
    let wanted = json!({
        "identifiers": [{"type": "dns", "value": "a.example"}], "profile": "short",
    });
    let bench = Bench::with_account();
    bench.expect([directory(meta.clone()), nonce()]);
    let ca = bench.ca_at(of("short"), now());
    bench.step(&ca, &mut order(), [new_order().carries(wanted)]).unwrap();
    for (meta, profile, expected) in [
        (
            meta,
            "Short",
            "profile \"Short\" is none of those that \"corp\" offers: \"classic\", \"short\"",
        ),
        (
            json!({}),
            "short",
            "profile \"short\": \"corp\" offers no profiles, remove the directive",
        ),
        (
            json!({"profiles": ["short"]}),
            "short",
            "profile \"short\": \"corp\" offers no profiles, remove the directive",
        ),
        (
            json!({"profiles": {"a\nb": ""}}),
            "short",
            "profile \"short\" is none of those that \"corp\" offers: \"a b\"",
        ),
    ] {
        let bench = Bench::with_account();
        let ca = bench.ca_at(of(profile), now());
        let error = bench.step(&ca, &mut order(), [directory(meta)]).unwrap_err();
        assert_eq!(error.to_string(), expected);
        assert!(matches!(error, IssueError::Configuration(_)));
    }
    let bench = Bench::with_account();
    bench.expect([directory(json!({"profiles": {"short": ""}})), nonce()]);
    let ca = bench.ca_at(of("short"), now());
    let refused = [refusal("/new-order", 400, "invalidProfile")];
    let error = bench.step(&ca, &mut order(), refused).unwrap_err();
    assert!(matches!(error, IssueError::Configuration(_)), "{error}");
}

#[test]
fn new_orders_that_break_the_protocol() {
    let with = |key: &str, value: Value| {
        let mut object = order_object("pending");
        object[key] = value;
        object
    };
    let many: Vec<_> = (0..10).map(|i| url(&format!("/authz/{i}"))).collect();
    let here = url("/order/1");
    for (object, location, expected) in [
        (order_object("pending"), "", "no Location"),
        (order_object("pending"), "/order/1", "unusable URL"),
        (order_object("pending"), "http://ca.example/order/1", "unusable URL"),
        (order_object("pending"), "https://ca.example/\u{7f}", "unusable URL"),
        (with("authorizations", json!([])), &here, "0 authorizations"),
        (with("authorizations", json!(null)), &here, "0 authorizations"),
        (with("authorizations", json!(many)), &here, "10 authorizations, 1 to 9"),
        (with("authorizations", json!(["file:///etc/passwd"])), &here, "unusable URL"),
        (order_object("valid"), &here, "unexpected status \"valid\""),
        (order_object("invalid"), &here, "unexpected status"),
        (json!({}), &here, "missing field"),
    ] {
        let bench = Bench::with_account();
        let mut new = post("/new-order", 201, object);
        if !location.is_empty() {
            new = new.header("location", location);
        }
        let requests = [directory(json!({})), nonce(), new];
        let error = bench.step(&bench.ca(), &mut order(), requests).unwrap_err();
        let IssueError::Protocol { cause, .. } = &error else { panic!("{error}") };
        assert!(cause.contains(expected), "{cause}");
    }
}

#[test]
fn a_new_order_may_be_ready_at_once() {
    let bench = Bench::with_account();
    let (ca, mut order) = (bench.ca(), order());
    let new = post("/new-order", 201, order_object("ready")).header("location", &url("/order/1"));
    bench.step(&ca, &mut order, [directory(json!({})), nonce(), new]).unwrap();
    let finalize = post("/finalize/1", 200, order_object("valid"));
    let requests = [look("/order/1", order_object("ready")), finalize, certificate()];
    assert_eq!(
        bench.step(&ca, &mut order, requests).unwrap(),
        Progress::Issued(Vec::from(CHAIN).into())
    );
}

#[test]
fn only_certificates_are_taken() {
    let two = format!("{CHAIN}\n{CHAIN}");
    let with_key = format!("{CHAIN}-----BEGIN PRIVATE KEY-----\nAA==\n-----END PRIVATE KEY-----\n");
    let long = format!("{CHAIN}{}", "x".repeat(256 * 1024));
    for (body, good) in [
        (CHAIN, true),
        (&two, true),
        (&with_key, false),
        ("", false),
        ("<html>", false),
        (&long, false),
    ] {
        let bench = Bench::with_account();
        let (ca, mut order) = finishing(&bench);
        let valid = look("/order/1", order_object("valid"));
        let chain = Exchange::new(Method::Post, "/cert/1", 200, body);
        let result = bench.step(&ca, &mut order, [valid, chain]);
        assert_eq!(result.is_ok(), good, "{body:.60}");
        assert!(order.accepted, "it was made, and counts");
    }
}

#[test]
fn a_saved_order_of_another_make_or_ca() {
    let bench = Bench::with_account();
    let (_, proving) = proving(&bench);
    let elsewhere = AcmeSettings { url: "https://other.example/dir".into(), ..settings() };
    for (settings, state, expected) in [
        (settings(), json!({"directory": url("/dir"), "step": "leap"}), "unknown variant"),
        (settings(), json!({"step": "new"}), "missing field"),
        (settings(), json!(7), "invalid type"),
        (elsewhere, proving.state, "it is at \"https://ca.example/dir\""),
    ] {
        let mut order = Order { state, ..order() };
        let error = bench.step(&bench.ca_at(settings, now()), &mut order, []).unwrap_err();
        let IssueError::Protocol { cause, .. } = &error else { panic!("{error}") };
        assert!(cause.contains(expected) && error.order_is_dead(), "{cause}");
    }
}
