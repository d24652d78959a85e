//! The status callback: staples what the engine has verified, in the handshake of a full session
//! with a client that asked for it. OpenSSL calls it after cert_cb, and never in a resumption.

use std::ffi::{c_int, c_long, c_void};
use std::ptr;

use nginx_sys::{SSL, SSL_CTX, SSL_get_certificate};
use openssl_sys::OPENSSL_malloc;

use super::listens::ServerHook;
use super::worker::{self, Worker};
use super::{guard, swap};
use crate::staple::Staple;

type StatusCallback = unsafe extern "C" fn(*mut SSL, *mut c_void) -> c_int;

/// As the macros SSL_CTX_set_tlsext_status_cb() and SSL_CTX_set_tlsext_status_arg().
pub fn install(ctx: *mut SSL_CTX, hook: *mut ServerHook) {
    // SAFETY: a live context; the hook lives as long. OpenSSL gives the callback back its type.
    unsafe {
        nginx_sys::SSL_CTX_callback_ctrl(
            ctx,
            nginx_sys::SSL_CTRL_SET_TLSEXT_STATUS_REQ_CB as c_int,
            Some(std::mem::transmute::<StatusCallback, unsafe extern "C" fn()>(status_callback)),
        );
        nginx_sys::SSL_CTX_ctrl(
            ctx,
            nginx_sys::SSL_CTRL_SET_TLSEXT_STATUS_REQ_CB_ARG as c_int,
            0,
            hook.cast(),
        );
    }
}

unsafe extern "C" fn status_callback(ssl: *mut SSL, hook: *mut c_void) -> c_int {
    const STAPLED: c_int = nginx_sys::SSL_TLSEXT_ERR_OK as c_int;
    const NOTHING: c_int = nginx_sys::SSL_TLSEXT_ERR_NOACK as c_int;
    guard(NOTHING, || {
        // SAFETY: the hook of install(); the worker is touched by the event loop only.
        let (hook, worker) = unsafe {
            let hook = &*hook.cast::<ServerHook>();
            (hook, Worker::of(hook.main))
        };
        let (Some(worker), Some(entry)) = (worker, hook.entry) else { return NOTHING };
        match find(worker, entry, ssl) {
            Some(staple) if put(ssl, staple) => STAPLED,
            _ => NOTHING,
        }
    })
}

/// The staple of the very certificate that this connection is about to send.
fn find(worker: &Worker, entry: usize, ssl: *mut SSL) -> Option<&Staple> {
    let entry = &worker.entries[entry];
    let (view, installed) = (entry.view.as_ref()?, entry.installed.as_ref()?);
    // SAFETY: a live SSL.
    let carried = unsafe { SSL_get_certificate(ssl) };
    let is_installed = ptr::eq(carried.cast(), swap::leaf(installed));
    let fits = |staple: &&Staple| {
        *staple.certificate() == installed.facts.fingerprint && staple.is_current(worker::now())
    };
    view.staple.as_deref().filter(|_| is_installed).filter(fits)
}

/// As the macro SSL_set_tlsext_status_ocsp_resp(): OpenSSL owns the bytes from then on.
fn put(ssl: *mut SSL, staple: &Staple) -> bool {
    let der = staple.der();
    // SAFETY: a live SSL; memory of that size from the allocator that OpenSSL frees with.
    unsafe {
        let copy = OPENSSL_malloc(der.len());
        if copy.is_null() {
            return false;
        }
        ptr::copy_nonoverlapping(der.as_ptr(), copy.cast(), der.len());
        nginx_sys::SSL_ctrl(
            ssl,
            nginx_sys::SSL_CTRL_SET_TLSEXT_STATUS_REQ_OCSP_RESP as c_int,
            der.len() as c_long,
            copy.cast(),
        );
    }
    true
}
