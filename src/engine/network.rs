//! The real ports: the system's clock, the network, and each CA's protocol.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use openssl::x509::X509;

use super::desk::{Desk, lock};
use super::host::{Host, Plan};
use super::ports::{Answer, Inquiry, Listing, NoAnswer, Ports, Responders};
use super::{Engine, Notes};
use crate::ca::acme::{AccountStore, AcmeCa, Change, DnsHook, StoredAccount};
use crate::ca::cfssl::CfsslCa;
use crate::ca::command::CommandCa;
use crate::ca::est::{EstCa, Ways};
use crate::ca::vault::VaultCa;
use crate::ca::{Ca, ChallengeAnswer, Challenges, IssueError};
use crate::clock::{Clock, SystemClock, Time};
use crate::evidence::crl::{self, Crls};
use crate::evidence::ocsp::{self, RequestSigner};
use crate::http::network::NetworkHttp;
use crate::http::{Http, haste};
use crate::keystore::{Keystore, KeystoreError, in_json};
use crate::program::{Programs, Supervised};
use crate::report::Event;
use crate::settings::{CaSettings, EvidenceSettings, Nonce, Protocol, Secret, Signer, WaySettings};

impl Engine {
    /// An engine with the real ports. Starts nothing yet. A keystore that is out of reach (a
    /// folder above it is closed, a file system is not mounted) is each job's failure, with a
    /// next attempt: a worker that did not start for it would take all other sites down too.
    pub fn with_network(plan: Plan, host: Arc<dyn Host>) -> Result<Engine, String> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let keystore = Keystore::at(&plan.keystore).with_passwords(plan.passwords.clone());
        let notes = Notes::default();
        let programs = programs(&host, &clock, &notes);
        let mut ways: Vec<Arc<dyn Http>> = Vec::new();
        let mut cas: Vec<Arc<dyn Ca>> = Vec::new();
        for settings in &plan.cas {
            let http = NetworkHttp::new(&settings.way)
                .map_err(|cause| format!("\"{}\": {cause}", settings.name))?;
            let http: Arc<dyn Http> = Arc::new(http);
            let store = Arc::new(Store(keystore.clone()));
            let window = Window {
                host: Arc::clone(&host),
                keystore: keystore.clone(),
                clock: Arc::clone(&clock),
            };
            let (way, time) = (Arc::clone(&http), Arc::clone(&clock));
            cas.push(match &settings.protocol {
                Protocol::Acme(acme) => {
                    let challenges: Arc<dyn Challenges> =
                        match DnsHook::of(acme, Arc::clone(&programs)) {
                            Some(hook) => Arc::new(hook),
                            None => Arc::new(window),
                        };
                    Arc::new(AcmeCa::new(acme.clone(), way, time, store, challenges))
                }
                Protocol::Cfssl(cfssl) => Arc::new(CfsslCa::new(cfssl.clone(), way, time)),
                Protocol::Command(command) => {
                    Arc::new(CommandCa::new(command.clone(), Arc::clone(&programs)))
                }
                Protocol::Est(est) => {
                    let ways = Arc::new(Disguise(settings.way.clone()));
                    Arc::new(EstCa::new(est.clone(), way, ways, time))
                }
                Protocol::Vault(vault) => Arc::new(VaultCa::new(vault.clone(), way, time)),
            });
            ways.push(http);
        }
        let trust = |ca: &CaSettings| {
            Trust::of(&ca.evidence).map_err(|cause| format!("\"{}\": {cause}", ca.name))
        };
        let leaves = plan.cas.iter().map(trust).collect::<Result<_, _>>()?;
        let crls = Arc::new(Lists {
            ways: ways.clone(),
            crls: Crls::new(keystore.clone()),
            clock: Arc::clone(&clock),
        });
        let responders = Arc::new(Network { ways, leaves, clock: Arc::clone(&clock) });
        // Keyed anew in each process.
        let seed = RandomState::new().hash_one(0);
        let ports = Ports { clock, cas, responders, crls, seed };
        Ok(Engine::of(Desk::new(plan, host, ports, keystore, notes)))
    }
}

