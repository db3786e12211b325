//! One set of cases on two daemons: what the stock CLI prints against a real dockerd and against
//! gantryd is compared byte by byte.
//!
//! A [`case`] is a few lines of text in `crates/testkit/cases/`: calls of the CLI, each with what in
//! its output is masked. [`mask`] knows the shapes of what may differ (ids, times, addresses), and
//! replaces nothing else; equal ids get equal numbers, so that an id that should come back and does
//! not is a difference. [`view`] lays JSON out as a line per field. [`side`] runs a case against one
//! daemon and removes what it made. [`difference`] tells what differs, line by line, and holds the
//! reviewed list of the differences that stay, which must match exactly: an entry that no longer
//! differs is as wrong as a new difference.

pub mod case;
pub mod difference;
pub mod mask;
pub mod side;
pub mod view;
mod words;

pub use case::Case;
pub use difference::{Difference, Known};
pub use side::{Observed, Side};

/// What one step showed, masked and laid out: what is compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// The exit code.
    pub code: i32,
    /// Standard output; a terminal's whole output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
    /// Masks that found nothing, in the words of the case.
    pub idle_masks: Vec<String>,
}

/// Masks and lays out what a case's steps printed on one side.
#[must_use]
pub fn show(case: &Case, observed: &[Observed]) -> Vec<Shown> {
    let mut numbers = mask::Numbers::default();
    let mut all = Vec::new();
    let calls = case.steps.iter().filter_map(case::Step::call);
    for (call, observed) in calls.zip(observed) {
        let mut stdout = match call.layout {
            case::Layout::Plain => observed.stdout.clone(),
            case::Layout::Json => view::fields(&observed.stdout),
            case::Layout::Keys => view::keys(&observed.stdout),
        };
        let mut stderr = observed.stderr.clone();
        let mut idle_masks = Vec::new();
        for mask in &call.masks {
            let text = if mask.stderr { &mut stderr } else { &mut stdout };
            let masked = mask.apply(text, &mut numbers);
            if masked == *text {
                idle_masks.push(mask.to_string());
            }
            *text = masked;
        }
        if call.sorted {
            let mut lines: Vec<&str> = stdout.split_inclusive('\n').collect();
            lines.sort_unstable();
            stdout = lines.concat();
        }
        all.push(Shown { code: observed.code, stdout, stderr, idle_masks });
    }
    all
}

/// Compares what both sides printed in a case.
#[must_use]
pub fn compare(case: &Case, peer: &[Observed], ours: &[Observed]) -> Vec<Difference> {
    let (peer, ours) = (show(case, peer), show(case, ours));
    let mut all = Vec::new();
    let calls = case.steps.iter().filter_map(case::Step::call);
    for ((call, peer), ours) in calls.zip(&peer).zip(&ours) {
        let parts = [
            ("code", format!("{}\n", peer.code), format!("{}\n", ours.code)),
            ("stdout", peer.stdout.clone(), ours.stdout.clone()),
            ("stderr", peer.stderr.clone(), ours.stderr.clone()),
        ];
        for (part, peer, ours) in parts {
            let lines = difference::lines(&peer, &ours);
            if !lines.is_empty() {
                all.push(Difference { case: case.name.clone(), call: call.text.clone(), part, lines });
            }
        }
    }
    all
}
