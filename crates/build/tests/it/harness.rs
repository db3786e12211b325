//! A store and a builder in a directory of their own, a context from a list, and an executor that does what
//! its command says without running anything.

use std::io::Cursor;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use gantry_build::context::ContextLimits;
use gantry_build::executor::{Container, ExecError, Executor, ExitStatus, Handle, Process};
use gantry_build::fetch::{FetchError, Fetched, Fetcher};
use gantry_build::render::Classic;
use gantry_build::{
    BuildError, BuildEvent, BuildOptions, BuildRequest, Builder, BuilderOptions, Cancel, ContextSource,
};
use gantry_model::image::ImageConfig;
use gantry_model::mount::RootMount;
use gantry_model::{Digest, Reference};
use gantry_store::{DriverChoice, Options, Store};

/// One entry of a context.
#[derive(Clone)]
pub(crate) enum Entry {
    /// Path, mode, bytes.
    File(&'static str, u32, Vec<u8>),
    /// Path, mode.
    Directory(&'static str, u32),
    /// Path, target.
    Link(&'static str, &'static str),
}

pub(crate) fn file(path: &'static str, bytes: impl AsRef<[u8]>) -> Entry {
    Entry::File(path, 0o644, bytes.as_ref().to_vec())
}

/// A tar of these entries, all of one time.
pub(crate) fn tar(entries: &[Entry], mtime: u64) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for entry in entries {
        let mut header = tar::Header::new_gnu();
        header.set_mtime(mtime);
        header.set_uid(1234);
        header.set_gid(1234);
        match entry {
            Entry::File(path, mode, bytes) => {
                header.set_mode(*mode);
                header.set_size(bytes.len() as u64);
                builder.append_data(&mut header, path, bytes.as_slice()).expect("a file");
            }
            Entry::Directory(path, mode) => {
                header.set_mode(*mode);
                header.set_entry_type(tar::EntryType::Directory);
                header.set_size(0);
                builder.append_data(&mut header, path, std::io::empty()).expect("a directory");
            }
            Entry::Link(path, target) => {
                header.set_mode(0o777);
                header.set_entry_type(tar::EntryType::Symlink);
                header.set_size(0);
                builder.append_link(&mut header, path, target).expect("a link");
            }
        }
    }
    builder.into_inner().expect("a tar")
}

/// Knows a few commands: `write PATH TEXT`, `fail CODE`, `true`, `print TEXT`; needs an overlay or a
/// directory whose writable side it can reach.
#[derive(Default)]
pub(crate) struct Scripted {
    pub(crate) ran: Arc<Mutex<Vec<Process>>>,
}

struct ScriptedHandle {
    root: PathBuf,
    ran: Arc<Mutex<Vec<Process>>>,
}

impl Executor for Scripted {
    fn create(&self, container: Container<'_>) -> Result<Box<dyn Handle>, ExecError> {
        let root = match container.root {
            RootMount::Overlay { upper: Some(upper), .. } => upper,
            RootMount::Overlay { upper: None, .. } => panic!("a step's root must be writable"),
            RootMount::Bind { source } => source,
        };
        Ok(Box::new(ScriptedHandle { root, ran: Arc::clone(&self.ran) }))
    }
}

impl Handle for ScriptedHandle {
    fn exec(
        &mut self,
        process: &Process,
        output: &mut dyn FnMut(gantry_build::event::LogStream, &[u8]),
        _cancel: &Cancel,
    ) -> Result<ExitStatus, ExecError> {
        self.ran.lock().expect("no panic").push(process.clone());
        let script = process.args.last().expect("a command").clone();
        let words: Vec<&str> = script.splitn(3, ' ').collect();
        let code = match words.as_slice() {
            ["write", path, text] => {
                let path = self.root.join(path.trim_start_matches('/'));
                make_directories(path.parent().expect("a parent"));
                std::fs::write(&path, text).expect("written");
                // A container has a umask of its own.
                std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).expect("a mode");
                0
            }
            ["fail", code] => code.parse().expect("a code"),
            ["print", text] => {
                output(gantry_build::event::LogStream::Stdout, format!("{text}\n").as_bytes());
                0
            }
            _ => 0,
        };
        Ok(ExitStatus { code, oom: false })
    }
}

fn make_directories(path: &Path) {
    if !path.is_dir() {
        make_directories(path.parent().expect("a parent"));
        std::fs::create_dir(path).expect("a directory");
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).expect("a mode");
    }
}

