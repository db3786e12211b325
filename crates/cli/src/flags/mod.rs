//! Command-line flags with the grammar of Go's pflag, which is what Docker's users have in their
//! fingers: `-it`, `-p80:80`, `--rm=false`, `--name=x`, flags after arguments where a verb allows
//! it, and its very error texts.
//!
//! A verb's flags are one static table ([`Flag`]); parsing walks the arguments once and builds no
//! tree of objects first, which is why it is not a general argument parser: starting the program
//! must cost less than two milliseconds, and no general parser speaks this grammar or these texts.
//!
//! [`parse`] turns arguments into [`Parsed`]; [`check`] knows each kind's values; [`help`] prints.

pub(crate) mod check;
pub(crate) mod help;

use crate::failure::Failure;

/// What sort of value a flag takes; decides the word in the help, what is refused, and whether
/// the flag may be repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// No value, or `=true` and the like.
    Bool,
    /// Any text; the last one counts.
    Text,
    /// Any text, repeated.
    List,
    /// Comma-separated texts, repeated.
    Strings,
    /// `key=value` for a list to be narrowed by, repeated.
    Filter,
    /// A signed 64-bit number.
    Int,
    /// A number from 0 to 65535.
    Uint16,
    /// A size such as `64m`: powers of 1024.
    Bytes,
    /// The same, where `-1` stands for unlimited.
    SwapBytes,
    /// A Go duration such as `1m30s`.
    Duration,
    /// A decimal number of CPUs, at most nine digits after the point.
    Cpus,
    /// `name=soft[:hard]`, repeated.
    Ulimit,
    /// `key=value` fields of one mount, repeated.
    Mount,
    /// A network's name, or fields of one attachment, repeated.
    Network,
    /// `STDIN`, `STDOUT` or `STDERR`, repeated.
    Stream,
    /// `NAME` or `NAME=value` of an environment, repeated.
    Env,
    /// `NAME` or `NAME=value` of a label, repeated.
    Label,
    /// `key=value` or a bare key, repeated.
    Map,
    /// An address of a name server, repeated.
    Address,
    /// A domain to search, repeated.
    Domain,
    /// `host:ip` or `host=ip`, repeated.
    HostEntry,
    /// `container[:alias]`, repeated.
    Link,
    /// `/dev/…:size`, repeated.
    ByteRate,
    /// `/dev/…:number`, repeated.
    IoRate,
    /// `/dev/…:weight`, repeated.
    DeviceWeight,
    /// `type major:minor mode`, repeated.
    DeviceRule,
    /// Graphics processors: `all`, a number, or `key=value` fields.
    Gpus,
    /// An image's name, repeated.
    Tag,
    /// `net.…=value` and the like, repeated.
    Sysctl,
}

/// One flag of a verb.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Flag {
    /// The name without its dashes.
    pub(crate) long: &'static str,
    /// The one-letter form; a NUL where there is none.
    pub(crate) short: char,
    /// What it takes.
    pub(crate) kind: Kind,
    /// What holds where it is not given; empty for nothing.
    pub(crate) default: &'static str,
    /// What the help says; empty keeps it out of the help.
    pub(crate) help: &'static str,
}

/// Describes a flag without a short form.
pub(crate) const fn long(name: &'static str, kind: Kind, help: &'static str) -> Flag {
    Flag { long: name, short: '\0', kind, default: "", help }
}

/// Describes a flag with a short form.
pub(crate) const fn both(short: char, name: &'static str, kind: Kind, help: &'static str) -> Flag {
    Flag { long: name, short, kind, default: "", help }
}

impl Flag {
    /// The same with a value that holds where the flag is not given.
    pub(crate) const fn or(self, default: &'static str) -> Self {
        Self { default, ..self }
    }

    /// How errors name it: `-m, --memory`.
    fn display(&self) -> String {
        match self.short {
            '\0' => format!("--{}", self.long),
            short => format!("-{short}, --{}", self.long),
        }
    }
}

/// Older spellings that Docker takes without showing them.
const ALIASES: [(&str, &str); 3] =
    [("net", "network"), ("net-alias", "network-alias"), ("dns-opt", "dns-option")];

