//! The user's terminal: whether there is one, its size, and raw mode that always ends.

use std::io::IsTerminal as _;
use std::os::fd::AsFd;

use rustix::termios::{self, OptionalActions, Termios};

/// Columns of standard output, or 80.
pub(crate) fn width() -> usize {
    size().map_or(80, |(_, columns)| usize::from(columns))
}

/// Rows and columns of standard output, if it is a terminal that says them.
pub(crate) fn size() -> Option<(u16, u16)> {
    let size = termios::tcgetwinsize(std::io::stdout()).ok()?;
    (size.ws_col > 0 && size.ws_row > 0).then_some((size.ws_row, size.ws_col))
}

/// Whether standard input is a terminal.
pub(crate) fn stdin_is_terminal() -> bool {
    std::io::stdin().is_terminal()
}

/// Whether standard output is a terminal.
pub(crate) fn stdout_is_terminal() -> bool {
    std::io::stdout().is_terminal()
}

/// Standard input in raw mode, for as long as this lives: keys go to the container unseen.
pub(crate) struct Raw(Option<Termios>);

impl Raw {
    /// Switches standard input to raw mode; does nothing where it is no terminal.
    pub(crate) fn enter() -> Self {
        let stdin = std::io::stdin();
        let Ok(before) = termios::tcgetattr(stdin.as_fd()) else { return Self(None) };
        let mut raw = before.clone();
        raw.make_raw();
        let entered = termios::tcsetattr(stdin.as_fd(), OptionalActions::Now, &raw).is_ok();
        Self(entered.then_some(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        if let Some(before) = self.0.take() {
            let _ = termios::tcsetattr(std::io::stdin(), OptionalActions::Now, &before);
        }
    }
}
