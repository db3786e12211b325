//! Sandboxes: the namespaces, endpoints and ports that containers live in.
//!
//! A sandbox has its own id, record and members. A start makes one; `--net container:` joins one. It
//! lives from a start by hand to the final exit, over restarts by policy; descriptors are held by the
//! shims, not here. Its life, each step undone by the one that mirrors it:
//!
//! | step | where | undone by |
//! | --- | --- | --- |
//! | address and ports are taken | [`Sandboxes::reserve`] | dropping the [`Reserved`] |
//! | the record is written | [`insert`], in the start's transaction | [`Sandboxes::leave`] |
//! | link and ports are made | [`Sandboxes::connect`] | [`Sandboxes::leave`] |
//!
//! The link itself is never deleted: it goes with the last descriptor of its namespace. An address is
//! free again when the last member has left.

mod ephemeral;
mod files;
mod ports;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::PathBuf;

use gantry_model::failpoint::{Point, reached};
use gantry_model::{ContainerId, ErrorKind, NetworkId, SandboxId};
use gantry_net::MacAddress;
use gantry_net::bind::BindError;
use gantry_net::bind::PortAllocator;
use gantry_net::endpoint::{BridgePort, EndpointSpec};
use gantry_net::ports::Publication;
use rusqlite::Transaction;
use serde::{Deserialize, Serialize};

use crate::containers::Record;
use crate::containers::config::{EndpointRequest, Port};
use crate::database::{Ledger, LedgerError};
use crate::networks::Networks;

pub(crate) use files::{NetworkFiles, write as write_files};

/// All sandboxes. Cheap to clone.
#[derive(Clone)]
pub struct Sandboxes {
    networks: Networks,
    ledger: Ledger,
    allocator: std::sync::Arc<PortAllocator>,
    scratch: PathBuf,
    /// Read while ports are published, or unpublished and their record goes; written while all are restored.
    restoring: std::sync::Arc<parking_lot::RwLock<()>>,
}

/// What a container is attached to.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Attached {
    /// The sandbox while there is one.
    pub sandbox: Option<SandboxId>,
    /// By network name (`bridge`, `host`, `none`).
    pub endpoints: BTreeMap<String, Endpoint>,
    /// Published ports, and exposed ports with an empty list.
    #[serde(with = "ports::as_list")]
    pub ports: BTreeMap<Port, Vec<HostPort>>,
}

/// One attachment to one network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// The network.
    pub network: NetworkId,
    /// The endpoint's id: 64 hexadecimal digits; empty while not attached.
    pub id: String,
    /// The container's address; `None` while not attached or for host and none.
    pub address: Option<Ipv4Addr>,
    /// The prefix length of the network.
    pub prefix: u8,
    /// The gateway.
    pub gateway: Option<Ipv4Addr>,
    /// `02:42:ac:11:00:02`; empty while not attached.
    pub mac_address: String,
    /// Further names.
    pub aliases: Vec<String>,
}

/// Where a port is published.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostPort {
    /// The host's address; unspecified is all.
    pub ip: IpAddr,
    /// The host's port.
    pub port: u16,
}

/// Addresses and ports that are taken, before anything is made. Dropping it gives them back.
pub(crate) struct Reserved {
    networks: Networks,
    address: Option<Ipv4Addr>,
    /// What the container will be attached to.
    pub(crate) attached: Attached,
    /// The network, for the record.
    pub(crate) network: NetworkId,
    /// Sockets that hold the published ports, with names for the shim.
    pub(crate) sockets: Vec<(String, OwnedFd)>,
}

impl Drop for Reserved {
    fn drop(&mut self) {
        if let (Some(address), Some(bridge)) = (self.address, self.networks.bridge()) {
            bridge.pool.lock().release(address);
        }
    }
}

impl Reserved {
    /// The sandbox's id.
    pub(crate) fn id(&self) -> &SandboxId {
        self.attached.sandbox.as_ref().expect("a reservation is made with an id")
    }

    /// It is recorded: from now on [`Sandboxes::leave`] gives the address back.
    pub(crate) fn recorded(mut self) -> (Attached, Vec<(String, OwnedFd)>) {
        self.address = None;
        (std::mem::take(&mut self.attached), std::mem::take(&mut self.sockets))
    }
}

