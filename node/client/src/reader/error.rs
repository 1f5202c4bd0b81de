//! Why something stored cannot be read.

use std::error::Error;

use fincrypt_protocol::SegmentId;
use fincrypt_state::kv::KvError;

use crate::segment_reader::SegmentReadError;

/// What is stored cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Shards are missing.
    #[error("segment {segment} cannot be fetched: {found} of {needed} shards could be had")]
    Unavailable {
        /// The segment.
        segment: SegmentId,
        /// Good shards.
        found: usize,
        /// Shards needed.
        needed: u8,
    },
    /// Stored data does not decode.
    #[error("stored data is damaged: {0}")]
    Damaged(#[source] Box<dyn Error + Send + Sync>),
    /// There is no snapshot at all.
    #[error("the vault has no snapshots yet")]
    NoSnapshots,
    /// No such snapshot.
    #[error("no snapshot {0:?}")]
    NoSnapshot(String),
    /// One of the snapshots cannot be read, so the latest is not known.
    #[error(
        "snapshot {lost} cannot be read ({reason}) and may be the latest; the newest that can be read is {newest}"
    )]
    LatestUnknown {
        /// The one that cannot be read.
        lost: String,
        /// Why.
        reason: String,
        /// The newest one that can.
        newest: String,
    },
    /// No such path in the snapshot.
    #[error("no {0:?} in this snapshot")]
    NoPath(String),
    /// Local state failed.
    #[error(transparent)]
    State(#[from] KvError),
    /// A thread stopped.
    #[error("an inner part stopped unexpectedly")]
    Inner,
}

impl ReadError {
    /// Stored data does not decode, for this reason.
    pub(crate) fn damaged(why: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Damaged(why.into())
    }

    /// Nobody who answers knows a segment.
    pub(crate) fn unknown(segment: SegmentId) -> Self {
        Self::Unavailable { segment, found: 0, needed: 1 }
    }
}

impl From<SegmentReadError> for ReadError {
    fn from(error: SegmentReadError) -> Self {
        use SegmentReadError as E;
        match error {
            E::Unavailable { segment, found, needed } => Self::Unavailable { segment, found, needed },
            E::State(error) => Self::State(error),
            E::Inner => Self::Inner,
            E::Unknown(_) | E::Rebuild(_) | E::Segment(_) => Self::damaged(error),
        }
    }
}
