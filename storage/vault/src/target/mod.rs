//! Restoring into a folder of this machine, whatever the tree says and whatever the folder holds.
//!
//! Nothing here goes through a path: folders are open descriptors, their entries are reached by
//! `openat` and its relatives with one checked [`Name`] at a time, and symbolic links are never
//! followed. So neither a link planted in the target nor one restored from the tree leads outside.
//! Files are written beside their place and renamed into it whole.

mod dir;
mod file;
mod metadata;

use std::io;
use std::path::PathBuf;

pub use dir::{DirHandle, Overwrite, Target};
pub use file::{ExistingFile, FileStart, PartialFile};
pub use metadata::Warning;

use crate::tree::Name;

/// Restoring one entry failed.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// The target folder itself cannot be made or opened.
    #[error("the folder {} cannot be used", path.display())]
    Open {
        /// The folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Something is in the place of an entry and must not be replaced.
    #[error("{name} is already there")]
    Exists {
        /// The entry.
        name: Name,
    },
    /// The file system refused.
    #[error("{name} cannot be restored")]
    Entry {
        /// The entry.
        name: Name,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file system refused to set a folder's permissions or time.
    #[error("a folder's permissions or time cannot be set")]
    Folder(#[source] io::Error),
    /// The file system could not write everything to the disk.
    #[error("the folder cannot be written to the disk")]
    Sync(#[source] io::Error),
}

impl TargetError {
    /// The error of one entry; "already exists" is its own variant.
    fn entry(name: &Name) -> impl Fn(io::Error) -> Self + '_ {
        move |source| match source.kind() {
            io::ErrorKind::AlreadyExists
            | io::ErrorKind::IsADirectory
            | io::ErrorKind::DirectoryNotEmpty
            | io::ErrorKind::NotADirectory => Self::Exists { name: name.clone() },
            _ => Self::Entry { name: name.clone(), source },
        }
    }
}

#[cfg(test)]
mod tests;
