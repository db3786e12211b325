//! Addresses: which subnet a new network gets, and which address a new endpoint.

use std::net::Ipv4Addr;

use gantry_model::ErrorKind;
use gantry_sys::netlink;

use crate::Host;
use crate::address::Ipv4Net;

/// The addresses of one subnet. Pure and in memory: the engine fills it from its records at its start.
///
/// The network's first and last address and those reserved are never given out. An address that was released
/// is given out again only after all others: the kernel takes down an old namespace some time after
/// its last descriptor was closed, and until then it may still answer for its address.
#[derive(Debug, Clone)]
pub struct Pool {
    subnet: Ipv4Net,
    /// A bit for each address of the subnet, set if it is taken; words that were never used are absent.
    taken: Vec<u64>,
    used: u32,
    /// Where to look first, as an offset into the subnet.
    next: u32,
}

impl Pool {
    /// All addresses of `subnet` (its host bits are ignored) free.
    ///
    /// # Errors
    /// [`IpamError::Subnet`] for a prefix below 8 or above 30.
    pub fn new(subnet: Ipv4Net) -> Result<Self, IpamError> {
        if !(8..=30).contains(&subnet.prefix()) {
            return Err(IpamError::Subnet { subnet });
        }
        Ok(Self { subnet: subnet.network(), taken: Vec::new(), used: 0, next: 1 })
    }

    /// The subnet, host bits cleared.
    #[must_use]
    pub fn subnet(&self) -> Ipv4Net {
        self.subnet
    }

    /// The offset of the last address, which is the broadcast address.
    fn last(&self) -> u32 {
        !self.subnet.mask_bits()
    }

    /// Takes the next free address.
    ///
    /// # Errors
    /// [`IpamError::Exhausted`].
    pub fn allocate(&mut self) -> Result<Ipv4Addr, IpamError> {
        let found = self
            .first_free(self.next, self.last())
            .or_else(|| self.first_free(1, self.next))
            .ok_or(IpamError::Exhausted { subnet: self.subnet })?;
        self.mark(found);
        self.next = if found + 1 < self.last() { found + 1 } else { 1 };
        Ok(Ipv4Addr::from_bits(self.subnet.address().to_bits() + found))
    }

    /// Takes this address: the gateway, one that a user asked for, one of a record.
    ///
    /// # Errors
    /// [`IpamError::InUse`], [`IpamError::OutOfRange`].
    pub fn reserve(&mut self, address: Ipv4Addr) -> Result<(), IpamError> {
        let offset = self.offset(address).ok_or(IpamError::OutOfRange { address, subnet: self.subnet })?;
        if self.is_taken(offset) {
            return Err(IpamError::InUse { address });
        }
        self.mark(offset);
        Ok(())
    }

    /// Gives an address back. One that is free, or not of this subnet, is ignored.
    pub fn release(&mut self, address: Ipv4Addr) {
        if let Some(offset) = self.offset(address)
            && self.is_taken(offset)
        {
            let (word, bit) = place(offset);
            self.taken[word] &= !bit;
            self.used -= 1;
        }
    }

    /// How many addresses are free.
    #[must_use]
    pub fn free(&self) -> u32 {
        self.last() - 1 - self.used
    }

    /// The offset of an address that an endpoint may have.
    fn offset(&self, address: Ipv4Addr) -> Option<u32> {
        let offset = address.to_bits().checked_sub(self.subnet.address().to_bits())?;
        (0 < offset && offset < self.last()).then_some(offset)
    }

    fn is_taken(&self, offset: u32) -> bool {
        let (word, bit) = place(offset);
        self.taken.get(word).is_some_and(|bits| bits & bit != 0)
    }

    fn mark(&mut self, offset: u32) {
        let (word, bit) = place(offset);
        if self.taken.len() <= word {
            self.taken.resize(word + 1, 0);
        }
        self.taken[word] |= bit;
        self.used += 1;
    }

