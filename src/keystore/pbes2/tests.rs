use std::process::{Command, Stdio};

use openssl::ec::{EcGroup, EcKey};
use openssl::nid::Nid;
use openssl::rsa::Rsa;

use super::*;

fn ec() -> PKey<Private> {
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
    PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap()
}

fn word(text: &str) -> Secret {
    Secret::new(text.into())
}

fn seal(key: &PKey<Private>, password: &str) -> Secret {
    let by = Stretching::new().unwrap();
    assert!(by.is_usual());
    super::seal(key, &by, &by.derive(&word(password)).unwrap()).unwrap()
}

fn open(sealed: &Sealed, password: &str) -> Tried {
    sealed.open(&sealed.stretching.derive(&word(password)).unwrap()).unwrap()
}

fn opened(pem: &[u8], password: &str) -> &'static str {
    match open(&read(pem).unwrap().unwrap(), password) {
        Tried::Opened(_) => "opened",
        Tried::WrongPassword => "wrong",
        Tried::Damaged => "damaged",
    }
}

#[test]
fn there_and_back() {
    for key in [ec(), PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap()] {
        let pem = seal(&key, "right");
        let sealed = read(pem.bytes()).unwrap().unwrap();
        assert!(sealed.stretching.is_usual());
        let Tried::Opened(again) = open(&sealed, "right") else { panic!("not opened") };
        assert!(again.public_eq(&key));
        assert_eq!(opened(pem.bytes(), "wrong"), "wrong");
        // OpenSSL reads it too.
        let by_openssl = PKey::private_key_from_pem_passphrase(pem.bytes(), b"right").unwrap();
        assert!(by_openssl.public_eq(&key));
        assert!(String::from_utf8(pem.bytes().to_vec()).unwrap().lines().all(|l| l.len() <= 64));
    }
}

/// What the openssl command makes of a key, by the options of `openssl pkcs8 -topk8`.
fn by_command(key: &PKey<Private>, options: &[&str]) -> Vec<u8> {
    let mut command = Command::new("openssl");
    command.args(["pkcs8", "-topk8", "-passout", "pass:right"]).args(options);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let plain = key.private_key_to_pem_pkcs8().unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), &plain).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    output.stdout
}

#[test]
fn of_the_openssl_command() {
    let key = ec();
    for (options, expected) in [
        (&["-v2", "aes-256-cbc"] as &[&str], Ok(())),
        (&["-v2", "aes-192-cbc", "-v2prf", "hmacWithSHA1"], Ok(())),
        (&["-v2", "aes-128-cbc", "-v2prf", "hmacWithSHA512", "-iter", "77777"], Ok(())),
        (&["-iter", "1000001"], Err("its iteration count is not between 1 and 1000000")),
        (&["-v2", "des3"], Err("its cipher is not AES in CBC mode")),
        (&["-v2prf", "hmacWithMD5"], Err("its PBKDF2 does not use HMAC with SHA-1 or SHA-2")),
        (&["-scrypt"], Err("its key derivation is not PBKDF2")),
        (&["-v1", "PBE-SHA1-3DES"], Err("its encryption is not PBES2")),
    ] {
        let pem = by_command(&key, options);
        let sealed = read(&pem).unwrap();
        assert_eq!(sealed.as_ref().map(|_| ()).map_err(|e| *e), expected, "{options:?}");
        if expected.is_ok() {
            assert_eq!(opened(&pem, "right"), "opened", "{options:?}");
            assert_eq!(opened(&pem, "wrong"), "wrong", "{options:?}");
        }
    }
}

/// RFC 5958: version 1, which may have the public key too.
#[test]
fn of_either_version() {
    let key = ec();
    let plain = key.private_key_to_pkcs8().unwrap();
    let mut second = plain.clone();
    let version = plain.windows(3).position(|w| w == [INTEGER, 1, 0]).unwrap() + 2;
    second[version] = 1;
    let public = key.ec_key().unwrap().public_key_to_der().unwrap();
    let bits = &public[public.len() - 65..];
    let public = element(0x81, &[&[0], bits].concat());
    let with_public = sequence(&[&second[version - 2..], &public]);
    for (plain, expected) in [(plain, "opened"), (second, "opened"), (with_public, "opened")] {
        let by = Stretching::new().unwrap();
        let (derived, iv) = (by.derive(&word("right")).unwrap(), [7; BLOCK]);
        let data = encrypt(Cipher::aes_256_cbc(), derived.bytes(), Some(&iv), &plain).unwrap();
        let sealed = Sealed { stretching: by, cipher: Cipher::aes_256_cbc(), iv: iv.into(), data };
        let tried = |password| match open(&sealed, password) {
            Tried::Opened(opened) if opened.public_eq(&key) => "opened",
            Tried::Opened(_) => "another",
            Tried::WrongPassword => "wrong",
            Tried::Damaged => "damaged",
        };
        assert_eq!((tried("right"), tried("wrong")), (expected, "wrong"));
    }
}

