//! What is printed, and errors, which go to standard error and to the log that the caller reads.

use std::fs::OpenOptions;
use std::io::Write;

use gantry_model::Timestamp;
use serde_json::json;

use crate::options::Globals;

/// An error with the exit code of this program.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) text: String,
    pub(crate) code: u8,
}

impl<T: ToString> From<T> for Failure {
    fn from(error: T) -> Self {
        Self { text: error.to_string(), code: 1 }
    }
}

/// Prints a line; the value is the exit code.
pub(crate) fn line(text: &str) -> Result<i32, Failure> {
    writeln!(std::io::stdout(), "{text}")?;
    Ok(0)
}

/// Tells an error in the forms that callers read.
pub(crate) fn error(globals: &Globals, text: &str) {
    eprintln!("gantry-runtime: {text}");
    log(globals, "error", text);
}

/// Tells a warning in the log alone; callers take standard error for failure.
pub(crate) fn warning(globals: &Globals, text: &str) {
    log(globals, "warning", text);
}

fn log(globals: &Globals, level: &str, text: &str) {
    let Some(path) = &globals.log else { return };
    let time = Timestamp::from_system(std::time::SystemTime::now()).to_string();
    let line = if globals.log_json {
        json!({ "level": level, "msg": text, "time": time }).to_string()
    } else {
        format!("time=\"{time}\" level={level} msg={text:?}")
    };
    // A log that cannot be written is no reason to fail.
    if let Ok(mut file) = OpenOptions::new().append(true).create(true).open(path) {
        let _ = writeln!(file, "{line}");
    }
}
