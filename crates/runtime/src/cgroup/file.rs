//! Reading and writing the small files of a cgroup.

use std::fs::OpenOptions;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use crate::cgroup::CgroupError;

/// One directory of a cgroup file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Directory(pub(crate) PathBuf);

impl Directory {
    /// Writes one value.
    pub(crate) fn write(&self, name: &str, value: &str) -> Result<(), CgroupError> {
        let path = self.0.join(name);
        let write = || OpenOptions::new().write(true).open(&path)?.write_all(value.as_bytes());
        write().map_err(|source| CgroupError::Write { value: value.into(), path: path.clone(), source })
    }

    /// Writes one value, unless the kernel has no such file; tells whether it has.
    pub(crate) fn write_if_present(&self, name: &str, value: &str) -> Result<bool, CgroupError> {
        match self.write(name, value) {
            Err(CgroupError::Write { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(false),
            result => result.map(|()| true),
        }
    }

    /// Reads a file.
    pub(crate) fn read(&self, name: &str) -> Result<String, CgroupError> {
        let path = self.0.join(name);
        let read = || {
            // These files say that they are 4096 bytes long, or nothing: read in one go.
            let mut text = String::with_capacity(4096);
            std::fs::File::open(&path)?.read_to_string(&mut text)?;
            Ok(text)
        };
        read().map_err(|source| CgroupError::Io { action: "reading", path: path.clone(), source })
    }

    /// Reads one number; `max` is `u64::MAX`, and a missing file `None`.
    pub(crate) fn number(&self, name: &str) -> Option<u64> {
        let text = self.read(name).ok()?;
        parse_number(text.trim())
    }

    /// Reads lines of `key value`; a missing file has none.
    pub(crate) fn pairs(&self, name: &str) -> Vec<(String, u64)> {
        let text = self.read(name).unwrap_or_default();
        let pair = |line: &str| {
            let (key, value) = line.split_once(' ')?;
            Some((key.to_owned(), parse_number(value.trim())?))
        };
        text.lines().filter_map(pair).collect()
    }

    /// The value of one key among [`Self::pairs`].
    pub(crate) fn value(&self, name: &str, key: &str) -> Option<u64> {
        self.pairs(name).into_iter().find(|(known, _)| known == key).map(|(_, value)| value)
    }

    /// Appends the processes in it and below it.
    pub(crate) fn processes(&self, found: &mut Vec<i32>) -> Result<(), CgroupError> {
        match self.read("cgroup.procs") {
            Ok(text) => found.extend(text.lines().filter_map(|line| line.parse::<i32>().ok())),
            Err(error) if error.is_gone() => return Ok(()),
            Err(error) => return Err(error),
        }
        for child in self.children() {
            child.processes(found)?;
        }
        Ok(())
    }

    /// The cgroups below it.
    pub(crate) fn children(&self) -> Vec<Directory> {
        let Ok(entries) = std::fs::read_dir(&self.0) else { return Vec::new() };
        let directories = entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        directories.map(|entry| Directory(entry.path())).collect()
    }

    /// Removes it and what is below it, once. One that is gone counts as removed.
    pub(crate) fn remove(&self) -> io::Result<()> {
        match std::fs::remove_dir(&self.0) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {
                let children = self.children();
                if children.is_empty() {
                    return Err(error);
                }
                children.iter().try_for_each(Self::remove)?;
                std::fs::remove_dir(&self.0)
            }
            result => result,
        }
    }
}

fn parse_number(text: &str) -> Option<u64> {
    match text {
        "max" => Some(u64::MAX),
        // cpu.cfs_quota_us and the like say -1 for none.
        "-1" => Some(u64::MAX),
        _ => text.parse().ok(),
    }
}

/// Joins an absolute cgroup path to a mount point; `..` cannot leave it.
pub(crate) fn below(mount: &Path, path: &Path) -> PathBuf {
    let mut result = mount.to_owned();
    for component in path.components() {
        if let std::path::Component::Normal(name) = component {
            result.push(name);
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_stays_below_the_mount() {
        for (path, expected) in [("/a/b", "/m/a/b"), ("../../x", "/m/x"), ("/", "/m"), ("a", "/m/a")] {
            assert_eq!(below(Path::new("/m"), Path::new(path)), Path::new(expected), "{path}");
        }
    }

    #[test]
    fn numbers_may_be_unlimited() {
        assert_eq!(
            [parse_number("max"), parse_number("-1"), parse_number("12"), parse_number("x")],
            [Some(u64::MAX), Some(u64::MAX), Some(12), None]
        );
    }
}
