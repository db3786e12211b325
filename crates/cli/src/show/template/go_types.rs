//! What templates see of Docker's own types, where JSON says less: the stock client reads the daemon's answers into
//! Go structs first, in which fields have other names, and ones that are absent are there as nothing.

use serde_json::{Map, Value, json};

/// Fields that are null where Docker's own types have an empty list, which prints as `[]`.
pub(super) const NIL_LISTS: [&str; 26] = [
    "Aliases",
    "Args",
    "Binds",
    "CapAdd",
    "CapDrop",
    "Cmd",
    "DNSNames",
    "DeviceRequests",
    "Devices",
    "Dns",
    "DnsOptions",
    "DnsSearch",
    "Entrypoint",
    "ExecIDs",
    "Env",
    "ExtraHosts",
    "GroupAdd",
    "Links",
    "Manifests",
    "Mounts",
    "OnBuild",
    "Peers",
    "SecondaryIPAddresses",
    "SecurityOpt",
    "Shell",
    "VolumesFrom",
];
/// Fields that are maps, and no structures: what they do not have is nothing, and null prints as `map[]`.
pub(super) const MAPS: [&str; 19] = [
    "Annotations",
    "Attributes",
    "Containers",
    "Data",
    "DriverOpts",
    "ExposedPorts",
    "IndexConfigs",
    "Labels",
    "Networks",
    "Options",
    "PortBindings",
    "Ports",
    "Runtimes",
    "Services",
    "Status",
    "StorageOpt",
    "Sysctls",
    "Tmpfs",
    "Volumes",
];

/// Fields whose name in Docker's own types, which templates go by, is not the one in JSON.
const GO_NAMES: [(&str, &str); 17] = [
    ("Id", "ID"),
    ("ApiVersion", "APIVersion"),
    ("Ipam", "IPAM"),
    ("Os", "OS"),
    ("CpuCfsPeriod", "CPUCfsPeriod"),
    ("CpuCfsQuota", "CPUCfsQuota"),
    ("CpuCount", "CPUCount"),
    ("CpuPercent", "CPUPercent"),
    ("CpuPeriod", "CPUPeriod"),
    ("CpuQuota", "CPUQuota"),
    ("CpuRealtimePeriod", "CPURealtimePeriod"),
    ("CpuRealtimeRuntime", "CPURealtimeRuntime"),
    ("CpuShares", "CPUShares"),
    ("NanoCpus", "NanoCPUs"),
    ("Dns", "DNS"),
    ("DnsOptions", "DNSOptions"),
    ("DnsSearch", "DNSSearch"),
];

/// The same for an event.
const EVENT_NAMES: [(&str, &str); 6] = [
    ("id", "ID"),
    ("status", "Status"),
    ("from", "From"),
    ("scope", "Scope"),
    ("time", "Time"),
    ("timeNano", "TimeNano"),
];

/// The fields that a thing's JSON may leave out, with what they are then, by the field that it stands in or one by which
/// it is known.
pub(super) fn absent(key: &str, thing: &Map<String, Value>) -> Vec<(&'static str, Value)> {
    let has = |field: &str| thing.contains_key(field);
    match key {
        "Config" if has("Env") => vec![
            ("ArgsEscaped", json!(false)),
            ("ExposedPorts", Value::Null),
            ("Healthcheck", Value::Null),
            ("MacAddress", json!("")),
            ("NetworkDisabled", json!(false)),
            ("Shell", Value::Null),
            ("StopSignal", json!("")),
            ("StopTimeout", Value::Null),
        ],
        "HostConfig" => vec![
            ("Annotations", Value::Null),
            ("Init", Value::Null),
            ("KernelMemory", json!(0)),
            ("Mounts", Value::Null),
            ("StorageOpt", Value::Null),
            ("Sysctls", Value::Null),
            ("Tmpfs", Value::Null),
        ],
        "Server" if has("MinAPIVersion") => vec![("Experimental", json!(false))],
        "State" if has("OOMKilled") => vec![("Health", Value::Null)],
        "" if has("HostConfig") && has("State") => {
            ["SizeRw", "SizeRootFs", "ImageManifestDescriptor"].map(|field| (field, Value::Null)).into()
        }
        "" if has("RootFS") => {
            let texts = ["Author", "Comment", "Container", "DockerVersion", "OsVersion", "Variant"];
            let mut all: Vec<_> = texts.map(|field| (field, json!(""))).into();
            all.push(("VirtualSize", json!(0)));
            all.extend(["ContainerConfig", "Descriptor", "Manifests"].map(|field| (field, Value::Null)));
            all
        }
        "" if has("IPAM") && has("Containers") => {
            ["Peers", "Services"].map(|field| (field, Value::Null)).into()
        }
        "" if has("Mountpoint") && has("CreatedAt") && has("Options") => {
            ["Status", "UsageData", "ClusterVolume"].map(|field| (field, Value::Null)).into()
        }
        _ => Vec::new(),
    }
}

/// The fields of an image's configuration in the order of Docker's type, which leaves out what is empty.
const IMAGE_CONFIG: [&str; 13] = [
    "User",
    "ExposedPorts",
    "Env",
    "Entrypoint",
    "Cmd",
    "Volumes",
    "WorkingDir",
    "Labels",
    "StopSignal",
    "ArgsEscaped",
    "Healthcheck",
    "OnBuild",
    "Shell",
];

/// An object as Docker's type of it is encoded: an image's configuration; every other type has the daemon's order.
pub(super) fn encoded(key: &str, value: &Value) -> Option<Value> {
    let fields = value.as_object().filter(|fields| key == "Config" && !fields.contains_key("Hostname"))?;
    let known = fields.keys().all(|field| IMAGE_CONFIG.contains(&field.as_str()));
    let is_empty = |value: &Value| match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => map.is_empty(),
        _ => false,
    };
    let given = IMAGE_CONFIG.into_iter().filter_map(|field| Some((field, fields.get(field)?)));
    let given = given.filter(|(_, value)| !is_empty(value));
    known.then(|| given.map(|(field, value)| (field.to_owned(), value.clone())).collect())
}

/// The name in JSON of a field that a template asks for by Docker's name or by that.
pub(super) fn json_name<'a>(name: &'a str, fields: &Map<String, Value>) -> &'a str {
    if fields.contains_key(name) {
        return name;
    }
    let event: &[(&str, &str)] = if fields.contains_key("timeNano") { &EVENT_NAMES } else { &[] };
    let mut names = GO_NAMES.iter().chain(event);
    names.find(|(json, go)| *go == name && fields.contains_key(*json)).map_or(name, |(json, _)| json)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_absent_is_nothing_and_names_are_dockers() {
        let container = json!({"Id": "x", "State": {"OOMKilled": false}, "HostConfig": {}});
        let of = |key: &str, thing: &Value| absent(key, thing.as_object().expect("an object")).len();
        assert_eq!(
            (of("", &container), of("State", &container["State"]), of("Other", &container)),
            (3, 1, 0)
        );
        let image =
            json!({"Cmd": ["sh"], "Env": null, "Labels": {"a": "b"}, "User": "app", "WorkingDir": ""});
        assert_eq!(
            encoded("Config", &image).map(|config| config.to_string()),
            Some(r#"{"User":"app","Cmd":["sh"],"Labels":{"a":"b"}}"#.to_owned())
        );
        assert_eq!(encoded("Config", &json!({"Hostname": "h", "Env": null})), None);
        let name = |name| json_name(name, container.as_object().expect("an object"));
        assert_eq!((name("ID"), name("State")), ("Id", "State"));
    }
}
