//! The rotating file: `json.log`, and before it `json.log.1` (the youngest) to `json.log.<n-1>`.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::config::JsonFile;

/// The path of the current file (0) or of a rotated one.
pub(crate) fn path_of(directory: &Path, number: u32) -> PathBuf {
    if number == 0 { directory.join("json.log") } else { directory.join(format!("json.log.{number}")) }
}

/// The file being written, always ending with a whole line.
#[derive(Debug)]
pub(crate) struct LogFile {
    config: JsonFile,
    /// `None` after a failure, to be opened again.
    open: Option<(File, u64)>,
}

impl LogFile {
    /// Takes note of where; opens nothing yet.
    pub(crate) fn new(config: JsonFile) -> Self {
        Self { config, open: None }
    }

    /// Appends whole lines. On failure nothing of them stays in the file.
    ///
    /// # Errors
    /// open(2)'s or write(2)'s; the next call tries anew.
    pub(crate) fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        let (file, size) = match self.open.take() {
            Some(open) => open,
            None => open(&path_of(&self.config.directory, 0))?,
        };
        if let Err(error) = file.write_all_at(lines, size) {
            // Half a line is worse than none.
            let _ = file.set_len(size);
            return Err(error);
        }
        let size = size + lines.len() as u64;
        self.open = Some((file, size));
        if self.config.max_size_bytes.is_some_and(|most| size >= most) {
            self.rotate()?;
        }
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        let path = |number| path_of(&self.config.directory, number);
        if self.config.max_files < 2 {
            if let Some((file, _)) = self.open.take() {
                file.set_len(0)?;
                self.open = Some((file, 0));
            }
            return Ok(());
        }
        self.open = None;
        for number in (0..self.config.max_files - 1).rev() {
            match std::fs::rename(path(number), path(number + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
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
