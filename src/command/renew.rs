//! `renew`: asks whoever watches the keystore for a new certificate now.

use serde_json::json;

use super::World;
use super::answer::{Answer, Exit, Failure};
use super::entry::Entry;
use crate::keystore::Change;
use crate::settings::EntryName;

pub fn run(world: &World, name: &EntryName) -> Result<Answer, Failure> {
    Entry::expect(world, name)?;
    // News is not kept for those who come later.
    let watched = world.keystore.is_watched()?;
    let json = json!({ "name": name.as_str(), "requested": watched });
    if !watched {
        let note = format!(
            "\"{name}\": not requested: no running nginx watches this keystore: start it, and ask \
             again"
        );
        let nothing = Answer::done(String::new(), json);
        return Ok(Answer { exit: Exit::Unknown, notes: vec![note], ..nothing });
    }
    world.keystore.announce(&Change::Renew(name.clone()))?;
    Ok(Answer::done(format!("{name}: renewal requested\n"), json))
}
