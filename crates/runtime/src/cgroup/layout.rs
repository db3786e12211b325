//! Which hierarchies the host has, read from its mount table.

use std::path::PathBuf;

use crate::cgroup::{CgroupError, Hierarchy, Layout, Version};

/// Reads the mount table.
pub(crate) fn detect() -> Result<Layout, CgroupError> {
    let path = "/proc/self/mountinfo";
    let table = std::fs::read_to_string(path).map_err(|source| CgroupError::Io {
        action: "reading",
        path: path.into(),
        source,
    })?;
    parse(&table).ok_or(CgroupError::NotMounted)
}

/// Options of a v1 mount that are not its controllers.
const NOT_CONTROLLERS: [&str; 9] =
    ["rw", "ro", "xattr", "clone_children", "noprefix", "favordynmods", "release_agent", "none", "seclabel"];

fn parse(table: &str) -> Option<Layout> {
    let mut layout = Layout { version: Version::V1, hierarchies: Vec::new(), unified: None };
    for line in table.lines() {
        let Some((left, right)) = line.split_once(" - ") else { continue };
        let mut left = left.split(' ').skip(3);
        let (Some(root), Some(mount)) = (left.next(), left.next()) else { continue };
        let mut right = right.split(' ');
        let (kind, options) = (right.next(), right.nth(1).unwrap_or(""));
        let mount = unescape(mount);
        match kind {
            Some("cgroup2") if layout.unified.is_none() => layout.unified = Some(mount),
            // A part of a hierarchy bound elsewhere is not the hierarchy.
            Some("cgroup") if root == "/" || !root.starts_with("/..") => {
                let controllers: Vec<String> = options
                    .split(',')
                    .filter(|option| !NOT_CONTROLLERS.contains(&option.split('=').next().unwrap_or(option)))
                    .map(str::to_owned)
                    .collect();
                let known = layout.hierarchies.iter().any(|known| known.controllers == controllers);
                if !known && !controllers.is_empty() {
                    layout.hierarchies.push(Hierarchy { controllers, mount });
                }
            }
            _ => {}
        }
    }
    let controllers =
        layout.hierarchies.iter().any(|hierarchy| !hierarchy.controllers[0].starts_with("name="));
    if !controllers {
        layout.unified.as_ref()?;
        layout.version = Version::V2;
        layout.hierarchies.clear();
    }
    Some(layout)
}

/// The mount table writes space, tab, newline and backslash as octal numbers.
fn unescape(text: &str) -> PathBuf {
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        result.push_str(&rest[..at]);
        let number = rest.get(at + 1..at + 4).and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match number {
            Some(byte) => {
                result.push(char::from(byte));
                rest = &rest[at + 4..];
            }
            None => {
                result.push('\\');
                rest = &rest[at + 1..];
            }
        }
    }
    result.push_str(rest);
    result.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mount_table_tells_the_version() {
        let v2 = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
        let layout = parse(v2).expect("v2");
        assert_eq!((layout.version, layout.unified), (Version::V2, Some("/sys/fs/cgroup".into())));

        let hybrid = "25 24 0:22 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
             26 24 0:23 / /sys/fs/cgroup/my\\040dir rw - cgroup cgroup rw,xattr,name=systemd,release_agent=/x\n\
             27 24 0:24 / /sys/fs/cgroup/unified rw - cgroup2 cgroup rw\n\
             28 24 0:22 / /elsewhere rw - cgroup cgroup rw,cpu,cpuacct\n";
        let layout = parse(hybrid).expect("hybrid");
        assert_eq!(layout.version, Version::V1);
        assert_eq!(layout.hierarchies.len(), 2);
        assert_eq!(layout.hierarchies[0].controllers, ["cpu", "cpuacct"]);
        assert_eq!(layout.hierarchies[1].controllers, ["name=systemd"]);
        assert_eq!(layout.hierarchies[1].mount, PathBuf::from("/sys/fs/cgroup/my dir"));
        assert_eq!(parse("1 2 0:3 / / rw - ext4 /dev/sda rw\n"), None);
    }
}
