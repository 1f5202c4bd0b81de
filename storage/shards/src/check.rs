//! Looking for rot: shards are read again, slowly, and compared with their ids.

use std::fs::File;
use std::io;

use fincrypt_state::table::Key;
use rustix::fs::Advice;

use super::entries::Entries;
use super::error::{StoreError, at};
use super::file;
use super::index::{FileEntry, FileKey};
use crate::proof::shard_id;

/// Where a walk over all shards stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WalkPosition(FileKey);

impl WalkPosition {
    /// Its bytes, to go on from after a restart.
    #[must_use]
    pub fn to_bytes(self) -> Vec<u8> {
        self.0.bytes()
    }

    /// The position with these bytes.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        FileKey::read(bytes).map(Self)
    }
}

/// What looking at one shard found.
#[derive(Debug)]
pub enum Found {
    /// It is what its id says.
    Good,
    /// It was altered or cut short. It is removed and remembered as damaged.
    Rotten,
    /// It is not there any more.
    Gone,
    /// The system could not read it. It stays: the next try may do better.
    Unreadable(StoreError),
}

/// A step of a walk.
#[derive(Debug)]
pub struct Checked {
    /// Where the walk stands now.
    pub position: WalkPosition,
    /// Bytes that were read.
    pub bytes: u64,
    /// What was found.
    pub found: Found,
}

/// Looks at the file after `after`, or the first one; none if there are no more.
///
/// # Errors
/// If the index fails, or a rotten file cannot be removed.
pub(super) fn check_next(
    entries: &Entries,
    after: Option<WalkPosition>,
) -> Result<Option<Checked>, StoreError> {
    let after = after.map(|position| position.0);
    let Some((key, entry)) = entries.table.file_after(after.as_ref())? else { return Ok(None) };
    let found = check_file(entries, &key, &entry)?;
    Ok(Some(Checked { position: WalkPosition(key), bytes: entry.shard_len.get().into(), found }))
}

/// Looks at one file, and removes it if it is rotten.
///
/// # Errors
/// As [`check_next`].
pub(super) fn check_file(entries: &Entries, key: &FileKey, entry: &FileEntry) -> Result<Found, StoreError> {
    let path = entries.path(key);
    // What seems to be rot may be a fault of the memory: it is read again, from the disk itself.
    for again in [false, true] {
        if again {
            forget_pages(&path).map_err(at(&path))?;
        }
        match file::read_data(&path, entry.shard_len.get()) {
            Ok(bytes) if shard_id(&bytes) == key.shard => return Ok(Found::Good),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // A shard that was removed meanwhile is no loss; one whose file is gone is.
                return match entries.table.file(key)? {
                    Some(_) => remove_rotten(entries, key, entry),
                    None => Ok(Found::Gone),
                };
            }
            Err(error) => return Ok(Found::Unreadable(at(&path)(error))),
        }
    }
    remove_rotten(entries, key, entry)
}

fn remove_rotten(entries: &Entries, key: &FileKey, entry: &FileEntry) -> Result<Found, StoreError> {
    entries.table.remember_damaged(key.account, entry)?;
    entries.remove(key, entry)?;
    Ok(Found::Rotten)
}

/// Makes the next read come from the disk.
fn forget_pages(path: &std::path::Path) -> io::Result<()> {
    match File::open(path) {
        Ok(file) => Ok(rustix::fs::fadvise(&file, 0, None, Advice::DontNeed)?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}
