//! `challenge http-01 | tls-alpn-01 | dns-01 HOOK`.

use super::values::{Choices, choice, invalid};
use crate::settings::Challenge;

const CHALLENGES: Choices<Challenge> = &[
    ("http-01", Challenge::Http01),
    ("tls-alpn-01", Challenge::TlsAlpn01),
    ("dns-01", Challenge::Dns01),
];

/// The kind and, of dns-01, the hook; whether that can be run, the reader of the file looks.
pub(super) fn challenge(
    kind: &str,
    hook: Option<&str>,
    directive: &str,
) -> Result<(Challenge, Option<String>), String> {
    let with_hook = "\"challenge dns-01 HOOK\" with the absolute path of a program";
    match (choice(CHALLENGES, kind, directive)?, hook) {
        (Challenge::Dns01, None) => Err(invalid(kind, directive, with_hook)),
        (Challenge::Dns01, Some(hook)) if !hook.starts_with('/') => {
            Err(invalid(hook, directive, with_hook))
        }
        (Challenge::Dns01, Some(hook)) => Ok((Challenge::Dns01, Some(hook.into()))),
        (challenge, None) => Ok((challenge, None)),
        (_, Some(hook)) => {
            let accepted = format!("left out: \"{kind}\" is answered by this nginx");
            Err(invalid(hook, directive, &accepted))
        }
    }
}
