//! One order from newOrder to the certificate (RFC 8555 section 7.4 and 7.5).
//!
//! What lies in [`State`] is where things are, not how they stand: that the CA is asked at each
//! step. So a step that a crash cut off can be done again.

use std::time::Duration;

use base64::prelude::{BASE64_URL_SAFE_NO_PAD as BASE64URL, Engine};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::AcmeCa;
use super::authorization::{Authorization, Standing};
use super::chain::download;
use super::client::{Directory, Failure};
use super::problem::{Problem, Rejection};
use super::renewal::certificate_id;
use crate::bundle::Bundle;
use crate::ca::exchange::parse;
use crate::ca::{IssueError, Order, Progress};
use crate::clock::Time;
use crate::http::Response;
use crate::names;
use crate::report::printable;
use crate::settings::Challenge;

/// What is remembered between two steps. Written to disk by the caller.
#[derive(Serialize, Deserialize)]
struct Saved {
    /// Where the order is: the configuration may name another CA by now, which must not be asked
    /// for it.
    directory: String,
    #[serde(flatten)]
    state: State,
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "lowercase")]
enum State {
    /// The CA has not heard of it, or does not want it as the successor of what we have.
    New {
        #[serde(default)]
        no_successor: bool,
    },
    /// The names are being validated.
    Proving { order: String, undecided: Vec<Authorization>, pace: Pace },
    /// Nothing is left for us to prove.
    Finishing { order: String, pace: Pace },
}

/// A wish for more is one of a CA that lets a person decide.
const PATIENT: Duration = Duration::from_secs(60);

/// How often the CA was asked, and since when.
#[derive(Clone, Copy, Serialize, Deserialize)]
struct Pace {
    since: Time,
    polls: u32,
}

/// Section 7.1.3.
#[derive(Deserialize)]
struct OrderObject {
    status: String,
    authorizations: Option<Vec<String>>,
    finalize: Option<String>,
    certificate: Option<String>,
    error: Option<Value>,
}

/// A CA may want to validate more than the names (a parent domain); not many more.
const MORE_AUTHORIZATIONS: usize = 8;

/// A validation that takes longer has been forgotten, unless the CA says when to ask again.
const PROVING_LIMIT: Duration = Duration::from_secs(15 * 60);

/// Issuance may wait for a person, who may be on holiday.
const FINISHING_LIMIT: Duration = Duration::from_secs(30 * 86400);

/// Goes on with `order`, and leaves in it what has been reached, also in case of an error.
pub fn step(
    ca: &AcmeCa,
    order: &mut Order,
    current: Option<&Bundle>,
) -> Result<Progress, IssueError> {
    let mut state = resume(ca, &order.state)?;
    let result = advance(ca, &mut state, order, current);
    if let (Err(e), State::Proving { undecided, .. }) = (&result, &mut state) {
        if e.order_is_dead() {
            undecided.iter_mut().for_each(|a| a.withdraw(ca));
        }
    }
    order.state = match (&state, &result) {
        // The CA has none, as far as we know: another one may be asked.
        (State::New { .. }, Err(_)) | (State::New { no_successor: false }, _) => Value::Null,
        _ => saved(ca, state)?,
    };
    result
}

fn saved(ca: &AcmeCa, state: State) -> Result<Value, IssueError> {
    let saved = Saved { directory: ca.settings.url.clone(), state };
    serde_json::to_value(&saved)
        .map_err(|e| IssueError::Storage(format!("saving the order failed: {e}")))
}

/// Takes back the answers of an order that nobody goes on with.
pub fn abandon(ca: &AcmeCa, order: &Order) {
    if let Ok(State::Proving { mut undecided, .. }) = resume(ca, &order.state) {
        undecided.iter_mut().for_each(|a| a.withdraw(ca));
    }
}

