//! A client's configuration on top of an image's, by Docker's rules. Pure.

use std::collections::BTreeSet;

use gantry_model::image::RunConfig;

use super::Error;
use super::config::{Config, ExposedPort};

/// Fills in what the client left out. Lists of environment, labels, ports and volumes are joined, the
/// client's entries winning; everything else is taken whole from one side. The image's shell is left alone: it is of
/// the image's instructions.
///
/// # Errors
/// [`Error::Invalid`] in Docker's words where the result cannot be run.
pub(crate) fn merge(mut config: Config, image: &RunConfig) -> Result<Config, Error> {
    let or = |value: &mut String, default: &String| {
        if value.is_empty() {
            value.clone_from(default);
        }
    };
    or(&mut config.user, &image.user);
    or(&mut config.working_dir, &image.working_dir);
    or(&mut config.stop_signal, &image.stop_signal);
    merge_command(&mut config, image);
    merge_environment(&mut config.env, &image.env);
    for (key, value) in &image.labels {
        config.labels.entry(key.clone()).or_insert_with(|| value.clone());
    }
    config.exposed_ports.extend(image.exposed_ports.keys().cloned().map(ExposedPort));
    for path in image.volumes.keys() {
        if !config.volumes.iter().any(|have| have.as_os_str() == path.as_str()) {
            config.volumes.push(path.into());
        }
    }
    merge_healthcheck(&mut config, image);
    if config.entrypoint.as_ref().is_none_or(Vec::is_empty) && config.cmd.as_ref().is_none_or(Vec::is_empty) {
        return Err(Error::Invalid("no command specified".into()));
    }
    if !config.working_dir.is_empty() {
        if !config.working_dir.starts_with('/') {
            return Err(Error::Invalid(format!(
                "the working directory '{}' is invalid, it needs to be an absolute path",
                config.working_dir
            )));
        }
        config.working_dir = clean_path(&config.working_dir);
    }
    Ok(config)
}

/// The image's command goes with the image's entry point only: an entry point of the client's drops it.
fn merge_command(config: &mut Config, image: &RunConfig) {
    if config.entrypoint.as_ref().is_none_or(Vec::is_empty) {
        if config.cmd.as_ref().is_none_or(Vec::is_empty) {
            config.cmd.clone_from(&image.cmd);
        }
        if config.entrypoint.is_none() {
            config.entrypoint.clone_from(&image.entrypoint);
        }
    }
    if config.entrypoint.as_deref().is_some_and(|words| matches!(words, [word] if word.is_empty())) {
        config.entrypoint = None;
    }
}

fn merge_environment(environment: &mut Vec<String>, image: &[String]) {
    let key = |entry: &str| entry.split('=').next().unwrap_or_default().to_owned();
    let have: BTreeSet<String> = environment.iter().map(|entry| key(entry)).collect();
    environment.extend(image.iter().filter(|entry| !have.contains(&key(entry))).cloned());
}

fn merge_healthcheck(config: &mut Config, image: &RunConfig) {
    match (&mut config.healthcheck, &image.healthcheck) {
        (Some(ours), Some(image)) => {
            if ours.test.is_empty() {
                ours.test.clone_from(&image.test);
            }
            for (ours, image) in [
                (&mut ours.interval_ns, image.interval_ns),
                (&mut ours.timeout_ns, image.timeout_ns),
                (&mut ours.start_period_ns, image.start_period_ns),
                (&mut ours.start_interval_ns, image.start_interval_ns),
                (&mut ours.retries, image.retries),
            ] {
                if *ours == 0 {
                    *ours = image;
                }
            }
        }
        (ours @ None, image) => ours.clone_from(image),
        (Some(_), None) => {}
    }
}

/// Cleans an absolute path as Go's `path.Clean` does: no empty, `.` or `..` components.
pub(crate) fn clean_path(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

/// The words of the process: entry point, then command.
pub(crate) fn words(config: &Config) -> Vec<String> {
    [&config.entrypoint, &config.cmd].into_iter().flatten().flatten().cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    fn check(
        client: (Option<&[&str]>, Option<&[&str]>),
        image: (Option<&[&str]>, Option<&[&str]>),
        want: &[&str],
    ) {
        let config = Config { entrypoint: client.0.map(list), cmd: client.1.map(list), ..Config::default() };
        let image =
            RunConfig { entrypoint: image.0.map(list), cmd: image.1.map(list), ..RunConfig::default() };
        let got = merge(config, &image).map(|config| words(&config)).unwrap_or_default();
        assert_eq!(got, list(want), "{client:?} on {image:?}");
    }

    #[test]
    fn commands_and_entry_points_merge_as_docker_does() {
        let image = (Some(&["/e"][..]), Some(&["c"][..]));
        check((None, None), image, &["/e", "c"]);
        check((None, Some(&["x", "y"])), image, &["/e", "x", "y"]);
        check((Some(&["/n"]), None), image, &["/n"]);
        check((Some(&["/n"]), Some(&["x"])), image, &["/n", "x"]);
        check((Some(&[""]), Some(&["x"])), image, &["x"]);
        check((Some(&[]), None), image, &["c"]);
        check((Some(&[]), Some(&["x"])), image, &["x"]);
        check((None, None), (None, Some(&["sh"])), &["sh"]);
        check((None, None), (None, None), &[]);
    }

    #[test]
    fn environment_of_the_client_comes_first_and_wins() {
        let config = Config { env: list(&["B=2", "C"]), cmd: Some(list(&["x"])), ..Config::default() };
        let image = RunConfig { env: list(&["PATH=/bin", "B=1", "C=3"]), ..RunConfig::default() };
        assert_eq!(merge(config, &image).expect("a command").env, list(&["B=2", "C", "PATH=/bin"]));
    }

    #[test]
    fn relative_working_directories_are_refused_and_others_cleaned() {
        let with =
            |dir: &str| Config { working_dir: dir.into(), cmd: Some(list(&["x"])), ..Config::default() };
        assert!(merge(with("a/b"), &RunConfig::default()).is_err());
        assert_eq!(merge(with("/a//b/../c/"), &RunConfig::default()).expect("absolute").working_dir, "/a/c");
    }

    #[test]
    fn ports_of_both_are_exposed_as_they_were_written() {
        let port = |text: &str| ExposedPort(text.into());
        let config = Config {
            exposed_ports: [port("80"), port("x")].into(),
            cmd: Some(list(&["c"])),
            ..Config::default()
        };
        let keys = ["80/tcp", "nonsense"].map(|key| (key.to_owned(), gantry_model::image::Empty {}));
        let image = RunConfig { exposed_ports: keys.into_iter().collect(), ..RunConfig::default() };
        let merged = merge(config, &image).expect("an image with odd ports runs");
        assert_eq!(merged.exposed_ports, ["80", "80/tcp", "nonsense", "x"].map(port).into());
        assert_eq!(merged.ports().iter().map(ToString::to_string).collect::<Vec<_>>(), ["80/tcp"]);
    }
}
