//! Configuration: nginx's callbacks on one side, `crate::directives` on the other.

use std::ffi::{CStr, c_char, c_void};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::ptr;
use std::sync::Arc;

use nginx_sys::{
    NGX_LOG_EMERG, NGX_LOG_WARN, ngx_array_create, ngx_array_push, ngx_array_t, ngx_command_t,
    ngx_conf_full_name, ngx_conf_parse, ngx_conf_t, ngx_cycle_t, ngx_http_core_srv_conf_t,
    ngx_http_ssl_srv_conf_t, ngx_int_t, ngx_pool_t, ngx_shm_zone_t, ngx_str_t, ngx_uint_t,
};

use super::http::{self, Context};
use super::overruled::{self, Overruled};
use super::placeholder::Placeholder;
use super::worker::Worker;
use super::{
    NGX_CONF_ERROR, NGX_CONF_OK, NGX_ERROR, NGX_OK, challenge, group, guard, listens, status, zone,
};
use crate::directives::{self, RawBlock, RawCa, RawMain};
use crate::settings::EntrySettings;

/// http{}: one a cycle.
#[derive(Default)]
pub struct MainConf {
    pub raw: RawMain,
    /// http{} itself has `ssl_certificate` lines.
    inherits_certificates: bool,
    /// http{} itself has `ssl_stapling on`.
    pub inherits_stapling: bool,
    /// Managed servers whose `ssl_stapling` has no effect.
    pub overruled: Vec<Overruled>,
    pub entries: Vec<Arc<EntrySettings>>,
    pub placeholder: Option<Placeholder>,
    pub zone: Option<*mut ngx_shm_zone_t>,
    /// One eventfd for each worker slot: any worker's thread wakes them all.
    pub wakeups: Vec<OwnedFd>,
    #[allow(clippy::vec_box)] // contexts hold their addresses
    pub listens: Vec<Box<listens::ServerHook>>,
    /// The cycle that this configuration is of.
    pub cycle: Option<*mut ngx_cycle_t>,
    /// Set in worker processes only.
    pub worker: Option<*mut Worker>,
}

/// One http{} or server{} level.
#[derive(Default)]
pub struct SrvConf {
    raw: RawBlock,
    /// The entry whose certificate this server serves.
    pub entry: Option<usize>,
    /// Whether it staples, if it has an entry.
    pub staples: bool,
}

/// Puts `value` on the heap, to be dropped with the pool.
fn in_pool<T>(pool: *mut ngx_pool_t, value: T) -> *mut T {
    unsafe extern "C" fn drop_boxed<T>(data: *mut c_void) {
        // SAFETY: made by Box::into_raw below; nginx runs a cleanup once.
        guard((), || drop(unsafe { Box::from_raw(data.cast::<T>()) }));
    }
    // SAFETY: pool is the configuration's and valid.
    let cleanup = unsafe { nginx_sys::ngx_pool_cleanup_add(pool, 0) };
    if cleanup.is_null() {
        return ptr::null_mut();
    }
    let value = Box::into_raw(Box::new(value));
    // SAFETY: cleanup was just made by nginx.
    unsafe {
        (*cleanup).handler = Some(drop_boxed::<T>);
        (*cleanup).data = value.cast();
    }
    value
}

pub unsafe extern "C" fn create_main_conf(cf: *mut ngx_conf_t) -> *mut c_void {
    // SAFETY: nginx passes a valid cf.
    guard(ptr::null_mut(), || in_pool(unsafe { (*cf).pool }, MainConf::default()).cast())
}

pub unsafe extern "C" fn create_srv_conf(cf: *mut ngx_conf_t) -> *mut c_void {
    // SAFETY: nginx passes a valid cf.
    guard(ptr::null_mut(), || in_pool(unsafe { (*cf).pool }, SrvConf::default()).cast())
}

/// A configuration error: one line with the place in the file.
fn refuse(cf: *mut ngx_conf_t, message: &str) {
    ngx::ngx_conf_log_error!(NGX_LOG_EMERG, cf, "ssl_cert_autofetch: {message}");
}

pub fn warn(cf: *mut ngx_conf_t, message: &str) {
    ngx::ngx_conf_log_error!(NGX_LOG_WARN, cf, "ssl_cert_autofetch: {message}");
}

