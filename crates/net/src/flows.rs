//! UDP flows that the kernel remembers from before a port was published or unpublished.
//!
//! A failure here is not one of publishing: the flow ends by itself 30 seconds after its last datagram.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr};

use gantry_model::container::Protocol;
use gantry_sys::netlink::Error;
use gantry_sys::nft_conntrack::{Conntrack, Flow};

use crate::Host;
use crate::ports::Publication;

/// Forgets flows to these ports of the host that do not go to the new target.
pub(crate) fn forget_before(host: &Host, publications: &[Publication]) {
    let udp = udp_by_port(publications);
    if udp.is_empty() {
        return;
    }
    let Ok(Ok(addresses)) = host.with_route(|route| route.addresses(0)) else { return };
    let local: HashSet<Ipv4Addr> = addresses.into_iter().map(|(address, _)| address).collect();
    let _ = forget(&udp, |flow, publication| {
        let to = *flow.destination.ip();
        let meant = match publication.address {
            IpAddr::V4(address) if !address.is_unspecified() => to == address,
            _ => to.is_loopback() || local.contains(&to),
        };
        meant && flow.answered_by != publication.target
    });
}

/// Forgets flows that these publications translated.
pub(crate) fn forget_to(publications: &[Publication]) {
    let udp = udp_by_port(publications);
    if !udp.is_empty() {
        let _ = forget(&udp, |flow, publication| flow.answered_by == publication.target);
    }
}

fn udp_by_port(publications: &[Publication]) -> HashMap<u16, Vec<&Publication>> {
    let mut by_port: HashMap<u16, Vec<&Publication>> = HashMap::new();
    for publication in publications {
        if publication.protocol == Protocol::Udp && publication.address.is_ipv4() {
            by_port.entry(publication.port).or_default().push(publication);
        }
    }
    by_port
}

fn forget(
    by_port: &HashMap<u16, Vec<&Publication>>,
    is_stale: impl Fn(&Flow, &Publication) -> bool,
) -> Result<(), Error> {
    let mut conntrack = Conntrack::open()?;
    let only = if by_port.len() == 1 { by_port.keys().next().copied() } else { None };
    for flow in conntrack.udp_flows(only)? {
        let candidates = by_port.get(&flow.destination.port());
        if candidates.is_some_and(|all| all.iter().any(|publication| is_stale(&flow, publication))) {
            conntrack.forget(&flow)?;
        }
    }
    Ok(())
}
