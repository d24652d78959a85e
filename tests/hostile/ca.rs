//! A CA that lies in its answers, or breaks.

use crate::lab::ocsp::Status;
use crate::lab::*;
use crate::stage::{Hostile, check_refused};

#[test]
#[ignore = "needs nginx and the module: scripts/test.sh"]
fn a_lying_ca_gets_nothing_served() {
    let table = [
        (Lie::OtherName, "lacks the name"),
        (Lie::OtherKey, "not for the key"),
        (Lie::Expired, "expired"),
        // The clock of the CA may be right and ours wrong: waited for, no other is ordered.
        (Lie::Tomorrow, "not valid before"),
        (Lie::SelfSigned, "not for the key"),
        (Lie::Unlinked, "lacks the issuer"),
        (Lie::LeafOnly, "lacks the issuer"),
        (Lie::ForClients, "not for servers"),
        (Lie::TheOldOne, "not for the key"),
        (Lie::Problem, "not on a day like this"),
        (Lie::Invalid, "not on a day like this"),
        (Lie::Page, "newOrder"),
        (Lie::PageForCertificate, "certificate"),
        (Lie::Status500, "500"),
        (Lie::Never, "timed out"),
        (Lie::Close, "certificate"),
        (Lie::Endless, "larger than"),
    ];
    let liar = Liar::start();
    let tls = Port::reserve();
    let name = |lie: Lie| format!("{lie:?}.test").to_ascii_lowercase();
    let server =
        |lie| format!("server {{ listen {} ssl; server_name {}; }}\n", tls.addr(), name(lie));
    let servers: String = table.iter().map(|(lie, _)| server(*lie)).collect();
    let lines = "ssl_cert_autofetch_check_interval 0; ssl_cert_autofetch_timeout 8s;";
    let stage =
        Hostile::start(liar, tls.clone(), Config::new(), "", &format!("{lines}\n{servers}"));
    for (lie, cause) in table {
        let (name, what) = (name(lie), format!("{lie:?}"));
        let serial = stage.monitor.wait_valid(&name);
        stage.client(&name).connect().expect("handshake");
        stage.liar.lie_about(&name, lie);
        let revoked = Status::Revoked { reason: Some(1), at: clock::now() };
        stage.liar.responder.set_status(&serial, revoked);

        let refused = stage.client(&name).connect();
        check_refused(&what, refused);
        let longest = if lie == Lie::Tomorrow { 3600 } else { 12 };
        let told = stage.check_failure(&what, &name, &serial, "ISSUE", longest);
        assert!(told.contains(cause), "{what}: {told}");
        let revoked = format!("\"{name}\": certificate serial={serial} is revoked (keyCompromise)");
        assert_eq!(stage.nginx.log_lines(&revoked).len(), 1, "{what}");
        let again = stage.client(&name).connect();
        check_refused(&what, again);
        assert_eq!(stage.liar.orders_for(&name), 2, "{what}");
        stage.liar.lie_about(&name, Lie::Honest);
    }
    for (lie, _) in table.into_iter().filter(|(lie, _)| *lie != Lie::Tomorrow) {
        let new = stage.monitor.wait_valid(&name(lie));
        let served = stage.client(&name(lie)).connect().expect("handshake");
        assert_eq!(served.serial, new, "{lie:?}");
        assert_eq!(stage.monitor.entry(&name(lie))["version"], 2, "{lie:?}");
    }
    stage.nginx.check_log();
}
