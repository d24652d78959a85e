//! What is stapled (RFC 6066, 8, and RFC 8446, 4.4.2.1): a good OCSP answer about the certificate
//! that is served, verified again wherever its bytes come from.
//!
//! Only what every client can verify becomes a staple: signed by the issuer or its delegate. A
//! further signer that the administrator trusts (`ocsp_certificate`) is unknown to clients, and
//! some of them end the handshake for it, where they would have gone on without a staple. So do
//! clients that look at the first SingleResponse only (GnuTLS 3.7, seen), if that is about another
//! certificate.

use std::time::Duration;

use openssl::ocsp::{OcspBasicResponseRef, OcspResponse};
use openssl::x509::X509Ref;

use crate::clock::{SKEW, Time};
use crate::evidence::Status;
use crate::evidence::ocsp::{Query, verify};
use crate::facts::{CertFacts, Fingerprint, Serial, Usage};
use crate::openssl_ffi;
use crate::settings::Nonce;

/// A verified good answer about one certificate, as it is sent to clients.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Staple {
    certificate: Fingerprint,
    der: Vec<u8>,
    this_update: Time,
    until: Time,
}

impl Staple {
    /// Verifies an OCSPResponse at `now`. `facts` are those of `leaf`, and `issuer` is known to
    /// have issued it. None: it is no proof that this certificate is good, or not any more.
    pub fn read(
        der: &[u8],
        leaf: &X509Ref,
        facts: &CertFacts,
        issuer: &X509Ref,
        now: Time,
    ) -> Option<Staple> {
        let query = Query {
            certificate: leaf,
            facts,
            issuer,
            url: "",
            nonce: Nonce::Off, // our question is long over, and clients have asked none
            extra_signer: None,
            request_signer: None,
            siblings: &[],
            timeout: Duration::ZERO,
        };
        let found = verify(der, &query, None, now).ok()?;
        if found.status != Status::Good {
            return None;
        }
        let basic = OcspResponse::from_der(der).and_then(|r| r.basic()).ok()?;
        // Where clients demand a staple, one that only some of them can read is better than none.
        if !facts.must_staple && !is_first(&basic, &facts.serial) {
            return None;
        }
        let until = found.next_update.unwrap_or(found.this_update + WITHOUT_NEXT_UPDATE);
        let staple = Staple {
            certificate: found.certificate,
            der: der.to_vec(),
            this_update: found.this_update,
            until: delegate_ends(&basic).map_or(until, |end| until.min(end)),
        };
        staple.is_current(now).then_some(staple)
    }

    /// The certificate it is about.
    pub fn certificate(&self) -> &Fingerprint {
        &self.certificate
    }

    /// The OCSPResponse.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// The moment from which it is not stapled any more: nextUpdate, or the end of its signer's
    /// certificate. Clients look with clocks of their own: no tolerance is taken from them.
    pub fn until(&self) -> Time {
        self.until
    }

    /// Whether it may be sent. One of the next minutes is: if the responder's clock and ours
    /// differ, ours is as likely the slow one, and a client that insists on a staple gets none
    /// otherwise.
    pub fn is_current(&self, now: Time) -> bool {
        self.this_update <= now + SKEW && now < self.until
    }

    /// Whether `other` comes from a responder that lags behind; not if it is about another
    /// certificate.
    pub fn is_newer(&self, other: &Staple) -> bool {
        let age = |s: &Staple| (s.this_update, s.until);
        self.certificate == other.certificate && age(self) > age(other)
    }
}

/// As long as an answer without nextUpdate is believed at all.
const WITHOUT_NEXT_UPDATE: Duration = Duration::from_secs(7 * 86_400);

/// When the delegate's certificate ends, if one is there: clients refuse its answers from then on,
/// whatever their nextUpdate says. Of several the last one counts.
fn delegate_ends(basic: &OcspBasicResponseRef) -> Option<Time> {
    let carried = openssl_ffi::certificates(basic)?.iter();
    let usages = carried.filter_map(|c| Usage::from_der(&c.to_der().ok()?).ok());
    usages.filter(|u| u.ocsp_signing).map(|u| u.not_after).max()
}

