//! Why a restore does not reach its target.

use std::path::PathBuf;

/// The target of a restore.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The target folder cannot be used.
    #[error("cannot restore into {path}: {reason}")]
    Target {
        /// The folder.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The target has no room for more.
    #[error("no space left in {path}: the restore stopped (files restored: {files})")]
    Full {
        /// The folder.
        path: PathBuf,
        /// Files that are there.
        files: u64,
    },
    /// What was restored may not survive a power cut.
    #[error("the files are in {path}, but the disk did not take everything ({reason})")]
    NotOnDisk {
        /// The folder.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}
