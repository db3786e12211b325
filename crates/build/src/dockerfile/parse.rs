//! Logical lines to instructions, with the classic builder's checks and texts.
//!
//! There are two sorts of errors, as in Docker: those of the form (`failed to parse Dockerfile: …`) and
//! those of an instruction (`dockerfile parse error on line N: …`).

use gantry_model::image::Healthcheck;

use super::healthcheck;
use super::instruction::{Command, Copy, CopySource, Instruction, Pair, Run, Stage, Statement};
use super::lexer::{Heredoc, Line, lex, split_quoted};
use super::suggest::suggestion;

/// Why a Dockerfile cannot be read; its text is what the user sees.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct ParseError {
    text: String,
}

impl ParseError {
    /// An error of the form, with Docker's prefix.
    pub(super) fn whole(reason: String) -> Self {
        Self { text: format!("failed to parse Dockerfile: {reason}") }
    }

    /// An error of the instruction that begins at a line.
    pub(super) fn at(line: usize, reason: String) -> Self {
        Self { text: format!("dockerfile parse error on line {line}: {reason}") }
    }

    fn plain(text: &str) -> Self {
        Self { text: text.into() }
    }
}

/// A Dockerfile read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dockerfile {
    /// The escape character of its words.
    pub escape: char,
    /// The `ARG`s before the first `FROM`.
    pub meta_args: Vec<Statement>,
    /// The stages, at least one.
    pub stages: Vec<Stage>,
    /// What the user should know.
    pub warnings: Vec<String>,
}

/// More instructions than any real Dockerfile has.
const MAX_INSTRUCTIONS: usize = 100_000;

/// Reads a Dockerfile.
///
/// # Errors
/// [`ParseError`] with the classic builder's text.
pub fn parse(text: &str) -> Result<Dockerfile, ParseError> {
    let lexed = lex(text)?;
    if lexed.lines.is_empty() {
        return Err(ParseError::whole("file with no instructions".into()));
    }
    if lexed.lines.len() > MAX_INSTRUCTIONS {
        return Err(ParseError::whole(format!("more than {MAX_INSTRUCTIONS} instructions")));
    }
    let nodes = lexed
        .lines
        .iter()
        .map(|line| Node::read(line, lexed.escape))
        .collect::<Result<Vec<Node<'_>>, String>>()
        .map_err(ParseError::whole)?;
    let mut file = Dockerfile {
        escape: lexed.escape,
        meta_args: Vec::new(),
        stages: Vec::new(),
        warnings: lexed.warnings,
    };
    for node in &nodes {
        let at = |reason: String| ParseError::at(node.line, reason);
        if node.name == "FROM" {
            file.stages.push(node.stage().map_err(at)?);
            continue;
        }
        let statement = Statement {
            line: node.line,
            text: node.text.into(),
            instruction: node.instruction().map_err(at)?,
        };
        match (file.stages.last_mut(), &statement.instruction) {
            (Some(stage), _) => stage.statements.push(statement),
            (None, Instruction::Arg(_)) => file.meta_args.push(statement),
            (None, _) => return Err(ParseError::plain("no build stage in current context")),
        }
    }
    if file.stages.is_empty() {
        return Err(ParseError::plain("no build stage in current context"));
    }
    Ok(file)
}

/// Reads one instruction of an `ONBUILD` trigger or a `--label`.
///
/// # Errors
/// [`ParseError`] with the classic builder's text.
pub fn parse_statement(text: &str, escape: char) -> Result<Statement, ParseError> {
    let lexed = lex(text)?;
    let [line] = lexed.lines.as_slice() else {
        return Err(ParseError::plain("no instruction in the trigger"));
    };
    let node = Node::read(line, escape).map_err(ParseError::whole)?;
    if node.name == "FROM" {
        return Err(ParseError::plain("FROM isn't allowed as an ONBUILD trigger"));
    }
    let instruction = node.instruction().map_err(|reason| ParseError::plain(&reason))?;
    Ok(Statement { line: 0, text: line.text.trim_end().into(), instruction })
}

const INSTRUCTIONS: [&str; 18] = [
    "ADD",
    "ARG",
    "CMD",
    "COPY",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "FROM",
    "HEALTHCHECK",
    "LABEL",
    "MAINTAINER",
    "ONBUILD",
    "RUN",
    "SHELL",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];

/// The arguments of an instruction in the form that its grammar has.
#[derive(Debug, PartialEq, Eq)]
enum Arguments {
    /// The rest of the line, or nothing.
    Text(String),
    /// Words split at white space.
    Words(Vec<String>),
    /// The JSON form.
    Json(Vec<String>),
    /// `key=value`s.
    Pairs(Vec<Pair>),
    /// Words that may have a value: `ARG`.
    Named(Vec<String>),
}

