//! What a snapshot driver is, which there are, and how a mount description becomes a descriptor.

use std::ffi::CString;
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use gantry_model::LayerId;
use gantry_model::mount::RootMount;
use gantry_sys::mount::{Attributes, Reach};
use gantry_sys::ns::Kinds;
use rustix::fs::{Mode, OFlags};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MountPropagationFlags, MoveMountFlags,
    OpenTreeFlags,
};

use super::overlay::Overlay;
use super::vfs::Vfs;
use super::{After, Change, Usage};
use crate::Error;
use crate::archive::Whiteouts;

/// The overlay driver's name; Docker's, because clients look for it.
pub(crate) const OVERLAY: &str = "overlay2";
/// The copying driver's name.
pub(crate) const VFS: &str = "vfs";

/// A layer below a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lower {
    pub(crate) id: LayerId,
    /// It changes nothing: mounts leave it out.
    pub(crate) empty: bool,
    /// It says what the root's owner, mode and attributes are.
    pub(crate) root_entry: bool,
    /// It hides everything below it.
    pub(crate) root_opaque: bool,
}

impl Lower {
    /// The directory with its tree.
    pub(crate) fn path(&self, root: &Path) -> PathBuf {
        root.join("layers").join(self.id.to_string()).join("fs")
    }
}

/// The layers that a mount needs, lowest first: those with something in them, each once (its topmost
/// occurrence), and nothing below one that hides it all.
pub(crate) fn effective(lower: &[Lower]) -> Vec<Lower> {
    let mut kept: Vec<Lower> = Vec::new();
    for layer in lower.iter().rev() {
        if !layer.empty && !kept.iter().any(|have| have.id == layer.id) {
            kept.push(*layer);
        }
        if layer.root_opaque {
            break;
        }
    }
    kept.reverse();
    kept
}

/// A way to keep layers and snapshots. A snapshot has the directory `snapshots/<id>`, a layer
/// `layers/<id>` with its tree in `fs`; what else is in them is the driver's business.
///
/// The conformance suite ([`super::conformance`]) says what every driver must do.
pub(crate) trait Driver: Send + Sync {
    /// Its name, as it is recorded and shown.
    fn name(&self) -> &'static str;
    /// How its trees mark removed files.
    fn whiteouts(&self) -> Whiteouts;
    /// Tries whether it works in a data root; says what is missing.
    fn probe(&self, root: &Path) -> Result<(), String>;
    /// Makes a snapshot's directory, which must not exist.
    fn prepare(&self, root: &Path, directory: &Path, lower: &[Lower]) -> Result<(), Error>;
    /// Describes a snapshot's writable mount.
    fn mount(&self, root: &Path, directory: &Path, lower: &[Lower]) -> Result<RootMount, Error>;
    /// Describes a read-only mount of layers.
    fn read_only(&self, root: &Path, lower: &[Lower]) -> Result<RootMount, Error>;
    /// What differs from the layers, sorted by path.
    fn changes(&self, root: &Path, directory: &Path, lower: &[Lower]) -> Result<Vec<Change>, Error>;
    /// What the snapshot holds beyond its layers.
    fn usage(&self, root: &Path, directory: &Path, lower: &[Lower]) -> Result<Usage, Error>;
    /// Makes the directory that will be a layer's `fs` out of what differs. A snapshot that is consumed
    /// may be spoilt by it, one that is kept stays as it is.
    fn difference(&self, commit: &Committed<'_>) -> Result<Difference, Error>;
}

/// A snapshot of which a layer is to be made.
pub(crate) struct Committed<'a> {
    /// The data root.
    pub(crate) root: &'a Path,
    /// The snapshot's directory.
    pub(crate) directory: &'a Path,
    pub(crate) lower: &'a [Lower],
    /// As in [`super::CommitOptions::stubs`].
    pub(crate) stubs: &'a [PathBuf],
    pub(crate) after: After,
}

/// What differs from the layers, in layer form.
pub(crate) struct Difference {
    /// Where it is, on the data root's file system: to be renamed.
    pub(crate) tree: PathBuf,
    /// Whether the root's owner, mode or attributes differ from those of the layers.
    pub(crate) root_changed: bool,
}

pub(crate) fn by_name(name: &str) -> Option<Box<dyn Driver>> {
    match name {
        OVERLAY => Some(Box::new(Overlay)),
        VFS => Some(Box::new(Vfs)),
        _ => None,
    }
}

