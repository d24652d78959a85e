//! OCSP on the wire (RFC 6960): reads requests and writes answers, right or wrong ones.

use openssl::hash::{MessageDigest, hash};
use openssl::nid::Nid;
use openssl::sign::{Signer, Verifier};
use openssl::x509::X509Ref;

use super::der::{self, Element, Reader};
use super::pki::{Identity, digest_for};

/// What is said about a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Good,
    /// The number of the CRLReason if there is one, and when (seconds since 1970).
    Revoked {
        reason: Option<u8>,
        at: i64,
    },
    Unknown,
}

#[derive(Clone, Debug)]
pub struct Request {
    pub ids: Vec<CertId>,
    /// The nonce extension's value, whole.
    pub nonce: Option<Vec<u8>>,
    /// The DER of the requestorName, a GeneralName.
    pub requestor: Option<Vec<u8>>,
    pub signature: Option<Signature>,
}

/// How a request is signed.
#[derive(Clone, Debug)]
pub struct Signature {
    /// What it is made over.
    pub tbs: Vec<u8>,
    pub bits: Vec<u8>,
    /// In DER.
    pub certificates: Vec<Vec<u8>>,
}

/// A certificate as a request names it; the algorithm stays encoded, for the echo.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertId {
    pub algorithm: Vec<u8>,
    pub name_hash: Vec<u8>,
    pub key_hash: Vec<u8>,
    /// Big-endian, without a leading 00.
    pub serial: Vec<u8>,
}

/// One SingleResponse; times are seconds since 1970.
#[derive(Clone, Debug)]
pub struct Single {
    pub id: CertId,
    pub status: Status,
    pub this_update: i64,
    pub next_update: Option<i64>,
    /// In DER.
    pub extensions: Vec<Vec<u8>>,
}

/// A whole BasicOCSPResponse to be.
pub struct Answer<'a> {
    pub singles: Vec<Single>,
    pub nonce: Option<Vec<u8>>,
    /// Further ones, in DER.
    pub extensions: Vec<Vec<u8>>,
    pub signer: &'a Identity,
    /// Puts the signer's certificate into the answer.
    pub with_cert: bool,
    pub break_signature: bool,
    pub produced_at: i64,
}

impl Request {
    pub fn parse(bytes: &[u8]) -> Option<Request> {
        let mut outer = Reader(bytes).next()?.children();
        let tbs = outer.next().filter(|e| e.tag == der::SEQUENCE)?;
        let mut request =
            Request { ids: Vec::new(), nonce: None, requestor: None, signature: None };
        if let Some(signature) = outer.next() {
            request.signature = Some(Signature::parse(tbs, signature)?);
        }
        for part in tbs.children() {
            match part.tag {
                der::SEQUENCE => {
                    for one in part.children() {
                        request.ids.push(CertId::parse(one.children().next()?.content)?);
                    }
                }
                0xa1 => request.requestor = Some(part.content.to_vec()),
                0xa2 => {
                    for extension in part.children().next()?.children() {
                        let parts: Vec<_> = extension.children().collect();
                        if parts.first()?.whole == der::oid(NONCE) {
                            request.nonce = Some(parts.last()?.content.to_vec());
                        }
                    }
                }
                _ => {}
            }
        }
        (!request.ids.is_empty()).then_some(request)
    }

    /// Whether the owner of this certificate signed it, says so, and sent the certificate along.
    pub fn is_signed_by(&self, wanted: &X509Ref) -> bool {
        let Some(signature) = &self.signature else { return false };
        let subject = wanted.subject_name().to_der().expect("DER");
        let key = wanted.public_key().expect("public key");
        let verifier = match key.id() {
            openssl::pkey::Id::ED25519 => Verifier::new_without_digest(&key),
            _ => Verifier::new(MessageDigest::sha256(), &key),
        };
        let good = verifier.expect("verifier").verify_oneshot(&signature.bits, &signature.tbs);
        good.unwrap_or(false)
            && self.requestor == Some(der::explicit(4, &subject))
            && signature.certificates.contains(&wanted.to_der().expect("DER"))
    }
}

impl Signature {
    fn parse(tbs: Element, signature: Element) -> Option<Signature> {
        let parts: Vec<_> = signature.children().next()?.children().collect();
        let certificates = parts.get(2).and_then(|sent| sent.children().next());
        Some(Signature {
            tbs: tbs.whole.to_vec(),
            bits: parts.get(1)?.content.get(1..)?.to_vec(),
            certificates: certificates
                .iter()
                .flat_map(Element::children)
                .map(|c| c.whole.to_vec())
                .collect(),
        })
    }
}

impl CertId {
    /// The name that a client with this hash would give the certificate.
    pub fn new(issuer: &X509Ref, serial: &[u8], digest: MessageDigest) -> CertId {
        let oid = if digest.type_() == Nid::SHA256 { SHA256 } else { SHA1 };
        let (name_hash, key_hash) = issuer_hashes(issuer, digest);
        let algorithm = der::sequence(&[der::oid(oid), der::element(der::NULL, &[])]);
        CertId { algorithm, name_hash, key_hash, serial: serial.to_vec() }
    }

    /// Whether both hashes are this issuer's.
    pub fn names(&self, issuer: &X509Ref) -> bool {
        let digest = self.digest();
        digest.is_some_and(|d| {
            (self.name_hash.clone(), self.key_hash.clone()) == issuer_hashes(issuer, d)
        })
    }

