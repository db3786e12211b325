//! Networks as list and inspect show them.

use gantry_api::Map;
use gantry_api::network::{EndpointResource, Ipam, IpamConfig, Network};
use gantry_engine::networks::{NetworkMember, NetworkView};

/// Whether the containers on it are shown: inspect does, lists do not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Members {
    Shown,
    Hidden,
}

/// Converts a view.
pub(crate) fn network(view: &NetworkView, members: Members) -> Network {
    let subnet = view.subnet.map(|((address, prefix), gateway)| IpamConfig {
        subnet: format!("{address}/{prefix}"),
        gateway: gateway.to_string(),
        ..IpamConfig::default()
    });
    Network {
        name: view.name.clone(),
        id: view.id.to_string(),
        created: view.created.rfc3339_nano(),
        scope: "local".into(),
        driver: view.driver.clone(),
        enable_ipv4: true,
        ipam: Ipam { driver: "default".into(), options: None, config: subnet.map(|subnet| vec![subnet]) },
        containers: match members {
            Members::Shown => view.containers.iter().map(member).collect(),
            Members::Hidden => Map::new(),
        },
        options: view.options.clone(),
        labels: view.labels.clone(),
        ..Network::default()
    }
}

fn member(member: &NetworkMember) -> (String, EndpointResource) {
    let end = &member.endpoint;
    let resource = EndpointResource {
        name: member.name.clone(),
        endpoint_id: end.id.clone(),
        mac_address: end.mac_address.clone(),
        ipv4_address: end.address.map_or(String::new(), |address| format!("{address}/{}", end.prefix)),
        ipv6_address: String::new(),
    };
    (member.container.to_string(), resource)
}
