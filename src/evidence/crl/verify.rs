//! What a CRL proves (RFC 5280, 6.3.3). Pure: `now` is a value, the CRL any stream.

use std::collections::HashMap;
use std::io::BufRead;
use std::time::Duration;

use openssl::pkey::{PKeyRef, Public};
use openssl::x509::{X509Name, X509NameRef, X509Ref};
use x509_parser::asn1_rs::FromDer;

use super::extensions::Extensions;
use super::filter::Filter;
use super::signature::Check;
use super::walk::{Entry, Head, Visitor, walk};
use super::{Fault, Query};
use crate::clock::{SKEW, Time};
use crate::evidence::{Evidence, Reason, Source, Status};
use crate::facts::{Usage, distinguished_name, lookup_key};

/// Bytes as in [`Serial::to_bytes`](crate::facts::Serial::to_bytes).
pub type SerialBytes = Vec<u8>;

/// What serials were looked for, and which of them are listed.
pub type Answers = HashMap<SerialBytes, Option<Listed>>;

/// A CRL that its issuer signed, and what it says about some serials.
pub struct Verified {
    pub facts: Facts,
    pub answers: Answers,
    /// All serials it lists.
    pub filter: Filter,
}

/// What a CRL says about itself.
#[derive(Clone, Debug)]
pub struct Facts {
    pub this_update: Time,
    pub next_update: Option<Time>,
    pub extensions: Extensions,
}

/// What a CRL says about a certificate.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Listed {
    pub reason: Reason,
    pub at: Time,
}

/// Reads a CRL to its end, looks for `serials`, and checks that `issuer` made it. Whether it is
/// current, and tells of the certificate in question, is for [`Facts`] to say.
pub fn verify(
    crl: impl BufRead,
    issuer: &X509Ref,
    serials: impl IntoIterator<Item = SerialBytes>,
) -> Result<Verified, Fault> {
    if !Usage::from_der(&issuer.to_der()?)?.signs_crls {
        return Err(Fault::KeyUsage);
    }
    let key = issuer.public_key()?;
    let mut reading = Reading {
        name: issuer.subject_name(),
        key: &key,
        begun: None,
        answers: serials.into_iter().map(|serial| (serial, None)).collect(),
    };
    let tail = walk(crl, &mut reading)?;
    let Some(begun) = reading.begun else { return Err(Fault::Garbage("malformed")) };
    // RFC 5280, 5.1.1.2.
    if begun.algorithm != tail.algorithm {
        return Err(Fault::Garbage("signature algorithms in and beside what is signed differ"));
    }
    begun.check.finish(&tail.signature)?;
    let facts = Facts {
        this_update: begun.this_update,
        next_update: begun.next_update,
        extensions: tail.extensions,
    };
    Ok(Verified { facts, answers: reading.answers, filter: begun.filter })
}

struct Reading<'k> {
    name: &'k X509NameRef,
    key: &'k PKeyRef<Public>,
    begun: Option<Begun<'k>>,
    answers: Answers,
}

struct Begun<'k> {
    algorithm: Vec<u8>,
    check: Check<'k>,
    this_update: Time,
    next_update: Option<Time>,
    filter: Filter,
}

impl Visitor for Reading<'_> {
    fn head(&mut self, head: &Head) -> Result<(), Fault> {
        check_name(&head.issuer, self.name)?;
        self.begun = Some(Begun {
            algorithm: head.algorithm.clone(),
            check: Check::new(&head.algorithm, self.key)?,
            this_update: head.this_update,
            next_update: head.next_update,
            filter: Filter::new(head.entries),
        });
        Ok(())
    }

    fn signed(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        self.begun.as_mut().map_or(Ok(()), |begun| begun.check.update(bytes))
    }

    fn entry(&mut self, entry: &Entry) -> Result<(), Fault> {
        let serial = lookup_key(entry.serial);
        if let Some(begun) = &mut self.begun {
            begun.filter.add(&serial);
        }
        if let Some(answer) = self.answers.get_mut(serial.as_ref()) {
            let new = Listed { reason: Reason::from_code(entry.reason), at: entry.date()? };
            // Listed twice: what is final counts, else what came first.
            let is_final = |l: &Listed| l.reason != Reason::CertificateHold;
            match answer {
                Some(old) if is_final(old) || !is_final(&new) => {}
                _ => *answer = Some(new),
            }
        }
        Ok(())
    }
}

