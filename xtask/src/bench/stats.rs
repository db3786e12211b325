//! Medians, ratios, and the table that shows them.

use std::time::Duration;

use super::cases::{Case, Goal};

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
    let (gantry_ms, ratio) = (gantry.as_secs_f64() * 1e3, gantry.as_secs_f64() / peer.as_secs_f64());
    let (met, goal) = match case.goal {
        Goal::Ratio(goal) => (ratio <= goal, goal.to_string()),
        Goal::Millis(goal) => (gantry_ms <= goal, format!("{goal} ms")),
    };
    format!(
        "{:<52} {:>11.1} {:>11.1} {:>7.3} {:>6}{}",
        case.name,
        gantry_ms,
        peer.as_secs_f64() * 1e3,
        ratio,
        goal,
        if met { "" } else { "  missed" }
    )
}

/// The line of a client that had nothing to wait for, and the least ratio that any daemon could reach through it.
pub(crate) fn client_row(alone: Duration, samples: &Samples) -> String {
    let peer = median(&samples.peer);
    format!(
        "    the CLI alone, against a server that answers at once: {:.1} ms, {:.3} of the peer's time",
        alone.as_secs_f64() * 1e3,
        alone.as_secs_f64() / peer.as_secs_f64()
    )
}

/// The medians of each step, in milliseconds, from the daemon's log: of the last hundred starts that made a
/// link. The total is the last.
pub(crate) fn steps_of_a_start(log: &str) -> Vec<(String, f64)> {
    let starts = log.lines().filter_map(|line| line.split_once("steps of a start: ").map(|(_, steps)| steps));
    let starts: Vec<Vec<(&str, f64)>> =
        starts.map(|steps| steps.split([',', ';']).filter_map(step).collect()).collect();
    let bridged: Vec<_> = starts.iter().filter(|steps| made_a_link(steps)).collect();
    let last = &bridged[bridged.len().saturating_sub(100)..];
    let names = last.first().map(|steps| steps.iter().map(|(name, _)| *name)).into_iter().flatten();
    names
        .enumerate()
        .map(|(at, name)| {
            let mut times: Vec<f64> =
                last.iter().filter_map(|steps| steps.get(at)).map(|step| step.1).collect();
            times.sort_by(f64::total_cmp);
            (name.to_owned(), times[times.len() / 2])
        })
        .collect()
}

/// `link and rules 2.20 ms`.
fn step(text: &str) -> Option<(&str, f64)> {
    let (name, ms) = text.trim().strip_suffix(" ms")?.rsplit_once(' ')?;
    Some((name, ms.parse().ok()?))
}

/// Without a link that step takes next to nothing.
fn made_a_link(steps: &[(&str, f64)]) -> bool {
    steps.iter().any(|(name, ms)| *name == "link and rules" && *ms > 0.5)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_read_from_the_log() {
        let log = "x DEBUG y: steps of a start: a thread 0.09 ms, link and rules 2.20 ms; in all 8.43 ms\n\
             other\n\
             x DEBUG y: steps of a start: a thread 0.05 ms, link and rules 0.01 ms; in all 4.00 ms\n\
             x DEBUG y: steps of a start: a thread 0.07 ms, link and rules 2.60 ms; in all 8.00 ms\n";
        let expected = [("a thread", 0.09), ("link and rules", 2.6), ("in all", 8.43)];
        assert_eq!(steps_of_a_start(log), expected.map(|(name, ms)| (name.to_owned(), ms)));
        assert_eq!(steps_of_a_start("nothing"), []);
    }

    #[test]
    fn the_median_is_the_middle() {
        let times = |list: &[u64]| list.iter().map(|&ms| Duration::from_millis(ms)).collect::<Vec<_>>();
        assert_eq!(median(&times(&[9, 1, 5])), Duration::from_millis(5));
        assert_eq!(median(&times(&[9, 1, 5, 7])), Duration::from_millis(6));
        assert_eq!(median(&[]), Duration::ZERO);
    }
}
