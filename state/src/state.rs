//! Local state: sled for reading, a journal for what must not be lost. The only user of sled.
//!
//! A batch that is *committed* is in the journal, synced, before the call returns; concurrent
//! callers share a sync. A batch that is *applied* is only in sled: for what can be rebuilt. A tree
//! is used in one of the two ways, always. On opening the journal is replayed into sled, so it does
//! not matter what sled itself remembers of a crash; a sled that does not open is set aside and
//! rebuilt from the journal.
//!
//! A journal record is one batch, integers little-endian:
//!
//! ```text
//! change: tree length u8 │ tree │ key length u32 │ key │ 0                        (removed)
//!                                                     │ 1 │ value length u32 │ value
//! ```

use std::collections::BTreeSet;
use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use crate::journal::{Journal, JournalError};
use crate::kv::{Batch, Entries, KeyValue, KvError, Tree};
use crate::sync::GroupSync;

/// sled's cache.
const CACHE: u64 = 32 << 20;
/// The most bytes of one batch.
const MAX_BATCH: u32 = 8 << 20;
/// A journal smaller than this is never compacted.
const COMPACT_FROM: u64 = 16 << 20;
/// Keys in one record of a compacted journal.
const COMPACT_BATCH: usize = 256;

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

struct Log {
    journal: Journal,
    /// Trees that are committed to.
    durable: BTreeSet<String>,
    /// The journal's length after it was last compacted.
    compacted: u64,
}

fn database(error: &dyn std::fmt::Display) -> KvError {
    KvError::Database(error.to_string())
}

impl From<JournalError> for KvError {
    fn from(error: JournalError) -> Self {
        match error {
            JournalError::Io { source, .. } => Self::Io(source),
            other => Self::Database(other.to_string()),
        }
    }
}

fn guard<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn encode<'a>(changes: impl Iterator<Item = (&'a str, &'a [u8], Option<&'a [u8]>)>) -> Vec<u8> {
    let mut out = Vec::new();
    for (tree, key, value) in changes {
        // Tree names are short constants; a batch is far below 4 GiB.
        out.push(tree.len() as u8);
        out.extend_from_slice(tree.as_bytes());
        out.extend_from_slice(&(key.len() as u32).to_le_bytes());
        out.extend_from_slice(key);
        out.push(u8::from(value.is_some()));
        if let Some(value) = value {
            out.extend_from_slice(&(value.len() as u32).to_le_bytes());
            out.extend_from_slice(value);
        }
    }
    out
}

type Decoded<'a> = (&'a str, &'a [u8], Option<&'a [u8]>);

fn decode(mut rest: &[u8]) -> Option<Vec<Decoded<'_>>> {
    fn long<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
        let (length, tail) = rest.split_first_chunk::<4>()?;
        let (bytes, tail) = tail.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        *rest = tail;
        Some(bytes)
    }
    let mut changes = Vec::new();
    while let Some((length, tail)) = rest.split_first() {
        let (tree, tail) = tail.split_at_checked((*length).into())?;
        rest = tail;
        let key = long(&mut rest)?;
        let (flag, tail) = rest.split_first()?;
        rest = tail;
        let value = match flag {
            0 => None,
            1 => Some(long(&mut rest)?),
            _ => return None,
        };
        changes.push((std::str::from_utf8(tree).ok()?, key, value));
    }
    Some(changes)
}

