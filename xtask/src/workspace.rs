//! Where things are, and how a command is run so that a reader of the log sees it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, bail};

/// The target that every binary is built for; see `.cargo/config.toml`.
pub(crate) const TARGET: &str = "x86_64-unknown-linux-gnu";

/// The programs that make up Gantry, each with the package that it comes from.
pub(crate) const BINARIES: [(&str, &str); 5] = [
    ("gantryd", "gantry-daemon"),
    ("gantry", "gantry-cli"),
    ("gantry-shim", "gantry-runtime"),
    ("gantry-runtime", "gantry-runtime"),
    ("gantry-init", "gantry-runtime"),
];

/// The checkout's root.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the checkout")
}

/// Cargo's target directory.
pub(crate) fn target_dir() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// Where Cargo puts the binaries of a profile.
pub(crate) fn binary_dir(profile: Profile) -> PathBuf {
    target_dir().join(TARGET).join(profile.directory())
}

/// How the binaries are built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Profile {
    /// Quick to build, with checks.
    Dev,
    /// As shipped.
    Release,
}

impl Profile {
    fn directory(self) -> &'static str {
        match self {
            Self::Dev => "debug",
            Self::Release => "release",
        }
    }
}

/// Builds all programs and returns the directory that holds them.
pub(crate) fn build(profile: Profile) -> Result<PathBuf> {
    let mut command = cargo();
    command.args(["build", "--bins"]);
    // Three of the programs come from one package, which is named once.
    for package in BTreeSet::from(BINARIES.map(|(_, package)| package)) {
        command.args(["--package", package]);
    }
    if profile == Profile::Release {
        command.arg("--release");
    }
    run(&mut command)?;
    Ok(binary_dir(profile))
}

/// Builds all programs with the places at which tests crash them, apart from those that are shipped, and returns the
/// directory that holds them.
pub(crate) fn build_with_failpoints() -> Result<PathBuf> {
    let directory = target_dir().join("failpoints");
    let mut command = cargo();
    command.args(["build", "--bins", "--features", "gantry-daemon/failpoints"]);
    for (_, package) in BINARIES {
        command.args(["--package", package]);
    }
    run(command.env("CARGO_TARGET_DIR", &directory))?;
    Ok(directory.join(TARGET).join(Profile::Dev.directory()))
}

/// The Cargo that runs this program.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}

/// Prints a command, runs it with our own input and output, and fails where it fails.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    eprintln!("$ {}", shown(command));
    let status = command.status().with_context(|| format!("cannot run {}", shown(command)))?;
    if !status.success() {
        bail!("{} ended with {status}", shown(command));
    }
    Ok(())
}

/// Runs a command quietly and returns its trimmed standard output; fails with what it said.
pub(crate) fn read(command: &mut Command) -> Result<String> {
    let output = output(command)?;
    if !output.status.success() {
        bail!(
            "{} ended with {}: {}",
            shown(command),
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Runs a command quietly and returns all that it said, however it ended.
pub(crate) fn output(command: &mut Command) -> Result<Output> {
    command.stdin(Stdio::null()).output().with_context(|| format!("cannot run {}", shown(command)))
}

fn shown(command: &Command) -> String {
    let mut text = command.get_program().to_string_lossy().into_owned();
    for argument in command.get_args() {
        text.push(' ');
        text.push_str(&argument.to_string_lossy());
    }
    text
}
