//! Who may sign an answer.

use openssl::error::ErrorStack;
use openssl::pkey::PKey;
use openssl::rsa::Rsa;
use openssl::x509::X509;

use super::*;
use crate::fixture::ocsp::{Algorithm, CertStatus};
use crate::fixture::{DAY, at, self_signed, self_signed_with};

#[test]
fn who_may_sign() {
    let world = World::new();
    let other = root("Other CA");
    let same_name = root("CA");
    let below = world.ca.issue(Spec::ca("Sub CA"));
    let issue = |spec| world.ca.issue(spec);
    let life = |life| Spec { life, ..delegate() };
    let encipher_only: &[(&str, bool, &[u8])] = &[("2.5.29.15", true, &[3, 2, 5, 0x20])];
    let self_made = self_signed(Spec { cn: "CA", usage: &["OCSPSigning"], ..delegate() });
    // Says that the CA issued it, and is in the CA's name, but carries another signature.
    let forged = same_name.issue(delegate());
    let named_only = Reply::new(&issue(delegate()), world.single());
    const NOT_ISSUED: &str =
        "signer is not the issuer and was not appointed by it: not issued by the issuer";
    const NO_EKU: &str =
        "signer is not the issuer and was not appointed by it: no id-kp-OCSPSigning";
    const UNKNOWN: &str = "signed by somebody whose certificate is not known";
    let table: &[(&str, Vec<u8>, &str)] = &[
        ("issuer", world.good().der(), "Good"),
        ("turned bit", world.good().der_badly_signed(), "bad signature"),
        ("other CA", Reply::new(&other, world.single()).der(), UNKNOWN),
        ("other CA, certificate in it", world.delegated(&other), NOT_ISSUED),
        (
            "other CA of the same name",
            Reply::new(&same_name, world.single()).der(),
            "bad signature",
        ),
        ("the same, certificate in it", world.delegated(&same_name), NOT_ISSUED),
        ("delegate", world.delegated(&issue(delegate())), "Good"),
        ("delegate, no certificate", named_only.der(), UNKNOWN),
        ("no EKU", world.delegated(&issue(Spec { usage: &[], ..delegate() })), NO_EKU),
        ("server", world.delegated(&issue(Spec { usage: &["serverAuth"], ..delegate() })), NO_EKU),
        (
            "any EKU",
            world.delegated(&issue(Spec { usage: &["anyExtendedKeyUsage"], ..delegate() })),
            NO_EKU,
        ),
        ("the certificate in question", world.delegated(&world.leaf), NO_EKU),
        (
            "key for encryption",
            world.delegated(&issue(Spec { extensions: encipher_only, ..delegate() })),
            "signer is not the issuer and was not appointed by it: \
             its keyUsage allows no signatures",
        ),
        (
            "expired",
            world.delegated(&issue(life((-DAY, -301)))),
            "signer's certificate expired at 2033-05-18T03:28:19Z",
        ),
        ("expired within the skew", world.delegated(&issue(life((-DAY, -300)))), "Good"),
        (
            "not yet valid",
            world.delegated(&issue(life((301, DAY)))),
            "signer's certificate is not valid before 2033-05-18T03:38:21Z",
        ),
        ("not yet valid within the skew", world.delegated(&issue(life((300, DAY)))), "Good"),
        ("delegate of another CA", world.delegated(&other.issue(delegate())), NOT_ISSUED),
        ("delegate of a forged CA", world.delegated(&forged), NOT_ISSUED),
        ("delegate of a sub CA", world.delegated(&below.issue(delegate())), NOT_ISSUED),
        ("self-signed", world.delegated(&self_made), NOT_ISSUED),
    ];
    for (name, der, expected) in table {
        assert_eq!(text(world.verify(der)), *expected, "{name}");
        // What is left behind would be taken for the error of another call.
        assert!(ErrorStack::get().errors().is_empty(), "{name}");
    }
}

#[test]
fn a_delegate_is_found_among_others() {
    let world = World::new();
    let (good, other) = (world.ca.issue(delegate()), root("CA").issue(delegate()));
    let reply =
        |certificates: Vec<X509>| Reply { certificates, ..Reply::new(&good, world.single()) }.der();
    let first = reply(vec![other.cert.clone(), world.ca.cert.clone(), good.cert.clone()]);
    assert_eq!(text(world.verify(&first)), "Good");
    let only_namesake = reply(vec![other.cert.clone()]);
    assert_eq!(text(world.verify(&only_namesake)), "bad signature");
}

