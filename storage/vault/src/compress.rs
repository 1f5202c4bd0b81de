//! zstd (RFC 8878) where it helps, with contexts that are made once.

use std::io::Cursor;

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
    /// What [`BlobMaker::make`] compressed last.
    packed: Vec<u8>,
}

impl BlobMaker {
    /// A maker for a vault.
    ///
    /// # Errors
    /// If the compressor cannot be set up.
    pub fn new(root: &Root) -> Result<Self, CompressError> {
        let zstd = zstd::bulk::Compressor::new(LEVEL).map_err(CompressError::Library)?;
        Ok(Self { key: root.blob_id_key(), zstd, packed: Vec::new() })
    }

    /// The id of a plaintext, so that a known one need not be compressed.
    #[must_use]
    pub fn id(&self, plaintext: &[u8]) -> BlobId {
        self.key.id(plaintext)
    }

    /// Appends the compressed plaintext to `packed` if that helps; whether it did.
    ///
    /// # Errors
    /// If it is longer than a blob may be, or the compressor fails.
    pub fn pack(&mut self, plaintext: &[u8], packed: &mut Vec<u8>) -> Result<bool, CompressError> {
        if plaintext.len() > MAX_BLOB {
            return Err(CompressError::TooLong(plaintext.len()));
        }
        let start = packed.len();
        packed.reserve(zstd::zstd_safe::compress_bound(plaintext.len()));
        let mut out = Cursor::new(std::mem::take(packed));
        out.set_position(start as u64);
        let written = self.zstd.compress_to_buffer(plaintext, &mut out);
        *packed = out.into_inner();
        let written = written.map_err(CompressError::Library)?;
        let helps = written + written / WORTH < plaintext.len();
        packed.truncate(if helps { start + written } else { start });
        Ok(helps)
    }

    /// Makes a blob of a plaintext whose id is known already.
    ///
    /// # Errors
    /// As [`BlobMaker::pack`].
    pub fn make<'a>(
        &'a mut self,
        id: BlobId,
        kind: BlobKind,
        plaintext: &'a [u8],
    ) -> Result<Blob<'a>, CompressError> {
        let mut packed = std::mem::take(&mut self.packed);
        packed.clear();
        let helps = self.pack(plaintext, &mut packed);
        self.packed = packed;
        let stored = if helps? { self.packed.as_slice() } else { plaintext };
        // At most 4 MiB, or it would not have been packed.
        Ok(Blob { id, kind, raw_len: plaintext.len() as u32, stored })
    }
}

/// Turns stored bytes back into plaintexts, with a context and a buffer that are kept.
pub struct Unpacker {
    zstd: zstd::bulk::Decompressor<'static>,
    plain: Vec<u8>,
}

impl Unpacker {
    /// An unpacker that has not worked yet.
    ///
    /// # Errors
    /// If the decompressor cannot be set up.
    pub fn new() -> Result<Self, CompressError> {
        let zstd = zstd::bulk::Decompressor::new().map_err(CompressError::Library)?;
        Ok(Self { zstd, plain: Vec::new() })
    }

    /// The plaintext of a blob's stored bytes; never more than [`MAX_BLOB`] bytes.
    ///
    /// # Errors
    /// If the bytes do not decompress to exactly `raw_len`.
    pub fn unpack<'a>(&'a mut self, stored: &'a [u8], raw_len: u32) -> Result<&'a [u8], CompressError> {
        let expected = raw_len as usize;
        if expected > MAX_BLOB {
            return Err(CompressError::TooLong(expected));
        }
        if stored.len() == expected {
            return Ok(stored);
        }
        self.plain.clear();
        // What is reserved bounds what the library writes.
        if self.plain.capacity() < expected {
            self.plain.reserve_exact(expected);
        }
        let written =
            self.zstd.decompress_to_buffer(stored, &mut self.plain).map_err(CompressError::Library)?;
        if written == expected {
            Ok(&self.plain)
        } else {
            Err(CompressError::Length { expected: raw_len, found: written })
        }
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
            let id = maker.id(&plain);
            let blob = maker.make(id, BlobKind::Data, &plain)?;
            prop_assert!(blob.stored.len() <= plain.len());
            let mut unpacker = Unpacker::new()?;
            prop_assert_eq!(unpacker.unpack(blob.stored, blob.raw_len)?, &plain[..]);
        }

        #[test]
        fn any_bytes_are_decompressed_or_refused(stored: Vec<u8>, raw_len in 0u32..10_000) {
            if let Ok(plain) = Unpacker::new()?.unpack(&stored, raw_len) {
                prop_assert_eq!(plain.len(), raw_len as usize);
            }
        }
    }

    #[test]
    fn an_output_beyond_the_stated_length_is_refused() {
        let bomb = zstd::bulk::compress(&vec![0; 8 << 20], 3).expect("compresses");
        let mut unpacker = Unpacker::new().expect("an unpacker");
        assert!(unpacker.unpack(&bomb, 1 << 20).is_err());
        assert!(unpacker.unpack(&bomb, 8 << 20).is_err(), "beyond what a blob may be");
    }

    #[test]
    fn packed_blobs_stand_one_after_the_other() {
        let (mut maker, mut packed) = (maker(), Vec::new());
        assert!(maker.pack(&[1; 5000], &mut packed).expect("packs"));
        let first = packed.len();
        assert!(!maker.pack(b"short", &mut packed).expect("packs"));
        assert_eq!(packed.len(), first);
        assert!(maker.pack(&[2; 9000], &mut packed).expect("packs"));
        let mut unpacker = Unpacker::new().expect("an unpacker");
        assert_eq!(unpacker.unpack(&packed[..first], 5000).expect("unpacks"), [1; 5000]);
        assert_eq!(unpacker.unpack(&packed[first..], 9000).expect("unpacks"), [2; 9000]);
    }
}
