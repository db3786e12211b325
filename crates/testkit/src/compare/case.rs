//! The text that a case is written in.
//!
//! ```text
//! # A comment.
//! case exit-code-of-the-program
//! $ run --name @c @bb sh -c 'echo out; exit 3'
//! $ ps -a --filter name=@c
//!   mask id12 age columns
//! ```
//!
//! | line | meaning |
//! | --- | --- |
//! | `case NAME` | begins a case |
//! | `alone` | no other case runs meanwhile: what it looks at or prunes is everybody's |
//! | `$ ARGS` | a call of the CLI whose output and exit code are compared; quotes as in a shell |
//! | `. ARGS` | a call that only prepares: it must succeed, what it prints is not compared |
//! | `until TEXT: ARGS` | repeats a call until its trimmed output is TEXT |
//! | `file NAME TEXT` | writes a file into the case's directory, `\n` and the like resolved |
//!
//! Under a `$` line, indented:
//!
//! | line | meaning |
//! | --- | --- |
//! | `in TEXT` | standard input |
//! | `tty` | runs on a terminal of 24 rows and 80 columns; its whole output is compared as stdout |
//! | `await TEXT` | on a terminal, in turn with `type`: waits for a text |
//! | `type TEXT` | types |
//! | `json` | lays out a JSON value, or one per line, as a line per field, and compares that |
//! | `keys` | the same without the values: names and types alone |
//! | `sorted` | compares the lines without their order |
//! | `mask KINDS` | masks these kinds (see [`super::mask::Kind`]) wherever they stand on standard output |
//! | `mask stderr KINDS` | the same on standard error |
//! | `at PATH KINDS` | with `json`, masks them in one field, `*` for any one element of a path |
//!
//! Names are the same on both sides: `@c` is a name that is the case's own (containers, volumes and
//! images whose names begin with it are removed afterwards), `@bb` the BusyBox image, `@web` an image
//! with a port, `@set` one with every setting, `@dir` the case's directory, `@port` a free port and
//! `@port2` the next. What stands for `@dir`, `@port`, the daemon's data root (`@root`) and its
//! bridge (`@bridge`) in output is turned back.

use super::mask::{Kind, Mask};
use super::words;

/// One case.
#[derive(Debug, Clone)]
pub struct Case {
    /// Its name, and the name of what it makes.
    pub name: String,
    /// Whether no other case may run meanwhile.
    pub alone: bool,
    /// What it does, in turn.
    pub steps: Vec<Step>,
}

/// One line of a case.
#[derive(Debug, Clone)]
pub enum Step {
    /// Compared.
    Call(Call),
    /// Prepares; must succeed.
    Prepare(Vec<String>),
    /// Repeats the call until its trimmed output is the text.
    Until(String, Vec<String>),
    /// Writes a file into the case's directory.
    File(String, String),
}

/// A compared call.
#[derive(Debug, Clone)]
pub struct Call {
    /// As written.
    pub text: String,
    /// Its arguments, variables not yet replaced.
    pub args: Vec<String>,
    /// Standard input.
    pub input: Option<String>,
    /// On a terminal: what is waited for and typed, in turn.
    pub terminal: Option<Vec<Act>>,
    /// How its output is laid out.
    pub layout: Layout,
    /// Whether the order of lines does not matter.
    pub sorted: bool,
    /// What is masked, in turn.
    pub masks: Vec<Mask>,
}

/// What happens on a terminal.
#[derive(Debug, Clone)]
pub enum Act {
    /// Waits for a text.
    Await(String),
    /// Types.
    Type(String),
}

/// How standard output is laid out before it is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// As it is.
    Plain,
    /// JSON, a line per field.
    Json,
    /// JSON, names and types alone.
    Keys,
}

impl Step {
    /// The compared call, if it is one.
    #[must_use]
    pub fn call(&self) -> Option<&Call> {
        match self {
            Self::Call(call) => Some(call),
            _ => None,
        }
    }
}

/// Reads the cases of one file.
///
/// # Errors
/// The first line that is not as described, with its number.
pub fn parse(text: &str) -> Result<Vec<Case>, String> {
    let mut cases: Vec<Case> = Vec::new();
    for (number, line) in text.lines().enumerate() {
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        take(line, &mut cases).map_err(|error| format!("line {}: {error}: {line}", number + 1))?;
    }
    Ok(cases)
}

