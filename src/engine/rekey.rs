//! Puts the private keys in the keystore under the first password, a few at each look of the
//! watch: at the start, and when somebody brought another key.

use std::collections::VecDeque;
use std::time::Duration;

use super::desk::Desk;
use crate::clock::Time;
use crate::keystore::{Holder, KeystoreError};
use crate::report::{Event, What};
use crate::settings::EntryName;

/// What is still to be looked at.
#[derive(Default)]
pub struct Rekeying {
    /// The keystore was asked who has keys.
    is_begun: bool,
    /// Each not before its time; None: at once.
    left: VecDeque<(Holder, Option<Time>)>,
    /// When the keystore is asked again, if it could not say who.
    next: Option<Time>,
}

impl Rekeying {
    pub fn look_at(&mut self, name: &EntryName) {
        let holder = Holder::Entry(name.clone());
        if self.is_begun && !self.left.iter().any(|(left, _)| *left == holder) {
            self.left.push_back((holder, None));
        }
    }

    /// Goes on for a moment. A failure is told, and its holder waits then.
    pub fn go_on(&mut self, desk: &Desk) {
        let now = desk.now();
        if desk.plan.passwords.is_empty() || desk.host.exiting() || rests(self.next, now) {
            return;
        }
        if !self.is_begun {
            match desk.keystore.holders() {
                Ok(holders) => self.left = holders.into_iter().map(|h| (h, None)).collect(),
                Err(error) => {
                    self.next = Some(now + LATER);
                    return tell_failure(desk, "keystore", &error);
                }
            }
            self.is_begun = true;
        }
        // One line for all that fail now: on a full disk all do.
        if let Some((holder, error)) = self.try_some(desk, now) {
            tell_failure(desk, &holder, &error);
        }
    }

    /// The first failure.
    fn try_some(&mut self, desk: &Desk, begun: Time) -> Option<(String, KeystoreError)> {
        let mut failed = None;
        for _ in 0..self.left.len() {
            let Some((holder, next)) = self.left.pop_front() else { break };
            if rests(next, begun) {
                self.left.push_back((holder, next));
                continue;
            }
            match desk.keystore.rekey(&holder) {
                Ok(Some(0)) => {}
                Ok(Some(keys)) => tell(desk, &holder.to_string(), What::Rekeyed { keys }),
                // Who has the lock works with it for a while.
                Ok(None) => self.left.push_back((holder, Some(begun + SOON))),
                Err(error) => {
                    failed.get_or_insert_with(|| (holder.to_string(), error));
                    self.left.push_back((holder, Some(begun + LATER)));
                }
            }
            if desk.now().since(begun) >= SLICE || desk.host.exiting() {
                break;
            }
        }
        failed
    }
}

/// Not for ever when the clock was set back.
fn rests(next: Option<Time>, now: Time) -> bool {
    next.is_some_and(|next| now < next && next <= now + LATER)
}

fn tell_failure(desk: &Desk, holder: &str, error: &KeystoreError) {
    tell(desk, holder, What::RekeyFailed { cause: error.to_string(), retry: LATER });
}

/// The line may be about an entry that is not configured any more, or about an account.
fn tell(desk: &Desk, holder: &str, what: What) {
    desk.note(Event { entry: holder.to_owned(), what });
}

/// Of one look: the disk thread has more to do.
const SLICE: Duration = Duration::from_millis(300);
const SOON: Duration = Duration::from_secs(2);
const LATER: Duration = Duration::from_secs(300);
