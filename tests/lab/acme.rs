//! The requests of an ACME client that the lab itself makes: revoking by the certificate's key, and
//! a short order for tests of the lab that have no module yet.

use std::time::Duration;

use openssl::hash::MessageDigest;
use openssl::pkey::{PKey, Private};
use openssl::stack::Stack;
use openssl::x509::extension::SubjectAlternativeName;
use openssl::x509::{X509, X509Req};
use serde_json::{Value, json};

use super::http::{Answer, Http};
use super::jws::{self, Signatory};
use super::pki::{Identity, KeyType};
use super::process::wait_for;

/// A client of one directory.
pub struct Acme<'a> {
    http: &'a Http,
    directory: Value,
}

impl<'a> Acme<'a> {
    pub fn new(http: &'a Http, directory_url: &str) -> Acme<'a> {
        let directory = http.get(directory_url).expect("ACME directory").json();
        Acme { http, directory }
    }

    /// Revokes by the certificate's own key (RFC 8555, 7.6); the error is the problem document.
    pub fn revoke(&self, of: &Identity, reason: Option<u8>) -> Result<(), String> {
        let mut payload = json!({"certificate": jws::encode(of.cert.to_der().expect("DER"))});
        if let Some(reason) = reason {
            payload["reason"] = json!(reason);
        }
        let answer = self.post(&self.url("revokeCert"), &Signatory::Jwk(&of.key), Some(&payload));
        if answer.status == 200 { Ok(()) } else { Err(answer.text()) }
    }

    /// A certificate for these names from a CA that validates nothing (PEBBLE_VA_ALWAYS_VALID), or
    /// whose challenges `prepare` makes ready: it gets each http-01 token with its key
    /// authorization.
    pub fn issue(
        &self,
        names: &[&str],
        key: KeyType,
        prepare: impl Fn(&str, &str),
    ) -> Result<Identity, String> {
        let account_key = KeyType::Ecdsa256.generate();
        let terms = json!({"termsOfServiceAgreed": true});
        let account =
            self.post(&self.url("newAccount"), &Signatory::Jwk(&account_key), Some(&terms));
        let kid = account.location.clone().ok_or(account.text())?;
        let who = Signatory::Account(&account_key, &kid);

        let ids: Vec<_> = names.iter().map(|n| json!({"type": "dns", "value": n})).collect();
        let wanted = json!({"identifiers": ids});
        let created = self.post(&self.url("newOrder"), &who, Some(&wanted));
        let order_url = created.location.clone().ok_or(created.text())?;
        for authorization in created.json()["authorizations"].as_array().into_iter().flatten() {
            let authorization = text(authorization);
            let offer = self.post(&authorization, &who, None).json();
            let challenges = offer["challenges"].as_array().cloned().unwrap_or_default();
            let http01 = challenges.iter().find(|c| c["type"] == "http-01");
            let http01 = http01.ok_or_else(|| offer.to_string())?;
            let token = text(&http01["token"]);
            prepare(&token, &format!("{token}.{}", jws::thumbprint(&account_key)));
            self.post(&text(&http01["url"]), &who, Some(&json!({})));
            self.await_status(&authorization, &who, "valid")?;
        }

        let key = key.generate();
        let csr = csr(names, &key).to_der().expect("DER");
        let csr = json!({"csr": jws::encode(csr)});
        let finalize = text(&created.json()["finalize"]);
        let answer = self.post(&finalize, &who, Some(&csr));
        if answer.status != 200 {
            return Err(answer.text());
        }
        let order = self.await_status(&order_url, &who, "valid")?;
        let chain = self.post(&text(&order["certificate"]), &who, None);
        let mut chain = X509::stack_from_pem(&chain.body).map_err(|e| e.to_string())?;
        Ok(Identity { cert: chain.remove(0), key, chain })
    }

    fn await_status(&self, url: &str, who: &Signatory, wanted: &str) -> Result<Value, String> {
        let object = wait_for(&format!("{url}: {wanted}"), Duration::from_secs(20), || {
            let object = self.post(url, who, None).json();
            let pending = object["status"] == "pending" || object["status"] == "processing";
            (!pending).then_some(object)
        });
        if object["status"] == wanted { Ok(object) } else { Err(object.to_string()) }
    }

    /// With a new nonce each time, and again if the CA does not like it.
    fn post(&self, url: &str, who: &Signatory, payload: Option<&Value>) -> Answer {
        loop {
            let nonce = self.http.get(&self.url("newNonce")).expect("nonce").nonce.expect("nonce");
            let body = jws::sign(who, url, &nonce, payload);
            let answer = self.http.post(url, "application/jose+json", &body).expect("ACME request");
            if answer.json()["type"] != "urn:ietf:params:acme:error:badNonce" {
                return answer;
            }
        }
    }

    fn url(&self, resource: &str) -> String {
        text(&self.directory[resource])
    }
}

/// A request without a subject: the names are in its extension.
pub(super) fn csr(names: &[&str], key: &PKey<Private>) -> X509Req {
    let mut b = X509Req::builder().expect("builder");
    let mut san = SubjectAlternativeName::new();
    for name in names {
        san.dns(name);
    }
    let mut extensions = Stack::new().expect("stack");
    extensions.push(san.build(&b.x509v3_context(None)).expect("SAN")).expect("stack");
    b.add_extensions(&extensions).expect("extensions");
    b.set_pubkey(key).expect("public key");
    b.sign(key, MessageDigest::sha256()).expect("signature");
    b.build()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().into()
}
