//! Passwords and words: from a prompt without echo, a file or the environment; never an argument.

use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

/// A secret could not be had.
#[derive(Debug, thiserror::Error)]
pub(super) enum SecretError {
    #[error("cannot read {path}: {source}")]
    File { path: PathBuf, source: std::io::Error },
    #[error("no password: set FINCRYPT_PASSWORD, give --password-file FILE, or run on a terminal")]
    NoPassword,
    #[error("the password is empty: choose one, it protects the vault on this machine")]
    Empty,
    #[error("the two passwords differ: try again")]
    Differ,
    #[error("the prompt failed: {0}")]
    Prompt(std::io::Error),
}

fn read_file(path: &Path) -> Result<Zeroizing<String>, SecretError> {
    let result = std::fs::read_to_string(path).map(Zeroizing::new);
    result.map_err(|source| SecretError::File { path: path.to_owned(), source })
}

/// The password of a vault; asked for twice when it is new.
pub(super) fn password(file: Option<&Path>, new: bool) -> Result<Zeroizing<String>, SecretError> {
    let password = if let Some(path) = file {
        let text = read_file(path)?;
        Zeroizing::new(text.lines().next().unwrap_or_default().to_owned())
    } else if let Ok(text) = std::env::var("FINCRYPT_PASSWORD") {
        Zeroizing::new(text)
    } else if std::io::stdin().is_terminal() {
        ask(new)?
    } else {
        return Err(SecretError::NoPassword);
    };
    if password.is_empty() { Err(SecretError::Empty) } else { Ok(password) }
}

fn ask(new: bool) -> Result<Zeroizing<String>, SecretError> {
    let prompt = |text| rpassword::prompt_password(text).map(Zeroizing::new).map_err(SecretError::Prompt);
    let first = prompt(if new { "New password for this machine: " } else { "Password: " })?;
    if new && *prompt("The same again: ")? != *first {
        return Err(SecretError::Differ);
    }
    Ok(first)
}

/// The text of a file, or of standard input for `-`.
pub(super) fn words(path: &Path) -> Result<Zeroizing<String>, SecretError> {
    if path.as_os_str() != "-" {
        return read_file(path);
    }
    let mut text = Zeroizing::new(String::new());
    let result = std::io::stdin().lock().take(4096).read_to_string(&mut text);
    result.map_err(|source| SecretError::File { path: path.to_owned(), source })?;
    Ok(text)
}
