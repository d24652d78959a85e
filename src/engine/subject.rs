//! The certificates of a chain that are checked, and who can be asked about each.
//!
//! The CA block of the configuration is about the leaf. An intermediate is asked about where it
//! says so itself. Anchors are not checked: they are trusted as they are.

use std::sync::Arc;
use std::time::Duration;

use openssl::x509::{X509, X509Ref};

use super::ports::Inquiry;
use crate::evidence::Source;
use crate::evidence::chain::{find_issuer, issued_by};
use crate::evidence::roots::system_roots;
use crate::facts::CertFacts;
use crate::settings::{CaSettings, EvidenceSettings};

pub struct Subject {
    pub certificate: X509,
    pub facts: CertFacts,
    pub is_ca: bool,
    /// Who issued it; None: that certificate is nowhere to be found, and no answer can be verified.
    pub issuer: Option<X509>,
    /// Asked in this order.
    pub ocsp_urls: Vec<String>,
    /// Any one of them tells all.
    pub crl_urls: Vec<String>,
    /// The CA's place in the plan.
    pub ca: usize,
}

impl Subject {
    pub fn has_source(&self) -> bool {
        !(self.ocsp_urls.is_empty() && self.crl_urls.is_empty())
    }

    /// Whether it says itself who can be asked.
    pub fn names_source(&self) -> bool {
        !(self.facts.ocsp_urls.is_empty() && self.facts.crl_urls.is_empty())
    }

    /// A question about it; `issuer`: what [`Subject::issuer`] holds.
    pub fn inquiry<'a>(
        &'a self,
        issuer: &'a X509Ref,
        url: &'a str,
        timeout: Duration,
    ) -> Inquiry<'a> {
        Inquiry {
            certificate: &self.certificate,
            facts: &self.facts,
            issuer,
            url,
            ca: self.ca,
            is_leaf: !self.is_ca,
            siblings: &[],
            timeout,
        }
    }

    pub fn has_crl(&self) -> bool {
        !self.crl_urls.is_empty()
    }

    pub fn urls(&self, source: Source) -> &[String] {
        match source {
            Source::Ocsp => &self.ocsp_urls,
            Source::Crl => &self.crl_urls,
        }
    }
}

/// The certificates that a CA's block names, read once: an administrator may name a whole bundle.
pub struct Trust {
    /// `issuer_certificate`
    anchors: Vec<X509>,
    /// `trusted_certificate`; None: the system's.
    roots: Option<Vec<X509>>,
}

impl Trust {
    /// What can't be read was refused with the configuration.
    pub fn of(ca: &CaSettings) -> Trust {
        let read = |pem: &Vec<u8>| X509::stack_from_pem(pem).unwrap_or_default();
        Trust {
            anchors: ca.issuer_certificate.as_ref().map(read).unwrap_or_default(),
            roots: ca.way.trusted_certificate.as_ref().map(read),
        }
    }

    /// Of these anchors and roots; None: the system's roots.
    pub fn in_anchors(anchors: Vec<X509>, roots: Option<Vec<X509>>) -> Trust {
        Trust { anchors, roots }
    }

    fn is_anchor(&self, certificate: &X509) -> bool {
        self.anchors.contains(certificate) || issued_by(certificate, certificate)
    }

    /// Roots are not delivered: the one that issued an intermediate is among the anchors, or among
    /// those that the CA's own TLS certificate is trusted by.
    fn issuer_of(&self, certificate: &X509Ref, above: &[X509]) -> Option<X509> {
        let roots = || self.roots.as_deref().unwrap_or_else(|| system_roots());
        find_issuer(certificate, above, &self.anchors)
            .or_else(|| find_issuer(certificate, roots(), &[]))
    }
}

/// The certificates of a chain (leaf first) that are checked. `own` and `trust` are of the CA that
/// delivered it, `ca` is its place in the plan.
pub fn subjects_of_chain(
    own: &EvidenceSettings,
    trust: &Trust,
    ca: usize,
    chain: &[X509],
    facts: &CertFacts,
) -> Vec<Arc<Subject>> {
    let Some(leaf) = chain.first() else { return Vec::new() };
    let configured = |url: &Option<String>, named: &[String]| {
        url.as_ref().map_or_else(|| named.to_vec(), |url| vec![url.clone()])
    };
    let mut all = vec![Arc::new(Subject {
        certificate: leaf.clone(),
        facts: facts.clone(),
        is_ca: false,
        issuer: find_issuer(leaf, &chain[1..], &trust.anchors),
        ocsp_urls: configured(&own.ocsp_responder, &facts.ocsp_urls),
        crl_urls: configured(&own.crl, &facts.crl_urls),
        ca,
    })];
    let above = chain.iter().enumerate().skip(1);
    for (i, certificate) in above.take_while(|(_, c)| !trust.is_anchor(c)) {
        all.extend(intermediate(certificate, &chain[i + 1..], trust, ca).map(Arc::new));
    }
    all
}

/// None: it can't be read, and so nobody knows who is to be asked.
fn intermediate(certificate: &X509, above: &[X509], trust: &Trust, ca: usize) -> Option<Subject> {
    let facts = CertFacts::from_der(&certificate.to_der().ok()?).ok()?;
    let mut subject = Subject {
        certificate: certificate.clone(),
        is_ca: true,
        issuer: None,
        ocsp_urls: facts.ocsp_urls.clone(),
        crl_urls: facts.crl_urls.clone(),
        facts,
        ca,
    };
    if subject.has_source() {
        subject.issuer = trust.issuer_of(certificate, above);
        if subject.issuer.is_none() {
            // Chains come without their root, and an answer that nobody can verify is none.
            (subject.ocsp_urls, subject.crl_urls) = (Vec::new(), Vec::new());
        }
    }
    Some(subject)
}
