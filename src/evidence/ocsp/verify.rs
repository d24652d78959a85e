//! Whether an OCSP response proves anything (RFC 6960, 3.2 and 4.2.2). Pure: `now` is a value.

use std::time::Duration;

use openssl::asn1::Asn1ObjectRef;
use openssl::nid::Nid;
use openssl::ocsp::{
    OcspBasicResponse, OcspBasicResponseRef, OcspFlag, OcspResponse, OcspResponseStatus,
};
use openssl::stack::Stack;
use openssl::x509::store::X509StoreBuilder;
use openssl::x509::{X509, X509AlgorithmRef, X509Ref};
use x509_parser::asn1_rs::{Any, Class, FromDer, Oid, Tag, oid};

use super::{Fault, LIMIT, OcspError, Query, singles};
use crate::clock::{SKEW, Time};
use crate::evidence::chain::issued_by;
use crate::evidence::{Evidence, Status, weak_digest};
use crate::facts::Usage;
use crate::openssl_ffi::{self, NonceCheck};
use crate::settings::Nonce;

/// Verifies an OCSPResponse to `query` at `now`; `sent` is the nonce of the request, if any. The
/// evidence counts as asked for at `now`: who knows better says so.
///
/// Also for a stored answer, before it is stapled: without `sent` and with `Nonce::Off` a nonce in
/// it is nobody's business.
pub fn verify(
    der: &[u8],
    query: &Query,
    sent: Option<&openssl_ffi::Nonce>,
    now: Time,
) -> Result<Evidence, OcspError> {
    try_verify(der, query, sent, now)
        .map(|verified| verified.evidence)
        .map_err(|fault| OcspError { url: query.url.to_string(), fault })
}

/// What an answer proves.
#[derive(Debug)]
pub(super) struct Verified {
    pub evidence: Evidence,
    /// About siblings.
    pub others: Vec<Evidence>,
    /// Made for this request: it carries its nonce.
    pub has_nonce: bool,
}

pub(super) fn try_verify(
    der: &[u8],
    query: &Query,
    sent: Option<&openssl_ffi::Nonce>,
    now: Time,
) -> Result<Verified, Fault> {
    let basic = parse(der)?;
    check_signer(&basic, query, now)?;
    check_extensions(openssl_ffi::critical_extensions(&basic), &OF_RESPONSES)?;
    let evidence = singles::find_ours(&basic, query, now)?;
    let has_nonce = check_nonce(&basic, query.nonce, sent)?;
    check_age(&evidence, has_nonce, now)?;
    let mut others = singles::find_siblings(&basic, query, now)?;
    others.retain(|other| check_age(other, has_nonce, now).is_ok());
    Ok(Verified { evidence, others, has_nonce })
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
    if let Some(weak) = weak(openssl_ffi::signature_algorithm(basic)) {
        return Err(Fault::WeakDigest(weak));
    }
    let mut fault = Fault::UnknownSigner;
    match signed_with(basic, query.issuer)? {
        Signed::Yes => return Ok(()),
        Signed::Badly => fault = Fault::Signature,
        Signed::ByAnother => {}
    }
    if let Some(trusted) = query.extra_signer {
        match signed_with(basic, trusted)? {
            // The administrator's word takes the place of the issuer's, and no longer than the
            // certificate says: a key that was to be thrown away proves nothing.
            Signed::Yes => return check_life(&Usage::from_der(&trusted.to_der()?)?, now),
            Signed::Badly => fault = Fault::Signature,
            Signed::ByAnother => {}
        }
    }
    // Real answers carry one or two.
    const MOST: usize = 8;
    for delegate in openssl_ffi::certificates(basic).into_iter().flatten().take(MOST) {
        match signed_with(basic, delegate)? {
            Signed::Yes => match check_delegate(delegate, basic, query, now) {
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
fn check_delegate(
    delegate: &X509Ref,
    basic: &OcspBasicResponseRef,
    query: &Query,
    now: Time,
) -> Result<(), Fault> {
    if !issued_by(delegate, query.issuer) {
        return Err(Fault::Delegate("not issued by the issuer"));
    }
    if let Some(weak) = weak(delegate.signature_algorithm()) {
        return Err(Fault::WeakDigest(weak));
    }
    let usage = Usage::from_der(&delegate.to_der()?)?;
    if !usage.ocsp_signing {
        return Err(Fault::Delegate("no id-kp-OCSPSigning"));
    }
    if !usage.signs {
        return Err(Fault::Delegate("its keyUsage allows no signatures"));
    }
    check_life(&usage, now)?;
    // RFC 6960, 4.2.2.2.1: with the extension it is trusted for its life.
    if !usage.ocsp_nocheck && singles::is_revoked(basic, delegate, query.issuer)? {
        return Err(Fault::Delegate("the response says that its certificate is revoked"));
    }
    Ok(())
}

/// That a signer's certificate is valid by our clock.
fn check_life(usage: &Usage, now: Time) -> Result<(), Fault> {
    if now + SKEW < usage.not_before {
        return Err(Fault::DelegateNotYetValid(usage.not_before));
    }
    if usage.not_after + SKEW < now {
        return Err(Fault::DelegateExpired(usage.not_after));
    }
    Ok(())
}

/// RFC 6960, 4.4: a critical extension that we can't process, and the answer proves nothing.
pub(super) fn check_extensions<'a>(
    critical: impl IntoIterator<Item = &'a Asn1ObjectRef>,
    known: &[Nid],
) -> Result<(), Fault> {
    match critical.into_iter().find(|object| !known.contains(&object.nid())) {
        Some(unknown) => Err(Fault::Critical(unknown.to_string())),
        None => Ok(()),
    }
}

/// Of a reference to a CRL nothing depends.
const OF_RESPONSES: [Nid; 2] = [Nid::ID_PKIX_OCSP_NONCE, Nid::ID_PKIX_OCSP_CRLID];

fn weak(algorithm: &X509AlgorithmRef) -> Option<&'static str> {
    weak_digest(algorithm.object().nid().signature_algorithms()?.digest)
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