/// What was typed, sorted out.
#[derive(Debug, Default)]
pub(crate) struct Parsed {
    flags: &'static [Flag],
    values: Vec<(&'static str, String)>,
    /// What is not a flag, in order.
    pub(crate) args: Vec<String>,
    /// Whether `--help` was among it; nothing after it was looked at.
    pub(crate) help: bool,
    /// Whether that was `-h`.
    pub(crate) short_help: bool,
}

impl Parsed {
    /// Whether a boolean flag holds.
    pub(crate) fn is(&self, name: &str) -> bool {
        let text = self.text(name);
        check::boolean(text).unwrap_or(false)
    }

    /// Whether the flag was given at all.
    pub(crate) fn given(&self, name: &str) -> bool {
        self.values.iter().any(|(flag, _)| *flag == name)
    }

    /// The last value given, else the default, else nothing.
    pub(crate) fn text(&self, name: &str) -> &str {
        match self.values.iter().rfind(|(flag, _)| *flag == name) {
            Some((_, value)) => value,
            None => self.flags.iter().find(|flag| flag.long == name).map_or("", |flag| flag.default),
        }
    }

    /// The value if the flag was given.
    pub(crate) fn given_text(&self, name: &str) -> Option<&str> {
        self.given(name).then(|| self.text(name))
    }

    /// All values in the order given.
    pub(crate) fn list(&self, name: &str) -> Vec<&str> {
        self.values.iter().filter(|(flag, _)| *flag == name).map(|(_, value)| value.as_str()).collect()
    }

    /// A whole number; 0 where none was given ([`parse`] refused what is none).
    pub(crate) fn int(&self, name: &str) -> i64 {
        check::integer(self.text(name)).unwrap_or(0)
    }

    /// A size in bytes; 0 where none was given.
    pub(crate) fn bytes(&self, name: &str) -> i64 {
        match self.text(name) {
            "" => 0,
            "-1" => -1,
            text => check::bytes(text).unwrap_or(0),
        }
    }

    /// A duration in nanoseconds; 0 where none was given.
    pub(crate) fn nanos(&self, name: &str) -> i64 {
        check::duration(self.text(name)).unwrap_or(0)
    }
}

/// Whether flags may come after the first argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// `docker ps x -a`: anywhere.
    Mixed,
    /// `docker run image -a`: what follows the first argument belongs to the container.
    FlagsFirst,
}

/// Sorts arguments into flags and the rest.
///
/// # Errors
/// Exit code 125 with pflag's text, without the usage (the caller knows the verb).
pub(crate) fn parse(flags: &'static [Flag], order: Order, arguments: &[String]) -> Result<Parsed, Failure> {
    let mut parsed = Parsed { flags, ..Parsed::default() };
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        if argument == "--" {
            parsed.args.extend(rest.cloned());
            break;
        }
        if let Some(name) = argument.strip_prefix("--") {
            take_long(&mut parsed, name, &mut rest)?;
        } else if argument.len() > 1 && argument.starts_with('-') {
            take_short(&mut parsed, argument, &mut rest)?;
        } else {
            parsed.args.push(argument.clone());
            if order == Order::FlagsFirst {
                parsed.args.extend(rest.cloned());
                break;
            }
        }
        if parsed.help {
            break;
        }
    }
    Ok(parsed)
}

fn bad(text: String) -> Failure {
    Failure::new(125, text)
}

type Rest<'a> = std::slice::Iter<'a, String>;

fn take_long(parsed: &mut Parsed, name: &str, rest: &mut Rest<'_>) -> Result<(), Failure> {
    let (name, value) = match name.split_once('=') {
        Some((name, value)) => (name, Some(value.to_owned())),
        None => (name, None),
    };
    if name.is_empty() || name.starts_with('-') {
        return Err(bad(format!("bad flag syntax: --{name}")));
    }
    let wanted = ALIASES.iter().find(|(alias, _)| *alias == name).map_or(name, |(_, real)| real);
    let Some(flag) = parsed.flags.iter().find(|flag| flag.long == wanted) else {
        if name == "help" {
            parsed.help = true;
            return Ok(());
        }
        return Err(bad(format!("unknown flag: --{name}")));
    };
    let value = match (value, flag.kind) {
        (Some(value), _) => value,
        (None, Kind::Bool) => "true".to_owned(),
        (None, _) => rest.next().cloned().ok_or_else(|| bad(format!("flag needs an argument: --{name}")))?,
    };
    // An error names it as it was typed, of which an alias has no short form.
    let shown = if wanted == name { flag.display() } else { format!("--{name}") };
    store(parsed, flag, value, &shown)
}

