//! Small local state as the rest of the crate sees it: named trees of bytes to bytes.

use parking_lot::{Mutex, MutexGuard};
use std::collections::BTreeMap;

/// One named tree of a [`KeyValue`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tree(pub &'static str);

/// Local state failed.
#[derive(Debug, thiserror::Error)]
pub enum KvError {
    /// The database refused.
    #[error("the state database failed: {0}")]
    Database(String),
    /// Another process has it open.
    #[error("another fincrypt process uses {0}")]
    Locked(std::path::PathBuf),
    /// A file beneath it could not be read or written.
    #[error("the state's files could not be read or written: {0}")]
    Io(#[from] std::io::Error),
    /// A stored value is not what this version writes.
    #[error("a stored value in tree {tree} cannot be read")]
    Corrupt {
        /// The tree.
        tree: &'static str,
    },
    /// A value is longer than its table allows.
    #[error("a value of {len} bytes is too long for tree {tree}, which takes {limit}")]
    TooLong {
        /// The tree.
        tree: &'static str,
        /// Bytes of the value.
        len: usize,
        /// Bytes allowed.
        limit: usize,
    },
}

/// Changes that take effect together.
#[derive(Debug, Clone, Default)]
pub struct Batch(Vec<Change>);

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The tree it is for.
    pub tree: Tree,
    /// The key.
    pub key: Vec<u8>,
    /// The new value, or `None` to remove the key.
    pub value: Option<Vec<u8>>,
}

impl Batch {
    /// Sets a key.
    pub fn put(&mut self, tree: Tree, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) {
        self.0.push(Change { tree, key: key.into(), value: Some(value.into()) });
    }

    /// Removes a key.
    pub fn remove(&mut self, tree: Tree, key: impl Into<Vec<u8>>) {
        self.0.push(Change { tree, key: key.into(), value: None });
    }

    /// The changes in order; a later one on the same key wins.
    #[must_use]
    pub fn changes(&self) -> &[Change] {
        &self.0
    }

    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Keys and values, in the order of the keys.
pub type Entries = Vec<(Vec<u8>, Vec<u8>)>;

/// Ordered trees of bytes to bytes. Reads see every batch applied before.
pub trait KeyValue: Send + Sync {
    /// The value under `key`.
    ///
    /// # Errors
    /// If the database fails.
    fn get(&self, tree: Tree, key: &[u8]) -> Result<Option<Vec<u8>>, KvError>;

    /// Up to `limit` entries whose keys begin with `prefix` and come after `after`.
    ///
    /// # Errors
    /// If the database fails.
    fn scan(&self, tree: Tree, prefix: &[u8], after: Option<&[u8]>, limit: usize)
    -> Result<Entries, KvError>;

    /// Applies a batch whose loss in a crash does no harm, because it can be rebuilt.
    ///
    /// # Errors
    /// If the database fails.
    fn apply(&self, batch: &Batch) -> Result<(), KvError>;
}

/// Trees in memory, for tests and for commands that keep nothing.
#[derive(Debug, Default)]
pub struct MemoryKv(Mutex<MemoryMap>);

type MemoryMap = BTreeMap<(Tree, Vec<u8>), Vec<u8>>;

impl MemoryKv {
    fn lock(&self) -> MutexGuard<'_, MemoryMap> {
        self.0.lock()
    }
}

impl KeyValue for MemoryKv {
    fn get(&self, tree: Tree, key: &[u8]) -> Result<Option<Vec<u8>>, KvError> {
        Ok(self.lock().get(&(tree, key.to_vec())).cloned())
    }

    fn scan(
        &self,
        tree: Tree,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Entries, KvError> {
        let from = after.unwrap_or(prefix).max(prefix).to_vec();
        let map = self.lock();
        let entries =
            map.range((tree, from)..).take_while(|((t, key), _)| *t == tree && key.starts_with(prefix));
        let entries = entries.filter(|((_, key), _)| after.is_none_or(|after| key.as_slice() > after));
        Ok(entries.take(limit).map(|((_, key), value)| (key.clone(), value.clone())).collect())
    }

    fn apply(&self, batch: &Batch) -> Result<(), KvError> {
        let mut map = self.lock();
        for change in batch.changes() {
            match &change.value {
                Some(value) => drop(map.insert((change.tree, change.key.clone()), value.clone())),
                None => drop(map.remove(&(change.tree, change.key.clone()))),
            }
        }
        Ok(())
    }
}
