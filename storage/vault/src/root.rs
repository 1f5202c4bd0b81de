//! The vault's root secret and every key derived from it.
//!
//! All derivations are HKDF-SHA3-256 (RFC 5869 over FIPS 202) without salt; the info is a versioned
//! label, terminated by a zero byte, and what distinguishes one key of that label from another.

use fincrypt_protocol::domain::{self, Domain};
use fincrypt_protocol::{SegmentId, SigningKey, Tag};
use hkdf::SimpleHkdf;
use sha3::Sha3_256;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// Expands `secret` into a key for one use.
///
/// `context` tells apart the keys of one label: a slot number, a segment's nonce.
pub(crate) fn expand<const N: usize>(secret: &[u8; 32], label: Domain, context: &[u8]) -> Zeroizing<[u8; N]> {
    const { assert!(N <= 255 * 32) };
    let mut key = Zeroizing::new([0; N]);
    let info: [&[u8]; 3] = [label.label(), &[0], context];
    SimpleHkdf::<Sha3_256>::new(None, secret)
        .expand_multi_info(&info, key.as_mut())
        .expect("RFC 5869 allows up to 255 hash lengths, and N is within them");
    key
}

/// The vault's root secret. Whoever has it reads everything; it cannot cancel deletions.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Root([u8; 32]);

impl Root {
    /// Takes the secret's bytes.
    #[must_use]
    pub fn from_bytes(bytes: &Zeroizing<[u8; 32]>) -> Self {
        Self(**bytes)
    }

    pub(crate) fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The key that signs for slot `slot`'s account.
    #[must_use]
    pub fn account(&self, slot: u32) -> SigningKey {
        SigningKey::from_seed(&expand(&self.0, domain::ACCOUNT, &slot.to_le_bytes()))
    }

    /// The key that signs slot `slot`'s heads until a rewind.
    #[must_use]
    pub fn first_head_key(&self, slot: u32) -> SigningKey {
        SigningKey::from_seed(&expand(&self.0, domain::HEAD_KEY, &slot.to_le_bytes()))
    }

    /// The key that seals slot `slot`'s head bodies.
    #[must_use]
    pub(crate) fn head_seal(&self, slot: u32) -> Zeroizing<[u8; 32]> {
        expand(&self.0, domain::HEAD_SEAL, &slot.to_le_bytes())
    }

    /// The key of blob ids.
    #[must_use]
    pub fn blob_id_key(&self) -> BlobIdKey {
        BlobIdKey(*expand(&self.0, domain::BLOB_ID, &[]))
    }

    /// The key of tags.
    #[must_use]
    pub fn tag_key(&self) -> TagKey {
        TagKey(*expand(&self.0, domain::TAG, &[]))
    }

    /// The keys of the segment that begins with `nonce`.
    #[must_use]
    pub fn segment_keys(&self, nonce: &[u8; 24]) -> SegmentKeys {
        let both: Zeroizing<[u8; 64]> = expand(&self.0, domain::SEGMENT, nonce);
        let mut keys = SegmentKeys { content: [0; 32], directory: [0; 32] };
        keys.content.copy_from_slice(&both[..32]);
        keys.directory.copy_from_slice(&both[32..]);
        keys
    }

    /// A key for names in this machine's file cache, so that the cache lists no paths.
    #[must_use]
    pub fn file_cache_key(&self) -> Zeroizing<[u8; 32]> {
        expand(&self.0, domain::FILE_CACHE, &[])
    }
}

/// Turns a blob's plaintext into its id.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct BlobIdKey(pub(crate) [u8; 32]);

/// Turns a segment's id into the tag by which its owner knows it again.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct TagKey([u8; 32]);

impl TagKey {
    /// The segment's tag: BLAKE3 of its id, keyed.
    #[must_use]
    pub fn tag(&self, segment: &SegmentId) -> Tag {
        Tag::from_bytes(*blake3::keyed_hash(&self.0, segment.as_bytes()).as_bytes())
    }
}

/// The two keys of one segment.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct SegmentKeys {
    /// AES-256-CTR over the whole segment after its nonce.
    pub(crate) content: [u8; 32],
    /// XChaCha20-Poly1305 over the directory; the key of extent checks too is derived from it.
    pub(crate) directory: [u8; 32],
}
