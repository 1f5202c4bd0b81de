//! How a pipeline ends: with what it counted, or with an error.

use fincrypt_state::journal::JournalError;
use fincrypt_state::kv::KvError;
use fincrypt_vault::compress::CompressError;
use fincrypt_vault::segment::SegmentError;

/// The pipeline stopped.
#[derive(Debug, thiserror::Error)]
pub enum PipelineError {
    /// The next stage has gone, with an error of its own.
    #[error("the upload has ended")]
    SinkClosed,
    /// A segment could not be sealed.
    #[error(transparent)]
    Segment(#[from] SegmentError),
    /// A blob could not be compressed.
    #[error(transparent)]
    Compress(#[from] CompressError),
    /// Local state failed.
    #[error(transparent)]
    State(#[from] KvError),
    /// The run's journal could not be read.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// A folder or file could not be described.
    #[error("{0}")]
    Tree(String),
}

/// Something that was left out.
#[derive(Debug)]
pub struct LeftOut {
    /// Its path.
    pub path: String,
    /// Why.
    pub reason: String,
    /// Whether it should have been stored.
    pub missing: bool,
}

/// What was counted.
#[derive(Debug, Default)]
pub struct Counts {
    /// Files in the snapshot.
    pub files: u64,
    /// Bytes of these files.
    pub bytes_in: u64,
    /// Bytes that were not known before.
    pub bytes_new: u64,
    /// The same after compression.
    pub bytes_packed: u64,
    /// What was left out.
    pub left_out: Vec<LeftOut>,
}
