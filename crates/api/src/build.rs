//! Builds: the parameters of `POST /build`, and what pruning replies.

use serde::{Deserialize, Serialize};

use crate::gojson::{self, InvalidJson};
use crate::query::InvalidQuery;
use crate::{Map, Query};

/// The parameters of `POST /build` that have a meaning here.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BuildOptions {
    /// Names for the image.
    pub tags: Vec<String>,
    /// Path of the Dockerfile in the context; empty is `Dockerfile`.
    pub dockerfile: String,
    /// A URL instead of a context; empty where a context follows, `client-session` for BuildKit's.
    pub remote: String,
    /// Whether only the id is told.
    pub quiet: bool,
    /// Whether the cache is not asked.
    pub no_cache: bool,
    /// Whether base images are asked for at the registry again.
    pub pull: bool,
    /// Whether intermediate containers are removed; nothing remains of ours either way.
    pub remove: bool,
    /// Build arguments; `None` takes the client's environment, which it has resolved already.
    pub build_args: Map<Option<String>>,
    /// Labels of the image.
    pub labels: Map<String>,
    /// The stage to build; empty is the last.
    pub target: String,
    /// `os/arch[/variant]`; empty is the host's.
    pub platform: String,
    /// `default`, `bridge`, `host`, `none`, `container:…`, or a network's name.
    pub network_mode: String,
    /// `name:address` for `/etc/hosts`.
    pub extra_hosts: Vec<String>,
    /// Images that may serve as a cache.
    pub cache_from: Vec<String>,
    /// Bytes of memory for each step; 0 is no limit.
    pub memory_bytes: i64,
    /// Bytes of memory and swap together; -1 is no limit.
    pub memory_swap_bytes: i64,
    /// Relative weight of CPU time.
    pub cpu_shares: i64,
    /// Microseconds.
    pub cpu_period_us: i64,
    /// Microseconds per period.
    pub cpu_quota_us: i64,
    /// `0-2,5`.
    pub cpuset_cpus: String,
    /// Bytes of `/dev/shm`; 0 is 64 MiB.
    pub shm_size_bytes: i64,
    /// Whether all layers become one.
    pub squash: bool,
    /// `1` for the classic builder, `2` for BuildKit; empty is `1`.
    pub version: String,
    /// Identifies a session of BuildKit's.
    pub session: String,
}

/// Parameters that cannot be used. `Display` is the whole message for the client.
#[derive(Debug, thiserror::Error)]
pub enum InvalidBuildOptions {
    /// A number was expected.
    #[error(transparent)]
    Query(#[from] InvalidQuery),
    /// A parameter that holds JSON does not.
    #[error("error reading {name}: {}", .source.reason())]
    Json {
        /// The parameter.
        name: &'static str,
        /// Why.
        source: InvalidJson,
    },
}

impl BuildOptions {
    /// Reads a query.
    ///
    /// # Errors
    /// [`InvalidBuildOptions`].
    pub fn parse(query: &Query) -> Result<Self, InvalidBuildOptions> {
        let json = |name: &'static str| match query.get(name) {
            "" => "null",
            text => text,
        };
        let bad = |name| move |source| InvalidBuildOptions::Json { name, source };
        let number = |name| query.number(name).map(|number| number.unwrap_or(0));
        let text = |name| query.get(name).to_owned();
        Ok(Self {
            tags: query.all("t").filter(|tag| !tag.is_empty()).map(str::to_owned).collect(),
            dockerfile: text("dockerfile"),
            remote: text("remote"),
            quiet: query.bool("q"),
            no_cache: query.bool("nocache"),
            pull: query.bool("pull"),
            remove: query.bool_or("rm", true),
            build_args: gojson::from_slice(json("buildargs").as_bytes()).map_err(bad("build args"))?,
            labels: gojson::from_slice(json("labels").as_bytes()).map_err(bad("labels"))?,
            target: text("target"),
            platform: text("platform"),
            network_mode: text("networkmode"),
            extra_hosts: query
                .all("extrahosts")
                .flat_map(|hosts| hosts.split(','))
                .filter(|h| !h.is_empty())
                .map(str::to_owned)
                .collect(),
            cache_from: gojson::from_slice(json("cachefrom").as_bytes()).map_err(bad("cache-from"))?,
            memory_bytes: number("memory")?,
            memory_swap_bytes: number("memswap")?,
            cpu_shares: number("cpushares")?,
            cpu_period_us: number("cpuperiod")?,
            cpu_quota_us: number("cpuquota")?,
            cpuset_cpus: text("cpusetcpus"),
            shm_size_bytes: number("shmsize")?,
            squash: query.bool("squash"),
            version: text("version"),
            session: text("session"),
        })
    }

