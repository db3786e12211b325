//! Networks and a container's endpoints on them.

use serde::{Deserialize, Serialize};

use crate::{Map, is_default};

/// A container's end on a network: what was asked for, and what it has.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct EndpointSettings {
    /// Fixed addresses.
    #[serde(rename = "IPAMConfig")]
    pub ipam_config: Option<EndpointIpamConfig>,
    /// `container:alias`.
    pub links: Option<Vec<String>>,
    /// Further names.
    pub aliases: Option<Vec<String>>,
    /// The hardware address.
    pub mac_address: String,
    /// The network driver's options.
    pub driver_opts: Option<Map<String>>,
    /// The highest has the default route; from API 1.48 on.
    pub gw_priority: i64,
    /// 64 digits.
    #[serde(rename = "NetworkID")]
    pub network_id: String,
    /// 64 digits; empty where the container does not run.
    #[serde(rename = "EndpointID")]
    pub endpoint_id: String,
    /// The default route.
    pub gateway: String,
    /// The address, without prefix.
    #[serde(rename = "IPAddress")]
    pub ip_address: String,
    /// Bits.
    #[serde(rename = "IPPrefixLen")]
    pub ip_prefix_len: i64,
    /// The default route.
    #[serde(rename = "IPv6Gateway")]
    pub ipv6_gateway: String,
    /// The address, without prefix.
    #[serde(rename = "GlobalIPv6Address")]
    pub global_ipv6_address: String,
    /// Bits.
    #[serde(rename = "GlobalIPv6PrefixLen")]
    pub global_ipv6_prefix_len: i64,
    /// All names under which others find it; from API 1.44 on.
    #[serde(rename = "DNSNames")]
    pub dns_names: Option<Vec<String>>,
}

/// Fixed addresses of an endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct EndpointIpamConfig {
    /// Of the network's subnet.
    #[serde(rename = "IPv4Address", skip_serializing_if = "is_default")]
    pub ipv4_address: String,
    /// Of the network's subnet.
    #[serde(rename = "IPv6Address", skip_serializing_if = "is_default")]
    pub ipv6_address: String,
    /// Further addresses of the link.
    #[serde(rename = "LinkLocalIPs", skip_serializing_if = "Option::is_none")]
    pub link_local_ips: Option<Vec<String>>,
}

/// A network, as list and inspect show it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Network {
    /// The name.
    pub name: String,
    /// 64 digits.
    pub id: String,
    /// RFC 3339.
    pub created: String,
    /// `local`, `swarm` or `global`.
    pub scope: String,
    /// `bridge`, `host`, `null`, …
    pub driver: String,
    /// From API 1.48 on.
    #[serde(rename = "EnableIPv4")]
    pub enable_ipv4: bool,
    /// Whether it has IPv6.
    #[serde(rename = "EnableIPv6")]
    pub enable_ipv6: bool,
    /// Addresses.
    #[serde(rename = "IPAM")]
    pub ipam: Ipam,
    /// Whether it has no way out.
    pub internal: bool,
    /// Swarm only.
    pub attachable: bool,
    /// Swarm only.
    pub ingress: bool,
    /// A network that only lends its configuration.
    pub config_from: ConfigReference,
    /// Whether it only lends its configuration.
    pub config_only: bool,
    /// By container id; `{}` in lists.
    pub containers: Map<EndpointResource>,
    /// The driver's options.
    pub options: Map<String>,
    /// Labels.
    pub labels: Map<String>,
}

/// Addresses of a network.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Ipam {
    /// `default`.
    pub driver: String,
    /// The driver's options.
    pub options: Option<Map<String>>,
    /// Subnets; `null` for `host` and `none`.
    pub config: Option<Vec<IpamConfig>>,
}

/// One subnet.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct IpamConfig {
    /// `172.17.0.0/16`.
    #[serde(skip_serializing_if = "is_default")]
    pub subnet: String,
    /// The part that addresses are taken from.
    #[serde(rename = "IPRange", skip_serializing_if = "is_default")]
    pub ip_range: String,
    /// The host's address.
    #[serde(skip_serializing_if = "is_default")]
    pub gateway: String,
    /// Reserved ones, by name.
    #[serde(rename = "AuxiliaryAddresses", skip_serializing_if = "Option::is_none")]
    pub auxiliary_addresses: Option<Map<String>>,
}

/// The name of a network that lends its configuration.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ConfigReference {
    /// Empty where there is none.
    pub network: String,
}

/// A container on a network.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct EndpointResource {
    /// The container's name, without a slash.
    pub name: String,
    /// 64 digits.
    #[serde(rename = "EndpointID")]
    pub endpoint_id: String,
    /// The hardware address.
    pub mac_address: String,
    /// With prefix: `172.17.0.2/16`.
    #[serde(rename = "IPv4Address")]
    pub ipv4_address: String,
    /// With prefix.
    #[serde(rename = "IPv6Address")]
    pub ipv6_address: String,
}

/// Body of `POST /networks/create`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct CreateRequest {
    /// The name.
    pub name: String,
    /// Empty is `bridge`.
    pub driver: String,
    /// `None` is true; from API 1.48 on.
    #[serde(rename = "EnableIPv4", skip_serializing_if = "Option::is_none")]
    pub enable_ipv4: Option<bool>,
    /// `None` is the daemon's default.
    #[serde(rename = "EnableIPv6", skip_serializing_if = "Option::is_none")]
    pub enable_ipv6: Option<bool>,
    /// Addresses.
    #[serde(rename = "IPAM")]
    pub ipam: Option<Ipam>,
    /// Whether it has no way out.
    pub internal: bool,
    /// Swarm only.
    pub attachable: bool,
    /// The driver's options.
    pub options: Option<Map<String>>,
    /// Labels.
    pub labels: Option<Map<String>>,
}

/// Reply of `POST /networks/create`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct CreateResponse {
    /// 64 digits.
    pub id: String,
    /// What was not done as asked.
    pub warning: String,
}

/// Body of `POST /networks/{id}/connect`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ConnectRequest {
    /// Name or id.
    pub container: String,
    /// How.
    pub endpoint_config: Option<EndpointSettings>,
}

/// Body of `POST /networks/{id}/disconnect`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct DisconnectRequest {
    /// Name or id.
    pub container: String,
    /// Even if the container does not answer.
    pub force: bool,
}

/// Reply of `POST /networks/prune`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct PruneResponse {
    /// Names of what was deleted; `null` where nothing was.
    pub networks_deleted: Option<Vec<String>>,
}
