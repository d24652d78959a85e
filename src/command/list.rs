//! `list`: all entries of the keystore, one a line.

use serde_json::{Value, json};

use super::World;
use super::answer::{Answer, Exit, Failure, table, words};
use super::entry::Entry;
use crate::clock::Time;
use crate::keystore::KeystoreError;
use crate::settings::EntryName;

pub fn run(world: &World) -> Result<Answer, Failure> {
    let now = world.clock.now();
    let (mut rows, mut entries) = (Vec::new(), Vec::new());
    let (mut notes, mut exit) = (Vec::new(), Exit::Done);
    for name in world.keystore.entries()? {
        match Entry::read(&world.keystore, &name) {
            Ok(entry) => {
                rows.push(row(&entry, now));
                entries.push(object(&entry, now));
                notes.extend(entry.notes);
            }
            // The others can be listed.
            Err(error) => {
                rows.push([name.as_str(), "unreadable", "-", "-", "-"].map(str::to_owned).into());
                entries.push(unreadable(&name, &error));
                notes.push(format!("\"{name}\": {}", words(&error)));
                exit = Exit::Unknown;
            }
        }
    }
    let json = json!({ "entries": entries });
    Ok(Answer { exit, notes, ..Answer::done(table(&rows), json) })
}

fn unreadable(name: &EntryName, error: &KeystoreError) -> Value {
    json!({
        "name": name.as_str(),
        "state": "unreadable",
        "cause": words(error),
        "serial": null,
        "not_before": null,
        "not_after": null,
        "ca": null,
        "version": null,
    })
}

fn row(entry: &Entry, now: Time) -> Vec<String> {
    let state = entry.state(now).word().replace('_', " ");
    let certificate = match &entry.loaded {
        Ok(bundle) => {
            let ca = bundle.meta.ca.clone().unwrap_or_else(|| "imported".into());
            [bundle.facts.not_after.rfc3339(), bundle.facts.serial.to_string(), ca]
        }
        Err(_) => ["-", "-", "-"].map(str::to_owned),
    };
    [vec![entry.name.to_string(), state], certificate.into()].concat()
}

fn object(entry: &Entry, now: Time) -> Value {
    let (bundle, state) = (entry.loaded.as_ref().ok(), entry.state(now));
    let facts = bundle.map(|b| &b.facts);
    json!({
        "name": entry.name.as_str(),
        "state": state.word(),
        "cause": state.cause(),
        "serial": facts.map(|f| &f.serial),
        "not_before": facts.map(|f| f.not_before.rfc3339()),
        "not_after": facts.map(|f| f.not_after.rfc3339()),
        "ca": bundle.and_then(|b| b.meta.ca.as_ref()),
        "version": bundle.map(|b| b.version),
    })
}
