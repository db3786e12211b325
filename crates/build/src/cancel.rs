//! Cancelling: a flag that can be polled as a descriptor.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::event::{EventfdFlags, eventfd};

/// Withdraws a build. Clones share one state; it never goes back.
#[derive(Debug, Clone)]
pub struct Cancel(Arc<State>);

#[derive(Debug)]
struct State {
    cancelled: AtomicBool,
    readable: OwnedFd,
}

impl Cancel {
    /// Makes one that is not cancelled.
    ///
    /// # Errors
    /// That of `eventfd(2)`, when descriptors have run out.
    pub fn new() -> std::io::Result<Self> {
        let readable = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self(Arc::new(State { cancelled: AtomicBool::new(false), readable })))
    }

    /// Cancels. The build kills what runs and returns [`crate::BuildError::Cancelled`] soon after.
    pub fn cancel(&self) {
        if !self.0.cancelled.swap(true, Ordering::SeqCst) {
            // The counter was 0, so the write cannot block nor overflow.
            let _ = rustix::io::write(&self.0.readable, &1u64.to_ne_bytes());
        }
    }

    /// Whether it was cancelled.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.0.cancelled.load(Ordering::SeqCst)
    }
}

impl AsFd for Cancel {
    /// A descriptor that polls readable once cancelled.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.readable.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    #[test]
    fn a_cancelled_build_is_seen_by_every_clone_and_by_poll() {
        let cancel = Cancel::new().expect("an eventfd");
        let clone = cancel.clone();
        let readable = || {
            let mut fds = [PollFd::new(&cancel, PollFlags::IN)];
            poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).expect("poll")
        };
        assert_eq!((clone.is_cancelled(), readable()), (false, 0));
        clone.cancel();
        clone.cancel();
        assert_eq!((cancel.is_cancelled(), readable()), (true, 1));
    }
}
