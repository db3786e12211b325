//! Networks: the built-in `bridge`, `host` and `none`.

pub(crate) mod bridge;
pub(crate) mod watch;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

use gantry_model::filter::Filters;
use gantry_model::{ContainerId, ErrorKind, NetworkId, Timestamp};
use gantry_net::{Host, Identity};

use crate::containers::index::Index;
use crate::database::{Ledger, LedgerError};
use crate::{OpenError, Settings};

/// All networks. Cheap to clone.
#[derive(Clone)]
pub struct Networks {
    shared: Arc<Shared>,
}

struct Shared {
    /// Bridge, host, none.
    rows: Vec<Row>,
    bridge: Option<bridge::Bridge>,
    host: Host,
    index: Arc<Index>,
}

/// What the database knows of a network.
struct Row {
    id: NetworkId,
    name: String,
    driver: String,
    created: Timestamp,
}

/// What inspect of a network shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkView {
    /// Its id.
    pub id: NetworkId,
    /// Its name.
    pub name: String,
    /// `bridge`, `host`, `null`.
    pub driver: String,
    /// When it was made.
    pub created: Timestamp,
    /// Address and prefix of the subnet, and the gateway; `None` for host and none.
    pub subnet: Option<((Ipv4Addr, u8), Ipv4Addr)>,
    /// Docker's options (`com.docker.network.bridge.name`, …).
    pub options: BTreeMap<String, String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Running containers on it.
    pub containers: Vec<NetworkMember>,
}

/// A container on a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkMember {
    /// The container.
    pub container: ContainerId,
    /// Its name.
    pub name: String,
    /// Its endpoint there.
    pub endpoint: crate::sandboxes::Endpoint,
}

impl Networks {
    /// Makes or finds the default bridge and takes up what the database knows of networks.
    pub(crate) fn open(settings: &Settings, ledger: &Ledger, index: Arc<Index>) -> Result<Self, OpenError> {
        let rows = recorded(ledger).map_err(|error| OpenError::Database(error.to_string()))?;
        let network = |error: &dyn std::error::Error| OpenError::Network(crate::chain(error));
        let host =
            Host::open(Identity::from_exec_root(&settings.exec_root)).map_err(|error| network(&error))?;
        let disabled = settings.bridge.name.as_deref() == Some("none");
        let bridge = if disabled { None } else { Some(bridge::open(&host, &settings.bridge, &rows[0])?) };
        Ok(Self { shared: Arc::new(Shared { rows, bridge, host, index }) })
    }

    /// All networks, in Docker's order. Filters: `name`, `id`, `driver`, `type`, `scope`, `label`, `dangling`.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an unknown filter.
    pub fn list(&self, filters: &Filters) -> Result<Vec<NetworkView>, Error> {
        const KNOWN: [&str; 7] = ["name", "id", "driver", "type", "scope", "label", "dangling"];
        if let Some(key) = filters.keys().find(|key| !KNOWN.contains(key)) {
            return Err(Error::Invalid(format!("invalid filter '{key}'")));
        }
        if let Some(kind) =
            filters.get("type").iter().find(|kind| !matches!(kind.as_str(), "builtin" | "custom"))
        {
            return Err(Error::Invalid(format!("invalid filter: 'type'='{kind}'")));
        }
        let truth = |text: &String| matches!(text.as_str(), "true" | "1" | "false" | "0");
        if !filters.get("dangling").iter().all(truth) {
            let text =
                "invalid value for filter 'dangling', must be \"true\" (or \"1\"), or \"false\" (or \"0\")";
            return Err(Error::Invalid(text.into()));
        }
        let any = |key: &str, test: &dyn Fn(&str) -> bool| {
            let wanted = filters.get(key);
            wanted.is_empty() || wanted.iter().any(|wanted| test(wanted))
        };
        let views = self.shared.rows.iter().filter(|row| {
            any("name", &|wanted| row.name.contains(wanted))
                && any("id", &|wanted| row.id.as_str().starts_with(wanted))
                && any("driver", &|wanted| row.driver == wanted)
                && any("type", &|wanted| wanted == "builtin")
                && any("scope", &|wanted| wanted == "local")
                && any("dangling", &|wanted| matches!(wanted, "false" | "0"))
                && filters.get("label").is_empty()
        });
        Ok(views.filter(|row| self.is_there(row)).map(|row| self.view(row)).collect())
    }

    /// Finds a network by name, id or prefix of an id.
    ///
    /// # Errors
    /// [`Error::NoSuchNetwork`].
    pub fn inspect(&self, network: &str) -> Result<NetworkView, Error> {
        self.find(network).map(|row| self.view(row)).ok_or_else(|| Error::NoSuchNetwork(network.into()))
    }

