//! One certificate of a chain, as it is told of.

use openssl::pkey::{HasPublic, Id, PKeyRef};
use openssl::x509::X509Ref;
use serde_json::{Value, json};
use x509_parser::asn1_rs::FromDer;
use x509_parser::certificate::X509Certificate;

use crate::clock::Time;
use crate::evidence::{Evidence, Status};
use crate::facts::{CertFacts, distinguished_name};
use crate::report::printable;

/// The subject in RFC 4514 order; empty if there is none, or it can't be read.
pub fn subject(certificate: &X509Ref) -> String {
    let der = certificate.to_der().unwrap_or_default();
    let parsed = X509Certificate::from_der(&der).ok();
    parsed.map(|(_, c)| printable(&distinguished_name(c.subject()))).unwrap_or_default()
}

/// Kind and size as `ssl_cert_autofetch_key` names them.
pub fn key_type<T: HasPublic>(key: &PKeyRef<T>) -> String {
    match key.id() {
        Id::RSA => format!("rsa:{}", key.bits()),
        Id::EC => format!("ecdsa:{}", key.bits()),
        Id::ED25519 => "ed25519".into(),
        Id::ED448 => "ed448".into(),
        other => format!("type {} of OpenSSL", other.as_raw()),
    }
}

/// One above the leaf.
pub fn link_json(certificate: &X509Ref, facts: &CertFacts) -> Value {
    json!({
        "subject": subject(certificate),
        "issuer": printable(&facts.issuer),
        "serial": facts.serial,
        "fingerprint": facts.fingerprint,
        "not_before": facts.not_before.rfc3339(),
        "not_after": facts.not_after.rfc3339(),
    })
}

/// For people: the status, its reason, and its times.
pub fn status_text(evidence: &Evidence) -> String {
    let status = match &evidence.status {
        Status::Revoked { reason, at } => format!("revoked at {at} ({})", reason.as_str()),
        other => other.as_str().into(),
    };
    let until = evidence.next_update.map(|t| format!(", until {t}")).unwrap_or_default();
    format!("{status}, said at {}{until}", evidence.this_update)
}

/// Reason and time of a revocation, null if it is none.
pub fn revocation_json(status: &Status) -> (Value, Value) {
    match status {
        Status::Revoked { reason, at } => (reason.as_str().into(), at.rfc3339().into()),
        _ => (Value::Null, Value::Null),
    }
}

pub fn time_json(time: Option<Time>) -> Value {
    time.map_or(Value::Null, |t| t.rfc3339().into())
}
