//! What this process has read in CRLs, so that a look-up costs a walk only where a file is new.
//!
//! Bounded twice: so many bytes of filters, so many serials a CRL. What does not fit is read
//! again.

use crate::facts::Fingerprint;
use crate::keystore::CrlFile;

use super::filter::Filter;
use super::verify::{Answers, Facts, Listed, SerialBytes, Verified};

/// CRLs by URL, the one that was used last at the end.
#[derive(Default)]
pub struct Memory {
    known: Vec<Known>,
}

/// One CRL, as it was read in one file.
struct Known {
    url: String,
    file: CrlFile,
    issuer: Fingerprint,
    facts: Facts,
    filter: Filter,
    answers: Answers,
}

/// What a CRL says about itself and about one certificate.
pub type Answer = (Facts, Option<Listed>);

/// Of all filters together.
const BYTES: usize = 8 << 20;
const CRLS: usize = 256;
/// That are remembered of one CRL.
const SERIALS: usize = 4096;

impl Memory {
    /// What `file` says, if that is known without reading it.
    pub fn recall(
        &mut self,
        url: &str,
        file: CrlFile,
        issuer: &Fingerprint,
        serial: &[u8],
    ) -> Option<Answer> {
        let at = self.known.iter().position(|k| k.url == url)?;
        let known = self.known.remove(at);
        self.known.push(known);
        let known = self.known.last_mut()?;
        if known.file != file || known.issuer != *issuer {
            return None;
        }
        if let Some(listed) = known.answers.get(serial) {
            return Some((known.facts.clone(), *listed));
        }
        if known.filter.may_contain(serial) {
            return None;
        }
        // To be looked for when the next version is read.
        if known.answers.len() < SERIALS {
            known.answers.insert(serial.to_vec(), None);
        }
        Some((known.facts.clone(), None))
    }

    /// The serials that this CRL was asked about: one walk answers for all of them.
    pub fn serials(&self, url: &str) -> Vec<SerialBytes> {
        let known = self.known.iter().find(|k| k.url == url);
        known.map(|k| k.answers.keys().cloned().collect()).unwrap_or_default()
    }

    pub fn learn(&mut self, url: &str, file: CrlFile, issuer: &Fingerprint, read: Verified) {
        self.known.retain(|k| k.url != url);
        let Verified { facts, mut answers, filter } = read;
        if answers.len() > SERIALS {
            answers.clear(); // new ones come, and old ones are of certificates long replaced
        }
        let (url, issuer) = (url.to_owned(), issuer.clone());
        self.known.push(Known { url, file, issuer, facts, filter, answers });
        while self.known.len() > CRLS || self.size() > BYTES {
            self.known.remove(0);
        }
    }

    fn size(&self) -> usize {
        self.known.iter().map(|k| k.filter.size()).sum()
    }
}
