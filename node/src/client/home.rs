//! A home: the folder of a vault or a node, and what lies where in it.

use std::path::{Path, PathBuf};

use super::error::ClientError;

/// Paths inside a home.
#[derive(Debug, Clone)]
pub struct Home(PathBuf);

impl Home {
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

    /// `config.toml`.
    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.0.join("config.toml")
    }

    /// `keyfile`.
    #[must_use]
    pub fn keyfile(&self) -> PathBuf {
        self.0.join("keyfile")
    }

    /// `identity.key`.
    #[must_use]
    pub fn identity(&self) -> PathBuf {
        self.0.join("identity.key")
    }

    /// `state/`.
    #[must_use]
    pub fn state(&self) -> PathBuf {
        self.0.join("state")
    }

    /// `shards/`.
    #[must_use]
    pub fn shards(&self) -> PathBuf {
        self.0.join("shards")
    }

    /// `ledger/`, a mediator's books.
    #[must_use]
    pub fn ledger(&self) -> PathBuf {
        self.0.join("ledger")
    }

    /// `wallet.seed`, from which a mediator's wallets come.
    #[must_use]
    pub fn wallet_seed(&self) -> PathBuf {
        self.0.join("wallet.seed")
    }

    /// `wallet.birthday`, the first block that may have something of a wallet made from old words.
    #[must_use]
    pub fn wallet_birthday(&self) -> PathBuf {
        self.0.join("wallet.birthday")
    }

    /// `lightning.seed`, of a storage node's own Lightning node.
    #[must_use]
    pub fn lightning_seed(&self) -> PathBuf {
        self.0.join("lightning.seed")
    }

    /// `lightning/`, a Lightning node's channels: they must never be lost, nor an old copy used.
    #[must_use]
    pub fn lightning(&self) -> PathBuf {
        self.0.join("lightning")
    }

    /// `lightning-storage/`, the same of a storage node's own Lightning node.
    #[must_use]
    pub fn storage_lightning(&self) -> PathBuf {
        self.0.join("lightning-storage")
    }

    /// `treasury/`, what a mediator's wallet on the chain remembers.
    #[must_use]
    pub fn treasury(&self) -> PathBuf {
        self.0.join("treasury")
    }

    /// The journal of an unfinished run.
    #[must_use]
    pub fn run_journal(&self) -> PathBuf {
        self.0.join("journal").join("run")
    }

    /// The journal of an unfinished prune.
    #[must_use]
    pub fn prune_journal(&self) -> PathBuf {
        self.0.join("journal").join("prune")
    }

    /// Makes the folder, for its owner alone.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn create(&self) -> Result<(), ClientError> {
        use std::os::unix::fs::DirBuilderExt;
        let mut builder = std::fs::DirBuilder::new();
        builder.recursive(true).mode(0o700).create(&self.0).map_err(ClientError::io(&self.0))
    }
}
