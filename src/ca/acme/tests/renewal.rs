//! Renewal information and `replaces` (RFC 9773).

use openssl::asn1::Asn1Integer;
use openssl::bn::BigNum;
use openssl::x509::{X509, X509Builder, X509Extension};

use super::super::renewal::certificate_id;
use super::*;
use crate::bundle::{Bundle, Meta};
use crate::ca::renewal::Window;
use crate::facts::CertFacts;
use crate::fixture::{Spec, root};

/// The example of section 4.1.
const KEY_ID: [u8; 20] = [
    0x69, 0x88, 0x5b, 0x6b, 0x87, 0x46, 0x40, 0x41, 0xe1, 0xb3, 0x7b, 0x84, 0x7b, 0xa0, 0xae, 0x2c,
    0xde, 0x01, 0xc8, 0xd4,
];
const EXAMPLE_ID: &str = "aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE";

fn certificate(serial: u32, key_id: Option<&[u8]>) -> X509 {
    let mut builder = X509::builder().unwrap();
    let serial = BigNum::from_u32(serial).unwrap();
    builder.set_serial_number(&Asn1Integer::from_bn(&serial).unwrap()).unwrap();
    if let Some(id) = key_id {
        let oid = openssl::asn1::Asn1Object::from_str("2.5.29.35").unwrap();
        let id = [&[0x30, 2 + id.len() as u8, 0x80, id.len() as u8], id].concat();
        let value = openssl::asn1::Asn1OctetString::new_from_bytes(&id).unwrap();
        let extension = X509Extension::new_from_der(&oid, false, &value).unwrap();
        builder.append_extension(extension).unwrap();
    }
    let key = crate::ca::csr::new_key(crate::settings::KeyType::Ecdsa256).unwrap();
    builder.set_pubkey(&key).unwrap();
    for set in [X509Builder::set_not_before, X509Builder::set_not_after] {
        set(&mut builder, &openssl::asn1::Asn1Time::from_unix(0).unwrap()).unwrap();
    }
    builder.sign(&key, openssl::hash::MessageDigest::sha256()).unwrap();
    X509::from_der(&builder.build().to_der().unwrap()).unwrap()
}

#[test]
fn identifiers() {
    for (serial, key_id, expected) in [
        (0x8765_4321, Some(&KEY_ID[..]), Some(EXAMPLE_ID)),
        (0x7f, Some(&KEY_ID[..2]), Some("aYg.fw")),
        (0x80, Some(&KEY_ID[..2]), Some("aYg.AIA")),
        (0, Some(&KEY_ID[..2]), Some("aYg.AA")),
        (1, None, None),
    ] {
        assert_eq!(certificate_id(&certificate(serial, key_id)).as_deref(), expected);
    }
}

fn asked(status: u16, body: &str) -> Exchange {
    let path: &'static str = Box::leak(format!("/ari/{EXAMPLE_ID}").into_boxed_str());
    Exchange::new(Method::Get, path, status, body)
}

