//! Why a client is not in the swarm.

use fincrypt_net::{ConnectError, EngineError, IdentityError};

/// The swarm could not be joined.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// No first contact is configured.
    #[error("no bootstrap address")]
    NoBootstrap,
    /// No first contact answers.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The network could not be set up.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The identity could not be made.
    #[error(transparent)]
    Identity(#[from] IdentityError),
}
