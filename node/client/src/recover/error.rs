//! Why the words did not bring a vault back.

use fincrypt_protocol::Network;

/// What was looked for with the words was not found, or could not be changed.
#[derive(Debug, thiserror::Error)]
pub enum RecoveryError {
    /// No trace of the vault.
    #[error("no storage node knows a vault of these words in network {0}")]
    VaultNotFound(Network),
    /// No holder has such a head.
    #[error("no holder that answered has head {0}")]
    NoHead(String),
    /// Several heads go by that name.
    #[error("several heads are {0}")]
    SeveralHeads(String),
    /// Nobody has heard of a rewind.
    #[error("neither a storage node nor the mediator took the rewind, and nothing has changed")]
    NotRewound,
}
