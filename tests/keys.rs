//! Types of keys: a context has a place for each, and the one that was left there must not win.

mod lab;

use std::thread;
use std::time::Duration;

use lab::site::server;
use lab::*;
use openssl::pkey::Id;

const EACH: &str = "ssl_cert_autofetch_check_interval 0;";

#[test]
#[ignore = "needs nginx, the module and pebble: scripts/test.sh"]
fn each_type_is_issued_and_served() {
    let types = [
        ("ecdsa:256", 256),
        ("ecdsa:384", 384),
        ("rsa:2048", 2048),
        ("rsa:3072", 3072),
        ("rsa:4096", 4096),
    ];
    let name = |kind: &str| format!("{}.test", kind.replace(':', "-"));
    let servers = types.iter().map(|(kind, _)| {
        let line = format!("ssl_cert_autofetch_key {kind}; ssl_cert_autofetch lab;");
        server(&name(kind)).replace("ssl_cert_autofetch lab;", &line)
    });
    let site = Plan { servers: servers.collect(), ..Plan::default() }.start();
    for (kind, bits) in types {
        let serial = site.wait_valid(&name(kind));
        let key = site.stored(&name(kind)).key();
        let id = if kind.starts_with("rsa") { Id::RSA } else { Id::EC };
        assert_eq!((key.id(), key.bits()), (id, bits), "{kind}");
        let client = site.lab.client(&name(kind));
        for client in [client.clone().tls12(), client.tls13()] {
            let connection = client.connect().expect("handshake");
            assert_eq!(connection.serial, serial, "{kind}");
            let shown = connection.chain[0].public_key().expect("public key");
            assert!(shown.public_eq(&key), "{kind}");
        }
    }
    assert_eq!((site.issued(), site.counter("refused")), (5, 0));
}

/// The directive is changed, which touches no certificate; its replacement has the other type, and
/// is served to clients that would take either, whichever they like better.
#[test]
#[ignore = "needs nginx, the module and pebble: scripts/test.sh"]
fn another_type_replaces_a_revoked_one() {
    for types in [["ecdsa:256", "rsa:2048", "ecdsa:384"], ["rsa:2048", "ecdsa:256", "rsa:3072"]] {
        let with = |kind: &str| format!("{EACH} ssl_cert_autofetch_key {kind};");
        let mut plan = Plan::server("a.test", &with(types[0]));
        plan.servers += &server("b.test");
        let mut site = plan.start();
        for pair in types.windows(2) {
            site.reload_with(|plan| plan.http = with(pair[1]));
            for name in ["a.test", "b.test"] {
                assert_replaced_by(&site, name, pair[1]);
            }
        }
    }
}

fn assert_replaced_by(site: &Site, name: &str, kind: &str) {
    let (old, clients) = (site.wait_valid(name), all_tastes(&site.lab.client(name)));
    for client in &clients {
        assert_eq!(client.connect().expect("handshake").serial, old);
    }
    let slow = site.lab.client(name).byte_by_byte(Duration::from_millis(5));
    let new = thread::scope(|scope| {
        let slow = [slow.clone().tls12(), slow.tls13()].map(|c| scope.spawn(move || c.connect()));
        site.revoke(name, Some(4));
        let new = clients[0].connect().expect("handshake").serial;
        for slow in slow {
            assert_eq!(slow.join().expect("client").expect("handshake").serial, new);
        }
        new
    });
    assert_ne!(new, old);
    let id = if kind.starts_with("rsa") { Id::RSA } else { Id::EC };
    assert_eq!(site.stored(name).key().id(), id);
    for client in &clients {
        assert_eq!(client.connect().expect("handshake").serial, new, "{name} {kind}");
    }
    // The old type is not to be had any more, neither its certificate nor the placeholder.
    let only_old = site.lab.client(name);
    let only_old = if id == Id::RSA { only_old.ecdsa_only() } else { only_old.rsa_only() };
    for client in [only_old.clone().tls12(), only_old.tls13()] {
        let refusal = client.connect().expect_err("no certificate of that type");
        assert!(refusal.chain.is_empty(), "{refusal:?}");
    }
}

/// Offers both, and prefers one of them.
fn all_tastes(client: &Client) -> Vec<Client> {
    let orders = [
        "ECDSA+SHA256:ECDSA+SHA384:rsa_pss_rsae_sha256:RSA+SHA256",
        "rsa_pss_rsae_sha256:RSA+SHA256:ECDSA+SHA256:ECDSA+SHA384",
    ];
    let mut all = vec![client.clone().tls12(), client.clone().tls13()];
    for order in orders {
        all.push(client.clone().sigalgs(order).tls13());
        all.push(client.clone().sigalgs(order).tls12());
    }
    all.push(client.clone().tls12().ciphers("aRSA:aECDSA"));
    all.push(client.clone().tls12().ciphers("aECDSA:aRSA"));
    all
}

/// Every change between the types that another program may put into the keystore.
#[test]
#[ignore = "needs nginx, the module and pebble: scripts/test.sh"]
fn each_imported_type_pushes_out_the_others() {
    use KeyType::{Ecdsa256, Ecdsa384, Ed25519, Rsa2048};
    let ca = Identity::root("Mute CA");
    let issue = |key| ca.issue(&Profile { key, ..Profile::server(&["a.test", "b.test"]) });
    let mut current = issue(Rsa2048);
    let (first, mut plan) = (current.clone(), Plan::server("a.test", ""));
    plan.servers += &server("b.test");
    let site = plan.start_with(|_, keystore| {
        for name in ["a.test", "b.test"] {
            Stored::of(keystore, name).put_identity(&first);
        }
    });
    let order = "ed25519:ECDSA+SHA256:ECDSA+SHA384:rsa_pss_rsae_sha256:RSA+SHA256";
    let reverse = "rsa_pss_rsae_sha256:RSA+SHA256:ECDSA+SHA384:ECDSA+SHA256:ed25519";
    for key in
        [Ecdsa256, Rsa2048, Ed25519, Rsa2048, Ecdsa384, Ed25519, Ecdsa256, Ecdsa384, Ecdsa256]
    {
        let next = issue(key);
        for name in ["a.test", "b.test"] {
            let client = Client::new(site.lab.tls_port.number()).sni(name).trust(ca.cert_pem());
            assert_eq!(client.connect().expect("handshake").serial, current.serial());
            let stored = site.stored(name);
            stored.announce(stored.put_identity(&next));
            site.wait_entry(name, "the import", Duration::from_secs(5), |e| {
                e["serial"] == next.serial()
            });
            for taste in [client.clone(), client.clone().sigalgs(order), client.sigalgs(reverse)] {
                for client in [taste.clone().tls12(), taste.tls13()] {
                    let connection = client.connect().expect("handshake");
                    assert_eq!(connection.serial, next.serial(), "{name} {key:?}");
                }
            }
        }
        current = next;
    }
    assert_eq!(site.issued(), 0);
}
