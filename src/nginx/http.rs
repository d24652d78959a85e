//! Safe reading of nginx's configuration structures.

use std::slice;

use nginx_sys::{
    ngx_array_t, ngx_conf_t, ngx_cycle_t, ngx_http_conf_ctx_t, ngx_http_core_main_conf_t,
    ngx_http_core_module, ngx_http_core_srv_conf_t, ngx_http_module, ngx_http_server_name_t,
    ngx_http_ssl_module, ngx_http_ssl_srv_conf_t, ngx_module_t, ngx_str_t,
};

use super::conf::{MainConf, SrvConf};
use super::ngx_http_ssl_cert_autofetch_module as OURS;

/// The elements of an nginx array.
///
/// # Safety
/// `array` must hold elements of type T and stay unchanged for the life of the slice.
pub unsafe fn elements<'a, T>(array: *const ngx_array_t) -> &'a [T] {
    // SAFETY: nelts elements at elts, by nginx's array; an empty one may have no memory.
    unsafe {
        match array.as_ref() {
            Some(a) if a.nelts > 0 => slice::from_raw_parts(a.elts.cast(), a.nelts),
            _ => &[],
        }
    }
}

/// The text of an nginx string; None when it is not UTF-8.
pub fn text(s: &ngx_str_t) -> Option<&str> {
    if s.len == 0 {
        return Some("");
    }
    // SAFETY: nginx strings are len bytes at data.
    std::str::from_utf8(unsafe { slice::from_raw_parts(s.data, s.len) }).ok()
}

/// The configuration contexts of one level of http{}.
#[derive(Clone, Copy)]
pub struct Context(*mut ngx_http_conf_ctx_t);

impl Context {
    /// Of the block that is being read or merged.
    pub fn of(cf: &ngx_conf_t) -> Context {
        Context(cf.ctx.cast())
    }

    pub fn of_server(server: &ngx_http_core_srv_conf_t) -> Context {
        Context(server.ctx)
    }

    /// The http{} of a cycle; None when it has none.
    pub fn of_cycle(cycle: &ngx_cycle_t) -> Option<Context> {
        if cycle.conf_ctx.is_null() {
            return None;
        }
        // SAFETY: conf_ctx has a place for each module; http's holds an ngx_http_conf_ctx_t.
        let ctx = unsafe { *cycle.conf_ctx.add(ngx_http_module.index) };
        (!ctx.is_null()).then_some(Context(ctx.cast()))
    }

    fn main<T>(self, module: *const ngx_module_t) -> *mut T {
        // SAFETY: the arrays have a place for each http module at its ctx_index.
        unsafe { (*(*self.0).main_conf.add((*module).ctx_index)).cast() }
    }

    fn srv<T>(self, module: *const ngx_module_t) -> *mut T {
        // SAFETY: as in main().
        unsafe { (*(*self.0).srv_conf.add((*module).ctx_index)).cast() }
    }

    /// Of the location that is being read.
    pub fn loc<T>(self, module: *const ngx_module_t) -> *mut T {
        // SAFETY: as in main().
        unsafe { (*(*self.0).loc_conf.add((*module).ctx_index)).cast() }
    }

    pub fn ours(self) -> *mut MainConf {
        self.main(&raw const OURS)
    }

    pub fn our_server(self) -> *mut SrvConf {
        self.srv(&raw const OURS)
    }

    pub fn core_main(self) -> *mut ngx_http_core_main_conf_t {
        self.main(&raw const ngx_http_core_module)
    }

    pub fn core_server(self) -> *mut ngx_http_core_srv_conf_t {
        self.srv(&raw const ngx_http_core_module)
    }

    pub fn ssl(self) -> *mut ngx_http_ssl_srv_conf_t {
        self.srv(&raw const ngx_http_ssl_module)
    }
}

/// All servers of http{}.
pub fn servers<'a>(context: Context) -> &'a [*mut ngx_http_core_srv_conf_t] {
    // SAFETY: `servers` holds pointers to server configurations that live as long as the cycle.
    unsafe { elements(&raw const (*context.core_main()).servers) }
}

/// The server names as written: a regular expression with its `~`.
pub fn server_names(server: &ngx_http_core_srv_conf_t) -> Vec<String> {
    // SAFETY: `server_names` holds ngx_http_server_name_t; complete once server{} is read.
    let names: &[ngx_http_server_name_t] = unsafe { elements(&raw const server.server_names) };
    let written = |n: &ngx_http_server_name_t| {
        let name = text(&n.name).unwrap_or_default();
        if n.regex.is_null() { name.to_owned() } else { format!("~{name}") }
    };
    names.iter().map(written).collect()
}
