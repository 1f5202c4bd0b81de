//! What a storage node keeps: shard files, and proofs that it keeps them.
//!
//! [`ShardStore`] has one file per account and shard, named by both and placed by the shard's first
//! byte; all that is needed to serve a shard and to rebuild the index lies in the file itself.
//! [`erasure`] computes parity shards from data shards, [`proof`] proves one leaf of a shard against
//! its id, and [`answer`] checks a storage node's answer to a challenge. No network, no clock.

pub mod answer;
mod check;
mod entries;
pub mod erasure;
mod error;
mod file;
mod index;
mod layout;
pub mod proof;
mod quota;
mod reconcile;
mod store;

pub use check::{Checked, Found, WalkPosition};
pub use error::StoreError;
pub use file::{CheckedShard, ShardMeta, WrongShard};
pub use reconcile::StoreReport;
pub use store::{HeldSegment, HeldShard, PutOutcome, ShardStore};
