//! Containers: what is sent to create and update one, and what lists say.

use gantry_model::image::Healthcheck;
use serde::{Deserialize, Serialize};

use crate::gojson::{self, InvalidJson};
use crate::host_config::HostConfig;
use crate::network::EndpointSettings;
use crate::{Map, Set, is_default};

/// The portable part of a container's configuration.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ContainerConfig {
    /// Empty: the first twelve digits of the id.
    pub hostname: String,
    /// The NIS domain name.
    pub domainname: String,
    /// `user[:group]`, names or numbers; empty is root.
    pub user: String,
    /// Whether `run` attaches it; kept for `start -a`.
    pub attach_stdin: bool,
    /// Whether `run` attaches it; kept for `start -a`.
    pub attach_stdout: bool,
    /// Whether `run` attaches it; kept for `start -a`.
    pub attach_stderr: bool,
    /// `port/protocol` of every port that the program listens on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exposed_ports: Option<Set>,
    /// Whether there is a terminal.
    pub tty: bool,
    /// Whether standard input stays open.
    pub open_stdin: bool,
    /// Whether standard input closes once its first client has gone.
    pub stdin_once: bool,
    /// `NAME=value`; a name alone removes the image's.
    pub env: Option<Vec<String>>,
    /// The command, or arguments of the entry point; a single string is taken as one word.
    #[serde(deserialize_with = "words")]
    pub cmd: Option<Vec<String>>,
    /// How health is checked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<Healthcheck>,
    /// Windows only.
    #[serde(skip_serializing_if = "is_default")]
    pub args_escaped: bool,
    /// The image as the user named it.
    pub image: String,
    /// Paths that become anonymous volumes.
    pub volumes: Option<Set>,
    /// Where the command starts; empty is `/`.
    pub working_dir: String,
    /// The program before the command; `[""]` removes the image's.
    #[serde(deserialize_with = "words")]
    pub entrypoint: Option<Vec<String>>,
    /// No network at all; as old clients said `--net none`.
    #[serde(skip_serializing_if = "is_default")]
    pub network_disabled: bool,
    /// A hardware address; below API 1.44.
    #[serde(skip_serializing_if = "is_default")]
    pub mac_address: String,
    /// Build triggers of the image; never run.
    pub on_build: Option<Vec<String>>,
    /// Labels.
    pub labels: Option<Map<String>>,
    /// The signal of `stop`; empty is `SIGTERM`.
    #[serde(skip_serializing_if = "is_default")]
    pub stop_signal: String,
    /// Seconds between that signal and `SIGKILL`; -1 waits for ever, `None` is 10.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_timeout: Option<i64>,
    /// The shell of shell-form instructions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shell: Option<Vec<String>>,
}

/// Reads Go's `StrSlice`: a list of words, or one string that is a list of one.
fn words<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<String>>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "neither a string nor a list of strings")]
    enum Words {
        One(String),
        Many(Vec<Option<String>>),
    }
    Ok(Option::<Words>::deserialize(deserializer)?.map(|words| match words {
        Words::One(word) => vec![word],
        Words::Many(words) => words.into_iter().map(Option::unwrap_or_default).collect(),
    }))
}

/// Body of `POST /containers/create`: a [`ContainerConfig`] with two more keys beside its own.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct CreateRequest {
    /// The portable part.
    #[serde(flatten)]
    pub config: ContainerConfig,
    /// What depends on the host; `None` where it was not sent.
    #[serde(rename = "HostConfig")]
    pub host_config: Option<HostConfig>,
    /// The networks to join.
    #[serde(rename = "NetworkingConfig")]
    pub networking_config: Option<NetworkingConfig>,
}

impl CreateRequest {
    /// Reads a body, through [`gojson`].
    ///
    /// # Errors
    /// [`InvalidJson`].
    pub fn parse(body: &[u8]) -> Result<Self, InvalidJson> {
        Self::from_value(gojson::parse(body)?)
    }

    /// The same from a tree that was read before.
    ///
    /// # Errors
    /// [`InvalidJson::Syntax`] where a value has the wrong type.
    pub fn from_value(body: serde_json::Value) -> Result<Self, InvalidJson> {
        #[derive(Default, Deserialize)]
        #[serde(rename_all = "PascalCase", default)]
        struct Beside {
            host_config: Option<HostConfig>,
            networking_config: Option<NetworkingConfig>,
        }
        let config = gojson::from_value(body.clone())?;
        let beside: Beside = gojson::from_value(body)?;
        Ok(Self { config, host_config: beside.host_config, networking_config: beside.networking_config })
    }
}

/// Which networks a new container joins, and how.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct NetworkingConfig {
    /// By network name or id.
    pub endpoints_config: Option<Map<Option<EndpointSettings>>>,
}

/// Reply of `POST /containers/create`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct CreateResponse {
    /// The new container's id.
    pub id: String,
    /// What was not done as asked; `[]` where all was.
    pub warnings: Vec<String>,
}

/// Reply of `POST /containers/{id}/update`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct UpdateResponse {
    /// What was not done as asked; `null` where all was.
    pub warnings: Option<Vec<String>>,
}

/// Reply of `POST /containers/{id}/wait`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct WaitResponse {
    /// The exit code.
    pub status_code: i64,
    /// Why waiting ended otherwise than by an exit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<WaitError>,
}

/// Why waiting ended otherwise than by an exit.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct WaitError {
    /// In words.
    pub message: String,
}

