//! Which host ports a container gets.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::fd::OwnedFd;

use gantry_net::bind::{BindError, PortAllocator, PortChoice};

use super::HostPort;
use crate::containers::Record;
use crate::containers::config::Port;
use crate::networks::bridge::Bridge;

type Bound = (BTreeMap<Port, Vec<HostPort>>, Vec<(String, OwnedFd)>);

/// Binds what `-p` and `-P` ask for; `explain` adds to a refusal who has the port. Exposed ports that are not published have an empty list.
///
/// # Errors
/// [`BindError`]; nothing is held then.
pub(super) fn bind(
    record: &Record,
    bridge: &Bridge,
    allocator: &PortAllocator,
    explain: &dyn Fn(BindError, Port) -> BindError,
) -> Result<Bound, BindError> {
    let mut ports: BTreeMap<Port, Vec<HostPort>> = BTreeMap::new();
    let mut sockets = Vec::new();
    let mut take = |port: Port, ip: Option<IpAddr>, choice: PortChoice| -> Result<HostPort, BindError> {
        let ip = ip.unwrap_or(bridge.publish_address);
        let bound = allocator.bind(&[ip], choice, port.protocol).map_err(|error| explain(error, port))?;
        let name = format!("port/{ip}/{}/{}", bound.port, port.protocol.as_str());
        sockets.extend(bound.sockets.into_iter().map(|socket| (name.clone(), socket)));
        Ok(HostPort { ip, port: bound.port })
    };
    for binding in &record.host.port_bindings {
        let choice = match binding.host_ports {
            (0, _) => PortChoice::Any,
            (first, last) => PortChoice::Range { first, last: last.max(first) },
        };
        let host = take(binding.port, binding.host_ip, choice)?;
        ports.entry(binding.port).or_default().push(host);
    }
    for port in record.config.ports() {
        let there = ports.entry(port).or_default();
        if record.host.publish_all && there.is_empty() {
            let host = take(port, None, PortChoice::Any)?;
            ports.entry(port).or_default().push(host);
        }
    }
    Ok((ports, sockets))
}

/// Docker's words around a failed bind.
pub(super) fn failure(name: &str, endpoint: &str, error: &BindError) -> String {
    format!(
        "failed to set up container networking: driver failed programming external connectivity on endpoint {name} ({endpoint}): {error}"
    )
}

/// JSON has no maps with structured keys: a list of pairs.
pub(super) mod as_list {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::{HostPort, Port};

    pub(in crate::sandboxes) fn serialize<S: Serializer>(
        ports: &BTreeMap<Port, Vec<HostPort>>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        ports.iter().collect::<Vec<_>>().serialize(to)
    }

    pub(in crate::sandboxes) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<BTreeMap<Port, Vec<HostPort>>, D::Error> {
        Ok(Vec::deserialize(from)?.into_iter().collect())
    }
}
