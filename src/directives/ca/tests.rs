mod est;
mod url;

use super::*;
use crate::fixture::{Identity, root};
use crate::settings::{AcmeSettings, CommandSettings, Protocol, VaultSettings};

fn no_file(_: &str) -> Result<Vec<u8>, String> {
    Err("no such file".into())
}

type Line<'a> = (&'a str, &'a [&'a str]);

fn set(lines: &[Line]) -> Result<RawCa, String> {
    let mut ca = RawCa::new("corp").unwrap();
    for (name, args) in lines {
        ca.set(name, args, &no_file)?;
    }
    Ok(ca)
}

#[test]
fn names() {
    let long = "a".repeat(64);
    for good in ["corp", "Corp-2_x.y", "1", long.as_str()] {
        assert!(RawCa::new(good).is_ok(), "{good}");
    }
    let too_long = "a".repeat(65);
    for bad in ["", ".", "..", ".a", "-a", "_a", "a/b", "a b", "\u{e4}", "off", "OFF", &too_long] {
        let error = RawCa::new(bad).unwrap_err();
        assert_eq!(
            error,
            format!(
                "invalid value \"{bad}\" in \"ssl_cert_autofetch_ca\", it must be 1 to 64 \
                 letters, digits, \"-\", \"_\" or \".\", a letter or digit first, and not \
                 \"off\""
            )
        );
    }
}

