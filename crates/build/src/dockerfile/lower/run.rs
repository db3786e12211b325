//! `RUN`.

use super::{CreatedBy, Lowered, Lowering, variables};
use crate::dockerfile::instruction::{Command, Run};
use crate::error::BuildError;
use crate::graph::{Edge, ExecOp, Meta, Mount, MountKind, Op, Vertex};
use crate::request::NetworkMode;

impl Lowering<'_> {
    pub(super) fn run(&mut self, run: &Run, text: &str) -> Result<Lowered, BuildError> {
        if let Some(flag) = run.flags.first() {
            return Err(BuildError::Invalid(format!(
                "the --{flag} option requires BuildKit. Refer to https://docs.docker.com/go/buildkit/ to learn how to build images with BuildKit enabled"
            )));
        }
        let args = self.arguments_of(run)?;
        if args.is_empty() {
            return Err(BuildError::Invalid("no command specified".into()));
        }
        let stage = self.stages.last().expect("the parser refuses instructions before FROM");
        let config = &stage.config.config;
        let mut env = config.env.clone();
        let mut prefix = Vec::new();
        for (name, value) in &stage.args {
            let Some(value) = value else { continue };
            if variables::lookup(&config.env, &Default::default(), name).is_some() {
                continue;
            }
            env.push(format!("{name}={value}"));
            prefix.push(format!("{name}={value}"));
        }
        if variables::lookup(&env, &Default::default(), variables::EPOCH_ARG).is_none() {
            env.push(format!("{}={}", variables::EPOCH_ARG, stage.epoch.secs()));
        }
        let proxy_env = self.arguments.proxies(&stage.args);
        let prefix = match prefix.len() {
            0 => String::new(),
            count => format!("|{count} {} ", prefix.join(" ")),
        };
        let created_by = CreatedBy::Text(format!("{prefix}{}", args.join(" ")));
        let options = &self.options.run;
        let mounts = vec![Mount {
            input: stage.tree.map(|_| 0),
            selector: String::new(),
            dest: "/".into(),
            output: Some(0),
            read_only: false,
            kind: MountKind::Bind,
        }];
        let op = Op::Exec(ExecOp {
            meta: Meta {
                args,
                env,
                cwd: if config.working_dir.is_empty() { "/".into() } else { config.working_dir.clone() },
                user: config.user.clone(),
                extra_hosts: options.extra_hosts.clone(),
                proxy_env,
            },
            mounts,
            network: match &options.network {
                NetworkMode::Default => "default".into(),
                NetworkMode::Host => "host".into(),
                NetworkMode::None => "none".into(),
                NetworkMode::Named(name) => format!("name:{name}"),
            },
            limits: limits(options),
            epoch_secs: stage.epoch.secs(),
        });
        let inputs = stage.tree.into_iter().collect();
        let vertex = self.graph.add(Vertex { op, inputs, name: text.into() });
        let edge = Edge { vertex, output: 0 };
        self.current().tree = Some(edge);
        Ok(Lowered { solve: Some(edge), created_by: Some(created_by), ..Lowered::nothing() })
    }

    /// The words that are executed. A here-document goes after the shell's text as the shell itself reads
    /// it; one that is the whole command is the text.
    fn arguments_of(&self, run: &Run) -> Result<Vec<String>, BuildError> {
        let stage = self.stages.last().expect("the parser refuses instructions before FROM");
        let text = match &run.command {
            Command::Exec(words) => return Ok(words.clone()),
            Command::Shell(text) if text.is_empty() => return Ok(stage.shell()),
            Command::Shell(text) => text,
        };
        let whole = text.starts_with("<<") && !text.contains(|c: char| c.is_whitespace());
        let script = match run.heredocs.as_slice() {
            [document] if whole => {
                if document.content.starts_with("#!") {
                    return Err(BuildError::Unsupported(
                        "a here-document that begins with #! is not supported yet: name its interpreter in SHELL, or COPY it as a file".into(),
                    ));
                }
                document.content.clone()
            }
            documents => documents.iter().fold(text.clone(), |script, document| {
                format!("{script}\n{}{}", document.content, document.name)
            }),
        };
        Ok(stage.shell().into_iter().chain([script]).collect())
    }
}

/// The limits that a step may see, in one text for its key; empty where there are none.
fn limits(options: &crate::request::RunOptions) -> String {
    let numbers = [
        ("shm", i128::from(options.shm_size_bytes)),
        ("memory", i128::from(options.memory_bytes)),
        ("swap", i128::from(options.memory_swap_bytes)),
        ("shares", i128::from(options.cpu_shares)),
        ("quota", i128::from(options.cpu_quota_us)),
        ("period", i128::from(options.cpu_period_us)),
    ];
    let mut parts: Vec<String> = numbers
        .iter()
        .filter(|(_, number)| *number != 0)
        .map(|(name, number)| format!("{name}={number}"))
        .collect();
    for (name, set) in [("cpus", &options.cpuset_cpus), ("mems", &options.cpuset_mems)] {
        if !set.is_empty() {
            parts.push(format!("{name}={set}"));
        }
    }
    parts.extend(options.ulimits.iter().map(|limit| format!("{}={}:{}", limit.name, limit.soft, limit.hard)));
    parts.join(",")
}
