//! What a client writes: keys, chunks, segments, trees, snapshots and the index over them.
//!
//! A folder becomes chunks, chunks become sealed segments; restore is the mirror image. No network,
//! no clock of its own.

pub mod blob;
pub mod catalog;
pub mod chunk;
pub mod compress;
pub mod filecache;
pub mod head;
pub mod index;
pub mod keyfile;
pub mod lists;
pub mod marks;
mod root;
pub mod scan;
pub mod segment;
pub mod snapshot;
pub mod target;
pub mod tree;
pub mod words;

pub use root::{BlobIdKey, Root, SegmentKeys, TagKey};
