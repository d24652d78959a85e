//! Renewal information: asked of the CA that issued the certificate, on its own time. Nobody waits
//! for it, and nothing that may be served depends on it.

use std::time::Duration;

use super::backoff;
use super::desk::Desk;
use super::entry::Entry;
use super::job::{End, Next};
use super::schedule::is_early;
use crate::bundle::Bundle;
use crate::ca::IssueError;
use crate::ca::renewal::{Renewal, RenewalInfo};
use crate::report::What;

pub struct RenewalJob {
    entry: usize,
    /// The CA to ask, by its place in the plan.
    ca: Option<usize>,
}

impl RenewalJob {
    pub fn new(entry: usize) -> RenewalJob {
        RenewalJob { entry, ca: None }
    }

    pub fn host(&self, desk: &Desk) -> Option<String> {
        // Beside its orders: a server that is slow in this alone must not take their places.
        self.ca.map(|ca| format!("renewal {}", desk.ports.cas[ca].host()))
    }

    pub fn step(&mut self, desk: &Desk) -> Next {
        match self.ca {
            None => self.look(desk),
            Some(ca) => self.ask(desk, ca),
        }
    }

    /// Another host may have asked in the meantime.
    fn look(&mut self, desk: &Desk) -> Next {
        let mut entry = desk.entry(self.entry);
        let _ = desk.reload(&mut entry); // what was there still stands
        self.ca = issuing_ca(desk, &entry);
        let is_due = desk.renewal_info_at(&entry).is_some_and(|due| due <= desk.now());
        if is_due { Next::Run } else { Next::Done(End::Idle { since: None }) }
    }

    fn ask(&self, desk: &Desk, ca: usize) -> Next {
        let bundle = desk.entry(self.entry).bundle.clone();
        let leaf = bundle.as_ref().ok().and_then(|bundle| Some((bundle, bundle.chain.first()?)));
        if let Some((bundle, leaf)) = leaf {
            let answer = desk.ports.cas[ca].renewal_info(leaf);
            let mut entry = desk.entry(self.entry);
            note(desk, &mut entry, ca, bundle, answer);
            desk.announce_changes();
        }
        Next::Done(End::Idle { since: None })
    }
}

/// The CA that issued the current certificate, if it is one that tells when to renew.
pub fn issuing_ca(desk: &Desk, entry: &Entry) -> Option<usize> {
    let ca = entry.bundle.as_ref().ok()?.meta.ca.as_ref()?;
    let index = desk.plan.cas.iter().position(|c| c.name == *ca)?;
    desk.ports.cas[index].offers_renewal_info().then_some(index)
}

fn note(
    desk: &Desk,
    entry: &mut Entry,
    ca: usize,
    bundle: &Bundle,
    answer: Result<Option<RenewalInfo>, IssueError>,
) {
    let now = desk.now();
    let certificate = bundle.facts.fingerprint.clone();
    let before = entry.renewal.take().filter(|r| r.certificate == certificate);
    let (window, failures) = before.map_or((None, 0), |r| (r.window, r.failures));
    let (renewal, event) = match answer {
        Ok(answer) => {
            let wait = answer.as_ref().map_or(NOT_OFFERED, |info| info.retry_after);
            let new = answer.as_ref().map(|info| info.window);
            let event = answer.filter(|_| new != window).map(|info| What::RenewalSuggested {
                serial: bundle.facts.serial.clone(),
                ca: desk.plan.cas[ca].name.clone(),
                window: info.window,
                explanation: info.explanation,
            });
            let next = now + wait;
            (Renewal { certificate, window: new, asked_at: now, next, failures: 0 }, event)
        }
        // The last answer still stands.
        Err(error) => {
            let failures = failures.saturating_add(1);
            let soon = backoff::issue(failures, error.retry_after(), desk.share());
            let wait = if may_pass(&error) { soon } else { soon.max(LASTING) };
            let cause = format!("\"{}\": {error}", desk.plan.cas[ca].name);
            let event = What::CheckFailed { cause, retry: wait };
            let next = now + wait;
            let renewal = Renewal { certificate, window, asked_at: now, next, failures };
            (renewal, (failures == 1).then_some(event))
        }
    };
    // In memory it counts all the same.
    let _ = desk.keystore.store_renewal(&entry.settings.name, &renewal);
    entry.renewal = Some(renewal);
    let is_news = |event: &What| match event {
        What::RenewalSuggested { window, explanation, .. } => {
            explanation.is_some() || is_early(&bundle.facts, window.start)
        }
        _ => true,
    };
    let events = event.into_iter().filter(is_news).collect();
    desk.tell(entry, events, vec![]);
}

/// RFC 9773, 4.3.3: whether it is worth asking again soon.
fn may_pass(error: &IssueError) -> bool {
    matches!(error, IssueError::Unreachable { .. } | IssueError::Busy { .. })
}

/// A job that ended by a panic: its request is not repeated each second.
pub fn panicked(desk: &Desk, entry: &mut Entry) {
    let (Some(ca), Ok(bundle)) = (issuing_ca(desk, entry), entry.bundle.clone()) else { return };
    let cause = "internal error: the job ended by a panic".into();
    note(desk, entry, ca, &bundle, Err(IssueError::Configuration(cause)));
}

const LASTING: Duration = Duration::from_secs(6 * 3600);
/// A CA may begin to offer it.
const NOT_OFFERED: Duration = Duration::from_secs(86_400);
