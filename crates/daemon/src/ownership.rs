//! One daemon a data root, one a pidfile: held by locks that end with the process, however it ends.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// How long a root may be held by what is left of a killed daemon.
const MOMENT: Duration = Duration::from_millis(500);

/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(2);

/// Ours until dropped. The descriptors are close-on-exec, so no shim ever holds them.
#[derive(Debug)]
pub(crate) struct Ownership {
    roots: Vec<File>,
    pidfile: PathBuf,
    /// Its lock says that whoever it names lives.
    _file: File,
}

impl Ownership {
    /// Makes both roots (mode 0711 and 0700), locks them, and writes the pidfile.
    ///
    /// # Errors
    /// Another daemon owns a root or the pidfile, or the host refuses. Nothing of the other's is touched.
    pub(crate) fn take(data_root: &Path, exec_root: &Path, pidfile: &Path) -> Result<Self> {
        let mut roots = Vec::new();
        for (root, mode) in [(data_root, 0o711), (exec_root, 0o700)] {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(mode)
                .create(root)
                .with_context(|| format!("cannot make {}", root.display()))?;
            roots.push(lock(root)?);
        }
        if let Some(directory) = pidfile.parent() {
            fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
        }
        // One that a killed daemon left is overwritten; a living one holds its own.
        let file = take_file(pidfile)?;
        (&file)
            .write_all(std::process::id().to_string().as_bytes())
            .with_context(|| format!("cannot write the pidfile {}", pidfile.display()))?;
        Ok(Self { roots, pidfile: pidfile.into(), _file: file })
    }

    /// Leaves in the data root's lock file what [`Remembered`] reads.
    pub(crate) fn remember(&self, exec_root: &Path, cgroup_parent: Option<&str>) -> Result<()> {
        let mut text = format!("exec-root={}\n", exec_root.display());
        if let Some(parent) = cgroup_parent {
            text.push_str(&format!("cgroup-parent={parent}\n"));
        }
        (&self.roots[0]).write_all(text.as_bytes()).context("cannot write the data root's lock file")
    }
}

impl Drop for Ownership {
    fn drop(&mut self) {
        // It may be gone already; nothing depends on it.
        fs::remove_file(&self.pidfile).ok();
    }
}

/// Opens, locks and empties the pidfile.
fn take_file(pidfile: &Path) -> Result<File> {
    // Whom it names is read where it is locked, so it is emptied afterwards.
    let file =
        OpenOptions::new().create(true).truncate(false).write(true).read(true).mode(0o644).open(pidfile);
    let file = file.with_context(|| format!("cannot open the pidfile {}", pidfile.display()))?;
    match lock_soon(&file) {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let owner = fs::read_to_string(pidfile).unwrap_or_default();
            bail!(
                "the pidfile {} belongs to another gantryd (process {}): give this one another --pidfile",
                pidfile.display(),
                owner.trim()
            );
        }
        Err(TryLockError::Error(error)) => {
            return Err(error).with_context(|| format!("cannot lock the pidfile {}", pidfile.display()));
        }
    }
    file.set_len(0).with_context(|| format!("cannot write the pidfile {}", pidfile.display()))?;
    Ok(file)
}

fn lock(root: &Path) -> Result<File> {
    let path = root.join("lock");
    let mut file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .read(true)
        .mode(0o600)
        .open(&path)
        .with_context(|| format!("cannot open {}", path.display()))?;
    match lock_soon(&file) {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let owner = fs::read_to_string(&path).unwrap_or_default();
            bail!(
                "{} belongs to another gantryd (process {}): stop it, or give this one another --data-root and --exec-root",
                root.display(),
                owner.lines().next().unwrap_or_default()
            );
        }
        Err(TryLockError::Error(error)) => {
            return Err(error).with_context(|| format!("cannot lock {}", path.display()));
        }
    }
    file.set_len(0)?;
    writeln!(file, "{}", std::process::id())?;
    Ok(file)
}

/// The process that a lock file names.
pub(crate) fn owner(lock: &str) -> Option<u32> {
    lock.lines().next()?.trim().parse().ok()
}

/// The other places of the daemon that had this data root last, for who knows the root alone: what its lock file says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Remembered {
    pub(crate) exec_root: Option<PathBuf>,
    pub(crate) cgroup_parent: Option<String>,
}

impl Remembered {
    pub(crate) fn of(data_root: &Path) -> Self {
        let text = fs::read_to_string(data_root.join("lock")).unwrap_or_default();
        let value = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        Self {
            exec_root: value("exec-root").map(PathBuf::from),
            cgroup_parent: value("cgroup-parent").map(str::to_owned),
        }
    }
}

/// Takes the lock, if need be after a moment: a child that a killed daemon was just starting has the descriptor
/// too, until its `execve`.
fn lock_soon(file: &File) -> Result<(), TryLockError> {
    let begun = Instant::now();
    loop {
        match file.try_lock() {
            Err(TryLockError::WouldBlock) if begun.elapsed() < MOMENT => std::thread::sleep(PAUSE),
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_has_one_owner() {
        let base = std::env::temp_dir().join(format!("gantry-ownership-{}", std::process::id()));
        let (data, exec, pid) = (base.join("data"), base.join("exec"), base.join("pid"));
        let first = Ownership::take(&data, &exec, &pid).expect("nobody owns it");
        let refused =
            Ownership::take(&data, &base.join("other"), &base.join("pid2")).expect_err("it is owned");
        assert!(refused.to_string().contains("belongs to another gantryd"), "{refused}");
        assert_eq!(fs::read_to_string(&pid).expect("a pidfile"), std::process::id().to_string());
        let elsewhere = (base.join("data2"), base.join("exec2"));
        let refused = Ownership::take(&elsewhere.0, &elsewhere.1, &pid).expect_err("it is the first's");
        assert!(refused.to_string().contains("belongs to another gantryd (process "), "{refused}");
        assert_eq!(fs::read_to_string(&pid).expect("a pidfile"), std::process::id().to_string());
        assert_eq!(Remembered::of(&data), Remembered::default());
        first.remember(&exec, Some("/groups")).expect("written");
        let remembered = Remembered { exec_root: Some(exec.clone()), cgroup_parent: Some("/groups".into()) };
        assert_eq!(Remembered::of(&data), remembered);
        let lock = fs::read_to_string(data.join("lock")).expect("a lock file");
        assert_eq!(owner(&lock), Some(std::process::id()));
        drop(first);
        assert!(!pid.exists());
        assert_eq!(Remembered::of(&data), remembered, "also when it has ended");
        drop(Ownership::take(&data, &exec, &pid).expect("it is free again"));
        fs::remove_dir_all(base).expect("cleaning up");
    }
}
