//! A stapled answer, read as a client would.

use openssl::hash::MessageDigest;
use openssl::ocsp::{OcspCertId, OcspCertStatus, OcspFlag, OcspResponse, OcspResponseStatus};
use openssl::stack::Stack;
use openssl::x509::X509;
use openssl::x509::store::X509StoreBuilder;

use super::connection::Connection;

/// What the staple of a full handshake proves; the error is what is wrong with it. The roots are
/// PEM.
pub fn check(connection: &Connection, roots: &[u8]) -> Result<(), String> {
    let der = connection.staple.as_deref().ok_or("no staple")?;
    let response = OcspResponse::from_der(der).map_err(|e| e.to_string())?;
    if response.status() != OcspResponseStatus::SUCCESSFUL {
        return Err(format!("status {}", response.status().as_raw()));
    }
    let basic = response.basic().map_err(|e| e.to_string())?;
    let [leaf, issuer] = &connection.chain[..] else { return Err("a chain of not two".into()) };
    let mut store = X509StoreBuilder::new().expect("store");
    for root in X509::stack_from_pem(roots).expect("PEM") {
        store.add_cert(root).expect("root");
    }
    let mut certs = Stack::new().expect("stack");
    certs.push(issuer.clone()).expect("stack");
    basic.verify(&certs, &store.build(), OcspFlag::empty()).map_err(|e| e.to_string())?;
    let id = OcspCertId::from_cert(MessageDigest::sha1(), leaf, issuer).expect("CertID");
    let status = basic.find_status(&id).ok_or("it is about another certificate")?;
    if status.status != OcspCertStatus::GOOD {
        return Err(format!("status of the certificate {}", status.status.as_raw()));
    }
    // OpenSSL's tolerance for the clock: the answer is made in this second.
    status.check_validity(1, None).map_err(|e| e.to_string())
}
