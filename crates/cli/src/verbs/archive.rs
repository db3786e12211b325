//! Images and containers as archives: `save`, `load` and `export`; and `commit` and `diff`, which
//! look at what a container changed.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::api::Request;
use crate::commands::{Args, Command};
use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::flags::{Kind, Order, Parsed, both, long};
use crate::resource::Resource;
use crate::show::progress::{self, Counted, bytes_bar};
use crate::spec::env::describe;
use crate::spec::platform;
use crate::terminal;

/// `save`.
pub(crate) static SAVE: Command = Command {
    usage: "IMAGE [IMAGE...]",
    about: "Save one or more images to a tar archive (streamed to STDOUT by default)",
    aliases: "gantry image save, gantry save",
    flags: &[
        both('o', "output", Kind::Text, "Write to a file, instead of STDOUT"),
        long("platform", Kind::Text, "Save only the given platform variant (os[/arch[/variant]])"),
    ],
    order: Order::Mixed,
    args: Args::AtLeast(1),
    run: |context, flags| {
        let out = Destination::open(flags.text("output"), "failed to save image")?;
        let mut request = Request::get("/images/get");
        for image in &flags.args {
            request = request.query("names", image.as_str());
        }
        if let Some(platform) = platform::of_image(flags)? {
            request = request.query("platform", platform);
        }
        out.receive(context, request, "Saving")
    },
};

/// `export`.
pub(crate) static EXPORT: Command = Command {
    usage: "CONTAINER",
    about: "Export a container's filesystem as a tar archive",
    aliases: "gantry container export, gantry export",
    flags: &[both('o', "output", Kind::Text, "Write to a file, instead of STDOUT")],
    order: Order::Mixed,
    args: Args::Exactly(1),
    run: |context, flags| {
        let out = Destination::open(flags.text("output"), "failed to export container")?;
        out.receive(context, Request::get(Resource::container(&flags.args[0])?.at("export")), "Exporting")
    },
};

/// `load`.
pub(crate) static LOAD: Command = Command {
    usage: "",
    about: "Load an image from a tar archive or STDIN",
    aliases: "gantry image load, gantry load",
    flags: &[
        both('i', "input", Kind::Text, "Read from tar archive file, instead of STDIN"),
        long("platform", Kind::Text, "Load only the given platform variant (os[/arch[/variant]])"),
        both('q', "quiet", Kind::Bool, "Suppress the load output"),
    ],
    order: Order::Mixed,
    args: Args::None,
    run: load,
};

/// `commit`.
pub(crate) static COMMIT: Command = Command {
    usage: "CONTAINER [REPOSITORY[:TAG]]",
    about: "Create a new image from a container's changes",
    aliases: "gantry container commit, gantry commit",
    flags: &[
        both('a', "author", Kind::Text, "Author (e.g., \"John Hannibal Smith <hannibal@a-team.com>\")"),
        both('c', "change", Kind::List, "Apply Dockerfile instruction to the created image"),
        both('m', "message", Kind::Text, "Commit message"),
        both('p', "pause", Kind::Bool, "Pause container during commit").or("true"),
    ],
    order: Order::FlagsFirst,
    args: Args::Between(1, 2),
    run: commit,
};

/// `diff`.
pub(crate) static DIFF: Command = Command {
    usage: "CONTAINER",
    about: "Inspect changes to files or directories on a container's filesystem",
    aliases: "gantry container diff, gantry diff",
    flags: &[],
    order: Order::Mixed,
    args: Args::Exactly(1),
    run: |context, flags| {
        let name = &flags.args[0];
        if name.is_empty() {
            return Err(Failure::plain("Container name cannot be empty"));
        }
        let changes = context.api()?.get(Resource::container(name)?.at("changes"))?;
        for change in changes.as_array().into_iter().flatten() {
            let letter = match change["Kind"].as_i64() {
                Some(0) => "C",
                Some(1) => "A",
                Some(2) => "D",
                _ => "",
            };
            println!("{letter} {}", change["Path"].as_str().unwrap_or(""));
        }
        Ok(())
    },
};

/// Where an archive goes: standard output, or a file that appears under its name when it is whole.
#[derive(Debug)]
struct Destination(Option<(PathBuf, PathBuf, File)>);

