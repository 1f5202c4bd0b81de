//! Opening segments and blobs.

use chacha20poly1305::XChaCha20Poly1305;
use chacha20poly1305::aead::{AeadInOut, KeyInit};
use zeroize::Zeroizing;

use super::crypto::{check, check_key, stream};
use super::directory::{Directory, Entry, SplitId};
use super::error::SegmentError;
use super::layout::{LENGTH_LEN, NONCE_LEN, TAG_LEN};
use crate::compress::Unpacker;
use crate::root::{BlobIdKey, Root, SegmentKeys};

/// The ciphers of one segment.
pub struct SegmentCipher {
    keys: SegmentKeys,
    checks: Zeroizing<[u8; 32]>,
}

impl SegmentCipher {
    /// The ciphers of the segment that begins with `nonce`.
    #[must_use]
    pub fn new(root: &Root, nonce: &SplitId) -> Self {
        let keys = root.segment_keys(nonce);
        let checks = check_key(&keys.directory);
        Self { keys, checks }
    }

    /// A copy of an extent of the segment `ciphertext`, decrypted and checked.
    ///
    /// # Errors
    /// [`SegmentError::Extent`] if it was altered.
    pub fn extent(&self, ciphertext: &[u8], entry: &Entry) -> Result<Vec<u8>, SegmentError> {
        let range = entry.offset as usize..entry.end() as usize;
        let mut extent = ciphertext.get(range).ok_or(SegmentError::Layout)?.to_vec();
        self.open_extent(entry, &mut extent)?;
        Ok(extent)
    }

    /// The directory of a segment of `length` bytes, of which `end` is the end; `None` if the directory
    /// begins before that.
    ///
    /// # Errors
    /// If the segment belongs to another vault or its end was altered.
    pub fn directory(&self, length: usize, end: &[u8]) -> Result<Option<Directory>, SegmentError> {
        let before = length.checked_sub(end.len()).ok_or(SegmentError::Layout)?;
        let stop = length.checked_sub(LENGTH_LEN).filter(|stop| *stop > NONCE_LEN);
        let stop = stop.ok_or(SegmentError::Layout)?;
        let mut stated = *end.last_chunk::<LENGTH_LEN>().ok_or(SegmentError::Layout)?;
        stream(&self.keys.content, stop, &mut stated)?;
        let stated = u32::from_le_bytes(stated) as usize;
        let start = stop.checked_sub(stated).filter(|start| *start >= NONCE_LEN && stated >= TAG_LEN);
        // Under a wrong key the length is random: no layout means a foreign segment.
        let start = start.ok_or(SegmentError::Directory)?;
        let Some(from) = start.checked_sub(before) else { return Ok(None) };
        let mut sealed = end.get(from..stop - before).ok_or(SegmentError::Layout)?.to_vec();
        stream(&self.keys.content, start, &mut sealed)?;
        XChaCha20Poly1305::new(&self.keys.directory.into())
            .decrypt_in_place(&[0; 24].into(), &[], &mut sealed)
            .map_err(|_| SegmentError::Directory)?;
        Directory::decode(&sealed, length as u64).map(Some)
    }

    /// Decrypts an extent in place and checks it.
    ///
    /// # Errors
    /// [`SegmentError::Extent`] if it was altered; its bytes must not be used then.
    pub fn open_extent(&self, entry: &Entry, extent: &mut [u8]) -> Result<(), SegmentError> {
        stream(&self.keys.content, entry.offset as usize, extent)?;
        let good = extent.len() == entry.length as usize && check(&self.checks, extent) == entry.check;
        if good { Ok(()) } else { Err(SegmentError::Extent) }
    }
}

/// A segment's ciphertext with its directory open.
pub struct OpenSegment {
    ciphertext: Vec<u8>,
    cipher: SegmentCipher,
    directory: Directory,
}

impl OpenSegment {
    /// Opens the directory of a segment.
    ///
    /// # Errors
    /// If the segment belongs to another vault or its end was altered.
    pub fn open(root: &Root, ciphertext: Vec<u8>) -> Result<Self, SegmentError> {
        let nonce: SplitId = *ciphertext.first_chunk().ok_or(SegmentError::Layout)?;
        let cipher = SegmentCipher::new(root, &nonce);
        let directory = cipher.directory(ciphertext.len(), &ciphertext)?.ok_or(SegmentError::Directory)?;
        Ok(Self { ciphertext, cipher, directory })
    }

    /// What the segment holds.
    #[must_use]
    pub fn directory(&self) -> &Directory {
        &self.directory
    }

    /// An extent's stored bytes, decrypted and checked.
    ///
    /// # Errors
    /// [`SegmentError::Extent`] if it was altered.
    pub fn extent(&self, entry: &Entry) -> Result<Vec<u8>, SegmentError> {
        self.cipher.extent(&self.ciphertext, entry)
    }
}

/// Turns blobs' stored bytes into plaintexts and checks them against their ids.
pub struct BlobOpener {
    key: BlobIdKey,
    unpacker: Unpacker,
}

impl BlobOpener {
    /// An opener for a vault.
    ///
    /// # Errors
    /// If the decompressor cannot be set up.
    pub fn new(key: BlobIdKey) -> Result<Self, SegmentError> {
        Ok(Self { key, unpacker: Unpacker::new()? })
    }

    /// The plaintext of the blob that `entry` is a part of, from all its stored bytes.
    ///
    /// # Errors
    /// If it does not decompress, or is not what its id says.
    pub fn open<'a>(&'a mut self, entry: &Entry, stored: &'a [u8]) -> Result<&'a [u8], SegmentError> {
        let plain = self.unpacker.unpack(stored, entry.raw_len)?;
        if self.key.id(plain) == entry.blob { Ok(plain) } else { Err(SegmentError::Blob) }
    }
}
