//! Answers to the CA's challenges (RFC 8555 8.3, RFC 8737). Tokens come from the shared zone,
//! never from disk; what is not ours passes on untouched.

use std::ffi::{c_int, c_uint, c_void};
use std::ptr;

use foreign_types::ForeignType;
use nginx_sys::{
    NGX_HTTP_GET, NGX_HTTP_HEAD, SSL, SSL_set_SSL_CTX, ngx_array_push, ngx_conf_t,
    ngx_http_discard_request_body, ngx_http_finalize_request, ngx_http_handler_pt,
    ngx_http_output_filter, ngx_http_phases_NGX_HTTP_POST_READ_PHASE as POST_READ,
    ngx_http_request_t, ngx_http_send_header, ngx_int_t, ngx_str_t,
};
use openssl::asn1::{Asn1Object, Asn1OctetString, Asn1Time};
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::ssl::{
    AlpnError, SslContext, SslMethod, SslSessionCacheMode, SslVerifyMode, SslVersion,
};
use openssl::x509::extension::SubjectAlternativeName;
use openssl::x509::{X509, X509Extension, X509NameBuilder};

use super::http::{self, Context};
use super::worker::{self, Worker};
use super::{NGX_DECLINED, guard, placeholder};
use crate::client_hello::ClientHello;
use crate::names;
use crate::settings::Challenge;

const PREFIX: &str = "/.well-known/acme-challenge/";

/// The handler runs before rewrites and access rules of the administrator.
pub fn install(cf: *mut ngx_conf_t) -> Result<(), String> {
    // SAFETY: postconfiguration, when nginx's modules add their handlers.
    unsafe {
        let core = Context::of(&*cf).core_main();
        let handlers = &raw mut (*core).phases[POST_READ as usize].handlers;
        let place = ngx_array_push(handlers).cast::<ngx_http_handler_pt>();
        if place.is_null() {
            return Err("no memory".into());
        }
        *place = Some(handler);
    }
    Ok(())
}

unsafe extern "C" fn handler(r: *mut ngx_http_request_t) -> ngx_int_t {
    guard(NGX_DECLINED, || {
        // SAFETY: nginx passes a live request, in the event loop.
        let request = unsafe { &mut *r };
        match answer(request) {
            // A phase handler ends the request itself.
            Some(body) => {
                let rc = respond(request, &body, c"text/plain");
                // SAFETY: the request is over for us.
                unsafe { ngx_http_finalize_request(r, rc) };
                nginx_sys::NGX_DONE as ngx_int_t
            }
            None => NGX_DECLINED,
        }
    })
}

fn answer(request: &ngx_http_request_t) -> Option<Vec<u8>> {
    if request.method & (NGX_HTTP_GET | NGX_HTTP_HEAD) as usize == 0 {
        return None;
    }
    let token = http::text(&request.uri)?.strip_prefix(PREFIX)?;
    let zone = worker::current()?.zone;
    let ours = |a: &crate::ca::ChallengeAnswer| a.kind == Challenge::Http01 && a.token == token;
    zone.find_challenge(worker::now(), ours).map(|a| a.key_authorization.into_bytes())
}

/// Sends a short body; the result is for nginx to end the request with.
pub fn respond(
    r: &mut ngx_http_request_t,
    body: &[u8],
    kind: &'static std::ffi::CStr,
) -> ngx_int_t {
    let failed = nginx_sys::NGX_HTTP_INTERNAL_SERVER_ERROR as ngx_int_t;
    // SAFETY: a live request in the event loop; memory from its pool; every pointer checked.
    unsafe {
        let discarded = ngx_http_discard_request_body(r);
        if discarded != super::NGX_OK {
            return discarded;
        }
        let b = nginx_sys::ngx_create_temp_buf(r.pool, body.len().max(1));
        let out = nginx_sys::ngx_alloc_chain_link(r.pool);
        if b.is_null() || out.is_null() {
            return failed;
        }
        ptr::copy_nonoverlapping(body.as_ptr(), (*b).last, body.len());
        (*b).last = (*b).last.add(body.len());
        (*b).set_last_buf(1);
        (*b).set_last_in_chain(1);
        *out = nginx_sys::ngx_chain_t { buf: b, next: ptr::null_mut() };
        r.headers_out.status = nginx_sys::NGX_HTTP_OK as usize;
        r.headers_out.content_length_n = body.len() as i64;
        r.headers_out.content_type =
            ngx_str_t { len: kind.count_bytes(), data: kind.as_ptr().cast_mut().cast() };
        r.headers_out.content_type_len = kind.count_bytes();
        let sent = ngx_http_send_header(r);
        if sent == super::NGX_ERROR || sent > super::NGX_OK || r.header_only() != 0 {
            return sent;
        }
        ngx_http_output_filter(r, out)
    }
}

