//! Kills for want of memory, told when they happen: a container may outlive them.
//!
//! The kernel says that memory ran out before it has chosen whom to kill, so its count is looked at once more
//! a moment later. The watch is set when the container runs and the daemon has been answered, because it is
//! of no use before.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use super::poller::{EventFlags, Token, Watched};
use super::protocol::Event;
use super::supervisor::Supervisor;

/// When the count is looked at again.
const SECOND_LOOK: Duration = Duration::from_millis(100);

/// The watch on the container's cgroup, which lasts over restarts.
#[derive(Debug, Default)]
pub(super) enum OomWatch {
    /// Not set yet.
    #[default]
    Unset,
    /// Set, and when the count is to be looked at again.
    Set(Watched<OwnedFd>, Option<Instant>),
    /// It cannot be had: kills are told at the exit.
    Refused,
}

impl Supervisor {
    /// Sets the watch if it is not, and looks again if it is time. Returns when to call it again.
    pub(super) fn settle_oom(&mut self) -> Option<Instant> {
        if matches!(self.container.oom_watch, OomWatch::Unset) {
            self.container.oom_watch = self.watch_oom().unwrap_or(OomWatch::Refused);
            // What happened before is not told by the watch.
            self.tell_oom_kills();
        }
        let OomWatch::Set(_, again) = &mut self.container.oom_watch else { return None };
        let at = (*again)?;
        if Instant::now() < at {
            return Some(at);
        }
        *again = None;
        self.tell_oom_kills();
        None
    }

    fn watch_oom(&self) -> Option<OomWatch> {
        let watch = self.container.cgroup.as_ref()?.oom_watch().ok()?;
        let mut watch = Watched::new(watch, Token::Oom);
        watch.watch(&self.poller, Some(EventFlags::IN)).ok()?;
        Some(OomWatch::Set(watch, None))
    }

    /// Memory ran out.
    pub(super) fn on_oom(&mut self) {
        if let OomWatch::Set(watch, again) = &mut self.container.oom_watch {
            let mut events = [0; 4096];
            while rustix::io::read(&watch.inner, &mut events).is_ok_and(|count| count > 0) {}
            *again = Some(Instant::now() + SECOND_LOOK);
        }
        self.tell_oom_kills();
    }

    /// Tells kills that were not told yet. Whether there were any in this run.
    pub(super) fn tell_oom_kills(&mut self) -> bool {
        let count = self.container.cgroup.as_ref().and_then(|cgroup| cgroup.oom_kill_count().ok());
        let count = count.unwrap_or(0);
        if count > self.container.run.oom_kills_told {
            self.container.run.oom_kills_told = count;
            self.announce(Event::OomKilled);
        }
        self.container.run.oom_kills_told > self.container.run.oom_kills_before
    }

    /// Gives the watch up, before its cgroup goes.
    pub(super) fn end_oom_watch(&mut self) {
        if let OomWatch::Set(watch, _) = std::mem::take(&mut self.container.oom_watch) {
            drop(watch.release(&self.poller));
        }
    }
}
