//! What the state is written to: the local database, and the journals beside it.

use fincrypt_state::kv::{Batch, KeyValue, KvError};

use super::error::VaultStateError;

/// A journal of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum JournalKind {
    Backup,
    Prune,
}

/// Durable tables, volatile tables and the journals of runs.
pub(crate) trait Medium {
    /// The tables. What is only applied to them may be lost in a crash, the latest changes first.
    type Kv: KeyValue + Clone;

    /// The tables.
    fn kv(&self) -> &Self::Kv;

    /// Applies a batch and makes it durable before returning.
    ///
    /// # Errors
    /// If the database fails; nothing may be acknowledged then.
    fn commit(&self, batch: &Batch) -> Result<(), KvError>;

    /// Removes a journal, durably, if it is there.
    ///
    /// # Errors
    /// If it cannot be removed.
    fn remove_journal(&self, journal: JournalKind) -> Result<(), VaultStateError>;
}
