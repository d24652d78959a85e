//! `check`: asks about an entry's certificates now, by the code with which the module asks, and
//! judges the entry as the module would.
//!
//! What is verified is evidence for all: it is stored, and a running nginx learns of a revocation
//! at once.

use std::path::{Path, PathBuf};
use std::time::Duration;

use openssl::x509::X509;
use serde_json::{Value, json};

use super::World;
use super::answer::{Answer, Exit, Failure, table};
use super::certificate::{revocation_json, status_text, subject, time_json};
use super::entry::{Entry, State};
use super::keyfile::read_file;
use crate::bundle::{Bundle, chain_pem};
use crate::engine::{Subject, Trust, subjects_of_chain};
use crate::evidence::chain::{ChainError, check_new_chain};
use crate::evidence::{Evidence, Status};
use crate::settings::{EntryName, EvidenceSettings, WaySettings};

mod ask;

use ask::{Asked, Asking};

#[derive(clap::Args)]
pub struct Args {
    #[arg(value_parser = super::name)]
    name: EntryName,
    /// PEM of roots and other issuers that the chain leaves out, as in the CA's block
    #[arg(long, value_name = "FILE")]
    issuer_certificate: Option<PathBuf>,
    /// PEM of roots in the place of the system's, also for TLS, as in the CA's block
    #[arg(long, value_name = "FILE")]
    trusted_certificate: Option<PathBuf>,
    /// Ask this OCSP responder about the leaf, not the one that it names
    #[arg(long, value_name = "URL", value_parser = super::url)]
    ocsp_responder: Option<String>,
    /// Look the leaf up in this CRL, not in the one that it names
    #[arg(long, value_name = "URL", value_parser = super::url)]
    crl: Option<String>,
    /// Seconds for each question
    #[arg(long, value_name = "SECONDS", default_value = "30",
          value_parser = clap::value_parser!(u64).range(1..=3600))]
    timeout: u64,
}

impl Args {
    /// The way to responders and CRLs: over TLS the same roots are trusted, as in the CA's block.
    pub fn way(&self) -> Result<WaySettings, Failure> {
        let Some(path) = &self.trusted_certificate else { return Ok(WaySettings::default()) };
        read_certificates(path, TRUSTED)?;
        let pem = read_file(path)?.bytes().to_vec();
        Ok(WaySettings { trusted_certificate: Some(pem), ..WaySettings::default() })
    }
}

const TRUSTED: &str = "--trusted-certificate";

/// What came of it, worst first where several are true.
enum Verdict {
    /// Other than valid, with or without asking.
    State(State),
    /// Clients would refuse the chain.
    Chain(String),
    /// Which certificate nobody has proven.
    Unproven(String),
    Good,
}

pub fn run(world: &World, args: &Args) -> Result<Answer, Failure> {
    let read = |path: &Option<PathBuf>, option| {
        path.as_deref().map(|path| read_certificates(path, option)).transpose()
    };
    let anchors = read(&args.issuer_certificate, "--issuer-certificate")?;
    let roots = read(&args.trusted_certificate, TRUSTED)?;
    let mut entry = Entry::find(world, &args.name)?;
    let Ok(bundle) = entry.loaded.clone() else {
        let verdict = Verdict::State(entry.state(world.clock.now()));
        return Ok(answer(&entry, &verdict, &[], false));
    };
    let pem = |certificates: &[X509]| {
        chain_pem(certificates).map_err(|e| Failure::unknown(e.to_string()))
    };
    let chain = pem(&bundle.chain)?;
    let trusted = anchors.as_deref().map(pem).transpose()?;
    let now = world.clock.now();
    let names = [args.name.to_string()];
    let chain = check_new_chain(&chain, &bundle.key, &names, trusted.as_deref(), now).err();

    let own = EvidenceSettings {
        ocsp_responder: args.ocsp_responder.clone(),
        crl: args.crl.clone(),
        ..EvidenceSettings::default()
    };
    let trust = Trust::in_anchors(anchors.unwrap_or_default(), roots);
    let subjects = subjects_of_chain(&own, &trust, 0, &bundle.chain, &bundle.facts);
    let asking = Asking { world, bundle: &bundle, timeout: Duration::from_secs(args.timeout) };
    let asked: Vec<Asked> = subjects.iter().map(|subject| asking.ask(subject)).collect();
    let stored = asking.store(&mut entry, &asked);
    let verdict = judge(&entry, &bundle, &asked, chain, world);
    Ok(answer(&entry, &verdict, &asked, stored))
}