fn or_refuse(cf: *mut ngx_conf_t, result: Result<(), String>) -> *mut c_char {
    match result {
        Ok(()) => NGX_CONF_OK,
        Err(message) => {
            if !message.is_empty() {
                refuse(cf, &message);
            }
            NGX_CONF_ERROR
        }
    }
}

/// The words of the line being read.
fn words<'a>(cf: &ngx_conf_t) -> Result<Vec<&'a str>, String> {
    // SAFETY: args holds ngx_str_t; their memory lives as long as the configuration.
    let words: &'a [ngx_str_t] = unsafe { http::elements(cf.args) };
    let text = |w: &'a ngx_str_t| http::text(w).ok_or_else(|| "value is not UTF-8".to_owned());
    words.iter().map(text).collect()
}

pub unsafe extern "C" fn set(
    cf: *mut ngx_conf_t,
    _command: *mut ngx_command_t,
    _conf: *mut c_void,
) -> *mut c_char {
    guard(NGX_CONF_ERROR, || or_refuse(cf, set_directive(cf)))
}

fn set_directive(cf: *mut ngx_conf_t) -> Result<(), String> {
    // SAFETY: nginx passes a valid cf; ours() and our_server() were made by create_*_conf.
    let (words, context) = unsafe { (words(&*cf)?, Context::of(&*cf)) };
    let (name, args) = (words[0], &words[1..]);
    // SAFETY: as above; nobody else looks at them while a line is read.
    let (main, server) = unsafe { (&mut *context.ours(), &mut *context.our_server()) };
    match name {
        "ssl_cert_autofetch_status" => status::install(context),
        "ssl_cert_autofetch_ca" => return ca_block(cf, args[0], main),
        "ssl_cert_autofetch_keystore" => {
            main.raw.set(name, args)?;
            main.raw.resolve_keystore(full_name(cf, args[0], 0)?.into());
            main.raw.resolve_access(&|path| read_file(cf, path), &group::number)?;
        }
        "ssl_cert_autofetch_max_held" => return main.raw.set(name, args),
        _ => return server.raw.set(name, args),
    }
    Ok(())
}

/// Reads `ssl_cert_autofetch_ca NAME { ... }`. An empty error was logged already.
fn ca_block(cf: *mut ngx_conf_t, name: &str, main: &mut MainConf) -> Result<(), String> {
    let mut raw = RawCa::new(name)?;
    // SAFETY: cf is valid; as nginx's own blocks do, handler and its data are set for the parse
    // of this block and restored after it.
    let parsed = unsafe {
        let saved = *cf;
        (*cf).handler = Some(ca_line);
        (*cf).handler_conf = (&raw mut raw).cast();
        let parsed = ngx_conf_parse(cf, ptr::null_mut());
        *cf = saved;
        parsed
    };
    if parsed != NGX_CONF_OK {
        return Err(String::new());
    }
    main.raw.add_ca(raw.finish()?)
}

unsafe extern "C" fn ca_line(
    cf: *mut ngx_conf_t,
    command: *mut ngx_command_t,
    conf: *mut c_void,
) -> *mut c_char {
    guard(NGX_CONF_ERROR, || {
        // SAFETY: handler_conf is the RawCa of ca_block(), which waits for us.
        let (raw, words) = unsafe { (&mut *conf.cast::<RawCa>(), words(&*cf)) };
        if words.as_ref().is_ok_and(|w| w.first() == Some(&"include")) {
            // SAFETY: as nginx's own blocks with a handler do it.
            return unsafe { nginx_sys::ngx_conf_include(cf, command, conf) };
        }
        let result = words.and_then(|w| {
            raw.set(w[0], &w[1..], &|path| read_file(cf, path))?;
            if w[0] == "token_file" {
                raw.resolve_token_file(full_name(cf, w[1], 1)?.into());
            }
            raw.check_program(w[0])
        });
        or_refuse(cf, result)
    })
}

