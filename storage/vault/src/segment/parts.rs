//! Putting split blobs together.

use std::collections::HashMap;

use super::directory::{Entry, SplitId};
use super::error::SegmentError;
use super::open::BlobOpener;
use crate::blob::BlobId;
use crate::root::BlobIdKey;

/// Stored bytes of unfinished blobs that may be held at once.
const MAX_PENDING: usize = 32 << 20;

/// The parts of blobs whose other parts are still to come.
#[derive(Default)]
pub struct Parts {
    pending: HashMap<(BlobId, SplitId), Pending>,
    bytes: usize,
}

struct Pending {
    parts: Vec<Option<Vec<u8>>>,
    total: u32,
    raw_len: u32,
}

impl Parts {
    /// Bytes held.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes a checked extent of a split blob; all its stored bytes once the last part is there.
    ///
    /// # Errors
    /// [`SegmentError::Parts`] if parts contradict each other; [`SegmentError::Crowded`] if too much
    /// is held already: what is held of this blob is dropped then.
    pub fn add(&mut self, entry: &Entry, extent: &[u8]) -> Result<Option<Vec<u8>>, SegmentError> {
        let key = (entry.blob, entry.split);
        if self.bytes + extent.len() > MAX_PENDING {
            let dropped = self.pending.remove(&key).map(|pending| pending.parts).unwrap_or_default();
            self.bytes -= dropped.iter().flatten().map(Vec::len).sum::<usize>();
            return Err(SegmentError::Crowded);
        }
        let pending = self.pending.entry(key).or_insert_with(|| Pending {
            parts: vec![None; entry.parts.into()],
            total: entry.total,
            raw_len: entry.raw_len,
        });
        let same = pending.total == entry.total && pending.raw_len == entry.raw_len;
        let slot =
            pending.parts.get_mut(usize::from(entry.part)).filter(|_| same).ok_or(SegmentError::Parts)?;
        if slot.is_none() {
            self.bytes += extent.len();
            *slot = Some(extent.to_vec());
        }
        if pending.parts.iter().any(Option::is_none) {
            return Ok(None);
        }
        let parts = self.pending.remove(&key).map(|pending| pending.parts).unwrap_or_default();
        let stored = parts.into_iter().flatten().collect::<Vec<_>>().concat();
        self.bytes -= stored.len();
        if stored.len() == entry.total as usize { Ok(Some(stored)) } else { Err(SegmentError::Parts) }
    }
}

/// Puts blobs together from their extents, decompresses them and checks them against their ids.
pub struct BlobAssembler {
    opener: BlobOpener,
    parts: Parts,
}

impl BlobAssembler {
    /// An assembler for a vault.
    ///
    /// # Errors
    /// If the decompressor cannot be set up.
    pub fn new(key: BlobIdKey) -> Result<Self, SegmentError> {
        Ok(Self { opener: BlobOpener::new(key)?, parts: Parts::default() })
    }

    /// Stored bytes of blobs whose parts are not all there.
    #[must_use]
    pub fn pending_bytes(&self) -> usize {
        self.parts.bytes()
    }

    /// Takes a checked extent; the blob's plaintext once all its parts are there.
    ///
    /// # Errors
    /// As [`Parts::add`] and [`BlobOpener::open`].
    pub fn add(&mut self, entry: &Entry, extent: &[u8]) -> Result<Option<Vec<u8>>, SegmentError> {
        if entry.parts == 1 {
            return Ok(Some(self.opener.open(entry, extent)?.to_vec()));
        }
        match self.parts.add(entry, extent)? {
            Some(stored) => Ok(Some(self.opener.open(entry, &stored)?.to_vec())),
            None => Ok(None),
        }
    }
}
