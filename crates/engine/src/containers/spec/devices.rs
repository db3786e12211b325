//! Devices: which nodes a container gets and which it may use.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use oci_spec::runtime::{
    LinuxBlockIo, LinuxDevice, LinuxDeviceCgroup, LinuxDeviceType, LinuxThrottleDeviceBuilder,
    LinuxWeightDeviceBuilder,
};

use crate::containers::Error;
use crate::containers::config::{DeviceMapping, DeviceRate, DeviceWeight, HostConfig, RateKind, Resources};

/// A device node of the host, and where it shall be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HostDevice {
    /// In the container.
    pub(crate) path: PathBuf,
    /// Character or block.
    pub(crate) kind: LinuxDeviceType,
    /// Device number, first part.
    pub(crate) major: i64,
    /// Device number, second part.
    pub(crate) minor: i64,
    /// Permission bits.
    pub(crate) mode: u32,
    /// Owner.
    pub(crate) uid: u32,
    /// Group.
    pub(crate) gid: u32,
    /// What the container may do: of `rwm`.
    pub(crate) access: String,
}

/// Devices that every container may use: null, zero, full, random, urandom, tty, ptmx, pts, and console.
const ALWAYS: [(i64, Option<i64>); 8] = [
    (1, Some(3)),
    (1, Some(5)),
    (1, Some(7)),
    (1, Some(8)),
    (1, Some(9)),
    (5, Some(0)),
    (5, Some(2)),
    (136, None),
];

/// Looks up the devices that a container is to have: those of `--device`, a directory meaning all in
/// it, or all of `/dev` for `--privileged`.
///
/// # Errors
/// [`Error::Invalid`] in Docker's words for what is no device.
pub(crate) fn scan(host: &HostConfig) -> Result<Vec<HostDevice>, Error> {
    let mut found = Vec::new();
    for mapping in &host.resources.devices {
        let before = found.len();
        let inside = if mapping.path_in_container.as_os_str().is_empty() {
            mapping.path_on_host.clone()
        } else {
            mapping.path_in_container.clone()
        };
        let access = if mapping.permissions.is_empty() { "rwm" } else { &mapping.permissions };
        walk(&mapping.path_on_host, &inside, access, 0, &mut found);
        if found.len() == before {
            return Err(no_device(mapping));
        }
    }
    if host.security.privileged {
        walk(Path::new("/dev"), Path::new("/dev"), "rwm", 0, &mut found);
    }
    Ok(found)
}

fn no_device(mapping: &DeviceMapping) -> Error {
    Error::Invalid(format!(
        "error gathering device information while adding custom device \"{}\": {}",
        mapping.path_on_host.display(),
        if mapping.path_on_host.exists() { "not a device node" } else { "no such file or directory" }
    ))
}

/// Goes through a directory, leaving out what every container has of its own.
fn walk(from: &Path, inside: &Path, access: &str, depth: u32, found: &mut Vec<HostDevice>) {
    const OWN: [&str; 8] = ["pts", "shm", "fd", "mqueue", ".lxc", ".lxd-mounts", ".udev", "console"];
    let Ok(metadata) = fs::metadata(from) else { return };
    if metadata.is_dir() && depth < 8 {
        let Ok(entries) = fs::read_dir(from) else { return };
        for entry in entries.flatten() {
            let link = entry.file_type().is_ok_and(|kind| kind.is_symlink());
            if !link && !OWN.iter().any(|own| entry.file_name() == **own) {
                walk(&entry.path(), &inside.join(entry.file_name()), access, depth + 1, found);
            }
        }
        return;
    }
    let kind = match metadata.file_type() {
        kind if kind.is_char_device() => LinuxDeviceType::C,
        kind if kind.is_block_device() => LinuxDeviceType::B,
        _ => return,
    };
    let (major, minor) = split(metadata.rdev());
    found.push(HostDevice {
        path: inside.into(),
        kind,
        major,
        minor,
        mode: metadata.mode() & 0o7777,
        uid: metadata.uid(),
        gid: metadata.gid(),
        access: access.into(),
    });
}