#[test]
fn values() {
    const URL: &str = "it must be an https URL with a host, without user name and password; \
                       http is accepted only for loopback hosts";
    const RESPONDER: &str =
        "it must be an http or https URL with a host, without user name and password";
    const CONTACT: &str = "it must be an e-mail address such as \"admin@corp.example\", with \
                           or without \"mailto:\"";
    const CHALLENGE: &str = "it must be \"http-01\", \"tls-alpn-01\" or \"dns-01\"";
    const CHAIN: &str = "it must be the common name of an issuer, such as \"Corp Root X1\"";
    const HOOK: &str = "it must be \"challenge dns-01 HOOK\" with the absolute path of a program";
    const SWITCH: &str = "it must be \"on\" or \"off\"";
    const TIMEOUT: &str = "it must be a time such as \"30s\", above 0";
    const NONCE: &str = "it must be \"on\", \"off\" or \"required\"";
    const USERNAME: &str = "it must be 1 to 256 bytes without \":\" and control characters";
    const BUDGET: &str = "it must be a number from 1 to 1000 and a time above 0, such as \"5/7d\"";
    // Directive, value, None: accepted, else how the refusal goes on.
    let long = &"x".repeat(65);
    let segment = "it must be 1 to 128 letters, digits, \"-\", \"_\" or \".\", no \".\" first";
    let segments =
        "it must be names of letters, digits, \"-\", \"_\" or \".\" with \"/\" between them";
    let table: &[(&str, &str, Option<&str>)] = &[
        ("protocol", "acme", None),
        ("protocol", "vault", None),
        ("protocol", "cfssl", None),
        ("protocol", "est", None),
        (
            "protocol",
            "cmp",
            Some("it must be \"acme\", \"vault\", \"cfssl\", \"est\" or \"command\""),
        ),
        ("protocol", "command", None),
        ("command", "/usr/bin/issue", None),
        ("command", "issue", Some("it must be the absolute path of a program, and its arguments")),
        ("command", "", Some("it must be the absolute path of a program, and its arguments")),
        ("role", "web-server_1.x", None),
        ("role", "", Some(segment)),
        ("role", "a/b", Some(segment)),
        ("role", "..", Some(segment)),
        ("token_file", "token", None),
        ("token_file", "", Some("it must be a file")),
        ("namespace", "team/web/", None),
        ("namespace", "team//web", Some(segments)),
        ("namespace", "a b", Some(segments)),
        ("username", "nginx@web-1", None),
        ("username", "", Some(USERNAME)),
        ("username", "a:b", Some(USERNAME)),
        ("password_file", "", Some("it must be a file")),
        ("server_keygen", "on", None),
        ("server_keygen", "off", None),
        ("server_keygen", "yes", Some("it must be \"on\" or \"off\"")),
        ("url", "https://ca.example/dir", None),
        ("url", "http://127.0.0.1:14000/dir", None),
        ("url", "http://ca.example/dir", Some(URL)),
        ("url", "ca.example", Some(URL)),
        ("ocsp_responder", "http://ocsp.example", None),
        ("ocsp_responder", "https://ocsp.example/x", None),
        ("ocsp_responder", "ldap://ocsp.example", Some(RESPONDER)),
        ("contact", "admin@corp.example", None),
        ("contact", "mailto:admin+tls@corp.example", None),
        ("contact", "admin", Some(CONTACT)),
        ("contact", "@corp.example", Some(CONTACT)),
        ("contact", "a@b@corp.example", Some(CONTACT)),
        ("contact", "a@corp.example,b@corp.example", Some(CONTACT)),
        ("contact", "a@corp.example?subject=x", Some(CONTACT)),
        ("contact", "a b@corp.example", Some(CONTACT)),
        ("contact", "tel:+123", Some(CONTACT)),
        ("contact", "", Some(CONTACT)),
        ("challenge", "http-01", None),
        ("challenge", "tls-alpn-01", None),
        ("challenge", "dns-01", Some(HOOK)),
        ("preferred_chain", "Wurzel Ä 1", None),
        ("preferred_chain", "", Some(CHAIN)),
        ("preferred_chain", long, Some(CHAIN)),
        ("challenge", "dns-02", Some(CHALLENGE)),
        ("wildcards", "on", None),
        ("wildcards", "off", None),
        ("wildcards", "yes", Some(SWITCH)),
        ("timeout", "5s", None),
        ("timeout", "1", None),
        ("timeout", "0", Some(TIMEOUT)),
        ("timeout", "soon", Some(TIMEOUT)),
        ("budget", "1/1s", None),
        ("budget", "1000/1w 1d", None),
        ("budget", "0/7d", Some(BUDGET)),
        ("budget", "1001/7d", Some(BUDGET)),
        ("budget", "5/0", Some(BUDGET)),
        ("budget", "5", Some(BUDGET)),
        ("budget", "5/", Some(BUDGET)),
        ("budget", "/7d", Some(BUDGET)),
        ("budget", "-5/7d", Some(BUDGET)),
        ("budget", "5/7d/1", Some(BUDGET)),
        ("ocsp_certificate", "", Some("it must be a file")),
        ("ocsp_nonce", "on", None),
        ("ocsp_nonce", "off", None),
        ("ocsp_nonce", "Required", None),
        ("ocsp_nonce", "yes", Some(NONCE)),
        ("ocsp_nonce", "", Some(NONCE)),
        ("crl", "http://crl.example/x.crl", None),
        ("crl", "https://crl.example/x.crl", None),
        ("crl", "ldap://crl.example/x.crl", Some(RESPONDER)),
        ("crl", "/etc/x.crl", Some(RESPONDER)),
        ("trusted_certificate", "", Some("it must be a file")),
        ("subject", "O=Corp, OU=Web, C=DE", None),
        (
            "subject",
            "O=Corp, X=1",
            Some(
                "it must be attributes such as \"O=Corp, OU=Web, C=DE\": \"X\" is none of CN, C, ST, \
                 L, O, OU, STREET, DC, UID, serialNumber, emailAddress",
            ),
        ),
        (
            "subject",
            "",
            Some(
                "it must be attributes such as \"O=Corp, OU=Web, C=DE\": \"\" is not like \"O=Corp\"",
            ),
        ),
        ("client_certificate", "", Some("it must be a file")),
        ("client_certificate_key", "", Some("it must be a file")),
        ("proxy", "http://proxy.example:3128", None),
        ("proxy", "http://me:h%40sh@127.0.0.1:3128/", None),
        ("account_key", "", Some("it must be a file")),
        ("issuer_certificate", "", Some("it must be a file")),
    ];
    for (name, value, refusal) in table {
        let expected = refusal.map(|r| format!("invalid value \"{value}\" in \"{name}\", {r}"));
        assert_eq!(set(&[(name, &[value])]).err(), expected, "{name} {value}");
    }
}

#[test]
fn an_unknown_one() {
    let known = list(CA_DIRECTIVES.iter().map(|d| d.name));
    let error = set(&[("resolver", &["127.0.0.1"])]).unwrap_err();
    let expected = "unknown directive \"resolver\" in ssl_cert_autofetch_ca \"corp\", known are: ";
    assert_eq!(error, format!("{expected}{known}"));
}

