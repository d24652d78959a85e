//! The contract between the engine and the process around it: what is to be done, what the process
//! offers, and what the event loop is told.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::bundle::{Bundle, Defect, Replaced};
use crate::ca::ChallengeAnswer;
use crate::clock::Time;
use crate::facts::Serial;
use crate::policy::{Link, Standing};
use crate::report::Event;
use crate::settings::{CaSettings, EntrySettings, Passwords};
use crate::staple::Staple;

/// What the engine works for: fixed for the life of a worker.
pub struct Plan {
    pub keystore: PathBuf,
    /// For the private keys in it.
    pub passwords: Passwords,
    pub cas: Vec<CaSettings>,
    /// Entries are known by their index everywhere.
    pub entries: Vec<Arc<EntrySettings>>,
}

/// The process around the engine: the nginx worker, or a test.
pub trait Host: Send + Sync {
    /// Makes the event loop call [`Engine::take_updates`] soon. Called from any thread.
    ///
    /// [`Engine::take_updates`]: super::Engine::take_updates
    fn wake(&self);

    /// The news of an entry as all workers see them.
    fn news(&self, entry: usize) -> News;

    /// Changes the news of an entry, counts `seq` up, and wakes the engines of all workers
    /// ([`Engine::poke`]).
    ///
    /// [`Engine::poke`]: super::Engine::poke
    fn publish(&self, entry: usize, change: &mut dyn FnMut(&mut News));

    /// Claims the job of an entry among the workers of this nginx until `deadline`. A claim whose
    /// deadline has passed, or whose process is gone, is nobody's. True too when it is ours already.
    fn claim(&self, entry: usize, now: Time, deadline: Time) -> bool;

    fn release(&self, entry: usize);

    /// Whether this worker watches the keystore and does what nobody asked for (first issuance,
    /// evidence, renewal). One worker at a time; asked every second, and so kept up.
    fn leads(&self, now: Time) -> bool;

    /// A number that grows whenever a worker of this nginx learns that `changes` in the keystore
    /// has grown: workers that have seen a smaller one read on. (Not the file's length: it begins
    /// anew when the file is rotated.)
    fn changes_known(&self) -> u64;

    /// Says that `changes` has grown, and wakes the engines of all workers ([`Engine::poke`]).
    ///
    /// [`Engine::poke`]: super::Engine::poke
    fn set_changes_known(&self, number: u64);

    /// Whether the worker is shutting down: begin nothing that no handshake waits for.
    fn exiting(&self) -> bool;

    /// What tells this nginx from others on the same keystore.
    fn id(&self) -> String {
        std::process::id().to_string()
    }

    /// Makes a challenge answer visible to the handlers of all workers.
    fn publish_challenge(&self, answer: &ChallengeAnswer, expires: Time) -> Result<(), String>;

    fn withdraw_challenge(&self, answer: &ChallengeAnswer);

    /// Before a program is started: what of this process it must not inherit (descriptors, a
    /// signal mask), and that it gets SIGTERM when this process dies.
    fn prepare(&self, _: &mut Command) {}
}

/// The state of an entry that is shared by workers but not worth a place in the keystore.
/// Lives in the shared zone as JSON of at most [`News::LIMIT`] bytes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct News {
    /// Grows with each change: tells apart what was seen already.
    pub seq: u64,
    /// After a failed check: when the next one is due; None: none failed.
    pub next_check: Option<Time>,
    pub check_failures: u32,
    /// After responders that gave no proof while a CRL did: when they are asked again; None: none
    /// failed.
    pub next_ocsp: Option<Time>,
    pub ocsp_failures: u32,
    /// After a CRL that could not be had: when it is fetched again; None: none failed.
    pub next_crl: Option<Time>,
    pub crl_failures: u32,
    /// After a failed issuance: when the next one is due; None: none failed.
    pub next_issue: Option<Time>,
    pub issue_failures: u32,
    /// An order waits at a CA, and that was told.
    pub pending: bool,
    pub last_error: Option<String>,
    /// The CAs that failed before another one issued, and why, as told; None: none did.
    pub passed_over: Option<u64>,
    /// When the next attempts were noted: before that the clock was set back, and they are not
    /// waited for.
    pub noted_at: Option<Time>,
    /// Handshakes are refused, and that was told.
    pub refused: bool,
    /// A job is under way: `checking` or `replacing`.
    pub working: Option<Working>,
    /// When the verified answer that made the certificate bad was there.
    pub bad_since: Option<Time>,
    pub replaced: Option<Replaced>,
}

impl News {
    /// An issuance has failed or waits: the error is its own, whatever else goes well.
    pub fn issue_is_open(&self) -> bool {
        self.issue_failures > 0 || self.pending
    }

    pub const LIMIT: usize = 1536;
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Working {
    Checking,
    Replacing,
}

/// All that the event loop needs to know about an entry.
#[derive(Clone)]
pub struct View {
    pub bundle: Result<Arc<Bundle>, Defect>,
    /// The certificates of the bundle's chain that are checked, leaf first.
    pub links: Vec<Link>,
    /// About this bundle's leaf; it may have run out since.
    pub staple: Option<Arc<Staple>>,
    /// When the CA wants the certificate replaced; None: it does not say.
    pub suggested_at: Option<Time>,
    pub news: News,
    /// Serial of the last certificate of this entry that was revoked: names the session context.
    pub last_revoked: Option<Serial>,
}

impl View {
    pub fn standing(&self) -> Standing<'_> {
        Standing {
            certificate: self.bundle.as_ref().map(|b| &b.facts),
            links: &self.links,
            stapled_until: self.staple.as_ref().map(|staple| staple.until()),
            suggested_at: self.suggested_at,
            stored_at: self.bundle.as_ref().ok().and_then(|b| b.meta.stored_at),
            next_check: self.news.next_check,
            next_ocsp: self.news.next_ocsp,
            next_crl: self.news.next_crl,
            next_issue: self.news.next_issue,
        }
    }
}

/// News for the event loop.
pub struct Update {
    pub entry: usize,
    pub view: Arc<View>,
    /// A job that handshakes may have waited for is over; its query was asked at this time, and
    /// its answer counts as fresh for them. They are decided now, whatever it brought.
    pub finished: Option<Time>,
    /// For the log, in order.
    pub events: Vec<Event>,
    /// For the counters of the status.
    pub counts: Vec<Count>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Count {
    OcspQuery,
    OcspError,
    CrlFetch,
    Issued,
    IssueError,
    ReplacedRevoked,
    ReplacedExpired,
}
