//! Mounts: Docker's defaults, the container's own files, and what was asked for.

use std::path::{Path, PathBuf};

use gantry_model::mount::{MountKind, MountPoint, VolumeDevice};
use gantry_runtime::BIND_BELOW;
use oci_spec::runtime::Mount;

use super::{Facts, SecurityOptions, is_host};
use crate::containers::Error;
use crate::containers::record::Record;

/// `/dev/shm` unless told otherwise: 64 MiB.
const SHM_BYTES: u64 = 64 << 20;

/// All mounts, parents before children.
///
/// # Errors
/// [`Error::Invalid`] for an option that a tmpfs does not have; a mount that cannot be made is the runtime's to refuse.
pub(super) fn mounts(record: &Record, facts: &Facts<'_>) -> Result<Vec<Mount>, Error> {
    let mut own = Vec::new();
    let taken = |destination: &Path| record.mounts.iter().any(|point| point.destination == destination);
    let dev_is_taken = taken(Path::new("/dev"));
    let mut all: Vec<Mount> = defaults(record, facts)
        .into_iter()
        .filter(|mount| !taken(mount.destination()))
        .filter(|mount| !(dev_is_taken && mount.destination().starts_with("/dev")))
        .collect();
    for (name, path) in
        [("resolv.conf", "/etc/resolv.conf"), ("hostname", "/etc/hostname"), ("hosts", "/etc/hosts")]
    {
        if let (Some(directory), false) = (&facts.network_files, taken(Path::new(path))) {
            let write = if record.host.read_only { "ro" } else { "rw" };
            own.push(mount(path, "bind", directory.join(name), &["rbind", write, "rprivate"]));
        }
    }
    for point in &record.mounts {
        own.push(of_point(point)?);
    }
    // A stable sort: what has fewer components comes first, so that a mount over /etc keeps the files in it.
    own.sort_by_key(|mount| mount.destination().components().count());
    all.append(&mut own);
    Ok(all)
}

/// `shared` or `slave` where a bind asks for it: the root must pass events on, or take them.
pub(super) fn root_propagation(record: &Record) -> Option<String> {
    let any =
        |names: [&str; 2]| record.mounts.iter().any(|point| names.contains(&point.propagation.as_str()));
    if any(["shared", "rshared"]) {
        Some("shared".into())
    } else if any(["slave", "rslave"]) {
        Some("slave".into())
    } else {
        None
    }
}

fn mount(destination: &str, kind: &str, source: impl Into<PathBuf>, options: &[&str]) -> Mount {
    let mut mount = Mount::default();
    mount
        .set_destination(destination.into())
        .set_typ(Some(kind.into()))
        .set_source(Some(source.into()))
        .set_options(Some(options.iter().map(|option| (*option).to_owned()).collect()));
    mount
}

