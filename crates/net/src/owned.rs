//! Everything of ours in the kernel, for `fsck`, sweeps and leak tests.

use std::fmt;

use gantry_model::ErrorKind;
use gantry_sys::netlink;
use gantry_sys::netlink::route::{Link, Route};

use crate::rules::{DISPATCH, PUBLISHED, PUBLISHED_ON};
use crate::table::FAMILY;
use crate::{Host, bridge, endpoint, firewall, rules};

/// A thing of ours.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Owned {
    /// A bridge, by name, and the network's id.
    Bridge {
        /// The link.
        name: String,
        /// The id in its alias.
        owner: String,
    },
    /// The host's end of an endpoint, by name, and the sandbox's id.
    Endpoint {
        /// The link.
        name: String,
        /// The id in its alias.
        owner: String,
    },
    /// Our nft table, and how many ports it publishes.
    Table {
        /// Its name.
        name: String,
        /// Elements in its port maps.
        ports: usize,
    },
    /// An accept of ours in Docker's user chain.
    ForeignRule {
        /// Table and chain, such as `ip filter DOCKER-USER`.
        chain: String,
        /// The bridge it is for.
        bridge: String,
    },
}

impl fmt::Display for Owned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bridge { name, .. } => write!(f, "bridge {name}"),
            Self::Endpoint { name, .. } => write!(f, "endpoint {name}"),
            Self::Table { name, ports } => write!(f, "nft table {name} with {ports} ports"),
            Self::ForeignRule { chain, bridge } => write!(f, "accept for {bridge} in {chain}"),
        }
    }
}

/// All that carries our identity.
///
/// # Errors
/// [`OwnedError`].
pub fn list(host: &Host) -> Result<Vec<Owned>, OwnedError> {
    let failed = |what: &str| {
        let what = what.to_owned();
        move |source| OwnedError::Kernel { action: "listing", what, source }
    };
    let links = host.with_route(Route::links).map_err(|error| failed("links")(error.into()))?;
    let prefix = host.identity().alias_prefix();
    let mut all: Vec<Owned> =
        links.map_err(failed("links"))?.into_iter().filter_map(|link| of_link(&prefix, link)).collect();
    for (bridge, _) in firewall::accepts(host).map_err(failed("accepts in Docker's chain"))? {
        let rule = Owned::ForeignRule { chain: firewall::docker_chain(), bridge };
        if !all.contains(&rule) {
            all.push(rule);
        }
    }
    let mut table = host.table();
    if table.exists().map_err(failed("nft tables"))? {
        let mut ports = 0;
        for map in [PUBLISHED, PUBLISHED_ON] {
            ports += table.all(map).map_err(failed("published ports"))?.len();
        }
        all.push(Owned::Table { name: table.name().into(), ports });
    }
    Ok(all)
}

/// What others put into our table and plugged into our bridges, each in a sentence that says what to do.
///
/// # Errors
/// [`OwnedError`].
pub fn strangers(host: &Host) -> Result<Vec<String>, OwnedError> {
    let failed = |what: &str| {
        let what = what.to_owned();
        move |source| OwnedError::Kernel { action: "listing", what, source }
    };
    let links = host.with_route(Route::links).map_err(|error| failed("links")(error.into()))?;
    let links = links.map_err(failed("links"))?;
    let prefix = host.identity().alias_prefix();
    let ours = |link: &&Link| link.alias.starts_with(&prefix);
    let bridges: Vec<&Link> = links.iter().filter(ours).filter(|link| link.kind == "bridge").collect();
    let mut found = Vec::new();
    for link in links.iter().filter(|link| !ours(link)) {
        if let Some(bridge) = bridges.iter().find(|bridge| bridge.index == link.master) {
            let (name, bridge) = (&link.name, &bridge.name);
            found.push(format!(
                "link {name} is plugged into {bridge} and not ours: ip link set {name} nomaster"
            ));
        }
    }
    let mut table = host.table();
    let name = table.name().to_owned();
    let base = rules::base_chains();
    let of_bridge = |chain: &str| {
        bridges.iter().any(|bridge| DISPATCH.iter().any(|map| rules::chain_of(map, &bridge.name) == chain))
    };
    let chains = table.nft().chains().map_err(failed("nft chains"))?;
    for chain in chains.iter().filter(|chain| chain.family == FAMILY && chain.table == name) {
        let chain = &chain.name;
        if let Some(base) = base.iter().find(|base| base.name == *chain) {
            let rules = table.nft().rules(FAMILY, &name, chain).map_err(failed("nft rules"))?.len();
            if rules != base.rules.len() {
                let wanted = base.rules.len();
                found.push(format!(
                    "chain {chain} of nft table {name} has {rules} rules instead of {wanted}: the next start writes them anew"
                ));
            }
        } else if !of_bridge(chain) {
            found.push(format!(
                "chain {chain} of nft table {name} is not ours: nft delete chain inet {name} {chain}"
            ));
        }
    }
    Ok(found)
}

fn of_link(prefix: &str, link: Link) -> Option<Owned> {
    let (kind, owner) = link.alias.strip_prefix(prefix)?.split_once(':')?;
    let (name, owner) = (link.name, owner.trim_end_matches(bridge::FORWARDS).to_owned());
    match kind {
        bridge::ALIAS_KIND => Some(Owned::Bridge { name, owner }),
        endpoint::ALIAS_KIND => Some(Owned::Endpoint { name, owner }),
        _ => None,
    }
}

/// Removes one thing. Absent already: no error. Removing a bridge also removes its rules.
///
/// # Errors
/// [`OwnedError`].
pub fn remove(host: &Host, thing: &Owned) -> Result<(), OwnedError> {
    let failed = |source| OwnedError::Kernel { action: "removal", what: thing.to_string(), source };
    match thing {
        Owned::Bridge { name, .. } => bridge::remove(host, name).map_err(OwnedError::Bridge),
        Owned::Endpoint { name, .. } => endpoint::detach(host, name).map_err(OwnedError::Endpoint),
        Owned::Table { .. } => host.table().remove().map_err(failed),
        Owned::ForeignRule { bridge, .. } => firewall::close_for(host, bridge).map_err(failed),
    }
}

/// Removes everything that carries our identity and goes on where something fails.
#[must_use]
pub fn remove_all(host: &Host) -> Vec<OwnedError> {
    match list(host) {
        Ok(mut all) => {
            // Endpoints before their bridge, the table last.
            all.sort_by_key(|thing| match thing {
                Owned::Endpoint { .. } => 0,
                Owned::Bridge { .. } => 1,
                Owned::ForeignRule { .. } => 2,
                Owned::Table { .. } => 3,
            });
            all.iter().filter_map(|thing| remove(host, thing).err()).collect()
        }
        Err(error) => vec![error],
    }
}

/// Why a thing could not be listed or removed.
#[derive(Debug, thiserror::Error)]
pub enum OwnedError {
    /// A bridge.
    #[error(transparent)]
    Bridge(bridge::BridgeError),
    /// An endpoint.
    #[error(transparent)]
    Endpoint(endpoint::AttachError),
    /// The kernel refused.
    #[error("{action} of {what} failed")]
    Kernel {
        /// What was done.
        action: &'static str,
        /// To what.
        what: String,
        /// What the kernel said.
        #[source]
        source: netlink::Error,
    },
}

impl OwnedError {
    /// What sort of failure this is.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Bridge(error) => error.kind(),
            Self::Endpoint(error) => error.kind(),
            Self::Kernel { .. } => ErrorKind::Internal,
        }
    }
}