/// Overlay where it works, else the copying one.
pub(crate) fn detect(root: &Path) -> Box<dyn Driver> {
    match Overlay.probe(root) {
        Ok(()) => Box::new(Overlay),
        Err(reason) => {
            tracing::warn!(reason, "overlay does not work here: layers will be copied (driver vfs)");
            Box::new(Vfs)
        }
    }
}

/// Opens what a description describes, mounted nowhere.
pub(crate) fn open(mount: &RootMount) -> Result<OwnedFd, Error> {
    match mount {
        RootMount::Bind { source } => {
            let file = fs::File::open(source).map_err(Error::io("open", source))?;
            Ok(file.into())
        }
        RootMount::Overlay { lower, upper, work } => {
            open_overlay(lower, upper.as_deref().zip(work.as_deref())).map_err(Error::io(
                "mount an overlay at",
                upper.as_ref().or(lower.first()).cloned().unwrap_or_default(),
            ))
        }
    }
}

/// Opens what a description describes, mounted nowhere, so that nothing can be written through it.
pub(crate) fn open_read_only(mount: &RootMount) -> Result<OwnedFd, Error> {
    let RootMount::Bind { source } = mount else { return open(mount) };
    let clone = || -> std::io::Result<OwnedFd> {
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        let mount = rustix::mount::open_tree(rustix::fs::CWD, source, flags)?;
        let attributes = Attributes { set: Attributes::RDONLY, ..Attributes::default() };
        gantry_sys::mount::set_attributes(mount.as_fd(), c"", Reach::Single, attributes)
            .map_err(std::io::Error::from_raw_os_error)?;
        root_of(&mount)
    };
    clone().map_err(Error::io("mount", source))
}

/// Mounts what a description describes on a directory, in the calling thread's namespace.
pub(crate) fn attach(mount: &RootMount, directory: &Path) -> Result<(), Error> {
    let mounted = || -> std::io::Result<()> {
        let tree = match mount {
            RootMount::Bind { source } => {
                let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
                rustix::mount::open_tree(rustix::fs::CWD, source, flags)?
            }
            RootMount::Overlay { lower, upper, work } => {
                overlay(lower, upper.as_deref().zip(work.as_deref()))?
            }
        };
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
        Ok(rustix::mount::move_mount(&tree, "", rustix::fs::CWD, directory, flags)?)
    };
    mounted().map_err(Error::io("mount a snapshot on", directory))
}

/// A mount's own descriptor is `O_PATH`; callers list the directory.
fn root_of(mount: &OwnedFd) -> std::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(mount, ".", flags, Mode::empty())?)
}

/// A directory under the name `/proc/self/fd/<n>`: an option has at most 255 bytes, all of them a page.
struct Short(OwnedFd);

impl Short {
    fn open(path: &Path) -> std::io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self(rustix::fs::open(path, flags, Mode::empty())?))
    }

    /// Lasts as long as this does.
    fn name(&self) -> String {
        format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&self.0))
    }
}

fn overlay(lower: &[PathBuf], upper: Option<(&Path, &Path)>) -> std::io::Result<OwnedFd> {
    if !gantry_sys::mount::overlay_takes_directories_one_by_one() {
        return overlay_by_one_string(lower, upper);
    }
    let context = rustix::mount::fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    for (option, value) in [("redirect_dir", "off"), ("metacopy", "off"), ("index", "off")] {
        rustix::mount::fsconfig_set_string(&context, option, value)?;
    }
    let mut held = Vec::new();
    let mut set = |option: &str, path: &Path| -> std::io::Result<()> {
        let directory = Short::open(path)?;
        rustix::mount::fsconfig_set_string(&context, option, directory.name())?;
        held.push(directory);
        Ok(())
    };
    for path in lower {
        set("lowerdir+", path)?;
    }
    if let Some((upper, work)) = upper {
        set("upperdir", upper)?;
        set("workdir", work)?;
    }
    rustix::mount::fsconfig_create(&context)?;
    let attributes =
        if upper.is_some() { MountAttrFlags::empty() } else { MountAttrFlags::MOUNT_ATTR_RDONLY };
    Ok(rustix::mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?)
}