impl Sandboxes {
    pub(crate) fn new(networks: Networks, ledger: Ledger, scratch: PathBuf) -> Self {
        let (allocator, restoring) = Default::default();
        Self { networks, ledger, allocator, scratch, restoring }
    }

    /// What a container that does not run is attached to: its network without an address.
    pub(crate) fn detached(&self, record: &Record) -> Attached {
        let mut attached = Attached::default();
        if let Some((network, name)) = self.networks.of_mode(&record.host.network_mode) {
            attached.endpoints.insert(name.into(), self.endpoint(record, network, name));
        }
        attached
    }

    /// Takes an address and host ports.
    ///
    /// # Errors
    /// [`Error`] in Docker's words; nothing is taken then.
    pub(crate) fn reserve(&self, record: &Record) -> Result<Reserved, Error> {
        let mode = &record.host.network_mode;
        let missing = || Error::NoSuchNetwork(mode.clone());
        let (network, name) = self.networks.of_mode(mode).ok_or_else(missing)?;
        let mut endpoint = self.endpoint(record, network, name);
        endpoint.id = gantry_model::id::to_hex(&crate::random());
        let mut reserved = Reserved {
            networks: self.networks.clone(),
            address: None,
            attached: Attached {
                sandbox: Some(SandboxId::from_random(crate::random())),
                ..Attached::default()
            },
            network: network.clone(),
            sockets: Vec::new(),
        };
        if let (Some(bridge), "bridge") = (self.networks.bridge(), name) {
            let address = bridge.pool.lock().allocate().map_err(|error| Error::setup(&error))?;
            reserved.address = Some(address);
            let asked = self.asked(record, network, name).map_or("", |asked| asked.mac_address.as_str());
            let mac = match [record.config.mac_address.as_str(), asked] {
                ["", ""] => MacAddress::for_ipv4(address),
                ["", given] | [given, _] => given.parse().map_err(|error| Error::setup(&error))?,
            };
            endpoint.address = Some(address);
            endpoint.prefix = bridge.gateway.prefix();
            endpoint.gateway = Some(bridge.gateway.address());
            endpoint.mac_address = mac.to_string();
            let host = self.networks.host();
            let explain =
                |error: BindError, port: Port| error.explain(host, SocketAddrV4::new(address, port.number));
            let bound = ports::bind(record, bridge, &self.allocator, &explain)
                .map_err(|error| Error::Setup(ports::failure(&record.name, &endpoint.id, &error)))?;
            (reserved.attached.ports, reserved.sockets) = bound;
        }
        reserved.attached.endpoints.insert(name.into(), endpoint);
        Ok(reserved)
    }