    /// Removes unused networks; filters: `label`, `label!`, `until`. Those that are built in stay, and there are no
    /// others.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an unknown filter or a time that is none.
    pub fn prune(&self, filters: &Filters) -> Result<Vec<String>, Error> {
        if let Some(key) = filters.keys().find(|key| !["label", "label!", "until"].contains(key)) {
            return Err(Error::Invalid(format!("invalid filter '{key}'")));
        }
        crate::images::until(filters).map_err(Error::Invalid)?;
        Ok(Vec::new())
    }

    /// What the host's own firewall blocks, with the rule that would open it; shown by `info`.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let warnings = self.shared.bridge.iter().flat_map(bridge::Bridge::warnings);
        warnings.map(|warning| format!("WARNING: {warning}")).collect()
    }

    /// Takes the default bridge and our rules away, unless a container or a build step uses them.
    pub(crate) fn remove_unused(&self) {
        if let Some(bridge) = &self.shared.bridge {
            bridge.remove_unused(&self.shared.host);
        }
    }

    /// The host's end of everything.
    pub(crate) fn host(&self) -> &Host {
        &self.shared.host
    }

    /// The default bridge, unless it is disabled.
    pub(crate) fn bridge(&self) -> Option<&bridge::Bridge> {
        self.shared.bridge.as_ref()
    }

    /// The network that a mode (`bridge`, `host`, `none`, a name or id) means.
    pub(crate) fn of_mode(&self, mode: &str) -> Option<(&NetworkId, &str)> {
        let name = if matches!(mode, "" | "default") { "bridge" } else { mode };
        self.find(name).map(|row| (&row.id, row.name.as_str()))
    }

    fn find(&self, text: &str) -> Option<&Row> {
        let rows = || self.shared.rows.iter().filter(|row| self.is_there(row));
        rows()
            .find(|row| row.name == text || row.id.as_str() == text)
            .or_else(|| rows().find(|row| !text.is_empty() && row.id.as_str().starts_with(text)))
    }

    fn is_there(&self, row: &Row) -> bool {
        row.driver != "bridge" || self.shared.bridge.is_some()
    }

    fn view(&self, row: &Row) -> NetworkView {
        let bridge = self.shared.bridge.as_ref().filter(|_| row.driver == "bridge");
        let containers = self.shared.index.views().into_iter().filter_map(|view| {
            let endpoint = view.network.endpoints.get(&row.name)?;
            (view.state.is_running() && view.network.sandbox.is_some()).then(|| NetworkMember {
                container: view.record.id.clone(),
                name: view.record.name.clone(),
                endpoint: endpoint.clone(),
            })
        });
        NetworkView {
            id: row.id.clone(),
            name: row.name.clone(),
            driver: row.driver.clone(),
            created: row.created,
            subnet: bridge.map(|bridge| {
                let subnet = bridge.gateway.network();
                ((subnet.address(), subnet.prefix()), bridge.gateway.address())
            }),
            options: bridge.map(bridge::Bridge::docker_options).unwrap_or_default(),
            labels: BTreeMap::new(),
            containers: containers.collect(),
        }
    }
}

/// The built-in networks, with ids that stay the same over the life of the data root.
fn recorded(ledger: &Ledger) -> Result<Vec<Row>, LedgerError> {
    ledger.write(|transaction| {
        let mut rows = Vec::new();
        for (name, driver) in [("bridge", "bridge"), ("host", "host"), ("none", "null")] {
            let fresh = NetworkId::from_random(crate::random());
            transaction.execute(
                "INSERT INTO networks VALUES (?1, ?2, ?3, ?4) ON CONFLICT (name) DO NOTHING",
                (fresh.as_str(), name, driver, crate::events::now().nanos()),
            )?;
            let (id, created): (String, i64) =
                transaction.query_row("SELECT id, created FROM networks WHERE name = ?1", [name], |row| {
                    Ok((row.get(0)?, row.get(1)?))
                })?;
            rows.push(Row {
                id: id.parse().unwrap_or(fresh),
                name: name.into(),
                driver: driver.into(),
                created: Timestamp::from_nanos(created),
            });
        }
        Ok(rows)
    })
}

/// Says why an operation on a network failed, in Docker's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Nothing has this name or id.
    #[error("network {0} not found")]
    NoSuchNetwork(String),
    /// The request is wrong.
    #[error("{0}")]
    Invalid(String),
}

impl Error {
    /// The kind.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NoSuchNetwork(_) => ErrorKind::NotFound,
            Self::Invalid(_) => ErrorKind::InvalidArgument,
        }
    }
}
