//! A certificate in DER, from a CA or a keystore.

use cert_autofetch::facts::{CertFacts, Serial, Usage};
use openssl::asn1::{Asn1Time, Asn1TimeRef};
use openssl::error::ErrorStack;
use openssl::x509::X509;

/// What is read must be what OpenSSL reads, and with it most clients.
pub fn run(der: &[u8]) {
    let usage = Usage::from_der(der);
    let Ok(facts) = CertFacts::from_der(der) else { return };
    assert!(facts.names.iter().all(|n| n.bytes().all(|b| b.is_ascii_graphic())));
    assert!(!facts.issuer.contains(char::is_control));
    for url in facts.ocsp_urls.iter().chain(&facts.crl_urls) {
        assert!(url.len() <= 2048 && url.bytes().all(|b| b.is_ascii_graphic()));
    }
    facts.covers("shop.example");
    if let Ok(certificate) = X509::from_der(der) {
        compare(&facts, &certificate);
    }
    if let Ok(usage) = usage {
        assert_eq!((usage.not_before, usage.not_after), (facts.not_before, facts.not_after));
    }
    let _ = ErrorStack::get(); // OpenSSL's, of the comparison
}

fn compare(facts: &CertFacts, certificate: &X509) {
    let number = certificate.serial_number().to_bn().unwrap();
    let bytes = if number.num_bits() == 0 { vec![0] } else { number.to_vec() };
    let sign = if number.is_negative() { "-" } else { "" };
    assert_eq!(facts.serial.0, format!("{sign}{}", Serial::from_bytes(&bytes)));
    for (ours, theirs) in
        [(facts.not_before, certificate.not_before()), (facts.not_after, certificate.not_after())]
    {
        if let Some(theirs) = seconds(theirs) {
            assert_eq!(ours.secs(), theirs);
        }
    }
    if let Some(names) = certificate.subject_alt_names() {
        let printable = |n: &&str| n.bytes().all(|b| b.is_ascii_graphic());
        let names = names.iter().filter_map(|n| n.dnsname()).filter(printable);
        assert_eq!(facts.names, names.map(str::to_ascii_lowercase).collect::<Vec<_>>());
    }
}

fn seconds(time: &Asn1TimeRef) -> Option<i64> {
    let gone = Asn1Time::from_unix(0).unwrap().diff(time).ok()?;
    Some(i64::from(gone.days) * 86_400 + i64::from(gone.secs))
}