    /// Writes the query; what is as a daemon assumes it anyway is left out.
    #[must_use]
    pub fn to_query(&self) -> Query {
        let mut query = Query::default();
        self.tags.iter().for_each(|tag| query.push("t", tag));
        self.extra_hosts.iter().for_each(|host| query.push("extrahosts", host));
        for (key, value) in [
            ("dockerfile", &self.dockerfile),
            ("remote", &self.remote),
            ("target", &self.target),
            ("platform", &self.platform),
            ("networkmode", &self.network_mode),
            ("cpusetcpus", &self.cpuset_cpus),
            ("version", &self.version),
            ("session", &self.session),
        ] {
            if !value.is_empty() {
                query.push(key, value);
            }
        }
        for (key, value) in
            [("q", self.quiet), ("nocache", self.no_cache), ("pull", self.pull), ("squash", self.squash)]
        {
            if value {
                query.push(key, "1");
            }
        }
        query.push("rm", if self.remove { "1" } else { "0" });
        for (key, value) in [
            ("memory", self.memory_bytes),
            ("memswap", self.memory_swap_bytes),
            ("cpushares", self.cpu_shares),
            ("cpuperiod", self.cpu_period_us),
            ("cpuquota", self.cpu_quota_us),
            ("shmsize", self.shm_size_bytes),
        ] {
            if value != 0 {
                query.push(key, value.to_string());
            }
        }
        let json =
            |value: Result<String, serde_json::Error>| value.expect("maps and lists of strings are JSON");
        query.push("buildargs", json(serde_json::to_string(&self.build_args)));
        query.push("labels", json(serde_json::to_string(&self.labels)));
        query.push("cachefrom", json(serde_json::to_string(&self.cache_from)));
        query
    }
}

/// Reply of `POST /build/prune`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct PruneResponse {
    /// Ids of what was deleted; `null` where nothing was.
    pub caches_deleted: Option<Vec<String>>,
    /// Bytes.
    pub space_reclaimed: u64,
}

/// One entry of the build cache in `GET /system/df`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct BuildCache {
    /// Its key.
    #[serde(rename = "ID")]
    pub id: String,
    /// Keys that it was made from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parents: Option<Vec<String>>,
    /// `regular`, `source.local`, …
    #[serde(rename = "Type")]
    pub kind: String,
    /// The instruction.
    pub description: String,
    /// Whether a build uses it now.
    pub in_use: bool,
    /// Whether an image has it too.
    pub shared: bool,
    /// Bytes.
    pub size: i64,
    /// RFC 3339.
    pub created_at: String,
    /// RFC 3339; `null` where never.
    pub last_used_at: Option<String>,
    /// Times.
    pub usage_count: i64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stock_clients_query_is_read() {
        let query = Query::parse("buildargs=%7B%22A%22%3A%22b%22%2C%22C%22%3Anull%7D&cachefrom=%5B%5D&cgroupparent=&cpuperiod=0&cpuquota=0&cpusetcpus=&cpusetmems=&cpushares=0&dockerfile=Dockerfile&labels=%7B%7D&memory=0&memswap=0&networkmode=default&rm=1&shmsize=0&t=web&t=x%3A1&target=&ulimits=%5B%5D&version=1").expect("a query");
        let options = BuildOptions::parse(&query).expect("options");
        assert_eq!(options.tags, ["web", "x:1"]);
        assert_eq!(options.build_args, [("A".into(), Some("b".into())), ("C".into(), None)].into());
        assert!(options.remove && !options.quiet && options.version == "1");
        assert_eq!(BuildOptions::parse(&options.to_query()).expect("our own query"), options);
        let error = BuildOptions::parse(&Query::default().with("labels", "x")).expect_err("no JSON");
        assert_eq!(
            error.to_string(),
            "error reading labels: invalid character 'x' looking for beginning of value"
        );
    }
}