    /// The first free offset from `from` to below `end`, by whole words where they are full.
    fn first_free(&self, from: u32, end: u32) -> Option<u32> {
        let mut at = from;
        while at < end {
            let (word, _) = place(at);
            let bits = self.taken.get(word).copied().unwrap_or(0) >> (at % 64);
            let run = bits.trailing_ones();
            if run < 64 - at % 64 {
                at += run;
                return (at < end).then_some(at);
            }
            at += 64 - at % 64;
        }
        None
    }
}

fn place(offset: u32) -> (usize, u64) {
    ((offset / 64) as usize, 1 << (offset % 64))
}

/// A range that subnets are cut from (Docker's `--default-address-pool`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AddressPool {
    /// The range.
    pub base: Ipv4Net,
    /// The prefix length of each subnet, at least that of `base`.
    pub size: u8,
}

/// Docker's pools: 172.17.0.0/16 to 172.31.0.0/16, then 192.168.0.0/16 in pieces of /20.
#[must_use]
pub fn default_pools() -> Vec<AddressPool> {
    let pool = |a, b, prefix, size| {
        let base = Ipv4Net::new(Ipv4Addr::new(a, b, 0, 0), prefix).expect("the prefix is below 32");
        AddressPool { base, size }
    };
    (17..=31).map(|second| pool(172, second, 16, 16)).chain([pool(192, 168, 16, 20)]).collect()
}

/// The first subnet of `pools` that overlaps neither a route or address of the host, nor its resolvers, nor
/// `taken` (the subnets of networks that are recorded but not made at the moment).
///
/// # Errors
/// [`IpamError::NoSubnet`]; [`IpamError::Kernel`] where the host's routes could not be read.
pub fn choose_subnet(host: &Host, pools: &[AddressPool], taken: &[Ipv4Net]) -> Result<Ipv4Net, IpamError> {
    let known = host
        .with_route(|route| {
            let mut known = route.routes()?;
            known.extend(route.addresses(0)?);
            Ok::<_, netlink::Error>(known)
        })
        .map_err(|error| IpamError::Kernel(error.into()))?
        .map_err(IpamError::Kernel)?;
    let mut taken = taken.to_vec();
    taken.extend(known.into_iter().filter_map(|(address, prefix)| Ipv4Net::new(address, prefix)));
    let resolvers = crate::dns::host_resolvers().nameservers;
    taken.extend(resolvers.iter().filter_map(|text| Ipv4Net::new(text.parse().ok()?, 32)));
    first_subnet(pools, &taken).ok_or(IpamError::NoSubnet)
}

fn first_subnet(pools: &[AddressPool], taken: &[Ipv4Net]) -> Option<Ipv4Net> {
    pools
        .iter()
        .filter(|pool| (1..=32).contains(&pool.size) && pool.size >= pool.base.prefix())
        .flat_map(|pool| {
            let first = pool.base.network().address().to_bits();
            let count = 1_u64 << (pool.size - pool.base.prefix());
            let step = 1_u64 << (32 - pool.size);
            (0..count).filter_map(move |n| {
                let bits = u32::try_from(u64::from(first) + n * step).ok()?;
                Ipv4Net::new(Ipv4Addr::from_bits(bits), pool.size)
            })
        })
        .find(|subnet| !taken.iter().any(|other| other.overlaps(*subnet)))
}