fn defaults(record: &Record, facts: &Facts<'_>) -> Vec<Mount> {
    let host = &record.host;
    let write = if host.security.privileged { "rw" } else { "ro" };
    let said =
        SecurityOptions::parse(&host.security.security_opt).ok().and_then(|said| said.writable_cgroups);
    let cgroups = if said.unwrap_or(host.security.privileged) { "rw" } else { "ro" };
    let mut mounts = vec![
        mount("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"]),
        mount("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        mount(
            "/dev/pts",
            "devpts",
            "devpts",
            &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        ),
        mount("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", write]),
        mount("/sys/fs/cgroup", "cgroup", "cgroup", &[cgroups, "nosuid", "noexec", "nodev"]),
    ];
    let ipc = host.namespaces.ipc.as_str();
    // Its queues are those of the IPC namespace that it is mounted in; the host need not have it mounted.
    mounts.push(mount("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]));
    if is_host(ipc) {
        mounts.push(mount("/dev/shm", "bind", "/dev/shm", &["rbind", "rprivate"]));
    } else if let Some(shared) = &facts.shared_shm {
        mounts.push(mount("/dev/shm", "bind", shared, &["rbind", "rprivate", "nosuid", "noexec", "nodev"]));
    } else if ipc != "none" {
        let bytes = [host.shm_size_bytes, facts.defaults.shm_size_bytes].into_iter().find(|bytes| *bytes > 0);
        let size = format!("size={}", bytes.unwrap_or(SHM_BYTES));
        mounts.push(mount("/dev/shm", "tmpfs", "shm", &["nosuid", "noexec", "nodev", "mode=1777", &size]));
    }
    mounts
}

fn of_point(point: &MountPoint) -> Result<Mount, Error> {
    let destination = point.destination.to_string_lossy();
    if point.kind == MountKind::Tmpfs {
        let options = tmpfs_options(&point.tmpfs_options)?;
        let options: Vec<&str> = options.iter().map(String::as_str).collect();
        return Ok(mount(&destination, "tmpfs", "tmpfs", &options));
    }
    if let Some(device) = &point.device {
        return Ok(of_device(&destination, device, point.writable));
    }
    let propagation = if point.propagation.is_empty() { "rprivate" } else { &point.propagation };
    let recursive = propagation.starts_with('r') && !point.non_recursive;
    // Read-only holds for what is mounted below, too, as Docker has it since 25.
    let mut options = vec![if recursive { "rbind" } else { "bind" }, propagation];
    options.extend(match (point.writable, point.read_only_non_recursive) {
        (true, _) => &["rw"][..],
        (false, true) => &["ro"],
        (false, false) => &["ro", "rro"],
    });
    let below = format!("{BIND_BELOW}{}", point.subpath);
    if !point.subpath.is_empty() {
        options.push(&below);
    }
    Ok(mount(&destination, "bind", &point.source, &options))
}

/// What a volume's options have mounted: in the container's namespace alone, so each container has a tmpfs of its
/// own, where Docker's containers share one that is mounted on the host.
fn of_device(destination: &str, device: &VolumeDevice, writable: bool) -> Mount {
    let mut options: Vec<&str> = device.options.split(',').filter(|option| !option.is_empty()).collect();
    options.push("rprivate");
    if !writable {
        options.push("ro");
    }
    let kind = if device.is_bind() { "bind" } else { &device.kind };
    mount(destination, kind, &device.device, &options)
}

/// Options of a tmpfs without and with a value, as Docker checks them.
const FLAGS: [&str; 34] = [
    "defaults",
    "ro",
    "rw",
    "suid",
    "nosuid",
    "dev",
    "nodev",
    "exec",
    "noexec",
    "sync",
    "async",
    "dirsync",
    "remount",
    "mand",
    "nomand",
    "atime",
    "noatime",
    "diratime",
    "nodiratime",
    "bind",
    "rbind",
    "relatime",
    "norelatime",
    "strictatime",
    "nostrictatime",
    "private",
    "rprivate",
    "shared",
    "rshared",
    "slave",
    "rslave",
    "unbindable",
    "runbindable",
    "",
];
const VALUES: [&str; 7] = ["mode", "uid", "gid", "nr_inodes", "nr_blocks", "size", "mpol"];

/// The defaults, each replaced by its opposite or its own value where that was given.
///
/// # Errors
/// [`Error::Invalid`] in Docker's words, which checks them at the start and not before.
fn tmpfs_options(given: &str) -> Result<Vec<String>, Error> {
    for option in given.split(',') {
        let (name, known) = match option.split_once('=') {
            Some((name, _)) => (name, VALUES.contains(&name)),
            None => (option, FLAGS.contains(&option)),
        };
        if !known {
            return Err(Error::Invalid(format!("invalid tmpfs option {name:?}")));
        }
    }
    let mut options: Vec<String> = ["noexec", "nosuid", "nodev", "rprivate"].map(str::to_owned).into();
    for option in given.split(',').filter(|option| !option.is_empty()) {
        let key = |option: &str| {
            let name = option.split('=').next().unwrap_or_default();
            let name = if name == "rw" || name == "ro" { "ro" } else { name };
            name.strip_prefix("no").unwrap_or(name).to_owned()
        };
        options.retain(|have| key(have) != key(option));
        options.push(option.into());
    }
    Ok(options)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_of_a_tmpfs_are_those_that_docker_knows() {
        for (options, want) in [
            ("", None),
            ("size=1m,mode=700,ro,noexec", None),
            ("nonsense", Some("nonsense")),
            ("nonsense=1", Some("nonsense")),
            ("size", Some("size")),
            ("ro=1", Some("ro")),
        ] {
            let got = tmpfs_options(options).err().map(|error| error.to_string());
            assert_eq!(got, want.map(|name| format!("invalid tmpfs option {name:?}")), "{options}");
        }
    }
}
