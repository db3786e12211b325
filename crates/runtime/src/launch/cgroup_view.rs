//! What `/sys/fs/cgroup` of a container shows, decided from the host's layout.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::LaunchError;
use crate::Reason;
use crate::cgroup::{Cgroup, Hierarchy, Layout, detect, path_below};
use crate::init::cgroup_mount::{CgroupMounts, HierarchyMount};
use crate::init::plan::c_string;

/// Decides for a container in `cgroup`; without one, for the caller's own place.
///
/// # Errors
/// Where the host's layout cannot be read.
pub(crate) fn plan(cgroup: Option<&Cgroup>, private: bool) -> Result<CgroupMounts, LaunchError> {
    let setup = |error: String| LaunchError::new(Reason::Setup, error);
    if let Some(cgroup) = cgroup {
        return view(cgroup.layout(), private, &|_| cgroup.path().to_owned());
    }
    let Ok(layout) = detect() else { return Ok(CgroupMounts::default()) };
    let own = std::fs::read_to_string("/proc/self/cgroup").map_err(|error| setup(error.to_string()))?;
    view(&layout, private, &|hierarchy| own_path(&own, hierarchy))
}

/// `4:cpu,cpuacct:/path`; v2 is `0::/path`.
fn own_path(table: &str, hierarchy: Option<&Hierarchy>) -> PathBuf {
    let wanted = hierarchy.map_or_else(String::new, |hierarchy| hierarchy.controllers.join(","));
    let line = table.lines().filter_map(|line| line.split_once(':')?.1.split_once(':'));
    let mut found = line.filter(|(controllers, _)| *controllers == wanted).map(|(_, path)| path.into());
    found.next().unwrap_or_else(|| "/".into())
}

fn view(
    layout: &Layout,
    private: bool,
    path: &dyn Fn(Option<&Hierarchy>) -> PathBuf,
) -> Result<CgroupMounts, LaunchError> {
    let own = |mount: &Path, path: PathBuf| c_string(path_below(mount, &path).as_os_str().as_bytes());
    let mut mounts = CgroupMounts { private, ..CgroupMounts::default() };
    if layout.hierarchies.is_empty() {
        mounts.unified = layout.unified.as_ref().map(|mount| own(mount, path(None))).transpose()?;
        return Ok(mounts);
    }
    for hierarchy in &layout.hierarchies {
        let name = hierarchy.mount.file_name().unwrap_or_default().as_bytes();
        let mut options = Vec::new();
        for controller in &hierarchy.controllers {
            if let Some(named) = controller.strip_prefix("name=") {
                options.push((c"none".to_owned(), None));
                options.push((c"name".to_owned(), Some(c_string(named.as_bytes())?)));
            } else {
                options.push((c_string(controller.as_bytes())?, None));
            }
            let plain = controller.strip_prefix("name=").unwrap_or(controller).as_bytes();
            if plain != name {
                mounts.links.push((c_string(plain)?, c_string(name)?));
            }
        }
        let own = own(&hierarchy.mount, path(Some(hierarchy)))?;
        mounts.hierarchies.push(HierarchyMount { name: c_string(name)?, options, own });
    }
    Ok(mounts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_callers_own_place_is_found() {
        let table = "9:name=systemd:/a:b\n4:cpu,cpuacct:/x\n0::/u\n";
        let hierarchy = |controllers: &[&str]| Hierarchy {
            controllers: controllers.iter().map(|text| (*text).to_owned()).collect(),
            mount: "/".into(),
        };
        for (controllers, expected) in [
            (Some(&["cpu", "cpuacct"][..]), "/x"),
            (Some(&["name=systemd"]), "/a:b"),
            (None, "/u"),
            (Some(&["rdma"]), "/"),
        ] {
            let hierarchy = controllers.map(hierarchy);
            assert_eq!(own_path(table, hierarchy.as_ref()), Path::new(expected), "{controllers:?}");
        }
    }
}
