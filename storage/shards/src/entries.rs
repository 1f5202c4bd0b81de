//! Files, their index and their sum: what is changed together.

use std::io;
use std::path::PathBuf;

use fincrypt_protocol::{AccountId, SegmentId, ShardIndex};

use super::error::{StoreError, at};
use super::file::NewFile;
use super::index::{FileEntry, FileKey, ShardTable};
use super::layout::Layout;
use super::quota::Quota;

/// The files of a store, the index of them and what they take.
pub(super) struct Entries {
    pub(super) layout: Layout,
    pub(super) table: ShardTable,
    pub(super) quota: Quota,
}

impl Entries {
    pub(super) fn path(&self, key: &FileKey) -> PathBuf {
        self.layout.path(key)
    }

    /// The file at a place of a segment, if there is one.
    ///
    /// # Errors
    /// If the index fails.
    pub(super) fn at_place(
        &self,
        account: &AccountId,
        segment: &SegmentId,
        index: ShardIndex,
    ) -> Result<Option<(FileKey, FileEntry)>, StoreError> {
        let Some(shard) = self.table.place(account, segment, index)? else { return Ok(None) };
        let key = FileKey { shard, account: *account };
        Ok(self.table.file(&key)?.map(|entry| (key, entry)))
    }

    /// Writes a file; it is on disk, name and all, when this returns.
    ///
    /// # Errors
    /// [`StoreError::Full`] before anything is written; [`StoreError::Conflict`] if the file is being
    /// written at this moment.
    pub(super) fn write(
        &self,
        key: &FileKey,
        entry: &FileEntry,
        new: &NewFile<'_>,
    ) -> Result<(), StoreError> {
        let _reservation = self.quota.reserve(*key, entry.file_len, self.layout.disk_free())?;
        let temp = self.layout.temp_path(key);
        let written = new.write(&temp).and_then(|()| std::fs::rename(&temp, self.path(key)));
        if let Err(error) = written {
            // What was written is of no use; if it stays behind, the next start removes it.
            let _ = std::fs::remove_file(&temp);
            return Err(at(&temp)(error));
        }
        self.layout.sync(key.shard.as_bytes()[0])?;
        self.adopt(key, entry)
    }

    /// Indexes and counts a file that is on disk.
    ///
    /// # Errors
    /// If the index fails.
    pub(super) fn adopt(&self, key: &FileKey, entry: &FileEntry) -> Result<(), StoreError> {
        self.table.insert(key, entry)?;
        self.quota.add(&key.account, entry);
        Ok(())
    }

    /// Removes a file; the bytes that became free.
    ///
    /// # Errors
    /// If the file or the index refuses.
    pub(super) fn remove(&self, key: &FileKey, entry: &FileEntry) -> Result<u64, StoreError> {
        let path = self.path(key);
        match std::fs::remove_file(&path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(at(&path)(error)),
        }
        self.table.remove(key, entry)?;
        self.quota.subtract(&key.account, entry);
        Ok(entry.file_len)
    }
}
