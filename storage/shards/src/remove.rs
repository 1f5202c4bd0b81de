//! Removing whole segments.

use fincrypt_protocol::limits::MAX_SHARDS;
use fincrypt_protocol::{AccountId, SegmentId};

use super::store::{ShardStore, StoreError, at};
use fincrypt_state::durable::sync_dir;

impl ShardStore {
    /// Whether any shard of a segment is held.
    ///
    /// # Errors
    /// If the index fails.
    pub fn holds(&self, account: &AccountId, segment: &SegmentId) -> Result<bool, StoreError> {
        Ok(!self.table().places(account, Some(segment), None, 1)?.is_empty())
    }

    /// Removes all shards of a segment; the bytes that became free. A power cut may bring them
    /// back until [`ShardStore::sync_folders`] has returned.
    ///
    /// # Errors
    /// If a file or the index refuses.
    pub fn remove_segment(&self, account: &AccountId, segment: &SegmentId) -> Result<u64, StoreError> {
        let mut freed = 0;
        for (_, index, _) in self.table().places(account, Some(segment), None, MAX_SHARDS)? {
            freed += self.remove(account, segment, index)?;
        }
        self.table().forget_damaged(account, segment)?;
        Ok(freed)
    }

    /// Makes all removals so far durable.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn sync_folders(&self) -> Result<(), StoreError> {
        for first in 0..=u8::MAX {
            let folder = self.folder(first);
            sync_dir(&folder).map_err(at(&folder))?;
        }
        Ok(())
    }
}
