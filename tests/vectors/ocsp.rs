//! x509/ocsp: 17 responses, most of them of public CAs, and 11 requests.
//!
//! The package has the issuers of five. Of most others the signature is checked, with the
//! certificate in the response trusted as `ocsp_certificate` is; what comes next is that they are
//! about a certificate of an issuer that we don't have.

use std::collections::BTreeSet;
use std::time::Duration;

use cert_autofetch::evidence::ocsp::{Query, verify};
use cert_autofetch::facts::CertFacts;
use cert_autofetch::openssl_ffi;
use cert_autofetch::settings::Nonce;
use openssl::ocsp::OcspResponse;
use openssl::x509::{X509, X509Name};

use crate::folder::Folder;
use crate::outcome::{Tally, time, verdict};
use crate::stand_in;

pub struct Row {
    file: &'static str,
    world: World,
    signer: Signer,
    at: &'static str,
    expected: &'static str,
}

/// The certificate in question and its issuer.
#[derive(Clone, Copy)]
enum World {
    /// cryptography.io's of Let's Encrypt Authority X3.
    LetsEncrypt,
    /// Another one of the same issuer.
    LetsEncryptOther,
    /// cryptography.io's of RapidSSL.
    RapidSsl,
}

/// Whom the administrator trusts beside the issuer.
#[derive(Clone, Copy)]
enum Signer {
    Nobody,
    /// The certificate that the response brings.
    Embedded,
    /// A stand-in with the key that signed.
    Key,
    /// The same key under the name in the ResponderID.
    NamedKey,
}

