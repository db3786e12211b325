//! Records in, specifications out.

use gantry_model::ContainerId;
use gantry_model::mount::{MountKind, MountPoint};

use super::*;

fn record(change: impl FnOnce(&mut Record)) -> Record {
    let mut record = Record {
        id: ContainerId::from_random([7; 32]),
        name: "web".into(),
        created: gantry_model::Timestamp::from_secs(0),
        image: gantry_model::Digest::from_sha256([1; 32]),
        path: "sh".into(),
        args: vec!["-c".into(), "true".into()],
        config: Config::default(),
        host: HostConfig::default(),
        config_json: serde_json::Value::Null,
        host_config_json: serde_json::Value::Null,
        endpoints: Vec::new(),
        mounts: Vec::new(),
        directory: "/d".into(),
        layers: Vec::new(),
    };
    change(&mut record);
    record
}

fn made(record: &Record) -> oci::Spec {
    let defaults = Defaults::default();
    let all: Vec<oci::Capability> = parse_bounding_set("");
    let facts = Facts {
        cgroup_v2: false,
        host_capabilities: &all,
        devices: Vec::new(),
        block_io: None,
        network_files: Some("/d".into()),
        shared_shm: None,
        hostname: "h".into(),
        defaults: &defaults,
    };
    spec(record, &facts).expect("a good record")
}

fn options<'a>(spec: &'a oci::Spec, destination: &str) -> Option<Vec<&'a str>> {
    let mounts = spec.mounts().as_ref().expect("always set");
    let found = mounts.iter().rfind(|mount| mount.destination().as_os_str() == destination)?;
    Some(found.options().as_ref().expect("always set").iter().map(String::as_str).collect())
}

fn namespaces_of(spec: &oci::Spec) -> Vec<oci::LinuxNamespaceType> {
    let linux = spec.linux().as_ref().expect("always set");
    linux.namespaces().iter().flatten().map(oci::LinuxNamespace::typ).collect()
}

#[test]
fn defaults_are_dockers() {
    let spec = made(&record(|_| ()));
    let process = spec.process().as_ref().expect("always set");
    assert_eq!(process.args().as_deref(), Some(&["sh".to_owned(), "-c".into(), "true".into()][..]));
    assert_eq!(process.env().as_deref(), Some(&[DEFAULT_PATH.to_owned(), "HOSTNAME=h".into()][..]));
    assert_eq!(options(&spec, "/dev/shm").and_then(|options| options.last().copied()), Some("size=67108864"));
    assert!(options(&spec, "/sys").is_some_and(|options| options.contains(&"ro")));
    assert_eq!(options(&spec, "/etc/hosts"), Some(vec!["rbind", "rw", "rprivate"]));
    let linux = spec.linux().as_ref().expect("always set");
    assert_eq!(linux.masked_paths().as_ref().map(Vec::len), Some(MASKED.len()));
    assert_eq!(namespaces_of(&spec).len(), 5, "no cgroup namespace on v1");
    let annotations = spec.annotations().as_ref().expect("always set");
    assert_eq!(annotations.get("gantry.seccomp").map(String::as_str), Some("default"));
}

#[test]
fn privileged_lifts_everything() {
    let spec = made(&record(|record| record.host.security.privileged = true));
    let linux = spec.linux().as_ref().expect("always set");
    assert_eq!(linux.masked_paths().as_deref(), Some(&[][..]));
    assert!(options(&spec, "/sys").is_some_and(|options| options.contains(&"rw")));
    assert!(
        spec.annotations().as_ref().is_some_and(|annotations| !annotations.contains_key("gantry.seccomp"))
    );
    let rules = linux.resources().as_ref().and_then(|resources| resources.devices().clone());
    assert!(rules.is_some_and(|rules| rules.len() == 1 && rules[0].allow()));
}

#[test]
fn host_modes_leave_namespaces_out() {
    let spec = made(&record(|record| {
        record.host.network_mode = "host".into();
        record.host.namespaces.pid = "host".into();
        record.host.namespaces.ipc = "host".into();
        record.host.namespaces.uts = "host".into();
        record.host.namespaces.cgroup = "private".into();
    }));
    use oci::LinuxNamespaceType as Type;
    assert_eq!(namespaces_of(&spec), [Type::Mount, Type::Cgroup]);
    assert_eq!(options(&spec, "/dev/shm"), Some(vec!["rbind", "rprivate"]));
    assert!(spec.hostname().is_none());
    let linux = spec.linux().as_ref().expect("always set");
    assert!(linux.sysctl().as_ref().is_some_and(HashMap::is_empty));
}

#[test]
fn own_mounts_replace_defaults() {
    let point = |kind, destination: &str, writable, tmpfs_options: &str| MountPoint {
        source: "/s".into(),
        writable,
        tmpfs_options: tmpfs_options.into(),
        ..crate::containers::mountpoints::point(kind, destination)
    };
    let spec = made(&record(|record| {
        record.mounts = vec![
            point(MountKind::Bind, "/a/b", false, ""),
            point(MountKind::Tmpfs, "/a", true, "exec,size=1m"),
            point(MountKind::Bind, "/etc/hosts", true, ""),
            point(MountKind::Tmpfs, "/etc", true, ""),
        ];
    }));
    assert_eq!(options(&spec, "/a/b"), Some(vec!["rbind", "rprivate", "ro", "rro"]));
    assert_eq!(options(&spec, "/a"), Some(vec!["nosuid", "nodev", "rprivate", "exec", "size=1m"]));
    let mounts = spec.mounts().as_ref().expect("always set");
    assert_eq!(mounts.iter().filter(|mount| mount.destination().as_os_str() == "/etc/hosts").count(), 1);
    let at = |path: &str| mounts.iter().position(|mount| mount.destination().as_os_str() == path);
    assert!(at("/a") < at("/a/b"));
    assert!(at("/etc") < at("/etc/hostname"), "what is mounted over /etc does not hide its files");
}

#[test]
fn environment_is_replaced_in_place_and_removed() {
    let spec = made(&record(|record| {
        record.config.env = vec!["PATH=/b".into(), "A=1".into(), "HOSTNAME".into(), "A=2".into()];
        record.config.tty = true;
    }));
    let process = spec.process().as_ref().expect("always set");
    let env: Vec<&str> = process.env().iter().flatten().map(String::as_str).collect();
    // The runtime takes the last of those that come twice.
    assert_eq!(env, ["PATH=/b", "TERM=xterm", "A=1", "A=2"]);
}
