//! Bridges: one for each network with the `bridge` driver.

use gantry_model::ErrorKind;
use gantry_sys::netlink;
use gantry_sys::netlink::route::{Change, LinkRef, NewBridge, Route};

use crate::Host;
use crate::address::{Ipv4Net, MacAddress};
use crate::firewall::{self, Warning};
use crate::rules;

/// What follows the identity in a bridge's alias; after it comes the network's id.
pub(crate) const ALIAS_KIND: &str = "bridge";

/// What ends the alias of a bridge for whose sake the host forwards, which it did not before.
pub(crate) const FORWARDS: &str = ":forwards";

/// Whether the host forwards from one link to another.
const FORWARDING: &str = "net/ipv4/ip_forward";

/// What a bridge is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BridgeSpec {
    /// The link's name, from [`crate::Identity::default_bridge_name`] or
    /// [`crate::Identity::bridge_name`]; 1 to 15 bytes.
    pub name: String,
    /// The network's id, for the tag in the link's alias.
    pub owner: String,
    /// The bridge's own address, which is the containers' gateway, with the subnet's prefix.
    pub gateway: Ipv4Net,
    /// In bytes; 0 means the kernel's default, 1500.
    pub mtu: u32,
    /// What traffic passes.
    pub traffic: Traffic,
}

/// What traffic of a bridge passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Traffic {
    /// Containers of this bridge reach each other's unpublished ports (Docker's `--icc`, default true).
    pub between_containers: bool,
    /// What leaves the host has the host's address (Docker's `--ip-masq`, default true).
    pub masquerade: bool,
    /// Neither leaves the host nor comes from beyond it (`docker network create --internal`).
    pub internal: bool,
}

impl Default for Traffic {
    fn default() -> Self {
        Self { between_containers: true, masquerade: true, internal: false }
    }
}

/// A bridge as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bridge {
    /// The link's index, for [`crate::endpoint::EndpointSpec`]. Constant while the link lives.
    pub index: u32,
    /// What could not be opened, or was changed beyond the bridge; for the log and for `info`.
    pub warnings: Vec<Warning>,
}

/// Makes the bridge and its rules as `spec` says, or corrects what is there: address, MTU, sysctls
/// (`route_localnet` on this link; `ip_forward` on the host), rules, and two accepts where Docker's user chain
/// exists. Idempotent; endpoints attached to it stay. Where the host did not forward, the link's alias says so, and
/// [`remove`] turns it off again.
///
/// # Errors
/// [`BridgeError`]. A link that this call made is removed again; one that was there stays.
pub fn ensure(host: &Host, spec: &BridgeSpec) -> Result<Bridge, BridgeError> {
    let (index, made, forwards) = ensure_link(host, spec)?;
    // Noted before it is done: a crash between the two changes nothing that nobody knows of.
    let is_off = || !spec.traffic.internal && !is_written(FORWARDING, "1");
    let forwards = if forwards || is_off() { Forwards::BecauseOfUs } else { Forwards::Anyway };
    let result = configure(host, spec, index, forwards);
    if result.is_err() && made {
        let _ = remove(host, &spec.name);
    }
    Ok(Bridge { index, warnings: result? })
}

/// Finds the link or makes it. Returns its index, whether it was made, and whether it stands for the host's forwarding.
fn ensure_link(host: &Host, spec: &BridgeSpec) -> Result<(u32, bool, bool), BridgeError> {
    let failed = |action| move |source| BridgeError::Kernel { action, name: spec.name.clone(), source };
    let existing = route(host, &spec.name, |route| route.link(&spec.name))?.map_err(failed("look-up"))?;
    if let Some(link) = existing {
        if link.kind != "bridge" || !link.alias.starts_with(&alias(host, "")) {
            return Err(BridgeError::Foreign { name: spec.name.clone() });
        }
        return Ok((link.index, false, link.alias.ends_with(FORWARDS)));
    }
    let mac = MacAddress::for_ipv4(spec.gateway.address()).0;
    let index = route(host, &spec.name, |route| {
        let mut changes = route.changes();
        changes.add_bridge(&NewBridge { name: &spec.name, mac, mtu: spec.mtu });
        route.apply(changes)?;
        route.index_of(&spec.name)
    })?
    .map_err(failed("creation"))?;
    Ok((index, true, false))
}

/// Why the host forwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Forwards {
    /// It did before we came, or it need not.
    Anyway,
    /// One of our daemons turned it on when it made this bridge.
    BecauseOfUs,
}

