//! Another key for the account, and what else is changed in one.

use super::*;

/// An account whose key the configuration no longer names.
struct Changed {
    bench: Arc<Bench>,
    old: StoredAccount,
    new: AccountKey,
    settings: AcmeSettings,
}

impl Changed {
    fn new() -> Changed {
        let bench = Bench::with_account();
        let old = bench.stored();
        let new = AccountKey::generate().unwrap();
        let settings = AcmeSettings { account_key: Some(new.to_pem().unwrap()), ..settings() };
        Changed { bench, old, new, settings }
    }

    fn ca(&self) -> AcmeCa {
        self.bench.ca_at(self.settings.clone(), now())
    }

    fn rolled_over(&self) -> StoredAccount {
        StoredAccount {
            thumbprint: self.new.thumbprint().into(),
            key: Some(self.new.to_pem().unwrap()),
            retired: vec![self.old.thumbprint.clone()],
            ..self.old.clone()
        }
    }

    fn key_of(&self, account: &StoredAccount) -> AccountKey {
        AccountKey::from_pem(account.key.as_ref().unwrap().bytes()).unwrap()
    }
}

fn start() -> [Exchange; 2] {
    [directory(json!({})), nonce()]
}

fn unknown() -> Exchange {
    refusal("/new-acct", 400, "accountDoesNotExist").carries(json!({"onlyReturnExisting": true}))
}

fn key_change() -> Exchange {
    post("/key-change", 200, json!({}))
}

fn found(path: &str) -> Exchange {
    let found = post("/new-acct", 200, json!({"status": "valid"})).header("location", &url(path));
    found.carries(json!({"onlyReturnExisting": true}))
}

#[test]
fn both_keys_sign() {
    let changed = Changed::new();
    let bench = &changed.bench;
    bench.expect(start());
    let requests = [unknown(), key_change(), new_order()];
    assert_eq!(bench.step(&changed.ca(), &mut order(), requests).unwrap(), wait(0));
    let inner = bench.payloads.lock().unwrap()[1].clone();
    let part = |name: &str| {
        let text = BASE64URL.decode(inner[name].as_str().unwrap()).unwrap();
        serde_json::from_slice::<Value>(&text).unwrap()
    };
    let jwk = |key: &AccountKey| serde_json::from_str::<Value>(key.jwk()).unwrap();
    let header = json!({"alg": "ES256", "jwk": jwk(&changed.new), "url": url("/key-change")});
    assert_eq!(part("protected"), header);
    let old = jwk(&changed.key_of(&changed.old));
    assert_eq!(part("payload"), json!({"account": url("/acct/1"), "oldKey": old}));
    assert_eq!(bench.signers.lock().unwrap()[1], url("/acct/1"));
    assert_eq!(bench.stored(), changed.rolled_over());
    // Another process: nothing is left to do.
    bench.expect(start());
    bench.step(&changed.ca(), &mut order(), [new_order()]).unwrap();
}

#[test]
fn a_lost_answer_is_found_out() {
    let changed = Changed::new();
    let bench = &changed.bench;
    bench.expect(start());
    let lost = key_change().fails(HttpError::Timeout);
    let other = refusal("/acct/1", 400, "malformed");
    let error =
        bench.step(&changed.ca(), &mut order(), [unknown(), lost, nonce(), other]).unwrap_err();
    assert_eq!(error.to_string(), "keyChange: timed out");
    assert_eq!(bench.stored(), changed.old, "till the CA has confirmed");
    bench.expect(start());
    bench.step(&changed.ca(), &mut order(), [found("/acct/1"), new_order()]).unwrap();
    assert_eq!(bench.stored(), changed.rolled_over());
}

#[test]
fn what_cannot_be_rolled_over_is_left_for_a_new_account() {
    let refused = || refusal("/key-change", 400, "malformed");
    let forget = |s: &mut StoredAccount| s.key = None;
    let keep = |_: &mut StoredAccount| {};
    type Edit = fn(&mut StoredAccount);
    let table: [(&str, Edit, Exchange, Vec<Exchange>); 4] = [
        ("no keyChange", keep, bare_directory(), vec![]),
        ("the old key is nowhere", forget, directory(json!({})), vec![]),
        (
            "the old account is closed",
            keep,
            directory(json!({})),
            vec![
                refusal("/key-change", 401, "unauthorized"),
                look("/acct/1", json!({"status": "deactivated"})),
            ],
        ),
        (
            "the old key is no longer the account's",
            keep,
            directory(json!({})),
            vec![refused(), refusal("/acct/1", 400, "malformed")],
        ),
    ];
    for (what, edit, directory, tried) in table {
        let changed = Changed::new();
        let bench = &changed.bench;
        edit(bench.stored.lock().unwrap().as_mut().unwrap());
        let made = post("/new-acct", 201, json!({"status": "valid"}));
        bench.expect([directory, nonce(), unknown()]);
        bench.expect(tried);
        let requests = [made.header("location", &url("/acct/2")), new_order()];
        bench.step(&changed.ca(), &mut order(), requests).unwrap();
        let stored = bench.stored();
        assert_eq!(stored.url, Some(url("/acct/2")), "{what}");
        assert_eq!(stored.key, Some(changed.new.to_pem().unwrap()), "{what}");
        assert!(stored.retired.is_empty(), "{what}: it is another account");
    }
}

