//! CRLs of `openssl ca` as the only evidence: the certificates name no OCSP responder.

mod lab;

use std::time::Duration;

use lab::*;

const EACH: &str = "ssl_cert_autofetch_check_interval 0;";
const HARD: &str = "ssl_cert_autofetch_check hard;";

/// A CA, and the server of its list.
struct Scene {
    root: Identity,
    ca: OpensslCa,
    list: CrlServer,
}

impl Scene {
    fn new() -> Scene {
        let (root, ca) = OpensslCa::with_root();
        let list = CrlServer::start(Port::reserve(), ca.crl(&Gencrl::default()));
        Scene { root, ca, list }
    }

    fn issue(&self, name: &str) -> Identity {
        let pointers = Pointers { crl_url: Some(self.list.url()), ocsp_url: None };
        self.ca.issue(&[name], &pointers)
    }

    fn publish(&self, how: &Gencrl) {
        self.list.publish(self.ca.crl(how));
    }

    fn guests(&self) -> Guests {
        Guests::of(&self.root.cert_pem())
    }

    fn revoked_line(&self, id: &Identity, reason: &str) -> String {
        let (serial, url) = (id.serial(), self.list.url());
        format!("certificate serial={serial} is revoked ({reason}), source={url}")
    }
}

#[test]
#[ignore = "needs nginx and the module: scripts/test.sh"]
fn a_certificate_is_good_until_it_is_listed() {
    let scene = Scene::new();
    let id = scene.issue("a.test");
    let others = [scene.issue("b.test"), scene.issue("c.test")];
    let site = scene.guests().http(EACH).add("a.test", &id, HARD).start();
    site.check_served("a.test", &id.serial());
    let entry = site.monitor.entry("a.test");
    let evidence = &entry["evidence"];
    assert_eq!((&evidence["source"], &evidence["status"]), (&"crl".into(), &"good".into()));
    assert_eq!(evidence["responder"], scene.list.url());
    assert!(evidence["next_update"].is_string(), "{evidence}");

    others.iter().for_each(|other| scene.ca.revoke(other, None));
    scene.publish(&Gencrl::default());
    site.check_served("a.test", &id.serial());
    scene.ca.revoke(&id, Some("keyCompromise"));
    scene.publish(&Gencrl::default());
    let new = site.check_replaced("a.test", &id.serial());
    assert_eq!(site.monitor.entry("a.test")["replaced"]["reason"], "keyCompromise");
    let line = scene.revoked_line(&id, "keyCompromise");
    assert_eq!(site.nginx.log_lines(&line).len(), 1, "{:#?}", site.lines("a.test"));
    site.check_served("a.test", &new);
    assert_eq!((site.liar.orders_for("a.test"), site.monitor.counter("refused")), (1, 0));
    assert_eq!(site.monitor.counter("replaced_revoked"), 1);
}

/// The URL of the configuration, for certificates that name none; and a list of version 1, which
/// tells no reasons.
#[test]
#[ignore = "needs nginx and the module: scripts/test.sh"]
fn a_configured_list_is_asked() {
    let scene = Scene::new();
    let old = Gencrl { version_1: true, ..Gencrl::default() };
    scene.publish(&old);
    let id = scene.ca.issue(&["a.test"], &Pointers::default());
    let ca = format!("crl {};", scene.list.url());
    let site = scene.guests().http(EACH).ca(&ca).add("a.test", &id, "").start();
    site.check_served("a.test", &id.serial());
    let evidence = &site.monitor.entry("a.test")["evidence"];
    assert_eq!((&evidence["source"], &evidence["status"]), (&"crl".into(), &"good".into()));
    scene.ca.revoke(&id, None);
    scene.publish(&old);
    site.check_replaced("a.test", &id.serial());
    let line = scene.revoked_line(&id, "unspecified");
    assert_eq!(site.nginx.log_lines(&line).len(), 1, "{:#?}", site.lines("a.test"));
}

