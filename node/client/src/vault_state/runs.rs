//! Commits of runs.

use fincrypt_protocol::RunId;
use fincrypt_protocol::Verified;
use fincrypt_protocol::record::Head;
use fincrypt_state::kv::{Batch, KvError};

use super::VaultState;
use super::error::VaultStateError;
use super::heads::see_head;
use super::medium::Medium;
use super::record::{IndexOrigin, RunState};

impl<M: Medium> VaultState<M> {
    /// Where the machine's runs stand.
    pub(crate) fn run(&self) -> Result<RunState, KvError> {
        Ok(self.record()?.run)
    }

    /// The interrupted run's journal was checked: it lists only what is stored.
    ///
    /// # Errors
    /// [`VaultStateError::Unsettled`] if a commit is.
    pub(crate) fn journal_checked(&self) -> Result<(), VaultStateError> {
        self.change(Batch::default(), |record| match &mut record.run {
            RunState::Idle { recheck } => {
                *recheck = false;
                Ok(())
            }
            RunState::Committing { run } | RunState::Keeping { run } => {
                Err(VaultStateError::Unsettled { run: *run })
            }
        })
    }

    /// A head that refers to `run` is about to be sent.
    ///
    /// # Errors
    /// [`VaultStateError::Unsettled`] if a commit is, [`VaultStateError::Unchecked`] if the journal has
    /// to be checked first.
    pub(crate) fn begin_commit(&self, run: RunId) -> Result<(), VaultStateError> {
        self.change(Batch::default(), |record| match record.run {
            RunState::Idle { recheck: false } => {
                record.run = RunState::Committing { run };
                Ok(())
            }
            RunState::Idle { recheck: true } => Err(VaultStateError::Unchecked),
            RunState::Committing { run } | RunState::Keeping { run } => {
                Err(VaultStateError::Unsettled { run })
            }
        })
    }

    /// The mediator did not take the head of `run`, or it is known not to have come to be: the run's
    /// journal still counts.
    ///
    /// # Errors
    /// [`VaultStateError::NotCommitting`].
    pub(crate) fn undo_commit(&self, run: RunId) -> Result<(), VaultStateError> {
        self.change(Batch::default(), |record| {
            if record.run != (RunState::Committing { run }) {
                return Err(VaultStateError::NotCommitting { run });
            }
            record.run = RunState::Idle { recheck: false };
            Ok(())
        })
    }

    /// The mediator took the head of `run`, whose contents are in the index.
    ///
    /// # Errors
    /// [`VaultStateError::NotCommitting`]; [`VaultStateError::OlderHead`].
    pub(crate) fn commit_succeeded(&self, run: RunId, head: &Verified<Head>) -> Result<(), VaultStateError> {
        self.change(Batch::default(), |record| {
            if record.run != (RunState::Committing { run }) {
                return Err(VaultStateError::NotCommitting { run });
            }
            see_head(record, head)?;
            record.run = RunState::Idle { recheck: false };
            record.void.backup = true;
            record.index.origin = IndexOrigin::Catalog;
            Ok(())
        })
    }

    /// A run that was perhaps committed is kept, and is not resumed.
    ///
    /// # Errors
    /// [`VaultStateError::NotCommitting`].
    pub(crate) fn finish_commit(&self, run: RunId) -> Result<(), VaultStateError> {
        self.change(Batch::default(), |record| {
            if record.run != (RunState::Committing { run }) && record.run != (RunState::Keeping { run }) {
                return Err(VaultStateError::NotCommitting { run });
            }
            record.run = RunState::Idle { recheck: false };
            record.void.backup = true;
            Ok(())
        })
    }
}
