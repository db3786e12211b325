//! The rotating file: `json.log`, and before it `json.log.1` (the youngest) to `json.log.<n-1>`, each with `.gz` behind
//! it where it is packed.
//!
//! Rotation comes before the entry that does not fit any more, as with Docker, so that the newest entries are always
//! in the current file. A rotated file is packed beside the writing, by a thread of its own; the next rotation waits
//! for it, so that the writer, and then the process, slows down to what the disk can take.
//!
//! ```text
//! json.log.1 ──► json.log.packing ──► json.log.1.gz, then json.log.1 goes
//! ```
//! A crash between the last two leaves both; the next writer removes the first. The packed file's gzip comment has the
//! name that the plain one had for readers ([`Identity`]), so that whoever reads the one while it is replaced by the
//! other does not read it twice.

use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Write};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};

use flate2::bufread::GzDecoder;
use flate2::{Compression, GzBuilder};
use gantry_sys::handle;
use rustix::fs::{AtFlags, StatxFlags};

use crate::config::JsonFile;

/// Packing uses little stack; what it needs more is on the heap while it lasts.
const PACKING_STACK_BYTES: usize = 256 * 1024;

/// The path of the current file (0) or of a rotated one.
pub(crate) fn path_of(directory: &Path, number: u32) -> PathBuf {
    if number == 0 { directory.join("json.log") } else { directory.join(format!("json.log.{number}")) }
}

/// The path of a rotated file that is packed.
pub(crate) fn packed_path_of(directory: &Path, number: u32) -> PathBuf {
    directory.join(format!("json.log.{number}.gz"))
}

/// Tells a file of a log from every other that the log ever had: the file system's handle of it; where it has none, its
/// inode, which may be given to another file after it, and when it was made, in nanoseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity(Vec<u8>);

impl Identity {
    /// # Errors
    /// statx(2)'s.
    pub(crate) fn of(file: impl AsFd) -> io::Result<Self> {
        match handle::of(&file) {
            Ok(handle) => Ok(Self(handle)),
            Err(_) => Ok(Self::without_handle(&rustix::fs::statx(file, c"", AtFlags::EMPTY_PATH, ASKED)?)),
        }
    }

    /// # Errors
    /// statx(2)'s.
    pub(crate) fn of_path(path: &Path) -> io::Result<Self> {
        let name = CString::new(path.as_os_str().as_bytes())?;
        match handle::of_path(&name) {
            Ok(handle) => Ok(Self(handle)),
            Err(_) => {
                let statx = rustix::fs::statx(rustix::fs::CWD, path, AtFlags::empty(), ASKED)?;
                Ok(Self::without_handle(&statx))
            }
        }
    }

    fn without_handle(statx: &rustix::fs::Statx) -> Self {
        let made = statx.stx_btime;
        let parts =
            [statx.stx_ino.to_le_bytes(), made.tv_sec.to_le_bytes(), u64::from(made.tv_nsec).to_le_bytes()];
        Self(parts.concat())
    }

    fn to_comment(&self) -> Vec<u8> {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect::<String>().into_bytes()
    }

    fn from_comment(comment: &[u8]) -> Option<Self> {
        let pairs = comment.chunks(2).map(|pair| {
            let digits = std::str::from_utf8(pair).ok().filter(|digits| digits.len() == 2)?;
            u8::from_str_radix(digits, 16).ok()
        });
        pairs.collect::<Option<_>>().map(Self)
    }
}

/// What tells files apart where there are no handles.
const ASKED: StatxFlags = StatxFlags::INO.union(StatxFlags::BTIME);

/// A packed file that is being read.
pub(crate) type Unpacking = GzDecoder<BufReader<File>>;

/// Opens a packed file and tells which one it was; its own identity where it does not say.
///
/// # Errors
/// open(2)'s and read(2)'s.
pub(crate) fn open_packed(path: &Path) -> io::Result<(Unpacking, Identity)> {
    let file = File::open(path)?;
    let own = Identity::of(&file)?;
    let packed = unpacking(file);
    let was = packed.header().and_then(|header| Identity::from_comment(header.comment()?));
    Ok((packed, was.unwrap_or(own)))
}

/// Unpacks a file from its beginning.
pub(crate) fn unpacking(file: File) -> Unpacking {
    GzDecoder::new(BufReader::with_capacity(64 * 1024, file))
}

