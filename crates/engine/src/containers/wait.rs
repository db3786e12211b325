//! Waiting for a container to stop or to go away.

use super::{Containers, Error};

/// What to wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WaitCondition {
    /// It does not run; at once if it does not now.
    #[default]
    NotRunning,
    /// The next exit.
    NextExit,
    /// It is removed.
    Removed,
}

/// How it ended.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Exit {
    /// The exit code.
    pub code: i32,
    /// Why it ended without having run, or why removal failed; empty otherwise.
    pub error: String,
}

/// A wait that has been registered: nothing that happens from now on is missed.
pub struct Waiter {}

impl Waiter {
    /// Waits. Dropping the future withdraws the wait.
    pub async fn exit(self) -> Exit {
        unimplemented!("filled next")
    }
}

impl Containers {
    /// Registers a wait; HTTP headers may be sent when this returns.
    ///
    /// # Errors
    /// [`Error::NoSuchContainer`].
    pub async fn wait(&self, _container: &str, _condition: WaitCondition) -> Result<Waiter, Error> {
        unimplemented!("filled next")
    }
}