/// Programs start as the host wants it; what they write to stderr goes to its log.
fn programs(host: &Arc<dyn Host>, clock: &Arc<dyn Clock>, notes: &Notes) -> Arc<dyn Programs> {
    let (starter, teller, notes) = (Arc::clone(host), Arc::clone(host), Arc::clone(notes));
    let tell = move |event: Event| {
        lock(&notes).push(event);
        teller.wake();
    };
    Arc::new(Supervised::new(Arc::clone(clock), move |command| starter.prepare(command), tell))
}

/// The way to a CA, as somebody else.
struct Disguise(WaySettings);

impl Ways for Disguise {
    fn with_client_certificate(&self, chain: &[u8], key: &Secret) -> Result<Arc<dyn Http>, String> {
        let client = Signer { certificate: chain.to_vec(), key: key.clone() };
        let way = WaySettings { client_certificate: Some(client), ..self.0.clone() };
        Ok(Arc::new(NetworkHttp::new(&way)?))
    }
}

/// OCSP, by the way to the network of the CA in question.
struct Network {
    ways: Vec<Arc<dyn Http>>,
    /// By CA, as the ways.
    leaves: Vec<Trust>,
    clock: Arc<dyn Clock>,
}

/// How responders are asked, and who else is believed; parsed once. The default is for
/// intermediates.
#[derive(Default)]
struct Trust {
    nonce: Nonce,
    extra_signer: Option<X509>,
    request_signer: Option<RequestSigner>,
}

impl Trust {
    fn of(settings: &EvidenceSettings) -> Result<Trust, String> {
        let certificate = settings.ocsp_certificate.as_deref();
        let signer = settings.ocsp_signer.as_ref();
        let signer = signer.map(|s| RequestSigner::from_pem(&s.certificate, s.key.bytes()));
        Ok(Trust {
            nonce: settings.ocsp_nonce,
            extra_signer: certificate.map(X509::from_pem).transpose().map_err(|e| e.to_string())?,
            request_signer: signer.transpose().map_err(|e| e.to_string())?,
        })
    }
}

impl Responders for Network {
    fn ask(&self, inquiry: &Inquiry) -> Result<Answer, NoAnswer> {
        let usual = Trust::default();
        let trust = if inquiry.is_leaf { &self.leaves[inquiry.ca] } else { &usual };
        let query = ocsp::Query {
            certificate: inquiry.certificate,
            facts: inquiry.facts,
            issuer: inquiry.issuer,
            url: inquiry.url,
            nonce: trust.nonce,
            extra_signer: trust.extra_signer.as_deref(),
            request_signer: trust.request_signer.as_ref(),
            siblings: inquiry.siblings,
            timeout: inquiry.timeout,
        };
        match ocsp::ask(self.ways[inquiry.ca].as_ref(), self.clock.as_ref(), &query) {
            Ok(ocsp::Answer { evidence, others, der, .. }) => Ok(Answer { evidence, others, der }),
            Err(error) => {
                Err(NoAnswer { cause: error.to_string(), retry_after: error.retry_after() })
            }
        }
    }
}

/// CRLs, by the same way.
struct Lists {
    ways: Vec<Arc<dyn Http>>,
    crls: Crls,
    clock: Arc<dyn Clock>,
}

impl super::ports::Crls for Lists {
    fn look_up(&self, inquiry: &Inquiry, asked_since: Time) -> Result<Option<Listing>, NoAnswer> {
        let query = crl::Query {
            facts: inquiry.facts,
            is_ca: !inquiry.is_leaf,
            issuer: inquiry.issuer,
            url: inquiry.url,
            asked_since,
            timeout: inquiry.timeout,
        };
        let way = self.ways[inquiry.ca].as_ref();
        match self.crls.look_up(way, self.clock.as_ref(), &query) {
            Ok(crl::Found::Answer { evidence, fetched }) => Ok(Some(Listing { evidence, fetched })),
            Ok(crl::Found::Busy) => Ok(None),
            Err(error) => {
                Err(NoAnswer { cause: error.to_string(), retry_after: error.retry_after() })
            }
        }
    }
}

/// Where answers to challenges are seen: by all workers in the zone, by other hosts in the
/// keystore.
struct Window {
    host: Arc<dyn Host>,
    keystore: Keystore,
    clock: Arc<dyn Clock>,
}

impl Challenges for Window {
    fn publish(&self, answer: &ChallengeAnswer) -> Result<(), String> {
        let expires = self.clock.now() + ANSWER_LIFE;
        self.host.publish_challenge(answer, expires)?;
        self.keystore.put_challenge(answer, expires).map_err(|e| e.to_string())
    }

