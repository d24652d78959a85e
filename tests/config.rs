//! What `nginx -t` says of a configuration.

mod lab;

use std::fs;
use std::process::Command;

use lab::*;
use openssl::symm::Cipher;

const URL: &str = "url https://ca.example/dir;";

/// A wrong value is refused in one line: directive, value, and what is accepted.
#[test]
#[ignore = "needs nginx and the module: scripts/test.sh"]
fn wrong_values_are_refused() {
    // Where, the directive, the value as written, and what is accepted.
    let checks = "\"hard\", \"soft\" or \"off\"";
    let keys = "\"ecdsa:256\", \"ecdsa:384\", \"rsa:2048\", \"rsa:3072\" or \"rsa:4096\"";
    let switch = "\"on\" or \"off\"";
    let time = "a time such as";
    let share = "\"1%\" to \"99%\"";
    let held = "a number, 1 or more";
    let https = "an https URL";
    let table: &[(&[Place], &str, &str, &str)] = &[
        (BLOCKS, "check", "hrd", checks),
        (BLOCKS, "check", "on", checks),
        (BLOCKS, "check_interval", "often", time),
        (BLOCKS, "check_interval", "-1", time),
        (BLOCKS, "timeout", "0", time),
        (BLOCKS, "timeout", "10x", time),
        (BLOCKS, "timeout", "2h", "up to \"1h\""),
        (BLOCKS, "renew_before", "0", share),
        (BLOCKS, "renew_before", "0%", share),
        (BLOCKS, "renew_before", "100%", share),
        (BLOCKS, "renew_before", "soon", share),
        (BLOCKS, "key", "rsa:1024", keys),
        (BLOCKS, "key", "ed25519", keys),
        (BLOCKS, "stapling", "yes", switch),
        (BLOCKS, "must_staple", "1", switch),
        (BLOCKS, "", "off lab", "alone or not at all"),
        (BLOCKS, "", "lab lab", "named once"),
        (BLOCKS, "", "''", "\"off\" or names of CAs"),
        (&[Place::Http], "max_held", "0", held),
        (&[Place::Http], "max_held", "-1", held),
        (&[Place::Http], "max_held", "many", held),
        (&[Place::Http], "keystore", "''", "a directory"),
        (&[Place::Http], "keystore", "/a /b", "a directory"),
        (&[Place::Http], "keystore", "group=ssl", "a directory"),
        (&[Place::Http], "keystore", "/a group=no-such-group", "the name or number of a group"),
        (&[Place::Http], "keystore", "/a password_file=none", "a file with 1 to 16 passwords"),
        (&[Place::Ca], "protocol", "acme2", "\"acme\""),
        (&[Place::Ca], "url", "ca.example", https),
        (&[Place::Ca], "url", "http://ca.example/dir", https),
        (&[Place::Ca], "url", "https://user:hush@ca.example/", https),
        (&[Place::Ca], "trusted_certificate", "/does/not/exist", "a file of PEM certificates"),
        (&[Place::Ca], "trusted_certificate", "nginx.conf", "a file of PEM certificates"),
        (&[Place::Ca], "trusted_certificate", "off", "a file of PEM certificates"),
        (&[Place::Ca], "subject", "X=1", "is none of CN, C,"),
        (&[Place::Ca], "client_certificate", "/does/not/exist", "a file of PEM certificates"),
        (&[Place::Ca], "client_certificate_key", "own.pem", "unencrypted PEM private key"),
        (&[Place::Ca], "client_certificate_key", "locked.key", "unencrypted PEM private key"),
        (&[Place::Ca], "issuer_certificate", "/does/not/exist", "a file of PEM certificates"),
        (&[Place::Ca], "account_key", "nginx.conf", "unencrypted PEM private key"),
        (&[Place::Ca], "contact", "nobody", "an e-mail address"),
        (&[Place::Ca], "challenge", "dns-02", "\"http-01\""),
        (&[Place::Ca], "challenge", "dns-01", "challenge dns-01 HOOK"),
        (&[Place::Ca], "challenge", "dns-01 hook", "absolute path"),
        (&[Place::Ca], "challenge", "dns-01 /does/not/exist", "it must be an executable file"),
        (&[Place::Ca], "challenge", "dns-01 /etc/passwd", "it must be an executable file"),
        (&[Place::Ca], "challenge", "dns-01 /etc", "it must be an executable file"),
        (&[Place::Ca], "challenge", "http-01 /bin/true", "left out"),
        (&[Place::Ca], "wildcards", "some", switch),
        (&[Place::Ca], "username", "a:b", "without \":\""),
        (&[Place::Ca], "password_file", "/does/not/exist", "a password in one line"),
        (&[Place::Ca], "server_keygen", "yes", switch),
        (&[Place::Ca], "timeout", "0", time),
        (&[Place::Ca], "ocsp_responder", "ldap://x/", "an http or https URL"),
        (&[Place::Ca], "ocsp_certificate", "/does/not/exist", "exactly one PEM certificate"),
        (&[Place::Ca], "ocsp_certificate", "own.key", "exactly one PEM certificate"),
        (&[Place::Ca], "ocsp_signer", "own.pem /does/not/exist", "key of the first certificate"),
        (&[Place::Ca], "ocsp_signer", "own.pem own.pem", "key of the first certificate"),
        (&[Place::Ca], "ocsp_signer", "own.pem locked.key", "unencrypted PEM private key"),
        (&[Place::Ca], "ocsp_nonce", "maybe", "\"on\", \"off\" or \"required\""),
        (&[Place::Ca], "crl", "/etc/ssl/x.crl", "an http or https URL"),
        (&[Place::Ca], "budget", "0/7d", "a number from 1 to 1000"),
        (&[Place::Ca], "budget", "5", "a number from 1 to 1000"),
        (&[Place::Ca], "budget", "5/0", "a number from 1 to 1000"),
    ];
    for (places, directive, value, accepted) in table {
        for place in *places {
            let (directive, line) = place.line(directive, value);
            let said = refusal(&place.config(&line));
            let shown = value.rsplit([' ', '@']).next().unwrap_or_default().trim_matches('\'');
            assert!(said.contains(&format!("\"{directive}\"")), "{line}: {said}");
            assert!(said.contains(shown) && said.contains("it must be"), "{line}: {said}");
            assert!(said.contains(accepted), "{line}: {said}");
            assert!(!said.contains("hush"), "{said}");
        }
    }
}

