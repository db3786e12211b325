//! The network of build steps: the builder's hook over the engine's sandboxes.

use std::any::Any;

use gantry_build::NetworkMode;
use gantry_build::executor::{Network, NetworkError, NetworkRequest, NetworkSetup};
use gantry_engine::sandboxes::{Ephemeral, Sandboxes};

/// Gives each step a sandbox of its own on the default bridge.
pub(crate) struct StepNetwork(pub(crate) Sandboxes);

impl Network for StepNetwork {
    fn connect(&self, request: &NetworkRequest<'_>) -> Result<NetworkSetup, NetworkError> {
        let mode = match request.mode {
            NetworkMode::Default => "default",
            NetworkMode::Host => "host",
            NetworkMode::None => "none",
            NetworkMode::Named(name) => name,
        };
        let mut sandbox: Ephemeral =
            self.0.ephemeral(mode).map_err(|error| NetworkError(error.to_string()))?;
        let resolv_conf = std::fs::read(&sandbox.resolv_conf).map_err(|error| {
            NetworkError(format!("cannot read {}: {error}", sandbox.resolv_conf.display()))
        })?;
        let net = sandbox.network.take();
        let guard: Box<dyn Any + Send> = Box::new(sandbox);
        Ok(NetworkSetup { net, resolv_conf, addresses: Vec::new(), guard })
    }
}