fn configure(
    host: &Host,
    spec: &BridgeSpec,
    index: u32,
    forwards: Forwards,
) -> Result<Vec<Warning>, BridgeError> {
    let note = if forwards == Forwards::BecauseOfUs { FORWARDS } else { "" };
    let alias = format!("{}{note}", alias(host, &spec.owner));
    let failed = |action| move |source| BridgeError::Kernel { action, name: spec.name.clone(), source };
    route(host, &spec.name, |route| {
        let mut changes = route.changes();
        for (address, prefix) in route.addresses(index)? {
            if Ipv4Net::new(address, prefix) != Some(spec.gateway) {
                changes.remove_address(index, address, prefix);
            }
        }
        let gateway = spec.gateway;
        changes.add_address(index, gateway.address(), gateway.prefix(), gateway.broadcast());
        changes.change_link(
            LinkRef::Index(index),
            &Change {
                up: Some(true),
                alias: Some(&alias),
                mtu: (spec.mtu > 0).then_some(spec.mtu),
                ipv6_address: crate::bind::has_ipv6().then_some(false),
                port: None,
            },
        );
        route.apply(changes)
    })?
    .map_err(failed("configuration"))?;

    let mut warnings = Vec::new();
    write_sysctl(&format!("net/ipv4/conf/{}/route_localnet", spec.name), "1")?;
    if !spec.traffic.internal && write_sysctl(FORWARDING, "1")? {
        warnings.push(Warning {
            name: "ip-forward-enabled",
            text:
                "IPv4 forwarding was off and is now on for the whole host, because containers need it: the \
                   host forwards between its other links too."
                    .into(),
            remedy: String::new(),
        });
    }
    let subnet = spec.gateway.network();
    host.table()
        .add_bridge(&spec.name, || rules::bridge_chains(&spec.name, subnet, spec.traffic))
        .map_err(failed("writing the rules"))?;
    match firewall::open_for(host, &spec.name) {
        Ok(more) => warnings.extend(more),
        Err(error) => warnings.push(firewall::unexamined(&spec.name, &error)),
    }
    Ok(warnings)
}

/// The address of the bridge with this name, if it is there: what an earlier daemon chose.
///
/// # Errors
/// [`BridgeError::Kernel`].
pub fn address(host: &Host, name: &str) -> Result<Option<Ipv4Net>, BridgeError> {
    let found = route(host, name, |route| match route.link(name)? {
        Some(link) => route.addresses(link.index),
        None => Ok(Vec::new()),
    })?;
    let addresses =
        found.map_err(|source| BridgeError::Kernel { action: "look-up", name: name.into(), source })?;
    Ok(addresses.first().and_then(|(address, prefix)| Ipv4Net::new(*address, *prefix)))
}

/// Removes the bridge, its rules and its accepts in Docker's user chain. No bridge with this name: no error. Where the
/// host forwards because of it, it does so no longer, unless it has another bridge that may count on it.
///
/// # Errors
/// [`BridgeError`]; what could be removed is. A link that is not ours stays and is [`BridgeError::Foreign`].
pub fn remove(host: &Host, name: &str) -> Result<(), BridgeError> {
    let failed = |action| move |source| BridgeError::Kernel { action, name: name.into(), source };
    let rules = host.table().remove_bridge(name).map_err(failed("removing the rules"));
    let accepts = firewall::close_for(host, name).map_err(failed("removing the accepts"));
    let link = route(host, name, |route| {
        let Some(link) = route.link(name)? else { return Ok(None) };
        if !link.alias.starts_with(&host.identity().alias_prefix()) {
            return Ok(Some(link));
        }
        let mut changes = route.changes();
        changes.remove_link(LinkRef::Index(link.index));
        match route.apply(changes) {
            Err(error) if !error.is_absent() => return Err(error),
            _ => {}
        }
        if link.alias.ends_with(FORWARDS) && !route.links()?.iter().any(|other| other.kind == "bridge") {
            // Whoever may not change it was not who changed it.
            let _ = write_sysctl(FORWARDING, "0");
        }
        Ok(None)
    })?;
    if link.map_err(failed("removal"))?.is_some() {
        return Err(BridgeError::Foreign { name: name.into() });
    }
    rules.and(accepts)
}

fn alias(host: &Host, owner: &str) -> String {
    format!("{}{ALIAS_KIND}:{owner}", host.identity().alias_prefix())
}

fn route<T>(host: &Host, name: &str, speak: impl FnOnce(&mut Route) -> T) -> Result<T, BridgeError> {
    host.with_route(speak).map_err(|error| BridgeError::Kernel {
        action: "opening a socket",
        name: name.into(),
        source: error.into(),
    })
}

/// Whether a kernel setting is so.
fn is_written(key: &str, value: &str) -> bool {
    std::fs::read_to_string(format!("/proc/sys/{key}")).is_ok_and(|now| now.trim_end() == value)
}

/// Writes a kernel setting, if it is not so already. True if it was written.
fn write_sysctl(key: &str, value: &str) -> Result<bool, BridgeError> {
    if is_written(key, value) {
        return Ok(false);
    }
    let path = format!("/proc/sys/{key}");
    match std::fs::write(&path, value) {
        Ok(()) => Ok(true),
        Err(source) => Err(BridgeError::Sysctl { path, source }),
    }
}

/// Why a bridge could not be made or removed.
#[derive(Debug, thiserror::Error)]
pub enum BridgeError {
    /// A link of this name exists and is not ours: not a bridge, or without our tag.
    #[error(
        "a link named {name} exists and was not made by this daemon; remove it (ip link del {name}) or choose another name"
    )]
    Foreign {
        /// The link.
        name: String,
    },
    /// A kernel setting could not be written.
    #[error("writing {path} failed")]
    Sysctl {
        /// The file under `/proc/sys`.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The kernel refused.
    #[error("{action} of bridge {name} failed")]
    Kernel {
        /// What was done.
        action: &'static str,
        /// The link.
        name: String,
        /// What the kernel said.
        #[source]
        source: netlink::Error,
    },
}

impl BridgeError {
    /// What sort of failure this is.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Foreign { .. } => ErrorKind::Conflict,
            Self::Sysctl { .. } | Self::Kernel { .. } => ErrorKind::Internal,
        }
    }
}