#[test]
#[ignore = "needs nginx and the module: scripts/test.sh"]
fn wrong_lines_are_refused() {
    let table: &[(Place, &str, &str)] = &[
        (
            Place::Server,
            "ssl_cert_autofetch_check;",
            "\"ssl_cert_autofetch_check hard | soft | off\"",
        ),
        (Place::Server, "ssl_cert_autofetch_check hard soft;", "invalid number of arguments"),
        (Place::Server, "ssl_cert_autofetch;", "\"ssl_cert_autofetch off | CA [CA...]\""),
        (
            Place::Server,
            "ssl_cert_autofetch_key ecdsa:256; ssl_cert_autofetch_key rsa:2048;",
            "duplicate",
        ),
        (Place::Http, "ssl_cert_autofetch_max_held 1; ssl_cert_autofetch_max_held 1;", "duplicate"),
        (Place::Http, "ssl_cert_autofetch_keystore a; ssl_cert_autofetch_keystore b;", "duplicate"),
        (Place::Server, "ssl_cert_autofetch_max_held 1;", "is not allowed here"),
        (Place::Server, "ssl_cert_autofetch_keystore x;", "is not allowed here"),
        (Place::Server, "ssl_cert_autofetch_ca x { }", "is not allowed here"),
        (Place::Server, "ssl_cert_autofetch_status;", "is not allowed here"),
        (Place::Server, "location / { ssl_cert_autofetch_check soft; }", "is not allowed here"),
        (
            Place::Server,
            "location / { ssl_cert_autofetch_status on; }",
            "ssl_cert_autofetch_status",
        ),
        (Place::Http, "ssl_cert_autofetch_ca x { }", "no \"url\" in ssl_cert_autofetch_ca \"x\""),
        (Place::Http, "ssl_cert_autofetch_ca x;", "has no opening \"{\""),
        (Place::Http, "ssl_cert_autofetch_ca x y { }", "invalid number of arguments"),
        (Place::Http, "ssl_cert_autofetch_ca off { url https://x/; }", "\"off\""),
        (Place::Http, "ssl_cert_autofetch_ca ../x { url https://x/; }", "\"../x\""),
        (Place::Http, "ssl_cert_autofetch_ca x { url https://x/;", "unexpected end of file"),
        (
            Place::Http,
            "ssl_cert_autofetch_ca lab { url https://x/; }",
            "duplicate ssl_cert_autofetch_ca \"lab\"",
        ),
        (
            Place::Ca,
            "urls https://x/;",
            "unknown directive \"urls\" in ssl_cert_autofetch_ca \"x\", known are: \"protocol\", \"url\"",
        ),
        (Place::Ca, "url https://x/;", "\"url\" directive is duplicate"),
        (Place::Ca, "url;", "\"url URL\""),
        (Place::Ca, "contact { }", "unexpected \"{\""),
        (Place::Ca, "accept_terms_of_service yes;", "accept_terms_of_service"),
        (
            Place::Server,
            "ssl_cert_autofetch other;",
            "unknown CA \"other\" in \"ssl_cert_autofetch\", known are: \"lab\"",
        ),
        (
            Place::Http,
            "ssl_cert_autofetch other;",
            "unknown CA \"other\" in \"ssl_cert_autofetch\", known are: \"lab\"",
        ),
    ];
    for (place, line, expected) in table {
        let said = refusal(&place.config(line));
        assert!(said.contains(expected), "{line}: {said}");
    }
    let said =
        refusal("ssl_cert_autofetch x; server { listen 127.0.0.1:1 ssl; server_name a.test; }");
    assert!(said.contains("no \"ssl_cert_autofetch_ca\" is defined"), "{said}");
}

