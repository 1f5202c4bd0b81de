//! The home of a vault: a folder, and what lies where in it.

use std::path::{Path, PathBuf};

use super::error::ClientError;

/// Paths of a vault inside its home.
#[derive(Debug, Clone)]
pub struct VaultHome(PathBuf);

impl VaultHome {
    /// The home at `path`.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        Self(path)
    }

    /// The folder itself.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// `keyfile`.
    #[must_use]
    pub fn keyfile(&self) -> PathBuf {
        self.0.join("keyfile")
    }

    /// `state/`.
    #[must_use]
    pub fn state(&self) -> PathBuf {
        self.0.join("state")
    }

    /// `journal/run`, the journal of an unfinished backup.
    #[must_use]
    pub fn run_journal(&self) -> PathBuf {
        self.0.join("journal").join("run")
    }

    /// `journal/prune`, the journal of an unfinished prune.
    #[must_use]
    pub fn prune_journal(&self) -> PathBuf {
        self.0.join("journal").join("prune")
    }

    /// Makes the folder, for its owner alone.
    ///
    /// # Errors
    /// [`ClientError::Io`].
    pub fn create(&self) -> Result<(), ClientError> {
        use std::os::unix::fs::DirBuilderExt;
        let mut builder = std::fs::DirBuilder::new();
        builder.recursive(true).mode(0o700).create(&self.0).map_err(ClientError::io(&self.0))
    }
}