/// A validation by tls-alpn-01: this connection gets a context of its own, made for it, and goes
/// round hold and gate. False when no such answer is out.
pub fn answer_tls_alpn(worker: &Worker, ssl: *mut SSL, hello: &ClientHello) -> bool {
    let name = hello.server_name.as_deref().and_then(|n| std::str::from_utf8(n).ok());
    let Some(name) = name else { return false };
    let ours = |a: &crate::ca::ChallengeAnswer| {
        a.kind == Challenge::TlsAlpn01 && names::in_tls_alpn(&a.name) == name
    };
    let Some(answer) = worker.zone.find_challenge(worker::now(), ours) else { return false };
    let Ok(context) = context(&answer.name, &answer.key_authorization) else { return false };
    // SAFETY: a live SSL before its ClientHello is processed; it takes a reference of its own.
    unsafe { !SSL_set_SSL_CTX(ssl, context.as_ptr().cast()).is_null() }
}

fn context(name: &str, key_authorization: &str) -> Result<SslContext, ErrorStack> {
    let key = placeholder::ec_key()?;
    let mut builder = SslContext::builder(SslMethod::tls_server())?;
    builder.set_min_proto_version(Some(SslVersion::TLS1_2))?;
    builder.set_verify(SslVerifyMode::NONE); // of the CA, which shows no certificate
    builder.set_session_cache_mode(SslSessionCacheMode::OFF);
    builder.set_certificate(&*certificate(&key, name, key_authorization)?)?;
    builder.set_private_key(&key)?;
    builder.set_alpn_select_callback(|_, offered| {
        openssl::ssl::select_next_proto(b"\x0aacme-tls/1", offered).ok_or(AlpnError::ALERT_FATAL)
    });
    let context = builder.build();
    // SAFETY: nginx's own callback, which the SSL's first context has, would switch the context
    // back: the servername callback of this one stands in its way.
    unsafe {
        nginx_sys::SSL_CTX_callback_ctrl(
            context.as_ptr().cast(),
            nginx_sys::SSL_CTRL_SET_TLSEXT_SERVERNAME_CB as c_int,
            Some(std::mem::transmute::<ServernameCallback, unsafe extern "C" fn()>(accept_name)),
        );
    }
    Ok(context)
}

type ServernameCallback = unsafe extern "C" fn(*mut SSL, *mut c_int, *mut c_void) -> c_int;

unsafe extern "C" fn accept_name(_: *mut SSL, _: *mut c_int, _: *mut c_void) -> c_int {
    const SSL_TLSEXT_ERR_OK: c_uint = nginx_sys::SSL_TLSEXT_ERR_OK;
    SSL_TLSEXT_ERR_OK as c_int
}

/// The certificate of RFC 8737, 3: the name, and the digest of the key authorization in a
/// critical acmeIdentifier extension.
fn certificate(
    key: &openssl::pkey::PKey<openssl::pkey::Private>,
    name: &str,
    key_authorization: &str,
) -> Result<X509, ErrorStack> {
    let digest = openssl::sha::sha256(key_authorization.as_bytes());
    let value = Asn1OctetString::new_from_bytes(&[&[0x04, 32][..], &digest].concat())?;
    let identifier = Asn1Object::from_str("1.3.6.1.5.5.7.1.31")?;
    let mut subject = X509NameBuilder::new()?;
    subject.append_entry_by_text("CN", "ACME challenge")?;
    let subject = subject.build();
    let mut builder = X509::builder()?;
    builder.set_version(2)?;
    builder.set_subject_name(&subject)?;
    builder.set_issuer_name(&subject)?;
    builder.set_not_before(Asn1Time::days_from_now(0)?.as_ref())?;
    builder.set_not_after(Asn1Time::days_from_now(1)?.as_ref())?;
    builder.set_pubkey(key)?;
    let mut san = SubjectAlternativeName::new();
    let san = match names::ip(name) {
        Some(_) => san.ip(name), // RFC 8738 section 6
        None => san.dns(name),
    };
    builder.append_extension(san.build(&builder.x509v3_context(None, None))?)?;
    builder.append_extension(X509Extension::new_from_der(&identifier, true, &value)?)?;
    builder.sign(key, MessageDigest::sha256())?;
    Ok(builder.build())
}
