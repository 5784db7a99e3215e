//! A new file that only its owner may read.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use crate::failure::Failure;

/// A file that is being written. It is removed unless it was [`NewFile::finish`]ed: what is half written is of no use.
pub(super) struct NewFile {
    file: File,
    path: PathBuf,
    done: bool,
}

impl NewFile {
    /// Makes it, with mode 0600. One that exists is refused, never overwritten.
    pub(super) fn create(path: &Path) -> Result<NewFile, Failure> {
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path);
        match file {
            Ok(file) => Ok(NewFile {
                file,
                path: path.to_owned(),
                done: false,
            }),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Err(Failure::Failed(format!(
                "{} exists and is not overwritten: name a new file",
                path.display()
            ))),
            Err(error) => Err(Failure::Failed(format!(
                "{} cannot be made: {error}",
                path.display()
            ))),
        }
    }

    /// Sees that file and name are on disk.
    pub(super) fn finish(mut self) -> Result<(), Failure> {
        let folder = match self.path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        let synced = self.file.sync_all().and_then(|()| File::open(folder)?.sync_all());
        synced.map_err(|error| {
            Failure::Failed(format!(
                "{} cannot be brought to disk: {error}",
                self.path.display()
            ))
        })?;
        self.done = true;
        Ok(())
    }
}

impl Write for NewFile {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if !self.done {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}
