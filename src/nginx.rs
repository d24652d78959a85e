//! The adapter: everything that knows nginx, and the only place (beside `openssl_ffi`) with
//! `unsafe`. It translates: directives to settings, a ClientHello to a question, a decision to
//! OpenSSL calls, a report to log lines. What it leans on was measured and is written down in
//! `src/manual/handshake.md`.
//!
//! Three rules hold in every file here: only the event-loop thread touches nginx's and OpenSSL's
//! live objects; every `extern "C"` function catches panics; nothing blocks.

mod challenge;
mod commands;
mod conf;
mod gate;
mod group;
mod hello;
mod hold;
mod host;
mod http;
mod listens;
mod log;
mod offspring;
mod overruled;
mod placeholder;
mod process;
mod servers;
mod sessions;
mod shared_cell;
mod staple;
mod status;
mod swap;
mod worker;
mod zone;

use std::ffi::{c_char, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;

use nginx_sys::{
    NGX_HTTP_MODULE, NGX_RS_MODULE_SIGNATURE, nginx_version, ngx_http_module_t, ngx_int_t,
    ngx_module_t, ngx_uint_t,
};

pub(crate) const NGX_OK: ngx_int_t = nginx_sys::NGX_OK as ngx_int_t;
pub(crate) const NGX_ERROR: ngx_int_t = nginx_sys::NGX_ERROR as ngx_int_t;
pub(crate) const NGX_DECLINED: ngx_int_t = nginx_sys::NGX_DECLINED as ngx_int_t;
pub(crate) const NGX_CONF_OK: *mut c_char = ptr::null_mut();
pub(crate) const NGX_CONF_ERROR: *mut c_char = usize::MAX as *mut c_char;

static HTTP_MODULE: ngx_http_module_t = ngx_http_module_t {
    preconfiguration: None,
    postconfiguration: Some(conf::postconfiguration),
    create_main_conf: Some(conf::create_main_conf),
    init_main_conf: Some(conf::init_main_conf),
    create_srv_conf: Some(conf::create_srv_conf),
    merge_srv_conf: Some(conf::merge_srv_conf),
    create_loc_conf: None,
    merge_loc_conf: None,
};

/// nginx finds the module by this symbol and fills in indexes when it loads it.
#[allow(non_upper_case_globals)]
#[unsafe(no_mangle)]
pub static mut ngx_http_ssl_cert_autofetch_module: ngx_module_t = ngx_module_t {
    ctx_index: ngx_uint_t::MAX,
    index: ngx_uint_t::MAX,
    name: ptr::null_mut(),
    spare0: 0,
    spare1: 0,
    version: nginx_version as ngx_uint_t,
    signature: NGX_RS_MODULE_SIGNATURE.as_ptr(),
    ctx: &raw const HTTP_MODULE as *mut c_void,
    commands: commands::COMMANDS.as_ptr().cast_mut(),
    type_: NGX_HTTP_MODULE as ngx_uint_t,
    init_master: None,
    init_module: None,
    init_process: Some(process::init_process),
    init_thread: None,
    exit_thread: None,
    exit_process: Some(process::exit_process),
    exit_master: None,
    spare_hook0: 0,
    spare_hook1: 0,
    spare_hook2: 0,
    spare_hook3: 0,
    spare_hook4: 0,
    spare_hook5: 0,
    spare_hook6: 0,
    spare_hook7: 0,
};

/// The table that nginx looks for in a dynamic module. nginx's own build makes it otherwise.
#[cfg(feature = "export-modules")]
#[allow(non_upper_case_globals)]
mod table {
    use super::*;

    pub struct Table<const N: usize, T>([*const T; N]);
    // SAFETY: constant pointers to constants; nginx reads them in one thread.
    unsafe impl<const N: usize, T> Sync for Table<N, T> {}

    #[unsafe(no_mangle)]
    pub static ngx_modules: Table<2, ngx_module_t> =
        Table([&raw const ngx_http_ssl_cert_autofetch_module, ptr::null()]);

    #[unsafe(no_mangle)]
    pub static ngx_module_names: Table<2, c_char> =
        Table([c"ngx_http_ssl_cert_autofetch_module".as_ptr(), ptr::null()]);

    /// Before nginx's ssl module: our merge puts a certificate where its merge looks for one.
    #[unsafe(no_mangle)]
    pub static ngx_module_order: Table<3, c_char> = Table([
        c"ngx_http_ssl_cert_autofetch_module".as_ptr(),
        c"ngx_http_ssl_module".as_ptr(),
        ptr::null(),
    ]);
}

/// Runs `f`; a panic in it becomes `fallback` and never crosses into C.
pub(crate) fn guard<T>(fallback: T, f: impl FnOnce() -> T) -> T {
    catch_unwind(AssertUnwindSafe(f)).unwrap_or_else(|_| {
        log::line(log::ALERT, "internal error (panic), please report");
        fallback
    })
}
