//! The proof of control over one name (RFC 8555 section 7.5 and 8).

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::AcmeCa;
use super::client::{is_base64url, lock};
use super::problem::Problem;
use crate::ca::exchange::parse;
use crate::ca::{ChallengeAnswer, IssueError, Order};
use crate::clock::Time;
use crate::names;
use crate::report::printable;
use crate::settings::Challenge;

/// One authorization of an order, and what we did about it.
#[derive(Serialize, Deserialize)]
pub struct Authorization {
    url: String,
    #[serde(default)]
    answer: Option<Answer>,
}

/// The challenge that was chosen. The key authorization is not kept: it comes from the key.
#[derive(Serialize, Deserialize)]
struct Answer {
    #[serde(default)]
    kind: Challenge,
    /// Where the CA is told.
    url: String,
    name: String,
    token: String,
    /// The CA knows that it may look.
    told: bool,
    /// It has looked in vain and waits for us (section 8.2): when it is told again.
    #[serde(default)]
    again: Option<Time>,
    #[serde(default)]
    retries: u32,
}

/// An answer that the CA may see.
#[derive(Debug)]
pub struct Published {
    answer: ChallengeAnswer,
    /// From when on it may look.
    settled: Time,
    /// When it is to be published again, since it is there for a while only.
    renewal: Option<Time>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Standing {
    Pending,
    Valid,
}

/// Section 7.1.4.
#[derive(Deserialize)]
struct AuthorizationObject {
    identifier: Identifier,
    status: String,
    challenges: Vec<ChallengeObject>,
    /// The name is `*.` and the identifier.
    #[serde(default)]
    wildcard: bool,
}

#[derive(Deserialize)]
struct Identifier {
    #[serde(rename = "type", default)]
    kind: String,
    value: String,
}

impl Identifier {
    /// In the one way that we write it.
    fn name(&self) -> String {
        let name = self.value.to_ascii_lowercase();
        let address = (self.kind == "ip").then(|| names::host_address(&name)).flatten();
        address.unwrap_or(name)
    }
}

/// Section 8. Unknown kinds of challenge may look different: only the type is certain.
#[derive(Deserialize)]
struct ChallengeObject {
    #[serde(rename = "type")]
    kind: String,
    url: Option<String>,
    status: Option<String>,
    token: Option<String>,
    error: Option<Value>,
}

impl ChallengeObject {
    fn is_pending(&self) -> bool {
        self.status.as_deref().is_none_or(|status| status == "pending")
    }
}

const WHAT: &str = "authorization";

/// How often a CA that looked in vain is told again.
const MOST_RETRIES: u32 = 3;

/// What it could not reach may be on its way; then twice as long.
const FIRST_PAUSE: Duration = Duration::from_secs(2);

/// A token is a part of a path and of a file name: RFC 8555 section 8 asks for base64url, and
/// 22 characters or more.
const LONGEST_TOKEN: usize = 128;

impl Authorization {
    pub fn new(url: String) -> Authorization {
        Authorization { url, answer: None }
    }

    /// Asks how it stands. While it is pending, the answer to its challenge is public on return.
    pub fn look(
        &mut self,
        ca: &AcmeCa,
        order: &Order,
    ) -> Result<(Standing, Option<Duration>), IssueError> {
        let response = ca.get(WHAT, &self.url).map_err(|f| f.into_error(WHAT))?;
        let object: AuthorizationObject = parse(WHAT, &response)?;
        let name = object.identifier.name();
        if !belongs(&object, &name, order) {
            let wildcard = if object.wildcard { "*." } else { "" };
            let cause = format!("for \"{wildcard}{}\", which was not asked for", printable(&name));
            return Err(IssueError::Protocol { what: WHAT, cause });
        }
        let chosen = object.challenges.iter().find(|c| c.kind == kind(ca.settings.challenge));
        let failed = chosen.is_some_and(|c| c.status.as_deref() == Some("invalid"));
        match object.status.as_str() {
            "valid" => {
                self.withdraw(ca);
                Ok((Standing::Valid, None))
            }
            "pending" if !failed => {
                self.choose(ca, &object, chosen, name.clone())?;
                if !self.heed(ca, chosen) {
                    return Err(why_invalid(&object.challenges, chosen, &name));
                }
                self.publish(ca)?;
                Ok((Standing::Pending, ca.client.retry_after(&response)))
            }
            "pending" | "invalid" => Err(why_invalid(&object.challenges, chosen, &name)),
            // expired, deactivated, revoked: the order can't become ready any more.
            status => Err(IssueError::Refused {
                what: WHAT,
                problem: format!("{name}: {}", printable(status)),
                about_name: true,
                retry_after: None,
            }),
        }
    }

