//! `COPY`, `ADD` and `WORKDIR`.

use std::collections::BTreeMap;

use super::{CreatedBy, Lowered, Lowering};
use crate::dockerfile::instruction::{Copy, CopySource};
use crate::error::BuildError;
use crate::fetch::is_address;
use crate::graph::{CopyAction, Edge, FileAction, FileOp, Op, SourceOp, Vertex};

impl Lowering<'_> {
    pub(super) fn copy(&mut self, copy: &Copy, text: &str) -> Result<Lowered, BuildError> {
        let verb = if copy.add { "ADD" } else { "COPY" };
        let owner = self.word(&copy.chown)?;
        let mode = parse_mode(&self.word(&copy.chmod)?)?;
        let dest = self.word(&copy.destination)?;
        let absolute = self.destination(&dest);
        let from = if copy.from.is_empty() { self.context_source() } else { self.copy_from(&copy.from)? };
        let mut actions = Vec::new();
        let (mut sources, mut addresses) = (Vec::new(), Vec::new());
        let several = copy.sources.len() > 1;
        for source in &copy.sources {
            match source {
                CopySource::Path(path) => {
                    let path = self.word(path)?;
                    if !is_address(&path) {
                        sources.push(inside(&path, verb)?);
                    } else if copy.add {
                        addresses.push(path);
                    } else {
                        return Err(BuildError::Invalid(
                            "COPY failed: source can't be a URL for COPY".into(),
                        ));
                    }
                }
                CopySource::Heredoc(document) => {
                    let data = match document.expand {
                        true => self.expand(|expander| expander.text(&document.content))?,
                        false => document.content.clone(),
                    };
                    actions.push(FileAction::Mkfile {
                        path: absolute.clone(),
                        name: document.name.clone(),
                        data,
                        mode: mode.unwrap_or(0o644),
                        owner: owner.clone(),
                    });
                }
            }
        }
        if several && !absolute.ends_with('/') {
            return Err(BuildError::Invalid(needs_directory(verb)));
        }
        let stage = self.stages.last().expect("the parser refuses instructions before FROM");
        let mut inputs: Vec<Edge> = stage.tree.into_iter().collect();
        let copied = CopyAction {
            from: 0,
            sources,
            dest: absolute,
            owner: owner.clone(),
            mode,
            keep: !copy.from.is_empty() && owner.is_empty(),
            from_context: copy.from.is_empty(),
            unpack: copy.add,
            verb: verb.into(),
            address: String::new(),
        };
        for address in addresses {
            let attrs = BTreeMap::new();
            let op = Op::Source(SourceOp { identifier: address.clone(), attrs });
            let vertex = self.graph.add(Vertex { op, inputs: Vec::new(), name: address.clone() });
            actions.push(FileAction::Copy(CopyAction {
                from: inputs.len(),
                // The one file of its directory, whatever it is called.
                sources: vec!["*".into()],
                keep: false,
                from_context: false,
                unpack: false,
                address,
                ..copied.clone()
            }));
            inputs.push(Edge { vertex, output: 0 });
        }
        if !copied.sources.is_empty() {
            actions.insert(0, FileAction::Copy(CopyAction { from: inputs.len(), ..copied }));
            inputs.push(from);
        }
        let chown = if owner.is_empty() { String::new() } else { format!("--chown={owner} ") };
        let before = stage.nop(&format!("{verb} {chown}"));
        let op = Op::File(FileOp { actions, epoch_secs: stage.epoch.secs() });
        let lowered = self.file_vertex(op, inputs, text);
        Ok(Lowered {
            created_by: Some(CreatedBy::Copied { before, after: format!(" in {dest} ") }),
            ..lowered
        })
    }

    pub(super) fn workdir(&mut self, path: &str, text: &str) -> Result<Lowered, BuildError> {
        let path = self.word(path)?;
        if path.is_empty() {
            return Err(BuildError::Invalid("cannot normalize nothing".into()));
        }
        let stage = self.current();
        let clean = clean_absolute(&stage.config.config.working_dir, &path);
        stage.run_config().working_dir.clone_from(&clean);
        let created_by = Some(CreatedBy::Text(stage.nop(&format!("WORKDIR {clean}"))));
        if clean == "/" {
            return Ok(Lowered { created_by, ..Lowered::nothing() });
        }
        let op = Op::File(FileOp {
            actions: vec![FileAction::Mkdir { path: clean, mode: 0o755 }],
            epoch_secs: stage.epoch.secs(),
        });
        let inputs = stage.tree.into_iter().collect();
        let lowered = self.file_vertex(op, inputs, text);
        Ok(Lowered { created_by, ..lowered })
    }

    fn file_vertex(&mut self, op: Op, inputs: Vec<Edge>, text: &str) -> Lowered {
        let vertex = self.graph.add(Vertex { op, inputs, name: text.into() });
        let edge = Edge { vertex, output: 0 };
        self.current().tree = Some(edge);
        Lowered { solve: Some(edge), ..Lowered::nothing() }
    }

    /// The tree that `--from` names: an earlier stage by name or number, or an image.
    fn copy_from(&mut self, from: &str) -> Result<Edge, BuildError> {
        let invalid = |reason: &str| BuildError::Invalid(format!("invalid from flag value {from}: {reason}"));
        let current = self.stages.len() - 1;
        let number = match from.parse::<usize>() {
            Ok(number) if number == current => return Err(invalid("refers to current build stage")),
            Ok(number) if number > current => return Err(invalid("index out of bounds")),
            Ok(number) => Some(number),
            Err(_) => self.stages[..current].iter().position(|stage| stage.name.eq_ignore_ascii_case(from)),
        };
        if let Some(number) = number {
            return Ok(self.stages[number].tree.unwrap_or_else(|| self.empty_tree()));
        }
        let image =
            self.resolver.resolve(from, self.options.platform.as_ref()).map_err(|error| match error {
                BuildError::NotFound(text) => {
                    BuildError::NotFound(format!("invalid from flag value {from}: {text}"))
                }
                BuildError::Invalid(text) => invalid(&text),
                other => other,
            })?;
        Ok(self.image_source(&image.id))
    }

    /// A tree with nothing in it: that of a stage `FROM scratch`.
    fn empty_tree(&mut self) -> Edge {
        let op = Op::File(FileOp { actions: Vec::new(), epoch_secs: 0 });
        let vertex = self.graph.add(Vertex { op, inputs: Vec::new(), name: "scratch".into() });
        Edge { vertex, output: 0 }
    }

    /// The absolute destination; it ends in `/` where a directory is meant.
    fn destination(&self, dest: &str) -> String {
        let stage = self.stages.last().expect("the parser refuses instructions before FROM");
        let directory = dest.is_empty()
            || dest.ends_with('/')
            || dest == "."
            || dest == ".."
            || dest.ends_with("/.")
            || dest.ends_with("/..");
        let clean = clean_absolute(&stage.config.config.working_dir, dest);
        if directory && clean != "/" { format!("{clean}/") } else { clean }
    }
}

