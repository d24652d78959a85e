//! One question to one CRL of the package.

use std::time::Duration;

use cert_autofetch::clock::Time;
use cert_autofetch::evidence::crl::{Query, read};
use cert_autofetch::facts::CertFacts;
use openssl::x509::X509Ref;

use crate::outcome::verdict;

pub struct Question<'a> {
    pub facts: &'a CertFacts,
    pub is_ca: bool,
    pub issuer: &'a X509Ref,
    pub url: &'a str,
    pub at: Time,
}

impl Question<'_> {
    /// The verdict, or the name of the fault.
    pub fn ask(&self, crl: &[u8]) -> String {
        let query = Query {
            facts: self.facts,
            is_ca: self.is_ca,
            issuer: self.issuer,
            url: self.url,
            asked_since: self.at,
            timeout: Duration::from_secs(1),
        };
        match read(crl, &query, self.at) {
            Ok(evidence) => {
                assert_eq!(evidence.certificate, self.facts.fingerprint);
                verdict(&evidence)
            }
            Err(error) => name(&format!("{:?}", error.fault)),
        }
    }
}

/// The variant's name, without its values.
fn name(debug: &str) -> String {
    debug.chars().take_while(char::is_ascii_alphanumeric).collect()
}
