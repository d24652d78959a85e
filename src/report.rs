//! What happened, as data: the log line, the status and the tests read the same value.

use std::fmt;
use std::time::Duration;

use crate::ca::renewal::Window;
use crate::evidence::Reason;
use crate::facts::Serial;

/// One change of state of one entry.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// The entry's name.
    pub entry: String,
    pub what: What,
}

#[derive(Clone, Debug, PartialEq)]
pub enum What {
    Revoked {
        serial: Serial,
        reason: Reason,
        source: String,
    },
    Issued {
        serial: Serial,
        ca: String,
    },
    Replaced {
        old: Option<Serial>,
        new: Serial,
        ca: String,
        after: Duration,
    },
    /// Handshakes are refused from now on; None: there is no certificate.
    Refused {
        serial: Option<Serial>,
        cause: String,
    },
    Served {
        serial: Serial,
    },
    CheckFailed {
        cause: String,
        retry: Duration,
    },
    IssueFailed {
        cause: String,
        retry: Duration,
    },
    /// A CA gave nothing, and the next one did.
    CaFailed {
        ca: String,
        cause: String,
        issued: String,
    },
    NoSource {
        serial: Serial,
    },
    /// An intermediate names who can be asked, and nobody's answer could be verified.
    NoIssuer {
        serial: Serial,
    },
    /// The CA wants the certificate replaced within this window (RFC 9773).
    RenewalSuggested {
        serial: Serial,
        ca: String,
        window: Window,
        explanation: Option<String>,
    },
    /// A CA issued, but not all of its settings could be followed.
    Remark {
        ca: String,
        text: String,
    },
    /// So many private keys lay in the clear, or under an older password.
    Rekeyed {
        keys: usize,
    },
    RekeyFailed {
        cause: String,
        retry: Duration,
    },
    /// The CA left the TLS feature out that was asked for.
    NoMustStaple {
        serial: Serial,
        ca: String,
    },
    /// A line that a program wrote to its standard error.
    Said {
        program: String,
        line: String,
    },
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Level {
    Error,
    Warn,
    Notice,
    Info,
}

impl Event {
    pub fn level(&self) -> Level {
        match self.what {
            What::Revoked { .. } | What::Refused { .. } => Level::Error,
            What::CheckFailed { .. }
            | What::IssueFailed { .. }
            | What::CaFailed { .. }
            | What::RekeyFailed { .. }
            | What::Remark { .. } => Level::Warn,
            What::Replaced { .. }
            | What::Issued { .. }
            | What::Served { .. }
            | What::RenewalSuggested { .. }
            | What::Said { .. }
            | What::Rekeyed { .. }
            | What::NoMustStaple { .. } => Level::Notice,
            What::NoSource { .. } | What::NoIssuer { .. } => Level::Info,
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\": ", self.entry)?;
        match &self.what {
            What::Revoked { serial, reason, source } => write!(
                f,
                "certificate serial={serial} is revoked ({}), source={}",
                reason.as_str(),
                printable(source)
            ),
            What::Issued { serial, ca } => write!(f, "issued serial={serial} from \"{ca}\""),
            What::Replaced { old, new, ca, after } => {
                f.write_str("replaced ")?;
                match old {
                    Some(old) => write!(f, "serial={old} ")?,
                    None => f.write_str("unusable certificate ")?,
                }
                write!(f, "by serial={new} from \"{ca}\" in {} ms", after.as_millis())
            }
            What::Refused { serial, cause } => {
                f.write_str("refused")?;
                if let Some(serial) = serial {
                    write!(f, ", certificate serial={serial}")?;
                }
                write!(f, ": {}", printable(cause))
            }
            What::Served { serial } => write!(f, "served again with serial={serial}"),
            What::CheckFailed { cause, retry } => failed(f, "CHECK", cause, *retry),
            What::IssueFailed { cause, retry } => failed(f, "ISSUE", cause, *retry),
            What::CaFailed { ca, cause, issued } => {
                let cause = format!("\"{ca}\": {cause}");
                write!(f, "ISSUE failed: {}, \"{issued}\" issued", printable(&cause))
            }
            What::Rekeyed { keys } => {
                write!(f, "private keys encrypted with the first line of \"password_file\": {keys}")
            }
            What::RekeyFailed { cause, retry } => failed(f, "REKEY", cause, *retry),
            What::NoIssuer { serial } => write!(
                f,
                "intermediate certificate serial={serial} is not checked, its issuer is neither \
                 in the chain nor in \"issuer_certificate\" nor trusted"
            ),
            What::NoSource { serial } => {
                write!(
                    f,
                    "certificate serial={serial} names no OCSP responder and no CRL, it is not checked"
                )
            }
            What::RenewalSuggested { serial, ca, window, explanation } => {
                let Window { start, end } = window;
                write!(f, "\"{ca}\" wants serial={serial} replaced between {start} and {end}")?;
                explanation.iter().try_for_each(|url| write!(f, ", see {}", printable(url)))
            }
            What::Remark { ca, text } => write!(f, "\"{ca}\": {}", printable(text)),
            What::Said { program, line } => {
                write!(f, "{}: {}", printable(program), printable(line))
            }
            What::NoMustStaple { serial, ca } => write!(
                f,
                "\"{ca}\" issued serial={serial} without the TLS feature that \
                 \"ssl_cert_autofetch_must_staple\" asks for"
            ),
        }
    }
}

fn failed(f: &mut fmt::Formatter<'_>, what: &str, cause: &str, retry: Duration) -> fmt::Result {
    // Never sooner than it says.
    let seconds = retry.as_millis().div_ceil(1000);
    write!(f, "{what} failed: {}, next attempt in {seconds} s", printable(cause))
}

/// One line, bounded, without control characters: causes quote bytes from the network.
pub fn printable(text: &str) -> String {
    let end = (0..=LONGEST).rev().find(|i| text.is_char_boundary(*i)).unwrap_or(0);
    text[..end].chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Bytes. nginx cuts a line at 2048, with the time, our prefix, a name of 253, and what follows a
/// cause: that there is a next attempt is never lost.
const LONGEST: usize = 1536;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_line_is_never_lost() {
        const PREFIX: usize =
            "2026/11/22 03:37:35 [warn] 4194304#4194304: ssl_cert_autofetch: ".len();
        for cause in ["x", "\u{7f}", "ä", "€", "\u{10348}"].map(|c| format!("-{}", c.repeat(4000)))
        {
            let retry = Duration::from_secs(86_400);
            for what in [
                What::CheckFailed { cause: cause.clone(), retry },
                What::IssueFailed { cause: cause.clone(), retry },
                What::RekeyFailed { cause: cause.clone(), retry },
            ] {
                let line = Event { entry: "n".repeat(253), what }.to_string();
                assert!(PREFIX + line.len() < 2048, "{}", line.len());
                assert!(line.len() > 1700, "{}", line.len());
                assert!(line.ends_with(", next attempt in 86400 s"), "{line}");
                assert!(!line.contains(char::is_control));
            }
            let refused =
                What::Refused { serial: Some(Serial("ab".repeat(20))), cause: cause.clone() };
            let (ca, issued) = ("c".repeat(64), "d".repeat(64));
            for what in [refused, What::CaFailed { ca, cause, issued }] {
                let line = Event { entry: "n".repeat(253), what }.to_string();
                assert!(PREFIX + line.len() < 2048, "{}", line.len());
            }
        }
        assert_eq!(printable("a\nb"), "a b");
        assert_eq!(printable(""), "");
    }
}
