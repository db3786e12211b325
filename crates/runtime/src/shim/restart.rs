//! Whether, and when, policy starts a container again. Pure; the rules are Docker's.

use std::time::Duration;

use gantry_model::container::RestartPolicy;

const FIRST_DELAY: Duration = Duration::from_millis(100);
const LONGEST_DELAY: Duration = Duration::from_secs(60);
/// Whoever ran so long starts again with the first delay.
const SOUND_RUN: Duration = Duration::from_secs(10);

/// What policy remembers between exits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Restarts {
    /// How often it was restarted.
    pub(super) count: u32,
    delay: Duration,
}

/// One end of a run.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ended {
    /// 0 to 255.
    pub(super) code: i32,
    /// How long it ran.
    pub(super) ran: Duration,
    /// Whether a stop or kill asked for it.
    pub(super) by_hand: bool,
}

impl Restarts {
    /// Goes on from a count of earlier.
    pub(super) fn new(count: u32) -> Self {
        Self { count, delay: Duration::ZERO }
    }

    /// Says after which delay it starts again, and counts that; `None`: never.
    pub(super) fn after(&mut self, policy: RestartPolicy, ended: Ended) -> Option<Duration> {
        if ended.ran >= SOUND_RUN {
            self.delay = Duration::ZERO;
        }
        let wanted = !ended.by_hand
            && match policy {
                RestartPolicy::No => false,
                RestartPolicy::Always | RestartPolicy::UnlessStopped => true,
                RestartPolicy::OnFailure { max_retries } => {
                    ended.code != 0 && (max_retries == 0 || self.count < max_retries)
                }
            };
        if !wanted {
            return None;
        }
        self.delay = if self.delay.is_zero() { FIRST_DELAY } else { (self.delay * 2).min(LONGEST_DELAY) };
        self.count += 1;
        Some(self.delay)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(policy: RestartPolicy, ends: &[(i32, u64, bool)], want: &[Option<u64>]) {
        let mut restarts = Restarts::default();
        let got: Vec<_> = ends
            .iter()
            .map(|&(code, secs, by_hand)| {
                let ended = Ended { code, ran: Duration::from_secs(secs), by_hand };
                restarts.after(policy, ended).map(|delay| u64::try_from(delay.as_millis()).expect("short"))
            })
            .collect();
        assert_eq!(got, want, "{policy:?}");
    }

    #[test]
    fn policies_decide_as_dockers_do() {
        check(RestartPolicy::No, &[(1, 0, false)], &[None]);
        check(
            RestartPolicy::Always,
            &[(0, 0, false), (1, 0, false), (0, 9, false), (0, 10, false), (0, 0, true)],
            &[Some(100), Some(200), Some(400), Some(100), None],
        );
        check(RestartPolicy::UnlessStopped, &[(0, 0, false), (0, 0, true)], &[Some(100), None]);
        let twice = RestartPolicy::OnFailure { max_retries: 2 };
        check(twice, &[(1, 0, false), (1, 0, false), (1, 0, false)], &[Some(100), Some(200), None]);
        check(twice, &[(0, 0, false)], &[None]);
        check(
            RestartPolicy::OnFailure { max_retries: 0 },
            &[(3, 0, false); 12],
            &[
                Some(100),
                Some(200),
                Some(400),
                Some(800),
                Some(1600),
                Some(3200),
                Some(6400),
                Some(12_800),
                Some(25_600),
                Some(51_200),
                Some(60_000),
                Some(60_000),
            ],
        );
    }
}
