//! CRLs over HTTP (RFC 5280, 5 and 6.3): whether one lists a certificate.
//!
//! A CRL is fetched once for all that share the keystore, whole into a file, and read from there
//! as a stream. Delta and indirect CRLs are refused: each is a part of a truth whose other part
//! is elsewhere. What a CRL is worth is decided in `verify`, which does no I/O of its own and
//! knows no clock.

pub(crate) mod der;
mod error;
mod extensions;
mod filter;
mod memory;
mod pem;
mod signature;
mod verify;
pub mod walk;

#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use openssl::x509::X509Ref;

pub use self::error::{CrlError, Fault};
use self::memory::{Answer, Memory};
use self::verify::{Facts, Verified};
use crate::clock::{Clock, SKEW, Time};
use crate::evidence::Evidence;
use crate::facts::{CertFacts, Fingerprint};
use crate::http::{Http, Method, Request, Response};
use crate::keystore::{CrlLock, CrlMeta, Keystore, StoredCrl};

/// One question to one CRL.
#[derive(Clone, Copy)]
pub struct Query<'a> {
    /// The certificate in question.
    pub facts: &'a CertFacts,
    /// It is a CA's: a CRL may be for users' or for CAs' certificates only.
    pub is_ca: bool,
    /// The certificate that issued it, known to have done so, and that must have signed the CRL.
    pub issuer: &'a X509Ref,
    pub url: &'a str,
    /// A stored CRL that was asked for at this time or later is not asked for again.
    pub asked_since: Time,
    /// For the whole exchange. A large CRL needs minutes; see [`Http::download`].
    pub timeout: Duration,
}

/// What a look-up found.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Found {
    Answer {
        evidence: Evidence,
        /// A request went out.
        fetched: bool,
    },
    /// Another thread, worker or host is fetching it: look again soon.
    Busy,
}

/// The CRLs in a keystore, and what this process has read in them. Shared by threads.
pub struct Crls {
    keystore: Keystore,
    memory: Mutex<Memory>,
    tidied_at: Mutex<Time>,
}

/// Verifies a CRL, DER or PEM, for `query` at `now`, with neither network nor keystore. The
/// evidence counts as asked for at `now`.
pub fn read(crl: impl BufRead, query: &Query, now: Time) -> Result<Evidence, CrlError> {
    try_read(crl, query, now).map_err(|fault| CrlError { url: query.url.to_string(), fault })
}

fn try_read(crl: impl BufRead, query: &Query, now: Time) -> Result<Evidence, Fault> {
    let serial = query.facts.serial.to_bytes();
    let verified = verify::verify(crl, query.issuer, [serial.clone()])?;
    let listed = verified.answers.get(&serial).copied().flatten();
    verified.facts.evidence(listed, query, now, now)
}

/// The largest CRL that is taken, in bytes: shards of a mass revocation have 70 MB.
const LIMIT: usize = 128 << 20;

const REDIRECTS: u32 = 3;

impl Crls {
    pub fn new(keystore: Keystore) -> Crls {
        Crls { keystore, memory: Mutex::default(), tidied_at: Mutex::default() }
    }

    /// Looks into the stored CRL, asked for anew where it is older than the query wants. Blocks
    /// for `timeout` and the time it takes to read the CRL once or twice.
    pub fn look_up(
        &self,
        http: &dyn Http,
        clock: &dyn Clock,
        query: &Query,
    ) -> Result<Found, CrlError> {
        self.try_look_up(http, clock, query)
            .map_err(|fault| CrlError { url: query.url.to_string(), fault })
    }

