//! Loopback ports that no other test has, in this process or another one.
//!
//! Programs such as Pebble and nginx want a number before they bind, so "bind port 0 and let it go"
//! races with every other test. A port is therefore held by flock(2) on a file of its own for as
//! long as the [`Port`] lives. Numbers come from below the kernel's ephemeral range: there an
//! outgoing connection could take the port between two binds.

use std::fs::{self, File};
use std::hash::{BuildHasher, RandomState};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use rustix::fs::FlockOperation;

/// A reserved port; clones share the reservation.
#[derive(Clone, Debug)]
pub struct Port {
    number: u16,
    _reservation: Arc<File>,
}

impl Port {
    pub fn reserve() -> Port {
        let dir = std::env::temp_dir().join("cert-autofetch-ports");
        fs::create_dir_all(&dir).expect("directory of port reservations");
        // Tests of several users share the directory; who does not own it can't change the mode,
        // nor need to.
        let _ = fs::set_permissions(&dir, fs::Permissions::from_mode(0o1777));
        let start = RandomState::new().hash_one(std::process::id());
        for step in 0..COUNT {
            let number = FIRST + ((start + step) % COUNT) as u16;
            let Ok(file) =
                File::options().create(true).append(true).open(dir.join(number.to_string()))
            else {
                continue;
            };
            let held = rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok();
            if held && is_free(number) {
                return Port { number, _reservation: Arc::new(file) };
            }
        }
        panic!("no free loopback port between {FIRST} and {}", u64::from(FIRST) + COUNT);
    }

    /// This one, free or not, and reserved for nobody: in a container there are no other tests.
    pub fn fixed(number: u16) -> Port {
        let nothing = File::open("/dev/null").expect("/dev/null");
        Port { number, _reservation: Arc::new(nothing) }
    }

    pub fn number(&self) -> u16 {
        self.number
    }

    pub fn addr(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.number).into()
    }
}

impl std::fmt::Display for Port {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.number.fmt(f)
    }
}

/// UDP too: DNS and QUIC use the same number.
fn is_free(number: u16) -> bool {
    let any = (Ipv4Addr::UNSPECIFIED, number);
    TcpListener::bind(any).is_ok() && UdpSocket::bind(any).is_ok()
}

const FIRST: u16 = 20_000;
const COUNT: u64 = 12_000;
