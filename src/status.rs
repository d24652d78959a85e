//! The status: what an administrator may ask about every entry, as JSON.

use serde::Serialize;

use crate::bundle::{Defect, Replaced};
use crate::clock::Time;
use crate::engine::{View, Working, next_action};
use crate::evidence::{Evidence, Source, Status as EvidenceStatus};
use crate::policy::{self, Asker, Decision};
use crate::settings::EntrySettings;

/// The whole answer. All keys are always present.
#[derive(Serialize)]
pub struct Status {
    pub version: &'static str,
    pub entries: Vec<EntryStatus>,
    pub counters: Counters,
}

/// Sums over the workers of this nginx, kept over reloads.
#[derive(Debug, Default, Serialize)]
pub struct Counters {
    pub handshakes: u64,
    pub held: u64,
    pub refused: u64,
    pub ocsp_queries: u64,
    pub ocsp_errors: u64,
    pub crl_fetches: u64,
    pub issued: u64,
    pub issue_errors: u64,
    pub replaced_revoked: u64,
    pub replaced_expired: u64,
}

#[derive(Debug, PartialEq, Serialize)]
pub struct EntryStatus {
    pub name: String,
    pub server_names: Vec<String>,
    pub state: State,
    pub serial: Option<String>,
    pub not_before: Option<String>,
    pub not_after: Option<String>,
    pub issuer: Option<String>,
    pub ca: Option<String>,
    pub version: Option<u64>,
    pub evidence: Option<EvidenceView>,
    pub last_error: Option<String>,
    pub next_action_at: Option<String>,
    pub replaced: Option<ReplacedView>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Served.
    Valid,
    /// Held for a check.
    Checking,
    /// Bad, and being replaced.
    Replacing,
    /// No certificate yet.
    Pending,
    /// Nothing that may be served.
    Refused,
}

#[derive(Debug, PartialEq, Serialize)]
pub struct EvidenceView {
    pub source: Source,
    pub status: &'static str,
    pub this_update: String,
    pub next_update: Option<String>,
    pub checked_at: String,
    pub responder: String,
}

#[derive(Debug, PartialEq, Serialize)]
pub struct ReplacedView {
    pub serial: String,
    pub reason: String,
    pub at: String,
    pub seconds: f64,
}

impl EntryStatus {
    /// From what a worker knows; None: it has not looked yet.
    pub fn new(now: Time, settings: &EntrySettings, view: Option<&View>) -> EntryStatus {
        let bundle = view.and_then(|v| v.bundle.as_ref().ok());
        let facts = bundle.map(|b| &b.facts);
        let news = view.map(|v| &v.news);
        EntryStatus {
            name: settings.name.to_string(),
            server_names: settings.names.clone(),
            state: view.map_or(State::Pending, |v| state(now, settings, v)),
            serial: facts.map(|f| f.serial.to_string()),
            not_before: facts.map(|f| f.not_before.rfc3339()),
            not_after: facts.map(|f| f.not_after.rfc3339()),
            issuer: facts.map(|f| f.issuer.clone()),
            ca: bundle.and_then(|b| b.meta.ca.clone()),
            version: bundle.map(|b| b.version),
            evidence: view.and_then(|v| newest(now, settings, v)).map(EvidenceView::new),
            last_error: news.and_then(|n| n.last_error.clone()),
            next_action_at: view.map(|v| next_action(now, &v.standing(), settings).rfc3339()),
            replaced: replaced(view).map(ReplacedView::new),
        }
    }
}

fn state(now: Time, settings: &EntrySettings, view: &View) -> State {
    let working = view.news.working;
    match policy::decide(now, &view.standing(), settings, Asker::default()) {
        _ if view.bundle.as_ref().is_err_and(|d| *d == Defect::Missing) => State::Pending,
        Decision::Serve => State::Valid,
        Decision::Check if working == Some(Working::Checking) => State::Checking,
        // Nobody has come since it was due: it is served after a check.
        Decision::Check => State::Valid,
        Decision::Replace(_) => State::Replacing,
        Decision::Refuse(_) if working == Some(Working::Replacing) => State::Replacing,
        Decision::Refuse(_) => State::Refused,
    }
}

/// What the decision rests on: a revocation, of whichever certificate of the chain; else the
/// newest proof of the leaf, or what is there instead.
fn newest<'a>(now: Time, settings: &EntrySettings, view: &'a View) -> Option<&'a Evidence> {
    let mut all = view.links.iter().flat_map(|link| &link.evidence);
    let proves = |e: &Evidence| {
        e.status == EvidenceStatus::Good && now < e.fresh_until(settings.check_interval)
    };
    all.find(|e| e.is_revoked())
        .or_else(|| view.links.first()?.evidence.iter().max_by_key(|e| (proves(e), e.checked_at)))
}

fn replaced(view: Option<&View>) -> Option<&Replaced> {
    let view = view?;
    let stored = view.bundle.as_ref().ok().and_then(|b| b.meta.replaced.as_ref());
    stored.or(view.news.replaced.as_ref())
}

impl EvidenceView {
    fn new(evidence: &Evidence) -> EvidenceView {
        EvidenceView {
            source: evidence.source,
            status: evidence.status.as_str(),
            this_update: evidence.this_update.rfc3339(),
            next_update: evidence.next_update.map(Time::rfc3339),
            checked_at: evidence.checked_at.rfc3339(),
            responder: evidence.responder.clone(),
        }
    }
}

impl ReplacedView {
    fn new(replaced: &Replaced) -> ReplacedView {
        ReplacedView {
            serial: replaced.serial.to_string(),
            reason: replaced.reason.clone(),
            at: replaced.at.rfc3339(),
            seconds: replaced.seconds,
        }
    }
}
