//! What a CA may say in a CRL that it signed: the part behind the check of the signature.

use std::time::Duration;

use cert_autofetch::clock::SKEW;
use cert_autofetch::evidence::crl::read;
use cert_autofetch::evidence::{Evidence, Status};
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::sign::Signer;
use openssl::x509::{CrlStatus, X509Crl};

use super::crl::query;
use super::pki::{NOW, Pki};
use super::{der, no_error_is_left};

thread_local!(static PKI: Pki = Pki::new());

/// Signs `data`, a TBSCertList, with the issuer's key.
pub fn run(data: &[u8]) {
    PKI.with(|pki| {
        let crl = signed(data, pki);
        let evidence = read(&*crl, &query(pki), NOW);
        no_error_is_left();
        if let Ok(evidence) = evidence {
            must_hold(&crl, &evidence, pki);
        }
    });
}

fn must_hold(crl: &[u8], evidence: &Evidence, pki: &Pki) {
    let Evidence { this_update, next_update, .. } = *evidence;
    assert!(this_update <= NOW + SKEW);
    assert!(next_update.is_none_or(|next| this_update <= next && NOW <= next + SKEW));
    if evidence.status == Status::Good && next_update.is_none() {
        assert!(NOW <= this_update + Duration::from_secs(7 * 86_400) + SKEW);
    }
    if let Ok(crl) = X509Crl::from_der(crl) {
        let is_listed = !matches!(crl.get_by_cert(&pki.leaf), CrlStatus::NotRevoked);
        assert_eq!(evidence.is_revoked(), is_listed);
    }
    let _ = ErrorStack::get(); // OpenSSL's, of the comparison
}

fn signed(data: &[u8], pki: &Pki) -> Vec<u8> {
    let mut signer = Signer::new(MessageDigest::sha256(), &pki.sub_key).unwrap();
    let signature = signer.sign_oneshot_to_vec(data).unwrap();
    let algorithm = der::sequence(&[der::oid("1.2.840.10045.4.3.2")]);
    der::sequence(&[data, &algorithm, &der::bits(&signature)])
}
