//! The last gate: cert_cb, called on each full handshake when the server is about to choose its
//! certificate. Nothing due: a comparison of times and one of pointers.

use std::ffi::{CStr, c_int, c_void};

use nginx_sys::{
    SSL, SSL_get_certificate, SSL_get_ex_data, SSL_get_servername, SSL_set_ex_data,
    TLSEXT_NAMETYPE_host_name,
};

use super::listens::{self, ServerHook};
use super::worker::{self, Worker};
use super::zone::Counter;
use super::{guard, sessions, swap};
use crate::client_hello;

/// What was decided for one handshake; kept in its SSL.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(usize)]
pub enum Verdict {
    Serve = 1,
    Refuse = 2,
}

/// Noted of a handshake that can't be looked at before the last gate.
const UNSEEN: usize = 3;

/// Notes the verdict on a handshake with an entry; a refused one is made a full one, because
/// resumption asks nobody.
pub fn note(ssl: *mut SSL, entry: usize, verdict: Verdict) {
    set_note(ssl, entry << 2 | verdict as usize);
    if verdict == Verdict::Refuse {
        sessions::forbid_resumption(ssl);
    }
}

/// Makes a handshake that can't be looked at a full one: resumption would go round the last gate.
pub fn note_unseen(ssl: *mut SSL) {
    set_note(ssl, UNSEEN);
    sessions::forbid_resumption(ssl);
}

/// Whether a handshake was made a full one, which it has to stay.
pub fn is_full(ssl: *const SSL) -> bool {
    let note = get_note(ssl);
    note == UNSEEN || note & 3 == Verdict::Refuse as usize
}

fn noted(ssl: *const SSL) -> Option<(usize, Verdict)> {
    let note = get_note(ssl);
    let verdict = match note & 3 {
        1 => Verdict::Serve,
        2 => Verdict::Refuse,
        _ => return None,
    };
    Some((note >> 2, verdict))
}

fn set_note(ssl: *mut SSL, note: usize) {
    // SAFETY: a live SSL; the place holds a number, never followed as a pointer.
    unsafe { SSL_set_ex_data(ssl, listens::verdict_index(), note as *mut c_void) };
}

fn get_note(ssl: *const SSL) -> usize {
    // SAFETY: as in set_note(); 0 where nothing was noted.
    unsafe { SSL_get_ex_data(ssl, listens::verdict_index()) as usize }
}

/// Returns 1 to go on, 0 for the alert internal_error.
pub unsafe extern "C" fn certificate_callback(ssl: *mut SSL, hook: *mut c_void) -> c_int {
    guard(0, || {
        // SAFETY: the hook given to SSL_CTX_set_cert_cb, which lives as long as the context; the
        // worker is touched by the event loop only.
        let (hook, worker) = unsafe {
            let hook = &*hook.cast::<ServerHook>();
            (hook, Worker::of(hook.main))
        };
        let (Some(worker), Some(entry)) = (worker, hook.entry) else { return 0 };
        let may_serve = decide(worker, entry, ssl) && put_current(worker, entry, ssl);
        if !may_serve {
            worker.count(Counter::Refused);
        }
        c_int::from(may_serve)
    })
}

fn decide(worker: &mut Worker, entry: usize, ssl: *mut SSL) -> bool {
    match noted(ssl) {
        None if worker::now() < worker.entries[entry].due => true,
        // The client may have taken its time since (a HelloRetryRequest waits for it): what has
        // become bad meanwhile is not served.
        Some((judged, verdict)) if judged == entry => {
            verdict == Verdict::Serve && !worker.is_bad(entry, server_name(ssl).as_deref())
        }
        // Not looked at before its first byte (QUIC, or the time came in between), or looked at
        // for another name (a second ClientHello may ask for another one): it can't be held any
        // more. What is known good is served, and a job is started for the next one.
        _ => worker.judge_now(entry, server_name(ssl).as_deref()) == Verdict::Serve,
    }
}

/// An SSL made before a swap carries a copy of the old certificate.
fn put_current(worker: &Worker, entry: usize, ssl: *mut SSL) -> bool {
    let Some(current) = &worker.entries[entry].installed else { return false };
    // SAFETY: a live SSL.
    let carried = unsafe { SSL_get_certificate(ssl) };
    std::ptr::eq(carried.cast(), swap::leaf(current)) || swap::put(ssl, current)
}

fn server_name(ssl: *const SSL) -> Option<String> {
    // SAFETY: null or a NUL-terminated string that lives as long as the handshake.
    unsafe {
        let name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name as c_int);
        let name = (!name.is_null()).then(|| CStr::from_ptr(name).to_bytes())?;
        client_hello::host(name).and_then(|host| String::from_utf8(host).ok())
    }
}
