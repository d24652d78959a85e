//! Signed requests.

use openssl::hash::MessageDigest;
use openssl::pkey::{Id, PKey};
use openssl::rsa::Rsa;
use openssl::sign::Verifier;
use x509_parser::asn1_rs::{Any, FromDer};

use super::*;
use crate::clock::FakeClock;
use crate::fixture::der::{algorithm, explicit, tlv};
use crate::fixture::ocsp::status_only;
use crate::fixture::self_signed_with;

fn signer(identity: &Identity, chain: &[&Identity]) -> RequestSigner {
    let certificates: Vec<u8> =
        std::iter::once(&identity).chain(chain).flat_map(|i| i.pem()).collect();
    let key = identity.key.private_key_to_pem_pkcs8().unwrap();
    RequestSigner::from_pem(&certificates, &key).unwrap()
}

/// The elements of a SEQUENCE or an explicit tag, whole.
fn parts(element: &[u8]) -> Vec<&[u8]> {
    let (_, outer) = Any::from_der(element).unwrap();
    let mut rest = outer.data;
    let mut parts = Vec::new();
    while !rest.is_empty() {
        let (after, _) = Any::from_der(rest).unwrap();
        parts.push(&rest[..rest.len() - after.len()]);
        rest = after;
    }
    parts
}

/// That a request is signed by `signer` in its own name, with these certificates (RFC 6960, 4.1.1).
fn check_signed(request: &[u8], signer: &Identity, certificates: &[&Identity]) {
    let [tbs, signature] = parts(request)[..] else { panic!("not signed") };
    // requestorName [1] directoryName [4].
    let subject = signer.cert.subject_name().to_der().unwrap();
    assert_eq!(parts(tbs)[0], explicit(1, &explicit(4, &subject)));
    let [signature] = parts(signature)[..] else { panic!("one Signature") };
    let [used, bits, sent] = parts(signature)[..] else { panic!("no certificates") };
    let (expected, digest) = match signer.key.id() {
        Id::ED25519 => (algorithm("1.3.101.112"), None),
        Id::RSA => {
            let sha256_with_rsa = [6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 11, 5, 0];
            (tlv(0x30, &sha256_with_rsa), Some(MessageDigest::sha256()))
        }
        _ => (algorithm("1.2.840.10045.4.3.2"), Some(MessageDigest::sha256())),
    };
    assert_eq!(used, expected);
    let (_, bits) = Any::from_der(bits).unwrap();
    let key = signer.cert.public_key().unwrap();
    let mut verifier = match digest {
        Some(digest) => Verifier::new(digest, &key).unwrap(),
        None => Verifier::new_without_digest(&key).unwrap(),
    };
    assert!(verifier.verify_oneshot(&bits.data[1..], tbs).unwrap());
    let expected: Vec<_> = certificates.iter().map(|i| i.der()).collect();
    assert_eq!(parts(parts(sent)[0]), expected);
}

#[test]
fn requests_are_signed() {
    let world = World::new();
    let ca = root("Requestors");
    let rsa = PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap();
    let ed25519 = PKey::generate_ed25519().unwrap();
    let spec = |cn| Spec { cn, names: &[], ..Spec::default() };
    let with_key = |cn, key: PKey<_>| Identity { cert: ca.certify(&spec(cn), &key), key };
    let requestors = [ca.issue(spec("EC")), with_key("RSA", rsa), with_key("Ed25519", ed25519)];
    for requestor in &requestors {
        for (chain, nonce) in [(&[][..], Nonce::On), (&[&ca][..], Nonce::Off)] {
            let signer = signer(requestor, chain);
            let query = Query { request_signer: Some(&signer), nonce, ..world.query() };
            let http = FakeHttp::new(|_, _| Ok(ok(world.good().der())));
            assert!(ask(&http, &FakeClock::at(NOW), &query).is_ok());
            let [request] = &http.seen()[..] else { panic!("one request") };
            assert_eq!(request.method, Method::Post);
            let certificates = [&[requestor][..], chain].concat();
            check_signed(&request.body, requestor, &certificates);
            assert_eq!(
                nonce_of(&request.body).is_some(),
                nonce == Nonce::On,
                "under the signature"
            );
        }
    }
}

#[test]
fn no_request_goes_out_unsigned() {
    let world = World::new();
    let requestor = root("Requestor");
    let signer = signer(&requestor, &[]);
    let query = Query { request_signer: Some(&signer), ..world.query() };
    for (first, expected, requests) in [
        (status(405), "HTTP status 405 to POST", 1),
        (status(404), "HTTP status 404 to POST", 1),
        (ok(status_only(5)), "responder says sigRequired: it answers signed requests only", 1),
        (ok(status_only(6)), "responder says unauthorized: it does not know the certificate", 2),
    ] {
        let http = FakeHttp::new(|_, _| Ok(first.clone()));
        let error = ask(&http, &FakeClock::at(NOW), &query).unwrap_err();
        assert_eq!(error.fault.to_string(), expected);
        let seen = http.seen();
        assert_eq!(seen.len(), requests, "{expected}");
        for request in seen {
            check_signed(&request.body, &requestor, &[&requestor]);
        }
    }
}

#[test]
fn who_can_sign() {
    let (own, other) = (root("Own"), root("Other"));
    let key = |i: &Identity| i.key.private_key_to_pem_pkcs8().unwrap();
    let rsa = PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap();
    let rsa = self_signed_with(Spec::ca("RSA"), rsa);
    let table = [
        (own.pem(), key(&own), None),
        ([own.pem(), other.pem()].concat(), key(&own), None),
        (
            [other.pem(), own.pem()].concat(),
            key(&own),
            Some("it is not the key of the certificate"),
        ),
        (own.pem(), key(&rsa), Some("it is not the key of the certificate")),
        (rsa.pem(), key(&rsa), None),
        (Vec::new(), key(&own), Some("no PEM certificate found")),
        (own.pem(), Vec::new(), Some("no PEM private key found")),
    ];
    for (certificate, key, expected) in table {
        let found = RequestSigner::from_pem(&certificate, &key).err().map(|e| e.to_string());
        assert_eq!(found.as_deref(), expected);
        assert!(openssl::error::ErrorStack::get().errors().is_empty());
    }
}
