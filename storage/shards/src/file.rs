//! A shard's file.
//!
//! ```text
//! data │ chaining values of its 16 KiB groups, 32 each │ meta (CBOR) │ footer 36
//! footer: data length u32le │ groups length u32le │ meta length u32le │ checksum 16 │ magic 8
//! ```
//!
//! The checksum is BLAKE3 over groups, meta and lengths. The data has its own: the shard's id.

use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use blake3::hazmat::ChainingValue;
use bytes::Bytes;
use fincrypt_protocol::record::Mandate;
use fincrypt_protocol::{
    AccountId, Manifest, RunId, ShardId, ShardIndex, ShardLen, Signed, Tag, UnixTime, cbor,
};
use serde::{Deserialize, Serialize};

use crate::proof::{GROUP, LEAF, shard_tree};

const MAGIC: &[u8; 8] = b"FINSHD\x00\x01";
const FOOTER: usize = 36;
/// The most bytes of a meta: a manifest, a mandate and a little.
const MAX_META: usize = 4 << 10;

/// The bytes are not the expected shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the bytes are not the expected shard")]
pub struct WrongShard;

/// A shard whose bytes were compared with its id. There is no other way into the store.
#[derive(Debug, Clone)]
pub struct CheckedShard {
    bytes: Bytes,
    id: ShardId,
    groups: Vec<ChainingValue>,
}

impl CheckedShard {
    /// Hashes the bytes, once.
    ///
    /// # Errors
    /// [`WrongShard`] if they are another shard.
    pub fn check(bytes: Bytes, expected: ShardId) -> Result<Self, WrongShard> {
        let (id, groups) = shard_tree(&bytes);
        if id == expected { Ok(Self { bytes, id, groups }) } else { Err(WrongShard) }
    }

    /// The shard's id.
    #[must_use]
    pub fn id(&self) -> ShardId {
        self.id
    }
}

/// What lies beside a shard's bytes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ShardMeta {
    /// Whose it is.
    pub account: AccountId,
    /// The manifest of its segment.
    pub manifest: Manifest,
    /// Its position in the segment.
    pub index: ShardIndex,
    /// The owner's tag of the segment.
    pub tag: Tag,
    /// The run it was stored in.
    pub run: RunId,
    /// The mandate it was stored under.
    pub mandate: Signed<Mandate>,
    /// When it was stored.
    pub stored: UnixTime,
}

fn damaged(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

fn checksum(groups: &[u8], meta: &[u8], lengths: &[u8]) -> [u8; 16] {
    let hash = blake3::Hasher::new().update(groups).update(meta).update(lengths).finalize();
    let mut out = [0; 16];
    out.copy_from_slice(&hash.as_bytes()[..16]);
    out
}

/// Everything after the data.
fn trailer(shard: &CheckedShard, meta: &ShardMeta) -> io::Result<Vec<u8>> {
    let meta = cbor::encode(meta).map_err(io::Error::other)?;
    let mut out: Vec<u8> = shard.groups.concat();
    let groups_len = out.len();
    let mut lengths = Vec::with_capacity(12);
    for length in [shard.bytes.len(), groups_len, meta.len()] {
        lengths.extend_from_slice(&u32::try_from(length).map_err(io::Error::other)?.to_le_bytes());
    }
    let sum = checksum(&out, &meta, &lengths);
    for part in [meta.as_slice(), &lengths, &sum, MAGIC] {
        out.extend_from_slice(part);
    }
    Ok(out)
}

/// A shard's file before it is written.
pub(super) struct NewFile<'a> {
    shard: &'a CheckedShard,
    trailer: Vec<u8>,
}

impl<'a> NewFile<'a> {
    pub(super) fn new(shard: &'a CheckedShard, meta: &ShardMeta) -> io::Result<Self> {
        Ok(Self { shard, trailer: trailer(shard, meta)? })
    }

    /// The length that the file will have.
    pub(super) fn length(&self) -> u64 {
        (self.shard.bytes.len() + self.trailer.len()) as u64
    }

    /// Writes and syncs a new file; its name is made durable by whoever renames it.
    pub(super) fn write(&self, path: &Path) -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        let mut parts = [IoSlice::new(&self.shard.bytes), IoSlice::new(&self.trailer)];
        let mut rest = parts.as_mut_slice();
        while !rest.is_empty() {
            let written = file.write_vectored(rest)?;
            if written == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            IoSlice::advance_slices(&mut rest, written);
        }
        file.sync_data()
    }
}

/// Reads a shard's bytes.
pub(super) fn read_data(path: &Path, length: u32) -> io::Result<Bytes> {
    let file = File::open(path)?;
    let mut bytes = vec![0; length as usize];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(Bytes::from(bytes))
}

/// Reads the 16 KiB group that a leaf lies in and the chaining values of all groups.
pub(super) fn read_group(
    path: &Path,
    length: ShardLen,
    leaf: u32,
) -> io::Result<(Vec<u8>, Vec<ChainingValue>)> {
    let (length, file) = (length.get() as usize, File::open(path)?);
    let start = leaf as usize * LEAF / GROUP * GROUP;
    let mut group = vec![0; GROUP.min(length.saturating_sub(start))];
    file.read_exact_at(&mut group, start as u64)?;
    let count = if length <= GROUP { 0 } else { length.div_ceil(GROUP) };
    let mut groups = vec![0; count * 32];
    file.read_exact_at(&mut groups, length as u64)?;
    Ok((group, groups.as_chunks().0.to_vec()))
}

/// Reads and checks what lies beside the bytes, and the file's length.
pub(super) fn read_meta(path: &Path) -> io::Result<(ShardMeta, u64)> {
    let file = File::open(path)?;
    let length = file.metadata()?.len();
    let at = length.checked_sub(FOOTER as u64).ok_or_else(|| damaged("too short"))?;
    let mut footer = [0; FOOTER];
    file.read_exact_at(&mut footer, at)?;
    let (lengths, rest) = footer.split_at(12);
    let (sum, magic) = rest.split_at(16);
    let number = |at: usize| {
        let mut bytes = [0; 4];
        bytes.copy_from_slice(&lengths[at..at + 4]);
        u64::from(u32::from_le_bytes(bytes))
    };
    let (data_len, groups_len, meta_len) = (number(0), number(4), number(8));
    let fits = data_len + groups_len + meta_len + FOOTER as u64 == length;
    if magic != MAGIC || !fits || meta_len > MAX_META as u64 || groups_len > 64 * 32 {
        return Err(damaged("no shard file"));
    }
    let mut body = vec![0; (groups_len + meta_len) as usize];
    file.read_exact_at(&mut body, data_len)?;
    let (groups, meta) = body.split_at(groups_len as usize);
    if checksum(groups, meta, lengths) != sum {
        return Err(damaged("altered"));
    }
    let meta: ShardMeta = cbor::decode(meta, MAX_META).map_err(|_| damaged("malformed"))?;
    if u64::from(meta.manifest.shard_len().get()) != data_len {
        return Err(damaged("contradicts itself"));
    }
    Ok((meta, length))
}
