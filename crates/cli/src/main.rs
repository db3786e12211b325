//! `gantry`: Docker's verbs and flags, and a few of our own, as a client of the Engine API.
//!
//! It knows no image, container or network by itself: whatever it shows, a daemon said, over
//! `gantry-client`. What works without a daemon (`system fsck`, starting one) it leaves to
//! `gantryd`'s own commands. It must start in less than two milliseconds, so it builds nothing at
//! start-up that the one verb does not need.
//!
//! Reading order: [`flags`] (the grammar of the command line), [`commands`] (the table of verbs),
//! [`config`] (the user's settings), [`context`] (which daemon), [`api`] (how it is asked), [`spec`] (flags to bodies), [`show`]
//! (answers to text), [`session`] and [`terminal`] (attached streams), [`verbs`] (one file each),
//! [`failure`] (exit codes).

#![allow(clippy::print_stdout, reason = "standard output is what a command line is for")]

mod api;
mod build_context;
mod commands;
mod config;
mod context;
mod failure;
mod flags;
mod resource;
mod session;
mod show;
mod spec;
mod terminal;
mod tree;
mod verbs;

use std::io::Write as _;

use failure::{Failure, Outcome};
use flags::{Order, help};

fn main() {
    end_quietly_on_a_closed_pipe();
    let words: Vec<String> =
        std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
    let outcome = start(&words);
    // A closed pipe at the other end of our output is the reader's choice, no error of ours.
    let _ = std::io::stdout().flush();
    if let Err(failure) = outcome {
        if !failure.text.is_empty() {
            eprintln!("{failure}");
            if let Some(hint) = failure.hint() {
                eprintln!("{hint}");
            }
        }
        // Threads may still block on standard input, so this must not wait for them.
        std::process::exit(failure.code);
    }
    std::process::exit(0);
}

/// Makes a reader that went away (`gantry ps | head -1`) end this as a signal would have, without a
/// word: Rust's runtime ignores that signal, so that printing panics instead.
fn end_quietly_on_a_closed_pipe() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        let text = info.payload().downcast_ref::<String>().map_or("", String::as_str);
        if text.starts_with("failed printing to std") && text.contains("Broken pipe") {
            std::process::exit(128 + 13);
        }
        report(info);
    }));
}

fn start(words: &[String]) -> Outcome {
    let global = flags::parse(commands::GLOBAL, Order::FlagsFirst, words).map_err(|failure| {
        Failure::new(
            failure.code,
            format!(
                "{}\n\nUsage:  gantry [OPTIONS] COMMAND [ARG...]\n\nRun 'gantry --help' for more information",
                failure.text
            ),
        )
    })?;
    if global.help {
        help::short_is_deprecated(&global);
        print!("{}", help::of_program(terminal::width()));
        return Ok(());
    }
    if global.is("version") {
        println!("Gantry version {}, build {}", env!("CARGO_PKG_VERSION"), verbs::info::BUILD);
        return Ok(());
    }
    let context = context::Context::new(&global)?;
    commands::dispatch(&context, &global.args)
}
