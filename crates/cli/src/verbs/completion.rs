//! `completion`: scripts for bash, zsh and fish. They ask `gantry __complete WORDS…` at every press of
//! the key, which reads the tables of verbs and flags, and asks the daemon for names. So a script never
//! gets old, and what it offers is what there is.

use serde_json::Value;

use crate::api::{Api, Request};
use crate::commands::{self, Args, Command};
use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::flags::{Flag, Kind, Order};

/// `completion`.
pub(crate) static COMPLETION: Command = Command {
    usage: "bash|zsh|fish",
    about: "Print the completion script of a shell: source <(gantry completion bash)",
    aliases: "",
    flags: &[],
    order: Order::Mixed,
    args: Args::Exactly(1),
    run: |_, flags| {
        let script = match flags.args[0].as_str() {
            "bash" => BASH,
            "zsh" => ZSH,
            "fish" => FISH,
            other => {
                return Err(Failure::plain(format!(
                    "there is no completion for {other:?}: give one of bash, zsh, fish"
                )));
            }
        };
        print!("{script}");
        Ok(())
    },
};

/// Words that hold a colon (`web:1`) are several to bash, which wants the rest after the last one.
const BASH: &str = r#"# bash completion for gantry: source <(gantry completion bash)
_gantry() {
    local cur words cword
    if declare -F _get_comp_words_by_ref >/dev/null; then
        _get_comp_words_by_ref -n : cur words cword
    else
        words=("${COMP_WORDS[@]}") cword=$COMP_CWORD cur=${COMP_WORDS[COMP_CWORD]}
    fi
    local IFS=$'\n'
    COMPREPLY=($(compgen -W "$(gantry __complete "${words[@]:1:cword}" 2>/dev/null)" -- "$cur"))
    if declare -F __ltrim_colon_completions >/dev/null; then __ltrim_colon_completions "$cur"; fi
}
complete -o default -F _gantry gantry
"#;