    fn settle_in(&self) -> Duration {
        // Who is about to go has no listener any more: the CA comes to the workers after it, which
        // look into the keystore like another host.
        let alone = || self.keystore.has_company(&self.host.id()).is_ok_and(|company| !company);
        if !self.host.exiting() && alone() { Duration::ZERO } else { SEEN_BY_ALL }
    }

    fn life(&self) -> Option<Duration> {
        Some(ANSWER_LIFE)
    }

    fn withdraw(&self, answer: &ChallengeAnswer) {
        self.host.withdraw_challenge(answer);
        let _ = self.keystore.remove_challenge(answer); // it expires
    }
}

/// The watch of each host looks once a second.
const SEEN_BY_ALL: Duration = Duration::from_millis(1500);

/// Longer than any CA takes to look; after half of it they are published again.
const ANSWER_LIFE: Duration = Duration::from_secs(3600);

/// The accounts in the keystore.
struct Store(Keystore);

impl AccountStore for Store {
    fn load(&self, ca: &str) -> Result<Option<StoredAccount>, IssueError> {
        match self.0.account(ca) {
            Ok(bytes) => Ok(bytes.map(|bytes| StoredAccount::read(bytes.bytes()))),
            // Not what only another password can open.
            Err(error @ KeystoreError::Damaged { .. }) => {
                Ok(Some(StoredAccount::damaged(error.to_string())))
            }
            Err(error) => Err(storage(error)),
        }
    }

    fn with_lock(&self, ca: &str, change: &mut Change<'_>) -> Result<(), IssueError> {
        let lock = self.0.lock_account(ca, haste::limited(LOCK_PATIENCE)).map_err(storage)?;
        let Some(changed) = change(self.load(ca)?)? else { return Ok(()) };
        let json = in_json(&changed).map_err(|e| IssueError::Storage(e.to_string()))?;
        self.0.store_account(&lock, &json).map_err(storage)
    }
}

fn storage(error: KeystoreError) -> IssueError {
    IssueError::Storage(error.to_string())
}

