//! Session id contexts. A session is resumed only under the context it was made with, so a new
//! context ends all sessions of a revoked certificate. Its value is derived (server, serials of
//! the last revoked certificates of its listens), never random: workers, hosts and reloads agree.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use nginx_sys::{
    OPENSSL_sk_num, OPENSSL_sk_value, SSL, SSL_CTX, SSL_CTX_get_client_CA_list,
    SSL_CTX_set_session_id_context, SSL_set_session_id_context, i2d_X509_NAME, ngx_connection_t,
    ngx_cycle, ngx_http_core_srv_conf_t,
};
use openssl::sha::Sha256;

use super::conf::MainConf;
use super::listens::ServerHook;
use super::{gate, http};
use crate::facts::Serial;

/// What tells one server's sessions from another's, as nginx's own context does: its name and
/// the client CAs that it trusts (a session stands for a verified client certificate).
pub fn base(server: &ngx_http_core_srv_conf_t, ctx: *mut SSL_CTX) -> Vec<u8> {
    let mut hash = Sha256::new();
    hash.update(b"cert-autofetch session context\0");
    hash.update(http::text(&server.server_name).unwrap_or_default().as_bytes());
    // SAFETY: ctx is live; the list holds X509_NAMEs or is null, which counts as empty; i2d
    // allocates the buffer that is freed here.
    unsafe {
        let list = SSL_CTX_get_client_CA_list(ctx).cast();
        for i in 0..OPENSSL_sk_num(list).max(0) {
            let mut der = std::ptr::null_mut();
            let length = i2d_X509_NAME(OPENSSL_sk_value(list, i).cast(), &raw mut der);
            if let Ok(length) = usize::try_from(length) {
                hash.update(std::slice::from_raw_parts(der, length));
                openssl_sys::CRYPTO_free(der.cast(), c"".as_ptr(), 0);
            }
        }
    }
    hash.finish().to_vec()
}

/// At configure time a managed server gets its context; nginx's would name the placeholder, which
/// differs with each reload. A server that is not managed keeps nginx's until a revocation.
pub fn set_initial(hook: &ServerHook) {
    if hook.entry.is_some() {
        set(hook.ctx, &value(hook, None));
    }
}

/// After revocations: new contexts on the servers that share a listen with a revoked entry, and
/// on every connection that is in its handshake and was made with an old one. But not on those that
/// must not be resumed at all.
pub fn renew<'a>(main: &MainConf, revoked: impl Fn(usize) -> Option<&'a Serial>) {
    // Servers of one listen share their neighbours, so the digest is worked out once for all.
    let mut digests: HashMap<*const BTreeSet<usize>, Option<[u8; 32]>> = HashMap::new();
    let mut digest = |hook: &ServerHook| {
        let new = || digest(main, &hook.neighbours, &revoked);
        *digests.entry(Arc::as_ptr(&hook.neighbours)).or_insert_with(new)
    };
    for hook in &main.listens {
        if let Some(digest) = digest(hook) {
            set(hook.ctx, &value(hook, Some(digest)));
        }
    }
    for ssl in handshaking().into_iter().filter(|ssl| !gate::is_full(*ssl)) {
        // SAFETY: a live SSL of this worker.
        let Some(hook) = (unsafe { ServerHook::of(ssl) }) else { continue };
        if let Some(digest) = digest(hook).filter(|_| std::ptr::eq(hook.main, main)) {
            set_one(ssl, &value(hook, Some(digest)));
        }
    }
}

/// A context that no session was ever made with: this handshake will be a full one. Nor will any
/// be with the session that this one makes if it is served: it may outlive its certificate.
pub fn forbid_resumption(ssl: *mut SSL) {
    let mut context = [0; 32];
    // Where there are no random numbers there is no handshake.
    let _ = openssl::rand::rand_bytes(&mut context);
    set_one(ssl, &context);
}

/// Of what was revoked among the entries of one listen; None: nothing.
fn digest<'a>(
    main: &MainConf,
    entries: &BTreeSet<usize>,
    revoked: impl Fn(usize) -> Option<&'a Serial>,
) -> Option<[u8; 32]> {
    let mut hash = Sha256::new();
    let mut any = false;
    for (entry, serial) in entries.iter().filter_map(|e| Some((*e, revoked(*e)?))) {
        hash.update(format!("{}\0{serial}\0", main.entries[entry].name).as_bytes());
        any = true;
    }
    any.then(|| hash.finish())
}

fn value(hook: &ServerHook, revoked: Option<[u8; 32]>) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(&hook.session_base);
    hash.update(&revoked.unwrap_or_default());
    hash.finish()
}

fn set(ctx: *mut SSL_CTX, value: &[u8]) {
    // SAFETY: ctx lives as long as the cycle; value is at most 32 bytes, the limit.
    unsafe { SSL_CTX_set_session_id_context(ctx, value.as_ptr(), value.len() as u32) };
}

fn set_one(ssl: *mut SSL, value: &[u8]) {
    // SAFETY: a live SSL; value is at most 32 bytes, the limit.
    unsafe { SSL_set_session_id_context(ssl, value.as_ptr(), value.len() as u32) };
}

/// The SSLs of this worker's connections that are still in their handshake. Walks all
/// connections: only for the rare revocation.
fn handshaking() -> Vec<*mut SSL> {
    // SAFETY: the worker's connections are an array of connection_n. A free one has fd -1, and one
    // that was never used nothing else that could be read; an open one's ssl is null or live.
    let ssl = |c: *const ngx_connection_t| unsafe {
        let ssl = if (*c).fd == -1 { None } else { (*c).ssl.as_ref() }?;
        (ssl.handshaked() == 0 && !ssl.connection.is_null()).then_some(ssl.connection.cast())
    };
    // SAFETY: as above.
    unsafe {
        let cycle = &*ngx_cycle;
        (0..cycle.connection_n).filter_map(|i| ssl(cycle.connections.add(i))).collect()
    }
}