#[test]
fn what_the_server_says() {
    const WINDOW: &str =
        r#""suggestedWindow":{"start":"2026-11-20T00:00:00Z","end":"2026-11-21T00:00:00Z"}"#;
    let known = certificate(0x8765_4321, Some(&KEY_ID));
    let ask = |exchange: Exchange| {
        let bench = Bench::new();
        bench.expect([directory(json!({})), exchange]);
        bench.ca().renewal_info(&known)
    };
    let start = Time::from_secs(1_795_132_800);
    let window = Window { start, end: start + Duration::from_secs(86_400) };
    let plain = format!("{{{WINDOW}}}");
    for (retry_after, seconds) in
        [(None, 21_600), (Some("7200"), 7200), (Some("1"), 60), (Some("9999999"), 86_400)]
    {
        let exchange = asked(200, &plain);
        let exchange = match retry_after {
            Some(value) => exchange.header("retry-after", value),
            None => exchange,
        };
        let info = ask(exchange).unwrap().unwrap();
        assert_eq!((info.window, info.explanation), (window, None));
        assert_eq!(info.retry_after, Duration::from_secs(seconds), "{retry_after:?}");
    }
    let explained = format!(r#"{{{WINDOW},"explanationURL":"https://ca.example/\nwhy"}}"#);
    let explanation = ask(asked(200, &explained)).unwrap().unwrap().explanation;
    assert_eq!(explanation.as_deref(), Some("https://ca.example/ why"));
    let empty = plain.replace("21T", "20T");
    for (status, body, cause) in [
        (200, "{}", "renewalInfo: missing field `suggestedWindow`"),
        (200, r#"{"suggestedWindow":{"start":"soon","end":"later"}}"#, "renewalInfo: the 'year'"),
        (200, &empty, "renewalInfo: the window ends at 2026-11-20T00:00:00Z, before its start"),
        (404, "", "renewalInfo: HTTP status 404"),
        (503, "", "renewalInfo: HTTP status 503"),
    ] {
        let error = ask(asked(status, body)).unwrap_err().to_string();
        assert!(error.starts_with(cause), "{error}");
    }
}

#[test]
fn nothing_is_asked_without_an_identifier() {
    let bench = Bench::new();
    bench.expect([directory(json!({}))]);
    assert_eq!(bench.ca().renewal_info(&certificate(1, None)).unwrap(), None);
}

fn bundle(ca: Option<&str>) -> Bundle {
    let issuer = root("CA");
    let leaf = issuer.issue(Spec::default());
    let mut facts = CertFacts::from_der(&leaf.der()).unwrap();
    facts.serial = crate::facts::Serial("01".into());
    let meta = Meta { ca: ca.map(str::to_owned), ..Meta::default() };
    let chain = vec![certificate(0x8765_4321, Some(&KEY_ID))];
    Bundle { version: 1, chain, key: leaf.key, facts, meta }
}

fn names() -> Value {
    json!([{"type": "dns", "value": "a.example"}])
}

#[test]
fn a_successor_is_named() {
    let wanted = json!({"identifiers": names(), "replaces": EXAMPLE_ID});
    let alone = json!({"identifiers": names()});
    for (ca, expected) in [(Some("corp"), &wanted), (Some("other"), &alone), (None, &alone)] {
        let bench = Bench::with_account();
        bench.expect([directory(json!({})), nonce(), new_order().carries(expected.clone())]);
        let progress = bench.ca().step(&mut order(), Some(&bundle(ca)));
        assert_eq!(progress.unwrap(), wait(0), "{ca:?}");
    }
}

#[test]
fn a_successor_that_is_not_wanted_as_one_is_ordered_alone() {
    for (status, kind) in [(409, "alreadyReplaced"), (400, "malformed"), (403, "unauthorized")] {
        let bench = Bench::with_account();
        let (ca, mut order, current) = (bench.ca(), order(), bundle(Some("corp")));
        bench.expect([directory(json!({})), nonce(), refusal("/new-order", status, kind)]);
        let account = post("/acct/1", 200, json!({"status": "valid"}));
        bench.expect((kind == "unauthorized").then_some(account));
        assert_eq!(ca.step(&mut order, Some(&current)).unwrap(), Progress::LookAgain, "{kind}");
        // Also after a restart.
        let (ca, alone) = (bench.ca(), json!({"identifiers": names()}));
        bench.expect([directory(json!({})), nonce(), new_order().carries(alone)]);
        assert_eq!(ca.step(&mut order, Some(&current)).unwrap(), wait(0));
    }
    let bench = Bench::with_account();
    let limited = refusal("/new-order", 429, "rateLimited");
    bench.expect([directory(json!({})), nonce(), limited]);
    let error = bench.ca().step(&mut order(), Some(&bundle(Some("corp")))).unwrap_err();
    assert!(matches!(error, IssueError::Busy { .. }), "{error}");
}

/// What was not sent can't be the reason.
#[test]
fn an_order_without_a_predecessor_is_not_sent_twice() {
    for (directory, current) in
        [(directory(json!({})), bundle(Some("other"))), (bare_directory(), bundle(Some("corp")))]
    {
        let bench = Bench::with_account();
        bench.expect([directory, nonce(), refusal("/new-order", 400, "malformed")]);
        let error = bench.ca().step(&mut order(), Some(&current)).unwrap_err();
        assert_eq!(error.to_string(), "newOrder: malformed: because");
    }
}
