//! Instructions that change nothing but the configuration.

use gantry_model::image::{Empty, Healthcheck};

use super::{Lowered, Lowering, variables};
use crate::dockerfile::instruction::{Command, Instruction, Pair};
use crate::dockerfile::{healthcheck, ports};
use crate::error::BuildError;

impl Lowering<'_> {
    pub(super) fn configure(&mut self, instruction: &Instruction) -> Result<Lowered, BuildError> {
        let text = match instruction {
            Instruction::Env(pairs) => self.env(pairs)?,
            Instruction::Label(pairs) => self.label(pairs)?,
            Instruction::Arg(args) => self.arg(args)?,
            Instruction::Cmd(command) => {
                let words = self.words(command);
                let stage = self.current();
                stage.cmd_set |= !command.is_empty();
                stage.run_config().cmd = none_if_empty(&words);
                stage.nop(&format!(" CMD {}", quoted(&words)))
            }
            Instruction::Entrypoint(command) => {
                let words = if command.is_empty() { Vec::new() } else { self.words(command) };
                let stage = self.current();
                if !stage.cmd_set {
                    stage.run_config().cmd = None;
                }
                stage.run_config().entrypoint = none_if_empty(&words);
                stage.nop(&format!(" ENTRYPOINT {}", quoted(&words)))
            }
            Instruction::Expose(specifications) => self.expose(specifications)?,
            Instruction::Healthcheck(check) => {
                let (text, note) = self.healthcheck(check);
                return Ok(Lowered { note, ..Lowered::metadata(text) });
            }
            Instruction::Maintainer(author) => {
                let stage = self.current();
                stage.config.author.clone_from(author);
                stage.nop(&format!(" MAINTAINER {author}"))
            }
            Instruction::Onbuild(trigger) => {
                let stage = self.current();
                let text = stage.nop(&format!(" ONBUILD {trigger}"));
                stage.run_config().on_build.push(trigger.clone());
                text
            }
            Instruction::Shell(shell) => {
                let stage = self.current();
                stage.run_config().shell.clone_from(shell);
                stage.nop(&format!(" SHELL [{}]", shell.join(" ")))
            }
            Instruction::StopSignal(signal) => {
                let signal = self.word(signal)?;
                if !is_signal(&signal) {
                    return Err(BuildError::Invalid(format!("invalid signal: {signal}")));
                }
                let stage = self.current();
                stage.run_config().stop_signal.clone_from(&signal);
                stage.nop(&format!(" STOPSIGNAL {signal}"))
            }
            Instruction::User(user) => {
                let user = self.word(user)?;
                let stage = self.current();
                stage.run_config().user.clone_from(&user);
                stage.nop(&format!(" USER {user}"))
            }
            Instruction::Volume(paths) => {
                let paths =
                    paths.iter().map(|path| self.word(path)).collect::<Result<Vec<String>, BuildError>>()?;
                if paths.iter().any(|path| path.trim().is_empty()) {
                    return Err(BuildError::Invalid("VOLUME specified can not be an empty string".into()));
                }
                let stage = self.current();
                stage.run_config().volumes.extend(paths.iter().map(|path| (path.clone(), Empty {})));
                stage.nop(&format!(" VOLUME [{}]", paths.join(" ")))
            }
            Instruction::Run(_) | Instruction::Copy(_) | Instruction::Workdir(_) => {
                unreachable!("the caller lowers what makes vertices")
            }
        };
        Ok(Lowered::metadata(text))
    }

    /// The words of a command; those of the shell form after the shell's.
    fn words(&self, command: &Command) -> Vec<String> {
        match command {
            Command::Exec(words) => words.clone(),
            Command::Shell(text) => {
                let stage = self.stages.last().expect("the parser refuses instructions before FROM");
                let text = (!text.is_empty()).then(|| text.clone());
                stage.shell().into_iter().chain(text).collect()
            }
        }
    }

    fn pairs(&self, pairs: &[Pair]) -> Result<Vec<Pair>, BuildError> {
        pairs.iter().map(|(key, value)| Ok((self.word(key)?, self.word(value)?))).collect()
    }

    fn env(&mut self, pairs: &[Pair]) -> Result<String, BuildError> {
        // All are expanded with what was before the instruction.
        let pairs = self.pairs(pairs)?;
        let stage = self.current();
        let mut text = " ENV".to_owned();
        for (key, value) in pairs {
            variables::set(&mut stage.run_config().env, &key, &value);
            text = format!("{text} {key}={value}");
        }
        Ok(stage.nop(&text))
    }

    fn label(&mut self, pairs: &[Pair]) -> Result<String, BuildError> {
        let pairs = self.pairs(pairs)?;
        let stage = self.current();
        let mut text = " LABEL".to_owned();
        for (key, value) in pairs {
            text = format!("{text} {key}={value}");
            stage.run_config().labels.insert(key, value);
        }
        Ok(stage.nop(&text))
    }

    fn arg(&mut self, args: &[(String, Option<String>)]) -> Result<String, BuildError> {
        let mut text = " ARG".to_owned();
        for (name, default) in args {
            let name = self.word(name)?;
            let default = default.as_deref().map(|default| self.word(default)).transpose()?;
            text = match &default {
                Some(default) => format!("{text} {name}={default}"),
                None => format!("{text} {name}"),
            };
            let value = self.arguments.declare(&name, default);
            self.current().args.insert(name, value);
        }
        Ok(self.current().nop(&text))
    }

    fn expose(&mut self, specifications: &[String]) -> Result<String, BuildError> {
        let mut words = Vec::new();
        for specification in specifications {
            words.extend(self.expand(|expander| expander.words(specification))?);
        }
        let stage = self.current();
        for word in &words {
            ports::add_ports(word, &mut stage.run_config().exposed_ports).map_err(BuildError::Invalid)?;
        }
        Ok(stage.nop(&format!(" EXPOSE {}", words.join(" "))))
    }

    /// The history's text, and what is said of a check that was there before. As in Docker, what the new one
    /// leaves unset stays as it was.
    fn healthcheck(&mut self, check: &Healthcheck) -> (String, Option<String>) {
        let stage = self.current();
        let earlier = stage.run_config().healthcheck.take();
        let note = earlier.as_ref().filter(|earlier| {
            let test = earlier.test.first();
            test.is_some_and(|kind| kind != "NONE")
        });
        let note = note
            .map(|earlier| format!("Note: overriding previous HEALTHCHECK: [{}]", earlier.test.join(" ")));
        let earlier = earlier.unwrap_or_default();
        let or = |new: i64, old: i64| if new == 0 { old } else { new };
        stage.run_config().healthcheck = Some(Healthcheck {
            test: check.test.clone(),
            interval_ns: or(check.interval_ns, earlier.interval_ns),
            timeout_ns: or(check.timeout_ns, earlier.timeout_ns),
            start_period_ns: or(check.start_period_ns, earlier.start_period_ns),
            start_interval_ns: or(check.start_interval_ns, earlier.start_interval_ns),
            retries: or(check.retries, earlier.retries),
        });
        (stage.nop(&format!(" HEALTHCHECK {}", healthcheck::print_healthcheck(check))), note)
    }
}

