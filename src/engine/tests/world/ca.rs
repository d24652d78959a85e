//! A CA that issues, or does what the test wants instead.

use super::*;
use openssl::x509::{X509, X509Ref};

use crate::bundle::Bundle;
use crate::ca::Issued;
use crate::ca::csr::{csr, new_key};
use crate::ca::renewal::RenewalInfo;
use crate::http::haste;
use crate::settings::KeyType;

/// What a CA does next; when nothing is left to do it takes orders and issues in the next step.
pub enum Do {
    Fail(IssueError),
    /// The request does not arrive: the order stays as it is, null if nothing was sent before.
    Down,
    Wait(Duration),
    /// Issues with a life of these seconds from [`NOW`].
    IssueFor(i64, i64),
    /// The same, from now.
    IssueFrom(i64, i64),
    /// Issues with the chain by [`FakeCa::above`], and has the usual one.
    IssueTwoChains,
    /// Issues for other names.
    IssueWrong,
    /// Somebody may have been faster.
    LookAgain,
    /// Issues, and nothing arrives: the order is dead.
    Lose,
    /// Issues for an RSA key that it makes.
    MakeKey,
}

pub struct FakeCa {
    pub name: String,
    pub identity: Identity,
    /// With the passwords of the workers.
    pub keystore: Mutex<Keystore>,
    clock: Arc<FakeClock>,
    script: Mutex<VecDeque<Do>>,
    /// New orders.
    pub orders: AtomicUsize,
    pub issued: AtomicUsize,
    /// Orders that nobody goes on with.
    pub abandoned: AtomicUsize,
    /// Each key that a CSR asked for, in DER.
    pub keys: Mutex<Vec<Vec<u8>>>,
    /// What each step was told of why.
    pub reasons: Mutex<Vec<String>>,
    /// How long a request of each step might have taken.
    pub limits: Mutex<Vec<Duration>>,
    /// PEM of what stands above the leaf in a chain that may be of no use.
    pub above: Mutex<Vec<u8>>,
    /// What it issues has the TLS feature.
    pub must_staple: AtomicBool,
    /// What it says about renewal; None: it offers nothing of that.
    suggestion: Mutex<Option<Suggestion>>,
    asked: AtomicUsize,
    /// Happens at [`Do::LookAgain`].
    pub before_look: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

type Suggestion = Result<Option<RenewalInfo>, IssueError>;

impl FakeCa {
    pub(super) fn new(name: &str, keystore: Keystore, clock: Arc<FakeClock>) -> Arc<FakeCa> {
        FakeCa::of(name, fixture::root(name), keystore, clock)
    }

    pub(super) fn of(
        name: &str,
        identity: Identity,
        keystore: Keystore,
        clock: Arc<FakeClock>,
    ) -> Arc<FakeCa> {
        Arc::new(FakeCa {
            name: name.into(),
            identity,
            keystore: Mutex::new(keystore),
            clock,
            script: Mutex::default(),
            above: Mutex::default(),
            orders: AtomicUsize::new(0),
            issued: AtomicUsize::new(0),
            abandoned: AtomicUsize::new(0),
            keys: Mutex::default(),
            limits: Mutex::default(),
            reasons: Mutex::default(),
            must_staple: AtomicBool::new(false),
            suggestion: Mutex::default(),
            asked: AtomicUsize::new(0),
            before_look: Mutex::default(),
        })
    }

    pub fn script(&self, script: Vec<Do>) {
        *self.script.lock().unwrap() = script.into();
    }

    pub fn suggest(&self, suggestion: Suggestion) {
        *self.suggestion.lock().unwrap() = Some(suggestion);
    }

    /// How often it was asked about renewal.
    pub fn asked(&self) -> usize {
        self.asked.load(SeqCst)
    }

    pub fn orders(&self) -> usize {
        self.orders.load(SeqCst)
    }

    pub fn issued(&self) -> usize {
        self.issued.load(SeqCst)
    }

    /// The serial of the `n`th certificate, from 1.
    pub fn serial(&self, n: usize) -> Serial {
        hex(self.number(n))
    }

    fn number(&self, n: usize) -> u64 {
        let base = if self.name == "one" { 0xa000 } else { 0xb000 };
        base + n as u64
    }

