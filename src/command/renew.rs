//! `renew`: asks whoever watches the keystore for a new certificate now.

use serde_json::json;

use super::World;
use super::answer::{Answer, Failure};
use super::entry::Entry;
use crate::keystore::Change;
use crate::settings::EntryName;

pub fn run(world: &World, name: &EntryName) -> Result<Answer, Failure> {
    Entry::find(world, name)?;
    world.keystore.announce(&Change::Renew(name.clone()))?;
    // News is not kept for those who come later.
    let watched = world.keystore.is_watched()?;
    let json = json!({ "name": name.as_str(), "requested": true, "watched": watched });
    let mut answer = Answer::done(format!("{name}: renewal requested\n"), json);
    if !watched {
        answer.notes.push(format!(
            "\"{name}\": no running nginx watches this keystore: nothing happens until one runs \
             and is asked again"
        ));
    }
    Ok(answer)
}
