//! `--help`: the usage line, what the verb does, its other names, its flags in two columns.

use std::fmt::Write as _;

use super::{Flag, Kind, Parsed};
use crate::commands::{self, Command, Group};

/// The word that stands for a flag's value.
fn value_name(flag: &Flag) -> &'static str {
    match flag.kind {
        Kind::Bool => "",
        Kind::Text => "string",
        Kind::List
        | Kind::Stream
        | Kind::Env
        | Kind::Label
        | Kind::Address
        | Kind::Domain
        | Kind::HostEntry
        | Kind::Link
        | Kind::ByteRate
        | Kind::IoRate
        | Kind::DeviceWeight
        | Kind::DeviceRule
        | Kind::Tag => "list",
        Kind::Gpus => "gpu",
        Kind::Strings => "strings",
        Kind::Map | Kind::Sysctl => "map",
        Kind::Filter => "filter",
        Kind::Int => "int",
        Kind::Uint16 => "uint16",
        Kind::Bytes | Kind::SwapBytes => "bytes",
        Kind::Duration => "duration",
        Kind::Cpus => "decimal",
        Kind::Ulimit => "ulimit",
        Kind::Mount => "mount",
        Kind::Network => "network",
    }
}

/// What the help adds in brackets.
fn default_note(flag: &Flag) -> String {
    match (flag.kind, flag.default) {
        (_, "") => String::new(),
        (Kind::Text, default) => format!(" (default {default:?})"),
        (_, default) => format!(" (default {default})"),
    }
}

/// The two columns of a table of flags, wrapped to the terminal.
pub(crate) fn columns(flags: &[Flag], width: usize) -> String {
    let mut rows: Vec<(String, String)> = flags
        .iter()
        .filter(|flag| !flag.help.is_empty())
        .map(|flag| {
            let mut left = match flag.short {
                '\0' => format!("      --{}", flag.long),
                short => format!("  -{short}, --{}", flag.long),
            };
            let name = value_name(flag);
            if !name.is_empty() {
                left = format!("{left} {name}");
            }
            (left, format!("{}{}", flag.help, default_note(flag)))
        })
        .collect();
    rows.sort_by(|a, b| a.0[6..].cmp(&b.0[6..]));
    let indent = rows.iter().map(|(left, _)| left.len()).max().unwrap_or(0) + 3;
    let mut out = String::new();
    for (left, right) in rows {
        let mut line = format!("{left:indent$}");
        let mut used = indent;
        for (at, word) in right.split(' ').enumerate() {
            if at > 0 && used + 1 + word.chars().count() > width.max(indent + 24) {
                let _ = write!(line, "\n{:indent$}{word}", "");
                used = indent + word.chars().count();
            } else {
                let space = if at > 0 { " " } else { "" };
                let _ = write!(line, "{space}{word}");
                used += space.len() + word.chars().count();
            }
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

/// Says that `-h` is the old form, as Docker does, if that was given.
pub(crate) fn short_is_deprecated(parsed: &Parsed) {
    if parsed.short_help {
        eprintln!("Flag shorthand -h has been deprecated, use --help");
    }
}

/// The help of one verb.
pub(crate) fn of_command(command: &Command, path: &str, width: usize) -> String {
    let mut out = format!("Usage:  gantry {path}{}\n\n{}\n", tail(command), command.about);
    if !command.aliases.is_empty() {
        let _ = write!(out, "\nAliases:\n  {}\n", command.aliases);
    }
    if command.flags.iter().any(|flag| !flag.help.is_empty()) {
        let _ = write!(out, "\nOptions:\n{}", columns(command.flags, width));
    }
    out
}

/// What follows the verb in its usage line.
pub(crate) fn tail(command: &Command) -> String {
    let options = if command.flags.iter().any(|flag| !flag.help.is_empty()) { " [OPTIONS]" } else { "" };
    let args = if command.usage.is_empty() { String::new() } else { format!(" {}", command.usage) };
    format!("{options}{args}")
}

/// The help of a management group such as `gantry container`.
pub(crate) fn of_group(group: &Group) -> String {
    let mut out = format!("Usage:  gantry {} COMMAND\n\n{}\n\nCommands:\n", group.name, group.about);
    for (name, command) in group.commands {
        let _ = writeln!(out, "  {name:<11} {}", command.about);
    }
    let _ = write!(out, "\nRun 'gantry {} COMMAND --help' for more information on a command.\n", group.name);
    out
}

/// The help of the program.
pub(crate) fn of_program(width: usize) -> String {
    let mut out = String::from(
        "Usage:  gantry [OPTIONS] COMMAND\n\nBuilds, ships and runs containers\n\nManagement Commands:\n",
    );
    for group in commands::GROUPS {
        let _ = writeln!(out, "  {:<11} {}", group.name, group.about);
    }
    out.push_str("\nCommands:\n");
    for (name, command) in commands::TOP {
        let _ = writeln!(out, "  {name:<11} {}", command.about);
    }
    let _ = write!(out, "\nGlobal Options:\n{}", columns(commands::GLOBAL, width));
    out.push_str("\nRun 'gantry COMMAND --help' for more information on a command.\n");
    out
}