fn read_certificates(path: &Path, option: &str) -> Result<Vec<X509>, Failure> {
    let pem = read_file(path)?;
    match X509::stack_from_pem(pem.bytes()) {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        _ => {
            Err(Failure::bad(format!("{option} \"{}\" is no PEM of certificates", path.display())))
        }
    }
}

fn judge(
    entry: &Entry,
    bundle: &Bundle,
    asked: &[Asked],
    chain: Option<ChainError>,
    world: &World,
) -> Verdict {
    let state = State::of(bundle, &entry.evidence, &entry.name, world.clock.now());
    if state != State::Valid {
        return Verdict::State(state);
    }
    match chain {
        // It ends soon, but has not.
        None | Some(ChainError::EndsSoon(_)) => {}
        Some(ChainError::NoIssuer) => return Verdict::Unproven(ask::NO_ISSUER.into()),
        Some(error) => return Verdict::Chain(error.to_string()),
    }
    // A revocation may have been in it. It is made anew; the next check tells.
    if let Some(lost) = &entry.lost_evidence {
        return Verdict::Unproven(lost.clone());
    }
    match asked.iter().find(|asked| !asked.is_proven()) {
        Some(asked) => Verdict::Unproven(asked.why_unproven()),
        None => Verdict::Good,
    }
}

impl Verdict {
    fn word(&self) -> &'static str {
        match self {
            Verdict::State(state) => state.word(),
            Verdict::Chain(_) => "chain",
            Verdict::Unproven(_) => "unproven",
            Verdict::Good => "good",
        }
    }

    fn cause(&self) -> Option<String> {
        match self {
            Verdict::State(state) => state.cause(),
            Verdict::Chain(cause) | Verdict::Unproven(cause) => Some(cause.clone()),
            Verdict::Good => None,
        }
    }

    fn exit(&self) -> Exit {
        match self {
            Verdict::State(state) => state.exit(),
            Verdict::Chain(_) => Exit::Bad,
            Verdict::Unproven(_) => Exit::Unknown,
            Verdict::Good => Exit::Done,
        }
    }
}

fn answer(entry: &Entry, verdict: &Verdict, asked: &[Asked], stored: bool) -> Answer {
    let facts = entry.loaded.as_ref().ok().map(|bundle| &bundle.facts);
    let json = json!({
        "name": entry.name.as_str(),
        "result": verdict.word(),
        "cause": verdict.cause(),
        "serial": facts.map(|f| &f.serial),
        "not_after": facts.map(|f| f.not_after.rfc3339()),
        "stored": stored,
        "certificates": asked.iter().map(certificate_json).collect::<Vec<_>>(),
    });
    let rows: Vec<_> = asked.iter().flat_map(rows).collect();
    let word = verdict.word().replace('_', " ");
    let cause = verdict.cause().map(|cause| format!(": {cause}")).unwrap_or_default();
    let text = format!("{}{}: {word}{cause}\n", table(&rows), entry.name);
    Answer { exit: verdict.exit(), notes: entry.notes.clone(), ..Answer::done(text, json) }
}

fn rows(asked: &Asked) -> Vec<Vec<String>> {
    let serial = format!("serial {}", asked.subject.facts.serial);
    if asked.answers.is_empty() {
        return vec![vec![serial, "not asked".into(), asked.why_silent().into()]];
    }
    let row = |answer: &ask::Answered| {
        let what = match &answer.outcome {
            Ok(evidence) => format!("{}, {}", status_text(evidence), answer.url),
            // The URL is in it.
            Err(cause) => format!("no answer: {cause}"),
        };
        vec![serial.clone(), answer.source.as_str().into(), what]
    };
    asked.answers.iter().map(row).collect()
}

fn certificate_json(asked: &Asked) -> Value {
    let Subject { certificate, facts, is_ca, .. } = &*asked.subject;
    json!({
        "subject": subject(certificate),
        "serial": facts.serial,
        "is_ca": is_ca,
        "status": asked.status().map(Status::as_str),
        "answers": asked.answers.iter().map(answer_json).collect::<Vec<_>>(),
    })
}

fn answer_json(answer: &ask::Answered) -> Value {
    let evidence: Option<&Evidence> = answer.outcome.as_ref().ok();
    let status: Option<&Status> = evidence.map(|e| &e.status);
    let (reason, revoked_at) = status.map_or((Value::Null, Value::Null), revocation_json);
    json!({
        "source": answer.source,
        "url": answer.url,
        "status": status.map(Status::as_str),
        "reason": reason,
        "revoked_at": revoked_at,
        "this_update": evidence.map(|e| e.this_update.rfc3339()),
        "next_update": time_json(evidence.and_then(|e| e.next_update)),
        "error": answer.outcome.as_ref().err(),
    })
}
