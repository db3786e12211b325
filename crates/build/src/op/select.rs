//! Sources of `COPY`: paths and patterns to files, in the order and with the errors of the classic
//! builder.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use rustix::fs::{FileType, OFlags, Stat};

use super::tree;
use crate::dockerignore::pattern::match_component;
use crate::error::BuildError;
use crate::graph::CopyAction;

/// One file or directory that was selected, links resolved.
pub(super) struct Selected {
    /// Its path in its tree, relative.
    pub(super) path: PathBuf,
    /// It, opened for reading if it is a file or directory, else as a path.
    pub(super) file: OwnedFd,
    /// Its state.
    pub(super) stat: Stat,
}

impl Selected {
    pub(super) fn is_directory(&self) -> bool {
        tree::kind(&self.stat) == FileType::Directory
    }

    /// The last part of its path; empty for the root.
    pub(super) fn name(&self) -> &OsStr {
        self.path.file_name().unwrap_or_default()
    }

    fn open(root: BorrowedFd<'_>, path: PathBuf) -> io::Result<Self> {
        let found = tree::open(root, &path, OFlags::PATH)?;
        let stat = rustix::fs::fstat(&found)?;
        let file = match tree::kind(&stat) {
            // Nothing else may be opened: a device would act, a FIFO would wait.
            FileType::RegularFile | FileType::Directory => {
                tree::open(root, &path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)?
            }
            _ => found,
        };
        Ok(Self { path, file, stat })
    }
}

/// More sources than this are not named by one instruction.
const MAX_SELECTED: usize = 100_000;

/// Finds the sources of a copy in a tree, in the order of the instruction, patterns' sorted.
///
/// # Errors
/// [`BuildError::NotFound`] for a path that is not there, [`BuildError::Invalid`] where patterns matched
/// nothing at all.
pub(super) fn select(root: BorrowedFd<'_>, action: &CopyAction) -> Result<Vec<Selected>, BuildError> {
    let mut selected = Vec::new();
    for source in &action.sources {
        let paths =
            if is_pattern(source) { expand(root, action, source)? } else { vec![PathBuf::from(source)] };
        for path in paths {
            let found = Selected::open(root, path).map_err(|error| not_found(action, source, error))?;
            selected.push(found);
            if selected.len() > MAX_SELECTED {
                return Err(BuildError::Invalid(format!(
                    "{} failed: more than {MAX_SELECTED} sources",
                    action.verb
                )));
            }
        }
    }
    if selected.is_empty() {
        return Err(BuildError::NotFound(format!("{} failed: no source files were specified", action.verb)));
    }
    if selected.len() > 1 && !action.dest.ends_with('/') {
        return Err(BuildError::Invalid(crate::dockerfile::lower::needs_directory(&action.verb)));
    }
    Ok(selected)
}

fn not_found(action: &CopyAction, source: &str, error: io::Error) -> BuildError {
    let verb = &action.verb;
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory if action.from_context => {
            BuildError::NotFound(format!(
                "{verb} failed: file not found in build context or excluded by .dockerignore: stat {source}: file does not exist"
            ))
        }
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
            BuildError::NotFound(format!("{verb} failed: stat {source}: file does not exist"))
        }
        _ => BuildError::internal(format!("{verb} failed: {source}"), error),
    }
}

fn is_pattern(path: &str) -> bool {
    path.contains(['*', '?', '[', '\\'])
}

/// Expands a pattern component by component; links among them are followed within the tree.
fn expand(root: BorrowedFd<'_>, action: &CopyAction, pattern: &str) -> Result<Vec<PathBuf>, BuildError> {
    let failed = |error: io::Error| BuildError::internal(format!("{} failed: {pattern}", action.verb), error);
    let mut paths = vec![PathBuf::new()];
    for component in pattern.split('/') {
        let mut next = Vec::new();
        for path in &paths {
            if !is_pattern(component) {
                next.push(path.join(component));
                continue;
            }
            let flags = OFlags::RDONLY | OFlags::DIRECTORY;
            let directory = match tree::open(root, path, flags) {
                Ok(directory) => directory,
                Err(error)
                    if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) =>
                {
                    continue;
                }
                Err(error) => return Err(failed(error)),
            };
            for name in tree::names(directory.as_fd()).map_err(failed)? {
                // As in Docker, a pattern that is none fits nothing.
                if match_component(component.as_bytes(), name.as_bytes()).unwrap_or(false) {
                    next.push(path.join(&name));
                }
            }
            if next.len() > MAX_SELECTED {
                return Err(BuildError::Invalid(format!(
                    "{} failed: {pattern} matches too much",
                    action.verb
                )));
            }
        }
        paths = next;
    }
    // Fixed components behind a pattern need not be there.
    let there = |path: &PathBuf| tree::open(root, path, OFlags::PATH | OFlags::NOFOLLOW).is_ok();
    Ok(paths.into_iter().filter(there).collect())
}

/// The first bytes of a file, without moving its position.
pub(super) fn first_bytes(file: impl AsFd, buffer: &mut [u8]) -> io::Result<usize> {
    let mut have = 0;
    while have < buffer.len() {
        match rustix::io::pread(&file, &mut buffer[have..], have as u64)? {
            0 => break,
            count => have += count,
        }
    }
    Ok(have)
}

/// The name for a file in a directory: an `OsString` that is one component.
pub(super) fn file_name(name: &str) -> OsString {
    OsString::from(name.replace('/', "_"))
}
