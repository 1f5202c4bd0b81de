//! What the state is written to: the local database, and the journals beside it.

use fincrypt_state::kv::{Batch, KeyValue, KvError};
use fincrypt_state::state::State;

use super::error::VaultStateError;
use crate::home::VaultHome;

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

/// The state and the journals in a vault's home.
pub(crate) struct HomeMedium {
    pub(crate) state: State,
    pub(crate) home: VaultHome,
}

impl Medium for HomeMedium {
    type Kv = State;

    fn kv(&self) -> &State {
        &self.state
    }

    fn commit(&self, batch: &Batch) -> Result<(), KvError> {
        self.state.commit(batch)
    }

    fn remove_journal(&self, journal: JournalKind) -> Result<(), VaultStateError> {
        let path = match journal {
            JournalKind::Backup => self.home.run_journal(),
            JournalKind::Prune => self.home.prune_journal(),
        };
        let removed = match std::fs::remove_file(&path) {
            Ok(()) => path.parent().map_or(Ok(()), fincrypt_state::durable::sync_dir),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        };
        removed.map_err(|source| VaultStateError::Journal { path, source })
    }
}
