//! Which server a name belongs to, found as nginx finds it.

use std::ptr;

use nginx_sys::{
    ngx_connection_t, ngx_hash_find_combined, ngx_hash_key, ngx_http_addr_conf_t,
    ngx_http_connection_t, ngx_http_core_srv_conf_t, ngx_http_virtual_names_t,
};

use super::http::Context;

/// The entry that serves a server name on the listen of a connection in its handshake; None: its
/// server is not managed.
pub fn entry_for(c: *mut ngx_connection_t, name: Option<&[u8]>) -> Option<usize> {
    // SAFETY: during its handshake the data of an http connection is its
    // ngx_http_connection_t; the structures behind it live as long as the cycle.
    unsafe {
        let connection = &*(*c).data.cast::<ngx_http_connection_t>();
        let address = &*connection.addr_conf;
        let server = name.and_then(|n| find_server(address, n)).unwrap_or(address.default_server);
        (*Context::of_server(&*server).our_server()).entry
    }
}

/// As nginx's own ngx_http_find_virtual_server(), which is not exported.
///
/// # Safety
/// `address` is of the running configuration.
unsafe fn find_server(
    address: &ngx_http_addr_conf_t,
    name: &[u8],
) -> Option<*mut ngx_http_core_srv_conf_t> {
    // SAFETY: the hash and the array of regular expressions are nginx's, unchanged at run time.
    unsafe {
        let names = address.virtual_names.as_ref()?;
        let data = name.as_ptr().cast_mut();
        let found = ngx_hash_find_combined(
            (&raw const names.names).cast_mut(),
            ngx_hash_key(data, name.len()),
            data,
            name.len(),
        );
        if !found.is_null() {
            return Some(found.cast());
        }
        by_regex(names, name)
    }
}

#[cfg(nginx_regex)]
unsafe fn by_regex(
    names: &ngx_http_virtual_names_t,
    name: &[u8],
) -> Option<*mut ngx_http_core_srv_conf_t> {
    let mut text = nginx_sys::ngx_str_t { len: name.len(), data: name.as_ptr().cast_mut() };
    // SAFETY: nregex expressions at regex, compiled by nginx; no captures are asked for.
    unsafe {
        let all = (0..names.nregex).map(|i| &*names.regex.add(i));
        let matches = |n: &&nginx_sys::ngx_http_server_name_t| {
            nginx_sys::ngx_regex_exec((*n.regex).regex, &raw mut text, ptr::null_mut(), 0) >= 0
        };
        all.into_iter().find(matches).map(|n| n.server)
    }
}

#[cfg(not(nginx_regex))]
unsafe fn by_regex(
    _names: &ngx_http_virtual_names_t,
    _name: &[u8],
) -> Option<*mut ngx_http_core_srv_conf_t> {
    None
}
