//! The shard store: quota, durable puts, reads, and the comparison with the disk on opening.

use parking_lot::{Mutex, MutexGuard};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fincrypt_protocol::{AccountId, Manifest, Nonce, RunId, SegmentId, ShardId, ShardIndex, Tag, UnixTime};

use super::check::Found;
use super::file::{self, CheckedShard, NewFile, ShardMeta};
use super::index::{FileEntry, FileKey, ShardTable};
use super::reconcile::StoreReport;
use crate::proof::{LeafProof, challenged_leaf, prove};
use fincrypt_state::durable::sync_dir;
use fincrypt_state::kv::KvError;
use fincrypt_state::state::State;

/// Left free on the disk, whatever the quota says.
const RESERVE: u64 = 64 << 20;
/// Folder for files being written.
const TEMP: &str = "tmp";
/// Shards looked through at once for their runs.
const RUNS_PAGE: usize = 1024;

/// The store failed or refused.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The quota or the disk has no room.
    #[error("no room for {needed} bytes, {free} are free")]
    Full {
        /// Bytes wanted.
        needed: u64,
        /// Bytes left.
        free: u64,
    },
    /// The account holds this shard as part of something else.
    #[error("the shard is held already as part of another segment")]
    Conflict,
    /// A file is short or altered.
    #[error("the shard file {0} is damaged")]
    Damaged(PathBuf),
    /// The system refused.
    #[error("cannot read or write {path}: {source}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The index failed.
    #[error(transparent)]
    State(#[from] KvError),
}

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

struct Inner {
    dir: PathBuf,
    table: ShardTable,
    capacity: u64,
    usage: Mutex<Usage>,
}

/// A storage node's shards; clones share them. All methods block on the disk.
#[derive(Clone)]
pub struct ShardStore(Arc<Inner>);

pub(super) fn at(path: &Path) -> impl FnOnce(io::Error) -> StoreError + use<> {
    let path = path.to_owned();
    move |source| StoreError::Io { path, source }
}

/// Gives back what a put had reserved.
struct Reservation<'a> {
    store: &'a ShardStore,
    key: FileKey,
    bytes: u64,
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        let mut usage = self.store.usage();
        usage.reserved -= self.bytes;
        usage.writing.remove(&self.key);
    }
}

impl ShardStore {
    /// Opens the store in `dir` and compares its files with the index in `state`.
    ///
    /// # Errors
    /// If the folder cannot be used or the index fails.
    pub fn open(dir: &Path, state: State, capacity: u64) -> Result<(Self, StoreReport), StoreError> {
        let mut report = StoreReport::default();
        let temp = dir.join(TEMP);
        std::fs::create_dir_all(&temp).map_err(at(&temp))?;
        for entry in std::fs::read_dir(&temp).map_err(at(&temp))? {
            let path = entry.map_err(at(&temp))?.path();
            std::fs::remove_file(&path).map_err(at(&path))?;
            report.unfinished += 1;
        }
        let inner =
            Inner { dir: dir.to_owned(), table: ShardTable(state), capacity, usage: Mutex::default() };
        let store = Self(Arc::new(inner));
        for first in 0..=u8::MAX {
            let folder = store.folder(first);
            std::fs::create_dir_all(&folder).map_err(at(&folder))?;
            store.reconcile(first, &folder, &mut report)?;
        }
        sync_dir(dir).map_err(at(dir))?;
        Ok((store, report))
    }

