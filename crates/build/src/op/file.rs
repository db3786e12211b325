//! File operations: `COPY`, `ADD`, `WORKDIR`.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufReader, Seek};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use gantry_model::{LayerId, Timestamp};
use gantry_store::archive::{self, ExtractOptions, Limits, Onto, Owner, Whiteouts};
use rustix::fs::{AtFlags, FileType, OFlags, SeekFrom};

use super::copy::{self, Rules};
use super::entry::{Counted, Looker};
use super::select::{Selected, file_name, first_bytes, select};
use super::source::NAMELESS;
use super::{StoreWorker, owner, store_failed, tree};
use crate::error::BuildError;
use crate::event::VertexNumber;
use crate::graph::{CopyAction, FileAction, FileOp};
use crate::solver::key::KeyMaker;
use crate::solver::{Content, Value};

impl StoreWorker<'_> {
    /// The tree of an input, for reading.
    fn open_input(&self, input: &Value) -> Result<OwnedFd, BuildError> {
        match input {
            Value::Context => self
                .context
                .root()
                .try_clone_to_owned()
                .map_err(|error| BuildError::internal("opening the build context failed", error)),
            Value::Fetched(number) => self.remotes.fetched[*number]
                .root()
                .try_clone_to_owned()
                .map_err(|error| BuildError::internal("opening what was fetched failed", error)),
            Value::Tree(layers) => {
                let ids: Vec<LayerId> = layers.iter().map(|layer| layer.id).collect();
                self.store.layers().open(&ids).map_err(store_failed("opening a stage's files failed"))
            }
        }
    }

    /// What the files that an operation selects look like.
    pub(super) fn file_content(&self, op: &FileOp, inputs: &[Value]) -> Result<Option<Content>, BuildError> {
        let mut maker = KeyMaker::new("content");
        let mut names = Vec::new();
        let mut reads = Vec::new();
        for action in &op.actions {
            match action {
                FileAction::Copy(action) => {
                    reads.push(action.from);
                    let root = self.open_input(&inputs[action.from])?;
                    for selected in select(root.as_fd(), action)? {
                        look(&mut maker, &selected, action, op.epoch_secs)?;
                        names.push(match inputs[action.from] {
                            Value::Fetched(_) => "",
                            _ if selected.is_directory() => "dir",
                            _ => "file",
                        });
                    }
                }
                // Its bytes are in the operation; the history wants a name for it.
                FileAction::Mkfile { data, .. } => {
                    maker.field(data.as_bytes());
                    names.push("file");
                }
                FileAction::Mkdir { .. } | FileAction::Rm { .. } => {}
            }
        }
        let kind = match names.as_slice() {
            [] => return Ok(None),
            [kind] => kind,
            _ => "multi",
        };
        let key = maker.finish();
        let note = if kind.is_empty() { key.hex() } else { format!("{kind}:{}", key.hex()) };
        Ok(Some(Content { reads, key, note }))
    }

    pub(super) fn file(
        &self,
        number: VertexNumber,
        op: &FileOp,
        inputs: &[Value],
    ) -> Result<Value, BuildError> {
        let copies = op.actions.iter().find_map(|action| match action {
            FileAction::Copy(copy) => Some(copy.from),
            _ => None,
        });
        // Without a base, the only input is what is copied from.
        let base = if copies == Some(0) { &[] } else { inputs.first().map_or(&[][..], Value::layers) };
        let workspace = self.prepare(number, base)?;
        let root = self
            .store
            .snapshots()
            .open(workspace.id())
            .map_err(store_failed("opening a step's files failed"))?;
        for action in &op.actions {
            if self.cancel.is_cancelled() {
                return Err(BuildError::Cancelled);
            }
            self.act(root.as_fd(), action, op.epoch_secs, inputs)?;
        }
        drop(root);
        self.commit(workspace, base, op.epoch_secs, &[])
    }

    fn act(
        &self,
        root: BorrowedFd<'_>,
        action: &FileAction,
        epoch_secs: i64,
        inputs: &[Value],
    ) -> Result<(), BuildError> {
        let rules = Rules { owner: Some((0, 0)), mode: None, keep_time: false, epoch_secs };
        match action {
            FileAction::Copy(action) => {
                let source = self.open_input(&inputs[action.from])?;
                let owner = match action.owner.as_str() {
                    "" if action.keep => None,
                    "" => Some((0, 0)),
                    text => Some(owner::resolve(root, text)?),
                };
                let rules = Rules { owner, mode: action.mode, keep_time: action.keep, epoch_secs };
                for selected in select(source.as_fd(), action)? {
                    copy_one(root, &selected, action, rules)?;
                }
                Ok(())
            }
            FileAction::Mkfile { path, name, data, mode, owner } => {
                let owner = if owner.is_empty() { Some((0, 0)) } else { Some(owner::resolve(root, owner)?) };
                let rules = Rules { owner, mode: Some(*mode), ..rules };
                let (directory, file) =
                    target(root, path, &file_name(name), rules).map_err(failed("COPY"))?;
                copy::write_file(data.as_bytes(), directory.as_fd(), &file, rules).map_err(failed("COPY"))
            }
            FileAction::Mkdir { path, mode } => {
                let made = copy::directories(root, Path::new(path), *mode, rules);
                made.map(drop).map_err(|error| match error.kind() {
                    io::ErrorKind::NotADirectory => {
                        BuildError::Invalid(format!("Cannot mkdir: {path} is not a directory"))
                    }
                    _ => BuildError::internal(format!("making the directory {path} failed"), error),
                })
            }
            FileAction::Rm { path } => remove(root, Path::new(path))
                .map_err(|error| BuildError::internal(format!("removing {path} failed"), error)),
        }
    }
}

