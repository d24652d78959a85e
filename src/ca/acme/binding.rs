//! External account binding (RFC 8555 section 7.3.4): an account key, signed by a MAC key that the
//! CA has handed out to a customer.

use openssl::error::ErrorStack;
use serde_json::{Value, json};

use super::jws::{AccountKey, flattened};
use crate::ca::exchange::hmac;
use crate::settings::ExternalAccount;

/// The member `externalAccountBinding` of a newAccount request to `url`.
pub fn binding(
    external: &ExternalAccount,
    key: &AccountKey,
    url: &str,
) -> Result<Value, ErrorStack> {
    let header = json!({"alg": "HS256", "kid": external.kid, "url": url}).to_string();
    flattened(&header, key.jwk().as_bytes(), |text| hmac(&external.key, text))
}

#[cfg(test)]
mod tests {
    use base64::prelude::{BASE64_URL_SAFE_NO_PAD as BASE64URL, Engine};

    use openssl::hash::MessageDigest;
    use openssl::pkey::PKey;
    use openssl::sign::Signer;

    use super::*;
    use crate::settings::Secret;

    /// RFC 7515 appendix A.1: key and algorithm; header and payload are ours to choose.
    #[test]
    fn signed_as_in_rfc7515() {
        let mac = BASE64URL
            .decode("AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow")
            .unwrap();
        let text = concat!(
            "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzOD",
            "AsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ"
        );
        let (header, payload) = text.split_once('.').unwrap();
        let part = |text: &str| BASE64URL.decode(text).unwrap();
        let mac = PKey::hmac(&mac).unwrap();
        let jws =
            flattened(std::str::from_utf8(&part(header)).unwrap(), &part(payload), |signed| {
                assert_eq!(signed, text.as_bytes());
                Signer::new(MessageDigest::sha256(), &mac)?.sign_oneshot_to_vec(signed)
            });
        assert_eq!(jws.unwrap()["signature"], "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk");
    }

    #[test]
    fn names_key_and_place() {
        let key = AccountKey::generate().unwrap();
        let external =
            ExternalAccount { kid: "kid-1".into(), key: Secret::new(b"sixteen letters.".into()) };
        let url = "https://ca.example/new-acct";
        let jws = binding(&external, &key, url).unwrap();
        let part = |name: &str| {
            let text = BASE64URL.decode(jws[name].as_str().unwrap()).unwrap();
            serde_json::from_slice::<Value>(&text).unwrap()
        };
        // No nonce: the request around it has one.
        assert_eq!(part("protected"), json!({"alg": "HS256", "kid": "kid-1", "url": url}));
        assert_eq!(part("payload"), serde_json::from_str::<Value>(key.jwk()).unwrap());
        let mac = PKey::hmac(b"sixteen letters.").unwrap();
        let text = ["protected", "payload"].map(|n| jws[n].as_str().unwrap()).join(".");
        let signature = Signer::new(MessageDigest::sha256(), &mac)
            .unwrap()
            .sign_oneshot_to_vec(text.as_bytes());
        assert_eq!(jws["signature"], BASE64URL.encode(signature.unwrap()));
    }
}