fn resume(ca: &AcmeCa, saved: &Value) -> Result<State, IssueError> {
    if saved.is_null() {
        return Ok(State::New { no_successor: false });
    }
    let broken = |cause| IssueError::Protocol { what: "saved order", cause };
    let saved = Saved::deserialize(saved).map_err(|e| broken(printable(&e.to_string())))?;
    if saved.directory != ca.settings.url {
        return Err(broken(format!("it is at \"{}\"", printable(&saved.directory))));
    }
    Ok(saved.state)
}

fn advance(
    ca: &AcmeCa,
    state: &mut State,
    order: &mut Order,
    current: Option<&Bundle>,
) -> Result<Progress, IssueError> {
    loop {
        match state {
            State::New { no_successor } => {
                let replaces = successor_of(ca, current.filter(|_| !*no_successor))?;
                let as_successor = replaces.is_some();
                match place(ca, order, replaces) {
                    Err(Failure::Rejected(r)) if as_successor && is_of_replaces(&r) => {
                        *state = State::New { no_successor: true };
                        return Ok(Progress::LookAgain);
                    }
                    placed => *state = placed.map_err(|f| f.into_error(NEW_ORDER))?,
                }
                // From here on the CA has an order: the caller saves where.
                return Ok(Progress::Wait(Duration::ZERO));
            }
            State::Proving { order: url, undecided, pace } => {
                if let Some(wait) = prove(ca, order, undecided, pace)? {
                    return Ok(Progress::Wait(wait));
                }
                *state = State::Finishing { order: url.clone(), pace: Pace::new(ca) };
            }
            State::Finishing { order: url, pace } => return finish(ca, order, url, pace),
        }
    }
}

const NEW_ORDER: &str = "newOrder";

/// What the new certificate takes the place of, for the CA (RFC 9773, 5): only one of its own, and
/// only if it knows what that means.
fn successor_of(ca: &AcmeCa, current: Option<&Bundle>) -> Result<Option<String>, IssueError> {
    let its_own = current.filter(|b| b.meta.ca.as_deref() == Some(&ca.settings.ca));
    let Some(id) = its_own.and_then(|b| certificate_id(b.chain.first()?)) else { return Ok(None) };
    Ok(ca.client.directory()?.renewal_info.is_some().then_some(id))
}

/// Whether an order may be accepted without its `replaces`: somebody was faster, or the CA does
/// not know the old certificate any more, or not as ours.
fn is_of_replaces(rejection: &Rejection) -> bool {
    ["alreadyReplaced", "malformed", "unauthorized"].iter().any(|kind| rejection.is(kind))
}

fn place(ca: &AcmeCa, order: &Order, replaces: Option<String>) -> Result<State, Failure> {
    const WHAT: &str = NEW_ORDER;
    let directory = ca.client.directory()?;
    let identifiers: Vec<Value> = order.names.iter().map(|name| identifier(name)).collect();
    let mut payload = json!({"identifiers": identifiers});
    if let Some(id) = replaces {
        payload["replaces"] = json!(id);
    }
    if let Some(profile) = &ca.settings.profile {
        must_be_listed(profile, &directory, &ca.settings.ca)?;
        payload["profile"] = profile.as_str().into();
    }
    let payload = payload.to_string().into_bytes();
    let response = ca.post(WHAT, &directory.new_order, payload)?;
    let url = ca.client.location(WHAT, &response)?;
    let placed: OrderObject = parse(WHAT, &response)?;
    match placed.status.as_str() {
        "pending" => {
            let urls = placed.authorizations.unwrap_or_default();
            let most = order.names.len() + MORE_AUTHORIZATIONS;
            if urls.is_empty() || urls.len() > most {
                let cause = format!("{} authorizations, 1 to {most} expected", urls.len());
                return Err(IssueError::Protocol { what: WHAT, cause }.into());
            }
            for url in &urls {
                ca.client.check_url(WHAT, url)?;
            }
            let undecided = urls.into_iter().map(Authorization::new).collect();
            Ok(State::Proving { order: url, undecided, pace: Pace::new(ca) })
        }
        "ready" => Ok(State::Finishing { order: url, pace: Pace::new(ca) }),
        // A valid one would be a certificate for somebody else's key.
        status => Err(strange_status(WHAT, status).into()),
    }
}

