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

    /// The line as it goes over the wire; Docker ends it with CR LF.
    #[must_use]
    pub fn to_line(&self) -> Vec<u8> {
        let mut line = crate::gojson::to_vec(self);
        line.pop();
        line.extend_from_slice(b"\r\n");
        line
    }
}
