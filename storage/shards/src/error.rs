//! What the store can fail with.

use std::io;
use std::path::{Path, PathBuf};

use fincrypt_state::kv::KvError;

/// The store failed or refused.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The quota or the disk has no room.
    #[error("no room for {needed} bytes, {free} are free")]
    Full {
        /// Bytes wanted.
        needed: u64,
        /// Bytes left.
        free: u64,
    },
    /// The account holds this shard as part of something else.
    #[error("the shard is held already as part of another segment")]
    Conflict,
    /// A file is short or altered.
    #[error("the shard file {0} is damaged")]
    Damaged(PathBuf),
    /// The system refused.
    #[error("cannot read or write {path}: {source}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The index failed.
    #[error(transparent)]
    State(#[from] KvError),
}

/// Names the path at which the system refused.
pub(super) fn at(path: &Path) -> impl FnOnce(io::Error) -> StoreError + use<> {
    let path = path.to_owned();
    move |source| StoreError::Io { path, source }
}