/// Docker's text where several sources meet a destination that is no directory.
pub(crate) fn needs_directory(verb: &str) -> String {
    format!(
        "When using {verb} with more than one source file, the destination must be a directory and end with a /"
    )
}

/// Joins and cleans a path of the image; `..` stops at the root.
fn clean_absolute(base: &str, path: &str) -> String {
    let whole = if path.starts_with('/') { path.to_owned() } else { format!("{base}/{path}") };
    let mut parts: Vec<&str> = Vec::new();
    for part in whole.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

/// A source relative to its root, cleaned; one that leaves it is refused.
fn inside(path: &str, verb: &str) -> Result<String, BuildError> {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.pop().is_none() && !path.starts_with('/') => {
                return Err(BuildError::Invalid(format!(
                    "{verb} failed: forbidden path outside the build context: {path} ()"
                )));
            }
            ".." => {}
            part => parts.push(part),
        }
    }
    Ok(parts.join("/"))
}

/// `--chmod`: octal.
fn parse_mode(text: &str) -> Result<Option<u32>, BuildError> {
    if text.is_empty() {
        return Ok(None);
    }
    match u32::from_str_radix(text, 8) {
        Ok(mode) if mode <= 0o7777 && !text.starts_with('+') => Ok(Some(mode)),
        _ => Err(BuildError::Invalid(format!(
            "invalid chmod parameter: '{text}'. it should be octal string and between 0 and 07777"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_inside() {
        for (base, path, clean) in
            [("", "/a/../b/", "/b"), ("/w", "x/./y", "/w/x/y"), ("/w", "../../../x", "/x"), ("", ".", "/")]
        {
            assert_eq!(clean_absolute(base, path), clean);
        }
        assert_eq!(inside("/a/../../b", "COPY").ok().as_deref(), Some("b"));
        assert_eq!(inside("a/../b/./", "COPY").ok().as_deref(), Some("b"));
        assert_eq!(
            inside("../x", "COPY").expect_err("outside").to_string(),
            "COPY failed: forbidden path outside the build context: ../x ()"
        );
        assert!(inside("a/../../x", "COPY").is_err());
    }

    #[test]
    fn modes_are_octal() {
        assert_eq!(parse_mode("0755").ok(), Some(Some(0o755)));
        assert_eq!(parse_mode("").ok(), Some(None));
        for bad in ["9", "u+x", "17777", "+7", "-7"] {
            assert!(parse_mode(bad).is_err(), "{bad} was taken");
        }
    }
}
