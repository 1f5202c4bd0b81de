//! A segment's directory: which extents of which blobs lie where.
//!
//! An entry is 93 bytes, integers little-endian:
//!
//! ```text
//! blob id 32 │ kind 1 │ split id 24 │ part 2 │ parts 2 │ total 4 │ offset 4 │ length 4 │ raw length 4 │ check 16
//! ```
//!
//! `total` is the stored length of the whole blob, `length` that of this part, `offset` counts from
//! the segment's start. Parts combine only within one split id: the nonce of the segment in which
//! the blob begins.

use super::error::SegmentError;
use super::layout::NONCE_LEN;
use crate::blob::{BlobId, BlobKind, MAX_BLOB};

/// Bytes of an entry.
pub const ENTRY_LEN: usize = 93;

/// The nonce of the segment in which a blob begins.
pub type SplitId = [u8; NONCE_LEN];

/// One extent of one blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The blob.
    pub blob: BlobId,
    /// What it holds.
    pub kind: BlobKind,
    /// Which of the blob's splits this part belongs to.
    pub split: SplitId,
    /// Which part this is, from 0.
    pub part: u16,
    /// How many parts there are.
    pub parts: u16,
    /// Stored bytes of the whole blob.
    pub total: u32,
    /// Where the extent begins, from the segment's start.
    pub offset: u32,
    /// Stored bytes of this part.
    pub length: u32,
    /// Bytes of the blob's plaintext.
    pub raw_len: u32,
    /// Keyed BLAKE3 of the stored extent.
    pub check: [u8; 16],
}

impl Entry {
    /// Writes the entry.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.blob.as_bytes());
        out.push(self.kind.number());
        out.extend_from_slice(&self.split);
        out.extend_from_slice(&self.part.to_le_bytes());
        out.extend_from_slice(&self.parts.to_le_bytes());
        for value in [self.total, self.offset, self.length, self.raw_len] {
            out.extend_from_slice(&value.to_le_bytes());
        }
        out.extend_from_slice(&self.check);
    }

    /// Reads an entry and checks that it does not contradict itself.
    ///
    /// # Errors
    /// [`SegmentError::Layout`] for anything that no writer of ours makes.
    pub fn decode(bytes: &[u8; ENTRY_LEN]) -> Result<Self, SegmentError> {
        let mut rest = bytes.as_slice();
        let kind_at = take::<33>(&mut rest)?;
        let mut blob = [0; 32];
        blob.copy_from_slice(&kind_at[..32]);
        let entry = Self {
            blob: BlobId::from_bytes(blob),
            kind: BlobKind::from_number(kind_at[32]).ok_or(SegmentError::Layout)?,
            split: take(&mut rest)?,
            part: u16::from_le_bytes(take(&mut rest)?),
            parts: u16::from_le_bytes(take(&mut rest)?),
            total: u32::from_le_bytes(take(&mut rest)?),
            offset: u32::from_le_bytes(take(&mut rest)?),
            length: u32::from_le_bytes(take(&mut rest)?),
            raw_len: u32::from_le_bytes(take(&mut rest)?),
            check: take(&mut rest)?,
        };
        let sane = entry.part < entry.parts
            && entry.total as usize <= MAX_BLOB
            && entry.raw_len as usize <= MAX_BLOB
            && entry.total <= entry.raw_len
            && entry.length <= entry.total
            && (entry.parts > 1 || entry.length == entry.total)
            && entry.offset as usize >= NONCE_LEN;
        if sane { Ok(entry) } else { Err(SegmentError::Layout) }
    }

    /// Where the extent ends, from the segment's start.
    #[must_use]
    pub fn end(&self) -> u64 {
        u64::from(self.offset) + u64::from(self.length)
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], SegmentError> {
    let (head, tail) = rest.split_first_chunk::<N>().ok_or(SegmentError::Layout)?;
    *rest = tail;
    Ok(*head)
}

/// All entries of a segment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Directory(Vec<Entry>);

impl Directory {
    /// A directory of these entries.
    #[must_use]
    pub fn new(entries: Vec<Entry>) -> Self {
        Self(entries)
    }

    /// The entries, in the order of their extents.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.0
    }

    /// The entries one after the other.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.0.len() * ENTRY_LEN);
        self.0.iter().for_each(|entry| entry.encode(&mut out));
        out
    }

    /// Reads what [`Directory::encode`] wrote, for a segment of `segment_len` bytes.
    ///
    /// # Errors
    /// [`SegmentError::Layout`] if an entry is malformed or lies outside the segment.
    pub fn decode(bytes: &[u8], segment_len: u64) -> Result<Self, SegmentError> {
        let (entries, rest) = bytes.as_chunks::<ENTRY_LEN>();
        if !rest.is_empty() {
            return Err(SegmentError::Layout);
        }
        let entries: Vec<Entry> = entries.iter().map(Entry::decode).collect::<Result<_, _>>()?;
        if entries.iter().any(|entry| entry.end() > segment_len) {
            return Err(SegmentError::Layout);
        }
        Ok(Self(entries))
    }
}