/// An instruction with its words apart, not yet checked.
struct Node<'a> {
    line: usize,
    text: &'a str,
    name: String,
    flags: Vec<String>,
    arguments: Arguments,
    heredocs: &'a [Heredoc],
}

impl<'a> Node<'a> {
    /// Splits a line. The error is one of the form.
    fn read(line: &'a Line, escape: char) -> Result<Self, String> {
        let text = line.text.trim_end();
        let end = text.find(|c: char| c.is_ascii_whitespace()).unwrap_or(text.len());
        let name = text[..end].to_ascii_uppercase();
        let (flags, rest) = split_flags(text[end..].trim(), escape);
        let arguments = match name.as_str() {
            "ADD" | "COPY" | "VOLUME" => match json_words(rest)? {
                Some(words) => Arguments::Json(words),
                None => Arguments::Words(plain_words(rest)),
            },
            "CMD" | "ENTRYPOINT" | "RUN" | "SHELL" => match json_words(rest)? {
                Some(words) => Arguments::Json(words),
                None => Arguments::Text(rest.into()),
            },
            "ENV" | "LABEL" => Arguments::Pairs(pairs(&name, rest, escape)?),
            "ARG" => Arguments::Named(split_quoted(rest, escape)),
            "EXPOSE" | "FROM" => Arguments::Words(plain_words(rest)),
            _ => Arguments::Text(rest.into()),
        };
        Ok(Self { line: line.number, text, name, flags, arguments, heredocs: &line.heredocs })
    }

