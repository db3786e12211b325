//! Where the time of a start goes, for the log and through it for `cargo xtask bench`.

use std::time::{Duration, Instant};

/// Laps of one start, in the order of its steps. Costs a clock reading each.
#[derive(Debug)]
pub(super) struct Stopwatch {
    began: Instant,
    last: Instant,
    laps: Vec<(&'static str, Duration)>,
}

impl Stopwatch {
    pub(super) fn start() -> Self {
        let now = Instant::now();
        Self { began: now, last: now, laps: Vec::with_capacity(8) }
    }

    /// Ends a lap.
    pub(super) fn lap(&mut self, step: &'static str) {
        let now = Instant::now();
        self.laps.push((step, now - self.last));
        self.last = now;
    }

    /// Ends the last lap and logs all of them at level debug.
    pub(super) fn log(mut self, step: &'static str) {
        if !tracing::enabled!(target: "gantry_engine::start", tracing::Level::DEBUG) {
            return;
        }
        self.lap(step);
        let laps: Vec<String> = self
            .laps
            .iter()
            .map(|(step, time)| format!("{step} {:.2} ms", time.as_secs_f64() * 1e3))
            .collect();
        let whole = (self.last - self.began).as_secs_f64() * 1e3;
        tracing::debug!(target: "gantry_engine::start", "steps of a start: {}; in all {whole:.2} ms", laps.join(", "));
    }
}
