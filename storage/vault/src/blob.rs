//! Blobs: pieces of plaintext, each known by a keyed hash of itself.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::root::BlobIdKey;

/// The most bytes of a blob's plaintext: the largest chunk.
pub const MAX_BLOB: usize = 4 << 20;

/// BLAKE3 of a blob's plaintext, keyed from the root: equal data has one id, and the id tells
/// outsiders nothing.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlobId([u8; 32]);

impl BlobId {
    /// Takes the bytes as they are.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The id's bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for BlobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for BlobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BlobId({self})")
    }
}

impl Serialize for BlobId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for BlobId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = serde_bytes::ByteArray::<32>::deserialize(deserializer)?;
        Ok(Self(bytes.into_array()))
    }
}

impl BlobIdKey {
    /// The id of a plaintext.
    #[must_use]
    pub fn id(&self, plaintext: &[u8]) -> BlobId {
        BlobId(*blake3::keyed_hash(&self.0, plaintext).as_bytes())
    }
}

/// What a blob holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum BlobKind {
    /// Part of a file.
    Data = 0,
    /// The list of a large file's pieces.
    List = 1,
    /// Part of a directory.
    Tree = 2,
    /// A snapshot.
    Snapshot = 3,
    /// A piece of the index.
    Index = 4,
    /// A list of segments that wait to be released.
    Marks = 5,
    /// A list of references to segments of the catalog.
    Refs = 6,
}

impl BlobKind {
    /// Whether it is part of the catalog, not of a snapshot.
    #[must_use]
    pub const fn is_catalog(self) -> bool {
        matches!(self, Self::Index | Self::Marks | Self::Refs)
    }

    /// The kind's number in a directory entry.
    #[must_use]
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// The kind with this number.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        [Self::Data, Self::List, Self::Tree, Self::Snapshot, Self::Index, Self::Marks, Self::Refs]
            .into_iter()
            .find(|kind| kind.number() == number)
    }
}

/// A blob ready to be packed. Fewer stored bytes than raw ones mean zstd; as many mean raw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Blob<'a> {
    /// Its id.
    pub id: BlobId,
    /// What it holds.
    pub kind: BlobKind,
    /// Bytes of plaintext, at most [`MAX_BLOB`].
    pub raw_len: u32,
    /// The bytes to store.
    pub stored: &'a [u8],
}
