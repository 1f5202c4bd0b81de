//! Where the two programs are.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::process::ProcessError;

/// Settings that would change what the programs do, if the surroundings had them.
const SETTINGS: [&str; 17] = [
    "FINCRYPT_NETWORK",
    "FINCRYPT_LISTEN",
    "FINCRYPT_BOOTSTRAP",
    "FINCRYPT_CAPACITY",
    "FINCRYPT_EPOCH",
    "FINCRYPT_API",
    "FINCRYPT_PRICE",
    "FINCRYPT_EGRESS_PRICE",
    "FINCRYPT_GRACE_DAYS",
    "FINCRYPT_RELEASE_DELAY",
    "FINCRYPT_FEE_PERCENT",
    "FINCRYPT_REDUNDANCY",
    "FINCRYPT_FOLDERS",
    "FINCRYPT_EXCLUDE",
    "FINCRYPT_MDNS",
    "FINCRYPT_UPNP",
    "FINCRYPT_PASSWORD",
];

/// A program, and the arguments that come before all others.
#[derive(Debug, Clone)]
pub struct Program {
    pub(crate) path: PathBuf,
    pub(crate) leading: Vec<OsString>,
}

impl Program {
    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A copy of it, for users who cannot reach the original.
    ///
    /// # Errors
    /// If it cannot be copied.
    pub fn copy_to(&self, path: &Path) -> std::io::Result<Self> {
        std::fs::copy(&self.path, path)?;
        Ok(Self { path: path.to_owned(), leading: self.leading.clone() })
    }

    /// A command that runs it, free of settings from the environment.
    #[must_use]
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.path);
        command.args(&self.leading);
        for setting in SETTINGS {
            command.env_remove(setting);
        }
        command
    }
}

/// `fincrypt-node` and `fincrypt`.
#[derive(Debug, Clone)]
pub struct Programs {
    /// Runs a node.
    pub node: Program,
    /// What a person types.
    pub client: Program,
}

impl Programs {
    /// Both, in one folder.
    ///
    /// # Errors
    /// [`ProcessError::NoProgram`] if one is not there.
    pub fn in_folder(folder: &Path) -> Result<Self, ProcessError> {
        let program = |name: &str| {
            let path = std::path::absolute(folder.join(name)).unwrap_or_else(|_| folder.join(name));
            if path.is_file() {
                Ok(Program { path, leading: Vec::new() })
            } else {
                Err(ProcessError::NoProgram(path))
            }
        };
        Ok(Self { node: program("fincrypt-node")?, client: program("fincrypt")? })
    }

    /// One program that is both: its first argument says which.
    #[must_use]
    pub fn multi_call(path: &Path) -> Self {
        let program = |name: &str| Program { path: path.to_owned(), leading: vec![name.into()] };
        Self { node: program("fincrypt-node"), client: program("fincrypt") }
    }
}
