//! What the commands of `fincrypt` share: the home, the configuration, how results are shown, and why a
//! command fails.

use std::path::PathBuf;

use fincrypt_client::{BackupError, ClientError, HomeError, Vault};
use serde::Serialize;

use super::output::{Exit, print_json};
use super::secret::{self, SecretError};
use crate::config::{Config, ConfigError};
use crate::home::Home;

/// The program's name.
pub(super) const NAME: &str = "fincrypt";

/// A command did not work.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Secret(#[from] SecretError),
    #[error("{0}")]
    Usage(String),
}

impl Failure {
    pub(super) fn exit(&self) -> Exit {
        match self {
            Self::Config(_) | Self::Usage(_) => Exit::Usage,
            _ => Exit::Failed,
        }
    }
}

macro_rules! through_client {
    ($($error:ty),*) => {$(
        impl From<$error> for Failure {
            fn from(error: $error) -> Self {
                Self::Client(error.into())
            }
        }
    )*};
}
through_client!(HomeError, BackupError, fincrypt_vault::words::WordsError);

/// One run of a command.
pub(super) struct Invocation {
    pub(super) home: Home,
    pub(super) config: Config,
    pub(super) json: bool,
    pub(super) quiet: bool,
    pub(super) password_file: Option<PathBuf>,
}

impl Invocation {
    /// Prints the result: as JSON, or as `human` says.
    pub(super) fn print<T: Serialize>(&self, value: &T, human: impl FnOnce()) {
        if self.json {
            print_json(value);
        } else {
            human();
        }
    }

    /// Whether a person watches.
    pub(super) fn shows_progress(&self) -> bool {
        !self.quiet && !self.json
    }

    pub(super) fn open(&self) -> Result<Vault, Failure> {
        if !self.home.vault().keyfile().exists() {
            return Err(HomeError::NoVault(self.home.path().to_owned()).into());
        }
        let password = secret::password(self.password_file.as_deref(), false)?;
        Ok(Vault::open(self.home.vault(), self.config.client(), &password)?)
    }
}
