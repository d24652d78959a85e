//! As much DER (X.690) as a CRL needs: one element after the other, from memory or a stream.
//!
//! Lengths are definite and as short as can be, and tags have one octet: there is no second
//! way to write what is signed.

use std::io::{BufRead, Read};

use time::{Date, Month, PrimitiveDateTime};

use super::Fault;
use crate::clock::Time;

pub const BOOLEAN: u8 = 0x01;
pub const INTEGER: u8 = 0x02;
pub const BIT_STRING: u8 = 0x03;
pub const OCTET_STRING: u8 = 0x04;
pub const OID: u8 = 0x06;
pub const ENUMERATED: u8 = 0x0a;
pub const UTC_TIME: u8 = 0x17;
pub const GENERALIZED_TIME: u8 = 0x18;
pub const SEQUENCE: u8 = 0x30;

pub const MALFORMED: Fault = Fault::Garbage("malformed");
const TRUNCATED: Fault = Fault::Garbage("truncated");

/// What is left of some elements in memory.
#[derive(Clone, Copy)]
pub struct Elements<'a>(pub &'a [u8]);

impl<'a> Elements<'a> {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The tag of the next one.
    pub fn peek(&self) -> Option<u8> {
        self.0.first().copied()
    }

    /// Tag and contents of the next one.
    pub fn next(&mut self) -> Result<(u8, &'a [u8]), Fault> {
        let mut rest = self.0;
        let header = Header::read(|| {
            let (first, after) = rest.split_first().ok_or(MALFORMED)?;
            rest = after;
            Ok(*first)
        })?;
        let length = usize::try_from(header.length).map_err(|_| MALFORMED)?;
        let (contents, after) = rest.split_at_checked(length).ok_or(MALFORMED)?;
        self.0 = after;
        Ok((header.tag, contents))
    }

    /// The contents of the next one, which has this tag.
    pub fn expect(&mut self, tag: u8) -> Result<&'a [u8], Fault> {
        match self.next()? {
            (found, contents) if found == tag => Ok(contents),
            _ => Err(MALFORMED),
        }
    }

    /// The contents of the next one, if it has this tag.
    pub fn optional(&mut self, tag: u8) -> Result<Option<&'a [u8]>, Fault> {
        if self.peek() == Some(tag) { self.expect(tag).map(Some) } else { Ok(None) }
    }

    pub fn end(&self) -> Result<(), Fault> {
        if self.is_empty() { Ok(()) } else { Err(MALFORMED) }
    }
}

/// The contents of the one element that `der` is.
pub fn only(der: &[u8], tag: u8) -> Result<&[u8], Fault> {
    let mut elements = Elements(der);
    let contents = elements.expect(tag)?;
    elements.end()?;
    Ok(contents)
}

/// Everything but zero is true: then no sloppy writer turns a restriction off.
pub fn boolean(contents: &[u8]) -> Result<bool, Fault> {
    match contents {
        [value] => Ok(*value != 0),
        _ => Err(MALFORMED),
    }
}

/// A small number; what is larger is malformed wherever this is used.
pub fn small(contents: &[u8]) -> Result<i32, Fault> {
    match contents {
        [value] => Ok(i32::from(*value as i8)),
        _ => Err(MALFORMED),
    }
}

/// RFC 5280, 5.1.2.4: in UTC with seconds and nothing finer.
pub fn time(tag: u8, contents: &[u8]) -> Result<Time, Fault> {
    read_time(tag, contents).ok_or(Fault::MalformedTime)
}

fn read_time(tag: u8, contents: &[u8]) -> Option<Time> {
    let text = contents.strip_suffix(b"Z")?;
    let (year, rest) = match (tag, text.len()) {
        // RFC 5280, 4.1.2.5.1: two digits mean 1950 to 2049.
        (UTC_TIME, 12) => match digits(&text[..2])? {
            year @ 50.. => (1900 + year, &text[2..]),
            year => (2000 + year, &text[2..]),
        },
        (GENERALIZED_TIME, 14) => (100 * digits(&text[..2])? + digits(&text[2..4])?, &text[4..]),
        _ => return None,
    };
    let part = |n: usize| rest.get(2 * n..2 * n + 2).and_then(digits);
    let small = |n: usize| part(n).and_then(|v| u8::try_from(v).ok());
    let month = Month::try_from(small(0)?).ok()?;
    let date = Date::from_calendar_date(year, month, small(1)?).ok()?;
    let time = time::Time::from_hms(small(2)?, small(3)?, small(4)?).ok()?;
    Some(Time::from_secs(PrimitiveDateTime::new(date, time).assume_utc().unix_timestamp()))
}

