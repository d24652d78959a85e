//! Resumption: it ends with a revocation, and with nothing else.

mod lab;

use std::fs;
use std::time::Duration;

use lab::client::Session;
use lab::site::{ANSWER, server};
use lab::*;

const EACH: &str = "ssl_cert_autofetch_check_interval 0; ssl_cert_autofetch_timeout 2s;";

/// Session ids for TLS 1.2 and stateful tickets for 1.3, or tickets that a reload does not lose.
const CACHE: &str = "ssl_session_cache shared:TLS:1m; ssl_session_tickets off;";
const TICKETS: &str = "ssl_session_cache none; ssl_session_tickets on; \
                       ssl_session_ticket_key ticket.key;";

/// One way to resume: the server's and the client's part.
/// What it is called, the lines it needs, and how a client goes.
type Way = (&'static str, &'static str, fn(Client) -> Client);

fn ways() -> Vec<Way> {
    vec![
        ("session ids, TLS 1.2", CACHE, Client::tls12),
        ("tickets, TLS 1.2", TICKETS, Client::tls12),
        ("stateful tickets, TLS 1.3", CACHE, Client::tls13),
        ("tickets, TLS 1.3", TICKETS, Client::tls13),
    ]
}

/// A site whose TLS address has a server in front that is not managed, or not.
fn start(http: &str, default_is_managed: bool) -> Site {
    let mut plan = Plan::server("a.test", http).ca("budget 100/7d;");
    plan.servers += &server("b.test");
    if !default_is_managed {
        let own = "server { listen TLS ssl; server_name own.test; ssl_certificate own.pem; \
                   ssl_certificate_key own.key;";
        plan.servers = format!("{own} {ANSWER} }}\n{}", plan.servers);
    }
    let site = plan.start_with(|lab, keystore| {
        let id = Identity::root("Own").issue(&Profile::server(&["own.test"]));
        let file = |name: &str| keystore.parent().expect("prefix").join(name);
        fs::write(file("own.pem"), id.fullchain_pem()).expect("write");
        fs::write(file("own.key"), id.key_pem()).expect("write");
        fs::write(file("ticket.key"), [lab.http_port.number() as u8; 80]).expect("write");
    });
    site.wait_valid("a.test");
    site.wait_valid("b.test");
    site
}

fn session(client: &Client) -> Session {
    client.connect().expect("handshake").session()
}

fn resume(client: &Client, session: &Session) -> Connection {
    client.clone().resume(session).connect().expect("handshake")
}

#[test]
#[ignore = "needs nginx, the module and pebble: scripts/test.sh"]
fn the_session_of_a_revoked_certificate_is_not_resumed() {
    for default_is_managed in [true, false] {
        for tickets in [CACHE, TICKETS] {
            let site = start(&format!("{EACH} {tickets}"), default_is_managed);
            for (way, _, version) in ways().into_iter().filter(|w| w.1 == tickets) {
                for name in ["a.test", "b.test"] {
                    let what = format!("{way}, {name}, default managed: {default_is_managed}");
                    ends_with_revocation(&site, &version(site.lab.client(name)), name, &what);
                }
            }
        }
    }
}

fn ends_with_revocation(site: &Site, client: &Client, name: &str, what: &str) {
    let (old, first) = (site.wait_valid(name), session(client));
    let resumed = resume(client, &first);
    assert!(resumed.resumed && resumed.serial == old, "{what}: {resumed:?}");

    // The handshake that brings the news carries a session itself.
    site.revoke(name, Some(1));
    let next = resume(client, &first);
    assert!(!next.resumed && next.serial != old, "{what}: {next:?}");
    let again = resume(client, &first);
    assert!(!again.resumed && again.serial == next.serial, "{what}: {again:?}");
    let second = session(client);
    let resumed = resume(client, &second);
    assert!(resumed.resumed && resumed.serial == next.serial, "{what}: {resumed:?}");

    // The new workers agree about which sessions are over.
    site.nginx.reload();
    site.wait_valid(name);
    let late = resume(client, &first);
    assert!(!late.resumed && late.serial == next.serial, "{what}, after a reload: {late:?}");
    let resumed = resume(client, &second);
    assert!(resumed.resumed, "{what}, after a reload: {resumed:?}");
}

