//! What a responder says: the truth about a certificate, or the lie that its [`Behaviour`] asks
//! for.

use std::collections::HashMap;
use std::sync::Mutex;

use openssl::hash::MessageDigest;

use super::behaviour::{Behaviour, Delegate, Nonce, ResultCode, Signer, Subject};
use super::clock::now;
use super::http::Http;
use super::ocsp::{self, Answer, CertId, Request, Single, Status};
use super::pki::{Identity, Profile, Usage, hex, unhex};

/// Who knows what the status of a certificate is.
pub enum Source {
    /// Pebble's management port, asked for each query; serials it does not know are answered with
    /// `unauthorized`.
    Pebble { http: Http, management: String },
    /// Good, unless `Responder::set_status` says otherwise.
    Own,
}

/// The responder without its HTTP.
pub struct Oracle {
    issuer: Identity,
    impostor: Identity,
    source: Source,
    pub statuses: Mutex<HashMap<String, Status>>,
}

impl Oracle {
    pub fn new(issuer: Identity, source: Source) -> Oracle {
        let impostor = issuer.impostor();
        Oracle { issuer, impostor, source, statuses: Mutex::default() }
    }

    /// A request that nobody sent, without a nonce.
    pub fn request(&self, serial: &str) -> Request {
        let id = CertId::new(&self.issuer.cert, &unhex(serial), MessageDigest::sha1());
        Request { ids: vec![id], nonce: None, requestor: None, signature: None }
    }

    /// The DER, and what it says in words.
    pub fn answer(&self, request: &Request, behaviour: &Behaviour) -> (Vec<u8>, String) {
        let bare = |code: ResultCode| (ocsp::bare(code as u8), format!("{code:?}"));
        if behaviour.result != ResultCode::Successful {
            return bare(behaviour.result);
        }
        if behaviour.requestor.as_ref().is_some_and(|wanted| !request.is_signed_by(wanted)) {
            return bare(ResultCode::SigRequired);
        }
        let mut singles = Vec::new();
        for (serial, status) in &behaviour.others {
            let id = CertId { serial: unhex(serial), ..request.ids[0].clone() };
            singles.push(single(id, *status, behaviour));
        }
        let mut words = Vec::new();
        for id in &request.ids {
            let is_deaf = behaviour.sha256_only && id.digest() != Some(MessageDigest::sha256());
            if is_deaf || !id.names(&self.issuer.cert) {
                return bare(ResultCode::Unauthorized);
            }
            let status = match behaviour.status {
                Some(status) => Ok(Some(status)),
                None => self.status(&hex(&id.serial)),
            };
            match status {
                Ok(Some(status)) => {
                    words.push(format!("{status:?}"));
                    let about = about(id, behaviour.subject);
                    singles.extend(about.map(|id| single(id, status, behaviour)));
                }
                Ok(None) => return bare(ResultCode::Unauthorized),
                Err(_) => return bare(ResultCode::InternalError),
            }
        }
        let (signer, with_cert) = self.signer(&behaviour.signer);
        if matches!(&behaviour.signer, Signer::Delegate(delegate) if delegate.revoked) {
            let id = CertId { serial: unhex(&signer.serial()), ..request.ids[0].clone() };
            let revoked = Status::Revoked { reason: Some(1), at: now() - 60 };
            singles.push(single(id, revoked, behaviour));
        }
        let bytes = Answer {
            singles,
            nonce: match behaviour.nonce {
                Nonce::Echo => request.nonce.clone(),
                Nonce::Missing => None,
                Nonce::Wrong => Some(super::der::octets(&[0x5a; 16])),
            },
            extensions: behaviour.extensions.clone(),
            signer: &signer,
            with_cert,
            break_signature: behaviour.signer == Signer::BrokenSignature,
            produced_at: now(),
        }
        .encode();
        (bytes, words.join(", "))
    }

    fn status(&self, serial: &str) -> Result<Option<Status>, ureq::Error> {
        if let Some(status) = self.statuses.lock().expect("lock").get(serial) {
            return Ok(Some(*status));
        }
        match &self.source {
            Source::Own => Ok(Some(Status::Good)),
            Source::Pebble { http, management } => {
                super::pebble::status_at(http, management, serial)
            }
        }
    }

    fn signer(&self, signer: &Signer) -> (Identity, bool) {
        match signer {
            Signer::Issuer | Signer::BrokenSignature => (self.issuer.clone(), false),
            Signer::OtherCa => (self.impostor.clone(), true),
            Signer::Delegate(delegate) => (self.delegate(delegate), delegate.sent),
        }
    }

    fn delegate(&self, delegate: &Delegate) -> Identity {
        let mut profile = Profile::ocsp_signer();
        profile.ocsp_nocheck = delegate.nocheck;
        if !delegate.eku {
            profile.usage = Usage::Server;
        }
        if delegate.expired {
            profile.not_after = -3600;
        }
        let issuer = if delegate.of_other_ca { &self.impostor } else { &self.issuer };
        issuer.issue(&profile)
    }
}

fn single(id: CertId, status: Status, behaviour: &Behaviour) -> Single {
    let (this_update, next) = (now() + behaviour.this_update, behaviour.next_update);
    Single {
        id,
        status,
        this_update,
        next_update: next.map(|n| now() + n),
        extensions: behaviour.single_extensions.clone(),
    }
}

/// The name of the certificate that is answered for.
fn about(asked: &CertId, subject: Subject) -> Option<CertId> {
    let mut id = asked.clone();
    match subject {
        Subject::Asked => {}
        Subject::Nobody => return None,
        Subject::OtherSerial => *id.serial.last_mut().expect("a serial") ^= 1,
        Subject::OtherIssuer => {
            id.name_hash.reverse();
            id.key_hash.reverse();
        }
    }
    Some(id)
}
