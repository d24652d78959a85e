//! The CRLs of x509/custom. Each shows one feature or one mistake.
//!
//! The keys that signed them are not in the package, but for four; some signatures are wrong on
//! purpose, as what is signed was changed. So the others are read twice: as they are, under the
//! key of a stand-in, which must prove nothing; and signed again by the stand-in, not a byte of the
//! TBSCertList changed, which shows what is thought of their contents.

use std::collections::BTreeSet;

use cert_autofetch::facts::{CertFacts, Fingerprint, Serial};
use openssl::pkey::{PKey, Public};

use crate::crl::Question;
use crate::folder::{Folder, has_pem, pem, pem_or_der};
use crate::outcome::{Tally, time};
use crate::parts::Parts;
use crate::stand_in;

pub struct Row {
    file: &'static str,
    key: Key,
    /// Of the certificate in question, and whether that is a CA's.
    serial: &'static str,
    is_ca: bool,
    at: &'static str,
    expected: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Key {
    /// Of the certificate in this file.
    Of(&'static str),
    /// Of the stand-in: the CRL is signed again.
    StandIn,
    /// Of the stand-in, but nobody can sign again with that algorithm.
    NoSigner,
}

/// What the certificates in question name.
const URL: &str = "http://myhost.com/myca.crl";

#[rustfmt::skip]
pub const ROWS: &[Row] = {
    use Key::*;
    const VALID: Key = Of("x509/custom/valid_signature_cert.pem");
    const INVALID: Key = Of("x509/custom/invalid_signature_cert.pem");
    const SIA: Key = Of("x509/custom/sia.pem");
    &[
        // Whole and right.
        user("valid_signature_crl.pem", VALID, "01", "2017-08-07T00:00:00Z", "good"),
        user("valid_signature_crl.pem", VALID, "01", "2017-09-05T01:53:26Z", "Stale"),
        user("valid_signature_crl.pem", VALID, "01", "2017-08-06T01:43:24Z", "NotYetValid"),
        user("crl_empty_no_sequence.der", SIA, "01", "2018-01-01T00:00:00Z", "good"),
        user("crl_unrecognized_extension.der", SIA, "01", "2018-01-01T00:00:00Z", "good"),
        user("crl_empty.pem", StandIn, "01", "2015-12-21T00:00:00Z", "good"),
        user("crl_ian_aia_aki.pem", StandIn, "01", "2015-12-23T00:00:00Z", "good"),
        user("crl_almost_10k.pem", StandIn, "01", "2022-09-08T00:00:00Z", "revoked unspecified"),
        user("crl_almost_10k.pem", StandIn, "270f", "2022-09-08T00:00:00Z", "revoked unspecified"),
        user("crl_almost_10k.pem", StandIn, "2710", "2022-09-08T00:00:00Z", "good"),
        user("crl_almost_10k.pem", StandIn, "0101", "2022-09-10T00:00:00Z", "Stale"),
        // A code that nobody assigned: revoked all the same.
        user("crl_unsupported_reason.pem", StandIn, "00", "2015-06-01T00:00:00Z",
            "revoked unspecified"),
        // Our issuer has that name, whatever one thinks of its letters.
        user("crl_issuer_invalid_printable_string.der", StandIn,
            "1c80022ef81f2405ee96a612dcb61fe0ac701e5e", "2025-06-01T00:00:00Z",
            "revoked certificateHold"),

        // For whom it is.
        user("crl_idp_fullname_only.pem", StandIn, "01", "2018-11-01T00:00:00Z", "good"),
        user("crl_idp_fullname_only_user.pem", StandIn, "01", "2018-11-01T00:00:00Z", "good"),
        ca("crl_idp_fullname_only_user.pem", StandIn, "01", "2018-11-01T00:00:00Z", "Scope"),
        user("crl_idp_fullname_only_aa.pem", StandIn, "01", "2018-11-01T00:00:00Z", "Scope"),
        user("crl_idp_fullname_indirect_crl.pem", StandIn, "01", "2018-11-01T00:00:00Z", "Scope"),
        user("crl_idp_only_ca.pem", StandIn, "01", "2018-11-01T00:00:00Z", "Scope"),
        ca("crl_idp_only_ca.pem", StandIn, "01", "2018-11-01T00:00:00Z", "Scope"), // relative name
        user("crl_idp_reasons_only.pem", StandIn, "01", "2018-11-01T00:00:00Z", "Scope"),
        user("crl_idp_relative_user_all_reasons.pem", StandIn, "01", "2018-11-01T00:00:00Z",
            "Scope"),
        user("crl_idp_relativename_only.pem", StandIn, "01", "2018-11-01T00:00:00Z", "Scope"),
        user("crl_delta_crl_indicator.pem", StandIn, "01", "2018-11-01T00:00:00Z", "Scope"),
        // Its entries name their issuer, as only those of indirect CRLs do.
        user("crl_all_reasons.pem", StandIn, "00", "2015-06-01T00:00:00Z", "Scope"),
        user("crl_inval_cert_issuer_entry_ext.pem", StandIn, "00", "2015-06-01T00:00:00Z",
            "Scope"),

        // Mistakes.
        user("invalid_signature_crl.pem", INVALID, "01", "2017-08-07T00:00:00Z", "Signature"),
        user("crl_inner_outer_mismatch.der", StandIn, "01", "2017-08-07T00:00:00Z", "Garbage"),
        user("crl_bad_version.pem", StandIn, "01", "2017-08-07T00:00:00Z", "Version"),
        user("crl_dup_entry_ext.pem", StandIn, "01", "2015-06-01T00:00:00Z", "Repeated"),
        user("crl_md2_unknown_crit_entry_ext.pem", NoSigner, "01", "2015-06-01T00:00:00Z",
            "WeakDigest"),
        user("crl_invalid_time.der", StandIn, "01", "2018-11-01T00:00:00Z", "MalformedTime"),
        user("crl_no_next_update.pem", StandIn, "01", "2015-12-21T00:00:00Z", "good"),
        // Version 1 has no extensions of entries.
        user("crl_inval_date_fractional_seconds.der", StandIn, "01", "2024-01-02T00:00:00Z",
            "Garbage"),
    ]
};

const fn user(
    file: &'static str,
    key: Key,
    serial: &'static str,
    at: &'static str,
    expected: &'static str,
) -> Row {
    Row { file, key, serial, is_ca: false, at, expected }
}

const fn ca(
    file: &'static str,
    key: Key,
    serial: &'static str,
    at: &'static str,
    expected: &'static str,
) -> Row {
    Row { is_ca: true, ..user(file, key, serial, at, expected) }
}

#[test]
#[ignore = "needs the vectors: scripts/test.sh"]
fn each_crl_of_x509_custom() {
    let folder = Folder::open();
    let with_row: BTreeSet<String> = ROWS.iter().map(|row| row.file.to_string()).collect();
    assert_eq!(crls(&folder), with_row);
    assert_eq!(with_row.len(), 27);
    let mut tally = Tally::default();
    for row in ROWS {
        let name = format!("{} {} at {}", row.file, row.serial, row.at);
        tally.row(&name, row.expected, &outcome(&folder, row));
    }
    tally.finish(ROWS.len());
}

/// All in x509 but those of PKITS; there are none elsewhere.
fn crls(folder: &Folder) -> BTreeSet<String> {
    let is_crl = |name: &String| {
        let bytes = folder.read(&format!("x509/{name}"));
        !pem(&bytes, "X509 CRL").is_empty() || (!has_pem(&bytes) && name.contains("/crl_"))
    };
    let all = folder.files("x509").into_iter().filter(|name| !name.starts_with("PKITS_data/"));
    let found = all.filter(is_crl);
    found.map(|name| name.strip_prefix("custom/").unwrap_or(&name).to_string()).collect()
}

fn outcome(folder: &Folder, row: &Row) -> String {
    let file = folder.read(&format!("x509/custom/{}", row.file));
    let der = pem_or_der(&file, "X509 CRL");
    let parts = Parts::read(&der);
    let issuer = match row.key {
        Key::Of(file) => stand_in::certificate(&parts.issuer, &public_key(folder, file)),
        Key::StandIn | Key::NoSigner => stand_in::certificate(&parts.issuer, &stand_in::KEY),
    };
    let facts = facts(row.serial);
    let question =
        Question { facts: &facts, is_ca: row.is_ca, issuer: &issuer, url: URL, at: time(row.at) };
    let found = question.ask(&file);
    assert_eq!(found, question.ask(&der), "{}: PEM and DER", row.file);
    if row.key != Key::StandIn {
        return found;
    }
    // Nothing is proven. A mistake that is met before the end is told instead.
    assert!(found == "Signature" || found == row.expected, "{} as it is: {found}", row.file);
    assert!(!found.starts_with("good") && !found.starts_with("revoked"), "{}: {found}", row.file);
    question.ask(&parts.signed_again())
}

fn public_key(folder: &Folder, file: &str) -> PKey<Public> {
    folder.certificate(file).public_key().expect("key")
}

fn facts(serial: &str) -> CertFacts {
    CertFacts {
        fingerprint: Fingerprint("f".into()),
        serial: Serial(serial.into()),
        not_before: time("2000-01-01T00:00:00Z"),
        not_after: time("2040-01-01T00:00:00Z"),
        names: Vec::new(),
        issuer: String::new(),
        ocsp_urls: Vec::new(),
        crl_urls: vec![URL.into()],
        must_staple: false,
    }
}