#[rustfmt::skip]
pub const ROWS: &[Row] = {
    use {Signer::*, World::*};
    const OTHER_ISSUER: &str = "response is about a certificate of another issuer";
    const UNKNOWN: &str = "signed by somebody whose certificate is not known";
    const DELEGATE: &str =
        "signer is not the issuer and was not appointed by it: not issued by the issuer";
    const TYPE: &str = "not an OCSP response: not a basic response";
    const SHAPE: &str = "not an OCSP response: malformed";
    const STATUS: &str = "not an OCSP response: unknown status";
    const OTHER: &str =
        "response is about another certificate: serial=031c787a7dc90295007bc5f2220b3b527af0";
    &[
        // The whole check: signer, CertID, status and times.
        row("resp-sha256.der", LetsEncrypt, Nobody, "2018-09-01T00:00:00Z", "good"),
        row("resp-sha256.der", LetsEncrypt, Nobody, "2018-09-06T11:05:00Z", "good"),
        row("resp-sha256.der", LetsEncrypt, Nobody, "2018-09-06T11:05:01Z",
            "response is stale since 2018-09-06T11:00:00Z"),
        row("resp-sha256.der", LetsEncrypt, Nobody, "2018-08-30T10:55:00Z", "good"),
        row("resp-sha256.der", LetsEncrypt, Nobody, "2018-08-30T10:54:59Z",
            "response is not valid before 2018-08-30T11:00:00Z"),
        row("resp-sha256.der", LetsEncryptOther, Nobody, "2018-09-01T00:00:00Z", OTHER),
        row("resp-sha256.der", RapidSsl, Nobody, "2018-09-01T00:00:00Z", UNKNOWN),
        row("resp-revoked-no-next-update.der", RapidSsl, NamedKey, "2018-10-24T00:00:00Z",
            "revoked unspecified"),
        // A revocation without nextUpdate is one for ever.
        row("resp-revoked-no-next-update.der", RapidSsl, NamedKey, "2033-01-01T00:00:00Z",
            "revoked unspecified"),
        row("resp-revoked-no-next-update.der", RapidSsl, Key, "2018-10-24T00:00:00Z", UNKNOWN),
        row("resp-revoked-no-next-update.der", RapidSsl, Nobody, "2018-10-24T00:00:00Z", UNKNOWN),
        row("resp-single-extension-reason.der", RapidSsl, Key, "2019-11-12T00:00:00Z", "good"),
        row("resp-single-extension-reason.der", RapidSsl, Nobody, "2019-11-12T00:00:00Z", UNKNOWN),
        row("resp-invalid-signature-oid.der", LetsEncrypt, Nobody, "2018-09-01T00:00:00Z",
            "signed with MD2, which is too weak"),
        // What was changed was signed.
        row("resp-invalid-version.der", LetsEncrypt, Nobody, "2018-09-01T00:00:00Z",
            "bad signature"),

        // Up to the signature: the issuer is not in the package.
        row("resp-delegate-unknown-cert.der", RapidSsl, Embedded, "2018-09-01T14:00:00Z",
            OTHER_ISSUER),
        row("resp-delegate-unknown-cert.der", RapidSsl, Nobody, "2018-09-01T14:00:00Z", DELEGATE),
        row("resp-revoked-reason.der", RapidSsl, Embedded, "2018-09-02T00:00:00Z", OTHER_ISSUER),
        row("resp-revoked-reason.der", RapidSsl, Nobody, "2018-09-02T00:00:00Z", DELEGATE),
        row("resp-sct-extension.der", RapidSsl, Embedded, "2019-11-17T00:00:00Z", OTHER_ISSUER),
        row("resp-sct-extension.der", RapidSsl, Nobody, "2019-11-17T00:00:00Z", DELEGATE),
        row("ocsp-army.deps.mil-resp.der", RapidSsl, Embedded, "2020-02-23T00:00:00Z",
            OTHER_ISSUER),
        row("ocsp-army.deps.mil-resp.der", RapidSsl, Nobody, "2020-02-23T00:00:00Z", DELEGATE),
        // resp-revoked-reason.der with an extension put in, and not signed again.
        row("resp-unknown-extension.der", RapidSsl, Embedded, "2018-09-02T00:00:00Z",
            "bad signature"),

        // Up to the ResponderID: no certificate of the signer is in the package.
        row("resp-revoked.der", RapidSsl, Nobody, "2018-09-01T00:00:00Z", UNKNOWN),
        row("resp-responder-key-hash.der", RapidSsl, Nobody, "2018-09-02T00:00:00Z", UNKNOWN),
        row("resp-unknown-hash-alg.der", RapidSsl, Nobody, "2018-09-02T00:00:00Z", UNKNOWN),

        // Without a basic response.
        row("resp-unauthorized.der", RapidSsl, Nobody, "2018-09-01T00:00:00Z",
            "responder says unauthorized: it does not know the certificate"),
        row("resp-unknown-response-status.der", RapidSsl, Nobody, "2018-09-01T00:00:00Z", STATUS),
        row("resp-response-type-unknown-oid.der", RapidSsl, Nobody, "2018-09-01T00:00:00Z", TYPE),
        row("resp-successful-no-response-bytes.der", RapidSsl, Nobody, "2018-09-01T00:00:00Z",
            "not an OCSP response: malformed basic response"),

        // Requests are for responders; as answers they are garbage.
        row("ocsp-army.inapplicable-req.der", RapidSsl, Nobody, "2020-02-23T00:00:00Z", SHAPE),
        row("ocsp-army.revoked-req.der", RapidSsl, Nobody, "2020-02-23T00:00:00Z", SHAPE),
        row("ocsp-army.valid-req.der", RapidSsl, Nobody, "2020-02-23T00:00:00Z", SHAPE),
        row("req-acceptable-responses.der", RapidSsl, Nobody, "2018-09-01T00:00:00Z", SHAPE),
        row("req-duplicate-ext.der", RapidSsl, Nobody, "2018-09-01T00:00:00Z", SHAPE),
        row("req-ext-nonce.der", RapidSsl, Nobody, "2018-09-01T00:00:00Z", SHAPE),
        row("req-ext-unknown-oid.der", RapidSsl, Nobody, "2018-09-01T00:00:00Z", SHAPE),
        row("req-invalid-hash-alg.der", RapidSsl, Nobody, "2018-09-01T00:00:00Z", SHAPE),
        row("req-invalid-version.der", RapidSsl, Nobody, "2018-09-01T00:00:00Z", SHAPE),
        row("req-multi-sha1.der", RapidSsl, Nobody, "2018-09-01T00:00:00Z", SHAPE),
        row("req-sha1.der", RapidSsl, Nobody, "2018-09-01T00:00:00Z", SHAPE),
    ]
};