fn failed(verb: &str) -> impl Fn(io::Error) -> BuildError {
    move |error| BuildError::internal(format!("{verb} failed"), error)
}

fn look(
    maker: &mut KeyMaker,
    selected: &Selected,
    action: &CopyAction,
    epoch_secs: i64,
) -> Result<(), BuildError> {
    let failed =
        |error| BuildError::internal(format!("{} failed: {}", action.verb, selected.path.display()), error);
    let counted = Counted { owner_and_time: action.keep, epoch_secs };
    // A directory's own name is not copied, a file's may be.
    if !selected.is_directory() {
        maker.field(selected.name().as_encoded_bytes());
    }
    let file = selected.file.try_clone().map_err(failed)?;
    let mut looker = Looker::new(maker, counted);
    match tree::kind(&selected.stat) {
        FileType::Directory => looker.directory(file, &selected.stat, 0).map_err(failed),
        FileType::RegularFile => {
            let result = looker.file(file, &selected.stat).map_err(failed);
            // The descriptor's position is shared with the one that will be copied from.
            rustix::fs::seek(&selected.file, SeekFrom::Start(0)).map_err(|e| failed(e.into()))?;
            result
        }
        _ => {
            maker.number(selected.stat.st_rdev);
            maker.number(u64::from(selected.stat.st_mode));
            Ok(())
        }
    }
}

fn copy_one(
    root: BorrowedFd<'_>,
    selected: &Selected,
    action: &CopyAction,
    rules: Rules,
) -> Result<(), BuildError> {
    let failed =
        |error| BuildError::internal(format!("{} failed: {}", action.verb, selected.path.display()), error);
    match tree::kind(&selected.stat) {
        FileType::Directory => {
            let mode = rules.mode.unwrap_or(0o755);
            let dest = Path::new(&action.dest);
            let target = copy::directories(root, dest, mode, rules).map_err(|error| {
                in_the_way(&error, &format!("failed to copy directory: mkdir {}", action.dest))
                    .unwrap_or_else(|| failed(error))
            })?;
            copy::contents(selected.file.as_fd(), target.as_fd(), rules, 0).map_err(failed)
        }
        FileType::RegularFile => {
            if action.unpack && unpack(root, selected, action, rules)? {
                return Ok(());
            }
            let named = selected.name();
            if named == NAMELESS && is_into_directory(root, &action.dest) {
                return Err(BuildError::Invalid(format!(
                    "{} failed: cannot determine filename for source {}",
                    action.verb, action.address
                )));
            }
            let (directory, name) = target(root, &action.dest, named, rules).map_err(|error| {
                in_the_way(&error, &format!("lstat {}", action.dest)).unwrap_or_else(|| failed(error))
            })?;
            let source = selected.file.try_clone().map_err(failed)?;
            copy::file(source, &selected.stat, directory.as_fd(), &name, rules).map_err(failed)
        }
        _ => Err(BuildError::Invalid(format!(
            "{} failed: {} is neither a file nor a directory",
            action.verb,
            selected.path.display()
        ))),
    }
}