/// A file of the configuration, relative to nginx.conf's folder. Read by the master.
fn read_file(cf: *mut ngx_conf_t, path: &str) -> Result<Vec<u8>, String> {
    const LIMIT: u64 = 1024 * 1024;
    let full = full_name(cf, path, 1)?;
    let failed = |call: &str, e: std::io::Error| format!("{call} \"{full}\" failed ({e})");
    let file = std::fs::File::open(Path::new(&full)).map_err(|e| failed("open()", e))?;
    // Room for one byte more, so that the buffer never grows: that would leave copies of secrets.
    let size = file.metadata().map_err(|e| failed("fstat()", e))?.len().min(LIMIT);
    let mut bytes = Vec::with_capacity(size as usize + 1);
    std::io::Read::read_to_end(&mut std::io::Read::take(file, LIMIT + 1), &mut bytes)
        .map_err(|e| failed("read()", e))?;
    if bytes.len() as u64 > LIMIT {
        return Err(format!("\"{full}\" is larger than {LIMIT} bytes"));
    }
    Ok(bytes)
}

/// A path as nginx resolves it: against the folder of nginx.conf or, with 0, against the prefix.
fn full_name(cf: *mut ngx_conf_t, path: &str, of_conf: ngx_uint_t) -> Result<String, String> {
    let mut name: Vec<u8> = path.bytes().chain([0]).collect();
    let mut full = ngx_str_t { len: path.len(), data: name.as_mut_ptr() };
    // SAFETY: full is NUL-terminated; on success its data is in the cycle's pool or ours.
    if unsafe { ngx_conf_full_name((*cf).cycle, &raw mut full, of_conf) } != NGX_OK {
        return Err("no memory".into());
    }
    Ok(http::text(&full).unwrap_or(path).to_owned())
}

/// Runs before the servers are merged: the last look at http{} itself.
pub unsafe extern "C" fn init_main_conf(cf: *mut ngx_conf_t, _conf: *mut c_void) -> *mut c_char {
    guard(NGX_CONF_ERROR, || {
        // SAFETY: valid configurations, one thread.
        let (main, server, ssl) = unsafe {
            let context = Context::of(&*cf);
            (&mut *context.ours(), &*context.our_server(), &*context.ssl())
        };
        main.inherits_certificates = has_certificates(ssl);
        main.inherits_stapling = ssl.stapling == 1;
        or_refuse(
            cf,
            match server.raw.is_on() && main.inherits_certificates {
                true => Err(BOTH.into()),
                false => Ok(()),
            },
        )
    })
}

const BOTH: &str = "\"ssl_certificate\" and \"ssl_cert_autofetch\" are in the same block, \
                    keep the one that this block is to use";

pub unsafe extern "C" fn merge_srv_conf(
    cf: *mut ngx_conf_t,
    outer: *mut c_void,
    own: *mut c_void,
) -> *mut c_char {
    guard(NGX_CONF_ERROR, || {
        // SAFETY: nginx passes what create_srv_conf made.
        let (outer, own) = unsafe { (&*outer.cast::<SrvConf>(), &mut *own.cast::<SrvConf>()) };
        or_refuse(cf, merge_server(cf, outer, own))
    })
}

fn merge_server(cf: *mut ngx_conf_t, outer: &SrvConf, own: &mut SrvConf) -> Result<(), String> {
    // SAFETY: valid configurations of the server that is being merged, one thread; nginx's core
    // module was merged before ours, its ssl module comes after.
    let (main, core, ssl) = unsafe {
        let context = Context::of(&*cf);
        (&mut *context.ours(), &*context.core_server(), &mut *context.ssl())
    };
    let written_here = own.raw.names_autofetch_itself();
    own.raw.inherit(&outer.raw);
    if !own.raw.is_on() {
        return Ok(());
    }
    directives::known_cas(&own.raw, main.raw.cas()).map_err(|e| format!("{e}{}", place(core)))?;
    if has_certificates(ssl) {
        return if written_here { Err(format!("{BOTH}{}", place(core))) } else { Ok(()) };
    }
    #[cfg(nginx_ssl_on)]
    if ssl.enable == 1 {
        return Err(format!("\"ssl on\" can't be managed, use \"listen ... ssl\"{}", place(core)));
    }
    // One that refuses every handshake needs no certificate.
    if !listens::takes_tls(cf, core) || ssl.reject_handshake == 1 {
        return Ok(());
    }
    let names = http::server_names(core);
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let entry = directives::entry(&own.raw, &names, main.raw.cas())
        .map_err(|e| format!("{e}{}", place(core)))?;
    own.staples = entry.stapling;
    own.entry = Some(add_entry(main, entry).map_err(|e| format!("{e}{}", place(core)))?);
    overruled::switch_off(main, place(core), ssl, own.staples);
    inject(cf, main, ssl)
}

