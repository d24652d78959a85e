//! What a CA may say in an OCSP answer that it signed: the part behind the check of the signature.

use std::time::Duration;

use cert_autofetch::clock::{Clock, SKEW, Time};
use cert_autofetch::evidence::ocsp::{Query, ask, verify};
use cert_autofetch::evidence::{Evidence, Status};
use cert_autofetch::facts::{Fingerprint, Serial};
use cert_autofetch::http::{Http, HttpError, Request, Response};
use cert_autofetch::settings::Nonce;
use openssl::hash::{MessageDigest, hash};
use openssl::sign::Signer;

use super::ocsp_response::{SENT, query};
use super::pki::{NOW, Pki};
use super::{der, no_error_is_left};

thread_local!(static PKI: Pki = Pki::new());

/// Signs `data`, a ResponseData, with the issuer's key.
pub fn run(data: &[u8]) {
    PKI.with(|pki| {
        let der = signed(data, pki);
        for nonce in [Nonce::On, Nonce::Required] {
            let evidence = verify(&der, &query(pki, nonce), Some(&SENT), NOW);
            no_error_is_left();
            if let Ok(evidence) = evidence {
                assert!(nonce == Nonce::On || holds(data, &SENT), "an answer to another request");
                must_hold(data, &evidence, &pki.facts.serial, pki);
            }
        }
        let sibling = (Serial("77".into()), Fingerprint("its fingerprint".into()));
        let query = Query { siblings: std::slice::from_ref(&sibling), ..query(pki, Nonce::Off) };
        let answer = ask(&Responder(der), &Standing, &query);
        no_error_is_left();
        for other in answer.iter().flat_map(|a| &a.others) {
            assert_eq!((&other.serial, &other.certificate), (&sibling.0, &sibling.1));
            must_hold(data, other, &sibling.0, pki);
        }
    });
}

/// Answers every request with these bytes.
struct Responder(Vec<u8>);

impl Http for Responder {
    fn send(&self, _: &Request) -> Result<Response, HttpError> {
        Ok(Response { status: 200, headers: Vec::new(), body: self.0.clone() })
    }
}

struct Standing;

impl Clock for Standing {
    fn now(&self) -> Time {
        NOW
    }
}

fn must_hold(data: &[u8], evidence: &Evidence, serial: &Serial, pki: &Pki) {
    let Evidence { this_update, next_update, .. } = *evidence;
    assert!(this_update <= NOW + SKEW);
    assert!(next_update.is_none_or(|next| this_update <= next && NOW <= next + SKEW));
    if evidence.status == Status::Good && next_update.is_none() && !holds(data, &SENT) {
        assert!(NOW <= this_update + Duration::from_secs(7 * 86_400) + SKEW);
    }
    // The hash of the issuer's name and the serial are in it.
    let name = pki.sub.subject_name().to_der().unwrap();
    let hashes = [MessageDigest::sha1(), MessageDigest::sha256()].map(|d| hash(d, &name).unwrap());
    assert!(hashes.iter().any(|h| holds(data, h)), "about another issuer's certificate");
    assert!(holds(data, &serial.to_bytes()));
}

fn holds(data: &[u8], part: &[u8]) -> bool {
    data.windows(part.len()).any(|w| w == part)
}

fn signed(data: &[u8], pki: &Pki) -> Vec<u8> {
    let mut signer = Signer::new(MessageDigest::sha256(), &pki.sub_key).unwrap();
    let signature = signer.sign_oneshot_to_vec(data).unwrap();
    let algorithm = der::sequence(&[der::oid("1.2.840.10045.4.3.2")]);
    let basic = der::sequence(&[data, &algorithm, &der::bits(&signature)]);
    let bytes = der::sequence(&[der::oid("1.3.6.1.5.5.7.48.1.1"), der::octets(&basic)]);
    der::sequence(&[der::element(der::ENUMERATED, &[0]), der::explicit(0, &bytes)])
}
