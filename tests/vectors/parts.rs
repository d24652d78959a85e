//! The parts of a CRL, to put it together again with another signature.

use openssl::hash::MessageDigest;
use openssl::sign::Signer;
use openssl::x509::X509Name;
use x509_parser::asn1_rs::{Any, FromDer, Oid, Tag, oid};

use crate::stand_in;

pub struct Parts {
    /// Of tbsCertList, as it stands.
    pub issuer: X509Name,
    tbs: Vec<u8>,
    algorithm: Vec<u8>,
}

impl Parts {
    pub fn read(crl: &[u8]) -> Parts {
        let [tbs, algorithm, _signature] = elements(contents(crl))[..] else {
            panic!("a CRL has three parts");
        };
        let fields = elements(contents(tbs));
        let has_version = Any::from_der(fields[0]).expect("DER").1.tag() == Tag::Integer;
        let issuer = fields[usize::from(has_version) + 1];
        let issuer = X509Name::from_der(issuer).expect("name of the issuer");
        Parts { issuer, tbs: tbs.to_vec(), algorithm: algorithm.to_vec() }
    }

    /// The same CRL, with the signature of the stand-in.
    pub fn signed_again(&self) -> Vec<u8> {
        let mut signer = Signer::new(self.digest(), &stand_in::KEY).expect("signer");
        let mut signature = vec![0]; // bits that are not used
        signature.extend(signer.sign_oneshot_to_vec(&self.tbs).expect("signature"));
        tlv(0x30, &[self.tbs.clone(), self.algorithm.clone(), tlv(0x03, &signature)].concat())
    }

    fn digest(&self) -> MessageDigest {
        const SHA1: Oid<'static> = oid!(1.2.840.113549.1.1.5);
        const SHA256: Oid<'static> = oid!(1.2.840.113549.1.1.11);
        let (_, algorithm) = Oid::from_der(contents(&self.algorithm)).expect("OID");
        match algorithm {
            oid if oid == SHA1 => MessageDigest::sha1(),
            oid if oid == SHA256 => MessageDigest::sha256(),
            other => panic!("nobody signs with {other}"),
        }
    }
}

/// The contents of the first element.
fn contents(der: &[u8]) -> &[u8] {
    Any::from_der(der).expect("DER").1.data
}

/// One element after the other, each whole.
fn elements(mut der: &[u8]) -> Vec<&[u8]> {
    let mut found = Vec::new();
    while !der.is_empty() {
        let (rest, _) = Any::from_der(der).expect("DER");
        found.push(&der[..der.len() - rest.len()]);
        der = rest;
    }
    found
}

fn tlv(tag: u8, contents: &[u8]) -> Vec<u8> {
    let length = contents.len();
    let mut out = match length {
        0..0x80 => vec![tag, length as u8],
        0x80..0x100 => vec![tag, 0x81, length as u8],
        0x100..0x1_0000 => vec![tag, 0x82, (length >> 8) as u8, length as u8],
        _ => vec![tag, 0x83, (length >> 16) as u8, (length >> 8) as u8, length as u8],
    };
    out.extend(contents);
    out
}