#[test]
fn shape() {
    let url: Line = ("url", &["https://ca.example/"]);
    let terms: Line = ("accept_terms_of_service", &[]);
    let contact: Line = ("contact", &["a@b.example"]);
    let table: &[(&[Line], &str)] = &[
        (&[url, url], "\"url\" directive is duplicate"),
        (&[terms, terms], "\"accept_terms_of_service\" directive is duplicate"),
        (
            &[contact, contact],
            "invalid value \"a@b.example\" in \"contact\", it must be named once",
        ),
        (
            &[("accept_terms_of_service", &["on"])],
            "invalid number of arguments in \"accept_terms_of_service\" directive, it must be \
             \"accept_terms_of_service\"",
        ),
        (
            &[("challenge", &["dns-01", "/hook", "x"])],
            "invalid number of arguments in \"challenge\" directive, it must be \"challenge \
             http-01 | tls-alpn-01 | dns-01 HOOK\"",
        ),
        (
            &[("challenge", &["dns-01", "bin/hook"])],
            "invalid value \"bin/hook\" in \"challenge\", it must be \"challenge dns-01 HOOK\" \
             with the absolute path of a program",
        ),
        (
            &[("challenge", &["http-01", "/hook"])],
            "invalid value \"/hook\" in \"challenge\", it must be left out: \"http-01\" is \
             answered by this nginx",
        ),
        (
            &[("external_account_key", &["kid-1"])],
            "invalid number of arguments in \"external_account_key\" directive, it must be \
             \"external_account_key KID FILE\"",
        ),
        (
            &[("external_account_key", &["kid 1", "/x"])],
            "invalid value \"kid 1\" in \"external_account_key\", it must be the name of the key \
             as the CA hands it out, without spaces, and a file",
        ),
        (
            &[("external_account_key", &["kid-1", "/x"])],
            "cannot use \"/x\" in \"external_account_key\": no such file, it must be a file with \
             the HMAC key, 16 to 1024 bytes in base64url, and nothing else",
        ),
        (
            &[("ocsp_signer", &["signer.pem"])],
            "invalid number of arguments in \"ocsp_signer\" directive, it must be \"ocsp_signer \
             CERT KEY\"",
        ),
        (
            &[("ocsp_signer", &["signer.pem", ""])],
            "invalid value \"\" in \"ocsp_signer\", it must be two files",
        ),
        (
            &[("ocsp_signer", &["/x", "/y"])],
            "cannot use \"/x\" in \"ocsp_signer\": no such file, it must be a file of PEM \
             certificates",
        ),
        (
            &[("issuer_certificate", &["/x"])],
            "cannot use \"/x\" in \"issuer_certificate\": no such file, it must be a file of \
             PEM certificates",
        ),
    ];
    for (lines, expected) in table {
        assert_eq!(set(lines).unwrap_err(), *expected);
    }
    let error = set(&[terms]).unwrap().finish().unwrap_err();
    assert_eq!(error, "no \"url\" in ssl_cert_autofetch_ca \"corp\"");
}

#[test]
fn settings() {
    let acme = AcmeSettings {
        ca: "corp".into(),
        url: "https://ca.example/".into(),
        account_key: None,
        contact: vec![],
        accept_terms_of_service: false,
        external_account: None,
        challenge: Challenge::Http01,
        profile: None,
        preferred_chain: None,
        hook: None,
        timeout: Duration::from_secs(30),
    };
    let url: Line = ("url", &["https://ca.example/"]);
    let least = set(&[url]).unwrap().finish().unwrap();
    assert_eq!(
        least,
        CaSettings {
            name: "corp".into(),
            protocol: Protocol::Acme(acme.clone()),
            way: WaySettings::default(),
            subject: None,
            issuer_certificate: None,
            wildcards: false,
            budget: Budget { count: 5, window: Duration::from_secs(7 * 86400) },
            evidence: EvidenceSettings::default(),
        }
    );
    let full = set(&[
        url,
        ("protocol", &["acme"]),
        ("contact", &["a@b.example", "MAILTO:c@D.example"]),
        ("contact", &["d@b.example"]),
        ("accept_terms_of_service", &[]),
        ("challenge", &["tls-alpn-01"]),
        ("profile", &["short"]),
        ("preferred_chain", &["Corp Root X1"]),
        ("timeout", &["5s"]),
        ("ocsp_responder", &["http://ocsp.example/"]),
        ("ocsp_nonce", &["required"]),
        ("crl", &["http://crl.example/x.crl"]),
        ("budget", &["2/1h 30m"]),
    ]);
    assert_eq!(
        full.unwrap().finish().unwrap(),
        CaSettings {
            protocol: Protocol::Acme(AcmeSettings {
                contact: ["mailto:a@b.example", "mailto:c@D.example", "mailto:d@b.example"]
                    .map(String::from)
                    .into(),
                accept_terms_of_service: true,
                challenge: Challenge::TlsAlpn01,
                profile: Some("short".into()),
                preferred_chain: Some("Corp Root X1".into()),
                timeout: Duration::from_secs(5),
                ..acme
            }),
            budget: Budget { count: 2, window: Duration::from_secs(5400) },
            evidence: EvidenceSettings {
                ocsp_responder: Some("http://ocsp.example/".into()),
                ocsp_nonce: Nonce::Required,
                crl: Some("http://crl.example/x.crl".into()),
                ..EvidenceSettings::default()
            },
            ..least
        }
    );
}