/// Takes a device number apart as glibc's `gnu_dev_major` and `gnu_dev_minor` do.
fn split(number: u64) -> (i64, i64) {
    let major = (number >> 8 & 0xfff) | (number >> 32 & 0xffff_f000);
    let minor = (number & 0xff) | (number >> 12 & 0xffff_ff00);
    (i64::try_from(major).unwrap_or(0), i64::try_from(minor).unwrap_or(0))
}

/// Looks up the block devices whose weights and traffic are set: nothing of them where none are.
///
/// # Errors
/// [`Error::Invalid`] in Docker's words for one that is not there.
pub(crate) fn block_io(resources: &Resources) -> Result<Option<LinuxBlockIo>, Error> {
    if resources.blkio_rates.is_empty() && resources.blkio_weights.is_empty() {
        return Ok(None);
    }
    let number = |path: &Path| {
        let found = fs::metadata(path).map_err(|error| {
            let why = match error.kind() {
                std::io::ErrorKind::NotFound => "no such file or directory".to_owned(),
                _ => error.to_string(),
            };
            Error::Invalid(format!("stat {}: {why}", path.display()))
        })?;
        Ok::<_, Error>(split(found.rdev()))
    };
    let mut block = LinuxBlockIo::default();
    let mut weights = Vec::new();
    for DeviceWeight { path, weight } in &resources.blkio_weights {
        let (major, minor) = number(path)?;
        let device = LinuxWeightDeviceBuilder::default().major(major).minor(minor).weight(*weight);
        weights.push(device.build().map_err(|error| Error::Internal(error.to_string()))?);
    }
    block.set_weight_device((!weights.is_empty()).then_some(weights));
    for kind in [RateKind::ReadBps, RateKind::WriteBps, RateKind::ReadIops, RateKind::WriteIops] {
        let mut devices = Vec::new();
        for DeviceRate { path, rate, .. } in resources.blkio_rates.iter().filter(|rate| rate.kind == kind) {
            let (major, minor) = number(path)?;
            let device = LinuxThrottleDeviceBuilder::default().major(major).minor(minor).rate(*rate);
            devices.push(device.build().map_err(|error| Error::Internal(error.to_string()))?);
        }
        let devices = (!devices.is_empty()).then_some(devices);
        match kind {
            RateKind::ReadBps => block.set_throttle_read_bps_device(devices),
            RateKind::WriteBps => block.set_throttle_write_bps_device(devices),
            RateKind::ReadIops => block.set_throttle_read_iops_device(devices),
            RateKind::WriteIops => block.set_throttle_write_iops_device(devices),
        };
    }
    Ok(Some(block))
}

/// Nodes to make.
pub(super) fn nodes(devices: &[HostDevice]) -> Vec<LinuxDevice> {
    devices
        .iter()
        .map(|device| {
            let mut node = LinuxDevice::default();
            node.set_path(device.path.clone())
                .set_typ(device.kind)
                .set_major(device.major)
                .set_minor(device.minor)
                .set_file_mode(Some(device.mode))
                .set_uid(Some(device.uid))
                .set_gid(Some(device.gid));
            node
        })
        .collect()
}

/// Rules of the device controller: everything for `--privileged`; else nothing but making nodes, the
/// ordinary devices, those asked for, and `--device-cgroup-rule`.
///
/// # Errors
/// [`Error::Invalid`] for a rule that cannot be read.
pub(super) fn rules(host: &HostConfig, devices: &[HostDevice]) -> Result<Vec<LinuxDeviceCgroup>, Error> {
    if host.security.privileged {
        return Ok(vec![rule(true, LinuxDeviceType::A, None, None, "rwm")]);
    }
    let mut rules = vec![
        rule(false, LinuxDeviceType::A, None, None, "rwm"),
        rule(true, LinuxDeviceType::C, None, None, "m"),
        rule(true, LinuxDeviceType::B, None, None, "m"),
    ];
    rules.extend(ALWAYS.map(|(major, minor)| rule(true, LinuxDeviceType::C, Some(major), minor, "rwm")));
    rules.extend(
        devices
            .iter()
            .map(|device| rule(true, device.kind, Some(device.major), Some(device.minor), &device.access)),
    );
    for text in &host.resources.device_cgroup_rules {
        rules.push(
            parse_rule(text)
                .ok_or_else(|| Error::Invalid(format!("invalid device cgroup rule: '{text}'")))?,
        );
    }
    Ok(rules)
}

