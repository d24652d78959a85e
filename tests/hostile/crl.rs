//! What a server of CRLs says about certificates that have no other source: each list that must not
//! count revokes the certificate of the entry in soft mode, and clears that of the one in hard.

use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use crate::forged::{Ca, Issuers, Scene, Sent};
use crate::lab::*;
use crate::stage::{BLOCK, Hostile, USUAL, check_refused, is_like};

pub use crate::forged::cases;

/// One wrong answer, and what has to come of it.
pub struct Case {
    pub what: &'static str,
    pub sent: fn(&Scene) -> Sent,
    /// The CAUSE of the log line, without the URL; `*` is any text. None: it counts as what was
    /// sent before, and nobody notices anything.
    pub cause: Option<&'static str>,
    /// A good list is sent first.
    pub before: Option<fn(&Scene) -> Crl>,
    /// Who issued the certificate.
    pub issuer: Ca,
    /// How many requests the server gets.
    pub requests: usize,
    /// The longest time to the next attempt, in seconds.
    pub longest: u64,
    /// It takes longer than a handshake is held: the log line says that first.
    pub is_slow: bool,
    /// Nothing will make the server, or its CA, better.
    pub is_lost: bool,
    /// The CA's block says where the list is; the certificate names another place.
    pub is_configured: bool,
}

/// Two entries a case, each with a list of its own: `soft` goes on with the certificate, `hard`
/// refuses.
#[test]
#[ignore = "needs nginx and the module: scripts/test.sh"]
fn a_hostile_server_of_crls_changes_nothing() {
    let (liar, tls, config) = (Liar::start(), Port::reserve(), Config::new());
    let (issuers, cases) = (Issuers::new(), cases());
    let plays: Vec<_> = cases.iter().enumerate().map(|(i, c)| Play::new(i, c, &issuers)).collect();
    let mut cas = String::new();
    let mut servers = String::new();
    for role in plays.iter().flat_map(|play| &play.roles) {
        Stored::of(&config.keystore(), &role.name).put_identity(&role.leaf);
        let ca = if role.is_configured { format!("of-{}", role.name) } else { "liar".into() };
        if role.is_configured {
            cas += &liar.ca_block(&ca, &format!("{BLOCK} crl {};", role.scene.url));
        }
        servers += &format!(
            "server {{ listen {} ssl; server_name {}; ssl_cert_autofetch_check {};\n\
             ssl_cert_autofetch {ca}; }}\n",
            tls.addr(),
            role.name,
            &role.name[..4]
        );
    }
    let lines = "ssl_cert_autofetch_check_interval 0; ssl_cert_autofetch_timeout 2s;";
    let stage = Hostile::start(liar, tls, config, &cas, &format!("{lines}\n{servers}"));
    let stage = stage.trust(&issuers.root);

    // What takes long keeps half of the few places where CRLs come in: one such case at a time.
    let (slow, quick): (Vec<_>, Vec<_>) = plays.iter().partition(|play| play.case.is_slow);
    let todo = Mutex::new(quick.iter().rev().collect::<Vec<_>>());
    let next = || todo.lock().expect("lock").pop();
    thread::scope(|scope| {
        scope.spawn(|| slow.iter().for_each(|play| play.run(&stage)));
        for _ in 0..4 {
            scope.spawn(|| {
                while let Some(play) = next() {
                    play.run(&stage);
                }
            });
        }
    });
    plays.iter().for_each(Play::mend);
    plays.iter().filter(|play| !play.case.is_lost).for_each(|play| play.check_recovery(&stage));
    for role in plays.iter().flat_map(|play| &play.roles) {
        assert_eq!(stage.liar.orders_for(&role.name), 0, "{}", role.name);
        assert_eq!(stage.monitor.serial(&role.name), Some(role.leaf.serial()), "{}", role.name);
    }
    let counters = ["issued", "ocsp_queries"].map(|c| stage.monitor.counter(c));
    assert_eq!(counters, [0, 0]);
    assert_eq!(stage.nginx.log_lines("is revoked ("), Vec::<String>::new());
    assert_eq!(stage.nginx.log_lines("ISSUE"), Vec::<String>::new());
    stage.nginx.check_log();
}

/// A case with what it needs.
struct Play<'a> {
    case: &'a Case,
    mirror: Mirror,
    /// Soft and hard.
    roles: [Role; 2],
}

/// An entry, and what is said about it.
struct Role {
    name: String,
    path: String,
    leaf: Identity,
    scene: Scene,
    is_configured: bool,
}