    /// Whether this process has published its answer.
    pub fn is_public(&self, ca: &AcmeCa) -> bool {
        self.answer.as_ref().is_some_and(|a| lock(&ca.published).contains_key(&a.token))
    }

    pub fn is_told(&self) -> bool {
        self.answer.as_ref().is_some_and(|a| a.told)
    }

    /// Tells the CA that the answer is there, if that is due. Whether that was done now.
    pub fn tell(&mut self, ca: &AcmeCa) -> Result<bool, IssueError> {
        const WHAT: &str = "challenge";
        let now = ca.client.clock.now();
        let Some(answer) = self.answer.as_mut().filter(|a| a.is_due(now)) else {
            return Ok(false);
        };
        ca.post(WHAT, &answer.url, b"{}".to_vec()).map_err(|f| f.into_error(WHAT))?;
        answer.retries += u32::from(answer.told);
        (answer.told, answer.again) = (true, None);
        Ok(true)
    }

    /// Takes the answer back; nobody asks for it any more.
    pub fn withdraw(&mut self, ca: &AcmeCa) {
        let Some(answer) = self.answer.take() else { return };
        let published = lock(&ca.published).remove(&answer.token).map(|p| p.answer);
        // Published by another process, maybe one that crashed: the key tells what it was.
        let published = published.or_else(|| answer.for_handlers(ca).ok());
        if let Some(published) = published {
            ca.challenges.withdraw(&published);
        }
    }

    fn choose(
        &mut self,
        ca: &AcmeCa,
        object: &AuthorizationObject,
        chosen: Option<&ChallengeObject>,
        name: String,
    ) -> Result<(), IssueError> {
        let broken = |cause| Err(IssueError::Protocol { what: WHAT, cause });
        let Some(chosen) = chosen else {
            let offered: Vec<_> = object.challenges.iter().map(|c| c.kind.as_str()).collect();
            let offered = printable(&offered.join(", "));
            let wanted = kind(ca.settings.challenge);
            return broken(format!("{wanted} is not offered for \"{name}\", only {offered}"));
        };
        let token = chosen.token.as_deref().unwrap_or_default();
        if !is_base64url(token, LONGEST_TOKEN) {
            return broken(format!("unusable token \"{}\"", printable(token)));
        }
        let url = chosen.url.clone().unwrap_or_default();
        ca.client.check_url(WHAT, &url)?;
        // A CA may have one token for all challenges of a name.
        let kind = ca.settings.challenge;
        let is_same = |a: &Answer| a.kind == kind && a.token == token;
        if !self.answer.as_ref().is_some_and(is_same) {
            self.withdraw(ca);
        }
        let (told, again, retries) =
            self.answer.as_ref().map_or((false, None, 0), |a| (a.told, a.again, a.retries));
        let told = told || !chosen.is_pending();
        let token = token.to_owned();
        self.answer = Some(Answer { kind, url, name, token, told, again, retries });
        Ok(())
    }