const ZSH: &str = r#"#compdef gantry
# zsh completion for gantry: source <(gantry completion zsh)
_gantry() {
    local -a found
    found=(${(f)"$(gantry __complete "${(@)words[2,CURRENT]}" 2>/dev/null)"})
    if (( ${#found} )); then compadd -- $found; else _files; fi
}
if (( $+functions[compdef] )); then compdef _gantry gantry; fi
"#;

const FISH: &str = r#"# fish completion for gantry: gantry completion fish | source
function __gantry_complete
    set -l words (commandline -opc) (commandline -ct)
    gantry __complete $words[2..-1] 2>/dev/null
end
complete -c gantry -a '(__gantry_complete)'
"#;

/// What may stand where the last of the words is being typed.
#[derive(Debug, PartialEq, Eq)]
enum Wanted {
    /// One of these.
    Words(Vec<String>),
    /// A name of a thing that the daemon knows.
    Names(Vec<Thing>),
    /// Nothing that we know of; the shell offers files.
    Anything,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Thing {
    Container,
    Image,
    Network,
    Volume,
}

/// `__complete`: prints what may stand in the place of the last word, a line each.
pub(crate) fn complete(context: &Context, words: &[String]) -> Outcome {
    let current = words.last().map_or("", String::as_str);
    let found = match wanted(words) {
        Wanted::Words(words) => words,
        // A daemon that does not answer has no names; a shell's prompt is no place to say so.
        Wanted::Names(things) => match context.api() {
            Ok(api) => things.into_iter().flat_map(|thing| names(api, thing)).collect(),
            Err(_) => Vec::new(),
        },
        Wanted::Anything => Vec::new(),
    };
    for word in found.iter().filter(|word| word.starts_with(current)) {
        println!("{word}");
    }
    Ok(())
}

fn flags_of(flags: &[Flag]) -> Wanted {
    let shown = flags.iter().filter(|flag| !flag.help.is_empty());
    let mut all: Vec<String> = shown.map(|flag| format!("--{}", flag.long)).collect();
    all.push("--help".into());
    Wanted::Words(all)
}

/// Whether a word is a flag that takes the next word as its value.
fn takes_next(flags: &[Flag], word: &str) -> bool {
    let valued = |flag: &Flag| flag.kind != Kind::Bool;
    if let Some(name) = word.strip_prefix("--") {
        return flags.iter().any(|flag| flag.long == name && valued(flag));
    }
    let last = word.strip_prefix('-').and_then(|letters| letters.chars().next_back());
    last.is_some_and(|letter| flags.iter().any(|flag| flag.short == letter && valued(flag)))
}

/// Passes over flags and their values; gives what is left, and whether a value comes next.
fn skip_flags<'w>(flags: &[Flag], mut words: &'w [String]) -> (&'w [String], bool) {
    while let [word, rest @ ..] = words
        && word.starts_with('-')
        && !rest.is_empty()
    {
        let value = takes_next(flags, word);
        if value && rest.len() == 1 {
            return (rest, true);
        }
        words = if value { &rest[1..] } else { rest };
    }
    (words, false)
}

fn wanted(words: &[String]) -> Wanted {
    let (words, value) = skip_flags(commands::GLOBAL, words);
    if value {
        return Wanted::Anything;
    }
    let [first, rest @ ..] = words else { return verbs() };
    if rest.is_empty() {
        return if first.starts_with('-') { flags_of(commands::GLOBAL) } else { verbs() };
    }
    if let Some((_, command)) = commands::TOP.iter().find(|(name, _)| name == first) {
        return of_command(command, rest);
    }
    if first == "help" {
        return verbs();
    }
    let Some(group) = commands::GROUPS.iter().find(|group| group.name == first) else {
        return Wanted::Anything;
    };
    match rest {
        [_] => Wanted::Words(group.commands.iter().map(|(name, _)| (*name).to_owned()).collect()),
        [verb, rest @ ..] => match commands::in_group(group, verb) {
            Some((_, command)) => of_command(command, rest),
            None => Wanted::Anything,
        },
        [] => Wanted::Anything,
    }
}

fn verbs() -> Wanted {
    let verbs = commands::TOP.iter().map(|(name, _)| *name);
    let all = verbs.chain(commands::GROUPS.iter().map(|group| group.name)).chain(["help"]);
    Wanted::Words(all.map(str::to_owned).collect())
}

fn of_command(command: &Command, words: &[String]) -> Wanted {
    let mut arguments = 0;
    let mut rest = words;
    loop {
        let (left, value) = skip_flags(command.flags, rest);
        if value {
            return Wanted::Anything;
        }
        match left {
            [] => return Wanted::Anything,
            [last] if last.starts_with('-') => return flags_of(command.flags),
            [_] => break,
            [_, more @ ..] => {
                arguments += 1;
                if command.order == Order::FlagsFirst {
                    return Wanted::Anything;
                }
                rest = more;
            }
        }
    }
    if arguments > 0 && !command.usage.contains("...") && !command.usage.starts_with("SOURCE_IMAGE") {
        return Wanted::Anything;
    }
    let first = command.usage.trim_start_matches('[');
    let things = [
        ("CONTAINER", &[Thing::Container][..]),
        ("IMAGE", &[Thing::Image]),
        ("SOURCE_IMAGE", &[Thing::Image]),
        ("REPOSITORY", &[Thing::Image]),
        ("NETWORK", &[Thing::Network]),
        ("VOLUME", &[Thing::Volume]),
        ("NAME|ID", &[Thing::Container, Thing::Image, Thing::Network, Thing::Volume]),
    ];
    if first.starts_with("bash|") {
        return Wanted::Words(first.split('|').map(str::to_owned).collect());
    }
    match things.iter().find(|(word, _)| first.starts_with(word)) {
        Some((_, things)) => Wanted::Names(things.to_vec()),
        None => Wanted::Anything,
    }
}

fn names(api: &Api, thing: Thing) -> Vec<String> {
    let path = match thing {
        Thing::Container => "/containers/json?all=1",
        Thing::Image => "/images/json",
        Thing::Network => "/networks",
        Thing::Volume => "/volumes",
    };
    let answer = api.ask(Request::get(path)).unwrap_or(Value::Null);
    let list = if thing == Thing::Volume { &answer["Volumes"] } else { &answer };
    let all = list.as_array().into_iter().flatten();
    let texts = |field: &Value| -> Vec<String> {
        match field {
            Value::String(text) => vec![text.clone()],
            Value::Array(items) => items.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
            _ => Vec::new(),
        }
    };
    let field = match thing {
        Thing::Container => "Names",
        Thing::Image => "RepoTags",
        Thing::Network | Thing::Volume => "Name",
    };
    let mut names: Vec<String> = all.flat_map(|item| texts(&item[field])).collect();
    for name in &mut names {
        *name = name.trim_start_matches('/').to_owned();
    }
    names.retain(|name| !name.starts_with("<none>"));
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(line: &str) -> Wanted {
        // What follows the last space is the word being typed, be it empty.
        wanted(&line.split(' ').map(str::to_owned).collect::<Vec<_>>())
    }

    fn offers(line: &str, word: &str) -> bool {
        matches!(at(line), Wanted::Words(words) if words.iter().any(|offered| offered == word))
    }

    #[test]
    fn each_place_wants_its_own() {
        assert!(offers("", "run") && offers("ru", "container") && offers("-H unix:///x ", "ps"));
        assert!(offers("--ho", "--host") && offers("container ", "ls") && offers("image bu", "build"));
        assert!(offers("run --na", "--name") && offers("ps -", "--filter") && offers("completion ", "zsh"));
        assert!(!offers("run --", "--net"), "hidden flags and aliases are not offered");
        for (line, want) in [
            ("stop ", vec![Thing::Container]),
            ("stop a ", vec![Thing::Container]),
            ("container rm -f ", vec![Thing::Container]),
            ("run --name x -it ", vec![Thing::Image]),
            ("rmi a ", vec![Thing::Image]),
            ("images ", vec![Thing::Image]),
            ("volume rm ", vec![Thing::Volume]),
        ] {
            assert_eq!(at(line), Wanted::Names(want), "{line}");
        }
        for line in ["run busybox ", "run --name ", "-H ", "exec web ", "rename a ", "nonsense x"] {
            assert_eq!(at(line), Wanted::Anything, "{line}");
        }
    }
}
