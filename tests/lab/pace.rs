//! How a client brings its ClientHello on its way: at once, a byte at a time, or in records smaller
//! than any TLS library makes them.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    AtOnce,
    /// A byte at a time, with this pause before each.
    Bytes(Duration),
    /// Records that carry so many bytes each.
    Records(usize),
    /// What comes after the ClientHello, such as early data, follows after a pause.
    Rest(Duration),
}

/// The socket of a client, slow until [`Paced::hurry`].
pub(super) struct Paced {
    tcp: TcpStream,
    pace: Pace,
}

/// Takes what a client says first, and never answers.
#[derive(Default)]
pub(super) struct Catch(pub(super) Vec<u8>);

impl Paced {
    pub(super) fn new(tcp: TcpStream, pace: Pace) -> Paced {
        Paced { tcp, pace }
    }

    pub(super) fn hurry(&mut self) {
        self.pace = Pace::AtOnce;
    }
}

impl Read for Paced {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.tcp.read(buffer)
    }
}

impl Write for Paced {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.pace {
            Pace::AtOnce => self.tcp.write(bytes),
            Pace::Bytes(pause) => {
                std::thread::sleep(pause);
                self.tcp.write(&bytes[..bytes.len().min(1)])
            }
            Pace::Records(size) => {
                // Only the first write is a ClientHello in clear.
                self.pace = Pace::AtOnce;
                self.tcp.write_all(&split(bytes, size))?;
                Ok(bytes.len())
            }
            Pace::Rest(pause) => {
                self.pace = Pace::AtOnce;
                let (hello, rest) = bytes.split_at(first_record(bytes));
                self.tcp.write_all(hello)?;
                std::thread::sleep(pause);
                self.tcp.write_all(rest)?;
                Ok(bytes.len())
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.tcp.flush()
    }
}

impl Read for Catch {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(ErrorKind::WouldBlock.into())
    }
}

impl Write for Catch {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The first TLS record as several that carry the same bytes (RFC 8446, 5.1); what comes after it,
/// such as early data, as it is.
fn split(bytes: &[u8], size: usize) -> Vec<u8> {
    let (record, rest) = bytes.split_at(first_record(bytes));
    let (head, content) = record.split_at(HEAD);
    let piece = |p: &[u8]| [&head[..3], &(p.len() as u16).to_be_bytes(), p].concat();
    let pieces: Vec<u8> = content.chunks(size).flat_map(piece).collect();
    [&pieces, rest].concat()
}

/// The length of the first TLS record.
fn first_record(bytes: &[u8]) -> usize {
    HEAD + usize::from(u16::from_be_bytes([bytes[3], bytes[4]]))
}

/// Type, version, length.
const HEAD: usize = 5;