#[test]
#[ignore = "needs nginx and the module: scripts/test.sh"]
fn servers_that_cannot_be_managed_are_refused() {
    let server = |names: &str, more: &str| {
        format!("server {{ listen 127.0.0.1:1 ssl; {names} ssl_cert_autofetch lab; {more} }}\n")
    };
    let none = "no exact \"server_name\"";
    let no_host = "in \"server_name\" for \"ssl_cert_autofetch\", it must be a host name";
    let both = "\"ssl_certificate\" and \"ssl_cert_autofetch\" are in the same block";
    let own = "ssl_certificate own.pem; ssl_certificate_key own.key;";
    let twice = |one: &str, two: &str| {
        server("server_name a.test;", one) + &server("server_name a.test b.test;", two)
    };
    let table = [
        (server("", ""), none),
        (server("server_name _;", ""), none),
        (server("server_name *.a.test www.* ~^c;", ""), none),
        (server("server_name a.test 2001:db8::1;", ""), no_host),
        (server("server_name a.test .192.0.2.1;", ""), no_host),
        (server("server_name a..test;", ""), no_host),
        (server("server_name a.test;", own), both),
        (
            format!(
                "server {{ listen 127.0.0.1:1 ssl; server_name a.test; {own} ssl_cert_autofetch lab; }}"
            ),
            both,
        ),
        (server("server_name a.test;", "ssl_certificate own.pem;"), both),
        (format!("{own} ssl_cert_autofetch lab; {}", server("server_name a.test;", "")), both),
        (format!("ssl_cert_autofetch lab; {own} {}", server("server_name a.test;", "")), both),
        (
            twice("", "ssl_cert_autofetch_check hard;"),
            "conflicting values \"soft\" and \"hard\" in \"ssl_cert_autofetch_check\"",
        ),
        (
            twice("ssl_cert_autofetch_key rsa:2048;", ""),
            "conflicting values \"rsa:2048\" and \"ecdsa:256\"",
        ),
    ];
    for (http, expected) in table {
        let said = refusal(&format!("{}{http}", ca("lab", "")));
        assert!(said.contains(expected), "{http}: {said}");
        assert!(said.contains("nginx.conf:"), "no place is told: {said}");
    }
    let no_address = format!(
        "{}{}",
        ca("lab", "challenge dns-01 /bin/true;"),
        server("server_name a.test 192.0.2.1;", "")
    );
    let said = refusal(&no_address);
    assert!(said.contains("IP address \"192.0.2.1\"") && said.contains("nginx.conf:"), "{said}");
}

