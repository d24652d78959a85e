//! Addresses of hosts, without those that this machine has no way to.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use ureq::Error;
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;

/// Resolves as ureq does. A container often has no IPv6, and its names have: connecting there fails
/// at once, as the last, and would be told instead of why the others failed.
#[derive(Debug, Default)]
pub(super) struct Reachable(DefaultResolver);

impl Resolver for Reachable {
    fn resolve(
        &self,
        uri: &Uri,
        config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, Error> {
        let mut addresses = self.0.resolve(uri, config, timeout)?;
        let some: Vec<SocketAddr> = pick(&addresses, has_way);
        addresses.truncate(0);
        some.into_iter().for_each(|address| addresses.push(address));
        Ok(addresses)
    }
}

/// All of them if none can be reached: then connecting tells why.
fn pick(all: &[SocketAddr], has_way: impl Fn(&SocketAddr) -> bool) -> Vec<SocketAddr> {
    let some: Vec<SocketAddr> = all.iter().copied().filter(has_way).collect();
    if some.is_empty() { all.to_vec() } else { some }
}

/// Nothing is sent: a datagram socket that is connected has a route and an address of its own.
fn has_way(to: &SocketAddr) -> bool {
    let any = match to {
        SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
    };
    UdpSocket::bind(any).and_then(|socket| socket.connect(to)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_reached_goes_alone() {
        let v4 = SocketAddr::from(([192, 0, 2, 1], 443));
        let v6 = SocketAddr::from((Ipv6Addr::LOCALHOST, 443));
        let cases: [(&[SocketAddr], &[SocketAddr], &[SocketAddr]); 5] = [
            (&[v4, v6], &[v4, v6], &[v4, v6]),
            (&[v4, v6], &[v4], &[v4]),
            (&[v6, v4], &[v4], &[v4]),
            (&[v6, v4], &[], &[v6, v4]),
            (&[], &[], &[]),
        ];
        for (all, reachable, picked) in cases {
            assert_eq!(pick(all, |a| reachable.contains(a)), picked, "{all:?}, {reachable:?}");
        }
    }

    #[test]
    fn ways() {
        assert!(has_way(&SocketAddr::from((Ipv4Addr::LOCALHOST, 1))));
        // A socket has to ask for this one specially.
        assert!(!has_way(&SocketAddr::from((Ipv4Addr::BROADCAST, 1))));
    }
}
