//! Local state: sled for reading, a journal for what must not be lost. The only user of sled.
//!
//! A batch that is *committed* is in the journal, synced, before the call returns; concurrent
//! callers share a sync. A batch that is *applied* is only in sled: for what can be rebuilt. A tree
//! is used in one of the two ways, always. On opening, the trees that the journal names are cleared
//! and the journal is replayed into them, so it does not matter what sled itself remembers of a
//! crash; a sled that does not open, or fails meanwhile, is set aside and rebuilt from the journal.
//!
//! A journal of which more than half is of no use any more is written anew from sled, entry by entry:
//! beside the old one, synced, then renamed over it. Its first record removes a key from every tree
//! that was ever committed to, so that trees without entries are named as well.
//!
//! A journal record is one batch, integers little-endian:
//!
//! ```text
//! change: tree length u8 │ tree │ key length u32 │ key │ 0                        (removed)
//!                                                     │ 1 │ value length u32 │ value
//! ```

mod log;
mod record;

use parking_lot::{Mutex, MutexGuard, RwLock};
use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::kv::{Batch, Entries, KeyValue, KvError, Tree};
use crate::sync::GroupSync;
use log::Log;

/// sled's cache.
const CACHE: u64 = 32 << 20;
/// How long sled may take to end.
const ENDING: Duration = Duration::from_secs(5);
/// A journal smaller than this is never compacted.
const COMPACT_FROM: u64 = 16 << 20;

/// What opening found.
#[derive(Debug, Clone, Default)]
pub struct OpenReport {
    /// Where a database that did not open was moved to.
    pub set_aside: Option<PathBuf>,
    /// Committed batches that were replayed.
    pub replayed: u64,
    /// Bytes of a batch that a crash had cut short, never acknowledged.
    pub cut: u64,
}

/// Local state; clones share it.
#[derive(Clone)]
pub struct State(Arc<Inner>);

struct Inner {
    db: sled::Db,
    /// Trees that were used, so that sled need not look them up by name each time.
    trees: RwLock<Vec<(Tree, sled::Tree)>>,
    log: Mutex<Log>,
    sync: GroupSync,
    _lock: File,
}

/// What the system refuses is no damage: sled, which gives it as text, is not to be set aside for it.
fn database(error: &dyn std::fmt::Display) -> KvError {
    use std::io::{Error, ErrorKind};
    let text = error.to_string();
    let refused = [
        ("No space left", ErrorKind::StorageFull),
        ("Disk quota exceeded", ErrorKind::QuotaExceeded),
        ("Permission denied", ErrorKind::PermissionDenied),
        ("Read-only file system", ErrorKind::ReadOnlyFilesystem),
    ];
    match refused.into_iter().find(|(words, _)| text.contains(words)) {
        Some((_, kind)) => KvError::Io(Error::new(kind, text)),
        None => KvError::Database(text),
    }
}

fn tree_of(db: &sled::Db, name: &str) -> Result<sled::Tree, KvError> {
    db.open_tree(name).map_err(|error| database(&error))
}

fn guard<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock()
}

fn try_open_sled(path: &Path) -> Result<sled::Db, String> {
    let open = || sled::Config::new().path(path).cache_capacity(CACHE).flush_every_ms(Some(1000)).open();
    // A damaged database can make sled panic rather than fail.
    match catch_unwind(AssertUnwindSafe(open)) {
        Ok(Ok(db)) => Ok(db),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("the database panicked".to_owned()),
    }
}

/// Opens sled. Its own lock may still be held by a thread of this process that is ending it, which is
/// no damage; other processes are kept out by [`lock`].
fn open_sled(path: &Path) -> Result<sled::Db, String> {
    let begun = Instant::now();
    loop {
        match try_open_sled(path) {
            Err(error) if error.contains("acquire lock") && begun.elapsed() < ENDING => {
                std::thread::sleep(Duration::from_millis(10));
            }
            opened => return opened,
        }
    }
}

fn set_aside(dir: &Path) -> Result<PathBuf, KvError> {
    let free = (1..).map(|n| dir.join(format!("sled.damaged-{n}"))).find(|path| !path.exists());
    let aside = free.ok_or_else(|| database(&"no free name"))?;
    std::fs::rename(dir.join("sled"), &aside)?;
    Ok(aside)
}

fn lock(dir: &Path) -> Result<File, KvError> {
    use rustix::fs::{FlockOperation, flock};
    let file = File::options().create(true).truncate(false).write(true).open(dir.join("lock"))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(KvError::Locked(dir.to_owned())),
        Err(error) => Err(KvError::Io(error.into())),
    }
}

