//! An OCSP responder that says what the test wants.

use super::host::happen;
use super::*;

/// What the responder says about a certificate.
#[derive(Clone, Debug)]
pub enum Say {
    Good,
    Revoked(Reason),
    Unknown,
    /// Nothing that counts, and when to come back.
    Nothing(Option<Duration>),
    /// Good, after this time, if it is waited for.
    Slow(Duration),
    /// Nothing, after this time.
    Hang(Duration),
    Panic,
}

pub struct FakeResponder {
    clock: Arc<FakeClock>,
    signers: Vec<Identity>,
    script: Mutex<BTreeMap<String, VecDeque<Say>>>,
    /// Serial and URL of each query.
    pub asked: Mutex<Vec<(Serial, String)>>,
    /// Whether its answers tell of siblings too.
    pub tells_all: AtomicBool,
    /// Happens once, while a query is under way.
    pub meanwhile: Hook,
}

impl FakeResponder {
    pub(super) fn new(clock: Arc<FakeClock>, cas: &[Arc<FakeCa>]) -> FakeResponder {
        FakeResponder {
            clock,
            signers: cas.iter().map(|ca| ca.identity.clone()).collect(),
            script: Mutex::default(),
            asked: Mutex::default(),
            tells_all: AtomicBool::new(false),
            meanwhile: Hook::default(),
        }
    }

    /// The last is repeated. Of what nothing is said the answer is good.
    pub fn say(&self, serial: &Serial, says: &[Say]) {
        let says = says.iter().cloned().collect();
        self.script.lock().unwrap().insert(serial.0.clone(), says);
    }

    /// Serials asked about since the last call.
    pub fn queries(&self) -> Vec<Serial> {
        std::mem::take(&mut *self.asked.lock().unwrap()).into_iter().map(|(s, _)| s).collect()
    }
}

impl Responders for FakeResponder {
    fn ask(&self, inquiry: &Inquiry) -> Result<Answer, NoAnswer> {
        let serial = inquiry.facts.serial.clone();
        self.asked.lock().unwrap().push((serial.clone(), inquiry.url.to_owned()));
        assert!(crate::evidence::chain::issued_by(inquiry.certificate, inquiry.issuer));
        let say = {
            let mut script = self.script.lock().unwrap();
            let says = script.entry(serial.0.clone()).or_default();
            if says.len() > 1 { says.pop_front() } else { says.front().cloned() }
        };
        let asked = self.clock.now();
        happen(&self.meanwhile);
        let nothing = |cause: &str, retry_after| {
            Err(NoAnswer { cause: format!("ocsp: {cause}, source={}", inquiry.url), retry_after })
        };
        let status = match say.unwrap_or(Say::Good) {
            Say::Good => Status::Good,
            Say::Revoked(reason) => Status::Revoked { reason, at: asked },
            Say::Unknown => Status::Unknown,
            Say::Nothing(retry_after) => return nothing("no answer", retry_after),
            Say::Slow(time) if time <= inquiry.timeout => {
                self.clock.advance(time);
                Status::Good
            }
            Say::Hang(time) | Say::Slow(time) => {
                self.clock.advance(time.min(inquiry.timeout));
                return nothing("timed out", None);
            }
            Say::Panic => panic!("the responder's test"),
        };
        let evidence = Evidence {
            certificate: inquiry.facts.fingerprint.clone(),
            serial,
            source: Source::Ocsp,
            status,
            this_update: asked,
            next_update: None,
            checked_at: asked,
            responder: inquiry.url.to_owned(),
        };
        let der = self.der(inquiry, &evidence);
        let others = match self.tells_all.load(SeqCst) {
            true => inquiry.siblings.iter().map(|about| self.told(about, &evidence)).collect(),
            false => vec![],
        };
        Ok(Answer { evidence, others, der })
    }
}

impl FakeResponder {
    /// What the same answer tells of a sibling: revoked, if it is said to be, else good.
    fn told(&self, (serial, certificate): &(Serial, Fingerprint), answer: &Evidence) -> Evidence {
        let script = self.script.lock().unwrap();
        let status = match script.get(&serial.0).and_then(VecDeque::front) {
            Some(Say::Revoked(reason)) => {
                Status::Revoked { reason: *reason, at: answer.this_update }
            }
            _ => Status::Good,
        };
        let (serial, certificate) = (serial.clone(), certificate.clone());
        Evidence { serial, certificate, status, ..answer.clone() }
    }

    /// The answer that says this.
    fn der(&self, inquiry: &Inquiry, evidence: &Evidence) -> Vec<u8> {
        let issuer = inquiry.issuer.to_der().unwrap();
        let signer = self.signers.iter().find(|s| s.der() == issuer);
        let Some(signer) = signer else { return b"nobody staples it".to_vec() };
        let status = match evidence.status {
            Status::Good => CertStatus::Good,
            Status::Revoked { at, .. } => CertStatus::Revoked(at, None),
            Status::Unknown => CertStatus::Unknown,
        };
        let asked = evidence.this_update.secs() - NOW.secs();
        let single = Single::good(inquiry.certificate, inquiry.issuer).status(status);
        Reply::new(signer, single.times(asked, None)).der()
    }
}
