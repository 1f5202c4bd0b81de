//! The durable state of a vault on this machine: one record, changed by named transitions only.
//!
//! ```text
//!        begin_commit              commit_succeeded (journal void, head seen)
//!  Idle ───────────────▶ Committing ──────────────────────────────────▶ Idle
//!                         │  │  └──── undo_commit ────────────────────▶ Idle
//!                         │  └─────── finish_commit (journal void) ───▶ Idle
//!                         │ follow: the catalog was rewritten, or everything released
//!                         ▼
//!                      Keeping ────── finish_commit ──────────────────▶ Idle
//! ```
//!
//! Each transition is one durable batch. What follows from it (an index to be emptied, journals to be
//! removed) is named in the record and carried out afterwards; after a crash in between, opening the
//! state carries it out. So a crash leaves the state before a transition or the state after it.
//!
//! Tables: `vault_state` (one entry, CBOR of the record, at most 64 KiB) and `found_runs` are durable;
//! those of [`cache`] are volatile.

mod account;
mod cache;
mod error;
mod heads;
mod medium;
mod record;
mod runs;
#[cfg(test)]
mod tests;

use fincrypt_protocol::RunId;
use fincrypt_state::kv::{Batch, KvError};
use fincrypt_state::table::{Everything, Table};
use parking_lot::Mutex;

pub(crate) use account::{FoundAccount, PriceLimit};
use cache::{IndexCache, Stamp};
pub use error::VaultStateError;
pub(crate) use heads::Followed;
pub(crate) use medium::{JournalKind, Medium};
pub(crate) use record::{IndexOrigin, RunState};
use record::{Record, VoidJournals};

/// The record: a head of 4 KiB, a rewind of 8 KiB, 16 releases, and small things.
const RECORD: Table<(), Record> = Table::new("vault_state", 64 << 10);
/// Runs whose segments a rebuilt index has found: perhaps they were never kept.
const FOUND_RUNS: Table<RunId, ()> = Table::new("found_runs", 1);
/// Found runs written or read at once.
const FOUND_PAGE: usize = 256;

/// The state of a vault.
pub(crate) struct VaultState<M: Medium> {
    medium: M,
    cache: IndexCache<M::Kv>,
    /// Held during a transition, which reads the record before it writes it.
    changing: Mutex<()>,
}

impl<M: Medium> VaultState<M> {
    /// Opens the state and carries out what the last transition decided.
    ///
    /// # Errors
    /// [`VaultStateError`] if the database fails or a journal cannot be removed.
    pub(crate) fn open(medium: M) -> Result<Self, VaultStateError> {
        let cache = IndexCache::new(medium.kv().clone());
        let state = Self { medium, cache, changing: Mutex::default() };
        state.carry_out(state.record()?)?;
        Ok(state)
    }

    fn record(&self) -> Result<Record, KvError> {
        Ok(RECORD.get(self.medium.kv(), &())?.unwrap_or_default())
    }

    fn commit(&self, record: &Record, mut batch: Batch) -> Result<(), KvError> {
        RECORD.put(&mut batch, &(), record)?;
        self.medium.commit(&batch)
    }

    /// Carries out what a record decides: it can be repeated, and may be cut off anywhere.
    fn carry_out(&self, mut record: Record) -> Result<Record, VaultStateError> {
        let old = self.cache.stamp()?;
        let stamp = Stamp { generation: record.index.generation, ..old };
        if old.generation != stamp.generation {
            self.cache.clear()?;
        }
        if old != stamp {
            self.cache.set_stamp(&stamp)?;
        }
        if record.void.backup {
            self.medium.remove_journal(JournalKind::Backup)?;
        }
        if record.void.prune {
            self.medium.remove_journal(JournalKind::Prune)?;
        }
        if record.void != VoidJournals::default() {
            record.void = VoidJournals::default();
            self.commit(&record, Batch::default())?;
        }
        Ok(record)
    }

    /// One transition: durable at once or not at all. `batch` becomes durable with it.
    fn change<T>(
        &self,
        batch: Batch,
        change: impl FnOnce(&mut Record) -> Result<T, VaultStateError>,
    ) -> Result<T, VaultStateError> {
        let _changing = self.changing.lock();
        // What an earlier transition could not carry out comes first.
        let before = self.carry_out(self.record()?)?;
        let mut record = before.clone();
        let value = change(&mut record)?;
        if record != before || !batch.is_empty() {
            self.commit(&record, batch)?;
            self.carry_out(record)?;
        }
        Ok(value)
    }

    fn set(&self, change: impl FnOnce(&mut Record)) -> Result<(), VaultStateError> {
        self.change(Batch::default(), |record| {
            change(record);
            Ok(())
        })
    }

    /// Forgets everything: the home of an earlier vault becomes another one's. No index that was
    /// written before counts, not even if the record was lost.
    pub(crate) fn reset(&self) -> Result<(), VaultStateError> {
        let mut batch = Batch::default();
        FOUND_RUNS.visit(self.medium.kv(), &Everything, |run, ()| {
            FOUND_RUNS.remove(&mut batch, &run);
            Ok::<_, KvError>(())
        })?;
        let stamped = self.cache.stamp()?;
        self.change(batch, |record| {
            let generation = record.index.generation.max(stamped.generation);
            let rebuilds = record.index.rebuilds.max(stamped.rebuilds);
            *record = Record::default();
            (record.index.generation, record.index.rebuilds) = (generation, rebuilds);
            record.forget_stored(&[]);
            Ok(())
        })
    }
}
