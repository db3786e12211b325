//! The paths of things in the API: the one place where a name that a user typed becomes part of a path.
//!
//! A name is escaped here, and one that is empty is refused here, in the stock client's words: in a path it would
//! leave `/containers//start`, which means something else or nothing.

use std::fmt;

use gantry_client::image_path;

/// The path of one thing; [`Self::at`] is what is done with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Resource(String);

/// Says of which kind of thing a name was empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct EmptyName(&'static str);

impl fmt::Display for EmptyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            "image" => f.write_str("Error: No such image: "),
            kind => write!(f, "invalid {kind} name or ID: value is empty"),
        }
    }
}

impl Resource {
    /// A container's, by name or id; spaces around it and the slash that names have in inspect go.
    ///
    /// # Errors
    /// Nothing is left of it.
    pub(crate) fn container(name: &str) -> Result<Self, EmptyName> {
        Self::new("container", name)
    }

    /// An image's, by reference or id.
    ///
    /// # Errors
    /// It is empty.
    pub(crate) fn image(name: &str) -> Result<Self, EmptyName> {
        Self::new("image", name)
    }

    /// A network's, by name or id.
    ///
    /// # Errors
    /// It is empty.
    pub(crate) fn network(name: &str) -> Result<Self, EmptyName> {
        Self::new("network", name)
    }

    /// A volume's.
    ///
    /// # Errors
    /// It is empty.
    pub(crate) fn volume(name: &str) -> Result<Self, EmptyName> {
        Self::new("volume", name)
    }

    fn new(kind: &'static str, name: &str) -> Result<Self, EmptyName> {
        match image_path(name.trim()) {
            escaped if escaped.is_empty() => Err(EmptyName(kind)),
            escaped => Ok(Self(format!("/{kind}s/{escaped}"))),
        }
    }

    /// What is below the thing: `/containers/web/start`.
    pub(crate) fn at(&self, what: &str) -> String {
        format!("{}/{what}", self.0)
    }
}

/// The thing's own path.
impl From<Resource> for String {
    fn from(path: Resource) -> Self {
        path.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_escaped_and_none_is_empty() {
        let container = |name: &str| Resource::container(name).map(|path| path.at("start"));
        assert_eq!(container("/web").as_deref(), Ok("/containers/web/start"));
        assert_eq!(container(" a?b#c ").as_deref(), Ok("/containers/a%3Fb%23c/start"));
        for name in ["", "  ", "/"] {
            let why = container(name).expect_err(name).to_string();
            assert_eq!(why, "invalid container name or ID: value is empty", "{name:?}");
        }
        assert_eq!(Resource::image("a/b:1").map(String::from).as_deref(), Ok("/images/a/b:1"));
        assert_eq!(
            Resource::volume("").expect_err("empty").to_string(),
            "invalid volume name or ID: value is empty"
        );
        assert_eq!(Resource::image("").expect_err("empty").to_string(), "Error: No such image: ");
    }
}
