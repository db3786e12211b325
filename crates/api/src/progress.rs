//! Messages of a stream of progress: what `build`, `import`, `pull` and `load` reply, an object a line.

use serde::{Deserialize, Serialize};

use crate::is_default;

/// One line. Usually one or two of the fields are set.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Message {
    /// Text to print as it is.
    #[serde(skip_serializing_if = "is_default")]
    pub stream: String,
    /// What happens to the thing of `id`.
    #[serde(skip_serializing_if = "is_default")]
    pub status: String,
    /// How far it is.
    #[serde(rename = "progressDetail", skip_serializing_if = "Option::is_none")]
    pub progress_detail: Option<ProgressDetail>,
    /// The same drawn; deprecated.
    #[serde(skip_serializing_if = "is_default")]
    pub progress: String,
    /// Which layer or thing.
    #[serde(skip_serializing_if = "is_default")]
    pub id: String,
    /// The end of the stream: it failed.
    #[serde(rename = "errorDetail", skip_serializing_if = "Option::is_none")]
    pub error_detail: Option<ErrorDetail>,
    /// The same as `error_detail.message`; deprecated.
    #[serde(skip_serializing_if = "is_default")]
    pub error: String,
    /// A result for programs: `{"ID":"sha256:…"}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aux: Option<serde_json::Value>,
}

/// How far something is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ProgressDetail {
    /// Done.
    #[serde(skip_serializing_if = "is_default")]
    pub current: i64,
    /// Of so many.
    #[serde(skip_serializing_if = "is_default")]
    pub total: i64,
}

impl ProgressDetail {
    /// Docker's bar of fifty places and both numbers: `[=========>         ]  1.05MB/2.13MB`.
    #[must_use]
    pub fn drawn(&self) -> String {
        if self.current <= 0 && self.total <= 0 {
            return String::new();
        }
        if self.total <= 0 {
            return format!("{:>8}", human_size(self.current));
        }
        // Two hundredths a place, rounded down twice, as Docker does.
        let done = usize::try_from(self.current.saturating_mul(100) / self.total / 2).unwrap_or(0).min(50);
        let (bar, rest) = ("=".repeat(done), " ".repeat(50 - done));
        let current = human_size(self.current);
        if self.current > self.total {
            return format!("[{bar}>{rest}] {current:>8}");
        }
        format!("[{bar}>{rest}] {current:>8}/{}", human_size(self.total))
    }
}

/// A size in decimal units with four digits that count: `2.048kB`, `170.1MB`.
fn human_size(bytes: i64) -> String {
    #[allow(clippy::cast_precision_loss, reason = "four digits are shown")]
    let mut size = bytes as f64;
    let mut unit = 0;
    while size >= 1000.0 && unit < 5 {
        size /= 1000.0;
        unit += 1;
    }
    let whole = format!("{size:.0}").len();
    let text = format!("{size:.*}", 4_usize.saturating_sub(whole));
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text}{}", ["B", "kB", "MB", "GB", "TB", "PB"][unit])
}

/// A failure inside a stream.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ErrorDetail {
    /// The exit code of a failed step; 0 where there is none.
    #[serde(skip_serializing_if = "is_default")]
    pub code: i64,
    /// What went wrong.
    #[serde(skip_serializing_if = "is_default")]
    pub message: String,
}

impl Message {
    /// A text to print as it is.
    #[must_use]
    pub fn stream(text: impl Into<String>) -> Self {
        Self { stream: text.into(), ..Self::default() }
    }

    /// What happens.
    #[must_use]
    pub fn status(text: impl Into<String>) -> Self {
        Self { status: text.into(), ..Self::default() }
    }

    /// The end of the stream: it failed.
    #[must_use]
    pub fn error(code: i64, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { error: message.clone(), error_detail: Some(ErrorDetail { code, message }), ..Self::default() }
    }

    /// A result for programs.
    #[must_use]
    pub fn aux(value: serde_json::Value) -> Self {
        Self { aux: Some(value), ..Self::default() }
    }

    /// How far something is, also drawn.
    #[must_use]
    pub fn progress(id: impl Into<String>, status: impl Into<String>, detail: ProgressDetail) -> Self {
        let progress = detail.drawn();
        Self {
            id: id.into(),
            status: status.into(),
            progress_detail: Some(detail),
            progress,
            ..Self::default()
        }
    }

    /// The line as it goes over the wire; Docker ends it with CR LF.
    #[must_use]
    pub fn to_line(&self) -> Vec<u8> {
        let mut line = crate::gojson::to_vec(self);
        line.pop();
        line.extend_from_slice(b"\r\n");
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_drawn_as_docker_draws_it() {
        let check = |current, total, expected: &str| {
            assert_eq!(ProgressDetail { current, total }.drawn(), expected);
        };
        let full = format!("[{}>]  2.048kB/2.048kB", "=".repeat(50));
        check(2048, 2048, &full);
        check(32_768, 2_129_920, &format!("[>{}]  32.77kB/2.13MB", " ".repeat(50)));
        check(1_081_344, 2_129_920, &format!("[{}>{}]  1.081MB/2.13MB", "=".repeat(25), " ".repeat(25)));
        check(512, 0, "    512B");
        check(0, 0, "");
    }
}
