//! Bare TCP, for clients that no TLS library would make.

use std::ascii::escape_default;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsRawFd;
use std::time::Duration;

use super::ports::Port;

/// A connection that has sent this much.
pub fn send(port: &Port, bytes: &[u8]) -> TcpStream {
    let mut tcp = TcpStream::connect(port.addr()).expect("connect");
    tcp.set_read_timeout(Some(PATIENCE)).expect("timeout");
    tcp.write_all(bytes).expect("write");
    tcp
}

/// What a server says to these bytes and the end of the connection, and whether it closes too;
/// without the time of day.
pub fn exchange(port: &Port, bytes: &[u8]) -> String {
    let mut tcp = send(port, b"");
    // The server may close before it has read all.
    let _ = tcp.write_all(bytes);
    let _ = tcp.shutdown(Shutdown::Write);
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    let end = loop {
        match tcp.read(&mut buffer) {
            Ok(0) => break "closed",
            Ok(n) => answer.extend(&buffer[..n]),
            Err(e) if e.kind() == ErrorKind::ConnectionReset => break "closed",
            Err(_) => break "open",
        }
    };
    let text: String = answer.iter().flat_map(|b| escape_default(*b)).map(char::from).collect();
    let lines = text.split("\\r\\n").filter(|l| !l.starts_with("Date:"));
    lines.collect::<Vec<_>>().join("\n") + end
}

/// Ends as clients do.
pub fn fin(tcp: TcpStream) {
    drop(tcp);
}

/// Ends by RST.
pub fn rst(tcp: TcpStream) {
    // Nothing to linger for: close() sends RST.
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    // SAFETY: an open socket, and a structure of the size that is told.
    let set = unsafe {
        libc::setsockopt(
            tcp.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_LINGER,
            (&raw const linger).cast(),
            size_of::<libc::linger>() as libc::socklen_t,
        )
    };
    assert_eq!(set, 0, "SO_LINGER");
}

const PATIENCE: Duration = Duration::from_secs(20);
