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
mod crypto;
mod directory;
mod error;
mod layout;
mod open;
mod pack;
mod parts;
mod seal;

pub use buffers::{Buffer, Buffers};
pub use directory::{Directory, ENTRY_LEN, Entry, SplitId};
pub use error::SegmentError;
pub use layout::NONCE_LEN;
pub use open::{BlobOpener, OpenSegment, SegmentCipher};
pub use pack::{RunPacker, Unsealed};
pub use parts::{BlobAssembler, Parts};
pub use seal::{SealedSegment, Sealer};

#[cfg(test)]
mod tests;
