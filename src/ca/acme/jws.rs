//! Account keys, and the signatures that every ACME request carries: flattened JWS (RFC 7515) as
//! RFC 8555 section 6.2 narrows it.

use std::fmt;

use base64::prelude::{BASE64_URL_SAFE_NO_PAD as BASE64URL, Engine};
use openssl::bn::{BigNum, BigNumContext};
use openssl::ecdsa::EcdsaSig;
use openssl::error::ErrorStack;
use openssl::hash::{MessageDigest, hash};
use openssl::nid::Nid;
use openssl::pkey::{Id, PKey, Private};
use openssl::sign::Signer;
use serde_json::{Value, json};

use crate::bundle::private_key;
use crate::ca::csr::new_key;
use crate::settings::{KeyType, Secret};

/// An account's key. Prints nothing of itself but its kind.
#[derive(Clone)]
pub struct AccountKey {
    key: PKey<Private>,
    algorithm: Algorithm,
    /// The public key (RFC 7517), in the one form that RFC 7638 hashes.
    jwk: String,
    thumbprint: String,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Algorithm {
    Es256,
    Es384,
    Rs256,
}

/// Who signs: RFC 8555 allows exactly one of the two in each request.
#[derive(Clone, Copy, Debug)]
pub enum Signed<'a> {
    /// By the key itself: newAccount.
    ByKey,
    /// By the account of this URL: everything else.
    ByAccount(&'a str),
}

impl AccountKey {
    pub fn generate() -> Result<AccountKey, String> {
        AccountKey::new(new_key(KeyType::Ecdsa256).map_err(|e| e.to_string())?)
    }

    /// From an unencrypted PEM.
    pub fn from_pem(pem: &[u8]) -> Result<AccountKey, String> {
        AccountKey::new(private_key(pem).map_err(|e| e.to_string())?)
    }

    fn new(key: PKey<Private>) -> Result<AccountKey, String> {
        let algorithm = algorithm(&key)?;
        let jwk = jwk(&key, algorithm).map_err(|e| e.to_string())?;
        let digest = hash(MessageDigest::sha256(), jwk.as_bytes()).map_err(|e| e.to_string())?;
        Ok(AccountKey { key, algorithm, jwk, thumbprint: BASE64URL.encode(digest) })
    }

    /// PKCS#8.
    pub fn to_pem(&self) -> Result<Secret, ErrorStack> {
        self.key.private_key_to_pem_pkcs8().map(Secret::new)
    }

    /// RFC 7638, SHA-256.
    pub fn thumbprint(&self) -> &str {
        &self.thumbprint
    }

    /// The public key.
    pub fn jwk(&self) -> &str {
        &self.jwk
    }

    /// RFC 8555 section 8.1.
    pub fn key_authorization(&self, token: &str) -> String {
        format!("{token}.{}", self.thumbprint)
    }

    /// The body of a POST to `url`. An empty payload makes it a POST-as-GET (section 6.3).
    pub fn sign(
        &self,
        by: Signed<'_>,
        nonce: &str,
        url: &str,
        payload: &[u8],
    ) -> Result<Vec<u8>, ErrorStack> {
        let alg = self.algorithm.name();
        let header = match by {
            // Put together as text: `jwk` is JSON already, in an order that must not change.
            Signed::ByKey => {
                let rest = json!({"alg": alg, "nonce": nonce, "url": url}).to_string();
                format!("{{\"jwk\":{},{}", self.jwk, rest.trim_start_matches('{'))
            }
            Signed::ByAccount(account) => {
                json!({"alg": alg, "kid": account, "nonce": nonce, "url": url}).to_string()
            }
        };
        let jws = flattened(&header, payload, |text| self.signature(text))?;
        Ok(jws.to_string().into_bytes())
    }

    /// A JWS inside another one, of which it says where it goes (section 7.3.5): no nonce.
    pub fn sign_inner(&self, url: &str, payload: &[u8]) -> Result<Value, ErrorStack> {
        let rest = json!({"alg": self.algorithm.name(), "url": url}).to_string();
        let header = format!("{{\"jwk\":{},{}", self.jwk, rest.trim_start_matches('{'));
        flattened(&header, payload, |text| self.signature(text))
    }