/// The holder may be talking to the CA.
const LOCK_PATIENCE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use openssl::ocsp::OcspRequest;

    use super::*;
    use crate::clock::FakeClock;
    use crate::facts::CertFacts;
    use crate::fixture::ocsp::{Reply, Single};
    use crate::fixture::{Identity, NOW, Spec, root};
    use crate::http::{HttpError, Request, Response};
    use crate::settings::Passwords;

    /// Answers always the same; remembers what was asked.
    struct Deaf(Vec<u8>, Mutex<Vec<Vec<u8>>>);

    impl Http for Deaf {
        fn send(&self, request: &Request) -> Result<Response, HttpError> {
            self.1.lock().unwrap().push(request.body.clone());
            Ok(Response { status: 200, body: self.0.clone(), ..Response::default() })
        }
    }

    fn settings(pinned: &Identity, requestor: &Identity) -> EvidenceSettings {
        let key = requestor.key.private_key_to_pem_pkcs8().unwrap();
        EvidenceSettings {
            ocsp_certificate: Some(pinned.pem()),
            ocsp_signer: Some(Signer { certificate: requestor.pem(), key: Secret::new(key) }),
            ocsp_nonce: Nonce::Off,
            ..EvidenceSettings::default()
        }
    }

    /// Who answers is the signer that only the settings of the second CA name.
    #[test]
    fn evidence_settings_are_for_leaves_of_their_ca() {
        let (ca, pinned, requestor) = (root("CA"), root("Pinned"), root("Requestor"));
        let leaf = ca.issue(Spec::default());
        let facts = CertFacts::from_der(&leaf.der()).unwrap();
        let reply = Reply::new(&pinned, Single::good(&leaf.cert, &ca.cert)).der();
        let http = Arc::new(Deaf(reply, Mutex::default()));
        let network = Network {
            ways: vec![http.clone(), http.clone()],
            leaves: vec![Trust::default(), Trust::of(&settings(&pinned, &requestor)).unwrap()],
            clock: Arc::new(FakeClock::at(NOW)),
        };
        for (ca_index, is_leaf, uses_settings) in
            [(0, true, false), (0, false, false), (1, true, true), (1, false, false)]
        {
            let answer = network.ask(&Inquiry {
                certificate: &leaf.cert,
                facts: &facts,
                issuer: &ca.cert,
                url: "http://ocsp.example",
                ca: ca_index,
                is_leaf,
                siblings: &[],
                timeout: Duration::from_secs(10),
            });
            assert_eq!(answer.is_ok(), uses_settings, "{ca_index} {is_leaf}");
            let request = http.1.lock().unwrap().pop().unwrap();
            assert!(OcspRequest::from_der(&request).is_ok());
            let contains = |part: &[u8]| request.windows(part.len()).any(|w| w == part);
            assert_eq!(contains(&requestor.der()), uses_settings, "signed");
            assert_eq!(contains(&[0x2b, 6, 1, 5, 5, 7, 0x30, 1, 2]), !uses_settings, "nonce");
        }
    }

    #[test]
    fn settings_are_parsed_once_and_found_wrong_then() {
        let (pinned, requestor) = (root("Pinned"), root("Requestor"));
        let other = settings(&pinned, &pinned).ocsp_signer.unwrap();
        let mut wrong = settings(&pinned, &requestor);
        wrong.ocsp_signer = wrong.ocsp_signer.map(|s| Signer { key: other.key, ..s });
        assert_eq!(Trust::of(&wrong).err().unwrap(), "it is not the key of the certificate");
        wrong = EvidenceSettings { ocsp_certificate: Some(b"x".to_vec()), ..Default::default() };
        assert!(Trust::of(&wrong).is_err());
    }

    #[test]
    fn an_account_that_is_damaged_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().to_owned();
        let plain = Store(Keystore::open(&path).unwrap());
        let account = path.join("accounts/corp/account.json");
        let pem =
            |mark: &str| format!("-----BEGIN {mark}-----\\nMAAwAA==\\n-----END {mark}-----\\n");
        let keyed = |mark| format!(r#"{{"url":"https://ca.example/1","key":"{}"}}"#, pem(mark));
        for (json, damage) in [
            ("{}".into(), None),
            ("{\"url\":".into(), Some("account.json is damaged at line 1, column 7")),
            ("\u{0}".into(), Some("account.json is damaged at line 1, column 1")),
            (keyed("PRIVATE KEY"), Some("is damaged: ")),
            (keyed("ODD"), Some("account.json is damaged: its key can't be read")),
            (" ".repeat(1 << 20), Some("is damaged: larger than ")),
        ] {
            plain.with_lock("corp", &mut |_| Ok(Some(StoredAccount::default()))).unwrap();
            std::fs::write(&account, &json).unwrap();
            let StoredAccount { key, damage: found, .. } = plain.load("corp").unwrap().unwrap();
            assert_eq!(key, None, "{json:.80}");
            let as_expected = match damage {
                Some(damage) => found.as_ref().is_some_and(|f| f.contains(damage)),
                None => found.is_none(),
            };
            assert!(as_expected, "{json:.80}: {found:?}");
            // And there is a way out.
            let good =
                StoredAccount { url: Some("https://ca.example/2".into()), ..Default::default() };
            plain.with_lock("corp", &mut |_| Ok(Some(good.clone()))).unwrap();
            assert_eq!(plain.load("corp").unwrap(), Some(good));
        }
    }

    /// What another password opens is not lost.
    #[test]
    fn an_account_under_another_password_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let store = |words: &[&str]| {
            let words = words.iter().map(|word| Secret::new((*word).into())).collect();
            Store(Keystore::open(dir.path()).unwrap().with_passwords(Passwords::new(words)))
        };
        let key = crate::ca::csr::new_key(crate::settings::KeyType::Ecdsa256).unwrap();
        let key = Secret::new(key.private_key_to_pem_pkcs8().unwrap());
        let account = StoredAccount { key: Some(key), ..StoredAccount::default() };
        store(&["right"]).with_lock("corp", &mut |_| Ok(Some(account.clone()))).unwrap();
        for (words, is_open) in [(&["right"][..], true), (&["wrong"], false), (&[], false)] {
            let found = store(words).load("corp");
            assert_eq!(found.as_ref().is_ok_and(|f| f.as_ref() == Some(&account)), is_open);
            assert_eq!(found.is_err(), !is_open, "{words:?}");
        }
    }
}
