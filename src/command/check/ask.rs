//! The questions of `check`: each responder and CRL of a certificate, until one of each kind has
//! told something.

use std::sync::Arc;
use std::time::Duration;

use openssl::x509::X509Ref;

use crate::bundle::Bundle;
use crate::command::World;
use crate::command::entry::Entry;
use crate::engine::Subject;
use crate::evidence::{Evidence, Source, Status, crl, ocsp};
use crate::report::printable;
use crate::settings::Nonce;

pub struct Asking<'a> {
    pub world: &'a World<'a>,
    pub bundle: &'a Bundle,
    /// For one question.
    pub timeout: Duration,
}

/// A certificate and what was said about it.
pub struct Asked {
    pub subject: Arc<Subject>,
    pub answers: Vec<Answered>,
}

pub struct Answered {
    pub source: Source,
    pub url: String,
    /// Or why it does not count.
    pub outcome: Result<Evidence, String>,
    /// The OCSP response, for the staple.
    der: Option<Vec<u8>>,
    /// Whether the module would take it too, whatever its `ocsp_nonce` says.
    has_nonce: bool,
}

impl Asking<'_> {
    /// Both kinds of source: revoked in either is revoked.
    pub fn ask(&self, subject: &Arc<Subject>) -> Asked {
        let mut answers = Vec::new();
        if let Some(issuer) = &subject.issuer {
            for source in [Source::Ocsp, Source::Crl] {
                self.ask_each(subject, issuer, source, &mut answers);
            }
        }
        Asked { subject: Arc::clone(subject), answers }
    }

    fn ask_each(
        &self,
        subject: &Subject,
        issuer: &X509Ref,
        source: Source,
        answers: &mut Vec<Answered>,
    ) {
        for url in subject.urls(source) {
            let answered = match source {
                Source::Ocsp => self.ask_responder(subject, issuer, url),
                Source::Crl => self.look_into_crl(subject, issuer, url),
            };
            let is_told = tells(&answered);
            answers.push(answered);
            if is_told {
                return;
            }
        }
    }

    fn ask_responder(&self, subject: &Subject, issuer: &X509Ref, url: &str) -> Answered {
        let query = ocsp::Query {
            certificate: &subject.certificate,
            facts: &subject.facts,
            issuer,
            url,
            nonce: Nonce::On,
            extra_signer: None,
            request_signer: None,
            siblings: &[],
            timeout: self.timeout,
        };
        let (source, url) = (Source::Ocsp, printable(url));
        match ocsp::ask(self.world.http, self.world.clock, &query) {
            Ok(ocsp::Answer { evidence, der, has_nonce, .. }) => {
                Answered { source, url, outcome: Ok(evidence), der: Some(der), has_nonce }
            }
            Err(error) => {
                let outcome = Err(error.to_string());
                Answered { source, url, outcome, der: None, has_nonce: false }
            }
        }
    }

    fn look_into_crl(&self, subject: &Subject, issuer: &X509Ref, url: &str) -> Answered {
        let crls = crl::Crls::new(self.world.keystore.clone());
        let asked_since = self.world.clock.now();
        let query = crl::Query {
            facts: &subject.facts,
            is_ca: subject.is_ca,
            issuer,
            url,
            asked_since,
            timeout: self.timeout,
        };
        let until = asked_since + self.timeout;
        let outcome = loop {
            match crls.look_up(self.world.http, self.world.clock, &query) {
                Ok(crl::Found::Answer { evidence, .. }) => break Ok(evidence),
                Ok(crl::Found::Busy) if self.world.clock.now() < until => crate::command::pause(),
                Ok(crl::Found::Busy) => {
                    break Err(format!("crl: somebody else is still fetching it, source={url}"));
                }
                Err(error) => break Err(error.to_string()),
            }
        };
        Answered { source: Source::Crl, url: printable(url), outcome, der: None, has_nonce: false }
    }

    /// Lets everybody know what was found out. False if there was nothing to be stored, or any of
    /// it could not be.
    pub fn store(&self, entry: &mut Entry, asked: &[Asked]) -> bool {
        let (now, keystore) = (self.world.clock.now(), &self.world.keystore);
        let (mut any, mut all) = (false, true);
        for asked in asked {
            for answer in asked.answers.iter().filter(|answer| answer.is_for_all()) {
                let Ok(evidence) = &answer.outcome else { continue };
                any = true;
                let der = answer.der.as_deref().filter(|_| self.is_staple(entry, &asked.subject));
                match keystore.merge_evidence(&entry.name, evidence.clone(), der, now) {
                    Ok(merged) => entry.evidence = merged,
                    Err(error) => {
                        entry.evidence.push(evidence.clone());
                        entry.notes.push(format!("\"{}\": not stored: {error}", entry.name));
                        all = false;
                    }
                }
            }
        }
        any && all
    }

    /// An answer about what was replaced meanwhile must not take the place of its successor's.
    fn is_staple(&self, entry: &Entry, subject: &Subject) -> bool {
        let current = || self.world.keystore.load(&entry.name);
        let is_current = |b: &Bundle| b.facts.fingerprint == self.bundle.facts.fingerprint;
        !subject.is_ca && matches!(current(), Ok(Ok(current)) if is_current(&current))
    }
}

impl Answered {
    /// Whether a worker may rely on it. A revocation stands however it is learnt of. A good answer
    /// without our nonce may be an old one that somebody kept, which `ocsp_nonce required`, unknown
    /// here, refuses.
    fn is_for_all(&self) -> bool {
        let is_revoked = |evidence: &Evidence| evidence.is_revoked();
        self.source == Source::Crl || self.has_nonce || self.outcome.as_ref().is_ok_and(is_revoked)
    }
}

impl Asked {
    /// What was said, the worst first.
    pub fn status(&self) -> Option<&Status> {
        let said = || self.answers.iter().filter_map(|a| a.outcome.as_ref().ok());
        let revoked = said().find(|e| e.is_revoked());
        let good = || said().find(|e| e.status == Status::Good);
        revoked.or_else(good).or_else(|| said().next()).map(|e| &e.status)
    }

    /// Whether one source found it good, or there is none: then it is served as it is. Where its
    /// issuer is not known nobody could be asked, which is no proof.
    pub fn is_proven(&self) -> bool {
        let names_nobody = !self.subject.has_source() && !self.lacks_issuer();
        matches!(self.status(), Some(Status::Good)) || names_nobody
    }

    /// Somebody would have to be asked, and nobody's signature can be verified.
    fn lacks_issuer(&self) -> bool {
        self.subject.issuer.is_none() && self.subject.names_source()
    }

    pub fn why_unproven(&self) -> String {
        let serial = &self.subject.facts.serial;
        if self.answers.is_empty() {
            return format!("certificate serial={serial}: {}", self.why_silent());
        }
        let cause = |answer: &Answered| match &answer.outcome {
            Err(cause) => cause.clone(),
            Ok(_) => format!("\"{}\" does not know certificate serial={serial}", answer.url),
        };
        self.answers.iter().map(cause).collect::<Vec<_>>().join("; ")
    }

    pub fn why_silent(&self) -> &'static str {
        match self.lacks_issuer() {
            true => NO_ISSUER,
            false => "it names no OCSP responder and no CRL",
        }
    }
}

pub const NO_ISSUER: &str = "the certificate of its issuer is not in the chain: \
                             --issuer-certificate names a file with it";

fn tells(answered: &Answered) -> bool {
    matches!(&answered.outcome, Ok(evidence) if evidence.status != Status::Unknown)
}
