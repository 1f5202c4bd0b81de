//! Where files lie: one folder for each first byte of a shard's id, and one for files being written.

use std::path::{Path, PathBuf};

use fincrypt_state::durable::sync_dir;

use super::error::{StoreError, at};
use super::index::FileKey;

/// Folder for files being written.
const TEMP: &str = "tmp";
/// Left free on the disk, whatever the quota says.
const RESERVE: u64 = 64 << 20;

/// The folders of a store.
pub(super) struct Layout {
    dir: PathBuf,
}

impl Layout {
    pub(super) fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned() }
    }

    fn folder_name(first: u8) -> String {
        format!("{first:02x}")
    }

    /// The folder of shards whose ids begin with a byte.
    pub(super) fn folder(&self, first: u8) -> PathBuf {
        self.dir.join(Self::folder_name(first))
    }

    fn file_name(key: &FileKey) -> String {
        format!("{}.{}", key.shard, key.account)
    }

    /// A shard's file.
    pub(super) fn path(&self, key: &FileKey) -> PathBuf {
        self.folder(key.shard.as_bytes()[0]).join(Self::file_name(key))
    }

    /// A shard's file while it is being written.
    pub(super) fn temp_path(&self, key: &FileKey) -> PathBuf {
        self.dir.join(TEMP).join(Self::file_name(key))
    }

    /// Creates all folders, and removes files that were not finished; how many.
    ///
    /// # Errors
    /// If the system refuses.
    pub(super) fn create(&self) -> Result<u64, StoreError> {
        let (temp, mut unfinished) = (self.dir.join(TEMP), 0);
        std::fs::create_dir_all(&temp).map_err(at(&temp))?;
        for entry in std::fs::read_dir(&temp).map_err(at(&temp))? {
            let path = entry.map_err(at(&temp))?.path();
            std::fs::remove_file(&path).map_err(at(&path))?;
            unfinished += 1;
        }
        for first in 0..=u8::MAX {
            let folder = self.folder(first);
            std::fs::create_dir_all(&folder).map_err(at(&folder))?;
        }
        sync_dir(&self.dir).map_err(at(&self.dir))?;
        Ok(unfinished)
    }

    /// Makes the names in the folder of a shard durable.
    ///
    /// # Errors
    /// If the system refuses.
    pub(super) fn sync(&self, first: u8) -> Result<(), StoreError> {
        let folder = self.folder(first);
        sync_dir(&folder).map_err(at(&folder))
    }

    /// Bytes that fit on the disk.
    pub(super) fn disk_free(&self) -> u64 {
        // A disk that cannot be asked has no room.
        rustix::fs::statvfs(&self.dir)
            .map_or(0, |disk| disk.f_bavail.saturating_mul(disk.f_frsize))
            .saturating_sub(RESERVE)
    }
}
