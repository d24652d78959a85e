//! Reads the two things that a hold needs from the first bytes of a TLS connection: the server
//! name (RFC 6066, 3) and whether this is a tls-alpn-01 validation (RFC 8737). Everything else,
//! malformed input above all, is left to OpenSSL, which reports it as it always does.

/// The longest ClientHello that is looked at; a longer one goes to OpenSSL unseen.
pub const LIMIT: usize = 32 * 1024;

#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Parsed {
    /// Fine so far, more bytes are needed.
    Incomplete,
    /// Not a TLS ClientHello, or not one that we understand: none of our business.
    Foreign,
    Hello(ClientHello),
}

#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ClientHello {
    /// As nginx takes it for a host: in lower case, without port and trailing dot, of any bytes
    /// but control characters. None: none was sent, or nginx would not look for it.
    pub server_name: Option<Vec<u8>>,
    /// The only protocol offered is `acme-tls/1`.
    pub acme_tls: bool,
}

const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const EXT_SERVER_NAME: u16 = 0;
const EXT_ALPN: u16 = 16;

/// Reads `bytes`, one or more TLS records (RFC 8446, 5.1) from the start of the connection.
pub fn parse(bytes: &[u8]) -> Parsed {
    let mut rest = Reader(bytes);
    let first = rest;
    // The usual case: the hello lies whole in the first record and is read in place.
    match record(&mut rest) {
        Record::Incomplete if bytes.len() < LIMIT => return Parsed::Incomplete,
        Record::Incomplete | Record::Foreign => return Parsed::Foreign,
        Record::Fragment(fragment) => match message(fragment) {
            Message::Whole(body) => return hello(body),
            Message::Foreign => return Parsed::Foreign,
            Message::Partial => {}
        },
    }
    let mut joined = Vec::new();
    let mut rest = first;
    loop {
        match record(&mut rest) {
            Record::Incomplete if bytes.len() < LIMIT => return Parsed::Incomplete,
            Record::Incomplete | Record::Foreign => return Parsed::Foreign,
            Record::Fragment(fragment) => joined.extend_from_slice(fragment),
        }
        match message(&joined) {
            Message::Whole(body) => return hello(body),
            Message::Foreign => return Parsed::Foreign,
            Message::Partial => {}
        }
    }
}

enum Record<'a> {
    Incomplete,
    Foreign,
    Fragment(&'a [u8]),
}

fn record<'a>(reader: &mut Reader<'a>) -> Record<'a> {
    // Judged as early as possible: a client of another protocol may wait for our first word.
    if reader.0.first().is_some_and(|t| *t != HANDSHAKE) || reader.0.get(1).is_some_and(|v| *v != 3)
    {
        return Record::Foreign;
    }
    let mut whole = *reader;
    let Some(length) = whole.skip(3).and_then(|()| whole.u16()) else { return Record::Incomplete };
    if length == 0 {
        return Record::Foreign;
    }
    match whole.take(usize::from(length)) {
        Some(fragment) => {
            *reader = whole;
            Record::Fragment(fragment)
        }
        None => Record::Incomplete,
    }
}

enum Message<'a> {
    Partial,
    Foreign,
    Whole(&'a [u8]),
}

fn message(bytes: &[u8]) -> Message<'_> {
    let mut reader = Reader(bytes);
    match reader.u8() {
        Some(CLIENT_HELLO) => {}
        Some(_) => return Message::Foreign,
        None => return Message::Partial,
    }
    let Some(length) = reader.u24() else { return Message::Partial };
    if length > LIMIT {
        return Message::Foreign;
    }
    reader.take(length).map_or(Message::Partial, Message::Whole)
}

fn hello(body: &[u8]) -> Parsed {
    extensions(body).map_or(Parsed::Foreign, Parsed::Hello)
}

fn extensions(body: &[u8]) -> Option<ClientHello> {
    let mut reader = Reader(body);
    reader.skip(2 + 32)?;
    let session_id = reader.u8()?;
    reader.skip(session_id.into())?;
    let ciphers = reader.u16()?;
    reader.skip(ciphers.into())?;
    let compressions = reader.u8()?;
    reader.skip(compressions.into())?;
    let mut hello = ClientHello::default();
    if reader.0.is_empty() {
        return Some(hello);
    }
    let length = reader.u16()?;
    let mut list = Reader(reader.take(length.into())?);
    while !list.0.is_empty() {
        let kind = list.u16()?;
        let length = list.u16()?;
        let mut data = Reader(list.take(length.into())?);
        match kind {
            EXT_SERVER_NAME => hello.server_name = server_name(&mut data)?,
            EXT_ALPN => hello.acme_tls = data.0 == b"\x00\x0b\x0aacme-tls/1",
            _ => {}
        }
    }
    Some(hello)
}

/// The host_name entry.
fn server_name(data: &mut Reader) -> Option<Option<Vec<u8>>> {
    let length = data.u16()?;
    let mut list = Reader(data.take(length.into())?);
    while !list.0.is_empty() {
        let kind = list.u8()?;
        let length = list.u16()?;
        let name = list.take(length.into())?;
        if kind == 0 {
            return Some(host(name));
        }
    }
    Some(None)
}

/// nginx's reading of a host name (ngx_http_validate_host(), which is not exported). Another
/// reading would find another server than nginx does, and judge the wrong certificate.
pub fn host(name: &[u8]) -> Option<Vec<u8>> {
    let bad = |b: &u8| *b <= 0x20 || *b == 0x7f || *b == b'/';
    if name.iter().any(bad) || name.windows(2).any(|w| w == b"..") {
        return None;
    }
    let end = match name.first() {
        Some(b'[') => name.iter().position(|b| *b == b']').map(|i| i + 1),
        _ => name.iter().position(|b| *b == b':'),
    };
    let host = &name[..end.unwrap_or(name.len())];
    let host = host.strip_suffix(b".").unwrap_or(host);
    (!host.is_empty()).then(|| host.to_ascii_lowercase())
}

