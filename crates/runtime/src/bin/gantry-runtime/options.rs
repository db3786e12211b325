//! The command line, in the style of runc's: `-flag`, `--flag`, `--flag value`, `--flag=value`.

use std::path::PathBuf;

/// Options before the command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Globals {
    pub(crate) root: PathBuf,
    pub(crate) log: Option<PathBuf>,
    pub(crate) log_json: bool,
}

impl Default for Globals {
    fn default() -> Self {
        Self { root: "/run/gantry-runtime".into(), log: None, log_json: false }
    }
}

/// Options and arguments of a command.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Options {
    flags: Vec<String>,
    values: Vec<(String, String)>,
    pub(crate) arguments: Vec<String>,
}

/// Splits a command line into global options, command, and the rest.
pub(crate) fn globals(arguments: &[String]) -> Result<(Globals, String, Vec<String>), String> {
    let mut globals = Globals::default();
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        let Some(option) = argument.strip_prefix("--").or_else(|| argument.strip_prefix('-')) else {
            return Ok((globals, argument.clone(), rest.cloned().collect()));
        };
        let (name, given) = split(option);
        let mut value = || {
            let value = given.clone().or_else(|| rest.next().cloned());
            value.ok_or_else(|| format!("flag needs an argument: --{name}"))
        };
        match name {
            "root" => globals.root = value()?.into(),
            "log" => globals.log = Some(value()?.into()),
            "log-format" => {
                globals.log_json = match value()?.as_str() {
                    "json" => true,
                    "text" => false,
                    other => return Err(format!("invalid log-format: {other}")),
                }
            }
            // Paths of tools that we do not call.
            "criu" => drop(value()?),
            "rootless" if given.is_none() => drop(value()?),
            "rootless" | "debug" => {}
            "systemd-cgroup" if given.as_deref() == Some("false") => {}
            "systemd-cgroup" => {
                return Err("--systemd-cgroup is not supported: cgroups are made directly. \
                    Configure the caller to use the cgroupfs driver"
                    .into());
            }
            "version" | "v" => return Ok((globals, "version".into(), Vec::new())),
            "help" | "h" => return Ok((globals, "help".into(), Vec::new())),
            other => return Err(format!("flag provided but not defined: --{other}")),
        }
    }
    Ok((globals, "help".into(), Vec::new()))
}

fn split(option: &str) -> (&str, Option<String>) {
    match option.split_once('=') {
        Some((name, value)) => (name, Some(value.to_owned())),
        None => (option, None),
    }
}

impl Options {
    /// Parses what follows the command. Options end at the first argument or at `--`.
    pub(crate) fn parse(arguments: &[String], flags: &[&str], values: &[&str]) -> Result<Self, String> {
        let mut parsed = Self::default();
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            if argument == "--" {
                parsed.arguments.extend(rest.cloned());
                break;
            }
            let option = argument.strip_prefix("--").or_else(|| argument.strip_prefix('-'));
            let Some(option) = option.filter(|option| !option.is_empty()) else {
                parsed.arguments.push(argument.clone());
                // `delete ID --force` and `kill ID KILL --all` are in use; a command's own options are not ours.
                if values.contains(&"process") && parsed.arguments.len() == 1 {
                    parsed.arguments.extend(rest.cloned());
                    break;
                }
                continue;
            };
            let (name, given) = split(option);
            if flags.contains(&name) {
                if given.as_deref() != Some("false") {
                    parsed.flags.push(name.to_owned());
                }
            } else if values.contains(&name) {
                let value = given.or_else(|| rest.next().cloned());
                let value = value.ok_or_else(|| format!("flag needs an argument: --{name}"))?;
                parsed.values.push((name.to_owned(), value));
            } else {
                return Err(format!("flag provided but not defined: --{name}"));
            }
        }
        Ok(parsed)
    }

    /// Whether one of the names was given.
    pub(crate) fn has(&self, names: &[&str]) -> bool {
        self.flags.iter().any(|flag| names.contains(&flag.as_str()))
    }

    /// The last value of one of the names.
    pub(crate) fn value(&self, names: &[&str]) -> Option<&str> {
        let mut found = self.values.iter().rev().filter(|(name, _)| names.contains(&name.as_str()));
        found.next().map(|(_, value)| value.as_str())
    }

    /// Every value of one of the names.
    pub(crate) fn all<'a>(&'a self, names: &'a [&str]) -> impl Iterator<Item = &'a str> {
        self.values.iter().filter(|(name, _)| names.contains(&name.as_str())).map(|(_, value)| value.as_str())
    }

    /// The first argument.
    pub(crate) fn id(&self) -> Result<&str, String> {
        self.arguments.first().map(String::as_str).ok_or_else(|| "a container ID is needed".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn a_line_as_containerd_writes_it() {
        let line =
            words("--root /r --log /l --log-format json create --bundle /b --pid-file /p --no-pivot ID");
        let (globals, command, rest) = globals(&line).expect("parses");
        assert_eq!((globals.root, globals.log, globals.log_json), ("/r".into(), Some("/l".into()), true));
        assert_eq!(command, "create");
        let options = Options::parse(&rest, &["no-pivot"], &["bundle", "pid-file"]).expect("parses");
        assert_eq!((options.value(&["bundle", "b"]), options.id()), (Some("/b"), Ok("ID")));
        assert!(options.has(&["no-pivot"]));
    }

    #[test]
    fn options_of_the_command_run_are_its_own() {
        let options = Options::parse(&words("-d --env=A=b ID ls -l --all"), &["d"], &["env", "process"]);
        let options = options.expect("parses");
        assert_eq!(options.arguments, ["ID", "ls", "-l", "--all"]);
        assert_eq!(options.all(&["env"]).collect::<Vec<_>>(), ["A=b"]);
    }

    #[test]
    fn what_is_unknown_is_refused() {
        assert!(Options::parse(&words("--odd"), &[], &[]).is_err());
        assert!(globals(&words("--systemd-cgroup create")).is_err_and(|text| text.contains("cgroupfs")));
        assert!(globals(&words("--log-format=xml state")).is_err());
    }
}