#[test]
#[ignore = "needs nginx and the module: scripts/test.sh"]
fn right_configurations_are_accepted() {
    let tls = "listen 127.0.0.1:1 ssl; server_name a.test;";
    let lab = ca("lab", "");
    let full = ca(
        "full",
        "protocol acme; trusted_certificate own.pem; account_key own.key; timeout 5s;\n\
         client_certificate own.pem; client_certificate_key own.key;\n\
         proxy http://me:hush@proxy.example:3128;\n\
         contact a@corp.example mailto:b@corp.example; accept_terms_of_service;\n\
         challenge tls-alpn-01; issuer_certificate own.pem; budget 10/1d;\n\
         ocsp_responder http://ocsp.example/; ocsp_certificate own.pem;\n\
         ocsp_signer own.pem own.key; ocsp_nonce required; crl http://crl.example/x.crl;",
    );
    let own = "ssl_certificate own.pem; ssl_certificate_key own.key;";
    let table = [
        String::new(),
        format!("{full} ssl_cert_autofetch full; server {{ {tls} }}"),
        format!("{lab}{full} server {{ {tls} ssl_cert_autofetch lab full; }}"),
        // After its use, and for nobody.
        format!("server {{ {tls} ssl_cert_autofetch lab; }} {lab}"),
        format!("{lab} ssl_cert_autofetch lab; server {{ listen 127.0.0.1:1; }}"),
        format!("{lab} server {{ {tls} {own} ssl_cert_autofetch off; }}"),
        format!(
            "{lab} server {{ listen 127.0.0.1:1 ssl; ssl_cert_autofetch lab;
            server_name .B.test XN--BRO-HOA.test 192.0.2.1 [2001:db8::1] \"[::1]\"; }}"
        ),
        format!("{lab} ssl_cert_autofetch lab; server {{ {tls} {own} }}"),
        format!("{lab} {own} server {{ {tls} ssl_cert_autofetch lab; }}"),
        format!(
            "{lab} server {{ {tls} ssl_cert_autofetch lab; ssl_cert_autofetch_check HARD;
            ssl_cert_autofetch_check_interval 0; ssl_cert_autofetch_timeout 500ms;
            ssl_cert_autofetch_renew_before 50%; ssl_cert_autofetch_key rsa:4096;
            ssl_cert_autofetch_stapling ON; ssl_cert_autofetch_must_staple on;
            location = /s {{ ssl_cert_autofetch_status; }} }}"
        ),
    ];
    for http in table {
        let (ok, said) = files(&http).test();
        assert!(ok && !said.contains("[warn]"), "{http}: {said}");
    }
}

#[test]
#[ignore = "needs nginx and the module: scripts/test.sh"]
fn doubtful_configurations_are_warned_of_once() {
    let lab = ca("lab", "ocsp_responder http://b.test/; crl https://c.test/x.crl;");
    let server = |name| format!("server {{ listen 127.0.0.1:1 ssl; server_name {name}; }}\n");
    let three = ["a.test", "b.test", "c.test"].map(server).concat();
    let table = [
        ("client_header_timeout 5s;", "\"ssl_cert_autofetch_timeout\""),
        ("client_header_timeout 10s;", "\"ssl_cert_autofetch_timeout\""),
        ("", "host \"b.test\" in \"ocsp_responder\" of ssl_cert_autofetch_ca \"lab\""),
        ("", "host \"c.test\" in \"crl\" of ssl_cert_autofetch_ca \"lab\""),
    ];
    for (line, expected) in table {
        let (ok, said) = files(&format!("{lab} {line} ssl_cert_autofetch lab; {three}")).test();
        let warnings: Vec<_> = said.lines().filter(|l| l.contains("[warn]")).collect();
        let timeouts = warnings.iter().filter(|l| l.contains("\"a.test\" (and of 2 more)"));
        assert_eq!(timeouts.count(), usize::from(!line.is_empty()), "{warnings:#?}");
        let those: Vec<_> = warnings.iter().filter(|l| l.contains(expected)).collect();
        assert!(ok && those.len() == 1, "{line}: {warnings:#?}");
    }
}