#[derive(Clone, Copy)]
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(n)?;
        self.0 = tail;
        Some(head)
    }

    fn skip(&mut self, n: usize) -> Option<()> {
        self.take(n).map(|_| ())
    }

    fn u8(&mut self) -> Option<u8> {
        self.take(1).map(|b| b[0])
    }

    fn u16(&mut self) -> Option<u16> {
        self.take(2).map(|b| u16::from_be_bytes([b[0], b[1]]))
    }

    fn u24(&mut self) -> Option<usize> {
        self.take(3).map(|b| usize::from(b[0]) << 16 | usize::from(b[1]) << 8 | usize::from(b[2]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ext(kind: u16, data: &[u8]) -> Vec<u8> {
        [&kind.to_be_bytes()[..], &(data.len() as u16).to_be_bytes(), data].concat()
    }

    fn sni(name: &[u8]) -> Vec<u8> {
        let entry = [&[0u8][..], &(name.len() as u16).to_be_bytes(), name].concat();
        ext(0, &[&(entry.len() as u16).to_be_bytes()[..], &entry].concat())
    }

    fn message_with(extensions: &[u8]) -> Vec<u8> {
        let mut body = vec![3, 3];
        body.extend([7; 32]);
        body.extend([0, 0, 2, 0x13, 0x01, 1, 0]);
        body.extend((extensions.len() as u16).to_be_bytes());
        body.extend(extensions);
        let len = (body.len() as u32).to_be_bytes();
        [&[1u8][..], &len[1..], &body].concat()
    }

    fn records(message: &[u8], size: usize) -> Vec<u8> {
        let record = |c: &[u8]| [&[22u8, 3, 1][..], &(c.len() as u16).to_be_bytes(), c].concat();
        message.chunks(size).flat_map(record).collect()
    }

    fn hello_of(name: &str) -> Parsed {
        Parsed::Hello(ClientHello { server_name: Some(name.as_bytes().to_vec()), acme_tls: false })
    }

    #[test]
    fn names() {
        let grease = ext(0x0a0a, b"");
        for (extensions, want) in [
            (sni(b"shop.example"), hello_of("shop.example")),
            ([grease, sni(b"SHOP.Example.")].concat(), hello_of("shop.example")),
            (ext(43, b"\x02\x03\x04"), Parsed::Hello(ClientHello::default())),
            (sni(b"a\0b"), Parsed::Hello(ClientHello::default())),
            (sni(b""), Parsed::Hello(ClientHello::default())),
            (
                [sni(b"a.example"), ext(16, b"\x00\x0b\x0aacme-tls/1")].concat(),
                Parsed::Hello(ClientHello {
                    server_name: Some(b"a.example".to_vec()),
                    acme_tls: true,
                }),
            ),
            ([sni(b"a.example"), ext(16, b"\x00\x03\x02h2")].concat(), hello_of("a.example")),
        ] {
            let message = message_with(&extensions);
            assert_eq!(parse(&records(&message, 16384)), want);
            assert_eq!(parse(&records(&message, 37)), want, "in small records");
        }
    }

    #[test]
    fn hosts_as_nginx_reads_them() {
        for (name, want) in [
            ("shop.example", Some("shop.example")),
            ("SHOP.example.", Some("shop.example")),
            ("shop.example:443", Some("shop.example")),
            ("shop.example.:443", Some("shop.example")),
            ("[::1]:443", Some("[::1]")),
            ("[::1", Some("[::1")),
            ("caf\u{e9}.example", Some("caf\u{e9}.example")),
            ("a..b", None),
            ("a/b", None),
            ("a b", None),
            ("a\u{7f}", None),
            (":443", None),
            (".", None),
            ("", None),
        ] {
            let want = want.map(|w| w.as_bytes().to_vec());
            assert_eq!(host(name.as_bytes()), want, "{name}");
        }
    }

    #[test]
    fn every_prefix_is_incomplete() {
        let message = message_with(&sni(b"shop.example"));
        for size in [16384, 37] {
            let all = records(&message, size);
            for n in 0..all.len() {
                assert_eq!(parse(&all[..n]), Parsed::Incomplete, "{n} of {}", all.len());
            }
        }
    }

    #[test]
    fn foreign() {
        let mut lying = message_with(&sni(b"shop.example"));
        let n = lying.len();
        lying[n - 14] = 0xff; // the name says it is longer than the message
        for bytes in [
            &b"GET / HTTP/1.1\r\n"[..],
            b"\x80\x2e\x01",
            b"\x16\x02\x00",
            b"\x16\x03\x01\x00\x00",
            b"\x16\x03\x01\x00\x04\x02\x00\x00\x00",
            b"\x16\x03\x01\x00\x04\x01\xff\xff\xff",
            &records(&lying, 16384),
        ] {
            assert_eq!(parse(bytes), Parsed::Foreign, "{bytes:?}");
        }
        let endless = records(&[&b"\x01\x00\x7f\xff"[..], &[0; 30000]].concat(), 1000);
        assert_eq!(parse(&endless), Parsed::Incomplete);
        let endless = [endless, records(&[0; 500], 1)].concat();
        assert!(endless.len() > LIMIT);
        assert_eq!(parse(&endless), Parsed::Foreign);
    }
}
