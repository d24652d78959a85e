//! TLS of requests: who is trusted, and who we are. There is no way to trust everybody.

use openssl::x509::X509;
use ureq::tls::{Certificate, ClientCert, PrivateKey, RootCerts, TlsConfig, TlsProvider};

use crate::bundle::private_key;
use crate::settings::{Secret, Signer, WaySettings};

pub(super) fn config(way: &WaySettings) -> Result<TlsConfig, String> {
    let roots = match &way.trusted_certificate {
        Some(pem) => RootCerts::from(certificates(pem)?),
        None => RootCerts::PlatformVerifier,
    };
    let client = way.client_certificate.as_ref().map(client).transpose()?;
    Ok(TlsConfig::builder()
        .provider(TlsProvider::NativeTls)
        .root_certs(roots)
        .client_cert(client)
        .build())
}

fn certificates(pem: &[u8]) -> Result<Vec<Certificate<'static>>, String> {
    // native-tls drops what it can't read without a word: look here.
    let found = X509::stack_from_pem(pem).map_err(|e| e.to_string())?;
    if found.is_empty() {
        return Err("no certificate in PEM found".into());
    }
    let der = |x: &X509| x.to_der().map(|der| Certificate::from_der(&der).to_owned());
    found.iter().map(|x| der(x).map_err(|e| e.to_string())).collect()
}

/// native-tls takes keys in PKCS#8 only.
fn client(client: &Signer) -> Result<ClientCert, String> {
    let key = private_key(client.key.bytes()).map_err(|e| e.to_string())?;
    let pem = key.private_key_to_pem_pkcs8().map(Secret::new).map_err(|e| e.to_string())?;
    let key = PrivateKey::from_pem(pem.bytes()).map_err(|e| e.to_string())?;
    Ok(ClientCert::new_with_certs(&certificates(&client.certificate)?, key))
}
