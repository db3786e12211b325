//! A container's view as `GET /containers/json` shows it.

use gantry_api::container::{ContainerSummary, Port, SummaryHostConfig, SummaryNetworkSettings};
use gantry_engine::containers::View;
use gantry_model::Timestamp;

use super::{inspect, status};

/// Converts a view. `image` is the image as the list shows it: its name, or its id where the name means
/// another image by now.
pub(crate) fn summary(view: &View, image: String, now: Timestamp) -> ContainerSummary {
    let record = &view.record;
    ContainerSummary {
        id: record.id.to_string(),
        names: vec![format!("/{}", record.name)],
        image,
        image_id: record.image.to_string(),
        command: command(&record.path, &record.args),
        created: record.created.secs(),
        ports: ports(view),
        size_rw: 0,
        size_root_fs: 0,
        labels: record.config.labels.clone(),
        state: view.state.status.as_str().into(),
        status: status::status(&view.state, now),
        host_config: SummaryHostConfig { network_mode: network_mode(view), annotations: annotations(view) },
        network_settings: SummaryNetworkSettings { networks: inspect::networks(view) },
        mounts: inspect::mounts(record),
        health: None,
    }
}

fn network_mode(view: &View) -> String {
    let kept = view.record.host_config_json.get("NetworkMode").and_then(serde_json::Value::as_str);
    kept.unwrap_or(&view.record.host.network_mode).to_owned()
}

fn annotations(view: &View) -> Option<gantry_api::Map<String>> {
    let kept = view.record.host_config_json.get("Annotations")?.as_object()?;
    let text = |(key, value): (&String, &serde_json::Value)| Some((key.clone(), value.as_str()?.to_owned()));
    Some(kept.iter().filter_map(text).collect())
}

/// The command as `ps` shows it: arguments with blanks in single quotes.
fn command(path: &str, args: &[String]) -> String {
    let mut text = path.to_owned();
    for arg in args {
        text.push(' ');
        if arg.contains(' ') {
            text.push('\'');
            text.push_str(arg);
            text.push('\'');
        } else {
            text.push_str(arg);
        }
    }
    text
}

fn ports(view: &View) -> Vec<Port> {
    if !view.state.is_running() {
        return Vec::new();
    }
    let mut all = Vec::new();
    for (port, hosts) in &view.network.ports {
        let protocol = port.protocol.as_str().to_owned();
        if hosts.is_empty() {
            all.push(Port { private_port: port.number, protocol, ..Port::default() });
            continue;
        }
        all.extend(hosts.iter().map(|host| Port {
            ip: host.ip.to_string(),
            private_port: port.number,
            public_port: host.port,
            protocol: protocol.clone(),
        }));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_quoted_as_dockers() {
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        assert_eq!(command("sh", &words(&["-c", "echo hi"])), "sh -c 'echo hi'");
        assert_eq!(command("true", &[]), "true");
    }
}
