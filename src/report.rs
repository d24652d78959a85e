//! What happened, as data: the log line, the status and the tests read the same value.

use std::fmt;
use std::time::Duration;

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
    NoSource {
        serial: Serial,
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
            What::CheckFailed { .. } | What::IssueFailed { .. } => Level::Warn,
            What::Replaced { .. } | What::Issued { .. } | What::Served { .. } => Level::Notice,
            What::NoSource { .. } => Level::Info,
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
            What::NoSource { serial } => {
                write!(f, "certificate serial={serial} names no OCSP responder, it is not checked")
            }
        }
    }
}

fn failed(f: &mut fmt::Formatter<'_>, what: &str, cause: &str, retry: Duration) -> fmt::Result {
    write!(f, "{what} failed: {}, next attempt in {} s", printable(cause), retry.as_secs())
}

/// One line, bounded, without control characters: causes quote bytes from the network.
pub fn printable(text: &str) -> String {
    const LIMIT: usize = 600;
    text.chars().take(LIMIT).map(|c| if c.is_control() { ' ' } else { c }).collect()
}
