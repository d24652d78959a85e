//! What comes back from where a CRL should lie.

use std::io::BufReader;
use std::time::Duration;

use cert_autofetch::clock::Time;
use cert_autofetch::evidence::Evidence;
use cert_autofetch::evidence::Reason::{CertificateHold, KeyCompromise};
use cert_autofetch::evidence::Status::{self, Good, Revoked};
use cert_autofetch::evidence::crl::walk::{Entry, Head, Visitor, walk};
use cert_autofetch::evidence::crl::{Fault, Query, read};
use openssl::asn1::{Asn1Time, Asn1TimeRef};
use openssl::error::ErrorStack;
use openssl::x509::X509Crl;

use super::der::Reader;
use super::pki::{NOW, Pki};
use super::{no_error_is_left, pem};

thread_local!(static PKI: Pki = Pki::new());

/// All that Sub ever signed: what about the leaf, from when, until when (seconds from now).
/// Whatever is accepted is one of these.
const SIGNED: &[(Status, i64, Option<i64>)] = &[
    (Good, -60, Some(3600)),
    (Good, -60, None),
    (Good, -62, Some(3602)), // the seeds have it in a wrong shape
    (Revoked { reason: KeyCompromise, at: at(-500) }, -60, Some(3600)),
    (Revoked { reason: CertificateHold, at: at(-500) }, -60, None),
];

pub fn run(crl: &[u8]) {
    PKI.with(|pki| {
        let evidence = read(crl, &query(pki), NOW);
        no_error_is_left();
        let text = format!("{evidence:?}");
        let in_drops = read(BufReader::with_capacity(3, crl), &query(pki), NOW);
        assert_eq!(format!("{in_drops:?}"), text, "however little is read at once");
        if crl.first() == Some(&0x30) {
            let armoured = read(&*pem("X509 CRL", crl), &query(pki), NOW);
            assert_eq!(armoured.ok(), evidence.as_ref().ok().cloned(), "DER and PEM");
        }
        if let Ok(e) = evidence {
            assert_eq!((&e.certificate, &e.serial), (&pki.facts.fingerprint, &pki.facts.serial));
            assert!(is_signed(&e), "nobody signed {e:?}");
            assert!(crl[0] != 0x30 || says_one_algorithm(crl));
        }
    });
    if crl.first() == Some(&0x30) {
        compare(crl);
    }
}

/// Beside what is signed and in it.
fn says_one_algorithm(der: &[u8]) -> bool {
    let parts: Vec<_> = Reader(der).next().unwrap().children().collect();
    parts[0].children().any(|part| part.whole == parts[1].whole)
}

pub fn is_signed(evidence: &Evidence) -> bool {
    let from_now = |t: Time| t.secs() - NOW.secs();
    let (from, until) = (from_now(evidence.this_update), evidence.next_update.map(from_now));
    SIGNED.contains(&(evidence.status.clone(), from, until))
}

pub fn query(pki: &Pki) -> Query<'_> {
    Query {
        facts: &pki.facts,
        is_ca: false,
        issuer: &pki.sub,
        url: "http://crl.example/1.crl",
        asked_since: NOW,
        timeout: Duration::from_secs(10),
    }
}

/// What a walk meets is what another reader finds, and OpenSSL if it reads it at all.
fn compare(der: &[u8]) {
    let mut notes = Notes::default();
    let Ok(tail) = walk(der, &mut notes) else { return };
    let whole = Reader(der).next().unwrap();
    assert!(whole.whole == der, "trailing bytes");
    let parts: Vec<_> = whole.children().collect();
    assert_eq!(parts.len(), 3);
    assert!(parts[0].whole == notes.signed, "something else is signed");
    assert_eq!(parts[1].content, tail.algorithm);
    assert_eq!(parts[2].content[1..], tail.signature);
    if let Ok(crl) = X509Crl::from_der(der) {
        assert_eq!(notes.issuer, crl.issuer_name().to_der().unwrap());
        let listed = crl.get_revoked().into_iter().flatten();
        let serials = listed.map(|entry| entry.serial_number().to_bn().unwrap());
        let ours = notes.serials.iter().map(|contents| number(contents));
        assert!(ours.eq(serials.map(|s| (s.is_negative(), s.to_vec()))));
        for (ours, theirs) in
            [(notes.this_update, Some(crl.last_update())), (notes.next_update, crl.next_update())]
        {
            assert_eq!(ours.is_some(), theirs.is_some());
            if let (Some(ours), Some(theirs)) = (ours, theirs.and_then(seconds)) {
                assert_eq!(ours.secs(), theirs);
            }
        }
    }
    let _ = ErrorStack::get(); // OpenSSL's, of the comparison
}

/// What a walk tells.
#[derive(Default)]
struct Notes {
    signed: Vec<u8>,
    issuer: Vec<u8>,
    this_update: Option<Time>,
    next_update: Option<Time>,
    entries: u64,
    serials: Vec<Vec<u8>>,
}

impl Visitor for Notes {
    fn head(&mut self, head: &Head) -> Result<(), Fault> {
        assert!(self.issuer.is_empty() && self.signed.is_empty(), "a second head");
        self.issuer.clone_from(&head.issuer);
        (self.this_update, self.next_update) = (Some(head.this_update), head.next_update);
        self.entries = head.entries;
        Ok(())
    }

    fn signed(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        self.signed.extend(bytes);
        Ok(())
    }

    fn entry(&mut self, entry: &Entry) -> Result<(), Fault> {
        assert!((1..=32).contains(&entry.serial.len()));
        assert!(self.entries > 0, "none were announced");
        let _ = entry.date();
        self.serials.push(entry.serial.to_vec());
        Ok(())
    }
}

/// Sign and magnitude of an INTEGER's contents.
fn number(contents: &[u8]) -> (bool, Vec<u8>) {
    let is_negative = contents[0] >= 0x80;
    let mut bytes = contents.to_vec();
    if is_negative {
        let mut carry = true;
        for byte in bytes.iter_mut().rev() {
            (*byte, carry) = (!*byte).overflowing_add(u8::from(carry));
        }
    }
    let zeros = bytes.iter().take_while(|b| **b == 0).count();
    (is_negative, bytes.split_off(zeros))
}

fn seconds(time: &Asn1TimeRef) -> Option<i64> {
    let gone = Asn1Time::from_unix(0).unwrap().diff(time).ok()?;
    Some(i64::from(gone.days) * 86_400 + i64::from(gone.secs))
}

const fn at(seconds: i64) -> Time {
    Time::from_secs(NOW.secs() + seconds)
}
