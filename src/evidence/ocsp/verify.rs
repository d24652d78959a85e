//! Whether an OCSP response proves anything (RFC 6960, 3.2 and 4.2.2). Pure: `now` is a value.

use std::time::Duration;

use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::ocsp::{
    OcspBasicResponse, OcspBasicResponseRef, OcspCertId, OcspCertStatus, OcspFlag, OcspResponse,
    OcspResponseStatus,
};
use openssl::stack::Stack;
use openssl::x509::store::X509StoreBuilder;
use openssl::x509::{X509, X509AlgorithmRef, X509Ref};
use x509_parser::asn1_rs::{Any, Class, FromDer, Oid, Tag, oid};

use super::{Fault, LIMIT, OcspError, Query};
use crate::clock::{SKEW, Time};
use crate::evidence::chain::issued_by;
use crate::evidence::{Evidence, Reason, Source, Status};
use crate::facts::{Serial, Usage};
use crate::openssl_ffi::{self, NonceCheck, Single, SingleStatus};
use crate::settings::Nonce;

/// Verifies an OCSPResponse to `query` at `now`; `sent` is the nonce of the request, if any. The
/// evidence counts as asked for at `now`: who knows better says so.
pub fn verify(
    der: &[u8],
    query: &Query,
    sent: Option<&openssl_ffi::Nonce>,
    now: Time,
) -> Result<Evidence, OcspError> {
    try_verify(der, query, sent, now)
        .map_err(|fault| OcspError { url: query.url.to_string(), fault })
}

pub(super) fn try_verify(
    der: &[u8],
    query: &Query,
    sent: Option<&openssl_ffi::Nonce>,
    now: Time,
) -> Result<Evidence, Fault> {
    let basic = parse(der)?;
    check_signer(&basic, query, now)?;
    let found = find_ours(&basic, query, now)?;
    let is_for_us = check_nonce(&basic, query.nonce, sent)?;
    check_age(&found, is_for_us, now)?;
    Ok(found)
}

/// The basic response in an OCSPResponse of status successful.
fn parse(der: &[u8]) -> Result<OcspBasicResponse, Fault> {
    if der.len() > LIMIT {
        return Err(Fault::Oversized(LIMIT));
    }
    check_shape(der)?;
    let response = OcspResponse::from_der(der).map_err(|_| Fault::Garbage("malformed"))?;
    match response.status() {
        OcspResponseStatus::SUCCESSFUL => {}
        OcspResponseStatus::MALFORMED_REQUEST => return Err(Fault::MalformedRequest),
        OcspResponseStatus::INTERNAL_ERROR => {
            return Err(Fault::InternalError { retry_after: None });
        }
        OcspResponseStatus::TRY_LATER => return Err(Fault::TryLater { retry_after: None }),
        OcspResponseStatus::SIG_REQUIRED => return Err(Fault::SigRequired),
        OcspResponseStatus::UNAUTHORIZED => return Err(Fault::Unauthorized),
        _ => return Err(Fault::Garbage("unknown status")),
    }
    response.basic().map_err(|_| Fault::Garbage("malformed basic response"))
}

/// That nothing follows the response, nor the basic response inside it, and that it is a basic
/// one. OpenSSL looks for none of the first two.
fn check_shape(der: &[u8]) -> Result<(), Fault> {
    const MALFORMED: Fault = Fault::Garbage("malformed");
    const BASIC: Oid<'static> = oid!(1.3.6.1.5.5.7.48.1.1);
    let next = |bytes| Any::from_der(bytes).map_err(|_| MALFORMED);
    let (rest, response) = next(der)?;
    if !rest.is_empty() {
        return Err(Fault::Garbage("trailing bytes"));
    }
    response.tag().assert_eq(Tag::Sequence).map_err(|_| MALFORMED)?;
    let (rest, status) = next(response.data)?;
    if rest.is_empty() || status.data != [0] {
        return Ok(()); // an error status: what may follow is not looked at
    }
    let (_, tagged) = next(rest)?;
    if tagged.class() != Class::ContextSpecific || tagged.tag() != Tag(0) {
        return Err(MALFORMED);
    }
    let (_, bytes) = next(tagged.data)?;
    let (rest, kind) = Oid::from_der(bytes.data).map_err(|_| MALFORMED)?;
    if kind != BASIC {
        return Err(Fault::Garbage("not a basic response"));
    }
    let (_, octets) = next(rest)?;
    let (rest, _) = next(octets.data)?;
    if rest.is_empty() { Ok(()) } else { Err(Fault::Garbage("trailing bytes")) }
}