/// While no replacement can be had: what was on hold is served again when it is released.
#[test]
#[ignore = "needs nginx and the module: scripts/test.sh"]
fn a_hold_is_lifted_by_a_newer_list() {
    let scene = Scene::new();
    let id = scene.issue("a.test");
    let site = scene
        .guests()
        .http("ssl_cert_autofetch_check_interval 2s;")
        .add("a.test", &id, HARD)
        .start();
    site.check_served("a.test", &id.serial());
    site.liar.lie_about("a.test", Lie::Problem);
    scene.ca.revoke(&id, Some("certificateHold"));
    scene.publish(&Gencrl::default());
    wait_until("a refusal", Duration::from_secs(30), || site.client("a.test").connect().is_err());
    site.check_refused("a.test");
    let line = scene.revoked_line(&id, "certificateHold");
    assert_eq!(site.nginx.log_lines(&line).len(), 1, "{:#?}", site.lines("a.test"));

    scene.ca.release(&id);
    scene.publish(&Gencrl { last_update: 0, ..Gencrl::default() });
    let served =
        wait_for("service again", Duration::from_secs(60), || site.client("a.test").connect().ok());
    assert_eq!(served.serial, id.serial());
    assert_eq!(site.monitor.entry("a.test")["evidence"]["status"], "good");
}

/// What is no proof, whatever it says of the certificate: hard refuses, soft serves, nothing is
/// issued, and it is told once.
#[test]
#[ignore = "needs nginx and the module: scripts/test.sh"]
fn a_bad_list_is_no_proof() {
    type Spoil = fn(&Scene);
    let cases: [(&str, Spoil); 11] = [
        ("expired", |s| s.publish(&Gencrl { last_update: -7200, next_update: -3600, ..made() })),
        ("of-the-future", |s| {
            s.publish(&Gencrl { last_update: 3600, next_update: 7200, ..made() });
        }),
        ("of-an-impostor", |s| {
            s.list.publish(s.ca.usurped_by(&s.ca.issuer().impostor()).crl(&made()));
        }),
        ("of-another-ca", |s| s.list.publish(s.ca.usurped_by(&s.root).crl(&made()))),
        ("of-another-shard", |s| scoped(s, "fullname = URI:http://127.0.0.1/2.crl")),
        ("of-cas", |s| scoped(s, "onlyCA = TRUE")),
        ("broken", |s| {
            let mut der = s.ca.crl(&made());
            *der.last_mut().expect("not empty") ^= 1;
            s.list.publish(der);
        }),
        ("truncated", |s| {
            let mut der = s.ca.crl(&made());
            der.truncate(der.len() / 2);
            s.list.publish(der);
        }),
        ("a-page", |s| s.list.publish(b"<html>gone</html>".to_vec())),
        ("missing", |s| s.list.serve(Serving::Status(404))),
        ("down", |s| s.list.down()),
    ];
    let scenes: Vec<_> = cases.iter().map(|_| Scene::new()).collect();
    let pair = |what: &str| ["soft", "hard"].map(|kind| format!("{what}.{kind}.test"));
    let mut guests = Guests::of(&roots(&scenes)).http(EACH);
    let mut serials = Vec::new();
    for ((what, _), scene) in cases.iter().zip(&scenes) {
        let ids = pair(what).map(|name| scene.issue(&name));
        for (name, (id, lines)) in pair(what).iter().zip(ids.iter().zip(["", HARD])) {
            guests = guests.add(name, id, lines);
        }
        // A list that counts would say so.
        ids.iter().for_each(|id| scene.ca.revoke(id, Some("keyCompromise")));
        serials.push(ids.map(|id| id.serial()));
    }
    for ((_, spoil), scene) in cases.iter().zip(&scenes) {
        spoil(scene);
    }
    let site = guests.start();
    for ((what, _), [soft, _]) in cases.iter().zip(&serials) {
        let [soft_name, hard_name] = pair(what);
        site.check_served(&soft_name, soft);
        site.check_refused(&hard_name);
        for name in [&soft_name, &hard_name] {
            let warned = site.lines_at("warn", name);
            assert_eq!(warned.len(), 1, "{name}: {:#?}", site.lines(name));
            assert!(warned[0].contains("CHECK failed: "), "{warned:#?}");
            assert_eq!(site.liar.orders_for(name), 0, "{name}");
        }
    }
    assert_eq!(site.nginx.log_lines("is revoked"), Vec::<String>::new());

    // The same certificates, when the list is what it should be.
    for (((what, _), scene), [soft, hard]) in cases.iter().zip(&scenes).zip(&serials) {
        scene.list.serve(Serving::ByTag);
        scene.publish(&made());
        scene.list.up();
        for (name, old) in pair(what).iter().zip([soft, hard]) {
            wait_until(&format!("{name}: a replacement"), Duration::from_secs(60), || {
                site.client(name).connect().is_ok_and(|c| c.serial != *old)
            });
        }
    }
    site.nginx.check_log();
}

