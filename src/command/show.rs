//! `show`: all that is stored about one entry. Nobody is asked.

use serde_json::{Value, json};

use super::World;
use super::answer::{Answer, Failure, table, words};
use super::certificate::{key_type, link_json, revocation_json, status_text, subject, time_json};
use super::entry::Entry;
use crate::bundle::{Bundle, Replaced};
use crate::evidence::Evidence;
use crate::keystore::{Issuance, Pending};
use crate::report::printable;
use crate::settings::EntryName;

/// What lies beside the certificate.
struct Beside {
    pending: Option<Pending>,
    issued: Vec<Issuance>,
}

pub fn run(world: &World, name: &EntryName) -> Result<Answer, Failure> {
    let mut entry = Entry::find(world, name)?;
    let mut notes = std::mem::take(&mut entry.notes);
    let mut note = |error| notes.push(format!("\"{name}\": {}", words(&error)));
    let pending = world.keystore.pending(name).map_err(&mut note).unwrap_or_default();
    let issued = world.keystore.issuances(name).map_err(&mut note).unwrap_or_default();
    let beside = Beside { pending, issued };
    let state = entry.state(world.clock.now());
    let mut json = match &entry.loaded {
        Ok(bundle) => certificate_json(bundle),
        Err(_) => nothing_json(),
    };
    json["name"] = name.as_str().into();
    json["state"] = state.word().into();
    json["cause"] = json!(state.cause());
    json["evidence"] = entry.evidence.iter().map(evidence_json).collect();
    json["pending"] = beside.pending.as_ref().map_or(Value::Null, pending_json);
    json["issued"] = beside.issued.iter().map(issuance_json).collect();
    let mut rows = vec![row("name", name.to_string()), row("state", state.to_string())];
    rows.extend(entry.loaded.as_ref().ok().into_iter().flat_map(certificate_rows));
    rows.extend(beside_rows(&entry, &beside));
    Ok(Answer { notes, ..Answer::done(table(&rows), json) })
}

fn row(key: &str, value: String) -> Vec<String> {
    vec![key.into(), value]
}

fn certificate_rows(bundle: &Bundle) -> Vec<Vec<String>> {
    let (facts, meta) = (&bundle.facts, &bundle.meta);
    let origin = match &meta.ca {
        Some(ca) => format!("from \"{ca}\""),
        None => "imported".into(),
    };
    let stored = meta.stored_at.map(|at| format!(", stored at {at}")).unwrap_or_default();
    let mut rows = vec![
        row("names", facts.names.join(" ")),
        row("serial", facts.serial.to_string()),
        row("issuer", printable(&facts.issuer)),
        row("not before", facts.not_before.to_string()),
        row("not after", facts.not_after.to_string()),
        row("key", key_type(&bundle.key)),
        row("must-staple", if facts.must_staple { "yes" } else { "no" }.into()),
        row("version", format!("{}, {origin}{stored}", bundle.version)),
    ];
    rows.extend(meta.replaced.iter().map(|r| row("replaced", replaced_text(r))));
    rows.extend(Entry::links(bundle).iter().map(|(certificate, facts)| {
        let (subject, end) = (subject(certificate), facts.not_after);
        row("chain", format!("{subject}, serial {}, until {end}", facts.serial))
    }));
    rows.extend(facts.ocsp_urls.iter().map(|url| row("ocsp", printable(url))));
    rows.extend(facts.crl_urls.iter().map(|url| row("crl", printable(url))));
    rows
}

fn replaced_text(replaced: &Replaced) -> String {
    let Replaced { serial, reason, at, seconds } = replaced;
    format!("serial {serial} ({}), at {at}, after {seconds:.1} s", printable(reason))
}

fn beside_rows(entry: &Entry, beside: &Beside) -> Vec<Vec<String>> {
    let mut rows: Vec<_> =
        entry.evidence.iter().map(|e| row("evidence", evidence_text(e))).collect();
    rows.extend(beside.pending.iter().map(|pending| {
        let what = if pending.chain.is_some() { "to be proven" } else { "asked for" };
        let (ca, at) = (printable(&pending.order.ca), pending.created_at);
        row("pending", format!("{what}, from \"{ca}\", since {at}"))
    }));
    rows.extend(beside.issued.iter().map(|issuance| {
        let end = if issuance.wasted { ", not served" } else { "" };
        row("issued", format!("at {} by \"{}\"{end}", issuance.at, printable(&issuance.ca)))
    }));
    rows
}

fn evidence_text(evidence: &Evidence) -> String {
    let (serial, source) = (&evidence.serial, evidence.source.as_str());
    let (status, url) = (status_text(evidence), printable(&evidence.responder));
    format!("serial {serial}: {status}, asked at {}, {source} {url}", evidence.checked_at)
}

fn certificate_json(bundle: &Bundle) -> Value {
    let (facts, meta) = (&bundle.facts, &bundle.meta);
    let chain: Vec<Value> = Entry::links(bundle).iter().map(|(c, f)| link_json(c, f)).collect();
    json!({
        "names": facts.names,
        "serial": facts.serial,
        "fingerprint": facts.fingerprint,
        "issuer": printable(&facts.issuer),
        "not_before": facts.not_before.rfc3339(),
        "not_after": facts.not_after.rfc3339(),
        "key": key_type(&bundle.key),
        "must_staple": facts.must_staple,
        "version": bundle.version,
        "ca": meta.ca,
        "stored_at": time_json(meta.stored_at),
        "replaced": meta.replaced.as_ref().map(replaced_json),
        "chain": chain,
        "ocsp_urls": facts.ocsp_urls,
        "crl_urls": facts.crl_urls,
    })
}

fn nothing_json() -> Value {
    let keys = [
        "names",
        "serial",
        "fingerprint",
        "issuer",
        "not_before",
        "not_after",
        "key",
        "must_staple",
        "version",
        "ca",
        "stored_at",
        "replaced",
        "chain",
        "ocsp_urls",
        "crl_urls",
    ];
    keys.into_iter().map(|key| (key.to_owned(), Value::Null)).collect()
}

fn replaced_json(replaced: &Replaced) -> Value {
    let Replaced { serial, reason, at, seconds } = replaced;
    json!({ "serial": serial, "reason": reason, "at": at.rfc3339(), "seconds": seconds })
}

fn evidence_json(evidence: &Evidence) -> Value {
    let (reason, revoked_at) = revocation_json(&evidence.status);
    json!({
        "certificate": evidence.certificate,
        "serial": evidence.serial,
        "source": evidence.source,
        "status": evidence.status.as_str(),
        "reason": reason,
        "revoked_at": revoked_at,
        "this_update": evidence.this_update.rfc3339(),
        "next_update": time_json(evidence.next_update),
        "checked_at": evidence.checked_at.rfc3339(),
        "responder": printable(&evidence.responder),
    })
}

/// What the CA's protocol has to remember may be secret, and is nobody else's business.
fn pending_json(pending: &Pending) -> Value {
    json!({
        "ca": pending.order.ca,
        "names": pending.order.names,
        "reason": pending.order.reason,
        "created_at": pending.created_at.rfc3339(),
        "accepted": pending.order.accepted,
        "delivered": pending.chain.is_some(),
    })
}

fn issuance_json(issuance: &Issuance) -> Value {
    json!({ "ca": issuance.ca, "at": issuance.at.rfc3339(), "wasted": issuance.wasted })
}