fn open_sled(path: &Path) -> Result<sled::Db, String> {
    let open = || sled::Config::new().path(path).cache_capacity(CACHE).flush_every_ms(Some(1000)).open();
    // A damaged database can make sled panic rather than fail.
    match catch_unwind(AssertUnwindSafe(open)) {
        Ok(Ok(db)) => Ok(db),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("the database panicked".to_owned()),
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
        std::fs::create_dir_all(dir)?;
        let lock = lock(dir)?;
        let mut report = OpenReport::default();
        let path = dir.join("sled");
        let db = match open_sled(&path) {
            Ok(db) => db,
            Err(_) => {
                report.set_aside = Some(set_aside(dir)?);
                open_sled(&path).map_err(|error| database(&error))?
            }
        };
        let mut durable = BTreeSet::new();
        let mut failure = None;
        let replay = |record: &[u8]| {
            if failure.is_none() {
                failure = replay_into(&db, record, &mut durable).err();
            }
        };
        let (journal, replayed) = Journal::open(&dir.join("log"), MAX_BATCH, replay)?;
        if let Some(error) = failure {
            return Err(error);
        }
        report.replayed = replayed.records;
        report.cut = replayed.cut;
        let file = journal.sync_handle()?;
        let log = Log { journal, durable, compacted: 0 };
        let inner = Inner {
            db,
            trees: RwLock::default(),
            log: Mutex::new(log),
            sync: GroupSync::new(file),
            _lock: lock,
        };
        let state = Self(Arc::new(inner));
        state.compact_if_large(&mut guard(&state.0.log))?;
        Ok((state, report))
    }

    /// Applies a batch and makes it durable before returning.
    ///
    /// # Errors
    /// If the journal or the database fails; nothing may be acknowledged then.
    pub fn commit(&self, batch: &Batch) -> Result<(), KvError> {
        let record = encode(
            batch
                .changes()
                .iter()
                .map(|change| (change.tree.0, change.key.as_slice(), change.value.as_deref())),
        );
        let number = {
            let mut log = guard(&self.0.log);
            log.journal.append(&record)?;
            for change in batch.changes() {
                if !log.durable.contains(change.tree.0) {
                    log.durable.insert(change.tree.0.to_owned());
                }
            }
            self.apply(batch)?;
            let number = self.0.sync.appended();
            self.compact_if_large(&mut log)?;
            number
        };
        Ok(self.0.sync.upto(number)?)
    }

    /// Rewrites a journal that has grown to twice what it was after it was last compacted.
    fn compact_if_large(&self, log: &mut Log) -> Result<(), KvError> {
        if log.journal.length() < COMPACT_FROM.max(2 * log.compacted) {
            return Ok(());
        }
        // What was removed is not in the new journal: the database must not bring it back.
        self.0.db.flush().map_err(|error| database(&error))?;
        let mut records = Vec::new();
        for name in &log.durable {
            let tree = self.0.db.open_tree(name).map_err(|error| database(&error))?;
            let entries: Vec<_> = tree.iter().collect::<Result<_, _>>().map_err(|error| database(&error))?;
            for chunk in entries.chunks(COMPACT_BATCH) {
                records.push(encode(
                    chunk.iter().map(|(key, value)| (name.as_str(), key.as_ref(), Some(value.as_ref()))),
                ));
            }
        }
        self.0.sync.replace(|| {
            log.journal.rewrite(records.into_iter())?;
            log.compacted = log.journal.length();
            Ok(log.journal.sync_handle()?)
        })
    }

    fn tree(&self, tree: Tree) -> Result<sled::Tree, KvError> {
        let known = self.0.trees.read().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, open)) = known.iter().find(|(name, _)| *name == tree) {
            return Ok(open.clone());
        }
        drop(known);
        let open = self.0.db.open_tree(tree.0).map_err(|error| database(&error))?;
        self.0.trees.write().unwrap_or_else(PoisonError::into_inner).push((tree, open.clone()));
        Ok(open)
    }

    /// Writes out what the database holds back. Nothing committed depends on it.
    pub fn close(&self) {
        if let Err(error) = self.0.db.flush() {
            tracing::warn!(%error, "the state database could not be flushed");
        }
    }
}

