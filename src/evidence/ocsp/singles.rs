//! What a response says about each certificate (RFC 6960, 4.2.1). Who signed it is not looked at
//! here.

use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::ocsp::{OcspBasicResponseRef, OcspCertId, OcspCertIdRef, OcspCertStatus};
use openssl::x509::X509Ref;

use super::verify::check_extensions;
use super::{Fault, Query};
use crate::clock::{SKEW, Time};
use crate::evidence::{Evidence, Reason, Source, Status};
use crate::facts::{Fingerprint, Serial};
use crate::openssl_ffi::{self, Single, SingleStatus};

/// The evidence about our certificate. Of several that are current the one stands that
/// [`Evidence::newest`] names. What is said about others is not looked at here, good or bad.
pub(super) fn find_ours(
    basic: &OcspBasicResponseRef,
    query: &Query,
    now: Time,
) -> Result<Evidence, Fault> {
    let mut fault = Fault::Garbage("no certificate in it");
    let mut found: Option<Evidence> = None;
    for single in openssl_ffi::singles(basic) {
        let about = (&query.facts.serial, &query.facts.fingerprint);
        match check_id(&single, query).and_then(|()| read(&single, about, query.url, now)) {
            Ok(evidence) => {
                found = Some(match found {
                    Some(other) => Evidence::newest(other, evidence, now),
                    None => evidence,
                });
            }
            // What is wrong with ours says more than that another one is another.
            Err(Fault::OtherSerial(_) | Fault::OtherIssuer) if is_about_ours(&fault) => {}
            Err(why) => fault = why,
        }
    }
    found.ok_or(fault)
}

/// The evidence about siblings; what is no good about one of them says nothing about it.
pub(super) fn find_siblings(
    basic: &OcspBasicResponseRef,
    query: &Query,
    now: Time,
) -> Result<Vec<Evidence>, Fault> {
    let mut found: Vec<Evidence> = Vec::new();
    if query.siblings.is_empty() {
        return Ok(found);
    }
    for single in openssl_ffi::singles(basic) {
        let Some(ours) = same_digest(single.id(), query.certificate, query.issuer)? else {
            continue;
        };
        let serial = serial(single.id());
        let sibling = query.siblings.iter().find(|(s, _)| Some(s) == serial.as_ref());
        let Some((serial, fingerprint)) = sibling else { continue };
        if !openssl_ffi::same_issuer(single.id(), &ours) || *serial == query.facts.serial {
            continue;
        }
        let Ok(evidence) = read(&single, (serial, fingerprint), query.url, now) else { continue };
        match found.iter_mut().find(|other| other.serial == *serial) {
            Some(other) => *other = Evidence::newest(other.clone(), evidence, now),
            None => found.push(evidence),
        }
    }
    Ok(found)
}

/// Whether an answer says of this certificate that it is revoked, at whatever time.
pub(super) fn is_revoked(
    basic: &OcspBasicResponseRef,
    certificate: &X509Ref,
    issuer: &X509Ref,
) -> Result<bool, Fault> {
    for single in openssl_ffi::singles(basic) {
        let id = same_digest(single.id(), certificate, issuer)?;
        let is_it = id.is_some_and(|id| openssl_ffi::same_id(single.id(), &id));
        let status = single.status().map(|s| OcspCertStatus::from_raw(s.status));
        if is_it && status == Some(OcspCertStatus::REVOKED) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn is_about_ours(fault: &Fault) -> bool {
    !matches!(fault, Fault::Garbage(_) | Fault::OtherSerial(_) | Fault::OtherIssuer)
}

/// That the CertID is ours.
fn check_id(single: &Single, query: &Query) -> Result<(), Fault> {
    let id = single.id();
    let Some(ours) = same_digest(id, query.certificate, query.issuer)? else {
        return Err(Fault::OtherIssuer);
    };
    if !openssl_ffi::same_issuer(id, &ours) {
        return Err(Fault::OtherIssuer);
    }
    if !openssl_ffi::same_id(id, &ours) {
        let serial = serial(id).map_or("negative".to_string(), |serial| serial.0);
        return Err(Fault::OtherSerial(serial));
    }
    Ok(())
}

/// The CertID of a certificate, made with the digest of `id`, of which two are accepted.
fn same_digest(
    id: &OcspCertIdRef,
    certificate: &X509Ref,
    issuer: &X509Ref,
) -> Result<Option<OcspCertId>, Fault> {
    let digest = match openssl_ffi::id_digest(id) {
        Nid::SHA1 => MessageDigest::sha1(),
        Nid::SHA256 => MessageDigest::sha256(),
        _ => return Ok(None),
    };
    Ok(Some(OcspCertId::from_cert(digest, certificate, issuer)?))
}

fn serial(id: &OcspCertIdRef) -> Option<Serial> {
    openssl_ffi::id_serial(id).map(|bytes| Serial::from_bytes(&bytes))
}

fn read(
    single: &Single,
    (serial, certificate): (&Serial, &Fingerprint),
    url: &str,
    now: Time,
) -> Result<Evidence, Fault> {
    check_extensions(single.critical_extensions(), &OF_SINGLES)?;
    let status = single.status().ok_or(Fault::MalformedTime)?;
    check_times(&status, now)?;
    Ok(Evidence {
        certificate: certificate.clone(),
        serial: serial.clone(),
        source: Source::Ocsp,
        status: match OcspCertStatus::from_raw(status.status) {
            OcspCertStatus::GOOD => Status::Good,
            OcspCertStatus::REVOKED => Status::Revoked {
                reason: Reason::from_code(status.reason),
                at: status.revoked_at.ok_or(Fault::MalformedTime)?,
            },
            OcspCertStatus::UNKNOWN => Status::Unknown,
            _ => return Err(Fault::Garbage("unknown certificate status")),
        },
        this_update: status.this_update,
        next_update: status.next_update,
        checked_at: now,
        responder: url.to_string(),
    })
}

/// Of these nothing depends: which CRL it is from, since when it is no good, and how long after its
/// end it is told of. The reason is that of the status.
const OF_SINGLES: [Nid; 4] = [
    Nid::ID_PKIX_OCSP_CRLID,
    Nid::ID_PKIX_OCSP_ARCHIVECUTOFF,
    Nid::CRL_REASON,
    Nid::INVALIDITY_DATE,
];

/// RFC 6960, 4.2.2.1.
fn check_times(status: &SingleStatus, now: Time) -> Result<(), Fault> {
    let this_update = status.this_update;
    if now + SKEW < this_update {
        return Err(Fault::NotYetValid(this_update));
    }
    match status.next_update {
        Some(next_update) if next_update < this_update => {
            Err(Fault::Times { this_update, next_update })
        }
        Some(next_update) if next_update + SKEW < now => Err(Fault::Stale(next_update)),
        _ => Ok(()),
    }
}