fn take_short(parsed: &mut Parsed, group: &str, rest: &mut Rest<'_>) -> Result<(), Failure> {
    for (at, letter) in group[1..].char_indices() {
        let after = &group[1 + at + letter.len_utf8()..];
        let Some(flag) = parsed.flags.iter().find(|flag| flag.short == letter && letter != '\0') else {
            if letter == 'h' {
                parsed.help = true;
                parsed.short_help = true;
                return Ok(());
            }
            return Err(bad(format!("unknown shorthand flag: '{letter}' in -{letter}{after}")));
        };
        let value = if let Some(value) = after.strip_prefix('=') {
            value.to_owned()
        } else if flag.kind == Kind::Bool {
            store(parsed, flag, "true".to_owned(), &flag.display())?;
            continue;
        } else if after.is_empty() {
            rest.next()
                .cloned()
                .ok_or_else(|| bad(format!("flag needs an argument: '{letter}' in -{letter}")))?
        } else {
            after.to_owned()
        };
        return store(parsed, flag, value, &flag.display());
    }
    Ok(())
}

fn store(parsed: &mut Parsed, flag: &'static Flag, value: String, shown: &str) -> Result<(), Failure> {
    check::value(flag.kind, &value)
        .map_err(|why| bad(format!("invalid argument {value:?} for {shown:?} flag: {why}")))?;
    match flag.kind {
        Kind::Strings => {
            let parts: Vec<_> = value.split(',').map(|part| (flag.long, part.to_owned())).collect();
            parsed.values.extend(parts);
        }
        _ => parsed.values.push((flag.long, value)),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    static FLAGS: [Flag; 6] = [
        both('i', "interactive", Kind::Bool, "x"),
        both('t', "tty", Kind::Bool, "x"),
        both('p', "publish", Kind::List, "x"),
        both('m', "memory", Kind::Bytes, "x"),
        long("sig-proxy", Kind::Bool, "x").or("true"),
        long("network", Kind::Network, "x"),
    ];

    fn run(order: Order, line: &str) -> Result<Parsed, String> {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        parse(&FLAGS, order, &words).map_err(|failure| failure.text)
    }

    #[test]
    fn flags_are_taken_as_pflag_takes_them() {
        let parsed =
            run(Order::FlagsFirst, "-it -p80:80 -p=81 -p 82 --sig-proxy=false --net host img -m 1").unwrap();
        assert!(parsed.is("interactive") && parsed.is("tty") && !parsed.is("sig-proxy"));
        assert_eq!(parsed.list("publish"), ["80:80", "81", "82"]);
        assert_eq!(parsed.text("network"), "host");
        assert_eq!(parsed.args, ["img", "-m", "1"]);
        let parsed = run(Order::Mixed, "a -m 64m b -- -x").unwrap();
        assert_eq!((parsed.bytes("memory"), parsed.args.join(" ")), (64 << 20, "a b -x".to_owned()));
        assert!(parsed.is("sig-proxy"), "the default holds");
        assert!(run(Order::Mixed, "-t --help --nonsense").unwrap().help);
    }

    #[test]
    fn errors_are_pflags() {
        for (line, text) in [
            ("--nope", "unknown flag: --nope"),
            ("-iZx", "unknown shorthand flag: 'Z' in -Zx"),
            ("--memory", "flag needs an argument: --memory"),
            ("-im", "flag needs an argument: 'm' in -m"),
            ("-m abc", "invalid argument \"abc\" for \"-m, --memory\" flag: invalid size: 'abc'"),
            (
                "--sig-proxy=maybe",
                "invalid argument \"maybe\" for \"--sig-proxy\" flag: strconv.ParseBool: parsing \"maybe\": invalid syntax",
            ),
        ] {
            assert_eq!(run(Order::Mixed, line).unwrap_err(), text);
        }
    }
}