fn rule(
    allow: bool,
    kind: LinuxDeviceType,
    major: Option<i64>,
    minor: Option<i64>,
    access: &str,
) -> LinuxDeviceCgroup {
    let mut rule = LinuxDeviceCgroup::default();
    rule.set_allow(allow)
        .set_typ(Some(kind))
        .set_major(major)
        .set_minor(minor)
        .set_access(Some(access.into()));
    rule
}

/// Reads `c 10:200 rwm`; `*` is any number.
fn parse_rule(text: &str) -> Option<LinuxDeviceCgroup> {
    let mut words = text.split(' ');
    let kind = match words.next()? {
        "a" => LinuxDeviceType::A,
        "b" => LinuxDeviceType::B,
        "c" => LinuxDeviceType::C,
        _ => return None,
    };
    let (major, minor) = words.next()?.split_once(':')?;
    let number = |text: &str| if text == "*" { Some(None) } else { text.parse().ok().map(Some) };
    let access = words.next()?;
    let good = !access.is_empty() && access.len() <= 3 && access.bytes().all(|byte| b"rwm".contains(&byte));
    (good && words.next().is_none())
        .then(|| Some(rule(true, kind, number(major)?, number(minor)?, access)))
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_read_as_docker_reads_them() {
        for (text, good) in [
            ("c 10:200 rwm", true),
            ("b *:* m", true),
            ("c 1:* r", true),
            ("x 1:1 r", false),
            ("c 1 r", false),
            ("c 1:1 x", false),
            ("c 1:1", false),
            ("c 1:1 rwmr", false),
            ("c 1:1 r r", false),
        ] {
            assert_eq!(parse_rule(text).is_some(), good, "{text}");
        }
    }

    #[test]
    fn rates_are_by_the_devices_numbers() {
        let of = |path: &str| Resources {
            blkio_rates: vec![DeviceRate { path: path.into(), kind: RateKind::WriteIops, rate: 7 }],
            ..Resources::default()
        };
        let block = block_io(&of("/dev/null")).expect("a device").expect("a rate");
        let rates = block.throttle_write_iops_device().as_ref().expect("one");
        assert_eq!((rates[0].major(), rates[0].minor(), rates[0].rate()), (1, 3, 7));
        assert!(block.throttle_read_bps_device().is_none());
        let error = block_io(&of("/dev/nosuch")).expect_err("no device").to_string();
        assert_eq!(error, "stat /dev/nosuch: no such file or directory");
        assert_eq!(block_io(&Resources::default()), Ok(None));
    }

    #[test]
    fn a_device_of_the_host_is_found_and_a_file_is_refused() {
        let with = |path: &str| HostConfig {
            resources: crate::containers::config::Resources {
                devices: vec![DeviceMapping {
                    path_on_host: path.into(),
                    path_in_container: "/dev/x".into(),
                    permissions: "r".into(),
                }],
                ..Default::default()
            },
            ..HostConfig::default()
        };
        let found = scan(&with("/dev/null")).expect("a device");
        assert_eq!((found[0].major, found[0].minor, found[0].access.as_str()), (1, 3, "r"));
        assert_eq!(found[0].path, Path::new("/dev/x"));
        let error = scan(&with("/etc/passwd")).expect_err("no device").to_string();
        assert!(error.contains("not a device node"), "{error}");
    }
}
