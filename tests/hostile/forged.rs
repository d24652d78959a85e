//! The wrong answers of a server of CRLs.

use std::time::Duration;

use crate::crl::{Case, ENDS_SOON};
use crate::lab::pki::Usage;
use crate::lab::*;

/// Those who issue what is served, and others.
pub struct Issuers {
    pub root: Identity,
    usual: Identity,
    /// With an RSA key.
    rsa: Identity,
    /// May not sign CRLs.
    mute: Identity,
    /// Has the usual one's name and nothing else of it.
    impostor: Identity,
    other: Identity,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ca {
    Usual,
    Rsa,
    Mute,
}

/// What a list is about.
pub struct Scene {
    pub url: String,
    issuer: Identity,
    impostor: Identity,
    other: Identity,
    serial: String,
    revokes: bool,
}

pub enum Sent {
    Page(Delivery, Vec<u8>),
    /// The server refuses connections.
    Refusal,
}

impl Issuers {
    pub fn new() -> Issuers {
        let root = Identity::root("Root of lists");
        let usual = root.issue(&Profile::authority("CA of lists"));
        let rsa = Profile { key: KeyType::Rsa2048, ..Profile::authority("CA with RSA") };
        let usage = Usage::AuthorityWithoutCrls;
        Issuers {
            rsa: root.issue(&rsa),
            mute: root.issue(&Profile { usage, ..Profile::authority("CA without lists") }),
            impostor: usual.impostor(),
            other: root.issue(&Profile::authority("Another CA")),
            usual,
            root,
        }
    }

    pub fn of(&self, ca: Ca) -> &Identity {
        match ca {
            Ca::Usual => &self.usual,
            Ca::Rsa => &self.rsa,
            Ca::Mute => &self.mute,
        }
    }
}

impl Scene {
    pub fn new(issuers: &Issuers, ca: Ca, url: String, serial: &str, revokes: bool) -> Scene {
        Scene {
            url,
            issuer: issuers.of(ca).clone(),
            impostor: issuers.impostor.clone(),
            other: issuers.other.clone(),
            serial: serial.into(),
            revokes,
        }
    }

    pub fn sign(&self, list: Crl) -> Vec<u8> {
        list.sign(&self.issuer)
    }

    /// A right list, which says the worst for the mode.
    fn list(&self) -> Crl {
        if self.revokes { Crl::revoking(&self.serial, Some(1)) } else { Crl::default() }
    }

    /// The same, with an entry in any case.
    fn entries(&self) -> Crl {
        let serial = if self.revokes { &self.serial } else { "0102" };
        Crl::revoking(serial, Some(1))
    }

    fn der(&self) -> Vec<u8> {
        self.sign(self.list())
    }

    fn whole(&self, list: Crl) -> Sent {
        bytes(self.sign(list))
    }

    fn delivered(&self, delivery: Delivery) -> Sent {
        Sent::Page(delivery, self.der())
    }

    /// A critical IssuingDistributionPoint with this flag.
    fn flagged(&self, number: u8) -> Sent {
        self.whole(Crl { flags: der::implicit(number, &[0xff]), ..self.list() })
    }

    fn extended(&self, id: &str, critical: bool, value: &[u8]) -> Sent {
        self.whole(Crl { more: vec![der::extension(id, critical, value)], ..self.list() })
    }

