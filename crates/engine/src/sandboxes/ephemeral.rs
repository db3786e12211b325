//! The network of a build step.

use std::fs;
use std::os::fd::AsFd;

use gantry_model::SandboxId;
use gantry_net::MacAddress;
use gantry_net::endpoint::{BridgePort, EndpointSpec};
use gantry_runtime::sandbox::{self, SandboxSpec};

use super::{Ephemeral, Error, NetworkFiles, Sandboxes, write_files};
use crate::containers::config::NameConfig;
use crate::settings::Defaults;

impl Drop for Ephemeral {
    fn drop(&mut self) {
        // The namespace goes first: its link must not answer for an address that is given away again.
        self.network = None;
        if let (Some(address), Some(bridge)) = (self.address, self.networks.bridge()) {
            bridge.pool.lock().release(address);
        }
        if let Some(directory) = self.hosts.parent()
            && let Err(error) = fs::remove_dir_all(directory)
        {
            tracing::warn!("{} was not removed: {error}", directory.display());
        }
    }
}

impl Sandboxes {
    /// Makes the network of a build step: mode `default`/`bridge`, `host` or `none`. Blocks for about 2 ms.
    ///
    /// # Errors
    /// [`Error`]; nothing remains.
    pub fn ephemeral(&self, mode: &str) -> Result<Ephemeral, Error> {
        let setup = |error: &dyn std::error::Error| Error::setup(error);
        let id = SandboxId::from_random(crate::random());
        let (_, name) = self.networks.of_mode(mode).ok_or_else(|| Error::NoSuchNetwork(mode.into()))?;
        let directory = self.scratch.join(id.as_str());
        fs::create_dir_all(&directory).map_err(|error| setup(&error))?;
        let mut made = Ephemeral {
            network: None,
            hosts: directory.join("hosts"),
            resolv_conf: directory.join("resolv.conf"),
            networks: self.networks.clone(),
            address: None,
        };
        if name != "host" {
            let spec = SandboxSpec { net: true, ..SandboxSpec::default() };
            made.network = sandbox::create(spec).map_err(|error| setup(&error))?.net;
        }
        if let (Some(bridge), "bridge", Some(namespace)) = (self.networks.bridge(), name, &made.network) {
            let address = bridge.pool.lock().allocate().map_err(|error| setup(&error))?;
            made.address = Some(address);
            let host = self.networks.host();
            let spec = EndpointSpec {
                port: BridgePort {
                    bridge: bridge.index,
                    name: &host.identity().endpoint_name(id.as_str()),
                    owner: id.as_str(),
                    between_containers: bridge.between_containers,
                },
                namespace: namespace.as_fd(),
                name: "eth0",
                address: bridge.gateway.with_address(address),
                gateway: Some(bridge.gateway.address()),
                mac: MacAddress::for_ipv4(address),
                mtu: bridge.mtu,
            };
            gantry_net::endpoint::attach(host, &spec).map_err(|error| setup(&error))?;
        }
        let files = NetworkFiles {
            names: &NameConfig::default(),
            defaults: &Defaults::default(),
            hostname: "buildkitsandbox",
            domainname: "",
            address: made.address,
            gateway: self.networks.bridge().map(|bridge| bridge.gateway.address()),
            on_host: name == "host",
        };
        write_files(&directory, &files).map_err(|error| setup(&error))?;
        Ok(made)
    }
}