    /// RFC 7518 section 3: RSA as it is, ECDSA as R and S of full length one after the other.
    fn signature(&self, text: &[u8]) -> Result<Vec<u8>, ErrorStack> {
        let (digest, length) = match self.algorithm {
            Algorithm::Rs256 => {
                return Signer::new(MessageDigest::sha256(), &self.key)?.sign_oneshot_to_vec(text);
            }
            Algorithm::Es256 => (MessageDigest::sha256(), 32),
            Algorithm::Es384 => (MessageDigest::sha384(), 48),
        };
        let signature = EcdsaSig::sign(&hash(digest, text)?, &*self.key.ec_key()?)?;
        let mut both = signature.r().to_vec_padded(length)?;
        both.extend(signature.s().to_vec_padded(length)?);
        Ok(both)
    }
}

impl fmt::Debug for AccountKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AccountKey({})", self.algorithm.name())
    }
}

impl Algorithm {
    fn name(self) -> &'static str {
        match self {
            Algorithm::Es256 => "ES256",
            Algorithm::Es384 => "ES384",
            Algorithm::Rs256 => "RS256",
        }
    }
}

/// RFC 7515 section 7.2.2.
pub fn flattened(
    header: &str,
    payload: &[u8],
    sign: impl FnOnce(&[u8]) -> Result<Vec<u8>, ErrorStack>,
) -> Result<Value, ErrorStack> {
    let (protected, payload) = (BASE64URL.encode(header), BASE64URL.encode(payload));
    let signature = BASE64URL.encode(sign(format!("{protected}.{payload}").as_bytes())?);
    Ok(json!({"protected": protected, "payload": payload, "signature": signature}))
}

fn algorithm(key: &PKey<Private>) -> Result<Algorithm, String> {
    const ACCEPTED: &str = "accepted are ECDSA P-256 and P-384, and RSA of 2048 bits or more";
    let curve = || key.ec_key().ok().and_then(|k| k.group().curve_name());
    match key.id() {
        Id::EC if curve() == Some(Nid::X9_62_PRIME256V1) => Ok(Algorithm::Es256),
        Id::EC if curve() == Some(Nid::SECP384R1) => Ok(Algorithm::Es384),
        Id::RSA if key.bits() >= 2048 => Ok(Algorithm::Rs256),
        _ => Err(format!("a key of this kind can't be used, {ACCEPTED}")),
    }
}

