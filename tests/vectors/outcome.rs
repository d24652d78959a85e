//! What came of a vector, as text, and the tally of a table.

use cert_autofetch::clock::Time;
use cert_autofetch::evidence::{Evidence, Status};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// `good`, `unknown`, `revoked REASON`; what was refused has the text of the error.
pub fn verdict(evidence: &Evidence) -> String {
    match &evidence.status {
        Status::Good => "good".into(),
        Status::Unknown => "unknown".into(),
        Status::Revoked { reason, .. } => format!("revoked {}", reason.as_str()),
    }
}

/// A moment in RFC 3339.
pub fn time(text: &str) -> Time {
    let parsed = OffsetDateTime::parse(text, &Rfc3339).unwrap_or_else(|e| panic!("{text}: {e}"));
    Time::from_secs(parsed.unix_timestamp())
}

/// Collects the differences of a whole table, so that one run shows them all.
#[derive(Default)]
pub struct Tally {
    rows: usize,
    wrong: Vec<String>,
}

impl Tally {
    pub fn row(&mut self, name: &str, expected: &str, found: &str) {
        self.rows += 1;
        println!("{name:<58} {found}");
        if expected != found {
            self.wrong.push(format!("{name}\n    expected {expected}\n    found    {found}"));
        }
    }

    pub fn check(&mut self, holds: bool, what: &str) {
        if !holds {
            self.wrong.push(what.to_string());
        }
    }

    /// Panics if anything differed, or the number of rows did.
    pub fn finish(self, rows: usize) {
        let Tally { rows: run, wrong } = self;
        assert!(wrong.is_empty(), "{} wrong in {run} rows:\n{}", wrong.len(), wrong.join("\n"));
        assert_eq!(run, rows, "rows run");
    }
}
