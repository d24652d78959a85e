//! The examples in `nginx-conf` say only what the module accepts. Whether nginx loads them is
//! tested with nginx.

use std::path::PathBuf;

use cert_autofetch::directives::{RawBlock, RawCa, RawMain, entry, warnings};
use cert_autofetch::settings::{CaSettings, EntrySettings};

/// Names of the entries that the examples make.
const EXAMPLES: &[(&str, &[&str])] = &[
    ("minimal.conf", &["shop.example"]),
    ("private-ca.conf", &["intra.corp.example"]),
    ("several-servers.conf", &["shop.corp.example", "pay.corp.example"]),
    ("wildcard.conf", &["corp.example", "shop.example"]),
];

#[test]
fn examples_are_accepted() {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/nginx-conf");
    let root = root();
    for (file, names) in EXAMPLES {
        let text = std::fs::read_to_string(format!("{dir}/{file}")).unwrap();
        let (entries, main) = load(&text, &root).unwrap_or_else(|e| panic!("{file}: {e}"));
        let made: Vec<&str> = entries.iter().map(|e| e.name.as_str()).collect();
        assert_eq!(made, *names, "{file}");
        assert!(warnings(&entries, main.cas()).is_empty(), "{file}");
    }
    let is_conf = |path: &PathBuf| path.extension().is_some_and(|e| e == "conf");
    let all = std::fs::read_dir(dir).unwrap().map(|file| file.unwrap().path());
    // Programs are tested where they are run.
    assert_eq!(all.filter(is_conf).count(), EXAMPLES.len(), "an example is not tested");
}

#[test]
fn mistakes_are_found() {
    let text = "http { server { ssl_cert_autofetch_check hrd; } }";
    assert!(load(text, b"").unwrap_err().starts_with("invalid value \"hrd\""));
}

/// Reads a configuration as the adapter does, as far as our directives go.
fn load(text: &str, pem: &[u8]) -> Result<(Vec<EntrySettings>, RawMain), String> {
    let (mut main, mut http) = (RawMain::default(), RawBlock::default());
    let mut servers = Vec::new();
    let blocks = blocks(text);
    for block in blocks.iter().filter(|b| b.words == ["http"]) {
        for d in &block.inner {
            let words: Vec<&str> = d.words.iter().map(String::as_str).collect();
            match words[..] {
                ["ssl_cert_autofetch_ca", name] => main.add_ca(ca(name, &d.inner, pem)?)?,
                ["server"] => servers.push(&d.inner),
                _ if !words[0].starts_with("ssl_cert_autofetch") => {}
                [name, ref args @ ..] if name.ends_with("_keystore") || name.ends_with("_held") => {
                    main.set(name, args)?
                }
                [name, ref args @ ..] => http.set(name, args)?,
                [] => {}
            }
        }
    }
    let mut entries = Vec::new();
    for server in servers {
        let mut block = RawBlock::default();
        let mut names: &[String] = &[];
        let mut is_tls = false;
        for d in server {
            let args: Vec<&str> = d.words[1..].iter().map(String::as_str).collect();
            match d.words[0].as_str() {
                "server_name" => names = &d.words[1..],
                "listen" => is_tls = args.contains(&"ssl"),
                "ssl_certificate" => block.set("ssl_cert_autofetch", &["off"])?,
                name if name.starts_with("ssl_cert_autofetch") => block.set(name, &args)?,
                _ => {}
            }
        }
        block.inherit(&http);
        if is_tls && block.is_on() {
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            entries.push(entry(&block, &names, main.cas())?);
        }
    }
    Ok((entries, main))
}

fn ca(name: &str, lines: &[Node], pem: &[u8]) -> Result<CaSettings, String> {
    let mut ca = RawCa::new(name)?;
    for line in lines {
        let args: Vec<&str> = line.words[1..].iter().map(String::as_str).collect();
        ca.set(&line.words[0], &args, &|_| Ok(pem.to_vec()))?;
    }
    ca.finish()
}

#[derive(Default)]
struct Node {
    words: Vec<String>,
    inner: Vec<Node>,
}

/// nginx's grammar without escapes: enough for the examples.
fn blocks(text: &str) -> Vec<Node> {
    let mut open = vec![Node::default()];
    let mut words: Vec<String> = Vec::new();
    for line in text.lines() {
        let line = line.split('#').next().unwrap_or_default();
        for (i, part) in line.split('"').enumerate() {
            if i % 2 == 1 {
                words.push(part.to_owned());
                continue;
            }
            let spaced = [";", "{", "}"]
                .iter()
                .fold(part.to_owned(), |part, mark| part.replace(mark, &format!(" {mark} ")));
            for word in spaced.split_whitespace() {
                match word {
                    ";" => open
                        .last_mut()
                        .unwrap()
                        .inner
                        .push(Node { words: std::mem::take(&mut words), inner: vec![] }),
                    "{" => {
                        open.push(Node { words: std::mem::take(&mut words), inner: vec![] });
                    }
                    "}" => {
                        let closed = open.pop().unwrap();
                        open.last_mut().unwrap().inner.push(closed);
                    }
                    word => words.push(word.to_owned()),
                }
            }
        }
    }
    open.remove(0).inner
}

/// PEM of some certificate.
fn root() -> Vec<u8> {
    use openssl::{asn1::Asn1Time, hash::MessageDigest, pkey::PKey, rsa::Rsa, x509::X509};
    let key = PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap();
    let mut builder = X509::builder().unwrap();
    builder.set_pubkey(&key).unwrap();
    builder.set_not_before(&Asn1Time::days_from_now(0).unwrap()).unwrap();
    builder.set_not_after(&Asn1Time::days_from_now(1).unwrap()).unwrap();
    builder.sign(&key, MessageDigest::sha256()).unwrap();
    builder.build().to_pem().unwrap()
}
