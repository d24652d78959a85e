//! The account: made once, kept, and mended.

use super::*;

#[test]
fn a_key_is_stored_before_the_ca_hears_of_it() {
    let bench = Bench::new();
    let (ca, mut order) = (bench.ca(), order());
    let lost = new_account().fails(HttpError::Timeout);
    let error = bench.step(&ca, &mut order, [directory(json!({})), nonce(), lost]).unwrap_err();
    assert_eq!(error.to_string(), "newAccount: timed out");
    assert!(!error.order_is_dead());
    let stored = bench.stored.lock().unwrap().clone().unwrap();
    assert!(stored.key.is_some() && stored.url.is_none());
    // The CA had made it: 200 instead of 201.
    let again = post("/new-acct", 200, json!({"status": "valid"}));
    let again = again.header("location", &url("/acct/1"));
    bench.step(&ca, &mut order, [directory(json!({})), nonce(), again, new_order()]).unwrap();
    let signers = bench.signers.lock().unwrap();
    assert_eq!(signers[0], signers[1]);
    assert_eq!(signers[2], url("/acct/1"));
    assert_eq!(bench.stored.lock().unwrap().as_ref().unwrap().key, stored.key);
}

#[test]
fn accounts_that_the_administrator_must_mend() {
    let terms = json!({"termsOfService": "https://ca.example/terms"});
    let disagree = AcmeSettings { accept_terms_of_service: false, ..settings() };
    let closed = post("/new-acct", 200, json!({"status": "deactivated"}));
    let closed = closed.header("location", &url("/acct/1"));
    let not_pem = Some(Secret::new(b"no key".to_vec()));
    for (settings, requests, expected) in [
        (disagree, vec![directory(terms)], "https://ca.example/terms"),
        (
            settings(),
            vec![directory(json!({"externalAccountRequired": true}))],
            "set external_account_key",
        ),
        (settings(), vec![directory(json!({})), nonce(), closed], "is deactivated"),
        (
            settings(),
            vec![directory(json!({})), nonce(), refusal("/new-acct", 401, "unauthorized")],
            "newAccount: unauthorized: because",
        ),
        (
            settings(),
            vec![directory(json!({})), nonce(), refusal("/new-acct", 400, "unsupportedContact")],
            "unsupportedContact",
        ),
        (
            AcmeSettings { account_key: not_pem, ..settings() },
            vec![directory(json!({}))],
            "account_key of \"corp\"",
        ),
    ] {
        let bench = Bench::new();
        bench.expect(requests);
        let result = bench.ca_at(settings, now()).step(&mut order(), None);
        let Err(IssueError::Configuration(line)) = result else { panic!("{result:?}") };
        assert!(line.contains(expected), "{line}");
        assert!(!line.contains('\n'), "{line}");
    }
}

fn bound() -> AcmeSettings {
    let key = Secret::new(b"sixteen letters.".into());
    let external = ExternalAccount { kid: "kid-1".into(), key };
    AcmeSettings { external_account: Some(external), ..settings() }
}

#[test]
fn external_accounts_are_bound_whether_that_is_required_or_not() {
    for meta in [json!({"externalAccountRequired": true}), json!({})] {
        let bench = Bench::new();
        let ca = bench.ca_at(bound(), now());
        let requests = [directory(meta), nonce(), new_account(), new_order()];
        assert_eq!(bench.step(&ca, &mut order(), requests).unwrap(), wait(0));
        let sent = bench.payloads.lock().unwrap()[0].clone();
        let binding = &sent["externalAccountBinding"];
        let part = |name: &str| {
            let text = BASE64URL.decode(binding[name].as_str().unwrap()).unwrap();
            serde_json::from_slice::<Value>(&text).unwrap()
        };
        let header = json!({"alg": "HS256", "kid": "kid-1", "url": url("/new-acct")});
        assert_eq!(part("protected"), header);
        assert_eq!(part("payload"), bench.signers.lock().unwrap()[0], "the account's key");
    }
}

#[test]
fn bindings_that_the_ca_refuses() {
    const HINT: &str = ": look whether external_account_key is right and not used up";
    for (status, kind, hint) in [
        (401, "unauthorized", HINT),
        (400, "malformed", HINT),
        (403, "externalAccountRequired", HINT),
        (403, "userActionRequired", ""),
        (429, "rateLimited", ""),
    ] {
        let bench = Bench::new();
        let ca = bench.ca_at(bound(), now());
        let requests = [directory(json!({})), nonce(), refusal("/new-acct", status, kind)];
        let error = bench.step(&ca, &mut order(), requests).unwrap_err();
        assert_eq!(error.to_string(), format!("newAccount: {kind}: because{hint}"));
        assert_eq!(matches!(error, IssueError::Configuration(_)), status != 429);
    }
}