/// Whether the first SingleResponse is about this certificate. That some other one is about this
/// certificate of this issuer was verified.
fn is_first(basic: &OcspBasicResponseRef, serial: &Serial) -> bool {
    let first = openssl_ffi::singles(basic).next();
    let first = first.and_then(|single| openssl_ffi::id_serial(single.id()));
    first.is_some_and(|first| Serial::from_bytes(&first) == *serial)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::ocsp::{CertStatus, Reply, Single};
    use crate::fixture::{DAY, Identity, NOW, Spec, at, root};

    struct World {
        ca: Identity,
        leaf: Identity,
    }

    impl World {
        fn new() -> World {
            let ca = root("CA");
            let leaf = ca.issue(Spec::default());
            World { ca, leaf }
        }

        fn single(&self) -> Single {
            Single::good(&self.leaf.cert, &self.ca.cert)
        }

        fn answer(&self, single: Single) -> Vec<u8> {
            Reply::new(&self.ca, single).der()
        }

        fn read(&self, der: &[u8]) -> Option<Staple> {
            let facts = CertFacts::from_der(&self.leaf.der()).unwrap();
            Staple::read(der, &self.leaf.cert, &facts, &self.ca.cert, NOW)
        }

        fn delegated(&self, life: (i64, i64), single: Single) -> Vec<u8> {
            let spec = Spec {
                cn: "R",
                serial: 2,
                names: &[],
                usage: &["OCSPSigning"],
                life,
                ..Spec::default()
            };
            let delegate = self.ca.issue(spec);
            let certificates = vec![delegate.cert.clone()];
            Reply { certificates, ..Reply::new(&delegate, single) }.der()
        }
    }

    #[test]
    fn what_is_a_staple() {
        let world = World::new();
        let other = world.ca.issue(Spec { serial: 0x99, ..Spec::default() });
        let stranger = root("CA");
        let good = world.answer(world.single());
        let with_nonce = Reply::new(&world.ca, world.single()).with_nonce(&[7; 32]).der();
        let status = |s| world.answer(world.single().status(s));
        let times = |this, next| world.answer(world.single().times(this, next));
        let delegated = |life| world.delegated(life, world.single());
        let table: Vec<(&str, Vec<u8>, bool)> = vec![
            ("good", good.clone(), true),
            ("to somebody else's nonce", with_nonce, true),
            ("revoked", status(CertStatus::Revoked(at(-5), Some(1))), false),
            ("unknown", status(CertStatus::Unknown), false),
            ("of another", world.answer(Single::good(&other.cert, &world.ca.cert)), false),
            ("forged", Reply::new(&stranger, world.single()).der(), false),
            ("badly signed", Reply::new(&world.ca, world.single()).der_badly_signed(), false),
            ("by a delegate", delegated((-DAY, DAY)), true),
            ("by an expired delegate", delegated((-DAY, 0)), false),
            ("a second before its end", times(-DAY, Some(1)), true),
            ("at its end", times(-DAY, Some(0)), false),
            ("just over, within the skew", times(-DAY, Some(-1)), false),
            ("of the next minutes", times(300, Some(DAY)), true),
            ("of the future", times(301, Some(DAY)), false),
            ("seven days without nextUpdate", times(-7 * DAY + 1, None), true),
            ("more than seven days without it", times(-7 * DAY, None), false),
            ("cut", good[..good.len() - 1].to_vec(), false),
            ("nothing", vec![], false),
        ];
        for (what, der, is_staple) in table {
            let staple = world.read(&der);
            assert_eq!(staple.is_some(), is_staple, "{what}");
            if let Some(staple) = staple {
                let facts = CertFacts::from_der(&world.leaf.der()).unwrap();
                assert_eq!((staple.certificate(), staple.der()), (&facts.fingerprint, &der[..]));
            }
        }
    }

    /// Others of it may follow, but clients that read no further must find theirs.
    #[test]
    fn ours_comes_first() {
        let world = World::new();
        let other = world.ca.issue(Spec { serial: 0x99, ..Spec::default() });
        let other = Single::good(&other.cert, &world.ca.cert);
        let several = |singles| Reply { singles, ..Reply::new(&world.ca, world.single()) }.der();
        let first = several(vec![world.single(), other.clone()]);
        let last = several(vec![other, world.single()]);
        assert!(world.read(&first).is_some());
        assert_eq!(world.read(&last), None);
        let mut facts = CertFacts::from_der(&world.leaf.der()).unwrap();
        facts.must_staple = true;
        assert!(Staple::read(&last, &world.leaf.cert, &facts, &world.ca.cert, NOW).is_some());
    }

    #[test]
    fn when_it_ends() {
        let world = World::new();
        let plain = |this, next| world.answer(world.single().times(this, next));
        let delegated = |life, next| world.delegated((-DAY, life), world.single().times(-60, next));
        // until, and whether it is current a second before and at that moment
        let table = [
            ("nextUpdate", plain(-60, Some(3600)), at(3600)),
            ("none", plain(-60, None), at(7 * DAY - 60)),
            ("delegate ends first", delegated(1800, Some(3600)), at(1800)),
            ("delegate ends later", delegated(DAY, Some(3600)), at(3600)),
            ("delegate ends first, no nextUpdate", delegated(DAY, None), at(DAY)),
        ];
        for (what, der, until) in table {
            let staple = world.read(&der).unwrap();
            assert_eq!(staple.until(), until, "{what}");
            assert!(staple.is_current(until - Duration::from_millis(1)), "{what}");
            assert!(!staple.is_current(until), "{what}");
            // A clock that was set back far: nobody believes it yet.
            assert!(!staple.is_current(at(-60) - SKEW - Duration::from_secs(1)), "{what}");
        }
    }

    #[test]
    fn the_newer_one_stands() {
        let world = World::new();
        let staple =
            |this, next| world.read(&world.answer(world.single().times(this, Some(next)))).unwrap();
        let table = [
            ((-30, 3600), (-60, 3600), true),
            ((-30, 3600), (-60, 7200), true),
            ((-60, 7200), (-60, 3600), true),
            ((-60, 3600), (-60, 3600), false),
        ];
        for (a, b, is_newer) in table {
            let (one, two) = (staple(a.0, a.1), staple(b.0, b.1));
            assert_eq!(one.is_newer(&two), is_newer, "{a:?} {b:?}");
            assert!(!two.is_newer(&one), "{b:?} {a:?}");
        }
    }
}
