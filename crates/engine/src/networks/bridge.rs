//! The default bridge: the link, its subnet, and who has which address.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use gantry_net::bridge::{BridgeSpec, Traffic};
use gantry_net::ipam::Pool;
use gantry_net::{Host, Ipv4Net, ipam};
use parking_lot::Mutex;

use super::Row;
use crate::OpenError;
use crate::settings::BridgeSettings;

/// The default bridge as it is.
pub(crate) struct Bridge {
    /// The link's name.
    pub(crate) name: String,
    /// The link's index.
    pub(crate) index: u32,
    /// Its own address with the subnet's prefix.
    pub(crate) gateway: Ipv4Net,
    /// Bytes; 0 is the kernel's default.
    pub(crate) mtu: u32,
    /// Whether containers reach each other.
    pub(crate) between_containers: bool,
    masquerade: bool,
    /// Whether ports can be published.
    pub(crate) publishes: bool,
    /// The address that ports are published on by default.
    pub(crate) publish_address: std::net::IpAddr,
    /// What operators should know.
    pub(super) warnings: Vec<String>,
    /// Free addresses.
    pub(crate) pool: Mutex<Pool>,
}

/// Makes the bridge, or takes up what is there. The subnet is what was asked for, else what the link has
/// already, else the first that the host does not use.
pub(super) fn open(host: &Host, settings: &BridgeSettings, row: &Row) -> Result<Bridge, OpenError> {
    let failed = |error: &dyn std::error::Error| OpenError::Network(crate::chain(error));
    let name = settings.name.clone().unwrap_or_else(|| host.identity().default_bridge_name());
    let gateway = match &settings.address {
        Some(text) => text.parse::<Ipv4Net>().map_err(|error| failed(&error))?,
        None => match gantry_net::bridge::address(host, &name).map_err(|error| failed(&error))? {
            Some(address) => address,
            None => {
                let subnet =
                    ipam::choose_subnet(host, &ipam::default_pools(), &[]).map_err(|error| failed(&error))?;
                let first = Ipv4Addr::from_bits(subnet.network().address().to_bits() + 1);
                subnet.with_address(first)
            }
        },
    };
    let traffic = Traffic {
        between_containers: !settings.isolate,
        masquerade: !settings.no_masquerade,
        ..Traffic::default()
    };
    let spec =
        BridgeSpec { name: name.clone(), owner: row.id.as_str().into(), gateway, mtu: settings.mtu, traffic };
    let bridge = gantry_net::bridge::ensure(host, &spec).map_err(|error| failed(&error))?;
    for warning in &bridge.warnings {
        tracing::warn!("{warning}");
    }
    let mut pool = Pool::new(gateway).map_err(|error| failed(&error))?;
    pool.reserve(gateway.address()).map_err(|error| failed(&error))?;
    Ok(Bridge {
        name,
        index: bridge.index,
        gateway,
        mtu: settings.mtu,
        between_containers: traffic.between_containers,
        masquerade: traffic.masquerade,
        publishes: !settings.no_firewall,
        publish_address: settings.publish_address.unwrap_or(Ipv4Addr::UNSPECIFIED.into()),
        warnings: bridge.warnings.iter().map(ToString::to_string).collect(),
        pool: Mutex::new(pool),
    })
}

impl Bridge {
    /// The options that Docker shows of its default bridge.
    pub(super) fn docker_options(&self) -> BTreeMap<String, String> {
        let mtu = if self.mtu == 0 { 1500 } else { self.mtu };
        [
            ("com.docker.network.bridge.default_bridge", "true".to_owned()),
            ("com.docker.network.bridge.enable_icc", self.between_containers.to_string()),
            ("com.docker.network.bridge.enable_ip_masquerade", self.masquerade.to_string()),
            ("com.docker.network.bridge.host_binding_ipv4", self.publish_address.to_string()),
            ("com.docker.network.bridge.name", self.name.clone()),
            ("com.docker.network.driver.mtu", mtu.to_string()),
        ]
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value))
        .collect()
    }
}
