//! `build`: the context goes up as a tar stream, the builder's text comes back.

use std::fs;
use std::io::{self, IsTerminal as _, Read, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Map, Value, json};

use crate::api::{Answer, Request};
use crate::build_context::ignore::Ignore;
use crate::build_context::send::{self, Context as Files};
use crate::commands::{Args, Command};
use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::flags::{Kind, Order, Parsed, both, check, long};
use crate::show::progress;
use crate::show::units::human_size4;
use crate::spec::env::{describe, key_values};

/// `build`.
pub(crate) static BUILD: Command = Command {
    usage: "PATH | URL | -",
    about: "Build an image from a Dockerfile",
    aliases: "gantry image build, gantry build",
    flags: &[
        long("add-host", Kind::HostEntry, "Add a custom host-to-IP mapping (host:ip)"),
        long("build-arg", Kind::Env, "Set build-time variables"),
        long("cache-from", Kind::Strings, "Images to consider as cache sources"),
        long("cgroup-parent", Kind::Text, "Parent cgroup of RUN steps"),
        long("compress", Kind::Bool, "Compress the build context using gzip"),
        long("cpu-period", Kind::Int, "CPU period in microseconds"),
        long("cpu-quota", Kind::Int, "CPU time per period in microseconds"),
        both('c', "cpu-shares", Kind::Int, "CPU shares (relative weight)"),
        long("cpuset-cpus", Kind::Text, "CPUs to run on (0-3, 0,1)"),
        long("cpuset-mems", Kind::Text, "Memory nodes to use (0-3, 0,1)"),
        long("disable-content-trust", Kind::Bool, "").or("true"),
        both('f', "file", Kind::Text, "Name of the Dockerfile (default is PATH/Dockerfile)"),
        long("force-rm", Kind::Bool, "Always remove intermediate containers"),
        long("isolation", Kind::Text, ""),
        long("iidfile", Kind::Text, "Write the image ID to a file"),
        long("label", Kind::Label, "Set metadata for an image"),
        both('m', "memory", Kind::Bytes, "Memory limit of RUN steps"),
        long("memory-swap", Kind::SwapBytes, "Limit of memory and swap together; -1 for unlimited swap"),
        long("network", Kind::Text, "Network mode of RUN steps").or("default"),
        long("no-cache", Kind::Bool, "Do not use the cache"),
        long("platform", Kind::Text, "Platform of the image"),
        long("pull", Kind::Bool, "Always fetch the base images"),
        both('q', "quiet", Kind::Bool, "Print the image ID only"),
        long("rm", Kind::Bool, "Remove intermediate containers after a successful build").or("true"),
        long("security-opt", Kind::Strings, "Security options"),
        long("shm-size", Kind::Bytes, "Size of /dev/shm"),
        long("squash", Kind::Bool, "Squash the new layers into one"),
        both('t', "tag", Kind::Tag, "Name and optionally a tag in the \"name:tag\" format"),
        long("target", Kind::Text, "Build stage to build"),
        long("ulimit", Kind::Ulimit, "Resource limits of RUN steps"),
    ],
    order: Order::Mixed,
    args: Args::Exactly(1),
    run: build,
};

/// Where the context comes from.
enum Source {
    /// Files of a directory, and the Dockerfile's name in it.
    Files(Files, String),
    /// Bytes of standard input: an archive, the first bytes of which were read already.
    Archive(Vec<u8>),
    /// Something that the daemon fetches.
    Remote(String),
}

fn build(context: &Context, flags: &Parsed) -> Outcome {
    let source = source(&flags.args[0], flags.text("file"))?;
    let mut request = query(flags)?;
    let dockerfile = match &source {
        Source::Files(_, name) => name.as_str(),
        _ if flags.text("file").is_empty() => "Dockerfile",
        _ => flags.text("file"),
    };
    request =
        request.query("dockerfile", dockerfile).query("version", "1").header("X-Registry-Config", "e30=");
    let api = context.api()?;
    let quiet = flags.is("quiet");
    let sent = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&sent);
    let open = || -> Outcome<Answer<'_>> {
        match source {
            Source::Remote(url) => api.open(request.query("remote", url)),
            Source::Files(files, _) => {
                let compress = flags.is("compress");
                api.upload_written(request, "application/x-tar", move |out| {
                    let mut meter = Meter::new(out, counter, quiet);
                    if compress {
                        let mut gzip = flate2::write::GzEncoder::new(&mut meter, flate2::Compression::fast());
                        send::write(&files, &mut gzip)?;
                        gzip.finish()?;
                    } else {
                        send::write(&files, &mut meter)?;
                    }
                    meter.finish()
                })
            }
            Source::Archive(early) => api.upload_written(request, "application/x-tar", move |out| {
                let mut meter = Meter::new(out, counter, quiet);
                io::copy(&mut early.chain_stdin(), &mut meter)?;
                meter.finish()
            }),
        }
    };
    // Why a quiet build failed is told with what led to it, as far as that is known.
    let tell_sent = || {
        let sent = sent.load(Ordering::Relaxed);
        if quiet && sent > 0 {
            eprintln!("{}\r\r", sending(sent));
        }
    };
    let answer = open().inspect_err(|_| tell_sent())?;
    let mut id = String::new();
    let mut kept = Vec::new();
    let mut out = io::stdout();
    let shown = answer.each_document(|message| {
        if let Some(aux) = message.get("aux") {
            if let Some(text) = aux["ID"].as_str() {
                text.clone_into(&mut id);
            }
            return Ok(());
        }
        if quiet { progress::show(&message, &mut kept) } else { progress::show(&message, &mut out) }
    });
    if let Err(failure) = shown {
        // Only now is what led to it of interest.
        tell_sent();
        io::stderr().write_all(&kept)?;
        return Err(failure);
    }
    if quiet {
        // Its line end goes into the file as well, as with the stock client.
        id = String::from_utf8_lossy(&kept).into_owned();
        print!("{id}");
    }
    match flags.given_text("iidfile") {
        Some(_) if id.is_empty() => {
            Err(Failure::plain("server did not provide an image ID. Cannot write the image ID file"))
        }
        Some(path) => {
            fs::write(path, &id).map_err(|error| Failure::plain(format!("open {path}: {}", describe(&error))))
        }
        None => Ok(()),
    }
}

