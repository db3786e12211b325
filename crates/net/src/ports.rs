//! Published ports: elements of the hash maps of our nft table. Looking one up costs the same for the first
//! and the ten-thousandth.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddrV4};

use gantry_model::ErrorKind;
use gantry_model::container::Protocol;
use gantry_sys::netlink;
use gantry_sys::nft::{Data, Element};

use crate::Host;
use crate::flows::Stale;
use crate::rules::{PUBLISHED, PUBLISHED_ON};
use crate::table::{self, Table};

/// One published port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Publication {
    /// The host's address; `0.0.0.0` is every IPv4 address of the host, loopback too. IPv6 addresses are
    /// accepted and do nothing here: the kernel cannot translate them to IPv4 (`gantry-netd` will).
    pub address: IpAddr,
    /// The host's port.
    pub port: u16,
    /// TCP, UDP or SCTP.
    pub protocol: Protocol,
    /// The container's address and port.
    pub target: SocketAddrV4,
}

impl Publication {
    fn map(&self) -> Option<(&'static str, Vec<u8>)> {
        let IpAddr::V4(address) = self.address else { return None };
        let mut key = Vec::with_capacity(12);
        let map = if address.is_unspecified() {
            PUBLISHED
        } else {
            key.extend_from_slice(&address.octets());
            PUBLISHED_ON
        };
        key.extend_from_slice(&[number(self.protocol), 0, 0, 0]);
        key.extend_from_slice(&self.port.to_be_bytes());
        key.extend_from_slice(&[0, 0]);
        Some((map, key))
    }

    fn data(&self) -> Vec<u8> {
        let mut data = Vec::from(self.target.ip().octets());
        data.extend_from_slice(&self.target.port().to_be_bytes());
        data.extend_from_slice(&[0, 0]);
        data
    }

    /// Reads an element of [`PUBLISHED`] (8 bytes of key) or [`PUBLISHED_ON`] (12).
    fn from_element(key: &[u8], data: &[u8]) -> Option<Self> {
        let (address, rest) = match key.len() {
            8 => ([0; 4], key),
            12 => (key[..4].try_into().ok()?, &key[4..]),
            _ => return None,
        };
        let protocol =
            [Protocol::Tcp, Protocol::Udp, Protocol::Sctp].into_iter().find(|p| number(*p) == rest[0])?;
        let target: [u8; 4] = data.get(..4)?.try_into().ok()?;
        let target_port: [u8; 2] = data.get(4..6)?.try_into().ok()?;
        Some(Self {
            address: IpAddr::from(address),
            port: u16::from_be_bytes([rest[4], rest[5]]),
            protocol,
            target: SocketAddrV4::new(target.into(), u16::from_be_bytes(target_port)),
        })
    }
}

/// The protocol's number in an IP header.
fn number(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::Tcp => 6,
        Protocol::Udp => 17,
        Protocol::Sctp => 132,
    }
}

/// Publishes all of them, in one transaction: all or none. A port that is published to another container is
/// taken over, because who publishes holds the bound socket ([`crate::bind`]). UDP flows that the kernel
/// remembers from before are forgotten soon after, so that datagrams take the new way ([`Host::settle`] waits for
/// it).
///
/// # Errors
/// [`PublishError`]; nothing is published then.
pub fn publish(host: &Host, publications: &[Publication]) -> Result<(), PublishError> {
    let additions = elements(publications);
    if additions.iter().all(|(_, elements)| elements.is_empty()) {
        return Ok(());
    }
    host.table().put(&additions).map_err(|source| failed(host, "publishing", publications, source))?;
    host.flows().forget(Stale::Others, publications);
    Ok(())
}

/// Unpublishes those of them that still lead to the given target; others, and absent ones, are left alone.
///
/// # Errors
/// [`PublishError`]; it may be called again.
pub fn unpublish(host: &Host, publications: &[Publication]) -> Result<(), PublishError> {
    let refused = |source| failed(host, "unpublishing", publications, source);
    let mut table = host.table();
    let mut removals: Removals = vec![(PUBLISHED, Vec::new()), (PUBLISHED_ON, Vec::new())];
    if publications.len() <= SINGLE_LOOK_UPS {
        for (publication, (map, key)) in keyed(publications) {
            if table.get(map, &key).map_err(refused)?.is_some_and(|data| data == publication.data()) {
                pick(&mut removals, map).push(key);
            }
        }
    } else {
        let unwanted: HashSet<Publication> = publications.iter().copied().collect();
        for (publication, map, key) in read(&mut table).map_err(refused)? {
            if unwanted.contains(&publication) {
                pick(&mut removals, map).push(key);
            }
        }
    }
    table.exchange(&removals, &[]).map_err(refused)?;
    drop(table);
    host.flows().forget(Stale::Own, publications);
    Ok(())
}

/// All that is published, in no order.
///
/// # Errors
/// [`PublishError`].
pub fn list(host: &Host) -> Result<Vec<Publication>, PublishError> {
    let all = read(&mut host.table()).map_err(|source| failed(host, "listing", &[], source))?;
    Ok(all.into_iter().map(|(publication, ..)| publication).collect())
}

/// The address on which this port is published so that it cannot be had on another as well: the same one, every
/// address, or, where every address is asked for, any. Where the kernel does not say, there is none.
#[must_use]
pub(crate) fn published_at(host: &Host, address: IpAddr, port: u16, protocol: &str) -> Option<IpAddr> {
    let published = list(host).unwrap_or_default();
    let in_the_way = |there: &&Publication| {
        let overlap = there.address == address || there.address.is_unspecified() || address.is_unspecified();
        there.port == port && there.protocol.as_str() == protocol && overlap
    };
    published.iter().find(in_the_way).map(|there| there.address)
}

