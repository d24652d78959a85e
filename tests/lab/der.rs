//! As much DER as OCSP, CRLs and odd certificates need: a writer that can also write nonsense, and
//! a reader of elements.

use time::OffsetDateTime;

pub const SEQUENCE: u8 = 0x30;
pub const INTEGER: u8 = 0x02;
pub const BIT_STRING: u8 = 0x03;
pub const OCTET_STRING: u8 = 0x04;
pub const NULL: u8 = 0x05;
pub const OID: u8 = 0x06;
pub const ENUMERATED: u8 = 0x0a;
pub const UTC_TIME: u8 = 0x17;
pub const GENERALIZED_TIME: u8 = 0x18;

/// One element with the tag octet as given.
pub fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    match content.len() {
        len @ 0..=0x7f => out.push(len as u8),
        len => {
            let bytes = len.to_be_bytes();
            let used = &bytes[bytes.iter().take_while(|b| **b == 0).count()..];
            out.push(0x80 | used.len() as u8);
            out.extend(used);
        }
    }
    out.extend(content);
    out
}

pub fn sequence<T: AsRef<[u8]>>(parts: &[T]) -> Vec<u8> {
    element(SEQUENCE, &concat(parts))
}

pub fn concat<T: AsRef<[u8]>>(parts: &[T]) -> Vec<u8> {
    parts.iter().flat_map(|p| p.as_ref().iter().copied()).collect()
}

/// `[number] EXPLICIT`
pub fn explicit(number: u8, content: &[u8]) -> Vec<u8> {
    element(0xa0 | number, content)
}

/// `[number] IMPLICIT` of something primitive
pub fn implicit(number: u8, content: &[u8]) -> Vec<u8> {
    element(0x80 | number, content)
}

/// A positive INTEGER of these big-endian bytes.
pub fn integer(magnitude: &[u8]) -> Vec<u8> {
    let digits = &magnitude[magnitude.iter().take_while(|b| **b == 0).count()..];
    let sign: &[u8] = if digits.first().is_none_or(|b| b & 0x80 != 0) { &[0] } else { &[] };
    element(INTEGER, &concat(&[sign, digits]))
}

pub fn octets(content: &[u8]) -> Vec<u8> {
    element(OCTET_STRING, content)
}

pub fn bits(content: &[u8]) -> Vec<u8> {
    element(BIT_STRING, &concat(&[&[0][..], content]))
}

pub fn oid(dotted: &str) -> Vec<u8> {
    let arcs: Vec<u64> = dotted.split('.').map(|a| a.parse().expect("OID")).collect();
    let mut out = Vec::new();
    for arc in std::iter::once(arcs[0] * 40 + arcs[1]).chain(arcs[2..].iter().copied()) {
        let groups = (64 - arc.leading_zeros()).max(1).div_ceil(7);
        for group in (0..groups).rev() {
            let more = if group > 0 { 0x80 } else { 0 };
            out.push((arc >> (7 * group)) as u8 & 0x7f | more);
        }
    }
    element(OID, &out)
}

/// GeneralizedTime as OCSP wants it; seconds since 1970.
pub fn time(unix: i64) -> Vec<u8> {
    element(GENERALIZED_TIME, digits(unix).as_bytes())
}

/// UTCTime as certificates and CRLs want it until 2049.
pub fn utc_time(unix: i64) -> Vec<u8> {
    element(UTC_TIME, &digits(unix).as_bytes()[2..])
}

fn digits(unix: i64) -> String {
    let t = OffsetDateTime::from_unix_timestamp(unix).expect("a time that can be written");
    format!(
        "{:04}{:02}{:02}{:02}{:02}{:02}Z",
        t.year(),
        u8::from(t.month()),
        t.day(),
        t.hour(),
        t.minute(),
        t.second()
    )
}

/// One extension of RFC 5280.
pub fn extension(id: &str, critical: bool, value: &[u8]) -> Vec<u8> {
    let flag: &[u8] = if critical { &[0x01, 0x01, 0xff] } else { &[] };
    sequence(&[&oid(id)[..], flag, &octets(value)])
}

/// An element as read: what it says, and its whole encoding.
#[derive(Clone, Copy, Debug)]
pub struct Element<'a> {
    pub tag: u8,
    pub content: &'a [u8],
    pub whole: &'a [u8],
}

impl<'a> Element<'a> {
    /// The elements in it.
    pub fn children(&self) -> Reader<'a> {
        Reader(self.content)
    }
}

/// Reads one element after the other; ends at the end or at the first that is broken.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a>(pub &'a [u8]);

impl<'a> Iterator for Reader<'a> {
    type Item = Element<'a>;

    fn next(&mut self) -> Option<Element<'a>> {
        let (&tag, &first) = (self.0.first()?, self.0.get(1)?);
        let (header, len) = if first < 0x80 {
            (2, usize::from(first))
        } else {
            let count = usize::from(first & 0x7f).min(8);
            let len = self.0.get(2..2 + count)?.iter().fold(0, |n, b| n << 8 | usize::from(*b));
            (2 + count, len)
        };
        let whole = self.0.get(..header.checked_add(len)?)?;
        self.0 = &self.0[whole.len()..];
        Some(Element { tag, content: &whole[header..], whole })
    }
}
