//! Further programs in a running container.

use serde::{Deserialize, Serialize};

use crate::is_default;

/// Body of `POST /containers/{id}/exec`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct CreateRequest {
    /// `user[:group]`; empty is the container's.
    pub user: String,
    /// All capabilities.
    pub privileged: bool,
    /// Whether there is a terminal.
    pub tty: bool,
    /// Height and width of the client's terminal; from API 1.42 on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub console_size: Option<[u32; 2]>,
    /// Whether input is attached.
    pub attach_stdin: bool,
    /// Whether output is attached.
    pub attach_stderr: bool,
    /// Whether error output is attached.
    pub attach_stdout: bool,
    /// As the client said again at start.
    pub detach: bool,
    /// `ctrl-p,ctrl-q`.
    pub detach_keys: String,
    /// `NAME=value`, beyond the container's.
    pub env: Option<Vec<String>>,
    /// Empty is the container's.
    pub working_dir: String,
    /// The command; there is no entry point.
    pub cmd: Option<Vec<String>>,
}

/// Reply of `POST /containers/{id}/exec` and of `POST /commit`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct IdResponse {
    /// 64 digits, or `sha256:…`.
    pub id: String,
}

/// Body of `POST /exec/{id}/start`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct StartRequest {
    /// Whether the reply comes at once and nothing is attached.
    pub detach: bool,
    /// Whether there is a terminal; must be as at create.
    pub tty: bool,
    /// Height and width of the client's terminal; from API 1.42 on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub console_size: Option<[u32; 2]>,
}

/// Reply of `GET /exec/{id}/json`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ExecInspect {
    /// 64 digits.
    #[serde(rename = "ID")]
    pub id: String,
    /// Whether it runs.
    pub running: bool,
    /// `null` while it runs.
    pub exit_code: Option<i64>,
    /// What was asked for.
    pub process_config: ProcessConfig,
    /// Whether input is attached.
    pub open_stdin: bool,
    /// Whether error output is attached.
    pub open_stderr: bool,
    /// Whether output is attached.
    pub open_stdout: bool,
    /// Always false.
    pub can_remove: bool,
    /// 64 digits.
    #[serde(rename = "ContainerID")]
    pub container_id: String,
    /// As Docker writes it: `""` in base64, or `null`.
    pub detach_keys: Option<String>,
    /// 0 where it does not run.
    pub pid: i64,
}

/// The process of an exec.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ProcessConfig {
    /// Whether there is a terminal.
    pub tty: bool,
    /// The program.
    pub entrypoint: String,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// All capabilities.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub privileged: Option<bool>,
    /// `user[:group]`.
    #[serde(skip_serializing_if = "is_default")]
    pub user: String,
}
