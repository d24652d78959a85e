//! Every certificate of x509 is read, and as OpenSSL reads it, but for a few broken ones.

use std::net::IpAddr;

use cert_autofetch::clock::Time;
use cert_autofetch::facts::CertFacts;
use openssl::asn1::{Asn1Time, Asn1TimeRef};
use openssl::hash::MessageDigest;
use openssl::x509::X509;

use crate::folder::{Folder, has_pem, pem};
use crate::outcome::Tally;

pub const CERTIFICATES: usize = 540;

const REFUSED: &[(&str, &str)] = &[
    // notAfter is no time.
    ("badasn1time.pem", "not a certificate"),
    // Its TBSCertificate only.
    ("cryptography-scts-tbs-precert.der", "not a certificate"),
];

#[test]
#[ignore = "needs the vectors: scripts/test.sh"]
fn each_certificate_of_x509() {
    let folder = Folder::open();
    let mut tally = Tally::default();
    let mut compared = 0;
    for (name, der) in certificates(&folder) {
        let refused = REFUSED.iter().find(|(file, _)| *file == name);
        let expected = refused.map_or("read", |(_, why)| why);
        let found = CertFacts::from_der(&der);
        // It refuses some odd encodings of names, which depends on its version.
        if let (Ok(facts), Ok(theirs)) = (&found, X509::from_der(&der)) {
            compare(&mut tally, &name, facts, &theirs);
            compared += 1;
        }
        tally.row(&name, expected, &found.map_or_else(|e| e.to_string(), |_| "read".into()));
    }
    assert!(compared > 530, "OpenSSL reads {compared}");
    tally.finish(CERTIFICATES);
}

/// PKITS has them in DER, the other folders in both forms.
fn certificates(folder: &Folder) -> Vec<(String, Vec<u8>)> {
    let is_one = |name: &String| {
        name.ends_with(".crt")
            || name.ends_with(".pem")
            || (name.ends_with(".der") && !name.contains("/crl_"))
    };
    let others = ["ocsp/", "requests/", "PKITS_data/pkcs12/", "PKITS_data/smime/"];
    let files = folder.files("x509").into_iter().filter(is_one);
    let files = files.filter(|name| !others.iter().any(|other| name.starts_with(other)));
    files
        .flat_map(|name| {
            let bytes = folder.read(&format!("x509/{name}"));
            let ders = match has_pem(&bytes) {
                true => [pem(&bytes, "CERTIFICATE"), pem(&bytes, "X509 CERTIFICATE")].concat(),
                false => vec![bytes],
            };
            ders.into_iter().map(move |der| (name.clone(), der))
        })
        .collect()
}

fn compare(tally: &mut Tally, name: &str, facts: &CertFacts, theirs: &X509) {
    let mut same = |what: &str, ours: String, theirs: String| {
        tally.check(ours == theirs, &format!("{name}: {what}: ours {ours}, OpenSSL's {theirs}"));
    };
    let number = theirs.serial_number().to_bn().expect("serial");
    if !number.is_negative() {
        let hex = number.to_hex_str().expect("hex").to_ascii_lowercase();
        same("serial", facts.serial.0.clone(), hex);
    }
    let digest = theirs.digest(MessageDigest::sha256()).expect("digest");
    same("fingerprint", facts.fingerprint.0.clone(), hex(&digest));
    same("notBefore", facts.not_before.to_string(), moment(theirs.not_before()).to_string());
    same("notAfter", facts.not_after.to_string(), moment(theirs.not_after()).to_string());
    same("names", format!("{:?}", facts.names), format!("{:?}", names(theirs)));
    same("OCSP", format!("{:?}", facts.ocsp_urls), format!("{:?}", responders(theirs)));
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn moment(time: &Asn1TimeRef) -> Time {
    let diff = Asn1Time::from_unix(0).expect("time").diff(time).expect("time");
    Time::from_secs(i64::from(diff.days) * 86_400 + i64::from(diff.secs))
}

fn names(theirs: &X509) -> Vec<String> {
    let all = theirs.subject_alt_names().into_iter().flatten();
    let name = |name: openssl::x509::GeneralName| match (name.dnsname(), name.ipaddress()) {
        (Some(dns), _) => Some(dns.to_ascii_lowercase()),
        (None, Some(bytes)) => address(bytes),
        (None, None) => None,
    };
    all.filter_map(name).filter(|name| name.bytes().all(|b| b.is_ascii_graphic())).collect()
}

fn address(bytes: &[u8]) -> Option<String> {
    let v4 = <[u8; 4]>::try_from(bytes).map(|b| IpAddr::from(b).to_string());
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(|b| IpAddr::from(b).to_string())).ok()
}

fn responders(theirs: &X509) -> Vec<String> {
    let Ok(urls) = theirs.ocsp_responders() else { return Vec::new() };
    urls.iter().map(|url| url.to_string()).collect()
}
