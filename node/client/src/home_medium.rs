//! The medium of a vault's state in its home: the local database, and the journals as files.

use fincrypt_state::kv::{Batch, KvError};
use fincrypt_state::state::State;

use super::home::VaultHome;
use super::vault_state::{JournalKind, Medium, VaultStateError};

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
