//! The shard store: quota, durable puts, reads, and the comparison with the disk on opening.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fincrypt_protocol::limits::MAX_SHARDS;
use fincrypt_protocol::{AccountId, Manifest, Nonce, RunId, SegmentId, ShardId, ShardIndex, Tag, UnixTime};
use fincrypt_state::state::State;

use super::check::{self, Checked, Found, WalkPosition};
use super::entries::Entries;
use super::error::{StoreError, at};
use super::file::{self, CheckedShard, NewFile, ShardMeta};
use super::index::{FileEntry, FileKey, ShardTable};
use super::layout::Layout;
use super::quota::Quota;
use super::reconcile::{StoreReport, reconcile};
use crate::proof::{LeafProof, challenged_leaf, prove};

/// Shards looked through at once for their runs.
const RUNS_PAGE: usize = 1024;

/// Whether a put changed anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PutOutcome {
    /// The shard is new.
    New,
    /// The same shard was there.
    AlreadyHeld,
}

/// One shard held of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeldShard {
    /// Its position.
    pub index: ShardIndex,
    /// The shard.
    pub shard: ShardId,
}

/// What is held of one segment.
#[derive(Debug, Clone, PartialEq)]
pub struct HeldSegment {
    /// The segment's manifest.
    pub manifest: Manifest,
    /// The owner's tag of it.
    pub tag: Tag,
    /// The run it was stored in.
    pub run: RunId,
    /// The shards held here.
    pub shards: Vec<HeldShard>,
}

/// A storage node's shards; clones share them. All methods block on the disk.
#[derive(Clone)]
pub struct ShardStore(Arc<Entries>);

impl ShardStore {
    /// Opens the store in `dir` and compares its files with the index in `state`.
    ///
    /// # Errors
    /// If the folder cannot be used or the index fails.
    pub fn open(dir: &Path, state: State, capacity: u64) -> Result<(Self, StoreReport), StoreError> {
        let entries =
            Entries { layout: Layout::new(dir), table: ShardTable(state), quota: Quota::new(capacity) };
        let mut report = StoreReport { unfinished: entries.layout.create()?, ..StoreReport::default() };
        for first in 0..=u8::MAX {
            reconcile(&entries, first, &mut report)?;
        }
        Ok((Self(Arc::new(entries)), report))
    }