#[test]
fn what_cannot_be_rolled_over_goes_on_with_the_old_key() {
    let alive = || look("/acct/1", json!({"status": "valid"}));
    let refused = |status, kind| vec![unknown(), refusal("/key-change", status, kind), alive()];
    let full = || directory(json!({}));
    let used_up = refusal("/new-acct", 401, "unauthorized");
    for (directory, tried, expected) in [
        (full(), refused(501, "notImplemented"), "keyChange: notImplemented: because"),
        (full(), refused(404, ""), "keyChange: because"),
        (full(), refused(429, "rateLimited"), "keyChange: rateLimited: because"),
        (full(), refused(400, "badPublicKey"), "keyChange: badPublicKey: because"),
        (
            full(),
            refused(409, "conflict"),
            "keyChange: conflict: because: account_key is the key of another account at the CA, \
             set another one",
        ),
        // It never arrived.
        (
            full(),
            vec![unknown(), key_change().fails(HttpError::Timeout), nonce(), alive()],
            "keyChange: timed out",
        ),
        (
            full(),
            vec![refusal("/new-acct", 500, "serverInternal"), alive()],
            "newAccount: serverInternal: because",
        ),
        (
            full(),
            vec![
                unknown(),
                refusal("/key-change", 403, "unauthorized"),
                refusal("/acct/1", 500, "serverInternal"),
            ],
            "keyChange: unauthorized: because",
        ),
        // It has no keyChange, and the binding was for the old key.
        (
            bare_directory(),
            vec![unknown(), used_up, alive()],
            "newAccount: unauthorized: because: look whether external_account_key is right and \
             not used up",
        ),
    ] {
        let changed = Changed::new();
        let bench = &changed.bench;
        bench.expect([directory, nonce()]);
        bench.expect(tried);
        let key = Secret::new(b"sixteen letters.".into());
        let external = ExternalAccount { kid: "kid-1".into(), key };
        let bound = AcmeSettings { external_account: Some(external), ..changed.settings.clone() };
        let (ca, mut order) = (bench.ca_at(bound, now()), order());
        assert_eq!(bench.step(&ca, &mut order, [new_order()]).unwrap(), wait(0), "{expected}");
        assert_eq!(*bench.signers.lock().unwrap().last().unwrap(), url("/acct/1"));
        assert_eq!(bench.stored(), changed.old, "{expected}");
        // Not at each request.
        bench.step(&ca, &mut order, [pending(), tell()]).unwrap();
        let remark = format!(
            "account_key is not used yet, account \"{}\" keeps the key before it: {expected}",
            url("/acct/1")
        );
        assert_eq!(ca.accounts.take_remarks(), [remark]);
        // But when the account is read again.
        bench.expect(start());
        let requests = [unknown(), key_change(), new_order()];
        bench.step(&changed.ca(), &mut self::order(), requests).unwrap();
        assert_eq!(bench.stored(), changed.rolled_over());
    }
}

/// The CA does not say whether the old key is any good.
#[test]
fn rollovers_that_nobody_answers() {
    let changed = Changed::new();
    let bench = &changed.bench;
    let lost = || key_change().fails(HttpError::Timeout);
    let silent = look("/acct/1", json!({})).fails(HttpError::Timeout);
    bench.expect(start());
    let error =
        bench.step(&changed.ca(), &mut order(), [unknown(), lost(), nonce(), silent]).unwrap_err();
    assert_eq!(error.to_string(), "keyChange: timed out");
    assert!(!error.order_is_dead());
    assert_eq!(bench.stored(), changed.old);
}

#[test]
fn a_key_with_an_account_of_its_own() {
    let changed = Changed::new();
    let bench = &changed.bench;
    bench.expect(start());
    let (ca, mut order) = (changed.ca(), order());
    let told = post("/acct/9", 200, json!({"status": "valid"}));
    let told = told.carries(json!({"contact": settings().contact}));
    bench.step(&ca, &mut order, [found("/acct/9"), told, new_order()]).unwrap();
    assert_eq!(*bench.signers.lock().unwrap().last().unwrap(), url("/acct/9"));
    let stored = bench.stored();
    assert_eq!((stored.url, stored.retired), (Some(url("/acct/9")), vec![]));
    let requests = [valid(), look("/order/1", order_object("valid")), certificate()];
    let issued = bench.step(&ca, &mut order, requests).unwrap();
    let Progress::Issued(issued) = issued else { panic!("{issued:?}") };
    assert_eq!(
        issued.remark.as_deref(),
        Some(
            "account_key has an account of its own, which is used instead of \
             \"https://ca.example/acct/1\""
        )
    );
}

