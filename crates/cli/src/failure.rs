//! How a command fails: the exit code and the text for standard error, which are both part of what
//! scripts rely on.

use std::fmt;

/// A command's end other than success.
#[derive(Debug)]
pub(crate) struct Failure {
    /// The process's exit code.
    pub(crate) code: i32,
    /// What standard error is told; nothing where the code says it all (`run … false`).
    pub(crate) text: String,
}

/// What every verb returns.
pub(crate) type Outcome<T = ()> = Result<T, Failure>;

impl Failure {
    /// Fails with a code and a text.
    pub(crate) fn new(code: i32, text: impl Into<String>) -> Self {
        Self { code, text: text.into() }
    }

    /// Fails with code 1.
    pub(crate) fn plain(text: impl Into<String>) -> Self {
        Self::new(1, text)
    }

    /// Ends with a container's or process's own exit code, without a word.
    pub(crate) fn silent(code: i32) -> Self {
        Self::new(code, "")
    }

    /// What to do about it, where we know more than the text says.
    pub(crate) fn hint(&self) -> Option<&'static str> {
        const HINTS: [(&str, &str); 7] = [
            (
                "Cannot connect to the Docker daemon",
                "Start one with: gantry system start (or set DOCKER_HOST, or -H)",
            ),
            (
                "permission denied while trying to connect",
                "Run as root, or join the group that owns the socket",
            ),
            ("port is already allocated", "See who has it: ss -ltnup, or publish another port with -p"),
            ("address already in use", "See who has it: ss -ltnup, or publish another port with -p"),
            (
                "No such image",
                "List what there is: gantry images; make a base image: gantry image bootstrap, gantry import",
            ),
            ("volume is in use", "List the users: gantry ps -a --filter volume=NAME"),
            ("No such container", "List what there is: gantry ps -a"),
        ];
        HINTS.iter().find(|(part, _)| self.text.contains(part)).map(|(_, hint)| *hint)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl From<crate::resource::EmptyName> for Failure {
    fn from(error: crate::resource::EmptyName) -> Self {
        Self::plain(error.to_string())
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::plain(error.to_string())
    }
}
