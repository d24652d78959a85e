use super::*;

#[test]
fn exact_names_of_a_configuration() {
    let label = "a".repeat(63);
    let longest = [label.as_str(); 4].join(".")[..253].to_owned();
    // As written, as it stands in a certificate.
    let table: &[(&str, Option<&str>)] = &[
        ("shop.example", Some("shop.example")),
        ("Shop.EXAMPLE", Some("shop.example")),
        ("localhost", Some("localhost")),
        ("a-b_c.example", Some("a-b_c.example")),
        ("1.example", Some("1.example")),
        ("1", None),
        // Punycode is plain letters here; anything else has to be written so.
        ("xn--bro-hoa.example", Some("xn--bro-hoa.example")),
        ("XN--BRO-HOA.Example", Some("xn--bro-hoa.example")),
        ("b\u{fc}ro.example", None),
        (&longest, Some(&longest)),
        (&label, Some(&label)),
        // A request's trailing dot is dropped by nginx, a configuration's never matches.
        ("shop.example.", None),
        (".", None),
        ("", None),
        ("..", None),
        ("a..b", None),
        ("-a.example", None),
        ("a-.example", None),
        ("a b", None),
        ("a/../b", None),
        ("a,DNS:b", None),
        ("a\0b", None),
        ("*.example", None),
        ("192.0.2.1", Some("192.0.2.1")),
        ("192.0.2.256", None),
        ("192.0.2", None),
        ("192.0.2.01", None),
        ("1.2.3.4.5", None),
        ("shop.1", None),
        ("0.0.0.0", None),
        ("224.0.0.1", None),
        ("[192.0.2.1]", None),
        ("[2001:db8::1]", Some("2001:db8::1")),
        ("[2001:DB8:0:0::1]", Some("2001:db8::1")),
        ("[::ffff:192.0.2.1]", Some("::ffff:192.0.2.1")),
        ("[::1]", Some("::1")),
        ("[::]", None),
        ("[ff02::1]", None),
        ("[fe80::1%eth0]", None),
        ("[2001:db8::1", None),
        ("2001:db8::1]", None),
        ("2001:db8::1", None),
        ("[]", None),
        ("[::1]:443", None),
        ("192.0.2.1:443", None),
    ];
    for (written, name) in table {
        assert_eq!(exact(written).as_deref(), *name, "{written}");
        let again = name.and_then(|n| ip(n).map_or_else(|| exact(n), |ip| Some(ip.to_string())));
        assert_eq!(again.as_deref(), *name, "{written}, read again");
    }
}

#[test]
fn what_stands_for_what() {
    for (san, name, expected) in [
        ("a.example", "a.example", true),
        ("a.example", "b.example", false),
        ("*.example", "a.example", true),
        ("*.example", "a.b.example", false),
        ("*.example", "example", false),
        ("*.example", "*.example", true),
        ("*.example", "*.a.example", false),
        ("a.example", "*.example", false),
        ("192.0.2.1", "192.0.2.1", true),
        ("*.0.2.1", "192.0.2.1", false),
        ("*.", "a.", true),
        ("2001:db8::1", "2001:db8::1", true),
        ("2001:db8::1", "2001:db8::2", false),
    ] {
        assert_eq!(stands_for(san, name), expected, "{san} {name}");
    }
}

#[test]
fn what_a_ca_is_asked_for() {
    let table: &[(&[&str], &[&str])] = &[
        (&["a.example"], &["a.example"]),
        (&["example", "*.example"], &["example", "*.example"]),
        (&["www.example", "example", "*.example"], &["example", "*.example"]),
        (&["a.b.example", "*.example", "192.0.2.1"], &["a.b.example", "*.example", "192.0.2.1"]),
        (&["*.a.example", "*.example"], &["*.a.example", "*.example"]),
    ];
    for (names, expected) in table {
        let names: Vec<String> = names.iter().map(|n| n.to_string()).collect();
        let asked = to_ask_for(&names);
        assert_eq!(asked, *expected);
        assert!(names.iter().all(|name| asked.iter().any(|san| stands_for(san, name))));
    }
}

#[test]
fn names_of_tls_alpn() {
    for (name, asked) in [
        ("a.example", "a.example"),
        ("192.0.2.1", "1.2.0.192.in-addr.arpa"),
        // RFC 8738 section 6 refers to RFC 3596; the address is its example's.
        (
            "4321:0:1:2:3:4:567:89ab",
            "b.a.9.8.7.6.5.0.4.0.0.0.3.0.0.0.2.0.0.0.1.0.0.0.0.0.0.0.1.2.3.4.ip6.arpa",
        ),
    ] {
        assert_eq!(in_tls_alpn(name), asked);
    }
}