const fn row(
    file: &'static str,
    world: World,
    signer: Signer,
    at: &'static str,
    expected: &'static str,
) -> Row {
    Row { file, world, signer, at, expected }
}

#[test]
#[ignore = "needs the vectors: scripts/test.sh"]
fn each_file_of_x509_ocsp() {
    let folder = Folder::open();
    let with_row: BTreeSet<String> = ROWS.iter().map(|row| row.file.to_string()).collect();
    assert_eq!(folder.files("x509/ocsp"), with_row);
    assert_eq!(with_row.len(), 28);
    let mut tally = Tally::default();
    for row in ROWS {
        let name = format!("{} at {}", row.file, row.at);
        tally.row(&name, row.expected, &outcome(&folder, row));
    }
    tally.finish(ROWS.len());
}

fn outcome(folder: &Folder, row: &Row) -> String {
    let der = folder.read(&format!("x509/ocsp/{}", row.file));
    let (certificate, issuer) = row.world.certificates(folder);
    let facts = CertFacts::from_der(&certificate.to_der().expect("DER")).expect("certificate");
    let signer = row.signer.certificate(folder, &der);
    let query = Query {
        certificate: &certificate,
        facts: &facts,
        issuer: &issuer,
        url: "http://ocsp.example",
        nonce: Nonce::On,
        extra_signer: signer.as_deref(),
        request_signer: None,
        siblings: &[],
        timeout: Duration::from_secs(1),
    };
    match verify(&der, &query, None, time(row.at)) {
        Ok(evidence) => {
            assert_eq!(evidence.certificate, facts.fingerprint);
            verdict(&evidence)
        }
        Err(error) => error.fault.to_string(),
    }
}

impl World {
    fn certificates(self, folder: &Folder) -> (X509, X509) {
        let (certificate, issuer) = match self {
            World::LetsEncrypt => ("cryptography.io.precert.pem", "letsencryptx3.pem"),
            World::LetsEncryptOther => ("cryptography-scts.pem", "letsencryptx3.pem"),
            World::RapidSsl => ("cryptography.io.pem", "rapidssl_sha256_ca_g3.pem"),
        };
        let read = |name| folder.certificate(&format!("x509/{name}"));
        (read(certificate), read(issuer))
    }
}

impl Signer {
    fn certificate(self, folder: &Folder, response: &[u8]) -> Option<X509> {
        let with_key = || folder.certificate("x509/custom/ms-certificate-template.pem");
        match self {
            Signer::Nobody => None,
            Signer::Embedded => Some(embedded(response)),
            Signer::Key => Some(stand_in(with_key(), "Somebody")),
            Signer::NamedKey => Some(stand_in(with_key(), "Cryptography CA")),
        }
    }
}

fn embedded(response: &[u8]) -> X509 {
    let basic = OcspResponse::from_der(response).and_then(|r| r.basic()).expect("basic response");
    let certificates = openssl_ffi::certificates(&basic).expect("certificates");
    certificates.iter().next().expect("one").to_owned()
}

/// Who signed some of the responses has no certificate in the package, but somebody with the same
/// key has.
fn stand_in(with_key: X509, cn: &str) -> X509 {
    let mut name = X509Name::builder().expect("name");
    name.append_entry_by_text("C", "US").expect("name");
    name.append_entry_by_text("CN", cn).expect("name");
    stand_in::certificate(&name.build(), &with_key.public_key().expect("key"))
}
