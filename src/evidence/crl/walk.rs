//! Reading a CRL (RFC 5280, 5.1) from the beginning to the end, an entry at a time.

use std::io::BufRead;

use super::Fault;
use crate::clock::Time;

/// What comes before the entries.
#[derive(Clone, Debug)]
pub struct Head {
    /// DER of the inner AlgorithmIdentifier.
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
    /// The contents of its INTEGER.
    pub serial: &'a [u8],
    pub reason: Option<i32>,
}

/// What comes after the entries.
#[derive(Clone, Debug)]
pub struct Tail {
    pub signature: Vec<u8>,
}

/// Is told what a walk meets, in the order of the CRL. An error ends the walk.
pub trait Visitor {
    fn head(&mut self, _head: &Head) -> Result<(), Fault> {
        Ok(())
    }

    /// The next bytes of what is signed. The first come after [`Visitor::head`].
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
pub fn walk(_reader: impl BufRead, _visitor: &mut dyn Visitor) -> Result<Tail, Fault> {
    Err(Fault::Garbage("not yet"))
}