/// The file being written, always ending with a whole line.
#[derive(Debug)]
pub(crate) struct LogFile {
    config: JsonFile,
    /// `None` after a failure, to be opened again.
    open: Option<(File, u64)>,
    packing: Option<JoinHandle<()>>,
    /// What an earlier writer left of packing is gone.
    tidied: bool,
}

impl LogFile {
    /// Takes note of where; opens nothing yet.
    pub(crate) fn new(config: JsonFile) -> Self {
        Self { config, open: None, packing: None, tidied: false }
    }

    /// Appends whole lines. On failure there are only whole lines of them in the files, perhaps none.
    ///
    /// # Errors
    /// open(2)'s, write(2)'s or rename(2)'s; the next call tries anew.
    pub(crate) fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        let most = self.config.max_size_bytes.map_or(u64::MAX, |most| most.max(1));
        if !std::mem::replace(&mut self.tidied, true) {
            tidy(&self.config.directory);
        }
        let mut rest = lines;
        while !rest.is_empty() {
            let (file, size) = match self.open.take() {
                Some(open) => open,
                None => open(&path_of(&self.config.directory, 0))?,
            };
            if size >= most {
                self.rotate(file)?;
                continue;
            }
            let (now, later) = rest.split_at(portion(rest, most - size));
            if let Err(error) = file.write_all_at(now, size) {
                // Half a line is worse than none.
                let _ = file.set_len(size);
                return Err(error);
            }
            self.open = Some((file, size + now.len() as u64));
            rest = later;
        }
        Ok(())
    }

    fn rotate(&mut self, current: File) -> io::Result<()> {
        if self.config.max_files < 2 {
            current.set_len(0)?;
            self.open = Some((current, 0));
            return Ok(());
        }
        self.finish_packing();
        let directory = &self.config.directory;
        let oldest = self.config.max_files - 1;
        for path in [path_of(directory, oldest), packed_path_of(directory, oldest)] {
            missing_is_fine(fs::remove_file(path))?;
        }
        for number in (0..oldest).rev() {
            missing_is_fine(fs::rename(path_of(directory, number), path_of(directory, number + 1)))?;
            if number > 0 {
                let packed = packed_path_of(directory, number);
                missing_is_fine(fs::rename(packed, packed_path_of(directory, number + 1)))?;
            }
        }
        if self.config.compress {
            let directory = directory.clone();
            let packing = thread::Builder::new().name("log-pack".into()).stack_size(PACKING_STACK_BYTES);
            // What cannot be packed, because the disk is full say, stays as it is: it is read all the same.
            self.packing = packing.spawn(move || drop(pack(&directory))).ok();
        }
        Ok(())
    }

    /// Waits for the thread that packs.
    pub(crate) fn finish_packing(&mut self) {
        if let Some(packing) = self.packing.take() {
            // A thread that panicked has left the plain file.
            let _ = packing.join();
        }
    }
}

/// How many bytes of whole lines go into a file with this much room: up to the line that fills it.
fn portion(lines: &[u8], room: u64) -> usize {
    let Some(before) = usize::try_from(room).ok().filter(|room| *room < lines.len()) else {
        return lines.len();
    };
    memchr::memchr(b'\n', &lines[before.saturating_sub(1)..])
        .map_or(lines.len(), |at| before.saturating_sub(1) + at + 1)
}

fn missing_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Packs the youngest rotated file.
///
/// # Errors
/// What the file system said; the plain file stays.
pub(crate) fn pack(directory: &Path) -> io::Result<()> {
    let (plain, packing) = (path_of(directory, 1), directory.join("json.log.packing"));
    let packed = || -> io::Result<()> {
        let mut from = File::open(&plain)?;
        let to = OpenOptions::new().write(true).create(true).truncate(true).mode(0o640).open(&packing)?;
        let comment = Identity::of(&from)?.to_comment();
        let mut encoder = GzBuilder::new().comment(comment).write(to, Compression::fast());
        io::copy(&mut from, &mut encoder)?;
        let mut to = encoder.finish()?;
        to.flush()?;
        // The plain file goes: its bytes must be somewhere.
        to.sync_data()?;
        fs::rename(&packing, packed_path_of(directory, 1))?;
        fs::remove_file(&plain)
    };
    let result = packed();
    if result.is_err() {
        let _ = fs::remove_file(&packing);
    }
    result
}

