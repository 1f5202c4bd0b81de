//! Looking for rot: shards are read again, slowly, and compared with their ids.

use std::fs::File;
use std::io;

use fincrypt_protocol::{AccountId, SegmentId, ShardIndex};
use rustix::fs::Advice;

use super::file;
use super::index::{FileEntry, FileKey};
use super::store::{ShardStore, StoreError, at};
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
        FileKey::parse(bytes).map(Self)
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

impl ShardStore {
    /// Looks at the shard after `after`, or the first one; none if there are no more.
    ///
    /// # Errors
    /// If the index fails, or a rotten file cannot be removed.
    pub fn check_next(&self, after: Option<WalkPosition>) -> Result<Option<Checked>, StoreError> {
        let Some((key, entry)) = self.table().file_after(after.map(|position| position.0).as_ref())? else {
            return Ok(None);
        };
        let found = self.check_file(&key, &entry)?;
        Ok(Some(Checked { position: WalkPosition(key), bytes: entry.shard_len.get().into(), found }))
    }

    /// Looks at one shard.
    ///
    /// # Errors
    /// As [`ShardStore::check_next`].
    pub fn check(
        &self,
        account: &AccountId,
        segment: &SegmentId,
        index: ShardIndex,
    ) -> Result<Found, StoreError> {
        let Some(shard) = self.table().place(account, segment, index)? else { return Ok(Found::Gone) };
        let key = FileKey { shard, account: *account };
        match self.table().file(&key)? {
            Some(entry) => self.check_file(&key, &entry),
            None => Ok(Found::Gone),
        }
    }

    pub(super) fn check_file(&self, key: &FileKey, entry: &FileEntry) -> Result<Found, StoreError> {
        let path = self.path(key);
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
                    return match self.table().file(key)? {
                        Some(_) => self.drop_rotten(key, entry),
                        None => Ok(Found::Gone),
                    };
                }
                Err(error) => return Ok(Found::Unreadable(at(&path)(error))),
            }
        }
        self.drop_rotten(key, entry)
    }

    fn drop_rotten(&self, key: &FileKey, entry: &FileEntry) -> Result<Found, StoreError> {
        self.table().remember_damaged(&key.account, &entry.segment, entry.index)?;
        self.remove_file(key, entry)?;
        Ok(Found::Rotten)
    }

    /// Whether a shard was found rotten and removed, and was not stored again since.
    ///
    /// # Errors
    /// If the index fails.
    pub fn was_damaged(
        &self,
        account: &AccountId,
        segment: &SegmentId,
        index: ShardIndex,
    ) -> Result<bool, StoreError> {
        Ok(self.table().was_damaged(account, segment, index)?)
    }
}

/// Makes the next read come from the disk.
fn forget_pages(path: &std::path::Path) -> io::Result<()> {
    match File::open(path) {
        Ok(file) => Ok(rustix::fs::fadvise(&file, 0, None, Advice::DontNeed)?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}
