//! Lists and prune.

use std::num::IntErrorKind;
use std::sync::Arc;

use gantry_model::container::Status;
use gantry_model::failpoint::{Point, reached};
use gantry_model::filter::Filters;
use gantry_model::{ContainerId, Timestamp};

use super::config::Port;
use super::{Containers, Error, RemoveOptions, View};

/// Filters that Docker knows.
const KNOWN: [&str; 15] = [
    "ancestor",
    "before",
    "exited",
    "expose",
    "health",
    "id",
    "is-task",
    "isolation",
    "label",
    "name",
    "network",
    "publish",
    "since",
    "status",
    "volume",
];

/// Which containers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ListOptions {
    /// Also those that do not run.
    pub all: bool,
    /// The newest n, running or not; 0 is no limit.
    pub limit: usize,
    /// Docker's: id, name, label, status, exited, ancestor, before, since, volume, network, publish,
    /// expose, health, isolation, is-task.
    pub filters: Filters,
}

/// What prune removed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Pruned {
    /// Which containers.
    pub containers: Vec<ContainerId>,
    /// Bytes that became free.
    pub reclaimed_bytes: u64,
}

impl Containers {
    /// Containers, newest first.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an unknown filter or a wrong value; [`Error::NoSuchContainer`] for `before` and `since`.
    pub fn list(&self, options: &ListOptions) -> Result<Vec<Arc<View>>, Error> {
        let narrowed = Narrowed::new(self, &options.filters)?;
        // Asking for a state means all; asking for an exit code does not, as in Docker.
        let all = options.all || options.limit > 0 || options.filters.contains("status");
        let mut views: Vec<Arc<View>> = self
            .core
            .index
            .views()
            .into_iter()
            .filter(|view| all || view.state.is_running() || view.state.status == Status::Restarting)
            .filter(|view| narrowed.matches(view))
            .collect();
        views.sort_by_key(|view| std::cmp::Reverse(view.record.created));
        if options.limit > 0 {
            views.truncate(options.limit);
        }
        Ok(views)
    }

    /// Removes all that do not run; filters: `label`, `label!`, `until`.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an unknown filter.
    pub async fn prune(&self, filters: &Filters) -> Result<Pruned, Error> {
        if let Some(key) = filters.keys().find(|key| !["label", "label!", "until"].contains(key)) {
            return Err(unknown(key));
        }
        let until = crate::images::until(filters).map_err(Error::Invalid)?;
        let mut pruned = Pruned::default();
        for view in self.core.index.views() {
            let rests = matches!(view.state.status, Status::Created | Status::Exited | Status::Dead);
            if !rests
                || until.is_some_and(|until| view.record.created > until)
                || !filters.labels_match(&view.record.config.labels)
            {
                continue;
            }
            let id = &view.record.id;
            let bytes = self.sizes(id.as_str()).await.map_or(0, |(own, _)| own);
            match self.remove(id.as_str(), RemoveOptions::default()).await {
                Ok(()) => {
                    reached(Point::PruneContainer);
                    pruned.reclaimed_bytes += bytes;
                    pruned.containers.push(id.clone());
                }
                Err(error) => tracing::warn!("container {id} was not pruned: {error}"),
            }
        }
        Ok(pruned)
    }

    /// How many there are: (running, paused, stopped), for `info`.
    #[must_use]
    pub fn counts(&self) -> (usize, usize, usize) {
        let (mut running, mut paused, mut stopped) = (0, 0, 0);
        for view in self.core.index.views() {
            match view.state.status {
                Status::Running | Status::Restarting => running += 1,
                Status::Paused => paused += 1,
                _ => stopped += 1,
            }
        }
        (running, paused, stopped)
    }
}

/// Filters that were checked, with what they name looked up.
struct Narrowed<'a> {
    filters: &'a Filters,
    before: Option<Timestamp>,
    since: Option<Timestamp>,
    /// Images by id that count as ancestors.
    ancestors: Vec<String>,
}

impl<'a> Narrowed<'a> {
    fn new(containers: &Containers, filters: &'a Filters) -> Result<Self, Error> {
        if let Some(key) = filters.keys().find(|key| !KNOWN.contains(key)) {
            return Err(unknown(key));
        }
        for status in filters.get("status") {
            let known = ["created", "running", "paused", "restarting", "removing", "exited", "dead"];
            if !known.contains(&status.as_str()) {
                let known = known.join(", ");
                return Err(Error::Invalid(format!(
                    "invalid filter 'status={status}': invalid value for state ({status}): must be one of {known}"
                )));
            }
        }
        for code in filters.get("exited") {
            code.parse::<i32>().map_err(|_| {
                let why = format!("strconv.Atoi: parsing {code:?}: invalid syntax");
                Error::Invalid(format!("invalid filter 'exited={code}': {why}"))
            })?;
        }
        for key in ["publish", "expose"] {
            for port in filters.get(key) {
                wanted_ports(key, port)?;
            }
        }
        let tasks = filters.get("is-task");
        if tasks.iter().any(|task| !matches!(task.as_str(), "true" | "1" | "false" | "0")) {
            return Err(Error::Invalid(format!("invalid filter 'is-task=[{}]'", tasks.join(" "))));
        }
        for health in filters.get("health") {
            let known = ["none", "starting", "healthy", "unhealthy"];
            if !known.contains(&health.as_str()) {
                let known = known.join(", ");
                return Err(Error::Invalid(format!(
                    "invalid filter 'health={health}': invalid value for health ({health}): must be one of {known}"
                )));
            }
        }
        let of = |key: &str| -> Result<Option<Timestamp>, Error> {
            let first = filters.get(key).first();
            first.map(|name| Ok(containers.inspect(name)?.record.created)).transpose()
        };
        let images = containers.core.store.images();
        let named = filters.get("ancestor").iter().filter_map(|name| images.resolve_all(name).ok());
        let mut ancestors = Vec::new();
        let mut next: Vec<gantry_model::Digest> = named.flatten().collect();
        // What was built on an image counts as the image.
        while let Some(id) = next.pop() {
            next.extend(images.children(&id).map_err(|error| Error::Internal(crate::chain(&error)))?);
            ancestors.push(id.to_string());
        }
        Ok(Self { filters, before: of("before")?, since: of("since")?, ancestors })
    }

