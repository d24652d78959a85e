//! What a subcommand comes to: said once, printed as text or as JSON.

use std::path::Path;
use std::process::ExitCode;

use serde_json::Value;

use crate::keystore::KeystoreError;

/// The exit codes of interface.md.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Exit {
    Done = 0,
    /// Revoked, expired, not found, not fit to be imported.
    Bad = 1,
    Usage = 2,
    /// Nobody could tell.
    Unknown = 3,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}

#[derive(Debug)]
pub struct Answer {
    /// For people; whole lines.
    pub text: String,
    pub json: Value,
    pub exit: Exit,
    /// For standard error, one line each.
    pub notes: Vec<String>,
    /// Something else was written there: the answer goes to standard error.
    pub stdout_is_taken: bool,
}

impl Answer {
    pub fn done(text: String, json: Value) -> Answer {
        Answer { text, json, exit: Exit::Done, notes: Vec::new(), stdout_is_taken: false }
    }
}

/// There is no answer; why, and what can be done, in one line.
#[derive(Debug)]
pub struct Failure {
    pub exit: Exit,
    pub line: String,
}

impl Failure {
    pub fn bad(line: String) -> Failure {
        Failure { exit: Exit::Bad, line }
    }

    pub fn unknown(line: String) -> Failure {
        Failure { exit: Exit::Unknown, line }
    }
}

impl From<KeystoreError> for Failure {
    fn from(error: KeystoreError) -> Failure {
        let exit = match error {
            KeystoreError::Unfit { .. } => Exit::Bad,
            _ => Exit::Unknown,
        };
        Failure { exit, line: words(&error) }
    }
}

/// What an error of the keystore says; where passwords are missing, in the words of the command:
/// the directive is nginx's.
pub fn words(error: &KeystoreError) -> String {
    let sealed = |path: &Path, what: &str| format!("\"{}\" is encrypted{what}", path.display());
    match error {
        KeystoreError::Sealed { path, tried: true } => {
            sealed(path, ", and no line of the file of --keystore-password-file decrypts it")
        }
        KeystoreError::Sealed { path, tried: false } => {
            sealed(path, ": --keystore-password-file names the file with its password")
        }
        error => error.to_string(),
    }
}

/// Rows with their columns aligned; the last column is as long as it is.
pub fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |i: usize| rows.iter().filter_map(|r| r.get(i)).map(|c| c.chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|i| width(i).unwrap_or(0)).collect();
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        text += cells.collect::<Vec<_>>().join("  ").trim_end();
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let row = |cells: &[&str]| cells.iter().map(|c| c.to_string()).collect::<Vec<_>>();
        let rows = [row(&["a", "bcd", "e"]), row(&["äöü", "b"]), row(&["", "", "long one"])];
        assert_eq!(table(&rows), "a    bcd  e\näöü  b\n          long one\n");
        assert_eq!(table(&[]), "");
    }
}
