//! The messages of a long work's stream: what is built, fetched or imported, and bars for what
//! takes time when the user watches.

use std::io::{self, Read, Write as _};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::Value;

use crate::failure::{Failure, Outcome};

/// A bar for bytes on their way to the daemon, on standard error, if that is a terminal.
pub(crate) fn bytes_bar(message: &str, total: Option<u64>) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::stderr());
    let style = if total.is_some() {
        "{msg} [{bar:30}] {bytes}/{total_bytes} {bytes_per_sec}"
    } else {
        "{msg} {spinner} {bytes} {bytes_per_sec}"
    };
    if let Ok(style) = ProgressStyle::with_template(style) {
        bar.set_style(style);
    }
    bar.with_message(message.to_owned())
}

/// A reader that moves a bar.
pub(crate) struct Counted<R> {
    /// What is read.
    pub(crate) inner: R,
    /// What moves.
    pub(crate) bar: ProgressBar,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(into)?;
        self.bar.inc(read as u64);
        if read == 0 {
            self.bar.finish_and_clear();
        }
        Ok(read)
    }
}

/// One message of a stream: prints its text to `out`, fails with its error.
///
/// # Errors
/// The message's own error, with its code as the exit code.
pub(crate) fn show(message: &Value, out: &mut impl io::Write) -> Outcome {
    if let Some(error) = message.get("errorDetail").or(message.get("error")) {
        let text =
            error.get("message").or(message.get("error")).and_then(Value::as_str).unwrap_or("unknown error");
        let code = error.get("code").and_then(Value::as_i64).filter(|code| *code != 0).unwrap_or(1);
        out.flush()?;
        return Err(Failure::new(i32::try_from(code).unwrap_or(1), text));
    }
    if let Some(text) = message.get("stream").and_then(Value::as_str) {
        out.write_all(text.as_bytes())?;
        return Ok(out.flush()?);
    }
    // One that says nothing is an empty line.
    let status = message.get("status").and_then(Value::as_str).unwrap_or("");
    match message.get("id").and_then(Value::as_str) {
        Some(id) => writeln!(out, "{id}: {status}")?,
        None => writeln!(out, "{status}")?,
    }
    Ok(())
}

/// Prints a stream of messages to standard output; gives each `aux` to the caller.
///
/// # Errors
/// A message's error, or the connection's.
pub(crate) fn show_all(answer: crate::api::Answer<'_>, mut aux: impl FnMut(&Value)) -> Outcome {
    let mut out = io::stdout();
    answer.each_document(|message| {
        if let Some(value) = message.get("aux") {
            aux(value);
            return Ok(());
        }
        show(&message, &mut out)
    })?;
    Ok(out.flush()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn messages() {
        let mut out = Vec::new();
        show(&json!({"stream": "Step 1/1 : FROM x\n"}), &mut out).unwrap();
        show(&json!({"status": "Pulling", "id": "x"}), &mut out).unwrap();
        show(&json!({}), &mut out).unwrap();
        assert_eq!(out, b"Step 1/1 : FROM x\nx: Pulling\n\n");
        let failure =
            show(&json!({"errorDetail": {"code": 7, "message": "no"}, "error": "no"}), &mut out).unwrap_err();
        assert_eq!((failure.code, failure.text.as_str()), (7, "no"));
    }
}
