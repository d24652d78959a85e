//! PEM (RFC 7468) as a stream: some servers send a CRL so.

use std::io::{BufRead, Error, ErrorKind, Read, Result};

use base64::prelude::{BASE64_STANDARD, Engine};

/// The DER in one PEM block that begins with the first byte. What follows the block is left.
pub struct Pem<R> {
    reader: R,
    state: State,
    /// Decoded, not yet read.
    ready: Vec<u8>,
    taken: usize,
}

enum State {
    Begin,
    Inside,
    Done,
}

const BEGIN: &[u8] = b"-----BEGIN X509 CRL-----";
const END: &[u8] = b"-----END X509 CRL-----";

impl<R: BufRead> Pem<R> {
    pub fn new(reader: R) -> Pem<R> {
        Pem { reader, state: State::Begin, ready: Vec::new(), taken: 0 }
    }

    /// Decodes the next line.
    fn advance(&mut self) -> Result<()> {
        let line = self.line()?;
        let text = line.trim_ascii();
        match self.state {
            State::Begin if text == BEGIN => self.state = State::Inside,
            State::Inside if text == END => self.state = State::Done,
            State::Inside => {
                self.ready = BASE64_STANDARD.decode(text).map_err(|_| malformed())?;
                self.taken = 0;
            }
            _ => return Err(malformed()),
        }
        Ok(())
    }

    /// Lines of more than 64 characters are a mistake, but a common one.
    fn line(&mut self) -> Result<Vec<u8>> {
        const LONGEST: u64 = 4096;
        let mut line = Vec::new();
        self.reader.by_ref().take(LONGEST).read_until(b'\n', &mut line)?;
        if line.is_empty() { Err(malformed()) } else { Ok(line) }
    }
}

impl<R: BufRead> Read for Pem<R> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        while self.taken == self.ready.len() {
            if matches!(self.state, State::Done) {
                return Ok(0);
            }
            self.advance()?;
        }
        let left = &self.ready[self.taken..];
        let count = left.len().min(buffer.len());
        buffer[..count].copy_from_slice(&left[..count]);
        self.taken += count;
        Ok(count)
    }
}

fn malformed() -> Error {
    Error::from(ErrorKind::InvalidData)
}
