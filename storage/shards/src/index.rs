//! The shard store's index, in volatile state: rebuilt from the files' own metas.
//!
//! Two trees: by file, to compare with the disk, and by segment, to answer requests.

use fincrypt_protocol::{AccountId, RunId, SegmentId, ShardId, ShardIndex, ShardLen, UnixTime};

use super::file::ShardMeta;
use fincrypt_state::kv::{Batch, KeyValue, KvError, Tree};
use fincrypt_state::state::State;

/// `shard id ‖ account` → [`FileEntry`].
const FILES: Tree = Tree("shard_files");
/// `account ‖ segment ‖ position` → shard id.
const PLACES: Tree = Tree("shard_places");
/// `account ‖ segment ‖ position` → nothing: shards that rotted and were removed.
const DAMAGED: Tree = Tree("shards_damaged");

/// Keys read at once.
pub(super) const PAGE: usize = 1024;

fn corrupt(tree: Tree) -> KvError {
    KvError::Corrupt { tree: tree.0 }
}

/// The name of a shard's file: which shard, for whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct FileKey {
    pub(super) shard: ShardId,
    pub(super) account: AccountId,
}

impl FileKey {
    pub(super) fn bytes(&self) -> Vec<u8> {
        [self.shard.as_bytes().as_slice(), self.account.as_bytes()].concat()
    }

    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let (shard, account) = bytes.split_first_chunk::<32>()?;
        Some(Self {
            shard: ShardId::from_bytes(*shard),
            account: AccountId::from_bytes(account.try_into().ok()?),
        })
    }
}

/// What the index knows of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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

    /// `segment 32 │ position 1 │ length class 1 │ file length u64le │ stored u64le │ run 16`
    fn encode(&self) -> Vec<u8> {
        let mut out = self.segment.as_bytes().to_vec();
        out.extend_from_slice(&[self.index.into(), self.shard_len.class()]);
        out.extend_from_slice(&self.file_len.to_le_bytes());
        out.extend_from_slice(&self.stored.secs().to_le_bytes());
        out.extend_from_slice(self.run.as_bytes());
        out
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (segment, rest) = bytes.split_first_chunk::<32>()?;
        let ([index, class], rest) = rest.split_first_chunk::<2>()?;
        let (file_len, rest) = rest.split_first_chunk::<8>()?;
        let (stored, run) = rest.split_first_chunk::<8>()?;
        Some(Self {
            segment: SegmentId::from_bytes(*segment),
            index: ShardIndex::new(*index).ok()?,
            shard_len: ShardLen::from_class(*class).ok()?,
            file_len: u64::from_le_bytes(*file_len),
            stored: UnixTime::from_secs(u64::from_le_bytes(*stored)),
            run: RunId::from_bytes(run.try_into().ok()?),
        })
    }
}

fn place_key(account: &AccountId, segment: &SegmentId, index: ShardIndex) -> Vec<u8> {
    let mut key = [account.as_bytes().as_slice(), segment.as_bytes()].concat();
    key.push(index.into());
    key
}

/// The index.
#[derive(Clone)]
pub(super) struct ShardTable(pub(super) State);

impl ShardTable {
    pub(super) fn insert(&self, key: &FileKey, entry: &FileEntry) -> Result<(), KvError> {
        let mut batch = Batch::default();
        batch.put(FILES, key.bytes(), entry.encode());
        let place = place_key(&key.account, &entry.segment, entry.index);
        if self.0.get(DAMAGED, &place)?.is_some() {
            batch.remove(DAMAGED, place.clone());
        }
        batch.put(PLACES, place, *key.shard.as_bytes());
        self.0.apply(&batch)
    }

    pub(super) fn remove(&self, key: &FileKey, entry: &FileEntry) -> Result<(), KvError> {
        let mut batch = Batch::default();
        batch.remove(FILES, key.bytes());
        batch.remove(PLACES, place_key(&key.account, &entry.segment, entry.index));
        self.0.apply(&batch)
    }