/// Members in lexicographic order and without white space, as RFC 7638 section 3 hashes them. All
/// values are base64url or fixed words: nothing needs an escape.
fn jwk(key: &PKey<Private>, algorithm: Algorithm) -> Result<String, ErrorStack> {
    let (curve, length) = match algorithm {
        Algorithm::Rs256 => {
            let rsa = key.rsa()?;
            let (e, n) = (BASE64URL.encode(rsa.e().to_vec()), BASE64URL.encode(rsa.n().to_vec()));
            return Ok(format!(r#"{{"e":"{e}","kty":"RSA","n":"{n}"}}"#));
        }
        Algorithm::Es256 => ("P-256", 32),
        Algorithm::Es384 => ("P-384", 48),
    };
    let ec = key.ec_key()?;
    let (mut x, mut y) = (BigNum::new()?, BigNum::new()?);
    let mut context = BigNumContext::new()?;
    ec.public_key().affine_coordinates(ec.group(), &mut x, &mut y, &mut context)?;
    let (x, y) =
        (BASE64URL.encode(x.to_vec_padded(length)?), BASE64URL.encode(y.to_vec_padded(length)?));
    Ok(format!(r#"{{"crv":"{curve}","kty":"EC","x":"{x}","y":"{y}"}}"#))
}

#[cfg(test)]
mod tests {
    use openssl::ec::{EcGroup, EcKey, EcPoint};
    use openssl::rsa::{Rsa, RsaPrivateKeyBuilder};
    use openssl::sign::Verifier;

    use super::*;

    fn number(text: &str) -> BigNum {
        BigNum::from_slice(&BASE64URL.decode(text).unwrap()).unwrap()
    }

    /// RFC 7515 appendix A.3.
    fn rfc7515_key() -> AccountKey {
        let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
        let mut point = EcPoint::new(&group).unwrap();
        let mut context = BigNumContext::new().unwrap();
        point
            .set_affine_coordinates_gfp(
                &group,
                &number("f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU"),
                &number("x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"),
                &mut context,
            )
            .unwrap();
        let d = number("jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI");
        let key = EcKey::from_private_components(&group, &d, &point).unwrap();
        AccountKey::new(PKey::from_ec_key(key).unwrap()).unwrap()
    }

    fn part(jws: &Value, name: &str) -> Vec<u8> {
        BASE64URL.decode(jws[name].as_str().unwrap()).unwrap()
    }

    fn verifies(key: &AccountKey, text: &[u8], signature: &[u8]) -> bool {
        let ec = |digest| {
            let (r, s) = signature.split_at(signature.len() / 2);
            let number = |n| BigNum::from_slice(n).unwrap();
            let signature = EcdsaSig::from_private_components(number(r), number(s)).unwrap();
            signature.verify(&hash(digest, text).unwrap(), &key.key.ec_key().unwrap()).unwrap()
        };
        match key.algorithm {
            Algorithm::Es256 => signature.len() == 64 && ec(MessageDigest::sha256()),
            Algorithm::Es384 => signature.len() == 96 && ec(MessageDigest::sha384()),
            Algorithm::Rs256 => Verifier::new(MessageDigest::sha256(), &key.key)
                .unwrap()
                .verify_oneshot(signature, text)
                .unwrap(),
        }
    }

    #[test]
    fn jwk_of_rfc7515() {
        assert_eq!(
            rfc7515_key().jwk,
            r#"{"crv":"P-256","kty":"EC","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}"#
        );
        let text = b"eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
        let signature = "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";
        assert!(verifies(&rfc7515_key(), text, &BASE64URL.decode(signature).unwrap()));
    }

    #[test]
    fn thumbprint_of_rfc7638() {
        let n = number(concat!(
            "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_",
            "BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_",
            "FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI",
            "4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw"
        ));
        // Only the public part is hashed: any private exponent will do.
        let key = RsaPrivateKeyBuilder::new(n, number("AQAB"), number("AQAB")).unwrap().build();
        let key = AccountKey::new(PKey::from_rsa(key).unwrap()).unwrap();
        assert_eq!(key.thumbprint(), "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs");
        assert_eq!(
            key.key_authorization("evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA"),
            "evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA.NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"
        );
    }

    #[test]
    fn requests_of_each_algorithm() {
        for (kind, alg) in [
            (KeyType::Ecdsa256, "ES256"),
            (KeyType::Ecdsa384, "ES384"),
            (KeyType::Rsa2048, "RS256"),
        ] {
            let key = AccountKey::new(new_key(kind).unwrap()).unwrap();
            let url = "https://ca.example/new-order";
            for (by, payload) in [
                (Signed::ByKey, br#"{"contact":[]}"#.as_slice()),
                (Signed::ByAccount("https://ca.example/acct/1"), b"".as_slice()),
            ] {
                let body = key.sign(by, "no-nce_1", url, payload).unwrap();
                let jws: Value = serde_json::from_slice(&body).unwrap();
                assert_eq!(jws.as_object().unwrap().len(), 3);
                assert_eq!(part(&jws, "payload"), payload);
                let header: Value = serde_json::from_slice(&part(&jws, "protected")).unwrap();
                let expected = match by {
                    Signed::ByKey => {
                        let jwk: Value = serde_json::from_str(&key.jwk).unwrap();
                        json!({"alg": alg, "jwk": jwk, "nonce": "no-nce_1", "url": url})
                    }
                    Signed::ByAccount(kid) => {
                        json!({"alg": alg, "kid": kid, "nonce": "no-nce_1", "url": url})
                    }
                };
                assert_eq!(header, expected);
                let text = format!(
                    "{}.{}",
                    jws["protected"].as_str().unwrap(),
                    jws["payload"].as_str().unwrap()
                );
                assert!(verifies(&key, text.as_bytes(), &part(&jws, "signature")), "{alg}");
            }
        }
    }

    #[test]
    fn pem_and_back() {
        let key = AccountKey::generate().unwrap();
        let again = AccountKey::from_pem(key.to_pem().unwrap().bytes()).unwrap();
        assert_eq!(again.thumbprint(), key.thumbprint());
        assert_eq!(format!("{key:?}"), "AccountKey(ES256)");
    }

    #[test]
    fn keys_that_are_refused() {
        let encrypted = PKey::from_rsa(Rsa::generate(2048).unwrap())
            .unwrap()
            .private_key_to_pem_pkcs8_passphrase(openssl::symm::Cipher::aes_128_cbc(), b"word")
            .unwrap();
        let weak = Rsa::generate(1024).unwrap().private_key_to_pem().unwrap();
        let strange = PKey::generate_ed25519().unwrap().private_key_to_pem_pkcs8().unwrap();
        for (name, pem) in [
            ("nothing", Vec::new()),
            ("encrypted", encrypted),
            ("1024 bits", weak),
            ("Ed25519", strange),
        ] {
            assert!(AccountKey::from_pem(&pem).is_err(), "{name}");
        }
    }
}