fn made() -> Gencrl {
    Gencrl::default()
}

fn scoped(scene: &Scene, scope: &str) {
    scene.publish(&Gencrl { scope: Some(scope.into()), ..made() });
}

fn roots(scenes: &[Scene]) -> Vec<u8> {
    scenes.iter().flat_map(|s| s.root.cert_pem()).collect()
}

/// Scopes that hold the certificate.
#[test]
#[ignore = "needs nginx and the module: scripts/test.sh"]
fn a_shard_that_holds_it_is_proof() {
    let scene = Scene::new();
    let id = scene.issue("a.test");
    let site = scene.guests().http(EACH).add("a.test", &id, HARD).start();
    let url = format!("fullname = URI:{}", scene.list.url());
    for scope in [url.clone(), "onlyuser = TRUE".into(), format!("{url}\nonlyuser = TRUE")] {
        scoped(&scene, &scope);
        site.check_served("a.test", &id.serial());
        assert_eq!(site.lines_at("warn", "a.test"), Vec::<String>::new(), "{scope}");
    }
    scene.ca.revoke(&id, None);
    scoped(&scene, &url);
    site.check_replaced("a.test", &id.serial());
}

/// A list whose silence says nothing: it is for some reasons only, or not of all issuers it names;
/// and one that takes back a hold, which only a delta CRL may.
#[test]
#[ignore = "needs nginx and the module: scripts/test.sh"]
fn a_list_of_a_part_is_no_proof() {
    let cases = ["onlysomereasons = keyCompromise", "indirectCRL = TRUE", ""];
    let scenes = cases.map(|_| Scene::new());
    let mut guests = Guests::of(&roots(&scenes)).http(EACH);
    let mut issued = Vec::new();
    for (i, (scope, scene)) in cases.iter().zip(&scenes).enumerate() {
        for (kind, lines) in [("soft", ""), ("hard", HARD)] {
            let name = format!("{kind}{i}.test");
            let id = scene.issue(&name);
            if scope.is_empty() {
                scene.ca.revoke(&id, Some("removeFromCRL"));
            }
            guests = guests.add(&name, &id, lines);
            issued.push((name, id.serial()));
        }
        let scope = Some(scope.to_string()).filter(|s| !s.is_empty());
        scene.publish(&Gencrl { scope, ..made() });
    }
    let site = guests.start();
    for (name, serial) in issued {
        match name.starts_with("soft") {
            true => site.check_served(&name, &serial),
            false => site.check_refused(&name),
        }
        assert_eq!(site.lines_at("warn", &name).len(), 1, "{:#?}", site.lines(&name));
        assert_eq!(site.liar.orders_for(&name), 0, "{name}");
    }
}

