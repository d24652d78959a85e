//! What is made of OCSP responses, CRLs and certificates that others made: the test vectors in the
//! Python package `cryptography-vectors`. With `-- --ignored --nocapture` every row is shown.
//!
//! | vectors | of | checks | |
//! |---|---|---|---|
//! | x509/ocsp | 28 | 42 | 17 responses; 11 requests, as garbage |
//! | x509/custom, CRLs | 27 | 34 | 22 of the files signed again |
//! | PKITS, tests | 224 | 75 | sections 4.4, 4.5, 4.7, 4.14, 4.15; clock: 2020 |
//! | PKITS, CRLs | 173 | 431 | each certificate in each CRL of its issuer; OpenSSL judges |
//! | x509, certificates | 540 | 540 | read by us and OpenSSL, and compared |
//!
//! What is not in there:
//!
//! - Of 8 OCSP responses the issuer's certificate is not in the package. Of 4 the signature is
//!   checked all the same, as they bring their signer's certificate; a 5th was changed after it
//!   was signed. 3 are read as far as the name of their signer.
//! - The keys that signed the CRLs of x509/custom are missing but for four files: the other CRLs
//!   are read as they are, which must prove nothing, and again with a signature of our own. One is
//!   read as it is only: nobody signs with MD2.
//! - 145 tests of PKITS are about paths, which clients validate: 4.1 to 4.3, 4.6, 4.8 to 4.13 and
//!   4.16. 4.4.1 has no CRL. In 4.5.8, 4.7.1 and 4.7.2 the certificate is of somebody who may issue
//!   none.
//!
//! | PKITS | of | | |
//! |---|---|---|---|
//! | not run | 224 | 149 | tests |
//! | not met | 173 | 2 | CRLs: no certificate is of their issuer |
//!
//! Where we come to something else than PKITS, on purpose. But for delta CRLs it is that nothing
//! is proven: then the next source is asked, and the policy decides.
//!
//! | what PKITS wants | of | tests | |
//! |---|---|---|---|
//! | differ | 75 | 34 | |
//! | another key | 34 | 8 | CRLs signed with another key of the issuer than its certificates |
//! | directory names | 34 | 6 | distribution points without a URL |
//! | some reasons | 34 | 6 | several CRLs, each for some reasons of revocation |
//! | indirect | 34 | 11 | CRLs of somebody else than the issuer |
//! | delta | 34 | 3 | delta CRLs: what is said is what the complete CRL says |

mod certificates;
mod crl;
mod custom_crls;
mod folder;
mod ocsp;
mod outcome;
mod parts;
mod pkits;
mod pkits_tests;
mod stand_in;

#[test]
fn the_table_above_is_true() {
    let differ = |why| pkits_tests::TESTS.iter().filter(|test| test.differs == why).count();
    let differing = pkits_tests::TESTS.iter().filter(|test| test.differs.is_some()).count();
    let table = [
        ("x509/ocsp", 28, ocsp::ROWS.len()),
        ("x509/custom, CRLs", 27, custom_crls::ROWS.len()),
        ("PKITS, tests", 224, pkits_tests::TESTS.len()),
        ("PKITS, CRLs", 173, pkits::PAIRS),
        ("x509, certificates", 540, certificates::CERTIFICATES),
        ("not run", 224, pkits::skipped()),
        ("not met", 173, pkits::NOT_MET.len()),
        ("differ", pkits_tests::TESTS.len(), differing),
        ("another key", differing, differ(pkits_tests::OTHER_KEY)),
        ("directory names", differing, differ(pkits_tests::NAMED)),
        ("some reasons", differing, differ(pkits_tests::REASONS)),
        ("indirect", differing, differ(pkits_tests::INDIRECT)),
        ("delta", differing, differ(pkits_tests::DELTA)),
    ];
    let text = include_str!("main.rs");
    for (what, of, count) in table {
        let line = format!("//! | {what} | {of} | {count} |");
        assert!(text.contains(&line), "main.rs lacks: {line}");
    }
}