/// Draft-ietf-acme-profiles section 4: nothing else may be asked for.
fn must_be_listed(profile: &str, directory: &Directory, ca: &str) -> Result<(), IssueError> {
    if directory.profiles().any(|listed| listed == profile) {
        return Ok(());
    }
    let listed: Vec<String> = directory.profiles().map(|p| format!("\"{p}\"")).collect();
    Err(IssueError::Configuration(match listed.as_slice() {
        [] => format!("profile \"{profile}\": \"{ca}\" offers no profiles, remove the directive"),
        listed => {
            let listed = printable(&listed.join(", "));
            format!("profile \"{profile}\" is none of those that \"{ca}\" offers: {listed}")
        }
    }))
}

/// Section 9.7.7, and for addresses RFC 8738 section 3.
fn identifier(name: &str) -> Value {
    let kind = if names::ip(name).is_some() { "ip" } else { "dns" };
    json!({"type": kind, "value": name})
}

/// Brings the CA to validate the names. None: all are valid.
fn prove(
    ca: &AcmeCa,
    order: &Order,
    undecided: &mut Vec<Authorization>,
    pace: &mut Pace,
) -> Result<Option<Duration>, IssueError> {
    let mut wish = None;
    let mut still = Vec::new();
    // All answers are out before the CA hears of the first: validations run side by side.
    let by_hook = ca.settings.challenge == Challenge::Dns01;
    let mut hook_ran = false;
    for authorization in undecided.iter_mut() {
        let was_public = authorization.is_public(ca);
        if hook_ran || (by_hook && was_public && !authorization.is_told()) {
            still.push(true);
            continue;
        }
        let (standing, retry_after) = authorization.look(ca, order)?;
        wish = wish.max(retry_after);
        still.push(standing == Standing::Pending);
        hook_ran = by_hook && !was_public && authorization.is_public(ca);
    }
    let mut still = still.into_iter();
    undecided.retain(|_| still.next().unwrap_or(true));
    if hook_ran {
        // It may have taken its time: what it did is saved before the next one runs, so that its
        // record is taken back whatever comes, and others get at the entry's lock.
        return Ok(Some(Duration::ZERO));
    }
    let now = ca.client.clock.now();
    if let Some(settled) = undecided.iter().filter_map(|a| a.settled_at(ca)).max() {
        if now < settled {
            return Ok(Some(settled.since(now)));
        }
    }
    let mut told = false;
    for authorization in undecided.iter_mut() {
        told |= authorization.tell(ca)?;
    }
    if told {
        wish = None;
        *pace = Pace::new(ca);
    }
    if undecided.is_empty() {
        return Ok(None);
    }
    let wait = pace.wait(ca, "authorization", PROVING_LIMIT, wish)?;
    // In time to publish again.
    Ok(Some(ca.challenges.life().map_or(wait, |life| wait.min(life / 2))))
}

