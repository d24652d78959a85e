//! A program of the administrator as CA: `protocol command`.
//!
//! The CSR goes to its standard input, and the chain comes from its standard output. It may take
//! long: what it can't do now it is asked for again, with the same CSR, also after a restart.

use std::sync::Arc;
use std::time::Duration;

use super::{Ca, IssueError, Order, Progress, is_chain};
use crate::bundle::Bundle;
use crate::http::haste;
use crate::program::{Program, ProgramError, Programs};
use crate::settings::CommandSettings;

/// One program with its arguments.
pub struct CommandCa {
    settings: CommandSettings,
    host: String,
    programs: Arc<dyn Programs>,
}

impl CommandCa {
    pub fn new(settings: CommandSettings, programs: Arc<dyn Programs>) -> CommandCa {
        // No host name has a colon: no responder is taken for it.
        let host = format!("command:{}", settings.ca);
        CommandCa { settings, host, programs }
    }

    fn run(
        &self,
        csr: &str,
        order: &Order,
        current: Option<&Bundle>,
    ) -> Result<Vec<u8>, ProgramError> {
        let mut environment = vec![
            ("NAME", order.entry.clone()),
            ("NAMES", order.names.join(",")),
            ("REASON", order.reason.clone()),
            ("CA", self.settings.ca.clone()),
        ];
        environment.extend(current.map(|bundle| ("SERIAL", bundle.facts.serial.to_string())));
        let program = Program {
            command: &self.settings.command,
            environment: &environment,
            stdin: csr.as_bytes(),
            limit: LIMIT,
            timeout: haste::limited(self.settings.timeout),
        };
        self.programs.run(&program)
    }

    /// What the end of the program means for the order.
    fn failed(&self, error: ProgramError) -> IssueError {
        let path = self.settings.command.first().map_or("", String::as_str);
        let text = format!("\"{path}\" {error}");
        match error {
            ProgramError::NotStarted(_) => {
                IssueError::Configuration(format!("{WHAT}: {text}, see \"command\""))
            }
            ProgramError::Timeout => {
                let limit = haste::limited(self.settings.timeout).as_secs_f64().round();
                let cause = format!("{text} after {limit} s, see \"timeout\"");
                IssueError::Unreachable { what: WHAT, cause }
            }
            // Nobody knows what it has done by then: the CSR is offered again.
            ProgramError::Killed(_) => IssueError::Unreachable { what: WHAT, cause: text },
            ProgramError::TooLarge(_) => IssueError::Protocol { what: WHAT, cause: text },
            ProgramError::Failed { .. } => IssueError::Refused {
                what: WHAT,
                problem: text,
                about_name: false,
                retry_after: None,
            },
        }
    }
}

impl Ca for CommandCa {
    fn name(&self) -> &str {
        &self.settings.ca
    }

    fn host(&self) -> &str {
        &self.host
    }

    fn step(&self, order: &mut Order, current: Option<&Bundle>) -> Result<Progress, IssueError> {
        let csr = order.csr_pem()?;
        match self.run(&csr, order, current) {
            Ok(chain) if is_chain(&chain) => Ok(Progress::Issued(chain.into())),
            Ok(_) => Err(IssueError::Protocol { what: WHAT, cause: NO_CHAIN.into() }),
            Err(ProgramError::Failed { status: PENDING, stdout, .. }) => {
                order.accepted = true;
                Ok(Progress::Wait(ask_again_in(&stdout)))
            }
            Err(error) => Err(self.failed(error)),
        }
    }
}

/// `Retry-After: SECONDS` in the first line, if it says so.
fn ask_again_in(stdout: &[u8]) -> Duration {
    let line = stdout.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let wish = || {
        let (name, seconds) = std::str::from_utf8(line).ok()?.split_once(':')?;
        let seconds = seconds.trim();
        let is_number = !seconds.is_empty() && seconds.bytes().all(|b| b.is_ascii_digit());
        let is_wish = name.trim().eq_ignore_ascii_case("Retry-After") && is_number;
        // More digits than a number can have are a long time.
        is_wish.then(|| Duration::from_secs(seconds.parse().unwrap_or(u64::MAX)))
    };
    wish().map_or(USUAL_WAIT, |wish| wish.clamp(SHORTEST_WAIT, LONGEST_WAIT))
}

const WHAT: &str = "command";
const NO_CHAIN: &str = "what it wrote to its standard output is not a chain in PEM, nothing but \
                        certificates";
/// EX_TEMPFAIL of sysexits.h.
const PENDING: i32 = 75;
const LIMIT: usize = 256 * 1024;
const USUAL_WAIT: Duration = Duration::from_secs(300);
const SHORTEST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(86_400);

#[cfg(test)]
mod tests;