    fn try_look_up(
        &self,
        http: &dyn Http,
        clock: &dyn Clock,
        query: &Query,
    ) -> Result<Found, Fault> {
        let task = Task { crls: self, query, issuer: Fingerprint::of(&query.issuer.to_der()?) };
        if let Some(evidence) = task.stored_answer(clock.now())? {
            return Ok(Found::Answer { evidence, fetched: false });
        }
        let Some(lock) = self.keystore.try_lock_crl(query.url)? else { return Ok(Found::Busy) };
        // Whoever had the lock until now may have fetched it.
        if let Some(evidence) = task.stored_answer(clock.now())? {
            return Ok(Found::Answer { evidence, fetched: false });
        }
        let evidence = task.fetch(http, clock, &lock)?;
        drop(lock);
        self.tidy(clock.now());
        Ok(Found::Answer { evidence, fetched: true })
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Once a day. What can't be removed now can be tomorrow.
    fn tidy(&self, now: Time) {
        const DAY: Duration = Duration::from_secs(86_400);
        let mut tidied_at = self.tidied_at.lock().unwrap_or_else(PoisonError::into_inner);
        if *tidied_at + DAY <= now || *tidied_at > now {
            *tidied_at = now;
            drop(tidied_at);
            let _ = self.keystore.tidy_crls(now);
        }
    }
}

/// One look-up.
struct Task<'a> {
    crls: &'a Crls,
    query: &'a Query<'a>,
    issuer: Fingerprint,
}

/// A stored CRL that was read and is its issuer's.
struct Usable {
    meta: CrlMeta,
    answer: Answer,
}

