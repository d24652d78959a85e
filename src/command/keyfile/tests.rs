//! The formats by themselves: a JKS keystore made by hand, and what is damaged.

use openssl::sha::sha1;

use super::*;
use crate::fixture::der::{octets, oid, seq, tlv};
use crate::fixture::{self, Identity, Spec};

/// As keytool writes it: one key with its chain, and one certificate that is trusted.
fn jks(id: &Identity, ca: &Identity, store: &str, key: &str) -> Vec<u8> {
    let long = |bytes: &[u8]| [&(bytes.len() as u32).to_be_bytes()[..], bytes].concat();
    let text = |text: &str| [&(text.len() as u16).to_be_bytes()[..], text.as_bytes()].concat();
    let certificate = |id: &Identity| [text("X.509"), long(&id.der())].concat();
    let mut bytes = vec![0xfe, 0xed, 0xfe, 0xed, 0, 0, 0, 2, 0, 0, 0, 2];
    bytes.extend([&[0, 0, 0, 1][..], &text("web"), &[0; 8], &long(&protected(id, key))].concat());
    bytes.extend([&[0, 0, 0, 2][..], &certificate(id), &certificate(ca)].concat());
    bytes.extend([&[0, 0, 0, 2][..], &text("root"), &[0; 8], &certificate(ca)].concat());
    sealed(&bytes, store)
}

fn sealed(body: &[u8], store: &str) -> Vec<u8> {
    let digest = sha1(&[&utf16(store), &b"Mighty Aphrodite"[..], body].concat());
    [body, &digest].concat()
}

fn protected(id: &Identity, password: &str) -> Vec<u8> {
    let (plain, password) = (id.key.private_key_to_pkcs8().unwrap(), utf16(password));
    let salt = [7; 20];
    let mut pad = salt;
    let mut out = salt.to_vec();
    for piece in plain.chunks(20) {
        pad = sha1(&[&password[..], &pad].concat());
        out.extend(piece.iter().zip(pad).map(|(a, b)| a ^ b));
    }
    out.extend(sha1(&[&password[..], &plain].concat()));
    let algorithm = seq(&[&oid("1.3.6.1.4.1.42.2.17.1.1"), &tlv(5, &[])]);
    seq(&[&algorithm, &octets(&out)])
}

fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_be_bytes).collect()
}

fn pair() -> (Identity, Identity) {
    let ca = fixture::root("CA");
    (ca.issue(Spec::default()), ca)
}

#[test]
fn jks_is_read() {
    let (id, ca) = pair();
    for (store, key, lines) in [
        ("changeit", "changeit", "changeit"),
        ("störe", "kéy", "störe\nkéy"),
        ("s", "s", "s\nother"),
    ] {
        let contents = read(&jks(&id, &ca, store, key), &Passwords::of(lines)).unwrap();
        let [found] = &contents.keys[..] else { panic!("one key") };
        assert_eq!(found.alias.as_deref(), Some("web"));
        assert!(found.key.as_ref().unwrap().public_eq(&id.key), "{store}");
        assert!(contents.certificates == [id.cert.clone(), ca.cert.clone(), ca.cert.clone()]);
    }
}

#[test]
fn jks_is_not_believed_before_its_digest() {
    let (id, ca) = pair();
    let good = jks(&id, &ca, "changeit", "other");
    let error = |bytes: &[u8], passwords: &Passwords| read(bytes, passwords).err().unwrap();
    assert_eq!(error(&good, &Passwords::of("wrong")), KeyFileError::Password);
    assert_eq!(error(&good, &Passwords::default()), KeyFileError::Encrypted);
    let contents = read(&good, &Passwords::of("changeit")).unwrap();
    assert_eq!(contents.keys[0].key.as_ref().err(), Some(&KeyFileError::KeyPassword));
    // With any byte changed, and with any end missing, sealed again or not.
    let (body, _) = good.split_at(good.len() - 20);
    for i in 4..body.len() {
        let mut bytes = good.clone();
        bytes[i] ^= 1;
        assert_eq!(error(&bytes, &Passwords::of("changeit")), KeyFileError::Password);
        assert!(read(&good[..i], &Passwords::of("changeit")).is_err());
        let cut = sealed(&body[..i.max(12)], "changeit");
        assert!(matches!(error(&cut, &Passwords::of("changeit")), KeyFileError::Malformed(_)));
        let _ = read(&sealed(&bytes[..body.len()], "changeit"), &Passwords::of("changeit"));
    }
    // A length or a count that reaches beyond the end costs nothing.
    for bytes in [&[0xff; 4][..], &[0, 0, 0, 1, 0xff, 0xff], &[0, 0, 0, 1, 0, 0, 0, 1]] {
        let body = [&[0xfe, 0xed, 0xfe, 0xed, 0, 0, 0, 2][..], bytes, &[0xff; 24]].concat();
        assert!(read(&sealed(&body, "x"), &Passwords::of("x")).is_err());
    }
}

#[test]
fn pem_blocks_are_told_apart() {
    let (id, ca) = pair();
    let key = id.key.private_key_to_pem_pkcs8().unwrap();
    let old = id.key.ec_key().unwrap().private_key_to_pem().unwrap();
    let public = id.key.public_key_to_pem().unwrap();
    let parameters =
        b"-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n";
    let crlf: Vec<u8> = ca
        .pem()
        .iter()
        .flat_map(|b| if *b == b'\n' { vec![b'\r', *b] } else { vec![*b] })
        .collect();
    let all = [b"Bag Attributes\n", &key[..], parameters, &old, &public, &id.pem(), &crlf].concat();
    let contents = read(&all, &Passwords::default()).unwrap();
    assert!(contents.certificates == [id.cert.clone(), ca.cert]);
    assert_eq!(contents.keys.len(), 2);
    for found in &contents.keys {
        assert!(found.key.as_ref().unwrap().public_eq(&id.key));
    }
    let broken = String::from_utf8(id.pem()).unwrap().replacen("MII", "AAA", 1);
    assert!(matches!(
        read(broken.as_bytes(), &Passwords::default()),
        Err(KeyFileError::Malformed(text)) if text.starts_with("a PEM certificate can't be read")
    ));
}

#[test]
fn der_is_told_apart() {
    let (id, _) = pair();
    let none = Passwords::default();
    assert!(read(&id.der(), &none).unwrap().certificates == [id.cert.clone()]);
    let key = id.key.private_key_to_pkcs8().unwrap();
    assert!(read(&key, &none).unwrap().keys[0].key.as_ref().unwrap().public_eq(&id.key));
    for (bytes, error) in [
        (&[][..], KeyFileError::Kind),
        (b"junk", KeyFileError::Kind),
        (&[0xce; 8], KeyFileError::Jceks),
        (&[0, 0, 0, 2, 0, 0, 0, 20], KeyFileError::BouncyCastle),
    ] {
        assert_eq!(read(bytes, &none).err(), Some(error));
    }
    assert!(matches!(read(&[0x30, 0x80, 0], &none), Err(KeyFileError::Malformed(_))));
}
