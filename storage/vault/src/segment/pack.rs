//! Packing blobs into segments. Sans-IO but for the nonces.
//!
//! File data and trees go to separate segments; a run that does not fill one packs everything
//! together. A blob that does not fit continues in the next segment. Only what a catalog is made of
//! never does: its segments are read, merged and lost one by one.

use fincrypt_protocol::limits::FULL_SHARD_LEN;
use fincrypt_protocol::{Code, Redundancy, ShardLen};

use super::buffers::{Buffer, Buffers};
use super::directory::{ENTRY_LEN, Entry, SplitId};
use super::error::SegmentError;
use super::layout::{LENGTH_LEN, NONCE_LEN, TAG_LEN};
use crate::blob::{Blob, BlobKind};

/// A rest of a segment smaller than this is left empty rather than given to a blob's first part.
const MIN_PART: usize = 16 << 10;
/// What a segment needs besides extents and entries.
const FRAME: usize = NONCE_LEN + TAG_LEN + LENGTH_LEN;

/// A packed segment before it is sealed. The entries' checks are still empty.
#[derive(Debug)]
pub struct Unsealed {
    pub(super) nonce: SplitId,
    /// The nonce and the extents.
    pub(super) buffer: Buffer,
    pub(super) entries: Vec<Entry>,
    /// The segment's code.
    pub code: Code,
    /// The length of its shards.
    pub shard_len: ShardLen,
}

/// An open segment.
struct Bin {
    nonce: SplitId,
    buffer: Buffer,
    entries: Vec<Entry>,
}

impl Bin {
    fn new(buffers: &Buffers) -> Result<Self, SegmentError> {
        let mut nonce = [0; NONCE_LEN];
        getrandom::fill(&mut nonce).map_err(|_| SegmentError::Randomness)?;
        let mut buffer = buffers.take();
        buffer.bytes.extend_from_slice(&nonce);
        Ok(Self { nonce, buffer, entries: Vec::new() })
    }

    fn used(&self) -> usize {
        self.buffer.bytes.len() - NONCE_LEN + FRAME + self.entries.len() * ENTRY_LEN
    }

    /// Stored bytes that still fit, with one more entry.
    fn room(&self, capacity: usize) -> usize {
        capacity.saturating_sub(self.used() + ENTRY_LEN)
    }

    fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Takes over another's blobs, none of which is split.
    fn absorb(&mut self, other: &Self) {
        let shift = self.buffer.bytes.len() - NONCE_LEN;
        self.buffer.bytes.extend_from_slice(&other.buffer.bytes[NONCE_LEN..]);
        // Both bins together are below a segment's length, so the offsets fit.
        let moved = other.entries.iter().map(|entry| Entry {
            offset: entry.offset + shift as u32,
            split: self.nonce,
            ..entry.clone()
        });
        self.entries.extend(moved);
    }
}

/// Packs the blobs of one run.
pub struct RunPacker {
    code: Code,
    redundancy: Redundancy,
    buffers: Buffers,
    data: Option<Bin>,
    trees: Option<Bin>,
    filled_any: bool,
}

impl RunPacker {
    /// A packer for full segments of `code`, which holds at most two of `count` buffers itself.
    #[must_use]
    pub fn new(code: Code, redundancy: Redundancy, count: usize) -> Self {
        let capacity = usize::from(code.data()) * FULL_SHARD_LEN as usize;
        let buffers = Buffers::new(count, capacity);
        Self { code, redundancy, buffers, data: None, trees: None, filled_any: false }
    }

    /// Packs a blob and calls `full` with every segment that is full.
    ///
    /// # Errors
    /// If the system gives no randomness, or what `full` returns.
    pub fn push<E: From<SegmentError>>(
        &mut self,
        blob: &Blob<'_>,
        mut full: impl FnMut(Unsealed) -> Result<(), E>,
    ) -> Result<(), E> {
        let capacity = self.buffers.capacity();
        let is_data = matches!(blob.kind, BlobKind::Data | BlobKind::List);
        let slot = if is_data { &mut self.data } else { &mut self.trees };
        let mut bin = match slot.take() {
            Some(bin) => bin,
            None => Bin::new(&self.buffers)?,
        };
        let least = if blob.kind.is_catalog() { blob.stored.len() } else { MIN_PART };
        if bin.room(capacity) < blob.stored.len().min(least) && !bin.is_empty() {
            full(self.close(bin))?;
            self.filled_any = true;
            bin = Bin::new(&self.buffers)?;
        }
        let split = bin.nonce;
        let first = bin.room(capacity).min(blob.stored.len());
        let later = capacity - FRAME - ENTRY_LEN;
        let parts = 1 + (blob.stored.len() - first).div_ceil(later);
        let mut rest = blob.stored;
        for part in 0..parts {
            if part > 0 {
                full(self.close(bin))?;
                self.filled_any = true;
                bin = Bin::new(&self.buffers)?;
            }
            let (extent, tail) = rest.split_at(bin.room(capacity).min(rest.len()));
            rest = tail;
            // A blob is at most 4 MiB and a segment at most 29, so all of these fit.
            bin.entries.push(Entry {
                blob: blob.id,
                kind: blob.kind,
                split,
                part: part as u16,
                parts: parts as u16,
                total: blob.stored.len() as u32,
                offset: bin.buffer.bytes.len() as u32,
                length: extent.len() as u32,
                raw_len: blob.raw_len,
                check: [0; 16],
            });
            bin.buffer.bytes.extend_from_slice(extent);
        }
        let slot = if is_data { &mut self.data } else { &mut self.trees };
        *slot = Some(bin);
        Ok(())
    }

    /// The last segments, each as short as it may be; a small run is one segment.
    pub fn finish(&mut self) -> Vec<Unsealed> {
        let capacity = self.buffers.capacity();
        let bins = match (self.data.take(), self.trees.take()) {
            (Some(mut data), Some(trees))
                if !self.filled_any && data.used() + trees.used() - FRAME <= capacity =>
            {
                data.absorb(&trees);
                vec![data]
            }
            (data, trees) => data.into_iter().chain(trees).collect(),
        };
        self.filled_any = false;
        bins.into_iter().filter(|bin| !bin.is_empty()).map(|bin| self.close(bin)).collect()
    }

    fn close(&self, bin: Bin) -> Unsealed {
        let (code, shard_len) = self.code.for_small_run(bin.used() as u64, self.redundancy);
        Unsealed { nonce: bin.nonce, buffer: bin.buffer, entries: bin.entries, code, shard_len }
    }
}
