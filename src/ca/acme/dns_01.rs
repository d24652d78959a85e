//! dns-01 (RFC 8555 section 8.4): a program of the administrator puts TXT records into the DNS,
//! wherever that is, and takes them away.

use std::sync::Arc;
use std::time::Duration;

use base64::prelude::{BASE64_URL_SAFE_NO_PAD as BASE64URL, Engine};
use openssl::sha::sha256;

use crate::ca::{ChallengeAnswer, Challenges};
use crate::program::{Program, Programs};
use crate::settings::{AcmeSettings, Challenge};

/// Gives the answers to a hook instead of showing them itself. Runs it on the thread that asks,
/// until it is over.
pub struct DnsHook {
    ca: String,
    hook: String,
    timeout: Duration,
    programs: Arc<dyn Programs>,
}

impl DnsHook {
    /// Of a CA with `challenge dns-01 HOOK`; None: of any other.
    pub fn of(settings: &AcmeSettings, programs: Arc<dyn Programs>) -> Option<DnsHook> {
        let hook = settings.hook.clone()?;
        Some(DnsHook { ca: settings.ca.clone(), hook, timeout: settings.timeout, programs })
    }

    fn run(&self, verb: &str, answer: &ChallengeAnswer) -> Result<(), String> {
        let command = [self.hook.clone(), verb.to_owned()];
        let value = BASE64URL.encode(sha256(answer.key_authorization.as_bytes()));
        let environment = [
            ("NAME", answer.name.clone()),
            ("RECORD", format!("_acme-challenge.{}", answer.name)),
            ("VALUE", value),
            ("CA", self.ca.clone()),
        ];
        let program = Program {
            command: &command,
            environment: &environment,
            stdin: b"",
            limit: LIMIT,
            timeout: self.timeout,
        };
        let failed = |cause| format!("hook \"{} {verb}\" of \"challenge\" {cause}", self.hook);
        self.programs.run(&program).map(|_| ()).map_err(|e| failed(e.to_string()))
    }
}

impl Challenges for DnsHook {
    /// On return the record is on all servers of its zone: the hook has waited for that.
    fn publish(&self, answer: &ChallengeAnswer) -> Result<(), String> {
        self.run("present", answer)
    }

    /// A record that stays does no harm, and the hook has told the log why. Of what was published
    /// otherwise, when the configuration was another one, there is no record.
    fn withdraw(&self, answer: &ChallengeAnswer) {
        if answer.kind == Challenge::Dns01 {
            let _ = self.run("cleanup", answer);
        }
    }
}

/// What a hook writes to its standard output is for nobody.
const LIMIT: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::program::ProgramError;

    /// Notes what was to be run; fails where that is wanted.
    #[derive(Default)]
    struct Notes(Mutex<Vec<String>>, Option<ProgramError>);

    impl Programs for Notes {
        fn run(&self, program: &Program) -> Result<Vec<u8>, ProgramError> {
            assert_eq!((program.stdin, program.timeout), (&b""[..], Duration::from_secs(30)));
            let environment: Vec<_> =
                program.environment.iter().map(|(name, value)| format!("{name}={value}")).collect();
            let line = format!("{} {}", environment.join(" "), program.command.join(" "));
            self.0.lock().unwrap().push(line);
            self.1.clone().map_or(Ok(Vec::new()), Err)
        }
    }

    fn settings() -> AcmeSettings {
        AcmeSettings {
            external_account: None,
            preferred_chain: None,
            profile: None,
            ca: "corp".into(),
            url: "https://ca.example/".into(),
            timeout: Duration::from_secs(30),
            account_key: None,
            contact: vec![],
            accept_terms_of_service: true,
            challenge: Challenge::Dns01,
            hook: Some("/etc/hook".into()),
        }
    }

    /// The token and thumbprint of RFC 8555 section 8.1 and 8.3; the digest by `openssl dgst`.
    fn answer() -> ChallengeAnswer {
        let token = "evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA";
        let thumbprint = "9jg46WB3rR_AHD-EBXdN7cBkH1WOu0tA3M9fm21mqTI";
        ChallengeAnswer {
            kind: Challenge::Dns01,
            name: "corp.example".into(),
            token: token.into(),
            key_authorization: format!("{token}.{thumbprint}"),
        }
    }

    #[test]
    fn the_hook_is_called() {
        let notes = Arc::new(Notes::default());
        let hook = DnsHook::of(&settings(), notes.clone()).unwrap();
        hook.publish(&answer()).unwrap();
        hook.withdraw(&answer());
        // Of a configuration before.
        hook.withdraw(&ChallengeAnswer { kind: Challenge::Http01, ..answer() });
        let line = |verb| {
            format!(
                "NAME=corp.example RECORD=_acme-challenge.corp.example \
                 VALUE={DIGEST} CA=corp /etc/hook {verb}"
            )
        };
        assert_eq!(*notes.0.lock().unwrap(), [line("present"), line("cleanup")]);
    }

    const DIGEST: &str = "lCM7cZyQXcVHK2nnW3jjAhNT3Fvm18UN-kWZZknKoYM";

    #[test]
    fn its_failure_is_told() {
        let refused = ProgramError::Failed { status: 2, stderr: "REFUSED".into(), stdout: vec![] };
        for (error, told) in [
            (refused, "exited with status 2: REFUSED"),
            (ProgramError::Timeout, "timed out"),
            (ProgramError::Killed(9), "killed by signal 9"),
        ] {
            let notes = Arc::new(Notes(Mutex::default(), Some(error)));
            let hook = DnsHook::of(&settings(), notes).unwrap();
            let expected = format!("hook \"/etc/hook present\" of \"challenge\" {told}");
            assert_eq!(hook.publish(&answer()), Err(expected));
            hook.withdraw(&answer());
        }
    }

    #[test]
    fn other_challenges_have_none() {
        let none = AcmeSettings { hook: None, challenge: Challenge::Http01, ..settings() };
        assert!(DnsHook::of(&none, Arc::new(Notes::default())).is_none());
    }
}
