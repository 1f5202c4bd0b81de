//! Folders as a vault keeps them: nodes, and the Tree and List blobs that hold them.
//!
//! The model is restic's: a folder is a list of Tree blobs, each with some of its entries in the
//! order of their names; a subfolder is an entry that names its own Tree blobs. Equal folders are
//! therefore equal blobs, and stored once.

mod codec;
mod name;
mod node;
mod split;
pub(crate) mod xattrs;

pub use codec::{
    FieldError, MAX_TREE_BLOB, TreeError, check_order, decode_list, decode_tree, encode_list, encode_tree,
};
pub(crate) use codec::{check_content, check_xattrs};
pub use name::{Name, NameError};
pub use node::{Content, MAX_LIST_PIECES, Mtime, Node, NodeKind, Piece, content_from, total_len};
pub use split::{MAX_NODES, MIN_NODES, split};
pub use xattrs::Xattrs;

#[cfg(test)]
pub(crate) mod tests;
