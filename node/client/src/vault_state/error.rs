//! Why a transition of the vault's state was refused.

use std::path::PathBuf;

use fincrypt_protocol::RunId;
use fincrypt_state::kv::KvError;

/// A transition of the vault's durable state failed or is not legal. Nothing has changed then.
#[derive(Debug, thiserror::Error)]
pub enum VaultStateError {
    /// The local database failed.
    #[error(transparent)]
    State(#[from] KvError),
    /// The journal of a run could not be removed. The decision to remove it is durable; the next
    /// transition, or the next start, tries again.
    #[error("cannot remove {path}: {source}")]
    Journal {
        /// The journal.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The outcome of an earlier commit is not settled.
    #[error("the commit of run {run} is not settled yet")]
    Unsettled {
        /// The run whose head was sent.
        run: RunId,
    },
    /// No commit of this run is under way.
    #[error("no commit of run {run} is under way")]
    NotCommitting {
        /// The run.
        run: RunId,
    },
    /// The journal was not checked against what the mediator counts as stored.
    #[error("the journal of the interrupted run was not checked yet")]
    Unchecked,
    /// A head older than the one known.
    #[error("head {found} is older than head {known}, which was seen before")]
    OlderHead {
        /// Sequence of the head refused.
        found: u64,
        /// Sequence of the head known.
        known: u64,
    },
    /// The vault has a head under another account index.
    #[error("the vault already uses account {used}")]
    AccountInUse {
        /// Index of the account in use.
        used: u32,
    },
}