/// A worker or host that still has the old configuration.
#[test]
fn nobody_rolls_back() {
    let changed = Changed::new();
    let bench = &changed.bench;
    *bench.stored.lock().unwrap() = Some(changed.rolled_over());
    let before = AcmeSettings { account_key: changed.old.key.clone(), ..settings() };
    let (ca, mut order) = (bench.ca_at(before, now()), order());
    bench.expect(start());
    let ready = post("/new-order", 201, order_object("ready")).header("location", &url("/order/1"));
    bench.step(&ca, &mut order, [ready]).unwrap();
    assert_eq!(ca.account().unwrap().key.thumbprint(), changed.new.thumbprint());
    assert_eq!(bench.stored(), changed.rolled_over());
    let requests = [look("/order/1", order_object("valid")), certificate()];
    let issued = bench.step(&ca, &mut order, requests).unwrap();
    let Progress::Issued(issued) = issued else { panic!("{issued:?}") };
    let remark = issued.remark.unwrap();
    assert!(remark.starts_with("account_key is a key that account"), "{remark}");
}

#[test]
fn what_another_process_rolled_over_is_used_at_once() {
    for (status, kind) in [(400, "malformed"), (401, "unauthorized")] {
        let changed = Changed::new();
        let bench = &changed.bench;
        let ca = bench.ca();
        bench.expect(start());
        bench.step(&ca, &mut order(), [new_order()]).unwrap();
        *bench.stored.lock().unwrap() = Some(changed.rolled_over());
        let requests = [refusal("/new-order", status, kind), new_order()];
        bench.step(&ca, &mut order(), requests).unwrap();
        assert_eq!(ca.account().unwrap().key.thumbprint(), changed.new.thumbprint());
    }
}

#[test]
fn keys_that_an_earlier_version_did_not_keep_are_kept_now() {
    let changed = Changed::new();
    let bench = &changed.bench;
    let stored = StoredAccount {
        thumbprint: changed.new.thumbprint().into(),
        key: None,
        ..changed.old.clone()
    };
    *bench.stored.lock().unwrap() = Some(stored.clone());
    bench.expect(start());
    bench.step(&changed.ca(), &mut order(), [new_order()]).unwrap();
    let kept = StoredAccount { key: Some(changed.new.to_pem().unwrap()), ..stored };
    assert_eq!(bench.stored(), kept);
}

#[test]
fn the_ca_is_told_of_another_contact_once() {
    let contact = |list: &[&str]| list.iter().map(|c| c.to_string()).collect::<Vec<_>>();
    let (a, b) = (contact(&["mailto:a@b.example"]), contact(&["mailto:x@b.example"]));
    for (told, wanted, request) in [
        (Some(a.clone()), &b, true),
        (Some(a.clone()), &vec![], true),
        (Some(a.clone()), &a, false),
        (None, &a, true),
        // What others may have told it.
        (None, &vec![], false),
    ] {
        let bench = Bench::with_account();
        bench.stored.lock().unwrap().as_mut().unwrap().contact = told.clone();
        let settings = AcmeSettings { contact: wanted.clone(), ..settings() };
        for again in [false, true] {
            bench.expect(start());
            if request && !again {
                let update = post("/acct/1", 200, json!({"status": "valid"}));
                bench.expect([update.carries(json!({"contact": wanted}))]);
            }
            let ca = bench.ca_at(settings.clone(), now());
            bench.step(&ca, &mut order(), [new_order()]).unwrap();
        }
        let expected = if request { Some(wanted.clone()) } else { told };
        assert_eq!(bench.stored().contact, expected);
    }
}

#[test]
fn key_and_contact_at_once() {
    let changed = Changed::new();
    let bench = &changed.bench;
    let contact = vec!["mailto:x@b.example".to_owned()];
    let settings = AcmeSettings { contact: contact.clone(), ..changed.settings.clone() };
    bench.expect(start());
    let told = post("/acct/1", 200, json!({"status": "valid"}));
    let requests = [unknown(), key_change(), told, new_order()];
    bench.step(&bench.ca_at(settings, now()), &mut order(), requests).unwrap();
    let expected = StoredAccount { contact: Some(contact), ..changed.rolled_over() };
    assert_eq!(bench.stored(), expected);
}

#[test]
fn a_contact_that_the_ca_does_not_like_is_no_reason_not_to_issue() {
    let bench = Bench::with_account();
    bench.stored.lock().unwrap().as_mut().unwrap().contact = None;
    let ca = bench.ca();
    bench.expect(start());
    let requests = [refusal("/acct/1", 400, "unsupportedContact"), new_order()];
    bench.step(&ca, &mut order(), requests).unwrap();
    let expected = "contact is not changed: account: unsupportedContact: because";
    assert_eq!(ca.accounts.take_remarks(), [expected]);
    assert_eq!(bench.stored().contact, None);
}
