//! The only automation: what a developer types is what CI runs.
//!
//! Reading order: [`workspace`] (where things are, how to run a command), [`host`] (what the
//! machine has, and installing what it lacks), then a file per verb.

use anyhow::Result;
use clap::{Parser, Subcommand};

mod bench;
mod busybox;
mod ci;
mod compare;
mod dist;
mod docker_py;
mod fuzz;
mod host;
mod quickstart;
mod test;
mod tidy;
mod vm;
mod workspace;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Gantry's automation")]
struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Install what is missing, build, make images, run a container, fetch a page from it, clean up
    Quickstart,
    /// Run the unit, integration and end-to-end tests
    Test(test::Args),
    /// Run the end-to-end tests alone
    E2e(test::E2eArgs),
    /// Run the end-to-end tests in a virtual machine with Debian's kernel and cgroup v2
    Vm(vm::Args),
    /// Feed random bytes to what reads other people's
    Fuzz(fuzz::Args),
    /// Measure Gantry beside Docker, interleaved, and print the ratios
    Bench(bench::Args),
    /// Build the release binaries into target/dist
    Dist,
    /// Check the rules that the compiler does not: crate edges, file lengths, names
    Tidy,
    /// Everything that CI runs: tidy, fmt, clippy, test
    Ci,
}

fn main() -> Result<()> {
    match Args::parse().verb {
        Verb::Quickstart => quickstart::run(),
        Verb::Test(args) => test::run(&args),
        Verb::E2e(args) => test::e2e(&args),
        Verb::Vm(args) => vm::run_alone(&args),
        Verb::Fuzz(args) => fuzz::run(&args),
        Verb::Bench(args) => bench::run(&args),
        Verb::Dist => dist::run().map(|_| ()),
        Verb::Tidy => tidy::run(),
        Verb::Ci => ci::all(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_holds_together() {
        <Args as clap::CommandFactory>::command().debug_assert();
    }
}
