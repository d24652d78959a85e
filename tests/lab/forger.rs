//! What a CA must not deliver, for the protocols whose answers are made of one exchange.

use openssl::x509::{X509, X509ReqRef};

use super::liar::Lie;
use super::pki::{Identity, Profile};

/// Makes certificates for one name that are wrong in one way.
pub struct Forger {
    pub lie: Lie,
    names: Vec<String>,
    issuer: Identity,
    impostor: Identity,
}

impl Forger {
    pub fn new(lie: Lie, names: &[&str]) -> Forger {
        let issuer = Identity::root("Forger");
        let names = names.iter().map(|n| n.to_string()).collect();
        Forger { lie, names, impostor: issuer.impostor(), issuer }
    }

    pub fn leaf(&self, csr: &X509ReqRef) -> X509 {
        let mut profile = Profile { names: self.names.clone(), ..Profile::server(&["x.test"]) };
        match self.lie {
            Lie::OtherName => profile.names = vec!["other.test".into()],
            Lie::Expired => (profile.not_before, profile.not_after) = (-2 * DAY, -DAY),
            Lie::Tomorrow => profile.not_before = DAY,
            _ => {}
        }
        match self.lie {
            Lie::OtherKey => self.issuer.issue(&profile).cert,
            _ => self.issuer.certify(csr, &profile),
        }
    }

    pub fn issuer(&self) -> &X509 {
        match self.lie {
            Lie::Unlinked => &self.impostor.cert,
            _ => &self.issuer.cert,
        }
    }
}

const DAY: i64 = 86_400;
