//! What Docker refuses about the endpoints of a container at create. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

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

/// Checks that networks go together, as Docker does when a container starts: no two of those that are built in do.
///
/// # Errors
/// Docker's words.
pub(super) fn check_together(mode: &str, endpoints: &[EndpointRequest]) -> Result<(), &'static str> {
    let name = |network: &str| if network == "default" { "bridge".to_owned() } else { network.to_owned() };
    let own = name(if mode.is_empty() { "default" } else { mode });
    // A container is called by its id in one place and as the user did in the other.
    let same =
        |other: &String| *other == own || [&own, other].iter().all(|one| one.starts_with("container:"));
    let others: Vec<String> =
        endpoints.iter().map(|one| name(&one.network)).filter(|other| !same(other)).collect();
    if others.is_empty() {
        Ok(())
    } else if own == "host" || own.starts_with("container:") {
        Err(
            "container sharing network namespace with another container or host cannot be connected to any other network",
        )
    } else if others.iter().any(|other| other == "host") {
        Err("cannot connect container to host network - container must be created in host network mode")
    } else if own == "none" || others.iter().any(|other| other == "none") {
        Err(
            "container cannot be connected to multiple networks with one of the networks in private (none) mode",
        )
    } else {
        Ok(())
    }
}

fn check_built_in(endpoint: &EndpointRequest, bridge: Option<Ipv4Net>) -> Result<(), Error> {
    // The stock CLI calls the default network so.
    let network = if endpoint.network == "default" { "bridge" } else { &endpoint.network };
    let mut wrong = Vec::new();
    let EndpointRequest { ipv4, ipv6, .. } = endpoint;
    if !(ipv4.is_empty() && ipv6.is_empty()) {
        wrong.push("user specified IP address is supported on user defined networks only".to_owned());
    }
    if !endpoint.aliases.is_empty() {
        let text = "network-scoped alias is supported only for containers in user defined networks";
        wrong.push(text.into());
    }
    // What a network shared with another container has is that container's.
    if !network.starts_with("container:") {
        let on_bridge = bridge.filter(|_| network == "bridge");
        check_address(ipv4, ipv4.parse::<Ipv4Addr>().ok().map(IpAddr::V4), "IPv4", on_bridge, &mut wrong);
        check_address(ipv6, ipv6.parse::<Ipv6Addr>().ok().map(IpAddr::V6), "IPv6", None, &mut wrong);
    }
    // Go's joined errors: a single one stands alone, several get a bullet each.
    let text = match wrong.as_slice() {
        [] => return Ok(()),
        [one] => one.clone(),
        more => more.iter().map(|one| format!("* {one}")).collect::<Vec<_>>().join("\n"),
    };
    Err(Error::Invalid(format!("invalid config for network {network}: invalid endpoint settings:\n{text}")))
}

/// One address, of a network whose subnet of that family, if it has one, is given.
fn check_address(
    text: &str,
    parsed: Option<IpAddr>,
    family: &str,
    subnet: Option<Ipv4Net>,
    wrong: &mut Vec<String>,
) {
    if text.is_empty() {
        return;
    }
    if parsed.is_none() {
        wrong.push(format!("invalid {family} address: {text}"));
    }
    let inside = |net: Ipv4Net| matches!(parsed, Some(IpAddr::V4(address)) if net.contains(address));
    match subnet {
        None => wrong.push(
            "user specified IP address is supported only when connecting to networks with user configured subnets"
                .into(),
        ),
        Some(net) if inside(net) => {}
        Some(_) => wrong.push(format!("no configured subnet or ip-range contain the IP address {text}")),
    }
}

fn is_built_in(network: &str) -> bool {
    matches!(network, "default" | "bridge" | "host" | "none") || network.starts_with("container:")
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
        EndpointRequest { network: network.into(), ..EndpointRequest::default() }
    }

    #[test]
    fn networks_that_are_built_in_do_not_go_together() {
        let check = |mode: &str, networks: &[&str]| {
            let endpoints: Vec<_> = networks.iter().map(|network| endpoint(network)).collect();
            check_together(mode, &endpoints).err().and_then(|why| why.split_whitespace().next()).unwrap_or("")
        };
        for (mode, networks, want) in [
            ("", &["bridge"][..], ""),
            ("default", &["bridge", "default"], ""),
            ("bridge", &["bridge"], ""),
            ("none", &["none"], ""),
            ("host", &["host"], ""),
            ("bridge", &["bridge", "none"], "container"),
            ("default", &["default", "none"], "container"),
            ("none", &["none", "bridge"], "container"),
            ("bridge", &["bridge", "host"], "cannot"),
            ("host", &["host", "bridge"], "container"),
            ("container:a", &["none"], "container"),
        ] {
            assert_eq!(check(mode, networks), want, "{mode} {networks:?}");
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
            refused(EndpointRequest { ipv4: "10.1.2.3".into(), ..endpoint("default") }),
            "invalid config for network bridge: invalid endpoint settings:\nuser specified IP address is supported on user defined networks only"
        );
        assert_eq!(
            refused(EndpointRequest { ipv4: "1.2.3.4".into(), ..endpoint("bridge") }),
            "invalid config for network bridge: invalid endpoint settings:\n* user specified IP address is supported on user defined networks only\n* no configured subnet or ip-range contain the IP address 1.2.3.4"
        );
        assert_eq!(
            refused(EndpointRequest { ipv4: "1.2.3.4".into(), ..endpoint("host") }),
            "invalid config for network host: invalid endpoint settings:\n* user specified IP address is supported on user defined networks only\n* user specified IP address is supported only when connecting to networks with user configured subnets"
        );
        assert_eq!(
            refused(EndpointRequest { ipv6: "1.2.3.4".into(), ..endpoint("bridge") }),
            "invalid config for network bridge: invalid endpoint settings:\n* user specified IP address is supported on user defined networks only\n* invalid IPv6 address: 1.2.3.4\n* user specified IP address is supported only when connecting to networks with user configured subnets"
        );
        assert_eq!(
            refused(EndpointRequest { ipv4: "1.2.3.4".into(), ..endpoint("container:x") }),
            "invalid config for network container:x: invalid endpoint settings:\nuser specified IP address is supported on user defined networks only"
        );
        assert_eq!(
            refused(EndpointRequest { mac_address: "xx".into(), ..endpoint("bridge") }),
            "invalid config for network bridge: invalid MAC address xx"
        );
    }
}
