//! Log drivers: what Docker refuses of their options, when, and what the shim is told. Pure.
//!
//! A key that a driver does not have is refused at create, a value that it cannot use when the container is started;
//! both in Docker's words. `local` is `json-file` with limits of its own: nobody else may read its files, so they
//! have the same format.

use std::collections::BTreeMap;
use std::sync::Arc;

use gantry_logs::{JsonFile, Overflow};
use gantry_model::go;
use gotmpl::{MissingKey, TemplateError, Value};
use regex::Regex;

use super::Error;
use super::config::LogConfig;
use super::record::Record;

const JSON_FILE: [&str; 8] =
    ["max-file", "max-size", "compress", "labels", "labels-regex", "env", "env-regex", "tag"];
const LOCAL: [&str; 3] = ["max-file", "max-size", "compress"];

/// What `local` keeps where nothing is said: five files of 20 MiB, packed.
const LOCAL_SIZE_BYTES: u64 = 20 << 20;
const LOCAL_FILES: u32 = 5;
/// What waits for the disk with `mode=non-blocking`.
const BUFFER_BYTES: u64 = 1 << 20;

/// Refuses a driver that is not there and options that it does not have.
///
/// # Errors
/// [`Error::Invalid`] in Docker's words.
pub(super) fn check(log: &LogConfig) -> Result<(), Error> {
    let (about, known) = match log.driver.as_str() {
        "" | "json-file" => ("json-file log driver", &JSON_FILE[..]),
        "local" => ("log driver local", &LOCAL[..]),
        "none" => return Ok(()),
        driver => {
            let text = format!("error looking up logging plugin {driver}: plugin \"{driver}\" not found");
            return Err(Error::Invalid(text));
        }
    };
    let drops = match log.options.get("mode").map_or("", String::as_str) {
        "" | "blocking" => false,
        "non-blocking" => true,
        mode => return Err(Error::Invalid(format!("logger: logging mode not supported: {mode}"))),
    };
    if let Some(size) = log.options.get("max-buffer-size") {
        if !drops {
            let text = "logger: max-buffer-size option is only supported with 'mode=non-blocking'";
            return Err(Error::Invalid(text.into()));
        }
        let wrong = |text| Error::Invalid(format!("error parsing option max-buffer-size: {text}"));
        size_of(size, BINARY).map_err(wrong)?;
    }
    let allowed = |key: &str| known.contains(&key) || matches!(key, "mode" | "max-buffer-size");
    match log.options.keys().find(|key| !allowed(key)) {
        Some(key) => Err(Error::Invalid(format!("unknown log opt '{key}' for {about}"))),
        None => Ok(()),
    }
}

/// What the shim is told.
///
/// # Errors
/// [`Error::Internal`] in Docker's words.
pub(super) fn config(record: &Record) -> Result<gantry_logs::LogConfig, Error> {
    let log = &record.host.log;
    let file = match log.driver.as_str() {
        "none" => return Ok(gantry_logs::LogConfig::None),
        "local" => local(record),
        _ => json_file(record),
    };
    let mut file = file.map_err(|text| {
        let around = "failed to create task for container: failed to initialize logging driver";
        Error::Internal(format!("{around}: {text}"))
    })?;
    if log.options.get("mode").is_some_and(|mode| mode == "non-blocking") {
        let given = log.options.get("max-buffer-size").and_then(|size| size_of(size, BINARY).ok());
        file.overflow = Overflow::Drop { ring_bytes: given.unwrap_or(BUFFER_BYTES) };
    }
    Ok(gantry_logs::LogConfig::JsonFile(file))
}

fn json_file(record: &Record) -> Result<JsonFile, String> {
    let options = &record.host.log.options;
    let mut file = JsonFile::new(record.directory.join("log"));
    if let Some(size) = options.get("max-size") {
        file.max_size_bytes = Some(size_of(size, DECIMAL)?);
        if file.max_size_bytes == Some(0) {
            return Err("max-size must be a positive number".into());
        }
    }
    if let Some(count) = options.get("max-file") {
        let count = integer(count)?;
        if count < 1 {
            return Err("max-file cannot be less than 1".into());
        }
        file.max_files = u32::try_from(count).unwrap_or(u32::MAX);
    }
    if let Some(compress) = options.get("compress") {
        file.compress = boolean(compress)?;
        if file.compress && (file.max_files == 1 || file.max_size_bytes.is_none()) {
            return Err("compress cannot be true when max-file is less than 2 or max-size is not set".into());
        }
    }
    let attributes = attributes(record)?;
    if !attributes.is_empty() {
        file.attributes = serde_json::to_string(&attributes).map_err(|error| error.to_string())?;
    }
    Ok(file)
}

