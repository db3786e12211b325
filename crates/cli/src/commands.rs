//! The table of verbs: where each stands in Docker's tree, its flags, its arguments, and the
//! function that does it. Nothing here is built at run time; finding a verb is a walk over it.

use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::flags::{Flag, Kind, Order, Parsed, both, help, long, parse};
use crate::{terminal, verbs};

/// How many arguments a verb takes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Args {
    /// None at all.
    None,
    /// So many.
    Exactly(usize),
    /// So many or more.
    AtLeast(usize),
    /// So many or fewer.
    AtMost(usize),
    /// From the one to the other.
    Between(usize, usize),
}

/// A verb.
pub(crate) struct Command {
    /// The arguments in its usage line.
    pub(crate) usage: &'static str,
    /// One line for lists and its help.
    pub(crate) about: &'static str,
    /// The ways to call it, where there are several.
    pub(crate) aliases: &'static str,
    /// Its flags.
    pub(crate) flags: &'static [Flag],
    /// Whether flags may follow arguments.
    pub(crate) order: Order,
    /// How many arguments it takes.
    pub(crate) args: Args,
    /// Does it.
    pub(crate) run: fn(&Context, &Parsed) -> Outcome,
}

/// A management command: `gantry container …`.
pub(crate) struct Group {
    /// The first word.
    pub(crate) name: &'static str,
    /// One line.
    pub(crate) about: &'static str,
    /// Its verbs, sorted by name.
    pub(crate) commands: &'static [(&'static str, &'static Command)],
    /// Other names of its verbs.
    pub(crate) aliases: &'static [(&'static str, &'static str)],
}

/// The flags before the verb.
pub(crate) static GLOBAL: &[Flag] = &[
    long("config", Kind::Text, "Location of client config files (default ~/.docker)"),
    both('c', "context", Kind::Text, "Name of the context to use to connect to the daemon"),
    both('D', "debug", Kind::Bool, "Enable debug mode"),
    both('H', "host", Kind::List, "Daemon socket to connect to"),
    both('l', "log-level", Kind::Text, "Set the logging level (debug, info, warn, error, fatal)").or("info"),
    long("tls", Kind::Bool, ""),
    long("tlscacert", Kind::Text, ""),
    long("tlscert", Kind::Text, ""),
    long("tlskey", Kind::Text, ""),
    long("tlsverify", Kind::Bool, ""),
    both('v', "version", Kind::Bool, "Print version information and quit"),
];

/// Two tables of flags as one.
pub(crate) const fn join<const A: usize, const B: usize, const N: usize>(
    first: [Flag; A],
    second: [Flag; B],
) -> [Flag; N] {
    assert!(A + B == N, "the length of the result is the sum of both");
    let mut all = [long("", Kind::Bool, ""); N];
    let mut at = 0;
    while at < N {
        all[at] = if at < A { first[at] } else { second[at - A] };
        at += 1;
    }
    all
}

use verbs::{
    archive, attach, bootstrap, build, completion, copy, disk, events, exec, image, info, inspect, lifecycle,
    list, logs, network, prune, run, start, stats, system, volume,
};

/// The verbs of the first level, sorted by name.
pub(crate) static TOP: &[(&str, &Command)] = &[
    ("attach", &attach::ATTACH),
    ("build", &build::BUILD),
    ("commit", &archive::COMMIT),
    ("completion", &completion::COMPLETION),
    ("cp", &copy::CP),
    ("create", &run::CREATE),
    ("diff", &archive::DIFF),
    ("events", &events::EVENTS),
    ("exec", &exec::EXEC),
    ("export", &archive::EXPORT),
    ("history", &image::HISTORY),
    ("images", &image::IMAGES),
    ("import", &image::IMPORT),
    ("info", &info::INFO),
    ("inspect", &inspect::INSPECT),
    ("kill", &lifecycle::KILL),
    ("load", &archive::LOAD),
    ("logs", &logs::LOGS),
    ("pause", &lifecycle::PAUSE),
    ("port", &list::PORT),
    ("ps", &list::PS),
    ("rename", &lifecycle::RENAME),
    ("restart", &lifecycle::RESTART),
    ("rm", &lifecycle::RM),
    ("rmi", &image::RMI),
    ("run", &run::RUN),
    ("save", &archive::SAVE),
    ("start", &start::START),
    ("stats", &stats::STATS),
    ("stop", &lifecycle::STOP),
    ("tag", &image::TAG),
    ("top", &list::TOP_VERB),
    ("unpause", &lifecycle::UNPAUSE),
    ("update", &lifecycle::UPDATE),
    ("version", &info::VERSION),
    ("wait", &lifecycle::WAIT),
];

