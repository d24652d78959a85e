//! NIST's PKITS: what its CRLs say about its certificates.
//!
//! A test of PKITS is about a whole path. Of that we check one link: a certificate, who issued
//! it, and a CRL. Beside the tests about CRLs ([`TESTS`]) each certificate is looked up in each
//! CRL of its issuer's, with OpenSSL as the judge, as most of the other tests bring CRLs too.

use std::collections::BTreeSet;

use cert_autofetch::clock::Time;
use cert_autofetch::evidence::Reason;
use cert_autofetch::evidence::chain::issued_by;
use cert_autofetch::facts::{CertFacts, Usage};
use openssl::x509::{CrlStatus, ReasonCode, X509, X509Crl};

use crate::crl::Question;
use crate::folder::Folder;
use crate::outcome::{Tally, time};
use crate::pkits_tests::{Pkits, SKIPPED, TESTS, Test};

/// Of a certificate and a CRL of its issuer's.
pub const PAIRS: usize = 431;

/// CRLs that are about no certificate, and why.
pub const NOT_MET: [(&str, &str); 2] = [
    ("DSAParametersInheritedCACRL", "the key of its issuer is in no certificate as a whole"),
    ("NameOrderCACRL", "the one certificate for it names somebody else as its issuer"),
];

const DATA: &str = "x509/PKITS_data";

/// Most of its CRLs and certificates are valid from 2010 to 2030.
fn now() -> Time {
    time("2020-01-01T00:00:00Z")
}

#[test]
#[ignore = "needs the vectors: scripts/test.sh"]
fn tests_about_crls() {
    let folder = Folder::open();
    let mut tally = Tally::default();
    for test in TESTS {
        let subject = Subject::read(&folder, test.certificate);
        let issuer = certificate(&folder, test.issuer);
        assert!(issued_by(&subject.certificate, &issuer), "{}", test.number);
        let mut found = Vec::new();
        for (crl, expected) in test.crls {
            found.push(subject.ask(&issuer, &crl_of(&folder, crl)));
            let name = format!("{} {} {crl}", test.number, test.certificate);
            tally.row(&name, expected, &found[found.len() - 1]);
        }
        let found = together(&found);
        if let Some(why) = test.differs {
            println!("{} is {:?}, ours is {found}: {why}", test.number, test.pkits);
        }
        tally.check(agrees(test, &found), &format!("{}: {:?}, {found}", test.number, test.pkits));
    }
    tally.finish(99);
    for (section, tests, why) in SKIPPED {
        println!("{section}: {tests} skipped: {why}");
    }
    // Each test of PKITS is a signed mail, too.
    assert_eq!(folder.files(&format!("{DATA}/smime")).len(), TESTS.len() + skipped());
}

pub fn skipped() -> usize {
    SKIPPED.iter().map(|(_, tests, _)| tests).sum()
}

/// A revocation in one is one; so is a proof that there is none.
fn together(found: &[String]) -> String {
    let any = |start: &str| found.iter().find(|f| f.starts_with(start)).cloned();
    any("revoked").or_else(|| any("good")).unwrap_or_else(|| "refused".into())
}

/// Whether we come to what PKITS says, or to something else where the test says so. But to take
/// for good what is not is allowed in one test only.
fn agrees(test: &Test, found: &str) -> bool {
    let same = match test.pkits {
        Pkits::Good => found == "good",
        Pkits::Revoked(reason) => found == format!("revoked {reason}"),
        Pkits::Undetermined => found == "refused",
    };
    same == test.differs.is_none() && (same || found != "good" || test.number == "4.15.4")
}

