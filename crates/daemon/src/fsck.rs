//! `gantryd fsck`: everything of ours on this host, who holds it, and what contradicts the records.
//!
//! It reads and changes nothing. Without a daemon it holds the roots' locks, so that none starts amid the
//! look; what is half done then stays so, and the next start's part is said as such. Beside a daemon it
//! reads the databases as they are and looks again until what seemed wrong is not there any more: only
//! what persists is reported.
//!
//! Exit code 0: all is explained; 1: there are findings; 2: something could not be looked at.

use std::collections::BTreeSet;
use std::fs::{File, TryLockError};
use std::io::Write;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::{Parser, ValueEnum};
use gantry_engine::fsck::{Caretaker, Inventory, Owned, Places};
use gantry_state::Database;
use gantry_store::fsck::OwnedKind;
use serde::Serialize;

use crate::options;
use crate::ownership::Remembered;

/// How long something beside a running daemon may seem wrong before it is.
const PATIENCE: Duration = Duration::from_secs(10);

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(200);

/// What a data root has besides the engine's database.
const PARTS: [&str; 14] = [
    "content.db",
    "content.db-wal",
    "content.db-shm",
    "content",
    "layers",
    "snapshots",
    "containers",
    "volumes",
    "trash",
    "tmp",
    "builds",
    "lock",
    "reserve",
    "lost+found",
];

/// What to look at, and how to say it.
#[derive(Debug, Parser)]
#[command(
    name = "gantryd fsck",
    about = "Check and explain every byte, mount, link, control group, process and rule that is ours"
)]
struct Arguments {
    /// As the daemon's
    #[arg(long, value_name = "path")]
    data_root: Option<PathBuf>,
    /// As the daemon's; else that of the daemon that has the data root, or had it last
    #[arg(long, value_name = "path")]
    exec_root: Option<PathBuf>,
    /// As the daemon's; else as above
    #[arg(long, value_name = "path")]
    cgroup_parent: Option<String>,
    /// The daemon's configuration file, which the above is read from where it is not given
    #[arg(long, value_name = "path")]
    config_file: Option<PathBuf>,
    /// How to say it
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// Name each thing with its holder, not only their numbers
    #[arg(long, short)]
    verbose: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Text,
    Json,
}

/// One thing, as the JSON has it.
#[derive(Debug, Serialize)]
struct Thing {
    kind: &'static str,
    name: String,
    holders: Vec<String>,
    /// Blocks on the disk; hard links within the thing count once.
    #[serde(skip_serializing_if = "Option::is_none")]
    size_bytes: Option<u64>,
}

/// All that is said.
#[derive(Debug, Serialize)]
struct Report {
    /// The daemon's process; null where none runs.
    daemon: Option<u32>,
    things: Vec<Thing>,
    findings: Vec<String>,
    /// What could not be looked at.
    unseen: Vec<String>,
}

/// Runs the command with what follows its name.
///
/// # Errors
/// It cannot look at all.
pub(crate) fn run(arguments: impl Iterator<Item = std::ffi::OsString>) -> Result<ExitCode> {
    let arguments = Arguments::parse_from(std::iter::once("gantryd fsck".into()).chain(arguments));
    let places = places(&arguments)?;
    // Held until the end: no daemon starts amid the look.
    let locks = lock(&places)?;
    let caretaker = locks.as_ref().map_or_else(|pid| Caretaker::Daemon(*pid), |_| Caretaker::Nobody);
    let begun = Instant::now();
    let mut report = look(&places, caretaker);
    while caretaker != Caretaker::Nobody && !report.findings.is_empty() && begun.elapsed() < PATIENCE {
        std::thread::sleep(PAUSE);
        report = look(&places, caretaker);
    }
    drop(locks);
    let mut output = std::io::stdout().lock();
    match arguments.format {
        Format::Json => {
            serde_json::to_writer_pretty(&mut output, &report)?;
            writeln!(output)?;
        }
        Format::Text => write_text(&mut output, &report, arguments.verbose)?,
    }
    Ok(match (report.findings.is_empty(), report.unseen.is_empty()) {
        (false, _) => ExitCode::from(1),
        (true, false) => ExitCode::from(2),
        (true, true) => ExitCode::SUCCESS,
    })
}

fn places(arguments: &Arguments) -> Result<Places> {
    let file = options::configuration(arguments.config_file.as_deref())?;
    let text = |key: &str| {
        file.as_ref().and_then(|file| file.get(key)).and_then(|value| value.as_str()).map(str::to_owned)
    };
    let path = |given: &Option<PathBuf>, key: &str, default: &str| {
        given.clone().or_else(|| text(key).map(PathBuf::from)).unwrap_or_else(|| default.into())
    };
    let data_root = path(&arguments.data_root, "data-root", "/var/lib/gantry");
    // Who names the root alone means the daemon that has it, or had it last.
    let last = if arguments.exec_root.is_some() { Remembered::default() } else { Remembered::of(&data_root) };
    let exec_root = last.exec_root.unwrap_or_else(|| path(&arguments.exec_root, "exec-root", "/run/gantry"));
    let cgroup_parent =
        arguments.cgroup_parent.clone().or(last.cgroup_parent).or_else(|| text("cgroup-parent"));
    Ok(Places { data_root, exec_root, cgroup_parent })
}