impl Destination {
    fn open(path: &str, failed: &str) -> Outcome<Self> {
        if path.is_empty() {
            if terminal::stdout_is_terminal() {
                return Err(Failure::plain(
                    "cowardly refusing to save to a terminal. Use the -o flag or redirect",
                ));
            }
            return Ok(Self(None));
        }
        let path = PathBuf::from(path);
        let refuse = |why: String| Failure::plain(format!("{failed}: {why}"));
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        if !parent.is_dir() {
            return Err(refuse(format!(
                "invalid output path: stat {}: no such file or directory",
                parent.display()
            )));
        }
        if path.is_dir() {
            return Err(refuse("cannot write to a directory".into()));
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let staged = parent.join(format!(".tmp-{name}{}", std::process::id()));
        let mut options = fs::OpenOptions::new();
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options
            .write(true)
            .create_new(true)
            .open(&staged)
            .map_err(|error| refuse(format!("open {}: {}", staged.display(), describe(&error))))?;
        Ok(Self(Some((path, staged, file))))
    }

    /// Asks and writes the answer; a file of an answer that broke off does not appear.
    fn receive(mut self, context: &Context, request: Request, doing: &str) -> Outcome {
        let mut answer = context.api()?.open(request)?;
        match self.0.as_mut() {
            Some((path, staged, file)) => {
                let bar = bytes_bar(doing, None);
                io::copy(&mut Counted { inner: &mut answer, bar }, file)?;
                file.flush()?;
                fs::rename(&*staged, &*path)?;
                self.0 = None;
            }
            None => {
                io::copy(&mut answer, &mut io::stdout().lock())?;
            }
        }
        Ok(())
    }
}

impl Drop for Destination {
    fn drop(&mut self) {
        if let Some((_, staged, _)) = &self.0 {
            let _ = fs::remove_file(staged);
        }
    }
}

fn load(context: &Context, flags: &Parsed) -> Outcome {
    let (input, total): (Box<dyn io::Read>, _) = match flags.text("input") {
        "" if terminal::stdin_is_terminal() => {
            return Err(Failure::plain("requested load from stdin, but stdin is empty"));
        }
        "" => (Box::new(io::stdin()), None),
        path => {
            let file = File::open(path)
                .map_err(|error| Failure::plain(format!("open {path}: {}", describe(&error))))?;
            let total = file.metadata()?.len();
            (Box::new(file), Some(total))
        }
    };
    let quiet = flags.is("quiet") || !terminal::stdout_is_terminal();
    let mut request = Request::post("/images/load").query("quiet", if quiet { "1" } else { "0" });
    if let Some(platform) = platform::of_image(flags)? {
        request = request.query("platform", platform);
    }
    let from = Counted { inner: input, bar: bytes_bar("Loading", total) };
    let answer = context.api()?.upload(request, "application/x-tar", from)?;
    progress::show_all(answer, |_| ())
}

fn commit(context: &Context, flags: &Parsed) -> Outcome {
    let (container, reference) = (&flags.args[0], flags.args.get(1).map_or("", String::as_str));
    Resource::container(container)?;
    let mut request = Request::post("/commit").query("container", container.as_str());
    if !reference.is_empty() {
        let parsed = gantry_client::api::model::Reference::parse_normalized(reference)
            .map_err(|why| Failure::plain(why.to_string()))?;
        if parsed.digest().is_some() {
            return Err(Failure::plain("refusing to create a tag with a digest reference"));
        }
        let repository = parsed.familiar_name();
        request = request.query("repo", repository).query("tag", parsed.or_latest().tag().unwrap_or(""));
    }
    for (flag, key) in [("message", "comment"), ("author", "author")] {
        if let Some(text) = flags.given_text(flag) {
            request = request.query(key, text);
        }
    }
    for change in flags.list("change") {
        request = request.query("changes", change);
    }
    if !flags.is("pause") {
        request = request.query("pause", "0");
    }
    let answer = context.api()?.ask(request.json(&serde_json::Value::Null))?;
    println!("{}", answer["Id"].as_str().unwrap_or(""));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_appears_only_when_it_is_whole() {
        let directory = std::env::temp_dir().join(format!("gantry-cli-archive-{}", std::process::id()));
        fs::create_dir(&directory).unwrap();
        let path = directory.join("x.tar");
        drop(Destination::open(path.to_str().unwrap(), "failed to save image").unwrap());
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 0, "what was begun is gone");
        let nowhere = directory.join("no/x").to_string_lossy().into_owned();
        let failure = Destination::open(&nowhere, "failed to save image").unwrap_err();
        assert!(failure.text.starts_with("failed to save image: invalid output path"), "{failure}");
        assert!(Destination::open(directory.to_str().unwrap(), "x").is_err(), "a directory is no file");
        fs::remove_dir_all(&directory).unwrap();
    }
}
