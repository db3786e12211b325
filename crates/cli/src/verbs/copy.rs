//! `cp`: files and trees between this machine and a container, as archives.
//!
//! The daemon packs and unpacks its side ([`crate::tree`] ours); what is decided here is the name under which
//! something arrives:
//! ```text
//! source          destination            arrives as
//! file            directory              directory/file
//! file            new name, other file   that name
//! directory       directory              directory/its name; with "/." its content alone
//! directory       new name               that name
//! ```

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use gantry_client::api::archive::{PATH_STAT_HEADER, PathStat};
use indicatif::ProgressBar;

use crate::api::{Api, Request};
use crate::commands::{Args, Command};
use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::flags::{Kind, Order, Parsed, both};
use crate::resource::Resource;
use crate::show::progress::{Counted, bytes_bar};
use crate::show::units::human_size;
use crate::spec::env::describe;
use crate::terminal;
use crate::tree::{self, Owner, Rename};

/// `cp`.
pub(crate) static CP: Command = Command {
    usage: "CONTAINER:SRC_PATH DEST_PATH|-\n\tgantry cp [OPTIONS] SRC_PATH|- CONTAINER:DEST_PATH",
    about: "Copy files/folders between a container and the local filesystem",
    aliases: "gantry container cp, gantry cp",
    flags: &[
        both('a', "archive", Kind::Bool, "Archive mode (copy all uid/gid information)"),
        both('L', "follow-link", Kind::Bool, "Always follow symbol link in SRC_PATH"),
        both('q', "quiet", Kind::Bool, "Suppress progress output during copy"),
    ],
    order: Order::Mixed,
    args: Args::Exactly(2),
    run: copy,
};

/// Links that are followed to find out where a destination is.
const MOST_LINKS: usize = 10;

/// A container and a path in it; an argument without a container is a path here.
fn split(argument: &str) -> (Option<&str>, &str) {
    match argument.split_once(':') {
        // `./a:b` and `/a:b` are files here.
        Some((container, path)) if !container.is_empty() && !argument.starts_with(['/', '.']) => {
            (Some(container), path)
        }
        _ => (None, argument),
    }
}

fn copy(context: &Context, flags: &Parsed) -> Outcome {
    let (source, destination) = (flags.args[0].as_str(), flags.args[1].as_str());
    if source.is_empty() {
        return Err(Failure::plain("source can not be empty"));
    }
    if destination.is_empty() {
        return Err(Failure::plain("destination can not be empty"));
    }
    match (split(source), split(destination)) {
        ((Some(_), _), (Some(_), _)) => Err(Failure::plain("copying between containers is not supported")),
        ((Some(container), path), (None, here)) => from_container(context, flags, container, path, here),
        ((None, here), (Some(container), path)) => to_container(context, flags, here, container, path),
        _ => Err(Failure::plain("must specify at least one container source")),
    }
}

fn archive_of(container: &str) -> Outcome<String> {
    Ok(Resource::container(container)?.at("archive"))
}