fn replay_into(db: &sled::Db, record: &[u8], durable: &mut BTreeSet<String>) -> Result<(), KvError> {
    let changes = decode(record).ok_or(KvError::Corrupt { tree: "journal" })?;
    for (tree, key, value) in changes {
        durable.insert(tree.to_owned());
        let tree = db.open_tree(tree).map_err(|error| database(&error))?;
        match value {
            Some(value) => tree.insert(key, value),
            None => tree.remove(key),
        }
        .map_err(|error| database(&error))?;
    }
    Ok(())
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
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FACTS: Tree = Tree("facts");

    fn put(state: &State, key: &str, value: &str) {
        let mut batch = Batch::default();
        batch.put(FACTS, key.as_bytes(), value.as_bytes());
        state.commit(&batch).expect("commits");
    }

    fn get(state: &State, key: &str) -> Option<String> {
        state.get(FACTS, key.as_bytes()).expect("reads").map(|bytes| String::from_utf8(bytes).expect("text"))
    }

    proptest! {
        #[test]
        fn any_record_is_decoded_or_refused(bytes: Vec<u8>) {
            if let Some(changes) = decode(&bytes) {
                prop_assert_eq!(encode(changes.into_iter()), bytes);
            }
        }
    }

    #[test]
    fn a_record_is_what_the_fixture_says() {
        let changes = [("facts", b"key".as_slice(), Some(b"value".as_slice())), ("other", b"gone", None)];
        crate::vectors::check("state-batch.txt", &crate::vectors::hex(&encode(changes.into_iter())));
    }

    #[test]
    fn what_was_committed_survives_the_loss_of_the_database() {
        let dir = tempfile::tempdir().expect("a folder");
        let (state, _) = State::open(dir.path()).expect("opens");
        put(&state, "a", "1");
        put(&state, "a", "2");
        put(&state, "b", "3");
        let mut batch = Batch::default();
        batch.remove(FACTS, b"b".as_slice());
        state.commit(&batch).expect("commits");
        drop(state);
        std::fs::remove_dir_all(dir.path().join("sled")).expect("removed");
        let (state, report) = State::open(dir.path()).expect("opens");
        assert_eq!(report.replayed, 4);
        assert_eq!(get(&state, "a").as_deref(), Some("2"));
        assert_eq!(get(&state, "b"), None);
    }

    #[test]
    fn a_damaged_database_is_set_aside_and_rebuilt() {
        let dir = tempfile::tempdir().expect("a folder");
        let (state, _) = State::open(dir.path()).expect("opens");
        put(&state, "a", "1");
        drop(state);
        let db = dir.path().join("sled/db");
        std::fs::remove_file(&db).expect("removed");
        std::fs::create_dir(&db).expect("a folder where the file was");
        let (state, report) = State::open(dir.path()).expect("opens");
        assert!(report.set_aside.is_some_and(|aside| aside.exists()));
        assert_eq!(get(&state, "a").as_deref(), Some("1"));
    }

    #[test]
    fn a_second_process_is_told_that_the_state_is_in_use() {
        let dir = tempfile::tempdir().expect("a folder");
        let (_state, _) = State::open(dir.path()).expect("opens");
        assert!(matches!(State::open(dir.path()), Err(KvError::Locked(_))));
    }

    #[test]
    fn a_large_journal_is_compacted_and_loses_nothing() {
        let dir = tempfile::tempdir().expect("a folder");
        let (state, _) = State::open(dir.path()).expect("opens");
        for round in 0..30 {
            let mut batch = Batch::default();
            batch.put(FACTS, format!("key{}", round % 3), vec![round; 1 << 20]);
            state.commit(&batch).expect("commits");
        }
        let length = std::fs::metadata(dir.path().join("log")).expect("there").len();
        assert!(length < COMPACT_FROM, "{length} bytes");
        drop(state);
        std::fs::remove_dir_all(dir.path().join("sled")).expect("removed");
        let (state, _) = State::open(dir.path()).expect("opens");
        assert_eq!(state.get(FACTS, b"key2").expect("reads"), Some(vec![29; 1 << 20]));
    }

    #[test]
    fn scans_are_bounded_by_prefix_start_and_count() {
        let dir = tempfile::tempdir().expect("a folder");
        let (state, _) = State::open(dir.path()).expect("opens");
        for key in ["a1", "a2", "a3", "b1"] {
            put(&state, key, "x");
        }
        let keys = |prefix: &str, after: Option<&str>, limit| -> Vec<String> {
            let entries =
                state.scan(FACTS, prefix.as_bytes(), after.map(str::as_bytes), limit).expect("scans");
            entries.into_iter().map(|(key, _)| String::from_utf8(key).expect("text")).collect()
        };
        assert_eq!(keys("a", None, 10), ["a1", "a2", "a3"]);
        assert_eq!(keys("a", Some("a1"), 1), ["a2"]);
        assert_eq!(keys("", Some("a3"), 10), ["b1"]);
    }
}