#[test]
fn iterations_are_bounded_unread() {
    for (count, fine) in [
        (&[1u8][..], true),
        (&[0x0f, 0x42, 0x40], true),
        (&[0x0f, 0x42, 0x41], false),
        (&[0], false),
        (&[0xff], false),
        (&[0x7f, 0xff, 0xff, 0xff], false),
        (&[0, 0xff, 0xff, 0xff, 0xff], false),
        (&[1, 0, 0, 0, 0, 0, 0, 1], false),
        (&[], false),
    ] {
        let kdf = sequence(&[&element(OCTET_STRING, &[7; 8]), &element(INTEGER, count)]);
        let scheme = sequence(&[&element(OID, AES_256_CBC), &element(OCTET_STRING, &[0; BLOCK])]);
        let parameters = sequence(&[&sequence(&[&element(OID, PBKDF2), &kdf]), &scheme]);
        let algorithm = sequence(&[&element(OID, PBES2), &parameters]);
        let der = sequence(&[&algorithm, &element(OCTET_STRING, &[0; BLOCK])]);
        assert_eq!(parse(&der).is_ok(), fine, "{count:?}");
    }
}

/// Wherever one bit is wrong: never a key, never a panic; behind the first block of the key it is
/// damage, which no other password mends.
#[test]
fn damage() {
    let key = ec();
    let pem = seal(&key, "right");
    let text = std::str::from_utf8(pem.bytes()).unwrap();
    let base64: String = text.lines().filter(|l| !l.starts_with('-')).collect();
    let der = STANDARD.decode(base64).unwrap();
    let whole = parse(&der).unwrap();
    let (data, derived) = (whole.data.len(), whole.stretching.derive(&word("right")).unwrap());
    let (mut damaged, mut wrong) = (0, 0);
    for at in 0..der.len() {
        let mut der = der.clone();
        der[at] ^= 0x10;
        let Ok(sealed) = parse(&der) else { continue };
        if sealed.stretching != whole.stretching {
            continue; // as with another password
        }
        match sealed.open(&derived).unwrap() {
            Tried::Damaged => damaged += 1,
            Tried::WrongPassword => wrong += 1,
            // What is not looked at, or another key, which the certificate tells apart.
            Tried::Opened(other) => assert!(other.public_eq(&key) || at >= der.len() - data),
        }
        let is_behind = at >= der.len() - data + BLOCK && at < der.len() - BLOCK;
        assert!(!is_behind || !matches!(sealed.open(&derived), Ok(Tried::WrongPassword)));
    }
    assert!(damaged > 0 && wrong > 0, "{damaged} {wrong}");
    for end in 0..der.len() {
        assert!(parse(&der[..end]).is_err());
    }
    for (text, cause) in [
        (format!("{BEGIN}\nMA=="), "its last line is missing"),
        (format!("{BEGIN}\n!\n{END}"), "it is not base64"),
        (format!("{BEGIN}\nMA==\n{END}"), "it is malformed"),
    ] {
        assert_eq!(read(text.as_bytes()).unwrap().err(), Some(cause), "{text}");
    }
    assert!(read(b"-----BEGIN PRIVATE KEY-----").is_none());
}

#[test]
fn lengths_and_integers() {
    for (n, der) in [
        (0, &[2, 1, 0][..]),
        (127, &[2, 1, 127]),
        (128, &[2, 2, 0, 128]),
        (10_000, &[2, 2, 0x27, 0x10]),
        (u32::MAX, &[2, 5, 0, 255, 255, 255, 255]),
    ] {
        assert_eq!(integer(n), der, "{n}");
        assert_eq!(unsigned(&der[2..]), Some(n), "{n}");
    }
    for (size, header) in [(127, &[4, 127][..]), (128, &[4, 0x81, 128]), (300, &[4, 0x82, 1, 44])] {
        assert!(element(OCTET_STRING, &vec![0; size]).starts_with(header), "{size}");
    }
}
