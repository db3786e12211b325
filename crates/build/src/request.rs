//! What a build is asked to do: the model of `POST /build`, without its wire form.

use std::collections::BTreeMap;
use std::io::Read;

use gantry_model::{Platform, Reference};

use crate::error::BuildError;

/// One build.
pub struct BuildRequest {
    /// Where the files come from.
    pub context: ContextSource,
    /// The Dockerfile's path in the context; empty means `Dockerfile` (then `dockerfile`).
    pub dockerfile: String,
    /// The names that the image gets when the build succeeds; without a tag, `latest`.
    pub tags: Vec<Reference>,
    /// Everything that changes what is built.
    pub options: BuildOptions,
}

/// Where the files of a build come from.
pub enum ContextSource {
    /// A tar archive, plain or compressed, as the client's request body has it. It is
    /// read to its end unless the build fails earlier.
    Tar(Box<dyn Read + Send>),
    /// An address, as `remote=` has it: of an archive or of a Dockerfile. Repositories are refused.
    Remote(String),
}

/// What changes the result of a build.
#[derive(Debug, Clone, Default)]
pub struct BuildOptions {
    /// `--build-arg`s; a `None` value is taken as not given (the client had no such variable).
    pub args: BTreeMap<String, Option<String>>,
    /// `--label`s, added to the image last.
    pub labels: BTreeMap<String, String>,
    /// The stage to stop at, by name; empty means the last.
    pub target: String,
    /// The platform asked for; `None` is the host's where there is a choice.
    pub platform: Option<Platform>,
    /// Whether the cache is not asked. Results are recorded in it all the same.
    pub no_cache: bool,
    /// `--cache-from`: where any is named, only what lies in one of these images is taken from the cache; an image
    /// that is not there is passed over.
    pub cache_from: Vec<String>,
    /// Whether base images are to be looked for where they come from, though they may be here.
    pub pull: bool,
    /// How `RUN` steps are run.
    pub run: RunOptions,
}

/// How `RUN` steps are run: the limits and the network of the step's container.
#[derive(Debug, Clone, Default)]
pub struct RunOptions {
    /// The network.
    pub network: NetworkMode,
    /// `--add-host`, each `name:address`.
    pub extra_hosts: Vec<String>,
    /// Bytes of `/dev/shm`; 0 means 64 MiB.
    pub shm_size_bytes: u64,
    /// Bytes of memory; 0 means without limit.
    pub memory_bytes: i64,
    /// Bytes of memory and swap together; 0 means unset, -1 without limit.
    pub memory_swap_bytes: i64,
    /// Relative CPU weight; 0 means the default.
    pub cpu_shares: u64,
    /// CPU time per period in microseconds; 0 means without limit.
    pub cpu_quota_us: i64,
    /// The period of `cpu_quota_us` in microseconds; 0 means the default.
    pub cpu_period_us: u64,
    /// CPUs, such as `0-2,7`; empty means all.
    pub cpuset_cpus: String,
    /// Memory nodes; empty means all.
    pub cpuset_mems: String,
    /// The cgroup above the step's own; empty means the executor's default.
    pub cgroup_parent: String,
    /// `--ulimit`s: name without `RLIMIT_`, soft and hard value; -1 means without limit.
    pub ulimits: Vec<Ulimit>,
}

/// The least memory of a step: less does not start a process.
const MIN_MEMORY_BYTES: i64 = 6 << 20;

impl RunOptions {
    /// Refuses limits that no step can have.
    ///
    /// # Errors
    /// [`BuildError::Invalid`] with Docker's text.
    pub(crate) fn check(&self) -> Result<(), BuildError> {
        let invalid = |text: &str| Err(BuildError::Invalid(text.into()));
        if self.memory_bytes != 0 && self.memory_bytes < MIN_MEMORY_BYTES {
            return invalid("Minimum memory limit allowed is 6MB");
        }
        if self.memory_bytes > 0 && self.memory_swap_bytes > 0 && self.memory_swap_bytes < self.memory_bytes {
            return invalid("Minimum memoryswap limit should be larger than memory limit, see usage");
        }
        if self.memory_bytes == 0 && self.memory_swap_bytes > 0 {
            return invalid("You should always set the Memory limit when using Memoryswap limit, see usage");
        }
        Ok(())
    }
}

/// One resource limit of a step's process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ulimit {
    /// `nofile` and the like, in lower case.
    pub name: String,
    /// The soft limit; -1 means without limit.
    pub soft: i64,
    /// The hard limit; -1 means without limit.
    pub hard: i64,
}

/// The network of `RUN` steps.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub enum NetworkMode {
    /// The default bridge.
    #[default]
    Default,
    /// The host's own.
    Host,
    /// Only a loopback.
    None,
    /// A network by name or id, or `container:<id>`: the hook decides whether it serves it.
    Named(String),
}

impl NetworkMode {
    /// Reads `networkmode=`: empty, `default` and `bridge` are the default bridge.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        match text {
            "" | "default" | "bridge" => Self::Default,
            "host" => Self::Host,
            "none" => Self::None,
            other => Self::Named(other.into()),
        }
    }
}