/// nginx's own stapling knows the certificates of the configuration only. It is switched off in a
/// managed server, with a line that says so, and nginx has nothing more to say about it.
#[test]
#[ignore = "needs nginx and the module: scripts/test.sh"]
fn nginxs_own_stapling_is_told_of_in_one_line() {
    let lab = ca("lab", "");
    let server = |name: &str, lines: &str| {
        format!("server {{ listen 127.0.0.1:1 ssl; server_name {name};\n{lines} }}\n")
    };
    let on = "ssl_cert_autofetch lab;";
    let own = "ssl_certificate own.pem; ssl_certificate_key own.key;";
    let does = "\"ssl_cert_autofetch_stapling\" does it in server at ";
    let off = "\"ssl_cert_autofetch_stapling\" is off, so nothing is stapled in server at ";
    // http{}, and what the lines of the module have to say.
    let table: &[(String, &[&str])] = &[
        (server("a.test", &format!("{on} ssl_stapling on;")), &[does]),
        (server("a.test", &format!("ssl_stapling on; {on} ssl_stapling_file x.der;")), &[does]),
        (
            server("a.test", &format!("{on} ssl_stapling on; ssl_cert_autofetch_stapling off;")),
            &[off],
        ),
        (
            ["a.test", "b.test"].map(|n| server(n, &format!("{on} ssl_stapling on;"))).concat(),
            &[does, does],
        ),
        (
            format!("ssl_stapling on; {}", ["a.test", "b.test"].map(|n| server(n, on)).concat()),
            &["(and in 1 more that inherit it)"],
        ),
        (format!("ssl_stapling on; {}", server("a.test", on)), &[does]),
        (format!("ssl_stapling on; {}", server("a.test", &format!("{on} ssl_stapling off;"))), &[]),
        (server("a.test", &format!("{on} ssl_stapling off; ssl_stapling_verify on;")), &[]),
    ];
    for (http, expected) in table {
        let (ok, said) = files(&format!("{lab}{http}")).test();
        assert!(ok, "{http}: {said}");
        let lines: Vec<_> = said.lines().filter(|l| l.contains("stapling")).collect();
        assert_eq!(lines.len(), expected.len(), "{http}: {said}");
        for (line, what) in lines.iter().zip(*expected) {
            assert!(line.contains("[warn]") && line.contains(what), "{http}: {line}");
            assert!(line.contains("\"ssl_stapling\" ignored, it can't staple"), "{line}");
            assert!(line.contains("/nginx.conf:"), "{line}");
        }
    }
    // What is not managed is nginx's business.
    let http = format!("{lab} ssl_stapling on; {}", server("a.test", own));
    let (ok, said) = files(&http).test();
    let lines: Vec<_> = said.lines().filter(|l| l.contains("stapling")).collect();
    assert!(ok && lines.iter().all(|l| !l.contains("ssl_cert_autofetch")), "{said}");
}