    /// The flags by name, each of which must be known.
    fn flags(&self, known: &[&str]) -> Result<Vec<(String, String)>, String> {
        let mut flags: Vec<(String, String)> = Vec::new();
        for flag in &self.flags {
            let (name, value) = match flag[2..].split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (&flag[2..], None),
            };
            if !known.contains(&name) {
                return Err(format!("unknown flag: --{name}{}", suggestion(name, known)));
            }
            let value = match (name, value) {
                ("link", None) => "true",
                (_, Some(value)) => value,
                (_, None) => return Err(format!("missing a value on flag: --{name}")),
            };
            if name != "mount" && flags.iter().any(|(earlier, _)| earlier == name) {
                return Err(format!("duplicate flag specified: --{name}"));
            }
            flags.push((name.into(), value.into()));
        }
        Ok(flags)
    }

    fn stage(&self) -> Result<Stage, String> {
        let flags = self.flags(&["platform"])?;
        let Arguments::Words(words) = &self.arguments else { return Err(String::new()) };
        let name = match words.as_slice() {
            [_] => String::new(),
            [_, keyword, name] if keyword.eq_ignore_ascii_case("as") => {
                let lower = name.to_ascii_lowercase();
                if !is_stage_name(&lower) {
                    return Err(format!(
                        "invalid name for build stage: {name:?}, name can't start with a number or contain symbols"
                    ));
                }
                lower
            }
            _ => return Err("FROM requires either one or three arguments".into()),
        };
        let platform = flags.into_iter().next().map(|(_, value)| value).unwrap_or_default();
        Ok(Stage {
            line: self.line,
            text: self.text.into(),
            base: words[0].clone(),
            platform,
            name,
            statements: Vec::new(),
        })
    }

    fn instruction(&self) -> Result<Instruction, String> {
        Ok(match self.name.as_str() {
            "ADD" | "COPY" => Instruction::Copy(self.copy()?),
            "RUN" => Instruction::Run(self.run()?),
            "HEALTHCHECK" => Instruction::Healthcheck(self.healthcheck()?),
            name => {
                if INSTRUCTIONS.contains(&name) {
                    self.flags(&[])?;
                }
                self.simple()?
            }
        })
    }

    fn simple(&self) -> Result<Instruction, String> {
        let name = self.name.as_str();
        let at_least_one = || format!("{name} requires at least one argument");
        Ok(match (name, &self.arguments) {
            ("ARG", Arguments::Named(words)) => {
                Instruction::Arg(args(words).map_err(|e| e.unwrap_or_else(at_least_one))?)
            }
            ("CMD", _) => Instruction::Cmd(self.command()),
            ("ENTRYPOINT", _) => Instruction::Entrypoint(self.command()),
            ("ENV" | "LABEL", Arguments::Pairs(pairs)) => {
                if pairs.is_empty() {
                    return Err(at_least_one());
                }
                if pairs.iter().any(|(key, _)| key.is_empty()) {
                    return Err(format!("{name} names can not be blank"));
                }
                if name == "ENV" {
                    Instruction::Env(pairs.clone())
                } else {
                    Instruction::Label(pairs.clone())
                }
            }
            ("EXPOSE", Arguments::Words(words)) if !words.is_empty() => {
                let mut ports = words.clone();
                ports.sort();
                Instruction::Expose(ports)
            }
            ("VOLUME", Arguments::Words(words) | Arguments::Json(words)) if !words.is_empty() => {
                if words.iter().any(|word| word.is_empty()) {
                    return Err("VOLUME specified can not be an empty string".into());
                }
                Instruction::Volume(words.clone())
            }
            ("SHELL", Arguments::Json(words)) if !words.is_empty() => Instruction::Shell(words.clone()),
            ("SHELL", Arguments::Text(text)) if !text.is_empty() => {
                return Err("SHELL requires the arguments to be in JSON form".into());
            }
            ("EXPOSE" | "VOLUME" | "SHELL", _) => return Err(at_least_one()),
            ("ONBUILD", Arguments::Text(text)) => Instruction::Onbuild(self.onbuild(text)?),
            ("MAINTAINER" | "STOPSIGNAL" | "USER" | "WORKDIR", Arguments::Text(text)) => {
                if text.is_empty() {
                    return Err(format!("{name} requires exactly one argument"));
                }
                let text = text.clone();
                match name {
                    "MAINTAINER" => Instruction::Maintainer(text),
                    "STOPSIGNAL" => Instruction::StopSignal(text),
                    "USER" => Instruction::User(text),
                    _ => Instruction::Workdir(text),
                }
            }
            _ => {
                let typed = self.text.split_ascii_whitespace().next().unwrap_or("");
                return Err(format!("unknown instruction: {typed}{}", suggestion(typed, &INSTRUCTIONS)));
            }
        })
    }

    fn command(&self) -> Command {
        match &self.arguments {
            Arguments::Json(words) => Command::Exec(words.clone()),
            Arguments::Text(text) => Command::Shell(text.clone()),
            _ => Command::Shell(String::new()),
        }
    }

    fn run(&self) -> Result<Run, String> {
        let flags = self.flags(&["mount", "network"])?;
        let network = flags.iter().find(|(name, _)| name == "network");
        if let Some((_, mode)) =
            network.filter(|(_, mode)| !["default", "none", "host"].contains(&mode.as_str()))
        {
            return Err(format!("invalid network mode {mode:?}"));
        }
        Ok(Run {
            command: self.command(),
            heredocs: self.heredocs.to_vec(),
            flags: flags.into_iter().map(|(name, _)| name).collect(),
        })
    }

    fn copy(&self) -> Result<Copy, String> {
        let add = self.name == "ADD";
        let known: &[&str] = if add {
            &["chown", "chmod", "link", "keep-git-dir", "checksum"]
        } else {
            &["from", "chown", "chmod", "link"]
        };
        let mut flags = self.flags(known)?;
        let mut take = |name: &str| {
            let at = flags.iter().position(|(flag, _)| flag == name);
            at.map(|at| flags.swap_remove(at).1).unwrap_or_default()
        };
        let (Arguments::Words(words) | Arguments::Json(words)) = &self.arguments else {
            return Err(String::new());
        };
        // Docker takes the empty text for one argument, too.
        let (destination, sources) = match words.split_last() {
            Some((destination, sources)) if !sources.is_empty() => (destination, sources),
            _ => {
                return Err(format!(
                    "{} requires at least two arguments, but only one was provided. Destination could not be determined",
                    self.name
                ));
            }
        };
        let mut documents = self.heredocs.iter();
        let sources = sources
            .iter()
            .map(|word| match super::lexer::heredoc_start(word) {
                Some(_) => documents
                    .next()
                    .cloned()
                    .map_or_else(|| CopySource::Path(word.clone()), CopySource::Heredoc),
                None => CopySource::Path(word.clone()),
            })
            .collect();
        Ok(Copy {
            add,
            sources,
            destination: destination.clone(),
            from: take("from"),
            chown: take("chown"),
            chmod: take("chmod"),
        })
    }

    fn healthcheck(&self) -> Result<Healthcheck, String> {
        const FLAGS: [&str; 5] = ["interval", "timeout", "start-period", "start-interval", "retries"];
        let Arguments::Text(text) = &self.arguments else { return Err(String::new()) };
        let end = text.find(|c: char| c.is_ascii_whitespace()).unwrap_or(text.len());
        let (kind, rest) = (text[..end].to_ascii_uppercase(), text[end..].trim());
        if kind.is_empty() {
            return Err("HEALTHCHECK requires at least one argument".into());
        }
        let mut check = Healthcheck::default();
        match kind.as_str() {
            "NONE" => {
                if !rest.is_empty() {
                    return Err("HEALTHCHECK NONE takes no arguments".into());
                }
                self.flags(&FLAGS)?;
                check.test = vec!["NONE".into()];
            }
            "CMD" => {
                let words = json_words(rest)?;
                if rest.is_empty() || words.as_ref().is_some_and(Vec::is_empty) {
                    return Err("Missing command after HEALTHCHECK CMD".into());
                }
                let flags = self.flags(&FLAGS)?;
                healthcheck::read_flags(&flags, &mut check)?;
                check.test = match words {
                    Some(words) => std::iter::once("CMD".to_owned()).chain(words).collect(),
                    None => vec!["CMD-SHELL".into(), rest.into()],
                };
            }
            _ => return Err(format!("Unknown type {kind:?} in HEALTHCHECK (try CMD)")),
        }
        Ok(check)
    }

    fn onbuild(&self, text: &str) -> Result<String, String> {
        let trigger = text.split_ascii_whitespace().next().unwrap_or("").to_ascii_uppercase();
        match trigger.as_str() {
            "" => Err("ONBUILD requires at least one argument".into()),
            "ONBUILD" => Err("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed".into()),
            "MAINTAINER" | "FROM" => Err(format!("{trigger} isn't allowed as an ONBUILD trigger")),
            _ => {
                let mut trigger = text.to_owned();
                for document in self.heredocs {
                    trigger.push('\n');
                    trigger.push_str(&document.content);
                    trigger.push_str(&document.name);
                }
                Ok(trigger)
            }
        }
    }
}

