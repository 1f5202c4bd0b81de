//! The entries of a folder.

use serde::{Deserialize, Serialize};

use super::name::Name;
use super::xattrs::{self, Xattrs};
use crate::blob::BlobId;

/// The most pieces of a List blob. At about 44 bytes a piece it stays below 1 MiB.
pub const MAX_LIST_PIECES: usize = 16_384;

/// A time of modification, to the nanosecond.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "(i64, u32)", into = "(i64, u32)")]
pub struct Mtime {
    /// Seconds since 1970-01-01T00:00:00Z; negative before.
    pub secs: i64,
    /// Nanoseconds after that second; below 10⁹ in anything that is encoded or decoded.
    pub nanos: u32,
}

impl From<(i64, u32)> for Mtime {
    fn from((secs, nanos): (i64, u32)) -> Self {
        Self { secs, nanos }
    }
}

impl From<Mtime> for (i64, u32) {
    fn from(time: Mtime) -> Self {
        (time.secs, time.nanos)
    }
}

/// One entry of a folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Node {
    /// Its name in the folder.
    #[serde(rename = "n")]
    pub name: Name,
    /// The twelve permission bits: `rwx` three times, setuid, setgid, sticky.
    #[serde(rename = "m")]
    pub mode: u32,
    /// When its content was last modified.
    #[serde(rename = "t")]
    pub mtime: Mtime,
    /// Its extended attributes.
    #[serde(rename = "x", default, skip_serializing_if = "Vec::is_empty", with = "xattrs")]
    pub xattrs: Xattrs,
    /// What it is.
    #[serde(rename = "k")]
    pub kind: NodeKind,
}

/// What an entry is. Sockets, pipes and devices are not kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum NodeKind {
    /// A regular file.
    #[serde(rename = "f")]
    File {
        /// Its length in bytes, holes included.
        #[serde(rename = "s")]
        size: u64,
        /// Files of one snapshot with the same number are one file with several names.
        #[serde(rename = "l", default, skip_serializing_if = "Option::is_none")]
        link: Option<u64>,
        /// Its content.
        #[serde(rename = "c")]
        content: Content,
    },
    /// A folder.
    #[serde(rename = "d")]
    Dir {
        /// The Tree blobs of its entries, in order; none if it is empty.
        #[serde(rename = "t")]
        tree: Vec<BlobId>,
    },
    /// A symbolic link.
    #[serde(rename = "s")]
    Symlink {
        /// Where it points: 1 to 4,096 bytes without a zero byte, otherwise anything.
        #[serde(rename = "t", with = "serde_bytes")]
        target: Vec<u8>,
    },
}

/// What a file consists of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Content {
    /// All its pieces, at most [`Content::MAX_INLINE`].
    #[serde(rename = "i")]
    Inline(Vec<Piece>),
    /// The List blobs that hold its pieces, in order.
    #[serde(rename = "l")]
    Lists(Vec<BlobId>),
}

impl Content {
    /// The most pieces kept in the node itself. A chunk is about 1 MiB, so only files of about a
    /// gigabyte and more need List blobs.
    pub const MAX_INLINE: usize = 1024;
}

/// A part of a file's content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Piece {
    /// Bytes kept in a blob.
    #[serde(rename = "d", with = "data")]
    Data {
        /// The blob whose whole plaintext comes here.
        blob: BlobId,
        /// The plaintext's length in bytes, not zero.
        len: u32,
    },
    /// So many zero bytes that take no room, not zero.
    #[serde(rename = "h")]
    Hole(u64),
}

impl Piece {
    /// Its length in bytes.
    #[must_use]
    pub fn len(&self) -> u64 {
        match *self {
            Self::Data { len, .. } => len.into(),
            Self::Hole(len) => len,
        }
    }

    /// Whether it has no bytes, which no codec accepts.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The bytes that `pieces` add up to, or `None` past `u64::MAX`.
#[must_use]
pub fn total_len(pieces: &[Piece]) -> Option<u64> {
    pieces.iter().try_fold(0u64, |sum, piece| sum.checked_add(piece.len()))
}

/// Turns a file's pieces into its content, through List blobs if they are many.
///
/// `store` takes the pieces of one List blob, at most [`MAX_LIST_PIECES`], and returns its id.
///
/// # Errors
/// What `store` fails with.
pub fn content_from<E>(
    pieces: Vec<Piece>,
    mut store: impl FnMut(&[Piece]) -> Result<BlobId, E>,
) -> Result<Content, E> {
    if pieces.len() <= Content::MAX_INLINE {
        return Ok(Content::Inline(pieces));
    }
    pieces.chunks(MAX_LIST_PIECES).map(&mut store).collect::<Result<_, _>>().map(Content::Lists)
}

/// A data piece travels as `[blob, len]`: files are mostly these, and names would double it.
mod data {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use crate::blob::BlobId;

    pub(super) fn serialize<S: Serializer>(blob: &BlobId, len: &u32, to: S) -> Result<S::Ok, S::Error> {
        (blob, len).serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<(BlobId, u32), D::Error> {
        <(BlobId, u32)>::deserialize(from)
    }
}