/// nginx-conf/*.conf, with the paths replaced that their headers name.
#[test]
#[ignore = "needs nginx and the module: scripts/test.sh"]
fn examples_are_loaded() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/nginx-conf");
    let mut count = 0;
    for file in fs::read_dir(folder).expect("nginx-conf") {
        let file = file.expect("an example").path();
        if file.extension().is_none_or(|e| e != "conf") {
            continue; // programs, which other tests run
        }
        let config = files("");
        let dir = config.dir().display().to_string();
        let mut text = fs::read_to_string(&file).expect("an example");
        let own = config.dir().join("own-both.pem");
        let read = |name| fs::read(config.dir().join(name)).expect("a file");
        fs::write(&own, [read("own.pem"), read("own.key")].concat()).expect("write");
        let module = std::env::var("CERT_AUTOFETCH_MODULE").expect("CERT_AUTOFETCH_MODULE");
        for (path, to) in [
            ("modules/ngx_http_ssl_cert_autofetch_module.so", module),
            ("/var/lib/nginx/keystore", format!("{dir}/keystore")),
            ("/etc/ssl/corp-root.pem", format!("{dir}/own.pem")),
            ("/etc/ssl/own.pem", own.display().to_string()),
            ("/etc/nginx/dns-01-nsupdate.sh", format!("{folder}/dns-01-nsupdate.sh")),
            // Not the example's business: nginx tries its ports.
            ("listen 443", "listen 127.0.0.1:1".into()),
            ("listen 80", "listen 127.0.0.1:2".into()),
        ] {
            text = text.replace(path, &to);
        }
        fs::write(config.dir().join("example.conf"), text).expect("write");
        // Where an nginx as released writes its access log.
        fs::create_dir(config.dir().join("logs")).expect("mkdir");
        let mut nginx = Command::new(std::env::var("NGINX_BIN").unwrap_or_else(|_| "nginx".into()));
        nginx.args(["-t", "-p", &dir, "-c", &format!("{dir}/example.conf")]);
        nginx.args(["-e", &format!("{dir}/error.log"), "-g", "pid nginx.pid;"]);
        let said = lab::command::run(nginx);
        assert!(said.ok && !said.stderr.contains("[warn]"), "{file:?}: {}", said.stderr);
        count += 1;
    }
    assert!(count >= 4, "{count} examples");
}

/// Where a line stands.
#[derive(Clone, Copy)]
enum Place {
    Http,
    Server,
    Ca,
}

const BLOCKS: &[Place] = &[Place::Http, Place::Server];

impl Place {
    /// The whole name of a directive, and its line.
    fn line(self, directive: &str, value: &str) -> (String, String) {
        let name = match (self, directive) {
            (Place::Ca, name) => name.to_owned(),
            (_, "") => "ssl_cert_autofetch".into(),
            (_, name) => format!("ssl_cert_autofetch_{name}"),
        };
        let line = format!("{name} {value};");
        (name, line)
    }

    /// A body of `http` that is right but for this line.
    fn config(self, line: &str) -> String {
        let server = "listen 127.0.0.1:1 ssl; server_name a.test;";
        let lab = ca("lab", "");
        let names_ca = line.starts_with("ssl_cert_autofetch ") || line == "ssl_cert_autofetch;";
        let on = if names_ca { "" } else { "ssl_cert_autofetch lab;" };
        match self {
            Place::Http => format!("{lab} server {{ {server} {on} }} {line}"),
            Place::Server => format!("{lab} server {{ {server} {on} {line} }}"),
            Place::Ca => {
                let url =
                    if line.starts_with("url ") && line != "url https://x/;" { "" } else { URL };
                let block = format!("ssl_cert_autofetch_ca x {{ {url} {line} }}");
                format!("{lab}{block} server {{ {server} {on} }}")
            }
        }
    }
}

fn ca(name: &str, lines: &str) -> String {
    format!("ssl_cert_autofetch_ca {name} {{ {URL} {lines} }}\n")
}

/// A configuration with `own.pem` and `own.key` beside it.
fn files(http: &str) -> Config {
    let config = Config::new();
    let own = Identity::self_signed(&Profile::server(&["own.test"]));
    fs::write(config.dir().join("own.pem"), own.cert_pem()).expect("write");
    fs::write(config.dir().join("own.key"), own.key_pem()).expect("write");
    let locked = own.key.private_key_to_pem_pkcs8_passphrase(Cipher::aes_128_cbc(), b"x");
    fs::write(config.dir().join("locked.key"), locked.expect("PEM")).expect("write");
    // Never the default keystore of the machine.
    let keystore = match http.contains("ssl_cert_autofetch_keystore") {
        true => String::new(),
        false => format!("ssl_cert_autofetch_keystore {};\n", config.keystore().display()),
    };
    config.http(format!("{keystore}{http}\n"))
}

/// The one line by which `nginx -t` refuses.
fn refusal(http: &str) -> String {
    let (ok, said) = files(http).test();
    assert!(!ok, "accepted: {http}");
    let lines: Vec<_> = said.lines().filter(|l| l.contains("[emerg]")).collect();
    assert_eq!(lines.len(), 1, "{http}: {said}");
    lines[0].to_owned()
}