#[test]
#[ignore = "needs the vectors: scripts/test.sh"]
fn each_certificate_in_each_crl_of_its_issuer() {
    let folder = Folder::open();
    let certificates = folder.files(&format!("{DATA}/certs"));
    let crls = folder.files(&format!("{DATA}/crls"));
    assert_eq!((certificates.len(), crls.len()), (405, 173));
    let stem = |file: &String| file[..file.len() - 4].to_string();
    let subjects: Vec<_> =
        certificates.iter().map(|file| Subject::read(&folder, &stem(file))).collect();

    let mut met: BTreeSet<String> =
        TESTS.iter().flat_map(|t| t.crls).map(|(crl, _)| (*crl).to_string()).collect();
    let mut tally = Tally::default();
    for name in crls.iter().map(stem).filter(|name| !is_special(name)) {
        let der = crl_of(&folder, &name);
        let crl = X509Crl::from_der(&der).expect("CRL");
        for (issuer, subject) in pairs(&subjects, &crl) {
            let row = format!("{name} {}", subject.name);
            let expected = judge(&crl, &subject.certificate);
            tally.row(&row, &expected, &subject.ask(&issuer.certificate, &der));
            met.insert(name.clone());
        }
    }
    tally.finish(PAIRS);
    let not_met = crls.iter().map(stem).filter(|name| !met.contains(name));
    assert_eq!(not_met.collect::<Vec<_>>(), NOT_MET.map(|(name, _)| name));
}

/// One that proves nothing to us, whoever asks: [`TESTS`] has it.
fn is_special(crl: &str) -> bool {
    let of_the_question = ["good", "Signature", "OtherIssuer", "KeyUsage"];
    let mut results = TESTS.iter().flat_map(|test| test.crls).filter(|(name, _)| *name == crl);
    results.any(|(_, result)| !of_the_question.contains(result) && !result.starts_with("revoked"))
}

/// What OpenSSL says.
fn judge(crl: &X509Crl, certificate: &X509) -> String {
    match crl.get_by_serial(certificate.serial_number()) {
        CrlStatus::NotRevoked => "good".into(),
        CrlStatus::Revoked(entry) | CrlStatus::RemoveFromCrl(entry) => {
            let code = entry.extension::<ReasonCode>().expect("extensions");
            let code = code.map(|(_, code)| code.get_i64().expect("code") as i32);
            format!("revoked {}", Reason::from_code(code).as_str())
        }
    }
}

/// Who issued whom, among those whose issuer signed `crl` and may do so.
fn pairs<'a>(
    subjects: &'a [Subject],
    crl: &'a X509Crl,
) -> impl Iterator<Item = (&'a Subject, &'a Subject)> {
    let signed = |issuer: &&Subject| {
        let certificate = &issuer.certificate;
        let named = crl.issuer_name().try_cmp(certificate.subject_name());
        let key = certificate.public_key();
        issuer.usage.signs_crls
            && named.is_ok_and(|order| order.is_eq())
            && key.is_ok_and(|key| crl.verify(&key).unwrap_or(false))
    };
    subjects.iter().filter(signed).flat_map(move |issuer| {
        let issued = |s: &&Subject| issued_by(&s.certificate, &issuer.certificate);
        subjects.iter().filter(issued).map(move |subject| (issuer, subject))
    })
}

struct Subject {
    name: String,
    certificate: X509,
    facts: CertFacts,
    usage: Usage,
}

impl Subject {
    fn read(folder: &Folder, name: &str) -> Subject {
        let certificate = certificate(folder, name);
        let der = certificate.to_der().expect("DER");
        Subject {
            name: name.into(),
            facts: CertFacts::from_der(&der).unwrap_or_else(|e| panic!("{name}: {e}")),
            usage: Usage::from_der(&der).expect("usage"),
            certificate,
        }
    }

    fn ask(&self, issuer: &X509, crl: &[u8]) -> String {
        let url = "http://crl.example/all.crl"; // PKITS has none
        let (facts, is_ca, at) = (&self.facts, self.usage.is_ca, now());
        Question { facts, is_ca, issuer, url, at }.ask(crl)
    }
}

fn certificate(folder: &Folder, name: &str) -> X509 {
    folder.certificate(&format!("{DATA}/certs/{name}.crt"))
}

fn crl_of(folder: &Folder, name: &str) -> Vec<u8> {
    folder.read(&format!("{DATA}/crls/{name}.crl"))
}
