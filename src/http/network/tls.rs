//! TLS of requests: who is trusted, and who we are. There is no way to trust everybody.

use openssl::x509::X509;
use ureq::Error;
use ureq::tls::{Certificate, ClientCert, PrivateKey, RootCerts, TlsConfig, TlsProvider};
use ureq::unversioned::transport::{ConnectionDetails, Connector};

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

/// One context of OpenSSL for all requests. ureq would make one for each that has a setting of its
/// own, as all have here (their time), and each reads whom the machine trusts: hundreds of
/// certificates, also where they are not used. What is set for TLS is the same for all.
#[derive(Debug)]
pub(super) struct OneContext<C>(pub(super) C);

impl<C: Connector<()>> Connector<()> for OneContext<C> {
    type Out = C::Out;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        chained: Option<()>,
    ) -> Result<Option<Self::Out>, Error> {
        self.0.connect(&of_agent(details), chained)
    }
}

/// The same connection, with nothing that is for this request alone.
pub(super) fn of_agent<'a>(details: &ConnectionDetails<'a>) -> ConnectionDetails<'a> {
    ConnectionDetails {
        uri: details.uri,
        addrs: details.addrs.clone(),
        config: details.config,
        request_level: false,
        resolver: details.resolver,
        now: details.now,
        timeout: details.timeout,
        current_time: details.current_time.clone(),
        run_connector: details.run_connector.clone(),
        register_shutdown: details.register_shutdown.clone(),
    }
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
