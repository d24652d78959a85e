//! A chain as a CA delivers it.

use cert_autofetch::clock::SKEW;
use cert_autofetch::evidence::chain::{CheckedChain, check_new_chain, issued_by};
use cert_autofetch::facts::{CertFacts, Usage};

use super::pki::{NOW, Pki, ROOT};
use super::{no_error_is_left, pem};

thread_local!(static PKI: Pki = Pki::new());

/// PEM; or, after a first byte 0, certificates in DER, each after two bytes of its length: so that
/// a change of one bit is one in the certificate.
pub fn run(data: &[u8]) {
    let pem = match data {
        [0, parts @ ..] => to_pem(parts),
        pem => pem.to_vec(),
    };
    PKI.with(|pki| check(&pem, pki));
}

fn check(pem: &[u8], pki: &Pki) {
    let names = ["shop.example".to_owned()];
    for anchors in [None, Some(ROOT)] {
        let checked = check_new_chain(pem, &pki.leaf_key, &names, anchors, NOW);
        no_error_is_left();
        match checked {
            Ok(checked) => must_hold(&checked, anchors.is_some(), pki),
            Err(error) => assert!(error.to_string().len() < 4096),
        }
    }
}

fn must_hold(checked: &CheckedChain, is_anchored: bool, pki: &Pki) {
    let (chain, facts) = (&checked.chain, &checked.facts);
    assert!((1..=10).contains(&chain.len()));
    assert!(chain[0].public_key().unwrap().public_eq(&pki.leaf_key));
    assert_eq!(*facts, CertFacts::from_der(&chain[0].to_der().unwrap()).unwrap());
    assert!(facts.covers("shop.example"));
    assert!(issued_by(&chain[0], &checked.issuer));
    for pair in chain.windows(2) {
        assert!(issued_by(&pair[0], &pair[1]));
    }
    for (i, certificate) in chain.iter().enumerate() {
        let usage = Usage::from_der(&certificate.to_der().unwrap()).unwrap();
        // What lies above Root nobody needs: another cross-certificate, of whatever time.
        if i < 2 || !is_anchored {
            assert!(usage.not_before <= NOW + SKEW && NOW <= usage.not_after);
            assert_eq!(usage.is_ca, i > 0);
        }
    }
    if is_anchored {
        // Nobody but Sub issues below Root, and it issued this.
        assert!(checked.issuer.public_key().unwrap().public_eq(&pki.sub_key));
        let known = CertFacts { fingerprint: facts.fingerprint.clone(), ..pki.facts.clone() };
        assert_eq!(*facts, known);
    }
}

fn to_pem(mut parts: &[u8]) -> Vec<u8> {
    let mut chain = Vec::new();
    while let [high, low, rest @ ..] = parts {
        let length = usize::from(u16::from_be_bytes([*high, *low])).min(rest.len());
        chain.extend(pem("CERTIFICATE", &rest[..length]));
        parts = &rest[length..];
    }
    chain
}
