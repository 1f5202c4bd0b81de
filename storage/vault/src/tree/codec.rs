//! The format of Tree and List blobs.
//!
//! Both are one CBOR array without anything after it. A Tree blob is an array of nodes in strictly
//! ascending order of their names' bytes; a List blob is an array of pieces.
//!
//! ```text
//! tree    = [* node]
//! node    = { "n": bytes,              name
//!             "m": uint,               mode, 12 bits
//!             "t": [int, uint],        mtime: seconds, nanoseconds
//!             ? "x": [+ [bytes, bytes]],  extended attributes by ascending name
//!             "k": kind }
//! kind    = { "f": { "s": uint, ? "l": uint, "c": content } }   file: size, link group, content
//!         / { "d": { "t": [* blob] } }                          folder: its Tree blobs
//!         / { "s": { "t": bytes } }                             symbolic link: target
//! content = { "i": [* piece] } / { "l": [+ blob] }              inline, or List blobs
//! list    = [* piece]
//! piece   = { "d": [blob, uint] }                               data: blob, length
//!         / { "h": uint }                                       hole: length
//! blob    = bytes of length 32
//! ```
//!
//! Fields are written in this order, and unknown or missing ones are errors, so equal folders make
//! equal bytes.

use fincrypt_protocol::cbor::{self, CborError};

use super::name::Name;
use super::node::{Content, MAX_LIST_PIECES, Node, NodeKind, Piece, total_len};
use super::split::MAX_NODES;
use crate::blob::BlobId;

/// The most bytes of a Tree or List blob: 4 MiB, the most a blob has.
pub const MAX_TREE_BLOB: usize = 4 << 20;
/// The most blobs that one node names: a folder of some 60 million entries, a file of an exabyte.
const MAX_IDS: usize = 1 << 16;
/// The most bytes of one node's extended attributes: four of the largest that Linux has.
const MAX_XATTRS: usize = 256 << 10;
/// The longest target of a symbolic link, `PATH_MAX` on Linux.
const MAX_TARGET: usize = 4096;

/// A tree or list cannot be encoded or decoded.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// Not the encoding of a tree or list, or too long.
    #[error("the encoding is malformed")]
    Cbor(#[from] CborError),
    /// Names are not in strictly ascending order.
    #[error("the entry {name} is out of order")]
    Order {
        /// The second of the two names.
        name: Name,
    },
    /// A field of an entry is out of bounds.
    #[error("the entry {name} is not valid")]
    Node {
        /// The entry.
        name: Name,
        /// What is wrong.
        #[source]
        source: FieldError,
    },
    /// A list's pieces are not valid.
    #[error("the list is not valid")]
    List(#[source] FieldError),
    /// More nodes than a Tree blob holds.
    #[error("{0} entries are too many for one blob")]
    TooMany(usize),
}

/// A field is out of bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FieldError {
    /// Mode has bits beyond the twelve.
    #[error("the mode {0:o} has unknown bits")]
    Mode(u32),
    /// A second has fewer nanoseconds.
    #[error("{0} nanoseconds are more than a second")]
    Nanoseconds(u32),
    /// The pieces do not add up to the size.
    #[error("the content does not have the {size} bytes that the file should have")]
    Size {
        /// The file's declared size in bytes.
        size: u64,
    },
    /// A piece without bytes.
    #[error("a piece is empty")]
    EmptyPiece,
    /// More pieces or blobs than allowed.
    #[error("{0} pieces or blobs are too many")]
    TooMany(usize),
    /// Extended attributes are too large, unnamed, or not in ascending order.
    #[error("the extended attributes are too large or out of order")]
    Xattrs,
    /// A link's target is empty, too long, or has a zero byte.
    #[error("the link's target is not a path")]
    Target,
}

/// Encodes one Tree blob: a part made by [`super::split`].
///
/// # Errors
/// [`TreeError`] for nodes that [`decode_tree`] would refuse.
pub fn encode_tree(nodes: &[Node]) -> Result<Vec<u8>, TreeError> {
    check_tree(nodes)?;
    within_blob(cbor::encode(nodes)?)
}

/// Decodes one Tree blob.
///
/// # Errors
/// [`TreeError`] for anything but an array of at most [`MAX_NODES`] valid nodes in order.
pub fn decode_tree(bytes: &[u8]) -> Result<Vec<Node>, TreeError> {
    let nodes: Vec<Node> = cbor::decode(bytes, MAX_TREE_BLOB)?;
    check_tree(&nodes)?;
    Ok(nodes)
}