    fn usage(&self) -> MutexGuard<'_, Usage> {
        self.0.usage.lock()
    }

    /// The index.
    pub(super) fn table(&self) -> &ShardTable {
        &self.0.table
    }

    pub(super) fn folder(&self, first: u8) -> PathBuf {
        self.0.dir.join(format!("{first:02x}"))
    }

    pub(super) fn path(&self, key: &FileKey) -> PathBuf {
        self.folder(key.shard.as_bytes()[0]).join(format!("{}.{}", key.shard, key.account))
    }

    pub(super) fn count(&self, account: &AccountId, entry: &FileEntry) {
        let mut usage = self.usage();
        usage.used += entry.file_len;
        let taken = usage.accounts.entry(*account).or_default();
        taken.files += entry.file_len;
        taken.shards += u64::from(entry.shard_len.get());
    }

    fn disk_free(&self) -> u64 {
        // A disk that cannot be asked has no room.
        rustix::fs::statvfs(&self.0.dir)
            .map_or(0, |disk| disk.f_bavail.saturating_mul(disk.f_frsize))
            .saturating_sub(RESERVE)
    }

    /// Bytes that the store's files take.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.usage().used
    }

    /// Bytes that the store may take.
    #[must_use]
    pub fn capacity(&self) -> u64 {
        self.0.capacity
    }

    /// Bytes that still fit: within the quota and on the disk.
    #[must_use]
    pub fn free(&self) -> u64 {
        let usage = self.usage();
        let quota = self.0.capacity.saturating_sub(usage.used + usage.reserved);
        drop(usage);
        quota.min(self.disk_free())
    }

    fn reserve(&self, key: FileKey, bytes: u64) -> Result<Reservation<'_>, StoreError> {
        let disk = self.disk_free();
        let mut usage = self.usage();
        let free = self
            .0
            .capacity
            .saturating_sub(usage.used + usage.reserved)
            .min(disk.saturating_sub(usage.reserved));
        if bytes > free {
            return Err(StoreError::Full { needed: bytes, free });
        }
        if !usage.writing.insert(key) {
            return Err(StoreError::Conflict);
        }
        usage.reserved += bytes;
        Ok(Reservation { store: self, key, bytes })
    }

    /// Stores a shard; it is on disk, name and all, when this returns.
    ///
    /// # Errors
    /// [`StoreError::Full`] before anything is written; [`StoreError::Conflict`] if the account
    /// holds the shard as part of something else, or stores it at this moment.
    pub fn put(&self, shard: &CheckedShard, meta: &ShardMeta) -> Result<PutOutcome, StoreError> {
        let key = FileKey { shard: shard.id(), account: meta.account };
        let path = self.path(&key);
        let new = NewFile::new(shard, meta).map_err(at(&path))?;
        let file_len = new.length();
        let entry = FileEntry::new(meta, file_len);
        if let Some(known) = self.0.table.file(&key)? {
            if known.segment != entry.segment || known.index != entry.index {
                return Err(StoreError::Conflict);
            }
            // A receipt is given for it: it has to be there, and what it should be. A rotten one is
            // removed, and stored anew.
            match self.check_file(&key, &known)? {
                Found::Good => return Ok(PutOutcome::AlreadyHeld),
                Found::Unreadable(error) => return Err(error),
                Found::Rotten | Found::Gone => {}
            }
        }
        let _reservation = self.reserve(key, file_len)?;
        let temp = self.0.dir.join(TEMP).join(format!("{}.{}", key.shard, key.account));
        let written = new.write(&temp).and_then(|()| std::fs::rename(&temp, &path));
        if let Err(error) = written {
            // What was written is of no use; if it stays behind, the next start removes it.
            let _ = std::fs::remove_file(&temp);
            return Err(at(&temp)(error));
        }
        let folder = self.folder(key.shard.as_bytes()[0]);
        sync_dir(&folder).map_err(at(&folder))?;
        self.0.table.insert(&key, &entry)?;
        self.count(&key.account, &entry);
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
        let Some(shard) = self.0.table.place(account, segment, index)? else { return Ok(None) };
        let key = FileKey { shard, account: *account };
        let Some(entry) = self.0.table.file(&key)? else { return Ok(None) };
        let path = self.path(&key);
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
        let Some(shard) = self.0.table.place(account, segment, index)? else { return Ok(None) };
        let key = FileKey { shard, account: *account };
        let Some(entry) = self.0.table.file(&key)? else { return Ok(None) };
        let (path, length) = (self.path(&key), entry.shard_len);
        let leaf = challenged_leaf(nonce, &shard, length);
        let (group, groups) = match file::read_group(&path, length, leaf) {
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Err(StoreError::Damaged(path));
            }
            Err(error) => return Err(at(&path)(error)),
        };
        let proof = prove(length, leaf, &group, &groups).filter(|proof| proof.verify(&shard, length, leaf));
        proof.map(Some).ok_or(StoreError::Damaged(path))
    }

    /// The positions held of a segment, from the index alone.
    ///
    /// # Errors
    /// If the index fails.
    pub fn positions(&self, account: &AccountId, segment: &SegmentId) -> Result<Vec<ShardIndex>, StoreError> {
        let most = fincrypt_protocol::limits::MAX_SHARDS;
        let places = self.0.table.places(account, Some(segment), None, most)?;
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
        let places =
            self.0.table.places(account, Some(segment), None, fincrypt_protocol::limits::MAX_SHARDS)?;
        let Some((_, _, first)) = places.first() else { return Ok(None) };
        let path = self.path(&FileKey { shard: *first, account: *account });
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
        self.usage()
            .accounts
            .iter()
            .filter(|(_, taken)| taken.files > 0)
            .map(|(account, _)| *account)
            .collect()
    }

    /// Bytes that an account's files take.
    #[must_use]
    pub fn bytes_of(&self, account: &AccountId) -> u64 {
        self.usage().accounts.get(account).map_or(0, |taken| taken.files)
    }

    /// Bytes of the shards held for an account: what is paid.
    #[must_use]
    pub fn shard_bytes_of(&self, account: &AccountId) -> u64 {
        self.usage().accounts.get(account).map_or(0, |taken| taken.shards)
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
        let Some(shard) = self.0.table.place(account, segment, index)? else { return Ok(0) };
        let key = FileKey { shard, account: *account };
        match self.0.table.file(&key)? {
            Some(entry) => self.remove_file(&key, &entry),
            None => Ok(0),
        }
    }

    pub(super) fn remove_file(&self, key: &FileKey, entry: &FileEntry) -> Result<u64, StoreError> {
        let path = self.path(key);
        match std::fs::remove_file(&path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(at(&path)(error)),
        }
        self.0.table.remove(key, entry)?;
        let mut usage = self.usage();
        usage.used = usage.used.saturating_sub(entry.file_len);
        if let Some(taken) = usage.accounts.get_mut(&key.account) {
            taken.files = taken.files.saturating_sub(entry.file_len);
            taken.shards = taken.shards.saturating_sub(entry.shard_len.get().into());
        }
        Ok(entry.file_len)
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
            let page = self.0.table.files(&[], last.as_ref())?;
            let Some((key, _)) = page.last() else { return Ok(freed) };
            last = Some(*key);
            for (key, entry) in page {
                if now.since(entry.stored) > after && !kept(&key.account, &entry.run) {
                    freed += self.remove_file(&key, &entry)?;
                }
            }
        }
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
