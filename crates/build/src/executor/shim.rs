//! The executor over `gantry-shim` in its ephemeral mode: the shim dies with our connection, and takes
//! the container with it.

use std::sync::Arc;

use super::{Container, ExecError, Executor, Handle, Network, Places};

/// How a [`ShimExecutor`] is made.
pub struct ShimExecutorOptions {
    /// Where things are.
    pub places: Places,
    /// Makes the namespaces of steps with a network.
    pub network: Arc<dyn Network>,
}

/// Runs each step in a container of its own, through one shim each.
pub struct ShimExecutor {
    options: ShimExecutorOptions,
}

impl ShimExecutor {
    /// Makes one. Nothing is started.
    #[must_use]
    pub fn new(options: ShimExecutorOptions) -> Self {
        Self { options }
    }
}

impl Executor for ShimExecutor {
    fn create(&self, _container: Container<'_>) -> Result<Box<dyn Handle>, ExecError> {
        let _ = (&self.options.places, &self.options.network);
        unimplemented!()
    }
}
