//! The storage node's shards on disk.
//!
//! One file per account and shard, named by both and placed by the shard's first byte; all that is
//! needed to serve it and to rebuild the index lies in the file itself.

mod check;
mod file;
mod index;
mod reconcile;
mod remove;
mod store;

pub use check::{Checked, Found, WalkPosition};
pub use file::{CheckedShard, ShardMeta, WrongShard};
pub use reconcile::StoreReport;
pub use store::{HeldSegment, HeldShard, PutOutcome, ShardStore, StoreError};
