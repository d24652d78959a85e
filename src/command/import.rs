//! `import`: a certificate with its key and chain becomes the new version of an entry.
//!
//! It is checked as a CA's delivery is: what clients would refuse is refused here, with `--force`
//! as the way round. From then on it is an entry like any other: served, checked, and replaced by
//! the CAs of its servers. Nobody is asked about it before: the module does so at once.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::NonEmptyStringValueParser;
use openssl::x509::X509;
use serde_json::json;

use super::World;
use super::answer::{Answer, Failure};
use super::entry::{Entry, State};
use super::keyfile::{self, Contents};
use super::password::Passwords;
use crate::bundle::{Bundle, Meta, can_be_served, chain_pem};
use crate::evidence::chain::{ChainError, check_new_chain, link};
use crate::facts::CertFacts;
use crate::keystore::{KeystoreError, Lock};
use crate::settings::{EntryName, Secret};

mod choose;

use choose::{Chosen, choose};

#[derive(clap::Args)]
pub struct Args {
    /// The entry: the first exact `server_name`; made where it is missing
    #[arg(value_parser = super::name)]
    name: EntryName,
    /// Certificate, key and chain in one file or several, in any order
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// A file: its first line is the password of the FILEs, its second that of a key in a JKS
    /// keystore, if it has one of its own
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// The key to take, where a keystore holds several
    #[arg(long, value_parser = NonEmptyStringValueParser::new())]
    alias: Option<String>,
    /// Store what clients or the module would refuse: expired, self-signed, for other names,
    /// revoked, without its issuer
    #[arg(long)]
    force: bool,
}

pub fn run(world: &World, args: &Args) -> Result<Answer, Failure> {
    let name = &args.name;
    let passwords = args.password_file.as_deref().map(Passwords::read).transpose()?;
    let contents = read_all(&args.files, &passwords.unwrap_or_default())?;
    let Chosen { leaf, key, others } = choose(contents, name, args.alias.as_deref())
        .map_err(|cause| Failure::bad(format!("\"{name}\": not imported: {cause}")))?;
    let unusable =
        |e: &dyn std::fmt::Display| Failure::bad(format!("\"{name}\": not imported: {e}"));
    let mut chain = link(leaf, others, &[]);
    // That no force can make good.
    can_be_served(&chain, &key).map_err(|e| unusable(&e))?;
    if !args.force {
        chain = checked(world, name, &chain, &key)?;
    }
    let der = chain[0].to_der().map_err(|e| unusable(&e))?;
    let facts = CertFacts::from_der(&der).map_err(|e| unusable(&e))?;
    let key_pem = key.private_key_to_pem_pkcs8().map(Secret::new).map_err(|e| unusable(&e))?;
    let meta = Meta { stored_at: Some(world.clock.now()), ..Meta::default() };
    let pem = chain_pem(&chain).map_err(|e| unusable(&e))?;
    let new = Bundle { version: 0, chain, key, facts, meta };
    if !args.force {
        refuse_revoked(world, name, &new)?;
    }

    refuse_to_expose(world)?;
    let lock = lock(world, name)?;
    let old = world.keystore.load(name)?.ok();
    let committed = world.keystore.commit(&lock, &pem, &key_pem, &new.meta)?;
    drop(lock);
    let (serial, end, version) = (&new.facts.serial, new.facts.not_after, committed.version);
    let text = format!("{name}: imported serial {serial} as version {version}, until {end}\n");
    let json = json!({
        "name": name.as_str(),
        "serial": serial,
        "not_after": end.rfc3339(),
        "names": new.facts.names,
        "version": version,
        "chain_length": new.chain.len(),
        "replaced_serial": old.map(|old| old.facts.serial),
    });
    let note = |error| {
        format!("\"{name}\": stored, but running workers see it only in some minutes: {error}")
    };
    let notes = committed.untold.map(note).into_iter().collect();
    Ok(Answer { notes, ..Answer::done(text, json) })
}

fn read_all(files: &[PathBuf], passwords: &Passwords) -> Result<Contents, Failure> {
    let mut all = Contents::default();
    for path in files {
        let bytes = keyfile::read_file(path)?;
        let contents = keyfile::read(bytes.bytes(), passwords)
            .map_err(|cause| Failure::bad(format!("\"{}\": {cause}", path.display())))?;
        all.keys.extend(contents.keys);
        all.certificates.extend(contents.certificates);
    }
    Ok(all)
}

/// The chain in order, if it is one that clients accept.
fn checked(
    world: &World,
    name: &EntryName,
    chain: &[X509],
    key: &openssl::pkey::PKeyRef<openssl::pkey::Private>,
) -> Result<Vec<X509>, Failure> {
    let refused = |cause: String| {
        Failure::bad(format!("\"{name}\": not imported: {cause}; --force imports it all the same"))
    };
    let pem = chain_pem(chain).map_err(|e| refused(e.to_string()))?;
    let names = [name.to_string()];
    match check_new_chain(&pem, key, &names, None, world.clock.now()) {
        Ok(checked) => Ok(checked.chain),
        Err(ChainError::NoIssuer) => Err(refused(
            "the certificate of its issuer is in none of the files: name that file too".into(),
        )),
        Err(error) => Err(refused(error.to_string())),
    }
}

/// A backup may bring a certificate back that was revoked long ago.
fn refuse_revoked(world: &World, name: &EntryName, new: &Bundle) -> Result<(), Failure> {
    // What can't be read is as if nothing were known.
    let evidence = Entry::read(&world.keystore, name).map(|e| e.evidence).unwrap_or_default();
    match State::of(new, &evidence, name, world.clock.now()) {
        State::Revoked(reason) => Err(Failure::bad(format!(
            "\"{name}\": not imported: certificate serial={} is revoked ({}), by evidence in the \
             keystore; --force imports it all the same",
            new.facts.serial,
            reason.as_str()
        ))),
        _ => Ok(()),
    }
}

/// Among encrypted keys none is stored in the clear. Nor is one encrypted with another password
/// than theirs: the workers could not read it.
fn refuse_to_expose(world: &World) -> Result<(), Failure> {
    for name in world.keystore.entries()? {
        if let Err(error @ KeystoreError::Sealed { .. }) = world.keystore.load(&name) {
            return Err(error.into());
        }
    }
    Ok(())
}

/// The holder may be talking to a CA, but not for long at a time.
fn lock(world: &World, name: &EntryName) -> Result<Lock, Failure> {
    let until = world.clock.now() + PATIENCE;
    loop {
        if let Some(lock) = world.keystore.try_lock(name)? {
            return Ok(lock);
        }
        if until <= world.clock.now() {
            let line = format!(
                "\"{name}\": not imported: for {} s it has been locked by a worker that gets a \
                 certificate for it: try again",
                PATIENCE.as_secs()
            );
            return Err(Failure::unknown(line));
        }
        crate::command::pause();
    }
}

const PATIENCE: Duration = Duration::from_secs(60);