trait ChainStdin {
    fn chain_stdin(&self) -> io::Chain<&[u8], io::Stdin>;
}

impl ChainStdin for Vec<u8> {
    fn chain_stdin(&self) -> io::Chain<&[u8], io::Stdin> {
        self.as_slice().chain(io::stdin())
    }
}

fn query(flags: &Parsed) -> Outcome<Request> {
    let mut request = Request::post("/build");
    for tag in flags.list("tag") {
        request = request.query("t", tag);
    }
    for (flag, key) in [
        ("no-cache", "nocache"),
        ("quiet", "q"),
        ("force-rm", "forcerm"),
        ("pull", "pull"),
        ("squash", "squash"),
    ] {
        if flags.is(flag) {
            request = request.query(key, "1");
        }
    }
    request = request.query("rm", if flags.is("rm") { "1" } else { "0" });
    for (flag, key) in [("cpu-period", "cpuperiod"), ("cpu-quota", "cpuquota"), ("cpu-shares", "cpushares")] {
        if flags.given(flag) {
            request = request.query(key, flags.int(flag).to_string());
        }
    }
    for (flag, key) in [("memory", "memory"), ("memory-swap", "memswap"), ("shm-size", "shmsize")] {
        if flags.given(flag) {
            request = request.query(key, flags.bytes(flag).to_string());
        }
    }
    for (flag, key) in [
        ("cpuset-cpus", "cpusetcpus"),
        ("cpuset-mems", "cpusetmems"),
        ("cgroup-parent", "cgroupparent"),
        ("isolation", "isolation"),
        ("network", "networkmode"),
        ("platform", "platform"),
        ("target", "target"),
    ] {
        if let Some(text) = flags.given_text(flag) {
            request = request.query(key, text);
        }
    }
    if flags.given("build-arg") {
        let arguments: Map<String, Value> = flags
            .list("build-arg")
            .into_iter()
            .map(|text| match text.split_once('=') {
                Some((name, value)) => (name.to_owned(), json!(value)),
                // A bare name takes our own variable; without one it stays unset.
                None => (text.to_owned(), std::env::var(text).map_or(Value::Null, Value::String)),
            })
            .collect();
        request = request.query("buildargs", Value::Object(arguments).to_string());
    }
    if flags.given("label") {
        request = request.query("labels", Value::Object(key_values(flags.list("label"))).to_string());
    }
    for (flag, key) in [("cache-from", "cachefrom"), ("security-opt", "securityopt")] {
        if flags.given(flag) {
            request = request.query(key, json!(flags.list(flag)).to_string());
        }
    }
    if flags.given("add-host") {
        request = request.query("extrahosts", flags.list("add-host").join(","));
    }
    if flags.given("ulimit") {
        let mut limits = Vec::new();
        for text in flags.list("ulimit") {
            let (name, soft, hard) = check::ulimit(text).map_err(Failure::plain)?;
            limits.push(json!({"Name": name, "Soft": soft, "Hard": hard}));
        }
        request = request.query("ulimits", Value::Array(limits).to_string());
    }
    Ok(request)
}