    /// Whether the CA waits to be told again. False: it has been, as often as makes sense.
    fn heed(&mut self, ca: &AcmeCa, chosen: Option<&ChallengeObject>) -> bool {
        let now = ca.client.clock.now();
        let in_vain = chosen.is_some_and(|c| c.is_pending() && c.error.is_some());
        let Some(answer) = self.answer.as_mut().filter(|a| a.told) else { return true };
        if !in_vain {
            answer.again = None;
            return true;
        }
        answer.again.get_or_insert(now + FIRST_PAUSE * (1 << answer.retries.min(MOST_RETRIES)));
        answer.retries < MOST_RETRIES
    }

    /// Once a process, since after a restart the handlers know nothing; and before it is gone.
    fn publish(&self, ca: &AcmeCa) -> Result<(), IssueError> {
        let Some(answer) = &self.answer else { return Ok(()) };
        let now = ca.client.clock.now();
        let is_there = |p: &Published| p.renewal.is_none_or(|at| now < at);
        if lock(&ca.published).get(&answer.token).is_some_and(is_there) {
            return Ok(());
        }
        let published = answer.for_handlers(ca)?;
        ca.challenges.publish(&published).map_err(|e| {
            IssueError::Storage(format!("answering a challenge for \"{}\": {e}", answer.name))
        })?;
        // The hook may have taken its time.
        let now = ca.client.clock.now();
        let settled = now + ca.challenges.settle_in();
        let renewal = ca.challenges.life().map(|life| now + life / 2);
        let published = Published { answer: published, settled, renewal };
        lock(&ca.published).insert(answer.token.clone(), published);
        Ok(())
    }

    /// From when on the CA may be told; None: it knows.
    pub fn settled_at(&self, ca: &AcmeCa) -> Option<Time> {
        let now = ca.client.clock.now();
        let answer = self.answer.as_ref().filter(|a| a.is_due(now))?;
        lock(&ca.published).get(&answer.token).map(|p| p.settled)
    }
}

impl Answer {
    /// Whether the CA is to be told.
    fn is_due(&self, now: Time) -> bool {
        !self.told || self.again.is_some_and(|at| at <= now)
    }

    fn for_handlers(&self, ca: &AcmeCa) -> Result<ChallengeAnswer, IssueError> {
        Ok(ChallengeAnswer {
            kind: self.kind,
            name: self.name.clone(),
            token: self.token.clone(),
            key_authorization: ca.account()?.key.key_authorization(&self.token),
        })
    }
}

fn kind(challenge: Challenge) -> &'static str {
    match challenge {
        Challenge::Http01 => "http-01",
        Challenge::TlsAlpn01 => "tls-alpn-01",
        Challenge::Dns01 => "dns-01",
    }
}

/// Whether the order needs a proof for the identifier `name`: it is one of its names, what a
/// wildcard stands on, or a domain above one, which section 7.1.3 leaves to the CA. Section 7.1.4:
/// the identifier itself is never a wildcard, and the proof for one is marked.
fn belongs(object: &AuthorizationObject, name: &str, order: &Order) -> bool {
    let is_below = |asked: &str| {
        asked.strip_suffix(name).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    };
    order.names.iter().any(|asked| match (names::wildcard(asked), names::ip(asked)) {
        _ if object.identifier.kind == "ip" => names::ip(asked).is_some() && asked == name,
        (Some(on), _) => on == name || !object.wildcard && is_below(on),
        (None, None) => !object.wildcard && is_below(asked),
        (None, Some(_)) => false,
    })
}

/// The CA's words about our challenge, or about any, if ours was not tried.
fn why_invalid(
    challenges: &[ChallengeObject],
    chosen: Option<&ChallengeObject>,
    name: &str,
) -> IssueError {
    const WHAT: &str = "challenge";
    let error = chosen.into_iter().chain(challenges).find_map(|c| c.error.as_ref());
    let problem = error.map(Problem::read).unwrap_or_default();
    // The CA's own trouble says nothing about the name.
    let about_name = !matches!(problem.kind.as_str(), "serverInternal" | "rateLimited");
    let problem = format!("{name}: {}", problem.line());
    IssueError::Refused { what: WHAT, problem, about_name, retry_after: None }
}
