//! Which servers share a listen, and the hooks on their SSL contexts. OpenSSL makes an SSL from
//! the context of the listen's default server, before the name is known: so every context of a
//! listen that carries a managed name is hooked, managed or not.

use std::collections::{BTreeSet, HashMap};
use std::ffi::c_int;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

use nginx_sys::{
    CRYPTO_EX_INDEX_SSL, CRYPTO_EX_INDEX_SSL_CTX, CRYPTO_get_ex_new_index, SSL, SSL_CTX,
    SSL_CTX_get_ex_data, SSL_CTX_get_info_callback, SSL_CTX_set_cert_cb, SSL_CTX_set_ex_data,
    SSL_CTX_set_info_callback, SSL_get_SSL_CTX, ngx_conf_t, ngx_http_conf_addr_t,
    ngx_http_conf_port_t, ngx_http_core_srv_conf_t,
};

use super::conf::MainConf;
use super::http::{self, Context};
use super::{conf, gate, hello, staple};

pub type InfoCallback = unsafe extern "C" fn(*const SSL, c_int, c_int);

/// What we know of one hooked SSL_CTX. Lives as long as the cycle.
pub struct ServerHook {
    pub main: *const MainConf,
    pub ctx: *mut SSL_CTX,
    /// The entry whose certificate this context serves.
    pub entry: Option<usize>,
    /// All entries of the listens of this server: a revocation of any changes the session
    /// context, since resumption is checked against the default server's.
    pub neighbours: Arc<BTreeSet<usize>>,
    /// Tells this server's sessions from other servers'.
    pub session_base: Vec<u8>,
    /// nginx's own, called after ours.
    pub next: Option<InfoCallback>,
}

/// Our places in SSL_CTX and SSL; the same for the life of the process.
static HOOK_INDEX: AtomicI32 = AtomicI32::new(-1);
static VERDICT_INDEX: AtomicI32 = AtomicI32::new(-1);

impl ServerHook {
    /// The hook on the context that `ssl` uses now.
    ///
    /// # Safety
    /// `ssl` is live; the hook lives as long as its cycle, which the connection keeps.
    pub unsafe fn of<'a>(ssl: *const SSL) -> Option<&'a ServerHook> {
        // SAFETY: the place holds null or a ServerHook put there by attach().
        unsafe {
            let ctx = SSL_get_SSL_CTX(ssl);
            SSL_CTX_get_ex_data(ctx, HOOK_INDEX.load(Ordering::Relaxed))
                .cast::<ServerHook>()
                .as_ref()
        }
    }
}

/// The place in an SSL for the verdict on its handshake.
pub fn verdict_index() -> c_int {
    VERDICT_INDEX.load(Ordering::Relaxed)
}

/// Whether a server has a listener that speaks TLS (or QUIC).
pub fn takes_tls(cf: *mut ngx_conf_t, server: &ngx_http_core_srv_conf_t) -> bool {
    // SAFETY: the ports are complete once http{} is read, which is when servers are merged.
    let addresses = unsafe { addresses(Context::of(&*cf)) };
    addresses.iter().any(|a| speaks_tls(a) && servers_of(a).iter().any(|s| ptr::eq(*s, server)))
}

fn addresses<'a>(context: Context) -> Vec<&'a ngx_http_conf_addr_t> {
    // SAFETY: ports holds ngx_http_conf_port_t, each with ngx_http_conf_addr_t; unchanged from
    // the end of parsing to the end of postconfiguration.
    unsafe {
        let ports: &[ngx_http_conf_port_t] = http::elements((*context.core_main()).ports);
        ports.iter().flat_map(|p| http::elements(&raw const p.addrs)).collect()
    }
}

fn speaks_tls(address: &ngx_http_conf_addr_t) -> bool {
    #[cfg(nginx_quic)]
    if address.opt.quic() != 0 {
        return true;
    }
    address.opt.ssl() != 0
}

fn servers_of(address: &ngx_http_conf_addr_t) -> &[*mut ngx_http_core_srv_conf_t] {
    // SAFETY: servers holds pointers to server configurations.
    unsafe { http::elements(&raw const address.servers) }
}

/// Hooks every context of every listen that carries a managed name.
pub fn hook(cf: *mut ngx_conf_t, main: &mut MainConf) -> Result<(), String> {
    make_indexes()?;
    // SAFETY: all servers are merged.
    let context = unsafe { Context::of(&*cf) };
    let addresses: Vec<_> = addresses(context).into_iter().filter(|a| speaks_tls(a)).collect();
    // Which of them each server is on. Many servers share theirs, and so the set of entries.
    let mut places: HashMap<*mut ngx_http_core_srv_conf_t, Vec<usize>> = HashMap::new();
    for (i, address) in addresses.iter().enumerate() {
        for server in servers_of(address) {
            places.entry(*server).or_default().push(i);
        }
    }
    let mut sets: HashMap<Vec<usize>, Arc<BTreeSet<usize>>> = HashMap::new();
    for server in http::servers(context) {
        let Some(place) = places.remove(server) else { continue };
        let set = sets.entry(place).or_insert_with_key(|place| {
            let servers = place.iter().flat_map(|i| servers_of(addresses[*i]));
            Arc::new(servers.filter_map(|s| entry_of(*s)).collect())
        });
        if !set.is_empty() {
            let set = Arc::clone(set);
            attach(main, *server, set)?;
        }
    }
    lower_timeouts(cf, main, &addresses);
    Ok(())
}