/// Takes the locks of both roots without making anything, or says whose they are.
fn lock(places: &Places) -> Result<Result<Vec<File>, u32>> {
    let mut locks = Vec::new();
    for root in [&places.data_root, &places.exec_root] {
        let path = root.join("lock");
        let file = match File::options().read(true).write(true).open(&path) {
            Ok(file) => file,
            // No daemon was ever here, or `/run` is new.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error).with_context(|| format!("cannot open {}", path.display())),
        };
        match file.try_lock() {
            Ok(()) => locks.push(file),
            Err(TryLockError::WouldBlock) => {
                let owner = std::fs::read_to_string(&path).unwrap_or_default();
                return Ok(Err(crate::ownership::owner(&owner).unwrap_or(0)));
            }
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("cannot lock {}", path.display()));
            }
        }
    }
    Ok(Ok(locks))
}

fn look(places: &Places, caretaker: Caretaker) -> Report {
    let mut report = Report {
        daemon: match caretaker {
            Caretaker::Daemon(pid) => Some(pid),
            Caretaker::Nobody => None,
        },
        things: Vec::new(),
        findings: Vec::new(),
        unseen: Vec::new(),
    };
    let snapshots = store(places, caretaker, &mut report);
    match gantry_engine::fsck::inspect(places, caretaker, snapshots.as_ref()) {
        Ok(Inventory { owned, findings, unseen }) => {
            for Owned { kind, name, holder } in owned {
                let size_bytes = matches!(kind, "container" | "volume").then(|| size(Path::new(&name)));
                report.things.push(Thing { kind, name, holders: vec![holder], size_bytes });
            }
            report.findings.extend(findings);
            report.unseen.extend(unseen);
        }
        Err(why) => {
            report.findings.push(why);
            report.unseen.push(
                "what runs, what is in the kernel, and whose containers' files and volumes are: engine.db would say it".into(),
            );
        }
    }
    others(places, caretaker, &mut report);
    report
}

/// The store's part; returns the names of its snapshots, where it can say which it has.
fn store(places: &Places, caretaker: Caretaker, report: &mut Report) -> Option<BTreeSet<String>> {
    let inventory = match gantry_store::fsck::inspect(&places.data_root) {
        Ok(inventory) => inventory.unwrap_or_default(),
        Err(error) => {
            report.findings.push(format!("{:#}", anyhow::Error::new(error)));
            report.unseen.push("blobs, layers and snapshots: content.db would say whose they are".into());
            return None;
        }
    };
    let mut snapshots = BTreeSet::new();
    for mut owned in inventory.owned {
        let name = owned.path.display().to_string();
        match owned.kind {
            OwnedKind::Snapshot => {
                snapshots.extend(owned.path.file_name().map(|name| name.to_string_lossy().into_owned()));
            }
            // What only a build held that failed, or that found another's result meanwhile.
            OwnedKind::Blob | OwnedKind::Layer if owned.holders.is_empty() => {
                owned.holders.push("nobody: the next collection takes it".into());
            }
            OwnedKind::Temporary if caretaker == Caretaker::Nobody => {
                let text =
                    format!("{name} was being written when its daemon ended: the next start removes it");
                report.findings.push(text);
            }
            _ => {}
        }
        let size_bytes = (owned.kind != OwnedKind::Lease).then(|| size(&owned.path));
        report.things.push(Thing { kind: owned.kind.as_str(), name, holders: owned.holders, size_bytes });
    }
    report.findings.extend(inventory.findings);
    Some(snapshots)
}

/// The builder's directory, the engine's database, and what is nobody's.
fn others(places: &Places, caretaker: Caretaker, report: &mut Report) {
    let thing = |kind, path: &Path, holder: String| Thing {
        kind,
        name: path.display().to_string(),
        holders: vec![holder],
        size_bytes: Some(size(path)),
    };
    for path in entries(&places.data_root) {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if name.starts_with("engine.db") {
            report.things.push(thing("database", &path, "the engine".into()));
        } else if !PARTS.contains(&name.as_str()) {
            report.findings.push(format!("{} is not ours: move it elsewhere", path.display()));
        }
    }
    let cache = places.data_root.join("builds/cache.db");
    let checked =
        cache.exists().then(|| Database::open_to_read(&cache).and_then(|database| database.check()));
    if let Some(Err(error)) = checked {
        report.findings.push(format!("{error}; or leave it: the next start begins the build cache anew"));
    }
    for path in entries(&places.data_root.join("builds")) {
        let is_cache = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("cache.db"));
        match caretaker {
            _ if is_cache => report.things.push(thing("database", &path, "the build cache".into())),
            Caretaker::Daemon(pid) => {
                report.things.push(thing("build", &path, format!("a build of daemon {pid}")));
            }
            Caretaker::Nobody => report.findings.push(format!(
                "{} is left of a build that its daemon did not outlive: the next start removes it",
                path.display()
            )),
        }
    }
}

