//! What a container's task tells the world: events of the container, its networks and its volumes.

use gantry_model::mount::MountKind;

use super::task::Task;

impl Task {
    /// Publishes an event about this container.
    pub(super) fn publish(&self, action: &str, extra: Vec<(&'static str, String)>) {
        super::publish(&self.core, &self.known.record, action, extra);
    }

    /// Publishes that this container was connected to its networks, or disconnected.
    pub(super) fn publish_network(&self, action: &str) {
        for (name, endpoint) in &self.known.network.endpoints {
            let kind = if name == "none" { "null" } else { name };
            let attributes = [("container", self.known.record.id.as_str()), ("name", name), ("type", kind)];
            let attributes = attributes.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
            self.core.events.publish("network", action, endpoint.network.as_str(), attributes);
        }
    }

    /// Publishes that this container's volumes were mounted, or unmounted.
    pub(super) fn publish_volumes(&self, action: &str) {
        let volumes = self.known.record.mounts.iter().filter(|point| point.kind == MountKind::Volume);
        for point in volumes {
            let mut attributes =
                vec![("container", self.known.record.id.to_string()), ("driver", "local".into())];
            if action == "mount" {
                attributes.extend([
                    ("destination", point.destination.display().to_string()),
                    ("propagation", point.propagation.clone()),
                    ("read/write", point.writable.to_string()),
                ]);
            }
            let attributes = attributes.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
            self.core.events.publish("volume", action, &point.name, attributes);
        }
    }
}
