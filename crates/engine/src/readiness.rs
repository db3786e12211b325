//! Waiting for descriptors of our own under tokio.

use std::io;
use std::os::fd::AsRawFd;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Watches a descriptor. `inner` must own it and always name the same one, as `OwnedFd` and a shim's
/// connection do.
///
/// # Errors
/// The kernel's, such as too many descriptors.
#[expect(
    deprecated,
    reason = "what replaces it is unsafe, which only gantry-sys may be; both types used own their descriptor"
)]
pub(crate) fn watch<T: AsRawFd>(inner: T, interest: Interest) -> io::Result<AsyncFd<T>> {
    AsyncFd::with_interest(inner, interest)
}