fn local(record: &Record) -> Result<JsonFile, String> {
    let options = &record.host.log.options;
    let mut file = JsonFile {
        max_size_bytes: Some(LOCAL_SIZE_BYTES),
        max_files: LOCAL_FILES,
        compress: true,
        ..JsonFile::new(record.directory.join("log"))
    };
    if let Some(size) = options.get("max-size") {
        let bytes = size_of(size, DECIMAL);
        let bytes = bytes.map_err(|error| format!("invalid value for max-size: {size}: {error}"))?;
        file.max_size_bytes = (bytes > 0).then_some(bytes);
    }
    if let Some(count) = options.get("max-file") {
        let given =
            integer(count).map_err(|error| format!("invalid value for max-file: {count}: {error}"))?;
        if given < 0 {
            return Err("max file count cannot be less than 0".into());
        }
        file.max_files = u32::try_from(given).unwrap_or(u32::MAX).max(1);
    }
    if let Some(compress) = options.get("compress") {
        file.compress =
            boolean(compress).map_err(|error| format!("error reading compress log option: {error}"))?;
    }
    if file.compress && file.max_files == 1 {
        return Err("compression cannot be enabled when max file count is 1".into());
    }
    Ok(file)
}

/// The labels, variables and the tag that the options name.
fn attributes(record: &Record) -> Result<BTreeMap<String, String>, String> {
    let option = |key: &str| record.host.log.options.get(key).map_or("", String::as_str);
    let names = |key: &str| option(key).split(',').filter(|name| !name.is_empty()).collect::<Vec<_>>();
    let pattern = |key: &str| match option(key) {
        "" => Ok(None),
        text => Regex::new(text).map(Some).map_err(|error| unreadable(text, &error)),
    };
    let labels = record.config.labels.iter().map(|(key, value)| (key.as_str(), value.as_str()));
    let variables = record.config.env.iter().filter_map(|entry| entry.split_once('='));
    let mut all = BTreeMap::new();
    for (names, pattern, pairs) in [
        (names("labels"), pattern("labels-regex")?, labels.collect::<Vec<_>>()),
        (names("env"), pattern("env-regex")?, variables.collect()),
    ] {
        let wanted = |key: &str| {
            names.contains(&key) || pattern.as_ref().is_some_and(|pattern: &Regex| pattern.is_match(key))
        };
        all.extend(
            pairs.into_iter().filter(|(key, _)| wanted(key)).map(|(key, value)| (key.into(), value.into())),
        );
    }
    let tag = tag(option("tag"), record)?;
    if !tag.is_empty() {
        all.insert("tag".into(), tag);
    }
    Ok(all)
}

/// What Go says where it can be told; the rest of its reasons are not told apart here.
fn unreadable(pattern: &str, error: &regex::Error) -> String {
    let text = error.to_string();
    if text.contains("unclosed character class") {
        let open = pattern.rfind('[').map_or(pattern, |at| &pattern[at..]);
        return format!("error parsing regexp: missing closing ]: `{open}`");
    }
    if text.contains("unclosed group") {
        return format!("error parsing regexp: missing closing ): `{pattern}`");
    }
    format!("error parsing regexp: {}: `{pattern}`", text.lines().last().unwrap_or_default())
}

/// Fills in a tag's template.
fn tag(template: &str, record: &Record) -> Result<String, String> {
    if !template.contains("{{") {
        return Ok(template.to_owned());
    }
    let failed = |error: &TemplateError| {
        // Go names the place; a field that does not exist is what people get wrong.
        match error {
            TemplateError::MissingKey { key } => format!(
                "template: log-tag:1:{}: executing \"log-tag\" at <.{key}>: can't evaluate field {key} in type *logger.Info",
                template.find(&format!(".{key}")).unwrap_or_default()
            ),
            error => format!("template: log-tag:1: {error}"),
        }
    };
    let text = |text: &str| Value::String(Arc::from(text));
    let short = |id: &str| text(id.get(..12).unwrap_or(id));
    let (id, image) = (record.id.as_str(), record.image.hex());
    let words: Vec<&str> = std::iter::once(&record.path).chain(&record.args).map(String::as_str).collect();
    let data = Value::from_entries([
        ("ID".into(), short(id)),
        ("FullID".into(), text(id)),
        ("ContainerID".into(), text(id)),
        ("Name".into(), text(&record.name)),
        ("ContainerName".into(), text(&format!("/{}", record.name))),
        ("ImageID".into(), short(&image)),
        ("ImageFullID".into(), text(&format!("sha256:{image}"))),
        ("ContainerImageID".into(), text(&format!("sha256:{image}"))),
        ("ImageName".into(), text(&record.config.image)),
        ("ContainerImageName".into(), text(&record.config.image)),
        ("Command".into(), text(&words.join(" "))),
        ("DaemonName".into(), text("docker")),
    ]);
    let parsed = gotmpl::Template::new("log-tag").missing_key(MissingKey::Error).parse(template);
    parsed.and_then(|parsed| parsed.execute_to_string(&data)).map_err(|error| failed(&error))
}

