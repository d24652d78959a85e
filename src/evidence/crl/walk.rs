//! Reading a CRL (RFC 5280, 5.1) from the beginning to the end, an entry at a time.
//!
//! Memory is bounded whatever comes: no element is held but the small ones, and what is too large
//! for a small one is refused.

use std::io::{BufRead, BufReader};

use super::Fault;
use super::der::{self, Elements, MALFORMED, Stream};
use super::extensions::{self, Extensions};
use super::pem::Pem;
use crate::clock::Time;

/// What comes before the entries.
#[derive(Clone, Debug)]
pub struct Head {
    /// 1 or 2.
    pub version: u8,
    /// Contents of the inner AlgorithmIdentifier.
    pub algorithm: Vec<u8>,
    /// DER of the issuer's Name.
    pub issuer: Vec<u8>,
    pub this_update: Time,
    pub next_update: Option<Time>,
    /// Length of all entries together, in bytes.
    pub entries: u64,
}

/// One revoked certificate.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// The contents of its INTEGER: 1 to 32 bytes.
    pub serial: &'a [u8],
    /// CRLReason.
    pub reason: Option<i32>,
    /// Tag and contents.
    date: (u8, &'a [u8]),
}

impl Entry<'_> {
    /// The revocationDate. Asked for on its own: most entries are about others.
    pub fn date(&self) -> Result<Time, Fault> {
        der::time(self.date.0, self.date.1)
    }
}

/// What comes after the entries.
#[derive(Clone, Debug)]
pub struct Tail {
    pub extensions: Extensions,
    /// Contents of the outer AlgorithmIdentifier.
    pub algorithm: Vec<u8>,
    pub signature: Vec<u8>,
}

/// Is told what a walk meets, in the order of the CRL. An error ends the walk.
pub trait Visitor {
    fn head(&mut self, _head: &Head) -> Result<(), Fault> {
        Ok(())
    }

    /// The next bytes of what is signed; the first come after [`Visitor::head`].
    fn signed(&mut self, _bytes: &[u8]) -> Result<(), Fault> {
        Ok(())
    }

    fn entry(&mut self, _entry: &Entry) -> Result<(), Fault> {
        Ok(())
    }
}

/// Looks at nothing.
impl Visitor for () {}

/// Walks through a CRL, DER or PEM. Nothing of what the visitor is told is proven before the
/// signature in the [`Tail`] is.
pub fn walk(mut reader: impl BufRead, visitor: &mut dyn Visitor) -> Result<Tail, Fault> {
    let first = reader.fill_buf().map_err(|e| Fault::Read(e.to_string()))?.first().copied();
    match first {
        Some(der::SEQUENCE) => walk_der(reader, visitor),
        Some(b'-') => walk_der(BufReader::new(Pem::new(reader)), visitor),
        Some(_) => Err(Fault::Garbage("neither DER nor PEM")),
        None => Err(Fault::Garbage("empty")),
    }
}

/// The longest of the elements before and after the entries, in bytes. Real ones have some
/// hundred.
const LONGEST: u64 = 64 * 1024;

/// The longest entry. Real ones have 20 to 60 bytes.
const LONGEST_ENTRY: u64 = 16 * 1024;

/// RFC 5280, 5.1.2.6 allows 20; some CAs were careless.
const LONGEST_SERIAL: usize = 32;