    pub(super) fn file(&self, key: &FileKey) -> Result<Option<FileEntry>, KvError> {
        let bytes = self.0.get(FILES, &key.bytes())?;
        bytes.map(|bytes| FileEntry::decode(&bytes).ok_or_else(|| corrupt(FILES))).transpose()
    }

    /// A page of files whose shard ids begin with `prefix`, after `after`.
    pub(super) fn files(
        &self,
        prefix: &[u8],
        after: Option<&FileKey>,
    ) -> Result<Vec<(FileKey, FileEntry)>, KvError> {
        self.page(prefix, after, PAGE)
    }

    fn page(
        &self,
        prefix: &[u8],
        after: Option<&FileKey>,
        most: usize,
    ) -> Result<Vec<(FileKey, FileEntry)>, KvError> {
        let after = after.map(FileKey::bytes);
        let entries = self.0.scan(FILES, prefix, after.as_deref(), most)?;
        let parse = |(key, value): (Vec<u8>, Vec<u8>)| FileKey::parse(&key).zip(FileEntry::decode(&value));
        entries.into_iter().map(|entry| parse(entry).ok_or_else(|| corrupt(FILES))).collect()
    }

    /// The file after `after`, or the first one.
    pub(super) fn file_after(
        &self,
        after: Option<&FileKey>,
    ) -> Result<Option<(FileKey, FileEntry)>, KvError> {
        Ok(self.page(&[], after, 1)?.pop())
    }

    /// Remembers that a shard rotted.
    pub(super) fn remember_damaged(
        &self,
        account: &AccountId,
        segment: &SegmentId,
        index: ShardIndex,
    ) -> Result<(), KvError> {
        let mut batch = Batch::default();
        batch.put(DAMAGED, place_key(account, segment, index), Vec::new());
        self.0.apply(&batch)
    }

    pub(super) fn was_damaged(
        &self,
        account: &AccountId,
        segment: &SegmentId,
        index: ShardIndex,
    ) -> Result<bool, KvError> {
        Ok(self.0.get(DAMAGED, &place_key(account, segment, index))?.is_some())
    }

    /// Forgets what rotted of a segment.
    pub(super) fn forget_damaged(&self, account: &AccountId, segment: &SegmentId) -> Result<(), KvError> {
        let prefix = [account.as_bytes().as_slice(), segment.as_bytes()].concat();
        let mut batch = Batch::default();
        for (key, _) in self.0.scan(DAMAGED, &prefix, None, PAGE)? {
            batch.remove(DAMAGED, key);
        }
        self.0.apply(&batch)
    }

    pub(super) fn place(
        &self,
        account: &AccountId,
        segment: &SegmentId,
        index: ShardIndex,
    ) -> Result<Option<ShardId>, KvError> {
        let bytes = self.0.get(PLACES, &place_key(account, segment, index))?;
        bytes.map(|bytes| bytes.try_into().map(ShardId::from_bytes).map_err(|_| corrupt(PLACES))).transpose()
    }

    /// Places of an account, or of one segment of it, in order, after `after`.
    pub(super) fn places(
        &self,
        account: &AccountId,
        segment: Option<&SegmentId>,
        after: Option<(SegmentId, ShardIndex)>,
        limit: usize,
    ) -> Result<Vec<(SegmentId, ShardIndex, ShardId)>, KvError> {
        let prefix =
            [account.as_bytes().as_slice(), segment.map_or(&[][..], |segment| segment.as_bytes())].concat();
        let after = after.map(|(segment, index)| place_key(account, &segment, index));
        let entries = self.0.scan(PLACES, &prefix, after.as_deref(), limit)?;
        let parse = |(key, value): (Vec<u8>, Vec<u8>)| {
            let segment = SegmentId::from_bytes(key.get(32..64)?.try_into().ok()?);
            let index = ShardIndex::new(*key.get(64)?).ok()?;
            Some((segment, index, ShardId::from_bytes(value.try_into().ok()?)))
        };
        entries.into_iter().map(|entry| parse(entry).ok_or_else(|| corrupt(PLACES))).collect()
    }
}
