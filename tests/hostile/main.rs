//! Wrong input never changes what is served: an OCSP responder that lies or breaks, a server of
//! CRLs that does, and a CA. Each wrong answer leaves one clear line in the log and a next attempt,
//! and nothing else: no certificate is asked for, none is swapped, nothing false is stapled.

mod ca;
mod crl;
mod forged;
#[path = "../lab/mod.rs"]
mod lab;
mod ocsp;
mod stage;

/// Each row is one wrong answer, seen in soft and in hard mode.
#[test]
fn many_wrong_answers_are_tried() {
    let (ocsp, crl) = (ocsp::cases(), crl::cases());
    assert!(ocsp.len() >= 50, "OCSP: {}", ocsp.len());
    assert!(crl.len() >= 35, "CRL: {}", crl.len());
    let mut names: Vec<_> = ocsp.iter().map(|c| c.what).collect();
    names.extend(crl.iter().map(|c| c.what));
    println!("{} wrong answers of OCSP responders, {} about CRLs", ocsp.len(), crl.len());
    for names in [&names[..ocsp.len()], &names[ocsp.len()..]] {
        for (i, name) in names.iter().enumerate() {
            assert!(!names[..i].contains(name), "{name} twice");
        }
    }
}
