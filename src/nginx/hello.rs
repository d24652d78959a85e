//! The info callback: where a handshake can be looked at before its first byte is read, at the
//! price of two comparisons when nothing is due.

use std::ffi::c_int;

use nginx_sys::{
    SSL, SSL_CB_ACCEPT_LOOP, SSL_CB_HANDSHAKE_DONE, SSL_CB_HANDSHAKE_START, SSL_get_ex_data,
    ngx_connection_t, ngx_ssl_connection_index,
};

use super::listens::ServerHook;
use super::worker::Worker;
use super::zone::Counter;
use super::{guard, hold};

/// OpenSSL calls it at the steps of a handshake; nginx's own callback comes after ours.
pub unsafe extern "C" fn info_callback(ssl: *const SSL, at: c_int, value: c_int) {
    // SAFETY: OpenSSL passes a live SSL; hooks live as long as its context.
    let Some(hook) = (unsafe { ServerHook::of(ssl) }) else { return };
    guard((), || look(hook, ssl.cast_mut(), at));
    if let Some(next) = hook.next {
        // SAFETY: nginx's callback, called as OpenSSL would.
        unsafe { next(ssl, at, value) };
    }
}

fn look(hook: &ServerHook, ssl: *mut SSL, at: c_int) {
    // SAFETY: the worker of this cycle, touched by the event loop only.
    let Some(worker) = (unsafe { Worker::of(hook.main) }) else { return };
    if at & SSL_CB_HANDSHAKE_START as c_int != 0 {
        if worker.gate_is_open() && !is_handshaked(ssl) {
            hold::insert(hook, ssl);
        }
    } else if at == SSL_CB_ACCEPT_LOOP as c_int {
        // Before nginx's callback: it compares the read and write BIO to find its buffer.
        hold::remove_if_done(ssl);
    } else if at & SSL_CB_HANDSHAKE_DONE as c_int != 0 && hook.entry.is_some() {
        worker.count(Counter::Handshakes);
    }
}

/// The nginx connection of an SSL; None for one that is not nginx's.
pub fn connection(ssl: *const SSL) -> Option<*mut ngx_connection_t> {
    // SAFETY: nginx keeps the connection at its index of each SSL that it makes.
    let c = unsafe { SSL_get_ex_data(ssl, ngx_ssl_connection_index) };
    (!c.is_null()).then_some(c.cast())
}

fn is_handshaked(ssl: *const SSL) -> bool {
    // SAFETY: a connection whose SSL is live has its ngx_ssl_connection_t.
    connection(ssl).is_none_or(|c| unsafe { (*c).ssl.as_ref().is_none_or(|s| s.handshaked() != 0) })
}
