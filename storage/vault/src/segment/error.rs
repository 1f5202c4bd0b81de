//! Why a segment cannot be sealed or opened.

/// A segment could not be sealed or opened.
#[derive(Debug, thiserror::Error)]
pub enum SegmentError {
    /// It is too short, or its directory does not fit into it.
    #[error("the segment's layout is damaged")]
    Layout,
    /// The directory was altered, or belongs to another vault.
    #[error("the segment's directory is altered or belongs to another vault")]
    Directory,
    /// An extent was altered.
    #[error("an extent is altered")]
    Extent,
    /// The parts of a blob contradict each other.
    #[error("the parts of a blob do not fit together")]
    Parts,
    /// Too many bytes of unfinished blobs are held already.
    #[error("too many blobs are unfinished")]
    Crowded,
    /// The plaintext is not what the blob's id says.
    #[error("a blob is not what its id says")]
    Blob,
    /// A blob does not decompress.
    #[error(transparent)]
    Compress(#[from] crate::compress::CompressError),
    /// The parity could not be computed.
    #[error(transparent)]
    Erasure(#[from] fincrypt_shards::erasure::ErasureError),
    /// The geometry is not allowed.
    #[error(transparent)]
    Geometry(#[from] fincrypt_protocol::ManifestError),
    /// The system gave no randomness.
    #[error("the system gave no randomness")]
    Randomness,
}
