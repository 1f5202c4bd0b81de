//! The log of committed batches, and when it is written anew.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use super::record::{cost, decode, encode};
use super::{database, tree_of};
use crate::journal::{Journal, JournalError, Replayed};
use crate::kv::{Batch, KvError};

/// The most bytes of one batch.
const MAX_BATCH: u32 = 8 << 20;
/// Bytes of entries in one record of a log written anew, unless one entry is longer: what is held
/// in memory of it.
const COMPACT_BATCH: u64 = 256 << 10;

/// The log, and what of it counts.
pub(super) struct Log {
    pub(super) journal: Journal,
    pub(super) live: Live,
    /// A log shorter than this is not written anew.
    compact_from: u64,
    /// The same after an attempt that failed.
    retry_from: u64,
}

/// What a log written anew would hold.
#[derive(Debug, Default)]
pub(super) struct Live {
    /// Trees that are committed to.
    trees: BTreeSet<String>,
    /// Bytes of their entries in the log.
    bytes: u64,
}

impl Live {
    /// Applies a change to the database and keeps the sum.
    fn change(
        &mut self,
        db: &sled::Tree,
        tree: &str,
        key: &[u8],
        value: Option<&[u8]>,
    ) -> Result<(), KvError> {
        let old = match value {
            Some(value) => db.insert(key, value),
            None => db.remove(key),
        };
        let old = old.map_err(|error| database(&error))?;
        self.bytes += value.map_or(0, |value| cost(tree, key, value));
        self.bytes = self.bytes.saturating_sub(old.map_or(0, |old| cost(tree, key, &old)));
        Ok(())
    }

    /// Replays a record. What the database remembers of a tree is forgotten when the log first names
    /// it: the log alone counts.
    fn replay(&mut self, db: &sled::Db, record: &[u8]) -> Result<(), KvError> {
        let changes = decode(record).ok_or(KvError::Corrupt { tree: "journal" })?;
        for (tree, key, value) in changes {
            if !self.trees.contains(tree) {
                db.drop_tree(tree).map_err(|error| database(&error))?;
                self.trees.insert(tree.to_owned());
            }
            self.change(&tree_of(db, tree)?, tree, key, value)?;
        }
        Ok(())
    }

    /// [`Live::replay`]; a damaged database can panic rather than fail.
    fn replay_caught(&mut self, db: &sled::Db, record: &[u8]) -> Result<(), KvError> {
        let replay = AssertUnwindSafe(|| self.replay(db, record));
        catch_unwind(replay).unwrap_or_else(|_| Err(database(&"the database panicked")))
    }
}

impl Log {
    /// Opens the log at `path` and replays it into `db`, or into what `instead` makes if `db` fails.
    pub(super) fn open(
        path: &Path,
        compact_from: u64,
        db: &mut sled::Db,
        instead: impl FnOnce(&mut sled::Db) -> Result<(), KvError>,
    ) -> Result<(Self, Replayed), KvError> {
        let mut live = Live::default();
        let mut failure = None;
        let (journal, replayed) = Journal::open(path, MAX_BATCH, |record| {
            if failure.is_none() {
                failure = live.replay_caught(db, record).err();
            }
        })?;
        match failure {
            Some(KvError::Database(_)) => {
                instead(db)?;
                live = Live::default();
                journal.records().read(|record| live.replay_caught(db, record))?;
            }
            Some(error) => return Err(error),
            None => {}
        }
        Ok((Self { journal, live, compact_from, retry_from: 0 }, replayed))
    }

    /// Appends a batch's record and applies it. It is durable after the journal's next sync.
    pub(super) fn append(&mut self, db: &sled::Db, batch: &Batch, record: &[u8]) -> Result<(), KvError> {
        self.journal.append(record)?;
        let trees = &mut self.live.trees;
        let new: Vec<_> = batch.changes().iter().filter(|change| !trees.contains(change.tree.0)).collect();
        if !new.is_empty() {
            // The log must name a tree before the database can remember anything of it: else nothing
            // would clear that after a crash.
            self.journal.sync()?;
            trees.extend(new.into_iter().map(|change| change.tree.0.to_owned()));
        }
        for change in batch.changes() {
            let tree = tree_of(db, change.tree.0)?;
            self.live.change(&tree, change.tree.0, &change.key, change.value.as_deref())?;
        }
        Ok(())
    }