    pub fn digest(&self) -> Option<MessageDigest> {
        let oid = Reader(&self.algorithm).next()?.children().next()?.whole;
        match () {
            () if oid == der::oid(SHA1) => Some(MessageDigest::sha1()),
            () if oid == der::oid(SHA256) => Some(MessageDigest::sha256()),
            () => None,
        }
    }

    fn parse(content: &[u8]) -> Option<CertId> {
        let parts: Vec<_> = Reader(content).collect();
        let [algorithm, name, key, serial] = parts.as_slice() else { return None };
        let zeroes = serial.content.iter().take_while(|b| **b == 0).count();
        Some(CertId {
            algorithm: algorithm.whole.to_vec(),
            name_hash: name.content.to_vec(),
            key_hash: key.content.to_vec(),
            serial: serial.content[zeroes..].to_vec(),
        })
    }

    fn encode(&self) -> Vec<u8> {
        der::sequence(&[
            self.algorithm.clone(),
            der::octets(&self.name_hash),
            der::octets(&self.key_hash),
            der::integer(&self.serial),
        ])
    }
}

impl Answer<'_> {
    pub fn encode(&self) -> Vec<u8> {
        let singles: Vec<_> = self.singles.iter().map(Single::encode).collect();
        let key_hash = issuer_hashes(&self.signer.cert, MessageDigest::sha1()).1;
        let mut data = vec![
            der::explicit(2, &der::octets(&key_hash)),
            der::time(self.produced_at),
            der::sequence(&singles),
        ];
        let nonce = self.nonce.iter().map(|nonce| der::extension(NONCE, false, nonce));
        data.extend(extensions(nonce.chain(self.extensions.iter().cloned()).collect()));
        let data = der::sequence(&data);
        let mut signature = sign(self.signer, &data);
        if self.break_signature {
            *signature.last_mut().expect("a signature is not empty") ^= 1;
        }
        let mut basic = vec![data, algorithm(self.signer), der::bits(&signature)];
        if self.with_cert {
            let cert = self.signer.cert.to_der().expect("DER");
            basic.push(der::explicit(0, &der::sequence(&[cert])));
        }
        let bytes = [der::oid("1.3.6.1.5.5.7.48.1.1"), der::octets(&der::sequence(&basic))];
        der::sequence(&[
            der::element(der::ENUMERATED, &[0]),
            der::explicit(0, &der::sequence(&bytes)),
        ])
    }
}

impl Single {
    fn encode(&self) -> Vec<u8> {
        let status = match self.status {
            Status::Good => der::implicit(0, &[]),
            Status::Unknown => der::implicit(2, &[]),
            Status::Revoked { reason, at } => {
                let reason = reason.map(|r| der::explicit(0, &der::element(der::ENUMERATED, &[r])));
                der::element(0xa1, &der::concat(&[der::time(at), reason.unwrap_or_default()]))
            }
        };
        let next = self.next_update.map(|t| der::explicit(0, &der::time(t)));
        let this = der::time(self.this_update);
        let more = extensions(self.extensions.clone()).unwrap_or_default();
        der::sequence(&[self.id.encode(), status, this, next.unwrap_or_default(), more])
    }
}

/// `[1] EXPLICIT Extensions`, where there are any.
fn extensions(all: Vec<Vec<u8>>) -> Option<Vec<u8>> {
    (!all.is_empty()).then(|| der::explicit(1, &der::sequence(&all)))
}

/// An answer without content: the OCSPResponseStatus alone.
pub fn bare(status: u8) -> Vec<u8> {
    der::sequence(&[der::element(der::ENUMERATED, &[status])])
}

fn issuer_hashes(issuer: &X509Ref, digest: MessageDigest) -> (Vec<u8>, Vec<u8>) {
    let name = issuer.subject_name().to_der().expect("DER");
    let spki = issuer.public_key().and_then(|k| k.public_key_to_der()).expect("DER");
    // The BIT STRING's content without its count of unused bits.
    let info =
        Reader(&spki).next().and_then(|e| e.children().last()).expect("SubjectPublicKeyInfo");
    let digest = |bytes: &[u8]| hash(digest, bytes).expect("digest").to_vec();
    (digest(&name), digest(&info.content[1..]))
}

pub fn sign(signer: &Identity, data: &[u8]) -> Vec<u8> {
    let mut engine = match signer.key.id() {
        openssl::pkey::Id::ED25519 => Signer::new_without_digest(&signer.key),
        _ => Signer::new(digest_for(&signer.key), &signer.key),
    }
    .expect("signer");
    engine.sign_oneshot_to_vec(data).expect("signature")
}

/// The AlgorithmIdentifier of [`sign`].
pub fn algorithm(signer: &Identity) -> Vec<u8> {
    match signer.key.id() {
        openssl::pkey::Id::RSA => {
            der::sequence(&[der::oid("1.2.840.113549.1.1.11"), der::element(der::NULL, &[])])
        }
        openssl::pkey::Id::ED25519 => der::sequence(&[der::oid("1.3.101.112")]),
        _ => der::sequence(&[der::oid("1.2.840.10045.4.3.2")]),
    }
}

const NONCE: &str = "1.3.6.1.5.5.7.48.1.2";
const SHA1: &str = "1.3.14.3.2.26";
const SHA256: &str = "2.16.840.1.101.3.4.2.1";
