//! Segments: many blobs, sealed together, cut into shards.
//!
//! ```text
//! offset 0            24                                     length − 4 − d     length − 4   length
//! ┌──────────────────┬────────────────────┬────────────────┬──────────────────┬────────────┐
//! │ nonce (24 bytes) │ extents, in a row  │ zeros          │ sealed directory │ u32le d    │
//! └──────────────────┴────────────────────┴────────────────┴──────────────────┴────────────┘
//!                    └──────────────── AES-256-CTR, IV 0, from offset 24 ──────────────────┘
//! ```
//!
//! The length is `k × shard_len`. Both keys come from the root and the nonce by one HKDF, so no two
//! segments share any; a segment that is sealed again gets a new nonce. The directory is sealed
//! with XChaCha20-Poly1305 (nonce 0, no associated data) before the stream cipher covers it. What
//! authenticates an extent is its check in the directory.

mod buffers;
mod directory;
mod open;
mod pack;
mod parts;
mod seal;

use aes::Aes256;
use ctr::Ctr64BE;
use ctr::cipher::{KeyIvInit, StreamCipher, StreamCipherSeek};
use fincrypt_protocol::domain;

pub use buffers::{Buffer, Buffers};
pub use directory::{Directory, ENTRY_LEN, Entry, SplitId};
pub use open::{BlobOpener, OpenSegment, SegmentCipher};
pub use pack::{RunPacker, Unsealed};
pub use parts::{BlobAssembler, Parts};
pub use seal::{SealedSegment, Sealer};

/// Bytes of a segment's nonce, which stand in front of it.
pub const NONCE_LEN: usize = 24;
/// Bytes of the directory's length, which stand at the end.
const LENGTH_LEN: usize = 4;
/// Bytes that sealing adds to the directory.
const TAG_LEN: usize = 16;

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

/// Encrypts or decrypts `bytes`, which begin `offset` bytes after the segment's start.
fn stream(key: &[u8; 32], offset: usize, bytes: &mut [u8]) -> Result<(), SegmentError> {
    let position = offset.checked_sub(NONCE_LEN).ok_or(SegmentError::Layout)?;
    let mut cipher = Ctr64BE::<Aes256>::new(key.into(), &[0; 16].into());
    cipher.try_seek(position as u64).map_err(|_| SegmentError::Layout)?;
    cipher.try_apply_keystream(bytes).map_err(|_| SegmentError::Layout)
}

/// The key of extent checks.
fn check_key(directory_key: &[u8; 32]) -> zeroize::Zeroizing<[u8; 32]> {
    crate::root::expand(directory_key, domain::EXTENT_CHECK, &[])
}

/// The check of a stored extent: keyed BLAKE3, 16 bytes of it.
fn check(key: &[u8; 32], extent: &[u8]) -> [u8; 16] {
    let mut out = [0; 16];
    out.copy_from_slice(&blake3::keyed_hash(key, extent).as_bytes()[..16]);
    out
}

#[cfg(test)]
mod tests;
