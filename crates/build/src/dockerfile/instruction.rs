//! Instructions as values.

use gantry_model::image::Healthcheck;

use super::lexer::Heredoc;

/// One instruction with where and how it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// The number of its first line, from 1; 0 for those that did not come from the Dockerfile.
    pub line: usize,
    /// As written, continuation lines joined.
    pub text: String,
    /// What it means.
    pub instruction: Instruction,
}

/// `FROM` and what follows it until the next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stage {
    /// The number of the line of `FROM`.
    pub line: usize,
    /// `FROM` as written.
    pub text: String,
    /// The base as written: an image, an earlier stage, `scratch`, with variables.
    pub base: String,
    /// `--platform` as written, or empty.
    pub platform: String,
    /// `AS`, in lower case, or empty.
    pub name: String,
    /// The rest.
    pub statements: Vec<Statement>,
}

/// A command in shell or exec form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// A text for the shell.
    Shell(String),
    /// Words of the JSON form.
    Exec(Vec<String>),
}

impl Command {
    /// Whether nothing was written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        match self {
            Self::Shell(text) => text.is_empty(),
            Self::Exec(words) => words.is_empty(),
        }
    }
}

/// A key and its value as written, quotes and variables included.
pub type Pair = (String, String);

/// One source of `COPY` and `ADD`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CopySource {
    /// A path or pattern, with variables.
    Path(String),
    /// A here-document: a file of its name.
    Heredoc(Heredoc),
}

/// `COPY` or `ADD`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copy {
    /// Whether it is `ADD`: local archives are unpacked, addresses are fetched.
    pub add: bool,
    /// What is copied.
    pub sources: Vec<CopySource>,
    /// Where to, with variables.
    pub destination: String,
    /// `--from` as written, or empty.
    pub from: String,
    /// `--chown` as written, or empty.
    pub chown: String,
    /// `--chmod` as written, or empty.
    pub chmod: String,
}

/// `RUN`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// What is run.
    pub command: Command,
    /// Its here-documents, which go after the text of the shell form.
    pub heredocs: Vec<Heredoc>,
    /// The flags that need BuildKit, by name.
    pub flags: Vec<String>,
}

/// An instruction other than `FROM`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Instruction {
    /// `ADD` and `COPY`.
    Copy(Copy),
    /// `ARG`: names with their defaults.
    Arg(Vec<(String, Option<String>)>),
    /// `CMD`.
    Cmd(Command),
    /// `ENTRYPOINT`.
    Entrypoint(Command),
    /// `ENV`.
    Env(Vec<Pair>),
    /// `EXPOSE`: port specifications with variables.
    Expose(Vec<String>),
    /// `HEALTHCHECK`.
    Healthcheck(Healthcheck),
    /// `LABEL`.
    Label(Vec<Pair>),
    /// `MAINTAINER`.
    Maintainer(String),
    /// `ONBUILD`: the instruction as text.
    Onbuild(String),
    /// `RUN`.
    Run(Run),
    /// `SHELL`.
    Shell(Vec<String>),
    /// `STOPSIGNAL`.
    StopSignal(String),
    /// `USER`.
    User(String),
    /// `VOLUME`.
    Volume(Vec<String>),
    /// `WORKDIR`.
    Workdir(String),
}