/// A held handshake must end before nginx's own timer ends it, which is that of the listen's
/// default server.
fn lower_timeouts(cf: *mut ngx_conf_t, main: &mut MainConf, addresses: &[&ngx_http_conf_addr_t]) {
    let mut lowest = vec![Duration::MAX; main.entries.len()];
    for address in addresses {
        // SAFETY: a merged server.
        let timeout = unsafe { (*address.default_server).client_header_timeout } as u64;
        for entry in servers_of(address).iter().filter_map(|s| entry_of(*s)) {
            lowest[entry] = lowest[entry].min(Duration::from_millis(timeout));
        }
    }
    let mut lowered = Vec::new();
    for (entry, lowest) in main.entries.iter_mut().zip(lowest) {
        if lowest <= entry.timeout {
            Arc::make_mut(entry).timeout = lowest * 9 / 10;
            lowered.push((entry.name.to_string(), entry.timeout.as_millis()));
        }
    }
    // One line for all: often one `client_header_timeout` in http{} is behind many.
    let Some((name, timeout)) = lowered.first() else { return };
    let others = match lowered.len() - 1 {
        0 => String::new(),
        n => format!(" (and of {n} more)"),
    };
    let text = format!(
        "\"ssl_cert_autofetch_timeout\" of \"{name}\"{others} is not below the \
         \"client_header_timeout\" of its listen's default server, {timeout} ms are used"
    );
    conf::warn(cf, &text);
}

fn entry_of(server: *mut ngx_http_core_srv_conf_t) -> Option<usize> {
    // SAFETY: a merged server; our configuration of it was made by create_srv_conf.
    unsafe { (*Context::of_server(&*server).our_server()).entry }
}

/// Whether this server staples: of an entry's servers each may have its own word.
fn staples(server: &ngx_http_core_srv_conf_t) -> bool {
    // SAFETY: as in entry_of().
    unsafe { (*Context::of_server(server).our_server()).staples }
}

fn attach(
    main: &mut MainConf,
    server: *mut ngx_http_core_srv_conf_t,
    neighbours: Arc<BTreeSet<usize>>,
) -> Result<(), String> {
    // SAFETY: a merged server.
    let (server, ssl) = unsafe { (&*server, &*Context::of_server(&*server).ssl()) };
    let ctx = ssl.ssl.ctx;
    if ctx.is_null() {
        return Ok(()); // nginx says what is missing
    }
    let entry = entry_of(ptr::from_ref(server).cast_mut());
    let ours = ptr::from_ref(main);
    let mut hook = Box::new(ServerHook {
        main: ours,
        ctx,
        entry,
        neighbours,
        session_base: super::sessions::base(server, ctx),
        next: None,
    });
    // SAFETY: nginx made ctx in its merge and keeps it for the cycle, as main keeps the hook
    // (boxed: its address stays).
    unsafe {
        hook.next = SSL_CTX_get_info_callback(ctx).map(|f| f as InfoCallback);
        SSL_CTX_set_info_callback(ctx, Some(hello::info_callback));
        let address = (&raw mut *hook).cast();
        if SSL_CTX_set_ex_data(ctx, HOOK_INDEX.load(Ordering::Relaxed), address) == 0 {
            return Err("SSL_CTX_set_ex_data() failed".into());
        }
        if entry.is_some() {
            SSL_CTX_set_cert_cb(ctx, Some(gate::certificate_callback), address);
        }
    }
    if entry.is_some() && staples(server) {
        staple::install(ctx, &raw mut *hook);
    }
    super::sessions::set_initial(&hook);
    main.listens.push(hook);
    Ok(())
}

fn make_indexes() -> Result<(), String> {
    for (place, class) in
        [(&HOOK_INDEX, CRYPTO_EX_INDEX_SSL_CTX), (&VERDICT_INDEX, CRYPTO_EX_INDEX_SSL)]
    {
        if place.load(Ordering::Relaxed) >= 0 {
            continue;
        }
        // SAFETY: no callbacks, no arguments.
        let index = unsafe {
            CRYPTO_get_ex_new_index(class as c_int, 0, ptr::null_mut(), None, None, None)
        };
        if index < 0 {
            return Err("CRYPTO_get_ex_new_index() failed".into());
        }
        place.store(index, Ordering::Relaxed);
    }
    Ok(())
}