impl Task<'_> {
    /// What the stored CRL proves, if it need not be asked for. An error: it was asked for, and
    /// is not about the certificate.
    fn stored_answer(&self, now: Time) -> Result<Option<Evidence>, Fault> {
        let Some(stored) = self.crls.keystore.crl(self.query.url)? else { return Ok(None) };
        let asked_at = stored.meta.asked_at;
        // One of the future was asked for before the clock was set back, nobody knows when.
        if asked_at < self.query.asked_since || now + SKEW < asked_at {
            return Ok(None);
        }
        let Ok((facts, listed)) = self.consult(&stored) else { return Ok(None) };
        match facts.evidence(listed, self.query, asked_at, now) {
            Ok(evidence) => Ok(Some(evidence)),
            Err(fault @ (Fault::Scope(_) | Fault::OtherPoint(_))) => Err(fault),
            Err(_) => Ok(None),
        }
    }

    /// What a stored CRL says, from memory if possible.
    fn consult(&self, stored: &StoredCrl) -> Result<Answer, Fault> {
        let (url, serial) = (self.query.url, self.query.facts.serial.to_bytes());
        let known = self.crls.memory().recall(url, stored.file, &self.issuer, &serial);
        if let Some(known) = known {
            return Ok(known);
        }
        let (answer, read) = self.read(&stored.list)?;
        self.crls.memory().learn(url, stored.file, &self.issuer, read);
        Ok(answer)
    }

    /// Reads a CRL from the beginning to the end, for all certificates that it was ever asked
    /// about.
    fn read(&self, list: &File) -> Result<(Answer, Verified), Fault> {
        const BUFFER: usize = 64 * 1024;
        let serial = self.query.facts.serial.to_bytes();
        let mut serials = self.crls.memory().serials(self.query.url);
        serials.push(serial.clone());
        let reader = BufReader::with_capacity(BUFFER, list);
        let read = verify::verify(reader, self.query.issuer, serials)?;
        let listed = read.answers.get(&serial).copied().flatten();
        Ok(((read.facts.clone(), listed), read))
    }

    fn fetch(&self, http: &dyn Http, clock: &dyn Clock, lock: &CrlLock) -> Result<Evidence, Fault> {
        let asked = clock.now();
        let usable = self.usable(lock)?;
        let conditions = usable.as_ref().map(|u| conditions(&u.meta)).unwrap_or_default();
        let is_conditional = !conditions.is_empty();
        let mut spool = lock.spool()?;
        let response = http.download(&self.request(conditions), &mut spool)?;
        let now = clock.now();
        match (response.status, usable) {
            (304, Some(usable)) if is_conditional => self.keep(lock, usable, asked, now),
            (200, usable) => {
                let (answer, read) = self.read(spool.reader()?)?;
                if let Some(usable) = usable.filter(|u| stands(&u.answer.0, &answer.0, now)) {
                    return self.keep(lock, usable, asked, now);
                }
                answer.0.check_times(now)?;
                let meta = self.meta(&response, asked, &answer.0);
                let file = lock.store(spool, &meta)?;
                self.crls.memory().learn(self.query.url, file, &self.issuer, read);
                answer.0.evidence(answer.1, self.query, asked, now)
            }
            (status, _) => {
                Err(Fault::HttpStatus { status, retry_after: response.retry_after(now) })
            }
        }
    }

    /// The stored CRL, current or not. One that can't be what was stored is dropped.
    fn usable(&self, lock: &CrlLock) -> Result<Option<Usable>, Fault> {
        let Some(stored) = self.crls.keystore.crl(self.query.url)? else { return Ok(None) };
        match self.consult(&stored) {
            Ok(answer) => Ok(Some(Usable { meta: stored.meta, answer })),
            // Another issuer's may be right for others that ask.
            Err(Fault::Read(_) | Fault::OpenSsl(_)) => Ok(None),
            Err(_) if stored.meta.issuer != self.issuer => Ok(None),
            Err(_) => {
                lock.remove()?;
                Ok(None)
            }
        }
    }

    /// The stored CRL is what the server has to tell, and counts as asked for now.
    fn keep(
        &self,
        lock: &CrlLock,
        usable: Usable,
        asked: Time,
        now: Time,
    ) -> Result<Evidence, Fault> {
        let (facts, listed) = usable.answer;
        facts.check_times(now)?;
        lock.update(&CrlMeta { asked_at: asked, ..usable.meta })?;
        facts.evidence(listed, self.query, asked, now)
    }

    fn request(&self, conditions: Vec<(&'static str, String)>) -> Request {
        let mut headers = vec![("accept", "application/pkix-crl, */*;q=0.1".to_string())];
        headers.extend(conditions);
        Request {
            method: Method::Get,
            url: self.query.url.to_string(),
            headers,
            body: Vec::new(),
            redirects: REDIRECTS,
            limit: LIMIT,
            timeout: self.query.timeout,
        }
    }

    fn meta(&self, response: &Response, asked: Time, facts: &Facts) -> CrlMeta {
        let header = |name| response.header(name).map(str::to_owned).filter(|v| is_header(v));
        let hex = |number: &Vec<u8>| number.iter().map(|b| format!("{b:02x}")).collect();
        CrlMeta {
            url: self.query.url.to_string(),
            etag: header("etag"),
            last_modified: header("last-modified"),
            asked_at: asked,
            this_update: facts.this_update,
            next_update: facts.next_update,
            number: facts.extensions.number.as_ref().map(hex),
            issuer: self.issuer.clone(),
        }
    }
}

/// Whether the stored one stays when the other is sent: a mirror that lags, or somebody on the
/// way, has sent one of before a revocation.
fn stands(stored: &Facts, sent: &Facts, now: Time) -> bool {
    stored.check_times(now).is_ok() && stored.is_newer_than(sent)
}

/// RFC 9110, 13.1.
fn conditions(meta: &CrlMeta) -> Vec<(&'static str, String)> {
    let header = |name, value: &Option<String>| {
        value.clone().filter(|v| is_header(v)).map(|value| (name, value))
    };
    [header("if-none-match", &meta.etag), header("if-modified-since", &meta.last_modified)]
        .into_iter()
        .flatten()
        .collect()
}

/// What comes from the disk must not make a request that can't be sent.
fn is_header(value: &str) -> bool {
    const LONGEST: usize = 1024;
    value.len() <= LONGEST && value.bytes().all(|b| b.is_ascii_graphic() || b == b' ')
}