/// Reply of `GET /containers/{id}/top`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct TopResponse {
    /// The columns of `ps`.
    pub titles: Vec<String>,
    /// A row per process.
    pub processes: Vec<Vec<String>>,
}

/// Reply of `POST /containers/prune`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct PruneResponse {
    /// Ids of what was deleted; `null` where nothing was.
    pub containers_deleted: Option<Vec<String>>,
    /// Bytes.
    pub space_reclaimed: u64,
}

/// One path of `GET /containers/{id}/changes`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Change {
    /// The absolute path in the container.
    pub path: String,
    /// 0 modified, 1 added, 2 deleted.
    pub kind: u8,
}

/// One container of `GET /containers/json`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ContainerSummary {
    /// 64 digits.
    pub id: String,
    /// With a leading slash.
    pub names: Vec<String>,
    /// The image as the user named it; its id where that name now means another image.
    pub image: String,
    /// `sha256:…`
    #[serde(rename = "ImageID")]
    pub image_id: String,
    /// Path and arguments, words with blanks in single quotes.
    pub command: String,
    /// Seconds since 1970.
    pub created: i64,
    /// Published and exposed ports.
    pub ports: Vec<Port>,
    /// Bytes in the writable layer; only where `size` was asked for.
    #[serde(skip_serializing_if = "is_default")]
    pub size_rw: i64,
    /// Bytes altogether; only where `size` was asked for.
    #[serde(skip_serializing_if = "is_default")]
    pub size_root_fs: i64,
    /// Labels.
    pub labels: Map<String>,
    /// `created`, `running`, `paused`, `restarting`, `removing`, `exited` or `dead`.
    pub state: String,
    /// For people: `Up 5 seconds`.
    pub status: String,
    /// A very small part of it.
    pub host_config: SummaryHostConfig,
    /// The networks.
    pub network_settings: SummaryNetworkSettings,
    /// What is mounted.
    pub mounts: Vec<MountPoint>,
    /// The state of its health, from API 1.52 on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health: Option<SummaryHealth>,
}

/// The host configuration as lists show it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct SummaryHostConfig {
    /// The network mode.
    #[serde(skip_serializing_if = "is_default")]
    pub network_mode: String,
    /// Annotations.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub annotations: Option<Map<String>>,
}

/// The networks as lists show them.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct SummaryNetworkSettings {
    /// By network name.
    pub networks: Map<EndpointSettings>,
}

/// Health as lists show it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct SummaryHealth {
    /// `none`, `starting`, `healthy` or `unhealthy`.
    pub status: String,
    /// Failures in a row.
    pub failing_streak: i64,
}

/// One port of a list.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Port {
    /// The host's address; omitted for a port that is only exposed.
    #[serde(rename = "IP", skip_serializing_if = "is_default")]
    pub ip: String,
    /// In the container.
    pub private_port: u16,
    /// On the host; omitted for a port that is only exposed.
    #[serde(skip_serializing_if = "is_default")]
    pub public_port: u16,
    /// `tcp`, `udp` or `sctp`.
    #[serde(rename = "Type")]
    pub protocol: String,
}

/// One mount as lists and inspect show it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct MountPoint {
    /// `bind`, `volume`, `tmpfs`.
    #[serde(rename = "Type", skip_serializing_if = "is_default")]
    pub kind: String,
    /// A volume's name.
    #[serde(skip_serializing_if = "is_default")]
    pub name: String,
    /// The host's path.
    pub source: String,
    /// The path in the container.
    pub destination: String,
    /// A volume's driver.
    #[serde(skip_serializing_if = "is_default")]
    pub driver: String,
    /// As given: `ro`, `z`.
    pub mode: String,
    /// Whether the container may write.
    #[serde(rename = "RW")]
    pub writable: bool,
    /// `rprivate`, …; empty for volumes.
    pub propagation: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_create_body_is_one_object_with_three_parts() {
        let request = CreateRequest::parse(
            br#"{"Image":"a","cmd":"sh","Entrypoint":["x",null],"hostconfig":{"memory":5,"Binds":null},
                "NetworkingConfig":{"EndpointsConfig":{"net":null}}}"#,
        )
        .expect("a body");
        assert_eq!(request.config.cmd, Some(vec!["sh".into()]));
        assert_eq!(request.config.entrypoint, Some(vec!["x".into(), String::new()]));
        assert_eq!(request.host_config.as_ref().map(|host| host.memory), Some(5));
        let networks = request.networking_config.and_then(|n| n.endpoints_config).expect("networks");
        assert_eq!(networks.get("net"), Some(&None));
        assert_eq!(CreateRequest::parse(b"{}").expect("a body"), CreateRequest::default());
        assert!(CreateRequest::parse(b"").is_err());
    }

    #[test]
    fn empty_values_are_null_or_left_out_as_dockers() {
        let text = String::from_utf8(gojson::to_vec(&ContainerConfig::default())).expect("UTF-8");
        assert_eq!(
            text.trim_end(),
            r#"{"Hostname":"","Domainname":"","User":"","AttachStdin":false,"AttachStdout":false,"AttachStderr":false,"Tty":false,"OpenStdin":false,"StdinOnce":false,"Env":null,"Cmd":null,"Image":"","Volumes":null,"WorkingDir":"","Entrypoint":null,"OnBuild":null,"Labels":null}"#
        );
    }
}
