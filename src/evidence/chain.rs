//! The check of a newly delivered chain, before anything changes; and who issued a certificate.
//!
//! It refuses what clients would refuse, and what the project could not check later: a chain
//! whose leaf nobody is known to have issued. Whether the new certificate is revoked already is
//! not asked here: that is evidence, as for any other.

use std::time::Duration;

use openssl::error::ErrorStack;
use openssl::pkey::{HasPublic, PKeyRef, Private};
use openssl::stack::Stack;
use openssl::x509::store::{X509Store, X509StoreBuilder};
use openssl::x509::verify::{X509VerifyFlags, X509VerifyParam};
use openssl::x509::{X509, X509PurposeId, X509Ref, X509StoreContext, X509VerifyResult};

use crate::bundle::{Unservable, can_be_served, is_encrypted};
use crate::clock::{SKEW, Time};
use crate::facts::{CertFacts, FactsError, Usage};
use crate::names;

/// A chain that may be served, in order.
#[derive(Clone)]
pub struct CheckedChain {
    /// Leaf first, each signed by the next. A root is left out, unless it issued the leaf.
    pub chain: Vec<X509>,
    pub facts: CertFacts,
    /// Who issued the leaf; in the chain, or one of the anchors.
    pub issuer: X509,
}

/// Why a delivered chain is not taken.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ChainError {
    #[error("chain of {0} bytes is too large")]
    TooLarge(usize),
    #[error("chain of {0} certificates is too long")]
    TooLong(usize),
    #[error("chain holds no certificate")]
    Empty,
    #[error("chain is not PEM: {0}")]
    Malformed(ErrorStack),
    #[error("chain is encrypted")]
    Encrypted,
    #[error("{0}")]
    Facts(#[from] FactsError),
    #[error("certificate is not for the key of the request")]
    KeyMismatch,
    #[error("certificate lacks the name \"{0}\"{hint}", hint = hint(.0))]
    Name(String),
    #[error("certificate expired at {0}")]
    Expired(Time),
    #[error("certificate ends already at {0}")]
    EndsSoon(Time),
    #[error("certificate is not valid before {0}")]
    NotYetValid(Time),
    #[error("certificate is self-signed")]
    SelfSigned,
    #[error("certificate is that of a CA")]
    IsCa,
    #[error("certificate is not for servers (extKeyUsage lacks serverAuth)")]
    NotForServers,
    #[error("chain lacks the issuer of the certificate")]
    NoIssuer,
    /// OpenSSL's words.
    #[error("chain does not verify: {0}")]
    Unverified(&'static str),
    #[error("{0}")]
    Unservable(#[from] Unservable),
    #[error("issuer_certificate can't be used: {0}")]
    Anchors(String),
    #[error("{0}")]
    OpenSsl(#[from] ErrorStack),
}

/// Some CAs leave out what they do not issue.
fn hint(name: &str) -> &'static str {
    if names::wildcard(name).is_some() { ", see \"wildcards\"" } else { "" }
}

/// Checks a chain as delivered (PEM, leaf and what issued it in any order) for `key` and `names`.
/// `trusted` is the PEM of the anchors that it must lead to; without it the leaf must be signed
/// by a certificate of the chain.
pub fn check_new_chain(
    pem: &[u8],
    key: &PKeyRef<Private>,
    names: &[String],
    trusted: Option<&[u8]>,
    now: Time,
) -> Result<CheckedChain, ChainError> {
    let mut delivered = certificates(pem)?;
    let leaf = take_leaf(&mut delivered, key)?;
    let facts = check_leaf(&leaf, names, now)?;
    // Some clients refuse a chain for one certificate that they can't read, needed or not.
    delivered.retain(|c| usage_of(c).is_some());
    let anchors = trusted.map(anchors).transpose()?;
    let chain = link(leaf, delivered, anchors.as_deref().unwrap_or_default());
    let issuer = issuer_among(&chain[0], chain[1..].iter().chain(anchors.iter().flatten()))
        .ok_or(ChainError::NoIssuer)?;
    // A little later, if the newest begins within the tolerated skew: our clock may be behind the
    // CA's. By more: it is waited for, as another chain would begin no sooner.
    let begin = chain.iter().filter_map(begin_of).max().map_or(now, |begin| begin.max(now));
    if now + SKEW < begin {
        return Err(ChainError::NotYetValid(begin));
    }
    match anchors {
        Some(anchors) => verify(&chain, &anchors, begin)?,
        // Nothing to lead to: but each link must be one that clients accept.
        None => verify(&chain, &chain[chain.len() - 1..], begin)?,
    }
    can_be_served(&chain, key)?;
    Ok(CheckedChain { chain, facts, issuer })
}

/// Who issued `leaf`: a certificate of its chain, or else one of the anchors. None also where it
/// issued itself.
pub fn find_issuer(leaf: &X509Ref, chain: &[X509], anchors: &[X509]) -> Option<X509> {
    issuer_among(leaf, chain.iter().chain(anchors))
}

/// Whether `issuer` issued `certificate`: by name and signature, whatever either says else.
pub fn issued_by(certificate: &X509Ref, issuer: &X509Ref) -> bool {
    let named = certificate.issuer_name().try_cmp(issuer.subject_name());
    let signed = || certificate.verify(&*issuer.public_key()?);
    let issued = named.is_ok_and(|order| order.is_eq()) && signed().unwrap_or(false);
    let _ = ErrorStack::get(); // a "no" leaves its reason in the thread's queue
    issued
}

const ONE_MINUTE: Duration = Duration::from_secs(60);
const MAX_PEM: usize = 256 * 1024;
const MAX_CERTIFICATES: usize = 10;

fn certificates(pem: &[u8]) -> Result<Vec<X509>, ChainError> {
    if pem.len() > MAX_PEM {
        return Err(ChainError::TooLarge(pem.len()));
    }
    if is_encrypted(pem) {
        return Err(ChainError::Encrypted);
    }
    let certificates = X509::stack_from_pem(pem).map_err(ChainError::Malformed)?;
    match certificates.len() {
        0 => Err(ChainError::Empty),
        n if n > MAX_CERTIFICATES => Err(ChainError::TooLong(n)),
        _ => Ok(certificates),
    }
}

/// The administrator's file: of any length, as it may be a system's whole bundle.
fn anchors(pem: &[u8]) -> Result<Vec<X509>, ChainError> {
    match X509::stack_from_pem(pem) {
        Ok(anchors) if anchors.is_empty() => Err(ChainError::Anchors("no certificate".into())),
        Ok(anchors) => Ok(anchors),
        Err(errors) => Err(ChainError::Anchors(errors.to_string())),
    }
}

/// The leaf is the one for our key: some CAs deliver in another order.
pub fn take_leaf<K: HasPublic>(
    delivered: &mut Vec<X509>,
    key: &PKeyRef<K>,
) -> Result<X509, ChainError> {
    let is_ours = |c: &X509| c.public_key().is_ok_and(|public| public.public_eq(key));
    let found = delivered.iter().position(is_ours);
    found.map(|i| delivered.remove(i)).ok_or(ChainError::KeyMismatch)
}

fn check_leaf(leaf: &X509Ref, names: &[String], now: Time) -> Result<CertFacts, ChainError> {
    let der = leaf.to_der()?;
    let facts = CertFacts::from_der(&der)?;
    let usage = Usage::from_der(&der)?;
    if issued_by(leaf, leaf) {
        return Err(ChainError::SelfSigned);
    }
    if usage.is_ca {
        return Err(ChainError::IsCa);
    }
    if !usage.server_auth {
        return Err(ChainError::NotForServers);
    }
    if facts.not_after < now {
        return Err(ChainError::Expired(facts.not_after));
    }
    if now + SKEW < facts.not_before {
        return Err(ChainError::NotYetValid(facts.not_before));
    }
    // CAs for tests issue for half a minute: it is the rest of a longer life that is of no use.
    let life = facts.not_after.since(facts.not_before);
    if facts.not_after < now + (life / 10).min(ONE_MINUTE) {
        return Err(ChainError::EndsSoon(facts.not_after));
    }
    match names.iter().find(|name| !facts.covers(&name.to_ascii_lowercase())) {
        Some(name) => Err(ChainError::Name(name.clone())),
        None => Ok(facts),
    }
}

/// The leaf and, link by link, who issued it, as far as the delivered certificates reach; those
/// that are no link are dropped. An intermediate that only the anchors hold is added: clients
/// that trust the root alone need it.
pub fn link(leaf: X509, mut delivered: Vec<X509>, anchors: &[X509]) -> Vec<X509> {
    let mut chain = vec![leaf];
    while chain.len() < MAX_CERTIFICATES {
        let last = &chain[chain.len() - 1];
        let next = match delivered.iter().position(|c| issued_by(last, c)) {
            Some(i) => delivered.remove(i),
            None => match anchors.iter().find(|c| issued_by(last, c) && !issued_by(c, c)) {
                Some(anchor) if !chain.contains(anchor) => anchor.clone(),
                _ => break,
            },
        };
        let is_root = issued_by(&next, &next);
        if !is_root || chain.len() == 1 {
            chain.push(next);
        }
        if is_root {
            break;
        }
    }
    chain
}

fn issuer_among<'a>(leaf: &X509Ref, mut those: impl Iterator<Item = &'a X509>) -> Option<X509> {
    those.find(|c| c.as_ref() != leaf && issued_by(leaf, c)).cloned()
}

/// That the chain leads to an anchor, as a client would see it at `time`.
fn verify(chain: &[X509], anchors: &[X509], time: Time) -> Result<(), ChainError> {
    let mut untrusted = Stack::new()?;
    for certificate in &chain[1..] {
        untrusted.push(certificate.clone())?;
    }
    let store = store(anchors, time)?;
    let mut context = X509StoreContext::new()?;
    let result = context.init(&store, &chain[0], &untrusted, |context| {
        Ok(if context.verify_cert()? { X509VerifyResult::OK } else { context.error() })
    });
    let _ = ErrorStack::get(); // a "no" leaves its reason in the thread's queue
    match result? {
        X509VerifyResult::OK => Ok(()),
        why => Err(ChainError::Unverified(why.error_string())),
    }
}

fn store(anchors: &[X509], time: Time) -> Result<X509Store, ErrorStack> {
    let mut param = X509VerifyParam::new()?;
    // An anchor need not be a root: issuer_certificate may name an intermediate.
    param.set_flags(X509VerifyFlags::PARTIAL_CHAIN)?;
    param.set_time(time.secs());
    param.set_purpose(X509PurposeId::SSL_SERVER)?;
    let mut store = X509StoreBuilder::new()?;
    for anchor in anchors {
        store.add_cert(anchor.clone())?;
    }
    store.set_param(&param)?;
    Ok(store.build())
}

fn begin_of(certificate: &X509) -> Option<Time> {
    Some(usage_of(certificate)?.not_before)
}

fn usage_of(certificate: &X509) -> Option<Usage> {
    Usage::from_der(&certificate.to_der().ok()?).ok()
}

#[cfg(test)]
mod tests {
    use openssl::hash::MessageDigest;
    use openssl::pkey::PKey;
    use openssl::rsa::Rsa;

    use super::*;
    use crate::fixture::{DAY, Identity, NOW, Spec, at, root, self_signed_with};

    /// A root, an intermediate and a leaf.
    struct World {
        root: Identity,
        sub: Identity,
        leaf: Identity,
    }

    impl World {
        fn new() -> World {
            World::with(Spec::ca("Sub"), Spec::default())
        }

        fn with(sub: Spec, leaf: Spec) -> World {
            let root = root("Root");
            let sub = root.issue(sub);
            let leaf = sub.issue(leaf);
            World { root, sub, leaf }
        }

        fn check(&self, pem: &[u8], trusted: Option<&[u8]>) -> Result<CheckedChain, ChainError> {
            let names = ["shop.example".to_string()];
            check_new_chain(pem, &self.leaf.key, &names, trusted, NOW)
        }
    }

    fn pem(those: &[&Identity]) -> Vec<u8> {
        those.iter().flat_map(|c| c.pem()).collect()
    }

    fn text(result: Result<CheckedChain, ChainError>) -> String {
        match result {
            Ok(checked) => {
                let cn = |c: &X509| {
                    let name = c.subject_name().entries().last();
                    name.unwrap().data().to_string().unwrap()
                };
                let chain: Vec<_> = checked.chain.iter().map(cn).collect();
                format!("{} from {}", chain.join(" "), cn(&checked.issuer))
            }
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn delivered_chains() {
        let w = World::new();
        let other = World::new(); // the same names, other keys
        let stranger = root("Stranger");
        let direct = w.root.certify(&Spec::default(), &w.leaf.key);
        let direct = Identity { cert: direct, key: w.leaf.key.clone() };
        let eleven: Vec<&Identity> = [&w.leaf].into_iter().chain([&w.sub; 10]).collect();
        let oversized = vec![b'\n'; MAX_PEM + 1];
        let cut = &w.leaf.pem()[..300];
        let encrypted = format!(
            "-----BEGIN CERTIFICATE-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,{}\n\n\
             MIIB\n-----END CERTIFICATE-----\n",
            "00".repeat(16)
        );
        // One that OpenSSL takes and others don't: no digits in its notBefore.
        let mut der = w.root.der();
        let date = der.windows(2).position(|b| b == [0x17, 13]).unwrap();
        der[date + 5] = b'#';
        let unreadable = X509::from_der(&der).unwrap().to_pem().unwrap();
        let with_unreadable = [pem(&[&w.leaf, &w.sub]), unreadable].concat();
        let (root, sub) = (w.root.pem(), w.sub.pem());
        let both = pem(&[&stranger, &w.sub, &w.root]);
        let expected = "leaf Sub from Sub";
        const NO_ISSUER: &str = "chain lacks the issuer of the certificate";
        const LOCAL: &str = "chain does not verify: unable to get local issuer certificate";
        const SIGNATURE: &str = "chain does not verify: certificate signature failure";
        const KEY: &str = "certificate is not for the key of the request";
        type Row<'a> = (&'a str, Vec<u8>, Option<&'a [u8]>, &'a str);
        // Rust 1.85 keeps no temporary of Some() in a table.
        let (of_stranger, of_namesake) = (stranger.pem(), other.root.pem());
        let table: &[Row] = &[
            ("plain", pem(&[&w.leaf, &w.sub]), None, expected),
            ("to the root", pem(&[&w.leaf, &w.sub]), Some(&root), expected),
            ("to the intermediate", pem(&[&w.leaf, &w.sub]), Some(&sub), expected),
            ("to one of several", pem(&[&w.leaf, &w.sub]), Some(&both), expected),
            ("root delivered", pem(&[&w.leaf, &w.sub, &w.root]), Some(&root), expected),
            ("root delivered, no anchor", pem(&[&w.leaf, &w.sub, &w.root]), None, expected),
            ("unreadable root", with_unreadable.clone(), Some(&root), expected),
            ("unreadable root, no anchor", with_unreadable, None, expected),
            ("another order", pem(&[&w.root, &w.sub, &w.leaf]), Some(&root), expected),
            ("an extra", pem(&[&w.leaf, &stranger, &w.sub]), None, expected),
            ("twice", pem(&[&w.leaf, &w.leaf, &w.sub, &w.sub]), None, expected),
            ("no intermediate", pem(&[&direct, &w.root]), None, "leaf Root from Root"),
            ("no intermediate, anchor", pem(&[&direct]), Some(&root), "leaf from Root"),
            ("intermediate from the anchors", pem(&[&w.leaf]), Some(&both), expected),
            ("leaf only", pem(&[&w.leaf]), None, NO_ISSUER),
            ("leaf only, root", pem(&[&w.leaf]), Some(&root), NO_ISSUER),
            ("stranger", pem(&[&w.leaf, &stranger]), None, NO_ISSUER),
            ("namesake", pem(&[&w.leaf, &other.sub]), None, NO_ISSUER),
            ("namesake between", pem(&[&w.leaf, &other.sub, &w.root]), None, NO_ISSUER),
            ("to another", pem(&[&w.leaf, &w.sub]), Some(&of_stranger), LOCAL),
            ("to a namesake", pem(&[&w.leaf, &w.sub]), Some(&of_namesake), SIGNATURE),
            ("other key", pem(&[&other.leaf, &other.sub]), None, KEY),
            ("no leaf", pem(&[&w.sub, &w.root]), None, KEY),
            ("nothing", Vec::new(), None, "chain holds no certificate"),
            ("no PEM", b"<html>".to_vec(), None, "chain holds no certificate"),
            ("too long", pem(&eleven), None, "chain of 11 certificates is too long"),
            ("oversized", oversized, None, "chain of 262145 bytes is too large"),
            ("cut", cut.to_vec(), None, "chain is not PEM"),
            ("encrypted", encrypted.into_bytes(), None, "chain is encrypted"),
            ("no anchors", pem(&[&w.leaf, &w.sub]), Some(b""), "issuer_certificate can't be used"),
            (
                "bad anchors",
                pem(&[&w.leaf, &w.sub]),
                Some(cut),
                "issuer_certificate can't be used: error",
            ),
        ];
        for (name, pem, trusted, expected) in table {
            let result = text(w.check(pem, *trusted));
            assert!(result.starts_with(expected), "{name}: {result}");
        }
    }

    #[test]
    fn leaves() {
        let leaf = Spec::default();
        let life = |life| Spec { life, ..leaf };
        const PURPOSE: &str = "certificate is not for servers (extKeyUsage lacks serverAuth)";
        let table: &[(&str, Spec, &str)] = &[
            ("plain", leaf, "leaf Sub from Sub"),
            ("no EKU", Spec { usage: &[], ..leaf }, "leaf Sub from Sub"),
            ("clients", Spec { usage: &["clientAuth"], ..leaf }, PURPOSE),
            ("a CA", Spec { ca: true, ..leaf }, "certificate is that of a CA"),
            (
                "no name",
                Spec { names: &["www.shop.example"], ..leaf },
                "certificate lacks the name \"shop.example\"",
            ),
            ("wildcard of all", Spec { names: &["*.example"], ..leaf }, "leaf Sub from Sub"),
            ("to just after now", life((-9, 1)), "leaf Sub from Sub"),
            ("a minute of a day", life((-DAY, 60)), "leaf Sub from Sub"),
            ("less", life((-DAY, 59)), "certificate ends already at 2033-05-18T03:34:19Z"),
            ("expired", life((-DAY, -1)), "certificate expired at 2033-05-18T03:33:19Z"),
            ("from now", life((0, DAY)), "leaf Sub from Sub"),
            ("soon", life((300, DAY)), "leaf Sub from Sub"),
            ("not yet", life((301, DAY)), "certificate is not valid before 2033-05-18T03:38:21Z"),
        ];
        for (name, leaf, expected) in table {
            let w = World::with(Spec::ca("Sub"), *leaf);
            let chain = pem(&[&w.leaf, &w.sub]);
            assert_eq!(text(w.check(&chain, None)), *expected, "{name}");
            assert_eq!(text(w.check(&chain, Some(&w.root.pem()))), *expected, "{name}, anchor");
        }
    }

    /// At the security level of the system: nginx could not install it.
    #[test]
    fn what_openssl_does_not_serve_is_refused() {
        let w = World::new();
        let short = PKey::from_rsa(Rsa::generate(512).unwrap()).unwrap();
        let leaf = Identity { cert: w.sub.certify(&Spec::default(), &short), key: short };
        let w = World { leaf, ..w };
        let expected = "OpenSSL does not take it: ee key too small";
        assert_eq!(text(w.check(&pem(&[&w.leaf, &w.sub]), None)), expected);
        let sub = Spec { digest: MessageDigest::sha1(), ..Spec::ca("Sub") };
        let w = World::with(sub, Spec::default());
        let expected = "OpenSSL does not take it: ca md too weak";
        assert_eq!(text(w.check(&pem(&[&w.leaf, &w.sub]), Some(&w.root.pem()))), expected);
    }

    #[test]
    fn every_wanted_name_is_covered() {
        let names = &["Shop.example", "*.shop.example", "2001:db8::1"];
        let w = World::with(Spec::ca("Sub"), Spec { names, ..Spec::default() });
        let table: &[(&[&str], Option<&str>)] = &[
            (&[], None),
            (&["shop.example", "www.shop.example", "*.shop.example"], None),
            (&["SHOP.example"], None),
            (&["shop.example", "a.b.shop.example"], Some("a.b.shop.example")),
            (&["*.example"], Some("*.example\", see \"wildcards")),
            (&["2001:db8::1", "shop.example"], None),
            (&["2001:db8::2"], Some("2001:db8::2")),
        ];
        for (names, lacks) in table {
            let names: Vec<String> = names.iter().map(|n| n.to_string()).collect();
            let pem = pem(&[&w.leaf, &w.sub]);
            let result = check_new_chain(&pem, &w.leaf.key, &names, None, NOW);
            match lacks {
                None => assert_eq!(result.unwrap().facts.names.len(), 3),
                Some(lacks) => {
                    assert_eq!(text(result), format!("certificate lacks the name \"{lacks}\""));
                }
            }
        }
    }

    #[test]
    fn intermediates() {
        let sub = Spec::ca("Sub");
        let no_ca = Spec { ca: false, names: &[], ..sub };
        let life = |life| Spec { life, ..sub };
        let table: &[(&str, Spec, &str)] = &[
            ("plain", sub, "leaf Sub from Sub"),
            ("no CA", no_ca, "chain does not verify: invalid CA certificate"),
            ("expired", life((-DAY, -1)), "chain does not verify: certificate has expired"),
            ("not yet", life((400, DAY)), "certificate is not valid before 2033-05-18T03:40:00Z"),
            ("soon", life((300, DAY)), "leaf Sub from Sub"),
            (
                "for clients",
                Spec { usage: &["clientAuth"], ..sub },
                "chain does not verify: unsuitable certificate purpose",
            ),
        ];
        for (name, sub, expected) in table {
            let w = World::with(*sub, Spec::default());
            let chain = pem(&[&w.leaf, &w.sub]);
            assert_eq!(text(w.check(&chain, Some(&w.root.pem()))), *expected, "{name}, anchor");
            assert_eq!(text(w.check(&chain, None)), *expected, "{name}");
        }
    }

    #[test]
    fn self_signed_is_refused_even_as_its_own_anchor() {
        let w = World::new();
        let own = self_signed_with(Spec::default(), w.leaf.key.clone());
        let expected = "certificate is self-signed";
        assert_eq!(text(w.check(&own.pem(), None)), expected);
        assert_eq!(text(w.check(&own.pem(), Some(&own.pem()))), expected);
        assert_eq!(text(w.check(&pem(&[&own, &own]), None)), expected);
    }

    #[test]
    fn the_facts_are_the_leafs() {
        let w = World::new();
        let checked = w.check(&pem(&[&w.sub, &w.leaf]), None).unwrap();
        assert_eq!(checked.facts, CertFacts::from_der(&w.leaf.der()).unwrap());
        assert_eq!(checked.facts.not_before, at(-DAY));
        assert!(checked.chain == [w.leaf.cert.clone(), w.sub.cert.clone()]);
        assert!(checked.issuer == w.sub.cert);
    }

    #[test]
    fn issuers_of_stored_certificates() {
        let w = World::new();
        let other = World::new();
        let own = self_signed_with(Spec::default(), w.leaf.key.clone());
        let find = |leaf: &Identity, chain: &[&Identity], trusted: Option<&[u8]>| {
            let chain: Vec<X509> = chain.iter().map(|c| c.cert.clone()).collect();
            let anchors = trusted.and_then(|pem| X509::stack_from_pem(pem).ok());
            find_issuer(&leaf.cert, &chain, &anchors.unwrap_or_default())
        };
        let found = Some(w.sub.cert.clone());
        assert!(find(&w.leaf, &[&w.leaf, &w.sub], None) == found);
        assert!(find(&w.leaf, &[&w.leaf, &other.sub, &w.sub], None) == found);
        assert!(find(&w.leaf, &[&w.leaf], Some(&pem(&[&w.root, &w.sub]))) == found);
        assert!(find(&w.leaf, &[&w.leaf, &other.sub], Some(&other.sub.pem())).is_none());
        assert!(find(&w.leaf, &[], Some(b"junk")).is_none());
        assert!(find(&w.leaf, &[], None).is_none());
        assert!(find(&own, &[&own], Some(&own.pem())).is_none());
    }

    /// By both: a CA's key may serve under two names, and a name may have had two keys.
    #[test]
    fn issued_by_name_and_signature() {
        let w = World::new();
        let other_name = self_signed_with(Spec::ca("Other"), w.sub.key.clone());
        let other_key = root("Sub");
        assert!(issued_by(&w.leaf.cert, &w.sub.cert));
        assert!(!issued_by(&w.leaf.cert, &other_name.cert));
        assert!(!issued_by(&w.leaf.cert, &other_key.cert));
        assert!(!issued_by(&w.leaf.cert, &w.root.cert));
        assert!(!issued_by(&w.leaf.cert, &w.leaf.cert));
        assert!(issued_by(&w.root.cert, &w.root.cert));
    }

    /// What OpenSSL left behind would be taken for the error of another call.
    #[test]
    fn no_error_is_left_in_the_queue() {
        let w = World::new();
        let other = World::new();
        let rsa = PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap();
        let rsa = Identity { cert: w.sub.certify(&Spec::default(), &rsa), key: rsa };
        let table: &[(&[&Identity], Option<&Identity>)] = &[
            (&[&w.leaf, &w.sub], None),
            (&[&w.leaf, &w.sub], Some(&w.root)),
            (&[&w.leaf, &w.sub], Some(&other.root)),
            (&[&w.leaf, &other.sub], None),
            (&[&other.leaf], None),
            (&[&rsa, &w.sub], None),
            (&[], None),
        ];
        for (i, (chain, trusted)) in table.iter().enumerate() {
            let _ = w.check(&pem(chain), trusted.map(|t| t.pem()).as_deref());
            assert!(ErrorStack::get().errors().is_empty(), "row {i}");
        }
    }
}
