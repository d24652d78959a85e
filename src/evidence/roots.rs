//! The roots that the system trusts: an intermediate's issuer is found among them where the CA
//! delivers no root and the configuration names none.

use std::sync::OnceLock;

use openssl::x509::X509;

/// The system's roots; none if there is no such file. Read at the first call, which blocks for the
/// time of reading a file; a change of the file is seen by the next worker.
pub fn system_roots() -> &'static [X509] {
    static ROOTS: OnceLock<Vec<X509>> = OnceLock::new();
    ROOTS.get_or_init(|| {
        let file = openssl_probe::probe().cert_file;
        let pem = file.and_then(|path| std::fs::read(path).ok()).unwrap_or_default();
        X509::stack_from_pem(&pem).unwrap_or_default()
    })
}
