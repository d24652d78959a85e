//! As much of JWS (RFC 7515) as ACME needs: flattened JSON, signed by a P-256, P-384 or RSA key.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use openssl::bn::{BigNum, BigNumContext};
use openssl::ecdsa::EcdsaSig;
use openssl::hash::{MessageDigest, hash};
use openssl::pkey::{Id, PKey, Private};
use openssl::sign::Signer;
use serde_json::{Value, json};

/// Who signs: a key that is shown, or one that the CA knows by an account URL.
pub enum Signatory<'a> {
    Jwk(&'a PKey<Private>),
    Account(&'a PKey<Private>, &'a str),
}

/// The body of a POST to `url`; without a payload it is a POST-as-GET (RFC 8555, 6.3).
pub fn sign(who: &Signatory, url: &str, nonce: &str, payload: Option<&Value>) -> Vec<u8> {
    let (Signatory::Jwk(key) | Signatory::Account(key, _)) = who;
    let mut header = json!({"alg": algorithm(key).0, "nonce": nonce, "url": url});
    match who {
        Signatory::Jwk(key) => header["jwk"] = jwk(key),
        Signatory::Account(_, account) => header["kid"] = json!(account),
    }
    let header = encode(header.to_string());
    let payload = payload.map(|p| encode(p.to_string())).unwrap_or_default();
    let signature = encode(signature(key, format!("{header}.{payload}").as_bytes()));
    json!({"protected": header, "payload": payload, "signature": signature}).to_string().into()
}

/// RFC 7638
pub fn thumbprint(key: &PKey<Private>) -> String {
    // serde_json's maps are sorted by name and written without spaces, as the RFC wants it.
    let digest = hash(MessageDigest::sha256(), jwk(key).to_string().as_bytes());
    encode(digest.expect("digest"))
}

pub fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn jwk(key: &PKey<Private>) -> Value {
    if let Ok(rsa) = key.rsa() {
        return json!({"kty": "RSA", "n": encode(rsa.n().to_vec()), "e": encode(rsa.e().to_vec())});
    }
    let ec = key.ec_key().expect("an EC or RSA key");
    let mut context = BigNumContext::new().expect("context");
    let (mut x, mut y) = (BigNum::new().expect("number"), BigNum::new().expect("number"));
    let point = ec.public_key();
    point.affine_coordinates(ec.group(), &mut x, &mut y, &mut context).expect("coordinates");
    let (_, size, curve) = algorithm(key);
    let field = |n: BigNum| encode(n.to_vec_padded(size).expect("coordinate"));
    json!({"kty": "EC", "crv": curve, "x": field(x), "y": field(y)})
}

/// `alg`, the octets of a coordinate, `crv`
fn algorithm(key: &PKey<Private>) -> (&'static str, i32, &'static str) {
    match (key.id(), key.bits()) {
        (Id::RSA, _) => ("RS256", 0, ""),
        (Id::EC, 256) => ("ES256", 32, "P-256"),
        (Id::EC, 384) => ("ES384", 48, "P-384"),
        other => panic!("no JWS algorithm for {other:?}"),
    }
}

fn signature(key: &PKey<Private>, data: &[u8]) -> Vec<u8> {
    let (name, size, _) = algorithm(key);
    let digest = if name == "ES384" { MessageDigest::sha384() } else { MessageDigest::sha256() };
    let mut signer = Signer::new(digest, key).expect("signer");
    let der = signer.sign_oneshot_to_vec(data).expect("signature");
    if key.id() == Id::RSA {
        return der;
    }
    let sig = EcdsaSig::from_der(&der).expect("ECDSA signature");
    let part = |n: &openssl::bn::BigNumRef| n.to_vec_padded(size).expect("half of a signature");
    [part(sig.r()), part(sig.s())].concat()
}
