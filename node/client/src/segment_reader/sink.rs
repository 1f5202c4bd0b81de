//! Where verified blobs go.

use std::ops::ControlFlow;

use fincrypt_protocol::SegmentId;
use fincrypt_shards::erasure::ErasureError;
use fincrypt_state::kv::KvError;
use fincrypt_vault::blob::BlobId;
use fincrypt_vault::segment::{Entry, SegmentError};

/// A segment, or a blob in it, could not be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SegmentReadError {
    /// The index has no manifest of the segment.
    #[error("segment {0} is not in the index")]
    Unknown(SegmentId),
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
    /// The missing data could not be computed from parity.
    #[error(transparent)]
    Rebuild(#[from] ErasureError),
    /// The segment or a blob in it does not decode.
    #[error(transparent)]
    Segment(#[from] SegmentError),
    /// Local state failed.
    #[error(transparent)]
    State(#[from] KvError),
    /// A thread stopped unexpectedly.
    #[error("an inner part stopped unexpectedly")]
    Inner,
}

/// What will not come, and why.
#[derive(Debug)]
pub(crate) struct Failure {
    /// The segment.
    pub(crate) segment: SegmentId,
    /// The wanted blobs that are lost by this; each is named in one failure only. None if all of a
    /// segment was wanted and its directory cannot be read.
    pub(crate) blobs: Vec<BlobId>,
    /// Why.
    pub(crate) error: SegmentReadError,
}

/// Takes what a [`SegmentReader`](super::SegmentReader) reads. Segments may be decoded by several
/// threads, which call at the same time and may be kept waiting. After a call has returned
/// [`ControlFlow::Break`] its thread makes no other, and any other thread at most the one that it has
/// begun.
pub(crate) trait Sink: Send + Sync + 'static {
    /// Takes a blob's plaintext, which is what its id says. `entry` is that of its last part.
    fn blob(&self, entry: &Entry, plain: &[u8]) -> ControlFlow<()>;

    /// Takes what could not be read.
    fn failure(&self, failure: Failure) -> ControlFlow<()>;
}
