//! Log lines, from the event loop only: nginx's log is not for threads.

use nginx_sys::{
    NGX_LOG_ALERT, NGX_LOG_ERR, NGX_LOG_INFO, NGX_LOG_NOTICE, NGX_LOG_WARN, ngx_cycle, ngx_uint_t,
};

use crate::report::{Event, Level};

pub const ALERT: ngx_uint_t = NGX_LOG_ALERT as ngx_uint_t;
pub const WARN: ngx_uint_t = NGX_LOG_WARN as ngx_uint_t;

/// One line with our prefix in the log of the cycle.
pub fn line(level: ngx_uint_t, text: &str) {
    // SAFETY: nginx sets ngx_cycle before any module code runs and keeps it valid; its log lives
    // as long.
    let log = unsafe { ngx_cycle.as_ref().map(|cycle| cycle.log) };
    if let Some(log) = log.filter(|l| !l.is_null()) {
        ngx::ngx_log_error!(level, log, "ssl_cert_autofetch: {text}");
    }
}

pub fn event(event: &Event) {
    let level = match event.level() {
        Level::Error => NGX_LOG_ERR,
        Level::Warn => NGX_LOG_WARN,
        Level::Notice => NGX_LOG_NOTICE,
        Level::Info => NGX_LOG_INFO,
    };
    line(level as ngx_uint_t, &event.to_string());
}
