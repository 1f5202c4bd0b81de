//! A medium that stops at any write and forgets what a power cut would.

use std::collections::BTreeMap;
use std::sync::Arc;

use fincrypt_protocol::{Manifest, RunId};
use fincrypt_state::kv::{Batch, Entries, KeyValue, KvError, Tree};
use parking_lot::Mutex;

use crate::vault_state::medium::{JournalKind, Medium};
use crate::vault_state::{VaultState, VaultStateError};

type Tables = BTreeMap<(Tree, Vec<u8>), Vec<u8>>;

/// The journal of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SimJournal {
    pub(super) run: RunId,
    pub(super) segments: Vec<Manifest>,
}

#[derive(Default)]
struct Inner {
    committed: Tables,
    /// Volatile tables, as they were when the process started.
    started: Tables,
    /// What was applied to them since.
    applied: Vec<Batch>,
    volatile: Tables,
    journals: BTreeMap<JournalKind, SimJournal>,
    /// Writes until the crash.
    fuse: Option<usize>,
    crashed: bool,
}

impl Inner {
    fn write(&mut self) -> Result<(), KvError> {
        if self.crashed || self.fuse == Some(0) {
            self.crashed = true;
            return Err(KvError::Database("power cut".to_owned()));
        }
        self.fuse = self.fuse.map(|left| left - 1);
        Ok(())
    }
}

fn apply_to(tables: &mut Tables, batch: &Batch) {
    for change in batch.changes() {
        let key = (change.tree, change.key.clone());
        match &change.value {
            Some(value) => drop(tables.insert(key, value.clone())),
            None => drop(tables.remove(&key)),
        }
    }
}

/// A machine's disk.
#[derive(Clone, Default)]
pub(super) struct Sim(Arc<Mutex<Inner>>);

impl Sim {
    /// A disk that fails after `writes` more writes.
    pub(super) fn fail_after(&self, writes: Option<usize>) {
        self.0.lock().fuse = writes;
    }

    pub(super) fn has_crashed(&self) -> bool {
        self.0.lock().crashed
    }

    /// The machine starts again. Of what was only applied, the first `kept` permille are left; none,
    /// and nothing from before, if the database is lost.
    pub(super) fn restart(&self, kept: usize, database_lost: bool) {
        let mut inner = self.0.lock();
        let inner = &mut *inner;
        let left = inner.applied.len() * kept / 1000;
        let mut tables = if database_lost { Tables::default() } else { std::mem::take(&mut inner.started) };
        if !database_lost {
            inner.applied[..left].iter().for_each(|batch| apply_to(&mut tables, batch));
        }
        inner.applied.clear();
        inner.volatile = tables.clone();
        inner.started = tables;
        (inner.fuse, inner.crashed) = (None, false);
    }

    pub(super) fn journal(&self) -> Option<SimJournal> {
        self.0.lock().journals.get(&JournalKind::Backup).cloned()
    }

    pub(super) fn write_journal(&self, journal: SimJournal) -> Result<(), VaultStateError> {
        let mut inner = self.0.lock();
        inner.write()?;
        inner.journals.insert(JournalKind::Backup, journal);
        Ok(())
    }

    pub(super) fn open(&self) -> VaultState<Self> {
        VaultState::open(self.clone()).expect("opens")
    }
}

impl KeyValue for Sim {
    fn get(&self, tree: Tree, key: &[u8]) -> Result<Option<Vec<u8>>, KvError> {
        let (inner, key) = (self.0.lock(), (tree, key.to_vec()));
        Ok(inner.committed.get(&key).or_else(|| inner.volatile.get(&key)).cloned())
    }

    fn scan(
        &self,
        tree: Tree,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Entries, KvError> {
        let inner = self.0.lock();
        let entries = inner.committed.iter().chain(&inner.volatile);
        let wanted = entries.filter(|((of, key), _)| {
            *of == tree && key.starts_with(prefix) && after.is_none_or(|after| key.as_slice() > after)
        });
        Ok(wanted.map(|((_, key), value)| (key.clone(), value.clone())).take(limit).collect())
    }

    fn apply(&self, batch: &Batch) -> Result<(), KvError> {
        let mut inner = self.0.lock();
        inner.write()?;
        apply_to(&mut inner.volatile, batch);
        inner.applied.push(batch.clone());
        Ok(())
    }
}

impl Medium for Sim {
    type Kv = Self;

    fn kv(&self) -> &Self {
        self
    }

    fn commit(&self, batch: &Batch) -> Result<(), KvError> {
        let mut inner = self.0.lock();
        inner.write()?;
        apply_to(&mut inner.committed, batch);
        Ok(())
    }

    fn remove_journal(&self, journal: JournalKind) -> Result<(), VaultStateError> {
        let mut inner = self.0.lock();
        inner.write()?;
        inner.journals.remove(&journal);
        Ok(())
    }
}
