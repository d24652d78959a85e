//! Where proof about a certificate comes from: the configured responder of its CA, or those that
//! it names itself.

use super::host::Plan;
use crate::facts::CertFacts;
use crate::http::url::{Target, target};
use crate::settings::EntrySettings;

#[derive(Clone, Debug)]
pub struct Source {
    /// Asked in this order; at least one.
    pub urls: Vec<String>,
    /// The CA's place in the plan.
    pub ca: usize,
}

impl Source {
    /// Whom to ask about a certificate that the CA of this name issued (None: imported); None:
    /// nobody can be asked.
    pub fn of(
        plan: &Plan,
        settings: &EntrySettings,
        ca: Option<&str>,
        facts: &CertFacts,
    ) -> Option<Source> {
        let place = |name: &str| plan.cas.iter().position(|c| c.name == name);
        // One that is configured no longer, or never was: the entry's first stands for it.
        let ca = ca.and_then(place).or_else(|| place(settings.cas.first()?))?;
        let configured = plan.cas[ca].evidence.ocsp_responder.clone();
        let urls = configured.map_or_else(|| facts.ocsp_urls.clone(), |url| vec![url]);
        (!urls.is_empty()).then_some(Source { urls, ca })
    }
}

/// `host:port` of a URL, as CAs tell theirs: what the jobs of one host have in common.
pub fn host_of(url: &str) -> String {
    let place = |t: Target<'_>| format!("{}:{}", t.host.to_ascii_lowercase(), t.port);
    target(url).map_or_else(|| url.to_owned(), place)
}
