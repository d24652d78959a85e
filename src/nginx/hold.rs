//! The hold: a filter BIO between OpenSSL and the socket that reads the ClientHello first, and
//! says "would block" while this one handshake waits. nginx sees a slow client; the event loop
//! and every other connection go on. Stock nginx offers no other place to wait in: cert_cb can't
//! yield without a patch, and resumption skips it.

use std::collections::VecDeque;
use std::ffi::{c_char, c_int, c_long, c_void};
use std::ptr;
use std::sync::OnceLock;

use nginx_sys::{
    BIO, BIO_FLAGS_READ, BIO_FLAGS_RWS, BIO_FLAGS_SHOULD_RETRY, BIO_METHOD, BIO_TYPE_FILTER,
    BIO_TYPE_SOCKET, BIO_clear_flags, BIO_copy_next_retry, BIO_ctrl, BIO_get_data,
    BIO_get_new_index, BIO_meth_new, BIO_meth_set_ctrl, BIO_meth_set_destroy, BIO_meth_set_read,
    BIO_meth_set_write, BIO_method_type, BIO_new, BIO_next, BIO_pop, BIO_push, BIO_read,
    BIO_set_data, BIO_set_flags, BIO_set_init, BIO_up_ref, BIO_write, SSL, SSL_get_rbio,
    SSL_set0_rbio, ngx_connection_t, ngx_msec_t,
};

use super::gate::{self, Verdict};
use super::listens::ServerHook;
use super::worker::Worker;
use super::{challenge, guard, hello, servers};
use crate::client_hello::{self, ClientHello, Parsed};

/// One handshake that is looked at, and maybe held. Owned by its BIO.
pub struct Hold {
    state: State,
    /// What was read from the socket and not handed out yet.
    bytes: VecDeque<u8>,
    ssl: *mut SSL,
    pub connection: *mut ngx_connection_t,
    hook: *const ServerHook,
    /// Where the worker's lists have it.
    pub place: Place,
    pub name: Option<String>,
    /// In nginx's milliseconds (ngx_current_msec), which no clock change moves.
    pub deadline: ngx_msec_t,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    /// Reading the ClientHello.
    Sniff,
    /// Held.
    Wait,
    /// Decided: the bytes go to OpenSSL, then everything passes.
    Pass,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Place {
    Nowhere,
    /// Waits for this entry.
    Waiting(usize),
    /// Released, not yet woken.
    Released,
}

/// Puts the filter before the socket of a connection whose handshake begins.
pub fn insert(hook: &ServerHook, ssl: *mut SSL) {
    // What can't be looked at must ask the last gate: resumption would go round it.
    if !try_insert(hook, ssl) {
        gate::note_unseen(ssl);
    }
}

fn try_insert(hook: &ServerHook, ssl: *mut SSL) -> bool {
    let (Some(connection), Some(method)) = (hello::connection(ssl), method()) else { return false };
    // SAFETY: event-loop thread; a live connection and SSL at the start of a handshake. The
    // socket BIO gets a reference of its own for its place behind our filter.
    unsafe {
        if (*connection).type_ == nginx_sys::__socket_type_SOCK_DGRAM as c_int {
            return false; // QUIC reads by callbacks of its own, though its SSL has a socket BIO
        }
        let socket = SSL_get_rbio(ssl);
        if socket.is_null() || BIO_method_type(socket) != BIO_TYPE_SOCKET as c_int {
            return false;
        }
        let bio = BIO_new(method);
        if bio.is_null() {
            return false;
        }
        let hold = Hold {
            state: State::Sniff,
            bytes: VecDeque::new(),
            ssl,
            connection,
            hook,
            place: Place::Nowhere,
            name: None,
            deadline: 0,
        };
        BIO_set_data(bio, Box::into_raw(Box::new(hold)).cast());
        BIO_set_init(bio, 1);
        BIO_up_ref(socket);
        BIO_push(bio, socket);
        SSL_set0_rbio(ssl, bio);
    }
    true
}

/// Takes the filter away once the ClientHello is through. Never from within its own read.
pub fn remove_if_done(ssl: *mut SSL) {
    // SAFETY: event-loop thread, a live SSL. SSL_set0_rbio frees our BIO, which BIO_pop has taken
    // out of the chain, so the socket keeps the reference that insert() took for it.
    unsafe {
        let bio = SSL_get_rbio(ssl);
        let Some(hold) = of_bio(bio) else { return };
        if hold.state == State::Pass && hold.bytes.is_empty() {
            let socket = BIO_pop(bio);
            SSL_set0_rbio(ssl, socket);
        }
    }
}

impl Hold {
    /// The end of the wait. The worker wakes the connection.
    pub fn decide(&mut self, entry: usize, verdict: Verdict) {
        self.state = State::Pass;
        self.place = Place::Released;
        gate::note(self.ssl, entry, verdict);
    }

