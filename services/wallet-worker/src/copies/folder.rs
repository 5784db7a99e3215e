//! Files in a folder: written whole or not at all, on disk when the call returns, and never over another.

use std::fs::File;
use std::io::{Error, ErrorKind, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use gatewayzen_core::backup::BackupError;

use super::Trouble;

/// More than a copy of one wallet has by far.
const LONGEST: u64 = 64 * 1024;

/// Writes a new file. False: there is one of this name, and it was left alone.
pub(super) fn write_new(
    path: &Path,
    content: impl FnOnce() -> Result<Vec<u8>, BackupError>,
) -> Result<bool, Trouble> {
    let folder = path
        .parent()
        .ok_or_else(|| Error::new(ErrorKind::InvalidInput, "it is no folder"))?;
    // A folder that is missing is not made: it may be a disk that is not mounted.
    if path.try_exists()? {
        return Ok(false);
    }
    let content = content().map_err(Trouble::NotMade)?;
    let mut file = tempfile::Builder::new()
        .prefix(".wallet-")
        .permissions(std::fs::Permissions::from_mode(0o600))
        .tempfile_in(folder)?;
    file.write_all(&content)?;
    // Guards against the power cut after the server heard the address: first the file, then its name are on disk.
    file.as_file().sync_all()?;
    match file.persist_noclobber(path) {
        Ok(_) => {
            File::open(folder)?.sync_all()?;
            Ok(true)
        }
        // Another worker was quicker.
        Err(error) if error.error.kind() == ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error.error.into()),
    }
}

/// Reads a file back. One that was written by a process that died at once may have a name that is not yet on disk: it is
/// synced here too.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, Trouble> {
    let file = File::open(path)?;
    let long = file.metadata()?.len() > LONGEST;
    if long {
        return Err(Trouble::Other(BackupError::NotABackup));
    }
    file.sync_all()?;
    if let Some(folder) = path.parent() {
        File::open(folder)?.sync_all()?;
    }
    Ok(std::fs::read(path)?)
}