/// An empty list is as good as none: images do not tell them apart.
fn none_if_empty(words: &[String]) -> Option<Vec<String>> {
    (!words.is_empty()).then(|| words.to_vec())
}

/// Go's `%q` of a list of strings.
fn quoted(words: &[String]) -> String {
    let words: Vec<String> = words.iter().map(|word| go_quoted(word)).collect();
    format!("[{}]", words.join(" "))
}

/// Go's `%q`.
fn go_quoted(text: &str) -> String {
    let mut out = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\x07' => out.push_str("\\a"),
            '\x08' => out.push_str("\\b"),
            '\x0b' => out.push_str("\\v"),
            '\x0c' => out.push_str("\\f"),
            c if c < ' ' || c == '\x7f' => out.push_str(&format!("\\x{:02x}", u32::from(c))),
            c if c.is_control() => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

fn is_signal(text: &str) -> bool {
    const NAMES: [&str; 33] = [
        "ABRT", "ALRM", "BUS", "CHLD", "CLD", "CONT", "FPE", "HUP", "ILL", "INT", "IO", "IOT", "KILL",
        "PIPE", "POLL", "PROF", "PWR", "QUIT", "SEGV", "STKFLT", "STOP", "SYS", "TERM", "TRAP", "TSTP",
        "TTIN", "TTOU", "URG", "USR1", "USR2", "VTALRM", "WINCH", "XCPU",
    ];
    // Docker takes any number but 0 here; what cannot be sent is seen when a container stops.
    if let Ok(number) = text.parse::<i64>() {
        return number != 0;
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let real_time = |prefix: &str, most: u32| {
        name.strip_prefix(prefix).is_some_and(|rest| {
            rest.is_empty() || rest[1..].parse::<u32>().is_ok_and(|offset| (1..=most).contains(&offset))
        })
    };
    NAMES.contains(&name) || name == "XFSZ" || real_time("RTMIN", 15) || real_time("RTMAX", 14)
}