/// That the issuer signed, or its delegate, or the signer that the administrator trusts.
///
/// Candidates are tried one by one: ResponderID by name fits each certificate of that name, and
/// after a change of keys there are several. Certificates in the answer are candidates only.
fn check_signer(basic: &OcspBasicResponseRef, query: &Query, now: Time) -> Result<(), Fault> {
    if let Some(weak) = weak_digest(openssl_ffi::signature_algorithm(basic)) {
        return Err(Fault::WeakDigest(weak));
    }
    let mut fault = Fault::UnknownSigner;
    for trusted in [Some(query.issuer), query.extra_signer].into_iter().flatten() {
        match signed_with(basic, trusted)? {
            Signed::Yes => return Ok(()),
            Signed::Badly => fault = Fault::Signature,
            Signed::ByAnother => {}
        }
    }
    // Real answers carry one or two.
    const MOST: usize = 8;
    for delegate in openssl_ffi::certificates(basic).into_iter().flatten().take(MOST) {
        match signed_with(basic, delegate)? {
            Signed::Yes => match check_delegate(delegate, query.issuer, now) {
                Ok(()) => return Ok(()),
                Err(why) => fault = why,
            },
            // The cause of a candidate that did sign says more.
            Signed::Badly if matches!(fault, Fault::UnknownSigner) => fault = Fault::Signature,
            Signed::Badly | Signed::ByAnother => {}
        }
    }
    Err(fault)
}

enum Signed {
    Yes,
    /// ResponderID means this certificate, but its key did not make the signature.
    Badly,
    /// ResponderID means another certificate.
    ByAnother,
}

/// Whether the response is signed with the key of `candidate`, and ResponderID means it. Nothing
/// about `candidate` itself: NO_VERIFY, as OpenSSL would judge by the system's clock; NO_INTERN,
/// so that no other certificate is tried.
fn signed_with(basic: &OcspBasicResponseRef, candidate: &X509Ref) -> Result<Signed, Fault> {
    const SIGNER_CERTIFICATE_NOT_FOUND: i32 = 118; // OCSP_R_SIGNER_CERTIFICATE_NOT_FOUND
    let mut only: Stack<X509> = Stack::new()?;
    only.push(candidate.to_owned())?;
    let nobody = X509StoreBuilder::new()?.build();
    let Err(errors) = basic.verify(&only, &nobody, OcspFlag::NO_VERIFY | OcspFlag::NO_INTERN)
    else {
        return Ok(Signed::Yes);
    };
    // Which of the two it is decides the text of the error only.
    let named_another =
        errors.errors().iter().any(|e| e.reason_code() == SIGNER_CERTIFICATE_NOT_FOUND);
    Ok(if named_another { Signed::ByAnother } else { Signed::Badly })
}

/// RFC 6960, 4.2.2.2: the issuer itself has signed the delegate's certificate, which has
/// id-kp-OCSPSigning, and which is valid by our clock.
fn check_delegate(delegate: &X509Ref, issuer: &X509Ref, now: Time) -> Result<(), Fault> {
    if !issued_by(delegate, issuer) {
        return Err(Fault::Delegate("not issued by the issuer"));
    }
    if let Some(weak) = weak_digest(delegate.signature_algorithm()) {
        return Err(Fault::WeakDigest(weak));
    }
    let usage = Usage::from_der(&delegate.to_der()?)?;
    if !usage.ocsp_signing {
        return Err(Fault::Delegate("no id-kp-OCSPSigning"));
    }
    if !usage.signs {
        return Err(Fault::Delegate("its keyUsage allows no signatures"));
    }
    if now + SKEW < usage.not_before {
        return Err(Fault::DelegateNotYetValid(usage.not_before));
    }
    if usage.not_after + SKEW < now {
        return Err(Fault::DelegateExpired(usage.not_after));
    }
    Ok(())
}

