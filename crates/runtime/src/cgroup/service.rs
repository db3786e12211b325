//! The way out of a service's control groups.
//!
//! A shim outlives the daemon that started it, and must not be killed because the daemon's unit has a limit
//! of memory or of tasks and the daemon, or all the shims together, reached it. So a container's shim leaves
//! these groups for the root, at its start, before anything can be in its memory. Only those of a systemd
//! unit: where an operator or another manager put the daemon by other means, all that it starts stays.
//! On v1 the hierarchy `name=systemd` is left alone, so that the unit still shows whose the shims are.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::OnceLock;

use super::{Layout, Version, detect};

/// The controllers of v1 whose limits would hit a shim.
const LEFT: [&str; 2] = ["memory", "pids"];

/// The files that a process of this daemon writes `0` to, to be in no group of the daemon's unit; none where
/// it is in no unit. Read once: a daemon stays where it was started.
pub(crate) fn ways_out() -> &'static [CString] {
    static WAYS: OnceLock<Vec<CString>> = OnceLock::new();
    WAYS.get_or_init(|| {
        // What cannot be read cannot be left; the shim then shares the unit's limits.
        let own = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        if !own.lines().any(|line| in_unit(path_of(line))) {
            return Vec::new();
        }
        detect().map_or_else(|_| Vec::new(), |layout| of_table(&own, &layout))
    })
}

/// Decides for the table of `/proc/self/cgroup`.
fn of_table(own: &str, layout: &Layout) -> Vec<CString> {
    let file = |mount: &Path| CString::new(mount.join("cgroup.procs").as_os_str().as_bytes()).ok();
    let mut ways = Vec::new();
    for line in own.lines().filter(|line| in_unit(path_of(line))) {
        let controllers = line.split(':').nth(1).unwrap_or_default();
        let mount = match layout.version {
            Version::V2 => layout.unified.as_deref().filter(|_| controllers.is_empty()),
            Version::V1 => layout
                .hierarchies
                .iter()
                .find(|hierarchy| hierarchy.controllers.join(",") == controllers)
                .filter(|hierarchy| hierarchy.controllers.iter().any(|name| LEFT.contains(&name.as_str())))
                .map(|hierarchy| hierarchy.mount.as_path()),
        };
        ways.extend(mount.and_then(file));
    }
    ways
}

/// `4:memory:/system.slice/gantry.service`: the part after the second colon.
fn path_of(line: &str) -> &str {
    line.splitn(3, ':').nth(2).unwrap_or_default()
}

fn in_unit(path: &str) -> bool {
    path.split('/').any(|name| name.ends_with(".service"))
}

#[cfg(test)]
mod tests {
    use super::super::Hierarchy;
    use super::*;

    fn check(own: &str, layout: &Layout, expected: &[&str]) {
        let ways = of_table(own, layout);
        let ways: Vec<_> = ways.iter().map(|way| way.to_str().expect("plain")).collect();
        assert_eq!(ways, expected, "{own}");
    }

    #[test]
    fn only_a_unit_is_left_and_only_where_its_limits_are() {
        let hierarchy = |names: &str| Hierarchy {
            controllers: names.split(',').map(str::to_owned).collect(),
            mount: Path::new("/sys/fs/cgroup").join(names),
        };
        let v1 = Layout {
            version: Version::V1,
            hierarchies: ["name=systemd", "memory", "cpu,cpuacct", "pids"].map(hierarchy).into(),
            unified: Some("/sys/fs/cgroup/unified".into()),
        };
        let unit = "/system.slice/gantry.service";
        let table = |memory: &str| {
            format!(
                "5:cpu,cpuacct:{unit}\n4:memory:{memory}\n3:pids:{unit}\n1:name=systemd:{unit}\n0::{unit}\n"
            )
        };
        check(&table(unit), &v1, &["/sys/fs/cgroup/memory/cgroup.procs", "/sys/fs/cgroup/pids/cgroup.procs"]);
        check(&table("/"), &v1, &["/sys/fs/cgroup/pids/cgroup.procs"]);
        check("4:memory:/some/group\n3:pids:/user.slice/session-1.scope\n", &v1, &[]);
        let v2 =
            Layout { version: Version::V2, hierarchies: Vec::new(), unified: Some("/sys/fs/cgroup".into()) };
        check(&format!("0::{unit}/payload:with:colons\n"), &v2, &["/sys/fs/cgroup/cgroup.procs"]);
        check("0::/\n", &v2, &[]);
    }
}
