//! The story of a demo, line by line.

// Each demo tells a part of it.
#![allow(dead_code)]

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// What happened and when, on standard output: plain text, and colours on a terminal.
pub struct Timeline {
    start: Instant,
    colours: bool,
}

impl Timeline {
    pub fn new() -> Timeline {
        let colours = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        Timeline { start: Instant::now(), colours }
    }

    pub fn title(&self, text: &str) {
        self.line(&format!("\n{}\n", self.paint("1", text)));
    }

    pub fn fact(&self, what: &str, text: &str) {
        self.line(&format!("  {what:<12} {text}"));
    }

    pub fn lines(&self, what: &str, text: &str) {
        self.line(&format!("\n  {what}:"));
        text.lines().for_each(|line| self.line(&format!("      {line}")));
    }

    pub fn begin(&mut self) {
        self.start = Instant::now();
        let head = format!("\n  {:>9}  {:<56}  serial", "seconds", "what happened");
        self.line(&self.paint("2", &head));
    }

    pub fn happened(&self, what: &str, serial: &str) {
        self.happened_at(Instant::now(), what, serial);
    }

    pub fn happened_at(&self, at: Instant, what: &str, serial: &str) {
        self.row(at, what, serial, "0");
    }

    pub fn good(&self, what: &str, serial: &str) {
        self.row(Instant::now(), what, serial, "32;1");
    }

    pub fn bad(&self, what: &str, serial: &str) {
        self.row(Instant::now(), what, serial, "31");
    }

    fn row(&self, at: Instant, what: &str, serial: &str, colour: &str) {
        let time = format!("{:9.3}", at.duration_since(self.start).as_secs_f64());
        let what = self.paint(colour, &format!("{what:<56}"));
        let row = format!("{}  {what}  {serial}", self.paint("2", &time));
        self.line(&format!("  {}", row.trim_end()));
    }

    /// Our lines of the error log, without date and pid.
    pub fn log(&self, lines: &[String]) {
        self.line("\n  what nginx logged of it:");
        for line in lines {
            let level = line.split(['[', ']']).nth(1).unwrap_or_default();
            let text = line.split_once("ssl_cert_autofetch: ").map_or("", |(_, text)| text);
            self.line(&self.paint("2", &format!("      [{level}] {text}")));
        }
    }

    pub fn line(&self, text: &str) {
        // Who pipes us into head has seen enough.
        let _ = writeln!(std::io::stdout(), "{text}");
    }

    fn paint(&self, colour: &str, text: &str) -> String {
        if self.colours { format!("\x1b[{colour}m{text}\x1b[0m") } else { text.into() }
    }
}

pub fn ms(time: Duration) -> String {
    format!("{} ms", time.as_millis())
}