/// Why there is no address.
#[derive(Debug, thiserror::Error)]
pub enum IpamError {
    /// Every address is taken. Docker's words.
    #[error("no available IPv4 addresses on this network's address pools: {subnet}")]
    Exhausted {
        /// The pool's subnet.
        subnet: Ipv4Net,
    },
    /// The address asked for is taken. Docker's words.
    #[error("Address already in use")]
    InUse {
        /// The address.
        address: Ipv4Addr,
    },
    /// The address asked for cannot be an endpoint's.
    #[error("Requested address is out of range")]
    OutOfRange {
        /// The address.
        address: Ipv4Addr,
        /// The pool's subnet.
        subnet: Ipv4Net,
    },
    /// The subnet is too small or too large for a network.
    #[error("subnet {subnet} cannot hold a network: its prefix must be /8 to /30")]
    Subnet {
        /// The subnet.
        subnet: Ipv4Net,
    },
    /// The host uses them all. Docker's words.
    #[error("all predefined address pools have been fully subnetted")]
    NoSubnet,
    /// The host's routes could not be read.
    #[error("reading the host's routes failed")]
    Kernel(#[source] netlink::Error),
}

impl IpamError {
    /// What sort of failure this is.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::InUse { .. } => ErrorKind::Forbidden,
            Self::OutOfRange { .. } | Self::Subnet { .. } => ErrorKind::InvalidArgument,
            Self::Exhausted { .. } | Self::NoSubnet | Self::Kernel(_) => ErrorKind::Internal,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> Ipv4Net {
        text.parse().expect("a test's own address is right")
    }

    fn pool(text: &str) -> Pool {
        Pool::new(net(text)).expect("a test's own subnet is right")
    }

    #[test]
    fn addresses_come_in_order_and_come_back_last() {
        let mut pool = pool("172.17.0.0/29");
        pool.reserve(Ipv4Addr::new(172, 17, 0, 1)).expect("free");
        assert_eq!(pool.free(), 5);
        let mut take = || pool.allocate().map(|address| address.octets()[3]).ok();
        assert_eq!((take(), take()), (Some(2), Some(3)));
        pool.release(Ipv4Addr::new(172, 17, 0, 2));
        let mut take = || pool.allocate().map(|address| address.octets()[3]).ok();
        assert_eq!([take(), take(), take(), take(), take()], [Some(4), Some(5), Some(6), Some(2), None]);
        assert_eq!(pool.free(), 0);
    }

    #[test]
    fn reserve_refuses_what_is_taken_or_no_endpoints() {
        let mut pool = pool("10.1.2.0/24");
        for (address, good) in [
            ([10, 1, 2, 9], true),
            ([10, 1, 2, 9], false),
            ([10, 1, 2, 0], false),
            ([10, 1, 2, 255], false),
            ([10, 1, 3, 1], false),
            ([10, 1, 1, 255], false),
        ] {
            assert_eq!(pool.reserve(address.into()).is_ok(), good, "{address:?}");
        }
        pool.release([9, 9, 9, 9].into());
        pool.release([10, 1, 2, 9].into());
        pool.release([10, 1, 2, 9].into());
        assert_eq!(pool.free(), 254);
    }

    #[test]
    fn every_address_of_a_subnet_is_given_once() {
        let mut pool = pool("10.0.0.0/20");
        let mut seen = std::collections::HashSet::new();
        while let Ok(address) = pool.allocate() {
            assert!(seen.insert(address), "{address} twice");
        }
        assert_eq!(seen.len(), 4094);
        assert!(Pool::new(net("10.0.0.0/31")).is_err() && Pool::new(net("10.0.0.0/7")).is_err());
    }

    #[test]
    fn subnets_avoid_what_is_taken() {
        let pools = default_pools();
        let check = |taken: &[&str], expected: Option<&str>| {
            let taken: Vec<_> = taken.iter().map(|text| net(text)).collect();
            assert_eq!(first_subnet(&pools, &taken), expected.map(net), "{taken:?}");
        };
        check(&[], Some("172.17.0.0/16"));
        check(&["172.17.0.1/32"], Some("172.18.0.0/16"));
        check(&["172.16.0.0/12"], Some("192.168.0.0/20"));
        check(&["172.16.0.0/12", "192.168.1.0/24"], Some("192.168.16.0/20"));
        check(&["172.16.0.0/12", "192.168.0.0/16"], None);
    }
}
