//! The OpenSSL calls that the safe `openssl` crate (0.10.82) lacks, and nothing else.
//!
//! Safe wrappers only, each named after its C function in its docs. No decision is taken here:
//! what an answer is worth is decided in `evidence`.
#![allow(unsafe_code)] // C functions; no pointer outlives the object it was taken from

use std::ffi::{c_int, c_uchar, c_ulong};
use std::marker::PhantomData;
use std::ptr;

use foreign_types::{ForeignType, ForeignTypeRef};
use openssl::asn1::{Asn1IntegerRef, Asn1ObjectRef, Asn1Time};
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::ocsp::{OcspBasicResponseRef, OcspCertIdRef, OcspRequest, OcspRequestRef};
use openssl::pkey::{PKeyRef, Private};
use openssl::ssl::SslRef;
use openssl::stack::StackRef;
use openssl::x509::{X509, X509AlgorithmRef, X509Ref};
use openssl_sys as ffi;

use crate::clock::Time;

/// A nonce of the length that RFC 9654 asks for. Never empty: for length 0 the C function reads
/// its default number of bytes, whatever there is.
pub type Nonce = [u8; 32];

/// Adds a nonce to a request (`OCSP_request_add1_nonce`).
pub fn request_add_nonce(request: &mut OcspRequestRef, nonce: &Nonce) -> Result<(), ErrorStack> {
    let mut nonce = *nonce; // the C prototype wants it mutable
    let len = nonce.len() as c_int;
    // SAFETY: request is a live OCSP_REQUEST that we may change; `nonce` has `len` bytes and is
    // copied before the call returns.
    let done = unsafe { OCSP_request_add1_nonce(request.as_ptr(), nonce.as_mut_ptr(), len) };
    if done > 0 { Ok(()) } else { Err(ErrorStack::get()) }
}

/// Signs a request (`OCSP_request_sign`): the subject of `certificate` becomes the requestorName,
/// and it goes along with those of `chain`. Without a digest the key has its own. Errors too if
/// the key is not that of the certificate.
pub fn request_sign(
    request: &mut OcspRequestRef,
    certificate: &X509Ref,
    key: &PKeyRef<Private>,
    digest: Option<MessageDigest>,
    chain: &StackRef<X509>,
) -> Result<(), ErrorStack> {
    let digest = digest.map_or(ptr::null(), |d| d.as_ptr());
    // SAFETY: all are live; the request, which we may change, copies the name and takes references
    // of its own to the certificates; key, digest and stack are only read.
    let done = unsafe {
        OCSP_request_sign(
            request.as_ptr(),
            certificate.as_ptr(),
            key.as_ptr(),
            digest,
            chain.as_ptr(),
            0,
        )
    };
    if done == 1 { Ok(()) } else { Err(ErrorStack::get()) }
}

/// Makes a certificate with its key and the rest of its chain the one of a connection
/// (`SSL_use_cert_and_key`). Errors too if the security level of the connection forbids them.
pub fn use_cert_and_key(
    ssl: &mut SslRef,
    certificate: &X509Ref,
    key: &PKeyRef<Private>,
    chain: &StackRef<X509>,
) -> Result<(), ErrorStack> {
    // SAFETY: all are live; the connection, which we may change, takes references of its own to
    // certificate and key, and to those of the stack.
    let done = unsafe {
        SSL_use_cert_and_key(ssl.as_ptr(), certificate.as_ptr(), key.as_ptr(), chain.as_ptr(), 1)
    };
    if done == 1 { Ok(()) } else { Err(ErrorStack::get()) }
}

/// What a comparison of the nonces of request and response says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum NonceCheck {
    Equal,
    Different,
    BothAbsent,
    ResponseOnly,
    RequestOnly,
}

/// Compares the nonce that was sent with that of the response (`OCSP_check_nonce`).
pub fn check_nonce(
    sent: Option<&Nonce>,
    response: &OcspBasicResponseRef,
) -> Result<NonceCheck, ErrorStack> {
    let mut request = OcspRequest::new()?;
    if let Some(nonce) = sent {
        request_add_nonce(&mut request, nonce)?;
    }
    // SAFETY: both are live; the call only reads them.
    let check = unsafe { OCSP_check_nonce(request.as_ptr(), response.as_ptr()) };
    Ok(match check {
        1 => NonceCheck::Equal,
        2 => NonceCheck::BothAbsent,
        3 => NonceCheck::ResponseOnly,
        -1 => NonceCheck::RequestOnly,
        _ => NonceCheck::Different,
    })
}

