//! Why a node cannot start, or stops.

use fincrypt_client::ClientError;
use fincrypt_mediator::{MediatorError, MoneyError};

/// A node could not start, or a part of it has failed.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// A part it shares with clients failed.
    #[error(transparent)]
    Common(#[from] ClientError),
    /// The shard store did not open.
    #[error(transparent)]
    Store(#[from] fincrypt_shards::StoreError),
    /// The mediator's money cannot be looked after.
    #[error(transparent)]
    Money(#[from] MoneyError),
    /// The mediator's contracts cannot be read.
    #[error(transparent)]
    Mediator(#[from] MediatorError),
    /// The seed of the Lightning node cannot be had.
    #[cfg(feature = "bitcoin")]
    #[error(transparent)]
    Seed(#[from] fincrypt_treasury::seed_file::SeedError),
    /// No port for the Lightning node.
    #[error("the Lightning node finds no place to listen: {0}; name one in lightning_listen")]
    LightningListen(std::io::Error),
    /// A Lightning node of its own without a chain.
    #[error(
        "payout = \"lightning\" needs a chain: give --bitcoind-url and --bitcoind-cookie, or name a destination"
    )]
    NoChain,
    /// The local interface did not start.
    #[error("the local interface cannot listen on {address}: {source}; choose another --api address, or off")]
    Api {
        /// The address.
        address: std::net::SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The system has no randomness.
    #[error("the system gives no randomness")]
    Randomness(#[source] getrandom::Error),
    /// A part of a running node has ended by itself.
    #[error("{0} has ended unexpectedly; the log says why. Start the node again")]
    Ended(&'static str),
    /// Signals cannot be waited for.
    #[error("cannot wait for signals: {0}")]
    Signals(std::io::Error),
}

macro_rules! through_common {
    ($($error:ty),*) => {$(
        impl From<$error> for NodeError {
            fn from(error: $error) -> Self {
                Self::Common(error.into())
            }
        }
    )*};
}
through_common!(
    fincrypt_client::HomeError,
    fincrypt_net::EngineError,
    fincrypt_net::IdentityError,
    fincrypt_state::kv::KvError
);
