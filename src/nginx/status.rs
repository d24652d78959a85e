//! `ssl_cert_autofetch_status`: the status of this nginx as JSON.

use nginx_sys::{
    NGX_HTTP_GET, NGX_HTTP_HEAD, NGX_HTTP_NOT_ALLOWED, ngx_http_core_loc_conf_t,
    ngx_http_core_module, ngx_http_request_t, ngx_int_t,
};

use super::challenge::respond;
use super::http::Context;
use super::zone::{Counter, Zone};
use super::{NGX_ERROR, guard, worker};
use crate::status::{Counters, EntryStatus, Status};

/// Makes our handler the content of the location that is being read.
pub fn install(context: Context) {
    let core: *mut ngx_http_core_loc_conf_t = context.loc(&raw const ngx_http_core_module);
    // SAFETY: the configuration of the location that is being read.
    unsafe { (*core).handler = Some(handler) };
}

unsafe extern "C" fn handler(r: *mut ngx_http_request_t) -> ngx_int_t {
    guard(NGX_ERROR, || {
        // SAFETY: nginx passes a live request, in the event loop.
        let request = unsafe { &mut *r };
        if request.method & (NGX_HTTP_GET | NGX_HTTP_HEAD) as usize == 0 {
            return NGX_HTTP_NOT_ALLOWED as ngx_int_t;
        }
        match serde_json::to_vec(&status()) {
            Ok(json) => respond(request, &json, c"application/json"),
            Err(_) => NGX_ERROR,
        }
    })
}

fn status() -> Status {
    let now = worker::now();
    let worker = worker::current();
    let zone = worker.as_ref().map(|w| w.zone);
    let views = worker.iter().flat_map(|w| w.views());
    Status {
        version: env!("CARGO_PKG_VERSION"),
        entries: views.map(|(s, v)| EntryStatus::new(now, s, v)).collect(),
        counters: zone.map(counters).unwrap_or_default(),
    }
}

fn counters(zone: &Zone) -> Counters {
    Counters {
        handshakes: zone.total(Counter::Handshakes),
        held: zone.total(Counter::Held),
        refused: zone.total(Counter::Refused),
        ocsp_queries: zone.total(Counter::OcspQueries),
        ocsp_errors: zone.total(Counter::OcspErrors),
        crl_fetches: zone.total(Counter::CrlFetches),
        issued: zone.total(Counter::Issued),
        issue_errors: zone.total(Counter::IssueErrors),
        replaced_revoked: zone.total(Counter::ReplacedRevoked),
        replaced_expired: zone.total(Counter::ReplacedExpired),
    }
}