/// Before Linux 6.7: all directories in one string, which mount(2) alone takes at this length. It wants a place, so a
/// thread with a mount namespace of its own gives it one and takes the mount off it as a detached tree. The directories
/// are opened there: overlay takes none of another namespace's.
fn overlay_by_one_string(lower: &[PathBuf], upper: Option<(&Path, &Path)>) -> std::io::Result<OwnedFd> {
    let place = lower.first().ok_or(rustix::io::Errno::INVAL)?.as_path();
    let mounted = || -> std::io::Result<OwnedFd> {
        gantry_sys::ns::unshare(Kinds::MOUNT).map_err(std::io::Error::from_raw_os_error)?;
        let nothing_shared = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
        rustix::mount::mount_change("/", nothing_shared)?;
        let below: Vec<Short> = lower.iter().map(|path| Short::open(path)).collect::<Result<_, _>>()?;
        let names: Vec<String> = below.iter().map(Short::name).collect();
        let mut options = format!("redirect_dir=off,metacopy=off,index=off,lowerdir={}", names.join(":"));
        let mut flags = MountFlags::RDONLY;
        let mut above = Vec::new();
        for (option, path) in upper.iter().flat_map(|(upper, work)| [("upperdir", upper), ("workdir", work)])
        {
            let directory = Short::open(path)?;
            options.push_str(&format!(",{option}={}", directory.name()));
            above.push(directory);
            flags = MountFlags::empty();
        }
        let options = CString::new(options)?;
        rustix::mount::mount(c"overlay", place, c"overlay", flags, Some(options.as_c_str()))?;
        let whole = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        Ok(rustix::mount::open_tree(rustix::fs::CWD, place, whole)?)
    };
    let ended = std::thread::scope(|scope| scope.spawn(mounted).join());
    ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// The root directory of an overlay that is mounted nowhere.
fn open_overlay(lower: &[PathBuf], upper: Option<(&Path, &Path)>) -> std::io::Result<OwnedFd> {
    root_of(&overlay(lower, upper)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Kernels before 6.7 are asked in another way, which the others know too: it gives the same tree.
    #[test]
    #[expect(clippy::print_stdout, reason = "a skipped test says so where the runner counts it")]
    fn an_overlay_is_mounted_by_one_string_as_one_by_one() {
        if !rustix::process::geteuid().is_root() {
            println!("skipped: not root: nothing can be mounted");
            return;
        }
        let root = std::env::temp_dir().join(format!("gantry-store-overlay-{}", std::process::id()));
        let [one, two, upper, work] = ["one", "two", "upper", "work"].map(|name| root.join(name));
        for directory in [&one, &two, &upper, &work] {
            fs::create_dir_all(directory).expect("made");
        }
        fs::write(one.join("file"), "upmost").expect("written");
        fs::write(two.join("file"), "hidden").expect("written");
        fs::write(two.join("below"), "seen").expect("written");
        let lower = [one, two];
        let both = Some((upper.as_path(), work.as_path()));
        for mount in [overlay, overlay_by_one_string] {
            for upper in [None, both] {
                let held = Short(root_of(&mount(&lower, upper).expect("mounted")).expect("opened"));
                let tree = PathBuf::from(held.name());
                let read = |name: &str| fs::read_to_string(tree.join(name)).ok();
                assert_eq!(read("file").as_deref(), Some("upmost"));
                assert_eq!(read("below").as_deref(), Some("seen"));
                assert_eq!(fs::write(tree.join("new"), "").is_ok(), upper.is_some());
            }
        }
        assert!(upper.join("new").exists());
        fs::remove_dir_all(root).expect("nothing is mounted there");
    }

    #[test]
    fn a_mount_names_each_layer_once_and_none_in_vain() {
        let layer = |id, empty, root_opaque| Lower { id: LayerId(id), empty, root_entry: false, root_opaque };
        let check = |layers: &[Lower], expected: &[u64]| {
            let got: Vec<u64> = effective(layers).iter().map(|layer| layer.id.0).collect();
            assert_eq!(got, expected);
        };
        check(&[], &[]);
        check(&[layer(1, false, false), layer(2, true, false), layer(3, false, false)], &[1, 3]);
        check(&[layer(1, false, false), layer(2, false, false), layer(1, false, false)], &[2, 1]);
        check(&[layer(1, false, false), layer(2, false, true), layer(3, false, false)], &[2, 3]);
        check(&[layer(1, false, false), layer(2, true, true)], &[]);
    }
}