#[test]
fn evidence_files() {
    let (signer, other) = (root("signer"), root("other"));
    let key = |i: &Identity| i.key.private_key_to_pem_pkcs8().unwrap();
    let read = |path: &str| match path {
        "signer.pem" => Ok([signer.pem(), other.pem()].concat()),
        "signer.key" => Ok(key(&signer)),
        "other.key" => Ok(key(&other)),
        "other.pem" => Ok(other.pem()),
        _ => Err("no such file".to_owned()),
    };
    let set = |name: &str, args: &[&str]| {
        let mut ca = RawCa::new("corp").unwrap();
        ca.set("url", &["https://ca.example/"], &read).unwrap();
        ca.set(name, args, &read)?;
        Ok::<_, String>(ca.finish().unwrap().evidence)
    };
    let expected =
        Signer { certificate: read("signer.pem").unwrap(), key: Secret::new(key(&signer)) };
    let found = set("ocsp_signer", &["signer.pem", "signer.key"]).unwrap();
    assert_eq!(found, EvidenceSettings { ocsp_signer: Some(expected), ..Default::default() });
    let found = set("ocsp_certificate", &["other.pem"]).unwrap();
    assert_eq!(
        found,
        EvidenceSettings { ocsp_certificate: Some(other.pem()), ..Default::default() }
    );
    let error = set("ocsp_certificate", &["signer.pem"]).unwrap_err();
    assert!(error.contains("exactly one"), "{error}");
    let error = set("ocsp_signer", &["signer.pem", "other.key"]).unwrap_err();
    assert!(error.contains("\"other.key\""), "{error}");
}

#[test]
fn protocols() {
    let url: Line = ("url", &["https://vault.example/v1/pki"]);
    let vault: Line = ("protocol", &["vault"]);
    let (role, token): (Line, Line) = (("role", &["web"]), ("token_file", &["/run/token"]));
    let finish = |lines: &[Line]| set(lines).unwrap().finish();
    let settings = VaultSettings {
        ca: "corp".into(),
        url: "https://vault.example/v1/pki".into(),
        timeout: Duration::from_secs(30),
        role: "web".into(),
        token_file: "/run/token".into(),
        namespace: None,
    };
    let done = finish(&[vault, url, role, token]).unwrap();
    assert_eq!(done.protocol, Protocol::Vault(settings));
    let command: Line = ("protocol", &["command"]);
    let program: Line = ("command", &["/bin/issue", "--ca", "a b"]);
    let settings = CommandSettings {
        ca: "corp".into(),
        command: ["/bin/issue", "--ca", "a b"].map(String::from).into(),
        timeout: Duration::from_secs(120),
    };
    let done = finish(&[command, program, ("timeout", &["2m"])]).unwrap();
    assert_eq!(done.protocol.url(), None);
    assert_eq!(done.protocol, Protocol::Command(settings));
    for (lines, error) in [
        (&[vault, url, token][..], "no \"role\" in ssl_cert_autofetch_ca \"corp\""),
        (&[vault, url, role], "no \"token_file\" in ssl_cert_autofetch_ca \"corp\""),
        (&[vault, role, token], "no \"url\" in ssl_cert_autofetch_ca \"corp\""),
        (&[command], "no \"command\" in ssl_cert_autofetch_ca \"corp\""),
        (
            &[command, program, url],
            "\"url\" in ssl_cert_autofetch_ca \"corp\" is of protocol \"acme\", \"vault\", \
             \"cfssl\", \"est\", but its protocol is \"command\"",
        ),
        (
            &[url, program],
            "\"command\" in ssl_cert_autofetch_ca \"corp\" is of protocol \"command\", but its \
             protocol is \"acme\"",
        ),
        (
            &[url, role],
            "\"role\" in ssl_cert_autofetch_ca \"corp\" is of protocol \"vault\", but its protocol \
             is \"acme\"",
        ),
        (
            &[vault, url, role, token, ("profile", &["short"])],
            "\"profile\" in ssl_cert_autofetch_ca \"corp\" is of protocol \"acme\", \"cfssl\", but \
             its protocol is \"vault\"",
        ),
        (
            &[vault, url, role, token, ("challenge", &["http-01"])],
            "\"challenge\" in ssl_cert_autofetch_ca \"corp\" is of protocol \"acme\", but its \
             protocol is \"vault\"",
        ),
    ] {
        assert_eq!(finish(lines).unwrap_err(), error);
    }
}

