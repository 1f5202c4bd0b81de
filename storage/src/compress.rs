//! zstd (RFC 8878) where it helps, with contexts that are made once.

use crate::blob::{Blob, BlobId, BlobKind, MAX_BLOB};
use crate::root::{BlobIdKey, Root};

/// Compression level: on text 467 MB/s a core at this level, and a third smaller than at −3.
const LEVEL: i32 = 3;
/// Compression must save one part in so many to be worth a decompression at restore.
const WORTH: usize = 32;

/// A blob could not be compressed or decompressed.
#[derive(Debug, thiserror::Error)]
pub enum CompressError {
    /// More plaintext than a blob holds.
    #[error("{0} bytes are more than a blob holds")]
    TooLong(usize),
    /// The library refused.
    #[error("compression failed")]
    Library(#[source] std::io::Error),
    /// The result has not the length it must have.
    #[error("a blob decompresses to {found} bytes instead of {expected}")]
    Length {
        /// Bytes that the blob says it has.
        expected: u32,
        /// Bytes that came.
        found: usize,
    },
}

/// Turns plaintexts into blobs.
pub struct BlobMaker {
    key: BlobIdKey,
    zstd: zstd::bulk::Compressor<'static>,
}

impl BlobMaker {
    /// A maker for a vault.
    ///
    /// # Errors
    /// If the compressor cannot be set up.
    pub fn new(root: &Root) -> Result<Self, CompressError> {
        let zstd = zstd::bulk::Compressor::new(LEVEL).map_err(CompressError::Library)?;
        Ok(Self { key: root.blob_id_key(), zstd })
    }

    /// The id of a plaintext, so that a known one need not be compressed.
    #[must_use]
    pub fn id(&self, plaintext: &[u8]) -> BlobId {
        self.key.id(plaintext)
    }

    /// Makes a blob of a plaintext whose id is known already.
    ///
    /// # Errors
    /// If it is longer than a blob may be, or the compressor fails.
    pub fn make(&mut self, id: BlobId, kind: BlobKind, plaintext: &[u8]) -> Result<Blob, CompressError> {
        if plaintext.len() > MAX_BLOB {
            return Err(CompressError::TooLong(plaintext.len()));
        }
        let raw_len = u32::try_from(plaintext.len()).map_err(|_| CompressError::TooLong(plaintext.len()))?;
        let compressed = self.zstd.compress(plaintext).map_err(CompressError::Library)?;
        let helps = compressed.len() + compressed.len() / WORTH < plaintext.len();
        let stored = if helps { compressed } else { plaintext.to_vec() };
        Ok(Blob { id, kind, raw_len, stored })
    }
}

/// Turns a blob's stored bytes back into its plaintext; never more than [`MAX_BLOB`] bytes.
///
/// # Errors
/// If the bytes do not decompress to exactly `raw_len`.
pub fn decompress(stored: Vec<u8>, raw_len: u32) -> Result<Vec<u8>, CompressError> {
    let expected = raw_len as usize;
    if expected > MAX_BLOB {
        return Err(CompressError::TooLong(expected));
    }
    if stored.len() == expected {
        return Ok(stored);
    }
    let plain = zstd::bulk::decompress(&stored, expected).map_err(CompressError::Library)?;
    if plain.len() == expected {
        Ok(plain)
    } else {
        Err(CompressError::Length { expected: raw_len, found: plain.len() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use zeroize::Zeroizing;

    fn maker() -> BlobMaker {
        BlobMaker::new(&Root::from_bytes(&Zeroizing::new([1; 32]))).expect("a maker")
    }

    proptest! {
        #[test]
        fn blobs_round_trip(seed in proptest::collection::vec(any::<u8>(), 0..200), repeat in 1usize..500) {
            let plain = seed.repeat(repeat);
            let mut maker = maker();
            let blob = maker.make(maker.id(&plain), BlobKind::Data, &plain)?;
            prop_assert!(blob.stored.len() <= plain.len());
            prop_assert_eq!(decompress(blob.stored, blob.raw_len)?, plain);
        }

        #[test]
        fn any_bytes_are_decompressed_or_refused(stored: Vec<u8>, raw_len in 0u32..10_000) {
            if let Ok(plain) = decompress(stored, raw_len) {
                prop_assert_eq!(plain.len(), raw_len as usize);
            }
        }
    }

    #[test]
    fn an_output_beyond_the_stated_length_is_refused() {
        let bomb = zstd::bulk::compress(&vec![0; 8 << 20], 3).expect("compresses");
        assert!(decompress(bomb.clone(), 1 << 20).is_err());
        assert!(decompress(bomb, 8 << 20).is_err(), "beyond what a blob may be");
    }
}
