//! What a start makes around the container: namespaces, the files of `/etc`, shared memory.

use std::path::PathBuf;

use gantry_runtime::sandbox::{SandboxSpec, UtsNames};

use super::{Joined, Start};
use crate::containers::Error;
use crate::sandboxes::{self, Attached, NetworkFiles};

impl Start {
    pub(super) fn sandbox_spec(&self, hostname: &str) -> SandboxSpec {
        let host = &self.record.host;
        SandboxSpec {
            net: host.network_mode != "host" && !host.network_mode.starts_with("container:"),
            ipc: host.namespaces.ipc != "host" && !host.namespaces.ipc.starts_with("container:"),
            uts: (host.namespaces.uts != "host").then(|| UtsNames {
                hostname: hostname.to_owned(),
                domainname: self.record.config.domainname.clone(),
            }),
        }
    }

    /// Writes `/etc/hosts` and its like, which the container is given; not where it shares another's.
    pub(super) fn write_files(&self, network: &Attached, hostname: &str) -> Result<(), Error> {
        let host = &self.record.host;
        if host.network_mode.starts_with("container:") {
            return Ok(());
        }
        let files = NetworkFiles {
            names: &host.names,
            defaults: &self.core.host.settings.defaults,
            hostname,
            domainname: &self.record.config.domainname,
            address: network.endpoints.values().find_map(|endpoint| endpoint.address),
            gateway: self.core.networks.bridge().map(|bridge| bridge.gateway.address()),
            on_host: host.network_mode == "host",
        };
        sandboxes::write_files(&self.record.directory, &files).map_err(|error| {
            Error::Internal(format!("cannot write below {}: {error}", self.record.directory.display()))
        })
    }

    /// `shareable`: a directory beside the shim's socket, in memory as `/run` is; `container:`: the other's.
    pub(super) fn shared_shm(&self, joined: &Joined) -> Result<Option<PathBuf>, Error> {
        if joined.shm.is_some() {
            return Ok(joined.shm.clone());
        }
        if self.record.host.namespaces.ipc != "shareable" {
            return Ok(None);
        }
        let path = self.core.host.shim_directory(&self.record.id).join("shm");
        std::fs::create_dir_all(&path)
            .and_then(|()| {
                use std::os::unix::fs::PermissionsExt;
                std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o1777))
            })
            .map_err(|error| Error::Internal(format!("cannot make {}: {error}", path.display())))?;
        Ok(Some(path))
    }
}