    fn matches(&self, view: &View) -> bool {
        let (record, state) = (&view.record, &view.state);
        let any = |key: &str, test: &dyn Fn(&str) -> bool| {
            let wanted = self.filters.get(key);
            wanted.is_empty() || wanted.iter().any(|wanted| test(wanted))
        };
        let slashed = format!("/{}", record.name);
        let port = |wanted: &str, published: bool| {
            let ports = wanted_ports("", wanted).unwrap_or_default();
            if published {
                // The host's end: what is published now.
                return view.network.ports.iter().any(|(port, hosts)| {
                    let taken = |wanted: &Port| hosts.iter().any(|host| host.port == wanted.number);
                    ports.iter().any(|wanted| port.protocol == wanted.protocol && taken(wanted))
                });
            }
            // Docker knows a container's ports only while it runs.
            state.is_running() && record.config.ports().iter().any(|port| ports.contains(port))
        };
        any("id", &|wanted| record.id.as_str().starts_with(wanted))
            && any("name", &|wanted| name_matches(wanted, &slashed))
            && any("status", &|wanted| state.status.as_str() == wanted)
            && any("exited", &|wanted| {
                state.status == Status::Exited && wanted.parse() == Ok(state.exit_code)
            })
            && any("ancestor", &|wanted| {
                let id = record.image.to_string();
                let begins = || id.strip_prefix("sha256:").is_some_and(|hex| hex.starts_with(wanted));
                self.ancestors.contains(&id) || (!wanted.is_empty() && begins())
            })
            && any("volume", &|wanted| {
                let points = || record.mounts.iter();
                points().any(|point| point.name == wanted || point.destination.as_os_str() == wanted)
                    || points().any(|point| point.source.as_os_str() == wanted)
            })
            && any("network", &|wanted| {
                let mut endpoints = view.network.endpoints.iter();
                wanted.is_empty()
                    || !record.config.network_disabled
                        && endpoints
                            .any(|(name, endpoint)| name == wanted || endpoint.network.as_str() == wanted)
            })
            && any("publish", &|wanted| port(wanted, true))
            && any("expose", &|wanted| port(wanted, false))
            && any("health", &|wanted| wanted == "none")
            && any("is-task", &|wanted| matches!(wanted, "false" | "0"))
            && self.before.is_none_or(|before| record.created < before)
            && self.since.is_none_or(|since| record.created > since)
            && self.filters.labels_match(&record.config.labels)
    }
}

fn unknown(key: &str) -> Error {
    match key {
        "" => Error::Invalid("invalid filter".into()),
        key => Error::Invalid(format!("invalid filter '{key}'")),
    }
}

/// Ports of a filter: any numbers of 16 bits, of any protocol; what no container has is no error.
fn wanted_ports(key: &str, text: &str) -> Result<Vec<Port>, Error> {
    let (range, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    let number = |digits: &str| {
        digits.parse::<u16>().map_err(|error| {
            let why = match error.kind() {
                IntErrorKind::PosOverflow => "value out of range",
                _ => "invalid syntax",
            };
            let why = format!("strconv.ParseUint: parsing {digits:?}: {why}");
            Error::Invalid(format!("error while looking up for {key} {text}: {why}"))
        })
    };
    let (first, last) = (number(first)?, number(last)?);
    if last < first {
        return Err(Error::Invalid(format!(
            "error while looking up for {key} {text}: invalid range specified for the Port: {range}"
        )));
    }
    let Ok(protocol) = protocol.parse() else { return Ok(Vec::new()) };
    Ok((first..=last).map(|number| Port { number, protocol }).collect())
}

/// Docker's `name` filter is a regular expression over the name with its slash, and over the name without; what is
/// none is a name.
fn name_matches(wanted: &str, slashed: &str) -> bool {
    let bare = slashed.strip_prefix('/').unwrap_or(slashed);
    match regex::Regex::new(wanted) {
        Ok(pattern) => pattern.is_match(slashed) || pattern.is_match(bare),
        Err(_) => wanted == slashed || wanted == bare,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_match_with_anchors() {
        for (wanted, good) in [
            ("web", true),
            ("/web1", true),
            ("^web1$", true),
            ("^/web1$", true),
            ("^eb", false),
            ("1$", true),
            ("^web$", false),
            ("x", false),
            ("^(db|web)[0-9]$", true),
            ("/(db|x)", false),
            ("[", false),
        ] {
            assert_eq!(name_matches(wanted, "/web1"), good, "{wanted}");
        }
    }

    #[test]
    fn ports_of_a_filter_are_numbers() {
        let check =
            |text: &str| wanted_ports("publish", text).map(|ports| ports.len()).map_err(|e| e.to_string());
        for (text, want) in [("80", 1), ("0", 1), ("80-82/udp", 3), ("80/x", 0)] {
            assert_eq!(check(text), Ok(want), "{text}");
        }
        for (text, why) in [
            ("x", "strconv.ParseUint: parsing \"x\": invalid syntax"),
            ("99999", "strconv.ParseUint: parsing \"99999\": value out of range"),
            ("82-80", "invalid range specified for the Port: 82-80"),
        ] {
            assert_eq!(check(text), Err(format!("error while looking up for publish {text}: {why}")));
        }
    }
}
