//! Bytes at rest: how a vault is written and how a storage node keeps shards.
//!
//! A folder becomes chunks, chunks become sealed segments, segments become shards; restore is the
//! mirror image. Nothing here knows a network or a clock of its own.

pub mod blob;
pub mod catalog;
pub mod chunk;
pub mod compress;
pub mod erasure;
pub mod filecache;
pub mod head;
pub mod index;
pub mod keyfile;
pub mod lists;
pub mod marks;
pub mod proof;
mod root;
pub mod scan;
pub mod segment;
pub mod shards;
pub mod snapshot;
pub mod target;
pub mod tree;
#[cfg(test)]
mod vectors;
pub mod words;

pub use fincrypt_state::{durable, journal, kv, state};
pub use root::{BlobIdKey, Root, SegmentKeys, TagKey};