/// Asks what a path in a container is; `None` where that cannot be told.
fn stat(api: &Api, container: &str, path: &str) -> Outcome<Option<PathStat>> {
    match api.ask_head(Request::head(archive_of(container)?).query("path", path), PATH_STAT_HEADER) {
        Ok(value) => Ok(value.as_deref().and_then(PathStat::from_header)),
        Err(error) if error.status() != 0 => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// What stands before the last name of a path, and the name; a path that ends in `/.` or a slash is itself.
fn parent_and_name(path: &str) -> (String, String) {
    let cleaned = clean(path);
    match cleaned.rsplit_once('/') {
        Some(_) if says_content(path) => (cleaned, ".".into()),
        None if says_content(path) => (cleaned, ".".into()),
        Some(("", "")) => ("/".into(), "/".into()),
        Some(("", name)) => ("/".into(), name.into()),
        Some((parent, name)) => (parent.into(), name.into()),
        None => (".".into(), cleaned),
    }
}

/// A path without `.`, `..` (by text) and superfluous slashes.
fn clean(path: &str) -> String {
    let absolute = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if absolute || parts.last().is_some_and(|last| *last != "..") => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    match (absolute, parts.join("/")) {
        (true, rest) => format!("/{rest}"),
        (false, rest) if rest.is_empty() => ".".into(),
        (false, rest) => rest,
    }
}

/// Whether a path stands for a directory's content: its last component is `.`.
fn says_content(path: &str) -> bool {
    path.trim_end_matches('/').rsplit('/').next() == Some(".")
}

/// Whether a path says that it is a directory.
fn says_directory(path: &str) -> bool {
    path.ends_with('/') || says_content(path)
}

/// What is there at a destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum There {
    Nothing,
    Directory,
    Other,
}

/// Where an archive is unpacked, and how what is in it is called there.
#[derive(Debug, PartialEq, Eq)]
struct Landing {
    directory: String,
    rename: Option<Rename>,
}

/// Decides where a source lands. `name` is what the archive calls its root.
///
/// # Errors
/// Docker's texts for what cannot be.
fn land(name: &str, is_directory: bool, destination: &str, there: There) -> Outcome<Landing> {
    let renamed = || {
        let (directory, to) = parent_and_name(destination);
        Landing { directory, rename: Some(Rename { from: name.to_owned(), to }) }
    };
    match there {
        There::Directory => Ok(Landing { directory: destination.into(), rename: None }),
        There::Other if is_directory => Err(Failure::plain("cannot copy directory")),
        There::Nothing if !is_directory && says_directory(destination) => {
            Err(Failure::plain("no such directory"))
        }
        There::Nothing | There::Other => Ok(renamed()),
    }
}

fn is_quiet(flags: &Parsed) -> bool {
    if flags.given("quiet") { flags.is("quiet") } else { !terminal::stdout_is_terminal() }
}

/// A bar while the user watches, and what is said in the end.
struct Progress {
    bar: ProgressBar,
    quiet: bool,
}

impl Progress {
    fn new(flags: &Parsed, doing: &str) -> Self {
        let quiet = is_quiet(flags);
        Self { bar: if quiet { ProgressBar::hidden() } else { bytes_bar(doing, None) }, quiet }
    }

    fn end(self, to: &str) {
        let bytes = i64::try_from(self.bar.position()).unwrap_or(i64::MAX);
        self.bar.finish_and_clear();
        if !self.quiet {
            eprintln!("Successfully copied {} to {to}", human_size(bytes));
        }
    }
}

/// A path of this machine, absolute, with what it says at its end.
fn here(path: &str) -> Outcome<String> {
    let absolute = std::path::absolute(path)?.to_string_lossy().into_owned();
    let mut cleaned = clean(&absolute);
    if says_content(path) {
        cleaned.push_str("/.");
    } else if path.ends_with('/') && cleaned != "/" {
        cleaned.push('/');
    }
    Ok(cleaned)
}

fn from_container(context: &Context, flags: &Parsed, container: &str, path: &str, to: &str) -> Outcome {
    let api = context.api()?;
    let destination = if to == "-" { to.to_owned() } else { here(to)? };
    let (parent, _) = parent_and_name(destination.trim_end_matches('/'));
    if to != "-" && !Path::new(&parent).exists() {
        return Err(Failure::plain(format!("invalid output path: directory {parent:?} does not exist")));
    }
    let (mut path, mut called) = (path.to_owned(), None);
    if flags.is("follow-link")
        && let Some(found) = stat(api, container, &path)?
        && found.is_symlink()
    {
        // What the link leads to arrives under the link's name.
        called = Some(parent_and_name(&path).1);
        path = if found.link_target.starts_with('/') {
            found.link_target
        } else {
            clean(&format!("{}/{}", parent_and_name(&path).0, found.link_target))
        };
    }
    let request = Request::get(archive_of(container)?).query("path", path.as_str());
    let mut answer = api.open(request)?;
    if to == "-" {
        io::copy(&mut answer, &mut io::stdout().lock())?;
        return Ok(());
    }
    let stat = answer.header(PATH_STAT_HEADER).and_then(PathStat::from_header);
    let is_directory = stat.is_some_and(|stat| stat.is_directory());
    let own = match parent_and_name(&path).1 {
        // What is above the root is the root.
        above if above == ".." => parent_and_name(&clean(&format!("/{path}"))).1,
        own => own,
    };
    let landing = target_here(&destination)?;
    let mut landing = land(&own, is_directory, &landing.0, landing.1)?;
    if let (None, Some(called)) = (&landing.rename, called) {
        landing.rename = Some(Rename { from: own, to: called });
    }
    let progress = Progress::new(flags, "Copying from container");
    let counted = Counted { inner: answer, bar: progress.bar.clone() };
    let owner = if flags.is("archive") { Owner::Kept } else { Owner::User };
    tree::unpack(counted, Path::new(&landing.directory), landing.rename.as_ref(), owner)?;
    progress.end(&destination);
    Ok(())
}

/// What a destination here is, links followed.
fn target_here(path: &str) -> Outcome<(String, There)> {
    let mut path = path.to_owned();
    for _ in 0..MOST_LINKS {
        match fs::symlink_metadata(&path) {
            Ok(found) if found.is_symlink() => {
                let target = fs::read_link(&path)?;
                let parent = PathBuf::from(parent_and_name(&path).0);
                path = clean(&parent.join(target).to_string_lossy());
            }
            Ok(found) if found.is_dir() => return Ok((path, There::Directory)),
            Ok(_) => return Ok((path, There::Other)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((path, There::Nothing)),
            // A file with a slash behind it.
            Err(error) => return Err(Failure::plain(format!("stat {path}: {}", describe(&error)))),
        }
    }
    Err(Failure::plain(format!("copy: {path}: too many links")))
}

fn to_container(context: &Context, flags: &Parsed, from: &str, container: &str, path: &str) -> Outcome {
    let api = context.api()?;
    let source = if from == "-" { from.to_owned() } else { here(from)? };
    let mut destination = path.to_owned();
    let mut found = stat(api, container, path)?;
    if let Some(link) = found.as_ref().filter(|found| found.is_symlink()) {
        destination = if link.link_target.starts_with('/') {
            link.link_target.clone()
        } else {
            clean(&format!("{}/{}", parent_and_name(path).0, link.link_target))
        };
        found = stat(api, container, &destination)?;
    }
    if found.as_ref().is_some_and(PathStat::is_special) {
        return Err(Failure::plain(format!(
            "destination \"{container}:{path}\" must be a directory or a regular file: got a device, socket or pipe"
        )));
    }
    let there = match found {
        None => There::Nothing,
        Some(found) if found.is_directory() => There::Directory,
        Some(_) => There::Other,
    };
    let archive = archive_of(container)?;
    let put = |place: &str| {
        let request = Request::put(archive.as_str()).query("path", place);
        let request = request.query("noOverwriteDirNonDir", "true");
        if flags.is("archive") { request.query("copyUIDGID", "true") } else { request }
    };
    let progress = Progress::new(flags, "Copying to container");
    let bar = progress.bar.clone();
    let shown = format!("{container}:{destination}");
    if from == "-" {
        if there != There::Directory {
            return Err(Failure::plain(format!("destination \"{container}:{path}\" must be a directory")));
        }
        let counted = Counted { inner: io::stdin(), bar };
        api.upload(put(&destination), "application/x-tar", counted)?;
        progress.end(&shown);
        return Ok(());
    }
    let (resolved, name) = resolve_source(&source, flags.is("follow-link"))?;
    let is_directory = fs::symlink_metadata(&resolved)
        .map_err(|error| Failure::plain(format!("lstat {resolved}: {}", describe(&error))))?
        .is_dir();
    let landing = land(&name, is_directory, &destination, there)?;
    let name = match &landing.rename {
        Some(rename) => rename.to.clone(),
        None => name,
    };
    let resolved = PathBuf::from(resolved);
    api.upload_written(put(&landing.directory), "application/x-tar", move |out| {
        tree::pack(&resolved, &name, tree::Metered { inner: out, bar })
    })?;
    progress.end(&shown);
    Ok(())
}

/// The path of a source, its links followed if that is wanted (the last one only then), and what it is called.
fn resolve_source(source: &str, follow: bool) -> Outcome<(String, String)> {
    let (parent, name) = parent_and_name(source);
    let failed = |error: &io::Error| Failure::plain(format!("lstat {source}: {}", describe(error)));
    if follow || source.ends_with('/') || name == "." {
        let resolved = fs::canonicalize(source).map_err(|error| match fs::read_link(source) {
            // Told of what is missing, as Docker does.
            Ok(target) => {
                let target = clean(&Path::new(&parent).join(target).to_string_lossy());
                Failure::plain(format!("lstat {target}: {}", describe(&error)))
            }
            Err(_) => failed(&error),
        })?;
        return Ok((resolved.to_string_lossy().into_owned(), name));
    }
    let parent = fs::canonicalize(&parent).map_err(|error| failed(&error))?;
    fs::symlink_metadata(source).map_err(|error| failed(&error))?;
    Ok((parent.join(&name).to_string_lossy().into_owned(), name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_name_containers_or_files() {
        for (argument, want) in [
            ("c:/x", (Some("c"), "/x")),
            ("c:x", (Some("c"), "x")),
            ("./c:x", (None, "./c:x")),
            ("/c:x", (None, "/c:x")),
            ("x", (None, "x")),
            ("-", (None, "-")),
            (":", (None, ":")),
        ] {
            assert_eq!(split(argument), want, "{argument}");
        }
    }

    #[test]
    fn paths_are_taken_apart_as_docker_takes_them() {
        for (path, parent, name) in [
            ("/a/b", "/a", "b"),
            ("/a", "/", "a"),
            ("/", "/", "/"),
            ("a", ".", "a"),
            ("a/b/", "a", "b"),
            ("/a/b/.", "/a/b", "."),
            (".", ".", "."),
            ("/a/../b", "/", "b"),
        ] {
            assert_eq!(parent_and_name(path), (parent.to_owned(), name.to_owned()), "{path}");
        }
    }

    #[test]
    fn what_arrives_where() {
        let check = |name: &str, is_directory, destination: &str, there| match land(
            name,
            is_directory,
            destination,
            there,
        ) {
            Ok(landing) => {
                let rename = landing.rename.map_or(String::new(), |rename| format!(" as {}", rename.to));
                format!("{}{rename}", landing.directory)
            }
            Err(failure) => failure.text,
        };
        assert_eq!(check("f", false, "/d", There::Directory), "/d");
        assert_eq!(check("f", false, "/d/g", There::Nothing), "/d as g");
        assert_eq!(check("f", false, "/d/g", There::Other), "/d as g");
        assert_eq!(check("f", false, "/d/g/", There::Nothing), "no such directory");
        assert_eq!(check("t", true, "/d", There::Directory), "/d");
        assert_eq!(check("t", true, "/d/n", There::Nothing), "/d as n");
        assert_eq!(check("t", true, "/d/n/", There::Nothing), "/d as n");
        assert_eq!(check("t", true, "/d/n", There::Other), "cannot copy directory");
        assert_eq!(check(".", true, "/n", There::Nothing), "/ as n");
    }
}