/// A list that has not changed is not sent again.
#[test]
#[ignore = "needs nginx and the module: scripts/test.sh"]
fn an_unchanged_list_is_not_fetched_again() {
    for how in [Serving::ByTag, Serving::ByTime] {
        let scene = Scene::new();
        scene.list.serve(how);
        let id = scene.issue("a.test");
        let site = scene.guests().http(EACH).add("a.test", &id, HARD).start();
        for _ in 0..5 {
            site.check_served("a.test", &id.serial());
        }
        let (requests, unchanged) = (scene.list.requests().len(), scene.list.unchanged());
        assert!(requests >= 5, "{how:?}: {requests}");
        assert_eq!(requests - unchanged, 1, "{how:?}");
        let fetches = site.monitor.counter("crl_fetches");
        assert_eq!(fetches, requests as u64, "{how:?}");

        scene.ca.revoke(&id, None);
        scene.publish(&Gencrl::default());
        site.check_replaced("a.test", &id.serial());
        assert!(scene.list.requests().len() > scene.list.unchanged() + 1, "{how:?}");
    }
}

/// Evidence is kept: after a restart without a network it counts as long as it is fresh.
#[test]
#[ignore = "needs nginx and the module: scripts/test.sh"]
fn a_restart_without_network_serves_at_once() {
    let scene = Scene::new();
    let id = scene.issue("a.test");
    let mut site = scene.guests().add("a.test", &id, HARD).start();
    site.check_served("a.test", &id.serial());
    scene.list.down();
    site.liar.down();
    for end in [Nginx::stop, Nginx::kill] {
        site = site.restart(end);
        site.check_served("a.test", &id.serial());
        assert_eq!(site.monitor.counter("held"), 0);
        let evidence = &site.monitor.entry("a.test")["evidence"];
        assert_eq!((&evidence["source"], &evidence["status"]), (&"crl".into(), &"good".into()));
    }
}

/// A revoked certificate stays revoked over a restart, also when nobody can be asked.
#[test]
#[ignore = "needs nginx and the module: scripts/test.sh"]
fn a_revocation_outlives_a_restart() {
    let scene = Scene::new();
    let id = scene.issue("a.test");
    let site = scene.guests().http(EACH).add("a.test", &id, "").start();
    site.check_served("a.test", &id.serial());
    site.liar.lie_about("a.test", Lie::Problem);
    scene.ca.revoke(&id, Some("keyCompromise"));
    scene.publish(&Gencrl::default());
    site.check_refused("a.test");
    scene.list.down();
    site.liar.down();
    let site = site.restart(Nginx::kill);
    site.check_refused("a.test");
    scene.list.up();
    site.liar.up();
    site.liar.lie_about("a.test", Lie::Honest);
    wait_until("a replacement", Duration::from_secs(60), || {
        site.client("a.test").connect().is_ok_and(|c| c.serial != id.serial())
    });
}

/// An intermediate is asked about where it says so itself: in the list of the root.
#[test]
#[ignore = "needs nginx and the module: scripts/test.sh"]
fn a_revoked_intermediate_makes_the_certificate_invalid() {
    let root = Identity::root("Openssl Root");
    let roots_ca = OpensslCa::of(&root);
    let roots_list = CrlServer::start(Port::reserve(), roots_ca.crl(&Gencrl::default()));
    let crl_url = Some(roots_list.url());
    let intermediate = root.issue(&Profile { crl_url, ..Profile::authority("Openssl CA") });
    let ca = OpensslCa::of(&intermediate);
    let list = CrlServer::start(Port::reserve(), ca.crl(&Gencrl::default()));
    let pointers = Pointers { crl_url: Some(list.url()), ocsp_url: None };
    let mut id = ca.issue(&["a.test"], &pointers);
    // Else nobody could tell whose signature the root's list has to have.
    id.chain.push(root.cert.clone());
    let site = Guests::of(&root.cert_pem()).http(EACH).add("a.test", &id, HARD).start();
    site.check_served("a.test", &id.serial());

    roots_ca.revoke(&intermediate, Some("CACompromise"));
    roots_list.publish(roots_ca.crl(&Gencrl::default()));
    wait_until("a replacement", Duration::from_secs(30), || {
        site.client("a.test").connect().is_ok_and(|c| c.serial != id.serial())
    });
    assert_eq!(site.monitor.entry("a.test")["replaced"]["serial"], id.serial());
    assert_eq!(site.liar.orders_for("a.test"), 1);
}
