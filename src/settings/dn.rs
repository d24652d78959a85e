//! A distinguished name as an administrator writes it: `O=Corp, OU=Web, C=DE`. The characters are
//! those of RFC 4514, the order is that of the certificate, as with `openssl req -subj`.

use openssl::asn1::Asn1Type;
use openssl::error::ErrorStack;
use openssl::nid::Nid;
use openssl::x509::X509NameBuilder;

/// What stands in the subject of a request beside the common name; valid, and not empty.
#[derive(Clone, Debug, PartialEq)]
pub struct Dn(Vec<(Nid, String)>);

impl Dn {
    /// The error says what is wrong, and what would be right.
    pub fn parse(text: &str) -> Result<Dn, String> {
        let mut attributes = Vec::new();
        for part in parts(text, ',')? {
            let [name, value] = &parts(part, '=')?[..] else {
                return Err(format!("\"{}\" is not like \"O=Corp\"", part.trim()));
            };
            attributes.push(attribute(name.trim(), &unescape(trim(value))?)?);
        }
        Ok(Dn(attributes))
    }

    pub fn append_to(&self, name: &mut X509NameBuilder) -> Result<(), ErrorStack> {
        self.0.iter().try_for_each(|(kind, value)| match *kind {
            // OpenSSL's limit is the 128 of RFC 2459.
            Nid::PKCS9_EMAILADDRESS => {
                name.append_entry_by_nid_with_type(*kind, value, Asn1Type::IA5STRING)
            }
            _ => name.append_entry_by_nid(*kind, value),
        })
    }

    pub fn has(&self, kind: Nid) -> bool {
        self.0.iter().any(|(k, _)| *k == kind)
    }
}

struct Kind {
    names: &'static [&'static str],
    nid: Nid,
    /// Characters, by RFC 5280's appendix A (UID: RFC 4524, 2.25 names none; 256 as RFC 1274).
    longest: usize,
    /// Whether it has no letters but those of ASCII.
    ascii: bool,
}

const fn kind(names: &'static [&'static str], nid: Nid, longest: usize, ascii: bool) -> Kind {
    Kind { names, nid, longest, ascii }
}

/// The first name is the one that messages use.
static KINDS: &[Kind] = &[
    kind(&["CN", "commonName"], Nid::COMMONNAME, 64, false),
    kind(&["C", "countryName"], Nid::COUNTRYNAME, 2, true),
    kind(&["ST", "S", "stateOrProvinceName"], Nid::STATEORPROVINCENAME, 128, false),
    kind(&["L", "localityName"], Nid::LOCALITYNAME, 128, false),
    kind(&["O", "organizationName"], Nid::ORGANIZATIONNAME, 64, false),
    kind(&["OU", "organizationalUnitName"], Nid::ORGANIZATIONALUNITNAME, 64, false),
    kind(&["STREET", "streetAddress"], Nid::STREETADDRESS, 128, false),
    kind(&["DC", "domainComponent"], Nid::DOMAINCOMPONENT, 63, true),
    kind(&["UID", "userId"], Nid::USERID, 256, false),
    kind(&["serialNumber"], Nid::SERIALNUMBER, 64, true),
    kind(&["emailAddress", "E"], Nid::PKCS9_EMAILADDRESS, 255, true),
];

fn attribute(name: &str, value: &str) -> Result<(Nid, String), String> {
    let known = |k: &&Kind| k.names.iter().any(|n| n.eq_ignore_ascii_case(name));
    let Some(kind) = KINDS.iter().find(known) else {
        let known: Vec<_> = KINDS.iter().map(|k| k.names[0]).collect();
        return Err(format!("\"{name}\" is none of {}", known.join(", ")));
    };
    let name = kind.names[0];
    let length = value.chars().count();
    if kind.nid == Nid::COUNTRYNAME {
        let is_code = length == 2 && value.bytes().all(|b| b.is_ascii_uppercase());
        return match is_code {
            true => Ok((kind.nid, value.to_owned())),
            false => Err("C is two capital letters (ISO 3166)".into()),
        };
    }
    match () {
        () if length == 0 => Err(format!("{name} is empty")),
        () if length > kind.longest => Err(format!("{name} is longer than {}", kind.longest)),
        () if value.chars().any(char::is_control) => Err(format!("{name} has control characters")),
        () if kind.ascii && !value.is_ascii() => Err(format!("{name} has letters beyond ASCII")),
        () if kind.nid == Nid::SERIALNUMBER && !value.bytes().all(is_printable) => {
            Err(format!("{name} has characters beyond those of a PrintableString"))
        }
        () => Ok((kind.nid, value.to_owned())),
    }
}

/// X.680, 41.4.
fn is_printable(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b" '()+,-./:=?".contains(&b)
}

/// Between unescaped separators; of `=` only the first is one. A `+` would make two attributes one
/// (RFC 4514, 2.2), which nobody's CA asks for.
fn parts(text: &str, separator: char) -> Result<Vec<&str>, String> {
    let (mut found, mut start, mut escaped) = (Vec::new(), 0, false);
    for (i, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '+' | '"' | ';' | '<' | '>' => return Err(format!("{c} must be written as \\{c}")),
            _ if c == separator && (c == ',' || found.is_empty()) => {
                found.push(&text[start..i]);
                start = i + 1;
            }
            _ => {}
        }
    }
    if escaped {
        return Err("it ends with \\".into());
    }
    found.push(&text[start..]);
    Ok(found)
}