fn walk_der(reader: impl BufRead, visitor: &mut dyn Visitor) -> Result<Tail, Fault> {
    let mut stream = Stream::new(reader);
    let outer = stream.enter(der::SEQUENCE, u64::MAX)?;
    let end = stream.position + outer.length;
    stream.read.clear(); // what is signed begins here
    let tbs = stream.enter(der::SEQUENCE, end)?;
    let tbs_end = stream.position + tbs.length;

    let mut head = read_head(&mut stream, tbs_end)?;
    let entries_end = match stream.peek(tbs_end)? {
        Some(der::SEQUENCE) => {
            head.entries = stream.enter(der::SEQUENCE, tbs_end)?.length;
            Some(stream.position + head.entries)
        }
        _ => None,
    };
    visitor.head(&head)?;
    if let Some(entries_end) = entries_end {
        walk_entries(&mut stream, entries_end, &head, visitor)?;
    }
    let extensions = match stream.peek(tbs_end)? {
        // RFC 5280, 5.1.2.1: these need version 2.
        Some(_) if head.version == 1 => return Err(MALFORMED),
        Some(_) => extensions::read(&element(&mut stream, EXTENSIONS, tbs_end)?)?,
        None => Extensions::default(),
    };
    if stream.position != tbs_end {
        return Err(MALFORMED);
    }
    visitor.signed(&stream.read)?;

    let algorithm = element(&mut stream, der::SEQUENCE, end)?;
    let signature = element(&mut stream, der::BIT_STRING, end)?;
    if stream.position != end || !stream.is_at_end()? {
        return Err(Fault::Garbage("trailing bytes"));
    }
    match signature.split_first() {
        Some((0, signature)) => Ok(Tail { extensions, algorithm, signature: signature.to_vec() }),
        _ => Err(MALFORMED),
    }
}

const EXTENSIONS: u8 = 0xa0;

fn read_head<R: BufRead>(stream: &mut Stream<R>, end: u64) -> Result<Head, Fault> {
    let version = match stream.peek(end)? {
        Some(der::INTEGER) => match der::small(&element(stream, der::INTEGER, end)?)? {
            1 => 2,
            other => return Err(Fault::Version(other.saturating_add(1))),
        },
        _ => 1,
    };
    let algorithm = element(stream, der::SEQUENCE, end)?;
    let before = stream.read.len();
    element(stream, der::SEQUENCE, end)?;
    let issuer = stream.read[before..].to_vec();
    let this_update = time(stream, end)?;
    let next_update = match stream.peek(end)? {
        Some(der::UTC_TIME | der::GENERALIZED_TIME) => Some(time(stream, end)?),
        _ => None,
    };
    Ok(Head { version, algorithm, issuer, this_update, next_update, entries: 0 })
}

fn time<R: BufRead>(stream: &mut Stream<R>, end: u64) -> Result<Time, Fault> {
    let header = stream.header(end)?;
    let mut contents = Vec::new();
    stream.contents(header, LONGEST, &mut contents)?;
    der::time(header.tag, &contents)
}

/// The contents of the next element, a small one with this tag.
fn element<R: BufRead>(stream: &mut Stream<R>, tag: u8, end: u64) -> Result<Vec<u8>, Fault> {
    let header = stream.enter(tag, end)?;
    let mut contents = Vec::new();
    stream.contents(header, LONGEST, &mut contents)?;
    Ok(contents)
}

fn walk_entries<R: BufRead>(
    stream: &mut Stream<R>,
    end: u64,
    head: &Head,
    visitor: &mut dyn Visitor,
) -> Result<(), Fault> {
    /// What is signed is told in portions of about this many bytes.
    const PORTION: usize = 16 * 1024;
    let mut contents = Vec::new();
    while stream.position < end {
        let header = stream.enter(der::SEQUENCE, end)?;
        contents.clear();
        stream.contents(header, LONGEST_ENTRY, &mut contents)?;
        visitor.entry(&read_entry(&contents, head.version)?)?;
        if stream.read.len() >= PORTION {
            visitor.signed(&stream.read)?;
            stream.read.clear();
        }
    }
    Ok(())
}

fn read_entry(contents: &[u8], version: u8) -> Result<Entry<'_>, Fault> {
    let mut parts = Elements(contents);
    let serial = parts.expect(der::INTEGER)?;
    if !(1..=LONGEST_SERIAL).contains(&serial.len()) {
        return Err(Fault::Garbage("a serial number of an absurd length"));
    }
    let date = parts.next()?;
    if !matches!(date.0, der::UTC_TIME | der::GENERALIZED_TIME) {
        return Err(MALFORMED);
    }
    let reason = match parts.optional(der::SEQUENCE)? {
        Some(_) if version == 1 => return Err(MALFORMED),
        Some(list) => extensions::reason(list)?,
        None => None,
    };
    parts.end()?;
    Ok(Entry { serial, reason, date })
}
