//! nginx's own `ssl_stapling` in managed servers. It would know the placeholder's certificate only,
//! and warn of that; and OpenSSL has one place for the callback of both.

use nginx_sys::{ngx_conf_t, ngx_http_ssl_srv_conf_t};

use super::conf::{self, MainConf};

/// A managed server in which it was on.
pub struct Overruled {
    place: String,
    inherits: bool,
    /// Whether we staple there.
    staples: bool,
}

/// Switches it off, before nginx's merge acts on it. `place`: " in server at FILE:LINE".
pub fn switch_off(
    main: &mut MainConf,
    place: String,
    ssl: &mut ngx_http_ssl_srv_conf_t,
    staples: bool,
) {
    let inherits = ssl.stapling != 0 && ssl.stapling != 1; // not set
    if ssl.stapling == 1 || (inherits && main.inherits_stapling) {
        main.overruled.push(Overruled { place, inherits, staples });
    }
    ssl.stapling = 0;
}

/// A line for each server that says it itself; one for all that inherit it.
pub fn warn_of(cf: *mut ngx_conf_t, overruled: &[Overruled]) {
    let (inherited, own): (Vec<_>, Vec<_>) = overruled.iter().partition(|o| o.inherits);
    own.iter().for_each(|o| conf::warn(cf, &o.line(0)));
    for staples in [true, false] {
        let alike: Vec<_> = inherited.iter().filter(|o| o.staples == staples).collect();
        if let Some(first) = alike.first() {
            conf::warn(cf, &first.line(alike.len() - 1));
        }
    }
}

impl Overruled {
    fn line(&self, others: usize) -> String {
        let instead = match self.staples {
            true => "\"ssl_cert_autofetch_stapling\" does it",
            false => "\"ssl_cert_autofetch_stapling\" is off, so nothing is stapled",
        };
        let others = match others {
            0 => String::new(),
            n => format!(" (and in {n} more that inherit it)"),
        };
        format!(
            "\"ssl_stapling\" ignored, it can't staple what \"ssl_cert_autofetch\" manages, \
             {instead}{}{others}",
            self.place
        )
    }
}
