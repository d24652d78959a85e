//! `export`: an entry's key and chain as PKCS#12, for programs that read no PEM.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use clap::builder::NonEmptyStringValueParser;
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkcs12::Pkcs12;
use openssl::stack::Stack;
use serde_json::json;

use super::World;
use super::answer::{Answer, Failure};
use super::entry::Entry;
use super::password::Passwords;
use crate::bundle::Bundle;
use crate::settings::EntryName;

#[derive(clap::Args)]
pub struct Args {
    #[arg(value_parser = super::name)]
    name: EntryName,
    /// The file to write, in PKCS#12; one that is there is replaced whole. Its mode is 0600. A
    /// device or a pipe is written into
    #[arg(long, value_name = "FILE")]
    pkcs12: PathBuf,
    /// A file whose first line is the password of the new file; keytool wants six characters
    #[arg(long, value_name = "FILE")]
    password_file: PathBuf,
    /// The name of the key in the file; by default that of the entry
    #[arg(long, value_parser = NonEmptyStringValueParser::new())]
    alias: Option<String>,
}

pub fn run(world: &World, args: &Args) -> Result<Answer, Failure> {
    let entry = Entry::find(world, &args.name)?;
    let bundle = entry.bundle()?;
    let passwords = Passwords::read(&args.password_file)?;
    if passwords.store().is_empty() {
        let path = args.password_file.display();
        return Err(Failure::bad(format!("--password-file \"{path}\": its first line is empty")));
    }
    let alias = args.alias.as_deref().unwrap_or(args.name.as_str());
    let der = pkcs12(bundle, alias, passwords.store())
        .map_err(|e| Failure::unknown(format!("\"{}\": not exported: {e}", args.name)))?;
    let can_not =
        |e| Failure::unknown(format!("\"{}\" can't be written: {e}", args.pkcs12.display()));
    let target = Target::of(&args.pkcs12).map_err(can_not)?;
    target.write(&args.pkcs12, &der).map_err(can_not)?;
    let (file, serial) = (args.pkcs12.display().to_string(), &bundle.facts.serial);
    let text = format!("{}: exported serial {serial} to \"{file}\" as \"{alias}\"\n", args.name);
    let json = json!({
        "name": args.name.as_str(),
        "serial": serial,
        "file": file,
        "alias": alias,
        "chain_length": bundle.chain.len(),
    });
    let stdout_is_taken = target == Target::Stdout;
    Ok(Answer { notes: entry.notes, stdout_is_taken, ..Answer::done(text, json) })
}

/// AES-256 with PBKDF2 for key and certificates, SHA-256 for the MAC, whatever OpenSSL's version
/// would take: every Java since 8u301 reads that.
fn pkcs12(bundle: &Bundle, alias: &str, password: &str) -> Result<Vec<u8>, ErrorStack> {
    let mut above = Stack::new()?;
    for certificate in &bundle.chain[1..] {
        above.push(certificate.clone())?;
    }
    let mut builder = Pkcs12::builder();
    builder.name(alias).pkey(&bundle.key).cert(&bundle.chain[0]).ca(above);
    builder.key_algorithm(Nid::AES_256_CBC).cert_algorithm(Nid::AES_256_CBC);
    builder.key_iter(ITERATIONS).mac_iter(ITERATIONS).mac_md(MessageDigest::sha256());
    builder.build2(password)?.to_der()
}

/// As keytool has it. The key is no weaker for it than the password is.
const ITERATIONS: u32 = 10_000;

/// What lies under the name that is to be written.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Target {
    /// A regular file, or nothing.
    File,
    /// By whatever name.
    Stdout,
    /// A device, a pipe: no file may take its place.
    Other,
}

impl Target {
    /// Links are followed: `/dev/stdout` is one.
    fn of(path: &Path) -> io::Result<Target> {
        let found = match fs::metadata(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Target::File),
            found => found?,
        };
        // Two files may be open for one: what is said afterwards must not lie upon the other.
        let stdout = rustix::fs::fstat(io::stdout());
        let is_same = |s: &rustix::fs::Stat| (s.st_dev, s.st_ino) == (found.dev(), found.ino());
        if stdout.as_ref().is_ok_and(is_same) {
            return Ok(Target::Stdout);
        }
        match found.is_file() {
            false => Ok(Target::Other),
            // The link of `/dev/stderr` is not ours to replace, and what another one means may
            // not be what root wants to write upon.
            true if fs::symlink_metadata(path)?.is_symlink() => {
                Err(io::Error::other("it is a symbolic link: name the file itself"))
            }
            true => Ok(Target::File),
        }
    }

    fn write(self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        match self {
            Target::File => replace(path, bytes),
            Target::Stdout => {
                let mut stdout = io::stdout().lock();
                stdout.write_all(bytes).and_then(|()| stdout.flush())
            }
            Target::Other => OpenOptions::new().write(true).open(path)?.write_all(bytes),
        }
    }
}

/// A new file beside it takes its place in one step.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let mut temporary = std::ffi::OsString::from(".");
    temporary.push(name);
    temporary.push(format!(".{}", std::process::id()));
    let temporary = folder.join(temporary);
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&temporary)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()));
    // What is there under this name, and was not made by us, is left alone.
    match written {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => return Err(e),
        _ => {}
    }
    let done = written.and_then(|()| fs::rename(&temporary, path));
    if done.is_err() {
        let _ = fs::remove_file(&temporary); // it may not be there
    }
    done
}
