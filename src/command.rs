//! The command `cert-autofetch`: looks into a keystore, asks about what is in it, and takes
//! certificates in and out. It works beside a running nginx and without one.
//!
//! It knows the keystore and not nginx's configuration: what a CA's block says about responders
//! and anchors is said again by options. One file a subcommand; each gives an [`Answer`], which is
//! text for people or JSON for scripts, and never prints by itself.

use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};

use crate::clock::{Clock, SystemClock};
use crate::directives::DEFAULT_KEYSTORE;
use crate::http::Http;
use crate::http::network::NetworkHttp;
use crate::http::url::target;
use crate::keystore::Keystore;
use crate::report::printable;
use crate::settings::{EntryName, WaySettings};

mod answer;
mod certificate;
mod check;
mod entry;
mod export;
mod import;
mod keyfile;
mod list;
mod password;
mod renew;
mod show;
#[cfg(test)]
mod tests;

use answer::{Answer, Exit, Failure};

#[derive(Parser)]
#[command(
    name = "cert-autofetch",
    version,
    about = "Looks after the keystore of the nginx module ssl_cert_autofetch",
    after_help = AFTER_HELP,
    disable_help_subcommand = true,
    // The whole help is no line.
    arg_required_else_help = false
)]
struct Args {
    /// The keystore, as `ssl_cert_autofetch_keystore` names it
    #[arg(long, value_name = "DIR", global = true, default_value = DEFAULT_KEYSTORE)]
    keystore: PathBuf,
    /// The passwords of an encrypted keystore, as its `password_file=` names them
    #[arg(long, value_name = "FILE", global = true)]
    keystore_password_file: Option<PathBuf>,
    /// Print one JSON object instead of text
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// All entries, one a line: name, state, end, serial, CA
    List,
    /// All that is stored about an entry
    Show {
        #[arg(value_parser = name)]
        name: EntryName,
    },
    /// Ask the responders and CRLs of an entry's certificates now, and judge it
    Check(check::Args),
    /// Ask the running nginx for a new certificate; no budget refuses it
    Renew {
        #[arg(value_parser = name)]
        name: EntryName,
    },
    /// Store a certificate with its key and chain, from PEM, PKCS#12 or JKS; it is served at once
    Import(import::Args),
    /// Write an entry's key and chain to a file for other programs
    Export(export::Args),
}

/// What a subcommand works on.
struct World<'a> {
    keystore: Keystore,
    clock: &'a dyn Clock,
    http: &'a dyn Http,
}

/// Runs the command. The exit code is that of interface.md, "Command".
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args = match Args::try_parse_from(args) {
        Ok(args) => args,
        Err(error) => return usage(&error),
    };
    let way = match &args.action {
        Action::Check(check) => check.way(),
        _ => Ok(WaySettings::default()),
    };
    let done = way
        .and_then(|way| NetworkHttp::new(&way).map_err(Failure::unknown))
        .and_then(|http| run(&args, &SystemClock, &http));
    tell(args.json, done)
}

/// Waits for another process; there is nothing to be told by.
#[allow(clippy::disallowed_methods)]
fn pause() {
    std::thread::sleep(Duration::from_millis(100));
}

fn run(args: &Args, clock: &dyn Clock, http: &dyn Http) -> Result<Answer, Failure> {
    let keystore = Keystore::open(&args.keystore)
        .map_err(|e| Failure::unknown(format!("{e}: --keystore DIR names another keystore")))?;
    if !keystore.has_entries()? {
        return Err(Failure::unknown(format!(
            "\"{}\" is no keystore, it has no folder \"certs\", which nginx makes at its start: \
             --keystore DIR names another one",
            args.keystore.display()
        )));
    }
    let keystore = match &args.keystore_password_file {
        Some(path) => keystore.with_passwords(password::of_keystore(path)?),
        None => keystore,
    };
    let world = World { keystore, clock, http };
    match &args.action {
        Action::List => list::run(&world),
        Action::Show { name } => show::run(&world, name),
        Action::Check(args) => check::run(&world, args),
        Action::Renew { name } => renew::run(&world, name),
        Action::Import(args) => import::run(&world, args),
        Action::Export(args) => export::run(&world, args),
    }
}

/// Help and version, or what is wrong with the arguments in one line.
fn usage(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() {
        return print(&error.to_string(), Exit::Done);
    }
    complain(&format!("{}: see cert-autofetch --help", usage_line(error)));
    Exit::Usage.into()
}

/// clap writes a paragraph, and the usage below it.
fn usage_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let paragraph = text.lines().take_while(|line| !line.is_empty()).map(str::trim);
    let line = paragraph.collect::<Vec<_>>().join(" ");
    line.strip_prefix("error: ").unwrap_or(&line).to_owned()
}

fn tell(json: bool, done: Result<Answer, Failure>) -> ExitCode {
    let answer = match done {
        Ok(answer) => answer,
        Err(failure) => {
            complain(&failure.line);
            let text = serde_json::json!({ "error": failure.line });
            return if json { print(&lines(&text), failure.exit) } else { failure.exit.into() };
        }
    };
    answer.notes.iter().for_each(|note| complain(note));
    let text = if json { lines(&answer.json) } else { answer.text };
    match answer.stdout_is_taken {
        true => print_to(&mut std::io::stderr().lock(), &text, answer.exit),
        false => print(&text, answer.exit),
    }
}

fn lines(json: &serde_json::Value) -> String {
    format!("{json:#}\n")
}

fn print(text: &str, exit: Exit) -> ExitCode {
    print_to(&mut std::io::stdout().lock(), text, exit)
}

/// Whoever reads may have gone: that is no news worth a panic.
fn print_to(out: &mut dyn Write, text: &str, exit: Exit) -> ExitCode {
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => exit.into(),
        Err(_) => Exit::Unknown.into(),
    }
}

fn complain(line: &str) {
    let _ = writeln!(std::io::stderr(), "cert-autofetch: {}", printable(line)); // nobody listens
}

fn name(text: &str) -> Result<EntryName, String> {
    EntryName::new(text).ok_or_else(|| "it is not a host name".into())
}

/// Of a responder or CRL.
fn url(text: &str) -> Result<String, String> {
    target(text).map(|_| text.to_owned()).ok_or_else(|| "it is no http or https URL".into())
}

const AFTER_HELP: &str = "\
Exit codes:
  0  done; check: the certificate is good
  1  the answer is bad: revoked, expired, broken, not found; a file that can't be imported
  2  wrong arguments
  3  could not find out: no answer that counts, something can't be read or written

JSON: all keys are always present, null where nothing is known; times are RFC 3339 in UTC, serials
hexadecimal in lower case. What failed is {\"error\": \"...\"}.
  list    {\"entries\": [{name, state, serial, not_before, not_after, ca, version, cause}]}
  show    {name, state, cause, names, serial, fingerprint, issuer, not_before, not_after, key,
          must_staple, version, ca, stored_at, replaced, chain, ocsp_urls, crl_urls, evidence,
          pending, issued}
  check   {name, result, cause, serial, not_after, stored, certificates: [{subject, serial, is_ca,
          status, answers: [{source, url, status, reason, revoked_at, this_update, next_update,
          error}]}]}
  renew   {name, requested}
  import  {name, serial, not_after, names, version, chain_length, replaced_serial}
  export  {name, serial, file, alias, chain_length}
States and results: valid or good, revoked, expired, not_yet_valid, wrong_name, broken, missing;
of list also: unreadable; of check also: chain (clients would refuse it), unproven (no answer that
counts).";