/// The management commands, sorted by name.
pub(crate) static GROUPS: &[Group] = &[
    Group {
        name: "builder",
        about: "Manage builds",
        commands: &[("build", &build::BUILD), ("prune", &prune::BUILD_CACHE)],
        aliases: &[],
    },
    Group {
        name: "container",
        about: "Manage containers",
        commands: &[
            ("attach", &attach::ATTACH),
            ("commit", &archive::COMMIT),
            ("cp", &copy::CP),
            ("create", &run::CREATE),
            ("diff", &archive::DIFF),
            ("exec", &exec::EXEC),
            ("export", &archive::EXPORT),
            ("inspect", &inspect::CONTAINER_INSPECT),
            ("kill", &lifecycle::KILL),
            ("logs", &logs::LOGS),
            ("ls", &list::PS),
            ("pause", &lifecycle::PAUSE),
            ("port", &list::PORT),
            ("prune", &prune::CONTAINERS),
            ("rename", &lifecycle::RENAME),
            ("restart", &lifecycle::RESTART),
            ("rm", &lifecycle::RM),
            ("run", &run::RUN),
            ("start", &start::START),
            ("stats", &stats::STATS),
            ("stop", &lifecycle::STOP),
            ("top", &list::TOP_VERB),
            ("unpause", &lifecycle::UNPAUSE),
            ("update", &lifecycle::UPDATE),
            ("wait", &lifecycle::WAIT),
        ],
        aliases: &[("ps", "ls"), ("list", "ls"), ("remove", "rm")],
    },
    Group {
        name: "image",
        about: "Manage images",
        commands: &[
            ("bootstrap", &bootstrap::BOOTSTRAP),
            ("build", &build::BUILD),
            ("history", &image::HISTORY),
            ("import", &image::IMPORT),
            ("inspect", &inspect::IMAGE_INSPECT),
            ("load", &archive::LOAD),
            ("ls", &image::IMAGES),
            ("prune", &prune::IMAGES),
            ("rm", &image::RMI),
            ("save", &archive::SAVE),
            ("tag", &image::TAG),
        ],
        aliases: &[("list", "ls"), ("remove", "rm")],
    },
    Group {
        name: "network",
        about: "Manage networks",
        commands: &[
            ("inspect", &inspect::NETWORK_INSPECT),
            ("ls", &network::LS),
            ("prune", &prune::NETWORKS),
            ("rm", &network::RM),
        ],
        aliases: &[("list", "ls"), ("remove", "rm")],
    },
    Group {
        name: "system",
        about: "Manage the system",
        commands: &[
            ("df", &disk::DF),
            ("events", &events::EVENTS),
            ("fsck", &system::FSCK),
            ("info", &info::INFO),
            ("prune", &prune::SYSTEM),
            ("start", &system::START_DAEMON),
        ],
        aliases: &[],
    },
    Group {
        name: "volume",
        about: "Manage volumes",
        commands: &[
            ("create", &volume::CREATE),
            ("inspect", &inspect::VOLUME_INSPECT),
            ("ls", &volume::LS),
            ("prune", &prune::VOLUMES),
            ("rm", &volume::RM),
            ("update", &volume::UPDATE),
        ],
        aliases: &[("list", "ls"), ("remove", "rm")],
    },
];

/// Runs what was typed after the program's own name and flags.
///
/// # Errors
/// What the verb fails with, or that there is no such verb.
pub(crate) fn dispatch(context: &Context, words: &[String]) -> Outcome {
    let Some(first) = words.first() else {
        print!("{}", help::of_program(terminal::width()));
        return Ok(());
    };
    if let Some((name, command)) = TOP.iter().find(|(name, _)| name == first) {
        return invoke(context, command, name, &words[1..]);
    }
    if first == "__complete" {
        return completion::complete(context, &words[1..]);
    }
    if first == "help" {
        return help_for(&words[1..]);
    }
    let wants_help = words[1..].iter().any(|word| word == "--help" || word == "-h");
    let Some(group) = GROUPS.iter().find(|group| group.name == first) else {
        if wants_help {
            print!("{}", help::of_program(terminal::width()));
            return Ok(());
        }
        return Err(Failure::plain(format!(
            "gantry: unknown command: gantry {first}\n\nRun 'gantry --help' for more information"
        )));
    };
    match words.get(1).map(String::as_str) {
        None => {
            eprint!("{}", help::of_group(group));
            Ok(())
        }
        Some("--help" | "-h") => {
            print!("{}", help::of_group(group));
            Ok(())
        }
        Some(word) => match in_group(group, word) {
            Some((name, command)) => invoke(context, command, &format!("{first} {name}"), &words[2..]),
            None if wants_help || word == "help" => {
                print!("{}", help::of_group(group));
                Ok(())
            }
            None => Err(Failure::plain(format!(
                "gantry: unknown command: gantry {first} {word}\n\nUsage:  gantry {first}\n\nRun 'gantry {first} --help' for more information"
            ))),
        },
    }
}