#[test]
fn proxies() {
    const BAD: &[&str] = &[
        "",
        "proxy.example:3128",
        "http://proxy.example",
        "http://proxy.example:0",
        "http://:3128",
        "http://proxy.example:3128/x",
        "http://proxy.example:3128?x",
        "http://me@proxy.example:3128",
        "http://:hush@proxy.example:3128",
        "http://me:hu@sh@proxy.example:3128",
        "http://me:hu/sh@proxy.example:3128",
        "http://me:hush\u{e4}@proxy.example:3128",
        "http://me:hush%ff@proxy.example:3128",
        "http://me:hush\r\n@proxy.example:3128",
        "https://me:hush@proxy.example:3128",
        "socks5://me:hush@proxy.example:3128",
        "on",
    ];
    for bad in BAD {
        let error = set(&[("proxy", &[*bad])]).unwrap_err();
        assert!(
            error.starts_with("invalid value \"...\" in \"proxy\", it must be a URL"),
            "{error}"
        );
    }
    let url: Line = ("url", &["https://ca.example/"]);
    let good: Line = ("proxy", &["http://me:hush@proxy.example:3128"]);
    let way = set(&[url, good]).unwrap().finish().unwrap().way;
    assert_eq!(way.proxy.as_ref().unwrap().url.bytes(), good.1[0].as_bytes());
    assert!(!format!("{way:?}").contains("hush"));
    assert_eq!(set(&[good, good]).unwrap_err(), "\"proxy\" directive is duplicate");
}

#[test]
fn client_certificates() {
    let (own, other) = (root("own"), root("other"));
    let key = |i: &Identity| i.key.private_key_to_pem_pkcs8().unwrap();
    let locked = || {
        let cipher = openssl::symm::Cipher::aes_256_cbc();
        own.key.private_key_to_pem_pkcs8_passphrase(cipher, b"hush").unwrap()
    };
    let read = |path: &str| match path {
        "chain.pem" => Ok([own.pem(), other.pem()].concat()),
        "own.key" => Ok(key(&own)),
        "other.key" => Ok(key(&other)),
        "locked.key" => Ok(locked()),
        _ => Err("no such file".to_owned()),
    };
    let way = |certificate: &str, key: &str| {
        let mut ca = RawCa::new("corp").unwrap();
        ca.set("url", &["https://ca.example/"], &read).unwrap();
        for (name, file) in [("client_certificate_key", key), ("client_certificate", certificate)] {
            if !file.is_empty() {
                ca.set(name, &[file], &read)?;
            }
        }
        Ok::<_, String>(ca.finish()?.way.client_certificate)
    };
    let signer = Signer { certificate: read("chain.pem").unwrap(), key: Secret::new(key(&own)) };
    assert_eq!(way("chain.pem", "own.key"), Ok(Some(signer)));
    assert_eq!(way("", ""), Ok(None));
    const ACCEPTED: &str = "it must be the unencrypted PEM private key of \"client_certificate\"";
    let unusable = |file: &str, cause: &str| {
        format!("cannot use \"{file}\" in \"client_certificate_key\": {cause}, {ACCEPTED}")
    };
    for (certificate, key, error) in [
        (
            "chain.pem",
            "other.key",
            "\"client_certificate_key\" in ssl_cert_autofetch_ca \"corp\" must be the key of the \
             first certificate in \"client_certificate\""
                .to_owned(),
        ),
        (
            "chain.pem",
            "",
            "no \"client_certificate_key\" for the \"client_certificate\" in \
             ssl_cert_autofetch_ca \"corp\""
                .to_owned(),
        ),
        (
            "",
            "own.key",
            "no \"client_certificate\" for the \"client_certificate_key\" in \
             ssl_cert_autofetch_ca \"corp\""
                .to_owned(),
        ),
        ("chain.pem", "locked.key", unusable("locked.key", "it is encrypted")),
        ("chain.pem", "chain.pem", unusable("chain.pem", "no PEM private key found")),
        ("chain.pem", "gone.key", unusable("gone.key", "no such file")),
        (
            "own.key",
            "own.key",
            "cannot use \"own.key\" in \"client_certificate\": no PEM certificate found, it must \
             be a file of PEM certificates"
                .to_owned(),
        ),
    ] {
        assert_eq!(way(certificate, key).unwrap_err(), error);
    }
}