#[test]
fn an_existing_account_needs_no_new_agreement() {
    let bench = Bench::with_account();
    let settings = AcmeSettings { accept_terms_of_service: false, ..settings() };
    let meta = json!({
        "termsOfService": "https://ca.example/terms", "externalAccountRequired": true,
    });
    let terms = directory(meta);
    let ca = bench.ca_at(settings, now());
    assert_eq!(bench.step(&ca, &mut order(), [terms, nonce(), new_order()]).unwrap(), wait(0));
}

#[test]
fn an_account_belongs_to_one_directory_and_one_key() {
    for change in [
        |s: &mut StoredAccount| s.directory = "https://other.example/dir".into(),
        |s: &mut StoredAccount| s.thumbprint = "of another key".into(),
        |s: &mut StoredAccount| s.url = None,
    ] {
        let bench = Bench::with_account();
        change(bench.stored.lock().unwrap().as_mut().unwrap());
        let requests = [directory(json!({})), nonce(), new_account(), new_order()];
        bench.step(&bench.ca(), &mut order(), requests).unwrap();
        let stored = bench.stored.lock().unwrap().clone().unwrap();
        assert_eq!((stored.directory, stored.url), (url("/dir"), Some(url("/acct/1"))));
    }
}

#[test]
fn an_account_that_the_ca_lost_is_made_again() {
    let bench = Bench::with_account();
    let made = post("/new-acct", 201, json!({"status": "valid"}));
    let requests = [
        directory(json!({})),
        nonce(),
        refusal("/new-order", 400, "accountDoesNotExist"),
        made.header("location", &url("/acct/2")),
        new_order(),
    ];
    assert_eq!(bench.step(&bench.ca(), &mut order(), requests).unwrap(), wait(0));
    let stored = bench.stored.lock().unwrap().clone().unwrap();
    assert_eq!(stored.url, Some(url("/acct/2")));
    assert_eq!(*bench.signers.lock().unwrap().last().unwrap(), url("/acct/2"));
}

#[test]
fn unauthorized_is_about_the_account_or_the_order() {
    let unauthorized = || refusal("/new-order", 403, "unauthorized");
    for (account, expected) in [
        (
            look("/acct/1", json!({"status": "revoked"})),
            "account \"https://ca.example/acct/1\" is revoked",
        ),
        (
            refusal("/acct/1", 401, "unauthorized"),
            "account \"https://ca.example/acct/1\": unauthorized",
        ),
        (look("/acct/1", json!({"status": "valid"})), "newOrder: unauthorized: because"),
        (refusal("/acct/1", 500, "serverInternal"), "newOrder: unauthorized: because"),
    ] {
        let bench = Bench::with_account();
        let requests = [directory(json!({})), nonce(), unauthorized(), account];
        let error = bench.step(&bench.ca(), &mut order(), requests).unwrap_err();
        assert!(error.to_string().starts_with(expected), "{error}");
        let configuration = matches!(error, IssueError::Configuration(_));
        assert_eq!(configuration, expected.starts_with("account"));
    }
}

#[test]
fn a_damaged_account_makes_way_for_a_new_one() {
    let lost = || StoredAccount::damaged("account.json is damaged at line 1, column 1".into());
    let keyless = |bench: &Bench| StoredAccount { key: None, ..bench.stored() };
    let keyless = |bench: &Bench| StoredAccount { damage: lost().damage, ..keyless(bench) };
    type Damage<'a> = &'a dyn Fn(&Bench) -> StoredAccount;
    let table: [Damage; 2] = [&|_| lost(), &keyless];
    for damage in table {
        let bench = Bench::with_account();
        let damaged = damage(&bench);
        *bench.stored.lock().unwrap() = Some(damaged);
        let made = post("/new-acct", 201, json!({"status": "valid"}));
        let made = made.header("location", &url("/acct/2"));
        let (ca, mut order) = (bench.ca(), order());
        bench.step(&ca, &mut order, [directory(json!({})), nonce(), made, new_order()]).unwrap();
        assert_eq!(bench.stored().url, Some(url("/acct/2")));
        assert_eq!(bench.stored().damage, None);
        let remark = "account.json is damaged at line 1, column 1: the account is made or looked \
                      for anew";
        assert_eq!(ca.accounts.take_remarks(), [remark]);
    }
}