/// A verb of a group by its name or another of its names.
pub(crate) fn in_group(group: &Group, word: &str) -> Option<(&'static str, &'static Command)> {
    let real = group.aliases.iter().find(|(alias, _)| *alias == word).map_or(word, |(_, real)| real);
    group.commands.iter().find(|(name, _)| *name == real).map(|(name, command)| (*name, *command))
}

fn help_for(words: &[String]) -> Outcome {
    let found = match words {
        [] => {
            print!("{}", help::of_program(terminal::width()));
            return Ok(());
        }
        [word] => match GROUPS.iter().find(|group| group.name == word) {
            Some(group) => {
                print!("{}", help::of_group(group));
                return Ok(());
            }
            None => TOP.iter().find(|(name, _)| name == word).map(|(name, command)| (*name, *command)),
        },
        [first, word, ..] => {
            GROUPS.iter().find(|group| group.name == first).and_then(|group| in_group(group, word))
        }
    };
    match found {
        Some((_, command)) => {
            print!("{}", help::of_command(command, &words.join(" "), terminal::width()));
            Ok(())
        }
        None => {
            let known = GROUPS.iter().any(|group| group.name == words[0]);
            let unknown = &words[usize::from(known && words.len() > 1)];
            Err(Failure::plain(format!("unknown help topic: {unknown}")))
        }
    }
}

fn invoke(context: &Context, command: &Command, path: &str, words: &[String]) -> Outcome {
    let usage = || format!("Usage:  gantry {path}{}", help::tail(command));
    let parsed = parse(command.flags, command.order, words).map_err(|failure| {
        Failure::new(
            failure.code,
            format!("{}\n\n{}\n\nRun 'gantry {path} --help' for more information", failure.text, usage()),
        )
    })?;
    if parsed.help {
        help::short_is_deprecated(&parsed);
        print!("{}", help::of_command(command, path, terminal::width()));
        return Ok(());
    }
    if let Some((wants, see)) = arguments_wanted(command.args, parsed.args.len()) {
        return Err(Failure::plain(format!(
            "gantry: 'gantry {path}' {wants}\n\n{}\n\n{see} 'gantry {path} --help' for more information",
            usage()
        )));
    }
    (command.run)(context, &parsed)
}

/// What a verb wants if it did not get it, and the word that Docker begins the last line with.
fn arguments_wanted(args: Args, have: usize) -> Option<(String, &'static str)> {
    let plural = |count: usize| if count == 1 { "argument" } else { "arguments" };
    match args {
        Args::None if have > 0 => Some(("accepts no arguments".into(), "Run")),
        Args::Exactly(count) if have != count => Some((format!("requires {count} {}", plural(count)), "Run")),
        Args::AtLeast(count) if have < count => {
            Some((format!("requires at least {count} {}", plural(count)), "See"))
        }
        Args::AtMost(count) if have > count => {
            Some((format!("requires at most {count} {}", plural(count)), "Run"))
        }
        Args::Between(low, high) if have < low || have > high => {
            Some((format!("requires at least {low} and at most {high} {}", plural(high)), "Run"))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_sorted_and_flags_unique() {
        let lists = GROUPS.iter().map(|group| group.commands).chain([TOP]);
        for commands in lists {
            assert!(commands.is_sorted_by_key(|(name, _)| *name));
            for (name, command) in commands {
                for (at, flag) in command.flags.iter().enumerate() {
                    let clash = command.flags[..at].iter().any(|other| {
                        other.long == flag.long || (other.short == flag.short && flag.short != '\0')
                    });
                    assert!(!clash, "{name} has --{} twice", flag.long);
                }
            }
        }
    }

    #[test]
    fn argument_counts_are_explained_as_docker_does() {
        for (args, have, want) in [
            (Args::None, 1, Some("accepts no arguments")),
            (Args::AtLeast(1), 0, Some("requires at least 1 argument")),
            (Args::Exactly(2), 1, Some("requires 2 arguments")),
            (Args::AtMost(1), 2, Some("requires at most 1 argument")),
            (Args::Between(1, 2), 2, None),
        ] {
            assert_eq!(arguments_wanted(args, have).map(|(text, _)| text).as_deref(), want);
        }
    }
}
