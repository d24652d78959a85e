//! The first bytes of a connection, from anybody.

use cert_autofetch::client_hello::{LIMIT, Parsed, host, parse};

/// Reads `data` as it grows, and its message again in records of another size.
pub fn run(data: &[u8]) {
    let answer = parse(data);
    as_it_grows(data, &answer);
    if let Parsed::Hello(hello) = &answer {
        if let Some(name) = &hello.server_name {
            assert!(!name.iter().any(|b| *b <= b' ' || *b == b'/' || b.is_ascii_uppercase()));
            assert_eq!(host(name).as_ref(), Some(name));
        }
        in_other_records(data, &answer);
    }
}

/// However few bytes come at a time: nothing is answered but what the whole says, and once.
fn as_it_grows(data: &[u8], whole: &Parsed) {
    let mut answered = false;
    for end in (0..data.len()).step_by(1 + data.len() / 512) {
        match parse(&data[..end]) {
            Parsed::Incomplete => assert!(!answered, "{end}"),
            early => {
                assert_eq!(early, *whole, "{end}");
                answered = true;
            }
        }
    }
    if data.len() >= LIMIT {
        assert_ne!(*whole, Parsed::Incomplete);
    }
}

/// Records are a matter of transport (RFC 8446, 5.1).
fn in_other_records(data: &[u8], answer: &Parsed) {
    let (mut message, mut rest) = (Vec::new(), data);
    while let [22, 3, _, high, low, more @ ..] = rest {
        let Some((fragment, more)) =
            more.split_at_checked(usize::from(*high) << 8 | usize::from(*low))
        else {
            break;
        };
        message.extend(fragment);
        rest = more;
    }
    for size in [1, 100] {
        let records =
            message.chunks(size).flat_map(|c| [&[22, 3, 1, 0, c.len() as u8], c].concat());
        let records: Vec<u8> = records.collect();
        if records.len() < LIMIT {
            assert_eq!(parse(&records), *answer, "in records of {size}");
        }
    }
}
