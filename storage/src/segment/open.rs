//! Opening segments and putting blobs together again.

use std::collections::HashMap;

use chacha20poly1305::XChaCha20Poly1305;
use chacha20poly1305::aead::{AeadInOut, KeyInit};
use zeroize::Zeroizing;

use super::directory::{Directory, Entry, SplitId};
use super::{LENGTH_LEN, NONCE_LEN, SegmentError, TAG_LEN, check, check_key, stream};
use crate::blob::BlobId;
use crate::compress::decompress;
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
        let end = ciphertext
            .len()
            .checked_sub(LENGTH_LEN)
            .filter(|end| *end > NONCE_LEN)
            .ok_or(SegmentError::Layout)?;
        let mut length = *ciphertext.last_chunk::<LENGTH_LEN>().ok_or(SegmentError::Layout)?;
        stream(&cipher.keys.content, end, &mut length)?;
        let length = u32::from_le_bytes(length) as usize;
        let start = end.checked_sub(length).filter(|start| *start >= NONCE_LEN && length >= TAG_LEN);
        // Under a wrong key the length is random: no layout means a foreign segment.
        let start = start.ok_or(SegmentError::Directory)?;
        let mut sealed = ciphertext[start..end].to_vec();
        stream(&cipher.keys.content, start, &mut sealed)?;
        XChaCha20Poly1305::new(&cipher.keys.directory.into())
            .decrypt_in_place(&[0; 24].into(), &[], &mut sealed)
            .map_err(|_| SegmentError::Directory)?;
        let directory = Directory::decode(&sealed, ciphertext.len() as u64)?;
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
        let range = entry.offset as usize..entry.end() as usize;
        let mut extent = self.ciphertext.get(range).ok_or(SegmentError::Layout)?.to_vec();
        self.cipher.open_extent(entry, &mut extent)?;
        Ok(extent)
    }
}

/// Stored bytes of unfinished blobs that may be held: two segments' worth of split blobs.
const MAX_PENDING: usize = 64 << 20;

/// Puts blobs together from their extents, decompresses them and checks them against their ids.
pub struct BlobAssembler {
    key: BlobIdKey,
    pending: HashMap<(BlobId, SplitId), Pending>,
    pending_bytes: usize,
}

struct Pending {
    parts: Vec<Option<Vec<u8>>>,
    total: u32,
    raw_len: u32,
}

impl BlobAssembler {
    /// An assembler for a vault.
    #[must_use]
    pub fn new(key: BlobIdKey) -> Self {
        Self { key, pending: HashMap::new(), pending_bytes: 0 }
    }

    /// Stored bytes of blobs whose parts are not all there.
    #[must_use]
    pub fn pending_bytes(&self) -> usize {
        self.pending_bytes
    }

    /// Takes a checked extent; the blob's plaintext once all its parts are there.
    ///
    /// # Errors
    /// If parts contradict each other, too much is pending, or the plaintext is not what the id says.
    pub fn add(&mut self, entry: &Entry, extent: Vec<u8>) -> Result<Option<Vec<u8>>, SegmentError> {
        if entry.parts == 1 {
            return self.finish(entry, extent).map(Some);
        }
        let key = (entry.blob, entry.split);
        let pending = self.pending.entry(key).or_insert_with(|| Pending {
            parts: vec![None; entry.parts.into()],
            total: entry.total,
            raw_len: entry.raw_len,
        });
        let same = pending.total == entry.total && pending.raw_len == entry.raw_len;
        let slot =
            pending.parts.get_mut(usize::from(entry.part)).filter(|_| same).ok_or(SegmentError::Parts)?;
        if slot.is_none() {
            if self.pending_bytes + extent.len() > MAX_PENDING {
                return Err(SegmentError::Parts);
            }
            self.pending_bytes += extent.len();
            *slot = Some(extent);
        }
        if pending.parts.iter().any(Option::is_none) {
            return Ok(None);
        }
        let parts = self.pending.remove(&key).map(|pending| pending.parts).unwrap_or_default();
        let stored = parts.into_iter().flatten().collect::<Vec<_>>().concat();
        self.pending_bytes -= stored.len();
        if stored.len() != entry.total as usize {
            return Err(SegmentError::Parts);
        }
        self.finish(entry, stored).map(Some)
    }

    fn finish(&self, entry: &Entry, stored: Vec<u8>) -> Result<Vec<u8>, SegmentError> {
        let plain = decompress(stored, entry.raw_len)?;
        if self.key.id(&plain) == entry.blob { Ok(plain) } else { Err(SegmentError::Blob) }
    }
}
