//! The delivered chain, and which of several is taken (RFC 8555 section 7.4.2).

use openssl::nid::Nid;
use openssl::x509::X509;

use super::AcmeCa;
use super::client::Failure;
use super::link::links;
use crate::ca::{IssueError, Issued, is_chain};
use crate::http::Response;
use crate::report::printable;

const WHAT: &str = "certificate";

/// A chain of a few certificates has 10 KB.
const LIMIT: usize = 256 * 1024;
const PEM_CHAIN: &str = "application/pem-certificate-chain";

/// CAs have one root that is old and one that is new.
const MOST_ALTERNATES: usize = 8;

/// Fetches the chain at `url`, or that of its alternates which the configuration prefers. What is
/// wrong with an alternate never costs the certificate: then it is the default chain.
pub fn download(ca: &AcmeCa, url: &str) -> Result<Issued, IssueError> {
    let (default, response) = fetch(ca, url).map_err(|f| f.into_error(WHAT))?;
    let the_default = |chain, remark| Ok(Issued { remark, ..Issued::from(chain) });
    let Some(wanted) = &ca.settings.preferred_chain else { return the_default(default, None) };
    let mut offered = vec![Issuer::of(&default)];
    if offered[0].is(wanted) {
        return the_default(default, None);
    }
    for url in links(&response, "alternate", MOST_ALTERNATES) {
        match alternate(ca, &url, &default) {
            Ok(chain) => {
                let issuer = Issuer::of(&chain);
                if issuer.is(wanted) {
                    return Ok(Issued { fallback: Some(default), ..Issued::from(chain) });
                }
                offered.push(issuer);
            }
            // A handshake may be waiting: not as many timeouts as there are alternates.
            Err(Failure::Other(IssueError::Unreachable { .. })) => break,
            Err(_) => {}
        }
    }
    let offered: Vec<String> = offered.iter().map(Issuer::quoted).collect();
    let remark = format!(
        "preferred_chain \"{wanted}\" is not offered, only {}: the first is used",
        printable(&offered.join(", "))
    );
    the_default(default, Some(remark))
}

/// Another chain of the same certificate.
fn alternate(ca: &AcmeCa, url: &str, default: &[u8]) -> Result<Vec<u8>, Failure> {
    ca.client.check_url(WHAT, url)?;
    let (chain, _) = fetch(ca, url)?;
    if leaf(&chain) != leaf(default) {
        let cause = "an alternate chain is of another certificate".into();
        return Err(IssueError::Protocol { what: WHAT, cause }.into());
    }
    Ok(chain)
}

fn fetch(ca: &AcmeCa, url: &str) -> Result<(Vec<u8>, Response), Failure> {
    let mut response = ca.post_for(WHAT, url, Vec::new(), PEM_CHAIN, LIMIT)?;
    if !is_chain(&response.body) {
        return Err(IssueError::Protocol { what: WHAT, cause: "not a chain in PEM".into() }.into());
    }
    Ok((std::mem::take(&mut response.body), response))
}

/// The common names of whoever issued the topmost certificate of a chain.
struct Issuer(Vec<String>);

impl Issuer {
    fn of(chain: &[u8]) -> Issuer {
        let certificates = X509::stack_from_pem(chain).unwrap_or_default();
        let Some(top) = certificates.last() else { return Issuer(Vec::new()) };
        let names = top.issuer_name().entries_by_nid(Nid::COMMONNAME);
        Issuer(names.filter_map(|n| n.data().to_string().ok()).collect())
    }

    fn is(&self, name: &str) -> bool {
        self.0.iter().any(|n| n == name)
    }

    fn quoted(&self) -> String {
        format!("\"{}\"", self.0.first().map_or("?", String::as_str))
    }
}

fn leaf(chain: &[u8]) -> Option<Vec<u8>> {
    X509::from_pem(chain).ok()?.to_der().ok()
}
