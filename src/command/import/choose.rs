//! Which of the keys that were found is meant, and which certificate is its own.

use openssl::pkey::{PKey, Private};
use openssl::x509::X509;

use crate::command::keyfile::{Contents, FoundKey};
use crate::facts::CertFacts;
use crate::settings::EntryName;

pub struct Chosen {
    pub leaf: X509,
    pub key: PKey<Private>,
    /// Its chain may be among them.
    pub others: Vec<X509>,
}

/// By the alias, if one is given; else the only key that there is, or the only one whose
/// certificate has the name.
pub fn choose(contents: Contents, name: &EntryName, alias: Option<&str>) -> Result<Chosen, String> {
    let Contents { keys, certificates } = contents;
    let aliases = aliases(&keys);
    let is_meant = |key: &FoundKey| match (alias, &key.alias) {
        (None, _) => true,
        // keytool has them in lower case.
        (Some(wanted), Some(alias)) => alias.to_lowercase() == wanted.to_lowercase(),
        (Some(_), None) => false,
    };
    let meant: Vec<FoundKey> = keys.into_iter().filter(is_meant).collect();
    if meant.is_empty() {
        return Err(match alias {
            Some(alias) => format!("there is no key with the alias \"{alias}\"{aliases}"),
            None => "there is no private key in the files".into(),
        });
    }
    let (key, leaf) = pick(meant, &certificates, name, &aliases)?;
    let others = certificates.into_iter().filter(|c| *c != leaf).collect();
    Ok(Chosen { leaf, key, others })
}

fn pick(
    keys: Vec<FoundKey>,
    certificates: &[X509],
    name: &EntryName,
    aliases: &str,
) -> Result<(PKey<Private>, X509), String> {
    let mut locked = None;
    let mut pairs: Vec<(PKey<Private>, Option<X509>)> = Vec::new();
    for key in keys {
        match key.key {
            Ok(key) if pairs.iter().any(|(known, _)| known.public_eq(&key)) => {}
            Ok(key) => {
                let leaf = leaf_of(&key, certificates, name).cloned();
                pairs.push((key, leaf));
            }
            Err(error) => locked = Some(error.to_string()),
        }
    }
    if pairs.is_empty() {
        return Err(locked.unwrap_or_default());
    }
    if pairs.len() > 1 {
        pairs.retain(|(_, leaf)| leaf.as_ref().is_some_and(|leaf| covers(leaf, name)));
    }
    match (pairs.pop(), pairs.is_empty()) {
        (Some((key, Some(leaf))), true) => Ok((key, leaf)),
        (Some((_, None)), true) => Err("none of the certificates is for the private key".into()),
        _ => Err(format!("there are several keys: --alias names the one to take{aliases}")),
    }
}

/// The certificate of a key; of several the one with the name, and of these the one that ends
/// last: a file may still have those before it.
fn leaf_of<'a>(
    key: &PKey<Private>,
    certificates: &'a [X509],
    name: &EntryName,
) -> Option<&'a X509> {
    let is_its = |c: &&X509| c.public_key().is_ok_and(|public| public.public_eq(key));
    let end = |c: &X509| facts(c).map(|f| f.not_after);
    certificates.iter().filter(is_its).max_by_key(|c| (covers(c, name), end(c)))
}

fn covers(certificate: &X509, name: &EntryName) -> bool {
    facts(certificate).is_some_and(|facts| facts.covers(name.as_str()))
}

fn facts(certificate: &X509) -> Option<CertFacts> {
    CertFacts::from_der(&certificate.to_der().ok()?).ok()
}

/// The end of a message; empty if no key has a name.
fn aliases(keys: &[FoundKey]) -> String {
    const MOST: usize = 10;
    let named: Vec<&str> = keys.iter().filter_map(|k| k.alias.as_deref()).take(MOST).collect();
    let more = if keys.len() > MOST { " and others" } else { "" };
    if named.is_empty() { String::new() } else { format!(" ({}{more})", named.join(", ")) }
}