fn source(place: &str, dockerfile: &str) -> Outcome<Source> {
    if place == "-" {
        if dockerfile == "-" {
            return Err(Failure::plain(
                "invalid argument: can't use stdin for both build context and dockerfile",
            ));
        }
        return from_stdin(dockerfile);
    }
    let is_url =
        ["http://", "https://", "git://", "git@", "github.com/"].iter().any(|start| place.starts_with(start));
    if is_url {
        return Ok(Source::Remote(place.to_owned()));
    }
    let root = fs::canonicalize(place)
        .map_err(|_| Failure::plain(format!("unable to prepare context: path {place:?} not found")))?;
    if !root.is_dir() {
        return Err(Failure::plain(format!(
            "unable to prepare context: context must be a directory: {}",
            root.display()
        )));
    }
    let (name, extra) = dockerfile_of(&root, dockerfile)?;
    let ignored = match fs::read_to_string(root.join(".dockerignore")) {
        Ok(text) => Some(text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => {
            return Err(Failure::plain(format!("error reading .dockerignore: {}", describe(&error))));
        }
    };
    let ignore = ignored.as_deref().map_or_else(Ignore::default, Ignore::parse);
    let always = vec![name.clone(), ".dockerignore".to_owned()];
    let extra = extra.map_or_else(Vec::new, |bytes| with_dockerfile(&name, bytes, ignored));
    Ok(Source::Files(Files { root: Some(root), ignore, always, extra }, name))
}

/// A Dockerfile from elsewhere, and a `.dockerignore` that keeps it from being copied with the context.
fn with_dockerfile(name: &str, bytes: Vec<u8>, ignored: Option<String>) -> Vec<(String, Vec<u8>)> {
    let ignored = ignored.unwrap_or_else(|| ".dockerignore".to_owned());
    let ignored = format!("{ignored}\n{name}\n");
    vec![(name.to_owned(), bytes), (".dockerignore".to_owned(), ignored.into_bytes())]
}

/// The Dockerfile's name within the context; its bytes too where it lies elsewhere.
fn dockerfile_of(root: &Path, wanted: &str) -> Outcome<(String, Option<Vec<u8>>)> {
    let random = || format!(".dockerfile.{:x}", std::process::id());
    if wanted == "-" {
        let mut bytes = Vec::new();
        io::stdin().read_to_end(&mut bytes)?;
        return Ok((random(), Some(bytes)));
    }
    let path = match wanted {
        // The lower-case form is taken where it is the only one, as Docker does.
        "" if !root.join("Dockerfile").exists() && root.join("dockerfile").exists() => {
            root.join("dockerfile")
        }
        "" => root.join("Dockerfile"),
        path => std::path::absolute(path)?,
    };
    let real = fs::canonicalize(&path).map_err(|error| {
        Failure::plain(format!(
            "unable to prepare context: unable to evaluate symlinks in Dockerfile path: lstat {}: {}",
            path.display(),
            describe(&error)
        ))
    })?;
    if let Ok(inside) = real.strip_prefix(root) {
        return Ok((inside.to_string_lossy().into_owned(), None));
    }
    let bytes = fs::read(&real).map_err(|error| match error.kind() {
        // Opening a directory works; reading it does not.
        io::ErrorKind::IsADirectory => Failure::plain(format!("read {wanted}: {}", describe(&error))),
        _ => Failure::plain(format!("unable to open Dockerfile: open {wanted}: {}", describe(&error))),
    })?;
    Ok((random(), Some(bytes)))
}

/// Standard input is an archive, or else a Dockerfile without context.
fn from_stdin(dockerfile: &str) -> Outcome<Source> {
    if io::stdin().is_terminal() {
        return Err(Failure::plain(
            "requested input from STDIN, but it is a terminal: pipe a Dockerfile or an archive in",
        ));
    }
    let mut early = Vec::new();
    io::stdin().take(512).read_to_end(&mut early)?;
    if is_archive(&early) {
        return Ok(Source::Archive(early));
    }
    if !dockerfile.is_empty() {
        return Err(Failure::plain(
            "unable to prepare context: ambiguous Dockerfile source: both stdin and flag correspond to Dockerfiles",
        ));
    }
    io::stdin().read_to_end(&mut early)?;
    let files = Files { extra: vec![("Dockerfile".into(), early)], ..Files::default() };
    Ok(Source::Files(files, "Dockerfile".into()))
}

fn is_archive(start: &[u8]) -> bool {
    let magic: [&[u8]; 4] = [b"\x1f\x8b\x08", b"BZh", b"\xfd7zXZ\x00", b"\x28\xb5\x2f\xfd"];
    magic.iter().any(|bytes| start.starts_with(bytes)) || start.get(257..262) == Some(b"ustar")
}

fn sending(bytes: u64) -> String {
    let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
    format!("Sending build context to Docker daemon {:>8}", human_size4(bytes))
}

/// Counts what is sent; says so as Docker does, or by a bar on a terminal.
struct Meter<'a> {
    out: &'a mut dyn Write,
    sent: Arc<AtomicU64>,
    bar: Option<indicatif::ProgressBar>,
    quiet: bool,
}

impl<'a> Meter<'a> {
    fn new(out: &'a mut dyn Write, sent: Arc<AtomicU64>, quiet: bool) -> Self {
        let bar = (!quiet && io::stderr().is_terminal())
            .then(|| progress::bytes_bar("Sending build context", None));
        Self { out, sent, bar, quiet }
    }

    fn finish(self) -> io::Result<()> {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        if !self.quiet {
            println!("{}", sending(self.sent.load(Ordering::Relaxed)));
        }
        self.out.flush()
    }
}

impl Write for Meter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.sent.fetch_add(written as u64, Ordering::Relaxed);
        if let Some(bar) = &self.bar {
            bar.inc(written as u64);
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