/// The umask belongs to the whole process: a test that changes it must be alone.
static UMASK: RwLock<()> = RwLock::new(());

/// Changes the umask until it is dropped, while no other test has a [`Site`] of its own.
pub(crate) struct Umask {
    old: rustix::fs::Mode,
    _alone: RwLockWriteGuard<'static, ()>,
}

impl Umask {
    pub(crate) fn set(mask: u32) -> Self {
        let alone = UMASK.write().unwrap_or_else(PoisonError::into_inner);
        Self { old: rustix::process::umask(rustix::fs::Mode::from_raw_mode(mask)), _alone: alone }
    }
}

impl Drop for Umask {
    fn drop(&mut self) {
        rustix::process::umask(self.old);
    }
}

/// What a build came to.
pub(crate) struct Outcome {
    pub(crate) result: Result<Digest, BuildError>,
    /// The text of the classic stream.
    pub(crate) text: String,
}

impl Outcome {
    pub(crate) fn image(&self) -> Digest {
        match &self.result {
            Ok(image) => *image,
            Err(error) => panic!("{}\n{}", self.text, error.full_text()),
        }
    }

    pub(crate) fn error(&self) -> String {
        match &self.result {
            Ok(image) => panic!("{}\nbuilt {image}", self.text),
            Err(error) => error.full_text(),
        }
    }

    /// How often the cache was used.
    pub(crate) fn cached(&self) -> usize {
        self.text.matches(" ---> Using cache").count()
    }
}

pub(crate) struct Site {
    pub(crate) store: Store,
    pub(crate) builder: Builder,
    pub(crate) ran: Arc<Mutex<Vec<Process>>>,
    shared: Option<RwLockReadGuard<'static, ()>>,
    // Last: the store must close first.
    pub(crate) directory: tempfile::TempDir,
}

/// What the tests' addresses name: a page that says of which path it is, and nothing below `/nosuch`.
struct Pages;

impl Fetcher for Pages {
    fn fetch(&self, address: &str) -> Result<Fetched, FetchError> {
        let path = address.strip_prefix("http://pages").unwrap_or("/nosuch");
        if path.starts_with("/nosuch") {
            return Err(FetchError(format!("failed to GET {address} with status 404 Not Found: no page")));
        }
        let text = match path {
            "/remote" => "FROM scratch\nADD http://pages/a /\n".to_owned(),
            path => format!("the page {path}"),
        };
        Ok(Fetched { body: Box::new(std::io::Cursor::new(text.into_bytes())) })
    }
}

impl Site {
    pub(crate) fn new() -> Self {
        let executor = Scripted::default();
        let ran = Arc::clone(&executor.ran);
        Self::with(Arc::new(executor), ran)
    }

    pub(crate) fn with(executor: Arc<dyn Executor>, ran: Arc<Mutex<Vec<Process>>>) -> Self {
        let shared = UMASK.read().unwrap_or_else(PoisonError::into_inner);
        let directory = tempfile::Builder::new().prefix("gantry-build-").tempdir().expect("a directory");
        let options = Options { driver: DriverChoice::Auto };
        let store = Store::open(&directory.path().join("data"), &options).expect("a store");
        let builder = Builder::open(BuilderOptions {
            store: store.clone(),
            directory: directory.path().join("data/builds"),
            executor,
            fetcher: Arc::new(Pages),
            limits: ContextLimits::default(),
        })
        .expect("a builder");
        Self { store, builder, ran, shared: Some(shared), directory }
    }

    /// Runs with another umask, alone.
    pub(crate) fn with_umask<T>(&mut self, mask: u32, run: impl FnOnce(&Self) -> T) -> T {
        self.shared = None;
        let umask = Umask::set(mask);
        let result = run(self);
        drop(umask);
        self.shared = Some(UMASK.read().unwrap_or_else(PoisonError::into_inner));
        result
    }

    /// Imports a base image.
    pub(crate) fn import(&self, name: &str, archive: &[u8]) {
        let options = gantry_store::image::ImportOptions {
            reference: Some(reference(name)),
            created: Some(gantry_model::Timestamp::from_secs(1_000_000)),
            ..Default::default()
        };
        self.store.images().import(Cursor::new(archive.to_vec()), &options).expect("imported");
    }

    pub(crate) fn build(&self, dockerfile: &str, context: &[Entry]) -> Outcome {
        self.build_with(dockerfile, context, BuildOptions::default())
    }