/// What a `k` is.
const DECIMAL: f64 = 1000.0;
const BINARY: f64 = 1024.0;

/// Reads a size in Docker's form: `10m`, `1.5 GB`, `512KiB`, `100`.
fn size_of(text: &str, unit: f64) -> Result<u64, String> {
    let wrong = || format!("invalid size: '{text}'");
    let last = text.rfind(|c: char| c.is_ascii_digit() || c == '.' || c == ' ').ok_or_else(wrong)?;
    let (number, suffix) = text.split_at(last + 1);
    let number = number.strip_suffix(' ').unwrap_or(number);
    let size: f64 =
        number.parse().map_err(|_| format!("strconv.ParseFloat: parsing \"{number}\": invalid syntax"))?;
    if size < 0.0 {
        return Err(wrong());
    }
    let lower = suffix.to_ascii_lowercase();
    let power = match lower.as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 1,
        "m" | "mb" | "mib" => 2,
        "g" | "gb" | "gib" => 3,
        "t" | "tb" | "tib" => 4,
        "p" | "pb" | "pib" => 5,
        _ => return Err(format!("invalid suffix: '{suffix}'")),
    };
    // Beyond 2^64 it is 2^64 - 1, and there are no negative ones.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    Ok((size * unit.powi(power)) as u64)
}

/// As Go's `strconv.Atoi`.
fn integer(text: &str) -> Result<i64, String> {
    text.parse().map_err(|_| format!("strconv.Atoi: parsing {text:?}: invalid syntax"))
}