    /// What a client said of the endpoint; the stock CLI calls the default network `default`.
    fn asked<'a>(&self, record: &'a Record, network: &NetworkId, name: &str) -> Option<&'a EndpointRequest> {
        let default = |asked: &EndpointRequest| asked.network == "default" && name == "bridge";
        record
            .endpoints
            .iter()
            .find(|asked| asked.network == name || asked.network == network.as_str() || default(asked))
    }

    fn endpoint(&self, record: &Record, network: &NetworkId, name: &str) -> Endpoint {
        let asked = self.asked(record, network, name);
        Endpoint {
            network: network.clone(),
            id: String::new(),
            address: None,
            prefix: 0,
            gateway: None,
            mac_address: asked.map(|asked| asked.mac_address.clone()).unwrap_or_default(),
            aliases: asked.map(|asked| asked.aliases.clone()).unwrap_or_default(),
        }
    }

    /// Makes the link into the namespace and publishes the ports. About a millisecond.
    ///
    /// # Errors
    /// [`Error::Setup`]; call [`Sandboxes::leave`] then.
    pub(crate) fn connect(&self, attached: &Attached, namespace: BorrowedFd<'_>) -> Result<(), Error> {
        let (Some(bridge), Some(sandbox)) = (self.networks.bridge(), &attached.sandbox) else {
            return Ok(());
        };
        let Some(endpoint) = attached.endpoints.get("bridge") else { return Ok(()) };
        let Some(address) = endpoint.address else { return Ok(()) };
        let host = self.networks.host();
        let spec = EndpointSpec {
            port: BridgePort {
                bridge: bridge.index,
                name: &host.identity().endpoint_name(sandbox.as_str()),
                owner: sandbox.as_str(),
                between_containers: bridge.between_containers,
            },
            namespace,
            name: "eth0",
            address: bridge.gateway.with_address(address),
            gateway: Some(bridge.gateway.address()),
            mac: endpoint.mac_address.parse().unwrap_or(MacAddress::for_ipv4(address)),
            mtu: bridge.mtu,
        };
        gantry_net::endpoint::attach(host, &spec).map_err(|error| Error::setup(&error))?;
        reached(Point::StartLinked);
        let publications = publications(attached);
        if publications.is_empty() || !bridge.publishes {
            return Ok(());
        }
        let _restoring = self.restoring.read();
        gantry_net::ports::publish(host, &publications).map_err(|error| Error::setup(&error))
    }

    /// Takes a container out of its sandbox. The owner's ports close; when nobody is left the record goes and the
    /// address is free. Goes on where something fails, and returns what failed.
    pub(crate) fn leave(&self, container: &ContainerId, attached: &Attached) -> Vec<String> {
        let _restoring = self.restoring.read();
        let mut failures = Vec::new();
        let publications = publications(attached);
        if !publications.is_empty()
            && let Err(error) = gantry_net::ports::unpublish(self.networks.host(), &publications)
        {
            failures.push(crate::chain(&error));
        }
        reached(Point::StopUnpublished);
        match self.ledger.write(|transaction| leave(transaction, container)) {
            Ok(empty) => {
                for address in empty {
                    self.give_back(address);
                }
            }
            Err(error) => failures.push(error.to_string()),
        }
        failures
    }

    fn give_back(&self, address: Ipv4Addr) {
        if let Some(bridge) = self.networks.bridge() {
            bridge.pool.lock().release(address);
        }
    }

    /// Takes up the sandboxes of a database: their addresses are taken, their ports are published.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub(crate) fn adopt(&self) -> Result<(), LedgerError> {
        let all = self.recorded()?;
        let Some(bridge) = self.networks.bridge() else { return Ok(()) };
        for address in all.iter().filter_map(|attached| attached.endpoints.get("bridge")?.address) {
            if let Err(error) = bridge.pool.lock().reserve(address) {
                tracing::warn!("address {address} of a record cannot be taken: {error}");
            }
        }
        let wanted: Vec<Publication> = all.iter().flat_map(publications).collect();
        match gantry_net::ports::reconcile(self.networks.host(), &wanted) {
            Ok(done) => tracing::debug!("published ports: {} added, {} removed", done.added, done.removed),
            Err(error) => tracing::warn!("published ports were not restored: {}", crate::chain(&error)),
        }
        Ok(())
    }

    /// Publishes everything that is recorded once more, after somebody removed our table.
    pub(crate) fn restore_ports(&self) {
        let _restoring = self.restoring.write();
        let result = self.recorded().map_err(|error| error.to_string()).and_then(|all| {
            let wanted: Vec<Publication> = all.iter().flat_map(publications).collect();
            gantry_net::ports::publish(self.networks.host(), &wanted).map_err(|error| crate::chain(&error))
        });
        if let Err(error) = result {
            tracing::error!("published ports were not restored: {error}");
        }
    }

    fn recorded(&self) -> Result<Vec<Attached>, LedgerError> {
        self.ledger.read(|transaction| {
            let mut statement = transaction.prepare("SELECT record FROM sandboxes")?;
            let texts =
                statement.query_map([], |row| row.get::<_, String>(0))?.collect::<Result<Vec<_>, _>>()?;
            texts.iter().map(|text| Ok(serde_json::from_str(text)?)).collect()
        })
    }
}