/// RFC 5280, 6.3.3 (b)(1). Names are compared as OpenSSL does: case and spaces don't count.
fn check_name(der: &[u8], issuer: &X509NameRef) -> Result<(), Fault> {
    if der == issuer.to_der()? {
        return Ok(());
    }
    match X509Name::from_der(der).and_then(|name| name.try_cmp(issuer)) {
        Ok(order) if order.is_eq() => Ok(()),
        _ => Err(Fault::OtherIssuer(readable(der))),
    }
}

fn readable(name: &[u8]) -> String {
    match x509_parser::x509::X509Name::from_der(name) {
        Ok((_, name)) if name.iter_rdn().next().is_some() => distinguished_name(&name),
        _ => "one without a readable name".into(),
    }
}

impl Facts {
    /// As [`OCSP's`](crate::evidence::ocsp) thisUpdate and nextUpdate.
    pub fn check_times(&self, now: Time) -> Result<(), Fault> {
        let this_update = self.this_update;
        if now + SKEW < this_update {
            return Err(Fault::NotYetValid(this_update));
        }
        match self.next_update {
            Some(next_update) if next_update < this_update => {
                Err(Fault::Times { this_update, next_update })
            }
            Some(next_update) if next_update + SKEW < now => Err(Fault::Stale(next_update)),
            _ => Ok(()),
        }
    }

    /// Which of two that are current tells more: by thisUpdate, then by cRLNumber.
    pub fn is_newer_than(&self, other: &Facts) -> bool {
        let age = |facts: &Facts| {
            let number = facts.extensions.number.clone().unwrap_or_default();
            (facts.this_update, number.len(), number)
        };
        age(self) > age(other)
    }

    /// What it proves about the certificate in question, which it lists or does not.
    pub fn evidence(
        &self,
        listed: Option<Listed>,
        query: &Query,
        checked_at: Time,
        now: Time,
    ) -> Result<Evidence, Fault> {
        self.check_times(now)?;
        let urls = query.facts.crl_urls.iter().map(String::as_str).chain([query.url]);
        self.extensions.scope.check(query.is_ca, urls)?;
        let status = match listed {
            None => Status::Good,
            // RFC 5280, 5.3.1: in a delta CRL only.
            Some(Listed { reason: Reason::RemoveFromCRL, .. }) => {
                return Err(Fault::Scope("removeFromCRL in one that is complete"));
            }
            Some(Listed { reason, at }) => Status::Revoked { reason, at },
        };
        self.check_age(&status, now)?;
        Ok(Evidence {
            certificate: query.facts.fingerprint.clone(),
            serial: query.facts.serial.clone(),
            source: Source::Crl,
            status,
            this_update: self.this_update,
            next_update: self.next_update,
            checked_at,
            responder: query.url.to_string(),
        })
    }

    /// RFC 5280, 5.1.2.5 wants nextUpdate. Where it is missing somebody on the way may have kept
    /// the CRL, of before the revocation, for ever. A revocation stays one.
    fn check_age(&self, status: &Status, now: Time) -> Result<(), Fault> {
        const LONGEST: Duration = Duration::from_secs(7 * 86_400);
        let end = self.this_update + LONGEST;
        let may_be_old = self.next_update.is_some() || *status != Status::Good;
        if may_be_old || now <= end + SKEW { Ok(()) } else { Err(Fault::Stale(end)) }
    }
}