/// Opens the current file at its end; a line that a crash tore is ended first.
fn open(path: &Path) -> io::Result<(File, u64)> {
    let file =
        OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o640).open(path)?;
    let mut size = file.metadata()?.len();
    let mut last = [b'\n'];
    if size > 0 {
        file.read_exact_at(&mut last, size - 1)?;
    }
    if last != *b"\n" {
        file.write_all_at(b"\n", size)?;
        size += 1;
    }
    Ok((file, size))
}

/// Removes what a crash left of packing.
fn tidy(directory: &Path) {
    let _ = fs::remove_file(directory.join("json.log.packing"));
    if packed_path_of(directory, 1).exists() {
        let _ = fs::remove_file(path_of(directory, 1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    fn file(directory: &Path, max_files: u32, compress: bool) -> LogFile {
        LogFile::new(JsonFile {
            max_size_bytes: Some(10),
            max_files,
            compress,
            ..JsonFile::new(directory.into())
        })
    }

    #[test]
    fn rotation_comes_before_the_line_that_does_not_fit() {
        let dir = tempfile::tempdir().expect("a directory");
        let read = |number| std::fs::read_to_string(path_of(dir.path(), number)).ok();
        let mut log = file(dir.path(), 3, false);
        log.append(b"one\ntwo\nthree\nfour\n").expect("written");
        assert_eq!([read(0), read(1)], [Some("four\n".into()), Some("one\ntwo\nthree\n".into())]);
        log.append(b"fi\nsix\n").expect("written");
        assert_eq!(read(0).as_deref(), Some("four\nfi\nsix\n"), "what is full is rotated by what comes next");
        log.append(b"7\n").expect("written");
        assert_eq!(read(1).as_deref(), Some("four\nfi\nsix\n"));
        log.append(b"a long line, longer than a file\nx\n").expect("written");
        assert_eq!(
            [read(0), read(1), read(2), read(3)],
            [
                Some("x\n".into()),
                Some("7\na long line, longer than a file\n".into()),
                Some("four\nfi\nsix\n".into()),
                None
            ]
        );
    }

    #[test]
    fn a_single_file_is_emptied() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut log = file(dir.path(), 1, false);
        log.append(b"one\ntwo\nthree\n").expect("written");
        assert_eq!(std::fs::read(path_of(dir.path(), 0)).expect("a file"), b"one\ntwo\nthree\n");
        log.append(b"four\n").expect("written");
        assert_eq!(std::fs::read(path_of(dir.path(), 0)).expect("a file"), b"four\n");
    }

    #[test]
    fn rotated_files_are_packed_and_know_what_they_were() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut log = file(dir.path(), 3, true);
        log.append(b"first line\n").expect("written");
        let first = Identity::of_path(&path_of(dir.path(), 0)).expect("a file");
        for line in [&b"second line\n"[..], b"third line\n", b"fourth line\n"] {
            log.append(line).expect("written");
            log.finish_packing();
        }
        let unpack = |number| {
            let (mut packed, was) = open_packed(&packed_path_of(dir.path(), number)).expect("packed");
            let mut text = String::new();
            packed.read_to_string(&mut text).expect("whole");
            (text, was)
        };
        assert_eq!(unpack(1).0, "third line\n");
        let (text, was) = unpack(2);
        assert_eq!(text, "second line\n");
        assert_ne!(was, first);
        let mut names: Vec<_> = std::fs::read_dir(dir.path()).expect("a directory").flatten().collect();
        names.sort_by_key(std::fs::DirEntry::file_name);
        let names: Vec<_> =
            names.iter().map(|entry| entry.file_name().into_string().expect("UTF-8")).collect();
        assert_eq!(names, ["json.log", "json.log.1.gz", "json.log.2.gz"], "the first has gone");
    }

    #[test]
    fn what_a_crash_left_of_packing_is_tidied_up() {
        let dir = tempfile::tempdir().expect("a directory");
        for name in ["json.log.packing", "json.log.1", "json.log.1.gz", "json.log.2"] {
            std::fs::write(dir.path().join(name), "x\n").expect("written");
        }
        tidy(dir.path());
        let left = |name: &str| dir.path().join(name).exists();
        assert!(!left("json.log.packing") && !left("json.log.1"));
        assert!(left("json.log.1.gz") && left("json.log.2"));
    }
}