/// Docker's text where something that is no directory is in the way of a destination.
fn in_the_way(error: &io::Error, what: &str) -> Option<BuildError> {
    (error.kind() == io::ErrorKind::NotADirectory)
        .then(|| BuildError::Invalid(format!("failed to copy files: {what}: not a directory")))
}

/// Whether a file that goes to a destination keeps its name.
fn is_into_directory(root: BorrowedFd<'_>, dest: &str) -> bool {
    dest.ends_with('/') || tree::follow(root, Path::new(dest)).is_ok_and(|path| is_directory(root, &path))
}

fn is_directory(root: BorrowedFd<'_>, path: &Path) -> bool {
    tree::open(root, path, OFlags::PATH | OFlags::DIRECTORY).is_ok()
}

/// Where a file goes: the directory, made if it is not there, and the name in it.
fn target(
    root: BorrowedFd<'_>,
    dest: &str,
    name: &OsStr,
    rules: Rules,
) -> io::Result<(OwnedFd, std::ffi::OsString)> {
    // A file that goes to where a link is goes to where the link leads.
    let path = tree::follow(root, Path::new(dest))?;
    let path = path.as_path();
    if dest.ends_with('/') || is_directory(root, path) {
        return Ok((copy::directories(root, path, 0o755, rules)?, name.to_owned()));
    }
    let parent = path.parent().unwrap_or(Path::new("/"));
    let name = path.file_name().unwrap_or(name).to_owned();
    Ok((copy::directories(root, parent, 0o755, rules)?, name))
}

/// Unpacks a local archive, if it is one.
fn unpack(
    root: BorrowedFd<'_>,
    selected: &Selected,
    action: &CopyAction,
    rules: Rules,
) -> Result<bool, BuildError> {
    let name = selected.path.display();
    let failed = |error: io::Error| BuildError::internal(format!("ADD failed: {name}"), error);
    let mut first = [0; 512];
    let count = first_bytes(&selected.file, &mut first).map_err(failed)?;
    let first = &first[..count];
    if archive::detect(first).is_none() {
        return Ok(false);
    }
    let looked_at = File::from(selected.file.try_clone().map_err(failed)?);
    if !archive::is_archive(BufReader::new(looked_at)).map_err(failed)? {
        // Compressed, but no tar: Docker copies it as it is. The descriptor's position is shared.
        rustix::fs::seek(&selected.file, SeekFrom::Start(0)).map_err(|error| failed(error.into()))?;
        return Ok(false);
    }
    // What is unpacked has the archive's owners, whatever `--chown` says: as in Docker.
    let rules = Rules { owner: Some((0, 0)), ..rules };
    let target = copy::directories(root, Path::new(&action.dest), 0o755, rules).map_err(failed)?;
    let epoch = Timestamp::from_secs(rules.epoch_secs);
    let options = ExtractOptions {
        limits: Limits::default(),
        whiteouts: Whiteouts::Ordinary,
        owner: Owner::Archive,
        epoch: Some(epoch),
        implied_time: epoch,
        onto: Onto::New,
    };
    let mut source = File::from(selected.file.try_clone().map_err(failed)?);
    source.rewind().map_err(failed)?;
    archive::extract(source, target.as_fd(), &options)
        .map_err(|error| BuildError::internal(format!("ADD failed: {name}"), error))?;
    Ok(true)
}

/// Removes a path of a tree and everything below it; one that is not there is no error.
fn remove(root: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Ok(()) };
    match tree::open(root, parent, OFlags::RDONLY | OFlags::DIRECTORY) {
        Ok(parent) => remove_entry(parent.as_fd(), name, 0),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

fn remove_entry(directory: BorrowedFd<'_>, name: &OsStr, depth: usize) -> io::Result<()> {
    let stat = match tree::stat_entry(directory, name) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        result => result?,
    };
    if tree::kind(&stat) != FileType::Directory {
        return Ok(rustix::fs::unlinkat(directory, name, AtFlags::empty())?);
    }
    if depth > tree::MAX_DEPTH {
        return Err(io::Error::other(format!("directories are nested more than {} deep", tree::MAX_DEPTH)));
    }
    let inner = tree::open_entry(directory, name, OFlags::RDONLY | OFlags::DIRECTORY)?;
    for name in tree::names(inner.as_fd())? {
        remove_entry(inner.as_fd(), &name, depth + 1)?;
    }
    Ok(rustix::fs::unlinkat(directory, name, AtFlags::REMOVEDIR)?)
}
