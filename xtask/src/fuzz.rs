//! `cargo xtask fuzz`: random bytes for all that reads what others wrote. The programs are in `fuzz/targets`, what they
//! begin with in `fuzz/seeds`; what they found worth keeping is in `target/fuzz/corpus`, and goes on from there next time.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::workspace;

/// What to feed, and for how long.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// Only this target; without it, each in turn
    pub(crate) target: Option<String>,
    /// How long each target is fed
    #[arg(long, default_value_t = 60)]
    pub(crate) seconds: u32,
}

/// Runs targets; fails at the first that finds something, and says where the input is.
pub(crate) fn run(args: &Args) -> Result<()> {
    if let Some(missing) = missing() {
        bail!("{missing}");
    }
    if read(&["fuzz", "--version"]).is_err() {
        workspace::run(workspace::cargo().args(["install", "--locked", "cargo-fuzz"]))?;
    }
    let all = targets()?;
    if let Some(target) = &args.target
        && !all.contains(target)
    {
        bail!("there is no target {target}; there are {}", all.join(", "));
    }
    for target in all.iter().filter(|name| args.target.as_ref().is_none_or(|wanted| wanted == *name)) {
        feed(target, args.seconds)?;
    }
    Ok(())
}

/// What the machine lacks, if it does: the sanitizers need a nightly compiler.
pub(crate) fn missing() -> Option<String> {
    let found = Command::new("cargo").args(["+nightly", "--version"]).output();
    let found = found.is_ok_and(|output| output.status.success());
    (!found).then(|| "fuzzing needs a nightly toolchain: rustup toolchain install nightly".to_owned())
}

/// Each target's name, sorted.
fn targets() -> Result<Vec<String>> {
    let directory = workspace::root().join("fuzz/targets");
    let mut names = Vec::new();
    for entry in fs::read_dir(&directory).with_context(|| format!("cannot read {}", directory.display()))? {
        let path = entry?.path();
        names.extend(path.file_stem().map(|name| name.to_string_lossy().into_owned()));
    }
    names.sort();
    Ok(names)
}

fn feed(target: &str, seconds: u32) -> Result<()> {
    let fuzz = workspace::root().join("fuzz");
    let built = workspace::target_dir().join("fuzz");
    let (corpus, found) = (built.join("corpus").join(target), built.join("found").join(target));
    for directory in [&corpus, &found] {
        fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
    }
    let mut command = nightly(&["fuzz", "run"]);
    command.arg("--fuzz-dir").arg(&fuzz).arg("--target-dir").arg(&built);
    command.arg(target).arg(&corpus).arg(fuzz.join("seeds").join(target));
    command.args(["--", "-timeout=20", "-rss_limit_mb=2048", "-print_final_stats=1"]);
    command.args([format!("-max_total_time={seconds}"), format!("-artifact_prefix={}/", found.display())]);
    // Threads that are there to the end hold what the sanitizer takes for lost, and SQLite has a table twice.
    command.env("ASAN_OPTIONS", "detect_leaks=0:detect_odr_violation=0");
    workspace::run(&mut command)
        .with_context(|| format!("{target} failed; its input is in {}", found.display()))
}

/// The nightly Cargo: not the one that runs this program, which is told to its children.
fn nightly(arguments: &[&str]) -> Command {
    let mut command = Command::new("cargo");
    command.arg("+nightly").args(arguments).current_dir(workspace::root());
    for variable in ["CARGO", "RUSTC", "RUSTUP_TOOLCHAIN", "RUSTFLAGS"] {
        command.env_remove(variable);
    }
    command
}

fn read(arguments: &[&str]) -> Result<String> {
    workspace::read(&mut nightly(arguments))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_target_has_seeds_and_is_declared() {
        let manifest = fs::read_to_string(workspace::root().join("fuzz/Cargo.toml")).unwrap();
        let targets = targets().unwrap();
        assert!(!targets.is_empty());
        for target in targets {
            assert!(
                manifest.contains(&format!("path = \"targets/{target}.rs\"")),
                "{target} is not declared"
            );
            let seeds = workspace::root().join("fuzz/seeds").join(&target);
            assert!(seeds.read_dir().unwrap().next().is_some(), "{target} has no seeds");
        }
    }
}