/// Has the certificate made and fetches it.
fn finish(
    ca: &AcmeCa,
    order: &mut Order,
    url: &str,
    pace: &mut Pace,
) -> Result<Progress, IssueError> {
    const WHAT: &str = "order";
    let mut response = ca.get(WHAT, url).map_err(|f| f.into_error(WHAT))?;
    let mut current: OrderObject = parse(WHAT, &response)?;
    if current.status == "ready" {
        match finalize(ca, order, &current) {
            Ok(answer) => {
                order.accepted = true;
                current = parse("finalize", &answer)?;
                response = answer;
                *pace = Pace::new(ca);
            }
            // Section 7.4: not that far yet, whatever the order said.
            Err(Failure::Rejected(rejection)) if rejection.is("orderNotReady") => {}
            Err(failure) => return Err(failure.into_error("finalize")),
        }
    }
    match current.status.as_str() {
        "valid" => {
            order.accepted = true; // also if the answer to finalize was lost
            let url = required("certificate", current.certificate.as_deref())?;
            ca.client.check_url("certificate", url)?;
            download(ca, url).map(|chosen| Progress::Issued(ca.with_remarks(chosen)))
        }
        "pending" | "ready" | "processing" => {
            let wish = ca.client.retry_after(&response);
            pace.wait(ca, WHAT, FINISHING_LIMIT, wish).map(Progress::Wait)
        }
        "invalid" => {
            order.accepted = false; // nothing comes of it
            Err(why_invalid(ca, order, &current))
        }
        status => Err(strange_status(WHAT, status)),
    }
}

fn finalize(ca: &AcmeCa, order: &Order, current: &OrderObject) -> Result<Response, Failure> {
    const WHAT: &str = "finalize";
    let url = required(WHAT, current.finalize.as_deref())?;
    ca.client.check_url(WHAT, url)?;
    let payload = json!({"csr": BASE64URL.encode(&order.csr)}).to_string();
    ca.post(WHAT, url, payload.into_bytes())
}

/// An order's own error, or that of the authorization which failed it.
fn why_invalid(ca: &AcmeCa, order: &Order, current: &OrderObject) -> IssueError {
    const WHAT: &str = "order";
    if let Some(error) = &current.error {
        let problem = Problem::read(error);
        return problem.refused(WHAT, problem.about_name());
    }
    let most = order.names.len() + MORE_AUTHORIZATIONS;
    for url in current.authorizations.iter().flatten().take(most) {
        if ca.client.check_url(WHAT, url).is_ok() {
            let mut authorization = Authorization::new(url.clone());
            let refused = authorization.look(ca, order);
            authorization.withdraw(ca); // should it call itself pending
            if let Err(e @ IssueError::Refused { .. }) = refused {
                return e;
            }
        }
    }
    Problem::default().refused("order is invalid", false)
}

fn required<'a>(what: &'static str, url: Option<&'a str>) -> Result<&'a str, IssueError> {
    url.ok_or_else(|| IssueError::Protocol { what, cause: "the order names no URL for it".into() })
}

fn strange_status(what: &'static str, status: &str) -> IssueError {
    IssueError::Protocol { what, cause: format!("unexpected status \"{}\"", printable(status)) }
}

impl Pace {
    fn new(ca: &AcmeCa) -> Pace {
        Pace { since: ca.client.clock.now(), polls: 0 }
    }

    /// When to ask again: as the CA wishes, within reason; else soon at first, then less often. A
    /// private CA is done in milliseconds, and a client may be waiting in its handshake; a person
    /// takes days. Who wants to be asked late has not forgotten.
    fn wait(
        &mut self,
        ca: &AcmeCa,
        what: &'static str,
        limit: Duration,
        wish: Option<Duration>,
    ) -> Result<Duration, IssueError> {
        const FIRST: Duration = Duration::from_millis(250);
        const LONGEST: Duration = Duration::from_secs(8);
        const WISHES: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(86400)];
        let wish = wish.map(|w| w.clamp(WISHES[0], WISHES[1]));
        let waited = ca.client.clock.now().since(self.since);
        let limit = if wish > Some(PATIENT) { limit.max(FINISHING_LIMIT) } else { limit };
        if waited > limit {
            let cause = format!("not decided after {} s", waited.as_secs());
            return Err(IssueError::Protocol { what, cause });
        }
        let own = FIRST.saturating_mul(1 << self.polls.min(10)).min(LONGEST).max(waited / 100);
        self.polls = self.polls.saturating_add(1);
        Ok(wish.unwrap_or(own))
    }
}