/// What only a CRL tells, of the certificate or of one above it, ends sessions like an OCSP answer:
/// in each worker, and after a reload and a restart.
#[test]
#[ignore = "needs nginx, the module and pebble: scripts/test.sh"]
fn a_revocation_that_only_a_crl_tells_ends_sessions() {
    for of_intermediate in [false, true] {
        for (way, tickets, version) in ways() {
            let what = format!("{way}, of the intermediate: {of_intermediate}");
            let root = Identity::root("Import Root");
            let port = Port::reserve();
            let url = CrlServer::url_at(&port);
            let authority =
                Profile { crl_url: Some(url.clone()), ..Profile::authority("Import CA") };
            let intermediate = root.issue(&authority);
            let leaf = Profile { crl_url: Some(url), ..Profile::server(&["a.test"]) };
            let leaf = Profile { crl_url: leaf.crl_url.filter(|_| !of_intermediate), ..leaf };
            // Of the two certificates only the one in question names the CRL.
            let mut imported = match of_intermediate {
                true => intermediate.issue(&leaf),
                false => root.issue(&leaf),
            };
            imported.chain.push(root.cert.clone());
            let revoked = if of_intermediate { &intermediate } else { &imported }.serial();
            let list = CrlServer::start(port, Crl::default().sign(&root));

            let http = format!("{EACH} {tickets}");
            let plan = Plan::server("a.test", &http).ca("budget 100/7d;").workers(2);
            let site = plan.start_with(|lab, keystore| {
                Stored::of(keystore, "a.test").put_identity(&imported);
                let key = keystore.parent().expect("prefix").join("ticket.key");
                fs::write(key, [lab.http_port.number() as u8; 80]).expect("write");
            });
            let client = version(site.lab.client("a.test")).trust(root.cert_pem());
            let first = session(&client);
            let resumed = resume(&client, &first);
            assert!(resumed.resumed && resumed.serial == imported.serial(), "{what}: {resumed:?}");

            list.publish(
                Crl { number: 2, this_update: -30, ..Crl::revoking(&revoked, Some(1)) }.sign(&root),
            );
            let client = version(site.lab.client("a.test"));
            // A handshake that has an answer of before need not wait for the list.
            let next = wait_for("the replacement", Duration::from_secs(30), || {
                let connection = resume(&client, &first);
                Some(connection).filter(|c| c.serial != imported.serial())
            });
            assert!(!next.resumed, "{what}: {next:?}");
            list.down();
            let second = session(&client);
            site.nginx.reload();
            site.wait_valid("a.test");
            let site = check_ended(site, &client, &first, &what);
            assert!(resume(&client, &second).resumed, "{what}");
            let site = site.restart(Nginx::stop, |_| {});
            check_ended(site, &client, &first, &what);
        }
    }
}

/// As often as each of two workers gets some of them.
fn check_ended(site: Site, client: &Client, ended: &Session, what: &str) -> Site {
    for _ in 0..12 {
        let connection = resume(client, ended);
        assert!(!connection.resumed, "{what}: {connection:?}");
        assert_eq!(connection.serial, site.stored("a.test").serial(), "{what}");
    }
    site
}

/// A connection that was made before the revocation, and shows its session after it.
#[test]
#[ignore = "needs nginx, the module and pebble: scripts/test.sh"]
fn a_held_handshake_does_not_resume_it() {
    for (way, tickets, version) in ways() {
        for default_is_managed in [true, false] {
            let site = start(&format!("{EACH} {tickets}"), default_is_managed);
            let client = version(site.lab.client("b.test"));
            let (old, session) = (site.stored("b.test").serial(), session(&client));
            let slow = client.clone().resume(&session).byte_by_byte(Duration::from_millis(2));
            let connection = std::thread::scope(|scope| {
                let slow = scope.spawn(|| slow.connect());
                site.revoke("b.test", None);
                client.connect().expect("handshake");
                slow.join().expect("client").expect("handshake")
            });
            assert!(!connection.resumed && connection.serial != old, "{way}: {connection:?}");
        }
    }
}