/// Writes the record of a reserved sandbox with its first member.
///
/// # Errors
/// [`LedgerError`].
pub(crate) fn insert(
    transaction: &Transaction<'_>,
    reserved: &Reserved,
    owner: &ContainerId,
) -> Result<(), LedgerError> {
    let record = serde_json::to_string(&reserved.attached)?;
    transaction.prepare_cached("INSERT INTO sandboxes VALUES (?1, ?2, ?3, ?4)")?.execute((
        reserved.id().as_str(),
        reserved.network.as_str(),
        owner.as_str(),
        record,
    ))?;
    join(transaction, reserved.id(), owner)
}

/// Adds a member.
///
/// # Errors
/// [`LedgerError`], also where the sandbox is gone.
pub(crate) fn join(
    transaction: &Transaction<'_>,
    sandbox: &SandboxId,
    member: &ContainerId,
) -> Result<(), LedgerError> {
    transaction
        .prepare_cached("INSERT INTO sandbox_members VALUES (?1, ?2)")?
        .execute((sandbox.as_str(), member.as_str()))?;
    Ok(())
}

/// Removes a member; the addresses of sandboxes that have none left. The owner's ports leave the record.
fn leave(transaction: &Transaction<'_>, member: &ContainerId) -> Result<Vec<Ipv4Addr>, LedgerError> {
    let mut statement = transaction.prepare_cached(
        "SELECT s.id, s.owner, s.record, (SELECT count(*) FROM sandbox_members o WHERE o.sandbox = s.id)
         FROM sandbox_members m JOIN sandboxes s ON s.id = m.sandbox WHERE m.container = ?1",
    )?;
    let rows = statement
        .query_map([member.as_str()], |row| {
            Ok((
                row.get::<_, String>(0)?,
                row.get::<_, String>(1)?,
                row.get::<_, String>(2)?,
                row.get::<_, i64>(3)?,
            ))
        })?
        .collect::<Result<Vec<_>, _>>()?;
    let mut free = Vec::new();
    for (id, owner, record, members) in rows {
        let mut attached: Attached = serde_json::from_str(&record)?;
        if members <= 1 {
            transaction.prepare_cached("DELETE FROM sandboxes WHERE id = ?1")?.execute([&id])?;
            free.extend(attached.endpoints.values().filter_map(|endpoint| endpoint.address));
            continue;
        }
        transaction
            .prepare_cached("DELETE FROM sandbox_members WHERE sandbox = ?1 AND container = ?2")?
            .execute((&id, member.as_str()))?;
        if owner == member.as_str() {
            attached.ports.clear();
            transaction
                .prepare_cached("UPDATE sandboxes SET record = ?2 WHERE id = ?1")?
                .execute((&id, serde_json::to_string(&attached)?))?;
        }
    }
    Ok(free)
}

/// The ports as `net` knows them.
pub(crate) fn publications(attached: &Attached) -> Vec<Publication> {
    let Some(address) = attached.endpoints.values().find_map(|endpoint| endpoint.address) else {
        return Vec::new();
    };
    let published =
        attached.ports.iter().flat_map(|(port, hosts)| hosts.iter().map(move |host| (port, host)));
    published
        .map(|(port, host)| Publication {
            address: host.ip,
            port: host.port,
            protocol: port.protocol,
            target: SocketAddrV4::new(address, port.number),
        })
        .collect()
}

/// The network of a build step: a sandbox without record. It goes away when dropped.
pub struct Ephemeral {
    /// The network namespace; `None` is the host's.
    pub network: Option<OwnedFd>,
    /// A hosts file to mount.
    pub hosts: PathBuf,
    /// A resolver configuration to mount.
    pub resolv_conf: PathBuf,
    networks: Networks,
    address: Option<Ipv4Addr>,
}

/// Says why a sandbox could not be made, in Docker's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No such network.
    #[error("network {0} not found")]
    NoSuchNetwork(String),
    /// The host refused.
    #[error("{0}")]
    Setup(String),
}

impl Error {
    /// The kind.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NoSuchNetwork(_) => ErrorKind::NotFound,
            Self::Setup(_) => ErrorKind::Internal,
        }
    }

    fn setup(error: &dyn std::error::Error) -> Self {
        Self::Setup(format!("failed to set up container networking: {}", crate::chain(error)))
    }
}