/// The certificates that a basic response carries (`OCSP_resp_get0_certs`). None of them is
/// trusted for being there.
pub fn certificates(response: &OcspBasicResponseRef) -> Option<&StackRef<X509>> {
    // SAFETY: response is live; the stack belongs to it and is lent for as long.
    unsafe {
        let stack = OCSP_resp_get0_certs(response.as_ptr());
        (!stack.is_null()).then(|| StackRef::from_ptr(stack.cast_mut()))
    }
}

/// The algorithm that a basic response is signed with (`OCSP_resp_get0_tbs_sigalg`).
pub fn signature_algorithm(response: &OcspBasicResponseRef) -> &X509AlgorithmRef {
    // SAFETY: response is live; the algorithm is a part of it, never null.
    unsafe { X509AlgorithmRef::from_ptr(OCSP_resp_get0_tbs_sigalg(response.as_ptr()).cast_mut()) }
}

/// The extensions of a basic response that are critical (`OCSP_BASICRESP_get_ext_by_critical`).
pub fn critical_extensions(
    response: &OcspBasicResponseRef,
) -> impl Iterator<Item = &Asn1ObjectRef> {
    let mut place = -1;
    let next = move || {
        // SAFETY: response is live and only read; what is at the place that was found is a part of
        // it, and so is the extension's OID; neither is null.
        unsafe {
            place = OCSP_BASICRESP_get_ext_by_critical(response.as_ptr(), 1, place);
            let found = place >= 0;
            found.then(|| object(OCSP_BASICRESP_get_ext(response.as_ptr(), place)))
        }
    };
    std::iter::from_fn(next).fuse()
}

/// The SingleResponses of a basic response (`OCSP_resp_count`, `OCSP_resp_get0`).
pub fn singles(response: &OcspBasicResponseRef) -> impl Iterator<Item = Single<'_>> {
    // SAFETY: response is live; the call only reads it.
    let count = unsafe { OCSP_resp_count(response.as_ptr()) };
    (0..count).filter_map(move |i| {
        // SAFETY: response is live; an index out of range would give null.
        let single = unsafe { OCSP_resp_get0(response.as_ptr(), i) };
        (!single.is_null()).then_some(Single { single, response: PhantomData })
    })
}

/// What a response says about one certificate; lives as long as the response.
pub struct Single<'a> {
    single: *mut OCSP_SINGLERESP,
    response: PhantomData<&'a OcspBasicResponseRef>,
}

/// The contents of one SingleResponse.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SingleStatus {
    /// `V_OCSP_CERTSTATUS_GOOD`, `_REVOKED` or `_UNKNOWN`.
    pub status: c_int,
    /// CRLReason; None: none given.
    pub reason: Option<c_int>,
    pub revoked_at: Option<Time>,
    pub this_update: Time,
    pub next_update: Option<Time>,
}

impl Single<'_> {
    /// Whom it is about (`OCSP_SINGLERESP_get0_id`).
    pub fn id(&self) -> &OcspCertIdRef {
        // SAFETY: the SingleResponse lives as long as self; its CertID is a part of it, never
        // null, and is only read through the shared reference.
        unsafe { OcspCertIdRef::from_ptr(OCSP_SINGLERESP_get0_id(self.single).cast_mut()) }
    }

    /// Its extensions that are critical (`OCSP_SINGLERESP_get_ext_by_critical`).
    pub fn critical_extensions(&self) -> impl Iterator<Item = &Asn1ObjectRef> {
        let mut place = -1;
        let next = move || {
            // SAFETY: as in the function of that name, of the SingleResponse, which lives as long
            // as self.
            unsafe {
                place = OCSP_SINGLERESP_get_ext_by_critical(self.single, 1, place);
                let found = place >= 0;
                found.then(|| object(OCSP_SINGLERESP_get_ext(self.single, place)))
            }
        };
        std::iter::from_fn(next).fuse()
    }

    /// Status and times (`OCSP_single_get0_status`); None: a time is malformed.
    pub fn status(&self) -> Option<SingleStatus> {
        let mut reason = -1; // OCSP_REVOKED_STATUS_NOSTATUS: left alone unless there is one
        let (mut revoked, mut this, mut next) = (ptr::null_mut(), ptr::null_mut(), ptr::null_mut());
        // SAFETY: the SingleResponse lives as long as self; the four pointers are to locals, and
        // what they are set to belongs to the SingleResponse or is null.
        unsafe {
            let status = OCSP_single_get0_status(
                self.single,
                &mut reason,
                &mut revoked,
                &mut this,
                &mut next,
            );
            Some(SingleStatus {
                status,
                reason: (reason >= 0).then_some(reason),
                revoked_at: optional_time(revoked)?,
                this_update: optional_time(this)??,
                next_update: optional_time(next)?,
            })
        }
    }
}