/// Without the spaces around it; an escaped one at the end stays.
fn trim(value: &str) -> &str {
    let value = value.trim_start_matches(' ');
    let trimmed = value.trim_end_matches(' ');
    let slashes = trimmed.bytes().rev().take_while(|b| *b == b'\\').count();
    match slashes % 2 == 1 && trimmed.len() < value.len() {
        true => &value[..=trimmed.len()],
        false => trimmed,
    }
}

/// RFC 4514, 2.4: a backslash and a special character, or the two digits of a byte of UTF-8.
fn unescape(value: &str) -> Result<String, String> {
    let mut bytes = Vec::new();
    let mut rest = value.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        if *first != b'\\' {
            bytes.push(*first);
            continue;
        }
        let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
        match rest {
            [c, after @ ..] if br##" "#+,;<=>\"##.contains(c) => {
                bytes.push(*c);
                rest = after;
            }
            [a, b, after @ ..] if a.is_ascii_hexdigit() && b.is_ascii_hexdigit() => {
                bytes.extend(byte(&[*a, *b]));
                rest = after;
            }
            _ => {
                return Err(
                    "\\ stands before none of \" #+,;<=>\\\" and not before two hexadecimal digits"
                        .into(),
                );
            }
        }
    }
    String::from_utf8(bytes).map_err(|_| "it is not UTF-8".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let long = |n: usize| "\u{e4}".repeat(n);
        let (longest, too_long) = (format!("O={}", long(64)), format!("O={}", long(65)));
        let o = |value: &str| vec![(Nid::ORGANIZATIONNAME, value.to_owned())];
        let table: &[(&str, Vec<(Nid, String)>)] = &[
            ("O=Corp", o("Corp")),
            (" o = Corp Inc ", o("Corp Inc")),
            ("organizationName=Corp", o("Corp")),
            ("O=a=b", o("a=b")),
            (r"O=Corp\, Inc\.", vec![]),
            (r"O=Corp\, Inc.", o("Corp, Inc.")),
            (r"O=\22a\22 \+ \\", o("\"a\" + \\")),
            (r"O=M\C3\BCller", o("M\u{fc}ller")),
            ("O=M\u{fc}ller", o("M\u{fc}ller")),
            (r"O=a\  ", o("a ")),
            (r"O=a\\  ", o("a\\")),
            (r"O=\#1", o("#1")),
            (&longest, o(&long(64))),
            (
                "O=Corp, OU=Web, OU=Shop, C=DE",
                vec![
                    (Nid::ORGANIZATIONNAME, "Corp".into()),
                    (Nid::ORGANIZATIONALUNITNAME, "Web".into()),
                    (Nid::ORGANIZATIONALUNITNAME, "Shop".into()),
                    (Nid::COUNTRYNAME, "DE".into()),
                ],
            ),
            (
                "emailAddress=a@b.example,serialNumber=1-2",
                vec![
                    (Nid::PKCS9_EMAILADDRESS, "a@b.example".into()),
                    (Nid::SERIALNUMBER, "1-2".into()),
                ],
            ),
            ("", vec![]),
            (",", vec![]),
            ("O=Corp,", vec![]),
            ("Corp", vec![]),
            ("O=", vec![]),
            ("O= ,C=DE", vec![]),
            (&too_long, vec![]),
            ("X=1", vec![]),
            ("=Corp", vec![]),
            ("C=de", vec![]),
            ("C=DEU", vec![]),
            ("C=D", vec![]),
            ("O=a\tb", vec![]),
            (r"O=a\0Ab", vec![]),
            (r"O=\FF", vec![]),
            (r"O=a\", vec![]),
            (r"O=\x", vec![]),
            (r"O=\+1", o("+1")),
            (r"O=\+1+OU=b", vec![]),
            ("O=\"a\"", vec![]),
            ("O=a;OU=b", vec![]),
            ("emailAddress=\u{e4}@b.example", vec![]),
            ("serialNumber=1_2", vec![]),
            ("/O=Corp/OU=Web", vec![]),
        ];
        for (text, expected) in table {
            let found = Dn::parse(text);
            match expected.is_empty() {
                true => assert!(found.is_err(), "{text}: {found:?}"),
                false => assert_eq!(found.map(|dn| dn.0).as_ref(), Ok(expected), "{text}"),
            }
        }
    }

    #[test]
    fn refusals_say_what_is_known() {
        let said = |text: &str| Dn::parse(text).unwrap_err();
        assert_eq!(
            said("O=Corp, X=1"),
            "\"X\" is none of CN, C, ST, L, O, OU, STREET, DC, UID, serialNumber, emailAddress"
        );
        assert_eq!(said("Corp"), "\"Corp\" is not like \"O=Corp\"");
        assert_eq!(said("C=de"), "C is two capital letters (ISO 3166)");
        assert_eq!(said(&format!("L={}", "x".repeat(129))), "L is longer than 128");
    }

    /// OpenSSL has limits of its own; none of ours is wider.
    #[test]
    fn openssl_takes_the_longest() {
        for kind in KINDS {
            let value = match kind.nid {
                Nid::COUNTRYNAME => "DE".to_owned(),
                _ => "x".repeat(kind.longest),
            };
            let dn = Dn(vec![attribute(kind.names[0], &value).unwrap()]);
            let mut name = X509NameBuilder::new().unwrap();
            dn.append_to(&mut name).unwrap_or_else(|e| panic!("{}: {e}", kind.names[0]));
            let name = name.build();
            let entry = name.entries_by_nid(kind.nid).next().unwrap();
            assert_eq!(entry.data().as_slice(), value.as_bytes());
        }
    }
}