    fn extended_entry(&self, id: &str, value: &[u8]) -> Sent {
        let more_of_entries = vec![der::extension(id, true, value)];
        self.whole(Crl { more_of_entries, ..self.entries() })
    }
}

fn bytes(der: Vec<u8>) -> Sent {
    Sent::Page(Delivery::Whole, der)
}

fn raw(head: &str) -> Sent {
    Sent::Page(Delivery::Raw(format!("{head}\r\n\r\n").into_bytes()), Vec::new())
}

pub fn cases() -> Vec<Case> {
    [repeated(), signers(), times(), scopes(), extensions(), shapes(), network(), slow()]
        .into_iter()
        .flatten()
        .collect()
}

fn signers() -> Vec<Case> {
    let of_rsa = |case| Case { issuer: Ca::Rsa, ..case };
    let mute = Case::new("issuer without cRLSign", |s| bytes(s.der()), KEY_USAGE);
    vec![
        Case::new(
            "bad signature",
            |s| s.whole(Crl { break_signature: true, ..s.list() }),
            "bad signature",
        ),
        Case::new(
            "another CA of the same name",
            |s| bytes(s.list().sign(&s.impostor)),
            "bad signature",
        ),
        Case::new("another CA", |s| bytes(s.list().sign(&s.other)), OTHER_ISSUER),
        Case::new(
            "in the name of another CA",
            |s| {
                let name = s.other.cert.subject_name().to_der().expect("DER");
                s.whole(Crl { issuer: Some(name), ..s.list() })
            },
            OTHER_ISSUER,
        ),
        Case { issuer: Ca::Mute, is_lost: true, ..mute },
        of_rsa(Case::new(
            "MD5",
            |s| s.whole(Crl { md5: true, ..s.list() }),
            "signed with MD5, which is too weak",
        )),
        Case::new(
            "two algorithms",
            |s| {
                let beside = der::sequence(&[der::oid("1.2.840.10045.4.3.3")]);
                s.whole(Crl { beside: Some(beside), ..s.list() })
            },
            "not a CRL: signature algorithms in and beside what is signed differ",
        ),
    ]
}

fn times() -> Vec<Case> {
    let stale =
        |s: &Scene| s.whole(Crl { this_update: -7200, next_update: Some(-3600), ..s.list() });
    let future = |s: &Scene| s.whole(Crl { this_update: 3600, ..s.list() });
    let backwards = |s: &Scene| s.whole(Crl { next_update: Some(-120), ..s.list() });
    vec![
        Case::new("stale", stale, "CRL is stale since *"),
        Case::new("of the future", future, "CRL is not valid before *"),
        Case::new("ends before it begins", backwards, "CRL ends at * before it begins at *"),
    ]
}

fn scopes() -> Vec<Case> {
    const OTHER_POINT: &str = "CRL is for another distribution point: http://crl.test/2.crl";
    let shard =
        |s: &Scene| s.whole(Crl { shard: Some("http://crl.test/2.crl".into()), ..s.list() });
    vec![
        Case::new("another shard", shard, OTHER_POINT),
        Case::new(
            "for CAs only",
            |s| s.flagged(2),
            "CRL proves nothing here: it is for certificates of CAs only",
        ),
        Case::new(
            "for some reasons only",
            |s| s.whole(Crl { flags: der::implicit(3, &[1, 0x40]), ..s.list() }),
            "CRL proves nothing here: it is for some reasons of revocation only",
        ),
        Case::new("indirect", |s| s.flagged(4), INDIRECT),
        Case::new(
            "for attribute certificates only",
            |s| s.flagged(5),
            "CRL proves nothing here: it is for attribute certificates only",
        ),
        Case::new("delta", |s| s.extended("2.5.29.27", true, &der::integer(&[1])), DELTA),
        Case::new(
            "delta in secret",
            |s| s.extended("2.5.29.27", false, &der::integer(&[1])),
            DELTA,
        ),
    ]
}

fn extensions() -> Vec<Case> {
    vec![
        Case::new(
            "critical extension",
            |s| s.extended("1.2.3.4", true, b"x"),
            "CRL has a critical extension that is not known: 1.2.3.4",
        ),
        Case::new(
            "extension twice",
            |s| s.extended("2.5.29.20", false, &der::integer(&[9])),
            "CRL has the extension 2.5.29.20 twice",
        ),
        Case::new(
            "critical extension of an entry",
            |s| s.extended_entry("1.2.3.4", b"x"),
            "entry of the CRL has a critical extension that is not known: 1.2.3.4",
        ),
        Case::new(
            "our serial of another issuer",
            |s| {
                let name = s.other.cert.subject_name().to_der().expect("DER");
                s.extended_entry("2.5.29.29", &der::sequence(&[der::explicit(4, &name)]))
            },
            INDIRECT,
        ),
    ]
}

fn shapes() -> Vec<Case> {
    const NEITHER: &str = "not a CRL: neither DER nor PEM";
    vec![
        Case::new("truncated", |s| s.delivered(Delivery::Truncated), "not a CRL: truncated"),
        Case::new(
            "trailing bytes",
            |s| s.delivered(Delivery::Oversized(1)),
            "not a CRL: trailing bytes",
        ),
        Case::new("empty", |_| bytes(Vec::new()), "not a CRL: empty"),
        Case::new("a page", |s| s.delivered(Delivery::Garbage), NEITHER),
        Case::new(
            "PEM of nothing",
            |_| bytes(b"-----BEGIN X509 CRL-----\n%%%%\n-----END X509 CRL-----\n".to_vec()),
            "not a CRL: malformed PEM",
        ),
        Case::new(
            "a certificate",
            |s| bytes(s.issuer.cert.to_der().expect("DER")),
            "not a CRL: malformed",
        ),
        Case::new(
            "a certificate in PEM",
            |s| bytes(s.issuer.cert_pem()),
            "not a CRL: malformed PEM",
        ),
    ]
}

fn network() -> Vec<Case> {
    let busy = |_: &Scene| {
        raw("HTTP/1.1 503 No\r\nRetry-After: 30\r\nConnection: close\r\nContent-Length: 0")
    };
    let busy = Case::new("HTTP 503 for half a minute", busy, "HTTP status 503");
    let round = Case::new(
        "redirected in a circle",
        |s| Sent::Page(Delivery::Redirect(s.url.clone()), Vec::new()),
        "too many redirects",
    );
    let refused = Case::new("connection refused", |_| Sent::Refusal, REFUSED);
    vec![
        Case::new("HTTP 404", |s| s.delivered(Delivery::Http(404)), "HTTP status 404"),
        Case::new("HTTP 500", |s| s.delivered(Delivery::Http(500)), "HTTP status 500"),
        Case::new("HTTP 206", |s| s.delivered(Delivery::Http(206)), "HTTP status 206"),
        Case { longest: 60, is_lost: true, ..busy },
        Case::new("cut", |s| s.delivered(Delivery::Cut), GONE),
        Case::new("closed", |s| s.delivered(Delivery::Close), GONE),
        Case::new(
            "larger than any",
            |_| raw("HTTP/1.1 200 OK\r\nContent-Length: 134217729"),
            "CRL is larger than 134217728 bytes",
        ),
        Case { requests: 4, ..round },
        Case::new(
            "redirected to nobody",
            |_| Sent::Page(Delivery::Redirect("http://127.0.0.1:1/".into()), Vec::new()),
            REFUSED,
        ),
        Case { requests: 0, is_configured: true, ..refused },
    ]
}

/// What is right by itself, and comes at the wrong time.
fn repeated() -> Vec<Case> {
    let unchanged = |_: &Scene| raw("HTTP/1.1 304 Not Modified\r\nConnection: close");
    let never_sent = Case::new("unchanged, and never sent", unchanged, "HTTP status 304");
    let over = Case::new("unchanged, and over", unchanged, "CRL is stale since *");
    // Of a time when it was on hold, or of before it was: the newer one stands.
    let older = |s: &Scene| s.whole(Crl { this_update: -3600, number: 1, ..s.list() });
    let older = Case::new("older than before", older, "");
    vec![
        never_sent,
        Case { before: Some(|_| Crl { number: 2, ..Crl::default() }), cause: None, ..older },
        Case {
            before: Some(|_| Crl {
                this_update: -3600,
                next_update: Some(ENDS_SOON),
                ..Crl::default()
            }),
            ..over
        },
    ]
}

fn slow() -> Vec<Case> {
    let slow = |what, sent| Case { is_slow: true, ..Case::new(what, sent, "") };
    vec![
        slow("never", |s| s.delivered(Delivery::Never)),
        slow("dripping", |s| s.delivered(Delivery::Drip(Duration::from_millis(100)))),
        slow("endless", |s| s.delivered(Delivery::Endless)),
    ]
}

// Causes that several have.
const GONE: &str = "Peer disconnected";
const REFUSED: &str = "Connection refused (os error *)";
const KEY_USAGE: &str = "keyUsage of the issuer allows no CRLs";
const OTHER_ISSUER: &str = "CRL is of another issuer: CN=Another CA";
const INDIRECT: &str = "CRL proves nothing here: it is an indirect CRL";
const DELTA: &str = "CRL proves nothing here: it is a delta CRL";