/// " in FILE:LINE" of a server block: the parser stands elsewhere by now.
fn place(core: &ngx_http_core_srv_conf_t) -> String {
    if core.file_name.is_null() {
        return String::new();
    }
    // SAFETY: nginx keeps the file's name NUL-terminated.
    let file = unsafe { CStr::from_ptr(core.file_name.cast()) };
    format!(" in server at {}:{}", file.to_string_lossy(), core.line)
}

fn add_entry(main: &mut MainConf, entry: EntrySettings) -> Result<usize, String> {
    match main.entries.iter().position(|e| e.name == entry.name) {
        Some(i) => directives::unite(Arc::make_mut(&mut main.entries[i]), &entry).map(|()| i),
        None => {
            main.entries.push(Arc::new(entry));
            Ok(main.entries.len() - 1)
        }
    }
}

fn has_certificates(ssl: &ngx_http_ssl_srv_conf_t) -> bool {
    let is_set = |a: *mut ngx_array_t| !a.is_null() && a as usize != usize::MAX;
    is_set(ssl.certificates) || is_set(ssl.certificate_keys)
}

/// Gives the server one inline certificate, as if it were written in the configuration.
fn inject(
    cf: *mut ngx_conf_t,
    main: &mut MainConf,
    ssl: &mut ngx_http_ssl_srv_conf_t,
) -> Result<(), String> {
    let failed = |e: openssl::error::ErrorStack| format!("placeholder certificate failed: {e}");
    if main.placeholder.is_none() {
        main.placeholder = Some(Placeholder::new().map_err(failed)?);
    }
    let Some(placeholder) = &main.placeholder else { return Err("no placeholder".into()) };
    let certificate = placeholder.certificate.to_pem().map_err(failed)?;
    let key = placeholder.key.private_key_to_pem_pkcs8().map_err(failed)?;
    ssl.certificates = inline(cf, &certificate)?;
    ssl.certificate_keys = inline(cf, &key)?;
    // What nginx compresses beforehand is the placeholder, and carries no staple.
    #[cfg(nginx_certificate_compression)]
    {
        ssl.certificate_compression = 0;
    }
    Ok(())
}

/// An array of one `data:` string, NUL-terminated.
fn inline(cf: *mut ngx_conf_t, pem: &[u8]) -> Result<*mut ngx_array_t, String> {
    let text = [b"data:", pem, b"\0"].concat();
    // SAFETY: the configuration's pool; every pointer is checked before it is used.
    unsafe {
        let pool = (*cf).pool;
        let array = ngx_array_create(pool, 1, size_of::<ngx_str_t>());
        let data = nginx_sys::ngx_pnalloc(pool, text.len()).cast::<u8>();
        if array.is_null() || data.is_null() {
            return Err("no memory".into());
        }
        ptr::copy_nonoverlapping(text.as_ptr(), data, text.len());
        let place = ngx_array_push(array).cast::<ngx_str_t>();
        *place = ngx_str_t { len: text.len() - 1, data };
        Ok(array)
    }
}

pub unsafe extern "C" fn postconfiguration(cf: *mut ngx_conf_t) -> ngx_int_t {
    guard(NGX_ERROR, || {
        // SAFETY: all configurations are merged; one thread.
        let main = unsafe { &mut *Context::of(&*cf).ours() };
        match finish(cf, main) {
            Ok(()) => NGX_OK,
            Err(message) => {
                refuse(cf, &message);
                NGX_ERROR
            }
        }
    })
}

fn finish(cf: *mut ngx_conf_t, main: &mut MainConf) -> Result<(), String> {
    if main.entries.is_empty() {
        return Ok(());
    }
    let entries: Vec<EntrySettings> = main.entries.iter().map(|e| (**e).clone()).collect();
    for warning in directives::warnings(&entries, main.raw.cas()) {
        warn(cf, &warning);
    }
    overruled::warn_of(cf, &main.overruled);
    crate::keystore::Keystore::check_place(main.raw.keystore())
        .map_err(|e| format!("keystore: {e}"))?;
    // SAFETY: valid cf.
    main.cycle = Some(unsafe { (*cf).cycle });
    challenge::install(cf)?;
    zone::add(cf, main)?;
    listens::hook(cf, main)
}
