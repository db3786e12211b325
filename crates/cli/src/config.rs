//! The user's configuration, as Docker's client keeps it: `config.json` below `--config`, else
//! `DOCKER_CONFIG`, else `~/.docker`. Read at its first use, and only the keys that matter here:
//! the formats of lists (`psFormat`, `imagesFormat`, …), `detachKeys`, `HttpHeaders`, `pruneFilters`
//! and `currentContext`.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::failure::{Failure, Outcome};

/// Where the user's configuration lies, and what it says.
pub(crate) struct Config {
    directory: PathBuf,
    values: Value,
}

impl Config {
    /// Reads the configuration; a file that is not there says nothing. One that is no JSON is told of
    /// and says nothing either, as in Docker.
    pub(crate) fn read(directory: Option<&str>) -> Self {
        let directory = directory.map_or_else(default_directory, PathBuf::from);
        let path = directory.join("config.json");
        let values = match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).unwrap_or_else(|error| {
                eprintln!("WARNING: Error parsing config file ({}): {error}", path.display());
                Value::Null
            }),
            Err(_) => Value::Null,
        };
        Self { directory, values }
    }

    /// A text of the configuration; nothing where it says none.
    pub(crate) fn text(&self, key: &str) -> &str {
        self.values[key].as_str().unwrap_or("")
    }

    /// A list of texts.
    pub(crate) fn list(&self, key: &str) -> Vec<&str> {
        self.values[key].as_array().into_iter().flatten().filter_map(Value::as_str).collect()
    }

    /// A map of texts (`HttpHeaders`).
    pub(crate) fn pairs(&self, key: &str) -> Vec<(String, String)> {
        let pairs = self.values[key].as_object().into_iter().flatten();
        pairs.filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned()))).collect()
    }

    /// The daemon's address of a context that `docker context create` made.
    ///
    /// # Errors
    /// There is no such context, or it names no daemon.
    pub(crate) fn host_of_context(&self, name: &str) -> Outcome<String> {
        let all = self.directory.join("contexts/meta");
        let found = std::fs::read_dir(&all).into_iter().flatten().flatten().find_map(|entry| {
            let meta = read_json(&entry.path().join("meta.json"))?;
            (meta["Name"].as_str() == Some(name)).then_some(meta)
        });
        let refuse = |why: &str| {
            Failure::plain(format!(
                "Failed to initialize: unable to resolve docker endpoint: context {name:?}: {why}"
            ))
        };
        let meta = found.ok_or_else(|| {
            refuse(&format!("context not found: none of that name below {}", all.display()))
        })?;
        let host = meta["Endpoints"]["docker"]["Host"].as_str();
        host.map(str::to_owned).ok_or_else(|| refuse("it names no daemon"))
    }
}

fn read_json(path: &Path) -> Option<Value> {
    serde_json::from_slice(&std::fs::read(path).ok()?).ok()
}

fn default_directory() -> PathBuf {
    match std::env::var_os("DOCKER_CONFIG").filter(|value| !value.is_empty()) {
        Some(directory) => directory.into(),
        None => PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".docker"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_configuration_says() {
        let directory = std::env::temp_dir().join(format!("gantry-cli-config-{}", std::process::id()));
        let meta = directory.join("contexts/meta/ab");
        std::fs::create_dir_all(&meta).unwrap();
        let none = Config::read(directory.to_str());
        assert_eq!((none.text("psFormat"), none.pairs("HttpHeaders").len()), ("", 0));
        std::fs::write(
            directory.join("config.json"),
            r#"{"psFormat": "{{.ID}}", "HttpHeaders": {"X-A": "b"}, "pruneFilters": ["label!=keep"]}"#,
        )
        .unwrap();
        std::fs::write(
            meta.join("meta.json"),
            r#"{"Name": "far", "Endpoints": {"docker": {"Host": "tcp://far:2375"}}}"#,
        )
        .unwrap();
        let config = Config::read(directory.to_str());
        assert_eq!(config.text("psFormat"), "{{.ID}}");
        assert_eq!(config.pairs("HttpHeaders"), [("X-A".to_owned(), "b".to_owned())]);
        assert_eq!(config.list("pruneFilters"), ["label!=keep"]);
        assert_eq!(config.host_of_context("far").unwrap(), "tcp://far:2375");
        let failure = config.host_of_context("near").unwrap_err();
        assert!(failure.text.contains("context \"near\": context not found"), "{failure}");
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
