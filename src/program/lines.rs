//! The standard error of a program, line by line: for the log, as far as that should have it, and
//! with the status that the supervisor writes at the end.

use super::Program;
use crate::report::{Event, What, printable};

/// Reads the lines of one run.
pub struct Lines {
    /// Whom they are about.
    entry: String,
    program: String,
    marker: String,
    /// Of the line that has no end yet.
    part: Vec<u8>,
    /// The last line that said something.
    last: String,
    count: usize,
    status: Option<i32>,
}

impl Lines {
    pub fn new(program: &Program, marker: String) -> Lines {
        let named = |wanted| program.environment.iter().find(|(name, _)| *name == wanted);
        let entry = named("NAME").or_else(|| named("CA")).map(|(_, value)| printable(value));
        let (part, last) = (Vec::new(), String::new());
        let program = program.command.first().cloned().unwrap_or_default();
        let entry = entry.unwrap_or_default();
        Lines { entry, program, marker, part, last, count: 0, status: None }
    }

    /// Takes what was read; lines that are complete are told.
    pub fn take(&mut self, text: &[u8], tell: &dyn Fn(Event)) {
        let mut pieces = text.split(|byte| *byte == b'\n');
        self.add(pieces.next().unwrap_or_default());
        for piece in pieces {
            self.end_line(tell);
            self.add(piece);
        }
    }

    /// Tells what there is beyond the lines that were told at once.
    pub fn finish(&mut self, tell: &dyn Fn(Event)) {
        self.end_line(tell);
        match self.count.saturating_sub(TOLD_AT_ONCE) {
            0 => {}
            1 => tell(self.event(self.last.clone())),
            n => tell(self.event(format!("({} lines left out) {}", n - 1, self.last))),
        }
    }

    pub fn last(&self) -> &str {
        &self.last
    }

    /// How the program ended, as a shell tells it; None: it has not.
    pub fn status(&self) -> Option<i32> {
        self.status
    }

    fn add(&mut self, piece: &[u8]) {
        let room = LONGEST_READ.saturating_sub(self.part.len());
        self.part.extend_from_slice(&piece[..piece.len().min(room)]);
    }

    fn end_line(&mut self, tell: &dyn Fn(Event)) {
        let line = String::from_utf8_lossy(&std::mem::take(&mut self.part)).into_owned();
        if let Some(status) = line.strip_prefix(&self.marker) {
            self.status = self.status.or(status.trim().parse().ok());
            return;
        }
        let line: String = printable(&line).trim().chars().take(LONGEST_TOLD).collect();
        if line.is_empty() {
            return;
        }
        self.count += 1;
        self.last = line;
        if self.count <= TOLD_AT_ONCE {
            tell(self.event(self.last.clone()));
        }
    }

    fn event(&self, line: String) -> Event {
        let program = self.program.clone();
        Event { entry: self.entry.clone(), what: What::Said { program, line } }
    }
}

/// The last one is told at the end.
const TOLD_AT_ONCE: usize = 19;
/// Bytes of a line that are looked at.
const LONGEST_READ: usize = 2048;
/// Characters.
const LONGEST_TOLD: usize = 256;

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::time::Duration;

    use super::*;

    /// What is told of these pieces, the last line, and the status.
    fn told(pieces: &[&str]) -> (Vec<String>, String, Option<i32>) {
        let command = ["/bin/x".to_owned()];
        let environment = [("CA", "corp".to_owned()), ("NAME", "a.example".to_owned())];
        let program = Program {
            command: &command,
            environment: &environment,
            stdin: b"",
            limit: 0,
            timeout: Duration::ZERO,
        };
        let all = RefCell::new(Vec::new());
        let tell = |event: Event| all.borrow_mut().push(event.to_string());
        let mut lines = Lines::new(&program, "ended-1".into());
        pieces.iter().for_each(|piece| lines.take(piece.as_bytes(), &tell));
        lines.finish(&tell);
        let prefix = "\"a.example\": /bin/x: ";
        let told = all.take().iter().map(|l| l.strip_prefix(prefix).unwrap().to_owned()).collect();
        (told, lines.last().to_owned(), lines.status())
    }

    #[test]
    fn lines() {
        let long = "x".repeat(5000);
        let cut = "x".repeat(256);
        let table: &[(&[&str], &[&str], Option<i32>)] = &[
            (&[], &[], None),
            (&["\nended-1 0\n"], &[], Some(0)),
            (&["a\nb", "c\r\n\n", "\nend", "ed-1 75", "\n"], &["a", "bc"], Some(75)),
            (&["no end\nended-1 3\n"], &["no end"], Some(3)),
            (&["no end"], &["no end"], None),
            (&["ended-2 0\nx ended-1 0\n"], &["ended-2 0", "x ended-1 0"], None),
            // The first one counts: what runs on behind it knows the word too.
            (&["ended-1 1\nended-1 0\n"], &[], Some(1)),
            (&["\u{1b}[1mbold\u{7}\n"], &["[1mbold"], None),
            (&[&long, &long, "\nb\n"], &[&cut, "b"], None),
        ];
        for (pieces, expected, status) in table {
            let (told, last, got) = told(pieces);
            assert_eq!((told, got), (expected.iter().map(|l| (*l).to_owned()).collect(), *status));
            assert_eq!(last, expected.last().copied().unwrap_or_default(), "{pieces:?}");
        }
    }

    #[test]
    fn twenty_at_most() {
        let lines = |n: usize| (1..=n).map(|i| format!("{i}\n")).collect::<String>();
        for (n, end) in [
            (19, "19"),
            (20, "20"),
            (21, "(1 lines left out) 21"),
            (500, "(480 lines left out) 500"),
        ] {
            let (told, last, _) = told(&[&lines(n)]);
            assert_eq!((told.len(), told.last().unwrap().as_str()), (n.min(20), end));
            assert_eq!(last, n.to_string());
        }
    }
}