impl State {
    /// Opens the state in `dir`, making it if it is not there.
    ///
    /// # Errors
    /// [`KvError::Locked`] if another process has it open; [`KvError`] if its files cannot be used.
    pub fn open(dir: &Path) -> Result<(Self, OpenReport), KvError> {
        Self::open_compacting(dir, COMPACT_FROM)
    }

    /// Opens the state; its journal is not compacted while it is shorter than `compact_from`.
    fn open_compacting(dir: &Path, compact_from: u64) -> Result<(Self, OpenReport), KvError> {
        std::fs::create_dir_all(dir)?;
        let lock = lock(dir)?;
        let mut report = OpenReport::default();
        let path = dir.join("sled");
        let anew = || {
            let aside = set_aside(dir)?;
            Ok::<_, KvError>((open_sled(&path).map_err(|error| database(&error))?, Some(aside)))
        };
        let mut db = match open_sled(&path) {
            Ok(db) => db,
            Err(error) => {
                if let refused @ KvError::Io(_) = database(&error) {
                    return Err(refused);
                }
                let (db, aside) = anew()?;
                report.set_aside = aside;
                db
            }
        };
        let (log, replayed) = Log::open(&dir.join("log"), compact_from, &mut db, |db| {
            (*db, report.set_aside) = anew()?;
            Ok(())
        })?;
        report.replayed = replayed.records;
        report.cut = replayed.cut;
        let file = log.journal.sync_handle()?;
        let inner = Inner {
            db,
            trees: RwLock::default(),
            log: Mutex::new(log),
            sync: GroupSync::new(file),
            _lock: lock,
        };
        let state = Self(Arc::new(inner));
        state.compact_if_due(&mut guard(&state.0.log))?;
        Ok((state, report))
    }

    /// Applies a batch and makes it durable before returning.
    ///
    /// # Errors
    /// If the journal or the database fails; nothing may be acknowledged then.
    pub fn commit(&self, batch: &Batch) -> Result<(), KvError> {
        let record = record::of_batch(batch);
        let number = {
            let mut log = guard(&self.0.log);
            log.append(&self.0.db, batch, &record)?;
            let number = self.0.sync.appended();
            self.compact_if_due(&mut log)?;
            number
        };
        Ok(self.0.sync.upto(number)?)
    }

    /// Compacts the journal once most of it is of no use. That it cannot be done now, for want of room
    /// perhaps, is no failure: the old journal has everything.
    fn compact_if_due(&self, log: &mut Log) -> Result<(), KvError> {
        if !log.is_due() {
            return Ok(());
        }
        let write = |log: &mut Log| match log.compact(&self.0.db) {
            Ok(()) => Ok(Some(log.journal.sync_handle()?)),
            Err(error) => {
                tracing::warn!(%error, "the journal of the state is not compacted; it goes on growing");
                Ok(None)
            }
        };
        self.0.sync.replace(log, write, |log| Ok(log.journal.sync_name()?))
    }

    fn tree(&self, tree: Tree) -> Result<sled::Tree, KvError> {
        let known = self.0.trees.read();
        if let Some((_, open)) = known.iter().find(|(name, _)| *name == tree) {
            return Ok(open.clone());
        }
        drop(known);
        let open = self.0.db.open_tree(tree.0).map_err(|error| database(&error))?;
        self.0.trees.write().push((tree, open.clone()));
        Ok(open)
    }

    /// Writes out what the database holds back. Nothing committed depends on it.
    pub fn close(&self) {
        if let Err(error) = self.0.db.flush() {
            tracing::warn!(%error, "the state database could not be flushed");
        }
    }
}

impl KeyValue for State {
    fn get(&self, tree: Tree, key: &[u8]) -> Result<Option<Vec<u8>>, KvError> {
        Ok(self.tree(tree)?.get(key).map_err(|error| database(&error))?.map(|value| value.to_vec()))
    }

    fn scan(
        &self,
        tree: Tree,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Entries, KvError> {
        use std::ops::Bound;
        let tree = self.tree(tree)?;
        let from = match after {
            Some(after) if after >= prefix => Bound::Excluded(after.to_vec()),
            _ => Bound::Included(prefix.to_vec()),
        };
        let mut entries = Entries::new();
        for entry in tree.range((from, Bound::Unbounded)).take(limit) {
            let (key, value) = entry.map_err(|error| database(&error))?;
            if !key.starts_with(prefix) {
                break;
            }
            entries.push((key.to_vec(), value.to_vec()));
        }
        Ok(entries)
    }

    fn apply(&self, batch: &Batch) -> Result<(), KvError> {
        for change in batch.changes() {
            let tree = self.tree(change.tree)?;
            match &change.value {
                Some(value) => tree.insert(&change.key, value.as_slice()),
                None => tree.remove(&change.key),
            }
            .map_err(|error| database(&error))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
