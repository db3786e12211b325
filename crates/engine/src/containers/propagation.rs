//! Whether a bind's source can be propagated from: what is mounted there must be shared for `shared`, and shared or a
//! slave for `slave` (mount_namespaces(7)). Read only for binds that ask for either.

use std::path::{Path, PathBuf};

use gantry_model::mount::{MountKind, MountPoint};

use super::Error;
use super::mountpoints::shows_data_root;
use super::record::Record;

/// Checks the mount points of a container against the host's mounts.
///
/// # Errors
/// [`Error::Internal`] in Docker's words.
pub(super) fn check(record: &Record, data_root: &Path) -> Result<(), Error> {
    let asking = |point: &&MountPoint| {
        let implied = shows_data_root(&point.source, data_root) && !is_asked_for(record, point);
        point.kind == MountKind::Bind && need(&point.propagation).is_some() && !implied
    };
    let mut asking = record.mounts.iter().filter(asking).peekable();
    if asking.peek().is_none() {
        return Ok(());
    }
    let mounts = std::fs::read_to_string("/proc/self/mountinfo")
        .map_err(|error| Error::Internal(format!("cannot read the host's mounts: {error}")))?;
    asking.try_for_each(|point| check_one(&point.source, &point.propagation, &mounts))
}

/// Whether the user said how a mount is propagated.
fn is_asked_for(record: &Record, point: &MountPoint) -> bool {
    let said = record
        .host
        .mounts
        .iter()
        .any(|request| request.is_at(&point.destination) && !request.propagation.is_empty());
    said || point.mode.split(',').any(|word| word == point.propagation)
}

/// Checks that what volumes' options bind is there, in Docker's words.
///
/// # Errors
/// [`Error::Internal`].
pub(super) fn check_devices(points: &[MountPoint]) -> Result<(), Error> {
    for point in points {
        let Some(device) = point.device.as_ref().filter(|device| device.is_bind()) else { continue };
        let Err(error) = std::fs::symlink_metadata(&device.device) else { continue };
        let flag = |names: [&str; 2], bit: u32| {
            if device.options.split(',').any(|option| names.contains(&option)) { bit } else { 0 }
        };
        let flags =
            flag(["bind", "rbind"], 0x1000) | flag(["rbind", "rbind"], 0x4000) | flag(["ro", "ro"], 1);
        let reason = match error.kind() {
            std::io::ErrorKind::NotFound => "no such file or directory".to_owned(),
            _ => error.to_string(),
        };
        let (place, device) = (point.source.display(), &device.device);
        return Err(Error::Internal(format!(
            "error while mounting volume '{place}': failed to mount local volume: mount {device}:{place}, flags: {flags:#x}: {reason}"
        )));
    }
    Ok(())
}

/// What the host's mount must be, in Docker's words, and the tags of which it must have one.
fn need(propagation: &str) -> Option<(&'static str, &'static [&'static str])> {
    match propagation {
        "shared" | "rshared" => Some(("a shared", &["shared:"])),
        "slave" | "rslave" => Some(("a shared or slave", &["shared:", "master:"])),
        _ => None,
    }
}

fn check_one(source: &Path, propagation: &str, mounts: &str) -> Result<(), Error> {
    let Some((what, tags)) = need(propagation) else { return Ok(()) };
    let resolved = source.canonicalize().unwrap_or_else(|_| source.to_owned());
    let Some((place, optional)) = mount_of(&resolved, mounts) else { return Ok(()) };
    if optional.iter().any(|field| tags.iter().any(|tag| field.starts_with(tag))) {
        return Ok(());
    }
    let (source, place) = (source.display(), place.display());
    Err(Error::Internal(format!("path {source} is mounted on {place} but it is not {what} mount")))
}

/// The mount that a path is on: the deepest, and the last of several on one place. Its place and optional fields.
fn mount_of<'m>(path: &Path, mounts: &'m str) -> Option<(PathBuf, Vec<&'m str>)> {
    let line = |line: &'m str| {
        // 36 35 98:0 /root /place options optional… - type source super
        let mut fields = line.split(' ');
        let place = PathBuf::from(unescape(fields.nth(4)?));
        let optional = fields.skip(1).take_while(|field| *field != "-").collect();
        path.starts_with(&place).then_some((place, optional))
    };
    mounts.lines().filter_map(line).max_by_key(|(place, _)| place.components().count())
}

/// The kernel writes blanks, tabs, line feeds and backslashes as three octal digits.
fn unescape(text: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(text.to_owned(), |text, (escape, plain)| text.replace(escape, plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "22 1 8:1 / / rw,relatime - ext4 /dev/a rw\n\
        23 22 0:2 / /s\\040t rw shared:7 - tmpfs t rw\n\
        24 22 0:3 / /slave rw master:1 - tmpfs t rw\n";

    fn refused(path: &str, propagation: &str) -> String {
        let result = check_one(Path::new(path), propagation, MOUNTS);
        result.err().map_or(String::new(), |error| error.to_string())
    }

    #[test]
    fn only_shared_mounts_are_propagated_from() {
        let text = "path /nosuch/x is mounted on / but it is not a shared mount";
        assert_eq!(refused("/nosuch/x", "rshared"), text);
        assert_eq!(refused("/nosuch/x", "rprivate"), "");
        assert_eq!(refused("/s t/x", "shared"), "");
        assert_eq!(refused("/s t/x", "rslave"), "");
        assert_eq!(refused("/slave/x", "slave"), "");
        let text = "path /slave/x is mounted on /slave but it is not a shared mount";
        assert_eq!(refused("/slave/x", "rshared"), text);
        let text = "path /nosuch/x is mounted on / but it is not a shared or slave mount";
        assert_eq!(refused("/nosuch/x", "rslave"), text);
    }
}
