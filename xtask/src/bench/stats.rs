//! Medians, ratios, and the table that shows them.

use std::time::Duration;

use super::cases::Case;

/// The times of one case on both sides, in the order of the runs.
#[derive(Debug, Default)]
pub(crate) struct Samples {
    /// Gantry's.
    pub(crate) gantry: Vec<Duration>,
    /// The peer's.
    pub(crate) peer: Vec<Duration>,
}

/// The middle of the times; the mean of the two middle ones of an even number.
pub(crate) fn median(times: &[Duration]) -> Duration {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    match sorted.len() {
        0 => Duration::ZERO,
        odd if odd % 2 == 1 => sorted[odd / 2],
        even => (sorted[even / 2 - 1] + sorted[even / 2]) / 2,
    }
}

/// The table's head.
pub(crate) fn heading(pass: &str) -> String {
    format!(
        "{:<52} {:>11} {:>11} {:>7} {:>6}\n{}",
        format!("case, {pass}"),
        "gantry ms",
        "peer ms",
        "ratio",
        "goal",
        "-".repeat(91)
    )
}

/// One case's line.
pub(crate) fn row(case: &Case, samples: &Samples) -> String {
    let (gantry, peer) = (median(&samples.gantry), median(&samples.peer));
    let ratio = gantry.as_secs_f64() / peer.as_secs_f64();
    let met = if ratio <= case.goal { "" } else { "  missed" };
    format!(
        "{:<52} {:>11.1} {:>11.1} {:>7.3} {:>6}{met}",
        case.name,
        gantry.as_secs_f64() * 1e3,
        peer.as_secs_f64() * 1e3,
        ratio,
        case.goal
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle() {
        let times = |list: &[u64]| list.iter().map(|&ms| Duration::from_millis(ms)).collect::<Vec<_>>();
        assert_eq!(median(&times(&[9, 1, 5])), Duration::from_millis(5));
        assert_eq!(median(&times(&[9, 1, 5, 7])), Duration::from_millis(6));
        assert_eq!(median(&[]), Duration::ZERO);
    }
}