/// What [`reconcile`] changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reconciled {
    /// Elements that were missing or led elsewhere.
    pub added: usize,
    /// Elements that nobody wants.
    pub removed: usize,
}

/// Makes what is published equal to `wanted`, touching only what differs, in one transaction. For the daemon's
/// start, and for after somebody else has removed our table.
///
/// # Errors
/// [`PublishError`]; nothing is changed then.
pub fn reconcile(host: &Host, wanted: &[Publication]) -> Result<Reconciled, PublishError> {
    let refused = |source| failed(host, "reconciling", wanted, source);
    let mut table = host.table();
    let mut missing: HashSet<Publication> = wanted.iter().filter(|p| p.address.is_ipv4()).copied().collect();
    let mut removals: Removals = vec![(PUBLISHED, Vec::new()), (PUBLISHED_ON, Vec::new())];
    let mut removed = Vec::new();
    for (publication, map, key) in read(&mut table).map_err(refused)? {
        if !missing.remove(&publication) {
            pick(&mut removals, map).push(key);
            removed.push(publication);
        }
    }
    let added: Vec<Publication> = missing.into_iter().collect();
    table.exchange(&removals, &elements(&added)).map_err(refused)?;
    drop(table);
    host.flows().forget(Stale::Own, &removed);
    host.flows().forget(Stale::Others, &added);
    Ok(Reconciled { added: added.len(), removed: removed.len() })
}

/// Keys to be removed, for each map.
type Removals = Vec<(&'static str, Vec<Vec<u8>>)>;

/// Up to so many elements are looked up one by one (10 µs each), more by reading all.
const SINGLE_LOOK_UPS: usize = 32;

fn pick<'a>(removals: &'a mut Removals, map: &str) -> &'a mut Vec<Vec<u8>> {
    let at = usize::from(map != PUBLISHED);
    &mut removals[at].1
}

fn keyed(publications: &[Publication]) -> impl Iterator<Item = (&Publication, (&'static str, Vec<u8>))> {
    publications.iter().filter_map(|publication| Some((publication, publication.map()?)))
}

fn elements(publications: &[Publication]) -> Vec<(&'static str, Vec<Element>)> {
    let mut all = vec![(PUBLISHED, Vec::new()), (PUBLISHED_ON, Vec::new())];
    for (publication, (map, key)) in keyed(publications) {
        all[usize::from(map != PUBLISHED)].1.push(Element { key, data: Data::Value(publication.data()) });
    }
    all
}

/// An element as a publication, the map it is in, and its key.
type Found = (Publication, &'static str, Vec<u8>);

fn read(table: &mut Table) -> Result<Vec<Found>, netlink::Error> {
    let mut all = Vec::new();
    for map in [PUBLISHED, PUBLISHED_ON] {
        for (key, data) in table.all(map)? {
            all.extend(Publication::from_element(&key, &data).map(|publication| (publication, map, key)));
        }
    }
    Ok(all)
}

fn failed(
    host: &Host,
    action: &'static str,
    publications: &[Publication],
    source: netlink::Error,
) -> PublishError {
    let table = host.identity().table_name();
    if table::is_foreign(&source) {
        return PublishError::Owned { table };
    }
    let what = match publications {
        [] => "ports".into(),
        [one] => format!("{}:{}/{}", one.address, one.port, one.protocol.as_str()),
        [first, rest @ ..] => {
            format!("{}:{}/{} and {} more", first.address, first.port, first.protocol.as_str(), rest.len())
        }
    };
    PublishError::Kernel { action, what, table, source }
}

/// Why ports could not be published.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// Another living process owns the table.
    #[error(
        "nft table {table} belongs to another process: is another daemon running with the same exec root?"
    )]
    Owned {
        /// Our table.
        table: String,
    },
    /// The kernel refused.
    #[error("{action} {what} in nft table {table} failed")]
    Kernel {
        /// What was done.
        action: &'static str,
        /// The first of the ports, and how many.
        what: String,
        /// Our table.
        table: String,
        /// What the kernel said.
        #[source]
        source: netlink::Error,
    },
}

impl PublishError {
    /// What sort of failure this is.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Owned { .. } => ErrorKind::Conflict,
            Self::Kernel { .. } => ErrorKind::Internal,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_go_there_and_back() {
        for address in ["0.0.0.0", "127.0.0.1", "192.0.2.7"] {
            for protocol in [Protocol::Tcp, Protocol::Udp, Protocol::Sctp] {
                let publication = Publication {
                    address: address.parse().expect("an address"),
                    port: 8080,
                    protocol,
                    target: SocketAddrV4::new([172, 17, 0, 2].into(), 80),
                };
                let (map, key) = publication.map().expect("IPv4 has a map");
                assert_eq!(map == PUBLISHED, address == "0.0.0.0");
                assert_eq!(Publication::from_element(&key, &publication.data()), Some(publication));
            }
        }
    }

    #[test]
    fn ipv6_has_no_element() {
        let target = SocketAddrV4::new([172, 17, 0, 2].into(), 80);
        let address = IpAddr::from([0_u16; 8]);
        let publication = Publication { address, port: 80, protocol: Protocol::Tcp, target };
        assert_eq!(publication.map(), None);
        for bad in [&[][..], &[6, 0, 0, 0], &[99, 0, 0, 0, 0, 80, 0, 0]] {
            assert_eq!(Publication::from_element(bad, &publication.data()), None);
        }
    }
}