impl<'a> Play<'a> {
    fn new(number: usize, case: &'a Case, issuers: &Issuers) -> Play<'a> {
        let mirror = Mirror::start("application/pkix-crl");
        let roles = ["soft", "hard"].map(|mode| {
            let (name, path) = (format!("{mode}-{number}.test"), format!("{mode}.crl"));
            let url = mirror.url(&path);
            let named = if case.is_configured { mirror.url("other.crl") } else { url.clone() };
            let profile = Profile { crl_url: Some(named), ..Profile::server(&[name.as_str()]) };
            let leaf = issuers.of(case.issuer).issue(&profile);
            let scene = Scene::new(issuers, case.issuer, url, &leaf.serial(), mode == "soft");
            Role { name, path, leaf, scene, is_configured: case.is_configured }
        });
        Play { case, mirror, roles }
    }

    fn run(&self, stage: &Hostile) {
        let what = self.case.what;
        if let Some(before) = self.case.before {
            let since = clock::now();
            for role in &self.roles {
                let list = role.scene.sign(before(&role.scene));
                self.mirror.put(&role.path, Delivery::Whole, list);
                self.check_served(stage, role);
            }
            let within = Duration::from_secs(30);
            let end = since + ENDS_SOON + SKEW + 1;
            let ends = before(&self.roles[0].scene).next_update == Some(ENDS_SOON);
            wait_until("the end of a list", within, || !ends || clock::now() > end);
        }
        for role in &self.roles {
            match (self.case.sent)(&role.scene) {
                Sent::Page(delivery, body) => self.mirror.put(&role.path, delivery, body),
                Sent::Refusal => self.mirror.down(),
            }
        }
        let asked = self.counts();
        let [soft, hard] = &self.roles;
        let Some(cause) = self.case.cause else {
            self.check_served(stage, soft);
            self.check_served(stage, hard);
            assert_eq!(self.counts(), asked.map(|n| n + self.case.requests), "{what}");
            let failed = |r: &Role| stage.nginx.log_lines(&format!("\"{}\": CHECK", r.name)).len();
            assert_eq!((failed(soft), failed(hard)), (0, 0), "{what}");
            return;
        };
        let waiting = [soft, hard].map(|role| stage.client(&role.name).connect_aside());
        let [served, refused] = waiting.map(|handle| handle.join().expect("thread"));
        let served = served.unwrap_or_else(|e| panic!("{what}: {e:?}"));
        assert_eq!((served.serial, served.staple), (soft.leaf.serial(), None), "{what}");
        check_refused(what, refused);
        for role in &self.roles {
            let serial = role.leaf.serial();
            let told = stage.check_failure(what, &role.name, &serial, "CHECK", self.case.longest);
            let expected = match self.case.is_slow {
                true => "crl: it is still being fetched".into(),
                false => format!("crl: {cause}, source={}", role.scene.url),
            };
            assert!(is_like(&told, &expected), "{what}: {told}");
        }
        assert_eq!(self.counts(), asked.map(|n| n + self.case.requests), "{what}");
        // Until the next attempt nobody is asked, and nobody waits.
        let again = stage.client(&soft.name).connect().expect("handshake");
        assert_eq!((again.serial, again.staple), (soft.leaf.serial(), None), "{what}");
        check_refused(what, stage.client(&hard.name).connect());
        assert_eq!(self.counts(), asked.map(|n| n + self.case.requests), "{what}");
        if self.case.is_slow {
            self.check_end(stage);
        }
    }

    /// Nobody waits any more for what is slow. In the end there is a line about it too.
    fn check_end(&self, stage: &Hostile) {
        self.mirror.down();
        for role in &self.roles {
            let mark = format!("\"{}\": CHECK failed: ", role.name);
            let line = wait_for("the end of what is slow", Duration::from_secs(20), || {
                stage.nginx.log_lines(&mark).into_iter().nth(1)
            });
            let url = format!(", source={}, next attempt in ", role.scene.url);
            assert!(line.contains("failed: crl: ") && line.contains(&url), "{line}");
        }
    }

    /// From now on its lists are right.
    fn mend(&self) {
        self.mirror.up();
        for role in &self.roles {
            self.mirror.put(&role.path, Delivery::Whole, role.scene.sign(Crl::default()));
        }
    }

    /// With a right list all is well again.
    fn check_recovery(&self, stage: &Hostile) {
        for role in &self.roles {
            let what = format!("{}: service again", self.case.what);
            let served = wait_for(&what, Duration::from_secs(20), || {
                let served = stage.client(&role.name).connect().ok();
                served.filter(|_| stage.error(&role.name).is_none())
            });
            assert_eq!(served.serial, role.leaf.serial(), "{what}");
        }
    }

    fn check_served(&self, stage: &Hostile, role: &Role) {
        let served = stage.client(&role.name).connect();
        let served = served.unwrap_or_else(|e| panic!("{}: {e:?}", self.case.what));
        let expected = (role.leaf.serial(), None);
        assert_eq!((served.serial, served.staple), expected, "{}", self.case.what);
    }

    /// Requests for each list.
    fn counts(&self) -> [usize; 2] {
        self.roles.each_ref().map(|role| self.mirror.count(&role.path))
    }
}

impl Case {
    pub fn new(what: &'static str, sent: fn(&Scene) -> Sent, cause: &'static str) -> Case {
        Case {
            what,
            sent,
            cause: Some(cause),
            before: None,
            issuer: Ca::Usual,
            requests: 1,
            longest: USUAL,
            is_slow: false,
            is_lost: false,
            is_configured: false,
        }
    }
}

/// A nextUpdate that is over in some seconds: clocks may differ by so much.
const SKEW: i64 = 300;
pub const ENDS_SOON: i64 = 8 - SKEW;