/// Encodes one List blob.
///
/// # Errors
/// [`TreeError::List`] for empty pieces or more than [`MAX_LIST_PIECES`].
pub fn encode_list(pieces: &[Piece]) -> Result<Vec<u8>, TreeError> {
    check_pieces(pieces, MAX_LIST_PIECES).map_err(TreeError::List)?;
    within_blob(cbor::encode(pieces)?)
}

/// Decodes one List blob.
///
/// # Errors
/// [`TreeError`] for anything but an array of at most [`MAX_LIST_PIECES`] pieces.
pub fn decode_list(bytes: &[u8]) -> Result<Vec<Piece>, TreeError> {
    let pieces: Vec<Piece> = cbor::decode(bytes, MAX_TREE_BLOB)?;
    check_pieces(&pieces, MAX_LIST_PIECES).map_err(TreeError::List)?;
    Ok(pieces)
}

/// Checks that `nodes` continue a folder whose last name so far is `previous`.
///
/// [`decode_tree`] sees one blob only; who reads a folder of several checks with this that no name
/// comes twice.
///
/// # Errors
/// [`TreeError::Order`] at the first name not greater than the one before.
pub fn check_order(previous: Option<&Name>, nodes: &[Node]) -> Result<(), TreeError> {
    let mut last = previous;
    for node in nodes {
        if last.is_some_and(|last| *last >= node.name) {
            return Err(TreeError::Order { name: node.name.clone() });
        }
        last = Some(&node.name);
    }
    Ok(())
}

fn within_blob(bytes: Vec<u8>) -> Result<Vec<u8>, TreeError> {
    if bytes.len() > MAX_TREE_BLOB {
        return Err(CborError::TooLong { len: bytes.len(), limit: MAX_TREE_BLOB }.into());
    }
    Ok(bytes)
}

fn check_tree(nodes: &[Node]) -> Result<(), TreeError> {
    if nodes.len() > MAX_NODES {
        return Err(TreeError::TooMany(nodes.len()));
    }
    check_order(None, nodes)?;
    nodes.iter().try_for_each(|node| {
        check_node(node).map_err(|source| TreeError::Node { name: node.name.clone(), source })
    })
}

fn check_node(node: &Node) -> Result<(), FieldError> {
    if node.mode > 0o7777 {
        return Err(FieldError::Mode(node.mode));
    }
    if node.mtime.nanos >= 1_000_000_000 {
        return Err(FieldError::Nanoseconds(node.mtime.nanos));
    }
    check_xattrs(&node.xattrs)?;
    match &node.kind {
        NodeKind::File { size, content, .. } => check_content(content, *size),
        NodeKind::Dir { tree } => check_ids(tree),
        NodeKind::Symlink { target } => {
            let fits = !target.is_empty() && target.len() <= MAX_TARGET && !target.contains(&0);
            if fits { Ok(()) } else { Err(FieldError::Target) }
        }
    }
}

/// Checks a file's content as far as the node alone shows it.
pub(crate) fn check_content(content: &Content, size: u64) -> Result<(), FieldError> {
    match content {
        Content::Inline(pieces) => {
            check_pieces(pieces, Content::MAX_INLINE)?;
            if total_len(pieces) == Some(size) { Ok(()) } else { Err(FieldError::Size { size }) }
        }
        Content::Lists(lists) if lists.is_empty() => Err(FieldError::Size { size }),
        Content::Lists(lists) => check_ids(lists),
    }
}

/// Checks that attributes have names in strictly ascending order and are not too large.
pub(crate) fn check_xattrs(xattrs: &[(Vec<u8>, Vec<u8>)]) -> Result<(), FieldError> {
    let total: usize = xattrs.iter().map(|(name, value)| name.len() + value.len()).sum();
    let named = xattrs.iter().all(|(name, _)| !name.is_empty() && !name.contains(&0));
    if total <= MAX_XATTRS && named && xattrs.is_sorted_by(|a, b| a.0 < b.0) {
        Ok(())
    } else {
        Err(FieldError::Xattrs)
    }
}

fn check_ids(ids: &[BlobId]) -> Result<(), FieldError> {
    if ids.len() > MAX_IDS { Err(FieldError::TooMany(ids.len())) } else { Ok(()) }
}

fn check_pieces(pieces: &[Piece], most: usize) -> Result<(), FieldError> {
    if pieces.len() > most {
        return Err(FieldError::TooMany(pieces.len()));
    }
    if pieces.iter().any(Piece::is_empty) {
        return Err(FieldError::EmptyPiece);
    }
    Ok(())
}