fn entries(path: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

/// Bytes on the disk of a file or tree. What vanishes meanwhile does not count.
fn size(path: &Path) -> u64 {
    let mut seen = BTreeSet::new();
    let mut open = vec![path.to_owned()];
    let mut total = 0;
    while let Some(path) = open.pop() {
        let Ok(found) = path.symlink_metadata() else { continue };
        if found.nlink() > 1 && !found.is_dir() && !seen.insert(found.ino()) {
            continue;
        }
        total += found.blocks() * 512;
        if found.is_dir() {
            open.extend(entries(&path));
        }
    }
    total
}

fn write_text(output: &mut impl Write, report: &Report, verbose: bool) -> std::io::Result<()> {
    match report.daemon {
        Some(pid) => writeln!(output, "A daemon runs (process {pid}).")?,
        None => writeln!(output, "No daemon runs.")?,
    }
    let kinds: BTreeSet<&str> = report.things.iter().map(|thing| thing.kind).collect();
    for kind in kinds {
        let of_kind = || report.things.iter().filter(|thing| thing.kind == kind);
        match of_kind().filter_map(|thing| thing.size_bytes).sum::<u64>() {
            0 => writeln!(output, "{:>6} {kind}", of_kind().count())?,
            bytes => writeln!(output, "{:>6} {kind}, {bytes} bytes", of_kind().count())?,
        }
        for thing in of_kind().filter(|_| verbose) {
            writeln!(output, "       {} <- {}", thing.name, thing.holders.join(", "))?;
        }
    }
    for finding in &report.findings {
        writeln!(output, "finding: {finding}")?;
    }
    for unseen in &report.unseen {
        writeln!(output, "not seen: {unseen}")?;
    }
    if report.findings.is_empty() {
        writeln!(output, "Everything is explained.")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_without_anything_is_clean_and_strangers_are_named() {
        let base = std::env::temp_dir().join(format!("gantry-fsck-{}", std::process::id()));
        let places = Places {
            data_root: base.join("data"),
            exec_root: base.join("run"),
            cgroup_parent: Some("/gantry-fsck-unit".into()),
        };
        std::fs::create_dir_all(&places.data_root).expect("a scratch directory");
        assert!(lock(&places).expect("no lock is there").is_ok());
        let report = look(&places, Caretaker::Nobody);
        assert!(report.findings.is_empty(), "{:?}", report.findings);
        std::fs::write(places.data_root.join("notes.txt"), "x").expect("a file");
        std::fs::create_dir_all(places.exec_root.join("c").join("a".repeat(64))).expect("a directory");
        let report = look(&places, Caretaker::Nobody);
        let named = |word: &str| report.findings.iter().any(|finding| finding.contains(word));
        assert!(named("notes.txt is not ours") && named("is no container's"), "{:?}", report.findings);
        // A database without which nothing can be explained is one finding, and nothing is said to be garbage.
        std::fs::create_dir_all(places.data_root.join("containers").join("b".repeat(64)))
            .expect("a directory");
        std::fs::write(places.data_root.join("content.db"), "no database at all").expect("a file");
        let report = look(&places, Caretaker::Nobody);
        let named = |word: &str| report.findings.iter().any(|finding| finding.contains(word));
        assert!(named("engine.db is lost") && named("content.db is damaged"), "{:?}", report.findings);
        assert!(!named("the next start removes it") && report.unseen.len() == 2, "{report:?}");
        // Who names the data root alone is told of the other places by the lock file.
        std::fs::write(places.data_root.join("lock"), "1\nexec-root=/elsewhere\ncgroup-parent=/groups\n")
            .expect("a file");
        let data_root = places.data_root.display().to_string();
        let parsed = |more: &[&str]| {
            let words = ["gantryd fsck", "--data-root", &data_root].into_iter().chain(more.iter().copied());
            super::places(&Arguments::try_parse_from(words).expect("flags")).expect("places")
        };
        assert_eq!(parsed(&[]).exec_root, Path::new("/elsewhere"));
        assert_eq!(parsed(&[]).cgroup_parent.as_deref(), Some("/groups"));
        assert_eq!(parsed(&["--exec-root", "/given"]).exec_root, Path::new("/given"));
        std::fs::remove_dir_all(base).expect("ours");
    }
}
