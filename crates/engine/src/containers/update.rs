//! What can change about a container: its name, its restart policy, its limits.

use std::sync::Arc;

use gantry_model::container::RestartPolicy;
use gantry_runtime::shim::protocol::Request;

use super::config::Resources;
use super::limits::{self, Available};
use super::link::Pending;
use super::task::{Message, Task};
use super::{Containers, Error, Update, core, spec};
use crate::database::LedgerError;

impl Containers {
    /// Gives it another name.
    ///
    /// # Errors
    /// [`Error::Conflict`] if the name is taken.
    pub async fn rename(&self, container: &str, name: &str) -> Result<(), Error> {
        let name = name.strip_prefix('/').unwrap_or(name).to_owned();
        if name.is_empty() {
            return Err(Error::Invalid("Neither old nor new names may be empty".into()));
        }
        self.core.index.find(container)?;
        if !crate::names::is_allowed(&name) {
            // Docker tells the name with its slash here.
            let refused = super::create::invalid_name(&format!("/{name}"));
            return Err(Error::Invalid(format!("Error when allocating new name: {refused}")));
        }
        self.ask(container, |answer| Message::Rename { name, answer }).await
    }

    /// Changes restart policy and limits; returns warnings.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a policy that clashes with `--rm`.
    pub async fn update(&self, container: &str, update: Update) -> Result<Vec<String>, Error> {
        let update = Box::new(update);
        self.ask(container, |answer| Message::Update { update, answer }).await
    }
}

impl Task {
    pub(super) fn rename(&mut self, name: String) -> Result<(), Error> {
        let old = self.known.record.name.clone();
        if old == name {
            return Err(Error::Invalid("Renaming a container with the same name as its current name".into()));
        }
        let mut record = (*self.known.record).clone();
        record.name.clone_from(&name);
        let written = self.core.ledger.write(|transaction| {
            let owner = core::owner_of(transaction, &name)?;
            if owner.is_none() {
                core::update_record(transaction, &record)?;
            }
            Ok::<_, LedgerError>(owner)
        })?;
        if let Some(id) = written {
            let taken = Error::NameTaken { name, id };
            return Err(Error::Conflict(format!("Error when allocating new name: {taken}")));
        }
        self.core.index.rename(&record.id, &old, &name);
        self.known.record = Arc::new(record);
        self.show();
        self.publish("rename", vec![("oldName", format!("/{old}"))]);
        Ok(())
    }

    pub(super) fn update(&mut self, update: Update) -> Result<Vec<String>, Error> {
        let mut record = (*self.known.record).clone();
        let mut warnings = Vec::new();
        if let Some(policy) = update.restart {
            if record.host.auto_remove && policy != RestartPolicy::No {
                let text = "Restart policy cannot be updated because AutoRemove is enabled for the container";
                return Err(Error::Invalid(text.into()));
            }
            record.host.restart = policy;
        }
        if let Some(resources) = &update.resources {
            if resources.memory > record.host.resources.memory_swap
                && record.host.resources.memory_swap > 0
                && resources.memory_swap == 0
            {
                return Err(Error::Conflict(format!(
                    "Cannot update container {}: Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time",
                    record.id
                )));
            }
            merge(&mut record.host.resources, resources);
            let available = Available::here(self.core.host.cpus, resources);
            warnings = limits::check(&mut record.host.resources, &available)?;
            if self.known.state.is_running() {
                let limits = spec::linux_resources(&record.host.resources)?;
                let mut cgroup = self.core.host.open_cgroup(&record);
                let updated = cgroup.update(&limits);
                updated.map_err(|error| {
                    Error::Internal(format!(
                        "Cannot update container {}: {}",
                        record.id,
                        crate::chain(&error)
                    ))
                })?;
                warnings.extend(cgroup.warnings().iter().cloned());
            }
        }
        patch(&mut record.host_config_json, &update.host_config_json);
        self.core.ledger.write(|transaction| core::update_record(transaction, &record))?;
        if let (Some(policy), Some(link)) = (update.restart, &mut self.link) {
            link.ask(Request::SetRestartPolicy(policy), &[], Pending::Nobody);
        }
        self.known.record = Arc::new(record);
        self.show();
        self.publish("update", Vec::new());
        Ok(warnings)
    }
}

/// Takes what is given; 0 and empty leave as it is.
fn merge(resources: &mut Resources, given: &Resources) {
    for (ours, given) in [
        (&mut resources.memory, given.memory),
        (&mut resources.memory_swap, given.memory_swap),
        (&mut resources.memory_reservation, given.memory_reservation),
        (&mut resources.cpu_shares, given.cpu_shares),
        (&mut resources.nano_cpus, given.nano_cpus),
        (&mut resources.cpu_period, given.cpu_period),
        (&mut resources.cpu_quota, given.cpu_quota),
        (&mut resources.cpu_realtime_period, given.cpu_realtime_period),
        (&mut resources.cpu_realtime_runtime, given.cpu_realtime_runtime),
    ] {
        if given != 0 {
            *ours = given;
        }
    }
    for (ours, given) in
        [(&mut resources.cpuset_cpus, &given.cpuset_cpus), (&mut resources.cpuset_mems, &given.cpuset_mems)]
    {
        if !given.is_empty() {
            ours.clone_from(given);
        }
    }
    if given.blkio_weight != 0 {
        resources.blkio_weight = given.blkio_weight;
    }
    if given.pids_limit.is_some() {
        resources.pids_limit = given.pids_limit;
    }
}

/// Puts the members of one JSON object over another's.
fn patch(whole: &mut serde_json::Value, changes: &serde_json::Value) {
    if let (Some(whole), Some(changes)) = (whole.as_object_mut(), changes.as_object()) {
        for (key, value) in changes {
            whole.insert(key.clone(), value.clone());
        }
    }
}
