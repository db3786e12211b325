//! What can change about a container: its name, its restart policy, its limits.

use std::sync::Arc;

use gantry_model::container::RestartPolicy;
use gantry_runtime::shim::protocol::Request;

use super::config::Resources;
use super::limits::{self, Available, Occasion};
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
        if name.is_empty() {
            return Err(Error::Invalid("Neither old nor new names may be empty".into()));
        }
        let name = name.strip_prefix('/').unwrap_or(name).to_owned();
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
        let id = record.id.clone();
        let cannot = |why: &str| format!("Cannot update container {id}: {why}");
        let mut changes = update.host_config_json;
        let given = match update.resources {
            None => None,
            Some(mut given) => {
                let available = Available::here(self.core.host.cpus, &given);
                warnings = limits::check(&mut given, &available, Occasion::Update)?;
                echo(&mut changes, &given);
                Some(given)
            }
        };
        if let Some(policy) = update.restart {
            if record.host.auto_remove && policy != RestartPolicy::No {
                let text = "Restart policy cannot be updated because AutoRemove is enabled for the container";
                return Err(Error::Conflict(cannot(text)));
            }
            record.host.restart = policy;
        }
        if let Some(given) = &given {
            clash(&record.host.resources, given).map_err(|why| Error::Conflict(cannot(why)))?;
            merge(&mut record.host.resources, given);
            if self.known.state.is_running() {
                let limits = spec::linux_resources(&record.host.resources)?;
                let mut cgroup = self.core.host.open_cgroup(&record);
                let updated = cgroup.update(&limits);
                updated.map_err(|error| Error::Internal(cannot(&crate::chain(&error))))?;
                warnings.extend(cgroup.warnings().iter().cloned());
            }
        }
        patch(&mut record.host_config_json, &changes);
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

/// What cannot be changed beside what is there, in Docker's words.
fn clash(there: &Resources, given: &Resources) -> Result<(), &'static str> {
    let conflicts = [
        (
            given.nano_cpus > 0 && there.cpu_period > 0,
            "Conflicting options: Nano CPUs cannot be updated as CPU Period has already been set",
        ),
        (
            given.nano_cpus > 0 && there.cpu_quota > 0,
            "Conflicting options: Nano CPUs cannot be updated as CPU Quota has already been set",
        ),
        (
            given.cpu_period > 0 && there.nano_cpus > 0,
            "Conflicting options: CPU Period cannot be updated as NanoCPUs has already been set",
        ),
        (
            given.cpu_quota > 0 && there.nano_cpus > 0,
            "Conflicting options: CPU Quota cannot be updated as NanoCPUs has already been set",
        ),
        (
            given.memory_swap == 0 && there.memory_swap > 0 && given.memory > there.memory_swap,
            "Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time",
        ),
    ];
    conflicts.iter().find(|(clashes, _)| *clashes).map_or(Ok(()), |(_, why)| Err(*why))
}

/// Has inspect show what became of the limits that were given.
fn echo(changes: &mut serde_json::Value, given: &Resources) {
    if let Some(fields) = changes.as_object_mut() {
        // Docker takes this one for given only when a container is made.
        fields.remove("OomKillDisable");
        if given.blkio_weight == 0 {
            fields.remove("BlkioWeight");
        }
    }
    if let (Some(..=0), Some(limit)) = (given.pids_limit, changes.get_mut("PidsLimit")) {
        *limit = 0.into();
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_clashes_with_what_is_there_is_refused() {
        let check = |there: Resources, given: Resources, want: Option<&str>| {
            assert_eq!(clash(&there, &given).err(), want, "{there:?} {given:?}");
        };
        let none = Resources::default;
        let cpus = || Resources { nano_cpus: 1, ..none() };
        let period = || Resources { cpu_period: 1, ..none() };
        let quota = || Resources { cpu_quota: 1, ..none() };
        let memory = |memory, memory_swap| Resources { memory, memory_swap, ..none() };
        check(none(), cpus(), None);
        check(
            period(),
            cpus(),
            Some("Conflicting options: Nano CPUs cannot be updated as CPU Period has already been set"),
        );
        check(
            quota(),
            cpus(),
            Some("Conflicting options: Nano CPUs cannot be updated as CPU Quota has already been set"),
        );
        check(
            cpus(),
            period(),
            Some("Conflicting options: CPU Period cannot be updated as NanoCPUs has already been set"),
        );
        check(
            cpus(),
            quota(),
            Some("Conflicting options: CPU Quota cannot be updated as NanoCPUs has already been set"),
        );
        check(memory(1, 2), memory(2, 0), None);
        check(memory(1, 2), memory(3, 6), None);
        check(
            memory(1, 2),
            memory(3, 0),
            Some(
                "Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time",
            ),
        );
    }

    #[test]
    fn what_was_dropped_is_not_shown() {
        let mut changes =
            serde_json::json!({"BlkioWeight": 500, "PidsLimit": -1, "Memory": 5, "OomKillDisable": true});
        echo(&mut changes, &Resources { pids_limit: Some(-1), memory: 5, ..Resources::default() });
        assert_eq!(changes, serde_json::json!({"PidsLimit": 0, "Memory": 5}));
    }
}
