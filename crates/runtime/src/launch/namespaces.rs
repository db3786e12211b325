//! Which namespaces are new, which are entered, and when. Pure, but for opening those given by path.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use gantry_sys::ns::Kinds;
use oci_spec::runtime::{Linux, LinuxNamespaceType};

use crate::init::plan::invalid;
use crate::launch::Joined;
use crate::{LaunchError, Reason};

/// The namespaces of a new container.
#[derive(Debug, Default)]
pub(crate) struct Namespaces {
    /// Made by the clone.
    pub(crate) clone: Kinds,
    /// Made by the child once it is in its cgroup.
    pub(crate) unshare: Kinds,
    /// Namespaces given by path, open.
    pub(crate) opened: Vec<(OwnedFd, Kinds)>,
}

impl Namespaces {
    /// Decides.
    ///
    /// # Errors
    /// For kinds that are not supported, or a path that cannot be opened.
    pub(crate) fn plan(linux: Option<&Linux>, joined: &Joined<'_>) -> Result<Self, LaunchError> {
        let mut plan = Self { clone: Kinds::MOUNT, ..Self::default() };
        if joined.user.is_some() {
            return Err(invalid("user namespaces are not supported yet".into()));
        }
        for namespace in linux.and_then(|linux| linux.namespaces().as_ref()).into_iter().flatten() {
            let (kind, given) = match namespace.typ() {
                LinuxNamespaceType::Mount => (Kinds::MOUNT, false),
                LinuxNamespaceType::Pid => (Kinds::PID, joined.pid.is_some()),
                LinuxNamespaceType::Network => (Kinds::NET, joined.net.is_some()),
                LinuxNamespaceType::Ipc => (Kinds::IPC, joined.ipc.is_some()),
                LinuxNamespaceType::Uts => (Kinds::UTS, joined.uts.is_some()),
                LinuxNamespaceType::Cgroup => (Kinds::CGROUP, joined.cgroup.is_some()),
                kind @ (LinuxNamespaceType::User | LinuxNamespaceType::Time) => {
                    return Err(invalid(format!("{kind} namespaces are not supported yet")));
                }
            };
            let path = namespace.path().as_ref().filter(|path| !path.as_os_str().is_empty());
            match path {
                _ if given => {}
                Some(path) if kind == Kinds::MOUNT => {
                    return Err(invalid(format!(
                        "joining the mount namespace {} is not supported",
                        path.display()
                    )));
                }
                Some(path) => {
                    let file = File::open(path).map_err(|error| {
                        LaunchError::new(Reason::Setup, format!("namespace path {}: {error}", path.display()))
                    })?;
                    plan.opened.push((file.into(), kind));
                }
                None if kind == Kinds::CGROUP => plan.unshare = kind,
                None => plan.clone = plan.clone.and(kind),
            }
        }
        Ok(plan)
    }

    /// What the child enters; the process namespace is entered by its maker.
    pub(crate) fn enter<'a>(&'a self, joined: &Joined<'a>) -> Vec<(BorrowedFd<'a>, Kinds)> {
        let given = [
            (joined.net, Kinds::NET),
            (joined.ipc, Kinds::IPC),
            (joined.uts, Kinds::UTS),
            (joined.cgroup, Kinds::CGROUP),
        ];
        let given = given.into_iter().filter_map(|(fd, kind)| Some((fd?, kind)));
        let opened = self.opened.iter().filter(|(_, kind)| *kind != Kinds::PID);
        given.chain(opened.map(|(fd, kind)| (fd.as_fd(), *kind))).collect()
    }

    /// The process namespace to be born into, if not a new one or the caller's.
    pub(crate) fn pid<'a>(&'a self, joined: &Joined<'a>) -> Option<BorrowedFd<'a>> {
        let opened = self.opened.iter().find(|(_, kind)| *kind == Kinds::PID);
        joined.pid.or(opened.map(|(fd, _)| fd.as_fd()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(namespaces: &str) -> Result<Namespaces, LaunchError> {
        let linux: Linux = serde_json::from_str(&format!("{{\"namespaces\":[{namespaces}]}}")).expect("json");
        Namespaces::plan(Some(&linux), &Joined::default())
    }

    #[test]
    fn what_is_listed_without_a_path_is_new() {
        let all =
            plan(r#"{"type":"mount"},{"type":"pid"},{"type":"network"},{"type":"cgroup"}"#).expect("plan");
        assert_eq!(all.clone, Kinds::MOUNT.and(Kinds::PID).and(Kinds::NET));
        assert_eq!(all.unshare, Kinds::CGROUP);
        let own = plan(
            r#"{"type":"network","path":"/proc/self/ns/net"},{"type":"pid","path":"/proc/self/ns/pid"}"#,
        )
        .expect("plan");
        assert_eq!(own.clone, Kinds::MOUNT);
        assert_eq!(own.enter(&Joined::default()).len(), 1);
        assert!(own.pid(&Joined::default()).is_some());
    }

    #[test]
    fn what_we_lack_is_refused() {
        for bad in [r#"{"type":"user"}"#, r#"{"type":"time"}"#, r#"{"type":"network","path":"/nonexistent"}"#]
        {
            assert!(plan(bad).is_err(), "{bad}");
        }
    }
}
