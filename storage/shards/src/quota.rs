//! What the store's files take, of how much, and for whom.

use std::collections::{HashMap, HashSet};

use fincrypt_protocol::AccountId;
use parking_lot::Mutex;

use super::error::StoreError;
use super::index::{FileEntry, FileKey};

/// What an account's shards take.
#[derive(Default)]
struct Taken {
    /// Bytes of files.
    files: u64,
    /// Bytes of shards, which are paid.
    shards: u64,
}

#[derive(Default)]
struct Usage {
    used: u64,
    reserved: u64,
    accounts: HashMap<AccountId, Taken>,
    /// Shards being written now.
    writing: HashSet<FileKey>,
}

/// The quota, and what is taken of it.
pub(super) struct Quota {
    capacity: u64,
    usage: Mutex<Usage>,
}

/// Bytes reserved for a shard that is being written; dropping it gives them back.
pub(super) struct Reservation<'a> {
    quota: &'a Quota,
    key: FileKey,
    bytes: u64,
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        let mut usage = self.quota.usage.lock();
        usage.reserved -= self.bytes;
        usage.writing.remove(&self.key);
    }
}

impl Quota {
    /// A quota of `capacity` bytes of which nothing is taken.
    pub(super) fn new(capacity: u64) -> Self {
        Self { capacity, usage: Mutex::default() }
    }

    pub(super) fn capacity(&self) -> u64 {
        self.capacity
    }

    /// Bytes that files take.
    pub(super) fn used(&self) -> u64 {
        self.usage.lock().used
    }

    /// Bytes that still fit, of `disk` bytes that are free on the disk.
    pub(super) fn free(&self, disk: u64) -> u64 {
        let usage = self.usage.lock();
        self.capacity.saturating_sub(usage.used + usage.reserved).min(disk)
    }

    /// Reserves bytes for a shard that is written next.
    ///
    /// # Errors
    /// [`StoreError::Full`]; [`StoreError::Conflict`] if the shard is being written already.
    pub(super) fn reserve(&self, key: FileKey, bytes: u64, disk: u64) -> Result<Reservation<'_>, StoreError> {
        let mut usage = self.usage.lock();
        let quota = self.capacity.saturating_sub(usage.used + usage.reserved);
        let free = quota.min(disk.saturating_sub(usage.reserved));
        if bytes > free {
            return Err(StoreError::Full { needed: bytes, free });
        }
        if !usage.writing.insert(key) {
            return Err(StoreError::Conflict);
        }
        usage.reserved += bytes;
        Ok(Reservation { quota: self, key, bytes })
    }

    /// Counts a file that is there.
    pub(super) fn add(&self, account: &AccountId, entry: &FileEntry) {
        let mut usage = self.usage.lock();
        usage.used += entry.file_len;
        let taken = usage.accounts.entry(*account).or_default();
        taken.files += entry.file_len;
        taken.shards += u64::from(entry.shard_len.get());
    }

    /// Counts a file no longer.
    pub(super) fn subtract(&self, account: &AccountId, entry: &FileEntry) {
        let mut usage = self.usage.lock();
        usage.used = usage.used.saturating_sub(entry.file_len);
        if let Some(taken) = usage.accounts.get_mut(account) {
            taken.files = taken.files.saturating_sub(entry.file_len);
            taken.shards = taken.shards.saturating_sub(entry.shard_len.get().into());
        }
    }

    /// Accounts that have files.
    pub(super) fn accounts(&self) -> Vec<AccountId> {
        let usage = self.usage.lock();
        usage.accounts.iter().filter(|(_, taken)| taken.files > 0).map(|(account, _)| *account).collect()
    }

    /// Bytes that an account's files take.
    pub(super) fn files_of(&self, account: &AccountId) -> u64 {
        self.usage.lock().accounts.get(account).map_or(0, |taken| taken.files)
    }

    /// Bytes of the shards in an account's files.
    pub(super) fn shards_of(&self, account: &AccountId) -> u64 {
        self.usage.lock().accounts.get(account).map_or(0, |taken| taken.shards)
    }
}

#[cfg(test)]
mod tests {
    use fincrypt_protocol::{RunId, SegmentId, ShardId, ShardIndex, ShardLen, UnixTime};

    use super::*;

    fn key(shard: u8) -> FileKey {
        FileKey { shard: ShardId::from_bytes([shard; 32]), account: AccountId::from_bytes([1; 32]) }
    }

    fn entry(file_len: u64) -> FileEntry {
        FileEntry {
            segment: SegmentId::from_bytes([2; 32]),
            index: ShardIndex::new(0).expect("valid"),
            shard_len: ShardLen::new(4096).expect("valid"),
            file_len,
            stored: UnixTime::from_secs(1),
            run: RunId::from_bytes([3; 16]),
        }
    }

    #[test]
    fn what_is_being_written_is_reserved_once_and_given_back() {
        let quota = Quota::new(10_000);
        let first = quota.reserve(key(1), 6_000, u64::MAX).expect("room");
        assert!(matches!(quota.reserve(key(1), 1, u64::MAX), Err(StoreError::Conflict)));
        let full = quota.reserve(key(2), 4_001, u64::MAX).err();
        assert!(matches!(full, Some(StoreError::Full { needed: 4_001, free: 4_000 })), "{full:?}");
        assert_eq!(quota.free(u64::MAX), 4_000);
        drop(first);
        assert_eq!(quota.free(u64::MAX), 10_000);
        assert_eq!(quota.free(3), 3, "the disk has less");
        drop(quota.reserve(key(1), 10_000, u64::MAX).expect("room again"));
    }

    #[test]
    fn an_account_has_what_its_files_take_until_the_last_is_gone() {
        let (quota, account) = (Quota::new(10_000), key(1).account);
        quota.add(&account, &entry(5_000));
        quota.add(&account, &entry(4_500));
        assert_eq!(
            (quota.used(), quota.files_of(&account), quota.shards_of(&account)),
            (9_500, 9_500, 8_192)
        );
        quota.subtract(&account, &entry(5_000));
        assert_eq!((quota.used(), quota.accounts()), (4_500, vec![account]));
        quota.subtract(&account, &entry(4_500));
        assert_eq!((quota.used(), quota.accounts()), (0, vec![]));
    }
}