    /// Lets nginx's handshake handler run, as if the socket had become readable.
    pub fn wake(&mut self) {
        self.place = Place::Nowhere;
        // SAFETY: event-loop thread; the connection outlives its SSL, which owns us.
        unsafe {
            let read = (*self.connection).read;
            (*read).set_ready(1);
            nginx_sys::ngx_post_event(read, &raw mut nginx_sys::ngx_posted_events);
        }
    }

    /// Decides for a whole ClientHello; true when it has to wait.
    fn look_at(&mut self, hello: &ClientHello) -> bool {
        // SAFETY: hooks and worker live as long as the cycle; event-loop thread.
        let worker = unsafe { Worker::of((*self.hook).main) };
        let Some(worker) = worker else { return false };
        if hello.acme_tls && challenge::answer_tls_alpn(worker, self.ssl, hello) {
            return false;
        }
        let name = hello.server_name.as_deref();
        let Some(entry) = servers::entry_for(self.connection, name) else { return false };
        // Names of entries are plain ASCII: others are served by a wildcard or the default server.
        self.name = name.and_then(|n| std::str::from_utf8(n).ok()).map(str::to_owned);
        let name = self.name.as_deref();
        match worker.judge(entry, name) {
            Some(verdict) => {
                gate::note(self.ssl, entry, verdict);
                false
            }
            None => {
                worker.wait(entry, self);
                true
            }
        }
    }

