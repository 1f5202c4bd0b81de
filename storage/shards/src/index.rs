//! The shard store's index, in volatile state: rebuilt from the files' own metas.
//!
//! Two tables: by file, to compare with the disk, and by place, to answer requests.

use fincrypt_protocol::{AccountId, RunId, SegmentId, ShardId, ShardIndex, ShardLen, UnixTime};
use fincrypt_state::kv::{Batch, KeyValue, KvError};
use fincrypt_state::state::State;
use fincrypt_state::table::{Everything, Key, Prefix, Table};
use serde::{Deserialize, Serialize};

use super::file::ShardMeta;

/// What is known of each file.
const FILES: Table<FileKey, FileEntry> = Table::new("shard_files", 256);
/// The shard at each place.
const PLACES: Table<Place, ShardId> = Table::new("shard_places", 80);
/// Places whose shards rotted and were removed.
const DAMAGED: Table<Place, ()> = Table::new("shards_damaged", 1);

/// Keys read at once.
const PAGE: usize = 1024;

/// The name of a shard's file: which shard, for whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct FileKey {
    pub(super) shard: ShardId,
    pub(super) account: AccountId,
}

impl Key for FileKey {
    const LEN: usize = ShardId::LEN + AccountId::LEN;

    fn write(&self, out: &mut Vec<u8>) {
        (self.shard, self.account).write(out);
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        <(ShardId, AccountId)>::read(bytes).map(|(shard, account)| Self { shard, account })
    }
}

/// All files whose shard ids begin with a byte.
struct FirstByte(u8);

impl Prefix<FileKey> for FirstByte {
    fn prefix(&self) -> Vec<u8> {
        vec![self.0]
    }
}

/// A position of an account's segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    account: AccountId,
    segment: SegmentId,
    index: ShardIndex,
}

impl Key for Place {
    const LEN: usize = AccountId::LEN + SegmentId::LEN + 1;

    fn write(&self, out: &mut Vec<u8>) {
        (self.account, self.segment, u8::from(self.index)).write(out);
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let (account, segment, index) = <(AccountId, SegmentId, u8)>::read(bytes)?;
        Some(Self { account, segment, index: ShardIndex::new(index).ok()? })
    }
}

/// The places of an account, or of one of its segments.
struct PlacesOf<'a>(&'a AccountId, Option<&'a SegmentId>);

impl Prefix<Place> for PlacesOf<'_> {
    fn prefix(&self) -> Vec<u8> {
        let mut prefix = self.0.bytes();
        if let Some(segment) = self.1 {
            segment.write(&mut prefix);
        }
        prefix
    }
}

/// What the index knows of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct FileEntry {
    pub(super) segment: SegmentId,
    pub(super) index: ShardIndex,
    pub(super) shard_len: ShardLen,
    pub(super) file_len: u64,
    pub(super) stored: UnixTime,
    pub(super) run: RunId,
}

impl FileEntry {
    pub(super) fn new(meta: &ShardMeta, file_len: u64) -> Self {
        Self {
            segment: meta.manifest.id(),
            index: meta.index,
            shard_len: meta.manifest.shard_len(),
            file_len,
            stored: meta.stored,
            run: meta.run,
        }
    }

    fn place(&self, account: AccountId) -> Place {
        Place { account, segment: self.segment, index: self.index }
    }
}

/// The index.
#[derive(Clone)]
pub(super) struct ShardTable(pub(super) State);

impl ShardTable {
    pub(super) fn insert(&self, key: &FileKey, entry: &FileEntry) -> Result<(), KvError> {
        let (mut batch, place) = (Batch::default(), entry.place(key.account));
        FILES.put(&mut batch, key, entry)?;
        if DAMAGED.contains(&self.0, &place)? {
            DAMAGED.remove(&mut batch, &place);
        }
        PLACES.put(&mut batch, &place, &key.shard)?;
        self.0.apply(&batch)
    }

    pub(super) fn remove(&self, key: &FileKey, entry: &FileEntry) -> Result<(), KvError> {
        let mut batch = Batch::default();
        FILES.remove(&mut batch, key);
        PLACES.remove(&mut batch, &entry.place(key.account));
        self.0.apply(&batch)
    }

    pub(super) fn file(&self, key: &FileKey) -> Result<Option<FileEntry>, KvError> {
        FILES.get(&self.0, key)
    }

    /// A page of all files, after `after`.
    pub(super) fn files(&self, after: Option<&FileKey>) -> Result<Vec<(FileKey, FileEntry)>, KvError> {
        FILES.scan(&self.0, &Everything, after, PAGE)
    }

    /// A page of the files whose shard ids begin with `first`, after `after`.
    pub(super) fn files_in(
        &self,
        first: u8,
        after: Option<&FileKey>,
    ) -> Result<Vec<(FileKey, FileEntry)>, KvError> {
        FILES.scan(&self.0, &FirstByte(first), after, PAGE)
    }

    /// The file after `after`, or the first one.
    pub(super) fn file_after(
        &self,
        after: Option<&FileKey>,
    ) -> Result<Option<(FileKey, FileEntry)>, KvError> {
        Ok(FILES.scan(&self.0, &Everything, after, 1)?.pop())
    }

    /// Remembers that a shard rotted.
    pub(super) fn remember_damaged(&self, account: AccountId, entry: &FileEntry) -> Result<(), KvError> {
        let mut batch = Batch::default();
        DAMAGED.put(&mut batch, &entry.place(account), &())?;
        self.0.apply(&batch)
    }

    pub(super) fn was_damaged(
        &self,
        account: &AccountId,
        segment: &SegmentId,
        index: ShardIndex,
    ) -> Result<bool, KvError> {
        DAMAGED.contains(&self.0, &Place { account: *account, segment: *segment, index })
    }

    /// Forgets what rotted of a segment.
    pub(super) fn forget_damaged(&self, account: &AccountId, segment: &SegmentId) -> Result<(), KvError> {
        let mut batch = Batch::default();
        for (place, ()) in DAMAGED.scan(&self.0, &PlacesOf(account, Some(segment)), None, PAGE)? {
            DAMAGED.remove(&mut batch, &place);
        }
        self.0.apply(&batch)
    }

    pub(super) fn place(
        &self,
        account: &AccountId,
        segment: &SegmentId,
        index: ShardIndex,
    ) -> Result<Option<ShardId>, KvError> {
        PLACES.get(&self.0, &Place { account: *account, segment: *segment, index })
    }

    /// Places of an account, or of one segment of it, in order, after `after`.
    pub(super) fn places(
        &self,
        account: &AccountId,
        segment: Option<&SegmentId>,
        after: Option<(SegmentId, ShardIndex)>,
        limit: usize,
    ) -> Result<Vec<(SegmentId, ShardIndex, ShardId)>, KvError> {
        let after = after.map(|(segment, index)| Place { account: *account, segment, index });
        let found = PLACES.scan(&self.0, &PlacesOf(account, segment), after.as_ref(), limit)?;
        Ok(found.into_iter().map(|(place, shard)| (place.segment, place.index, shard)).collect())
    }
}