/// Digests with which somebody else can make the same signature fit other contents. SHA-1 stays:
/// old private CAs have no other, and its collisions need a signer that signs what an attacker
/// chose, with no nonce or serial in front.
fn weak_digest(algorithm: &X509AlgorithmRef) -> Option<&'static str> {
    match algorithm.object().nid().signature_algorithms()?.digest {
        Nid::MD5 => Some("MD5"),
        Nid::MD4 => Some("MD4"),
        Nid::MD2 => Some("MD2"),
        _ => None,
    }
}

/// The evidence about our certificate. Others in the answer are ignored, good or bad; of several
/// about ours that are current the one stands that [`Evidence::newest`] names.
fn find_ours(basic: &OcspBasicResponseRef, query: &Query, now: Time) -> Result<Evidence, Fault> {
    let mut fault = Fault::Garbage("no certificate in it");
    let mut found: Option<Evidence> = None;
    for single in openssl_ffi::singles(basic) {
        match check_id(&single, query).and_then(|()| read(&single, query, now)) {
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

fn is_about_ours(fault: &Fault) -> bool {
    !matches!(fault, Fault::Garbage(_) | Fault::OtherSerial(_) | Fault::OtherIssuer)
}

/// That the CertID is ours: recomputed with its own digest, of which two are accepted.
fn check_id(single: &Single, query: &Query) -> Result<(), Fault> {
    let id = single.id();
    let digest = match openssl_ffi::id_digest(id) {
        Nid::SHA1 => MessageDigest::sha1(),
        Nid::SHA256 => MessageDigest::sha256(),
        _ => return Err(Fault::OtherIssuer),
    };
    let ours = OcspCertId::from_cert(digest, query.certificate, query.issuer)?;
    if !openssl_ffi::same_issuer(id, &ours) {
        return Err(Fault::OtherIssuer);
    }
    if !openssl_ffi::same_id(id, &ours) {
        return Err(Fault::OtherSerial(Serial::from_bytes(&openssl_ffi::id_serial(id)).0));
    }
    Ok(())
}

fn read(single: &Single, query: &Query, now: Time) -> Result<Evidence, Fault> {
    let status = single.status().ok_or(Fault::MalformedTime)?;
    check_times(&status, now)?;
    Ok(Evidence {
        certificate: query.facts.fingerprint.clone(),
        serial: query.facts.serial.clone(),
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
        responder: query.url.to_string(),
    })
}

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

/// Without nextUpdate newer news may come at any time, which check_interval takes care of; but
/// somebody on the way may have kept the answer, of before the revocation, for ever. What was made
/// for our request is as new as that. A revocation stays one.
fn check_age(found: &Evidence, is_for_us: bool, now: Time) -> Result<(), Fault> {
    const LONGEST: Duration = Duration::from_secs(7 * 86_400);
    let may_be_old = is_for_us || found.next_update.is_some() || found.status != Status::Good;
    let end = found.this_update + LONGEST;
    if may_be_old || now <= end + SKEW { Ok(()) } else { Err(Fault::Stale(end)) }
}

/// Whether the answer was made for this request.
fn check_nonce(
    basic: &OcspBasicResponseRef,
    nonce: Nonce,
    sent: Option<&openssl_ffi::Nonce>,
) -> Result<bool, Fault> {
    match openssl_ffi::check_nonce(sent, basic)? {
        NonceCheck::Equal => Ok(true),
        NonceCheck::Different => Err(Fault::NonceDiffers),
        _ if nonce == Nonce::Required => Err(Fault::NonceMissing),
        // A cached answer to somebody else's nonce proves as much as one without.
        NonceCheck::BothAbsent | NonceCheck::ResponseOnly | NonceCheck::RequestOnly => Ok(false),
    }
}
