//! What comes back from an OCSP responder, or from whoever is in its place.

use cert_autofetch::evidence::Reason::{KeyCompromise, Unspecified};
use cert_autofetch::evidence::Status::{self, Good, Revoked, Unknown};
use cert_autofetch::evidence::ocsp::{Query, verify};
use cert_autofetch::settings::Nonce;
use std::time::Duration;

use super::no_error_is_left;
use super::pki::{NOW, Pki};

thread_local!(static PKI: Pki = Pki::new());

/// The nonce of the request.
pub const SENT: [u8; 32] = [7; 32];

/// All that Sub and its delegate ever signed about the leaf: what, from when, until when (seconds
/// from now). Whatever is accepted is one of these.
const SIGNED: &[(Status, i64, Option<i64>)] = &[
    (Good, -60, Some(3600)),
    (Good, -60, None),
    (Unknown, -60, Some(3600)),
    (Revoked { reason: KeyCompromise, at: at(-500) }, -60, Some(3600)),
    (Revoked { reason: Unspecified, at: at(-500) }, -60, None),
];

pub fn run(der: &[u8]) {
    PKI.with(|pki| {
        for nonce in [Nonce::On, Nonce::Required] {
            let evidence = verify(der, &query(pki, nonce), Some(&SENT), NOW);
            no_error_is_left();
            let Ok(e) = evidence else { continue };
            assert_eq!((&e.certificate, &e.serial), (&pki.facts.fingerprint, &pki.facts.serial));
            let from_now = |t: cert_autofetch::clock::Time| t.secs() - NOW.secs();
            let said = (e.status, from_now(e.this_update), e.next_update.map(from_now));
            assert!(SIGNED.contains(&said), "nobody signed {said:?}");
        }
    });
}

pub fn query(pki: &Pki, nonce: Nonce) -> Query<'_> {
    Query {
        certificate: &pki.leaf,
        facts: &pki.facts,
        issuer: &pki.sub,
        url: "http://ocsp.example",
        nonce,
        extra_signer: None,
        request_signer: None,
        siblings: &[],
        timeout: Duration::from_secs(10),
    }
}

const fn at(seconds: i64) -> cert_autofetch::clock::Time {
    cert_autofetch::clock::Time::from_secs(NOW.secs() + seconds)
}