/// The digest that the hashes of a CertID are made with (`OCSP_id_get0_info`).
pub fn id_digest(id: &OcspCertIdRef) -> Nid {
    let mut digest = ptr::null_mut();
    // SAFETY: id is live and only read; null is allowed for what isn't wanted; the object
    // belongs to id, which outlives the copy of its nid.
    unsafe {
        OCSP_id_get0_info(
            ptr::null_mut(),
            &mut digest,
            ptr::null_mut(),
            ptr::null_mut(),
            id.as_ptr(),
        );
        if digest.is_null() { Nid::UNDEF } else { Asn1ObjectRef::from_ptr(digest).nid() }
    }
}

/// The serial number in a CertID as big-endian bytes (`OCSP_id_get0_info`). None: it is negative,
/// which none may be (RFC 5280, 4.1.2.2).
pub fn id_serial(id: &OcspCertIdRef) -> Option<Vec<u8>> {
    let mut serial = ptr::null_mut();
    // SAFETY: as in `id_digest`.
    let number = unsafe {
        OCSP_id_get0_info(
            ptr::null_mut(),
            ptr::null_mut(),
            ptr::null_mut(),
            &mut serial,
            id.as_ptr(),
        );
        if serial.is_null() {
            return None;
        }
        Asn1IntegerRef::from_ptr(serial).to_bn().ok()?
    };
    (!number.is_negative()).then(|| if number.num_bytes() == 0 { vec![0] } else { number.to_vec() })
}

/// Whether two CertIDs name the same certificate: digest, both hashes and serial (`OCSP_id_cmp`).
pub fn same_id(a: &OcspCertIdRef, b: &OcspCertIdRef) -> bool {
    // SAFETY: both are live and only read.
    unsafe { OCSP_id_cmp(a.as_ptr(), b.as_ptr()) == 0 }
}

/// Whether two CertIDs name the same issuer: digest and both hashes (`OCSP_id_issuer_cmp`).
pub fn same_issuer(a: &OcspCertIdRef, b: &OcspCertIdRef) -> bool {
    // SAFETY: both are live and only read.
    unsafe { OCSP_id_issuer_cmp(a.as_ptr(), b.as_ptr()) == 0 }
}

/// The OID of an extension (`X509_EXTENSION_get_object`).
///
/// # Safety
/// `extension` points to a live X509_EXTENSION that outlives what is returned.
unsafe fn object<'a>(extension: *mut ffi::X509_EXTENSION) -> &'a Asn1ObjectRef {
    // SAFETY: by this function's contract; each extension has an OID.
    unsafe { Asn1ObjectRef::from_ptr(ffi::X509_EXTENSION_get_object(extension)) }
}

/// Reads a time (`ASN1_TIME_diff`, from the epoch). None: malformed; Some(None): null.
///
/// # Safety
/// `time` is null or points to a live ASN1_GENERALIZEDTIME.
unsafe fn optional_time(time: *const ffi::ASN1_GENERALIZEDTIME) -> Option<Option<Time>> {
    if time.is_null() {
        return Some(None);
    }
    let epoch = Asn1Time::from_unix(0).ok()?;
    let (mut days, mut seconds) = (0, 0);
    // SAFETY: epoch is live, `time` by this function's contract; ASN1_TIME and
    // ASN1_GENERALIZEDTIME are one C struct whose tag the callee looks at.
    let done = unsafe { ffi::ASN1_TIME_diff(&mut days, &mut seconds, epoch.as_ptr(), time.cast()) };
    if done != 1 {
        let _ = ErrorStack::get(); // leave nothing in the thread's queue
        return None;
    }
    Some(Some(Time::from_secs(i64::from(days) * 86_400 + i64::from(seconds))))
}