fn take(line: &str, cases: &mut Vec<Case>) -> Result<(), String> {
    let (word, rest) = line.trim().split_once(' ').unwrap_or((line.trim(), ""));
    if word == "case" && !line.starts_with(' ') {
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if rest.is_empty() || !rest.chars().all(allowed) {
            return Err("a case's name is made of a-z, 0-9 and -".to_owned());
        }
        cases.push(Case { name: rest.to_owned(), alone: false, steps: Vec::new() });
        return Ok(());
    }
    let case = cases.last_mut().ok_or("no case begins before this line")?;
    if line == "alone" {
        case.alone = true;
        return Ok(());
    }
    let steps = &mut case.steps;
    if line.starts_with(' ') {
        let Some(Step::Call(call)) = steps.last_mut() else {
            return Err("only a $ line has lines that belong to it".to_owned());
        };
        return call.take(word, rest);
    }
    steps.push(match word {
        "$" => Step::Call(Call {
            text: rest.to_owned(),
            args: words::split(rest)?,
            input: None,
            terminal: None,
            layout: Layout::Plain,
            sorted: false,
            masks: Vec::new(),
        }),
        "." => Step::Prepare(words::split(rest)?),
        "until" => {
            let (text, args) = rest.split_once(": ").ok_or("until TEXT: ARGS")?;
            Step::Until(text.to_owned(), words::split(args)?)
        }
        "file" => {
            let (name, text) = rest.split_once(' ').unwrap_or((rest, ""));
            Step::File(name.to_owned(), words::unescape(text))
        }
        _ => return Err("not a line of a case".to_owned()),
    });
    Ok(())
}

impl Call {
    fn take(&mut self, word: &str, rest: &str) -> Result<(), String> {
        match word {
            "in" => self.input = Some(words::unescape(rest)),
            "tty" => self.terminal = Some(Vec::new()),
            "await" | "type" => {
                let text = words::unescape(rest);
                let acts = self.terminal.as_mut().ok_or("only a tty is waited for and typed on")?;
                acts.push(if word == "type" { Act::Type(text) } else { Act::Await(text) });
            }
            "json" => self.layout = Layout::Json,
            "keys" => self.layout = Layout::Keys,
            "sorted" => self.sorted = true,
            "mask" => {
                let (stderr, kinds) = match rest.strip_prefix("stderr ") {
                    Some(kinds) => (true, kinds),
                    None => (false, rest),
                };
                for kind in kinds.split_whitespace() {
                    self.masks.push(Mask { kind: Kind::named(kind)?, path: None, stderr });
                }
            }
            "at" => {
                let (path, kinds) = rest.split_once(' ').ok_or("at PATH KINDS")?;
                if self.layout != Layout::Json {
                    return Err("only fields of a json layout have a path".to_owned());
                }
                for kind in kinds.split_whitespace() {
                    let path = Some(path.to_owned());
                    self.masks.push(Mask { kind: Kind::named(kind)?, path, stderr: false });
                }
            }
            _ => return Err("not a line that belongs to a $ line".to_owned()),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_case_is_read() {
        let text = "# c\ncase a-1\nfile env A=1\\nB=2\n. create --name @c @bb\n\n$ inspect -f '{{json .}}' @c\n  json\n  at /State/Pid number\n  mask stderr id\nuntil x y: ps -q\n";
        let cases = parse(text).expect("well-formed");
        assert_eq!((cases.len(), cases[0].steps.len()), (1, 4));
        let call = cases[0].steps[2].call().expect("a call");
        assert_eq!(call.args, ["inspect", "-f", "{{json .}}", "@c"]);
        assert_eq!((call.layout, call.masks.len()), (Layout::Json, 2));
        assert!(matches!(&cases[0].steps[0], Step::File(_, text) if text == "A=1\nB=2"));
        assert!(matches!(&cases[0].steps[3], Step::Until(text, _) if text == "x y"));
    }

    #[test]
    fn a_wrong_line_is_named() {
        for (text, want) in [
            ("$ ps", "no case begins"),
            ("case A", "a case's name"),
            ("case a\nps", "not a line of a case"),
            ("case a\n. ps\n  json", "only a $ line"),
            ("case a\n$ ps\n  mask nosuch", "no kind of mask is called nosuch"),
            ("case a\n$ ps\n  at /x id", "only fields of a json layout"),
            ("case a\n$ ps 'x", "not closed"),
        ] {
            let error = parse(text).expect_err(text);
            assert!(error.contains(want), "{text}: {error}");
        }
    }
}
