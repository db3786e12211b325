//! What Docker refuses about the endpoints of a container at create. Pure.

use std::net::IpAddr;

use gantry_net::{Ipv4Net, MacAddress};

use super::Error;
use super::config::{Config, EndpointRequest, HostConfig};

/// Checks hardware addresses, and what only user-defined networks can have. `bridge` is the default bridge's subnet,
/// by its gateway.
///
/// # Errors
/// [`Error::Invalid`] in Docker's words.
pub(super) fn check(
    config: &Config,
    host: &HostConfig,
    endpoints: &[EndpointRequest],
    bridge: Option<Ipv4Net>,
) -> Result<(), Error> {
    let own = (&host.network_mode, &config.mac_address);
    let asked = endpoints.iter().map(|endpoint| (&endpoint.network, &endpoint.mac_address));
    for (network, mac) in asked.chain([own]) {
        if !mac.is_empty() && mac.parse::<MacAddress>().is_err() {
            let text = format!("invalid config for network {network}: invalid MAC address {mac}");
            return Err(Error::Invalid(text));
        }
    }
    endpoints
        .iter()
        .filter(|endpoint| is_built_in(&endpoint.network))
        .try_for_each(|endpoint| check_built_in(endpoint, bridge))
}

fn check_built_in(endpoint: &EndpointRequest, bridge: Option<Ipv4Net>) -> Result<(), Error> {
    // The stock CLI calls the default network so.
    let network = if endpoint.network == "default" { "bridge" } else { &endpoint.network };
    let mut wrong = Vec::new();
    if endpoint.address.is_some() {
        wrong.push("user specified IP address is supported on user defined networks only".to_owned());
    }
    if !endpoint.aliases.is_empty() {
        let text = "network-scoped alias is supported only for containers in user defined networks";
        wrong.push(text.into());
    }
    match (endpoint.address, bridge) {
        (None, _) => {}
        (Some(IpAddr::V4(address)), Some(bridge)) if network == "bridge" => {
            if !bridge.contains(address) {
                wrong.push(format!("no configured subnet or ip-range contain the IP address {address}"));
            }
        }
        _ => wrong.push(
            "user specified IP address is supported only when connecting to networks with user configured subnets"
                .into(),
        ),
    }
    // Go's joined errors: a single one stands alone, several get a bullet each.
    let text = match wrong.as_slice() {
        [] => return Ok(()),
        [one] => one.clone(),
        more => more.iter().map(|one| format!("* {one}")).collect::<Vec<_>>().join("\n"),
    };
    Err(Error::Invalid(format!("invalid config for network {network}: invalid endpoint settings:\n{text}")))
}

fn is_built_in(network: &str) -> bool {
    matches!(network, "default" | "bridge" | "host" | "none")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(endpoint: EndpointRequest) -> String {
        let bridge = "10.1.0.1/16".parse().expect("a network");
        let result = check(&Config::default(), &HostConfig::default(), &[endpoint], Some(bridge));
        result.err().map_or(String::new(), |error| error.to_string())
    }

    fn endpoint(network: &str) -> EndpointRequest {
        EndpointRequest {
            network: network.into(),
            address: None,
            mac_address: String::new(),
            aliases: Vec::new(),
            links: Vec::new(),
        }
    }

    #[test]
    fn the_default_bridge_has_neither_addresses_nor_aliases_of_choice() {
        assert_eq!(refused(endpoint("bridge")), "");
        assert_eq!(
            refused(EndpointRequest { aliases: vec!["x".into()], ..endpoint("bridge") }),
            "invalid config for network bridge: invalid endpoint settings:\nnetwork-scoped alias is supported only for containers in user defined networks"
        );
        assert_eq!(
            refused(EndpointRequest { address: Some([10, 1, 2, 3].into()), ..endpoint("default") }),
            "invalid config for network bridge: invalid endpoint settings:\nuser specified IP address is supported on user defined networks only"
        );
        assert_eq!(
            refused(EndpointRequest { address: Some([1, 2, 3, 4].into()), ..endpoint("bridge") }),
            "invalid config for network bridge: invalid endpoint settings:\n* user specified IP address is supported on user defined networks only\n* no configured subnet or ip-range contain the IP address 1.2.3.4"
        );
        assert_eq!(
            refused(EndpointRequest { address: Some([1, 2, 3, 4].into()), ..endpoint("host") }),
            "invalid config for network host: invalid endpoint settings:\n* user specified IP address is supported on user defined networks only\n* user specified IP address is supported only when connecting to networks with user configured subnets"
        );
        assert_eq!(
            refused(EndpointRequest { mac_address: "xx".into(), ..endpoint("bridge") }),
            "invalid config for network bridge: invalid MAC address xx"
        );
    }
}