/// While there is nothing good to serve, sessions are refused like everybody.
#[test]
#[ignore = "needs nginx, the module and pebble: scripts/test.sh"]
fn a_refused_entry_refuses_resumption() {
    for default_is_managed in [true, false] {
        for tickets in [CACHE, TICKETS] {
            let site = start(&format!("{EACH} {tickets}"), default_is_managed);
            let clients: Vec<_> = ways()
                .into_iter()
                .filter(|w| w.1 == tickets)
                .flat_map(|(_, _, version)| {
                    ["a.test", "b.test"].map(|name| (name, version(site.lab.client(name))))
                })
                .map(|(name, client)| (name, session(&client), client))
                .collect();
            site.lab.responder.behave(Behaviour::good());
            let old = site.stored("b.test").serial();
            site.lab.responder.behave_for(&old, Behaviour::revoked(Some(1)));
            site.lab.pebble.freeze();
            for round in 0..2 {
                for (name, session, client) in &clients {
                    match client.clone().resume(session).connect() {
                        Ok(connection) => {
                            assert_eq!(*name, "a.test", "b.test was served in round {round}");
                            // Its sessions end too: it shares the listen.
                            assert_eq!(connection.serial, site.stored("a.test").serial());
                        }
                        Err(refusal) => {
                            assert_eq!(*name, "b.test", "{refusal:?}");
                            let seen = (refusal.alert, refusal.chain.len());
                            assert_eq!(seen, (Some(INTERNAL_ERROR), 0), "{refusal:?}");
                        }
                    }
                }
            }
            site.lab.pebble.thaw();
            site.wait_other("b.test", &old);
        }
    }
}

/// Without proof `hard` refuses sessions too, and their end is that of the refusal only.
#[test]
#[ignore = "needs nginx, the module and pebble: scripts/test.sh"]
fn hard_refuses_resumption_without_proof() {
    let http = format!("{EACH} {TICKETS} ssl_cert_autofetch_check hard;");
    let site = start(&http, true);
    for version in [Client::tls12, Client::tls13] {
        let client = version(site.lab.client("a.test"));
        let session = session(&client);
        assert!(resume(&client, &session).resumed);
        site.lab.responder.behave(Behaviour::delivery(Delivery::Http(503)));
        let refusal = client.clone().resume(&session).connect().expect_err("no proof");
        assert_eq!((refusal.alert, refusal.chain.len()), (Some(INTERNAL_ERROR), 0), "{refusal:?}");
        site.lab.responder.behave(Behaviour::default());
        wait_until("proof", Duration::from_secs(10), || client.connect().is_ok());
        assert!(resume(&client, &session).resumed, "the session was not revoked");
    }
}

/// Another certificate, for no other reason than time or a person's wish, ends no session; nor
/// does a reload.
#[test]
#[ignore = "needs nginx, the module and pebble: scripts/test.sh"]
fn other_swaps_and_reloads_keep_sessions() {
    for (way, tickets, version) in ways() {
        for default_is_managed in [true, false] {
            let site = start(tickets, default_is_managed);
            let client = version(site.lab.client("b.test"));
            let what = format!("{way}, default managed: {default_is_managed}");
            let (old, session) = (site.stored("b.test").serial(), session(&client));
            assert!(resume(&client, &session).resumed, "{what}");
            site.nginx.reload();
            site.wait_valid("b.test");
            assert!(resume(&client, &session).resumed, "{what}, after a reload");
            let other = Identity::root("Mute CA").issue(&Profile::server(&["b.test"]));
            let stored = site.stored("b.test");
            stored.announce(stored.put_identity(&other));
            site.wait_entry("b.test", "the import", Duration::from_secs(5), |e| {
                e["serial"] == other.serial()
            });
            assert_ne!(other.serial(), old);
            assert!(resume(&client, &session).resumed, "{what}, after an import");
        }
    }
}
