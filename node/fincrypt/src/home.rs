//! A home: the folder of a vault or a node, and what lies where in it.

use std::path::{Path, PathBuf};

use fincrypt_client::{HomeError, VaultHome};

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

    /// `lightning.trusted`, peers of the Lightning node whose channels count at once.
    #[must_use]
    pub fn lightning_trusted(&self) -> PathBuf {
        self.0.join("lightning.trusted")
    }

    /// `lightning.listen`, the port of the Lightning node in a local network.
    #[must_use]
    pub fn lightning_port(&self) -> PathBuf {
        self.0.join("lightning.listen")
    }

    /// `api.token`, the secret of the local interface.
    #[must_use]
    pub fn api_token(&self) -> PathBuf {
        self.0.join("api.token")
    }

    /// `api.address`, where the local interface listens.
    #[must_use]
    pub fn api_address(&self) -> PathBuf {
        self.0.join("api.address")
    }

    /// The vault in it.
    #[must_use]
    pub fn vault(&self) -> VaultHome {
        VaultHome::new(self.0.clone())
    }

    /// Makes the folder, for its owner alone.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn create(&self) -> Result<(), HomeError> {
        self.vault().create()
    }
}