    /// Copies held bytes out.
    fn hand_out(&mut self, out: &mut [u8]) -> c_int {
        let n = out.len().min(self.bytes.len());
        for (place, byte) in out.iter_mut().zip(self.bytes.drain(..n)) {
            *place = byte;
        }
        n as c_int
    }
}

fn method() -> Option<*const BIO_METHOD> {
    struct Method(*const BIO_METHOD);
    // SAFETY: complete before it is shared, never changed after.
    unsafe impl Send for Method {}
    // SAFETY: as above.
    unsafe impl Sync for Method {}
    static METHOD: OnceLock<Method> = OnceLock::new();
    let method = METHOD.get_or_init(|| {
        // SAFETY: plain construction; null is checked.
        unsafe {
            let kind = BIO_get_new_index() | BIO_TYPE_FILTER as c_int;
            let method = BIO_meth_new(kind, c"certificate hold".as_ptr());
            if !method.is_null() {
                BIO_meth_set_read(method, Some(read));
                BIO_meth_set_write(method, Some(write));
                BIO_meth_set_ctrl(method, Some(ctrl));
                BIO_meth_set_destroy(method, Some(destroy));
                KIND.store(kind, std::sync::atomic::Ordering::Relaxed);
            }
            Method(method)
        }
    });
    (!method.0.is_null()).then_some(method.0)
}

static KIND: std::sync::atomic::AtomicI32 = std::sync::atomic::AtomicI32::new(-1);

/// Our data, if `bio` is one of ours.
///
/// # Safety
/// `bio` is null or live, and used by the event-loop thread only.
unsafe fn of_bio<'a>(bio: *mut BIO) -> Option<&'a mut Hold> {
    let kind = KIND.load(std::sync::atomic::Ordering::Relaxed);
    // SAFETY: a BIO of our type holds the Hold that insert() put there, until destroy().
    unsafe {
        if bio.is_null() || BIO_method_type(bio) != kind {
            return None;
        }
        BIO_get_data(bio).cast::<Hold>().as_mut()
    }
}

unsafe extern "C" fn read(bio: *mut BIO, out: *mut c_char, length: c_int) -> c_int {
    guard(-1, || {
        if out.is_null() || length <= 0 {
            return 0;
        }
        // SAFETY: OpenSSL gives a live BIO of ours and a buffer of that length.
        let (hold, out) = unsafe {
            BIO_clear_flags(bio, (BIO_FLAGS_RWS | BIO_FLAGS_SHOULD_RETRY) as c_int);
            let Some(hold) = of_bio(bio) else { return -1 };
            (hold, std::slice::from_raw_parts_mut(out.cast::<u8>(), length as usize))
        };
        match hold.state {
            State::Sniff => sniff(bio, hold, out),
            State::Wait => wait(bio, hold),
            State::Pass if hold.bytes.is_empty() => pass(bio, out),
            State::Pass => hold.hand_out(out),
        }
    })
}

fn pass(bio: *mut BIO, out: &mut [u8]) -> c_int {
    // SAFETY: the socket BIO behind ours; the buffer is OpenSSL's.
    unsafe {
        let n = BIO_read(BIO_next(bio), out.as_mut_ptr().cast(), out.len() as c_int);
        BIO_copy_next_retry(bio);
        n
    }
}

/// Reads into OpenSSL's own buffer: a ClientHello that comes whole and need not wait, which is
/// nearly every one, is never copied.
fn sniff(bio: *mut BIO, hold: &mut Hold, out: &mut [u8]) -> c_int {
    let n = pass(bio, out);
    let Ok(length @ 1..) = usize::try_from(n) else {
        if n < 0 && should_retry(bio) {
            return n;
        }
        // The client is gone: OpenSSL gets what there is and then the same news.
        hold.state = State::Pass;
        return if hold.bytes.is_empty() { n } else { hold.hand_out(out) };
    };
    let whole = hold.bytes.is_empty();
    let parsed = if whole {
        client_hello::parse(&out[..length])
    } else {
        hold.bytes.extend(&out[..length]);
        client_hello::parse(hold.bytes.make_contiguous())
    };
    hold.state = match parsed {
        Parsed::Incomplete => State::Sniff,
        Parsed::Foreign => {
            gate::note_unseen(hold.ssl);
            State::Pass
        }
        Parsed::Hello(hello) if hold.look_at(&hello) => State::Wait,
        Parsed::Hello(_) => State::Pass,
    };
    if hold.state == State::Pass {
        return if whole { n } else { hold.hand_out(out) };
    }
    if whole {
        hold.bytes.extend(&out[..length]);
    }
    if hold.state == State::Sniff {
        return sniff(bio, hold, out);
    }
    retry(bio)
}

/// Each further event of the socket comes here: is the client still there?
fn wait(bio: *mut BIO, hold: &mut Hold) -> c_int {
    let mut byte = 0u8;
    // SAFETY: an open socket and one byte; flags that neither block nor take.
    let n = unsafe {
        libc::recv(
            (*hold.connection).fd,
            (&raw mut byte).cast(),
            1,
            libc::MSG_PEEK | libc::MSG_DONTWAIT,
        )
    };
    match n {
        0 => 0,
        // A FIN behind bytes that wait to be read.
        1.. if is_gone(hold) => 0,
        1.. => retry(bio),
        _ => match std::io::Error::last_os_error().raw_os_error() {
            Some(libc::EAGAIN | libc::EINTR) => retry(bio),
            _ => -1,
        },
    }
}

fn is_gone(hold: &Hold) -> bool {
    // SAFETY: a live connection; epoll notes there that the client closed its side.
    unsafe { (*(*hold.connection).read).pending_eof() != 0 }
}

fn retry(bio: *mut BIO) -> c_int {
    // SAFETY: a live BIO.
    unsafe { BIO_set_flags(bio, (BIO_FLAGS_READ | BIO_FLAGS_SHOULD_RETRY) as c_int) };
    -1
}

fn should_retry(bio: *mut BIO) -> bool {
    // SAFETY: a live BIO.
    unsafe { nginx_sys::BIO_test_flags(bio, BIO_FLAGS_SHOULD_RETRY as c_int) != 0 }
}

/// Only the read side is ours: nginx's SSL writes to the socket BIO itself.
unsafe extern "C" fn write(bio: *mut BIO, data: *const c_char, length: c_int) -> c_int {
    // SAFETY: passed on as it came.
    unsafe { BIO_write(BIO_next(bio), data.cast::<c_void>(), length) }
}

unsafe extern "C" fn ctrl(bio: *mut BIO, what: c_int, number: c_long, data: *mut c_void) -> c_long {
    // SAFETY: passed on as it came; a BIO under construction has no next.
    unsafe {
        let next = BIO_next(bio);
        if next.is_null() { 0 } else { BIO_ctrl(next, what, number, data) }
    }
}

unsafe extern "C" fn destroy(bio: *mut BIO) -> c_int {
    guard(1, || {
        // SAFETY: OpenSSL destroys a BIO once; the data is insert()'s box.
        unsafe {
            let data = BIO_get_data(bio).cast::<Hold>();
            BIO_set_data(bio, ptr::null_mut());
            if data.is_null() {
                return 1;
            }
            let mut hold = Box::from_raw(data);
            if hold.place != Place::Nowhere {
                if let Some(worker) = Worker::of((*hold.hook).main) {
                    worker.forget(&mut hold);
                }
            }
        }
        1
    })
}
