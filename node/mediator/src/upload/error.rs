//! Why a segment is not taken in.

use fincrypt_accounts::AccountsError;
use fincrypt_shards::erasure::ErasureError;

use crate::error::{Interrupted, StoreError};
use crate::prepayment::AdmitError;
use crate::shard_transfer::{FetchError, PutError};
use crate::stores::AnnounceError;

/// Why a segment or a shard of it is not taken in.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UploadError {
    /// The announcement or the shard is none of its kind.
    #[error("the announcement or shard does not hold")]
    Invalid,
    /// The mandate does not hold, or allows no uploads here.
    #[error("the mandate allows no uploads")]
    NotMandated,
    /// The segment is known with other contents.
    #[error("the segment is known with other contents")]
    Conflict,
    /// The segment is not open, nor stored.
    #[error("the segment is not known")]
    UnknownSegment,
    /// The segment was closed while it was opened.
    #[error("the segment was closed meanwhile")]
    Closed,
    /// Its client has as many segments open as it may, or there is no memory for more.
    #[error("too many segments are open")]
    TooManyOpen,
    /// Too few storage nodes can take shards of it.
    #[error("{eligible} storage nodes can take shards, of {needed} that are needed")]
    TooFewPeers {
        /// Storage nodes that can.
        eligible: usize,
        /// Storage nodes that are needed.
        needed: usize,
    },
    /// Not all of its data has come.
    #[error("data shards are missing")]
    Incomplete,
    /// Too few storage nodes have signed for a shard.
    #[error("{have} storage nodes have signed, of {need} that must")]
    TooFewReceipts {
        /// Storage nodes that have signed.
        have: usize,
        /// Storage nodes that must.
        need: usize,
    },
    /// Its storage cannot be paid for.
    #[error(transparent)]
    Admit(#[from] AdmitError),
    /// There is no room for its record.
    #[error(transparent)]
    Announce(#[from] AnnounceError),
    /// A shard was not put on a storage node, and would not be on another.
    #[error(transparent)]
    Put(#[from] PutError),
    /// A data shard that the parity needs was not fetched.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// The erasure code.
    #[error(transparent)]
    Erasure(#[from] ErasureError),
    /// A store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<AccountsError> for UploadError {
    fn from(error: AccountsError) -> Self {
        Self::Store(error.into())
    }
}

impl From<Interrupted> for UploadError {
    fn from(error: Interrupted) -> Self {
        Self::Store(error.into())
    }
}
