//! Errors of the stores, and work that waits for a disk or computes.

use fincrypt_accounts::AccountsError;
use fincrypt_state::kv::KvError;

/// Work on a thread of its own did not end: it panicked, or this process stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the work was interrupted")]
pub(crate) struct Interrupted;

/// The system has no randomness.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the system gave no random bytes")]
pub(crate) struct NoRandomness;

/// Why a store was not read or written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    /// The tables.
    #[error("the mediator's state: {0}")]
    State(#[from] KvError),
    /// Accounts, which both servers keep.
    #[error("accounts: {0}")]
    Accounts(#[from] AccountsError),
    /// The work did not end.
    #[error(transparent)]
    Interrupted(#[from] Interrupted),
}

/// Does work that waits for a disk or computes, away from the network's threads.
///
/// # Errors
/// What `work` returns, or [`Interrupted`].
pub(crate) async fn blocking<T, E>(work: impl FnOnce() -> Result<T, E> + Send + 'static) -> Result<T, E>
where
    T: Send + 'static,
    E: From<Interrupted> + Send + 'static,
{
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|_| Err(Interrupted.into()))
}
