//! Sealing a segment: checks, directory, encryption, and the ids of all its shards.

use bytes::Bytes;
use chacha20poly1305::XChaCha20Poly1305;
use chacha20poly1305::aead::{AeadInOut, KeyInit};
use fincrypt_protocol::{Manifest, ShardId, ShardIndex, Tag};

use super::crypto::{check, check_key, stream};
use super::directory::Directory;
use super::error::SegmentError;
use super::layout::{LENGTH_LEN, NONCE_LEN};
use super::pack::Unsealed;
use crate::root::{Root, TagKey};
use fincrypt_shards::erasure::Encoder;
use fincrypt_shards::proof::shard_id;

/// A sealed segment, ready to be uploaded.
#[derive(Debug, Clone)]
pub struct SealedSegment {
    /// Its geometry and the ids of all its shards.
    pub manifest: Manifest,
    /// The owner's tag of it.
    pub tag: Tag,
    /// What it holds.
    pub directory: Directory,
    /// Its data shards in a row.
    pub ciphertext: Bytes,
}

impl SealedSegment {
    /// Data shard `index`, without copying; empty past the last.
    #[must_use]
    pub fn data_shard(&self, index: ShardIndex) -> Bytes {
        let length = self.manifest.shard_len().get() as usize;
        let start = (index.get() * length).min(self.ciphertext.len());
        self.ciphertext.slice(start..(start + length).min(self.ciphertext.len()))
    }
}

/// Seals segments, one after the other, with tables that are made once.
pub struct Sealer {
    root: Root,
    tags: TagKey,
    encoder: Encoder,
}

impl Sealer {
    /// A sealer for a vault.
    #[must_use]
    pub fn new(root: &Root) -> Self {
        Self { root: root.clone(), tags: root.tag_key(), encoder: Encoder::new() }
    }

    /// Seals a segment in place and computes the ids of its data and parity shards.
    ///
    /// # Errors
    /// If the packed blobs do not fit the geometry, which the packer prevents.
    pub fn seal(&mut self, unsealed: Unsealed) -> Result<SealedSegment, SegmentError> {
        let Unsealed { nonce, buffer: mut owner, mut entries, code, shard_len } = unsealed;
        let buffer = &mut owner.bytes;
        let shard = shard_len.get() as usize;
        let length = usize::from(code.data()) * shard;
        let keys = self.root.segment_keys(&nonce);
        let checks = check_key(&keys.directory);
        for entry in &mut entries {
            let extent =
                buffer.get(entry.offset as usize..entry.end() as usize).ok_or(SegmentError::Layout)?;
            entry.check = check(&checks, extent);
        }
        let directory = Directory::new(entries);
        let mut sealed = directory.encode();
        XChaCha20Poly1305::new(&keys.directory.into())
            .encrypt_in_place(&[0; 24].into(), &[], &mut sealed)
            .map_err(|_| SegmentError::Directory)?;
        let at = length.checked_sub(LENGTH_LEN + sealed.len()).filter(|at| *at >= buffer.len());
        let at = at.ok_or(SegmentError::Layout)?;
        buffer.resize(at, 0);
        buffer.extend_from_slice(&sealed);
        // The directory is shorter than the segment, whose length fits 32 bits.
        buffer.extend_from_slice(&(sealed.len() as u32).to_le_bytes());
        stream(&keys.content, NONCE_LEN, &mut buffer[NONCE_LEN..])?;

        let shards: Vec<&[u8]> = buffer.chunks_exact(shard).collect();
        let mut ids: Vec<ShardId> = shards.iter().map(|shard| shard_id(shard)).collect();
        let mut parity = vec![blake3::Hasher::new(); code.parity().into()];
        self.encoder.encode_stripes(code, &shards, |at, stripe| {
            parity[at].update(stripe);
        })?;
        ids.extend(parity.iter().map(|hasher| ShardId::from_bytes(*hasher.finalize().as_bytes())));
        let manifest = Manifest::new(code, shard_len, ids)?;
        let tag = self.tags.tag(&manifest.id());
        Ok(SealedSegment { manifest, tag, directory, ciphertext: Bytes::from_owner(owner) })
    }
}