/// There is no value that trusts everybody, and none that trusts nobody by mistake.
#[test]
fn trusted_certificates() {
    let anchor = root("root");
    let intermediate = anchor.issue(crate::fixture::Spec::ca("intermediate"));
    let read = |path: &str| match path {
        "root.pem" => Ok(anchor.pem()),
        "server.pem" => Ok(crate::fixture::self_signed(Default::default()).pem()),
        "both.pem" => Ok([intermediate.pem(), anchor.pem()].concat()),
        "intermediate.pem" => Ok(intermediate.pem()),
        "key.pem" => Ok(anchor.key.private_key_to_pem_pkcs8().unwrap()),
        "empty.pem" => Ok(Vec::new()),
        _ => Err("no such file".to_owned()),
    };
    for (file, cause) in [
        ("root.pem", None),
        ("both.pem", None),
        ("server.pem", None),
        ("intermediate.pem", Some("no root found")),
        ("key.pem", Some("no PEM certificate found")),
        ("empty.pem", Some("no PEM certificate found")),
        ("off", Some("no such file")),
        ("none", Some("no such file")),
    ] {
        let mut ca = RawCa::new("corp").unwrap();
        let said = ca.set("trusted_certificate", &[file], &read).err();
        let start =
            cause.map(|c| format!("cannot use \"{file}\" in \"trusted_certificate\": {c}, "));
        assert_eq!(said.is_some(), start.is_some(), "{file}: {said:?}");
        assert!(said.unwrap_or_default().starts_with(&start.unwrap_or_default()), "{file}");
    }
}

#[test]
fn wildcards() {
    let url: Line = ("url", &["https://ca.example/"]);
    let hook: Line = ("challenge", &["dns-01", "/etc/hook"]);
    let alpn: Line = ("challenge", &["tls-alpn-01"]);
    let cfssl: Line = ("protocol", &["cfssl"]);
    let (on, off): (Line, Line) = (("wildcards", &["on"]), ("wildcards", &["off"]));
    let table: &[(&[Line], Option<bool>)] = &[
        (&[url], Some(false)),
        (&[url, off], Some(false)),
        (&[url, on], None),
        (&[url, alpn], Some(false)),
        (&[url, alpn, on], None),
        (&[url, hook], Some(true)),
        (&[url, hook, off], Some(false)),
        (&[url, hook, on], Some(true)),
        (&[url, cfssl], Some(true)),
        (&[url, cfssl, off], Some(false)),
    ];
    for (lines, expected) in table {
        let ca = set(lines).unwrap().finish();
        assert_eq!(ca.as_ref().ok().map(|ca| ca.wildcards), *expected, "{lines:?}");
        if let Err(error) = ca {
            assert_eq!(
                error,
                "\"wildcards on\" in ssl_cert_autofetch_ca \"corp\" needs \"challenge dns-01 \
                 HOOK\", no other challenge proves wildcards"
            );
        }
    }
    let Protocol::Acme(acme) = set(&[url, hook]).unwrap().finish().unwrap().protocol else {
        panic!("another protocol")
    };
    assert_eq!((acme.challenge, acme.hook), (Challenge::Dns01, Some("/etc/hook".into())));
}
