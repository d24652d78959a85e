//! Puts the private keys in the keystore under the first password, a few at each look of the
//! watch: at the start, and when somebody brought another key.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::desk::Desk;
use super::host::Update;
use crate::clock::Time;
use crate::keystore::{Holder, KeystoreError};
use crate::report::{Event, What};
use crate::settings::EntryName;

/// What is still to be looked at.
#[derive(Default)]
pub struct Rekeying {
    /// The keystore was asked who has keys.
    is_begun: bool,
    left: VecDeque<Holder>,
    /// Not before; None: at once.
    next: Option<Time>,
}

impl Rekeying {
    pub fn look_at(&mut self, name: &EntryName) {
        let holder = Holder::Entry(name.clone());
        if self.is_begun && !self.left.contains(&holder) {
            self.left.push_back(holder);
        }
    }

    /// Goes on for a moment. A failure is told, and everything waits then.
    pub fn go_on(&mut self, desk: &Desk) {
        let now = desk.now();
        // Not waited for when the clock was set back.
        let rests = self.next.is_some_and(|next| now < next && next <= now + LATER);
        if desk.plan.passwords.is_empty() || desk.host.exiting() || rests {
            return;
        }
        self.next = None;
        if let Err((holder, error)) = self.try_some(desk, now) {
            self.next = Some(now + LATER);
            let what = What::RekeyFailed { cause: error.to_string(), retry: LATER };
            tell(desk, &holder, what);
        }
    }

    fn try_some(&mut self, desk: &Desk, begun: Time) -> Result<(), (String, KeystoreError)> {
        if !self.is_begun {
            let holders = desk.keystore.holders();
            self.left = holders.map_err(|error| ("keystore".into(), error))?.into();
            self.is_begun = true;
        }
        for _ in 0..self.left.len() {
            let Some(holder) = self.left.pop_front() else { break };
            match desk.keystore.rekey(&holder) {
                Ok(Some(0)) => {}
                Ok(Some(keys)) => tell(desk, &holder.to_string(), What::Rekeyed { keys }),
                // Who has the lock works with it for a while.
                Ok(None) => {
                    self.left.push_back(holder);
                    self.next = Some(begun + SOON);
                }
                Err(error) => {
                    let name = holder.to_string();
                    self.left.push_back(holder);
                    return Err((name, error));
                }
            }
            if desk.now().since(begun) >= SLICE || desk.host.exiting() {
                break;
            }
        }
        Ok(())
    }
}

/// The line may be about an entry that is not configured any more, or about an account.
fn tell(desk: &Desk, holder: &str, what: What) {
    let place = desk.plan.entries.iter().position(|e| e.name.as_str() == holder);
    let index = place.unwrap_or(0);
    if desk.plan.entries.is_empty() {
        return; // there is no worker without any
    }
    let view = Arc::new(desk.entry(index).view());
    let events = vec![Event { entry: holder.to_owned(), what }];
    desk.board().post(Update { entry: index, view, finished: None, events, counts: vec![] });
    desk.host.wake();
}

/// Of one look: the disk thread has more to do.
const SLICE: Duration = Duration::from_millis(300);
const SOON: Duration = Duration::from_secs(2);
const LATER: Duration = Duration::from_secs(300);