#[test]
fn the_administrators_signer() {
    let world = World::new();
    // Nobody's appointed signer, not even by its key usage.
    let pinned = root("Pinned").issue(Spec { usage: &[], ..delegate() });
    let der = Reply::new(&pinned, world.single()).der();
    assert!(world.verify(&der).is_err());
    let query = Query { extra_signer: Some(&pinned.cert), ..world.query() };
    let verify = |der: &[u8]| text(try_verify(der, &query, None));
    assert_eq!(verify(&der), "Good");
    assert_eq!(verify(&world.good().der()), "Good", "the issuer still may");
    assert_eq!(verify(&world.delegated(&world.ca.issue(delegate()))), "Good", "and its delegate");
    let badly = Reply::new(&pinned, world.single()).der_badly_signed();
    assert_eq!(verify(&badly), "bad signature");
    assert_eq!(verify(&world.delegated(&pinned)), "Good", "in the response too");
    let stranger = Reply::new(&root("Stranger"), world.single()).der();
    assert_eq!(verify(&stranger), "signed by somebody whose certificate is not known");
}

#[test]
fn the_administrators_signer_has_a_life_of_its_own() {
    let world = World::new();
    let table = [
        ((-DAY, -300), "Good"),
        ((-DAY, -301), "signer's certificate expired at 2033-05-18T03:28:19Z"),
        ((300, DAY), "Good"),
        ((301, DAY), "signer's certificate is not valid before 2033-05-18T03:38:21Z"),
    ];
    for (life, expected) in table {
        let pinned = root("Pinned").issue(Spec { life, ..delegate() });
        let query = Query { extra_signer: Some(&pinned.cert), ..world.query() };
        for der in [Reply::new(&pinned, world.single()).der(), world.delegated(&pinned)] {
            assert_eq!(text(try_verify(&der, &query, None)), expected);
        }
    }
}

/// Without the extension what the response says about its signer counts; nobody else is asked.
#[test]
fn delegates_with_and_without_nocheck() {
    const NOCHECK: &[(&str, bool, &[u8])] = &[("1.3.6.1.5.5.7.48.1.5", false, &[5, 0])];
    let world = World::new();
    let revoked = "signer is not the issuer and was not appointed by it: the response says that \
                   its certificate is revoked";
    let gone = CertStatus::Revoked(at(-DAY), None);
    for (extensions, when_revoked) in [(NOCHECK, "Good"), (&[][..], revoked)] {
        let signer = world.ca.issue(Spec { extensions, ..delegate() });
        let itself = Single::good(&signer.cert, &world.ca.cert);
        let namesake = world.ca.issue(Spec { serial: 3, ..delegate() });
        let mut by_sha256 = itself.clone().status(gone);
        by_sha256.id = CertId::sha256(&signer.cert, &world.ca.cert);
        let mut of_another_ca = itself.clone().status(gone);
        of_another_ca.id.key_hash[0] ^= 1;
        let table = [
            ("nothing", vec![], "Good"),
            ("good", vec![itself.clone()], "Good"),
            ("unknown", vec![itself.clone().status(CertStatus::Unknown)], "Good"),
            ("revoked", vec![itself.clone().status(gone)], when_revoked),
            ("long ago", vec![itself.status(gone).times(-9 * DAY, Some(-8 * DAY))], when_revoked),
            ("by SHA-256", vec![by_sha256], when_revoked),
            ("another", vec![Single::good(&namesake.cert, &world.ca.cert).status(gone)], "Good"),
            ("another CA's", vec![of_another_ca], "Good"),
        ];
        for (name, mut singles, expected) in table {
            singles.push(world.single());
            let certificates = vec![signer.cert.clone()];
            let der = Reply { certificates, singles, ..Reply::new(&signer, world.single()) }.der();
            assert_eq!(text(world.verify(&der)), expected, "{name}");
        }
    }
}

#[test]
fn weak_digests_are_refused() {
    let key = PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap();
    let world = World::of(self_signed_with(Spec::ca("RSA"), key));
    let reply = Reply { signed_with: Algorithm::RsaMd5, ..world.good() };
    assert_eq!(text(world.verify(&reply.der())), "signed with MD5, which is too weak");
}

#[test]
fn many_certificates_are_not_all_tried() {
    let world = World::new();
    let good = world.ca.issue(delegate());
    let mut certificates = vec![root("Stranger").cert; 8];
    certificates.push(good.cert.clone());
    let der = Reply { certificates, ..Reply::new(&good, world.single()) }.der();
    assert_eq!(text(world.verify(&der)), "signed by somebody whose certificate is not known");
}
