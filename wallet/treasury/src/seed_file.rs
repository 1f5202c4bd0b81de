//! The seed of a node's Bitcoin wallet, in a file that only its owner can read.

use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

/// The seed could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum SeedError {
    /// There is none.
    #[error("{0} has no wallet: make one with `fincrypt-node wallet init`, and write its words down")]
    Missing(PathBuf),
    /// There is one already.
    #[error("{0} exists: this home has a wallet, and another one's words would not bring back its money")]
    Exists(PathBuf),
    /// The file could not be read or written.
    #[error("cannot read or write the seed {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file holds no seed.
    #[error("{0} is damaged")]
    Damaged(PathBuf),
    /// The system gave no randomness.
    #[error("the system gave no randomness")]
    Randomness,
}

fn io(path: &Path) -> impl FnOnce(std::io::Error) -> SeedError + '_ {
    |source| SeedError::Io { path: path.to_owned(), source }
}

/// Reads the seed at `path`.
///
/// # Errors
/// [`SeedError`].
pub fn read(path: &Path) -> Result<Zeroizing<[u8; 64]>, SeedError> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => Zeroizing::new(bytes),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(SeedError::Missing(path.to_owned()));
        }
        Err(error) => return Err(io(path)(error)),
    };
    let mut seed = Zeroizing::new([0; 64]);
    if bytes.len() != seed.len() {
        return Err(SeedError::Damaged(path.to_owned()));
    }
    seed.copy_from_slice(&bytes);
    Ok(seed)
}

/// Writes a seed where there is none.
///
/// # Errors
/// [`SeedError`].
pub fn create(path: &Path, seed: &Zeroizing<[u8; 64]>) -> Result<(), SeedError> {
    if path.exists() {
        return Err(SeedError::Exists(path.to_owned()));
    }
    fincrypt_state::durable::write_file(path, seed.as_slice(), 0o600).map_err(io(path))
}

/// Reads the seed at `path`, or draws one there.
///
/// # Errors
/// [`SeedError`].
pub fn read_or_draw(path: &Path) -> Result<Zeroizing<[u8; 64]>, SeedError> {
    match read(path) {
        Err(SeedError::Missing(_)) => {
            let mut seed = Zeroizing::new([0; 64]);
            getrandom::fill(seed.as_mut_slice()).map_err(|_| SeedError::Randomness)?;
            create(path, &seed)?;
            Ok(seed)
        }
        read => read,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_kept_for_its_owner_alone_and_never_replaced() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("wallet.seed");
        assert!(matches!(read(&path), Err(SeedError::Missing(_))));
        let seed = read_or_draw(&path).expect("drawn");
        assert_eq!(*read_or_draw(&path).expect("read"), *seed);
        assert!(matches!(create(&path, &seed), Err(SeedError::Exists(_))));
        let mode = std::fs::metadata(&path).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        std::fs::write(&path, [1; 63]).expect("cut");
        assert!(matches!(read_or_draw(&path), Err(SeedError::Damaged(_))));
    }
}
