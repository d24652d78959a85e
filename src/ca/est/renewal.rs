//! Whether the old certificate may speak for a new one, by /simplereenroll (RFC 7030, 4.2.2).

use openssl::x509::X509Req;
use x509_parser::certificate::X509Certificate;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::FromDer;

use crate::bundle::{Bundle, chain_pem};
use crate::ca::Order;
use crate::clock::Time;
use crate::settings::Secret;

/// What was issued by `ca` and is replaced only because of its age, or because a person wants it:
/// not what is revoked or otherwise bad. Subject and names must stay the same.
pub fn may_renew(order: &Order, old: &Bundle, ca: &str, now: Time) -> bool {
    let is_ours = old.meta.ca.as_deref() == Some(ca);
    let is_good = matches!(order.reason.as_str(), "renewal" | "requested");
    let in_time = old.facts.not_before <= now && now < old.facts.not_after;
    is_ours && is_good && in_time && is_same(order, old).unwrap_or(false)
}

/// Whether a renewal that somebody is to approve may still wait for a server that fails: a sixth of
/// its life is half of what the usual `ssl_cert_autofetch_renew_before` leaves.
pub fn has_time(old: &Bundle, now: Time) -> bool {
    let life = old.facts.not_after.since(old.facts.not_before);
    old.facts.not_after.since(now) > life / 6
}

/// Chain and key of the old one.
pub fn pem(old: &Bundle) -> Result<(Vec<u8>, Secret), String> {
    let words = |e: openssl::error::ErrorStack| e.to_string();
    let key = old.key.private_key_to_pem_pkcs8().map(Secret::new);
    Ok((chain_pem(&old.chain).map_err(words)?, key.map_err(words)?))
}

/// None: one of them can't be read.
fn is_same(order: &Order, old: &Bundle) -> Option<bool> {
    let leaf = old.chain.first()?;
    let request = X509Req::from_der(&order.csr).ok()?;
    let subject = request.subject_name().try_cmp(leaf.subject_name()).ok()?;
    let der = leaf.to_der().ok()?;
    Some(subject.is_eq() && has_same_names(&order.csr, &der)?)
}

/// In any order.
fn has_same_names(request: &[u8], certificate: &[u8]) -> Option<bool> {
    let (_, request) = X509CertificationRequest::from_der(request).ok()?;
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let asked = request.requested_extensions()?.find_map(names)?;
    let had = certificate.extensions().iter().find_map(|e| names(e.parsed_extension()))?;
    let among = |these: &[GeneralName], those: &[GeneralName]| {
        these.iter().all(|name| those.contains(name))
    };
    Some(among(asked, had) && among(had, asked))
}

fn names<'a, 'b>(extension: &'a ParsedExtension<'b>) -> Option<&'a [GeneralName<'b>]> {
    match extension {
        ParsedExtension::SubjectAlternativeName(san) => Some(&san.general_names),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ca::est::tests::{bundle, order};
    use crate::fixture::{NOW, at};

    const NAMES: &[&str] = &["a.example", "b.example"];
    const MORE: &[&str] = &["a.example", "b.example", "c.example"];
    const LIFE: (i64, i64) = (-100, 100);

    #[test]
    fn what_may_be_renewed() {
        let turned: &[&str] = &["b.example", "a.example"];
        // Reason, who issued, subject, names and life of the old one; whether it may.
        for (reason, ca, cn, names, life, expected) in [
            ("renewal", Some("corp"), "a.example", NAMES, LIFE, true),
            ("requested", Some("corp"), "a.example", NAMES, LIFE, true),
            ("renewal", Some("corp"), "A.Example", NAMES, LIFE, true),
            ("renewal", Some("corp"), "a.example", turned, LIFE, true),
            ("renewal", Some("corp"), "a.example", NAMES, (-100, 1), true),
            ("renewal", Some("corp"), "a.example", NAMES, (-100, 0), false),
            ("renewal", Some("corp"), "a.example", NAMES, (1, 100), false),
            ("renewal", Some("other"), "a.example", NAMES, LIFE, false),
            ("renewal", None, "a.example", NAMES, LIFE, false),
            ("renewal", Some("corp"), "b.example", NAMES, LIFE, false),
            ("renewal", Some("corp"), "a.example", &NAMES[..1], LIFE, false),
            ("renewal", Some("corp"), "a.example", &["a.example", "c.example"], LIFE, false),
            ("renewal", Some("corp"), "a.example", MORE, LIFE, false),
            ("renewal", Some("corp"), "a.example", &[], LIFE, false),
            ("missing", Some("corp"), "a.example", NAMES, LIFE, false),
            ("keyCompromise", Some("corp"), "a.example", NAMES, LIFE, false),
            ("superseded", Some("corp"), "a.example", NAMES, LIFE, false),
            ("unspecified", Some("corp"), "a.example", NAMES, LIFE, false),
            ("expired", Some("corp"), "a.example", NAMES, LIFE, false),
            ("broken", Some("corp"), "a.example", NAMES, LIFE, false),
            ("names", Some("corp"), "a.example", NAMES, LIFE, false),
        ] {
            let old = bundle(cn, names, life, ca);
            let got = may_renew(&order(reason), &old, "corp", NOW);
            assert_eq!(got, expected, "{reason} {ca:?} {cn} {names:?} {life:?}");
        }
        let unreadable = Order { csr: vec![0x30, 0], ..order("renewal") };
        let old = bundle("a.example", NAMES, LIFE, Some("corp"));
        assert!(!may_renew(&unreadable, &old, "corp", at(0)));
    }
}