    /// Bytes that the store's files take.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.0.quota.used()
    }

    /// Bytes that the store may take.
    #[must_use]
    pub fn capacity(&self) -> u64 {
        self.0.quota.capacity()
    }

    /// Bytes that still fit: within the quota and on the disk.
    #[must_use]
    pub fn free(&self) -> u64 {
        self.0.quota.free(self.0.layout.disk_free())
    }

    /// Stores a shard; it is on disk, name and all, when this returns.
    ///
    /// # Errors
    /// [`StoreError::Full`] before anything is written; [`StoreError::Conflict`] if the account
    /// holds the shard as part of something else, or stores it at this moment.
    pub fn put(&self, shard: &CheckedShard, meta: &ShardMeta) -> Result<PutOutcome, StoreError> {
        let key = FileKey { shard: shard.id(), account: meta.account };
        let new = NewFile::new(shard, meta).map_err(at(&self.0.path(&key)))?;
        let entry = FileEntry::new(meta, new.length());
        if let Some(known) = self.0.table.file(&key)? {
            if known.segment != entry.segment || known.index != entry.index {
                return Err(StoreError::Conflict);
            }
            // A receipt is given for it: it has to be there, and what it should be. A rotten one is
            // removed, and stored anew.
            match check::check_file(&self.0, &key, &known)? {
                Found::Good => return Ok(PutOutcome::AlreadyHeld),
                Found::Unreadable(error) => return Err(error),
                Found::Rotten | Found::Gone => {}
            }
        }
        self.0.write(&key, &entry, &new)?;
        Ok(PutOutcome::New)
    }

    /// A shard's bytes. They are not hashed: whoever asked does that.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] if the file is shorter than the shard.
    pub fn get(
        &self,
        account: &AccountId,
        segment: &SegmentId,
        index: ShardIndex,
    ) -> Result<Option<Bytes>, StoreError> {
        let Some((key, entry)) = self.0.at_place(account, segment, index)? else { return Ok(None) };
        let path = self.0.path(&key);
        match file::read_data(&path, entry.shard_len.get()) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(StoreError::Damaged(path)),
            Err(error) => Err(at(&path)(error)),
        }
    }

    /// The proof of the leaf that `nonce` chooses of a shard; none if the shard is not held. It is
    /// checked, so that a file that rotted is noticed here first.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] if the file is short or altered.
    pub fn prove(
        &self,
        account: &AccountId,
        segment: &SegmentId,
        index: ShardIndex,
        nonce: &Nonce,
    ) -> Result<Option<LeafProof>, StoreError> {
        let Some((key, entry)) = self.0.at_place(account, segment, index)? else { return Ok(None) };
        let (path, length) = (self.0.path(&key), entry.shard_len);
        let leaf = challenged_leaf(nonce, &key.shard, length);
        let (group, groups) = match file::read_group(&path, length, leaf) {
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Err(StoreError::Damaged(path));
            }
            Err(error) => return Err(at(&path)(error)),
        };
        let proof =
            prove(length, leaf, &group, &groups).filter(|proof| proof.verify(&key.shard, length, leaf));
        proof.map(Some).ok_or(StoreError::Damaged(path))
    }

    /// The positions held of a segment, from the index alone.
    ///
    /// # Errors
    /// If the index fails.
    pub fn positions(&self, account: &AccountId, segment: &SegmentId) -> Result<Vec<ShardIndex>, StoreError> {
        let places = self.0.table.places(account, Some(segment), None, MAX_SHARDS)?;
        Ok(places.into_iter().map(|(_, index, _)| index).collect())
    }

    /// What is held of a segment.
    ///
    /// # Errors
    /// If the index fails or no shard's meta can be read.
    pub fn segment(
        &self,
        account: &AccountId,
        segment: &SegmentId,
    ) -> Result<Option<HeldSegment>, StoreError> {
        let places = self.0.table.places(account, Some(segment), None, MAX_SHARDS)?;
        let Some((_, _, first)) = places.first() else { return Ok(None) };
        let path = self.0.path(&FileKey { shard: *first, account: *account });
        let (meta, _) = file::read_meta(&path).map_err(|error| match error.kind() {
            io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => StoreError::Damaged(path.clone()),
            _ => at(&path)(error),
        })?;
        let shards = places.into_iter().map(|(_, index, shard)| HeldShard { index, shard }).collect();
        Ok(Some(HeldSegment { manifest: meta.manifest, tag: meta.tag, run: meta.run, shards }))
    }

    /// The shards held for an account, in order, after `after`.
    ///
    /// # Errors
    /// If the index fails.
    pub fn list(
        &self,
        account: &AccountId,
        after: Option<(SegmentId, ShardIndex)>,
        limit: usize,
    ) -> Result<Vec<(SegmentId, ShardIndex, ShardId)>, StoreError> {
        Ok(self.0.table.places(account, None, after, limit)?)
    }

    /// The runs of the shards held for an account.
    ///
    /// # Errors
    /// If the index fails.
    pub fn runs(&self, account: &AccountId) -> Result<BTreeSet<RunId>, StoreError> {
        let (mut runs, mut after) = (BTreeSet::new(), None);
        loop {
            let page = self.0.table.places(account, None, after, RUNS_PAGE)?;
            let Some((segment, index, _)) = page.last() else { return Ok(runs) };
            after = Some((*segment, *index));
            for (_, _, shard) in page {
                let entry = self.0.table.file(&FileKey { shard, account: *account })?;
                runs.extend(entry.map(|entry| entry.run));
            }
        }
    }

    /// Accounts that have shards here.
    #[must_use]
    pub fn accounts(&self) -> Vec<AccountId> {
        self.0.quota.accounts()
    }

    /// Bytes that an account's files take.
    #[must_use]
    pub fn bytes_of(&self, account: &AccountId) -> u64 {
        self.0.quota.files_of(account)
    }

    /// Bytes of the shards held for an account: what is paid.
    #[must_use]
    pub fn shard_bytes_of(&self, account: &AccountId) -> u64 {
        self.0.quota.shards_of(account)
    }

    /// Removes a shard; the bytes that became free.
    ///
    /// # Errors
    /// If the file or the index refuses.
    pub fn remove(
        &self,
        account: &AccountId,
        segment: &SegmentId,
        index: ShardIndex,
    ) -> Result<u64, StoreError> {
        match self.0.at_place(account, segment, index)? {
            Some((key, entry)) => self.0.remove(&key, &entry),
            None => Ok(0),
        }
    }

    /// Whether any shard of a segment is held.
    ///
    /// # Errors
    /// If the index fails.
    pub fn holds(&self, account: &AccountId, segment: &SegmentId) -> Result<bool, StoreError> {
        Ok(!self.0.table.places(account, Some(segment), None, 1)?.is_empty())
    }

    /// Removes all shards of a segment; the bytes that became free. A power cut may bring them
    /// back until [`ShardStore::sync_folders`] has returned.
    ///
    /// # Errors
    /// If a file or the index refuses.
    pub fn remove_segment(&self, account: &AccountId, segment: &SegmentId) -> Result<u64, StoreError> {
        let mut freed = 0;
        for index in self.positions(account, segment)? {
            freed += self.remove(account, segment, index)?;
        }
        self.0.table.forget_damaged(account, segment)?;
        Ok(freed)
    }

    /// Makes all removals so far durable.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn sync_folders(&self) -> Result<(), StoreError> {
        (0..=u8::MAX).try_for_each(|first| self.0.layout.sync(first))
    }

    /// Looks at the shard after `after`, or the first one; none if there are no more.
    ///
    /// # Errors
    /// If the index fails, or a rotten file cannot be removed.
    pub fn check_next(&self, after: Option<WalkPosition>) -> Result<Option<Checked>, StoreError> {
        check::check_next(&self.0, after)
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
        match self.0.at_place(account, segment, index)? {
            Some((key, entry)) => check::check_file(&self.0, &key, &entry),
            None => Ok(Found::Gone),
        }
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
        Ok(self.0.table.was_damaged(account, segment, index)?)
    }

    /// Removes the shards of runs that were never kept and were stored longer than `after` ago; the
    /// bytes that became free.
    ///
    /// # Errors
    /// If a file or the index refuses.
    pub fn lapse(
        &self,
        now: UnixTime,
        after: Duration,
        kept: &dyn Fn(&AccountId, &RunId) -> bool,
    ) -> Result<u64, StoreError> {
        let (mut freed, mut last) = (0, None);
        loop {
            let page = self.0.table.files(last.as_ref())?;
            let Some((key, _)) = page.last() else { return Ok(freed) };
            last = Some(*key);
            for (key, entry) in page {
                if now.since(entry.stored) > after && !kept(&key.account, &entry.run) {
                    freed += self.0.remove(&key, &entry)?;
                }
            }
        }
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
