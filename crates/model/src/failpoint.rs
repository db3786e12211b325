//! Places at which a test ends the process, as a crash or a loss of power would, or fills the disk: before and
//! after every state write, and between the steps of what is done in several.
//!
//! Without the feature `failpoints`, which no release has, [`reached`] is nothing and the compiler
//! removes it. With it, the environment says what happens:
//!
//! | variable | meaning |
//! | --- | --- |
//! | `FAILPOINTS` | `name=action;…` in the syntax of the crate `fail`, from the process' start on; the action that crashes is `return`, so `2*off->1*return` crashes at the third time |
//! | `FAILPOINTS_WHEN_READY` | the same, from the moment at which the daemon is ready |
//! | `FAILPOINTS_WITNESS` | a file in which the name is left before the crash, so that a test knows that it happened |
//! | `FAILPOINTS_THEN` | what happens there instead of the crash: see [`Consequence`] |
//! | `FAILPOINTS_BOOT_ID` | what is taken for the kernel's boot id, as if the machine had been started again |
//!
//! A shim is given the daemon's. The names are values of [`Point`]: no place can have one that
//! [`Point::ALL`] does not list, so a test that goes through the list goes through all places.

macro_rules! points {
    ($($(#[$meta:meta])* $variant:ident = $name:literal,)*) => {
        /// A place.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Point {
            $($(#[$meta])* $variant,)*
        }

        impl Point {
            /// All places.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// `process.operation.what-was-done-last`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }
        }
    };
}

points! {
    /// A transaction of any database is about to be committed.
    Committing = "daemon.state.committing",
    /// It was committed, and nobody was told.
    Committed = "daemon.state.committed",

    /// A blob has its name and no row.
    BlobPlaced = "daemon.import.blob-placed",
    /// A layer's tree is whole, its row says that it is being made.
    LayerUnpacked = "daemon.import.layer-unpacked",
    /// Everything of an image is on the disk, and no row.
    ImageSynced = "daemon.import.image-synced",

    /// An archive of images was read to its end, its layers are here, and no image.
    LoadRead = "daemon.load.read",
    /// Its images are recorded, and nobody was told.
    LoadRecorded = "daemon.load.recorded",

    /// The mark says that the container is frozen, which it is not yet.
    CommitMarked = "daemon.commit.marked",
    /// The container is frozen for the commit.
    CommitPaused = "daemon.commit.paused",
    /// Its changes are a layer, the image is not there.
    CommitLayer = "daemon.commit.layer",
    /// The image is there, the container is still frozen.
    CommitImage = "daemon.commit.image",

    /// Unreferenced blobs and layers have lost their rows.
    GarbageForgotten = "daemon.rmi.garbage-forgotten",
    /// Their bytes are gone, trees lie where they were.
    GarbageUnlinked = "daemon.rmi.garbage-unlinked",

    /// The name is taken.
    CreateReserved = "daemon.create.reserved",
    /// The snapshot's row is written.
    SnapshotRecorded = "daemon.create.snapshot-recorded",
    /// The snapshot is there.
    CreateSnapshot = "daemon.create.snapshot",
    /// The container's directory is there.
    CreateDirectory = "daemon.create.directory",
    /// Its volumes have the image's files.
    CreatePopulated = "daemon.create.populated",
    /// A volume's directory says what it is, and has no place for files.
    VolumeDescribed = "daemon.create.volume-described",
    /// A volume's row is written, its directory is there.
    VolumeMade = "daemon.create.volume",

    /// Sandbox and intent are recorded.
    StartRecorded = "daemon.start.recorded",
    /// The shim's directory is there.
    StartDirectory = "daemon.start.directory",
    /// The shim runs.
    StartSpawned = "daemon.start.spawned",
    /// The namespaces are there.
    StartNamespaces = "daemon.start.namespaces",
    /// hosts, hostname and resolv.conf are written.
    StartFiles = "daemon.start.files",
    /// The shim was told to launch.
    StartLaunched = "daemon.start.launched",
    /// The link is there, the ports are not.
    StartLinked = "daemon.start.linked",
    /// Link and ports are there.
    StartConnected = "daemon.start.connected",
    /// The shim was told to let the process go.
    StartAsked = "daemon.start.asked",
    /// The shim said that it runs.
    StartAnswered = "daemon.start.answered",

    /// A stop is with the shim.
    StopAsked = "daemon.stop.asked",
    /// An exit is recorded and not acknowledged.
    StopRecorded = "daemon.stop.recorded",
    /// The shim has ended.
    StopShimEnded = "daemon.stop.shim-ended",
    /// The ports are closed, the sandbox's row is there.
    StopUnpublished = "daemon.stop.unpublished",
    /// The sandbox is gone, the shim's directory is there.
    StopLeft = "daemon.stop.left",

    /// The shim's directory is gone.
    RemoveReleased = "daemon.rm.released",
    /// The snapshot's row is gone, its files lie where they were.
    RemoveForgotten = "daemon.rm.tree-forgotten",
    /// The snapshot's files are in the trash.
    RemoveSnapshot = "daemon.rm.snapshot",
    /// The container's directory is gone.
    RemoveDirectory = "daemon.rm.directory",
    /// The container's row is gone, its anonymous volumes are there.
    RemoveRow = "daemon.rm.row",
    /// A volume's directory has its doomed name.
    RemoveVolume = "daemon.rm.volume",
    /// What was in the trash is unlinked, its row is there.
    TrashUnlinked = "daemon.rm.trash-unlinked",

    /// An exec is with the shim.
    ExecAsked = "daemon.exec.asked",

    /// The place in the container is open, nothing of what is copied is there.
    CopyOpened = "daemon.cp.opened",
    /// Everything is there, and nobody was told.
    CopyWritten = "daemon.cp.written",

    /// One of the containers that are pruned is gone.
    PruneContainer = "daemon.prune.container",
    /// One of the volumes is gone.
    PruneVolume = "daemon.prune.volume",
    /// One of the images is gone.
    PruneImage = "daemon.prune.image",
    /// The build cache has forgotten what is pruned, its lease holds the layers.
    PruneForgotten = "daemon.prune.cache-forgotten",

    /// A step's files are written.
    BuildFiles = "daemon.build.files",
    /// A step's shim runs.
    BuildSpawned = "daemon.build.spawned",
    /// A step was told to run.
    BuildLaunched = "daemon.build.launched",
    /// A step's process has ended.
    BuildRan = "daemon.build.ran",
    /// A snapshot's tree is a layer's, by name alone.
    BuildRenamed = "daemon.build.layer-renamed",
    /// A step's layer is recorded, the cache does not know it.
    BuildCommitted = "daemon.build.committed",
    /// The cache knows it.
    BuildCached = "daemon.build.cached",

    /// At a start: rows of what a crash left half done are gone, its files are there.
    RecoverForgotten = "daemon.recover.forgotten",
    /// The store is whole, the engine's database is not open.
    RecoverStored = "daemon.recover.stored",
    /// Every container is taken up, what belongs to nobody is there.
    RecoverAdopted = "daemon.recover.adopted",
    /// What belongs to nobody is gone.
    RecoverSwept = "daemon.recover.swept",

    /// The cgroup is there.
    ShimCgroup = "shim.start.cgroup",
    /// The process is made and waits.
    ShimCreated = "shim.start.created",
    /// The process runs, the journal does not say so.
    ShimReleased = "shim.start.released",
    /// A record is in the journal, and nobody was told.
    ShimJournaled = "shim.start.journaled",
    /// All records are acknowledged, the journal is empty.
    ShimAcknowledged = "shim.start.acknowledged",
    /// The stop is journaled, the signal was not sent.
    ShimStopping = "shim.stop.journaled",
    /// The signal was sent.
    ShimSignalled = "shim.stop.signalled",
    /// The process was reaped.
    ShimReaped = "shim.stop.reaped",
    /// Its output is written, its end is not journaled.
    ShimDrained = "shim.stop.drained",
    /// Its end is journaled, the cgroup is there.
    ShimExited = "shim.stop.announced",
    /// The socket is gone, the daemon is not answered.
    ShimUnlinked = "shim.stop.unlinked",
    /// A further process runs, the journal does not say so.
    ShimExec = "shim.exec.started",
    /// The process is to be started again by policy.
    ShimRestart = "shim.restart.due",
}

/// Ends the process here if the environment says so.
#[inline(always)]
pub fn reached(point: Point) {
    #[cfg(feature = "failpoints")]
    armed::reached(point);
    #[cfg(not(feature = "failpoints"))]
    let _ = point;
}

/// The boot id that a test gives instead of the kernel's.
#[inline(always)]
#[must_use]
pub fn boot_id() -> Option<String> {
    #[cfg(feature = "failpoints")]
    return std::env::var("FAILPOINTS_BOOT_ID").ok();
    #[cfg(not(feature = "failpoints"))]
    None
}

#[cfg(feature = "failpoints")]
pub use armed::{Consequence, arm, environment};

#[cfg(feature = "failpoints")]
mod armed {
    use std::fs::File;
    use std::os::unix::fs::FileExt as _;
    use std::path::{Path, PathBuf};
    use std::process::Command;
    use std::sync::Mutex;
    use std::time::Duration;

    use super::Point;

    /// What `FAILPOINTS_THEN` says.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub enum Consequence {
        /// Nothing: the process ends.
        Crash,
        /// `power PATH`: the file system at the path forgets what is not on its disk and takes nothing more, and the
        /// process ends.
        PowerLoss(PathBuf),
        /// `fill PATH`: this file takes all blocks that its file system has left, and the process goes on.
        FullDisk(PathBuf),
    }

    impl Consequence {
        fn wanted() -> Self {
            let text = std::env::var("FAILPOINTS_THEN").unwrap_or_default();
            match text.split_once(' ') {
                Some(("power", path)) => Self::PowerLoss(path.into()),
                Some(("fill", path)) => Self::FullDisk(path.into()),
                _ => {
                    assert!(text.is_empty(), "FAILPOINTS_THEN is power PATH or fill PATH");
                    Self::Crash
                }
            }
        }
    }

    /// Takes the last blocks too, also those that another write took and gave back because it did not fit.
    fn fill(path: &Path) {
        let file = File::create(path).expect("a test has made the directory");
        let mut at = 0;
        for _ in 0..3 {
            for bytes in [1 << 20, 4096] {
                let block = vec![1; bytes];
                while file.write_all_at(&block, at).is_ok() {
                    at += bytes as u64;
                }
                // What was only promised becomes blocks, so that nothing is given back later.
                let _ = file.sync_all();
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// What was armed last, for shims.
    static ARMED: Mutex<String> = Mutex::new(String::new());

    /// Arms what this variable of the environment says. One that is not set arms nothing.
    ///
    /// # Panics
    /// It is not of `fail`'s syntax.
    pub fn arm(variable: &str) {
        let Ok(text) = std::env::var(variable) else { return };
        for part in text.split(';').filter(|part| !part.is_empty()) {
            let (name, action) = part.split_once('=').expect("a failpoint is name=action");
            assert!(Point::ALL.iter().any(|point| point.name() == name), "there is no failpoint {name}");
            fail::cfg(name, action).expect("an action of the crate fail");
        }
        *ARMED.lock().expect("nobody panics while it is held") = text;
    }

    /// What a shim's environment has to have so that its places are armed as ours.
    #[must_use]
    pub fn environment() -> Vec<String> {
        let armed = ARMED.lock().expect("nobody panics while it is held");
        let inherited = ["FAILPOINTS_WITNESS", "FAILPOINTS_THEN", "FAILPOINTS_BOOT_ID"];
        let inherited =
            inherited.iter().filter_map(|name| Some(format!("{name}={}", std::env::var(name).ok()?)));
        std::iter::once(format!("FAILPOINTS={armed}")).chain(inherited).collect()
    }

    pub(super) fn reached(point: Point) {
        let crashes = fail::eval(point.name(), |_| ()).is_some();
        if crashes {
            let consequence = Consequence::wanted();
            match &consequence {
                Consequence::Crash => {}
                Consequence::PowerLoss(path) => {
                    let ended = Command::new("/proc/self/exe").arg("--lose-power").arg(path).status();
                    assert!(ended.is_ok_and(|status| status.success()), "only gantryd loses power");
                }
                Consequence::FullDisk(path) => fill(path),
            }
            if let Some(path) = std::env::var_os("FAILPOINTS_WITNESS") {
                // A test that does not find it fails and says so.
                let _ = std::fs::write(path, point.name());
            }
            if matches!(consequence, Consequence::FullDisk(_)) {
                return;
            }
            // No destructor runs, and nothing is flushed: what kill -9 is.
            std::process::abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::Point;

    #[test]
    fn names_are_unique_and_say_process_and_operation() {
        let names: BTreeSet<_> = Point::ALL.iter().map(|point| point.name()).collect();
        assert_eq!(names.len(), Point::ALL.len());
        for name in names {
            assert!(matches!(name.split('.').collect::<Vec<_>>()[..], ["daemon" | "shim", _, _]), "{name}");
        }
    }
}
