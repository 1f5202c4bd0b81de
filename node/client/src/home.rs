//! The home of a vault: a folder, and what lies where in it.

use std::path::{Path, PathBuf};

use fincrypt_state::journal::JournalError;
use fincrypt_state::kv::KvError;
use fincrypt_vault::keyfile::KeyfileError;
use fincrypt_vault::words::WordsError;

use super::vault_state::VaultStateError;

/// The home, the vault in it or its local state cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum HomeError {
    /// There is no vault in the home.
    #[error("no vault in {0}")]
    NoVault(PathBuf),
    /// There is a vault already.
    #[error("{0} already holds a vault")]
    VaultExists(PathBuf),
    /// A local file could not be read or written.
    #[error("cannot read or write {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Local state failed.
    #[error(transparent)]
    State(#[from] KvError),
    /// The vault's state does not allow this now.
    #[error(transparent)]
    VaultState(VaultStateError),
    /// The state in the home could not be opened.
    #[error("the state in {path} is damaged ({reason}); what was stored is not lost")]
    StateDamaged {
        /// Where it is.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The journal of a run failed.
    #[error(transparent)]
    Journal(JournalError),
    /// The keyfile could not be opened.
    #[error(transparent)]
    Keyfile(#[from] KeyfileError),
    /// The system gives no randomness.
    #[error("the system gives no randomness")]
    Randomness(#[source] getrandom::Error),
    /// The words could not be read.
    #[error(transparent)]
    Words(#[from] WordsError),
}

impl From<VaultStateError> for HomeError {
    fn from(error: VaultStateError) -> Self {
        match error {
            VaultStateError::State(error) => Self::State(error),
            VaultStateError::Journal { path, source } => Self::Io { path, source },
            other => Self::VaultState(other),
        }
    }
}

impl From<JournalError> for HomeError {
    fn from(error: JournalError) -> Self {
        match error {
            JournalError::Io { path, source } => Self::Io { path, source },
            other => Self::Journal(other),
        }
    }
}

impl HomeError {
    /// An error about a file.
    pub fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self::Io { path, source }
    }
}

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
    /// [`HomeError::Io`].
    pub fn create(&self) -> Result<(), HomeError> {
        use std::os::unix::fs::DirBuilderExt;
        let mut builder = std::fs::DirBuilder::new();
        builder.recursive(true).mode(0o700).create(&self.0).map_err(HomeError::io(&self.0))
    }
}