    /// Whether more than half of the log is of no use any more.
    pub(super) fn is_due(&self) -> bool {
        let length = self.journal.length();
        length >= self.compact_from.max(self.retry_from) && length / 2 > self.live.bytes
    }

    /// Writes the log anew from what is live, in bounded memory; the old one stays until the new one
    /// is whole and synced.
    pub(super) fn compact(&mut self, db: &sled::Db) -> Result<(), KvError> {
        self.retry_from = self.journal.length().saturating_add(self.compact_from);
        let records = Records::new(db, &self.live)?;
        self.journal.rewrite(records)?;
        self.retry_from = 0;
        Ok(())
    }
}

/// A tree's name, a key and its value.
type Held<'a> = (&'a str, sled::IVec, sled::IVec);

/// What of the trees is live, record by record.
struct Records<'a> {
    entries: Box<dyn Iterator<Item = Result<Held<'a>, sled::Error>> + 'a>,
    live: &'a Live,
    /// The first record names every tree, also one without entries.
    named: bool,
    /// The entry that had no room in the record before.
    next: Option<Held<'a>>,
    bytes: u64,
    ended: bool,
}

impl<'a> Records<'a> {
    fn new(db: &sled::Db, live: &'a Live) -> Result<Self, KvError> {
        let trees: Vec<_> = live
            .trees
            .iter()
            .map(|name| Ok((name.as_str(), tree_of(db, name)?)))
            .collect::<Result<_, KvError>>()?;
        let entries = trees.into_iter().flat_map(|(name, tree)| {
            tree.iter().map(move |entry| entry.map(|(key, value)| (name, key, value)))
        });
        let entries = Box::new(entries);
        Ok(Self { entries, live, named: false, next: None, bytes: 0, ended: false })
    }

    /// The next entries that fit into one record; none at the end.
    fn gather(&mut self) -> Result<Option<Vec<u8>>, KvError> {
        let (mut held, mut length) = (Vec::new(), 0);
        loop {
            let entry = match self.next.take() {
                Some(entry) => entry,
                None => match self.entries.next() {
                    Some(entry) => entry.map_err(|error| database(&error))?,
                    None => break,
                },
            };
            let cost = cost(entry.0, &entry.1, &entry.2);
            if length > 0 && length + cost > COMPACT_BATCH {
                self.next = Some(entry);
                break;
            }
            length += cost;
            held.push(entry);
        }
        self.bytes += length;
        if !held.is_empty() {
            let changes = held.iter().map(|(tree, key, value)| (*tree, key.as_ref(), Some(value.as_ref())));
            return Ok(Some(encode(changes)));
        }
        // The log is the original and the database the copy: a copy that lost something must not
        // replace it.
        if self.bytes == self.live.bytes {
            Ok(None)
        } else {
            Err(database(&"the database does not hold what was committed"))
        }
    }
}

impl Iterator for Records<'_> {
    type Item = Result<Vec<u8>, KvError>;

    fn next(&mut self) -> Option<Self::Item> {
        if !self.named {
            self.named = true;
            let names = self.live.trees.iter().map(|name| (name.as_str(), [].as_slice(), None));
            return Some(Ok(encode(names)));
        }
        if self.ended {
            return None;
        }
        let record = self.gather().transpose();
        self.ended = !matches!(record, Some(Ok(_)));
        record
    }
}

impl From<JournalError> for KvError {
    fn from(error: JournalError) -> Self {
        match error {
            JournalError::Io { source, .. } => Self::Io(source),
            other => Self::Database(other.to_string()),
        }
    }
}