#[allow(non_camel_case_types)]
enum OCSP_SINGLERESP {}

// ocsp.h and ssl.h of OpenSSL 1.1.1 to 4.0. Only types of openssl-sys, so that no libclang is needed.
#[allow(non_snake_case)]
unsafe extern "C" {
    fn OCSP_request_add1_nonce(req: *mut ffi::OCSP_REQUEST, val: *mut c_uchar, len: c_int)
    -> c_int;
    fn OCSP_request_sign(
        req: *mut ffi::OCSP_REQUEST,
        signer: *mut ffi::X509,
        key: *mut ffi::EVP_PKEY,
        dgst: *const ffi::EVP_MD,
        certs: *mut ffi::stack_st_X509,
        flags: c_ulong,
    ) -> c_int;
    fn OCSP_check_nonce(req: *mut ffi::OCSP_REQUEST, bs: *mut ffi::OCSP_BASICRESP) -> c_int;
    fn OCSP_resp_get0_certs(bs: *const ffi::OCSP_BASICRESP) -> *const ffi::stack_st_X509;
    fn OCSP_resp_get0_tbs_sigalg(bs: *const ffi::OCSP_BASICRESP) -> *const ffi::X509_ALGOR;
    fn OCSP_BASICRESP_get_ext_by_critical(
        x: *mut ffi::OCSP_BASICRESP,
        crit: c_int,
        lastpos: c_int,
    ) -> c_int;
    fn OCSP_BASICRESP_get_ext(x: *mut ffi::OCSP_BASICRESP, loc: c_int) -> *mut ffi::X509_EXTENSION;
    fn OCSP_SINGLERESP_get_ext_by_critical(
        x: *mut OCSP_SINGLERESP,
        crit: c_int,
        lastpos: c_int,
    ) -> c_int;
    fn OCSP_SINGLERESP_get_ext(x: *mut OCSP_SINGLERESP, loc: c_int) -> *mut ffi::X509_EXTENSION;
    fn OCSP_resp_count(bs: *mut ffi::OCSP_BASICRESP) -> c_int;
    fn OCSP_resp_get0(bs: *mut ffi::OCSP_BASICRESP, idx: c_int) -> *mut OCSP_SINGLERESP;
    fn OCSP_SINGLERESP_get0_id(x: *const OCSP_SINGLERESP) -> *const ffi::OCSP_CERTID;
    fn OCSP_single_get0_status(
        single: *mut OCSP_SINGLERESP,
        reason: *mut c_int,
        revtime: *mut *mut ffi::ASN1_GENERALIZEDTIME,
        thisupd: *mut *mut ffi::ASN1_GENERALIZEDTIME,
        nextupd: *mut *mut ffi::ASN1_GENERALIZEDTIME,
    ) -> c_int;
    fn OCSP_id_get0_info(
        piNameHash: *mut *mut ffi::ASN1_OCTET_STRING,
        pmd: *mut *mut ffi::ASN1_OBJECT,
        pikeyHash: *mut *mut ffi::ASN1_OCTET_STRING,
        pserial: *mut *mut ffi::ASN1_INTEGER,
        cid: *mut ffi::OCSP_CERTID,
    ) -> c_int;
    fn OCSP_id_cmp(a: *const ffi::OCSP_CERTID, b: *const ffi::OCSP_CERTID) -> c_int;
    fn OCSP_id_issuer_cmp(a: *const ffi::OCSP_CERTID, b: *const ffi::OCSP_CERTID) -> c_int;
    fn SSL_use_cert_and_key(
        ssl: *mut ffi::SSL,
        x509: *mut ffi::X509,
        privatekey: *mut ffi::EVP_PKEY,
        chain: *mut ffi::stack_st_X509,
        override_: c_int,
    ) -> c_int;
}