    pub(crate) fn build_with(&self, dockerfile: &str, context: &[Entry], options: BuildOptions) -> Outcome {
        let mut entries = vec![file("Dockerfile", dockerfile)];
        entries.extend(context.iter().cloned());
        self.build_tar(tar(&entries, 5), "", options, &["web:latest"])
    }

    pub(crate) fn build_tar(
        &self,
        context: Vec<u8>,
        dockerfile: &str,
        options: BuildOptions,
        tags: &[&str],
    ) -> Outcome {
        self.build_from(ContextSource::Tar(Box::new(Cursor::new(context))), dockerfile, options, tags)
    }

    pub(crate) fn build_from(
        &self,
        context: ContextSource,
        dockerfile: &str,
        options: BuildOptions,
        tags: &[&str],
    ) -> Outcome {
        let request = BuildRequest {
            context,
            dockerfile: dockerfile.into(),
            tags: tags.iter().map(|tag| reference(tag)).collect(),
            options,
        };
        let cancel = Cancel::new().expect("an eventfd");
        let mut classic =
            Classic::new(gantry_build::render::Asked { quiet: false, remove: true, force_remove: false });
        let mut stream = Vec::new();
        let mut events = |event: BuildEvent| stream.extend(classic.event(&event));
        let result = self.builder.build(request, &mut events, &cancel).map(|built| built.image);
        Outcome { result, text: plain(&stream) }
    }

    /// An image's configuration.
    pub(crate) fn config(&self, image: &Digest) -> ImageConfig {
        self.store.images().get(image).expect("an image").config.clone()
    }

    /// The lines `path mode uid:gid size mtime [target]` of an image's topmost layer.
    pub(crate) fn top_layer(&self, image: &Digest) -> Vec<String> {
        let image = self.store.images().get(image).expect("an image");
        let mut bytes = Vec::new();
        let top = *image.layers.last().expect("a layer");
        self.store.layers().write_tar(top, &mut bytes).expect("a tar");
        let mut archive = tar::Archive::new(bytes.as_slice());
        let entries = archive.entries().expect("entries");
        entries
            .map(|entry| {
                let entry = entry.expect("an entry");
                let header = entry.header();
                let link = entry.link_name().expect("a link").map(|link| format!(" -> {}", link.display()));
                format!(
                    "{} {:o} {}:{} {} {}{}",
                    entry.path().expect("a path").display(),
                    header.mode().expect("a mode") & 0o7777,
                    header.uid().expect("a uid"),
                    header.gid().expect("a gid"),
                    header.size().expect("a size"),
                    header.mtime().expect("a time"),
                    link.unwrap_or_default()
                )
            })
            .collect()
    }
}

/// A site with `busybox`; none where the tests may not build.
pub(crate) fn site() -> Option<Site> {
    if unprivileged("builds in a store") {
        return None;
    }
    let site = Site::new();
    site.import("busybox", &base());
    Some(site)
}

pub(crate) fn reference(name: &str) -> Reference {
    Reference::parse_normalized(name).expect("a name").or_latest()
}

/// The text of a classic stream.
fn plain(stream: &[u8]) -> String {
    String::from_utf8_lossy(stream)
        .lines()
        .filter_map(|line| {
            serde_json::from_str::<serde_json::Value>(line).ok()?["stream"].as_str().map(str::to_owned)
        })
        .collect()
}

/// A base image: `/etc` with two users, and a file.
pub(crate) fn base() -> Vec<u8> {
    tar(
        &[
            Entry::Directory("etc", 0o755),
            file("etc/passwd", "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1001::/home/app:/bin/sh\n"),
            file("etc/group", "root:x:0:\nstaff:x:50:\napp:x:1001:\n"),
            Entry::Directory("tmp", 0o1777),
            Entry::Link("var", "/etc"),
        ],
        7,
    )
}

/// A process that may not do what a test needs says so once and skips it.
pub(crate) fn unprivileged(test: &str) -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("skipped: {test}: needs root");
    }
    !root
}

/// A program of this workspace that lies beside the test's own directory, if it was built.
pub(crate) fn program(name: &str) -> Option<PathBuf> {
    let me = std::env::current_exe().ok()?;
    let found = me.ancestors().map(|directory| directory.join(name)).find(|path| Path::is_file(path));
    found.or_else(|| {
        std::env::var_os("GANTRY_BIN_DIR").map(|dir| Path::new(&dir).join(name)).filter(|p| p.is_file())
    })
}