fn is_stage_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.'))
}

fn plain_words(text: &str) -> Vec<String> {
    text.split_ascii_whitespace().map(str::to_owned).collect()
}

/// The leading `--flag`s and the rest. `--` alone ends them and stays away.
fn split_flags(text: &str, escape: char) -> (Vec<String>, &str) {
    let mut flags = Vec::new();
    let mut rest = text;
    while rest.starts_with("--") {
        let mut flag = String::new();
        let mut quote = None;
        let mut end = rest.len();
        let mut chars = rest.char_indices();
        while let Some((at, c)) = chars.next() {
            match quote {
                None if c.is_ascii_whitespace() => {
                    end = at;
                    break;
                }
                None if c == '"' || c == '\'' => quote = Some(c),
                Some(open) if c == open => quote = None,
                _ if c == escape && quote != Some('\'') => flag.extend(chars.next().map(|(_, next)| next)),
                _ => flag.push(c),
            }
        }
        rest = rest[end..].trim_start();
        if flag == "--" {
            break;
        }
        flags.push(flag);
    }
    (flags, rest)
}

/// The JSON form, if it is one. An array of other things than strings is an error, anything that is not
/// JSON is text.
fn json_words(text: &str) -> Result<Option<Vec<String>>, String> {
    if !text.starts_with('[') {
        return Ok(None);
    }
    let Ok(values) = serde_json::from_str::<Vec<serde_json::Value>>(text) else { return Ok(None) };
    values
        .into_iter()
        .map(|value| match value {
            serde_json::Value::String(word) => Ok(word),
            _ => Err("when using JSON array syntax, arrays must be comprised of strings only".to_owned()),
        })
        .collect::<Result<Vec<String>, String>>()
        .map(Some)
}

/// `key=value key=value`, or the old `key value with blanks`.
fn pairs(name: &str, text: &str, escape: char) -> Result<Vec<Pair>, String> {
    let words = split_quoted(text, escape);
    let Some(first) = words.first() else { return Ok(Vec::new()) };
    if !first.contains('=') {
        let end = text.find(|c: char| c.is_ascii_whitespace()).unwrap_or(text.len());
        let value = text[end..].trim();
        if value.is_empty() {
            return Err(format!("{name} must have two arguments"));
        }
        return Ok(vec![(text[..end].to_owned(), value.to_owned())]);
    }
    words
        .iter()
        .map(|word| match word.split_once('=') {
            Some((key, value)) => Ok((key.to_owned(), value.to_owned())),
            None => Err(format!("Syntax error - can't find = in {word:?}. Must be of the form: name=value")),
        })
        .collect()
}

/// The names of `ARG`. The error is `None` where there are no words.
fn args(words: &[String]) -> Result<Vec<(String, Option<String>)>, Option<String>> {
    if words.is_empty() {
        return Err(None);
    }
    words
        .iter()
        .map(|word| match word.split_once('=') {
            Some(("", _)) => Err(Some("ARG names can not be blank".into())),
            Some((name, value)) => Ok((name.to_owned(), Some(value.to_owned()))),
            None => Ok((word.clone(), None)),
        })
        .collect()
}

#[cfg(test)]
mod tests;
