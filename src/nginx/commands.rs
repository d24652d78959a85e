//! nginx's table of directives, made from the core's.

use std::ptr;

use nginx_sys::{
    NGX_CONF_ANY, NGX_CONF_BLOCK, NGX_CONF_NOARGS, NGX_CONF_TAKE1, NGX_HTTP_LOC_CONF,
    NGX_HTTP_LOC_CONF_OFFSET, NGX_HTTP_MAIN_CONF, NGX_HTTP_SRV_CONF, NGX_HTTP_SRV_CONF_OFFSET,
    ngx_command_t, ngx_str_t, ngx_uint_t,
};

use super::conf::set;
use crate::directives::{self, DIRECTIVES, Directive};

pub static COMMANDS: Commands = Commands(commands());

pub struct Commands([ngx_command_t; DIRECTIVES.len() + 1]);

// SAFETY: never written to; the pointers in it are to constants.
unsafe impl Sync for Commands {}

impl Commands {
    pub const fn as_ptr(&self) -> *const ngx_command_t {
        self.0.as_ptr()
    }
}

/// The names again, NUL-terminated: nginx compares them with strcmp().
static NAMES: [[u8; NAME_SIZE]; DIRECTIVES.len()] = names();
const NAME_SIZE: usize = 64;

const fn names() -> [[u8; NAME_SIZE]; DIRECTIVES.len()] {
    let mut names = [[0; NAME_SIZE]; DIRECTIVES.len()];
    let mut i = 0;
    while i < DIRECTIVES.len() {
        let name = DIRECTIVES[i].name.as_bytes();
        assert!(name.len() < NAME_SIZE);
        let mut j = 0;
        while j < name.len() {
            names[i][j] = name[j];
            j += 1;
        }
        i += 1;
    }
    names
}

const fn commands() -> [ngx_command_t; DIRECTIVES.len() + 1] {
    let end = ngx_command_t {
        name: ngx_str_t { len: 0, data: ptr::null_mut() },
        type_: 0,
        set: None,
        conf: 0,
        offset: 0,
        post: ptr::null_mut(),
    };
    let mut table = [end; DIRECTIVES.len() + 1];
    let mut i = 0;
    while i < DIRECTIVES.len() {
        table[i] = command(&DIRECTIVES[i], &NAMES[i]);
        i += 1;
    }
    table
}

const fn command(d: &'static Directive, name: &'static [u8; NAME_SIZE]) -> ngx_command_t {
    let mut kind = if d.block {
        NGX_CONF_BLOCK | NGX_CONF_TAKE1
    } else if d.max == 0 {
        NGX_CONF_NOARGS
    } else {
        NGX_CONF_ANY // the core counts: its message says what is accepted
    };
    let mut conf = NGX_HTTP_SRV_CONF_OFFSET;
    let mut i = 0;
    while i < d.contexts.len() {
        match d.contexts[i] {
            directives::Context::Http => kind |= NGX_HTTP_MAIN_CONF,
            directives::Context::Server => kind |= NGX_HTTP_SRV_CONF,
            directives::Context::Location => {
                kind |= NGX_HTTP_LOC_CONF;
                conf = NGX_HTTP_LOC_CONF_OFFSET;
            }
            directives::Context::Ca => {}
        }
        i += 1;
    }
    ngx_command_t {
        name: ngx_str_t { len: d.name.len(), data: name.as_ptr().cast_mut() },
        type_: kind as ngx_uint_t,
        set: Some(set),
        conf: conf as ngx_uint_t,
        offset: 0,
        post: ptr::null_mut(),
    }
}
