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
    _roots: Vec<File>,
    pidfile: PathBuf,
}

impl Ownership {
    /// Makes both roots (mode 0711 and 0700), locks them, and writes the pidfile.
    ///
    /// # Errors
    /// Another daemon owns a root, or the host refuses. Nothing of the other's is touched.
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
        // Whoever has the roots is the one daemon; a pidfile that a killed one left is overwritten.
        fs::write(pidfile, std::process::id().to_string())
            .with_context(|| format!("cannot write the pidfile {}", pidfile.display()))?;
        Ok(Self { _roots: roots, pidfile: pidfile.into() })
    }
}

impl Drop for Ownership {
    fn drop(&mut self) {
        // It may be gone already; nothing depends on it.
        fs::remove_file(&self.pidfile).ok();
    }
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
                owner.trim()
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
        drop(first);
        assert!(!pid.exists());
        drop(Ownership::take(&data, &exec, &pid).expect("it is free again"));
        fs::remove_dir_all(base).expect("cleaning up");
    }
}