fn digits(text: &[u8]) -> Option<i32> {
    text.iter().try_fold(0, |n, b| b.is_ascii_digit().then(|| 10 * n + i32::from(b - b'0')))
}

/// What precedes the contents of an element.
#[derive(Clone, Copy)]
pub struct Header {
    pub tag: u8,
    pub length: u64,
}

impl Header {
    fn read(mut next: impl FnMut() -> Result<u8, Fault>) -> Result<Header, Fault> {
        let tag = next()?;
        if tag & 0x1f == 0x1f {
            return Err(MALFORMED);
        }
        let length = match next()? {
            short @ 0..=0x7f => u64::from(short),
            0x80 => return Err(Fault::Garbage("indefinite length")),
            long @ 0x81..=0x84 => {
                let mut length = 0;
                for _ in 0x80..long {
                    length = length << 8 | u64::from(next()?);
                }
                // As short as can be.
                let shortest = if long == 0x81 { 0x80 } else { 1 << (8 * (long - 0x81)) };
                if length < shortest {
                    return Err(MALFORMED);
                }
                length
            }
            _ => return Err(MALFORMED),
        };
        Ok(Header { tag, length })
    }
}

/// A stream of elements that knows where it is, and keeps what was read till it is taken.
pub struct Stream<R> {
    reader: R,
    /// Bytes read so far.
    pub position: u64,
    /// What was read, for the signature.
    pub read: Vec<u8>,
}

impl<R: BufRead> Stream<R> {
    pub fn new(reader: R) -> Stream<R> {
        Stream { reader, position: 0, read: Vec::new() }
    }

    /// The header of the next element, which ends at `end` at the latest.
    pub fn header(&mut self, end: u64) -> Result<Header, Fault> {
        let header = Header::read(|| self.byte(end))?;
        if header.length > end - self.position {
            return Err(Fault::Garbage("an element is longer than what it is in"));
        }
        Ok(header)
    }

    /// As [`Stream::header`], with this tag.
    pub fn enter(&mut self, tag: u8, end: u64) -> Result<Header, Fault> {
        let header = self.header(end)?;
        if header.tag == tag { Ok(header) } else { Err(MALFORMED) }
    }

    /// Appends the contents that follow `header` to `into`, unless there are more than `limit`.
    pub fn contents(
        &mut self,
        header: Header,
        limit: u64,
        into: &mut Vec<u8>,
    ) -> Result<(), Fault> {
        if header.length > limit {
            return Err(Fault::Garbage("an element is absurdly long"));
        }
        let before = self.read.len();
        let mut bounded = self.reader.by_ref().take(header.length);
        let count = bounded.read_to_end(&mut self.read).map_err(broken)? as u64;
        self.position += count;
        if count < header.length {
            return Err(TRUNCATED);
        }
        into.extend_from_slice(&self.read[before..]);
        Ok(())
    }

    /// The tag of the next element before `end`; None: there is none.
    pub fn peek(&mut self, end: u64) -> Result<Option<u8>, Fault> {
        if self.position >= end {
            return Ok(None);
        }
        let next = self.reader.fill_buf().map_err(broken)?.first().copied();
        next.map(Some).ok_or(TRUNCATED)
    }

    /// Whether nothing follows.
    pub fn is_at_end(&mut self) -> Result<bool, Fault> {
        Ok(self.reader.fill_buf().map_err(broken)?.is_empty())
    }

    fn byte(&mut self, end: u64) -> Result<u8, Fault> {
        let byte = self.peek(end)?.ok_or(MALFORMED)?;
        self.reader.consume(1);
        self.read.push(byte);
        self.position += 1;
        Ok(byte)
    }
}

fn broken(error: std::io::Error) -> Fault {
    match error.kind() {
        // From the PEM reader: what it found is no PEM.
        std::io::ErrorKind::InvalidData => Fault::Garbage("malformed PEM"),
        _ => Fault::Read(crate::report::printable(&error.to_string())),
    }
}