/// As Go's `strconv.ParseBool`.
fn boolean(text: &str) -> Result<bool, String> {
    go::parse_bool(text).ok_or_else(|| format!("strconv.ParseBool: parsing {text:?}: invalid syntax"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::containers::config::{Config, HostConfig};

    fn log(driver: &str, options: &[(&str, &str)]) -> LogConfig {
        let options = options.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        LogConfig { driver: driver.into(), options: options.collect() }
    }

    fn record(log: LogConfig) -> Record {
        let id = gantry_model::ContainerId::from_random([1; 32]);
        Record {
            path: "sh".into(),
            args: Vec::new(),
            name: "web".into(),
            created: gantry_model::Timestamp::default(),
            image: gantry_model::Digest::from_sha256([7; 32]),
            config: Config {
                image: "nginx".into(),
                labels: [("tier".to_owned(), "front".to_owned())].into_iter().collect(),
                env: vec!["MODE=fast".into(), "BARE".into()],
                ..Config::default()
            },
            host: HostConfig { log, ..HostConfig::default() },
            config_json: serde_json::Value::Null,
            host_config_json: serde_json::Value::Null,
            endpoints: Vec::new(),
            mounts: Vec::new(),
            directory: format!("/containers/{id}").into(),
            layers: Vec::new(),
            id,
        }
    }

    #[test]
    fn keys_are_refused_at_create() {
        let check = |driver: &str, options: &[(&str, &str)]| {
            check(&log(driver, options)).err().map_or(String::new(), |error| error.to_string())
        };
        assert_eq!(check("json-file", &[("max-size", "nonsense"), ("tag", "x")]), "");
        assert_eq!(check("none", &[("foo", "1")]), "");
        assert_eq!(check("", &[("foo", "1")]), "unknown log opt 'foo' for json-file log driver");
        assert_eq!(check("local", &[("labels", "a")]), "unknown log opt 'labels' for log driver local");
        assert_eq!(check("foo", &[]), "error looking up logging plugin foo: plugin \"foo\" not found");
        assert_eq!(check("local", &[("mode", "foo")]), "logger: logging mode not supported: foo");
        let text = "logger: max-buffer-size option is only supported with 'mode=non-blocking'";
        assert_eq!(check("local", &[("max-buffer-size", "1m")]), text);
        let text = "error parsing option max-buffer-size: invalid size: 'abc'";
        assert_eq!(check("local", &[("max-buffer-size", "abc"), ("mode", "non-blocking")]), text);
    }

    #[test]
    fn values_are_refused_at_start() {
        for (driver, options, text) in [
            ("json-file", &[("max-size", "abc")][..], "invalid size: 'abc'"),
            ("json-file", &[("max-size", "10x")], "invalid suffix: 'x'"),
            ("json-file", &[("max-size", "0")], "max-size must be a positive number"),
            ("json-file", &[("max-size", "-1")], "invalid size: '-1'"),
            ("json-file", &[("max-file", "0")], "max-file cannot be less than 1"),
            ("json-file", &[("max-file", "x")], "strconv.Atoi: parsing \"x\": invalid syntax"),
            ("json-file", &[("compress", "maybe")], "strconv.ParseBool: parsing \"maybe\": invalid syntax"),
            (
                "json-file",
                &[("compress", "true"), ("max-size", "1k")],
                "compress cannot be true when max-file is less than 2 or max-size is not set",
            ),
            ("json-file", &[("labels-regex", "[")], "error parsing regexp: missing closing ]: `[`"),
            (
                "json-file",
                &[("tag", "{{.Foo}}")],
                "template: log-tag:1:2: executing \"log-tag\" at <.Foo>: can't evaluate field Foo in type *logger.Info",
            ),
            ("local", &[("max-size", "abc")], "invalid value for max-size: abc: invalid size: 'abc'"),
            (
                "local",
                &[("max-file", "x")],
                "invalid value for max-file: x: strconv.Atoi: parsing \"x\": invalid syntax",
            ),
            ("local", &[("max-file", "1")], "compression cannot be enabled when max file count is 1"),
            (
                "local",
                &[("compress", "x")],
                "error reading compress log option: strconv.ParseBool: parsing \"x\": invalid syntax",
            ),
        ] {
            let got = config(&record(log(driver, options))).err().map(|error| error.to_string());
            let want =
                format!("failed to create task for container: failed to initialize logging driver: {text}");
            assert_eq!(got, Some(want), "{driver} {options:?}");
        }
    }

    #[test]
    fn the_shim_is_told_what_was_asked_for() {
        let told = |driver: &str, options: &[(&str, &str)]| match config(&record(log(driver, options))) {
            Ok(gantry_logs::LogConfig::JsonFile(file)) => file,
            other => panic!("{other:?}"),
        };
        let plain = told("json-file", &[]);
        assert_eq!((plain.max_size_bytes, plain.max_files, plain.compress), (None, 1, false));
        assert_eq!((plain.attributes.as_str(), plain.overflow), ("", Overflow::Wait));
        let local = told("local", &[]);
        assert_eq!((local.max_size_bytes, local.max_files, local.compress), (Some(20 << 20), 5, true));
        let small = told("local", &[("max-size", "10k"), ("max-file", "0"), ("compress", "false")]);
        assert_eq!((small.max_size_bytes, small.max_files, small.compress), (Some(10_000), 1, false));
        assert_eq!(told("local", &[("max-size", "0")]).max_size_bytes, None);
        let named = [("labels", "tier,other"), ("env-regex", "^M"), ("tag", "{{.Name}}/{{.ID}}")];
        let attributes = r#"{"MODE":"fast","tag":"web/010101010101","tier":"front"}"#;
        assert_eq!(told("json-file", &named).attributes, attributes);
        let drops = told("json-file", &[("mode", "non-blocking"), ("max-buffer-size", "2m")]);
        assert_eq!(drops.overflow, Overflow::Drop { ring_bytes: 2 << 20 });
        let none = config(&record(log("none", &[("foo", "1")])));
        assert_eq!(none.ok(), Some(gantry_logs::LogConfig::None));
    }

    #[test]
    fn sizes_have_units() {
        for (text, bytes) in [
            ("10m", Ok(10_000_000)),
            ("1.5G", Ok(1_500_000_000)),
            ("7", Ok(7)),
            ("7b", Ok(7)),
            ("3 KiB", Ok(3000)),
            ("1kbb", Err("invalid suffix: 'kbb'")),
            ("", Err("invalid size: ''")),
        ] {
            assert_eq!(size_of(text, DECIMAL), bytes.map_err(str::to_owned), "{text}");
        }
        assert_eq!(size_of("1k", BINARY), Ok(1024));
    }
}