    fn issue(&self, request: &X509Req, names: &[&str], life: (i64, i64)) -> Vec<u8> {
        let n = self.issued.fetch_add(1, SeqCst) + 1;
        let feature: &[u8] = &[0x30, 3, 2, 1, 5];
        let extensions = [(TLS_FEATURE, false, feature)];
        let extensions = if self.must_staple.load(SeqCst) { &extensions[..] } else { &[] };
        let spec = Spec { serial: self.number(n), names, life, extensions, ..Spec::default() };
        let leaf = self.identity.certify(&spec, &request.public_key().unwrap());
        [leaf.to_pem().unwrap(), self.identity.pem()].concat()
    }
}

impl Ca for FakeCa {
    fn name(&self) -> &str {
        &self.name
    }

    fn abandon(&self, order: &Order) {
        assert_eq!(order.ca, self.name);
        self.abandoned.fetch_add(1, SeqCst);
    }

    fn host(&self) -> &str {
        &self.name
    }

    fn step(&self, order: &mut Order, _: Option<&Bundle>) -> Result<Progress, IssueError> {
        let request = X509Req::from_der(&order.csr).unwrap();
        let public = request.public_key().unwrap();
        assert_eq!(order.ca, self.name);
        // The key is on the disk before the CSR leaves.
        let name = EntryName::new(&order.names[0]).unwrap();
        let pending =
            self.keystore.lock().unwrap().pending(&name).unwrap().expect("nothing pending");
        let key = PKey::private_key_from_pem(pending.key_pem.bytes()).unwrap();
        assert!(key.public_eq(&public), "the pending key is another one");

        self.reasons.lock().unwrap().push(order.reason.clone());
        self.limits.lock().unwrap().push(haste::limited(s(30)));
        let mut script = self.script.lock().unwrap();
        if script.front().is_some_and(|next| matches!(next, Do::Down)) {
            script.pop_front();
            return Err(IssueError::Unreachable { what: "order", cause: "down".into() });
        }
        drop(script);
        if order.state.is_null() {
            self.orders.fetch_add(1, SeqCst);
            self.keys.lock().unwrap().push(public.public_key_to_der().unwrap());
            order.state = json!({ "order": self.orders() });
        }
        let now = self.clock.now().since(NOW).as_secs() as i64;
        let life = (now - DAY, now + 30 * DAY);
        let names: Vec<&str> = order.names.iter().map(String::as_str).collect();
        let next = self.script.lock().unwrap().pop_front();
        Ok(match next {
            Some(Do::Fail(error)) => return Err(error),
            Some(Do::Down) => unreachable!("taken above"),
            Some(Do::Wait(time)) => {
                order.state["polled"] = json!(true);
                Progress::Wait(time)
            }
            Some(Do::IssueFor(begin, end)) => {
                Progress::Issued(self.issue(&request, &names, (begin, end)).into())
            }
            Some(Do::IssueFrom(begin, end)) => {
                Progress::Issued(self.issue(&request, &names, (now + begin, now + end)).into())
            }
            Some(Do::IssueTwoChains) => {
                let good = self.issue(&request, &names, life);
                let leaf = X509::from_pem(&good).unwrap().to_pem().unwrap();
                let chain = [leaf, self.above.lock().unwrap().clone()].concat();
                let fallback = Some(good);
                Progress::Issued(Issued { fallback, ..Issued::from(chain) })
            }
            Some(Do::IssueWrong) => {
                Progress::Issued(self.issue(&request, &["wrong.example"], life).into())
            }
            Some(Do::LookAgain) => {
                let hook = self.before_look.lock().unwrap().take();
                hook.into_iter().for_each(|hook| hook());
                Progress::LookAgain
            }
            Some(Do::Lose) => {
                self.issued.fetch_add(1, SeqCst);
                order.accepted = true;
                return Err(IssueError::Protocol { what: "certificate", cause: "lost".into() });
            }
            Some(Do::MakeKey) => {
                let key = new_key(KeyType::Rsa2048).unwrap();
                let request = X509Req::from_der(&csr(&key, &order.names, false, None).unwrap());
                let chain = self.issue(&request.unwrap(), &names, life);
                let key = Secret::new(key.private_key_to_pem_pkcs8().unwrap());
                Progress::Issued(Issued { key: Some(key), ..chain.into() })
            }
            None if order.state["polled"].is_null() => {
                order.state["polled"] = json!(true);
                Progress::Wait(s(1))
            }
            None => Progress::Issued(self.issue(&request, &names, life).into()),
        })
    }

    fn offers_renewal_info(&self) -> bool {
        self.suggestion.lock().unwrap().is_some()
    }

    fn renewal_info(&self, _: &X509Ref) -> Suggestion {
        self.asked.fetch_add(1, SeqCst);
        self.suggestion.lock().unwrap().clone().unwrap()
    }
}
