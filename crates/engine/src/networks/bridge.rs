//! The default bridge: the link, its subnet, and who has which address.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, Ordering};

use gantry_net::bridge::{BridgeSpec, Traffic};
use gantry_net::firewall::Warning;
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
    /// What the link and its rules are to be.
    spec: BridgeSpec,
    /// Whether ports can be published.
    pub(crate) publishes: bool,
    /// The address that ports are published on by default.
    pub(crate) publish_address: std::net::IpAddr,
    /// What operators should know.
    warnings: Mutex<Vec<String>>,
    /// Free addresses.
    pub(crate) pool: Mutex<Pool>,
    /// How many addresses are free when nobody has one.
    unused: u32,
    /// Whether link and rules were taken away for good. Changes under the pool's lock.
    is_gone: AtomicBool,
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
    let made = gantry_net::bridge::ensure(host, &spec).map_err(|error| failed(&error))?;
    let mut pool = Pool::new(gateway).map_err(|error| failed(&error))?;
    pool.reserve(gateway.address()).map_err(|error| failed(&error))?;
    let bridge = Bridge {
        name,
        index: made.index,
        gateway,
        mtu: settings.mtu,
        between_containers: traffic.between_containers,
        spec,
        publishes: !settings.no_firewall,
        publish_address: settings.publish_address.unwrap_or(Ipv4Addr::UNSPECIFIED.into()),
        warnings: Mutex::default(),
        unused: pool.free(),
        is_gone: AtomicBool::new(false),
        pool: Mutex::new(pool),
    };
    bridge.warn(&made.warnings);
    Ok(bridge)
}

impl Bridge {
    /// Makes link and rules as they are to be, after somebody took them away. False if that was us, at the end.
    pub(crate) fn restore(&self, host: &Host) -> bool {
        let _pool = self.pool.lock();
        if self.is_gone.load(Ordering::Relaxed) {
            return false;
        }
        tracing::warn!("somebody removed our firewall rules; they are made again");
        match gantry_net::bridge::ensure(host, &self.spec) {
            Ok(made) => self.warn(&made.warnings),
            Err(error) => tracing::error!("bridge {} was not restored: {}", self.name, crate::chain(&error)),
        }
        true
    }

    /// Gets along with other firewalls as they are now.
    pub(crate) fn coexist(&self, host: &Host) {
        match gantry_net::firewall::coexist(host, &[&self.name]) {
            Ok(warnings) => self.warn(&warnings),
            Err(error) => {
                tracing::warn!(
                    "whether other firewalls block {} is not known: {}",
                    self.name,
                    crate::chain(&error)
                );
            }
        }
    }

    /// Takes the link and all of our rules away, unless somebody has an address.
    pub(super) fn remove_unused(&self, host: &Host) {
        // Held to the end: nobody gets an address meanwhile.
        let pool = self.pool.lock();
        if pool.free() == self.unused {
            self.is_gone.store(true, Ordering::Relaxed);
            for error in gantry_net::owned::remove_all(host) {
                tracing::warn!("something stays in the host's network: {}", crate::chain(&error));
            }
        }
    }

    /// What operators should know at present.
    pub(super) fn warnings(&self) -> Vec<String> {
        self.warnings.lock().clone()
    }

    /// Takes over what there is to warn of; what is new goes to the log.
    fn warn(&self, warnings: &[Warning]) {
        let texts: Vec<String> = warnings.iter().map(ToString::to_string).collect();
        let mut known = self.warnings.lock();
        for text in texts.iter().filter(|text| !known.contains(text)) {
            tracing::warn!("{text}");
        }
        *known = texts;
    }

    /// The options that Docker shows of its default bridge.
    pub(super) fn docker_options(&self) -> BTreeMap<String, String> {
        let mtu = if self.mtu == 0 { 1500 } else { self.mtu };
        [
            ("com.docker.network.bridge.default_bridge", "true".to_owned()),
            ("com.docker.network.bridge.enable_icc", self.between_containers.to_string()),
            ("com.docker.network.bridge.enable_ip_masquerade", self.spec.traffic.masquerade.to_string()),
            ("com.docker.network.bridge.host_binding_ipv4", self.publish_address.to_string()),
            ("com.docker.network.bridge.name", self.name.clone()),
            ("com.docker.network.driver.mtu", mtu.to_string()),
        ]
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value))
        .collect()
    }
}
