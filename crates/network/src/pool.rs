//! The addresses of one pod CIDR: which sandbox has which.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// Addresses of an IPv6 CIDR that are given out; no node runs more pods.
const ADDRESSES_MAX: u128 = 65_536;

#[derive(Debug, Clone)]
pub(crate) struct Pool {
    cidr: IpNet,
    /// Offset that is tried next: behind the last one given, so that an address rests as long as possible.
    next: u128,
    used: BTreeMap<IpAddr, String>,
}

impl Pool {
    /// `None` when the CIDR has no room for a gateway and a pod.
    pub(crate) fn new(cidr: IpNet) -> Option<Pool> {
        let pool = Pool { cidr: cidr.trunc(), next: FIRST, used: BTreeMap::new() };
        (pool.end() > FIRST).then_some(pool)
    }

    pub(crate) fn cidr(&self) -> IpNet {
        self.cidr
    }

    /// The bridge's own address: the first of the CIDR.
    pub(crate) fn gateway(&self) -> IpAddr {
        self.at(1)
    }

    /// The first offset that is not given: the broadcast address of IPv4, or the limit.
    fn end(&self) -> u128 {
        let bits = u32::from(self.cidr.max_prefix_len() - self.cidr.prefix_len());
        let size = 1u128.checked_shl(bits).unwrap_or(u128::MAX);
        let broadcast = u128::from(self.cidr.addr().is_ipv4());
        size.saturating_sub(broadcast).min(ADDRESSES_MAX)
    }

    fn at(&self, offset: u128) -> IpAddr {
        match self.cidr.network() {
            IpAddr::V4(v4) => Ipv4Addr::from(u32::from(v4).wrapping_add(offset as u32)).into(),
            IpAddr::V6(v6) => Ipv6Addr::from(u128::from(v6).wrapping_add(offset)).into(),
        }
    }

    /// Of an address of the CIDR.
    fn offset(&self, address: IpAddr) -> u128 {
        match (address, self.cidr.network()) {
            (IpAddr::V4(v4), IpAddr::V4(first)) => u128::from(u32::from(v4).wrapping_sub(u32::from(first))),
            (IpAddr::V6(v6), IpAddr::V6(first)) => u128::from(v6).wrapping_sub(u128::from(first)),
            _ => 0,
        }
    }

    /// Gives the sandbox an address that nobody has.
    pub(crate) fn allocate(&mut self, sandbox: &str) -> Option<IpAddr> {
        let (first, end) = (FIRST, self.end());
        let start = if self.next < end { self.next } else { first };
        let offset = (start..end).chain(first..start).find(|offset| !self.used.contains_key(&self.at(*offset)))?;
        let address = self.at(offset);
        self.next = offset + 1;
        self.used.insert(address, sandbox.to_owned());
        Some(address)
    }

    /// Notes that the sandbox has this address. `false` when another has it or it is not of the pool. What is given
    /// next comes after it: those before may have been given back a moment ago, by a process that is gone.
    pub(crate) fn reserve(&mut self, address: IpAddr, sandbox: &str) -> bool {
        if !self.cidr.contains(&address) || address == self.gateway() {
            return false;
        }
        self.next = self.next.max(self.offset(address) + 1);
        self.used.entry(address).or_insert_with(|| sandbox.to_owned()) == sandbox
    }

    pub(crate) fn release(&mut self, sandbox: &str) {
        self.used.retain(|_, owner| owner != sandbox);
    }

    pub(crate) fn len(&self) -> usize {
        self.used.len()
    }
}

/// The network's own address and the gateway come before.
const FIRST: u128 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(cidr: &str) -> Pool {
        Pool::new(cidr.parse().expect("a CIDR")).expect("a pool")
    }

    fn text(address: Option<IpAddr>) -> String {
        address.map_or("none".to_owned(), |address| address.to_string())
    }

    #[test]
    fn addresses_rotate_before_they_come_again() {
        let mut pool = pool("10.1.2.0/29");
        assert_eq!(pool.gateway().to_string(), "10.1.2.1");
        assert_eq!(text(pool.allocate("a")), "10.1.2.2");
        pool.release("a");
        let rest: Vec<String> = ["b", "c", "d", "e", "f", "g"].map(|owner| text(pool.allocate(owner))).to_vec();
        assert_eq!(rest, ["10.1.2.3", "10.1.2.4", "10.1.2.5", "10.1.2.6", "10.1.2.2", "none"]);
    }

    #[test]
    fn a_reserved_address_is_not_given() {
        let mut pool = pool("10.1.2.0/24");
        assert!(pool.reserve("10.1.2.2".parse().unwrap(), "a"));
        assert!(pool.reserve("10.1.2.2".parse().unwrap(), "a"));
        assert!(!pool.reserve("10.1.2.2".parse().unwrap(), "b"));
        assert!(!pool.reserve("10.1.2.1".parse().unwrap(), "b"));
        assert!(!pool.reserve("10.9.9.9".parse().unwrap(), "b"));
        assert_eq!(text(pool.allocate("b")), "10.1.2.3");
        assert!(pool.reserve("10.1.2.9".parse().unwrap(), "c"));
        assert_eq!(text(pool.allocate("d")), "10.1.2.10", "not what was given back before the start");
        assert!(pool.reserve("10.1.2.254".parse().unwrap(), "e"));
        assert_eq!(text(pool.allocate("f")), "10.1.2.4", "and round");
    }

    #[test]
    fn both_families_and_tiny_cidrs() {
        assert_eq!(text(pool("fd00::/64").allocate("a")), "fd00::2");
        assert!(Pool::new("10.0.0.0/31".parse().unwrap()).is_none());
        assert!(Pool::new("10.0.0.0/32".parse().unwrap()).is_none());
        assert!(Pool::new("0.0.0.0/0".parse().unwrap()).is_some());
        assert!(Pool::new("::/0".parse().unwrap()).is_some());
    }
}
