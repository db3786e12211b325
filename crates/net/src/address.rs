//! Addresses with a prefix, and hardware addresses.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

/// An IPv4 address and the length of its network's prefix, such as `172.17.0.2/16`. The host bits are kept:
/// it is an interface's address as well as (with [`Ipv4Net::network`]) a subnet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ipv4Net {
    address: Ipv4Addr,
    prefix: u8,
}

impl Ipv4Net {
    /// `None` where `prefix` is above 32.
    #[must_use]
    pub const fn new(address: Ipv4Addr, prefix: u8) -> Option<Self> {
        if prefix <= 32 { Some(Self { address, prefix }) } else { None }
    }

    /// The address as given.
    #[must_use]
    pub const fn address(self) -> Ipv4Addr {
        self.address
    }

    /// The prefix length, 0 to 32.
    #[must_use]
    pub const fn prefix(self) -> u8 {
        self.prefix
    }

    /// The mask, such as 255.255.0.0, as a number.
    #[must_use]
    pub const fn mask_bits(self) -> u32 {
        if self.prefix == 0 { 0 } else { u32::MAX << (32 - self.prefix) }
    }

    /// The subnet: the same prefix, host bits cleared.
    #[must_use]
    pub const fn network(self) -> Self {
        let bits = self.address.to_bits() & self.mask_bits();
        Self { address: Ipv4Addr::from_bits(bits), prefix: self.prefix }
    }

    /// The last address of the subnet.
    #[must_use]
    pub const fn broadcast(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.address.to_bits() | !self.mask_bits())
    }

    /// Whether the subnet has this address.
    #[must_use]
    pub const fn contains(self, address: Ipv4Addr) -> bool {
        (address.to_bits() ^ self.address.to_bits()) & self.mask_bits() == 0
    }

    /// Whether the two subnets share an address.
    #[must_use]
    pub const fn overlaps(self, other: Self) -> bool {
        let wider = if self.prefix < other.prefix { self } else { other };
        (self.address.to_bits() ^ other.address.to_bits()) & wider.mask_bits() == 0
    }

    /// The same prefix with another address.
    #[must_use]
    pub const fn with_address(self, address: Ipv4Addr) -> Self {
        Self { address, prefix: self.prefix }
    }
}

impl fmt::Display for Ipv4Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

/// Says why a text is not an address with a prefix, in Go's words, which Docker passes on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid CIDR address: {0}")]
pub struct InvalidNet(pub String);

impl FromStr for Ipv4Net {
    type Err = InvalidNet;
    fn from_str(text: &str) -> Result<Self, InvalidNet> {
        let invalid = || InvalidNet(text.into());
        let (address, prefix) = text.split_once('/').ok_or_else(invalid)?;
        if prefix.starts_with('+') {
            return Err(invalid());
        }
        let address = address.parse().map_err(|_| invalid())?;
        let prefix = prefix.parse().map_err(|_| invalid())?;
        Self::new(address, prefix).ok_or_else(invalid)
    }
}

/// A hardware (Ethernet) address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MacAddress(pub [u8; 6]);

impl MacAddress {
    /// The locally administered address `02:42:a:b:c:d` of the IPv4 address `a.b.c.d`. That an address
    /// always has the same hardware address keeps neighbours' caches right when it is given away again.
    #[must_use]
    pub const fn for_ipv4(address: Ipv4Addr) -> Self {
        let [a, b, c, d] = address.octets();
        Self([0x02, 0x42, a, b, c, d])
    }
}

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// Says why a text is not a hardware address, in Go's words, which Docker passes on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("address {0}: invalid MAC address")]
pub struct InvalidMac(pub String);

impl FromStr for MacAddress {
    type Err = InvalidMac;
    fn from_str(text: &str) -> Result<Self, InvalidMac> {
        let mut bytes = [0; 6];
        let mut parts = text.split([':', '-']);
        for byte in &mut bytes {
            let part = parts.next().filter(|p| p.len() == 2 && !p.starts_with('+'));
            *byte =
                part.and_then(|p| u8::from_str_radix(p, 16).ok()).ok_or_else(|| InvalidMac(text.into()))?;
        }
        if parts.next().is_some() { Err(InvalidMac(text.into())) } else { Ok(Self(bytes)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> Ipv4Net {
        text.parse().expect("a test's own address is right")
    }

    #[test]
    fn subnets() {
        assert_eq!(net("172.17.3.4/16").network(), net("172.17.0.0/16"));
        assert_eq!(net("172.17.3.4/16").broadcast(), Ipv4Addr::new(172, 17, 255, 255));
        assert_eq!(net("1.2.3.4/0").network(), net("0.0.0.0/0"));
        for (a, b, overlap) in [
            ("172.17.0.0/16", "172.17.9.0/24", true),
            ("172.17.9.0/24", "172.17.0.0/16", true),
            ("172.17.0.0/16", "172.18.0.0/16", false),
            ("0.0.0.0/0", "10.0.0.0/8", true),
            ("10.0.0.1/32", "10.0.0.2/32", false),
        ] {
            assert_eq!(net(a).overlaps(net(b)), overlap, "{a} {b}");
        }
        for bad in ["", "1.2.3.4", "1.2.3.4/33", "1.2.3/8", "1.2.3.4/+8", "1.2.3.4/"] {
            assert!(bad.parse::<Ipv4Net>().is_err(), "{bad:?} was taken");
        }
    }

    #[test]
    fn hardware_addresses() {
        let mac = MacAddress::for_ipv4(Ipv4Addr::new(172, 17, 0, 2));
        assert_eq!(mac.to_string(), "02:42:ac:11:00:02");
        assert_eq!("02:42:AC:11:00:02".parse(), Ok(mac));
        for bad in ["", "02:42", "02:42:ac:11:00:02:03", "02:42:ac:11:00:0g", "+2:42:ac:11:00:02"] {
            assert!(bad.parse::<MacAddress>().is_err(), "{bad:?} was taken");
        }
    }
}
