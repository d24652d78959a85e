//! Which of several chains is taken.

use super::*;
use crate::ca::Issued;
use crate::fixture::{Identity, Spec, root};

/// A leaf, and what may stand above it.
struct Chains {
    leaf: Identity,
    old: Identity,
    new: Identity,
}

impl Chains {
    fn new() -> Chains {
        let old = root("Old Root").issue(Spec::ca("Intermediate"));
        let new = root("New Root").issue(Spec::ca("Intermediate"));
        Chains { leaf: old.issue(Spec::default()), old, new }
    }

    fn under(&self, issuer: &Identity) -> String {
        String::from_utf8([self.leaf.pem(), issuer.pem()].concat()).unwrap()
    }
}

fn delivered(path: &str, chain: &str) -> Exchange {
    Exchange::new(Method::Post, path, 200, chain).carries(Value::Null)
}

fn link(exchange: Exchange, path: &str) -> Exchange {
    exchange.header("link", &format!("<{}>;rel=\"alternate\"", url(path)))
}

/// What is delivered to a configuration that prefers this.
fn issued(preferred: &str, exchanges: Vec<Exchange>) -> Issued {
    let bench = Bench::with_account();
    let (_, mut order) = finishing(&bench);
    let ca = AcmeSettings { preferred_chain: Some(preferred.into()), ..settings() };
    let ca = bench.ca_at(ca, now());
    bench.expect([directory(json!({})), nonce(), look("/order/1", order_object("valid"))]);
    bench.expect(exchanges);
    let issued = bench.step(&ca, &mut order, []).unwrap();
    let Progress::Issued(issued) = issued else { panic!("{issued:?}") };
    issued
}

/// The chain, and what is said about it.
fn issue(preferred: &str, exchanges: Vec<Exchange>) -> (String, Option<String>) {
    let issued = issued(preferred, exchanges);
    (String::from_utf8(issued.chain).unwrap(), issued.remark)
}

#[test]
fn the_first_that_is_preferred() {
    let chains = Chains::new();
    let (old, new) = (chains.under(&chains.old), chains.under(&chains.new));
    let default = || link(link(delivered("/cert/1", &old), "/cert/2"), "/cert/3");
    let other = Chains::new();
    let other = other.under(&other.new);
    let none = |offered: &str| {
        Some(format!("preferred_chain \"X\" is not offered, only {offered}: the first is used"))
    };
    let gone = || refusal("/cert/2", 404, "malformed");
    let lost = || delivered("/cert/2", "").fails(HttpError::Timeout);
    let table = [
        // The default is enough: nothing more is asked.
        ("Old Root", vec![default()], &old, None),
        ("New Root", vec![default(), delivered("/cert/2", &new)], &new, None),
        ("New Root", vec![default(), gone(), delivered("/cert/3", &new)], &new, None),
        // A chain of somebody else's certificate is none.
        (
            "New Root",
            vec![default(), delivered("/cert/2", &other), delivered("/cert/3", &new)],
            &new,
            None,
        ),
        (
            "New Root",
            vec![default(), delivered("/cert/2", "<html>"), delivered("/cert/3", &new)],
            &new,
            None,
        ),
        (
            "X",
            vec![default(), delivered("/cert/2", &new), delivered("/cert/3", &old)],
            &old,
            none("\"Old Root\", \"New Root\", \"Old Root\""),
        ),
        // Not the issuer of any other certificate, and not a part of the name.
        ("X", vec![delivered("/cert/1", &old)], &old, none("\"Old Root\"")),
        ("X", vec![default(), lost()], &old, none("\"Old Root\"")),
        ("X", vec![link(delivered("/cert/1", CHAIN), "x y")], &CHAIN.to_owned(), none("\"?\"")),
    ];
    for (preferred, exchanges, chain, remark) in table {
        assert_eq!(issue(preferred, exchanges), (chain.clone(), remark));
    }
    for near in ["Intermediate", "old root", "Old Roo"] {
        assert!(issue(near, vec![delivered("/cert/1", &old)]).1.is_some(), "{near}");
    }
}

#[test]
fn not_more_than_a_few_are_looked_at() {
    let chains = Chains::new();
    let old = chains.under(&chains.old);
    let all: Vec<String> = (2..20).map(|i| format!("/cert/{i}")).collect();
    let default = all.iter().fold(delivered("/cert/1", &old), |answer, path| link(answer, path));
    let mut exchanges = vec![default];
    exchanges.extend(all[..8].iter().map(|path| delivered(path, &old)));
    assert!(issue("X", exchanges).1.is_some());
}

#[test]
fn the_default_stays_at_hand() {
    let chains = Chains::new();
    let (old, new) = (chains.under(&chains.old), chains.under(&chains.new));
    let default = || link(delivered("/cert/1", &old), "/cert/2");
    let other = || vec![default(), delivered("/cert/2", &new)];
    for (preferred, exchanges, fallback) in [
        ("New Root", other(), Some(&old)),
        ("Old Root", vec![default()], None),
        ("X", other(), None),
    ] {
        let fallback = fallback.map(|pem| pem.clone().into_bytes());
        assert_eq!(issued(preferred, exchanges).fallback, fallback, "{preferred}");
    }
}
